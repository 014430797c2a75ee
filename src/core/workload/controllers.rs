//! The controllers above a pod: which workload it belongs to, and what happens when it goes.
//!
//! Decides: which controller counts as the workload, and which pods may surge.
//! Does not: move anything, or decide when (see `plan::migration`).

use std::collections::BTreeMap;

use super::need::constraints::HOSTNAME;
use super::need::{Metadata, OwnerReference, PodManifest, PodSpec};
use super::volumes::{Volumes, held_by_one_node};
use super::{LetGo, Mobility, Workload};
use crate::core::units::ids::{ObjectRef, Uid};

/// Pod label by which a Deployment's ReplicaSet selects its pods.
pub const POD_TEMPLATE_HASH: &str = "pod-template-hash";
/// Pod annotation: JSON of [`Workload`], written when the pod is released, because it loses its controller reference.
pub const WORKLOAD_REF: &str = "lowtide.dev/workload-ref";

/// A Deployment, as far as it matters for moving its pods.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeploymentFacts {
    /// Its name.
    pub name: String,
    /// `RollingUpdate` or `Recreate`.
    pub strategy: String,
    /// Desired replicas.
    pub replicas: i64,
}

/// Controllers between a pod and its workload, by uid.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Controllers {
    /// ReplicaSet uid to the Deployment that controls it (name and uid); `None` if no Deployment does.
    pub replica_sets: BTreeMap<String, Option<(String, String)>>,
    /// Deployments by uid.
    pub deployments: BTreeMap<String, DeploymentFacts>,
}

impl Controllers {
    /// Desired replicas of each Deployment (by uid).
    pub fn replicas_wanted(&self) -> BTreeMap<Uid, i64> {
        self.deployments.iter().map(|(uid, facts)| (Uid::from(uid.as_str()), facts.replicas)).collect()
    }

    /// The workload of a pod and how it can be moved.
    pub fn of(&self, pod: &PodManifest, volumes: &Volumes, let_go: Option<&LetGo>) -> (Workload, Mobility) {
        let meta = &pod.metadata;
        if let Some(mark) = let_go {
            return of_let_go(meta, mark);
        }
        let Some(owner) = meta.owner_references.iter().find(|o| o.controller) else {
            return (workload(meta, "Pod", meta.name.as_deref().unwrap_or_default()), Mobility::Bare);
        };
        match owner.kind.as_str() {
            "ReplicaSet" => self.of_replica_set(pod, volumes, owner),
            "Job" => {
                (workload(meta, "Job", &owner.name), Mobility::Job { job: owner.name.clone(), job_uid: Uid::from(owner.uid.as_str()) })
            }
            kind => (workload(meta, kind, &owner.name), break_first(format!("a {kind} creates the next pod only when this one is gone"))),
        }
    }

    fn of_replica_set(&self, pod: &PodManifest, volumes: &Volumes, set: &OwnerReference) -> (Workload, Mobility) {
        let meta = &pod.metadata;
        let (name, uid) = match self.replica_sets.get(&set.uid) {
            Some(Some(deployment)) => deployment.clone(),
            Some(None) => {
                return (workload(meta, "ReplicaSet", &set.name), break_first("its ReplicaSet belongs to no Deployment".to_owned()));
            }
            None => return (unseen_deployment(meta, set), break_first(format!("its ReplicaSet {} is not known", set.name))),
        };
        let work = workload(meta, "Deployment", &name);
        let Some(deployment) = self.deployments.get(&uid) else {
            return (work, break_first(format!("its Deployment {name} is not known")));
        };
        match held(pod, volumes, &deployment.name, &deployment.strategy) {
            Some(because) => (work, break_first(because)),
            None => {
                let replica_set = Uid::from(set.uid.as_str());
                (work, Mobility::Surge { replica_set, deployment: name, deployment_uid: Uid::from(uid) })
            }
        }
    }
}

/// Why a pod of a Deployment cannot be replaced before it goes, if it cannot.
pub fn held(pod: &PodManifest, volumes: &Volumes, deployment: &str, strategy: &str) -> Option<String> {
    if strategy != "RollingUpdate" {
        return Some(format!("the strategy of Deployment {deployment} is {strategy}"));
    }
    held_by_one_node(pod, volumes).or_else(|| held_by_port(&pod.spec)).or_else(|| held_by_company(&pod.spec))
}

/// Pods that it must share a machine with: the scheduler keeps a replacement off every other machine while they are there.
fn held_by_company(spec: &PodSpec) -> Option<String> {
    let near = spec.affinity.as_ref()?.pod_affinity.as_ref()?;
    let on_machine = near.required_during_scheduling_ignored_during_execution.iter().any(|term| term.topology_key == HOSTNAME);
    on_machine.then(|| "its podAffinity over kubernetes.io/hostname keeps it on the machine of other pods".to_owned())
}

/// A host port that two pods of one template could not both have on one node.
fn held_by_port(spec: &PodSpec) -> Option<String> {
    let containers = spec.containers.iter().chain(&spec.init_containers);
    let port = containers.flat_map(|c| &c.ports).find_map(|p| p.host_port.filter(|n| *n > 0));
    if spec.host_network {
        return Some("it uses the host network, whose ports can be used only once per node".to_owned());
    }
    port.map(|p| format!("hostPort {p} can be used only once per node"))
}

/// The ReplicaSet is not (or no longer) in the watch: a Deployment names its sets `<name>-<hash>`.
fn unseen_deployment(meta: &Metadata, set: &OwnerReference) -> Workload {
    let hash = meta.labels.get(POD_TEMPLATE_HASH);
    match hash.and_then(|h| set.name.strip_suffix(h.as_str())).and_then(|n| n.strip_suffix('-')) {
        Some(deployment) => workload(meta, "Deployment", deployment),
        None => workload(meta, "ReplicaSet", &set.name),
    }
}

/// A released pod has no controller: the mark says which one will recreate it, the annotation which workload it belongs to.
fn of_let_go(meta: &Metadata, mark: &LetGo) -> (Workload, Mobility) {
    let owner = meta.owner_references.iter().find(|o| o.kind == "Deployment" || o.kind == "Job");
    let kept = meta.annotations.get(WORKLOAD_REF).and_then(|t| serde_json::from_str::<Workload>(t).ok());
    // Work of another namespace is never its own, whoever wrote that: others would pay for it.
    let own = kept.filter(|work| Some(&work.object.namespace) == meta.namespace.as_ref());
    let work = own.unwrap_or_else(|| match owner {
        Some(o) => workload(meta, &o.kind, &o.name),
        None => workload(meta, "Pod", meta.name.as_deref().unwrap_or_default()),
    });
    let mobility = match work.kind.as_str() {
        "Deployment" => Mobility::Surge {
            replica_set: mark.controller.clone(),
            deployment: work.object.name.clone(),
            deployment_uid: Uid::from(owner.map_or("", |o| o.uid.as_str())),
        },
        "Job" => Mobility::Job { job: work.object.name.clone(), job_uid: mark.controller.clone() },
        _ => Mobility::Bare,
    };
    (work, mobility)
}

fn workload(meta: &Metadata, kind: &str, name: &str) -> Workload {
    let namespace = meta.namespace.clone().unwrap_or_default();
    Workload { kind: kind.to_owned(), object: ObjectRef { namespace, name: name.to_owned() } }
}

fn break_first(because: String) -> Mobility {
    Mobility::BreakFirst { because }
}
