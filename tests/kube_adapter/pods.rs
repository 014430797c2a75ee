//! Binding, lifting, letting go, giving back, evicting, deleting.

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::Api;
use kube::api::DeleteParams;
use lowtide::core::action::{ClusterAction, RemovalReason};
use lowtide::core::snapshot::Lane;
use lowtide::core::units::ids::Uid;
use lowtide::core::units::time::{Millis, Timestamp};
use lowtide::core::workload::need::WorkloadKind;
use lowtide::core::workload::{LetGo, Mobility, PodPhase};
use lowtide::ports::{Cluster, ClusterError};
use serde_json::json;

use crate::fixture::{Fixture, bind, decision, deployment, gated, pod_spec, service, target};

fn surge_owner(pod: &lowtide::core::workload::Pod) -> (Uid, (String, Uid)) {
    match &*pod.mobility {
        Mobility::Surge { replica_set, deployment, deployment_uid } => (replica_set.clone(), (deployment.clone(), deployment_uid.clone())),
        other => panic!("expected a pod that can surge, found {other:?}"),
    }
}

pub async fn a_gated_pod_is_bound_lifted_and_scheduled_and_a_stale_patch_is_refused(fixture: &Fixture) {
    fixture.namespace("gate").await;
    let taint = json!({ "key": "lowtide.dev/claim", "value": "none-yet", "effect": "NoSchedule" });
    fixture.node("gate-node", json!([taint])).await;
    fixture.make::<Service>("gate", service("chat")).await;
    let owner: Deployment = fixture.make("gate", deployment("chat", 1, pod_spec(json!({})), "RollingUpdate")).await;

    let pod = fixture.pod("gate", "a gated pod", gated).await;
    assert_eq!((pod.workload.kind.as_str(), pod.workload.object.name.as_str()), ("Deployment", "chat"));
    assert_eq!(surge_owner(&pod).1, ("chat".to_owned(), Uid::from(owner.metadata.uid.unwrap())));
    let (need, _) = pod.need.clone().unwrap();
    assert_eq!((need.kind, need.gpus, need.gpu_memory.0, need.cpu.0), (WorkloadKind::Inference, 1, 20_480, 1_000));
    assert_eq!((pod.attribution.team.as_deref(), pod.termination_grace), (Some("ml"), Millis::from_secs(5)));

    let claim = "gate-node".into();
    fixture.cluster.apply(&bind(target(&pod), &claim)).await.unwrap();
    // The pod has changed: what was decided on its older state is refused, whatever it is.
    let stale = [bind(target(&pod), &"other".into()), ClusterAction::Lift { target: target(&pod), claim: "other".into() }];
    for action in stale {
        let refused = fixture.cluster.apply(&action).await;
        assert!(matches!(refused, Err(ClusterError::Conflict(_))), "{refused:?}");
    }
    let mut foreign = target(&pod);
    foreign.pod.uid = "00000000-0000-0000-0000-000000000000".into();
    let refused = fixture.cluster.apply(&bind(foreign, &claim)).await;
    assert!(matches!(refused, Err(ClusterError::Conflict(_))), "{refused:?}");

    let bound = fixture.pod("gate", "bound", |p| p.claim.is_some()).await;
    assert_eq!((bound.claim.as_ref(), bound.placed_by, bound.attempt), (Some(&claim), Some(decision("gate-node")), 1));
    assert_eq!(bound.baseline.b1_per_replica_hour.unwrap().0, 800_000);
    assert!(bound.need.is_ok(), "annotations of ours do not spoil the need: {:?}", bound.need);

    // Its claim's taint is on the node: without the toleration that the lift adds, the scheduler would leave it.
    let placed = fixture.place(&bound, "gate-node").await;
    assert_eq!((placed.phase, placed.node.as_ref().unwrap().as_str()), (PodPhase::Running, "gate-node"));
    let served = fixture.pod("gate", "served", |p| p.ready_in.contains("chat")).await;
    assert_eq!((&served.identity, served.services.len()), (&placed.identity, 1));
    let versions = fixture.cluster.view().unwrap().versions;
    assert!(versions[&Lane::Pod(served.identity.uid)] > 0 && versions[&Lane::Node("gate-node".into())] > 0);
}

