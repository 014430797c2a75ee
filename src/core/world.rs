//! The snapshot: everything a pass may look at, as plain data.
//!
//! Decides: nothing. Adapters fill it, [`super::plan`] reads it.

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

use super::action::PoolStatus;
use super::catalog::{Catalog, Resources};
use super::daemonsets::DaemonSet;
use super::decision::{Attribution, Baseline, PodIdentity, Trigger, Workload};
use super::ids::{
    ClaimName, ClassName, DecisionId, GpuModel, InstanceId, InstanceType, NodeName, ObjectRef, PoolName, Region, ReservationId, Uid, ZoneId,
};
use super::market::{CapacityPool, CapacityType, CoolDownCause, Market};
use super::market_memory::MarketMemory;
use super::money::{MicroUsd, MicroUsdPerHour};
use super::need::{Need, Schedule};
use super::quota::VcpuQuota;
use super::record::EndedBy;
use super::reservation::{NamedReservation, SeenReservations};
use super::shared::Shared;
use super::sharing::GpuSharing;
use super::time::{Millis, Timestamp};
use crate::engine::ports::{Instance, LaunchTemplate, NoticeKind};

/// A node pool: policy, written by the platform team.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodePool {
    /// Its name.
    pub name: PoolName,
    /// Being deleted: its machines drain, nothing new is bought.
    pub deleting: bool,
    /// Namespaces that its selector matches now.
    pub namespaces: BTreeSet<String>,
    /// GPU models allowed; empty allows any.
    pub gpu_models: Vec<GpuModel>,
    /// Instance types allowed; empty allows any.
    pub instance_types: Vec<InstanceType>,
    /// Region patterns allowed; empty allows any that a class serves.
    pub regions: Vec<String>,
    /// Classes that make its nodes.
    pub classes: Vec<ClassName>,
    /// Capacity types it may buy.
    pub capacity_types: BTreeSet<CapacityType>,
    /// Cap, binds when buying.
    pub max_price_per_gpu_hour: Option<MicroUsdPerHour>,
    /// Spend allowed per calendar month.
    pub monthly_budget: Option<MicroUsd>,
    /// GPUs it may hold at once.
    pub max_gpus: Option<i64>,
    /// Nodes it may hold at once.
    pub max_nodes: Option<i64>,
    /// Machines it may ask for per minute.
    pub launches_per_minute: Option<i64>,
    /// At most this share (in thousandths) of a workload's replicas may stand in one zone, instance family and capacity type.
    pub max_share_per_mille: Option<i64>,
    /// The region counterfactuals B1 and B2 are taken in.
    pub home_region: Region,
    /// Running work moves only when it saves at least this, in thousandths of what it costs now.
    pub return_min_saving_per_mille: i64,
    /// ... and only after the machine has run this long.
    pub return_min_dwell: Millis,
    /// An empty machine is terminated after this.
    pub empty_grace: Millis,
    /// A machine that has not joined with its GPUs by then is terminated.
    pub join_timeout: Millis,
    /// A machine older than this is drained.
    pub expire_after: Option<Millis>,
    /// First cool-down of a pool of capacity that refused us.
    pub cool_down_base: Millis,
    /// Longest cool-down.
    pub cool_down_max: Millis,
}

/// A node class: how a node is made in one region.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeClass {
    /// Its name.
    pub name: ClassName,
    /// Its region.
    pub region: Region,
    /// Its subnets as configured.
    pub subnets: Vec<String>,
    /// Zone id of each subnet, once EC2 has said; empty until then.
    pub zones: BTreeMap<ZoneId, String>,
    /// Why it cannot be used, as in an unknown subnet.
    pub problem: Option<String>,
    /// The interruption queue's name in its region.
    pub interruption_queue: Option<String>,
    /// Launch template, once it exists: name and version.
    pub launch_template: Option<(String, String)>,
    /// Tags the class adds to instances.
    pub tags: BTreeMap<String, String>,
    /// How its nodes share GPUs.
    pub sharing: GpuSharing,
    /// Capacity reservations its nodes may be launched into.
    pub reservations: Vec<NamedReservation>,
    /// Labels that every node of the class gets, as far as they are known before it joins.
    pub node_labels: BTreeMap<String, String>,
}

/// What EC2 said it will do to a claim's instance.
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
    /// What made us.
    pub trigger: Trigger,
    /// When.
    pub decided_at: Timestamp,
}

