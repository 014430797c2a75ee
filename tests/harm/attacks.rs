//! S1, S2, S3, S4 and S11 of the attacks, and what uninstalling says.

use std::collections::BTreeSet;

use lowtide::lab::control_plane::ControlPlane;
use lowtide::lab::helm::Helm;
use lowtide::lab::start::CLUSTER;
use lowtide::lab::workdir::Workdir;
use serde_json::json;

use crate::stage::{Stage, deployment, policy};

/// S3: what somebody who has the operator's token can do beyond lowtide's own work: nothing.
pub fn a_stolen_token_changes_nothing_that_is_not_lowtides(stage: &Stage) {
    let node = "apiVersion: v1\nkind: Node\nmetadata: {name: control-plane, labels: {node-role.kubernetes.io/control-plane: \"\"}}\n";
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: proxy, namespace: kube-system}\nspec: {hostNetwork: true, nodeName: control-plane, containers: [{name: c, image: proxy:1}]}\n";
    stage.lab.apply(&format!("{node}---\n{pod}")).unwrap();
    let chat = stage.items(&["pods", "-n", "work", "-l", "app=chat"])[0]["metadata"]["name"].as_str().unwrap().to_owned();
    // kubectl reads before it patches, and lowtide does not.
    let reads = ["create", "clusterrole", "reads-pools", "--verb=get", "--resource=gpunodepools.lowtide.dev"];
    stage.lab.kubectl(&reads).unwrap();
    let bound = ["create", "clusterrolebinding", "reads-pools", "--clusterrole=reads-pools", "--serviceaccount=lowtide-system:lowtide"];
    stage.lab.kubectl(&bound).unwrap();
    let image = r#"{"spec":{"containers":[{"name":"c","image":"evil:1"}]}}"#;
    let attempts: [(&[&str], &str); 9] = [
        (&["patch", "pod", "proxy", "-n", "kube-system", "-p", image], "lowtide-guard"),
        (&["patch", "pod", &chat, "-n", "work", "-p", image], "lowtide-guard"),
        (&["delete", "pod", "proxy", "-n", "kube-system", "--wait=false"], "lowtide-guard"),
        (&["delete", "node", "control-plane", "--wait=false"], "lowtide-guard"),
        (&["label", "node", "control-plane", "lowtide.dev/instance-id=i-1"], "lowtide-guard"),
        (&["patch", "gpunodepool", "gpus", "--type", "merge", "-p", r#"{"spec":{"monthlyBudgetUsd":"999999"}}"#], "lowtide-guard"),
        (&["get", "secrets", "-A"], "forbidden"),
        (&["create", "deployment", "mine", "-n", "work", "--image", "evil:1"], "forbidden"),
        (&["delete", "validatingadmissionpolicy", "lowtide-guard"], "forbidden"),
    ];
    for (arguments, said) in attempts {
        let refused = stage.as_operator(arguments).expect_err(&format!("{arguments:?} was let through"));
        assert!(refused.contains(said), "{arguments:?}: expected {said}, found {refused}");
    }
    stage.lab.kubectl(&["delete", "node/control-plane", "--wait=false"]).unwrap();
    stage.lab.kubectl(&["delete", "pod/proxy", "-n", "kube-system", "--force", "--grace-period=0"]).unwrap();
}

/// S2: a claim whose status holds what this version cannot read.
pub async fn a_claim_that_cannot_be_read_keeps_its_machine_and_its_pods(stage: &mut Stage) {
    let name = stage.claims()[0]["metadata"]["name"].as_str().unwrap().to_owned();
    let patch = |termination: serde_json::Value| json!({ "status": { "termination": termination } }).to_string();
    let odd = patch(json!({ "askedAt": "2026-11-20T11:00:00.000Z", "decisionId": "of-tomorrow", "reason": "empty" }));
    let write = |stage: &Stage, text: &str| {
        stage.lab.kubectl(&["patch", "gpunodeclaim", &name, "--subresource", "status", "--type", "merge", "-p", text]).unwrap()
    };
    write(stage, &odd);
    stage.until("it is said", async |s| s.events("ClaimUnreadable").first().filter(|note| note.contains("of-tomorrow")).map(drop)).await;
    assert_eq!(stage.gauge("lowtide_unreadable_claims").await, Some(1.0));
    stage.steady(8).await;
    // Over a restart as well: this process has never seen it otherwise.
    stage.stop_operator();
    stage.start_operator(&[]).await;
    stage.steady(8).await;
    write(stage, &patch(serde_json::Value::Null));
    stage.until("it is read again", async |s| (s.gauge("lowtide_unreadable_claims").await == Some(0.0)).then_some(())).await;
    stage.steady(3).await;
}

/// A person, or a pipeline that prunes, deletes the definition (CRD) of node pools: every pool goes with it.
pub async fn a_definition_of_node_pools_that_is_deleted_ends_nothing(stage: &mut Stage) {
    stage.lab.kubectl(&["delete", "crd", "gpunodepools.lowtide.dev"]).unwrap();
    let held = async |s: &mut Stage| (s.gauge("lowtide_unreadable_pools").await == Some(1.0)).then_some(());
    stage.until("it is counted", held).await;
    let said = async |s: &mut Stage| s.events("PoolsUndefined").first().filter(|note| note.contains("node pool gpus")).map(drop);
    stage.until("it is said", said).await;
    stage.steady(10).await;
    // Applied again it is another one, without a pool. Whoever leads then has never seen the pool.
    stage.lab.kubectl(&["apply", "--server-side", "--force-conflicts", "-f", "crds"]).unwrap();
    stage.lab.kubectl(&["wait", "--for=condition=Established", "crd/gpunodepools.lowtide.dev", "--timeout=60s"]).unwrap();
    stage.steady(5).await;
    stage.stop_operator();
    stage.start_operator(&[]).await;
    stage.until("it is counted by the next leader", held).await;
    stage.steady(10).await;
    stage.lab.apply(&policy()).unwrap();
    let noted = async |s: &mut Stage| {
        let now = s.items(&["crds"]).into_iter().find(|crd| crd["metadata"]["name"] == "gpunodepools.lowtide.dev")?;
        let claims = s.claims();
        claims.iter().all(|claim| claim["status"]["poolDefinitionUid"] == now["metadata"]["uid"]).then_some(())
    };
    stage.until("the claims know the new definition", noted).await;
    assert_eq!(stage.gauge("lowtide_unreadable_pools").await, Some(0.0));
    stage.steady(3).await;
}

/// Somebody with rights over nodes, or a controller that writes a node's taints as a whole, takes off what keeps others' pods off a bought machine.
pub async fn a_claims_taint_that_is_taken_off_is_put_back(stage: &mut Stage) {
    let claim = stage.claims().into_iter().find(|claim| claim["status"]["phase"] == "Ready").unwrap();
    let (name, node) = (claim["metadata"]["name"].as_str().unwrap().to_owned(), claim["status"]["nodeName"].as_str().unwrap().to_owned());
    let taints = |s: &Stage| s.items(&["nodes"]).into_iter().find(|n| n["metadata"]["name"] == *node).unwrap()["spec"]["taints"].clone();
    let before = taints(stage);
    assert!(before.to_string().contains(&name), "{before}");
    stage.lab.kubectl(&["taint", "node", &node, "lowtide.dev/claim-"]).unwrap();
    let back = async |s: &mut Stage| taints(s).to_string().contains(&name).then_some(());
    stage.until("it is put back", back).await;
    let said = async |s: &mut Stage| s.events("TaintRestored").first().filter(|note| note.contains(&node)).map(drop);
    stage.until("it is said", said).await;
    stage.steady(3).await;
}

/// S4: a Node that says it is another's machine.
pub async fn a_node_that_names_anothers_machine_is_an_alarm_and_is_not_used(stage: &mut Stage) {
    let instance = stage.claims()[0]["status"]["instanceId"].as_str().unwrap().to_owned();
    let thief = format!(
        "apiVersion: v1\nkind: Node\nmetadata:\n  name: thief\n  labels: {{lowtide.dev/instance-id: {instance}, lowtide.dev/node-class: us-east-1}}\nspec: {{providerID: lowtide://x/y/lt-{instance}}}\n"
    );
    stage.lab.apply(&thief).unwrap();
    stage.until("the alarm", async |s| s.gauge("lowtide_doubtful_nodes").await.filter(|nodes| *nodes >= 1.0)).await;
    stage.steady(8).await;
    let thief = stage.items(&["nodes", "-l", "kubernetes.io/hostname!=x"]).into_iter().find(|n| n["metadata"]["name"] == "thief").unwrap();
    assert!(
        thief["metadata"]["labels"]["lowtide.node-restriction.kubernetes.io/claim"].is_null(),
        "it is labelled as the machine: {thief}"
    );
    stage.lab.kubectl(&["delete", "node", "thief", "--wait=false"]).unwrap();
    stage.until("no alarm", async |s| s.gauge("lowtide_doubtful_nodes").await.filter(|nodes| *nodes == 0.0)).await;
}

/// S4, bolder: a Node that says it is a machine that joined long ago, under that machine's own address. Neither is used, and the work that runs
/// there is not ended.
pub async fn a_second_node_under_a_machines_own_address_ends_no_work(stage: &mut Stage) {
    let claim = stage.claims().into_iter().find(|claim| claim["status"]["phase"] == "Ready").unwrap();
    let (instance, node) = (claim["status"]["instanceId"].as_str().unwrap(), claim["status"]["nodeName"].as_str().unwrap());
    let own = stage.items(&["nodes"]).into_iter().find(|n| n["metadata"]["name"] == node).unwrap();
    let twin = format!(
        "apiVersion: v1\nkind: Node\nmetadata:\n  name: twin\n  labels: {{lowtide.dev/instance-id: {instance}, lowtide.dev/node-class: us-east-1}}\nspec: {{providerID: lowtide://x/y/lt-{instance}}}\n"
    );
    stage.lab.apply(&twin).unwrap();
    let status = json!({ "status": { "addresses": own["status"]["addresses"] } }).to_string();
    stage.lab.kubectl(&["patch", "node", "twin", "--subresource", "status", "--type", "merge", "-p", &status]).unwrap();
    stage.until("the alarm", async |s| s.gauge("lowtide_doubtful_nodes").await.filter(|nodes| *nodes >= 1.0)).await;
    // Longer than a Node may be gone.
    stage.steady(45).await;
    stage.lab.kubectl(&["delete", "node", "twin", "--wait=false"]).unwrap();
    stage.until("no alarm", async |s| s.gauge("lowtide_doubtful_nodes").await.filter(|nodes| *nodes == 0.0)).await;
    stage.steady(3).await;
}

/// S1: the same values on an API server that was built again, or a staging copy of them: every machine is nobody's there.
pub async fn an_operator_of_the_same_name_on_an_empty_api_server_ends_nothing(stage: &mut Stage) {
    let (tools, workdir) = (stage.lab.tools().clone(), Workdir::create().unwrap());
    let other = ControlPlane::start(&tools, &workdir, None).await.unwrap();
    let helm = Helm::new(tools.path("helm"), other.admin_kubeconfig(), workdir.folder("helm").unwrap());
    let values = [format!("cluster.name={CLUSTER}"), "operator.enabled=false".to_owned(), "hooks.enabled=false".to_owned()];
    helm.install("lowtide", "lowtide-system", std::path::Path::new("charts/lowtide"), &values).unwrap();
    for plural in ["gpunodepools", "gpunodeclasses", "gpunodeclaims", "gpudecisions"] {
        other.kubectl(&["wait", "--for=condition=Established", &format!("crd/{plural}.lowtide.dev"), "--timeout=60s"]).unwrap();
    }
    let policy = workdir.write("policy.yaml", &policy()).unwrap();
    other.kubectl(&["apply", "-f", policy.to_str().unwrap()]).unwrap();
    let token = other.kubectl(&["create", "token", "lowtide", "-n", "lowtide-system", "--duration=24h"]).unwrap();
    let kubeconfig = workdir.write("operator.kubeconfig", &other.api().kubeconfig("operator", token.trim())).unwrap();

    // What the program of 0.1.0 launched carries no UID, and is left alone for that.
    let marked = stage.machines_that(|machine| machine["tags"]["lowtide-cluster-uid"].is_string()).await.len();
    let unmarked = stage.machines().await.len() - marked;
    stage.stop_operator();
    stage.start_operator(&[("KUBECONFIG", kubeconfig.to_str().unwrap())]).await;
    let all_of_them = async |s: &mut Stage| (s.gauge("lowtide_foreign_instances").await == Some(marked as f64)).then_some(());
    stage.until("it says that they are another's", all_of_them).await;
    // Longer than a machine may be unclaimed.
    stage.steady(70).await;
    let events = other.kubectl(&["get", "events.v1.events.k8s.io", "-A", "-o", "json"]).unwrap();
    assert!(events.contains("OtherCluster") && events.contains("lowtide adopt"), "{events}");
    assert_eq!(events.contains("UnmarkedMachine"), unmarked > 0, "{unmarked} without a UID: {events}");
    stage.stop_operator();
    stage.start_operator(&[]).await;
    stage.steady(5).await;
}

/// S11: where nothing refuses what owners write, lowtide says so and serves only if it is instructed to; and then what they forge buys nothing.
pub async fn without_validation_it_serves_only_if_configured(stage: &mut Stage) {
    stage.stop_operator();
    stage.lab.install_chart(&["marks", "validating"].map(|policy| format!("admission.{policy}.enabled=false"))).unwrap();
    stage.spawn_operator(&[]);
    stage.until("it says so", async |s| s.log().contains("there is no ValidatingAdmissionPolicy lowtide-marks").then_some(())).await;
    let lease = stage.lab.kubectl(&["get", "lease", "lowtide", "-n", "kube-system", "-o", "jsonpath={.spec.holderIdentity}"]).unwrap();
    assert_eq!(lease.trim(), "", "it leads");
    stage.lab.kill_operator();
    stage.start_operator(&[("LOWTIDE_SERVE_WITHOUT_VALIDATION", "true")]).await;

    // Refused seven times, which takes on-demand; and in the place of a pod whose machine EC2 takes, which gets past a budget.
    let replaces = r#"{"namespace":"work","name":"gone","uid":"gone","from_claim":"lt-gone","decision":"1fe02eb0-2c73-52de-a931-00bcc49225a7","noticed_at":1,"decided_at":2,"deadline":3}"#;
    let marks = format!("        lowtide.dev/attempt: \"7\"\n        lowtide.dev/replaces: '{replaces}'\n");
    let before: BTreeSet<String> = names_of(&stage.claims());
    stage.lab.apply(&deployment("forger", 1, &marks)).unwrap();
    stage.until("the forger's pod runs", async |s| (s.ready_pods("forger").len() == 1).then_some(())).await;
    let claims = stage.claims();
    let bought: Vec<_> = claims.iter().filter(|claim| !before.contains(claim["metadata"]["name"].as_str().unwrap())).collect();
    assert!(bought.iter().all(|claim| claim["spec"]["capacityType"] == "spot"), "{bought:?}");
    let kept = bought.iter().flat_map(|claim| claim["spec"]["bindings"].as_array().unwrap());
    assert!(kept.clone().count() == 1 && kept.clone().all(|b| b["attempt"] == 1 && b["replaces"].is_null()), "{bought:?}");
    stage.lab.kubectl(&["delete", "deployment", "forger", "-n", "work"]).unwrap();
}

fn names_of(objects: &[serde_json::Value]) -> BTreeSet<String> {
    objects.iter().map(|object| object["metadata"]["name"].as_str().unwrap().to_owned()).collect()
}

/// What somebody reads who takes lowtide away.
pub fn what_runs_when_lowtide_goes_is_listed_with_what_it_costs(stage: &Stage) {
    let said = stage.lab.lowtide(&["release-pods", "--dry-run"]).unwrap();
    assert!(said.contains("machines still run and cost $"), "{said}");
    for claim in stage.claims().iter().filter(|claim| claim["status"]["phase"] == "Ready") {
        let (instance, price) = (claim["status"]["instanceId"].as_str().unwrap(), claim["spec"]["pricePerHour"].as_str().unwrap());
        assert!(said.lines().any(|line| line.contains(instance) && line.contains(&format!("${price}/h"))), "{said}");
    }
}
