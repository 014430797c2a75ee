//! The four ports between the core and a world: `Cloud`, `Cluster`, `Ledger`, `Clock`.
//!
//! Decides: what a world must be able to do, and how it says that it could not.
//! Does not: do any of it. Live adapters are `aws`, `kube` and `ledger`; simulated ones implement the same traits.

use std::collections::BTreeMap;
use std::future::Future;

use crate::core::ids::{ClaimName, ClassName, InstanceId, InstanceType, Region, ReservationId, Uid, ZoneId};
use crate::core::market::{CapacityPool, CapacityType, PriceSource};
use crate::core::money::MicroUsdPerHour;
use crate::core::placement_scores::{PlacementScore, ScoreQuestion};
use crate::core::quota::VcpuQuota;
use crate::core::record::LedgerRecord;
use crate::core::reservation::CapacityReservation;
use crate::core::shared::Shared;
use crate::core::time::Timestamp;

/// The one clock.
pub trait Clock: Send + Sync {
    /// The time now.
    fn now(&self) -> Timestamp;
}

/// What EC2 answered to a call that failed, sorted by what we do next.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CloudError {
    /// `InsufficientInstanceCapacity`, `UnfulfillableCapacity` and their kin: cool the pool down, take the next offer.
    #[error("no capacity: {message} ({code})")]
    NoCapacity {
        /// EC2's code.
        code: String,
        /// EC2's sentence.
        message: String,
    },
    /// `MaxSpotInstanceCountExceeded`, `VcpuLimitExceeded`: the quota of a region and family is used up.
    #[error("quota used up: {message} ({code})")]
    Quota {
        /// EC2's code.
        code: String,
        /// EC2's sentence.
        message: String,
    },
    /// `RequestLimitExceeded`: wait and ask again; the answer may still have been carried out.
    #[error("throttled: {message} ({code})")]
    Throttled {
        /// EC2's code.
        code: String,
        /// EC2's sentence.
        message: String,
    },
    /// `IdempotentParameterMismatch`: an instance for this token exists; find it by tag.
    #[error("the token was used with other parameters: {message}")]
    TokenUsed {
        /// EC2's sentence.
        message: String,
    },
    /// `IdempotentInstanceTerminated`: the instance of this token is gone; the attempt is over.
    #[error("the instance of this token has ended: {message}")]
    TokenEnded {
        /// EC2's sentence.
        message: String,
    },
    /// Permission, unknown subnet, unsupported type: asking again will not help until somebody changes something.
    #[error("refused: {message} ({code}); change the node class, the role or the account")]
    Refused {
        /// EC2's code.
        code: String,
        /// EC2's sentence.
        message: String,
    },
    /// No answer, or one we could not read: the call may or may not have been carried out.
    #[error("no usable answer: {message}; it may have been carried out")]
    Unknown {
        /// What happened.
        message: String,
    },
}

impl CloudError {
    /// EC2's sentence when it says that this account may not use the region at all: an opt-in region that is off, or one that a policy
    /// denies. Asking again soon is of no use.
    ///
    /// Source: EC2 API reference, error codes. A region that is not enabled answers `AuthFailure` or `OptInRequired`.
    pub fn closes_region(&self) -> Option<&str> {
        match self {
            CloudError::Refused { code, message } if CLOSED.contains(&code.as_str()) => Some(message),
            _ => None,
        }
    }

    /// EC2 takes no new question about placement scores today.
    pub fn ends_new_questions(&self) -> bool {
        matches!(self, CloudError::Refused { code, .. } if code == "MaxConfigLimitExceeded")
    }
}

/// Codes by which a region is closed to an account.
const CLOSED: [&str; 4] = ["OptInRequired", "AuthFailure", "UnauthorizedOperation", "UnrecognizedClientException"];

