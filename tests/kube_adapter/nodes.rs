//! Whose machine a Node is, and who comes onto it: what attackers did, done again with the rights that they have.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use lowtide::core::action::ClusterAction;
use lowtide::core::fleet::{Doubt, Instance, InstanceState, Node, doubts};
use lowtide::core::units::ids::NodeName;
use lowtide::core::units::time::Timestamp;
use lowtide::ports::Cluster;
use serde_json::{Value, json};

use crate::fixture::{Fixture, claim_spec};

/// `kubectl create` as somebody else.
fn create_as(fixture: &Fixture, user: &[&str], manifest: &Value) -> Result<String, String> {
    let name = manifest["metadata"]["name"].as_str().unwrap();
    let path = std::env::temp_dir().join(format!("lowtide-kube-adapter-{}-{name}.json", std::process::id()));
    std::fs::write(&path, manifest.to_string()).unwrap();
    let answer = fixture.plane.kubectl(&[&["create", "-f", path.to_str().unwrap()], user].concat());
    std::fs::remove_file(path).unwrap();
    answer.map_err(|fault| fault.to_string())
}

/// S4: a node with a join token of its own says that it is another's machine.
pub async fn a_node_that_names_anothers_machine_is_not_it(fixture: &Fixture) {
    fixture.node("victim", json!([])).await;
    let thief = ["--as", "system:node:thief", "--as-group", "system:nodes", "--as-group", "system:authenticated"];
    let manifest = json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": { "name": "thief", "labels": { "lowtide.dev/instance-id": "i-victim", "lowtide.dev/node-class": "us" } },
        "spec": { "providerID": "lowtide://us-east-1/use1-az4/lt-i-victim" },
    });
    create_as(fixture, &thief, &manifest).expect("a kubelet registers its own node, and writes on it what it likes");
    let pin = "lowtide.node-restriction.kubernetes.io/claim=lt-1";
    for node in ["thief", "victim"] {
        let refused = fixture.plane.kubectl(&[&["label", "node", node, pin], &thief[..]].concat());
        let said = refused.expect_err("a kubelet sets the pin").to_string();
        assert!(said.contains("forbidden") || said.contains("not allowed"), "{node}: {said}");
    }
    let both = || {
        let view = fixture.cluster.view()?;
        let of = |name: &NodeName| ["thief", "victim"].contains(&name.as_str());
        let nodes: BTreeMap<NodeName, Node> =
            view.nodes.iter().filter(|(name, _)| of(name)).map(|(n, node)| (n.clone(), node.clone())).collect();
        (nodes.len() == 2).then_some(nodes)
    };
    let nodes = fixture.eventually("both nodes", both).await;
    assert!(nodes.values().all(|node| node.instance.as_str() == "i-victim"), "each says that it is the machine: {nodes:?}");
    let machine = |addresses: &[&str]| Instance {
        id: "i-victim".into(),
        capacity: claim_spec(vec![]).capacity,
        state: InstanceState::Running,
        launched_at: Timestamp(0),
        ended_at: None,
        state_reason: None,
        spot_request_status: None,
        addresses: addresses.iter().map(|one| (*one).to_owned()).collect(),
        tags: Default::default(),
    };
    let not_used = |machine: Instance| doubts(&nodes, |id| (*id == machine.id).then_some(&machine), &BTreeMap::new());
    let by_name = not_used(machine(&["victim"]));
    assert_eq!(by_name, BTreeMap::from([("thief".into(), Doubt::NotThatMachine { instance: "i-victim".into() })]), "EC2 says whose it is");
    // With an address that EC2 gives for the machine as well, nobody can tell them apart: neither is used.
    let by_both = not_used(machine(&["victim", "thief"]));
    assert!(by_both.len() == 2 && by_both.values().all(Doubt::is_alarming), "{by_both:?}");
    fixture.plane.kubectl(&["delete", "node", "thief", "--wait=false"]).unwrap();
}

/// S5: pods of anybody on a machine that others pay for.
pub async fn pods_do_not_come_onto_a_bought_machine_by_themselves(fixture: &Fixture) {
    fixture.namespace("riders").await;
    let gpus = json!({ "key": "nvidia.com/gpu", "effect": "NoSchedule" });
    fixture.node("sold", json!([gpus, { "key": "lowtide.dev/claim", "value": "none-yet", "effect": "NoSchedule" }])).await;
    let mark =
        ClusterAction::MarkNode { node: "sold".into(), claim: "sold".into(), taint: false, guard: false, labels: Default::default() };
    fixture.cluster.apply(&mark).await.unwrap();
    fixture.plane.kubectl(&["create", "rolebinding", "owner", "-n", "riders", "--clusterrole", "edit", "--user", "owner"]).unwrap();
    let owner = ["-n", "riders", "--as", "owner", "--as-group", "system:authenticated"];
    let pod = |name: &str, more: Value| {
        let mut spec = json!({ "containers": [{ "name": "c", "image": "example/c" }] });
        for (key, value) in more.as_object().unwrap() {
            spec[key] = value.clone();
        }
        json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name }, "spec": spec })
    };
    let here = json!({ "kubernetes.io/hostname": "sold" });
    // What an owner may write: pods that ask for this very machine, with and without tolerating GPUs.
    let tolerates = json!([{ "key": "nvidia.com/gpu", "operator": "Exists" }]);
    create_as(fixture, &owner, &pod("plain", json!({ "nodeSelector": here }))).unwrap();
    create_as(fixture, &owner, &pod("gpu", json!({ "nodeSelector": here, "tolerations": tolerates }))).unwrap();
    // What an owner may not: the pin, and the toleration of a claim's taint.
    let pin = json!({ "nodeSelector": { "lowtide.node-restriction.kubernetes.io/claim": "sold" } });
    let refused = create_as(fixture, &owner, &pod("pinned", pin)).expect_err("a preset pin");
    assert!(refused.contains("a pod cannot choose its machine"), "{refused}");
    let ours = json!({ "tolerations": [{ "key": "lowtide.dev/claim", "operator": "Exists" }] });
    let refused = create_as(fixture, &owner, &pod("tolerant", ours)).expect_err("a toleration of ours");
    assert!(refused.contains("lowtide.dev/ is added only by lowtide"), "{refused}");
    let api: Api<Pod> = Api::namespaced(fixture.admin.clone(), "riders");
    for name in ["plain", "gpu"] {
        let said = fixture
            .until("the scheduler's word", async || {
                let status = api.get(name).await.ok()?.status?;
                status.conditions?.into_iter().find(|c| c.type_ == "PodScheduled" && c.status == "False")?.message
            })
            .await;
        assert!(said.contains("taint"), "{name}: {said}");
    }
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    for name in ["plain", "gpu"] {
        assert_eq!(api.get(name).await.unwrap().spec.unwrap().node_name, None, "{name} came onto the machine");
    }
    fixture.plane.kubectl(&["delete", "pod", "plain", "gpu", "-n", "riders", "--wait=false"]).unwrap();
}
