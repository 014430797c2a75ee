//! Whether a workload's GPUs could be fewer, smaller or shared, or its work be done in batches, by how they were used.
//!
//! Decides: which of the four a measured use allows, which assumptions that rests on, and when nothing is recommended: what is young or mostly unmeasured gets
//! no recommendation, and where an engine takes all of a GPU's memory, whatever it needs, nothing rests on memory.
//! Does not: know any price. Whoever prices a change leaves out what saves too little ([`LEAST_SAVING`]).

mod power;
#[cfg(test)]
mod tests;
mod words;

pub use words::{Not, Unknown, What};

use std::collections::BTreeMap;

use serde::Serialize;

use crate::core::market::catalog::{Catalog, MachineType};
use crate::core::units::Mebibytes;
use crate::core::units::ids::{GpuModel, InstanceType};
use crate::core::units::money::MicroUsd;
use crate::core::units::time::Millis;
use crate::core::workload::need::WorkloadKind;
use crate::core::workload::sharing::{GpuSharing, Sharing};

const HOUR: i64 = Millis::from_hours(1).0;
/// GPUs are active at most this share (in thousandths) of the busiest hour afterwards. A mean of an hour hides its minutes: at 60 % a minute may still take two
/// thirds more than the mean.
pub const TARGET_PER_MILLE: i64 = 600;
/// So much of the GPU time (in thousandths) must be measured: of a larger unmeasured part nobody knows whether it was the busiest.
pub const LEAST_MEASURED_PER_MILLE: i64 = 800;
/// An engine that takes at least this share (in thousandths) of a GPU's memory takes it whatever it needs: JAX takes 75 % in advance, vLLM 90 to 92 %.
///
/// Source: JAX, "GPU memory allocation" (`XLA_PYTHON_CLIENT_MEM_FRACTION`); vLLM, `gpu_memory_utilization`.
pub const TAKEN_WHOLE_PER_MILLE: i64 = 700;
/// So much more memory (in thousandths) than the most that was used: readings are 30 seconds apart, and a peak lies between two.
pub const MEMORY_MARGIN_PER_MILLE: i64 = 1_200;
/// What each process takes of a shared GPU for its context: a class's own default.
pub const CONTEXT_RESERVE: Mebibytes = Mebibytes(500);
/// More pods than this on one GPU wait for one another in ways that means of an hour do not show.
pub const MOST_SHARES: i64 = 4;
/// A service that has several replicas keeps two: one is no longer there when a machine ends.
pub const LEAST_REPLICAS: i64 = 2;
/// Work that is asked for in at most so many hours of a day does not need a server that waits for it all day.
pub const FEW_HOURS_A_DAY: i64 = 6;
/// Hours before each run of busy ones in which a batch would start and load its model: GPU time is counted by the hour.
const STARTS_EARLIER: i64 = 1;
/// Less a month is not worth anybody's hour.
pub const LEAST_SAVING: MicroUsd = MicroUsd(10_000_000);

/// GPU time in a clock hour, in milliseconds of one GPU: active <= sampled <= held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HourOfUse {
    /// Held.
    pub held: i64,
    /// Active, of what is sampled.
    pub active: i64,
    /// Held while there were readings.
    pub sampled: i64,
}

impl HourOfUse {
    /// Both together.
    pub fn plus(self, other: HourOfUse) -> HourOfUse {
        HourOfUse { held: self.held + other.held, active: self.active + other.active, sampled: self.sampled + other.sampled }
    }
}

