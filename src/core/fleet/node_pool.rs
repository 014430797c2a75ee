//! A node pool: policy, written by the platform team; and the status it shows.
//!
//! - [`spec`]: the policy as it is written, in a cluster or in a file: the one reader of node pools.
//! - [`selector`]: which namespaces may buy.

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
use crate::core::units::time::{Millis, Timestamp};

pub use selector::UnreadableSelector;
pub use spec::NodePoolSpec;

/// A node pool: policy, written by the platform team. Made of its [`NodePoolSpec`], wherever that is written.
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
    /// Classes that make its nodes.
    pub classes: Vec<ClassName>,
    /// Capacity types it may buy.
    pub capacity_types: BTreeSet<CapacityType>,
    /// On-demand may be bought for work that asks `spot-first`, where `capacity_types` has it. Work that asks for on-demand gets it either
    /// way. Room on a machine that is paid for already is not bought, so it is free to both.
    pub fallback_on_demand: bool,
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
    /// A node that is silent, cordoned, tainted by others or short of GPUs for this long is replaced.
    pub unhealthy_after: Millis,
    /// A machine older than this is drained.
    pub expire_after: Option<Millis>,
    /// First cool-down of a capacity pool that refused us.
    pub cool_down_base: Millis,
    /// Longest cool-down.
    pub cool_down_max: Millis,
    /// Until then machines may be ended without anybody's asking faster than the breaker lets them: a person's word, the annotation
    /// `lowtide.dev/ends-allowed-until`.
    pub ends_allowed_until: Option<Timestamp>,
}

impl NodePool {
    /// Work that asks `spot-first` may be given on-demand here.
    pub fn may_fall_back(&self) -> bool {
        self.fallback_on_demand && self.capacity_types.contains(&CapacityType::OnDemand)
    }

    /// SHA-256 over the policy, in hex: two decisions with the same hash were taken under the same rules. It goes by the fields as they are
    /// serialised, so that no wording of a program changes it.
    pub fn policy_hash(&self) -> String {
        // A pool is text, figures and lists of both: there is nothing in it that JSON cannot say.
        let fields = serde_json::to_vec(self).unwrap_or_default();
        Sha256::digest(fields).iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// What a pool's machines that are gone cost in one calendar month. Machines that are still there are not in it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MonthBooks {
    /// When the month began.
    pub month: Timestamp,
    /// What machines cost whose claims are gone.
    pub settled: MicroUsd,
    /// What machines cost whose claims are about to go, by claim uid: so that a crash between writing this and removing the claim counts
    /// nothing twice and loses nothing.
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
    /// What on-demand of the same types and regions would cost more.
    pub saved_per_hour: MicroUsdPerHour,
    /// What its machines that are gone cost this month.
    pub books: MonthBooks,
    /// `Ok` when it can buy; else reason (CamelCase) and sentence.
    pub ready: Result<(), (String, String)>,
}
