//! ReplicaSets and Deployments as the core's [`Controllers`].
//!
//! Does not: decide whose work a pod is, or how it can be moved (see `core::workload::controllers`).

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::core::PartialObjectMeta;

use crate::core::workload::controllers::{Controllers, DeploymentFacts};

/// Reads the owners of ReplicaSets and the strategy of Deployments.
pub fn read<'a>(
    replica_sets: impl Iterator<Item = &'a PartialObjectMeta<ReplicaSet>>,
    deployments: impl Iterator<Item = &'a Deployment>,
) -> Controllers {
    let mut controllers = Controllers::default();
    for set in replica_sets {
        let owner = controller(&set.metadata).filter(|o| o.kind == "Deployment").map(|o| (o.name.clone(), o.uid.clone()));
        controllers.replica_sets.insert(set.metadata.uid.clone().unwrap_or_default(), owner);
    }
    for deployment in deployments {
        let strategy = deployment.spec.as_ref().and_then(|s| s.strategy.as_ref()).and_then(|s| s.type_.clone());
        let facts = DeploymentFacts {
            name: deployment.metadata.name.clone().unwrap_or_default(),
            strategy: strategy.unwrap_or_else(|| "RollingUpdate".to_owned()),
            // One is the API server's default; it fills in the field itself.
            replicas: deployment.spec.as_ref().and_then(|s| s.replicas).map_or(1, i64::from),
        };
        controllers.deployments.insert(deployment.metadata.uid.clone().unwrap_or_default(), facts);
    }
    controllers
}

/// The owner reference with `controller: true`.
pub fn controller(meta: &ObjectMeta) -> Option<&OwnerReference> {
    meta.owner_references.iter().flatten().find(|o| o.controller == Some(true))
}
