//! `GpuNodePool`: policy. Who may spend, on what, up to which price, and when work is moved.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::condition::Condition;
use super::moment::Moment;
use super::schema;
use crate::core::market::CapacityType;
use crate::core::units::money::{MicroUsd, MicroUsdPerHour};

/// Policy of the platform team.
#[derive(CustomResource, Debug, Clone, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "lowtide.dev",
    version = "v1",
    kind = "GpuNodePool",
    plural = "gpunodepools",
    shortname = "gnp",
    category = "lowtide",
    status = "GpuNodePoolStatus",
    derive = "PartialEq",
    doc = "Policy: which namespaces may buy GPU capacity, what of it, up to which price, and when work is moved.",
    printcolumn(name = "Claims", type_ = "integer", json_path = ".status.claims"),
    printcolumn(name = "GPUs", type_ = "integer", json_path = ".status.gpus"),
    printcolumn(name = "$/h", type_ = "string", json_path = ".status.pricePerHour"),
    printcolumn(name = "Saved/h", type_ = "string", json_path = ".status.savedPerHour"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status"),
    printcolumn(name = "Why", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].reason", priority = "1"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct GpuNodePoolSpec {
    /// Namespaces whose pods may buy from this pool. `{}` matches every namespace; leaving it out is refused, because whoever may
    /// annotate a pod there may spend.
    #[schemars(schema_with = "schema::label_selector")]
    pub namespace_selector: LabelSelector,
    /// GPU models that may be bought, as in `l4`. Empty: any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::gpu_models")]
    pub gpu_models: Vec<String>,
    /// Instance types that may be bought, as in `g6.xlarge`. Empty: any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::instance_types")]
    pub instance_types: Vec<String>,
    /// Regions that may be bought in, as in `us-*`. Empty: every region a node class serves.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::regions")]
    pub regions: Vec<String>,
    /// Names of the `GpuNodeClass` objects that make its nodes: at most one per region.
    #[schemars(schema_with = "schema::class_names")]
    pub node_classes: Vec<String>,
    /// What may be bought.
    #[serde(default = "default_capacity_types")]
    #[schemars(schema_with = "schema::capacity_types")]
    pub capacity_types: Vec<CapacityType>,
    /// Cap on the price in US dollars per GPU-hour, as in `"1.20"`. Binds when buying.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::optional_price_cap")]
    pub max_price_per_gpu_hour: Option<MicroUsdPerHour>,
    /// Spend allowed per calendar month (UTC) in US dollars, accrued and committed. Stops new buying, never a rescue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::optional_budget")]
    pub monthly_budget_usd: Option<MicroUsd>,
    /// How much it may hold at once, and how fast it may grow.
    #[serde(default)]
    pub limits: Limits,
    /// At most this percentage of a workload's replicas stands in one pool of capacity (one zone, instance family and capacity type),
    /// though always one. Where an owner asks for less, less holds; of several pools that a namespace may use, the least.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<i32>", range(min = 1, max = 100))]
    pub max_pool_share_percent: Option<u32>,
    /// The region where the work would run without lowtide: the savings B1 and B2 are measured against its prices.
    #[schemars(schema_with = "schema::region")]
    pub home_region: String,
    /// What happens when no spot capacity can be had.
    #[serde(default)]
    pub fallback: Fallback,
    /// When running work is moved to a better offer.
    #[serde(default, rename = "return")]
    pub return_: Return,
    /// An empty node is terminated after this many seconds.
    #[serde(default = "default_empty_grace_seconds")]
    #[schemars(with = "i32", range(min = 0, max = 86400))]
    pub empty_grace_seconds: u32,
    /// A node that has not joined with its GPUs this many seconds after its launch is terminated, and its pool of capacity left alone.
    #[serde(default = "default_join_timeout_seconds")]
    #[schemars(with = "i32", range(min = 10, max = 3600))]
    pub join_timeout_seconds: u32,
    /// A node that is silent, cordoned, tainted by others or short of GPUs for this many seconds is replaced.
    #[serde(default = "default_unhealthy_after_seconds")]
    #[schemars(with = "i32", range(min = 10, max = 86400))]
    pub unhealthy_after_seconds: u32,
    /// A node older than this many seconds is drained and terminated. Absent: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<i32>", range(min = 300))]
    pub expire_after_seconds: Option<u32>,
    /// How long a pool of capacity that refused a launch is left alone.
    #[serde(default)]
    pub cool_down: CoolDown,
    /// Warm nodes kept for inference.
    #[serde(default)]
    pub standby: Standby,
}

