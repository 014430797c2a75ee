//! A node pool: policy, written by the platform team; and the status it shows.

use std::collections::{BTreeMap, BTreeSet};

use crate::core::market::CapacityType;
use crate::core::units::ids::{ClassName, GpuModel, InstanceType, PoolName, Region, Uid};
use crate::core::units::money::{MicroUsd, MicroUsdPerHour};
use crate::core::units::time::{Millis, Timestamp};

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
    /// A node that is silent, cordoned, tainted by others or short of GPUs for this long is replaced.
    pub unhealthy_after: Millis,
    /// A machine older than this is drained.
    pub expire_after: Option<Millis>,
    /// First cool-down of a pool of capacity that refused us.
    pub cool_down_base: Millis,
    /// Longest cool-down.
    pub cool_down_max: Millis,
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
