//! A Kubernetes Node as the core sees it.
//!
//! Decides: which instance a Node claims to be, and what pods can use of it.
//! Does not: believe it (see `core::fleet::doubts`: EC2 must agree).

use std::collections::{BTreeMap, BTreeSet};

use std::sync::Arc;

use k8s_openapi::api::core::v1 as core_v1;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use super::api::words;
use super::names;
use super::pods::{asked_of, manifest_of, timestamp};
use crate::core::fleet::{Node, NodeState, OtherPod};
use crate::core::units::ids::{InstanceId, NodeName, ObjectRef, Uid};
use crate::core::units::time::{Millis, Timestamp};
use crate::core::units::{Mebibytes, Millicores, Resources};
use crate::core::workload::need::do_not_disrupt::{self, Stay};
use crate::core::workload::need::{milli_units, requested};
use crate::core::workload::{PodIdentity, PodRules};

/// Reads one Node; `None` if nothing on it says which instance it is.
pub fn read(node: &core_v1::Node) -> Option<Node> {
    let labels = node.metadata.labels.as_ref();
    let spec = node.spec.as_ref();
    let by_label = labels.and_then(|l| l.get(names::INSTANCE_ID)).map(String::as_str);
    let instance = by_label.or_else(|| instance_in(spec?.provider_id.as_deref()?))?;
    let taints = spec.and_then(|s| s.taints.as_deref()).unwrap_or_default();
    let conditions = node.status.as_ref().and_then(|s| s.conditions.as_deref()).unwrap_or_default();
    let of_claim = labels.and_then(|l| l.get(words::CLAIM_NODE_LABEL));
    Some(Node {
        name: NodeName::from(node.metadata.name.as_deref()?),
        instance: InstanceId::from(instance),
        addresses: addresses(node),
        ready: conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True"),
        allocatable: allocatable(node),
        labelled: of_claim.is_some(),
        tainted: taints.iter().any(|t| t.key == names::LEAVING_TAINT && t.effect == "NoSchedule"),
        guarded: of_claim.is_some_and(|claim| {
            taints.iter().any(|t| t.key == names::CLAIM_TAINT && t.effect == "NoSchedule" && t.value.as_ref() == Some(claim))
        }),
        state: NodeState {
            cordoned: spec.and_then(|s| s.unschedulable).unwrap_or(false),
            foreign_taints: taints.iter().filter(|t| is_foreign(t)).map(|t| t.key.clone()).collect(),
            gpu_faults: conditions.iter().filter(|c| is_gpu_fault(c)).map(gpu_fault).collect(),
            labels: Arc::new(labels.cloned().unwrap_or_default().into()),
            others: Vec::new(),
        },
    })
}

/// A taint that keeps pods off and that neither lowtide, its class, nor Kubernetes itself put there.
///
/// Kubernetes' own taints follow conditions that are checked directly; those of the class are removed where the class is known.
fn is_foreign(taint: &core_v1::Taint) -> bool {
    let hard = taint.effect == "NoSchedule" || taint.effect == "NoExecute";
    let ours = taint.key == words::GPU_RESOURCE || taint.key.starts_with("lowtide.");
    hard && !ours && !taint.key.starts_with("node.kubernetes.io/") && !taint.key.starts_with("node.cloudprovider.kubernetes.io/")
}

/// Conditions by which node monitors report a broken GPU: NVIDIA's health checks and node-problem-detector name them after GPUs,
/// and such a condition is `True` while the problem lasts.
fn is_gpu_fault(condition: &core_v1::NodeCondition) -> bool {
    let name = condition.type_.to_ascii_lowercase();
    let about_gpus = ["gpu", "xid", "nvlink", "nvidia"].iter().any(|word| name.contains(word));
    let healthy_when_true = name.contains("healthy") || name.contains("ready");
    about_gpus && condition.status == if healthy_when_true { "False" } else { "True" }
}

fn gpu_fault(condition: &core_v1::NodeCondition) -> String {
    format!("{}: {}", condition.type_, condition.message.as_deref().unwrap_or_default())
}

