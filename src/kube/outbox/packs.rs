//! Many waiting records in one object. While Postgres is away for long, etcd would hold millions of objects of some KB; packed, a record takes
//! some hundred bytes, and nothing of it is lost.
//!
//! Decides: the form of a pack, and that a record is in its pack before its own object goes. A record that is in both is delivered twice, which
//! the ledger counts once.
//! Does not: decide when to pack (see [`crate::engine::deliver`]).

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use k8s_openapi::ByteString;
use kube::api::{ListParams, PostParams};
use kube::core::{DeserializeGuard, ObjectMeta};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};

use super::super::api::{GpuDecision, GpuDecisionSpec, Moment};
use super::super::errors::{call, gone_is_done};
use super::super::names;
use crate::core::record::LedgerRecord;
use crate::core::units::ids::derive_uuid;
use crate::ports::ClusterError;

/// Records of one pack: what is delivered at once. Compressed far below what an object may hold.
pub const RECORDS: usize = 200;
/// The kind of a pack's object.
const KIND: &str = "pack";
/// Label of packs.
pub const LABEL: &str = "lowtide.dev/pack";
/// Annotation of packs: how many records they hold.
const COUNT: &str = "lowtide.dev/records";
/// Packs are listed again after this: another leader may have made some.
const LISTED_FOR: Duration = Duration::from_secs(60);
/// A pack never unpacks to more: a record has some KB, and a damaged one must not fill the memory.
const MOST_UNPACKED: u64 = 64 << 20;

/// The packs that wait, as last listed and as changed since.
#[derive(Debug, Default)]
pub struct Packs(Mutex<Listed>);

#[derive(Debug, Default)]
struct Listed {
    at: Option<Instant>,
    /// How many records each holds, by name: names begin with the time of the oldest record.
    waiting: BTreeMap<String, usize>,
    /// The pack that was last handed out, with the ids of its records.
    handed_out: Option<(String, Vec<uuid::Uuid>)>,
}

impl Packs {
    fn listed(&self) -> MutexGuard<'_, Listed> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many packs wait, and how many records they hold.
    pub async fn count(&self, client: &Client) -> Result<(usize, usize), ClusterError> {
        self.list(client).await?;
        let listed = self.listed();
        Ok((listed.waiting.len(), listed.waiting.values().sum()))
    }

    async fn list(&self, client: &Client) -> Result<(), ClusterError> {
        if self.listed().at.is_some_and(|at| at.elapsed() < LISTED_FOR) {
            return Ok(());
        }
        let api: Api<GpuDecision> = Api::all(client.clone());
        let (mut params, mut waiting) = (ListParams::default().labels(LABEL).limit(super::PAGE), BTreeMap::new());
        loop {
            let page = call("list the packs of the outbox", api.list_metadata(&params)).await?;
            for pack in &page.items {
                let count = pack.annotations().get(COUNT).and_then(|text| text.parse().ok()).unwrap_or(RECORDS);
                waiting.insert(pack.name_any(), count);
            }
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params = params.continue_token(&token),
                None => break,
            }
        }
        let mut listed = self.listed();
        (listed.at, listed.waiting) = (Some(Instant::now()), waiting);
        Ok(())
    }

    /// The records of the oldest pack; `None` where none waits. One that cannot be read is logged and left: another version may.
    pub async fn oldest(&self, client: &Client) -> Result<Option<Vec<LedgerRecord>>, ClusterError> {
        self.list(client).await?;
        loop {
            let Some(name) = self.listed().waiting.keys().next().cloned() else { return Ok(None) };
            let api: Api<DeserializeGuard<GpuDecision>> = Api::all(client.clone());
            let found = gone_is_done(call(format!("read pack {name}"), api.get(&name)).await)?;
            let records = found.map(|object| match &object.0 {
                Ok(pack) => unpacked(&pack.spec.record),
                Err(invalid) => Err(invalid.error.clone()),
            });
            match records {
                Some(Ok(records)) => {
                    self.listed().handed_out = Some((name, records.iter().map(LedgerRecord::id).collect()));
                    return Ok(Some(records));
                }
                Some(Err(fault)) => tracing::error!(name, fault, "a pack of the outbox cannot be read, it is kept"),
                None => {}
            }
            self.listed().waiting.remove(&name);
        }
    }

    /// The pack whose records these are, all of them: it may go.
    pub fn delivered(&self, records: &[uuid::Uuid]) -> Option<String> {
        let listed = self.listed();
        let (name, ids) = listed.handed_out.as_ref()?;
        (ids == records).then(|| name.clone())
    }

    /// It is gone.
    pub fn gone(&self, name: &str) {
        let mut listed = self.listed();
        listed.waiting.remove(name);
        listed.handed_out = None;
    }

    /// Writes these records into one object.
    pub async fn write(&self, client: &Client, records: &[LedgerRecord]) -> Result<(), ClusterError> {
        let Some(object) = pack(records)? else { return Ok(()) };
        let params = PostParams { field_manager: Some(names::FIELD_MANAGER.to_owned()), ..PostParams::default() };
        let name = object.name_any();
        match call(format!("write pack {name}"), Api::<GpuDecision>::all(client.clone()).create(&params, &object)).await {
            Ok(_) | Err(ClusterError::Conflict(_)) => {}
            Err(error) => return Err(error),
        }
        self.listed().waiting.insert(name, records.len());
        Ok(())
    }
}