pub async fn a_deployments_pod_surges_and_is_collected_with_it(fixture: &Fixture) {
    fixture.namespace("surge").await;
    fixture.node("surge-node", json!([])).await;
    fixture.make::<Service>("surge", service("chat")).await;
    fixture.make::<Deployment>("surge", deployment("chat", 1, pod_spec(json!({})), "RollingUpdate")).await;
    let gated_pod = fixture.pod("surge", "a gated pod", gated).await;
    let old = fixture.place(&gated_pod, "surge-node").await;
    let old = fixture.pod("surge", "served", |p| p.identity == old.identity && p.ready_in.contains("chat")).await;

    let (replica_set, owner) = surge_owner(&old);
    let mark = LetGo { decision: decision("move"), controller: replica_set.clone(), at: Timestamp(1_784_555_070_000) };
    let let_go = |target| ClusterAction::LetGoOfDeployment { target, mark: mark.clone(), deployment: owner.clone() };
    fixture.apply_to_pod(&old.identity.uid, let_go).await;

    let replacement = fixture.pod("surge", "a replacement, gated", gated).await;
    assert_ne!(replacement.identity, old.identity);
    assert_eq!(surge_owner(&replacement).0, replica_set);
    let orphan = fixture.pod("surge", "the orphan", |p| p.let_go.is_some()).await;
    assert_eq!((&orphan.identity, orphan.let_go.as_deref()), (&old.identity, Some(&mark)));
    assert_eq!((&orphan.workload, &orphan.mobility), (&old.workload, &old.mobility));
    assert_eq!((orphan.phase, orphan.ready_in.len(), orphan.deleting_until), (PodPhase::Running, 1, None));

    // Evicted with a grace of its own, which the view shows as the time it is over.
    let evict = ClusterAction::Evict { pod: orphan.identity.clone(), grace: Millis(3_500), reason: RemovalReason::Replaced };
    fixture.cluster.apply(&evict).await.unwrap();
    fixture.cluster.apply(&evict).await.expect("evicting a terminating pod again is harmless");
    let leaving = |p: &lowtide::core::workload::Pod| p.identity == orphan.identity && p.deleting_until.is_some();
    fixture
        .eventually("the orphan ends", || fixture.pods("surge").iter().all(|p| p.identity != orphan.identity || leaving(p)).then_some(()))
        .await;
    fixture.eventually("the orphan is gone", || fixture.pods("surge").iter().all(|p| p.identity != orphan.identity).then_some(())).await;
    fixture.cluster.apply(&evict).await.expect("a pod that is gone is evicted");

    // Another is let go, and the Deployment deleted at once: nothing is left behind.
    let second = fixture.place(&replacement, "surge-node").await;
    fixture.apply_to_pod(&second.identity.uid, let_go).await;
    Api::<Deployment>::namespaced(fixture.admin.clone(), "surge").delete("chat", &DeleteParams::background()).await.unwrap();
    fixture.eventually("the orphan is collected with its Deployment", || fixture.pods("surge").is_empty().then_some(())).await;
}

