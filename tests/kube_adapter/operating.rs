//! Events, the outbox, the market memory, leadership, daemonsets, and lifting every gate.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding};
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use k8s_openapi::api::events::v1::Event as ApiEvent;
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use lowtide::cli::release_pods::{farewell, release, still_running};
use lowtide::core::action::{ClaimPatch, ClusterAction, Event, EventKind, EventSubject};
use lowtide::core::record::{HourPriced, LedgerRecord};
use lowtide::core::units::ids::ClaimName;
use lowtide::core::units::money::MicroUsdPerHour;
use lowtide::core::units::time::Timestamp;
use lowtide::kube::api::GpuDecision;
use lowtide::kube::lease::{self, Candidacy, LeaseSettings};
use lowtide::kube::validation_check::{Validation, validation};
use lowtide::ports::{Cluster, ClusterError};
use serde_json::json;
use tokio::sync::watch;

use crate::fixture::{Fixture, WallClock, annotations, claim_spec, pod_spec};

pub async fn an_event_is_reported_once(fixture: &Fixture) {
    fixture.namespace("events").await;
    let pod = json!({ "metadata": { "name": "eventful", "annotations": annotations() }, "spec": pod_spec(json!({})) });
    fixture.make::<Pod>("events", pod).await;
    let eventful = fixture.pod("events", "the pod", |_| true).await;
    fixture.cluster.apply(&ClusterAction::CreateClaim { name: "eventful".into(), spec: Box::new(claim_spec(vec![])) }).await.unwrap();
    fixture.eventually("the claim", || fixture.cluster.view()?.claims.remove(&"eventful".into())).await;
    let about =
        |subject, note: String| ClusterAction::Emit(Box::new(Event::new(subject, (EventKind::Warning, "NoOffer"), "gpu-memory:4", note)));
    // The same news is reported once, however it is worded.
    for long in ["too expensive ".repeat(300), "above the cap ".repeat(300)] {
        fixture.cluster.apply(&about(EventSubject::Pod(eventful.identity.clone()), long)).await.unwrap();
        fixture.cluster.apply(&about(EventSubject::Claim("eventful".into()), "no capacity".into())).await.unwrap();
    }
    let api: Api<ApiEvent> = Api::namespaced(fixture.admin.clone(), "events");
    let events = api.list(&ListParams::default()).await.unwrap().items;
    let ours: Vec<&ApiEvent> = events.iter().filter(|e| e.reason.as_deref() == Some("NoOffer")).collect();
    assert_eq!(ours.len(), 1, "{ours:?}");
    assert_eq!(ours[0].note.as_ref().unwrap().len(), 1024);
    assert_eq!(ours[0].reporting_controller.as_deref(), Some("lowtide.dev/operator"));
    // People find it where they look.
    let described = fixture.plane.kubectl(&["describe", "pod", "eventful", "-n", "events"]).unwrap();
    assert!(described.contains("NoOffer") && described.contains("too expensive"), "{described}");
    let described = fixture.plane.kubectl(&["describe", "gpunodeclaim", "eventful"]).unwrap();
    assert!(described.contains("no capacity"), "{described}");
    fixture.cluster.apply(&ClusterAction::RemoveClaim { claim: "eventful".into(), seen: None }).await.unwrap();
}

fn record(hour: u32) -> LedgerRecord {
    LedgerRecord::HourPriced(HourPriced {
        claim_uid: "uid-1".into(),
        hour,
        from: Timestamp(1_784_555_070_000 + i64::from(hour) * 3_600_000),
        price_per_hour: MicroUsdPerHour(302_000),
        on_demand_per_hour: None,
    })
}

