//! Pods: binding, lifting the gate, releasing and handing back, evicting and deleting.

use k8s_openapi::api::core::v1::{Pod, Toleration};
use kube::Api;
use kube::api::{DeleteParams, Patch, PostParams, Preconditions};
use kube::core::Status;
use serde_json::{Value, json};

use super::super::api::words;
use super::super::cluster::LiveCluster;
use super::super::errors::{call, gone_is_done};
use super::super::names;
use super::{applied, done, ours};
use crate::core::action::{PodTarget, RemovalReason};
use crate::core::snapshot::Lane;
use crate::core::units::ids::{ClaimName, DecisionId, ObjectRef, Uid};
use crate::core::units::time::Millis;
use crate::core::workload::{Baseline, LetGo, PodIdentity, Replaces, Workload};
use crate::ports::{Applied, ClusterError};

/// What a pod is bound to, and why.
pub struct Binding<'a> {
    /// The claim.
    pub claim: &'a ClaimName,
    /// The decision.
    pub decision: &'a DecisionId,
    /// The attempt number.
    pub attempt: u64,
    /// What one replica would cost otherwise, frozen now.
    pub baseline: &'a Baseline,
    /// The pod it replaces.
    pub replaces: Option<&'a Replaces>,
}

/// Writes the binding into the pod's annotations.
pub async fn bind(cluster: &LiveCluster, target: &PodTarget, binding: Binding<'_>) -> Result<Applied, ClusterError> {
    let mut body = json!({ "metadata": guard(target) });
    body["metadata"]["annotations"] = json!({
        names::CLAIM: binding.claim.as_str(),
        names::DECISION: binding.decision.to_string(),
        names::ATTEMPT: binding.attempt.to_string(),
        names::BASELINE: mark_text(binding.baseline)?,
        names::REPLACES: binding.replaces.map(mark_text).transpose()?,
    });
    patch(cluster, target, "bind", Patch::Merge(body)).await
}

/// Pins the pod to the claim's node, lets it past the claim's taint, and lifts our gate, in one request: none of these can be changed
/// afterwards. Others' gates stay, and doing it twice is harmless.
///
/// A patch replaces the list of tolerations, and the API server accepts only additions: so the list is read first and written as a whole,
/// at the version it was read at. If the pod changes in between, that is a conflict, and it is decided again.
pub async fn lift(cluster: &LiveCluster, target: &PodTarget, claim: &ClaimName) -> Result<Applied, ClusterError> {
    let object = &target.pod.object;
    let found = call(format!("read pod {object}"), api(cluster, object).get(&object.name)).await?;
    if found.metadata.resource_version.as_deref() != Some(target.resource_version.as_str()) {
        return Err(ClusterError::Conflict(format!("pod {object} is no longer at version {}", target.resource_version)));
    }
    let tolerations = with_claim(found.spec.and_then(|spec| spec.tolerations).unwrap_or_default(), claim);
    let body = json!({
        "metadata": guard(target),
        "spec": {
            "nodeSelector": { words::CLAIM_NODE_LABEL: claim.as_str() },
            "tolerations": tolerations,
            "schedulingGates": [{ "$patch": "delete", "name": words::GATE }],
        },
    });
    patch(cluster, target, "lift the gate of", Patch::Strategic(body)).await
}

/// A pod's tolerations plus one for its claim's taint.
fn with_claim(mut tolerations: Vec<Toleration>, claim: &ClaimName) -> Vec<Toleration> {
    let ours = Toleration {
        key: Some(names::CLAIM_TAINT.to_owned()),
        operator: Some("Equal".to_owned()),
        value: Some(claim.to_string()),
        effect: Some("NoSchedule".to_owned()),
        ..Toleration::default()
    };
    if !tolerations.contains(&ours) {
        tolerations.push(ours);
    }
    tolerations
}

/// Removes the label its ReplicaSet selects it by: the ReplicaSet creates a replacement, the pod keeps serving. The Deployment becomes its
/// owner (not its controller), so that it is collected with the Deployment.
///
/// The reference to the ReplicaSet goes in the same patch. Left to the ReplicaSet, there would be a moment with both owners; a
/// Deployment deleted in that moment makes the garbage collector remove its reference and keep the pod forever.
pub async fn let_go_of_deployment(
    cluster: &LiveCluster,
    target: &PodTarget,
    mark: &LetGo,
    (name, uid): &(String, Uid),
) -> Result<Applied, ClusterError> {
    let owners = json!([
        { "$patch": "delete", "uid": mark.controller },
        { "apiVersion": "apps/v1", "kind": "Deployment", "name": name, "uid": uid },
    ]);
    let body = let_go(target, mark, "Deployment", name, names::POD_TEMPLATE_HASH, owners)?;
    patch(cluster, target, "let go", Patch::Strategic(body)).await
}

/// Removes the label its Job selects it by: the Job creates a replacement at once and counts no failure.
///
/// The Job is the pod's controller under the same uid that it will own it by, and owner references merge by uid:
/// so the reference
/// is turned into a plain owner in the same patch, and the Job controller has none of its own left to remove.
pub async fn let_go_of_job(
    cluster: &LiveCluster,
    target: &PodTarget,
    mark: &LetGo,
    (name, uid): &(String, Uid),
) -> Result<Applied, ClusterError> {
    let owners = json!([{
        "apiVersion": "batch/v1", "kind": "Job", "name": name, "uid": uid, "controller": false, "blockOwnerDeletion": false,
    }]);
    let body = let_go(target, mark, "Job", name, names::JOB_CONTROLLER_UID, owners)?;
    patch(cluster, target, "let go", Patch::Strategic(body)).await
}