/// One launch, frozen in the claim before any money is spent. The same launch gives the same instance.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Launch {
    /// The claim.
    pub claim: ClaimName,
    /// The claim's uid: the instance carries it as a tag.
    pub claim_uid: Uid,
    /// What to buy.
    pub pool: CapacityPool,
    /// EC2's idempotency token.
    pub client_token: String,
    /// Launch template name, made once per node class hash.
    pub launch_template: String,
    /// Its version.
    pub launch_template_version: String,
    /// The subnet in the zone.
    pub subnet: String,
    /// The capacity reservation to launch into; without one, EC2's open capacity.
    pub reservation: Option<ReservationId>,
    /// All tags of the instance; keys carry no `/`.
    pub tags: BTreeMap<String, String>,
}

/// What a launch template is made of; its name is a hash of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaunchTemplate {
    /// The region.
    pub region: Region,
    /// The class it serves, for the tag.
    pub class: ClassName,
    /// Name: `lowtide-<hash>`.
    pub name: String,
    /// AMI.
    pub image: String,
    /// Security groups.
    pub security_groups: Vec<String>,
    /// Instance profile name.
    pub instance_profile: Option<String>,
    /// User data, plain text; nothing in it differs between claims.
    pub user_data: String,
    /// EC2's idempotency token.
    pub client_token: String,
}

/// A state of an EC2 instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InstanceState {
    /// Not paid for yet.
    Pending,
    /// Paid for.
    Running,
    /// On its way out.
    ShuttingDown,
    /// Gone.
    Terminated,
}

/// An instance of ours as EC2 describes it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Instance {
    /// Its id.
    pub id: InstanceId,
    /// What it is.
    pub pool: CapacityPool,
    /// Its state.
    pub state: InstanceState,
    /// EC2's launch time.
    pub launched_at: Timestamp,
    /// When it ended, where EC2 says.
    pub ended_at: Option<Timestamp>,
    /// `StateReason.Code`, as in `Server.SpotInstanceTermination`.
    pub state_reason: Option<String>,
    /// EC2 has decided to take it back, as its spot request says (`instance-terminated-no-capacity` and kin), and when it said so.
    pub spot_request_status: Option<(String, Timestamp)>,
    /// Its tags.
    pub tags: Shared<BTreeMap<String, String>>,
}

/// Tag keys of an instance. Keys carry no `/`, so that they can be read from instance metadata.
pub mod tags {
    /// Cluster name: what is ours.
    pub const CLUSTER: &str = "lowtide-cluster";
    /// Claim name.
    pub const CLAIM: &str = "lowtide-claim";
    /// Claim uid: what the token was made of.
    pub const CLAIM_UID: &str = "lowtide-claim-uid";
    /// Decision id.
    pub const DECISION: &str = "lowtide-decision";
    /// Node pool name.
    pub const POOL: &str = "lowtide-pool";
}

/// One price as a price source gave it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quote {
    /// The region.
    pub region: Region,
    /// The zone id; `None` when the price holds in the whole region (on-demand).
    pub zone: Option<ZoneId>,
    /// The type.
    pub instance_type: InstanceType,
    /// Spot or on-demand.
    pub capacity_type: CapacityType,
    /// The price of the machine.
    pub price_per_hour: MicroUsdPerHour,
    /// Since when EC2 says it holds.
    pub effective_from: Timestamp,
    /// Who said so.
    pub source: PriceSource,
}

/// What kind of interruption message came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NoticeKind {
    /// Two minutes are left.
    Interruption,
    /// At risk.
    Rebalance,
    /// EC2 says the instance has this state now.
    StateChange(InstanceState),
}

/// An interruption message about one instance.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Notice {
    /// The instance, ours or not.
    pub instance: InstanceId,
    /// Where.
    pub region: Region,
    /// What.
    pub kind: NoticeKind,
    /// When EC2 sent it (EventBridge `time`).
    pub sent_at: Timestamp,
}

/// A message from the interruption queue: to be acknowledged once its effect is durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueMessage {
    /// The queue's handle for deleting it.
    pub receipt: String,
    /// What it says; the text and the fault when it could not be read.
    pub content: Result<Notice, MalformedMessage>,
}

/// A message that is not one of the EventBridge events we know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a message on the interruption queue could not be read ({fault}): {text:.200}")]
pub struct MalformedMessage {
    /// What was wrong with it.
    pub fault: String,
    /// The message.
    pub text: String,
}

