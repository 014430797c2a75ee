//! A decision and everything that proves it: what was asked, what was chosen, what it beat, what it would have cost otherwise.
//!
//! Decides: the closed lists of triggers, outcomes and refusal reasons.
//! Does not: take decisions (see `plan`), or store them (see the `kube` outbox and the `ledger`).

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

use super::ids::{ClaimName, DecisionId, InstanceId, ObjectRef, PoolName, Uid};
use super::market::{CapacityPool, PriceSource};
use super::money::MicroUsdPerHour;
use super::need::{Need, WorkloadKind};
use super::time::{Millis, Timestamp};

/// Why an offer was refused: exactly one per offer, the first that holds in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Refusal {
    /// The owner's or the pool's regions leave it out.
    Region,
    /// The pod's zones leave it out.
    Zone,
    /// No node class makes nodes in that zone.
    NoNodeClass,
    /// The owner's or the pool's GPU models or instance types leave it out.
    GpuModel,
    /// Architecture differs.
    Architecture,
    /// The machine has too few GPUs.
    GpuCount,
    /// Each GPU has too little memory.
    GpuMemory,
    /// Too little CPU is allocatable.
    Cpu,
    /// Too little memory is allocatable.
    Memory,
    /// Spot only or on-demand only.
    CapacityType,
    /// The pool of capacity is cooling down after a refusal or an interruption.
    CoolingDown,
    /// The account's quota cannot hold it.
    Quota,
    /// The capacity reservation has no machine left.
    ReservationFull,
    /// The price is too old to buy on.
    StalePrice,
    /// Above the owner's cap per GPU-hour.
    OwnerPriceCap,
    /// Above the pool's cap per GPU-hour.
    PoolPriceCap,
    /// The pool's limits on nodes, GPUs or launches per minute are reached.
    PoolLimit,
    /// The pool's monthly budget would be broken.
    Budget,
    /// At most a share of replicas may stand in one pool of capacity.
    Diversity,
    /// The deadline leaves time to wait for something cheaper or asks for something safer, or the replicas of a service are to be spread.
    NotForDeadline,
    /// It fits, but another costs less.
    Dearer,
}

/// The word by which JSON and the ledger name a reason or a source of prices, as `dearer`; empty for what is not one word there.
pub fn code_of(named: &impl Serialize) -> String {
    serde_json::to_value(named).ok().and_then(|value| value.as_str().map(String::from)).unwrap_or_default()
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Refusal::Region => "region not allowed",
            Refusal::Zone => "zone not allowed",
            Refusal::NoNodeClass => "no node class for its zone",
            Refusal::GpuModel => "GPU model or type not allowed",
            Refusal::Architecture => "other architecture",
            Refusal::GpuCount => "too few GPUs",
            Refusal::GpuMemory => "too little GPU memory",
            Refusal::Cpu => "too little CPU",
            Refusal::Memory => "too little memory",
            Refusal::CapacityType => "capacity type not allowed",
            Refusal::CoolingDown => "cooling down after a refusal",
            Refusal::Quota => "vCPU quota cannot hold it",
            Refusal::ReservationFull => "reservation in full use",
            Refusal::StalePrice => "price too old",
            Refusal::OwnerPriceCap => "above the owner's price cap",
            Refusal::PoolPriceCap => "above the pool's price cap",
            Refusal::PoolLimit => "pool limit reached",
            Refusal::Budget => "pool budget used up",
            Refusal::Diversity => "too many replicas in one pool of capacity",
            Refusal::NotForDeadline => "not what its deadline or its spread asks for",
            Refusal::Dearer => "dearer",
        })
    }
}

/// What made lowtide decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Trigger {
    /// A gated pod waits.
    PendingPod,
    /// EC2 will take the machine back.
    InterruptionNotice,
    /// EC2 says the machine is at risk.
    RebalanceRecommendation,
    /// A launch was refused; another offer is tried.
    LaunchRefused,
    /// The capacity reservation it runs in ends.
    ReservationEnding,
    /// Spot beats the on-demand it runs on, beyond hysteresis.
    ReturnToSpot,
    /// A cheaper offer beats the one it runs on, beyond hysteresis.
    CheaperOffer,
    /// The node has no work left.
    Empty,
    /// The machine never joined.
    NeverJoined,
    /// The machine joined without its GPUs.
    NoGpus,
    /// The machine is gone without a notice.
    InstanceLost,
    /// The node is older than its pool allows.
    Expired,
    /// The pool or claim was deleted.
    Deleted,
    /// An instance of ours that nobody claims.
    Unclaimed,
}

/// What was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Buy a machine.
    Launch,
    /// Use room on a machine we have.
    UseRoom,
    /// No offer can meet the need.
    Refuse,
    /// Move the work off a machine.
    Migrate,
    /// End a machine.
    Terminate,
}

/// A rate that would have been paid otherwise, and what it is the rate of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CounterfactualRate {
    /// What would have been bought.
    pub pool: CapacityPool,
    /// Its price for the machine.
    pub price_per_hour: MicroUsdPerHour,
    /// How many of this need fit on it, so that a rate per replica can be had.
    pub replicas: i64,
}

