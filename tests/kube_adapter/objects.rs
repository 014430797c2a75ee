//! Claims, nodes, pools and classes.

use k8s_openapi::api::core::v1::Node;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use lowtide::core::action::{ClaimPatch, ClusterAction};
use lowtide::core::fleet::{
    Binding, ClaimStatus, ClassProblem, ClassStatus, Ended, EndedBy, InterruptionMark, LaunchFailure, MonthBooks, MoveMark, NoticeKind,
    Occupant, PoolStatus, ScheduledEvent, ScheduledKind, ScheduledMark, Trigger,
};
use lowtide::core::market::CoolDownCause;
use lowtide::core::record::LedgerRecord;
use lowtide::core::units::ids::{ClaimName, ObjectRef};
use lowtide::core::units::money::{MicroUsd, MicroUsdPerHour};
use lowtide::core::units::time::Timestamp;
use lowtide::core::workload::{Baseline, PodIdentity, Replaces};
use lowtide::kube::api::{GpuDecision, GpuNodeClaim, GpuNodeClass, GpuNodePool};
use lowtide::ports::{Cluster, ClusterError};
use serde_json::json;

use crate::fixture::{Fixture, claim_spec, decision};
use crate::released;

const AT: Timestamp = Timestamp(1_784_555_070_123);