pub async fn the_outbox_gives_back_what_was_recorded_oldest_first(fixture: &Fixture) {
    let records: Vec<LedgerRecord> = (0..40).rev().map(record).collect();
    fixture.cluster.record(&records).await.unwrap();
    fixture.cluster.record(&records[..3]).await.expect("recording again is harmless");
    // One that cannot be read holds up none of the others.
    let api: Api<GpuDecision> = Api::all(fixture.admin.clone());
    let broken = json!({ "spec": { "record": { "record": "of-another-time" } } });
    api.patch(&record(39).id().to_string(), &PatchParams::default(), &Patch::Merge(broken)).await.unwrap();
    let first = fixture.cluster.outbox(5).await.unwrap();
    assert_eq!(first, (0..5).map(record).collect::<Vec<_>>());
    assert_eq!(fixture.cluster.outbox_size().await.unwrap(), 40, "one that cannot be read waits as well");
    assert_eq!(fixture.cluster.outbox(100).await.unwrap(), (0..39).map(record).collect::<Vec<_>>());
    let ids: Vec<uuid::Uuid> = records.iter().map(LedgerRecord::id).collect();
    fixture.cluster.forget(&ids).await.unwrap();
    fixture.cluster.forget(&ids[..2]).await.expect("forgetting again is harmless");
    assert_eq!(fixture.cluster.outbox(100).await.unwrap(), []);

    // Postgres is away for long: the oldest are put together, nothing is lost, and all come out in their order.
    let many: Vec<LedgerRecord> = (100..1_000).map(record).collect();
    fixture.cluster.record(&many).await.unwrap();
    assert_eq!(fixture.cluster.pack_outbox(2_000).await.unwrap(), 0, "few enough");
    assert_eq!(fixture.cluster.pack_outbox(200).await.unwrap(), 800);
    let objects = api.list(&ListParams::default()).await.unwrap().items;
    assert_eq!((objects.len(), fixture.cluster.outbox_size().await.unwrap()), (4 + 100, 900));
    // As a process that ended between writing a pack and removing what is in it leaves it.
    fixture.cluster.record(&many[..3]).await.unwrap();
    let mut given = Vec::new();
    loop {
        let records = fixture.cluster.outbox(200).await.unwrap();
        if records.is_empty() {
            break;
        }
        assert_eq!(fixture.cluster.outbox(200).await.unwrap(), records, "given out until it is forgotten");
        fixture.cluster.forget(&records.iter().map(LedgerRecord::id).collect::<Vec<_>>()).await.unwrap();
        given.extend(records);
    }
    assert_eq!(given[..800], many[..800]);
    let rest: BTreeSet<uuid::Uuid> = given[800..].iter().map(LedgerRecord::id).collect();
    let expected: BTreeSet<uuid::Uuid> = many[..3].iter().chain(&many[800..]).map(LedgerRecord::id).collect();
    assert_eq!(rest, expected, "what is in a pack and alone comes twice: the ledger counts it once");
    assert_eq!(fixture.cluster.outbox_size().await.unwrap(), 0);
}

pub async fn the_market_memory_outlives_the_operator_in_the_one_object_it_may_change(fixture: &Fixture) {
    assert_eq!(fixture.cluster.market_memory().await.unwrap(), None, "the chart makes it empty");
    let text = "{\"version\":1}".repeat(20_000);
    fixture.cluster.keep_market_memory(&text).await.unwrap();
    fixture.cluster.keep_market_memory("second").await.unwrap();
    assert_eq!(fixture.cluster.market_memory().await.unwrap().as_deref(), Some("second"));
    // No other ConfigMap, neither to read nor to make.
    let maps: Api<ConfigMap> = Api::namespaced(fixture.operator.clone(), "lowtide-system");
    let forbidden = |answer: Result<ConfigMap, kube::Error>| matches!(answer, Err(kube::Error::Api(status)) if status.code == 403);
    assert!(forbidden(maps.get("kube-root-ca.crt").await));
    let new: ConfigMap = serde_json::from_value(json!({ "metadata": { "name": "more" } })).unwrap();
    assert!(forbidden(maps.create(&PostParams::default(), &new).await));
    // Gone is said with what to do, and is no reason to stop.
    let as_admin: Api<ConfigMap> = Api::namespaced(fixture.admin.clone(), "lowtide-system");
    as_admin.delete("lowtide-market-memory", &DeleteParams::default()).await.unwrap();
    let error = fixture.cluster.keep_market_memory("third").await.unwrap_err();
    assert!(matches!(&error, ClusterError::Gone(text) if text.contains("helm upgrade creates it")), "{error}");
}

