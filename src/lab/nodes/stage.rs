//! The lab of real machines with what every step of its story needs: waiting for something to be so, and reading objects.

use std::time::Duration;

use serde_json::Value;

use super::NodesArguments;
use super::report::Report;
use super::site::RealMachines;
use crate::core::units::time::Timestamp;
use crate::lab::error::LabError;
use crate::lab::process::run;
use crate::lab::progress::{Patience, say};
use crate::lab::start::{Lab, LabOptions, OperatorOptions};

/// The device plugin speaks this long after the kubelet listens.
const GPUS_AFTER: Duration = Duration::from_secs(3);

/// The lab, and what was seen in it.
pub struct Stage {
    /// The lab.
    pub lab: Lab,
    /// What is written down.
    pub report: Report,
}

/// A pod as the story looks at it.
#[derive(Debug, Clone)]
pub struct Pod {
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// The node it is on.
    pub node: String,
    /// Whether it is Ready.
    pub ready: bool,
    /// Its phase.
    pub phase: String,
    /// Whether it was asked to end.
    pub leaving: bool,
}

impl Pod {
    /// Whether its containers run.
    pub fn is_running(&self) -> bool {
        self.phase == "Running"
    }
}

impl Stage {
    /// Starts the lab and the operator.
    pub async fn set_up(arguments: &NodesArguments) -> Result<Stage, LabError> {
        say("lowtide on real nodes: kubelet, containerd and runc in namespaces of their own, on a simulated EC2\n");
        let real_machines = Some(RealMachines { gpus_after: GPUS_AFTER });
        let ec2_arguments = vec![format!("--metadata-address={}", super::router::METADATA)];
        let options = LabOptions { keep: arguments.keep, real_machines, ec2_arguments, ..LabOptions::default() };
        let mut lab = Lab::start(options).await?;
        lab.prepare_ledger().await?;
        lab.install_chart(&[])?;
        lab.spawn_operator(&OperatorOptions::default())?;
        lab.operator_ready(Duration::from_secs(60)).await?;
        Ok(Stage { lab, report: Report::default() })
    }

    /// Waits until `so` gives something, looking three times a second. Nothing when it never did.
    pub async fn wait<T>(
        &mut self,
        what: &str,
        limit: u64,
        mut so: impl FnMut(&mut Stage) -> Result<Option<T>, LabError>,
    ) -> Result<Option<T>, LabError> {
        let mut patience = Patience::begin(what, limit, 15);
        loop {
            self.lab.check()?;
            if let Some(found) = so(self)? {
                return Ok(Some(found));
            }
            if !patience.lasts() {
                return Ok(None);
            }
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    }

    /// Objects, by the words that follow `kubectl get`.
    pub fn list(&self, what: &[&str]) -> Result<Vec<Value>, LabError> {
        let printed = self.lab.kubectl(&[&["get"], what, &["-o", "json", "--ignore-not-found"]].concat())?;
        let value: Value = serde_json::from_str(&printed).unwrap_or(Value::Null);
        Ok(match value.pointer("/items").and_then(Value::as_array) {
            Some(items) => items.clone(),
            None if value.is_null() => Vec::new(),
            None => vec![value],
        })
    }

    /// A Node, while there is one.
    pub fn node(&self, name: &str) -> Result<Option<Value>, LabError> {
        Ok(self.list(&["node", name])?.into_iter().next())
    }

    /// The pods of an app, wherever they are.
    pub fn pods(&self, app: &str) -> Result<Vec<Pod>, LabError> {
        let selector = format!("app={app}");
        Ok(self.list(&["pods", "-A", "-l", &selector])?.iter().map(pod).collect())
    }

    /// A pod, while there is one.
    pub fn pod(&self, uid: &str) -> Result<Option<Pod>, LabError> {
        Ok(self.list(&["pods", "-A"])?.iter().map(pod).find(|pod| pod.uid == uid))
    }

    /// Whether exactly this many replicas of the served Deployment are Ready.
    pub fn serving(&self, replicas: usize) -> Result<bool, LabError> {
        Ok(self.pods("web")?.iter().filter(|pod| pod.ready && !pod.leaving).count() == replicas)
    }

    /// As many replicas are Ready, without this one.
    pub fn serving_beside(&self, uid: &str, replicas: usize) -> Result<bool, LabError> {
        Ok(self.pods("web")?.iter().filter(|pod| pod.ready && !pod.leaving && pod.uid != uid).count() >= replicas)
    }

    /// A pod that runs, and the instance that it is on.
    pub fn victim(&self, app: &str) -> Result<Option<(Pod, String)>, LabError> {
        let Some(pod) = self.pods(app)?.into_iter().find(|pod| pod.is_running() && !pod.leaving) else { return Ok(None) };
        let instance = self.node(&pod.node)?.map(|node| label(&node, "lowtide.dev/instance-id")).filter(|id| !id.is_empty());
        Ok(instance.map(|instance| (pod, instance)))
    }

    /// Whether the machine of an instance is switched off.
    pub fn is_off(&self, instance: &str) -> bool {
        self.lab.hypervisor().is_none_or(|hypervisor| !hypervisor.is_on(instance))
    }

    /// What a pod of the Job has logged.
    pub fn logs(&self, pod: &str) -> Result<String, LabError> {
        let mut command = std::process::Command::new(self.lab.tools().path("kubectl"));
        command.env("KUBECONFIG", self.lab.control_plane.admin_kubeconfig()).args(["logs", "-n", "k3s", pod]);
        run(&mut command)
    }
}

fn pod(value: &Value) -> Pod {
    let condition = |kind: &str| {
        let all = value.pointer("/status/conditions").and_then(Value::as_array);
        all.is_some_and(|all| all.iter().any(|one| text(one, "/type") == kind && text(one, "/status") == "True"))
    };
    Pod {
        name: text(value, "/metadata/name"),
        uid: text(value, "/metadata/uid"),
        node: text(value, "/spec/nodeName"),
        ready: condition("Ready"),
        phase: text(value, "/status/phase"),
        leaving: value.pointer("/metadata/deletionTimestamp").is_some(),
    }
}

/// Whether a Node is Ready.
pub fn is_ready(node: &Value) -> bool {
    let conditions = node.pointer("/status/conditions").and_then(Value::as_array);
    conditions.is_some_and(|all| all.iter().any(|one| text(one, "/type") == "Ready" && text(one, "/status") == "True"))
}

/// A label, or nothing.
pub fn label(value: &Value, key: &str) -> String {
    text(value, &format!("/metadata/labels/{}", key.replace('/', "~1")))
}

/// A time, if one is there.
pub fn moment(value: &Value, pointer: &str) -> Option<Timestamp> {
    text(value, pointer).parse::<jiff::Timestamp>().ok().map(|at| Timestamp(at.as_millisecond()))
}

/// The text at a JSON pointer, or nothing.
pub fn text(value: &Value, pointer: &str) -> String {
    match value.pointer(pointer) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Null) | None => String::new(),
        Some(other) => other.to_string(),
    }
}
