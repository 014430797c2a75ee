//! `GpuNodePool`: policy. Who may spend, on what, up to what price, and when work is moved.

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::condition::Condition;
use super::moment::Moment;
use super::schema;
use crate::core::fleet::NodePoolSpec;
use crate::core::units::money::{MicroUsd, MicroUsdPerHour};

/// Policy of the platform team.
#[derive(CustomResource, Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[kube(
    group = "lowtide.dev",
    version = "v1",
    kind = "GpuNodePool",
    plural = "gpunodepools",
    shortname = "gnp",
    category = "lowtide",
    status = "GpuNodePoolStatus",
    derive = "PartialEq",
    doc = "Policy: which namespaces may buy GPU capacity, which kinds, up to what price, and when work is moved.",
    printcolumn(name = "Claims", type_ = "integer", json_path = ".status.claims"),
    printcolumn(name = "GPUs", type_ = "integer", json_path = ".status.gpus"),
    printcolumn(name = "$/h", type_ = "string", json_path = ".status.pricePerHour"),
    printcolumn(name = "Saved/h", type_ = "string", json_path = ".status.savedPerHour"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status"),
    printcolumn(name = "Why", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].reason", priority = "1"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(transparent)]
pub struct GpuNodePoolSpec {
    /// The policy, in the form the core reads everywhere.
    pub policy: NodePoolSpec,
}

/// What the pool holds and costs now.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct GpuNodePoolStatus {
    /// `Ready`: it can buy; otherwise why not.
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
    /// How much more on-demand of the same types and regions would cost, in US dollars per hour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::optional_usd")]
    pub saved_per_hour: Option<MicroUsdPerHour>,
    /// What machines that are gone cost this calendar month: counts towards `monthlyBudgetUsd`, in addition to what runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub month: Option<MonthBooks>,
    /// The generation this refers to.
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
