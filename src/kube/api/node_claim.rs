//! `GpuNodeClaim`: one machine, the durable intent. Its spec is written before any money is spent and never changes.

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::condition::Condition;
use super::moment::Moment;
use super::node_class::GpuSharing;
use super::schema;
use crate::core::fleet::{EndedBy, ScheduledKind, Trigger};
use crate::core::market::{CapacityType, CoolDownCause, PriceSource};
use crate::core::units::money::MicroUsdPerHour;

/// What is bought, and why. Immutable: another machine is another claim.
#[derive(CustomResource, Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "lowtide.dev",
    version = "v1",
    kind = "GpuNodeClaim",
    plural = "gpunodeclaims",
    shortname = "gcl",
    category = "lowtide",
    status = "GpuNodeClaimStatus",
    derive = "PartialEq",
    doc = "One GPU machine: what was bought, why, at what price, and its progress. Written by lowtide.",
    selectable = ".spec.nodePool",
    selectable = ".spec.region",
    printcolumn(name = "Type", type_ = "string", json_path = ".spec.instanceType"),
    printcolumn(name = "Zone", type_ = "string", json_path = ".spec.zone"),
    printcolumn(name = "Capacity", type_ = "string", json_path = ".spec.capacityType"),
    printcolumn(name = "$/h", type_ = "string", json_path = ".spec.pricePerHour"),
    printcolumn(name = "Saved/h", type_ = "string", json_path = ".spec.savedPerHour"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Instance", type_ = "string", json_path = ".status.instanceId", priority = "1"),
    printcolumn(name = "Pool", type_ = "string", json_path = ".spec.nodePool", priority = "1"),
    printcolumn(name = "Node", type_ = "string", json_path = ".status.nodeName", priority = "1"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".spec.reason", priority = "1")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self == oldSelf").message("the spec of a GpuNodeClaim is immutable: it records what was bought"))]
pub struct GpuNodeClaimSpec {
    /// The `GpuNodePool` whose policy applies.
    #[schemars(length(min = 1, max = 253))]
    pub node_pool: String,
    /// The `GpuNodeClass` that configures the node.
    #[schemars(length(min = 1, max = 253))]
    pub node_class: String,
    /// The region.
    #[schemars(schema_with = "schema::region")]
    pub region: String,
    /// The zone id, e.g. `use1-az4`.
    #[schemars(length(min = 1, max = 64))]
    pub zone: String,
    /// The instance type, e.g. `g6.xlarge`.
    #[schemars(length(min = 1, max = 64))]
    pub instance_type: String,
    /// How it is bought.
    #[schemars(schema_with = "schema::capacity_type")]
    pub capacity_type: CapacityType,
    /// The price it was decided at, in US dollars per hour for the machine.
    #[schemars(schema_with = "schema::usd")]
    pub price_per_hour: MicroUsdPerHour,
    /// Source of that price.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::optional_price_source")]
    pub price_source: Option<PriceSource>,
    /// When that price was last confirmed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price_observed_at: Option<Moment>,
    /// On-demand price of the same type in the same region, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::optional_usd")]
    pub on_demand_per_hour: Option<MicroUsdPerHour>,
    /// `onDemandPerHour` less `pricePerHour`, for the printer column.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::optional_usd")]
    pub saved_per_hour: Option<MicroUsdPerHour>,
    /// GPUs of the machine.
    #[schemars(range(min = 1, max = 64))]
    pub gpus: i64,
    /// The decision that bought it.
    #[schemars(length(min = 1, max = 64))]
    pub decision_id: String,
    /// What triggered the decision.
    #[schemars(schema_with = "schema::trigger")]
    pub reason: Trigger,
    /// Attempt number; EC2's idempotency token is derived from it and the claim's uid.
    #[schemars(with = "i32", range(min = 1))]
    pub attempt: u32,
    /// Launch parameters, frozen: a new image or template cannot make a second token.
    pub launch: FrozenLaunch,
    /// How its node shares GPUs, as specified by its class when it was bought. Absent: exclusive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu_sharing: Option<GpuSharing>,
    /// The pods it was bought for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1024))]
    pub created_for: Vec<PodRef>,
    /// What was decided about those pods. The pods carry a copy; this is what counts. Absent where lowtide kept none: machines of 0.1.0, and
    /// those that were adopted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub bindings: Option<Vec<PodBinding>>,
    /// The claim whose work it will take over, bought before that claim is left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub takes_over: Option<String>,
    /// The existing instance it was created for by `lowtide adopt`: nothing is launched for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub adopted_instance: Option<String>,
    /// The uid of the claim it was launched for, under which the ledger keeps its books. Only of adopted instances.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub books_uid: Option<String>,
}

/// Launch parameters, frozen in the claim.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct FrozenLaunch {
    /// Launch template name.
    pub launch_template: String,
    /// Its version.
    pub launch_template_version: String,
    /// The subnet in the zone.
    pub subnet: String,
    /// The image it boots; absent: the launch template's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub image: Option<String>,
    /// The capacity reservation it is launched into.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub capacity_reservation: Option<String>,
    /// Tags of the instance, without those derived from the claim's uid.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
}

/// A pod.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodRef {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
}

