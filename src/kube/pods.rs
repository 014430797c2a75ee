//! A Kubernetes Pod as the core sees it.
//!
//! Decides: which phase a pod is in for us, which Services list it, what our annotations on it say, and what is kept of it.
//! Does not: decide what its manifest needs, whose work it is or how it is moved (see `core::workload::pod_reader`).

use k8s_openapi::api::core::v1::{Container, ContainerStatus, EphemeralVolumeSource, Pod, PodCondition, PodSpec, PodStatus, Volume};
use k8s_openapi::jiff;

use super::api::words;
use super::endpoints::Endpoints;
use super::names;
use crate::core::units::ids::{ClaimName, DecisionId, NodeName, ObjectRef, Uid};
use crate::core::units::shared::Shared;
use crate::core::units::time::Timestamp;
use crate::core::workload as core_workload;
use crate::core::workload::need::{NeedAnswer, PodManifest, do_not_disrupt};
pub use crate::core::workload::pod_reader::AttributionKeys;
use crate::core::workload::pod_reader::{PodReader, ReadPod};
use crate::core::workload::{LetGo, PodIdentity, PodPhase, PodRules, Stuck};

/// Everything besides the pod that reading it needs.
#[derive(Debug, Clone, Copy)]
pub struct WatchedPods<'a> {
    /// The one reader of manifests.
    pub reader: PodReader<'a>,
    /// Services of pods.
    pub endpoints: &'a Endpoints,
}

/// What is wrong with a pod that the API server would never return.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("pod {pod} has no {field}: every object from the API server should have one; the pod is left out")]
pub struct IncompletePod {
    /// Namespace and name, as far as known.
    pub pod: String,
    /// What is missing.
    pub field: &'static str,
}

impl WatchedPods<'_> {
    /// Reads one pod. What one asks for whose manifest cannot be read is not known, and says why.
    ///
    /// # Errors
    /// When the object has no name, uid, resourceVersion or creation time.
    pub fn read(&self, pod: &Pod) -> Result<core_workload::Pod, IncompletePod> {
        match manifest_of(pod) {
            Ok(manifest) => self.read_asked(pod, &manifest, (self.reader.need(&manifest), self.reader.rules(&manifest))),
            Err(fault) => self.read_asked(pod, &PodManifest::default(), (Err(vec![fault]), Shared::default())),
        }
    }

    /// `manifest` and `asked` are what [`manifest_of`] and the reader said about it.
    fn read_asked(
        &self,
        pod: &Pod,
        manifest: &PodManifest,
        asked: (NeedAnswer, Shared<PodRules>),
    ) -> Result<core_workload::Pod, IncompletePod> {
        let meta = &pod.metadata;
        let object = ObjectRef { namespace: meta.namespace.clone().unwrap_or_default(), name: meta.name.clone().unwrap_or_default() };
        let missing = |field| IncompletePod { pod: object.to_string(), field };
        let uid = meta.uid.clone().ok_or_else(|| missing("metadata.uid"))?;
        let resource_version = meta.resource_version.clone().ok_or_else(|| missing("metadata.resourceVersion"))?;
        let created_at = meta.creation_timestamp.as_ref().ok_or_else(|| missing("metadata.creationTimestamp"))?.0;
        let let_go: Option<LetGo> = mark(pod, names::LET_GO);
        let ReadPod { workload, mobility, need, rules, attribution, termination_grace } =
            self.reader.read(manifest, asked, let_go.as_ref());
        let services = self.endpoints.of(&uid);
        let spec = pod.spec.as_ref();
        Ok(core_workload::Pod {
            identity: PodIdentity { object: object.into(), uid: Uid::from(uid) },
            resource_version,
            created_at: timestamp(created_at),
            workload,
            mobility,
            need,
            rules,
            attribution,
            phase: phase(pod),
            started_at: started_at(pod),
            ready_since: ready_since(pod),
            stuck: stuck(pod).map(Box::new),
            deleting_until: meta.deletion_timestamp.as_ref().map(|t| timestamp(t.0)),
            termination_grace,
            claim: annotation(pod, names::CLAIM).map(ClaimName::from),
            placed_by: annotation(pod, names::DECISION).and_then(|t| t.parse().ok()).map(DecisionId),
            baseline: mark(pod, names::BASELINE).unwrap_or_default(),
            attempt: annotation(pod, names::ATTEMPT).and_then(|t| t.parse().ok()).unwrap_or_default(),
            node: spec.and_then(|s| s.node_name.as_deref()).map(NodeName::from),
            replaces: mark(pod, names::REPLACES),
            let_go: let_go.map(Box::new),
            services: services.listed.into(),
            ready_in: services.ready.into(),
        })
    }
}