/// What it would have cost otherwise, frozen when decided. `None` is unknown, never a guess.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counterfactuals {
    /// B0: on-demand of the same type in the same region.
    pub b0_on_demand_same: Option<CounterfactualRate>,
    /// B1: the cheapest on-demand that meets the need in the home region. The headline.
    pub b1_on_demand_home: Option<CounterfactualRate>,
    /// B2: the cheapest spot that meets the need in the home region.
    pub b2_spot_home: Option<CounterfactualRate>,
}

/// What one replica would have cost per hour otherwise, frozen when its pod was placed and carried by the pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct Baseline {
    /// B1: cheapest on-demand at home.
    pub b1_per_replica_hour: Option<MicroUsdPerHour>,
    /// B2: cheapest spot at home.
    pub b2_per_replica_hour: Option<MicroUsdPerHour>,
}

impl Counterfactuals {
    /// The rates of one replica.
    pub fn per_replica(&self) -> Baseline {
        let share = |rate: &Option<CounterfactualRate>| {
            rate.as_ref().filter(|r| r.replicas > 0).map(|r| MicroUsdPerHour(r.price_per_hour.0 / r.replicas))
        };
        Baseline { b1_per_replica_hour: share(&self.b1_on_demand_home), b2_per_replica_hour: share(&self.b2_spot_home) }
    }
}

/// An offer as it stood when it was judged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JudgedOffer {
    /// What was offered.
    pub pool: CapacityPool,
    /// Its price for the machine.
    pub price_per_hour: MicroUsdPerHour,
    /// What one replica costs on it, with expected interruption and egress; `None` when none fits.
    pub cost_per_replica_hour: Option<MicroUsdPerHour>,
    /// How many replicas of this need fit.
    pub replicas: i64,
    /// Age of the price.
    pub price_age: Millis,
    /// Who said the price.
    pub source: PriceSource,
    /// Expected interruptions per million instance-hours.
    #[serde(default)]
    pub interruptions_per_million_hours: i64,
    /// EC2's spot placement score, 1 to 10, where one was known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placement_score: Option<u8>,
    /// Why not this one; `None` for the chosen offer.
    pub refusal: Option<Refusal>,
}

/// All offers judged for one need.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Judgement {
    /// The offer taken.
    pub chosen: Option<JudgedOffer>,
    /// The best refused offers, cheapest first: at most 20.
    pub best_refused: Vec<JudgedOffer>,
    /// How many offers each reason refused.
    pub refused: BTreeMap<Refusal, u32>,
    /// SHA-256 over all judged offers in order, in hex.
    pub offers_hash: String,
}

/// Who owns the work and who pays.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct Attribution {
    /// Label `team`.
    pub team: Option<String>,
    /// Label `service`.
    pub service: Option<String>,
    /// Label `environment`.
    pub environment: Option<String>,
    /// Label `cost-center`.
    pub cost_center: Option<String>,
    /// Label `product-area`.
    pub product_area: Option<String>,
    /// What kind of spend it is: label `component`, else `training` for batch and `inference` for serving work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub component: Option<String>,
}

impl Attribution {
    /// The same, with the component of `kind` where no label says one.
    pub fn or_component_of(self, kind: WorkloadKind) -> Self {
        let of_kind = match kind {
            WorkloadKind::Inference => "inference",
            WorkloadKind::Batch => "training",
        };
        Attribution { component: self.component.or_else(|| Some(of_kind.to_owned())), ..self }
    }
}

/// The workload a pod belongs to: its topmost controller that we know (Deployment, StatefulSet, Job), or the pod itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Workload {
    /// `Deployment`, `StatefulSet`, `Job`, `ReplicaSet`, `Pod`.
    pub kind: String,
    /// Where and what.
    #[serde(flatten)]
    pub object: ObjectRef,
}

/// A pod as a decision names it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PodIdentity {
    /// Where and what.
    #[serde(flatten)]
    pub object: ObjectRef,
    /// Its uid.
    pub uid: Uid,
}

/// One decision, complete: what cannot be recorded is not executed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// Derived, so writing twice is harmless.
    pub id: DecisionId,
    /// The cluster's name.
    pub cluster: String,
    /// When it was taken.
    pub decided_at: Timestamp,
    /// What made lowtide decide.
    pub trigger: Trigger,
    /// What was decided.
    pub outcome: Outcome,
    /// One sentence for people.
    pub text: String,
    /// The node pool whose policy held.
    pub node_pool: Option<PoolName>,
    /// Whose work it is; `None` for a machine without work.
    pub workload: Option<Workload>,
    /// Who pays.
    pub attribution: Attribution,
    /// The pods it is about.
    pub pods: Vec<PodIdentity>,
    /// What they need.
    pub need: Option<Need>,
    /// The offers judged.
    pub judgement: Judgement,
    /// What it would have cost otherwise.
    pub counterfactuals: Counterfactuals,
    /// The claim bought, used or ended.
    pub claim: Option<ClaimName>,
    /// The claim the work leaves.
    pub from_claim: Option<ClaimName>,
    /// The instance, where there is one.
    pub instance: Option<InstanceId>,
    /// SHA-256 of the policy, in hex.
    pub policy_hash: String,
    /// lowtide's version.
    pub code_version: String,
}