pub async fn a_claim_is_written_once_followed_and_removed(fixture: &Fixture) {
    let name = ClaimName::from("followed");
    let pod = PodIdentity { object: ObjectRef { namespace: "ml".into(), name: "chat-0".into() }.into(), uid: "uid-1".into() };
    let spec = claim_spec(vec![pod.clone()]);
    let create = ClusterAction::CreateClaim { name: name.clone(), spec: Box::new(spec.clone()) };
    fixture.cluster.apply(&create).await.unwrap();
    let again = fixture.cluster.apply(&create).await;
    assert!(matches!(again, Err(ClusterError::Conflict(_))), "{again:?}");

    let move_ = MoveMark { decision: decision("move"), trigger: Trigger::InterruptionNotice, decided_at: AT };
    let interruption = InterruptionMark {
        kind: NoticeKind::Interruption,
        noticed_at: AT,
        deadline: Some(Timestamp(AT.0 + 120_000)),
        source: "sqs".into(),
    };
    let event = ScheduledEvent { kind: ScheduledKind::InstanceRetirement, not_before: Timestamp(AT.0 + 86_400_000) };
    let scheduled = ScheduledMark { event, noticed_at: AT, source: "health".into() };
    let failure =
        LaunchFailure { cause: CoolDownCause::NoCapacity, code: "InsufficientInstanceCapacity".into(), message: "no".into(), at: AT };
    let replaces = Replaces {
        pod: pod.clone(),
        from_claim: "older".into(),
        decision: decision("move"),
        noticed_at: AT,
        decided_at: AT,
        deadline: Some(AT),
        from_region: Some("us-east-1".into()),
        work: None,
    };
    let baseline = Baseline { b1_per_replica_hour: Some(MicroUsdPerHour(804_800)), b2_per_replica_hour: None };
    let binding =
        Binding { pod: pod.uid.clone(), decision: Some(decision("claim")), attempt: 3, baseline, replaces: Some(Box::new(replaces)) };
    let status = ClaimStatus {
        launch_asked_at: Some(AT),
        instance: Some("i-1".into()),
        launched_at: Some(AT),
        node: Some("node-1".into()),
        node_ready_at: Some(AT),
        failure: Some(Box::new(failure.clone())),
        interruption: Some(Box::new(interruption.clone())),
        scheduled: Some(Box::new(scheduled.clone())),
        moving: Some(Box::new(move_.clone())),
        occupants: vec![Occupant { pod, from: AT, ready_at: Some(AT), to: Some(AT) }],
        empty_since: Some(AT),
        terminate_asked: Some(Box::new((AT, decision("end"), Trigger::Empty))),
        ended: Some(Box::new(Ended { at: AT, by: EndedBy::Lowtide, decision: Some(decision("end")) })),
        unhealthy: Some(Box::new(lowtide::core::fleet::Unhealthy { trigger: Trigger::NoGpus, since: AT })),
        misfits: ["0123456789ab".to_owned()].into(),
        bindings: [(binding.pod.clone(), binding.clone())].into(),
        pools_defined_by: Some("definition-1".into()),
    };
    // One that is taken away again, and one that stays.
    let gone = Binding { pod: "gone".into(), ..binding.clone() };
    let comes = [(gone.pod.clone(), Some(gone.clone())), (binding.pod.clone(), Some(binding))].into();
    let kept = [(gone.pod, None)].into();
    let steps = [
        ClaimPatch { bindings: comes, ..ClaimPatch::default() },
        ClaimPatch { launch_asked_at: Some(AT), empty_since: Some(Some(AT)), ..ClaimPatch::default() },
        ClaimPatch { launched: Some(("i-1".into(), AT)), failure: Some(failure), ..ClaimPatch::default() },
        ClaimPatch { node: Some("node-1".into()), node_ready_at: Some(AT), ..ClaimPatch::default() },
        ClaimPatch { interruption: Some(interruption), scheduled: Some(Some(scheduled)), moving: Some(move_), ..ClaimPatch::default() },
        ClaimPatch {
            occupants: Some(status.occupants.clone()),
            terminate_asked: status.terminate_asked.as_deref().copied(),
            ..ClaimPatch::default()
        },
        ClaimPatch { ended: status.ended.as_deref().cloned(), bindings: kept, ..ClaimPatch::default() },
        ClaimPatch {
            unhealthy: Some(status.unhealthy.as_deref().cloned()),
            misfit: status.misfits.first().cloned(),
            pools_defined_by: status.pools_defined_by.clone(),
            ..ClaimPatch::default()
        },
    ];
    let mut version = 0;
    for patch in steps {
        let action = ClusterAction::PatchClaim { claim: name.clone(), patch: Box::new(patch), seen: None };
        version = fixture.cluster.apply(&action).await.unwrap().resource_version.unwrap();
    }
    let seen = fixture
        .eventually("the claim at its last version", || {
            let mut view = fixture.cluster.view()?;
            let lane = lowtide::core::snapshot::Lane::Claim(name.clone());
            view.versions.get(&lane).filter(|v| **v >= version)?;
            view.claims.remove(&name)
        })
        .await;
    assert_eq!((&seen.spec, &seen.status, seen.deleting), (&spec, &status, false));
    let shown = fixture.plane.kubectl(&["get", "gpunodeclaim", "followed"]).unwrap();
    assert!(shown.contains("0.3020") && shown.contains("0.5028") && shown.contains("Terminating"), "{shown}");
    fixture.plane.kubectl(&["wait", "gpunodeclaim/followed", "--for=condition=Ready", "--timeout=5s"]).unwrap();

    // Decided on an older version: a conflict, and nothing changes.
    let patch = ClaimPatch { empty_since: Some(None), ..ClaimPatch::default() };
    let stale = ClusterAction::PatchClaim { claim: name.clone(), patch: Box::new(patch), seen: Some(version - 1) };
    let refused = fixture.cluster.apply(&stale).await;
    assert!(matches!(refused, Err(ClusterError::Conflict(_))), "{refused:?}");
    let refused = fixture.cluster.apply(&ClusterAction::RemoveClaim { claim: name.clone(), seen: Some(version - 1) }).await;
    assert!(matches!(refused, Err(ClusterError::Conflict(_))), "{refused:?}");

    // Not empty any more, and no occupants: what is taken back is gone.
    let patch = ClaimPatch { empty_since: Some(None), occupants: Some(vec![]), ..ClaimPatch::default() };
    fixture.cluster.apply(&ClusterAction::PatchClaim { claim: name.clone(), patch: Box::new(patch), seen: None }).await.unwrap();
    let emptied = || {
        let claim = fixture.cluster.view()?.claims.remove(&name)?;
        (claim.status.empty_since.is_none() && claim.status.occupants.is_empty()).then_some(claim)
    };
    let emptied = fixture.eventually("the claim without occupants", emptied).await;
    assert_eq!(emptied.status.instance, status.instance);

    // Somebody deletes it: it stays until the instance is gone.
    let claims: Api<GpuNodeClaim> = Api::all(fixture.admin.clone());
    claims.delete("followed", &DeleteParams::default()).await.unwrap();
    let deleting = || fixture.cluster.view()?.claims.remove(&name).filter(|c| c.deleting);
    fixture.eventually("the claim is being deleted", deleting).await;
    let remove = ClusterAction::RemoveClaim { claim: name.clone(), seen: None };
    fixture.cluster.apply(&remove).await.unwrap();
    let gone = || (!fixture.cluster.view()?.claims.contains_key(&name)).then_some(());
    fixture.eventually("the claim is gone", gone).await;
    fixture.cluster.apply(&remove).await.expect("removing a claim that is gone is done");
    let patch = ClaimPatch { node_ready_at: Some(AT), ..ClaimPatch::default() };
    let late = fixture.cluster.apply(&ClusterAction::PatchClaim { claim: name.clone(), patch: Box::new(patch), seen: None }).await;
    assert!(matches!(late, Err(ClusterError::Gone(_))), "{late:?}");

    // Removed by us alone, with somebody else's finalizer on it: only ours goes.
    let kept = ClaimName::from("kept");
    fixture.cluster.apply(&ClusterAction::CreateClaim { name: kept.clone(), spec: Box::new(spec) }).await.unwrap();
    let uid = claims.get("kept").await.unwrap().metadata.uid.unwrap();
    let now = fixture.cluster.claims_now().await.unwrap();
    assert!(now.keeps(&"i-x".into(), Some(uid.as_str())).is_some(), "{now:?}");
    let both = json!({ "metadata": { "finalizers": ["lowtide.dev/instance", "example.com/audit"] } });
    claims.patch("kept", &PatchParams::default(), &Patch::Merge(both)).await.unwrap();
    fixture.cluster.apply(&ClusterAction::RemoveClaim { claim: kept, seen: None }).await.unwrap();
    let left = claims.get("kept").await.unwrap().metadata;
    assert_eq!((left.finalizers.unwrap(), left.deletion_timestamp.is_some()), (vec!["example.com/audit".to_owned()], true));
    let none = json!({ "metadata": { "finalizers": [] } });
    claims.patch("kept", &PatchParams::default(), &Patch::Merge(none)).await.unwrap();
}