/// How a workload used its GPUs over whole days.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MeasuredUse {
    /// Serving or batch.
    pub kind: WorkloadKind,
    /// GPUs of one pod.
    pub gpus_per_pod: i64,
    /// It ran before the days that are looked at, or on the first of them.
    pub ran_from_the_start: bool,
    /// GPU time by clock hour, counted from 1970.
    pub hours: BTreeMap<i64, HourOfUse>,
    /// The largest share (in thousandths) of a measured hour in which the GPUs of one pod were active.
    pub busiest_pod_per_mille: Option<i64>,
    /// The types it ran on, with the most memory in use there on one GPU.
    pub types: BTreeMap<InstanceType, Option<Mebibytes>>,
    /// GPU time that was held in hours whose memory in use was read.
    pub memory_read_gpu_ms: i64,
    /// Some of its GPUs were shared: readings are of all who share them.
    pub shared: bool,
    /// Requests by clock hour; an hour that is missing is not known.
    pub requests: BTreeMap<i64, i64>,
}

/// What is recommended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// At most so many replicas.
    FewerReplicas {
        /// How many.
        replicas: i64,
    },
    /// Several of its pods on one GPU.
    Sharing {
        /// How.
        sharing: Sharing,
        /// Memory that each needs of the GPU.
        memory: Mebibytes,
    },
    /// A GPU with less memory, and enough of it.
    SmallerGpu {
        /// At least so much memory.
        memory: Mebibytes,
        /// Of these models.
        models: Vec<GpuModel>,
        /// The types that have such a GPU, and no larger one.
        types: Vec<InstanceType>,
    },
    /// Work in batches, in the hours in which it is asked for, instead of a server that waits.
    Batch {
        /// Hours in which there were requests.
        busy_hours: i64,
    },
}

impl Change {
    /// What kind of change it is.
    pub fn what(&self) -> What {
        match self {
            Change::FewerReplicas { .. } => What::FewerReplicas,
            Change::Sharing { .. } => What::Sharing,
            Change::SmallerGpu { .. } => What::SmallerGpu,
            Change::Batch { .. } => What::Batch,
        }
    }

    /// What it assumes beside the measured use.
    pub fn assumes(&self) -> &'static str {
        match self {
            Change::FewerReplicas { .. } => "work is shared evenly, and unmeasured time is no busier than the busiest measured hour",
            Change::Sharing { .. } => "its pods may share a GPU's faults and caches, and a node class shares GPUs like this",
            Change::SmallerGpu { .. } => {
                "its engine runs on that model, and takes longer by the ratio of published FP16 throughput or memory bandwidth, whichever is larger"
            }
            Change::Batch { .. } => "requests may wait for a start, which takes an hour at most",
        }
    }
}

/// The figures that a recommendation rests on. Shares are in thousandths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Evidence {
    /// Days that were looked at.
    pub days: i64,
    /// GPU time that was held, in milliseconds of one GPU.
    pub held_gpu_ms: i64,
    /// How much of it was measured.
    pub measured_per_mille: i64,
    /// How much of the measured was active.
    pub use_per_mille: i64,
    /// The same in the busiest hour.
    pub busiest_hour_per_mille: i64,
    /// The same in the busiest hour of one pod.
    pub busiest_pod_per_mille: Option<i64>,
    /// Replicas in a mean hour in which it ran.
    pub replicas: i64,
    /// Replicas in the hour with most.
    pub most_replicas: i64,
    /// The most memory in use on one GPU.
    pub most_memory_mib: Option<i64>,
    /// Hours in which there were requests; none where too few hours are known.
    pub busy_hours: Option<i64>,
}

/// A recommendation, without its price.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recommendation {
    /// What to change.
    pub change: Change,
    /// GPU time that would have been held in these days, in milliseconds of one GPU or share of one.
    pub gpu_ms_after: i64,
}

/// What is said of a workload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advice {
    /// What it rests on.
    pub evidence: Evidence,
    /// What may be changed.
    pub recommended: Vec<Recommendation>,
    /// What may not, and why.
    pub not: Vec<(What, Not)>,
}

