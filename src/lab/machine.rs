//! An EC2 instance as the lab's joiner sees it, and the Node that its kubelet would register.
//!
//! Decides: names, labels, capacity and allocatable of the Node. Does not: talk to anything.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Node;
use serde::Deserialize;
use serde_json::json;

use crate::core::market::catalog::{Architecture, MachineType};
use crate::core::market::reserve::NodeReserve;
use crate::core::units::{Mebibytes, Millicores};
use crate::core::workload::sharing::GpuSharing;

use super::control_plane::KUBELET_ON;
use super::user_data::Bootstrap;

/// The resource name of NVIDIA's device plugin.
pub const GPU: &str = "nvidia.com/gpu";

/// What an order to the simulator said about how a machine boots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BootOutcome {
    /// It joins, with its GPUs.
    #[default]
    Ok,
    /// It runs and is paid for, and no kubelet ever speaks up.
    NeverJoins,
    /// It joins, and the driver finds no GPU.
    NoGpus,
}

/// One instance as the simulator's `/_sim/state` tells it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct SimulatedInstance {
    /// As in `i-0123456789abcdef0`.
    #[serde(rename = "instance_id")]
    pub id: String,
    /// Its region.
    pub region: String,
    /// Its zone id.
    pub zone: String,
    /// Its type.
    pub instance_type: String,
    /// `spot` or `on-demand`.
    pub capacity_type: String,
    /// EC2's state name.
    pub state: String,
    /// Its private address, as EC2 describes it and its kubelet reports it.
    #[serde(default)]
    pub private_ip: String,
    /// The user data it was launched with, as EC2 carries it.
    #[serde(default, rename = "user_data_base64")]
    pub user_data: Option<String>,
    /// How it boots.
    #[serde(default)]
    pub boot_outcome: BootOutcome,
    /// Its tags.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
}

impl SimulatedInstance {
    /// The name its kubelet takes. The last segment of a providerID must not begin with `i-`: AWS' cloud controller manager would
    /// take the Node for one of its own and delete it.
    pub fn node_name(&self) -> String {
        format!("lt-{}", self.id.trim_start_matches("i-").to_lowercase())
    }
    /// What the join script's variables stand for on this machine: it asks the instance metadata service.
    fn filled(&self, text: &str) -> String {
        let values = [("$INSTANCE", &self.id), ("$ZONE", &self.zone), ("$REGION", &self.region), ("$TYPE", &self.instance_type)];
        values.iter().fold(text.to_owned(), |text, (variable, value)| text.replace(variable, value))
    }
    /// As in `lowtide://us-east-1/use1-az4/lt-i-0123456789abcdef0`: what the user data gives the kubelet; without that, the node's name.
    pub fn provider_id(&self, bootstrap: &Bootstrap) -> String {
        let given = bootstrap.instance_arguments.iter().find_map(|argument| argument.strip_prefix("provider-id="));
        given.map_or_else(|| format!("k3s://{}", self.node_name()), |text| self.filled(text))
    }
    /// Whether the machine runs.
    pub fn is_up(&self) -> bool {
        self.state == "running"
    }
    /// Whether the machine is off for good.
    pub fn is_gone(&self) -> bool {
        matches!(self.state.as_str(), "shutting-down" | "terminated")
    }
}

/// What a kubelet with these arguments keeps for itself. What it does not say is kept as EKS's images do: a bare kubelet keeps less.
fn reserve(arguments: &[String]) -> NodeReserve {
    let mut kept = NodeReserve::default();
    for (flag, value) in arguments.iter().filter_map(|argument| argument.split_once('=')) {
        let amount =
            |what: &str, unit: &str| value.split(',').find_map(|pair| pair.strip_prefix(what)?.strip_suffix(unit)?.parse::<i64>().ok());
        let (cpu, memory) = (amount("cpu=", "m").map(Millicores), amount("memory=", "Mi").map(Mebibytes));
        match flag {
            "max-pods" => kept.max_pods = value.parse().ok(),
            "kube-reserved" => (kept.kube_cpu, kept.kube_memory) = (cpu, memory),
            "system-reserved" => (kept.system_cpu, kept.system_memory) = (cpu.unwrap_or_default(), memory.unwrap_or_default()),
            _ => {}
        }
    }
    kept
}