pub async fn daemonsets_are_seen_with_what_they_request(fixture: &Fixture) {
    fixture.namespace("daemons").await;
    let manifest = json!({
        "metadata": { "name": "agent" },
        "spec": { "selector": { "matchLabels": { "app": "agent" } }, "template": {
            "metadata": { "labels": { "app": "agent" } },
            "spec": { "nodeSelector": { "lowtide.dev/node-class": "us" }, "tolerations": [{ "operator": "Exists" }],
                      "containers": [{ "name": "agent", "image": "example/agent", "resources": { "requests": { "cpu": "250m", "memory": "64Mi" } } }] },
        } },
    });
    let _: DaemonSet = fixture.make("daemons", manifest).await;
    let seen = || fixture.cluster.view()?.daemonsets.iter().find(|set| set.name == "daemons/agent").cloned();
    let seen = fixture.eventually("the daemonset", seen).await;
    assert_eq!((seen.requests.cpu.0, seen.requests.memory.0), (250, 64));
    let labels = std::collections::BTreeMap::from([("lowtide.dev/node-class".to_owned(), "us".to_owned())]);
    assert!(seen.runs_on(&labels, &[]) && !seen.runs_on(&Default::default(), &[]));
}

pub async fn leadership_passes_on_when_it_is_released_or_has_run_out(fixture: &Fixture) {
    let stand = |identity: &str| {
        // The operator has rights to one Lease, by its name. Each of these is of another release, as where a pipeline applied the chart twice.
        let settings = LeaseSettings::of_the_cluster(identity, "operator");
        Candidacy::start(fixture.operator.clone(), settings, Arc::new(WallClock))
    };
    let holder = async || {
        let api: Api<Lease> = Api::namespaced(fixture.admin.clone(), lease::NAMESPACE);
        api.get(lease::NAME).await.unwrap().spec.unwrap()
    };
    let (first, second) = (stand("a"), stand("b"));
    let (a, b) = (first.leading(), second.leading());
    fixture.eventually("a leader", || (*a.borrow() || *b.borrow()).then_some(())).await;
    for _ in 0..20 {
        assert!(!(*a.borrow() && *b.borrow()), "two lead");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let (leader, other, follower) = if *a.borrow() { (first, second, b) } else { (second, first, a) };
    // Released, it passes on at the next look, not when it has run out.
    let begun = Instant::now();
    leader.release().await;
    fixture.eventually("the other leads", || follower.borrow().then_some(())).await;
    assert!(begun.elapsed() < Duration::from_secs(10), "took {:?}", begun.elapsed());
    assert_eq!(holder().await.lease_transitions, Some(1));

    // A leader that dies is waited for, as long as its Lease holds.
    let begun = Instant::now();
    drop(other);
    let third = stand("c");
    let c = third.leading();
    fixture.eventually("the third leads", || c.borrow().then_some(())).await;
    assert!(begun.elapsed() >= Duration::from_secs(13), "took only {:?}", begun.elapsed());
    assert_eq!(holder().await.holder_identity.as_deref(), Some("c/operator"));
    third.release().await;
    // By the same Lease, so afterwards.
    a_leader_of_0_1_and_one_of_this_version_do_not_lead_together(fixture).await;
}

/// An upgrade and a rollback: lowtide 0.1 leads by the Lease of its namespace alone.
async fn a_leader_of_0_1_and_one_of_this_version_do_not_lead_together(fixture: &Fixture) {
    let old = || {
        let settings = LeaseSettings { namespace: "lowtide-system".into(), name: lease::NAME.into(), identity: "old".into() };
        Candidacy::start(fixture.operator.clone(), settings, Arc::new(WallClock))
    };
    let leads = async |what: &str, leading: &watch::Receiver<bool>| {
        fixture.eventually(what, || leading.borrow().then_some(())).await;
    };
    let first = old();
    leads("0.1 leads", &first.leading()).await;
    let new = Candidacy::of_the_cluster(fixture.operator.clone(), "lowtide-system", "new", Arc::new(WallClock));
    let follower = new.leading();
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert!(!*follower.borrow(), "both lead while the old one is being replaced");
    first.release().await;
    leads("this version leads", &follower).await;
    let back = old();
    let rolled_back = back.leading();
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert!(*follower.borrow() && !*rolled_back.borrow(), "both lead after a rollback");
    new.release().await;
    leads("0.1 leads again", &rolled_back).await;
    back.release().await;
}

pub async fn owners_are_seen_to_be_kept_out_or_not(fixture: &Fixture) {
    // The chart's policy, by its own name and with the operator's own rights.
    assert_eq!(validation(&fixture.operator, "lowtide-marks", Some(&fixture.policy_sum("MARKS"))).await, Validation::InForce);
    assert_eq!(validation(&fixture.operator, "lowtide-guard", Some(&fixture.policy_sum("GUARD"))).await, Validation::InForce);
    let notes = validation(&fixture.operator, "lowtide-annotations", Some(&fixture.policy_sum("ANNOTATIONS"))).await;
    assert_eq!(notes, Validation::InForce);
    let absent = |found: Validation| matches!(found, Validation::Absent(_));
    assert!(absent(validation(&fixture.admin, "no-such-policy", None).await));
    // The operator may read no other policy: that is not known, and is not taken for absent.
    assert!(matches!(validation(&fixture.operator, "no-such-policy", None).await, Validation::Unknown(_)));
    let policy = json!({ "metadata": { "name": "audited" }, "spec": { "failurePolicy": "Ignore",
        "matchConstraints": { "resourceRules": [{ "apiGroups": ["example.com"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["nothing"] }] },
        "validations": [{ "expression": "true" }] } });
    let policies: Api<ValidatingAdmissionPolicy> = Api::all(fixture.admin.clone());
    policies.create(&PostParams::default(), &serde_json::from_value(policy).unwrap()).await.unwrap();
    let found = validation(&fixture.admin, "audited", None).await;
    assert!(matches!(&found, Validation::Absent(why) if why.contains("failurePolicy")), "{found:?}");
    let closed = kube::api::Patch::Merge(json!({ "spec": { "failurePolicy": "Fail" } }));
    policies.patch("audited", &kube::api::PatchParams::default(), &closed).await.unwrap();
    let found = validation(&fixture.admin, "audited", None).await;
    assert!(matches!(&found, Validation::Absent(why) if why.contains("bound by nothing")), "{found:?}");
    let binding = json!({ "metadata": { "name": "audited" }, "spec": { "policyName": "audited", "validationActions": ["Audit"] } });
    let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(fixture.admin.clone());
    bindings.create(&PostParams::default(), &serde_json::from_value(binding).unwrap()).await.unwrap();
    let found = validation(&fixture.admin, "audited", None).await;
    assert!(matches!(&found, Validation::Absent(why) if why.contains("does not deny")), "{found:?}");
    let copied = policies.get("lowtide-marks").await.unwrap().spec.unwrap();
    let weakened = |change: &str| {
        let mut spec = serde_json::to_value(&copied).unwrap();
        match change {
            "a condition" => spec["matchConditions"].as_array_mut().unwrap().push(json!({ "name": "never", "expression": "false" })),
            "a validation" => spec["validations"][0]["expression"] = json!("true"),
            "a variable" => spec["variables"][0]["expression"] = json!("{}"),
            "namespaces" => spec["matchConstraints"]["namespaceSelector"] = json!({ "matchLabels": { "team": "other" } }),
            "resources" => spec["matchConstraints"]["resourceRules"][0]["operations"] = json!(["CREATE"]),
            "scope" => spec["matchConstraints"]["resourceRules"][0]["scope"] = json!("Cluster"),
            "objects" => spec["matchConstraints"]["objectSelector"] = json!({ "matchLabels": { "team": "other" } }),
            _ => {}
        }
        json!({ "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy", "metadata": { "name": "copied" }, "spec": spec })
    };
    // Never bound: nobody is kept from anything by a copy.
    let force = kube::api::PatchParams::apply("platform").force();
    for change in ["nothing", "a condition", "a validation", "a variable", "namespaces", "resources", "scope", "objects"] {
        policies.patch("copied", &force, &kube::api::Patch::Apply(weakened(change))).await.unwrap();
        let found = validation(&fixture.admin, "copied", Some(&fixture.policy_sum("MARKS"))).await;
        let Validation::Absent(why) = found else { panic!("{change}: {found:?}") };
        let seen = ["is not the chart's", "does not look at everything"].iter().any(|part| why.contains(part));
        assert_eq!((seen, why.contains("bound by nothing")), (change != "nothing", change == "nothing"), "{change}: {why}");
    }
    let narrow = json!({ "metadata": { "name": "audited" }, "spec": { "policyName": "audited", "validationActions": ["Deny"],
        "matchResources": { "namespaceSelector": { "matchLabels": { "team": "other" } } } } });
    let merge = kube::api::Patch::Merge(narrow);
    bindings.patch("audited", &kube::api::PatchParams::default(), &merge).await.unwrap();
    let found = validation(&fixture.admin, "audited", None).await;
    assert!(matches!(&found, Validation::Absent(why) if why.contains("does not apply everywhere")), "{found:?}");
}

pub async fn what_still_runs_is_listed_with_what_it_costs(fixture: &Fixture) {
    let (running, wanted) = (ClaimName::from("left-behind"), ClaimName::from("never-asked-for"));
    for name in [&running, &wanted] {
        fixture.cluster.apply(&ClusterAction::CreateClaim { name: name.clone(), spec: Box::new(claim_spec(vec![])) }).await.unwrap();
    }
    let patch = ClaimPatch { launched: Some(("i-left-behind".into(), Timestamp(1_784_555_070_000))), ..ClaimPatch::default() };
    fixture.cluster.apply(&ClusterAction::PatchClaim { claim: running.clone(), patch: Box::new(patch), seen: None }).await.unwrap();
    let found = still_running(&fixture.admin).await.unwrap();
    let line = "left-behind (i-left-behind): g6.xlarge spot in use1-az4 at $0.3020/h";
    assert!(found.lines.iter().any(|said| said == line), "{found:?}");
    assert!(found.price_per_hour.0 >= 302_000 && !found.lines.iter().any(|said| said.contains("never-asked-for")), "{found:?}");
    let said = farewell(&found).join("\n");
    assert!(said.contains("machines still run and cost $") && said.contains(line), "{said}");
    for claim in [running, wanted] {
        fixture.cluster.apply(&ClusterAction::RemoveClaim { claim, seen: None }).await.unwrap();
    }
}

pub async fn every_gate_of_ours_is_lifted_and_no_other(fixture: &Fixture) {
    fixture.namespace("release").await;
    let gates = |name: &str, gates: serde_json::Value| json!({ "metadata": { "name": name, "annotations": annotations() }, "spec": pod_spec(json!({ "schedulingGates": gates })) });
    fixture.make::<Pod>("release", gates("ours", json!([]))).await;
    fixture.make::<Pod>("release", gates("both", json!([{ "name": "example.com/queue" }]))).await;
    let held = release(&fixture.operator, true).await.unwrap();
    assert!(held.pods.contains(&"release/ours".to_owned()) && held.pods.contains(&"release/both".to_owned()), "{held:?}");
    // The hook runs when the policy that keeps everybody from our gates is gone; while it is there it is kept from them like anybody.
    still_running(&fixture.hook).await.unwrap();
    let kept_out = release(&fixture.hook, false).await.unwrap();
    assert!(!kept_out.failed.is_empty() && kept_out.failed.iter().all(|said| said.contains("lowtide-marks")), "{kept_out:?}");
    let released = release(&fixture.operator, false).await.unwrap();
    assert_eq!(released.failed, Vec::<String>::new());
    assert!(released.pods.contains(&"release/ours".to_owned()), "{released:?}");
    let api: Api<Pod> = Api::namespaced(fixture.admin.clone(), "release");
    for (name, left) in [("ours", vec![]), ("both", vec!["example.com/queue".to_owned()])] {
        let found = api.get(name).await.unwrap().spec.unwrap().scheduling_gates.unwrap_or_default();
        assert_eq!(found.into_iter().map(|g| g.name).collect::<Vec<_>>(), left);
    }
    assert_eq!(release(&fixture.operator, false).await.unwrap().pods, Vec::<String>::new());
    // As it runs: after the policies, while pods still wait.
    fixture.make::<Pod>("release", gates("last", json!([]))).await;
    fixture.plane.kubectl(&["delete", "validatingadmissionpolicybinding", "lowtide-marks"]).unwrap();
    let begun = std::time::Instant::now();
    loop {
        let released = release(&fixture.hook, false).await.unwrap();
        if released.failed.is_empty() {
            assert_eq!(released.pods, ["release/last"]);
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{released:?}");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}
