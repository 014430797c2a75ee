//! ReplicaSets and Deployments as the core's [`Controllers`](crate::core::workload::controllers::Controllers).
//!
//! Does not: decide whose work a pod is, or how it can be moved (see `core::workload::controllers`).

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::core::PartialObjectMeta;

use crate::core::workload::controllers::DeploymentFacts;

/// The Deployment (name and uid) that controls a ReplicaSet, if one does.
pub fn deployment_of(set: &PartialObjectMeta<ReplicaSet>) -> Option<(String, String)> {
    controller(&set.metadata).filter(|o| o.kind == "Deployment").map(|o| (o.name.clone(), o.uid.clone()))
}

/// What counts of a Deployment.
pub fn facts(deployment: &Deployment) -> DeploymentFacts {
    let strategy = deployment.spec.as_ref().and_then(|s| s.strategy.as_ref()).and_then(|s| s.type_.clone());
    DeploymentFacts {
        name: deployment.metadata.name.clone().unwrap_or_default(),
        strategy: strategy.unwrap_or_else(|| "RollingUpdate".to_owned()),
        // One is the API server's default; it fills in the field itself.
        replicas: deployment.spec.as_ref().and_then(|s| s.replicas).map_or(1, i64::from),
    }
}

/// The owner reference with `controller: true`.
pub fn controller(meta: &ObjectMeta) -> Option<&OwnerReference> {
    meta.owner_references.iter().flatten().find(|o| o.controller == Some(true))
}

/// Reads the owners of ReplicaSets and the strategy of Deployments.
#[cfg(test)]
pub fn read<'a>(
    replica_sets: impl Iterator<Item = &'a PartialObjectMeta<ReplicaSet>>,
    deployments: impl Iterator<Item = &'a Deployment>,
) -> crate::core::workload::controllers::Controllers {
    crate::core::workload::controllers::Controllers {
        replica_sets: replica_sets.map(|set| (set.metadata.uid.clone().unwrap_or_default(), deployment_of(set))).collect(),
        deployments: deployments.map(|d| (d.metadata.uid.clone().unwrap_or_default(), facts(d))).collect(),
    }
}
