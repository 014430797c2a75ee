//! What a pod needs, read from its annotations and resources.
//!
//! Decides: how each annotation under `lowtide.dev/` is read, and which faults are refused with which message.
//! Does not: look at offers.

use serde::{Deserialize, Serialize};

use crate::core::market::catalog::Architecture;
use crate::core::units::ids::{GpuModel, InstanceType, Region, ZoneId, derive_uuid};
use crate::core::units::money::MicroUsdPerHour;
use crate::core::units::quiet_hours::QuietHours;
use crate::core::units::shared::Shared;
use crate::core::units::time::{Millis, Timestamp};
use crate::core::units::{Mebibytes, Millicores, Resources};
use crate::core::workload::labels::LabelTerm;
use crate::core::workload::need::do_not_disrupt::DoNotDisrupt;

mod annotations;
pub mod constraints;
pub mod do_not_disrupt;
mod error;
mod manifest;
mod quantity;

pub use annotations::{OWNER_KEYS, Vocabulary, parse, parse_with};
pub use error::NeedError;
pub use manifest::{
    Affinity, Amount, ClaimSource, Container, ContainerPort, ContainerResources, LabelSelector, LabelSelectorRequirement, Metadata,
    NodeAffinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, OwnerReference, PodAffinity, PodAffinityTerm, PodManifest,
    PodOs, PodSpec, PreferredSchedulingTerm, Toleration, TopologySpreadConstraint, Volume, WeightedPodAffinityTerm,
};
pub use quantity::{milli_units, requested};

/// What a pod requests, or every fault in its request. Pods that are alike share it.
pub type NeedAnswer = Result<(Shared<Need>, Shared<Schedule>), Vec<String>>;

/// What kind of work it is: decides how it is moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WorkloadKind {
    /// Serves requests: the replacement is Ready before the old one goes.
    Inference,
    /// Runs to completion: it is asked to stop, checkpoints, and is recreated.
    Batch,
}

/// Which capacity types an owner accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
pub enum CapacityPreference {
    /// The cheapest; on-demand if no spot is available.
    #[default]
    SpotFirst,
    /// Spot or nothing.
    SpotOnly,
    /// Never interruptible.
    OnDemand,
}

/// A deadline: a point in time, or a duration from the pod's creation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Deadline {
    /// RFC 3339 in the annotation.
    At(Timestamp),
    /// `26h`, `1h30m` in the annotation.
    After(Millis),
}

/// What one pod needs from a machine. Equal needs are placed together, so this is the key of a group.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Need {
    /// What kind of work.
    pub kind: WorkloadKind,
    /// GPUs per pod (`nvidia.com/gpu` limit), at least 1.
    pub gpus: i64,
    /// Memory needed on each GPU.
    pub gpu_memory: Mebibytes,
    /// Accepted models, sorted; empty accepts any.
    pub gpu_models: Vec<GpuModel>,
    /// CPU requested by all containers.
    pub cpu: Millicores,
    /// Memory requested by all containers.
    pub memory: Mebibytes,
    /// Disk requested by all containers (`ephemeral-storage`).
    #[serde(default, skip_serializing_if = "no_disk")]
    pub disk: Mebibytes,
    /// EBS volumes that it mounts.
    #[serde(default, skip_serializing_if = "none")]
    pub volumes: i64,
    /// Architecture wanted by node selector; `None` accepts any.
    pub architecture: Option<Architecture>,
    /// Region patterns (`us-*`, `eu-west-1`), sorted; empty accepts the pool's.
    pub regions: Vec<String>,
    /// Zones wanted by node selector, sorted; empty accepts any.
    pub zones: Vec<ZoneId>,
    /// Instance types wanted by node selector, sorted; empty accepts any.
    #[serde(default)]
    pub instance_types: Vec<InstanceType>,
    /// Further requirements on the node's labels, from node selector, node affinity and volumes: one of these alternatives. Empty requires
    /// nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub node_terms: Vec<LabelTerm>,
    /// Spot, on-demand or both.
    pub capacity: CapacityPreference,
    /// The owner's cap, applies when buying.
    pub max_price_per_gpu_hour: Option<MicroUsdPerHour>,
    /// GiB that a move across regions must transfer.
    pub data_gib: i64,
    /// Where that data is; `None` means wherever the pod is.
    pub data_region: Option<Region>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn none(amount: &i64) -> bool {
    *amount == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn no_disk(disk: &Mebibytes) -> bool {
    disk.0 == 0
}

impl Need {
    /// A short fingerprint of the need: equal needs have equal ones.
    pub fn fingerprint(&self) -> String {
        let text = serde_json::to_string(self).unwrap_or_default();
        derive_uuid(&["need", &text]).simple().to_string()[..12].to_owned()
    }

    /// What one pod takes from a machine.
    pub fn resources(&self) -> Resources {
        Resources { cpu: self.cpu, memory: self.memory, gpus: self.gpus, disk: self.disk, volumes: self.volumes }
    }
}

/// What the owner said about time and standby: not part of the group key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct Schedule {
    /// When batch work must be done.
    pub deadline: Option<Deadline>,
    /// How long the owner expects it to run.
    pub expected_runtime: Option<Millis>,
    /// How long a checkpoint takes after SIGTERM.
    pub checkpoint_grace: Option<Millis>,
    /// Warm slots to keep.
    pub standby: u32,
    /// At most this share of replicas, in thousandths, in one correlated capacity pool.
    #[serde(default)]
    pub max_share_per_mille: Option<i64>,
    /// How many of a service's replicas are spares: the others must be ready.
    #[serde(default)]
    pub spares: u32,
    /// The share of time, in parts per million, in which the non-spare replicas must be ready, over any 24 hours.
    #[serde(default)]
    pub availability_goal_ppm: Option<i64>,
    /// The strictest `maxSkew` over zones of the pod's hard topology spread constraints.
    #[serde(default)]
    pub zone_max_skew: Option<i64>,
    /// The gang the pod belongs to: all or none of it is placed, in one zone.
    #[serde(default)]
    pub gang: Option<String>,
    /// When batch work last wrote a checkpoint, as reported by the running program: work after it is lost with the machine.
    #[serde(default)]
    pub checkpointed_at: Option<Timestamp>,
    /// When the owner would rather have the work moved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quiet_hours: Option<QuietHours>,
    /// No move by choice disturbs it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub do_not_disrupt: Option<DoNotDisrupt>,
    /// How to query the workload's usage from Prometheus, in the form `requests=QUERY`.
    #[serde(default)]
    pub usage_query: Option<UsageQuery>,
}

