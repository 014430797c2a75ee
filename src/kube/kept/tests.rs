//! Whatever the watches announce, in whatever order: the kept view is the one that is read from nothing.

use kube::core::DeserializeGuard;
use kube::runtime::watcher::Event;
use proptest::prelude::*;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::super::held::{Form, Held};
use super::super::pods::AttributionKeys;
use super::*;

/// What happens to one object.
#[derive(Debug, Clone)]
struct Happening {
    kind: usize,
    /// Which of a few objects.
    which: usize,
    /// How it is now, or `None` if it is gone.
    how: Option<usize>,
    /// The view is asked for afterwards.
    looked_at: bool,
}

fn happening() -> impl Strategy<Value = Happening> {
    (0..KINDS, 0..3_usize, prop::option::weighted(0.85, 0..6_usize), any::<bool>()).prop_map(|(kind, which, how, looked_at)| Happening {
        kind,
        which,
        how,
        looked_at,
    })
}

const KINDS: usize = 14;
/// Histories that are tried: a second or two in a build without optimisation.
const CASES: u32 = 64;

fn tell<F: Form<Object: DeserializeOwned>>(held: &Held<F>, object: Value, there: bool) {
    let object = serde_json::from_value(object).unwrap();
    held.take_in(if there { Event::Apply(object) } else { Event::Delete(object) });
}

/// As [`tell`], of an object that somebody wrote nonsense into; what the API server would not let pass is passed over.
fn tell_spoiled<F: Form<Object: DeserializeOwned>>(held: &Held<F>, object: Value, there: bool, spoiling: &[(usize, usize)]) {
    // Names are not theirs to choose: they are what objects are kept by.
    let mut spoiled = crate::mutation::spoiled(object.clone(), spoiling);
    for name in ["name", "namespace", "uid", "resourceVersion"] {
        let pointer = format!("/metadata/{name}");
        if let (Some(is), Some(metadata)) = (object.pointer(&pointer), spoiled.get_mut("metadata").and_then(Value::as_object_mut)) {
            metadata.insert(name.to_owned(), is.clone());
        }
    }
    match serde_json::from_value(spoiled) {
        Ok(object) => _ = held.take_in(if there { Event::Apply(object) } else { Event::Delete(object) }),
        Err(fault) => assert!(!spoiling.is_empty(), "{fault}: {object}"),
    }
}

fn meta(namespace: Option<&str>, name: &str, version: u64, more: Value) -> Value {
    let at = "2026-07-20T13:44:30Z";
    let mut meta = json!({ "name": name, "uid": format!("{name}-uid"), "resourceVersion": version.to_string(), "creationTimestamp": at });
    if let Some(namespace) = namespace {
        meta["namespace"] = json!(namespace);
    }
    for (key, value) in more.as_object().into_iter().flatten() {
        meta[key] = value.clone();
    }
    meta
}

fn owned_by(kind: &str, name: &str) -> Value {
    json!([{ "apiVersion": "apps/v1", "kind": kind, "name": name, "uid": format!("{name}-uid"), "controller": true }])
}

/// A pod of ours. How it is says which set owns it, what it mounts, and how far it has come; one of a name may be another than before.
fn pod(which: usize, how: usize, version: u64) -> Value {
    let annotations = json!({ "lowtide.dev/workload": "inference", "lowtide.dev/gpu-memory": if how == 5 { "plenty" } else { "20Gi" } });
    let mut more = json!({ "annotations": annotations, "labels": { "team": "ml" }, "uid": format!("pod-{which}-{}-uid", how / 3) });
    if how != 4 {
        more["ownerReferences"] = owned_by("ReplicaSet", &format!("set-{}", how % 3));
    }
    let claim = format!("disk-{}", how % 3);
    let volumes = if how.is_multiple_of(2) { json!([]) } else { json!([{ "name": "v", "persistentVolumeClaim": { "claimName": claim } }]) };
    let selector = if how == 3 { json!({ "disktype": "nvme" }) } else { json!({}) };
    json!({ "metadata": meta(Some("ml"), &format!("pod-{which}"), version, more),
        "spec": { "nodeName": (how > 2).then_some("node-0"), "nodeSelector": selector, "volumes": volumes, "containers": [
            { "name": "server", "resources": { "requests": { "cpu": "1" }, "limits": { "nvidia.com/gpu": "1" } } }] },
        "status": { "phase": if how > 2 { "Running" } else { "Pending" } } })
}

