//! What the ledger receives: decisions and observed facts, each with an id made before it is written.
//!
//! Decides: the shape of a fact and its identity (writing twice is harmless).
//! Does not: compute money from facts (see `ledger`), or deliver them (see the outbox in `kube`).

use crate::core::fleet::EndedBy;
use crate::core::market::Capacity;
use crate::core::record::Decision;
use crate::core::units::ids::{ClaimName, DecisionId, InstanceId, ObjectRef, Region, Uid, derive_uuid};
use crate::core::units::money::{MicroUsd, MicroUsdPerHour};
use crate::core::units::shared::Shared;
use crate::core::units::time::{Millis, Timestamp};
use crate::core::workload::need::WorkloadKind;
use crate::core::workload::{Attribution, Workload};
use serde::{Deserialize, Serialize};

/// An instance was bought. The bill starts at `running_from` (pending is not paid).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IntervalOpened {
    /// The claim.
    pub claim: ClaimName,
    /// The claim's uid: the key of the interval.
    pub claim_uid: Uid,
    /// The decision that bought it.
    pub decision: DecisionId,
    /// The instance.
    pub instance: InstanceId,
    /// What was bought.
    #[serde(rename = "pool")]
    pub capacity: Capacity,
    /// Schedulable GPU units of the machine: GPUs, or slots where its class shares them.
    pub gpus: i64,
    /// Price of the first instance-hour.
    pub price_per_hour: MicroUsdPerHour,
    /// On-demand price of the same type and region, where known.
    pub on_demand_per_hour: Option<MicroUsdPerHour>,
    /// EC2's launch time.
    pub running_from: Timestamp,
}

/// The price of one instance-hour: AWS holds the price at the start of each instance-hour for that hour.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HourPriced {
    /// The interval.
    pub claim_uid: Uid,
    /// 0 for the first instance-hour.
    pub hour: u32,
    /// Its start.
    pub from: Timestamp,
    /// The price that holds.
    pub price_per_hour: MicroUsdPerHour,
    /// On-demand price of the same type and region, where known.
    pub on_demand_per_hour: Option<MicroUsdPerHour>,
}

/// An instance ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IntervalClosed {
    /// The interval.
    pub claim_uid: Uid,
    /// When it stopped being paid for.
    pub running_to: Timestamp,
    /// Who ended it.
    pub ended_by: EndedBy,
    /// The decision that ended it, where one did.
    pub decision: Option<DecisionId>,
}

/// A pod began to use GPUs of a claim.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OccupancyOpened {
    /// The machine.
    pub claim_uid: Uid,
    /// The pod.
    pub pod: ObjectRef,
    /// Its uid.
    pub pod_uid: Uid,
    /// Its workload.
    pub workload: Shared<Workload>,
    /// Inference or batch.
    pub kind: WorkloadKind,
    /// Who pays.
    pub attribution: Shared<Attribution>,
    /// Schedulable GPU units it holds.
    pub gpus: i64,
    /// The placement decision, whose frozen counterfactuals hold for this pod.
    pub decision: DecisionId,
    /// B1 for one replica of its need, frozen when placed.
    pub b1_per_replica_hour: Option<MicroUsdPerHour>,
    /// B2 for one replica of its need, frozen when placed.
    pub b2_per_replica_hour: Option<MicroUsdPerHour>,
    /// Since when.
    pub from: Timestamp,
    /// Data that had to be carried across regions for it to run here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub carried: Option<CarriedData>,
}

/// Data that a placement or a move carried from one region to another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CarriedData {
    /// How much.
    pub gib: i64,
    /// Where it came from; it went to the machine's region.
    pub from_region: Region,
    /// What the pair of regions cost per GiB at the time.
    pub price_per_gib: MicroUsd,
    /// The move that caused it; `None` when the pod was placed away from its data in the first place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moved_by: Option<DecisionId>,
}

/// A program in a batch pod said that it wrote a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The machine.
    pub claim_uid: Uid,
    /// The pod.
    pub pod_uid: Uid,
    /// When it was written.
    pub at: Timestamp,
}

/// A pod stopped using GPUs of a claim.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OccupancyClosed {
    /// The machine.
    pub claim_uid: Uid,
    /// The pod.
    pub pod_uid: Uid,
    /// Until when.
    pub to: Timestamp,
}

/// How one pod was moved, phase by phase. A phase that did not happen is `None`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Migration {
    /// The decision to move.
    pub decision: DecisionId,
    /// The pod that left.
    pub pod: ObjectRef,
    /// Its uid: the key.
    pub pod_uid: Uid,
    /// The claim it left.
    pub from_claim: ClaimName,
    /// The claim it went to.
    pub to_claim: Option<ClaimName>,
    /// Notice seen.
    pub noticed_at: Timestamp,
    /// When EC2 takes the machine.
    pub deadline: Option<Timestamp>,
    /// Decided.
    pub decided_at: Timestamp,
    /// Instance launched (`None` when room was used).
    pub launched_at: Option<Timestamp>,
    /// Node Ready.
    pub node_ready_at: Option<Timestamp>,
    /// Replacement pod Ready.
    pub pod_ready_at: Option<Timestamp>,
    /// Old pod gone; mostly known from the end of its occupancy instead, which comes later than this record.
    pub old_gone_at: Option<Timestamp>,
    /// GiB carried across regions.
    pub egress_gib: i64,
}