/// What `measured` allows over `days` days; `offered` is the one way in which GPUs can be shared, where it is fixed.
///
/// # Errors
/// [`Unknown`] when too little is known of the workload for any recommendation.
pub fn advise(measured: &MeasuredUse, days: i64, catalog: &Catalog, offered: Option<Sharing>) -> Result<Advice, Unknown> {
    if !measured.ran_from_the_start {
        return Err(Unknown::Young);
    }
    let evidence = evidence(measured, days);
    if evidence.measured_per_mille < LEAST_MEASURED_PER_MILLE {
        return Err(Unknown::Unmeasured);
    }
    if measured.shared {
        return Err(Unknown::Shared);
    }
    if measured.types.keys().any(|of| !catalog.types.contains_key(of)) {
        return Err(Unknown::UnknownType);
    }
    let memory = memory_needed(measured, catalog);
    let answers = [
        (What::FewerReplicas, fewer_replicas(measured, &evidence)),
        (What::Sharing, memory.and_then(|memory| sharing(measured, &evidence, catalog, memory, offered))),
        (What::SmallerGpu, memory.and_then(|memory| smaller(measured, &evidence, catalog, memory))),
        (What::Batch, batch(measured, &evidence)),
    ];
    let mut advice = Advice { evidence, recommended: Vec::new(), not: Vec::new() };
    for (what, answer) in answers {
        match answer {
            Ok(recommendation) => advice.recommended.push(recommendation),
            Err(not) => advice.not.push((what, not)),
        }
    }
    Ok(advice)
}

/// `part` of `whole` in thousandths, rounded up, so that nothing looks idler than it is.
fn per_mille(part: i64, whole: i64) -> i64 {
    let (part, whole) = (i128::from(part) * 1_000, i128::from(whole.max(1)));
    i64::try_from((part + whole - 1) / whole).unwrap_or(i64::MAX)
}

/// Hours of which at least half is measured speak for themselves; of the others nobody knows how busy they were.
fn telling(hours: &BTreeMap<i64, HourOfUse>) -> impl Iterator<Item = &HourOfUse> {
    hours.values().filter(|hour| hour.held > 0 && hour.sampled * 2 >= hour.held)
}

fn evidence(measured: &MeasuredUse, days: i64) -> Evidence {
    let all = measured.hours.values().fold(HourOfUse::default(), |sum, hour| sum.plus(*hour));
    let pod_hour = measured.gpus_per_pod.max(1) * HOUR;
    let replicas = |held: i64, hours: i64| (held + pod_hour * hours / 2) / (pod_hour * hours).max(1);
    let there = measured.hours.values().filter(|hour| hour.held > 0).count() as i64;
    Evidence {
        days,
        held_gpu_ms: all.held,
        // Rounded down: what is not measured is not known.
        measured_per_mille: i64::try_from(i128::from(all.sampled) * 1_000 / i128::from(all.held.max(1))).unwrap_or_default(),
        use_per_mille: per_mille(all.active, all.sampled),
        busiest_hour_per_mille: telling(&measured.hours).map(|hour| per_mille(hour.active, hour.sampled)).max().unwrap_or(1_000),
        busiest_pod_per_mille: measured.busiest_pod_per_mille,
        replicas: replicas(all.held, there).max(1),
        most_replicas: measured.hours.values().map(|hour| replicas(hour.held, 1)).max().unwrap_or(0),
        most_memory_mib: measured.types.values().flatten().max().map(|memory| memory.0),
        busy_hours: busy_hours(measured).map(|busy| busy.len() as i64),
    }
}

/// The memory that it needs of a GPU, with a margin, where what was used says anything.
fn memory_needed(measured: &MeasuredUse, catalog: &Catalog) -> Result<Mebibytes, Not> {
    let held: i64 = measured.hours.values().map(|hour| hour.held).sum();
    if i128::from(measured.memory_read_gpu_ms) * 1_000 < i128::from(held) * i128::from(LEAST_MEASURED_PER_MILLE) {
        return Err(Not::MemoryUnknown);
    }
    let mut most = None;
    for (of, used) in &measured.types {
        let Some(used) = used else { return Err(Not::MemoryUnknown) };
        let whole = catalog.types.get(of).map_or(Mebibytes(0), |machine| machine.gpu_memory);
        if per_mille(used.0, whole.0) >= TAKEN_WHOLE_PER_MILLE {
            return Err(Not::MemoryTakenWhole);
        }
        most = most.max(Some(used.0));
    }
    let most = most.ok_or(Not::MemoryUnknown)?;
    Ok(Mebibytes((most * MEMORY_MARGIN_PER_MILLE + 999) / 1_000))
}