fn node(which: usize, how: usize, version: u64) -> Value {
    let labels = json!({ "lowtide.dev/instance-id": format!("i-{}", how % 2), "lowtide.dev/node-class": "class-0" });
    json!({ "metadata": meta(None, &format!("node-{which}"), version, json!({ "labels": labels })),
        "spec": { "taints": [{ "key": "special", "effect": "NoSchedule" }] },
        "status": { "conditions": [{ "type": "Ready", "status": if how > 3 { "False" } else { "True" }, "lastHeartbeatTime": "2026-07-20T13:44:30Z" }] } })
}

fn happen(watches: &Watches, happening: &Happening, version: u64, spoiling: &[(usize, usize)]) {
    let Happening { kind, which, how, .. } = happening;
    let (there, how, which) = (how.is_some(), how.unwrap_or(0), *which);
    let name = |what: &str| format!("{what}-{which}");
    let spec =
        |name: &str, namespace: Option<&str>, spec: Value| json!({ "metadata": meta(namespace, name, version, json!({})), "spec": spec });
    match kind {
        0 | 1 => tell_spoiled(&watches.pods, pod(which, how, version), there, spoiling),
        2 => {
            let owner = json!({ "ownerReferences": owned_by("Deployment", &format!("deployment-{}", how % 3)) });
            let (labels, kind) = (if how == 5 { json!({}) } else { owner }, "PartialObjectMetadata");
            let object =
                json!({ "apiVersion": "meta.k8s.io/v1", "kind": kind, "metadata": meta(Some("ml"), &name("set"), version, labels) });
            tell_spoiled(&watches.replica_sets, object, there, spoiling);
        }
        3 => {
            let strategy = if how > 3 { "Recreate" } else { "RollingUpdate" };
            let wanted = json!({ "replicas": how % 3, "selector": {}, "template": {}, "strategy": { "type": strategy } });
            tell_spoiled(&watches.deployments, spec(&name("deployment"), Some("ml"), wanted), there, spoiling);
        }
        4 => {
            let (mode, volume) = (if how > 2 { "ReadWriteMany" } else { "ReadWriteOnce" }, format!("volume-{}", how % 3));
            let claim = json!({ "accessModes": [mode], "volumeName": volume, "storageClassName": "storage-0" });
            tell_spoiled(&watches.volume_claims, spec(&name("disk"), Some("ml"), claim), there, spoiling);
        }
        5 => {
            let term =
                json!({ "matchExpressions": [{ "key": "topology.kubernetes.io/zone", "operator": "In", "values": [format!("z{how}")] }] });
            let volume = json!({ "nodeAffinity": { "required": { "nodeSelectorTerms": [term] } } });
            tell_spoiled(&watches.volumes, spec(&name("volume"), None, volume), there, spoiling);
        }
        6 => {
            let topology = json!([{ "matchLabelExpressions": [{ "key": "topology.kubernetes.io/zone", "values": [format!("z{how}")] }] }]);
            let object = json!({ "metadata": meta(None, &name("storage"), version, json!({})), "provisioner": "p",
                "volumeBindingMode": "WaitForFirstConsumer", "allowedTopologies": topology });
            tell_spoiled(&watches.storage_classes, object, there, spoiling);
        }
        7 => {
            let target = |which: usize| {
                json!({ "addresses": ["10.0.0.1"], "conditions": { "ready": how > 2 },
                "targetRef": { "kind": "Pod", "uid": format!("pod-{which}-{}-uid", how % 2) } })
            };
            let endpoints: Vec<Value> = (0..how % 4).map(|of| target(of % 3)).collect();
            let labels = json!({ "labels": { "kubernetes.io/service-name": format!("service-{}", how % 2) } });
            let object =
                json!({ "metadata": meta(Some("ml"), &name("slice"), version, labels), "addressType": "IPv4", "endpoints": endpoints });
            tell_spoiled(&watches.slices, object, there, spoiling);
        }
        8 => {
            let labels = json!({ "labels": { "team": format!("team-{how}"), "buys": (how > 2).to_string() } });
            let names = ["ml", "other", "third"];
            let object = json!({ "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": meta(None, names[which], version, labels) });
            tell_spoiled(&watches.namespaces, object, there, spoiling);
        }
        9 => {
            let extra = if how > 2 { json!({ "node-taint": "special=1:NoSchedule", "node-label": "disktype=nvme" }) } else { json!({}) };
            let class = json!({ "region": "us-east-1", "subnets": ["subnet-1"], "image": format!("ami-{how}"), "securityGroups": [],
                "bootstrap": { "kind": "k3s", "serverUrl": "https://10.0.0.1:6443", "tokenParameter": "/token", "extra": extra } });
            tell_spoiled(&watches.classes, spec(&name("class"), None, class), there, spoiling);
        }
        10 => {
            let selector = if how > 3 { json!({}) } else { json!({ "matchLabels": { "buys": "true" } }) };
            let pool = json!({ "namespaceSelector": selector, "nodeClasses": ["class-0"], "homeRegion": "us-east-1", "maxPricePerGpuHour": how.to_string() });
            tell_spoiled(&watches.pools, spec(&name("pool"), None, pool), there, spoiling);
        }
        11 => {
            let (from, to) = if which == 2 { (0, 1) } else { (1, 0) };
            // Where a node says which instance it is changes the watch that shows it.
            tell_spoiled(&watches.nodes[from], node(which, how, version), there, spoiling);
            tell_spoiled(&watches.nodes[to], node(which, how, version), false, spoiling);
        }
        12 => {
            let template = json!({ "spec": { "containers": [{ "name": "c", "resources": { "requests": { "cpu": how.to_string() } } }] } });
            tell_spoiled(
                &watches.daemonsets,
                spec(&name("daemon"), Some("other"), json!({ "selector": {}, "template": template })),
                there,
                spoiling,
            );
        }
        _ => {
            let node = format!("node-{}", how % 3);
            let of = if how > 2 { json!({ "ownerReferences": owned_by("DaemonSet", &format!("daemon-{}", how % 3)) }) } else { json!({}) };
            let object = json!({ "metadata": meta(Some("other"), &name("guest"), version, of), "spec": { "nodeName": node,
                "containers": [{ "name": "c", "resources": { "requests": { "cpu": how.to_string() } } }] } });
            tell_spoiled(&watches.others, object, there, spoiling);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(CASES))]

    #[test]
    fn the_kept_view_is_the_one_read_from_nothing(history in prop::collection::vec(happening(), 1..60), from_namespace: bool) {
        let watches = Watches::new("uid".to_owned(), AttributionKeys { from_namespace, ..AttributionKeys::default() });
        let mut kept = Kept::default();
        for (at, one) in history.iter().enumerate() {
            happen(&watches, one, at as u64 + 1, &[]);
            if one.looked_at || at + 1 == history.len() {
                let seen = kept.catch_up(&watches).clone();
                let fresh = Kept::default().catch_up(&watches).clone();
                prop_assert_eq!(seen, fresh, "after {:?}", one);
            }
        }
    }

    /// Nodes, pods of others, disks, classes of storage, DaemonSets, Deployments, slices and labels, as anybody may write them.
    #[test]
    fn whatever_objects_of_others_hold_the_view_is_kept(
        history in prop::collection::vec((happening(), crate::mutation::spoiling()), 1..40), from_namespace: bool
    ) {
        let watches = Watches::new("uid".to_owned(), AttributionKeys { from_namespace, ..AttributionKeys::default() });
        let mut kept = Kept::default();
        for (version, (one, spoiling)) in (1..).zip(&history) {
            happen(&watches, one, version, spoiling);
            if one.looked_at {
                let seen = kept.catch_up(&watches).clone();
                prop_assert_eq!(seen, Kept::default().catch_up(&watches).clone(), "after {:?}, spoiled by {:?}", one, spoiling);
            }
        }
    }
}