/// The part of a pod that decides where it may run.
///
/// # Errors
/// A message, if a field does not have the form that Kubernetes gives it.
pub fn manifest_of(pod: &Pod) -> Result<PodManifest, String> {
    if let Some(bytes) = annotation(pod, TOO_LARGE) {
        return Err(format!(
            "labels, annotations, requests, affinity and tolerations of the pod take {bytes} bytes, expected {LARGEST_ASK} at most: leave out what it can do without"
        ));
    }
    serde_json::to_value(pod).and_then(serde_json::from_value).map_err(|e| format!("the pod's manifest cannot be read: {e}"))
}

/// What is kept of a pod of ours: what is read, and nothing else. Of one that waits, or that we never placed, and asks for more than [`LARGEST_ASK`] only what it is called and what we
/// wrote on it: its owner may make as many as it likes, and the operator has half a gigabyte.
pub fn trim(pod: &mut Pod) {
    if let Some(annotations) = &mut pod.metadata.annotations {
        annotations.retain(|key, _| key.starts_with(OURS) && key != TOO_LARGE || do_not_disrupt::KEYS.contains(&key.as_str()));
    }
    (pod.metadata.finalizers, pod.metadata.generate_name) = (None, None);
    pod.spec = pod.spec.take().map(asked_of);
    trim_status(pod);
    cut_if_too_large(pod);
}

/// The part of a pod's spec that is read: the fields of [`crate::core::workload::need::PodManifest`], and its gates.
pub fn asked_of(spec: PodSpec) -> PodSpec {
    let container = |it: Container| Container {
        name: it.name,
        resources: it.resources,
        restart_policy: it.restart_policy,
        ports: it.ports,
        ..Container::default()
    };
    // Those that tie it to a place: not what every pod has, the token of its account. Of a claim of its own only that it is there counts.
    let volume = |it: Volume| Volume {
        name: it.name,
        persistent_volume_claim: it.persistent_volume_claim,
        ephemeral: it.ephemeral.map(|_| EphemeralVolumeSource::default()),
        ..Volume::default()
    };
    let ties = |it: &Volume| it.persistent_volume_claim.is_some() || it.ephemeral.is_some();
    PodSpec {
        scheduling_gates: spec.scheduling_gates,
        containers: spec.containers.into_iter().map(container).collect(),
        init_containers: spec.init_containers.map(|all| all.into_iter().map(container).collect()),
        overhead: spec.overhead,
        node_selector: spec.node_selector,
        affinity: spec.affinity,
        tolerations: spec.tolerations,
        topology_spread_constraints: spec.topology_spread_constraints,
        volumes: spec.volumes.map(|all| all.into_iter().filter(ties).map(volume).collect()),
        termination_grace_period_seconds: spec.termination_grace_period_seconds,
        node_name: spec.node_name,
        scheduler_name: spec.scheduler_name,
        resource_claims: spec.resource_claims,
        host_network: spec.host_network,
        resources: spec.resources,
        priority: spec.priority,
        priority_class_name: spec.priority_class_name,
        runtime_class_name: spec.runtime_class_name,
        os: spec.os,
        ..PodSpec::default()
    }
}

fn trim_status(pod: &mut Pod) {
    let Some(status) = pod.status.take() else { return };
    let of = |statuses: Option<Vec<ContainerStatus>>| {
        let kept = |s: ContainerStatus| ContainerStatus {
            name: s.name,
            state: s.state,
            restart_count: s.restart_count,
            ..ContainerStatus::default()
        };
        statuses.map(|statuses| statuses.into_iter().map(kept).collect())
    };
    let conditions = status.conditions.map(|all| all.into_iter().filter(|c| c.type_ == "Ready" || c.type_ == "PodScheduled").collect());
    pod.status = Some(PodStatus {
        phase: status.phase,
        start_time: status.start_time,
        conditions,
        container_statuses: of(status.container_statuses),
        init_container_statuses: of(status.init_container_statuses),
        ..PodStatus::default()
    });
}

/// So much of a pod is read at most, as JSON. The largest of real ones have a quarter of it.
const LARGEST_ASK: usize = 16 << 10;
/// Written on a pod here, in memory, in place of what it asks for: how many bytes that was.
const TOO_LARGE: &str = "lowtide.dev/too-large";