pub async fn a_jobs_pod_is_let_go_without_a_failure_and_given_back(fixture: &Fixture) {
    fixture.namespace("job").await;
    fixture.node("job-node", json!([])).await;
    let template = json!({
        "metadata": { "annotations": { "lowtide.dev/workload": "batch", "lowtide.dev/gpu-memory": "20Gi" } },
        "spec": pod_spec(json!({ "restartPolicy": "Never" })),
    });
    let job: Job =
        fixture.make("job", json!({ "metadata": { "name": "train" }, "spec": { "backoffLimit": 0, "template": template } })).await;
    let uid = Uid::from(job.metadata.uid.unwrap());
    let gated_pod = fixture.pod("job", "a gated pod", gated).await;
    assert_eq!(*gated_pod.mobility, Mobility::Job { job: "train".into(), job_uid: uid.clone() });
    let old = fixture.place(&gated_pod, "job-node").await;

    let mark = LetGo { decision: decision("move"), controller: uid.clone(), at: Timestamp(1_784_555_070_000) };
    let owner = ("train".to_owned(), uid.clone());
    let let_go = |target| ClusterAction::LetGoOfJob { target, mark: mark.clone(), job: owner.clone() };
    fixture.apply_to_pod(&old.identity.uid, let_go).await;
    let replacement = fixture.pod("job", "a replacement, gated", gated).await;
    assert_ne!(replacement.identity, old.identity);
    let orphan = fixture.pod("job", "the orphan", |p| p.let_go.is_some()).await;
    assert_eq!((&orphan.identity, &orphan.workload, &orphan.mobility), (&old.identity, &old.workload, &old.mobility));

    let jobs: Api<Job> = Api::namespaced(fixture.admin.clone(), "job");
    let pods: Api<Pod> = Api::namespaced(fixture.admin.clone(), "job");
    // The Job's finalizer goes from the orphan, so that it can end; the reference to the Job stays, so that it is collected with it.
    let name = orphan.object().name.clone();
    let free = fixture
        .until("the Job's finalizer is gone", async || {
            let pod = pods.get(&name).await.unwrap();
            pod.metadata.finalizers.as_ref().is_none_or(Vec::is_empty).then_some(pod)
        })
        .await;
    let owners = free.metadata.owner_references.unwrap_or_default();
    assert_eq!(owners.iter().map(|o| (o.kind.as_str(), o.controller)).collect::<Vec<_>>(), [("Job", Some(false))]);
    let status = jobs.get("train").await.unwrap().status.unwrap();
    assert_eq!((status.failed.unwrap_or(0), status.active.unwrap_or(0)), (0, 1), "{status:?}");

    // It ends well after all: given back, the Job counts it and needs no replacement.
    fixture.annotate(orphan.object(), json!({ "lab.lowtide.dev/outcome": "succeeded" })).await;
    fixture.pod("job", "the orphan has succeeded", |p| p.phase == PodPhase::Succeeded && p.let_go.is_some()).await;
    let give_back = |target| ClusterAction::GiveBackToJob { target, job_uid: uid.clone() };
    fixture.apply_to_pod(&orphan.identity.uid, give_back).await;
    let status = fixture
        .until("the Job is complete", async || {
            let status = jobs.get("train").await.unwrap().status.unwrap();
            status.completion_time.is_some().then_some(status)
        })
        .await;
    assert_eq!((status.succeeded, status.failed.unwrap_or(0)), (Some(1), 0));
    let gone = || fixture.pods("job").iter().all(|p| p.identity != replacement.identity).then_some(());
    fixture.eventually("the replacement is gone", gone).await;
    fixture.pod("job", "the pod is the Job's again", |p| p.identity == orphan.identity && p.let_go.is_none()).await;
}