#[test]
fn a_heartbeat_is_no_news_and_a_change_is_news_of_its_part_alone() {
    let (watches, mut kept) = (Watches::new("uid".to_owned(), AttributionKeys::default()), Kept::default());
    tell(&watches.nodes[0], node(0, 0, 1), true);
    tell(&watches.pods, pod(0, 0, 2), true);
    let before = kept.catch_up(&watches);
    let (nodes, pods) = (before.nodes.mark(), before.pods.mark());
    assert_eq!((before.nodes.len(), before.pods.len()), (1, 1));
    tell(&watches.nodes[0], node(0, 0, 3), true);
    let after = kept.catch_up(&watches);
    assert!(after.nodes.is(&nodes) && after.pods.is(&pods), "a later version of the same Node");
    assert_eq!(after.versions[&Lane::Node("node-0".into())], 3, "what waits for it need not wait longer");
    tell(&watches.nodes[0], node(0, 4, 4), true);
    let after = kept.catch_up(&watches);
    assert!(!after.nodes.is(&nodes) && after.pods.is(&pods), "no longer Ready");
}

/// Whoever makes a pod may write any owner on it: what it takes is left out only for a DaemonSet that is there, in its namespace.
#[test]
fn a_rider_that_names_a_daemonset_which_is_not_there_is_a_guest() {
    let (watches, mut kept) = (Watches::new("uid".to_owned(), AttributionKeys::default()), Kept::default());
    tell(&watches.nodes[0], node(0, 0, 1), true);
    let of = |name: &str| json!({ "ownerReferences": owned_by("DaemonSet", name) });
    let rider = |name: &str, owner: &str| {
        let containers = json!([{ "name": "c", "resources": { "requests": { "cpu": "3" } } }]);
        json!({ "metadata": meta(Some("other"), name, 2, of(owner)), "spec": { "nodeName": "node-0", "containers": containers } })
    };
    let daemonset = |namespace: &str, name: &str| {
        let spec = json!({ "selector": {}, "template": { "spec": { "containers": [{ "name": "c" }] } } });
        json!({ "metadata": meta(Some(namespace), name, 3, json!({})), "spec": spec })
    };
    tell(&watches.others, rider("agent-pod", "agent"), true);
    tell(&watches.others, rider("forger", "elsewhere"), true);
    tell(&watches.others, rider("dreamer", "nowhere"), true);
    let guests = |kept: &mut Kept| {
        let view = kept.catch_up(&watches);
        view.nodes.values().flat_map(|n| &n.state.others).map(|o| o.pod.object.name.clone()).collect::<Vec<_>>()
    };
    assert_eq!(guests(&mut kept), ["agent-pod", "dreamer", "forger"]);
    tell(&watches.daemonsets, daemonset("other", "agent"), true);
    tell(&watches.daemonsets, daemonset("ml", "elsewhere"), true);
    assert_eq!(guests(&mut kept), ["dreamer", "forger"], "one of another namespace controls no pod here");
    tell(&watches.daemonsets, daemonset("other", "agent"), false);
    assert_eq!(guests(&mut kept), ["agent-pod", "dreamer", "forger"]);
}

