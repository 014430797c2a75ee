//! The `spec` of a `GpuNodePool`: the one reader of node pools.
//!
//! Decides: field names, defaults, and what each field means to the core. The operator reads it from the API server, `lowtide place` from a
//! file, and the CRD in `crds/` is generated from it, so that a field means the same everywhere.
//! Does not: apply the policy (see `placement` and `plan`).

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::NodePool;
use super::disruption::DisruptionSpec;
#[cfg(feature = "live")]
use super::schema;
use super::selector::NamespaceSelector;
use crate::core::market::CapacityType;
use crate::core::units::ids::{ClassName, GpuModel, InstanceType, PoolName, Region};
use crate::core::units::money::{MicroUsd, MicroUsdPerHour};
use crate::core::units::quiet_hours::QuietHours;
use crate::core::units::time::Millis;

/// Policy of the platform team.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "live", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct NodePoolSpec {
    /// Namespaces whose pods may buy from this pool. `{}` matches every namespace; it is required, because whoever may annotate a pod there
    /// may spend.
    #[cfg_attr(feature = "live", schemars(schema_with = "schema::label_selector"))]
    pub namespace_selector: NamespaceSelector,
    /// GPU models that may be bought, e.g. `l4`. Empty: any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "live", schemars(schema_with = "schema::gpu_models"))]
    pub gpu_models: Vec<String>,
    /// Instance types that may be bought, e.g. `g6.xlarge`. Empty: any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "live", schemars(schema_with = "schema::instance_types"))]
    pub instance_types: Vec<String>,
    /// Regions that may be bought in, e.g. `us-*`. Empty: every region with a node class.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "live", schemars(schema_with = "schema::regions"))]
    pub regions: Vec<String>,
    /// Names of the `GpuNodeClass` objects that configure its nodes: at most one per region.
    #[cfg_attr(feature = "live", schemars(schema_with = "schema::class_names"))]
    pub node_classes: Vec<String>,
    /// What may be bought.
    #[serde(default = "default_capacity_types")]
    #[cfg_attr(feature = "live", schemars(schema_with = "schema::capacity_types"))]
    pub capacity_types: Vec<CapacityType>,
    /// Cap on the price in US dollars per GPU-hour, e.g. `"1.20"`. Applies when buying.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "live", schemars(schema_with = "schema::optional_price_cap"))]
    pub max_price_per_gpu_hour: Option<MicroUsdPerHour>,
    /// Spend allowed per calendar month (UTC) in US dollars, accrued and committed. Stops new purchases, never a rescue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "live", schemars(schema_with = "schema::optional_budget"))]
    pub monthly_budget_usd: Option<MicroUsd>,
    /// How much it may hold at once, and how fast it may grow.
    #[serde(default)]
    pub limits: Limits,
    /// At most this percentage of a workload's replicas is in one capacity pool (one zone, instance family and capacity type), but always
    /// at least one replica. An owner's lower value takes precedence; if a namespace may use several node pools, the lowest applies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "live", schemars(with = "Option<i32>", range(min = 1, max = 100)))]
    pub max_pool_share_percent: Option<u32>,
    /// How much may be paid so that a service's replicas are not lost together.
    #[serde(default)]
    pub spread: Spread,
    /// The region where the work would run without lowtide: savings B1 and B2 are measured against its prices.
    #[cfg_attr(feature = "live", schemars(schema_with = "schema::region"))]
    pub home_region: String,
    /// What happens when no spot capacity is available.
    #[serde(default)]
    pub fallback: Fallback,
    /// When running work is moved to a better offer.
    #[serde(default, rename = "return")]
    pub return_: Return,
    /// An empty node is terminated after this many seconds.
    #[serde(default = "default_empty_grace_seconds")]
    #[cfg_attr(feature = "live", schemars(with = "i32", range(min = 0, max = 86400)))]
    pub empty_grace_seconds: u32,
    /// A node that has not joined with its GPUs this many seconds after its launch is terminated, and its capacity pool is avoided for a
    /// while.
    #[serde(default = "default_join_timeout_seconds")]
    #[cfg_attr(feature = "live", schemars(with = "i32", range(min = 10, max = 3600)))]
    pub join_timeout_seconds: u32,
    /// A node that is silent, cordoned, tainted by others or short of GPUs for this many seconds is replaced.
    #[serde(default = "default_unhealthy_after_seconds")]
    #[cfg_attr(feature = "live", schemars(with = "i32", range(min = 10, max = 86400)))]
    pub unhealthy_after_seconds: u32,
    /// A node older than this many seconds is replaced, within the budgets of `disruption`. Absent: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "live", schemars(with = "Option<i32>", range(min = 300)))]
    pub expire_after_seconds: Option<u32>,
    /// Hours of the day in which work is moved off nodes for which EC2 has scheduled maintenance or retirement, e.g. `22:00-06:00` (UTC) or
    /// `22:00-06:00 +02:00`. An owner's annotation `lowtide.dev/quiet-hours` takes precedence. Absent: such work is moved at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "live", schemars(schema_with = "schema::optional_quiet_hours"))]
    pub quiet_hours: Option<QuietHours>,
    /// How many nodes may be left by choice at once, when, and for which reasons.
    #[serde(default, skip_serializing_if = "DisruptionSpec::is_default")]
    pub disruption: DisruptionSpec,
    /// How long a capacity pool that refused a launch is avoided.
    #[serde(default)]
    pub cool_down: CoolDown,
    /// Warm nodes kept for inference.
    #[serde(default)]
    pub standby: Standby,
}

