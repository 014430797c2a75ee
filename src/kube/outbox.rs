//! The outbox: `GpuDecision` objects, durable before the decision is executed, deleted once the ledger has them.
//!
//! An object's name is the record's id, so writing it twice is harmless. Many that wait for long are put together (`packs`).

pub mod packs;

use futures::{TryStreamExt, stream};
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::core::DeserializeGuard;
use kube::{Api, Client, ResourceExt};
use serde_json::Value;

use self::packs::Packs;
use super::api::{GpuDecision, GpuDecisionSpec, Moment};
use super::errors::{call, gone_is_done};
use super::names;
use crate::core::record::LedgerRecord;
use crate::ports::ClusterError;

/// Concurrent requests.
const AT_ONCE: usize = 16;
/// Objects per page.
const PAGE: u32 = 500;

/// Writes records. One that already exists is fine.
///
/// # Errors
/// The first failure; the others may have been written, and writing them again is harmless.
pub async fn record(client: &Client, records: &[LedgerRecord]) -> Result<(), ClusterError> {
    let api: Api<GpuDecision> = Api::all(client.clone());
    let params = PostParams { field_manager: Some(names::FIELD_MANAGER.to_owned()), ..PostParams::default() };
    let objects: Vec<GpuDecision> = records.iter().map(object).collect::<Result<_, _>>()?;
    stream::iter(objects.iter().map(Ok))
        .try_for_each_concurrent(AT_ONCE, |object| {
            let (api, params) = (&api, &params);
            async move {
                match call(format!("write record {}", object.name_any()), api.create(params, object)).await {
                    Ok(_) | Err(ClusterError::Conflict(_)) => Ok(()),
                    Err(error) => Err(error),
                }
            }
        })
        .await
}

/// The waiting records, oldest first, at most `limit`: a pack, where there is one. One that cannot be read is logged and left out: it must not
/// block others.
///
/// # Errors
/// When the API server does not answer, or refuses.
pub async fn waiting(client: &Client, packs: &Packs, limit: usize) -> Result<Vec<LedgerRecord>, ClusterError> {
    match packs.oldest(client).await? {
        Some(records) => Ok(records),
        None => alone(client, limit).await,
    }
}

/// The records that have an object of their own, oldest first, at most `limit`.
async fn alone(client: &Client, limit: usize) -> Result<Vec<LedgerRecord>, ClusterError> {
    let api: Api<DeserializeGuard<GpuDecision>> = Api::all(client.clone());
    let mut found: Vec<LedgerRecord> = Vec::new();
    let mut params = ListParams::default().labels(&format!("!{}", packs::LABEL)).limit(PAGE);
    loop {
        let page = call("list the outbox", api.list(&params)).await?;
        found.extend(page.items.iter().filter_map(read));
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => break,
        }
    }
    found.sort_by_key(|record| (record.happened_at(), record.id()));
    found.truncate(limit);
    Ok(found)
}

/// Number of waiting records: one object is read, and the API server says how many remain.
///
/// # Errors
/// When the API server does not answer, or refuses.
pub async fn size(client: &Client, packs: &Packs) -> Result<usize, ClusterError> {
    let (packed, held) = packs.count(client).await?;
    Ok(objects(client).await?.saturating_sub(packed) + held)
}

async fn objects(client: &Client) -> Result<usize, ClusterError> {
    let api: Api<GpuDecision> = Api::all(client.clone());
    let page = call("count the outbox", api.list_metadata(&ListParams::default().limit(1))).await?;
    Ok(page.items.len() + page.metadata.remaining_item_count.and_then(|rest| usize::try_from(rest).ok()).unwrap_or(0))
}

/// Puts the oldest records that have objects of their own together, where there are more than `above`; the newest stay as they are. Returns how
/// many were packed.
///
/// # Errors
/// When the API server does not answer, or refuses. What was packed stays so; a record in a pack and in an object of its own is delivered
/// twice, and counted once.
pub async fn pack(client: &Client, packs: &Packs, above: usize) -> Result<usize, ClusterError> {
    let (packed, _) = packs.count(client).await?;
    if objects(client).await?.saturating_sub(packed) <= above {
        return Ok(0);
    }
    let records = alone(client, usize::MAX).await?;
    let mut done = 0;
    for some in records[..records.len().saturating_sub(above / 2)].chunks_exact(packs::RECORDS) {
        packs.write(client, some).await?;
        forget_alone(client, &some.iter().map(LedgerRecord::id).collect::<Vec<_>>()).await?;
        done += some.len();
    }
    Ok(done)
}

/// Deletes records that the ledger has. One that is already gone is fine.
///
/// # Errors
/// The first failure; the others may have been deleted.
pub async fn forget(client: &Client, packs: &Packs, records: &[uuid::Uuid]) -> Result<(), ClusterError> {
    let Some(pack) = packs.delivered(records) else { return forget_alone(client, records).await };
    let api: Api<GpuDecision> = Api::all(client.clone());
    gone_is_done(call(format!("forget pack {pack}"), api.delete(&pack, &DeleteParams::default())).await)?;
    packs.gone(&pack);
    Ok(())
}

async fn forget_alone(client: &Client, records: &[uuid::Uuid]) -> Result<(), ClusterError> {
    let api: Api<GpuDecision> = Api::all(client.clone());
    stream::iter(records.iter().map(Ok))
        .try_for_each_concurrent(AT_ONCE, |id| {
            let api = &api;
            async move {
                let name = id.to_string();
                let deletion = call(format!("forget record {name}"), api.delete(&name, &DeleteParams::default())).await;
                gone_is_done(deletion).map(|_| ())
            }
        })
        .await
}