pub async fn a_node_is_marked_without_losing_taints_and_deleted(fixture: &Fixture) {
    let ours = json!({ "key": "lowtide.dev/claim", "value": "none-yet", "effect": "NoSchedule" });
    fixture.node("marked", json!([{ "key": "example.com/kept", "value": "x", "effect": "PreferNoSchedule" }, ours])).await;
    let guarding =
        |taint, guard| ClusterAction::MarkNode { node: "marked".into(), claim: "c1".into(), taint, guard, labels: Default::default() };
    let mark = |taint| guarding(taint, false);
    fixture.cluster.apply(&mark(false)).await.unwrap();
    let seen = |fits: fn(&lowtide::core::fleet::Node) -> bool| move || fixture.cluster.view()?.nodes.remove(&"marked".into()).filter(&fits);
    let node = fixture.eventually("the label", seen(|n| n.labelled)).await;
    assert!(!node.tainted && node.guarded && node.ready && node.allocatable.gpus == 4 && node.allocatable.cpu.0 == 8_000, "{node:?}");
    fixture.cluster.apply(&mark(true)).await.unwrap();
    fixture.cluster.apply(&mark(true)).await.unwrap();
    fixture.eventually("the taint", seen(|n| n.tainted)).await;
    let nodes: Api<Node> = Api::all(fixture.admin.clone());
    // Somebody takes our taints off.
    let bare = json!({ "spec": { "taints": [{ "key": "example.com/kept", "value": "x", "effect": "PreferNoSchedule" }] } });
    nodes.patch("marked", &PatchParams::default(), &Patch::Merge(bare)).await.unwrap();
    fixture.eventually("it is seen to be open", seen(|n| !n.guarded && !n.tainted)).await;
    fixture.cluster.apply(&guarding(true, true)).await.unwrap();
    fixture.eventually("it is put back", seen(|n| n.guarded && n.tainted)).await;
    let found = nodes.get("marked").await.unwrap();
    let mut taints: Vec<String> =
        found.spec.unwrap().taints.unwrap().into_iter().map(|t| format!("{}={}", t.key, t.value.unwrap_or_default())).collect();
    taints.sort();
    assert_eq!(taints, ["example.com/kept=x", "lowtide.dev/claim=c1", "lowtide.dev/leaving="]);
    assert_eq!(found.metadata.labels.unwrap()["lowtide.node-restriction.kubernetes.io/claim"], "c1");

    let delete = ClusterAction::DeleteNode { node: "marked".into() };
    fixture.cluster.apply(&delete).await.unwrap();
    let gone = || (!fixture.cluster.view()?.nodes.contains_key(&"marked".into())).then_some(());
    fixture.eventually("the node is gone", gone).await;
    fixture.cluster.apply(&delete).await.expect("deleting a node that is gone is done");
    let late = fixture.cluster.apply(&mark(false)).await;
    assert!(matches!(late, Err(ClusterError::Gone(_))), "{late:?}");
}