/// A pod that is not ours, on some node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Other {
    /// The node.
    pub node: NodeName,
    /// The pod.
    pub pod: OtherPod,
    /// The uid of the DaemonSet that it says controls it. What it requests is counted for that, if there is such a one in its namespace: who made the pod
    /// may write any owner, but Kubernetes removes a pod whose owner is not there, and a DaemonSet's controller one that is too many.
    pub daemonset: Option<Uid>,
}

/// The kubelet writes it on the mirror of a static pod: the API cannot end such a one.
const MIRROR: &str = "kubernetes.io/config.mirror";

/// A pod on a node without our annotations; `None` if it is on none, or has ended.
pub fn other_pod(pod: &core_v1::Pod) -> Option<Other> {
    let (meta, spec) = (&pod.metadata, pod.spec.as_ref()?);
    let node = NodeName::from(spec.node_name.as_deref()?);
    let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref()).unwrap_or_default();
    if phase == "Succeeded" || phase == "Failed" {
        return None;
    }
    let is_daemonset = |o: &&OwnerReference| o.controller == Some(true) && o.kind == "DaemonSet" && o.api_version.starts_with("apps/");
    let daemonset = meta.owner_references.iter().flatten().find(is_daemonset).map(|o| Uid::from(o.uid.as_str()));
    let mirror = meta.annotations.as_ref().is_some_and(|all| all.contains_key(MIRROR));
    let manifest = manifest_of(pod).ok()?;
    let asked = requested(&manifest.spec).unwrap_or_default();
    let up = |name: &str, unit: i128| saturate((asked.get(name).copied().unwrap_or(0) + unit - 1) / unit);
    let requests = Resources {
        cpu: Millicores(up("cpu", 1)),
        memory: Mebibytes(up("memory", 1_000 << 20)),
        gpus: up(words::GPU_RESOURCE, 1_000),
        disk: Mebibytes(up("ephemeral-storage", 1_000 << 20)),
        // The volumes of others' pods are dropped on arrival.
        volumes: 0,
    };
    let object = ObjectRef { namespace: meta.namespace.clone().unwrap_or_default(), name: meta.name.clone().unwrap_or_default() };
    let identity = PodIdentity { object: object.into(), uid: Uid::from(meta.uid.clone()?) };
    let grace = Millis::from_secs(spec.termination_grace_period_seconds.unwrap_or(30));
    let deleting = meta.deletion_timestamp.is_some();
    let started = pod.status.as_ref().and_then(|s| s.start_time.as_ref()).or(meta.creation_timestamp.as_ref());
    let stays = Stay::of_guest(&manifest.metadata.annotations, started.map_or(Timestamp(0), |at| timestamp(at.0)));
    let rules = PodRules::read(&manifest, &Default::default()).0;
    Some(Other { node, pod: OtherPod { pod: identity, requests, rules, termination_grace: grace, deleting, mirror, stays }, daemonset })
}

/// Bytes of labels of a pod that is not ours.
const MOST_LABELS: usize = 16 << 10;

/// What is kept of a pod that is not ours: everything else is dropped on arrival.
pub fn trim_other(pod: &mut core_v1::Pod) {
    pod.spec = pod.spec.take().map(|spec| core_v1::PodSpec { volumes: None, tolerations: None, ..asked_of(spec) });
    // Rules of ours look at the labels of others. Nobody means a hundred kilobytes of them, and everybody's pods are held.
    let large = |labels: &BTreeMap<String, String>| labels.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>() > MOST_LABELS;
    pod.metadata.labels = pod.metadata.labels.take().filter(|labels| !large(labels));
    (pod.metadata.finalizers, pod.metadata.generate_name) = (None, None);
    if let Some(annotations) = &mut pod.metadata.annotations {
        annotations.retain(|key, _| key == MIRROR || do_not_disrupt::KEYS.contains(&key.as_str()));
    }
    if let Some(status) = pod.status.as_mut() {
        (status.container_statuses, status.init_container_statuses, status.conditions) = (None, None, None);
    }
}

/// What is kept of a Node of ours: the list of its images alone would be most of it.
pub fn trim(node: &mut core_v1::Node) {
    node.metadata.annotations = None;
    if let Some(status) = node.status.as_mut() {
        (status.images, status.volumes_in_use, status.volumes_attached) = (None, None, None);
        (status.capacity, status.node_info, status.runtime_handlers) = (None, None, None);
    }
}