fn object(record: &LedgerRecord) -> Result<GpuDecision, ClusterError> {
    let unreadable = |e: serde_json::Error| ClusterError::Refused(format!("write record {} as JSON: {e}", record.id()));
    let value = serde_json::to_value(record).map_err(unreadable)?;
    let text = |key: &str| value.get(key).and_then(serde_json::Value::as_str).map(str::to_owned);
    let spec = GpuDecisionSpec {
        record_id: record.id().to_string(),
        kind: text("record").unwrap_or_default(),
        happened_at: Moment(record.happened_at()),
        trigger: text("trigger"),
        outcome: text("outcome"),
        subject: subject(record),
        text: text("text"),
        record: value,
    };
    Ok(GpuDecision::new(&record.id().to_string(), spec))
}

/// What the record is about, for `kubectl get`.
fn subject(record: &LedgerRecord) -> Option<String> {
    match record {
        LedgerRecord::Decision(d) => {
            let workload = d.workload.as_ref().map(|w| format!("{} {}", w.kind, w.object));
            workload.or_else(|| d.claim.as_ref().or(d.from_claim.as_ref()).map(|c| format!("claim {c}")))
        }
        LedgerRecord::IntervalOpened(r) => Some(format!("claim {}", r.claim)),
        LedgerRecord::HourPriced(r) => Some(format!("claim uid {}", r.claim_uid)),
        LedgerRecord::IntervalClosed(r) => Some(format!("claim uid {}", r.claim_uid)),
        LedgerRecord::OccupancyOpened(r) => Some(format!("pod {}", r.pod)),
        LedgerRecord::OccupancyClosed(r) => Some(format!("pod uid {}", r.pod_uid)),
        LedgerRecord::Migration(r) => Some(format!("pod {}", r.pod)),
        LedgerRecord::Interruption(r) => Some(format!("instance {}", r.instance)),
        LedgerRecord::Checkpoint(r) => Some(format!("pod uid {}", r.pod_uid)),
    }
}

fn read(object: &DeserializeGuard<GpuDecision>) -> Option<LedgerRecord> {
    let name = object.name_any();
    let decision = object.0.as_ref().inspect_err(|error| tracing::error!(name, %error, "a GpuDecision cannot be read")).ok()?;
    let raw = &decision.spec.record;
    let record: LedgerRecord = serde_json::from_value(raw.clone())
        .inspect_err(|error| tracing::error!(name, %error, "the record of a GpuDecision cannot be read"))
        .ok()?;
    if !is_whole(&record, raw) {
        tracing::error!(name, "a GpuDecision holds words of a newer version, which the ledger would lose: it waits for that version");
        return None;
    }
    Some(record)
}

/// Whether the record, written again, says all that `raw` says. One of a newer version does not: a word or a field that this one does not know would be lost
/// for good, as the ledger is only added to.
pub(super) fn is_whole(record: &LedgerRecord, raw: &Value) -> bool {
    serde_json::to_value(record).is_ok_and(|written| says_all_of(&written, raw))
}

/// Nothing in `raw` is missing in `written` or said otherwise there. The API server writes `1.0` as `1`.
fn says_all_of(written: &Value, raw: &Value) -> bool {
    match (written, raw) {
        (_, Value::Null) => true,
        (Value::Object(written), Value::Object(raw)) => {
            raw.iter().all(|(key, value)| written.get(key).map_or(value.is_null(), |found| says_all_of(found, value)))
        }
        (Value::Array(written), Value::Array(raw)) => written.len() == raw.len() && written.iter().zip(raw).all(|(a, b)| says_all_of(a, b)),
        (Value::Number(written), Value::Number(raw)) => written == raw || written.as_f64() == raw.as_f64(),
        _ => written == raw,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::released;

    #[test]
    fn every_record_that_0_1_0_wrote_is_read_and_loses_nothing() {
        let objects = released::objects("0.1.0", "record-");
        assert_eq!(objects.len(), 9, "one of each kind");
        for (name, object) in objects {
            let guarded: DeserializeGuard<GpuDecision> = serde_json::from_value(object.clone()).unwrap();
            let record = read(&guarded).unwrap_or_else(|| panic!("{name} cannot be read"));
            assert_eq!(serde_json::to_value(&record).unwrap(), object["spec"]["record"], "{name}");
        }
    }

    /// Written while Postgres was away, before a rollback to this version.
    #[test]
    fn a_record_with_a_word_or_a_field_of_tomorrow_waits_for_that_version() {
        let (_, today) = released::objects("0.1.0", "record-decision").remove(0);
        let of = |object: &Value| read(&serde_json::from_value::<DeserializeGuard<GpuDecision>>(object.clone()).unwrap());
        assert!(of(&today).is_some());
        let changed = |pointer: &str, key: &str, value: Value| {
            let mut object = today.clone();
            object.pointer_mut(pointer).unwrap()[key] = value;
            object
        };
        assert!(of(&changed("/spec/record", "trigger", "of-tomorrow".into())).is_none(), "a word");
        assert!(of(&changed("/spec/record", "field_of_tomorrow", 1.into())).is_none(), "a field");
        assert!(of(&changed("/spec/record", "field_of_tomorrow", Value::Null)).is_some(), "nothing is lost of nothing");
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(crate::mutation::CASES))]

        #[test]
        fn whatever_a_decision_object_holds_is_a_record_or_left_waiting(
            object in crate::mutation::json(released::objects("0.1.0", "record-").into_iter().map(|(_, object)| object).collect())
        ) {
            if let Ok(guarded) = serde_json::from_value::<DeserializeGuard<GpuDecision>>(object)
                && let Some(record) = read(&guarded)
            {
                assert!(!record.id().is_nil() || matches!(record, LedgerRecord::Decision(_)));
            }
        }
    }
}