/// A pod on a claim, as the claim's status keeps it, so that its end is noticed over a restart.
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
    /// Until when; written down before the ledger is told, so that it is told the same however often.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Timestamp>,
}

/// How an instance ended, as far as the bill cares.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// When it stopped being paid for.
    pub at: Timestamp,
    /// Who ended it.
    pub by: EndedBy,
    /// The decision that ended it, where one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<DecisionId>,
}

/// The durable progress of a claim.
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
    pub failure: Option<LaunchFailure>,
    /// EC2 will take the machine.
    pub interruption: Option<InterruptionMark>,
    /// Work is being moved off.
    pub moving: Option<MoveMark>,
    /// Pods that run here.
    pub occupants: Vec<Occupant>,
    /// Since when nothing is bound here.
    pub empty_since: Option<Timestamp>,
    /// We asked EC2 to terminate it: when, and by which decision.
    pub terminate_asked: Option<(Timestamp, DecisionId, Trigger)>,
    /// The instance has ended; written down before the books are closed.
    pub ended: Option<Ended>,
}

/// Why a launch failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaunchFailure {
    /// What it means for the pool of capacity.
    pub cause: CoolDownCause,
    /// EC2's code.
    pub code: String,
    /// EC2's sentence.
    pub message: String,
    /// When.
    pub at: Timestamp,
}

/// EC2's code for a launch whose token belongs to an instance that has ended.
pub const TOKEN_ENDED: &str = "IdempotentInstanceTerminated";

impl LaunchFailure {
    /// The launch had given a machine, and that has ended.
    pub fn had_a_machine(&self) -> bool {
        self.code == TOKEN_ENDED
    }
}

/// What a claim buys: immutable, written before any money is spent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimSpec {
    /// Pool whose policy holds.
    pub node_pool: PoolName,
    /// Class that makes the node.
    pub node_class: ClassName,
    /// What to buy.
    pub capacity: CapacityPool,
    /// The price it was bought at.
    pub price_per_hour: MicroUsdPerHour,
    /// On-demand price of the same type and region, where known.
    pub on_demand_per_hour: Option<MicroUsdPerHour>,
    /// GPUs of the machine.
    pub gpus: i64,
    /// The decision.
    pub decision: DecisionId,
    /// What made us.
    pub trigger: Trigger,
    /// Attempt of the token; always 1: a new attempt is a new claim.
    pub attempt: u32,
    /// Frozen launch parameters.
    pub launch_template: String,
    /// Its version.
    pub launch_template_version: String,
    /// The subnet.
    pub subnet: String,
    /// Tags of the instance, without those derived from the claim's uid.
    pub tags: BTreeMap<String, String>,
    /// The pods it was bought for.
    pub bought_for: Vec<PodIdentity>,
    /// How its node shares GPUs: as the class said when it was bought.
    #[serde(default)]
    pub sharing: GpuSharing,
    /// The capacity reservation it is launched into.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reservation: Option<ReservationId>,
    /// The claim whose work it is to take over: bought before that claim is left, so that nothing moves for an offer that is not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub takes_over: Option<ClaimName>,
}

/// One machine of ours, or the intent to have one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Its name.
    pub name: ClaimName,
    /// Its uid.
    pub uid: Uid,
    /// Its resourceVersion: an act decided on this state must not be carried out on a newer one.
    pub version: u64,
    /// When the intent was written.
    pub created_at: Timestamp,
    /// Somebody deleted it; the finalizer holds it until the instance is gone.
    pub deleting: bool,
    /// What it buys.
    pub spec: ClaimSpec,
    /// How far it is.
    pub status: ClaimStatus,
}

/// A node of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its name.
    pub name: NodeName,
    /// The instance it runs on.
    pub instance: InstanceId,
    /// The kubelet says Ready.
    pub ready: bool,
    /// What pods can use of it.
    pub allocatable: Resources,
    /// The claim label is on it.
    pub labelled: bool,
    /// Our NoSchedule taint is on it.
    pub tainted: bool,
}

