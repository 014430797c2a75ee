//! Claims: the intent, its progress, its end.

use kube::Api;
use kube::api::{DeleteParams, Patch, PostParams, Preconditions, ValidationDirective};
use kube::core::ObjectMeta;
use serde_json::json;

use super::super::api::{CLAIM_FINALIZER, GpuNodeClaim};
use super::super::claims;
use super::super::cluster::LiveCluster;
use super::super::errors::{call, gone_is_done};
use super::super::names;
use super::{applied, done, ours};
use crate::core::action::ClaimPatch;
use crate::core::fleet::ClaimSpec;
use crate::core::snapshot::Lane;
use crate::core::units::ids::ClaimName;
use crate::ports::{Applied, ClusterError};

fn api(cluster: &LiveCluster) -> Api<GpuNodeClaim> {
    Api::all(cluster.client.clone())
}

/// Writes the intent. An existing name is a conflict: another pass was first.
pub async fn create(cluster: &LiveCluster, name: &ClaimName, spec: &ClaimSpec) -> Result<Applied, ClusterError> {
    let mut claim = GpuNodeClaim::new(name.as_str(), claims::write_spec(spec));
    claim.metadata = ObjectMeta { finalizers: Some(vec![CLAIM_FINALIZER.to_owned()]), ..claim.metadata };
    let params = PostParams { field_manager: Some(names::FIELD_MANAGER.to_owned()), ..PostParams::default() };
    let made = call(format!("create claim {name}"), api(cluster).create(&params, &claim)).await?;
    Ok(applied(Lane::Claim(name.clone()), &made))
}

/// Changes the status; fields that `patch` leaves out stay. A claim that is no longer at the version `seen` is a conflict.
pub async fn patch(cluster: &LiveCluster, name: &ClaimName, patch: &ClaimPatch, seen: Option<u64>) -> Result<Applied, ClusterError> {
    let observed = cluster.watches.claim(name.as_str()).and_then(|c| c.status).unwrap_or_default();
    let mut body = claims::status_patch(&observed, patch);
    if let Some(version) = seen {
        body["metadata"] = json!({ "resourceVersion": version.to_string() });
    }
    let (what, api) = (format!("write the status of claim {name}"), api(cluster));
    let mut params = ours();
    if !patch.bindings.is_empty() {
        // Definitions of 0.1.0 have no place for them. The pods are bound all the same, and nothing of theirs is believed that buys anything.
        params.field_validation = Some(ValidationDirective::Warn);
    }
    let mut changed = call(&what, api.patch_status(name.as_str(), &params, &Patch::Merge(body))).await?;
    // The phase was derived from what the watch had delivered, which may be older than what the API server holds.
    if let Some(derived) = changed.status.as_ref().and_then(claims::derived_again) {
        changed = call(&what, api.patch_status(name.as_str(), &ours(), &Patch::Merge(derived))).await?;
    }
    Ok(applied(Lane::Claim(name.clone()), &changed))
}

/// Deletes the claim and removes our finalizer; others' stay. Works on a claim that is already deleted or gone; one that is no longer at
/// the version `seen` is a conflict.
pub async fn remove(cluster: &LiveCluster, name: &ClaimName, seen: Option<u64>) -> Result<Applied, ClusterError> {
    let (claims, gone) = (api(cluster), done(Lane::Claim(name.clone())));
    let preconditions = seen.map(|version| Preconditions { uid: None, resource_version: Some(version.to_string()) });
    let params = DeleteParams { preconditions, ..DeleteParams::default() };
    let deletion = call(format!("delete claim {name}"), claims.delete(name.as_str(), &params)).await;
    let Some(claim) = gone_is_done(deletion)?.and_then(|answer| answer.left()) else { return Ok(gone) };
    let left: Vec<&String> = claim.metadata.finalizers.iter().flatten().filter(|f| *f != CLAIM_FINALIZER).collect();
    // A claim that changes at this moment is a conflict: the next pass sees it so, and finds it deleted already.
    let body = json!({ "metadata": {
        "finalizers": left, "uid": claim.metadata.uid, "resourceVersion": claim.metadata.resource_version,
    } });
    let what = format!("lift the finalizer of claim {name}");
    gone_is_done(call(what, claims.patch_metadata(name.as_str(), &ours(), &Patch::Merge(body))).await)?;
    Ok(gone)
}