/// An interruption of one of our instances.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interruption {
    /// The machine.
    pub claim_uid: Uid,
    /// The instance.
    pub instance: InstanceId,
    /// The pool it was in.
    #[serde(rename = "pool")]
    pub capacity: Capacity,
    /// When we saw it.
    pub noticed_at: Timestamp,
    /// When EC2 takes the machine.
    pub deadline: Timestamp,
    /// Where we saw it: `sqs`, `agent`, `ec2-state`.
    pub source: String,
    /// How long it had run.
    pub ran_for: Millis,
}

/// One row for the ledger. What is large is behind a pointer: a pass may make fifty thousand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "kebab-case")]
pub enum LedgerRecord {
    /// A decision.
    Decision(Box<Decision>),
    /// An instance was bought.
    IntervalOpened(Box<IntervalOpened>),
    /// An instance-hour got its price.
    HourPriced(HourPriced),
    /// An instance ended.
    IntervalClosed(IntervalClosed),
    /// A pod began to use GPUs.
    OccupancyOpened(Box<OccupancyOpened>),
    /// A pod stopped using GPUs.
    OccupancyClosed(OccupancyClosed),
    /// A pod was moved.
    Migration(Box<Migration>),
    /// EC2 took a machine back.
    Interruption(Box<Interruption>),
    /// A batch pod wrote a checkpoint.
    Checkpoint(Checkpoint),
}

/// The id of the record that says that the instance of `claim` was bought.
pub fn interval_opened_id(claim: &Uid) -> uuid::Uuid {
    derive_uuid(&["interval-opened", claim.as_str()])
}

/// The id of the record that says that the machine of `claim` ended.
pub fn interval_closed_id(claim: &Uid) -> uuid::Uuid {
    derive_uuid(&["interval-closed", claim.as_str()])
}

/// The id of the record that says that `pod` began to use GPUs of `claim`.
pub fn occupancy_opened_id(claim: &Uid, pod: &Uid) -> uuid::Uuid {
    derive_uuid(&["occupancy-opened", claim.as_str(), pod.as_str()])
}

/// The id of the record of a move of `pod` by `decision`. Where the first place was taken too, one move is made twice: `to` tells them apart.
pub fn migration_id(decision: DecisionId, pod: &Uid, to: Option<&ClaimName>) -> uuid::Uuid {
    derive_uuid(&["migration", &decision.to_string(), pod.as_str(), to.map_or("", ClaimName::as_str)])
}

impl LedgerRecord {
    /// The machine's books it belongs to, if it belongs to one machine.
    pub fn books(&self) -> Option<&Uid> {
        match self {
            LedgerRecord::IntervalOpened(r) => Some(&r.claim_uid),
            LedgerRecord::HourPriced(r) => Some(&r.claim_uid),
            LedgerRecord::IntervalClosed(r) => Some(&r.claim_uid),
            LedgerRecord::OccupancyOpened(r) => Some(&r.claim_uid),
            LedgerRecord::OccupancyClosed(r) => Some(&r.claim_uid),
            LedgerRecord::Interruption(r) => Some(&r.claim_uid),
            LedgerRecord::Checkpoint(r) => Some(&r.claim_uid),
            LedgerRecord::Decision(_) | LedgerRecord::Migration(_) => None,
        }
    }

    /// The id of the record, derived from what it is about: also the name of its `GpuDecision`.
    pub fn id(&self) -> uuid::Uuid {
        match self {
            LedgerRecord::Decision(d) => d.id.0,
            LedgerRecord::IntervalOpened(r) => interval_opened_id(&r.claim_uid),
            LedgerRecord::HourPriced(r) => derive_uuid(&["hour-priced", r.claim_uid.as_str(), &r.hour.to_string()]),
            LedgerRecord::IntervalClosed(r) => interval_closed_id(&r.claim_uid),
            LedgerRecord::OccupancyOpened(r) => occupancy_opened_id(&r.claim_uid, &r.pod_uid),
            LedgerRecord::OccupancyClosed(r) => derive_uuid(&["occupancy-closed", r.claim_uid.as_str(), r.pod_uid.as_str()]),
            LedgerRecord::Migration(r) => migration_id(r.decision, &r.pod_uid, r.to_claim.as_ref()),
            LedgerRecord::Interruption(r) => derive_uuid(&["interruption", r.claim_uid.as_str()]),
            LedgerRecord::Checkpoint(r) => derive_uuid(&["checkpoint", r.claim_uid.as_str(), r.pod_uid.as_str(), &r.at.0.to_string()]),
        }
    }

    /// When what it tells of happened: decides the ledger partition, so a retry lands in the same one.
    pub fn happened_at(&self) -> Timestamp {
        match self {
            LedgerRecord::Decision(d) => d.decided_at,
            LedgerRecord::IntervalOpened(r) => r.running_from,
            LedgerRecord::HourPriced(r) => r.from,
            LedgerRecord::IntervalClosed(r) => r.running_to,
            LedgerRecord::OccupancyOpened(r) => r.from,
            LedgerRecord::OccupancyClosed(r) => r.to,
            LedgerRecord::Migration(r) => r.noticed_at,
            LedgerRecord::Interruption(r) => r.noticed_at,
            LedgerRecord::Checkpoint(r) => r.at,
        }
    }
}
