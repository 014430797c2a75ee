//! Whether the API server would take a replacement of a pod: a copy is created as a dry run, which everything that admits pods sees.
//!
//! Decides: which answers mean that no replacement can be made.
//! Does not: make anything, or know what the controller would write: the copy is the pod as it was made, without what lowtide, the scheduler and
//! the kubelet added. It is asked under lowtide's own name, so a policy that looks at who asks may answer a controller otherwise.
//!
//! Source: every sentence was provoked on a 1.36.3 API server. A right that is missing and a webhook that does not do dry runs say nothing about
//! the replacement.

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::PostParams;

use super::super::api::words;
use super::super::cluster::LiveCluster;
use super::super::errors::call;
use super::super::names;
use super::done;
use crate::core::snapshot::Lane;
use crate::core::workload::PodIdentity;
use crate::core::workload::need::milli_units;
use crate::ports::{Applied, ClusterError};

/// Marks that lowtide wrote; a replacement begins without them.
const MARKS: [&str; 7] =
    [names::CLAIM, names::DECISION, names::ATTEMPT, names::BASELINE, names::REPLACES, names::LET_GO, names::WORKLOAD_REF];

/// Asks. Where the old pod `ends_first`, what it holds of a quota counts as free.
pub async fn ask(cluster: &LiveCluster, pod: &PodIdentity, ends_first: bool) -> Result<Applied, ClusterError> {
    let (object, lane) = (&pod.object, Lane::Pod(pod.uid.clone()));
    let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), &object.namespace);
    let found = call(format!("read pod {object}"), pods.get(&object.name)).await?;
    if found.metadata.uid.as_deref() != Some(pod.uid.as_str()) {
        return Err(ClusterError::Gone(format!("pod {object} is another one now")));
    }
    let params = PostParams { dry_run: true, ..PostParams::default() };
    match call(format!("make a replacement of pod {object}"), pods.create(&params, &copy_of(found))).await {
        Err(ClusterError::Refused(said) | ClusterError::Unreachable(said)) if is_refusal(&said) => {
            if ends_first && fits_once_it_has_ended(&said) { Ok(done(lane)) } else { Err(ClusterError::ReplacementRefused(said)) }
        }
        Err(ClusterError::Refused(said)) => {
            tracing::debug!(pod = %object, "whether a replacement would be admitted is not known: {said}");
            Ok(done(lane))
        }
        Err(ClusterError::Conflict(_)) | Ok(_) => Ok(done(lane)),
        Err(other) => Err(other),
    }
}

/// The pod as its controller made it.
fn copy_of(pod: Pod) -> Pod {
    let mut copy = Pod { spec: pod.spec, ..Pod::default() };
    copy.metadata.generate_name = Some("lowtide-rehearsal-".to_owned());
    copy.metadata.namespace = pod.metadata.namespace;
    copy.metadata.labels = pod.metadata.labels;
    copy.metadata.annotations = pod.metadata.annotations.map(|mut all| {
        all.retain(|key, _| !MARKS.contains(&key.as_str()));
        all
    });
    if let Some(spec) = &mut copy.spec {
        spec.node_name = None;
        spec.priority = None;
        spec.ephemeral_containers = None;
        if let Some(labels) = &mut spec.node_selector {
            labels.remove(words::CLAIM_NODE_LABEL);
        }
        if let Some(tolerations) = &mut spec.tolerations {
            tolerations.retain(|t| t.key.as_deref() != Some(names::CLAIM_TAINT));
        }
    }
    copy
}

/// Whether an answer of the API server is about the pod, and not about who asks or how.
fn is_refusal(said: &str) -> bool {
    let about_us = [" cannot create resource ", "lowtide-guard", "does not support dry run"];
    let denied = ["denied the request", "denied request", "failed calling webhook", "(403 Forbidden)"];
    !about_us.iter().any(|part| said.contains(part)) && denied.iter().any(|part| said.contains(part))
}