pub async fn statuses_are_read_back_and_a_pool_stays_until_its_last_claim(fixture: &Fixture) {
    let pool = json!({
        "metadata": { "name": "gpu" },
        "spec": { "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": "default" } }, "nodeClasses": ["us"],
                  "homeRegion": "us-east-1", "maxPricePerGpuHour": "1.20", "limits": { "gpus": 8 }, "expireAfterSeconds": 86400 },
    });
    let class = json!({
        "metadata": { "name": "us" },
        "spec": { "region": "us-east-1", "subnets": ["subnet-1", "subnet-2"], "image": "ami-1", "securityGroups": ["sg-1"],
                  "bootstrap": { "kind": "k3s", "serverUrl": "https://10.0.0.10:6443", "tokenParameter": "/lowtide/token" } },
    });
    let pools: Api<GpuNodePool> = Api::all(fixture.admin.clone());
    let classes: Api<GpuNodeClass> = Api::all(fixture.admin.clone());
    pools.create(&PostParams::default(), &serde_json::from_value(pool).unwrap()).await.unwrap();
    classes.create(&PostParams::default(), &serde_json::from_value(class).unwrap()).await.unwrap();
    let read = fixture.eventually("the pool", || fixture.cluster.view()?.pools.remove(&"gpu".into())).await;
    assert_eq!(read.namespaces.iter().collect::<Vec<_>>(), ["default"]);
    assert_eq!((read.max_gpus, read.return_min_saving_per_mille, read.deleting), (Some(8), 150, false));
    assert_eq!(read.max_price_per_gpu_hour, Some(MicroUsdPerHour(1_200_000)));
    let template = fixture.eventually("the template", || fixture.cluster.view()?.templates.remove(&"us".into())).await;
    assert!(template.name.starts_with("lowtide-") && template.name.len() == 20, "{}", template.name);

    let status = |claims, ready| PoolStatus {
        claims,
        gpus: claims,
        price_per_hour: MicroUsdPerHour(302_000 * claims),
        saved_per_hour: MicroUsdPerHour(502_800 * claims),
        books: MonthBooks {
            month: Timestamp::from_date(2026, 7, 1),
            settled: MicroUsd(12_345_678),
            closing: [("uid-1".into(), MicroUsd(40))].into(),
        },
        ready,
        namesake: (claims == 0).then(|| "machines carry this cluster's name (test) and the UID of another: uid-2 in us-east-1".to_owned()),
        let_go: claims == 0,
    };
    for said in [status(1, Ok(())), status(1, Err(("Budget".into(), "the budget of July is used up".into())))] {
        fixture.cluster.apply(&ClusterAction::SetPoolStatus { pool: "gpu".into(), status: Box::new(said.clone()) }).await.unwrap();
        let same = || fixture.cluster.view()?.pool_statuses.remove(&"gpu".into()).filter(|s| *s == said);
        fixture.eventually("the pool's status", same).await;
    }
    let mut said = ClassStatus {
        zones: [("use1-az4".into(), "subnet-1".into()), ("use1-az6".into(), "subnet-2".into())].into(),
        zone_names: [("use1-az4".into(), "us-east-1a".into())].into(),
        launch_template: Some((template.name.clone(), "1".into())),
        images: Default::default(),
        ready: Ok(()),
    };
    fixture.cluster.apply(&ClusterAction::SetClassStatus { class: "us".into(), status: Box::new(said.clone()) }).await.unwrap();
    let class = || fixture.cluster.view()?.classes.remove(&"us".into()).filter(|c| c.zones == said.zones);
    let class = fixture.eventually("the class's zones", class).await;
    assert_eq!((class.launch_template, class.problem), (Some((template.name, "1".into())), None));
    said.zones.remove(&"use1-az6".into());
    let problem = ClassProblem { reason: "UnknownSubnet".into(), text: "subnet-2 is unknown".into() };
    said.ready = Err(problem.clone());
    fixture.cluster.apply(&ClusterAction::SetClassStatus { class: "us".into(), status: Box::new(said.clone()) }).await.unwrap();
    let class = || fixture.cluster.view()?.classes.remove(&"us".into()).filter(|c| c.zones == said.zones);
    let class = fixture.eventually("a zone less", class).await;
    assert_eq!(class.problem, Some(problem));

    // Deleted while it has a claim: it stays, and says so; it goes with its last claim.
    pools.delete("gpu", &DeleteParams::default()).await.unwrap();
    let deleting = || fixture.cluster.view()?.pools.remove(&"gpu".into()).filter(|p| p.deleting);
    fixture.eventually("the pool is being deleted", deleting).await;
    let last = status(0, Err(("Deleting".into(), "the pool is being deleted".into())));
    fixture.cluster.apply(&ClusterAction::SetPoolStatus { pool: "gpu".into(), status: Box::new(last) }).await.unwrap();
    let gone = || (!fixture.cluster.view()?.pools.contains_key(&"gpu".into())).then_some(());
    fixture.eventually("the pool is gone", gone).await;
    // Its definition was read again with the operator's own rights, and is there to stay.
    let uid = fixture.plane.kubectl(&["get", "crd", "gpunodepools.lowtide.dev", "-o", "jsonpath={.metadata.uid}"]).unwrap();
    let defined = || fixture.cluster.view()?.pools_defined.by().cloned();
    assert_eq!(fixture.eventually("what defines pools", defined).await.as_str(), uid);
}

