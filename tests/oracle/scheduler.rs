//! The real scheduler: nodes and pods are written as lowtide left them, and what became of each pod is read.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::{Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::node::v1::RuntimeClass;
use k8s_openapi::api::scheduling::v1::PriorityClass;
use k8s_openapi::api::storage::v1::{CSINode, StorageClass};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use lowtide::core::units::Resources;
use lowtide::lab::control_plane::SchedulerAlone;
use lowtide::lab::kubeconfig;
use lowtide::lab::tools::Tools;
use lowtide::lab::workdir::Workdir;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// Requests on their way at a time.
const AT_ONCE: usize = 24;
/// How far apart looks at pods are.
const LOOK: Duration = Duration::from_millis(200);
/// So many looks show nothing new: the scheduler has said its last word. Counted in looks, so that a machine that is held for minutes ends no wait.
const SETTLED: u32 = 13;
const PATIENCE: u32 = 450;
/// The label of everything that is removed together.
pub const BATCH: &str = "oracle.lowtide.dev/batch";
const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";

/// What became of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// Bound to a node.
    On(String),
    /// The scheduler's sentence.
    Nowhere(String),
    /// The API server did not take it.
    Refused(String),
}

/// The cluster.
pub struct Scheduler {
    client: Client,
    _plane: SchedulerAlone,
    _workdir: Workdir,
}

fn object<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

impl Scheduler {
    pub async fn start() -> Scheduler {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (tools, workdir) = (Tools::find().unwrap(), Workdir::create().unwrap());
        let plane = SchedulerAlone::start(&tools, &workdir).await.unwrap();
        let client = kubeconfig::client(plane.admin_kubeconfig(), None).await.unwrap();
        let scheduler = Scheduler { client, _plane: plane, _workdir: workdir };
        for (name, value) in [("oracle-high", 1_000), ("oracle-low", -5)] {
            // What does not fit must be seen not to fit.
            let class = json!({ "metadata": { "name": name }, "value": value, "preemptionPolicy": "Never" });
            Api::<PriorityClass>::all(scheduler.client.clone()).create(&PostParams::default(), &object(class)).await.unwrap();
        }
        let class = json!({ "metadata": { "name": "oracle-vm" }, "handler": "vm", "overhead": { "podFixed": { "cpu": "250m", "memory": "160Mi" } } });
        Api::<RuntimeClass>::all(scheduler.client.clone()).create(&PostParams::default(), &object(class)).await.unwrap();
        scheduler
    }

    pub async fn namespaces(&self, names: &[String]) {
        let make = |name: &String| {
            let (api, body) = (Api::<Namespace>::all(self.client.clone()), object(json!({ "metadata": { "name": name } })));
            async move { drop(api.create(&PostParams::default(), &body).await.unwrap()) }
        };
        stream::iter(names).map(make).buffer_unordered(AT_ONCE).collect::<Vec<()>>().await;
    }

    /// Makes volumes, claims and storage classes.
    pub async fn volumes(&self, objects: &[Value]) {
        let make = |value: Value| async move {
            let (params, client) = (PostParams::default(), self.client.clone());
            match value["kind"].as_str().unwrap() {
                "PersistentVolume" => drop(Api::<PersistentVolume>::all(client).create(&params, &object(value)).await.unwrap()),
                "StorageClass" => drop(Api::<StorageClass>::all(client).create(&params, &object(value)).await.unwrap()),
                _ => {
                    let namespace = value["metadata"]["namespace"].as_str().unwrap().to_owned();
                    drop(Api::<PersistentVolumeClaim>::namespaced(client, &namespace).create(&params, &object(value)).await.unwrap());
                }
            }
        };
        stream::iter(objects.to_vec()).map(make).buffer_unordered(AT_ONCE).collect::<Vec<()>>().await;
    }

