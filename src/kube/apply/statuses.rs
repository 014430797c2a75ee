//! Statuses of pools and classes, and the finalizer that keeps a pool until its last claim is gone.

use kube::Api;
use kube::api::Patch;
use serde_json::json;

use super::super::api::{GpuNodeClass, GpuNodePool, Moment};
use super::super::cluster::LiveCluster;
use super::super::errors::call;
use super::super::{classes, pools};
use super::{applied, ours};
use crate::core::fleet::{ClassStatus, PoolStatus};
use crate::core::snapshot::Lane;
use crate::core::units::ids::{ClassName, PoolName};
use crate::ports::{Applied, ClusterError};

/// Writes a pool's status, then its finalizer: it has one until it is let go.
pub async fn set_pool(cluster: &LiveCluster, name: &PoolName, status: &PoolStatus) -> Result<Applied, ClusterError> {
    let api: Api<GpuNodePool> = Api::all(cluster.client.clone());
    let observed = cluster.watches.pool(name.as_str());
    let generation = observed.as_ref().and_then(|p| p.metadata.generation);
    let previous = observed.as_ref().and_then(|p| p.status.as_ref());
    let body = Patch::Merge(pools::status_patch(previous, generation, status, Moment(cluster.clock.now())));
    let written = call(format!("write the status of pool {name}"), api.patch_status(name.as_str(), &ours(), &body)).await?;
    let Some(finalizers) = pools::finalizers(&written, status.let_go) else {
        return Ok(applied(Lane::Pool(name.clone()), &written));
    };
    let body = Patch::Merge(json!({ "metadata": {
        "finalizers": finalizers, "uid": written.metadata.uid, "resourceVersion": written.metadata.resource_version,
    } }));
    let guarded = call(format!("write the finalizers of pool {name}"), api.patch_metadata(name.as_str(), &ours(), &body)).await?;
    Ok(applied(Lane::Pool(name.clone()), &guarded))
}

/// Writes a class's status.
pub async fn set_class(cluster: &LiveCluster, name: &ClassName, status: &ClassStatus) -> Result<Applied, ClusterError> {
    let api: Api<GpuNodeClass> = Api::all(cluster.client.clone());
    let observed = cluster.watches.class(name.as_str());
    let generation = observed.as_ref().and_then(|c| c.metadata.generation);
    let previous = observed.as_ref().and_then(|c| c.status.as_ref());
    let body = Patch::Merge(classes::status_patch(previous, generation, status, Moment(cluster.clock.now())));
    let written = call(format!("write the status of class {name}"), api.patch_status(name.as_str(), &ours(), &body)).await?;
    Ok(applied(Lane::Class(name.clone()), &written))
}