/// The smallest memory of a GPU that it ran on.
fn smallest_memory(measured: &MeasuredUse, catalog: &Catalog) -> Mebibytes {
    measured.types.keys().filter_map(|of| catalog.types.get(of)).map(|machine| machine.gpu_memory).min().unwrap_or(Mebibytes(0))
}

/// So many that in each hour GPUs would be active for no more than the target, and never more than there were.
fn fewer_replicas(measured: &MeasuredUse, evidence: &Evidence) -> Result<Recommendation, Not> {
    if measured.kind == WorkloadKind::Batch {
        return Err(Not::RunsToCompletion);
    }
    if evidence.most_replicas <= LEAST_REPLICAS {
        return Err(Not::FewReplicas);
    }
    let one = i128::from(TARGET_PER_MILLE) * i128::from(measured.gpus_per_pod.max(1) * HOUR);
    let needed = |hour: &HourOfUse| {
        // What was active in the measured part stands for the whole hour.
        let active = i128::from(hour.active) * i128::from(hour.held) * 1_000;
        i64::try_from((active + i128::from(hour.sampled) * one - 1) / (i128::from(hour.sampled) * one)).unwrap_or(i64::MAX)
    };
    let replicas = telling(&measured.hours).map(needed).max().ok_or(Not::Busy)?.max(LEAST_REPLICAS);
    let most = replicas.saturating_mul(measured.gpus_per_pod.max(1) * HOUR);
    let gpu_ms_after = measured.hours.values().map(|hour| hour.held.min(most)).sum();
    if gpu_ms_after >= evidence.held_gpu_ms {
        return Err(Not::Busy);
    }
    Ok(Recommendation { change: Change::FewerReplicas { replicas }, gpu_ms_after })
}

/// As many of its pods on one GPU as keep the busiest of them below the target together, and have the memory. Its own pods alone: who else would take the rest is
/// not known.
fn sharing(
    measured: &MeasuredUse,
    evidence: &Evidence,
    catalog: &Catalog,
    memory: Mebibytes,
    offered: Option<Sharing>,
) -> Result<Recommendation, Not> {
    if measured.gpus_per_pod != 1 {
        return Err(Not::SeveralGpus);
    }
    if evidence.replicas < 2 {
        return Err(Not::FewReplicas);
    }
    let busiest = evidence.busiest_pod_per_mille.unwrap_or(1_000).max(1);
    let machines = || measured.types.keys().filter_map(|of| catalog.types.get(of));
    let has_memory = |sharing: Sharing| {
        let of = GpuSharing { sharing, context_reserve: CONTEXT_RESERVE };
        machines().all(|machine| of.units(machine).memory >= memory)
    };
    let ways = match offered {
        Some(sharing) => vec![sharing],
        None => (2..=MOST_SHARES.min(evidence.replicas)).rev().map(|replicas| Sharing::Mps { replicas }).collect(),
    };
    let allowed: Vec<Sharing> =
        ways.into_iter().filter(|way| *way != Sharing::Exclusive && shares(*way) * busiest <= TARGET_PER_MILLE).collect();
    if allowed.is_empty() {
        return Err(Not::Busy);
    }
    let sharing = allowed.into_iter().find(|way| has_memory(*way)).ok_or(Not::MemoryNeeded)?;
    Ok(Recommendation { change: Change::Sharing { sharing, memory }, gpu_ms_after: evidence.held_gpu_ms })
}