    pub async fn nodes(&self, nodes: Vec<Value>) {
        let make = |value: Value| {
            let api = Api::<Node>::all(self.client.clone());
            async move {
                let name = value["metadata"]["name"].as_str().unwrap().to_owned();
                match api.create(&PostParams::default(), &object(value.clone())).await {
                    Ok(_) => {}
                    // It was there in the wave before, and has more labels now.
                    Err(kube::Error::Api(status)) if status.code == 409 => {
                        let labels = json!({ "metadata": { "labels": value["metadata"]["labels"] } });
                        api.patch(&name, &PatchParams::default(), &Patch::Merge(labels)).await.unwrap();
                    }
                    Err(fault) => panic!("node {name}: {fault}"),
                }
                // What AWS's driver says of the node: how many volumes it attaches.
                let drivers = json!([{ "name": "ebs.csi.aws.com", "nodeID": name, "allocatable": { "count": value["attaches"] } }]);
                let said = json!({ "metadata": { "name": name, "labels": { BATCH: value["metadata"]["labels"][BATCH] } }, "spec": { "drivers": drivers } });
                match Api::<CSINode>::all(self.client.clone()).create(&PostParams::default(), &object(said)).await {
                    Ok(_) => {}
                    Err(kube::Error::Api(status)) if status.code == 409 => {}
                    Err(fault) => panic!("volumes of node {name}: {fault}"),
                }
            }
        };
        stream::iter(nodes).map(make).buffer_unordered(AT_ONCE).collect::<Vec<()>>().await;
    }

    /// Creates lists of pods beside each other, each in its order, and says what became of them, by namespace and name. `provisioned` are
    /// volumes that are made as soon as the scheduler has chosen a node for their claim.
    pub async fn schedule(&self, batch: &str, lists: Vec<Vec<Value>>, provisioned: &[Value]) -> BTreeMap<(String, String), Fate> {
        let all = lists.iter().map(Vec::len).sum::<usize>();
        let create = |list: Vec<Value>| async move {
            let mut refused = Vec::new();
            for value in list {
                let (namespace, name) = (text(&value["metadata"]["namespace"]), text(&value["metadata"]["name"]));
                let api = Api::<Pod>::namespaced(self.client.clone(), &namespace);
                if let Err(fault) = api.create(&PostParams::default(), &object(value)).await {
                    refused.push(((namespace, name), Fate::Refused(fault.to_string())));
                }
            }
            refused
        };
        let refused = stream::iter(lists).map(create).buffer_unordered(AT_ONCE).collect::<Vec<_>>().await;
        let mut fates: BTreeMap<(String, String), Fate> = refused.into_iter().flatten().collect();
        let (mut looks, mut changed) = (0, 0);
        let mut seen: BTreeMap<(String, String), Fate> = BTreeMap::new();
        loop {
            let now = self.fates(batch).await;
            let bound = now.values().filter(|f| matches!(f, Fate::On(_))).count();
            if now != seen {
                (seen, changed) = (now, looks);
            }
            let waits = seen.len() < all - fates.len() || seen.values().any(|f| *f == Fate::Nowhere(String::new()));
            if bound + fates.len() == all || (!waits && looks - changed > SETTLED) || looks > PATIENCE {
                break;
            }
            if self.provision(provisioned).await {
                changed = looks;
            }
            looks += 1;
            tokio::time::sleep(LOOK).await;
        }
        // The next wave finds these bound.
        self.provision(provisioned).await;
        fates.extend(seen);
        fates
    }

    /// The node that the scheduler has chosen for a pod whose volume is still to be made there.
    async fn chosen(&self, pod: &Pod) -> Option<String> {
        let claims = pod.spec.iter().flat_map(|s| s.volumes.iter().flatten()).filter_map(|v| v.persistent_volume_claim.as_ref());
        for name in claims.map(|c| c.claim_name.clone()).collect::<Vec<_>>() {
            let api = Api::<PersistentVolumeClaim>::namespaced(self.client.clone(), &pod.namespace().unwrap());
            let claim = api.get_opt(&name).await.unwrap();
            if let Some(node) = claim.and_then(|claim| claim.annotations().get(SELECTED_NODE).cloned()) {
                return Some(node);
            }
        }
        None
    }