/// What a workload produces, for costs per unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UsageUnit {
    /// Requests answered.
    Requests,
    /// Transactions done.
    Transactions,
    /// Tokens read and written.
    Tokens,
    /// Users active in an hour: they do not add up to users of a day.
    Users,
    /// Tokens read.
    #[serde(rename = "tokens_in")]
    TokensIn,
    /// Tokens written.
    #[serde(rename = "tokens_out")]
    TokensOut,
    /// Different users of a calendar month, said of its first hour.
    #[serde(rename = "monthly_users")]
    MonthlyUsers,
}

impl UsageUnit {
    /// All of them.
    pub const ALL: [UsageUnit; 7] = [
        UsageUnit::Requests,
        UsageUnit::Transactions,
        UsageUnit::Tokens,
        UsageUnit::Users,
        UsageUnit::TokensIn,
        UsageUnit::TokensOut,
        UsageUnit::MonthlyUsers,
    ];

    /// Its name in annotations, files and tables.
    pub fn as_str(self) -> &'static str {
        match self {
            UsageUnit::Requests => "requests",
            UsageUnit::Transactions => "transactions",
            UsageUnit::Tokens => "tokens",
            UsageUnit::Users => "users",
            UsageUnit::TokensIn => "tokens_in",
            UsageUnit::TokensOut => "tokens_out",
            UsageUnit::MonthlyUsers => "monthly_users",
        }
    }

    /// The unit of this name.
    pub fn of(text: &str) -> Option<UsageUnit> {
        UsageUnit::ALL.into_iter().find(|unit| unit.as_str() == text)
    }
}

/// A Prometheus query whose result at the end of an hour is that hour's usage.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct UsageQuery {
    /// The unit.
    pub unit: UsageUnit,
    /// In PromQL, e.g. `sum(increase(http_requests_total{app="chat"}[1h]))`.
    pub query: String,
}

impl UsageQuery {
    /// Reads `requests=QUERY`.
    pub fn parse(text: &str) -> Option<UsageQuery> {
        let (unit, query) = text.split_once('=')?;
        let query = query.trim();
        // Users of a month cannot be asked hour by hour.
        let unit = UsageUnit::of(unit.trim()).filter(|unit| *unit != UsageUnit::MonthlyUsers)?;
        (!query.is_empty()).then_some(UsageQuery { unit, query: query.to_owned() })
    }
}

impl crate::core::workload::Attribution {
    /// Who owns the work and who pays, from the pod's labels with their default keys.
    pub fn from_labels(labels: &std::collections::BTreeMap<String, String>) -> Self {
        let of = |key: &str| labels.get(key).cloned();
        crate::core::workload::Attribution {
            team: of("team"),
            service: of("service"),
            environment: of("environment"),
            cost_center: of("cost-center"),
            product_area: of("product-area"),
            component: of("component"),
        }
    }
}
