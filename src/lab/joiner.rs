//! The node joiner plays cloud-init and the kubelet's registration, and a machine's death.
//!
//! Modelled, not measured:
//! - the boot delay, from EC2's `running` to the Node's registration ([`JoinerOptions::boot`]);
//! - death: the kubelet goes silent at once (its Lease is no longer renewed), and Node and pods are marked not ready at once. A real
//!   cluster notices the silence only after its grace of 40 to 50 s and keeps a dead pod in the endpoints until then; marking at once
//!   makes the endpoints show who can really serve, so that a serving gap is not hidden by the cluster's ignorance.
//!
//! Real: the user data that is parsed, the API server's NodeRestriction, the scheduler and the controllers that see the Node.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt};
use serde::Deserialize;
use serde_json::json;

use crate::core::market::catalog::Catalog;
use crate::core::units::ids::InstanceType;

use super::control_plane::KUBELET_ON;
use super::error::LabError;
use super::kubeconfig;
use super::machine::{BootOutcome, SimulatedInstance, node};
use super::progress::say;
use super::sim_client;
use super::user_data;

/// Machines that register at the same time.
const BOOTS_AT_ONCE: usize = 16;

/// How the joiner plays.
#[derive(Debug, Clone)]
pub struct JoinerOptions {
    /// The EC2 simulator, e.g. `http://127.0.0.1:8080`.
    pub simulator: String,
    /// A cluster administrator's kubeconfig: the joiner speaks as each node by impersonation.
    pub admin_kubeconfig: PathBuf,
    /// From EC2's `running` to the registration of the Node.
    pub boot: Duration,
    /// How often the simulator is asked.
    pub poll: Duration,
}

#[derive(Deserialize)]
struct SimulatorState {
    instances: Vec<SimulatedInstance>,
}

/// The joiner's own memory of the machines.
struct Joiner {
    options: JoinerOptions,
    catalog: Catalog,
    admin: Client,
    /// When each running machine was first seen running.
    up_since: BTreeMap<String, Instant>,
    /// Machines whose boot has been played to its end, well or not.
    played: BTreeSet<String>,
    /// Machines whose death has been played.
    buried: BTreeSet<String>,
}

/// Plays all machines until dropped. A fault is reported, and tried again at the next turn.
pub async fn run(options: JoinerOptions) -> Result<(), LabError> {
    let admin = kubeconfig::client(&options.admin_kubeconfig, None).await?;
    let mut joiner = Joiner {
        catalog: Catalog::snapshot(),
        admin,
        up_since: BTreeMap::new(),
        played: BTreeSet::new(),
        buried: BTreeSet::new(),
        options,
    };
    let mut last_fault = String::new();
    loop {
        match joiner.turn().await {
            Ok(()) => last_fault.clear(),
            Err(fault) => {
                let fault = fault.to_string();
                if fault != last_fault {
                    say(&format!("  node joiner: {fault}"));
                }
                last_fault = fault;
            }
        }
        tokio::time::sleep(joiner.options.poll).await;
    }
}

impl Joiner {
    async fn turn(&mut self) -> Result<(), LabError> {
        let state: SimulatorState = sim_client::get_json(&self.options.simulator, "/_sim/state").await?;
        let mut due = Vec::new();
        for instance in &state.instances {
            if instance.is_gone() && !self.buried.contains(&instance.id) {
                self.bury(instance).await?;
                self.buried.insert(instance.id.clone());
            } else if instance.is_up() && !self.played.contains(&instance.id) {
                let since = *self.up_since.entry(instance.id.clone()).or_insert_with(Instant::now);
                if since.elapsed() >= self.options.boot {
                    due.push(instance.clone());
                }
            }
        }
        // Machines boot beside each other.
        let joiner = &*self;
        let joins = stream::iter(due).map(|instance: SimulatedInstance| async move {
            let joined = joiner.join(&instance).await;
            (instance.id, joined)
        });
        let mut outcome = Ok(());
        for (id, joined) in joins.buffer_unordered(BOOTS_AT_ONCE).collect::<Vec<_>>().await {
            match joined {
                Ok(()) => drop(self.played.insert(id)),
                Err(fault) => outcome = Err(fault),
            }
        }
        outcome
    }

