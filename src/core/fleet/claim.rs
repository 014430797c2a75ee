//! A node claim: one machine, or the durable intent to have one.
//!
//! Decides: whether a claim takes new work, and whether it counts towards limits.
//! Does not: change (see `action::ClaimPatch`).

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

use super::binding::Binding;
use super::node_pool::PoolsDefined;
use super::notice::{NoticeKind, TAKEN_FOR, WARNED_FOR};
use super::scheduled_event::ScheduledMark;
use super::trigger::Trigger;
use crate::core::market::catalog::Catalog;
use crate::core::market::{Capacity, CoolDownCause, PriceOrigin};
use crate::core::units::ids::{ClaimName, ClassName, DecisionId, InstanceId, NodeName, PoolName, ReservationId, Uid};
use crate::core::units::money::MicroUsdPerHour;
use crate::core::units::shared::Shared;
use crate::core::units::time::Timestamp;
use crate::core::workload::PodIdentity;
use crate::core::workload::sharing::GpuSharing;

/// What EC2 announced for a claim's instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterruptionMark {
    /// Interruption or rebalance.
    pub kind: NoticeKind,
    /// When we saw it.
    pub noticed_at: Timestamp,
    /// When EC2 takes the machine; `None` for a rebalance recommendation.
    pub deadline: Option<Timestamp>,
    /// `sqs`, `agent` or `ec2-state`.
    pub source: String,
}

/// Why work is being moved off a claim.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MoveMark {
    /// The decision.
    pub decision: DecisionId,
    /// What triggered it.
    pub trigger: Trigger,
    /// When.
    pub decided_at: Timestamp,
}

/// A pod on a claim, as stored in the claim's status, so that its end is noticed across a restart.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Occupant {
    /// The pod.
    #[serde(flatten)]
    pub pod: PodIdentity,
    /// Since when.
    pub from: Timestamp,
    /// When it was first seen Ready, by the kubelet's time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_at: Option<Timestamp>,
    /// Until when; written down before the ledger receives it, so that it is the same however often it is written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Timestamp>,
}

/// How an instance ended, as far as billing is concerned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// When billing stopped.
    pub at: Timestamp,
    /// Who ended it.
    pub by: EndedBy,
    /// The decision that ended it, if one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<DecisionId>,
}

/// What is wrong with a node after it joined.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unhealthy {
    /// The problem, as the trigger of the resulting move.
    pub trigger: Trigger,
    /// Since when it was seen.
    pub since: Timestamp,
}

/// The durable progress of a claim. What few machines have at a time is behind a pointer: a pass looks at fifty thousand of them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ClaimStatus {
    /// EC2 was asked: from here on something may exist.
    pub launch_asked_at: Option<Timestamp>,
    /// The instance, once known.
    pub instance: Option<InstanceId>,
    /// EC2's launch time.
    pub launched_at: Option<Timestamp>,
    /// The node, once it joined.
    pub node: Option<NodeName>,
    /// When the node was Ready with its GPUs.
    pub node_ready_at: Option<Timestamp>,
    /// Why the launch failed; the claim is over.
    pub failure: Option<Box<LaunchFailure>>,
    /// EC2 will take the machine.
    pub interruption: Option<Box<InterruptionMark>>,
    /// EC2 has scheduled something for the machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduled: Option<Box<ScheduledMark>>,
    /// Work is being moved off.
    pub moving: Option<Box<MoveMark>>,
    /// Pods that run here.
    pub occupants: Vec<Occupant>,
    /// What was decided about the pods that were bound here after it was bought, by uid.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub bindings: BTreeMap<Uid, Binding>,
    /// Since when nothing is bound here.
    pub empty_since: Option<Timestamp>,
    /// What is wrong with its node, and since when; `None` while it is healthy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unhealthy: Option<Box<Unhealthy>>,
    /// Fingerprints of needs whose pods were released to its node but that the scheduler did not bind there.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub misfits: BTreeSet<String>,
    /// The uid of the definition (CRD) of node pools when its pool was last seen; `None` where nobody has looked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pools_defined_by: Option<Uid>,
    /// We asked EC2 to terminate it: when, and by which decision.
    pub terminate_asked: Option<Box<(Timestamp, DecisionId, Trigger)>>,
    /// The instance has ended; written down before the accounts are closed.
    pub ended: Option<Box<Ended>>,
}