/// The object that holds `records`, which are in order; `None` for none.
pub fn pack(records: &[LedgerRecord]) -> Result<Option<GpuDecision>, ClusterError> {
    let (Some(first), Some(last)) = (records.first(), records.last()) else { return Ok(None) };
    let unwritable = |fault: String| ClusterError::Refused(format!("pack {} records: {fault}", records.len()));
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    for record in records {
        serde_json::to_writer(&mut encoder, record).map_err(|e| unwritable(e.to_string()))?;
        encoder.write_all(b"\n").map_err(|e| unwritable(e.to_string()))?;
    }
    let bytes = ByteString(encoder.finish().map_err(|e| unwritable(e.to_string()))?);
    let (from, to) = (first.happened_at(), last.happened_at());
    let ids: Vec<String> = records.iter().map(|record| record.id().to_string()).collect();
    let id = derive_uuid(&["pack", &ids.join(" ")]);
    let spec = GpuDecisionSpec {
        record_id: id.to_string(),
        kind: KIND.to_owned(),
        happened_at: Moment(from),
        trigger: None,
        outcome: None,
        subject: Some(format!("{} records", records.len())),
        text: Some(format!("{} records from {from} to {to} that wait for Postgres, packed", records.len())),
        record: json!({ "records": bytes }),
    };
    let mut object = GpuDecision::new(&format!("pack-{:015}-{}", from.0.max(0), id.simple()), spec);
    object.metadata = ObjectMeta {
        labels: Some([(LABEL.to_owned(), "true".to_owned())].into()),
        annotations: Some([(COUNT.to_owned(), records.len().to_string())].into()),
        ..object.metadata
    };
    Ok(Some(object))
}