/// How a pod can be moved.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mobility {
    /// A ReplicaSet of a Deployment with RollingUpdate: the replacement is made first.
    Surge {
        /// The ReplicaSet's uid: replacements carry it too.
        replica_set: Uid,
        /// The Deployment, owner of the orphan.
        deployment: String,
        /// Its uid.
        deployment_uid: Uid,
    },
    /// A Job: let go by its label, the replacement stays gated until the old pod is gone.
    Job {
        /// The Job's name.
        job: String,
        /// Its uid: replacements carry it too.
        job_uid: Uid,
    },
    /// It breaks before it makes, and this is why (StatefulSet, Recreate, ReadWriteOnce volume, hostPort).
    BreakFirst {
        /// For the event.
        because: String,
    },
    /// Nobody remakes it.
    Bare,
}

/// A mark on a pod that was let go by its controller while it still runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LetGo {
    /// The decision to move it.
    pub decision: DecisionId,
    /// The uid of the controller that will remake it.
    pub controller: Uid,
    /// When.
    pub at: Timestamp,
}

/// What a replacement carries of the pod it replaces, so that the move can be told after the old pod and its claim are gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replaces {
    /// The old pod.
    #[serde(flatten)]
    pub pod: PodIdentity,
    /// The claim it leaves.
    pub from_claim: ClaimName,
    /// The decision to move.
    pub decision: DecisionId,
    /// When the cause was seen.
    pub noticed_at: Timestamp,
    /// When the move was decided.
    pub decided_at: Timestamp,
    /// When EC2 takes the old machine.
    pub deadline: Option<Timestamp>,
    /// The region it leaves: its data may have to follow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_region: Option<Region>,
}

/// Where a pod is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PodPhase {
    /// Our gate is the only one left.
    Gated,
    /// Others' gates hold it as well: not ours to place yet.
    GatedByOthers,
    /// The scheduler or the kubelet has it.
    Pending,
    /// Running.
    Running,
    /// Ended well.
    Succeeded,
    /// Ended badly.
    Failed,
}

/// A pod that carries our annotation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    /// Where, what, and which.
    pub identity: PodIdentity,
    /// For patches that must not win over a newer state.
    pub resource_version: String,
    /// When it was created.
    pub created_at: Timestamp,
    /// Whose work it is.
    pub workload: Workload,
    /// How it can be moved.
    pub mobility: Mobility,
    /// What it needs, or why that cannot be read.
    pub need: Result<(Need, Schedule), Vec<String>>,
    /// Who pays.
    pub attribution: Attribution,
    /// Where it is in its life.
    pub phase: PodPhase,
    /// When its containers began to run, as the kubelet says.
    pub started_at: Option<Timestamp>,
    /// Ready, and since when.
    pub ready_since: Option<Timestamp>,
    /// Deletion was asked: by when it is over.
    pub deleting_until: Option<Timestamp>,
    /// `terminationGracePeriodSeconds`.
    pub termination_grace: Millis,
    /// The claim it is bound to.
    pub claim: Option<ClaimName>,
    /// The decision that bound it.
    pub placed_by: Option<DecisionId>,
    /// What one replica would have cost otherwise, frozen when it was bound.
    pub baseline: Baseline,
    /// How often it was bound before: makes claim names.
    pub attempt: u64,
    /// The node it runs on.
    pub node: Option<NodeName>,
    /// The pod it replaces.
    pub replaces: Option<Replaces>,
    /// It was let go by its controller and runs on until its replacement is there.
    pub let_go: Option<LetGo>,
    /// EndpointSlices' services that list it at all.
    pub services: BTreeSet<String>,
    /// ... and those that list it as ready.
    pub ready_in: BTreeSet<String>,
}

/// What is known about the instances of a region.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Observed<T> {
    /// Never looked, or the last look failed.
    #[default]
    Unknown,
    /// As of then.
    Known {
        /// When the look began.
        at: Timestamp,
        /// What was seen.
        value: T,
    },
}

/// A notice that has arrived and is not acknowledged yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingNotice {
    /// What it says.
    pub notice: crate::engine::ports::Notice,
    /// When we received it.
    pub received_at: Timestamp,
    /// The queue, for acknowledging; `None` when it came from the agent.
    pub queue: Option<String>,
    /// The receipt.
    pub receipt: String,
}

/// Something a pass must leave alone, because an action on it runs or has not been observed yet.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// A pod, by uid.
    Pod(Uid),
    /// A claim.
    Claim(ClaimName),
    /// A class.
    Class(ClassName),
    /// A pool.
    Pool(PoolName),
    /// An instance that nobody claims.
    Instance(InstanceId),
    /// A message.
    Message(String),
    /// A node.
    Node(NodeName),
}