fn cut_if_too_large(pod: &mut Pod) {
    let waits = pod.spec.as_ref().and_then(|spec| spec.scheduling_gates.as_ref()).is_some_and(|gates| !gates.is_empty());
    let bytes = if waits || annotation(pod, names::CLAIM).is_none() { serde_json::to_vec(&pod).map_or(0, |json| json.len()) } else { 0 };
    if bytes <= LARGEST_ASK {
        return;
    }
    let gates = pod.spec.as_mut().and_then(|spec| spec.scheduling_gates.take()).unwrap_or_default();
    // Which gates hold it is all that counts of them: ours alone, or others.
    let gates = gates.into_iter().take(2).collect();
    let node_name = pod.spec.as_mut().and_then(|spec| spec.node_name.take());
    pod.spec = Some(PodSpec { scheduling_gates: Some(gates), node_name, ..PodSpec::default() });
    pod.metadata.labels = None;
    let annotations = pod.metadata.annotations.get_or_insert_default();
    annotations.retain(|key, _| OWN_MARKS.contains(&key.as_str()));
    annotations.insert(TOO_LARGE.to_owned(), bytes.to_string());
}

/// What lowtide itself writes on pods that wait.
const OWN_MARKS: [&str; 5] = [names::CLAIM, names::DECISION, names::BASELINE, names::ATTEMPT, names::REPLACES];

/// What annotations that count begin with.
const OURS: &str = "lowtide.dev/";

fn annotation<'a>(pod: &'a Pod, key: &str) -> Option<&'a str> {
    pod.metadata.annotations.as_ref()?.get(key).map(String::as_str)
}

/// One of our marks; one that cannot be read counts as absent, and is logged.
fn mark<T: serde::de::DeserializeOwned>(pod: &Pod, key: &str) -> Option<T> {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    serde_json::from_str(annotation(pod, key)?)
        .inspect_err(|error| tracing::warn!(pod = name, key, %error, "one of our annotations cannot be read and counts as absent"))
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

/// When the first of its running containers started; `None` before the kubelet reports one.
fn started_at(pod: &Pod) -> Option<Timestamp> {
    let statuses = pod.status.as_ref()?.container_statuses.as_ref()?;
    let began = |s: &ContainerStatus| {
        let state = s.state.as_ref()?;
        let running = state.running.as_ref().and_then(|r| r.started_at.as_ref());
        let ended = state.terminated.as_ref().and_then(|t| t.started_at.as_ref());
        running.or(ended).map(|t| timestamp(t.0))
    };
    // A restarted container started later; the pod has held its GPUs since the kubelet accepted it.
    let restarted = statuses.iter().any(|s| s.restart_count > 0);
    let taken = || pod.status.as_ref()?.start_time.as_ref().map(|t| timestamp(t.0));
    if restarted { taken() } else { statuses.iter().filter_map(began).min().or_else(taken) }
}

fn ready_since(pod: &Pod) -> Option<Timestamp> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let ready = conditions.iter().find(|c| c.type_ == "Ready" && c.status == "True")?;
    ready.last_transition_time.as_ref().map(|t| timestamp(t.0))
}

/// What keeps it from running: the scheduler found no node, or the kubelet waits for something. The time is the condition's own.
fn stuck(pod: &Pod) -> Option<Stuck> {
    let status = pod.status.as_ref()?;
    let conditions = status.conditions.as_deref().unwrap_or_default();
    let of = |kind: &str| conditions.iter().find(|c| c.type_ == kind && c.status != "True");
    let at = |c: &PodCondition| c.last_transition_time.as_ref().map(|t| timestamp(t.0));
    if let Some(unscheduled) = of("PodScheduled").filter(|c| c.reason.as_deref() != Some("SchedulingGated")) {
        return Some(Stuck { since: at(unscheduled)?, said: unscheduled.message.clone().unwrap_or_default() });
    }
    let not_ready = of("Ready")?;
    let statuses = status.init_container_statuses.iter().flatten().chain(status.container_statuses.iter().flatten());
    let waits = |s: &ContainerStatus| {
        let waiting = s.state.as_ref()?.waiting.as_ref()?;
        let (reason, message) = (waiting.reason.as_deref().unwrap_or_default(), waiting.message.as_deref().unwrap_or_default());
        Some(format!("container {}: {reason} {message}", s.name).trim_end().to_owned())
    };
    let said = statuses.filter_map(waits).next().or_else(|| not_ready.message.clone()).unwrap_or_default();
    Some(Stuck { since: at(not_ready)?, said })
}

/// A Kubernetes time in the core's type.
pub fn timestamp(at: jiff::Timestamp) -> Timestamp {
    Timestamp(at.as_millisecond())
}

#[cfg(test)]
mod tests;
