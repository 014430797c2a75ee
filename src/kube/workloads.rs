//! Whose work a pod is, and how it can be moved.
//!
//! Decides: which controller counts as the workload, and which pods may surge.
//! Does not: move anything (see [`super::apply`]), or decide when (see `core::migration`).

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{Pod, PodSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::core::PartialObjectMeta;

use super::names;
use crate::core::units::ids::{ObjectRef, Uid};
use crate::core::workload::{LetGo, Mobility, Workload};

/// A Deployment as far as moving its pods goes.
#[derive(Debug, Clone, PartialEq, Eq)]
struct DeploymentFacts {
    name: String,
    strategy: String,
    replicas: i64,
}

/// Controllers between a pod and its workload, by uid.
#[derive(Debug, Clone, Default)]
pub struct Owners {
    /// ReplicaSet uid to the Deployment that controls it: name and uid.
    replica_sets: BTreeMap<String, Option<(String, String)>>,
    deployments: BTreeMap<String, DeploymentFacts>,
}

impl Owners {
    /// Reads the owners of ReplicaSets and the strategy of Deployments.
    pub fn read<'a>(
        replica_sets: impl Iterator<Item = &'a PartialObjectMeta<ReplicaSet>>,
        deployments: impl Iterator<Item = &'a Deployment>,
    ) -> Self {
        let mut owners = Owners::default();
        for set in replica_sets {
            let owner = controller(&set.metadata).filter(|o| o.kind == "Deployment").map(|o| (o.name.clone(), o.uid.clone()));
            owners.replica_sets.insert(set.metadata.uid.clone().unwrap_or_default(), owner);
        }
        for deployment in deployments {
            let strategy = deployment.spec.as_ref().and_then(|s| s.strategy.as_ref()).and_then(|s| s.type_.clone());
            let facts = DeploymentFacts {
                name: deployment.metadata.name.clone().unwrap_or_default(),
                strategy: strategy.unwrap_or_else(|| "RollingUpdate".to_owned()),
                // One is the API server's default; it fills the field in itself.
                replicas: deployment.spec.as_ref().and_then(|s| s.replicas).map_or(1, i64::from),
            };
            owners.deployments.insert(deployment.metadata.uid.clone().unwrap_or_default(), facts);
        }
        owners
    }

    /// Replicas that each Deployment (by uid) wants.
    pub fn replicas_wanted(&self) -> BTreeMap<Uid, i64> {
        self.deployments.iter().map(|(uid, facts)| (Uid::from(uid.as_str()), facts.replicas)).collect()
    }

    /// The workload of `pod` and how it can be moved.
    pub fn of(&self, pod: &Pod, let_go: Option<&LetGo>) -> (Workload, Mobility) {
        let meta = &pod.metadata;
        if let Some(mark) = let_go {
            return of_let_go(meta, mark);
        }
        let Some(owner) = controller(meta) else {
            return (workload(meta, "Pod", meta.name.as_deref().unwrap_or_default()), Mobility::Bare);
        };
        match owner.kind.as_str() {
            "ReplicaSet" => self.of_replica_set(pod, owner),
            "Job" => {
                (workload(meta, "Job", &owner.name), Mobility::Job { job: owner.name.clone(), job_uid: Uid::from(owner.uid.as_str()) })
            }
            kind => (workload(meta, kind, &owner.name), break_first(format!("a {kind} makes the next pod only when this one is gone"))),
        }
    }

    fn of_replica_set(&self, pod: &Pod, set: &OwnerReference) -> (Workload, Mobility) {
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
        if deployment.strategy != "RollingUpdate" {
            return (work, break_first(format!("the strategy of Deployment {} is {}", deployment.name, deployment.strategy)));
        }
        if let Some(because) = pod.spec.as_ref().and_then(keeps_to_one_node) {
            return (work, break_first(because));
        }
        let replica_set = Uid::from(set.uid.as_str());
        (work, Mobility::Surge { replica_set, deployment: name, deployment_uid: Uid::from(uid) })
    }
}

/// The owner reference that says `controller`.
pub fn controller(meta: &ObjectMeta) -> Option<&OwnerReference> {
    meta.owner_references.iter().flatten().find(|o| o.controller == Some(true))
}

/// What two pods of the same template could not have at once.
fn keeps_to_one_node(spec: &PodSpec) -> Option<String> {
    let volume = spec.volumes.iter().flatten().find_map(|v| v.persistent_volume_claim.as_ref());
    if let Some(claim) = volume {
        return Some(format!("PersistentVolumeClaim {} may be mounted on one node only", claim.claim_name));
    }
    let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let port = containers.flat_map(|c| c.ports.iter().flatten()).find_map(|p| p.host_port);
    port.map(|p| format!("hostPort {p} can be held once per node")).or_else(|| {
        let host_network = spec.host_network == Some(true);
        host_network.then(|| "it uses the host network, whose ports can be held once per node".to_owned())
    })
}

/// The ReplicaSet is not in the watch (yet, or any more): a Deployment names its sets `<name>-<hash>`.
fn unseen_deployment(meta: &ObjectMeta, set: &OwnerReference) -> Workload {
    let hash = meta.labels.as_ref().and_then(|l| l.get(names::POD_TEMPLATE_HASH));
    match hash.and_then(|h| set.name.strip_suffix(h.as_str())).and_then(|n| n.strip_suffix('-')) {
        Some(deployment) => workload(meta, "Deployment", deployment),
        None => workload(meta, "ReplicaSet", &set.name),
    }
}

/// A pod that was let go has no controller: who will remake it is in the mark, whose work it is in the annotation.
fn of_let_go(meta: &ObjectMeta, mark: &LetGo) -> (Workload, Mobility) {
    let owner = meta.owner_references.iter().flatten().find(|o| o.kind == "Deployment" || o.kind == "Job");
    let kept = meta.annotations.as_ref().and_then(|a| a.get(names::WORKLOAD_REF)).and_then(|t| serde_json::from_str(t).ok());
    let work: Workload = kept.unwrap_or_else(|| match owner {
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

fn workload(meta: &ObjectMeta, kind: &str, name: &str) -> Workload {
    let namespace = meta.namespace.clone().unwrap_or_default();
    Workload { kind: kind.to_owned(), object: ObjectRef { namespace, name: name.to_owned() } }
}

fn break_first(because: String) -> Mobility {
    Mobility::BreakFirst { because }
}
