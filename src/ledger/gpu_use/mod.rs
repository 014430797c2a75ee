//! How hard the GPUs of pods worked, hour by hour: asked of Prometheus, which scrapes NVIDIA's DCGM exporter, and kept.
//!
//! Decides: which hours are over, what becomes of an hour that was asked before (a newer version replaces the older), and that an hour of which
//! Prometheus has forgotten something is left as it is.
//! Does not: measure (see [`crate::core::accounting::gpu_use`]) or split any cost (see `views/gpu_use.sql`).

mod readings;
mod stays;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;
use sqlx::{Connection, PgConnection};

pub use readings::{ENGINE_ACTIVE, UTILISATION};

use super::import::Taken;
use super::prometheus::{Prometheus, PrometheusFault};
use super::rows::Table;
use super::store::{LedgerFault, end, ensure_months_of, insert};
use super::turns::{self, Turn};
use crate::core::accounting::gpu_use::{Device, GpuUse, LONGEST_GAP, measured};
use crate::core::units::ids::{ObjectRef, derive_uuid};
use crate::core::units::time::{Millis, Timestamp};
use readings::{Exporter, OfGpu, Readings};
use stays::Stay;

const GPU_USE_HOUR: Table = Table {
    name: "gpu_use_hour",
    columns: "id, at, claim_uid, pod_uid, revision, allocated_gpu_ms, active_gpu_ms, sampled_gpu_ms, most_memory_mib, metric, shared, source",
};
const SOURCE: &str = "prometheus";
const HOUR: Millis = Millis::from_hours(1);
/// Hours that are asked for at once.
const HOURS_AT_ONCE: i64 = 6;
/// GPUs whose pods are asked for at once: their readings of six hours are a few megabytes.
const GPUS_AT_ONCE: i64 = 64;
const ROWS_AT_ONCE: usize = 2_000;

/// Use of GPUs could not be asked for, or not kept.
#[derive(Debug, thiserror::Error)]
pub enum GpuUseFault {
    /// Prometheus.
    #[error(transparent)]
    Prometheus(#[from] PrometheusFault),
    /// Postgres.
    #[error(transparent)]
    Ledger(#[from] LedgerFault),
}

/// What came of asking.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Collected {
    /// Hours of pods that held GPUs.
    pub held: usize,
    /// Those of which anything is known.
    pub known: usize,
    /// What became of them.
    pub taken: Taken,
}

/// An hour of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
struct PodHour {
    claim_uid: String,
    pod_uid: String,
    hour: Timestamp,
    said: Said,
}

/// What is said of it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Said {
    used: GpuUse,
    most_memory_mib: Option<i64>,
    /// What activity rests on; none when there is none.
    metric: Option<String>,
    /// The readings are those of a GPU that several pods share.
    shared: bool,
}

/// The last hour that is over, readings just beyond its end included: when it ended.
pub fn last_hour(now: Timestamp) -> Timestamp {
    let settled = now - LONGEST_GAP;
    Timestamp(settled.0 - settled.0.rem_euclid(HOUR.0))
}

/// Asks for the last `hours` hours before `now` and keeps what is said. `selector` narrows the exporter's series, as in `cluster="prod"`; empty: all. Where the
/// exporter names no pods, the pod that has all GPUs of a machine is measured by the node's, if `nodes` has the node of its machine (by uid of the claim).
///
/// # Errors
/// [`GpuUseFault`]; what was kept until then stays.
pub async fn collect(
    connection: &mut PgConnection,
    (prometheus, selector): (&Prometheus, &str),
    nodes: &BTreeMap<String, String>,
    now: Timestamp,
    hours: u32,
) -> Result<Collected, GpuUseFault> {
    let exporter = Exporter { prometheus, selector };
    let until = last_hour(now);
    let mut from = until - Millis::from_hours(i64::from(hours));
    let mut collected = Collected::default();
    while from < until {
        let to = until.min(from + Millis(HOURS_AT_ONCE * HOUR.0));
        let stays = stays::between(connection, from, to).await?;
        for portion in portions(&stays) {
            let pods: BTreeSet<ObjectRef> = portion.iter().map(|stay| stay.pod.clone()).collect();
            let of_pods = exporter.of_pods(&pods, (from, to)).await?;
            let unnamed =
                |stay: &&Stay| stay.alone && !of_pods.engine.contains_key(&stay.pod) && !of_pods.utilisation.contains_key(&stay.pod);
            let alone: BTreeSet<String> = portion.iter().filter(unnamed).filter_map(|stay| nodes.get(&stay.claim_uid).cloned()).collect();
            let of_nodes = if alone.is_empty() { Readings::default() } else { exporter.of_nodes(&alone, (from, to)).await? };
            let (held, known) = hours_of(portion, (&of_pods, &of_nodes, nodes), (from, to));
            let taken = keep(connection, &known, (from, to)).await?;
            collected.held += held;
            collected.known += known.len();
            collected.taken.new += taken.new;
            collected.taken.changed += taken.changed;
            collected.taken.same += taken.same;
        }
        from = to;
    }
    Ok(collected)
}

