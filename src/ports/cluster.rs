//! The Kubernetes cluster: what is observed, what can be done, and the outbox.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;

use crate::core::fleet::{ClaimsNow, LaunchTemplate, UnreadableClaim};
use crate::core::record::LedgerRecord;
use crate::core::units::ids::{ClaimName, ClassName, Uid};
use crate::core::units::shared::Shared;
use crate::core::units::time::Millis;

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
    /// The API server would not take a replacement of the pod now; what it said.
    #[error("no replacement would be admitted: {0}")]
    ReplacementRefused(String),
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
    pub lane: crate::core::snapshot::Lane,
    /// Its resourceVersion now; `None` when it is gone or makes no difference.
    pub resource_version: Option<u64>,
}

/// The cluster's part of a snapshot.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClusterView {
    /// Node pools.
    pub pools: Shared<BTreeMap<crate::core::units::ids::PoolName, crate::core::fleet::NodePool>>,
    /// Node classes.
    pub classes: Shared<BTreeMap<ClassName, crate::core::fleet::NodeClass>>,
    /// Template of each class, for [`Cloud::ensure_launch_template`].
    pub templates: Shared<BTreeMap<ClassName, LaunchTemplate>>,
    /// Pods that carry our annotation.
    pub pods: Shared<BTreeMap<Uid, crate::core::workload::Pod>>,
    /// Replicas that each Deployment (by uid) wants now.
    pub replicas_wanted: Shared<BTreeMap<Uid, i64>>,
    /// Nodes with an instance id of ours.
    pub nodes: Shared<BTreeMap<crate::core::units::ids::NodeName, crate::core::fleet::Node>>,
    /// Claims.
    pub claims: Shared<BTreeMap<ClaimName, crate::core::fleet::Claim>>,
    /// Claims that are there and cannot be read.
    pub unreadable_claims: Shared<BTreeMap<ClaimName, UnreadableClaim>>,
    /// Node pools that are there and cannot be read.
    pub unreadable_pools: Shared<BTreeSet<crate::core::units::ids::PoolName>>,
    /// By which definition (CRD) they are defined. Read again after every pool that goes and before that is shown, so that a pool which goes with its
    /// definition is never seen without this.
    pub pools_defined: crate::core::fleet::PoolsDefined,
    /// Daemonsets: what they take of our nodes.
    pub daemonsets: Shared<Vec<crate::core::workload::daemonsets::DaemonSet>>,
    /// The status each pool has now, to write it only when it differs.
    pub pool_statuses: Shared<BTreeMap<crate::core::units::ids::PoolName, crate::core::fleet::PoolStatus>>,
    /// The resourceVersion each lane was observed at.
    pub versions: Shared<BTreeMap<crate::core::snapshot::Lane, u64>>,
}

/// The Kubernetes cluster: what is observed, what can be done, and the outbox.
pub trait Cluster: Send + Sync + 'static {
    /// The cluster's UID, that of its namespace `kube-system`: read once, before anything is done.
    fn uid(&self) -> String;
    /// How far the API server's clock is ahead of ours, where an answer said its time.
    fn ahead(&self) -> Option<Millis> {
        None
    }
    /// Every claim as the API server says now: a quorum read, not the watch's memory.
    fn claims_now(&self) -> impl Future<Output = Result<ClaimsNow, ClusterError>> + Send;
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
    /// Puts the oldest waiting records together, where more than `above` wait one by one, so that a long outage of the ledger takes little room;
    /// returns how many. Nothing is lost: they are given out as before.
    fn pack_outbox(&self, above: usize) -> impl Future<Output = Result<usize, ClusterError>> + Send {
        let _ = above;
        async { Ok(0) }
    }
    /// The market memory as it was last kept ([`crate::core::snapshot::memory`]); `None` when none was.
    fn market_memory(&self) -> impl Future<Output = Result<Option<String>, ClusterError>> + Send;
    /// Keeps the market memory over a restart.
    fn keep_market_memory(&self, text: &str) -> impl Future<Output = Result<(), ClusterError>> + Send;
    /// Forgets records that the ledger has.
    fn forget(&self, records: &[uuid::Uuid]) -> impl Future<Output = Result<(), ClusterError>> + Send;
}
