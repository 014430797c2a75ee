//! How pods are written down: what a controller makes of a template, what admission adds, and what each patch of lowtide changes.
//!
//! Decides: the JSON of a pod's metadata and spec, as the API server would hold it.
//! Does not: read any of it (lowtide's own reader does, and [`super::asks`] for the scheduler), or hold a status.

use serde_json::{Map, Value, json};

use super::NAMESPACE;
use super::asks::PIN;
use crate::core::units::ids::{ClaimName, DecisionId, NodeName, Uid};
use crate::core::workload::LetGo;
use crate::core::workload::controllers::{POD_TEMPLATE_HASH, WORKLOAD_REF};

/// The label by which a Job selects its pods.
const JOB_CONTROLLER_UID: &str = "batch.kubernetes.io/controller-uid";
/// The gate that admission adds.
const GATE: &str = "lowtide.dev/placement";
/// The taint that keeps others off a claim's node.
const CLAIM_TAINT: &str = "lowtide.dev/claim";

/// A pod of `template` called `name`, of the `controller` of that kind, name and uid, as it is once admission has seen it.
pub fn pod(template: &Value, name: &str, controller: Option<(&str, &str, &Uid)>) -> Value {
    let mut pod = template.clone();
    let meta = &mut pod["metadata"];
    (meta["name"], meta["namespace"]) = (json!(name), json!(NAMESPACE));
    meta["labels"]["lowtide.dev/managed"] = json!("true");
    if let Some((kind, owner, uid)) = controller {
        meta["ownerReferences"] = json!([{ "kind": kind, "name": owner, "uid": uid, "controller": true }]);
        match kind {
            "ReplicaSet" => meta["labels"][POD_TEMPLATE_HASH] = json!(hash_of(owner)),
            "Job" => meta["labels"][JOB_CONTROLLER_UID] = json!(uid),
            _ => meta["labels"]["apps.kubernetes.io/pod-index"] = json!(name.rsplit('-').next()),
        }
    }
    let spec = &mut pod["spec"];
    spec["schedulingGates"] = json!([{ "name": GATE }]);
    spec["tolerations"] = json!([{ "key": "nvidia.com/gpu", "operator": "Exists" }]);
    pod
}

/// A ReplicaSet is called after its Deployment and the hash of its template.
fn hash_of(replica_set: &str) -> &str {
    replica_set.rsplit('-').next().unwrap_or_default()
}

/// Sets one of the annotations under `lowtide.dev/`.
pub fn annotate(manifest: &mut Value, key: &str, value: &str) {
    manifest["metadata"]["annotations"][format!("lowtide.dev/{key}")] = json!(value);
}

/// The claim that it is bound to, and why.
pub fn bind(manifest: &mut Value, claim: &ClaimName, decision: DecisionId, attempt: u64) {
    annotate(manifest, "claim", claim.as_str());
    annotate(manifest, "decision", &decision.to_string());
    annotate(manifest, "attempt", &attempt.to_string());
}

/// Its gate is lifted: it is pinned to the claim's node, and let past the claim's taint.
pub fn lift(manifest: &mut Value, claim: &ClaimName) {
    annotate(manifest, "claim", claim.as_str());
    let spec = &mut manifest["spec"];
    spec["nodeSelector"][PIN] = json!(claim);
    if let Value::Array(tolerations) = &mut spec["tolerations"] {
        tolerations.push(json!({ "key": CLAIM_TAINT, "operator": "Equal", "value": claim, "effect": "NoSchedule" }));
    }
    remove(spec, "schedulingGates");
}

/// The scheduler has bound it to a node.
pub fn schedule(manifest: &mut Value, node: &NodeName) {
    manifest["spec"]["nodeName"] = json!(node);
}

/// It keeps running, and its ReplicaSet does not select it any more.
pub fn let_go_of_deployment(manifest: &mut Value, mark: &LetGo, (name, uid): &(String, Uid)) {
    let_go(manifest, mark, "Deployment", name, POD_TEMPLATE_HASH);
    manifest["metadata"]["ownerReferences"] = json!([{ "kind": "Deployment", "name": name, "uid": uid }]);
}

/// It keeps running, and its Job does not select it any more.
pub fn let_go_of_job(manifest: &mut Value, mark: &LetGo, (name, uid): &(String, Uid)) {
    let_go(manifest, mark, "Job", name, JOB_CONTROLLER_UID);
    manifest["metadata"]["ownerReferences"] = json!([{ "kind": "Job", "name": name, "uid": uid, "controller": false }]);
}

/// Its Job selects it again, adopts it, and counts how it ended.
pub fn give_back_to_job(manifest: &mut Value, job_uid: &Uid) {
    let meta = &mut manifest["metadata"];
    meta["labels"][JOB_CONTROLLER_UID] = json!(job_uid);
    meta["ownerReferences"][0]["controller"] = json!(true);
    remove(&mut meta["annotations"], "lowtide.dev/let-go");
    remove(&mut meta["annotations"], WORKLOAD_REF);
}

fn let_go(manifest: &mut Value, mark: &LetGo, kind: &str, name: &str, label: &str) {
    remove(&mut manifest["metadata"]["labels"], label);
    annotate(manifest, "let-go", &serde_json::to_string(mark).unwrap_or_default());
    let work = json!({ "kind": kind, "namespace": NAMESPACE, "name": name });
    manifest["metadata"]["annotations"][WORKLOAD_REF] = json!(work.to_string());
}

fn remove(of: &mut Value, key: &str) {
    if let Some(map) = of.as_object_mut() {
        Map::remove(map, key);
    }
}
