//! A Kubernetes Pod as the core sees it.
//!
//! Decides: which phase a pod is in for us, which Services list it, and what its annotations of ours say.
//! Does not: decide whose work it is (see [`super::workloads`]), or what its annotations ask for (see `core::need`).

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use k8s_openapi::jiff;

use super::api::words;
use super::endpoints::Endpoints;
use super::names;
use super::workloads::Owners;
use crate::core::units::ids::{ClaimName, DecisionId, NodeName, ObjectRef, Uid};
use crate::core::units::time::{Millis, Timestamp};
use crate::core::workload::need::{self, Need, PodManifest, Schedule, WorkloadKind};
use crate::core::workload::{Attribution, LetGo, PodIdentity, PodPhase};

/// Which labels of a pod say who pays. Platform teams may have words of their own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttributionKeys {
    /// Label of the team.
    pub team: String,
    /// Label of the service.
    pub service: String,
    /// Label of the environment.
    pub environment: String,
    /// Label of the cost center.
    pub cost_center: String,
    /// Label of the product area.
    pub product_area: String,
    /// Label of the component: training, inference, baseline or api.
    pub component: String,
}

impl Default for AttributionKeys {
    fn default() -> Self {
        AttributionKeys {
            team: "team".into(),
            service: "service".into(),
            environment: "environment".into(),
            cost_center: "cost-center".into(),
            product_area: "product-area".into(),
            component: "component".into(),
        }
    }
}

/// What a pod asks for, or every fault in how it asks.
pub type NeedAnswer = Result<(Need, Schedule), Vec<String>>;

/// Everything beside the pod that its reading needs.
#[derive(Debug, Clone, Copy)]
pub struct PodReader<'a> {
    /// Controllers above pods.
    pub owners: &'a Owners,
    /// Services of pods.
    pub endpoints: &'a Endpoints,
    /// Who pays.
    pub keys: &'a AttributionKeys,
}

/// What is wrong with a pod that the API server never gives out so.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("pod {pod} has no {field}: expected one from every object of the API server; it is left out")]
pub struct IncompletePod {
    /// Namespace and name, as far as known.
    pub pod: String,
    /// What is missing.
    pub field: &'static str,
}

impl PodReader<'_> {
    /// Reads one pod; `need` is what [`need_of`] said about it.
    ///
    /// # Errors
    /// When the object has no name, uid, resourceVersion or creation time.
    pub fn read(&self, pod: &Pod, need: NeedAnswer) -> Result<crate::core::workload::Pod, IncompletePod> {
        let meta = &pod.metadata;
        let object = ObjectRef { namespace: meta.namespace.clone().unwrap_or_default(), name: meta.name.clone().unwrap_or_default() };
        let missing = |field| IncompletePod { pod: object.to_string(), field };
        let uid = meta.uid.clone().ok_or_else(|| missing("metadata.uid"))?;
        let resource_version = meta.resource_version.clone().ok_or_else(|| missing("metadata.resourceVersion"))?;
        let created_at = meta.creation_timestamp.as_ref().ok_or_else(|| missing("metadata.creationTimestamp"))?.0;
        let let_go: Option<LetGo> = mark(pod, names::LET_GO);
        let (workload, mobility) = self.owners.of(pod, let_go.as_ref());
        let services = self.endpoints.of(&uid);
        let spec = pod.spec.as_ref();
        Ok(crate::core::workload::Pod {
            identity: PodIdentity { object, uid: Uid::from(uid) },
            resource_version,
            created_at: timestamp(created_at),
            workload,
            mobility,
            attribution: attribution(meta.labels.as_ref(), self.keys, need.as_ref().ok().map(|(need, _)| need.kind)),
            need,
            phase: phase(pod),
            started_at: started_at(pod),
            ready_since: ready_since(pod),
            deleting_until: meta.deletion_timestamp.as_ref().map(|t| timestamp(t.0)),
            // 30 s is the API server's default; it fills the field in itself.
            termination_grace: Millis::from_secs(spec.and_then(|s| s.termination_grace_period_seconds).unwrap_or(30)),
            claim: annotation(pod, names::CLAIM).map(ClaimName::from),
            placed_by: annotation(pod, names::DECISION).and_then(|t| t.parse().ok()).map(DecisionId),
            baseline: mark(pod, names::BASELINE).unwrap_or_default(),
            attempt: annotation(pod, names::ATTEMPT).and_then(|t| t.parse().ok()).unwrap_or_default(),
            node: spec.and_then(|s| s.node_name.as_deref()).map(NodeName::from),
            replaces: mark(pod, names::REPLACES),
            let_go,
            services: services.listed,
            ready_in: services.ready,
        })
    }
}