/// A pool or a class with a word of another version: neither is gone, and no taint of the class becomes another's.
#[test]
fn what_cannot_be_read_is_not_gone() {
    let (watches, mut kept) = (Watches::new("uid".to_owned(), AttributionKeys::default()), Kept::default());
    let object = |classes: Value, selector: Value| {
        let spec = json!({ "namespaceSelector": selector, "nodeClasses": classes, "homeRegion": "us-east-1", "maxPricePerGpuHour": "1" });
        json!({ "metadata": meta(None, "gpus", 1, json!({})), "spec": spec })
    };
    let (readable, unreadable) = (object(json!(["class-0"]), json!({})), object(json!(7), json!({})));
    let unread = |view: &ClusterView| (view.pools.len(), view.unreadable_pools.iter().map(ToString::to_string).collect::<Vec<_>>());
    tell(&watches.pools, unreadable.clone(), true);
    assert_eq!(unread(kept.catch_up(&watches)), (0, vec!["gpus".to_owned()]));
    let selector = json!({ "matchExpressions": [{ "key": "a", "operator": "Tomorrow" }] });
    tell(&watches.namespaces, json!({ "metadata": meta(None, "ml", 1, json!({})) }), true);
    tell(&watches.pools, object(json!(["class-0"]), selector), true);
    assert_eq!(unread(kept.catch_up(&watches)), (0, vec!["gpus".to_owned()]), "a selector that nobody knows");
    tell(&watches.pools, readable.clone(), true);
    assert_eq!(unread(kept.catch_up(&watches)), (1, vec![]));
    tell(&watches.pools, unreadable.clone(), true);
    tell(&watches.nodes[0], node(0, 0, 2), true);
    let view = kept.catch_up(&watches);
    assert_eq!(unread(view), (0, vec!["gpus".to_owned()]));
    assert!(view.nodes.values().all(|node| node.state.foreign_taints.is_empty()), "the class of this Node is not known");
    tell(&watches.pools, readable, false);
    assert_eq!(unread(kept.catch_up(&watches)), (0, vec![]), "deleted");
}