/// Stays in portions of so many GPUs.
fn portions(stays: &[Stay]) -> Vec<&[Stay]> {
    let (mut portions, mut begins, mut gpus) = (Vec::new(), 0, 0);
    for (at, stay) in stays.iter().enumerate() {
        if gpus > 0 && gpus + stay.gpus > GPUS_AT_ONCE {
            portions.extend(stays.get(begins..at));
            (begins, gpus) = (at, 0);
        }
        gpus += stay.gpus;
    }
    portions.extend(stays.get(begins..).filter(|rest| !rest.is_empty()));
    portions
}

/// By pod, by node, and which node a claim's machine is.
type Read<'a> = (&'a Readings<ObjectRef>, &'a Readings<String>, &'a BTreeMap<String, String>);

/// What is read of a stay's GPUs: engine, utilisation and memory.
fn of_stay(stay: &Stay, (pods, nodes, node_of): Read<'_>) -> [Vec<OfGpu>; 3] {
    let is_its = |gpu: &&OfGpu| gpu.pod_uid.as_ref().is_none_or(|uid| *uid == stay.pod_uid);
    let of = |gpus: Option<&Vec<OfGpu>>| -> Vec<OfGpu> { gpus.into_iter().flatten().filter(is_its).cloned().collect() };
    let own = [&pods.engine, &pods.utilisation, &pods.memory].map(|metric| of(metric.get(&stay.pod)));
    match node_of.get(&stay.claim_uid) {
        Some(node) if stay.alone && own.iter().take(2).all(Vec::is_empty) => {
            [&nodes.engine, &nodes.utilisation, &nodes.memory].map(|metric| of(metric.get(node)))
        }
        _ => own,
    }
}

/// How many hours of pods there are, and what is known of those of which anything is.
fn hours_of(stays: &[Stay], read: Read<'_>, (from, to): (Timestamp, Timestamp)) -> (usize, Vec<PodHour>) {
    let (mut held, mut known) = (0, Vec::new());
    for stay in stays {
        let [engine, utilisation, memory] = of_stay(stay, read);
        let memory: Vec<(Timestamp, i64)> = memory.into_iter().flat_map(|gpu| gpu.values).collect();
        let by_metric = [(ENGINE_ACTIVE, engine), (UTILISATION, utilisation)];
        let by_metric = by_metric.map(|(metric, gpus)| (metric, devices(&gpus), gpus.iter().all(|gpu| gpu.is_instance)));
        let mut hour = from;
        while hour < to {
            let next = hour + HOUR;
            let span = (hour.max(stay.from), stay.to.map_or(next, |ends| ends.min(next)));
            if span.0 < span.1 {
                held += 1;
                let most = memory.iter().filter(|(at, _)| span.0 <= *at && *at < span.1).map(|(_, mib)| *mib).max();
                let (claim_uid, pod_uid) = (stay.claim_uid.clone(), stay.pod_uid.clone());
                known.extend(said(stay, span, &by_metric, most).map(|said| PodHour { claim_uid, pod_uid, hour, said }));
            }
            hour = next;
        }
    }
    (held, known)
}

/// Series by the device they are about.
fn devices(gpus: &[OfGpu]) -> BTreeMap<String, Device> {
    let mut devices: BTreeMap<String, Device> = BTreeMap::new();
    for gpu in gpus {
        devices.entry(gpu.device.clone()).or_default().add(gpu.values.iter().copied());
    }
    devices
}

