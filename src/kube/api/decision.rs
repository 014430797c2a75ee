//! `GpuDecision`: the outbox. One record, durable before it is acted on, deleted once the ledger has it.

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::moment::Moment;
use super::schema;

/// One record on its way to the ledger.
#[derive(CustomResource, Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "lowtide.dev",
    version = "v1",
    kind = "GpuDecision",
    plural = "gpudecisions",
    shortname = "gdec",
    category = "lowtide",
    derive = "PartialEq",
    doc = "The outbox: a decision or fact on its way to the ledger. Written by lowtide before it acts, deleted once Postgres has it.",
    selectable = ".spec.kind",
    printcolumn(name = "Kind", type_ = "string", json_path = ".spec.kind"),
    printcolumn(name = "Trigger", type_ = "string", json_path = ".spec.trigger"),
    printcolumn(name = "Outcome", type_ = "string", json_path = ".spec.outcome"),
    printcolumn(name = "Subject", type_ = "string", json_path = ".spec.subject"),
    printcolumn(name = "Happened", type_ = "date", json_path = ".spec.happenedAt"),
    printcolumn(name = "Text", type_ = "string", json_path = ".spec.text", priority = "1"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.recordId == oldSelf.recordId && self.kind == oldSelf.kind && self.happenedAt == oldSelf.happenedAt").message("a GpuDecision is immutable: it records what was decided"))]
pub struct GpuDecisionSpec {
    /// Identity of the record in the ledger: writing it twice is harmless.
    #[schemars(length(min = 36, max = 36))]
    pub record_id: String,
    /// What it is: `decision`, `interval-opened`, ...
    #[schemars(schema_with = "schema::trigger")]
    pub kind: String,
    /// When the recorded event happened.
    pub happened_at: Moment,
    /// What triggered it, for a decision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub trigger: Option<String>,
    /// What was decided, for a decision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub outcome: Option<String>,
    /// What it is about: a pod, workload or claim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub subject: Option<String>,
    /// One sentence for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub text: Option<String>,
    /// The full record in the ledger's format.
    #[schemars(schema_with = "schema::raw_object")]
    pub record: serde_json::Value,
}