fn let_go(target: &PodTarget, mark: &LetGo, kind: &str, name: &str, label: &str, owners: Value) -> Result<Value, ClusterError> {
    let object = ObjectRef { namespace: target.pod.object.namespace.clone(), name: name.to_owned() };
    let workload = Workload { kind: kind.to_owned(), object };
    let mut body = json!({ "metadata": guard(target) });
    body["metadata"]["labels"] = json!({ label: null });
    body["metadata"]["annotations"] = json!({
        names::LET_GO: mark_text(mark)?,
        names::WORKLOAD_REF: mark_text(&workload)?,
    });
    body["metadata"]["ownerReferences"] = owners;
    Ok(body)
}

/// A mark as the text of an annotation.
fn mark_text(mark: &impl serde::Serialize) -> Result<String, ClusterError> {
    serde_json::to_string(mark).map_err(|e| ClusterError::Refused(format!("write a mark as JSON: {e}")))
}

/// Puts the label back: the Job adopts the pod and counts how it ended.
pub async fn give_back_to_job(cluster: &LiveCluster, target: &PodTarget, job_uid: &Uid) -> Result<Applied, ClusterError> {
    let mut body = json!({ "metadata": guard(target) });
    body["metadata"]["labels"] = json!({ names::JOB_CONTROLLER_UID: job_uid });
    body["metadata"]["annotations"] = json!({ names::LET_GO: null, names::WORKLOAD_REF: null });
    patch(cluster, target, "give back", Patch::Strategic(body)).await
}

/// Evicts the pod: a PodDisruptionBudget may refuse.
///
/// The body is written here because the client's own `evict` sends `delete_options`, which the API server does not know.
pub async fn evict(cluster: &LiveCluster, pod: &PodIdentity, grace: Millis, reason: RemovalReason) -> Result<Applied, ClusterError> {
    let PodIdentity { object, uid } = pod;
    let body = json!({
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": { "name": object.name, "namespace": object.namespace },
        "deleteOptions": { "gracePeriodSeconds": seconds(grace), "preconditions": { "uid": uid } },
    });
    let (pods, params) = (api(cluster, object), PostParams::default());
    let request = pods.create_subresource::<_, Status>("eviction", &object.name, &params, &body);
    gone_is_done(call(format!("evict pod {object}"), request).await)?;
    tracing::info!(pod = %object, %uid, ?reason, grace_seconds = seconds(grace), "evicted");
    Ok(done(Lane::Pod(uid.clone())))
}

/// Deletes the pod: nothing can refuse. A grace period of zero removes the object at once, whatever the kubelet does.
pub async fn delete(cluster: &LiveCluster, pod: &PodIdentity, grace: Millis, reason: RemovalReason) -> Result<Applied, ClusterError> {
    let PodIdentity { object, uid } = pod;
    let params = DeleteParams {
        grace_period_seconds: Some(seconds(grace)),
        preconditions: Some(Preconditions { uid: Some(uid.to_string()), resource_version: None }),
        ..DeleteParams::default()
    };
    let answer = gone_is_done(call(format!("delete pod {object}"), api(cluster, object).delete(&object.name, &params)).await)?;
    tracing::info!(pod = %object, %uid, ?reason, grace_seconds = seconds(grace), "deleted");
    let lane = Lane::Pod(uid.clone());
    // Without a grace period the object is gone, and will never be seen at the version of the answer.
    Ok(match answer.and_then(|a| a.left()).filter(|_| seconds(grace) > 0) {
        Some(terminating) => applied(lane, &terminating),
        None => done(lane),
    })
}

/// Whole seconds, rounded up: half a second of grace must not become zero.
fn seconds(grace: Millis) -> u32 {
    u32::try_from((grace.0.max(0) + 999) / 1_000).unwrap_or(u32::MAX)
}

/// A patch on another pod with this name, or on a newer version, is refused.
fn guard(target: &PodTarget) -> Value {
    json!({ "uid": target.pod.uid, "resourceVersion": target.resource_version })
}

fn api(cluster: &LiveCluster, object: &ObjectRef) -> Api<Pod> {
    Api::namespaced(cluster.client.clone(), &object.namespace)
}

async fn patch(cluster: &LiveCluster, target: &PodTarget, verb: &str, body: Patch<Value>) -> Result<Applied, ClusterError> {
    let object = &target.pod.object;
    let pods = api(cluster, object);
    let changed = call(format!("{verb} pod {object}"), pods.patch_metadata(&object.name, &ours(), &body)).await?;
    Ok(applied(Lane::Pod(target.pod.uid.clone()), &changed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_claims_toleration_is_added_once_behind_those_that_are_there() {
        let others = vec![Toleration { key: Some("nvidia.com/gpu".into()), operator: Some("Exists".into()), ..Toleration::default() }];
        let once = with_claim(others.clone(), &"lt-1".into());
        assert_eq!((once.len(), &once[0]), (2, &others[0]));
        assert_eq!((once[1].key.as_deref(), once[1].value.as_deref()), (Some(names::CLAIM_TAINT), Some("lt-1")));
        assert_eq!(with_claim(once.clone(), &"lt-1".into()), once);
    }

    #[test]
    fn grace_is_rounded_up_and_never_negative() {
        assert_eq!([-5, 0, 1, 1_000, 1_001, i64::MAX / 2].map(|ms| seconds(Millis(ms))), [0, 0, 1, 1, 2, u32::MAX]);
    }
}