/// Pods on one GPU.
pub fn shares(sharing: Sharing) -> i64 {
    match sharing {
        Sharing::Exclusive => 1,
        Sharing::TimeSlicing { replicas } | Sharing::Mps { replicas } | Sharing::Mig { replicas } => replicas.max(1),
    }
}

/// GPUs with less memory than it has, and at least what it needs, on which its busiest hour would stay below the target.
fn smaller(measured: &MeasuredUse, evidence: &Evidence, catalog: &Catalog, memory: Mebibytes) -> Result<Recommendation, Not> {
    let has = smallest_memory(measured, catalog);
    let busiest = evidence.busiest_pod_per_mille.unwrap_or(1_000).max(1);
    let strong_enough = |of: &MachineType| {
        let slower = power::slower_per_mille(measured.types.keys().filter_map(|of| catalog.types.get(of)), of)?;
        Some(i128::from(busiest) * i128::from(slower) <= i128::from(TARGET_PER_MILLE) * 1_000)
    };
    let smaller: Vec<_> = catalog.types.values().filter(|of| memory <= of.gpu_memory && of.gpu_memory < has).collect();
    let mut models: Vec<GpuModel> = smaller.iter().filter(|of| strong_enough(of) == Some(true)).map(|of| of.gpu_model.clone()).collect();
    models.sort();
    models.dedup();
    // A pod asks for a model and for memory: memory keeps away those parts of a model that are too weak.
    let weak =
        smaller.iter().filter(|of| models.contains(&of.gpu_model) && strong_enough(of) != Some(true)).map(|of| of.gpu_memory.0 + 1).max();
    let memory = memory.max(Mebibytes(weak.unwrap_or(0)));
    let fits = smaller.iter().filter(|of| models.contains(&of.gpu_model) && of.gpu_memory >= memory);
    let types: Vec<InstanceType> = fits.map(|of| of.instance_type.clone()).collect();
    models.retain(|model| types.iter().any(|of| catalog.types.get(of).is_some_and(|machine| machine.gpu_model == *model)));
    if types.is_empty() {
        return Err(Not::NoSmaller);
    }
    Ok(Recommendation { change: Change::SmallerGpu { memory, models, types }, gpu_ms_after: evidence.held_gpu_ms })
}

/// The hours with requests, where those of enough hours in which it ran are known.
fn busy_hours(measured: &MeasuredUse) -> Option<Vec<i64>> {
    let there = measured.hours.iter().filter(|(_, hour)| hour.held > 0).count();
    let known = measured.hours.iter().filter(|(at, hour)| hour.held > 0 && measured.requests.contains_key(at)).count();
    let enough = there > 0 && known as i64 * 1_000 >= there as i64 * LEAST_MEASURED_PER_MILLE;
    enough.then(|| measured.requests.iter().filter(|(_, requests)| **requests > 0).map(|(at, _)| *at).collect())
}

/// Its GPUs in the hours with requests alone, and in the one before each run of them.
fn batch(measured: &MeasuredUse, evidence: &Evidence) -> Result<Recommendation, Not> {
    if measured.kind == WorkloadKind::Batch {
        return Err(Not::RunsToCompletion);
    }
    let busy = busy_hours(measured).ok_or(Not::RequestsUnknown)?;
    if busy.len() as i64 > FEW_HOURS_A_DAY * evidence.days {
        return Err(Not::AskedAllDay);
    }
    let held = |at: i64| measured.hours.get(&at).map_or(0, |hour| hour.held);
    let begins = |at: &&i64| !busy.contains(&(**at - STARTS_EARLIER));
    let starts: i64 = busy.iter().filter(begins).map(|at| held(*at) * STARTS_EARLIER).sum();
    let gpu_ms_after = busy.iter().map(|at| held(*at)).sum::<i64>() + starts;
    if gpu_ms_after >= evidence.held_gpu_ms {
        return Err(Not::AskedAllDay);
    }
    Ok(Recommendation { change: Change::Batch { busy_hours: busy.len() as i64 }, gpu_ms_after })
}