/// How much a pool may hold at once, and how fast it may grow. Absent: no limit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Limits {
    /// GPUs at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<i32>", range(min = 0))]
    pub gpus: Option<u32>,
    /// Nodes at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<i32>", range(min = 0))]
    pub nodes: Option<u32>,
    /// Launches asked per minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<i32>", range(min = 1))]
    pub launches_per_minute: Option<u32>,
}

/// What happens when no spot capacity can be had.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Fallback {
    /// Work that asks `spot-first` may go to on-demand, when `capacityTypes` allows on-demand at all.
    #[serde(default = "yes")]
    pub on_demand: bool,
}

/// When running work is moved to a better offer: both bounds must be met.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Return {
    /// The other offer must cost less by at least this many percent.
    #[serde(default = "default_min_saving_percent")]
    #[schemars(with = "i32", range(min = 1, max = 99))]
    pub min_saving_percent: u32,
    /// The node must have run for this many seconds.
    #[serde(default = "default_min_dwell_seconds")]
    #[schemars(with = "i32", range(min = 0, max = 604800))]
    pub min_dwell_seconds: u32,
}

/// How long a pool of capacity that refused a launch is left alone: doubled with each refusal in a row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.baseSeconds <= self.maxSeconds").message("coolDown.baseSeconds must not be above coolDown.maxSeconds"))]
pub struct CoolDown {
    /// After the first refusal.
    #[serde(default = "default_cool_down_base_seconds")]
    #[schemars(with = "i32", range(min = 1, max = 86400))]
    pub base_seconds: u32,
    /// At most.
    #[serde(default = "default_cool_down_max_seconds")]
    #[schemars(with = "i32", range(min = 1, max = 86400))]
    pub max_seconds: u32,
}

/// Warm nodes kept for inference.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Standby {
    /// Warm slots that owners may ask for in all, with the annotation `lowtide.dev/standby`.
    #[serde(default)]
    #[schemars(with = "i32", range(min = 0, max = 1000))]
    pub max_slots: u32,
}

/// What the pool holds and costs now.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct GpuNodePoolStatus {
    /// `Ready`: it can buy; else why not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// Machines it has.
    #[serde(default)]
    pub claims: i64,
    /// GPUs it has.
    #[serde(default)]
    pub gpus: i64,
    /// What they cost now, in US dollars per hour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::optional_usd")]
    pub price_per_hour: Option<MicroUsdPerHour>,
    /// What on-demand of the same types and regions would cost more, in US dollars per hour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::optional_usd")]
    pub saved_per_hour: Option<MicroUsdPerHour>,
    /// What machines that are gone cost this calendar month: counts against `monthlyBudgetUsd`, beside what runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub month: Option<MonthBooks>,
    /// The generation this was said about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
}

/// What machines that are gone cost in one calendar month (UTC), at the prices they were bought at. The ledger has the exact bill.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct MonthBooks {
    /// When the month began.
    pub month: Moment,
    /// Machines whose claims are gone, in US dollars.
    #[schemars(schema_with = "schema::usd")]
    pub settled_usd: MicroUsd,
    /// Machines whose claims are about to go.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub closing: Vec<ClosingClaim>,
}

/// A claim whose machine has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClosingClaim {
    /// The claim's uid.
    pub claim_uid: String,
    /// What it cost this month, in US dollars.
    #[schemars(schema_with = "schema::usd")]
    pub cost_usd: MicroUsd,
}

impl Default for Fallback {
    fn default() -> Self {
        Fallback { on_demand: yes() }
    }
}

impl Default for Return {
    fn default() -> Self {
        Return { min_saving_percent: default_min_saving_percent(), min_dwell_seconds: default_min_dwell_seconds() }
    }
}

impl Default for CoolDown {
    fn default() -> Self {
        CoolDown { base_seconds: default_cool_down_base_seconds(), max_seconds: default_cool_down_max_seconds() }
    }
}

fn yes() -> bool {
    true
}
fn default_capacity_types() -> Vec<CapacityType> {
    vec![CapacityType::Spot, CapacityType::OnDemand]
}
fn default_unhealthy_after_seconds() -> u32 {
    180
}

fn default_empty_grace_seconds() -> u32 {
    60
}
fn default_join_timeout_seconds() -> u32 {
    300
}
fn default_min_saving_percent() -> u32 {
    15
}
fn default_min_dwell_seconds() -> u32 {
    600
}
fn default_cool_down_base_seconds() -> u32 {
    180
}
fn default_cool_down_max_seconds() -> u32 {
    3_600
}