/// The market and the machines of one cloud. Every call names its region, and may be slow or fail.
pub trait Cloud: Send + Sync + 'static {
    /// Spot prices of `types` in `region`: per pool that has one the price that held at `since`, and every change after it. EC2 keeps 90 days.
    fn spot_quotes(
        &self,
        region: &Region,
        types: &[InstanceType],
        since: Timestamp,
    ) -> impl Future<Output = Result<Vec<Quote>, CloudError>> + Send;
    /// On-demand prices of `types` in `region`.
    fn on_demand_quotes(&self, region: &Region, types: &[InstanceType]) -> impl Future<Output = Result<Vec<Quote>, CloudError>> + Send;
    /// Which of `types` are sold in which zones of `region` (zone ids).
    fn offerings(&self, region: &Region) -> impl Future<Output = Result<Vec<(InstanceType, ZoneId)>, CloudError>> + Send;
    /// vCPU quotas of the families that GPU types count in, spot and on-demand.
    fn vcpu_quotas(&self, region: &Region) -> impl Future<Output = Result<Vec<VcpuQuota>, CloudError>> + Send;
    /// The ten best places for a spot request, as the endpoint of `asked_in` says; see [`crate::core::placement_scores`] for what to ask.
    fn placement_scores(
        &self,
        asked_in: &Region,
        question: &ScoreQuestion,
    ) -> impl Future<Output = Result<Vec<PlacementScore>, CloudError>> + Send;
    /// These capacity reservations of `region`; one that does not exist is left out.
    fn capacity_reservations(
        &self,
        region: &Region,
        ids: &[ReservationId],
    ) -> impl Future<Output = Result<Vec<CapacityReservation>, CloudError>> + Send;
    /// NVIDIA machine types that `region` knows.
    fn machine_types(&self, region: &Region) -> impl Future<Output = Result<Vec<crate::core::catalog::MachineType>, CloudError>> + Send;
    /// The zone id of each of these subnets; an unknown subnet is `Refused` and named.
    fn subnet_zones(
        &self,
        region: &Region,
        subnets: &[String],
    ) -> impl Future<Output = Result<BTreeMap<String, ZoneId>, CloudError>> + Send;
    /// Makes sure that a launch template of this name exists; gives its version.
    fn ensure_launch_template(&self, template: &LaunchTemplate) -> impl Future<Output = Result<String, CloudError>> + Send;
    /// Buys one machine with the claim's token: CreateFleet `instant` with one override; RunInstances for one that goes into a reservation.
    fn launch(&self, launch: &Launch) -> impl Future<Output = Result<InstanceId, CloudError>> + Send;
    /// All instances tagged with this cluster in `region`, ended ones as long as EC2 shows them, with the status of their spot requests.
    fn instances(&self, region: &Region, cluster: &str) -> impl Future<Output = Result<Vec<Instance>, CloudError>> + Send;
    /// Ends an instance. Ending one that has ended is harmless.
    fn terminate(&self, region: &Region, instance: &InstanceId) -> impl Future<Output = Result<(), CloudError>> + Send;
    /// Waits (at most 20 s) for messages on the interruption queue of `region`.
    fn receive_notices(&self, region: &Region, queue: &str) -> impl Future<Output = Result<Vec<QueueMessage>, CloudError>> + Send;
    /// Deletes a message whose effect is durable.
    fn acknowledge(&self, region: &Region, queue: &str, receipt: &str) -> impl Future<Output = Result<(), CloudError>> + Send;
}

/// The ledger could not take records now; they stay in the outbox.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the ledger did not take the records: {message}; they wait in the outbox")]
pub struct LedgerUnavailable {
    /// What Postgres or the network said.
    pub message: String,
}

/// Where decisions and facts end up.
pub trait Ledger: Send + Sync + 'static {
    /// Writes records; writing one twice is harmless. All or none.
    fn write(&self, records: &[LedgerRecord]) -> impl Future<Output = Result<(), LedgerUnavailable>> + Send;
    /// Writes prices as they were seen; writing one twice is harmless. All or none.
    fn write_prices(&self, quotes: &[Quote]) -> impl Future<Output = Result<(), LedgerUnavailable>> + Send;
}