/// What the pod asks for.
pub fn need_of(pod: &Pod) -> NeedAnswer {
    let manifest: PodManifest =
        serde_json::to_value(pod).and_then(serde_json::from_value).map_err(|e| vec![format!("the pod's manifest cannot be read: {e}")])?;
    need::parse(&manifest).map_err(|faults| faults.iter().map(ToString::to_string).collect())
}

fn annotation<'a>(pod: &'a Pod, key: &str) -> Option<&'a str> {
    pod.metadata.annotations.as_ref()?.get(key).map(String::as_str)
}

/// A mark of ours; one that cannot be read counts as absent, and is told.
fn mark<T: serde::de::DeserializeOwned>(pod: &Pod, key: &str) -> Option<T> {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    serde_json::from_str(annotation(pod, key)?)
        .inspect_err(|error| tracing::warn!(pod = name, key, %error, "an annotation of ours cannot be read and counts as absent"))
        .ok()
}

fn phase(pod: &Pod) -> PodPhase {
    let said = pod.status.as_ref().and_then(|s| s.phase.as_deref()).unwrap_or_default();
    let gates = pod.spec.as_ref().and_then(|s| s.scheduling_gates.as_deref()).unwrap_or_default();
    match (said, gates) {
        ("Succeeded", _) => PodPhase::Succeeded,
        ("Failed", _) => PodPhase::Failed,
        ("Running", _) => PodPhase::Running,
        (_, []) => PodPhase::Pending,
        (_, [only]) if only.name == words::GATE => PodPhase::Gated,
        (_, _) => PodPhase::GatedByOthers,
    }
}

/// When the first of its containers that run began to; before the kubelet says so of any, nothing.
fn started_at(pod: &Pod) -> Option<Timestamp> {
    let statuses = pod.status.as_ref()?.container_statuses.as_ref()?;
    let began = |s: &ContainerStatus| {
        let state = s.state.as_ref()?;
        let running = state.running.as_ref().and_then(|r| r.started_at.as_ref());
        let ended = state.terminated.as_ref().and_then(|t| t.started_at.as_ref());
        running.or(ended).map(|t| timestamp(t.0))
    };
    // A container that was restarted began later; the pod holds its GPUs since the kubelet took it.
    let restarted = statuses.iter().any(|s| s.restart_count > 0);
    let taken = || pod.status.as_ref()?.start_time.as_ref().map(|t| timestamp(t.0));
    if restarted { taken() } else { statuses.iter().filter_map(began).min().or_else(taken) }
}

fn ready_since(pod: &Pod) -> Option<Timestamp> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let ready = conditions.iter().find(|c| c.type_ == "Ready" && c.status == "True")?;
    ready.last_transition_time.as_ref().map(|t| timestamp(t.0))
}

fn attribution(labels: Option<&BTreeMap<String, String>>, keys: &AttributionKeys, kind: Option<WorkloadKind>) -> Attribution {
    let label = |key: &str| labels.and_then(|l| l.get(key)).cloned();
    let said = Attribution {
        team: label(&keys.team),
        service: label(&keys.service),
        environment: label(&keys.environment),
        cost_center: label(&keys.cost_center),
        product_area: label(&keys.product_area),
        component: label(&keys.component),
    };
    match kind {
        Some(kind) => said.or_component_of(kind),
        None => said,
    }
}

/// A Kubernetes time as the core counts it.
pub fn timestamp(at: jiff::Timestamp) -> Timestamp {
    Timestamp(at.as_millisecond())
}

#[cfg(test)]
mod tests;
