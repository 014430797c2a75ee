//! The snapshot: everything a pass may look at, as plain data.
//!
//! Decides: nothing. Adapters fill it, [`super::plan`] reads it.
//!
//! - [`first_sights`]: since when this leader has seen what it does not wait for without end.
//! - [`memory`]: what lowtide has learnt of each capacity and each service.
//! - `held`: what holds of a pod's marks.

pub mod first_sights;
mod held;
pub mod memory;

use std::collections::{BTreeMap, BTreeSet};

use self::first_sights::FirstSights;
pub use self::held::Held;
use self::memory::MarketMemory;
use crate::core::fleet::{
    Bound, Claim, Doubt, Instance, LaunchTemplate, Node, NodeClass, NodePool, PoolStatus, PoolsDefined, ScheduledEvent, UnreadableClaim,
};
use crate::core::market::Market;
use crate::core::market::catalog::Catalog;
use crate::core::market::quota::VcpuQuota;
use crate::core::market::reservation::SeenReservations;
use crate::core::market::scores::ScoreBoard;
use crate::core::record::Reported;
use crate::core::units::ids::{ClaimName, ClassName, InstanceId, NodeName, PoolName, Region, Uid};
use crate::core::units::shared::Shared;
use crate::core::units::time::{Millis, Timestamp};
use crate::core::workload::Pod;
use crate::core::workload::daemonsets::DaemonSet;

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
        /// What was seen; the same value as long as every look sees the same.
        value: Shared<T>,
    },
}

/// Every instance that was seen at the last look, in every region.
pub fn seen(instances: &BTreeMap<Region, Observed<BTreeMap<InstanceId, Instance>>>) -> impl Iterator<Item = &Instance> {
    let looked = instances.values().filter_map(|o| if let Observed::Known { value, .. } = o { Some(value.values()) } else { None });
    looked.flatten()
}

/// A notice that has arrived and is not acknowledged yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingNotice {
    /// What it says.
    pub notice: crate::core::fleet::Notice,
    /// When we received it.
    pub received_at: Timestamp,
    /// The queue, for acknowledging; `None` when it came from the agent.
    pub queue: Option<String>,
    /// The receipt.
    pub receipt: String,
}

/// The API server would take no replacement of a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RefusedReplacement {
    /// When it was last asked.
    pub asked_at: Timestamp,
    /// Not before this is it asked again, unless the machine goes.
    pub again_at: Timestamp,
    /// How often in a row it has refused.
    pub times: u32,
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
    /// The cluster's UID, that of its namespace `kube-system`; empty while it is not known.
    pub cluster_uid: String,
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
    /// Claims that are there and cannot be read: they own their machines, and are left alone.
    pub unreadable_claims: Shared<BTreeMap<ClaimName, UnreadableClaim>>,
    /// Node pools that are there and cannot be read: nothing is bought in them, and nothing of theirs ends for it.
    pub unreadable_pools: Shared<BTreeSet<PoolName>>,
    /// By which definition (CRD) they are defined, as it was after the last pool went.
    pub pools_defined: PoolsDefined,
    /// Nodes that say they are a machine of ours and are not used, and why.
    pub doubtful_nodes: Shared<BTreeMap<NodeName, Doubt>>,
    /// Since when each of our machines that run has had no claim, in the eyes of this leader.
    pub unclaimed_since: Shared<BTreeMap<InstanceId, Timestamp>>,
    /// Since when this leader has seen nodes unwell, machines not joined and pods not running.
    pub first_sights: Shared<FirstSights>,
    /// How far EC2's clock is ahead of ours, where an answer of EC2 said its time; it may be negative.
    pub ec2_ahead: Option<Millis>,
    /// Instances tagged with the cluster's name, per region: ours, and those of others of the same name.
    pub instances: Shared<BTreeMap<Region, Observed<BTreeMap<InstanceId, Instance>>>>,
    /// What EC2 has scheduled for our instances, by region: of each the event that comes first.
    pub scheduled: Shared<BTreeMap<Region, Observed<BTreeMap<InstanceId, ScheduledEvent>>>>,
    /// Offers as EC2 gives them. What was learnt of them is in `memory` and `scores`, and looked up where offers are listed.
    pub market: Shared<Market>,
    /// What was learnt of each pool of capacity.
    pub memory: Shared<MarketMemory>,
    /// Spot placement scores.
    pub scores: Shared<ScoreBoard>,
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
    /// Bindings that are being written, or that the watch has not shown yet, by the pod's uid.
    pub pending_bindings: BTreeMap<Uid, Bound>,
    /// Claims that are being removed or whose machines are being ended right now: nothing new goes there.
    pub ending: BTreeSet<ClaimName>,
    /// Ids of ledger records and events that were already written: not written again.
    pub recorded: Shared<crate::core::record::Recorded>,
    /// What the ledger has received of each machine (by its claim's uid), as far as remembered.
    pub reported: Shared<Reported>,
    /// Pods of which the API server lately said that it would take no replacement, by uid.
    pub refused_replacements: BTreeMap<Uid, RefusedReplacement>,
    /// Every region that a class names has been priced once, or has had its time to answer: before that nothing is bought for new pods.
    pub market_surveyed: bool,
    /// As many records wait for Postgres as may: what can be said again later is not recorded now.
    pub outbox_full: bool,
    /// So many more that nothing is bought for new pods.
    pub outbox_closed: bool,
    /// Postgres takes records. Voluntary moves wait while it does not.
    pub ledger_available: bool,
    /// When each pool's recent launches were asked, for launches per minute.
    pub recent_launches: BTreeMap<PoolName, Vec<Timestamp>>,
    /// What the books have received of refusals within the last hour.
    pub recent_refusals: crate::core::record::RecentRefusals,
    /// When it was last thought about leaving machines for cheaper ones.
    pub moves_considered_at: Option<Timestamp>,
}
