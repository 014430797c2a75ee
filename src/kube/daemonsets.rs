//! A DaemonSet as the core sees it: what its pod requests, which nodes it asks for, and what it tolerates.
//!
//! Does not: decide whether it runs on a node of ours (see `core::daemonsets`).

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::apps::v1 as apps_v1;
use k8s_openapi::api::core::v1::{self as core_v1, NodeSelectorRequirement, PodSpec};

use super::api::words;
use crate::core::units::{Mebibytes, Millicores, Resources};
use crate::core::workload::daemonsets::{DaemonSet, LabelOperator, LabelRequirement};
use crate::core::workload::need;

/// Reads one DaemonSet. One whose requests cannot be read counts as requesting nothing, and the fault is returned with it.
pub fn read(object: &apps_v1::DaemonSet) -> (DaemonSet, Option<String>) {
    let meta = &object.metadata;
    let name = format!("{}/{}", meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default());
    let pod = object.spec.as_ref().and_then(|spec| spec.template.spec.as_ref());
    let (requests, fault) = match pod.map(requests) {
        Some(Ok(requests)) => (requests, None),
        Some(Err(fault)) => (Resources::default(), Some(fault)),
        None => (Resources::default(), None),
    };
    let node_selector = pod.and_then(|p| p.node_selector.clone()).unwrap_or_default();
    let required = pod
        .and_then(|p| p.affinity.as_ref())
        .and_then(|a| a.node_affinity.as_ref())
        .and_then(|n| n.required_during_scheduling_ignored_during_execution.as_ref());
    let terms = required.map(|r| r.node_selector_terms.as_slice()).unwrap_or_default();
    let affinity = terms.iter().map(|t| t.match_expressions.iter().flatten().map(requirement).collect()).collect();
    let tolerations = pod.and_then(|p| p.tolerations.as_deref()).unwrap_or_default().iter().map(toleration).collect();
    (DaemonSet { name, requests, node_selector, affinity, tolerations }, fault)
}

fn toleration(found: &core_v1::Toleration) -> need::Toleration {
    let core_v1::Toleration { key, operator, value, effect, .. } = found.clone();
    need::Toleration { key, operator, value, effect }
}

fn requirement(found: &NodeSelectorRequirement) -> LabelRequirement {
    let values = || -> BTreeSet<String> { found.values.iter().flatten().cloned().collect() };
    let number = || found.values.iter().flatten().next().and_then(|v| v.parse().ok());
    let operator = match found.operator.as_str() {
        "In" => LabelOperator::In(values()),
        "NotIn" => LabelOperator::NotIn(values()),
        "Exists" => LabelOperator::Exists,
        "DoesNotExist" => LabelOperator::DoesNotExist,
        "Gt" => number().map_or(LabelOperator::Other, LabelOperator::Gt),
        "Lt" => number().map_or(LabelOperator::Other, LabelOperator::Lt),
        _ => LabelOperator::Other,
    };
    LabelRequirement { key: found.key.clone(), operator }
}

/// What its pod requests, added up as the scheduler does.
fn requests(pod: &PodSpec) -> Result<Resources, String> {
    let value = serde_json::to_value(pod).map_err(|e| e.to_string())?;
    let spec: need::PodSpec = serde_json::from_value(value).map_err(|e| e.to_string())?;
    let asked = need::requested(&spec).map_err(|faults| faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))?;
    let milli = |name: &str| asked.get(name).copied().unwrap_or(0);
    let up = |amount: i128, unit: i128| i64::try_from((amount + unit - 1) / unit).unwrap_or(i64::MAX);
    Ok(Resources {
        cpu: Millicores(up(milli("cpu"), 1)),
        memory: Mebibytes(up(milli("memory"), 1_000 << 20)),
        gpus: up(milli(words::GPU_RESOURCE), 1_000),
        disk: Mebibytes(up(milli("ephemeral-storage"), 1_000 << 20)),
        volumes: 0,
    })
}

/// The fields that are kept of a DaemonSet's pod: everything else, such as its environment, is dropped on arrival.
pub fn trim(object: &mut apps_v1::DaemonSet) {
    object.status = None;
    let Some(pod) = object.spec.as_mut().and_then(|spec| spec.template.spec.as_mut()) else { return };
    for container in pod.containers.iter_mut().chain(pod.init_containers.iter_mut().flatten()) {
        (container.env, container.args, container.command, container.volume_mounts) = (None, None, None, None);
    }
    pod.volumes = None;
}

/// The labels in `key=value,key=value`, the form of k3s' `node-label`.
pub fn labels_in(text: &str) -> BTreeMap<String, String> {
    text.split(',').filter_map(|pair| pair.trim().split_once('=')).map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn requests_and_the_nodes_asked_for_are_read() {
        let object = json!({
            "metadata": { "namespace": "kube-system", "name": "plugin" },
            "spec": { "selector": {}, "template": { "spec": {
                "nodeSelector": { "kubernetes.io/os": "linux" },
                "tolerations": [{ "key": "lowtide.dev/claim", "operator": "Exists" }, { "key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule" }],
                "affinity": { "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": { "nodeSelectorTerms": [
                    { "matchExpressions": [{ "key": "nvidia.com/gpu.present", "operator": "In", "values": ["true"] },
                                           { "key": "cores", "operator": "Gt", "values": ["4"] }] } ] } } },
                "initContainers": [{ "name": "i", "resources": { "requests": { "cpu": "300m" } } }],
                "containers": [{ "name": "a", "resources": { "requests": { "cpu": "100m", "memory": "100Mi" } } },
                               { "name": "b", "resources": { "limits": { "memory": "1Mi" } } }],
            } } },
        });
        let mut object: apps_v1::DaemonSet = serde_json::from_value(object).unwrap();
        trim(&mut object);
        let (read, fault) = read(&object);
        assert_eq!((read.name.as_str(), fault), ("kube-system/plugin", None));
        assert_eq!(read.requests, Resources { cpu: Millicores(300), memory: Mebibytes(101), ..Resources::default() });
        assert_eq!(read.affinity[0][0].operator, LabelOperator::In(["true".to_owned()].into()));
        assert_eq!(read.affinity[0][1].operator, LabelOperator::Gt(4));
        assert_eq!(read.node_selector["kubernetes.io/os"], "linux");
        assert_eq!(read.tolerations.len(), 2);
        let labels = [("kubernetes.io/os", "linux"), ("cores", "8")].map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        assert!(read.runs_on(&labels, &[]) && !read.runs_on(&labels, &[("x".into(), "y".into(), "NoSchedule".into())]));
    }

    #[test]
    fn requests_that_cannot_be_read_are_reported() {
        let object = json!({ "metadata": { "name": "x" }, "spec": { "selector": {}, "template": { "spec": {
            "containers": [{ "name": "a", "resources": { "requests": { "cpu": "lots" } } }] } } } });
        let (read, fault) = read(&serde_json::from_value(object).unwrap());
        assert!(read.requests == Resources::default() && fault.unwrap().contains("lots"));
    }
}