/// The Node that this machine's kubelet registers.
pub fn node(instance: &SimulatedInstance, machine: &MachineType, bootstrap: &Bootstrap) -> Result<Node, serde_json::Error> {
    let architecture = match machine.architecture {
        Architecture::Amd64 => "amd64",
        Architecture::Arm64 => "arm64",
    };
    // The device plugin is set up as the node class says: the label stands for its configuration.
    let sharing = bootstrap.labels.get("lowtide.dev/gpu-sharing").and_then(|text| text.parse().ok()).unwrap_or_default();
    let units = GpuSharing { sharing, ..GpuSharing::default() }.units(machine).count;
    let gpus = if instance.boot_outcome == BootOutcome::NoGpus { 0 } else { units };
    // Besides these a kubelet sets only what follows: everything else a node has is from its user data.
    let mut labels = bootstrap.labels.clone();
    labels.extend(bootstrap.instance_labels.iter().map(|(key, value)| (key.clone(), instance.filled(value))));
    for (key, value) in [
        ("kubernetes.io/hostname", instance.node_name().as_str()),
        ("kubernetes.io/arch", architecture),
        ("kubernetes.io/os", "linux"),
        KUBELET_ON,
    ] {
        labels.insert(key.to_owned(), value.to_owned());
    }
    let taints: Vec<_> = bootstrap.taints.iter().map(|t| json!({"key": t.key, "value": t.value, "effect": t.effect})).collect();
    let kept = reserve(&bootstrap.kubelet_arguments);
    let free = machine.allocatable_of(&kept);
    // Kubelet's bound: 110 pods, on EKS 250 above 30 vCPUs; the same rule as in `NodeReserve::leaves`.
    let pods = kept.max_pods.unwrap_or(if machine.vcpus <= 30 { 110 } else { 250 }).to_string();
    serde_json::from_value(json!({
        "metadata": {
            "name": instance.node_name(),
            "labels": labels,
        },
        "spec": {"providerID": instance.provider_id(bootstrap), "taints": taints},
        "status": {
            "addresses": [
                {"type": "InternalIP", "address": instance.private_ip}, {"type": "Hostname", "address": instance.node_name()},
            ],
            "capacity": {"cpu": machine.vcpus.to_string(), "memory": format!("{}Mi", machine.memory.0), "pods": pods,
                "ephemeral-storage": format!("{}Mi", machine.capacity().disk.0), (GPU): gpus.to_string()},
            "allocatable": {"cpu": format!("{}m", free.cpu.0), "memory": format!("{}Mi", free.memory.0), "pods": pods,
                "ephemeral-storage": format!("{}Mi", free.disk.0), (GPU): gpus.to_string()},
            "nodeInfo": {
                "architecture": architecture, "operatingSystem": "linux", "osImage": "simulated", "kernelVersion": "", "machineID": instance.id,
                "systemUUID": "", "bootID": "", "containerRuntimeVersion": "kwok://0.8.0", "kubeletVersion": "v1.36.3", "kubeProxyVersion": "",
            },
        },
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance(outcome: &str) -> SimulatedInstance {
        let text = format!(
            r#"{{"instance_id":"i-0ABC","region":"eu-west-1","zone":"euw1-az2","instance_type":"g6.xlarge","capacity_type":"spot","state":"running","private_ip":"10.1.0.7",
                "boot_outcome":"{outcome}","tags":{{"lowtide-claim":"a"}},"launched_at":1}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    fn g6_xlarge() -> MachineType {
        MachineType {
            instance_type: "g6.xlarge".into(),
            gpu_model: "l4".into(),
            gpus: 1,
            gpu_memory: Mebibytes(22_888),
            vcpus: 4,
            memory: Mebibytes(16_384),
            architecture: Architecture::Amd64,
            spot_supported: true,
            instance_store: Mebibytes(238_418),
            volumes: 31,
        }
    }

    #[test]
    fn the_node_carries_place_capacity_and_what_the_user_data_said() {
        let instance_labels = [("topology.kubernetes.io/zone", "$ZONE"), ("node.kubernetes.io/instance-type", "$TYPE")];
        let bootstrap = Bootstrap {
            labels: BTreeMap::from([("lowtide.dev/pool".into(), "gpu".into())]),
            instance_labels: instance_labels.map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
            instance_arguments: vec!["provider-id=lowtide://$REGION/$ZONE/lt-$INSTANCE".into()],
            ..Bootstrap::default()
        };
        let node = serde_json::to_value(node(&instance("ok"), &g6_xlarge(), &bootstrap).unwrap()).unwrap();
        assert_eq!(node["spec"]["providerID"], "lowtide://eu-west-1/euw1-az2/lt-i-0ABC");
        assert_eq!(node["metadata"]["labels"]["node.kubernetes.io/instance-type"], "g6.xlarge");
        assert!(node["metadata"]["labels"].get("topology.k8s.aws/zone-id").is_none(), "the user data did not say it");
        assert_eq!(node["metadata"]["labels"]["topology.kubernetes.io/zone"], "euw1-az2");
        assert_eq!(node["metadata"]["labels"]["lowtide.dev/pool"], "gpu");
        assert_eq!(node["status"]["addresses"][0]["address"], "10.1.0.7", "as EC2 says");
        assert_eq!(node["status"]["capacity"][GPU], "1");
        assert_ne!(node["status"]["allocatable"]["memory"], node["status"]["capacity"]["memory"]);
    }

    #[test]
    fn what_the_user_data_reserves_is_not_allocatable() {
        let kubelet_arguments =
            ["max-pods=20", "kube-reserved=cpu=500m,memory=1000Mi", "system-reserved=cpu=100m"].map(str::to_owned).to_vec();
        let node = node(&instance("ok"), &g6_xlarge(), &Bootstrap { kubelet_arguments, ..Bootstrap::default() }).unwrap();
        let allocatable = node.status.unwrap().allocatable.unwrap();
        // 4,000 - 600; 16,384 - 1,229 - 1,000 - 100.
        assert_eq!(["cpu", "memory", "pods"].map(|what| allocatable[what].0.as_str()), ["3400m", "14055Mi", "20"]);
    }

    #[test]
    fn a_shared_gpu_is_advertised_as_often_as_it_is_shared() {
        let labels = BTreeMap::from([("lowtide.dev/gpu-sharing".to_owned(), "mps-4".to_owned())]);
        let node = node(&instance("ok"), &g6_xlarge(), &Bootstrap { labels, ..Bootstrap::default() }).unwrap();
        assert_eq!(node.status.unwrap().allocatable.unwrap()[GPU].0, "4");
    }

    #[test]
    fn a_machine_without_a_working_driver_joins_with_no_gpus() {
        let node = node(&instance("no-gpus"), &g6_xlarge(), &Bootstrap::default()).unwrap();
        let status = node.status.unwrap();
        assert_eq!(status.capacity.unwrap()[GPU].0, "0");
        assert_eq!(status.allocatable.unwrap()[GPU].0, "0");
    }
}