/// The records of a pack.
///
/// # Errors
/// When it is not one, is not whole, holds nothing, or one of its records cannot be read: it is left for a person. One without records, handed out, would
/// look as if nothing waited at all.
pub fn unpacked(record: &Value) -> Result<Vec<LedgerRecord>, String> {
    let ByteString(bytes) = serde_json::from_value(record["records"].clone()).map_err(|e| e.to_string())?;
    let mut text = String::new();
    let read = MultiGzDecoder::new(bytes.as_slice()).take(MOST_UNPACKED + 1).read_to_string(&mut text).map_err(|e| e.to_string())?;
    if read as u64 > MOST_UNPACKED {
        return Err(format!("it unpacks to more than {MOST_UNPACKED} bytes"));
    }
    let one = |line: &str| {
        let raw: Value = serde_json::from_str(line).map_err(|e| e.to_string())?;
        let record = serde_json::from_value(raw.clone()).map_err(|e| e.to_string())?;
        if super::is_whole(&record, &raw) { Ok(record) } else { Err("it holds words of a newer version, and waits for that".to_owned()) }
    };
    let records: Vec<LedgerRecord> = text.lines().map(one).collect::<Result<_, String>>()?;
    if records.is_empty() { Err("it holds no record".to_owned()) } else { Ok(records) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::record::Decision;
    use crate::core::units::ids::DecisionId;
    use crate::core::units::time::Timestamp;
    use crate::released;

    /// A decision as 0.1.0 recorded it.
    fn recorded() -> Decision {
        let (_, mut object) = released::objects("0.1.0", "record-decision").remove(0);
        match serde_json::from_value(object["spec"]["record"].take()) {
            Ok(LedgerRecord::Decision(decision)) => *decision,
            other => panic!("{other:?}"),
        }
    }

    /// The same as the operator records them all day: another pod, another moment, another offer that lost.
    fn decision(like: &Decision, n: u64) -> LedgerRecord {
        let mut decision = like.clone();
        decision.id = DecisionId(derive_uuid(&["test", &n.to_string()]));
        decision.decided_at = Timestamp(1_784_555_070_000 + n as i64 * 100);
        decision.pods[0].uid = derive_uuid(&["pod", &n.to_string()]).to_string().as_str().into();
        decision.text = format!("decision {n}: ${}.{:04}/h", n % 7, n * 7_919 % 10_000).into();
        LedgerRecord::Decision(Box::new(decision))
    }

    #[test]
    fn a_pack_gives_back_every_record_and_takes_little_room() {
        let like = recorded();
        let records: Vec<LedgerRecord> = (0..200).map(|n| decision(&like, n)).collect();
        let object = pack(&records).unwrap().unwrap();
        assert_eq!(unpacked(&object.spec.record).unwrap(), records);
        assert_eq!((object.annotations()[COUNT].as_str(), object.spec.record_id.len()), ("200", 36));
        let (packed, alone) = (json!(object).to_string().len(), records.iter().map(|r| json!(r).to_string().len()).sum::<usize>());
        println!("200 decisions: {alone} bytes alone, {packed} packed");
        assert!(packed * 5 < alone && packed < 500_000, "{packed} of {alone} bytes");
        let later = pack(&[decision(&like, 1_000)]).unwrap().unwrap();
        assert!(object.name_any() < later.name_any(), "by age");
        assert!(pack(&[]).unwrap().is_none());
    }

    /// Packed by a newer version before a rollback to this one.
    #[test]
    fn a_pack_with_a_word_of_tomorrow_is_kept_whole() {
        let like = recorded();
        let mut object = pack(&[decision(&like, 1), decision(&like, 2)]).unwrap().unwrap();
        let ByteString(bytes) = serde_json::from_value(object.spec.record["records"].take()).unwrap();
        let mut text = String::new();
        MultiGzDecoder::new(bytes.as_slice()).read_to_string(&mut text).unwrap();
        let (first, second) = text.split_once('\n').unwrap();
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        let of_tomorrow = second.replacen('{', r#"{"field_of_tomorrow":1,"#, 1);
        encoder.write_all(format!("{first}\n{of_tomorrow}").as_bytes()).unwrap();
        object.spec.record = json!({ "records": ByteString(encoder.finish().unwrap()) });
        assert!(unpacked(&object.spec.record).is_err_and(|fault| fault.contains("newer version")));
    }

    /// Packs the decisions of a span of three days and takes them out again; gives how many bytes the packs have.
    fn packed_and_back(like: &Decision, span: std::ops::Range<u64>) -> u64 {
        let (mut bytes, mut name) = (0, String::new());
        for from in span.step_by(RECORDS) {
            let records: Vec<LedgerRecord> = (from..from + RECORDS as u64).map(|n| decision(like, n)).collect();
            let object = pack(&records).unwrap().unwrap();
            assert!(name < object.name_any(), "in the order of their records");
            (name, bytes) = (object.name_any(), bytes + json!(object).to_string().len() as u64);
            assert!(unpacked(&object.spec.record).unwrap() == records, "pack {from}");
        }
        bytes
    }

    /// Ten decisions a second while Postgres is away for three days: 2,592,000 records. The ordinary run packs and unpacks those of the first hours and
    /// reckons up the rest; with `LOWTIDE_WHOLE_OUTAGE` set all of them go through, on all cores.
    #[test]
    fn three_days_without_postgres_fit_and_come_back_whole() {
        const WAITING: u64 = 3 * 86_400 * 10;
        /// What etcd holds unless configured otherwise.
        const ETCD: u64 = 2 << 30;
        let tried = if std::env::var("LOWTIDE_WHOLE_OUTAGE").is_ok() { WAITING } else { 40_000 };
        let (like, cores) = (recorded(), std::thread::available_parallelism().map_or(1, |n| n.get() as u64));
        let packs = tried / RECORDS as u64;
        let part = |n: u64| packs * n / cores * RECORDS as u64;
        let bytes: u64 = std::thread::scope(|scope| {
            let running: Vec<_> = (0..cores)
                .map(|n| {
                    scope.spawn({
                        let like = &like;
                        move || packed_and_back(like, part(n)..part(n + 1))
                    })
                })
                .collect();
            running.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        let whole = bytes * WAITING / tried;
        println!("{tried} of {WAITING} records: {} bytes each, {} MiB in all", bytes / tried, whole >> 20);
        assert!(whole < ETCD * 3 / 4, "{whole} bytes");
        assert!((WAITING as usize) < crate::core::record::OUTBOX_BOUND, "the bound is not reached");
    }

    /// A pack of this text.
    fn of_text(text: &str) -> Value {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(text.as_bytes()).unwrap();
        json!({ "records": ByteString(encoder.finish().unwrap()) })
    }

    #[test]
    fn what_is_no_pack_says_so() {
        for wrong in [json!({}), json!({ "records": "bm8gZ3ppcA==" }), json!({ "records": 7 }), Value::Null, json!({ "records": "" })] {
            assert!(unpacked(&wrong).is_err(), "{wrong}");
        }
        assert_eq!(unpacked(&of_text("")).unwrap_err(), "it holds no record");
        let record = serde_json::to_string(&decision(&recorded(), 1)).unwrap();
        let bomb = of_text(&format!("{record}\n{}", "\n".repeat(MOST_UNPACKED as usize)));
        assert!(bomb.to_string().len() < 200_000, "what is refused is small enough for an object");
        assert_eq!(unpacked(&bomb).unwrap_err(), "it unpacks to more than 67108864 bytes");
        let ByteString(bytes) = serde_json::from_value(of_text(&record)["records"].clone()).unwrap();
        for more in [bytes.as_slice(), b"trailing"] {
            let both = json!({ "records": ByteString([bytes.as_slice(), b"\n", more].concat()) });
            assert!(unpacked(&both).is_err(), "nothing behind the records is passed over");
        }
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(crate::mutation::CASES))]

        #[test]
        fn whatever_a_pack_holds_is_records_that_come_back_or_it_is_left_waiting(
            bytes in crate::mutation::bytes({
                let records: Vec<LedgerRecord> = (0..3).map(|n| decision(&recorded(), n)).collect();
                let ByteString(bytes) = serde_json::from_value(pack(&records).unwrap().unwrap().spec.record["records"].clone()).unwrap();
                vec![bytes]
            }),
            lines in proptest::collection::vec(
                crate::mutation::json(released::objects("0.1.0", "record-").into_iter().map(|(_, object)| object["spec"]["record"].clone()).collect()), 0..4
            ),
        ) {
            let text: Vec<String> = lines.iter().map(|line| format!("{line}\n")).collect();
            for packed in [json!({ "records": ByteString(bytes) }), of_text(&text.concat())] {
                match unpacked(&packed) {
                    Ok(records) => {
                        let again = pack(&records).unwrap().expect("a pack without records is none");
                        assert_eq!(unpacked(&again.spec.record).unwrap(), records);
                    }
                    Err(fault) => assert!(fault.len() > 5, "{fault}"),
                }
            }
        }
    }
}