/// How much a pool may hold at once, and how fast it may grow. Absent: no limit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "live", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Limits {
    /// GPUs at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "live", schemars(with = "Option<i32>", range(min = 0)))]
    pub gpus: Option<u32>,
    /// Nodes at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "live", schemars(with = "Option<i32>", range(min = 0)))]
    pub nodes: Option<u32>,
    /// Launches per minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "live", schemars(with = "Option<i32>", range(min = 1)))]
    pub launches_per_minute: Option<u32>,
}

/// How much may be paid so that a service's replicas are not lost together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "live", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Spread {
    /// A replica of a service without spares, goal or share of its own may cost up to this many percent more in another capacity pool than
    /// where all replicas cost least, if that lowers the expected cost of losing a pool by more. 0 buys every replica where it costs least.
    #[serde(default = "default_most_extra_percent")]
    #[cfg_attr(feature = "live", schemars(with = "i32", range(min = 0, max = 100)))]
    pub most_extra_percent: u32,
}

/// What happens when no spot capacity is available.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "live", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Fallback {
    /// `spot-first` work may use on-demand, if `capacityTypes` includes on-demand at all.
    #[serde(default = "yes")]
    pub on_demand: bool,
}

/// When running work is moved to a better offer: both conditions must be met.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "live", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Return {
    /// The other offer must cost less by at least this many percent.
    #[serde(default = "default_min_saving_percent")]
    #[cfg_attr(feature = "live", schemars(with = "i32", range(min = 1, max = 99)))]
    pub min_saving_percent: u32,
    /// The node must have run for this many seconds.
    #[serde(default = "default_min_dwell_seconds")]
    #[cfg_attr(feature = "live", schemars(with = "i32", range(min = 0, max = 604800)))]
    pub min_dwell_seconds: u32,
}

/// How long a capacity pool that refused a launch is avoided: doubled with each refusal in a row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "live", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
#[cfg_attr(
    feature = "live",
    schemars(extend("x-kubernetes-validations" = [
        { "rule": "self.baseSeconds <= self.maxSeconds", "message": "coolDown.baseSeconds must not be above coolDown.maxSeconds" }
    ]))
)]
pub struct CoolDown {
    /// After the first refusal.
    #[serde(default = "default_cool_down_base_seconds")]
    #[cfg_attr(feature = "live", schemars(with = "i32", range(min = 1, max = 86400)))]
    pub base_seconds: u32,
    /// At most.
    #[serde(default = "default_cool_down_max_seconds")]
    #[cfg_attr(feature = "live", schemars(with = "i32", range(min = 1, max = 86400)))]
    pub max_seconds: u32,
}

/// Warm nodes kept for inference.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "live", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Standby {
    /// Total number of warm slots that owners may request with the annotation `lowtide.dev/standby`.
    #[serde(default)]
    #[cfg_attr(feature = "live", schemars(with = "i32", range(min = 0, max = 1000)))]
    pub max_slots: u32,
}

impl NodePoolSpec {
    /// The node pool `name` with this spec, which `namespaces` may use.
    pub fn pool(&self, name: &str, namespaces: BTreeSet<String>) -> NodePool {
        let seconds = |s: u32| Millis::from_secs(i64::from(s));
        NodePool {
            name: PoolName::from(name),
            deleting: false,
            namespaces,
            gpu_models: self.gpu_models.iter().map(|model| GpuModel::from_ec2(model)).collect(),
            instance_types: self.instance_types.iter().map(|t| InstanceType::from(t.as_str())).collect(),
            regions: self.regions.clone(),
            classes: self.node_classes.iter().map(|class| ClassName::from(class.as_str())).collect(),
            capacity_types: self.capacity_types.iter().copied().collect(),
            fallback_on_demand: self.fallback.on_demand,
            max_price_per_gpu_hour: self.max_price_per_gpu_hour,
            monthly_budget: self.monthly_budget_usd,
            max_gpus: self.limits.gpus.map(i64::from),
            max_nodes: self.limits.nodes.map(i64::from),
            launches_per_minute: self.limits.launches_per_minute.map(i64::from),
            max_share_per_mille: self.max_pool_share_percent.map(|percent| i64::from(percent) * 10),
            spread_most_extra_per_mille: i64::from(self.spread.most_extra_percent) * 10,
            home_region: Region::from(self.home_region.as_str()),
            return_min_saving_per_mille: i64::from(self.return_.min_saving_percent) * 10,
            return_min_dwell: seconds(self.return_.min_dwell_seconds),
            empty_grace: seconds(self.empty_grace_seconds),
            unhealthy_after: seconds(self.unhealthy_after_seconds),
            join_timeout: seconds(self.join_timeout_seconds),
            expire_after: self.expire_after_seconds.map(seconds),
            cool_down_base: seconds(self.cool_down.base_seconds),
            cool_down_max: seconds(self.cool_down.max_seconds),
            quiet_hours: self.quiet_hours,
            disruption: self.disruption.read(),
            ends_allowed_until: None,
        }
    }
}

impl Default for Spread {
    fn default() -> Self {
        Spread { most_extra_percent: default_most_extra_percent() }
    }
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
fn default_empty_grace_seconds() -> u32 {
    60
}
fn default_unhealthy_after_seconds() -> u32 {
    180
}
fn default_join_timeout_seconds() -> u32 {
    300
}
/// Below the saving for which running work moves, so that no move undoes a spread; with two pools, half of it is paid on average.
fn default_most_extra_percent() -> u32 {
    10
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