/// A metric's name, its devices, and whether all of them are instances of MIG.
type Metric = (&'static str, BTreeMap<String, Device>, bool);

/// By the first metric that says anything of the span; nothing where none does, and memory is not known either.
fn said(stay: &Stay, span: (Timestamp, Timestamp), metrics: &[Metric], most_memory_mib: Option<i64>) -> Option<Said> {
    for (metric, devices, instances) in metrics {
        let used = measured(stay.gpus, span, devices.values());
        if used.sampled > 0 {
            return Some(Said { used, most_memory_mib, metric: Some((*metric).to_owned()), shared: stay.shares && !instances });
        }
    }
    let used = measured(stay.gpus, span, []);
    most_memory_mib.map(|_| Said { used, most_memory_mib, metric: None, shared: stay.shares })
}

async fn keep(connection: &mut PgConnection, hours: &[PodHour], span: (Timestamp, Timestamp)) -> Result<Taken, LedgerFault> {
    if hours.is_empty() {
        return Ok(Taken::default());
    }
    let mut transaction = connection.begin().await.map_err(LedgerFault::during("begin a transaction"))?;
    let taken = revise(&mut transaction, hours, span).await;
    end(transaction, taken, "commit the use of GPUs").await
}

const HELD: &str = "
    SELECT DISTINCT ON (claim_uid, pod_uid, at) claim_uid, pod_uid, ledger.ms(at), revision, allocated_gpu_ms, active_gpu_ms, sampled_gpu_ms, most_memory_mib,
           metric, shared
    FROM ledger.gpu_use_hour
    WHERE claim_uid = ANY($1) AND at >= to_timestamp($2::bigint / 1000.0) AND at < to_timestamp($3::bigint / 1000.0)
    ORDER BY claim_uid, pod_uid, at, revision DESC";

type HeldRow = (String, String, i64, i32, i64, i64, i64, Option<i64>, Option<String>, bool);

async fn revise(connection: &mut PgConnection, hours: &[PodHour], (from, to): (Timestamp, Timestamp)) -> Result<Taken, LedgerFault> {
    turns::take(connection, Turn::Import).await?;
    let claims: BTreeSet<&String> = hours.iter().map(|hour| &hour.claim_uid).collect();
    let claims: Vec<String> = claims.into_iter().cloned().collect();
    let held = sqlx::query_as::<_, HeldRow>(HELD).bind(claims).bind(from.0).bind(to.0).fetch_all(&mut *connection).await;
    let held = held.map_err(LedgerFault::during("read the use of GPUs that is there"))?;
    let of_row = |(claim, pod, at, revision, allocated, active, sampled, most_memory_mib, metric, shared): HeldRow| {
        ((claim, pod, at), (revision, Said { used: GpuUse { allocated, active, sampled }, most_memory_mib, metric, shared }))
    };
    let held: BTreeMap<(String, String, i64), (i32, Said)> = held.into_iter().map(of_row).collect();
    let (mut rows, mut taken) = (Vec::new(), Taken::default());
    for PodHour { claim_uid, pod_uid, hour, said } in hours {
        let revision = match held.get(&(claim_uid.clone(), pod_uid.clone(), hour.0)) {
            None => 0,
            Some((_, before)) if before == said || forgot(before, said) => {
                taken.same += 1;
                continue;
            }
            Some((revision, _)) => revision + 1,
        };
        if revision == 0 {
            taken.new += 1
        } else {
            taken.changed += 1
        }
        let parts = ["gpu-use", claim_uid, pod_uid, &hour.0.to_string(), &revision.to_string()];
        rows.push(json!({
            "id": derive_uuid(&parts), "at": hour.to_rfc3339(), "claim_uid": claim_uid, "pod_uid": pod_uid, "revision": revision,
            "allocated_gpu_ms": said.used.allocated, "active_gpu_ms": said.used.active, "sampled_gpu_ms": said.used.sampled,
            "most_memory_mib": said.most_memory_mib, "metric": said.metric, "shared": said.shared, "source": SOURCE,
        }));
    }
    ensure_months_of(connection, &rows).await?;
    for chunk in rows.chunks(ROWS_AT_ONCE) {
        insert(connection, GPU_USE_HOUR, chunk).await?;
    }
    Ok(taken)
}

/// Whether Prometheus knows less of the same time than it did: readings grow old and are dropped, which changes nothing of what happened.
fn forgot(before: &Said, now: &Said) -> bool {
    before.used.allocated == now.used.allocated && now.used.sampled < before.used.sampled
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stay(pod: &str, gpus: i64) -> Stay {
        Stay {
            claim_uid: "c".into(),
            pod_uid: format!("uid-{pod}"),
            pod: ObjectRef { namespace: "ml".into(), name: pod.into() },
            gpus,
            from: Timestamp(0),
            to: None,
            shares: false,
            alone: false,
        }
    }

    #[test]
    fn portions_hold_every_stay_once() {
        let stays: Vec<Stay> = (0..40).map(|n| stay(&n.to_string(), if n == 7 { 100 } else { 4 })).collect();
        let portions = portions(&stays);
        assert_eq!(portions.iter().flat_map(|portion| portion.iter()).collect::<Vec<_>>(), stays.iter().collect::<Vec<_>>());
        assert_eq!(portions.iter().map(|portion| portion.len()).collect::<Vec<_>>(), [7, 1, 16, 16]);
        assert!(super::portions(&[]).is_empty());
    }

    #[test]
    fn a_pod_is_measured_by_the_engine_where_it_is_read_else_by_utilisation_and_only_by_its_own_readings() {
        let gpu = |device: &str, pod_uid: Option<&str>, active: i64| OfGpu {
            pod_uid: pod_uid.map(str::to_owned),
            device: device.into(),
            is_instance: false,
            values: (0..=240).map(|n| (Timestamp(n * 30_000), active)).collect(),
        };
        let mut pod = stay("chat-0", 1);
        let (mut readings, mut of_nodes, mut node_of) = (Readings::default(), Readings::default(), BTreeMap::new());
        readings.utilisation.insert(pod.pod.clone(), vec![gpu("a", None, 900_000)]);
        readings.memory.insert(pod.pod.clone(), vec![gpu("a", None, 70_000)]);
        let two_hours = (Timestamp(0), Timestamp(2 * HOUR.0));
        let (held, known) = hours_of(std::slice::from_ref(&pod), (&readings, &of_nodes, &node_of), two_hours);
        assert_eq!((held, known.len()), (2, 2));
        assert_eq!((known[0].said.metric.as_deref(), known[0].said.used.active), (Some(UTILISATION), 3_240_000));
        assert_eq!((known[1].hour, known[1].said.most_memory_mib), (Timestamp(HOUR.0), Some(70_000)));
        // A pod of the same name that came after it is another.
        readings.engine.insert(pod.pod.clone(), vec![gpu("b", Some("uid-of-another"), 1_000_000), gpu("a", Some("uid-chat-0"), 350_000)]);
        let (_, known) = hours_of(std::slice::from_ref(&pod), (&readings, &of_nodes, &node_of), two_hours);
        assert_eq!((known[0].said.metric.as_deref(), known[0].said.used.active), (Some(ENGINE_ACTIVE), 1_260_000));
        // An exporter that names no pod: all that is read of the node is of the pod that has it alone, and of no other.
        of_nodes.engine.insert("n".to_owned(), vec![gpu("a", None, 500_000)]);
        node_of.insert("c".to_owned(), "n".to_owned());
        for (alone, active) in [(true, Some(1_800_000)), (false, None)] {
            pod.alone = alone;
            let (_, known) = hours_of(std::slice::from_ref(&pod), (&Readings::default(), &of_nodes, &node_of), two_hours);
            assert_eq!(known.first().map(|hour| hour.said.used.active), active);
        }
    }

    #[test]
    fn an_hour_is_asked_for_once_readings_beyond_its_end_are_there() {
        assert_eq!(last_hour(Timestamp(2 * HOUR.0 + 299_999)), Timestamp(HOUR.0));
        assert_eq!(last_hour(Timestamp(2 * HOUR.0 + 300_000)), Timestamp(2 * HOUR.0));
    }
}