/// The cluster refused or could not be reached.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClusterError {
    /// Somebody changed the object since it was observed, or made it first: decide again.
    #[error("the object changed meanwhile: {0}")]
    Conflict(String),
    /// The object is gone.
    #[error("the object is gone: {0}")]
    Gone(String),
    /// A PodDisruptionBudget holds the pod; ask again.
    #[error("a disruption budget holds the pod: {0}")]
    HeldByBudget(String),
    /// The API server refused for good (permission, validation).
    #[error("the API server refused: {0}")]
    Refused(String),
    /// No usable answer.
    #[error("the API server could not be reached: {0}")]
    Unreachable(String),
}

/// What an applied action changed: the object must be observed at least at this version before it is planned on again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// What it changed.
    pub lane: crate::core::world::Lane,
    /// Its resourceVersion now; `None` when it is gone or makes no difference.
    pub resource_version: Option<u64>,
}

/// The cluster's part of a snapshot.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClusterView {
    /// Node pools.
    pub pools: Shared<BTreeMap<crate::core::ids::PoolName, crate::core::world::NodePool>>,
    /// Node classes.
    pub classes: Shared<BTreeMap<ClassName, crate::core::world::NodeClass>>,
    /// Template of each class, for [`Cloud::ensure_launch_template`].
    pub templates: Shared<BTreeMap<ClassName, LaunchTemplate>>,
    /// Pods that carry our annotation.
    pub pods: Shared<BTreeMap<Uid, crate::core::world::Pod>>,
    /// Replicas that each Deployment (by uid) wants now.
    pub replicas_wanted: Shared<BTreeMap<Uid, i64>>,
    /// Nodes with an instance id of ours.
    pub nodes: Shared<BTreeMap<crate::core::ids::NodeName, crate::core::world::Node>>,
    /// Claims.
    pub claims: Shared<BTreeMap<ClaimName, crate::core::world::Claim>>,
    /// Daemonsets: what they take of our nodes.
    pub daemonsets: Shared<Vec<crate::core::daemonsets::DaemonSet>>,
    /// The status each pool has now, to write it only when it differs.
    pub pool_statuses: Shared<BTreeMap<crate::core::ids::PoolName, crate::core::action::PoolStatus>>,
    /// The resourceVersion each lane was observed at.
    pub versions: Shared<BTreeMap<crate::core::world::Lane, u64>>,
}

/// The Kubernetes cluster: what is observed, what can be done, and the outbox.
pub trait Cluster: Send + Sync + 'static {
    /// What the watches hold now; `None` until every watch has listed once.
    fn view(&self) -> Option<ClusterView>;
    /// Waits until something changed since the last call.
    fn changed(&self) -> impl Future<Output = ()> + Send;
    /// Carries out one action.
    fn apply(&self, action: &crate::core::action::ClusterAction) -> impl Future<Output = Result<Applied, ClusterError>> + Send;
    /// Makes records durable in the outbox. One that is there already is fine.
    fn record(&self, records: &[LedgerRecord]) -> impl Future<Output = Result<(), ClusterError>> + Send;
    /// The records that wait, oldest first, at most `limit`.
    fn outbox(&self, limit: usize) -> impl Future<Output = Result<Vec<LedgerRecord>, ClusterError>> + Send;
    /// How many records wait. Where counting is cheaper than reading them all, the adapter says how.
    fn outbox_size(&self) -> impl Future<Output = Result<usize, ClusterError>> + Send {
        async { Ok(self.outbox(usize::MAX).await?.len()) }
    }
    /// The market memory as it was last kept ([`crate::core::market_memory`]); `None` when none was.
    fn market_memory(&self) -> impl Future<Output = Result<Option<String>, ClusterError>> + Send;
    /// Keeps the market memory over a restart.
    fn keep_market_memory(&self, text: &str) -> impl Future<Output = Result<(), ClusterError>> + Send;
    /// Forgets records that the ledger has.
    fn forget(&self, records: &[uuid::Uuid]) -> impl Future<Output = Result<(), ClusterError>> + Send;
}