/// Why a launch failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaunchFailure {
    /// What it means for the capacity pool.
    pub cause: CoolDownCause,
    /// EC2's code.
    pub code: String,
    /// EC2's message.
    pub message: String,
    /// When.
    pub at: Timestamp,
}

/// EC2's code for a launch whose token belongs to an instance that has ended.
pub const TOKEN_ENDED: &str = "IdempotentInstanceTerminated";

impl LaunchFailure {
    /// The launch had produced a machine, which has ended.
    pub fn had_a_machine(&self) -> bool {
        self.code == TOKEN_ENDED
    }
}

/// What a machine is launched with, as its class had it when it was bought.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FrozenLaunch {
    /// The launch template.
    pub launch_template: String,
    /// Its version.
    pub launch_template_version: String,
    /// The subnet.
    pub subnet: String,
    /// The image it boots; `None` is the launch template's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Tags of the instance, without those derived from the claim's uid.
    pub tags: BTreeMap<String, String>,
}

/// What a claim buys: immutable, written before any money is spent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimSpec {
    /// Pool whose policy applies.
    pub node_pool: PoolName,
    /// Class that configures the node.
    pub node_class: ClassName,
    /// What to buy.
    pub capacity: Capacity,
    /// The price it was bought at.
    pub price_per_hour: MicroUsdPerHour,
    /// On-demand price of the same type and region, if known.
    pub on_demand_per_hour: Option<MicroUsdPerHour>,
    /// GPUs of the machine.
    pub gpus: i64,
    /// The decision.
    pub decision: DecisionId,
    /// What triggered it.
    pub trigger: Trigger,
    /// Attempt of the token; always 1: a new attempt is a new claim.
    pub attempt: u32,
    /// What it is launched with: the machines of a class in one zone share it.
    #[serde(flatten)]
    pub frozen: Shared<FrozenLaunch>,
    /// The pods it was bought for.
    pub bought_for: Vec<PodIdentity>,
    /// What was decided about those pods; `None` of a version that did not keep it, and of adopted machines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bindings: Option<Vec<Binding>>,
    /// How its node shares GPUs, as specified by the class when it was bought.
    #[serde(default)]
    pub sharing: GpuSharing,
    /// The capacity reservation it is launched into.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reservation: Option<ReservationId>,
    /// The claim whose work it will take over: bought before that claim is left, so that nothing moves for an offer that turns out to be
    /// gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub takes_over: Option<ClaimName>,
    /// Source of its price; `None` for claims written before this was recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price_origin: Option<PriceOrigin>,
    /// The existing instance it was created for by `lowtide adopt`: nothing is ever launched for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adopted: Option<InstanceId>,
    /// Under which claim's uid the ledger keeps the machine's books, if not under its own: of an adopted machine, that of the claim it was
    /// launched for, so that no hour is counted twice by a ledger that knows the machine already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub books: Option<Uid>,
}

/// One of our machines, or the intent to have one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Its name.
    pub name: ClaimName,
    /// Its uid.
    pub uid: Uid,
    /// Its resourceVersion: an action decided on this state must not be executed on a newer one.
    pub version: u64,
    /// When the intent was written.
    pub created_at: Timestamp,
    /// It was deleted; the finalizer keeps it until the instance is gone.
    pub deleting: bool,
    /// What it buys.
    pub spec: ClaimSpec,
    /// Its progress.
    pub status: ClaimStatus,
}

impl ClaimSpec {
    /// Schedulable GPU units of the machine: its GPUs, or slots where its class shares them.
    pub fn gpu_units(&self, catalog: &Catalog) -> i64 {
        if !self.sharing.is_shared() {
            return self.gpus;
        }
        catalog.types.get(&self.capacity.instance_type).map_or(self.gpus, |machine| self.sharing.units(machine).count)
    }
}

impl Claim {
    /// The uid under which the ledger keeps this machine's books: its own, but of an adopted machine that of the claim it was launched for.
    pub fn books(&self) -> &Uid {
        self.spec.books.as_ref().unwrap_or(&self.uid)
    }

    /// Whether node pools are defined by what defined them when this claim's pool was last seen, so that one which is not there was deleted by itself. Not
    /// known of a claim whose pool nobody has seen.
    pub fn is_of_definition(&self, defined: &PoolsDefined) -> bool {
        defined.by().is_some_and(|now| self.status.pools_defined_by.as_ref() == Some(now))
    }