/// Before and after there is a claim that cannot be read, alone on the control plane: a machine that nobody claims may end before, and none
/// while it is there (S2). Every other claim owns its machine throughout.
pub async fn a_claim_that_cannot_be_read_keeps_every_machine_until_it_can(fixture: &Fixture) {
    let name = ClaimName::from("owner");
    fixture.cluster.apply(&ClusterAction::CreateClaim { name: name.clone(), spec: Box::new(claim_spec(vec![])) }).await.unwrap();
    let claims: Api<GpuNodeClaim> = Api::all(fixture.admin.clone());
    let uid = claims.get("owner").await.unwrap().metadata.uid.unwrap();
    let before = fixture.cluster.claims_now().await.unwrap();
    assert_eq!((before.unreadable.len(), before.keeps(&"i-x".into(), Some("another"))), (0, None), "{before:?}");
    assert!(before.keeps(&"i-x".into(), Some(uid.as_str())).is_some());
    // A later version wrote what this one takes for no decision.
    let status = json!({ "status": { "instanceId": "i-of-it", "termination": { "askedAt": "2026-11-20T11:00:00.000Z", "decisionId": "of-tomorrow", "reason": "empty" } } });
    let write =
        async |status: &serde_json::Value| claims.patch_status("owner", &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
    write(&status).await;
    fixture.eventually("it is unreadable", || fixture.cluster.view()?.unreadable_claims.remove(&name)).await;
    let now = fixture.cluster.claims_now().await.unwrap();
    for (instance, claim) in [("i-of-it", None), ("i-x", Some("another")), ("i-x", None)] {
        let kept = now.keeps(&instance.into(), claim).unwrap_or_else(|| panic!("{instance} of {claim:?} is not kept: {now:?}"));
        assert!(instance == "i-of-it" || kept.contains("owner"), "{kept}");
    }
    write(&json!({ "status": { "termination": null } })).await;
    fixture.eventually("it can be read again", || fixture.cluster.view()?.claims.remove(&name)).await;
    let after = fixture.cluster.claims_now().await.unwrap();
    assert_eq!(after.keeps(&"i-x".into(), Some("another")), None, "{after:?}");
    assert!(after.keeps(&"i-of-it".into(), None).is_some(), "{after:?}");
    fixture.cluster.apply(&ClusterAction::RemoveClaim { claim: name, seen: None }).await.unwrap();
}

/// Of the objects that 0.1.0 left in a cluster, the API server of this chart loses nothing, and this version reads them all. They are put
/// in as a restored etcd would have them: written by an administrator, their status through the subresource.
pub async fn what_0_1_0_left_in_the_cluster_is_kept_by_its_definitions_and_read(fixture: &Fixture) {
    let claims: Api<GpuNodeClaim> = Api::all(fixture.admin.clone());
    for (file, object) in released::objects("0.1.0", "claim-") {
        let mut made = object.clone();
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        made["metadata"] = json!({ "name": name, "finalizers": ["lowtide.dev/instance"] });
        let made: GpuNodeClaim = serde_json::from_value(made).unwrap();
        claims.create(&PostParams::default(), &made).await.unwrap_or_else(|fault| panic!("{file}: {fault}"));
        let stored = claims.patch_status(&name, &PatchParams::default(), &Patch::Merge(json!({ "status": object["status"] }))).await;
        let stored = serde_json::to_value(stored.unwrap_or_else(|fault| panic!("{file}: {fault}"))).unwrap();
        for (field, said) in object["status"].as_object().into_iter().flatten() {
            assert_eq!(&stored["status"][field], said, "{file}: status.{field}");
        }
        // The watch may show it before its status.
        let instance = object["status"]["instanceId"].as_str();
        let read = || {
            let claim = fixture.cluster.view()?.claims.remove(&name.as_str().into())?;
            (claim.status.instance.as_ref().map(|id| id.as_str()) == instance).then_some(claim)
        };
        let read = fixture.eventually(&file, read).await;
        assert_eq!((&read.spec.bindings, read.status.bindings.len()), (&None, 0), "{file}");
        fixture.cluster.apply(&ClusterAction::RemoveClaim { claim: name.as_str().into(), seen: None }).await.unwrap();
    }
    let decisions: Api<GpuDecision> = Api::all(fixture.admin.clone());
    let mut names = Vec::new();
    for (file, object) in released::objects("0.1.0", "record-") {
        let mut made = object.clone();
        made["metadata"] = json!({ "name": format!("of-0-1-0-{}", file.trim_start_matches("record-")) });
        let made = decisions.create(&PostParams::default(), &serde_json::from_value(made).unwrap()).await;
        let made = made.unwrap_or_else(|fault| panic!("{file}: {fault}"));
        assert_eq!(made.spec.record, object["spec"]["record"], "{file}");
        names.push(made.metadata.name.unwrap());
    }
    let waiting = fixture.cluster.outbox(1_000).await.unwrap();
    let of_it = |record: &&LedgerRecord| record.happened_at() < Timestamp(1_784_600_000_000);
    assert!(waiting.iter().filter(of_it).count() >= names.len(), "{waiting:?}");
    for name in names {
        decisions.delete(&name, &DeleteParams::default()).await.unwrap();
    }
}

pub async fn one_broken_object_does_not_hide_the_others(fixture: &Fixture) {
    let spec = |reason: &str, decision_id: &str| {
        json!({ "nodePool": "gpu", "nodeClass": "us", "region": "us-east-1", "zone": "use1-az4", "instanceType": "g6.xlarge",
            "capacityType": "spot", "pricePerHour": "0.3020", "gpus": 1, "decisionId": decision_id, "reason": reason, "attempt": 1,
            "launch": { "launchTemplate": "t", "launchTemplateVersion": "1", "subnet": "subnet-1" } })
    };
    let good = decision("good").to_string();
    for (name, reason, id) in
        [("broken-a", "no-such-reason", good.as_str()), ("broken-b", "empty", "no-uuid"), ("broken-z", "empty", &good)]
    {
        let manifest =
            json!({ "apiVersion": "lowtide.dev/v1", "kind": "GpuNodeClaim", "metadata": { "name": name }, "spec": spec(reason, id) });
        let path = std::env::temp_dir().join(format!("lowtide-kube-adapter-{}-{name}.json", std::process::id()));
        std::fs::write(&path, manifest.to_string()).unwrap();
        fixture.plane.kubectl(&["create", "-f", path.to_str().unwrap()]).unwrap();
        std::fs::remove_file(path).unwrap();
    }
    let found = || fixture.cluster.view()?.claims.remove(&"broken-z".into());
    fixture.eventually("the good claim, made after the broken ones", found).await;
    let view = fixture.cluster.view().unwrap();
    // A word that this version does not know is kept; what cannot be read still owns its machine.
    assert!(view.claims.contains_key(&"broken-a".into()) && !view.claims.contains_key(&"broken-b".into()));
    assert!(view.unreadable_claims.contains_key(&"broken-b".into()));
    let claims: Api<GpuNodeClaim> = Api::all(fixture.admin.clone());
    for name in ["broken-a", "broken-b", "broken-z"] {
        claims.delete(name, &DeleteParams::default()).await.unwrap();
    }
    let gone = || fixture.cluster.view()?.unreadable_claims.is_empty().then_some(());
    fixture.eventually("the broken claims are gone", gone).await;
}