    async fn join(&self, instance: &SimulatedInstance) -> Result<(), LabError> {
        if instance.boot_outcome == BootOutcome::NeverJoins {
            return Ok(());
        }
        let name = instance.node_name();
        let bootstrap = match user_data::parse(instance.user_data.as_deref().unwrap_or_default()) {
            Ok(bootstrap) => bootstrap,
            Err(fault) => {
                say(&format!("  node joiner: {} boots but cannot join: {fault}", instance.id));
                return Ok(());
            }
        };
        let machine = self.catalog.types.get(&InstanceType::from(instance.instance_type.as_str())).ok_or_else(|| LabError::Unreadable {
            what: format!("instance {}", instance.id),
            expected: "a type of data/catalog/gpu_instance_types.csv".to_owned(),
            found: instance.instance_type.clone(),
        })?;
        let body = node(instance, machine, &bootstrap).map_err(|fault| LabError::Unreadable {
            what: format!("node {name}"),
            expected: "a Node".to_owned(),
            found: fault.to_string(),
        })?;
        let as_kubelet: Api<Node> = Api::all(kubeconfig::client(&self.options.admin_kubeconfig, Some(&name)).await?);
        match as_kubelet.create(&PostParams::default(), &body).await {
            Ok(_) => Ok(()),
            // A lab that was here before us, or our own earlier turn: the kubelet would carry on with its Node too.
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
            Err(fault) => Err(LabError::kube(format!("registering node {name} as its kubelet"))(fault)),
        }
    }

    /// The machine is off: its kubelet is silent, its pods serve nobody.
    async fn bury(&self, instance: &SimulatedInstance) -> Result<(), LabError> {
        let name = instance.node_name();
        let nodes: Api<Node> = Api::all(self.admin.clone());
        let found = nodes.get_opt(&name).await.map_err(LabError::kube(format!("reading node {name}")))?;
        if found.is_some() {
            // kwok lets go of the node and its pods, and no longer renews its Lease.
            self.patch_node(&nodes, &name, false, json!({"metadata": {"labels": {(KUBELET_ON.0): null}}})).await?;
            let now = jiff::Timestamp::now().to_string();
            let ready = json!({"type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown", "message": "The machine is off.", "lastTransitionTime": now});
            self.patch_node(&nodes, &name, true, json!({"status": {"conditions": [ready]}})).await?;
        }
        self.silence_pods(&name).await
    }

    /// Changes the Node or its status; one that somebody deleted meanwhile needs no change.
    async fn patch_node(&self, nodes: &Api<Node>, name: &str, status: bool, patch: serde_json::Value) -> Result<(), LabError> {
        let (params, patch) = (PatchParams::default(), Patch::Strategic(&patch));
        let answer = if status { nodes.patch_status(name, &params, &patch).await } else { nodes.patch(name, &params, &patch).await };
        gone_is_fine(answer, &format!("marking node {name} dead"))
    }

    async fn silence_pods(&self, node: &str) -> Result<(), LabError> {
        let everywhere: Api<Pod> = Api::all(self.admin.clone());
        let there = ListParams::default().fields(&format!("spec.nodeName={node}"));
        let pods = everywhere.list(&there).await.map_err(LabError::kube(format!("listing pods of {node}")))?;
        let now = jiff::Timestamp::now().to_string();
        let condition = |kind: &str| json!({"type": kind, "status": "False", "reason": "MachineOff", "lastTransitionTime": now});
        let patch = json!({"status": {"conditions": [condition("Ready"), condition("ContainersReady")]}});
        for pod in pods {
            let pods: Api<Pod> = Api::namespaced(self.admin.clone(), &pod.namespace().unwrap_or_default());
            let answer = pods.patch_status(&pod.name_any(), &PatchParams::default(), &Patch::Strategic(&patch)).await;
            gone_is_fine(answer, &format!("marking pod {} dead", pod.name_any()))?;
        }
        Ok(())
    }
}

fn gone_is_fine<T>(answer: Result<T, kube::Error>, what: &str) -> Result<(), LabError> {
    match answer {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        answer => answer.map(drop).map_err(LabError::kube(what)),
    }
}