    /// The definition that is to be written down beside this claim, whose pool is there; `None` where it is, or none stands.
    pub fn definition_to_note<'d>(&self, defined: &'d PoolsDefined) -> Option<&'d Uid> {
        defined.by().filter(|_| !self.is_of_definition(defined))
    }

    /// A pod that waits and says that it is bound here is: the claim keeps its binding, or is of a version that kept none and was bought for it.
    pub fn awaits(&self, pod: &Uid) -> bool {
        let bought_for = || self.spec.bindings.is_none() && self.spec.bought_for.iter().any(|bought| bought.uid == *pod);
        self.binding_of(pod).is_some() || bought_for()
    }
    /// New work may be put here: not failed, not doomed, not on its way out.
    pub fn takes_work(&self) -> bool {
        let s = &self.status;
        !self.deleting && s.failure.is_none() && s.terminate_asked.is_none() && s.moving.is_none() && !self.interrupted()
    }
    /// What was decided about a pod when it was bound here.
    pub fn binding_of(&self, pod: &Uid) -> Option<&Binding> {
        let bought_with = || self.spec.bindings.iter().flatten().find(|binding| binding.pod == *pod);
        self.status.bindings.get(pod).or_else(bought_with)
    }
    /// A pod whose gate is lifted and that says it is bound here is, as far as the claim can tell: one of a version that kept no bindings, or
    /// an adopted one, cannot.
    pub fn knows(&self, pod: &Uid) -> bool {
        self.spec.bindings.is_none() || self.binding_of(pod).is_some()
    }
    /// It has a machine or is about to have one: it counts towards limits.
    pub fn may_run(&self) -> bool {
        self.status.failure.is_none() && self.status.ended.is_none()
    }
    /// The watch has shown it; before that, it only counts towards limits.
    pub fn is_observed(&self) -> bool {
        self.version > 0
    }
    /// EC2 said that the machine is at risk, and has not said that it takes it.
    pub fn is_warned(&self) -> bool {
        self.status.interruption.as_ref().is_some_and(|mark| mark.kind == NoticeKind::Rebalance)
    }
    /// Until when its capacity is not bought because EC2 warned of it; `None` when that is over.
    pub fn capacity_warned_until(&self, now: Timestamp) -> Option<Timestamp> {
        let mark = self.status.interruption.as_ref().filter(|_| self.is_warned())?;
        Some(mark.noticed_at + WARNED_FOR).filter(|until| *until > now)
    }
    /// Its work is being moved because of what EC2 has scheduled for it.
    pub fn is_left_for_maintenance(&self) -> bool {
        self.status.moving.as_ref().is_some_and(|mark| mark.trigger == Trigger::ScheduledMaintenance)
    }
    /// When work that is being moved must be gone: EC2 takes the machine then, or does what it has scheduled.
    pub fn leaves_by(&self) -> Option<Timestamp> {
        let announced = self.status.interruption.as_ref().and_then(|mark| mark.deadline);
        let scheduled = self.status.scheduled.as_ref().filter(|_| self.is_left_for_maintenance()).map(|mark| mark.event.not_before);
        announced.into_iter().chain(scheduled).min()
    }
    /// Until when its capacity is not bought, while something comparable is sold, because EC2 takes the machine back; `None` when that is over.
    pub fn capacity_taken_until(&self, now: Timestamp) -> Option<Timestamp> {
        let mark = self.status.interruption.as_ref().filter(|_| self.interrupted())?;
        Some(mark.noticed_at + TAKEN_FOR).filter(|until| *until > now)
    }
    /// When it was given up for what was only seen of its machine, as is written down by the clock of whoever led then.
    pub fn given_up_at(&self) -> Option<Timestamp> {
        let left = self.status.moving.as_ref().filter(|mark| mark.trigger.is_only_seen()).map(|mark| mark.decided_at);
        let ended = || self.status.terminate_asked.as_deref().filter(|(_, _, trigger)| trigger.is_only_seen()).map(|(at, _, _)| *at);
        left.or_else(ended)
    }
    /// EC2 said it will take the machine (a rebalance recommendation does not say that).
    pub fn interrupted(&self) -> bool {
        self.status.interruption.as_ref().is_some_and(|i| i.kind == NoticeKind::Interruption)
    }
}

/// Why an instance ended, as far as billing cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EndedBy {
    /// EC2 interrupted it: an interrupted first hour costs nothing.
    Ec2Interruption,
    /// We terminated it: seconds used are paid.
    Lowtide,
    /// It disappeared without a known reason, or the value is from another version: billed as terminated by us.
    #[serde(other)]
    Unknown,
}