pub async fn a_budget_holds_an_eviction_and_a_deletion_needs_the_right_uid(fixture: &Fixture) {
    fixture.namespace("budget").await;
    fixture.node("budget-node", json!([])).await;
    fixture.make::<Deployment>("budget", deployment("chat", 1, pod_spec(json!({})), "RollingUpdate")).await;
    let budget = |name: &str| json!({ "metadata": { "name": name }, "spec": { "minAvailable": 1, "selector": { "matchLabels": { "app": "chat" } } } });
    let gated_pod = fixture.pod("budget", "a gated pod", gated).await;
    let pod = fixture.place(&gated_pod, "budget-node").await;
    let evict = ClusterAction::Evict { pod: pod.identity.clone(), grace: Millis::from_secs(1), reason: RemovalReason::Expired };
    fixture.make::<PodDisruptionBudget>("budget", budget("one")).await;
    let held = fixture.cluster.apply(&evict).await;
    assert!(matches!(held, Err(ClusterError::HeldByBudget(_))), "{held:?}");
    fixture.make::<PodDisruptionBudget>("budget", budget("two")).await;
    // The disruption controller must have seen the second one before the API server answers with both.
    let held = fixture
        .until("two budgets are reported", async || {
            let held = fixture.cluster.apply(&evict).await;
            format!("{held:?}").contains("more than one").then_some(held)
        })
        .await;
    assert!(matches!(held, Err(ClusterError::HeldByBudget(_))), "{held:?}");

    let delete = |uid: Uid| {
        let pod = lowtide::core::workload::PodIdentity { uid, ..pod.identity.clone() };
        ClusterAction::DeletePod { pod, grace: Millis::from_secs(1), reason: RemovalReason::Interruption }
    };
    let refused = fixture.cluster.apply(&delete("00000000-0000-0000-0000-000000000000".into())).await;
    assert!(matches!(refused, Err(ClusterError::Conflict(_))), "{refused:?}");
    let applied = fixture.cluster.apply(&delete(pod.identity.uid.clone())).await.unwrap();
    assert!(applied.resource_version.is_some(), "a terminating pod is seen at a newer version");
    fixture.eventually("the pod is gone", || fixture.pods("budget").iter().all(|p| p.identity != pod.identity).then_some(())).await;
    assert_eq!(fixture.cluster.apply(&delete(pod.identity.uid.clone())).await.unwrap().resource_version, None);
}

pub async fn pods_that_cannot_surge_say_why(fixture: &Fixture) {
    fixture.namespace("stuck").await;
    let port = json!({ "containers": [{ "name": "server", "image": "example/server", "ports": [{ "containerPort": 80, "hostPort": 8080 }],
        "resources": { "limits": { "nvidia.com/gpu": "1" } } }] });
    let disk = json!({ "volumes": [{ "name": "d", "persistentVolumeClaim": { "claimName": "weights" } }] });
    fixture.make::<Deployment>("stuck", deployment("port", 1, pod_spec(port), "RollingUpdate")).await;
    fixture.make::<Deployment>("stuck", deployment("disk", 1, pod_spec(disk), "RollingUpdate")).await;
    fixture.make::<Deployment>("stuck", deployment("recreate", 1, pod_spec(json!({})), "Recreate")).await;
    let mut set = deployment("set", 1, pod_spec(json!({})), "");
    set["spec"]["strategy"] = json!(null);
    set["spec"]["serviceName"] = json!("set");
    fixture.make::<StatefulSet>("stuck", set).await;
    let bare = json!({ "metadata": { "name": "bare", "annotations": { "lowtide.dev/workload": "batch", "lowtide.dev/gpu-memory": "1Gi" } },
        "spec": pod_spec(json!({ "schedulingGates": [{ "name": "example.com/queue" }] })) });
    fixture.make::<Pod>("stuck", bare).await;
    for (workload, kind, because) in [
        ("port", "Deployment", "hostPort 8080"),
        ("disk", "Deployment", "PersistentVolumeClaim weights"),
        ("recreate", "Deployment", "Recreate"),
        ("set", "StatefulSet", "StatefulSet"),
    ] {
        let pod = fixture.pod("stuck", workload, |p| p.workload.object.name == workload).await;
        assert_eq!(pod.workload.kind, kind);
        assert!(matches!(&*pod.mobility, Mobility::BreakFirst { because: why } if why.contains(because)), "{:?}", pod.mobility);
    }
    let bare = fixture.pod("stuck", "the bare pod", |p| p.object().name == "bare").await;
    assert_eq!((&*bare.mobility, bare.phase, bare.workload.kind.as_str()), (&Mobility::Bare, PodPhase::GatedByOthers, "Pod"));
}
