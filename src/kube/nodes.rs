//! A Kubernetes Node as the core sees it.
//!
//! Decides: which instance a Node says that it is, and what of it pods can use.
//! Does not: believe it (see `core::fleet::doubts`: EC2 must agree).

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1 as core_v1;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::api::words;
use super::names;
use crate::core::fleet::Node;
use crate::core::units::ids::{InstanceId, NodeName};
use crate::core::units::{Mebibytes, Millicores, Resources};
use crate::core::workload::need::milli_units;

/// Reads one Node; `None` when nothing on it says which instance it is.
pub fn read(node: &core_v1::Node) -> Option<Node> {
    let labels = node.metadata.labels.as_ref();
    let spec = node.spec.as_ref();
    let by_label = labels.and_then(|l| l.get(names::INSTANCE_ID)).map(String::as_str);
    let instance = by_label.or_else(|| instance_in(spec?.provider_id.as_deref()?))?;
    let taints = spec.and_then(|s| s.taints.as_deref()).unwrap_or_default();
    let conditions = node.status.as_ref().and_then(|s| s.conditions.as_deref()).unwrap_or_default();
    Some(Node {
        name: NodeName::from(node.metadata.name.as_deref()?),
        instance: InstanceId::from(instance),
        addresses: addresses(node),
        ready: conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True"),
        allocatable: allocatable(node),
        labelled: labels.is_some_and(|l| l.contains_key(words::CLAIM_NODE_LABEL)),
        tainted: taints.iter().any(|t| t.key == names::LEAVING_TAINT && t.effect == "NoSchedule"),
    })
}

/// What its kubelet says of its addresses and names.
fn addresses(node: &core_v1::Node) -> BTreeSet<String> {
    let said = node.status.as_ref().and_then(|s| s.addresses.as_deref()).unwrap_or_default();
    said.iter().map(|one| one.address.clone()).collect()
}

/// The instance id at the end of a provider id: `lowtide://us-east-1/use1-az4/lt-i-0abc`, and `aws:///us-east-1a/i-0abc` on EKS.
fn instance_in(provider_id: &str) -> Option<&str> {
    let last = provider_id.rsplit('/').next()?;
    let id = last.strip_prefix("lt-").unwrap_or(last);
    id.starts_with("i-").then_some(id)
}

/// What pods can use; what is not said, or cannot be read, counts as nothing.
fn allocatable(node: &core_v1::Node) -> Resources {
    let said = node.status.as_ref().and_then(|s| s.allocatable.as_ref());
    let milli = |key: &str| said.and_then(|a| a.get(key)).and_then(|Quantity(text)| milli_units(text)).unwrap_or(0);
    Resources {
        cpu: Millicores(saturate(milli("cpu"))),
        memory: Mebibytes(saturate(milli("memory") / 1_000 / (1 << 20))),
        gpus: saturate(milli(words::GPU_RESOURCE) / 1_000),
    }
}

fn saturate(value: i128) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn node(value: serde_json::Value) -> Option<Node> {
        read(&serde_json::from_value(value).unwrap())
    }

    #[test]
    fn a_node_is_known_by_its_label_or_its_provider_id() {
        let found = node(json!({
            "metadata": { "name": "n1", "labels": { "lowtide.dev/instance-id": "i-1", "lowtide.node-restriction.kubernetes.io/claim": "c" } },
            "spec": { "taints": [{ "key": "lowtide.dev/leaving", "effect": "NoSchedule" }, { "key": "x", "effect": "NoExecute" }] },
            "status": { "addresses": [{ "type": "InternalIP", "address": "10.0.0.7" }], "conditions": [{ "type": "Ready", "status": "True" }],
                        "allocatable": { "cpu": "3920m", "memory": "15Gi", "nvidia.com/gpu": "1" } }
        }))
        .unwrap();
        assert_eq!((found.instance.as_str(), found.ready, found.labelled, found.tainted), ("i-1", true, true, true));
        assert_eq!(found.addresses, BTreeSet::from(["10.0.0.7".to_owned()]));
        assert_eq!(found.allocatable, Resources { cpu: Millicores(3_920), memory: Mebibytes(15_360), gpus: 1 });

        let bare = |provider| node(json!({ "metadata": { "name": "n2" }, "spec": { "providerID": provider } }));
        assert_eq!(bare("aws:///us-east-1a/i-0abc").unwrap().instance.as_str(), "i-0abc");
        let stretched = bare("lowtide://us-east-1/use1-az4/lt-i-0abc").unwrap();
        assert_eq!((stretched.instance.as_str(), stretched.ready, stretched.labelled), ("i-0abc", false, false));
        assert_eq!(bare("k3s://some-host"), None);
    }
}