/// Where a claim is in its life cycle, for people; the timestamps decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize, schemars::JsonSchema)]
pub enum ClaimPhase {
    /// Written; EC2 has not been asked yet.
    #[default]
    Pending,
    /// EC2 was asked: something may exist.
    Launching,
    /// The instance is known; its node has not joined.
    Launched,
    /// The node is Ready with its GPUs.
    Ready,
    /// Work is being moved off.
    Draining,
    /// EC2 was asked to terminate it.
    Terminating,
    /// EC2 refused it, or it never became a node.
    Failed,
    /// A phase from another version: shown to people, used for no decision.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}

/// A claim's progress. Every field is written before the step it refers to, or when the step was observed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct GpuNodeClaimStatus {
    /// Where it is in its life cycle.
    #[serde(default)]
    pub phase: ClaimPhase,
    /// EC2 was asked: from here on something may exist.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub launch_asked_at: Option<Moment>,
    /// The instance, once known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_id: Option<String>,
    /// EC2's launch time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub launched_at: Option<Moment>,
    /// The node, once it joined.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_name: Option<String>,
    /// When the node was Ready with its GPUs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_ready_at: Option<Moment>,
    /// Why the launch failed: the claim is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// EC2 will take the machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interruption: Option<InterruptionMark>,
    /// EC2 has scheduled a reboot, maintenance or the retirement of the instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduled: Option<ScheduledEvent>,
    /// Work is being moved off.
    #[serde(default, rename = "move", skip_serializing_if = "Option::is_none")]
    pub move_: Option<MoveMark>,
    /// Since when work is being moved off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub draining_since: Option<Moment>,
    /// Pods that run here, so that their end is noticed across a restart.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub occupants: Vec<Occupant>,
    /// What was decided about the pods that were bound here after it was bought, by their uids. The pods carry a copy; this is what counts.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 1024))]
    pub bindings: BTreeMap<String, PodBinding>,
    /// Since when nothing is bound here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub empty_since: Option<Moment>,
    /// What is wrong with its node, and since when; absent while it is healthy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unhealthy: Option<Unhealthy>,
    /// Fingerprints of needs whose pods were released to its node but that the scheduler did not bind there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub misfits: Vec<String>,
    /// The uid of the definition (CRD) of node pools when its pool was last seen. If the pool is gone and another definition is there, it went with all
    /// others and was not deleted by itself: the machine stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool_definition_uid: Option<String>,
    /// EC2 was asked to terminate it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub termination: Option<Termination>,
    /// The instance has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Ended>,
    /// `Launched`, `Ready`, `Interrupted`, `Drained`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// When `phase` last changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_transition: Option<Moment>,
}

/// What is wrong with a node after it joined.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Unhealthy {
    /// What it is, e.g. `node-not-ready`.
    #[schemars(schema_with = "schema::trigger")]
    pub reason: Trigger,
    /// Since when it was seen.
    pub since: Moment,
}

/// Why a launch failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// What it means for the capacity pool, e.g. `no-capacity`.
    #[schemars(schema_with = "schema::trigger")]
    pub cause: CoolDownCause,
    /// EC2's code, e.g. `InsufficientInstanceCapacity`.
    #[serde(default)]
    pub code: String,
    /// EC2's message.
    pub message: String,
    /// When.
    pub at: Moment,
}

/// What EC2 announced for the instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct InterruptionMark {
    /// Interruption or rebalance.
    pub kind: InterruptionKind,
    /// When lowtide saw it.
    pub noticed_at: Moment,
    /// When EC2 takes the machine; absent for a rebalance recommendation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Moment>,
    /// Where lowtide saw it: `sqs`, `agent`, `ec2-state`.
    pub source: String,
}

/// What EC2 has scheduled for the instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScheduledEvent {
    /// EC2's code, e.g. `instance-retirement`.
    #[schemars(schema_with = "schema::trigger")]
    pub code: ScheduledKind,
    /// When it begins at the earliest.
    pub not_before: Moment,
    /// When lowtide saw it.
    pub noticed_at: Moment,
    /// Where lowtide saw it: `health`, `ec2-status`.
    pub source: String,
}

/// The kind of warning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum InterruptionKind {
    /// Two minutes are left.
    Interruption,
    /// At risk.
    Rebalance,
}

/// Why work is moved off.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct MoveMark {
    /// What triggered the decision.
    #[schemars(schema_with = "schema::trigger")]
    pub reason: Trigger,
    /// The decision.
    pub decision_id: String,
    /// When.
    pub decided_at: Moment,
}

/// A pod that runs on the claim's node.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Occupant {
    /// The pod's namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// Since when.
    pub from: Moment,
    /// When it was first Ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_at: Option<Moment>,
    /// Until when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Moment>,
}

/// What was decided about a pod that was bound to the claim.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodBinding {
    /// The pod's uid.
    pub pod_uid: String,
    /// The decision that bound it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision_id: Option<String>,
    /// How often it has been bound, this time included.
    #[schemars(with = "i64", range(min = 0))]
    pub attempt: u64,
    /// What one replica would have cost otherwise, as in the pod's annotation `lowtide.dev/baseline`.
    pub baseline: String,
    /// The pod it replaces, as in the annotation `lowtide.dev/replaces`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaces: Option<String>,
}

/// How the instance ended, as far as the bill cares.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Ended {
    /// When billing stopped.
    pub at: Moment,
    /// Who ended it.
    #[schemars(schema_with = "schema::ended_by")]
    pub by: EndedBy,
    /// The decision that ended it, if one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision_id: Option<String>,
}

/// EC2 was asked to terminate the instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Termination {
    /// When EC2 was asked.
    pub asked_at: Moment,
    /// By which decision.
    pub decision_id: String,
    /// Why.
    #[schemars(schema_with = "schema::trigger")]
    pub reason: Trigger,
}