/// Whether a refusal is a quota that the old pod fills itself: not where more is used than allowed.
///
/// The sentence is `exceeded quota: NAME, requested: A=1,B=2, used: A=4,B=8, limited: A=4,B=8`.
fn fits_once_it_has_ended(said: &str) -> bool {
    let amounts = |of: &str| -> Option<Vec<i128>> {
        let list = said.split_once(of)?.1;
        let list = list.split(", ").next()?.split(" (").next()?;
        list.split(',').map(|one| milli_units(one.trim().split_once('=')?.1)).collect()
    };
    let (Some(used), Some(limited)) = (amounts("used: "), amounts("limited: ")) else { return false };
    said.contains("exceeded quota: ") && used.len() == limited.len() && used.iter().zip(&limited).all(|(used, limited)| used <= limited)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_said_of_the_pod_is_a_refusal() {
        for (said, is) in [
            (
                r#"make a replacement: pods "x" is forbidden: exceeded quota: q, requested: pods=1, used: pods=2, limited: pods=2 (403 Forbidden)"#,
                true,
            ),
            (r#"admission webhook "policy.example.com" denied the request: no (400 BadRequest)"#, true),
            (r#"pods "x" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: no (422 Invalid)"#, true),
            (r#"Internal error occurred: failed calling webhook "a": connection refused (500 InternalError)"#, true),
            (r#"pods is forbidden: User "u" cannot create resource "pods" in API group "" in the namespace "n" (403 Forbidden)"#, false),
            (r#"admission webhook "a" does not support dry run (400 BadRequest)"#, false),
            (r#"Pod "x" is invalid: spec.containers[0].image: Required value (422 Invalid)"#, false),
        ] {
            assert_eq!(is_refusal(said), is, "{said}");
        }
    }

    #[test]
    fn a_quota_that_the_old_pod_fills_is_free_when_it_has_ended_and_one_that_was_lowered_is_not() {
        let said = |used: &str, limited: &str| {
            format!(
                "make a replacement: forbidden: exceeded quota: q, requested: pods=1,requests.memory=4Gi, used: {used}, limited: {limited} (403 Forbidden)"
            )
        };
        assert!(fits_once_it_has_ended(&said("pods=2,requests.memory=7Gi", "pods=2,requests.memory=8192Mi")));
        assert!(!fits_once_it_has_ended(&said("pods=2,requests.memory=9Gi", "pods=2,requests.memory=8Gi")));
        assert!(!fits_once_it_has_ended("admission webhook denied the request"));
    }

    #[test]
    fn a_copy_has_what_its_controller_wrote_and_nothing_that_was_added() {
        let pod: Pod = serde_json::from_value(serde_json::json!({
            "metadata": { "name": "chat-1", "namespace": "ml", "uid": "u", "resourceVersion": "7", "labels": { "app": "chat" },
                "annotations": { names::CLAIM: "lt-1", "lowtide.dev/workload": "inference" }, "ownerReferences": [{ "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "o" }] },
            "spec": { "nodeName": "n", "priority": 5, "priorityClassName": "high", "nodeSelector": { words::CLAIM_NODE_LABEL: "lt-1", "tier": "gpu" },
                "tolerations": [{ "key": names::CLAIM_TAINT, "value": "lt-1" }, { "key": "nvidia.com/gpu", "operator": "Exists" }], "containers": [{ "name": "a" }] },
            "status": { "phase": "Running" },
        }))
        .unwrap();
        let copy = serde_json::to_value(copy_of(pod)).unwrap();
        let expected = serde_json::json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": { "generateName": "lowtide-rehearsal-", "namespace": "ml", "labels": { "app": "chat" }, "annotations": { "lowtide.dev/workload": "inference" } },
            "spec": { "priorityClassName": "high", "nodeSelector": { "tier": "gpu" }, "tolerations": [{ "key": "nvidia.com/gpu", "operator": "Exists" }], "containers": [{ "name": "a" }] },
        });
        assert_eq!(copy, expected);
    }
}