/// The chart's policies do not look there, so that its pods' owners could write any mark.
#[test]
fn an_exempt_namespace_may_use_no_pool() {
    let mut watches = Watches::new("uid".to_owned(), AttributionKeys::default());
    watches.ignored.names.insert("kube-system".to_owned());
    let mut kept = Kept::default();
    for name in ["kube-system", "ml"] {
        tell(&watches.namespaces, json!({ "metadata": meta(None, name, 1, json!({})) }), true);
    }
    let spec = json!({ "namespaceSelector": {}, "nodeClasses": ["class-0"], "homeRegion": "us-east-1", "maxPricePerGpuHour": "1" });
    tell(&watches.pools, json!({ "metadata": meta(None, "gpus", 1, json!({})), "spec": spec }), true);
    let view = kept.catch_up(&watches);
    assert_eq!(view.pools[&"gpus".into()].namespaces.iter().map(String::as_str).collect::<Vec<_>>(), ["ml"]);
}

#[test]
fn a_list_that_lacks_an_object_takes_it_out_of_the_view() {
    let (watches, mut kept) = (Watches::new("uid".to_owned(), AttributionKeys::default()), Kept::default());
    tell(&watches.pods, pod(0, 0, 1), true);
    tell(&watches.pods, pod(1, 0, 2), true);
    assert_eq!(kept.catch_up(&watches).pods.len(), 2);
    watches.pods.take_in(Event::Init);
    watches.pods.take_in(Event::InitApply(serde_json::from_value::<DeserializeGuard<_>>(pod(1, 3, 3)).unwrap()));
    assert_eq!(kept.catch_up(&watches).pods.len(), 2, "the list has not ended");
    watches.pods.take_in(Event::InitDone);
    let left: Vec<_> = kept.catch_up(&watches).pods.keys().map(ToString::to_string).collect();
    assert_eq!(left, ["pod-1-1-uid"], "the other of the same name is gone too");
    assert_eq!(kept.catch_up(&watches).versions.len(), 1);
}

#[test]
fn replicas_hold_what_they_need_once_however_often_they_are_read() {
    let (watches, mut kept) = (Watches::new("uid".to_owned(), AttributionKeys::default()), Kept::default());
    for (which, version) in [(0, 1), (1, 2), (0, 3), (2, 4)] {
        tell(&watches.pods, pod(which, 0, version), true);
        kept.catch_up(&watches);
    }
    let pods: Vec<_> = kept.catch_up(&watches).pods.values().cloned().collect();
    let need = |of: usize| pods[of].need.as_ref().unwrap().0.mark();
    assert_eq!(pods.len(), 3);
    assert!(pods.iter().all(|pod| pod.need.as_ref().unwrap().0.is(&need(0)) && pod.workload.is(&pods[0].workload.mark())));
}