/// Everything a pass may look at.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Snapshot {
    /// The cluster's name.
    pub cluster: String,
    /// Node pools.
    pub pools: Shared<BTreeMap<PoolName, NodePool>>,
    /// Node classes.
    pub classes: Shared<BTreeMap<ClassName, NodeClass>>,
    /// Pods that carry our annotation, by uid.
    pub pods: Shared<BTreeMap<Uid, Pod>>,
    /// Replicas that each Deployment (by uid) wants now.
    pub replicas_wanted: Shared<BTreeMap<Uid, i64>>,
    /// Nodes of ours, by name.
    pub nodes: Shared<BTreeMap<NodeName, Node>>,
    /// Claims, by name.
    pub claims: Shared<BTreeMap<ClaimName, Claim>>,
    /// Instances tagged as ours, per region.
    pub instances: Shared<BTreeMap<Region, Observed<BTreeMap<InstanceId, Instance>>>>,
    /// Offers and cool-downs, with what was learnt of each pool worked in.
    pub market: Shared<Market>,
    /// What was learnt of each pool of capacity.
    pub memory: Shared<MarketMemory>,
    /// vCPU quotas by region, where they could be read.
    pub quotas: Shared<BTreeMap<Region, Vec<VcpuQuota>>>,
    /// Capacity reservations by region, where a class names some.
    pub reservations: Shared<BTreeMap<Region, SeenReservations>>,
    /// Regions that this account may not use, and EC2's sentence.
    pub closed_regions: Shared<BTreeMap<Region, String>>,
    /// Daemonsets of the cluster.
    pub daemonsets: Shared<Vec<DaemonSet>>,
    /// Machine types.
    pub catalog: Shared<Catalog>,
    /// The launch template each class wants now.
    pub templates: Shared<BTreeMap<ClassName, LaunchTemplate>>,
    /// The status each pool shows now.
    pub pool_statuses: Shared<BTreeMap<PoolName, PoolStatus>>,
    /// Notices not acknowledged yet.
    pub notices: Vec<PendingNotice>,
    /// What actions run on.
    pub in_flight: BTreeSet<Lane>,
    /// Claims that are being removed or whose machines are being ended right now: nothing new goes there.
    pub ending: BTreeSet<ClaimName>,
    /// Ids of ledger records and events that were already written: not written again.
    pub recorded: Shared<crate::engine::state::Recorded>,
    /// How many instance-hours of each claim (by uid) have been told to the ledger, as far as remembered.
    pub hours_told: Shared<BTreeMap<Uid, u32>>,
    /// Every region that a class names has been priced once, or has had its time to answer: before that nothing is bought for new pods.
    pub market_surveyed: bool,
    /// Postgres takes records. Voluntary moves wait while it does not.
    pub ledger_available: bool,
    /// When each pool's recent launches were asked, for launches per minute.
    pub recent_launches: BTreeMap<PoolName, Vec<Timestamp>>,
    /// When it was last thought about leaving machines for cheaper ones.
    pub moves_considered_at: Option<Timestamp>,
}

impl Pod {
    /// It will not use its GPUs any more.
    pub fn finished(&self) -> bool {
        matches!(self.phase, PodPhase::Succeeded | PodPhase::Failed)
    }
    /// It holds a place on a claim.
    pub fn holds(&self, claim: &ClaimName) -> bool {
        !self.finished() && self.claim.as_ref() == Some(claim)
    }
    /// Namespace and name.
    pub fn object(&self) -> &ObjectRef {
        &self.identity.object
    }
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
    /// New work may be put here: not failed, not doomed, not on its way out.
    pub fn takes_work(&self) -> bool {
        let s = &self.status;
        !self.deleting && s.failure.is_none() && s.terminate_asked.is_none() && s.moving.is_none() && !self.interrupted()
    }
    /// It has a machine or is about to have one: it counts against limits.
    pub fn may_run(&self) -> bool {
        self.status.failure.is_none() && self.status.ended.is_none()
    }
    /// The watch has shown it; before that, it counts against limits alone.
    pub fn is_observed(&self) -> bool {
        self.version > 0
    }
    /// EC2 said it will take the machine (a rebalance recommendation does not say that).
    pub fn interrupted(&self) -> bool {
        self.status.interruption.as_ref().is_some_and(|i| i.kind == NoticeKind::Interruption)
    }
}