    async fn fates(&self, batch: &str) -> BTreeMap<(String, String), Fate> {
        let pods = Api::<Pod>::all(self.client.clone()).list(&ListParams::default().labels(&format!("{BATCH}={batch}"))).await.unwrap();
        let mut fates = BTreeMap::new();
        for pod in pods {
            let conditions = pod.status.iter().flat_map(|s| s.conditions.iter().flatten());
            let said = conditions.filter(|c| c.type_ == "PodScheduled" && c.status == "False").find_map(|c| c.message.clone());
            let on = match (pod.spec.as_ref().and_then(|s| s.node_name.clone()), &said) {
                (None, None) => self.chosen(&pod).await,
                (on, _) => on,
            };
            fates.insert((pod.namespace().unwrap(), pod.name_any()), on.map_or(Fate::Nowhere(said.unwrap_or_default()), Fate::On));
        }
        fates
    }

    /// Plays the provisioner: a claim for which the scheduler chose a node gets its volume.
    async fn provision(&self, provisioned: &[Value]) -> bool {
        let mut made = false;
        for volume in provisioned {
            let of = &volume["spec"]["claimRef"];
            let api = Api::<PersistentVolumeClaim>::namespaced(self.client.clone(), &text(&of["namespace"]));
            let Some(claim) = api.get_opt(&text(&of["name"])).await.unwrap() else { continue };
            let chosen = claim.annotations().contains_key(SELECTED_NODE);
            if !chosen || claim.spec.as_ref().is_some_and(|s| s.volume_name.is_some()) {
                continue;
            }
            let name = text(&volume["metadata"]["name"]);
            let mut volume = volume.clone();
            volume["spec"]["claimRef"]["uid"] = json!(claim.uid());
            Api::<PersistentVolume>::all(self.client.clone()).create(&PostParams::default(), &object(volume)).await.unwrap();
            let bind =
                json!({ "metadata": { "annotations": { "pv.kubernetes.io/bind-completed": "yes" } }, "spec": { "volumeName": name } });
            api.patch(&claim.name_any(), &PatchParams::default(), &Patch::Merge(bind)).await.unwrap();
            made = true;
        }
        made
    }

    /// Removes pods and nodes of a batch.
    pub async fn clear(&self, batch: &str, namespaces: &[String]) {
        let selected = ListParams::default().labels(&format!("{BATCH}={batch}"));
        let (now, selected) = (&DeleteParams::default().grace_period(0), &selected);
        let clear = |name: &String| {
            let api = Api::<Pod>::namespaced(self.client.clone(), name);
            async move { drop(api.delete_collection(now, selected).await.unwrap()) }
        };
        stream::iter(namespaces).map(clear).buffer_unordered(AT_ONCE).collect::<Vec<()>>().await;
        Api::<Node>::all(self.client.clone()).delete_collection(now, selected).await.unwrap();
        Api::<CSINode>::all(self.client.clone()).delete_collection(now, selected).await.unwrap();
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// A Node that is Ready.
pub fn node(name: &str, batch: &str, labels: &BTreeMap<String, String>, taints: &[(String, String, String)], has: Resources) -> Value {
    let mut labels = labels.clone();
    labels.insert(BATCH.to_owned(), batch.to_owned());
    let taints: Vec<Value> = taints.iter().map(|(key, value, effect)| json!({ "key": key, "value": value, "effect": effect })).collect();
    let amounts = json!({
        "cpu": format!("{}m", has.cpu.0), "memory": format!("{}Mi", has.memory.0), "ephemeral-storage": format!("{}Mi", has.disk.0),
        "nvidia.com/gpu": has.gpus.to_string(), "pods": "110",
    });
    json!({
        // Not a field of a Node: see where it is created.
        "attaches": has.volumes,
        "metadata": { "name": name, "labels": labels }, "spec": { "taints": taints },
        "status": { "capacity": amounts, "allocatable": amounts, "conditions": [{ "type": "Ready", "status": "True" }] },
    })
}
