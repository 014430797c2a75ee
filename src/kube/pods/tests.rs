use super::*;
use crate::core::units::time::Millis;
use crate::core::workload::Mobility;
use crate::core::workload::controllers::Controllers;
use crate::core::workload::need::{Vocabulary, WorkloadKind};
use crate::core::workload::volumes::{self, Volumes};
use crate::kube::workloads;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::PartialObjectMeta;
use serde_json::{Value, json};

/// A Deployment's pod as the API server gives it, with `changes` merged in.
fn pod(changes: Value) -> Pod {
    let mut manifest = json!({
        "metadata": {
            "name": "chat-7d4b9-abcde", "namespace": "ml", "uid": "pod-1", "resourceVersion": "41",
            "creationTimestamp": "2026-07-20T13:44:30Z",
            "labels": { "app": "chat", "pod-template-hash": "7d4b9", "team": "ml", "cost-center": "4711" },
            "annotations": { "lowtide.dev/workload": "inference", "lowtide.dev/gpu-memory": "20Gi" },
            "ownerReferences": [{ "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "chat-7d4b9", "uid": "rs-1", "controller": true }],
        },
        "spec": {
            "terminationGracePeriodSeconds": 90,
            "containers": [{ "name": "server", "resources": { "requests": { "cpu": "2", "memory": "8Gi" }, "limits": { "nvidia.com/gpu": "1" } } }],
        },
        "status": { "phase": "Pending" },
    });
    merge(&mut manifest, changes);
    serde_json::from_value(manifest).unwrap()
}

fn merge(into: &mut Value, changes: Value) {
    match (into, changes) {
        (Value::Object(into), Value::Object(changes)) => {
            for (key, value) in changes {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, value) => *into = value,
    }
}

fn owners(strategy: &str) -> Controllers {
    let set: PartialObjectMeta<ReplicaSet> = serde_json::from_value(json!({ "metadata": { "name": "chat-7d4b9", "uid": "rs-1",
        "ownerReferences": [{ "apiVersion": "apps/v1", "kind": "Deployment", "name": "chat", "uid": "d-1", "controller": true }] } }))
    .unwrap();
    let deployment: Deployment = serde_json::from_value(json!({ "metadata": { "name": "chat", "uid": "d-1" },
        "spec": { "selector": {}, "template": {}, "strategy": { "type": strategy } } }))
    .unwrap();
    workloads::read([&set].into_iter(), [&deployment].into_iter())
}

fn read_with(owners: &Controllers, endpoints: &Endpoints, pod: &Pod) -> core_workload::Pod {
    read_by(&AttributionKeys::default(), owners, endpoints, pod)
}

fn read_by(keys: &AttributionKeys, owners: &Controllers, endpoints: &Endpoints, pod: &Pod) -> core_workload::Pod {
    let volumes = volumes();
    let labels = [("team", "platform"), ("cost-center", "1200")].map(|(key, value)| (key.to_owned(), value.to_owned()));
    let namespaces = std::collections::BTreeMap::from([("ml".to_owned(), labels.into())]);
    let reader = PodReader { controllers: owners, volumes: &volumes, keys, namespaces: &namespaces, vocabulary: Vocabulary::snapshot() };
    WatchedPods { reader, endpoints }.read(pod).unwrap()
}

/// A claim that many nodes may mount, and one that one node may, bound to a volume in one zone.
fn volumes() -> Volumes {
    let object = |value: Value| serde_json::from_value(value).unwrap();
    let claim = |name: &str, mode: &str, volume: &str| {
        object(json!({ "metadata": { "namespace": "ml", "name": name }, "spec": { "accessModes": [mode], "volumeName": volume } }))
    };
    let zonal = json!({ "metadata": { "name": "pv-1" }, "spec": { "nodeAffinity": { "required": { "nodeSelectorTerms": [
        { "matchExpressions": [{ "key": "topology.kubernetes.io/zone", "operator": "In", "values": ["use1-az4"] }] }] } } } });
    volumes::facts(&[claim("weights", "ReadWriteMany", ""), claim("disk", "ReadWriteOnce", "pv-1")], &[object(zonal)], &[])
}

fn read(changes: Value) -> core_workload::Pod {
    read_with(&owners("RollingUpdate"), &Endpoints::default(), &pod(changes))
}

#[test]
fn an_owner_cannot_charge_another_team_where_namespaces_say_who_pays() {
    let by = |from_namespace, changes: Value| {
        let keys = AttributionKeys { from_namespace, ..AttributionKeys::default() };
        read_by(&keys, &owners("RollingUpdate"), &Endpoints::default(), &pod(changes)).attribution
    };
    let forged = || json!({ "metadata": { "labels": { "team": "search", "cost-center": "9", "product-area": "ads", "service": "chat" } } });
    let said = by(false, forged());
    assert_eq!((said.team.as_deref(), said.cost_center.as_deref(), said.product_area.as_deref()), (Some("search"), Some("9"), Some("ads")));
    let held = by(true, forged());
    assert_eq!((held.team.as_deref(), held.cost_center.as_deref(), held.product_area.as_deref()), (Some("platform"), Some("1200"), None));
    assert_eq!((held.service.as_deref(), held.component.as_deref()), (Some("chat"), Some("inference")), "these are the pod's");
    let elsewhere = by(true, json!({ "metadata": { "namespace": "unlabelled", "labels": { "team": "search" } } }));
    assert_eq!(elsewhere.team, None, "a namespace that says nothing: unknown, and never what the pod says");
}

#[test]
fn a_waiting_pod_is_read_whole() {
    let found = read(json!({ "spec": { "schedulingGates": [{ "name": "lowtide.dev/placement" }] } }));
    let (need, _) = found.need.unwrap();
    assert_eq!((need.kind, need.gpus, need.cpu.0, need.memory.0), (WorkloadKind::Inference, 1, 2_000, 8_192));
    assert_eq!((found.phase, found.resource_version.as_str(), found.created_at), (PodPhase::Gated, "41", Timestamp(1_784_555_070_000)));
    assert_eq!((found.workload.kind.as_str(), found.workload.object.to_string().as_str()), ("Deployment", "ml/chat"));
    let surge = Mobility::Surge { replica_set: "rs-1".into(), deployment: "chat".into(), deployment_uid: "d-1".into() };
    assert_eq!((found.mobility, found.termination_grace), (surge.into(), Millis::from_secs(90)));
    assert_eq!((found.attribution.team.as_deref(), found.attribution.cost_center.as_deref()), (Some("ml"), Some("4711")));
    assert_eq!((found.claim, found.attempt, found.let_go, found.deleting_until), (None, 0, None, None));
}

#[test]
fn phases_follow_gates_and_the_kubelet() {
    let gates = |names: &[&str]| json!({ "spec": { "schedulingGates": names.iter().map(|n| json!({ "name": n })).collect::<Vec<_>>() } });
    let said = |phase: &str| json!({ "status": { "phase": phase } });
    for (changes, expected) in [
        (gates(&["lowtide.dev/placement"]), PodPhase::Gated),
        (gates(&["lowtide.dev/placement", "kueue.x-k8s.io/admission"]), PodPhase::GatedByOthers),
        (gates(&["kueue.x-k8s.io/admission"]), PodPhase::GatedByOthers),
        (gates(&[]), PodPhase::Pending),
        (said("Running"), PodPhase::Running),
        (said("Succeeded"), PodPhase::Succeeded),
        (said("Failed"), PodPhase::Failed),
    ] {
        assert_eq!(read(changes.clone()).phase, expected, "{changes}");
    }
    let ready = |status: &str| {
        json!({ "status": { "phase": "Running",
            "conditions": [{ "type": "Ready", "status": status, "lastTransitionTime": "2026-07-20T13:45:00Z" }] } })
    };
    assert_eq!(read(ready("True")).ready_since, Some(Timestamp(1_784_555_100_000)));
    assert_eq!(read(ready("False")).ready_since, None);
    let deleted = read(json!({ "metadata": { "deletionTimestamp": "2026-07-20T13:46:00Z", "deletionGracePeriodSeconds": 90 } }));
    assert_eq!(deleted.deleting_until, Some(Timestamp(1_784_555_160_000)));
}

#[test]
fn what_we_wrote_is_read_back_and_what_others_broke_counts_as_absent() {
    let baseline = json!({ "b1_per_replica_hour": "0.8048", "b2_per_replica_hour": null }).to_string();
    let replaces = json!({ "namespace": "ml", "name": "chat-old", "uid": "pod-0", "from_claim": "c0", "noticed_at": 1, "decided_at": 2,
        "decision": "00000000-0000-0000-0000-000000000001", "deadline": 3 });
    let found = read(json!({ "metadata": { "annotations": { "lowtide.dev/claim": "c1", "lowtide.dev/attempt": "3",
        "lowtide.dev/decision": "00000000-0000-0000-0000-000000000002", "lowtide.dev/baseline": baseline,
        "lowtide.dev/replaces": replaces.to_string() } } }));
    assert_eq!((found.claim.unwrap().as_str(), found.attempt, found.placed_by.unwrap().0.as_u128()), ("c1", 3, 2));
    assert_eq!(found.baseline.b1_per_replica_hour.unwrap().0, 804_800);
    let old = found.replaces.unwrap();
    assert_eq!((old.pod.uid.as_str(), old.from_claim.as_str(), old.deadline), ("pod-0", "c0", Some(Timestamp(3))));
    assert!(found.need.is_ok());

    let broken = read(json!({ "metadata": { "annotations": { "lowtide.dev/attempt": "many", "lowtide.dev/decision": "none",
        "lowtide.dev/replaces": "{", "lowtide.dev/let-go": "[]" } } }));
    assert_eq!((broken.attempt, broken.placed_by, broken.replaces, broken.let_go), (0, None, None, None));
    assert_eq!(broken.workload.kind, "Deployment");
}

#[test]
fn a_pod_that_was_let_go_keeps_its_workload() {
    let mark = json!({ "decision": "00000000-0000-0000-0000-000000000001", "controller": "rs-1", "at": 5 }).to_string();
    let orphan = |workload: Option<Value>, owner: Value| {
        let mut annotations = json!({ "lowtide.dev/let-go": mark });
        if let Some(workload) = workload {
            annotations["lowtide.dev/workload-ref"] = json!(workload.to_string());
        }
        read(json!({ "metadata": { "annotations": annotations, "ownerReferences": [owner] } }))
    };
    let deployment = json!({ "apiVersion": "apps/v1", "kind": "Deployment", "name": "chat", "uid": "d-1" });
    let surge = Mobility::Surge { replica_set: "rs-1".into(), deployment: "chat".into(), deployment_uid: "d-1".into() };
    let own = json!({ "kind": "Deployment", "namespace": "ml", "name": "chat" });
    // Forged where nothing validates: another namespace would pay.
    let others = json!({ "kind": "Deployment", "namespace": "search", "name": "ranker" });
    for workload in [None, Some(own), Some(others)] {
        let found = orphan(workload, deployment.clone());
        assert_eq!((found.workload.kind.as_str(), found.workload.object.name.as_str()), ("Deployment", "chat"));
        assert_eq!((found.mobility, found.let_go.unwrap().at), (surge.clone().into(), Timestamp(5)));
    }
    let job = orphan(None, json!({ "apiVersion": "batch/v1", "kind": "Job", "name": "train", "uid": "rs-1", "controller": false }));
    assert_eq!(*job.mobility, Mobility::Job { job: "train".into(), job_uid: "rs-1".into() });
}

#[test]
fn controllers_that_are_not_seen_never_allow_a_surge() {
    let nobody = Controllers::default();
    let unseen = read_with(&nobody, &Endpoints::default(), &pod(json!({})));
    assert_eq!((unseen.workload.kind.as_str(), unseen.workload.object.name.as_str()), ("Deployment", "chat"));
    assert!(matches!(*unseen.mobility, Mobility::BreakFirst { .. }));
    let recreate = read_with(&owners("Recreate"), &Endpoints::default(), &pod(json!({})));
    assert_eq!(*recreate.mobility, Mobility::BreakFirst { because: "the strategy of Deployment chat is Recreate".into() });
    let host = read(json!({ "spec": { "hostNetwork": true } }));
    assert!(matches!(&*host.mobility, Mobility::BreakFirst { because } if because.contains("host network")));
}

#[test]
fn every_fault_of_a_need_is_reported() {
    let found = read(json!({ "metadata": { "annotations": { "lowtide.dev/gpu-memory": "plenty", "lowtide.dev/capacity": "cheap" } } }));
    let faults = found.need.unwrap_err();
    assert!(faults.len() == 2 && faults.iter().any(|f| f.contains("plenty")) && faults.iter().any(|f| f.contains("cheap")), "{faults:?}");
}

#[test]
fn services_are_read_from_endpoint_slices() {
    let slice = |service: &str, ready: Value| -> EndpointSlice {
        serde_json::from_value(json!({ "metadata": { "labels": { "kubernetes.io/service-name": service } }, "addressType": "IPv4",
            "endpoints": [{ "addresses": ["10.0.0.1"], "conditions": { "ready": ready }, "targetRef": { "kind": "Pod", "uid": "pod-1" } },
                          { "addresses": ["10.0.0.2"] }] }))
        .unwrap()
    };
    let slices = [slice("chat", json!(true)), slice("canary", json!(false)), slice("old", json!(null))];
    let found = read_with(&owners("RollingUpdate"), &Endpoints::read(slices.iter()), &pod(json!({})));
    assert_eq!(found.services.iter().cloned().collect::<Vec<_>>(), ["canary", "chat", "old"]);
    assert_eq!(found.ready_in.iter().cloned().collect::<Vec<_>>(), ["chat", "old"]);
}

#[test]
fn volumes_that_many_nodes_may_mount_surge_and_others_break_first_and_bind_the_pod_to_their_zone() {
    let mounting = |claim: &str| read(json!({ "spec": { "volumes": [{ "name": "w", "persistentVolumeClaim": { "claimName": claim } }] } }));
    let shared = mounting("weights");
    assert!(matches!(*shared.mobility, Mobility::Surge { .. }), "{:?}", shared.mobility);
    let disk = mounting("disk");
    assert!(matches!(&*disk.mobility, Mobility::BreakFirst { because } if because.contains("ReadWriteOnce")), "{:?}", disk.mobility);
    let (need, _) = disk.need.unwrap();
    assert_eq!(need.node_terms[0][0].to_string(), "topology.kubernetes.io/zone In (use1-az4)");
}

#[test]
fn the_scheduler_and_the_kubelet_say_why_a_pod_does_not_run() {
    let status = |conditions: Value, waiting: Value| {
        json!({ "status": { "phase": "Pending", "conditions": conditions,
            "containerStatuses": [{ "name": "server", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": waiting }] } })
    };
    let at = "2026-07-20T13:45:00Z";
    let unscheduled = json!([{ "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes are available", "lastTransitionTime": at }]);
    assert_eq!(read(status(unscheduled, json!({}))).stuck.unwrap().said, "0/3 nodes are available");
    let gated = json!([{ "type": "PodScheduled", "status": "False", "reason": "SchedulingGated", "lastTransitionTime": at }]);
    assert_eq!(read(status(gated, json!({}))).stuck, None);
    let pulling = json!([{ "type": "PodScheduled", "status": "True" }, { "type": "Ready", "status": "False", "lastTransitionTime": at }]);
    let waiting = json!({ "waiting": { "reason": "ImagePullBackOff", "message": "no such image" } });
    assert_eq!(read(status(pulling, waiting)).stuck.unwrap().said, "container server: ImagePullBackOff no such image");
}

#[test]
fn nothing_that_is_read_is_dropped_on_arrival() {
    let at = "2026-07-20T13:45:00Z";
    let spec = json!({ "spec": {
        "volumes": [{ "name": "token", "projected": { "sources": [] } }, { "name": "w", "persistentVolumeClaim": { "claimName": "disk" } },
                    { "name": "scratch", "ephemeral": { "volumeClaimTemplate": { "spec": {} } } }, { "name": "h", "hostPath": { "path": "/x" } }],
        "tolerations": [{ "key": "special", "operator": "Exists" }], "nodeSelector": { "topology.kubernetes.io/zone": "use1-az4" },
        "containers": [{ "name": "server", "image": "server:1", "env": [{ "name": "A", "value": "b" }], "args": ["x"], "command": ["y"],
            "ports": [{ "containerPort": 80, "hostPort": 80 }], "livenessProbe": { "periodSeconds": 5 }, "volumeMounts": [{ "name": "w", "mountPath": "/w" }],
            "resources": { "requests": { "cpu": "3", "memory": "9Gi" }, "limits": { "nvidia.com/gpu": "2" } } }],
        "initContainers": [{ "name": "fetch", "restartPolicy": "Always", "env": [], "resources": { "requests": { "cpu": "1" } } }] } });
    let conditions = json!([{ "type": "PodScheduled", "status": "True", "lastTransitionTime": at }, { "type": "Initialized", "status": "True" },
        { "type": "Ready", "status": "False", "message": "not yet", "lastTransitionTime": at }]);
    let container = |state: Value, restarts: i32| {
        json!([{ "name": "server", "image": "server:1", "imageID": "sha256:1", "containerID": "c", "ready": false, "restartCount": restarts,
            "state": state, "lastState": { "terminated": { "exitCode": 1, "startedAt": at } } }])
    };
    let status = |state, restarts| json!({ "status": { "phase": "Running", "startTime": at, "podIP": "10.0.0.1", "conditions": conditions, "containerStatuses": container(state, restarts) } });
    let foreign = json!({ "metadata": { "annotations": { "someone.else/x": "y".repeat(1_000), "lowtide.dev/standby": "1" } } });
    let waiting = json!({ "waiting": { "reason": "ImagePullBackOff", "message": "no such image" } });
    for changes in [spec, status(waiting, 0), status(json!({ "running": { "startedAt": at } }), 1), foreign] {
        let whole = pod(changes);
        let mut held = whole.clone();
        trim(&mut held);
        assert_ne!(held, whole);
        let read = |pod| read_with(&owners("RollingUpdate"), &Endpoints::default(), pod);
        assert_eq!(read(&held), read(&whole));
    }
}

/// Pods of public bug reports, as they would arrive.
fn pods_of_cases() -> Vec<Pod> {
    let folder = format!("{}/tests/cases/pods", env!("CARGO_MANIFEST_DIR"));
    let files = std::fs::read_dir(folder).unwrap().map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap());
    let mut pods = Vec::new();
    for text in files {
        for value in serde_saphyr::from_multiple::<Value>(&text).unwrap() {
            let template = value.pointer("/spec/jobTemplate/spec/template").or(value.pointer("/spec/template")).unwrap_or(&value);
            let Ok(made) = serde_json::from_value::<Pod>(json!({ "metadata": template["metadata"], "spec": template["spec"] })) else {
                continue;
            };
            if made.spec.as_ref().is_some_and(|spec| !spec.containers.is_empty()) {
                pods.push(Pod {
                    metadata: ObjectMeta {
                        annotations: made.metadata.annotations,
                        labels: made.metadata.labels,
                        ..pod(json!({})).metadata
                    },
                    ..made
                });
            }
        }
    }
    pods
}

#[test]
fn pods_of_public_bug_reports_are_read_the_same_after_they_are_trimmed_and_are_far_from_too_large() {
    let whole = pods_of_cases();
    assert!(whole.len() > 40, "{}", whole.len());
    for whole in whole {
        let mut held = whole.clone();
        held.spec.as_mut().unwrap().scheduling_gates = Some(vec![Default::default()]);
        trim(&mut held);
        let bytes = serde_json::to_vec(&held).unwrap().len();
        assert!(bytes < LARGEST_ASK / 4, "{bytes} bytes: {held:?}");
        held.spec.as_mut().unwrap().scheduling_gates.clone_from(&whole.spec.as_ref().unwrap().scheduling_gates);
        let read = |pod| read_with(&owners("RollingUpdate"), &Endpoints::default(), pod);
        assert_eq!(read(&held), read(&whole));
    }
}

/// Whoever may make pods may make many, each of a megabyte.
#[test]
fn of_a_pod_that_waits_and_asks_for_too_much_next_to_nothing_is_held_and_it_is_refused() {
    let long = "x".repeat(200_000);
    let spec = json!({ "schedulingGates": [{ "name": "example.com/own" }],
        "containers": [{ "name": "server", "image": "server:1", "command": [long], "env": [{ "name": "A", "value": long }],
            "volumeMounts": [{ "name": "w", "mountPath": "/w", "subPath": long }], "resources": { "limits": { "nvidia.com/gpu": "1" } } }],
        "hostAliases": [{ "ip": "10.0.0.1", "hostnames": [long] }], "imagePullSecrets": [{ "name": long }],
        "securityContext": { "sysctls": [{ "name": long, "value": long }] }, "dnsConfig": { "searches": [long] } });
    let size_of = |changes: Value| {
        let mut held = pod(changes);
        trim(&mut held);
        (serde_json::to_vec(&held).unwrap().len(), read_with(&owners("RollingUpdate"), &Endpoints::default(), &held).need)
    };
    let (bytes, need) = size_of(json!({ "spec": spec }));
    assert!(bytes < 2_000 && need.is_ok(), "what nobody reads is not held: {bytes} bytes, {need:?}");
    let tolerations: Vec<Value> = (0..2_000).map(|i| json!({ "key": format!("example.com/{i}"), "operator": "Exists" })).collect();
    let gates: Vec<Value> = (0..2_000).map(|i| json!({ "name": format!("example.com/{i}") })).collect();
    let labels: serde_json::Map<String, Value> = (0..2_000).map(|i| (format!("label-{i}"), json!("x".repeat(60)))).collect();
    let gate = json!([{ "name": words::GATE }]);
    for (changes, phase) in [
        (json!({ "spec": { "schedulingGates": gate, "tolerations": tolerations } }), PodPhase::Gated),
        (json!({ "spec": { "schedulingGates": gates } }), PodPhase::GatedByOthers),
        (
            json!({ "spec": { "schedulingGates": gate }, "metadata": { "annotations": { (TOO_LARGE): "7" }, "labels": labels } }),
            PodPhase::Gated,
        ),
        (json!({ "metadata": { "labels": labels }, "spec": { "schedulingGates": gate } }), PodPhase::Gated),
        (
            json!({ "metadata": { "annotations": { "lowtide.dev/usage-query": long } }, "spec": { "schedulingGates": gate } }),
            PodPhase::Gated,
        ),
    ] {
        let mut held = pod(changes);
        held.metadata.annotations.as_mut().unwrap().insert(names::CLAIM.to_owned(), "lt-1".to_owned());
        trim(&mut held);
        let read = read_with(&owners("RollingUpdate"), &Endpoints::default(), &held);
        let said = read.need.unwrap_err().join("; ");
        assert!(said.contains("bytes, expected 16384 at most"), "{said}");
        assert_eq!((read.phase, read.claim), (phase, Some(ClaimName::from("lt-1"))));
        assert!(serde_json::to_vec(&held).unwrap().len() < 1_000, "{held:?}");
    }
}

/// Its owner may write our word for it, and it says nothing.
#[test]
fn a_pod_is_not_too_large_because_its_owner_says_so() {
    let mut held = pod(json!({ "metadata": { "annotations": { (TOO_LARGE): "99999" } } }));
    trim(&mut held);
    assert!(read_with(&owners("RollingUpdate"), &Endpoints::default(), &held).need.is_ok());
}

/// It was placed when it was smaller, and its machine is counted by what it says.
#[test]
fn a_pod_that_runs_is_held_whole() {
    let labels: serde_json::Map<String, Value> = (0..2_000).map(|i| (format!("label-{i}"), json!("x".repeat(60)))).collect();
    let mut held = pod(json!({ "metadata": { "labels": labels, "annotations": { (names::CLAIM): "lt-1" } } }));
    trim(&mut held);
    assert!(read_with(&owners("RollingUpdate"), &Endpoints::default(), &held).need.is_ok());
}

/// What 0.1.0 wrote on pods: whom it moved, what it replaces, what it would have cost.
#[test]
fn the_marks_of_0_1_0_are_read_whole() {
    let of = |kind: &str| -> core_workload::Pod {
        let (_, object) = crate::released::objects("0.1.0", kind).remove(0);
        read_with(&owners("RollingUpdate"), &Endpoints::default(), &serde_json::from_value(object).unwrap())
    };
    let (let_go, replacement) = (of("pod-let-go"), of("pod-replacement"));
    let decision = "1fe02eb0-2c73-52de-a931-00bcc49225a7";
    for pod in [&let_go, &replacement] {
        assert_eq!((pod.attempt, pod.placed_by.map(|id| id.0.to_string()).as_deref()), (2, Some(decision)));
        let rates = [pod.baseline.b1_per_replica_hour, pod.baseline.b2_per_replica_hour].map(|rate| rate.map(|rate| rate.0));
        assert_eq!(rates, [Some(804_800), Some(349_000)]);
    }
    assert_eq!((let_go.claim.as_ref().map(|name| name.as_str()), let_go.phase), (Some("lt-ready"), PodPhase::Pending));
    let mark = let_go.let_go.as_ref().unwrap();
    assert_eq!((mark.controller.as_str(), mark.at), ("0f0f0f0f-0000-4000-8000-0000000000aa", Timestamp(1_795_600_000_000)));
    assert_eq!((replacement.claim.as_ref().map(|name| name.as_str()), replacement.phase), (Some("lt-pending"), PodPhase::Gated));
    let replaces = replacement.replaces.as_ref().unwrap();
    assert_eq!((replaces.pod.uid.as_str(), replaces.from_claim.as_str()), (let_go.identity.uid.as_str(), "lt-ready"));
    assert_eq!(replaces.deadline, Some(Timestamp(1_795_600_120_000)));
    let work = replaces.work.as_ref().unwrap();
    assert_eq!((work.saved, work.overspent.0), (Millis::from_hours(2), -120_000));
}