/// The addresses and names that its kubelet reports.
fn addresses(node: &core_v1::Node) -> Vec<String> {
    let said = node.status.as_ref().and_then(|s| s.addresses.as_deref()).unwrap_or_default();
    let each: BTreeSet<&str> = said.iter().map(|one| one.address.as_str()).collect();
    each.into_iter().map(str::to_owned).collect()
}

/// The instance id at the end of a provider id: `lowtide://us-east-1/use1-az4/lt-i-0abc`, and `aws:///us-east-1a/i-0abc` on EKS.
fn instance_in(provider_id: &str) -> Option<&str> {
    let last = provider_id.rsplit('/').next()?;
    let id = last.strip_prefix("lt-").unwrap_or(last);
    id.starts_with("i-").then_some(id)
}

/// What pods can use; values that are missing or unreadable count as nothing.
fn allocatable(node: &core_v1::Node) -> Resources {
    let said = node.status.as_ref().and_then(|s| s.allocatable.as_ref());
    let milli = |key: &str| said.and_then(|a| a.get(key)).and_then(|Quantity(text)| milli_units(text)).unwrap_or(0).max(0);
    Resources {
        cpu: Millicores(saturate(milli("cpu"))),
        memory: Mebibytes(saturate(milli("memory") / 1_000 / (1 << 20))),
        gpus: saturate(milli(words::GPU_RESOURCE) / 1_000),
        disk: Mebibytes(saturate(milli("ephemeral-storage") / 1_000 / (1 << 20))),
        // Said by CSINode, and not by the Node.
        volumes: 0,
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
    fn no_owner_that_a_pod_names_and_no_word_of_it_hides_what_it_takes() {
        let owner = |api: &str, kind: &str, controls: bool| json!([{ "apiVersion": api, "kind": kind, "name": "x", "uid": "u-1", "controller": controls }]);
        let mirror = json!({ "kubernetes.io/config.mirror": "hash", "else": "dropped" });
        for (what, owners, annotations, daemonset, mirrors) in [
            ("nobody's", json!([]), json!({}), false, false),
            ("a DaemonSet's", owner("apps/v1", "DaemonSet", true), json!({}), true, false),
            ("one that names a DaemonSet which does not control it", owner("apps/v1", "DaemonSet", false), json!({}), false, false),
            ("one of another kind of that name", owner("example.com/v1", "DaemonSet", true), json!({}), false, false),
            ("one that names a Node", owner("v1", "Node", true), json!({}), false, false),
            ("a static pod's mirror", owner("v1", "Node", true), mirror, false, true),
        ] {
            let mut pod: core_v1::Pod = serde_json::from_value(json!({
                "metadata": { "namespace": "team", "name": "rider", "uid": "p-1", "ownerReferences": owners, "annotations": annotations },
                "spec": { "nodeName": "n1", "containers": [{ "name": "c", "resources": { "requests": { "cpu": "3" } } }] },
            }))
            .unwrap();
            trim_other(&mut pod);
            let other = other_pod(&pod).unwrap_or_else(|| panic!("{what}"));
            assert_eq!(
                (other.pod.requests.cpu, other.pod.mirror, other.daemonset.is_some()),
                (Millicores(3_000), mirrors, daemonset),
                "{what}"
            );
            pod.status = Some(core_v1::PodStatus { phase: Some("Succeeded".into()), ..Default::default() });
            assert_eq!(other_pod(&pod), None, "{what}, and it has ended");
        }
    }

    #[test]
    fn a_node_as_0_1_0_left_it_is_read_and_has_no_taint_of_its_claim() {
        let (_, object) = crate::released::objects("0.1.0", "node-").remove(0);
        let found = node(object).unwrap();
        assert_eq!(found.instance.as_str(), "i-0123456789abcdef0");
        assert_eq!((found.ready, found.labelled, found.tainted, found.guarded), (true, true, true, false));
        assert_eq!((found.allocatable.gpus, found.state.foreign_taints), (1, Vec::<String>::new()));
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
        assert_eq!(found.addresses, ["10.0.0.7"]);
        assert_eq!(found.allocatable, Resources { cpu: Millicores(3_920), memory: Mebibytes(15_360), gpus: 1, ..Resources::default() });
        assert_eq!((found.state.cordoned, found.state.foreign_taints), (false, vec!["x".to_owned()]));

        let images: Vec<_> = (0..50).map(|n| json!({ "names": [format!("image-{n}")], "sizeBytes": n })).collect();
        let whole: core_v1::Node = serde_json::from_value(json!({
            "metadata": { "name": "n1", "annotations": { "x": "y" }, "labels": { "lowtide.dev/instance-id": "i-1" } },
            "status": { "images": images, "capacity": { "cpu": "4" }, "allocatable": { "cpu": "3920m" } }
        }))
        .unwrap();
        let mut held = whole.clone();
        trim(&mut held);
        assert!(held != whole && read(&held) == read(&whole), "nothing that is read is dropped on arrival");

        let bare = |provider| node(json!({ "metadata": { "name": "n2" }, "spec": { "providerID": provider } }));
        assert_eq!(bare("aws:///us-east-1a/i-0abc").unwrap().instance.as_str(), "i-0abc");
        let stretched = bare("lowtide://us-east-1/use1-az4/lt-i-0abc").unwrap();
        assert_eq!((stretched.instance.as_str(), stretched.ready, stretched.labelled), ("i-0abc", false, false));
        assert_eq!(bare("k3s://some-host"), None);
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(crate::mutation::CASES))]

        /// Kubelets write Nodes, and owners pods; both are read as they come.
        #[test]
        fn whatever_a_node_or_a_pod_of_others_holds_it_takes_no_less_than_nothing(
            node in crate::mutation::json(vec![json!({
                "metadata": { "name": "n1", "labels": { "lowtide.dev/instance-id": "i-1", "lowtide.dev/node-class": "us" } },
                "spec": { "providerID": "aws:///us-east-1a/i-1", "taints": [{ "key": "example.com/x", "effect": "NoSchedule" }], "unschedulable": false },
                "status": {
                    "allocatable": { "cpu": "3920m", "memory": "15Gi", "nvidia.com/gpu": "1", "ephemeral-storage": "90Gi", "pods": "58" },
                    "addresses": [{ "type": "InternalIP", "address": "10.0.0.7" }],
                    "conditions": [{ "type": "Ready", "status": "True", "lastTransitionTime": "2026-07-20T13:44:30Z" }, { "type": "GpuXid", "status": "False" }],
                },
            })]),
            pod in crate::mutation::json(vec![json!({
                "metadata": { "namespace": "team", "name": "rider", "uid": "p-1", "ownerReferences": [], "annotations": { "kubernetes.io/config.mirror": "x" } },
                "spec": { "nodeName": "n1", "terminationGracePeriodSeconds": 30,
                    "containers": [{ "name": "c", "resources": { "requests": { "cpu": "3", "memory": "1Gi", "nvidia.com/gpu": "1" } } }] },
                "status": { "phase": "Running", "startTime": "2026-07-20T13:44:30Z" },
            })]),
        ) {
            // What the API server's types would not hold is no object.
            let node = serde_json::from_value::<core_v1::Node>(node).ok().and_then(|mut node| {
                trim(&mut node);
                read(&node)
            });
            if let Some(Node { allocatable, .. }) = node {
                assert!(allocatable.cpu.0 >= 0 && allocatable.memory.0 >= 0 && allocatable.gpus >= 0 && allocatable.disk.0 >= 0, "{allocatable:?}");
            }
            let other = serde_json::from_value::<core_v1::Pod>(pod).ok().and_then(|mut pod| {
                trim_other(&mut pod);
                other_pod(&pod)
            });
            if let Some(other) = other {
                let asked = other.pod.requests;
                assert!(asked.cpu.0 >= 0 && asked.memory.0 >= 0 && asked.gpus >= 0 && asked.disk.0 >= 0, "{asked:?}");
                let ends = Timestamp::from_date(2026, 7, 20) + other.pod.termination_grace;
                assert!(!ends.month_end().to_rfc3339().is_empty());
            }
        }
    }
}
