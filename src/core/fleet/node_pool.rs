//! A node pool: policy, written by the platform team; and its status.
//!
//! - [`disruption`]: how many machines may be left at once, when, and for which reasons.
//! - [`spec`]: the policy as it is written, in a cluster or in a file: the one reader of node pools.
//! - [`selector`]: which namespaces may buy.

mod disruption;
#[cfg(feature = "live")]
mod schema;
mod selector;
mod spec;

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::core::market::CapacityType;
use crate::core::units::ids::{ClassName, GpuModel, InstanceType, PoolName, Region, Uid};
use crate::core::units::money::{MicroUsd, MicroUsdPerHour};
use crate::core::units::quiet_hours::QuietHours;
use crate::core::units::time::{Millis, Timestamp};

pub use disruption::{Disruption, DisruptionBudget, DisruptionReason, DisruptionSpec, Nodes, Window};
pub use selector::UnreadableSelector;
pub use spec::NodePoolSpec;

/// A node pool: policy, written by the platform team. Built from its [`NodePoolSpec`], wherever that comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
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
    /// Classes that configure its nodes.
    pub classes: Vec<ClassName>,
    /// Capacity types it may buy.
    pub capacity_types: BTreeSet<CapacityType>,
    /// On-demand may be bought for `spot-first` work, if `capacity_types` includes it. Work that asks for on-demand gets it either way.
    /// Room on a machine that is already paid for is no purchase, so both may use it.
    pub fallback_on_demand: bool,
    /// Cap, applies when buying.
    pub max_price_per_gpu_hour: Option<MicroUsdPerHour>,
    /// Spend allowed per calendar month.
    pub monthly_budget: Option<MicroUsd>,
    /// GPUs it may hold at once.
    pub max_gpus: Option<i64>,
    /// Nodes it may hold at once.
    pub max_nodes: Option<i64>,
    /// Machines it may request per minute.
    pub launches_per_minute: Option<i64>,
    /// At most this share (in thousandths) of a workload's replicas may be in one zone, instance family and capacity type.
    pub max_share_per_mille: Option<i64>,
    /// A service's replica may cost this much more (in thousandths) where it stands apart from the others; 0 spreads nothing.
    pub spread_most_extra_per_mille: i64,
    /// The region of the counterfactuals B1 and B2.
    pub home_region: Region,
    /// Running work moves only if that saves at least this, in thousandths of its current cost.
    pub return_min_saving_per_mille: i64,
    /// ... and only after the machine has run this long.
    pub return_min_dwell: Millis,
    /// An empty machine is terminated after this.
    pub empty_grace: Millis,
    /// A machine that has not joined with its GPUs by then is terminated.
    pub join_timeout: Millis,
    /// A node that is silent, cordoned, tainted by others or short of GPUs for this long is replaced.
    pub unhealthy_after: Millis,
    /// A machine older than this is replaced.
    pub expire_after: Option<Millis>,
    /// First cool-down of a capacity pool that refused us.
    pub cool_down_base: Millis,
    /// Longest cool-down.
    pub cool_down_max: Millis,
    /// When work is moved off machines that EC2 will work on, unless its owner names other hours.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quiet_hours: Option<QuietHours>,
    /// How many machines may be left by choice at once.
    #[serde(skip_serializing_if = "Disruption::is_default")]
    pub disruption: Disruption,
    /// Until then, machines that nobody asked to terminate may go faster than the breaker allows: a person's permission, the annotation
    /// `lowtide.dev/ends-allowed-until`.
    pub ends_allowed_until: Option<Timestamp>,
}

impl NodePool {
    /// `spot-first` work may get on-demand here.
    pub fn may_fall_back(&self) -> bool {
        self.fallback_on_demand && self.capacity_types.contains(&CapacityType::OnDemand)
    }

    /// SHA-256 over the policy, in hex: two decisions with the same hash were made under the same rules. It covers the serialised fields,
    /// so that no rewording in a program changes it.
    pub fn policy_hash(&self) -> String {
        // A pool is text, numbers and lists of both: JSON can express all of it.
        let fields = serde_json::to_vec(self).unwrap_or_default();
        Sha256::digest(fields).iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// What a pool's machines that are gone cost in one calendar month. Existing machines are not included.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MonthBooks {
    /// When the month began.
    pub month: Timestamp,
    /// What machines cost whose claims are gone.
    pub settled: MicroUsd,
    /// What machines cost whose claims are about to go, by claim uid: so that a crash between writing this and removing the claim neither
    /// counts anything twice nor loses anything.
    pub closing: BTreeMap<Uid, MicroUsd>,
}

/// Status of a node pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolStatus {
    /// Machines it has.
    pub claims: i64,
    /// GPUs it has.
    pub gpus: i64,
    /// What they cost now.
    pub price_per_hour: MicroUsdPerHour,
    /// How much more on-demand of the same types and regions would cost.
    pub saved_per_hour: MicroUsdPerHour,
    /// What its machines that are gone cost this month.
    pub books: MonthBooks,
    /// `Ok` if it can buy; otherwise reason (CamelCase) and message.
    pub ready: Result<(), (String, String)>,
    /// Another cluster of our name has machines in the pool's regions: which, in a sentence.
    pub namesake: Option<String>,
    /// It is being deleted and nothing keeps it: its machines have ended, or it goes with the definition of all pools, which nobody means, and they stay.
    pub let_go: bool,
}

/// By which definition (CRD) node pools are defined. One that is deleted takes every pool with it; made again, it has another uid, and its pools are applied
/// one after the other.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum PoolsDefined {
    /// It could not be read, or it has changed while pools were read.
    #[default]
    Unread,
    /// It is not there, or is being deleted.
    Going,
    /// By the one with this uid, which is there to stay.
    By(Uid),
}

impl PoolsDefined {
    /// The uid of the definition that is there.
    pub fn by(&self) -> Option<&Uid> {
        if let PoolsDefined::By(uid) = self { Some(uid) } else { None }
    }
}
