//! Nodes: the claim label that pins pods, the taint that keeps them off, the end.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Node, Taint};
use kube::Api;
use kube::api::{DeleteParams, Patch};
use serde_json::json;

use super::super::api::words;
use super::super::cluster::LiveCluster;
use super::super::errors::{call, gone_is_done};
use super::super::names;
use super::{applied, done, ours};
use crate::core::snapshot::Lane;
use crate::core::units::ids::{ClaimName, NodeName};
use crate::ports::{Applied, ClusterError};

/// How often a node is marked when the kubelet or a controller changes it at the same moment.
const ATTEMPTS: u32 = 5;

/// Which pods a node's taints keep off.
#[derive(Debug, Clone, Copy)]
pub struct Keeps {
    /// All that are new: it is left.
    pub new_pods_off: bool,
    /// All but those bound to the claim, whatever it registered with.
    pub others_off: bool,
}

/// Puts the claim label and `labels` on the node, and our taints if requested. `spec.taints` has no merge key: the list is written as a
/// whole, at the version it was read at, so that no taint is lost.
pub async fn mark(
    cluster: &LiveCluster,
    name: &NodeName,
    claim: &ClaimName,
    keeps: Keeps,
    labels: &BTreeMap<String, String>,
) -> Result<Applied, ClusterError> {
    let mut all = labels.clone();
    all.insert(words::CLAIM_NODE_LABEL.to_owned(), claim.to_string());
    let nodes: Api<Node> = Api::all(cluster.client.clone());
    let mut attempt = 1;
    loop {
        let node = call(format!("read node {name}"), nodes.get(name.as_str())).await?;
        let mut body = json!({ "metadata": {
            "resourceVersion": node.metadata.resource_version,
            "labels": all,
        } });
        let before = node.spec.as_ref().and_then(|s| s.taints.clone()).unwrap_or_default();
        let taints = marked(before.clone(), claim, keeps);
        if taints != before {
            body["spec"] = json!({ "taints": taints });
        }
        let patched = call(format!("mark node {name}"), nodes.patch_metadata(name.as_str(), &ours(), &Patch::Merge(body))).await;
        match patched {
            Ok(node) => return Ok(applied(Lane::Node(name.clone()), &node)),
            Err(ClusterError::Conflict(_)) if attempt < ATTEMPTS => attempt += 1,
            Err(error) => return Err(error),
        }
    }
}

/// A node's taints with the claim's instead of "none yet", and those that are requested. A node that registered without the claim taint (a machine of an
/// older version, whose pods do not tolerate it) gets that only if it is.
fn marked(mut taints: Vec<Taint>, claim: &ClaimName, keeps: Keeps) -> Vec<Taint> {
    let of_claim = |t: &Taint| t.key == names::CLAIM_TAINT && t.effect == "NoSchedule";
    if keeps.others_off && !taints.iter().any(of_claim) {
        taints.push(Taint { key: names::CLAIM_TAINT.to_owned(), effect: "NoSchedule".to_owned(), ..Taint::default() });
    }
    for taint in taints.iter_mut().filter(|t| of_claim(t)) {
        taint.value = Some(claim.to_string());
    }
    if keeps.new_pods_off && !taints.iter().any(|t| t.key == names::LEAVING_TAINT) {
        taints.push(Taint { key: names::LEAVING_TAINT.to_owned(), effect: "NoSchedule".to_owned(), ..Taint::default() });
    }
    taints
}

/// Deletes the Node object; one that is already gone is fine.
pub async fn delete(cluster: &LiveCluster, name: &NodeName) -> Result<Applied, ClusterError> {
    let nodes: Api<Node> = Api::all(cluster.client.clone());
    gone_is_done(call(format!("delete node {name}"), nodes.delete(name.as_str(), &DeleteParams::default())).await)?;
    Ok(done(Lane::Node(name.clone())))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: Keeps = Keeps { new_pods_off: false, others_off: false };

    fn taint(key: &str, value: Option<&str>) -> Taint {
        Taint { key: key.to_owned(), value: value.map(str::to_owned), effect: "NoSchedule".to_owned(), ..Taint::default() }
    }

    #[test]
    fn the_claim_takes_the_place_of_none_yet_and_nobody_elses_taint_is_lost() {
        let fresh = vec![taint("nvidia.com/gpu", None), taint(names::CLAIM_TAINT, Some(names::NO_CLAIM)), taint("x", Some("y"))];
        let ours = marked(fresh.clone(), &"lt-1".into(), NONE);
        assert_eq!(ours, [taint("nvidia.com/gpu", None), taint(names::CLAIM_TAINT, Some("lt-1")), taint("x", Some("y"))]);
        assert_eq!(marked(ours.clone(), &"lt-1".into(), Keeps { new_pods_off: true, ..NONE })[3].key, names::LEAVING_TAINT);
        let older = vec![taint("x", Some("y"))];
        assert_eq!(marked(older.clone(), &"lt-1".into(), NONE), older, "its pods would not tolerate it");
        let again = marked(older, &"lt-1".into(), Keeps { others_off: true, ..NONE });
        assert_eq!(again, [taint("x", Some("y")), taint(names::CLAIM_TAINT, Some("lt-1"))], "somebody took it off");
    }
}
