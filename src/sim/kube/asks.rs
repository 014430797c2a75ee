//! What a pod asks of the cluster, as the simulated scheduler and the checks read it from the pod's manifest.
//!
//! Decides: how the JSON that this world's people write is understood. It shares no code with lowtide's own reader: what the two read
//! differently breaks an invariant.
//! Does not: judge a node (see [`super::scheduler`]), or understand more of Kubernetes than is drawn here.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::core::fleet::Labelled;
use crate::core::units::money::MicroUsdPerHour;
use crate::core::units::{Mebibytes, Millicores, Resources};

/// A requirement on a label of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The label.
    pub key: String,
    /// One of `values`, or none of them.
    pub one_of: bool,
    /// The values.
    pub values: Vec<String>,
}

impl Wanted {
    /// Whether a node with these labels has what is wanted.
    pub fn holds(&self, labels: &impl Labelled) -> bool {
        labels.label(&self.key).is_some_and(|have| self.values.iter().any(|value| value == have)) == self.one_of
    }
}

/// Pods with these labels, within the domain of a node's label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Others {
    /// The node's label: `kubernetes.io/hostname`, a zone, a region.
    pub domain: String,
    /// The labels of the other pods.
    pub labels: BTreeMap<String, String>,
    /// `maxSkew` of a spread; 0 for an anti-affinity.
    pub max_skew: i64,
}

impl Others {
    /// Whether a pod with these labels is meant.
    pub fn selects(&self, labels: &BTreeMap<String, String>) -> bool {
        self.labels.iter().all(|(key, value)| labels.get(key) == Some(value))
    }
}

/// What a pod asks for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Asks {
    /// CPU, memory, GPUs and disk.
    pub resources: Resources,
    /// `lowtide.dev/gpu-memory`.
    pub gpu_memory: Mebibytes,
    /// `lowtide.dev/regions`.
    pub regions: Vec<String>,
    /// `lowtide.dev/capacity`; empty is spot first.
    pub capacity: String,
    /// `lowtide.dev/max-price-per-gpu-hour`.
    pub cap: Option<MicroUsdPerHour>,
    /// `lowtide.dev/spares`.
    pub spares: usize,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Alternatives of labels that its node must have: all of one of them.
    pub node: Vec<Vec<Wanted>>,
    /// Pods it must be away from.
    pub apart: Vec<Others>,
    /// Pods it must be spread with.
    pub spread: Vec<Others>,
    /// Ports of the host.
    pub ports: Vec<i64>,
    /// PersistentVolumeClaims that it mounts.
    pub claims: Vec<String>,
    /// Keys of taints that it tolerates, with the value where one is named.
    pub tolerates: Vec<(String, Option<String>)>,
}

impl Asks {
    /// Reads a pod, or a pod template.
    pub fn of(manifest: &Value) -> Asks {
        let (meta, spec) = (&manifest["metadata"], &manifest["spec"]);
        let note = |key: &str| meta["annotations"][format!("lowtide.dev/{key}")].as_str();
        let affinity = &spec["affinity"];
        let required = |of: &'static str| list(&affinity[of]["requiredDuringSchedulingIgnoredDuringExecution"]);
        let ports = list(&spec["containers"]).flat_map(|c| list(&c["ports"])).filter_map(|p| p["hostPort"].as_i64());
        let claims = list(&spec["volumes"]).filter_map(|v| v["persistentVolumeClaim"]["claimName"].as_str());
        let toleration = |t: &Value| Some((t["key"].as_str()?.to_owned(), t["value"].as_str().map(str::to_owned)));
        Asks {
            resources: resources(spec),
            gpu_memory: note("gpu-memory").map_or(Mebibytes(0), mebibytes),
            regions: note("regions").map_or_else(Vec::new, |text| text.split(',').map(str::to_owned).collect()),
            capacity: note("capacity").unwrap_or_default().to_owned(),
            cap: note("max-price-per-gpu-hour").and_then(|text| text.parse().ok()),
            spares: note("spares").and_then(|text| text.parse().ok()).unwrap_or(0),
            labels: labels(&meta["labels"]),
            node: of_node(spec),
            apart: required("podAntiAffinity").map(|term| others(term, 0)).collect(),
            spread: list(&spec["topologySpreadConstraints"])
                .filter(|c| c["whenUnsatisfiable"] == "DoNotSchedule")
                .map(|c| others(c, c["maxSkew"].as_i64().unwrap_or(1)))
                .collect(),
            ports: ports.collect(),
            claims: claims.map(str::to_owned).collect(),
            tolerates: list(&spec["tolerations"]).filter_map(toleration).collect(),
        }
    }

    /// It takes spot and accepts on-demand.
    pub fn is_spot_first(&self) -> bool {
        self.capacity.is_empty() || self.capacity == "spot-first"
    }

    /// Whether its annotation allows a region.
    pub fn allows_region(&self, region: &str) -> bool {
        let meets = |pattern: &String| pattern.strip_suffix('*').map_or(pattern == region, |head| region.starts_with(head));
        self.regions.is_empty() || self.regions.iter().any(meets)
    }

    /// Whether a node with these labels has what its node selector and node affinity want.
    pub fn takes_node(&self, has: &impl Labelled) -> bool {
        self.node.is_empty() || self.node.iter().any(|term| term.iter().all(|wanted| wanted.holds(has)))
    }

    /// The same without the labels that only lowtide asks for and a machine has once it is claimed.
    pub fn without_pin(&self) -> Asks {
        let mut asks = self.clone();
        asks.node.iter_mut().for_each(|term| term.retain(|wanted| wanted.key != PIN));
        asks
    }
}

/// The label by which lowtide pins a pod to its claim's node.
pub const PIN: &str = "lowtide.node-restriction.kubernetes.io/claim";

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn labels(value: &Value) -> BTreeMap<String, String> {
    let pairs = value.as_object().into_iter().flatten();
    pairs.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}

fn others(term: &Value, max_skew: i64) -> Others {
    let domain = term["topologyKey"].as_str().unwrap_or_default().to_owned();
    Others { domain, labels: labels(&term["labelSelector"]["matchLabels"]), max_skew }
}

/// Every alternative of the node affinity, each with the node selector.
fn of_node(spec: &Value) -> Vec<Vec<Wanted>> {
    let selected: Vec<Wanted> =
        labels(&spec["nodeSelector"]).into_iter().map(|(key, value)| Wanted { key, one_of: true, values: vec![value] }).collect();
    let wanted = |e: &Value| Wanted {
        key: e["key"].as_str().unwrap_or_default().to_owned(),
        one_of: e["operator"] == "In",
        values: list(&e["values"]).filter_map(|v| v.as_str().map(str::to_owned)).collect(),
    };
    let required = &spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"];
    let terms = list(required).map(|term| selected.iter().cloned().chain(list(&term["matchExpressions"]).map(wanted)).collect());
    let terms: Vec<Vec<Wanted>> = terms.collect();
    if terms.is_empty() && !selected.is_empty() { vec![selected] } else { terms }
}

fn resources(spec: &Value) -> Resources {
    let sum = |name: &'static str, read: fn(&str) -> i64| -> i64 {
        let of = |c: &Value| c["resources"]["requests"][name].as_str().or_else(|| c["resources"]["limits"][name].as_str()).map_or(0, read);
        list(&spec["containers"]).map(of).sum()
    };
    Resources {
        cpu: Millicores(sum("cpu", |text| text.strip_suffix('m').and_then(|n| n.parse().ok()).unwrap_or(0))),
        memory: Mebibytes(sum("memory", |text| mebibytes(text).0)),
        gpus: sum("nvidia.com/gpu", |text| text.parse().unwrap_or(0)),
        disk: Mebibytes(sum("ephemeral-storage", |text| mebibytes(text).0)),
        volumes: 0,
    }
}

/// `512Mi` or `20Gi`.
fn mebibytes(text: &str) -> Mebibytes {
    let number = |unit: &str| text.strip_suffix(unit).and_then(|n| n.parse::<i64>().ok());
    Mebibytes(number("Mi").or_else(|| number("Gi").map(|gib| gib * 1_024)).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_manifest_is_read_as_it_was_written() {
        let asks = Asks::of(&json!({
            "metadata": { "labels": { "app": "chat" }, "annotations": { "lowtide.dev/gpu-memory": "20Gi", "lowtide.dev/regions": "us-*,eu-south-2" } },
            "spec": {
                "nodeSelector": { "topology.kubernetes.io/zone": "use1-az2" },
                "affinity": {
                    "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": { "nodeSelectorTerms": [
                        { "matchExpressions": [{ "key": "node.kubernetes.io/instance-type", "operator": "NotIn", "values": ["g5.xlarge"] }] }] } },
                    "podAntiAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": [
                        { "topologyKey": "kubernetes.io/hostname", "labelSelector": { "matchLabels": { "app": "chat" } } }] } },
                "containers": [{ "ports": [{ "hostPort": 8_080 }], "resources": {
                    "limits": { "nvidia.com/gpu": "1" }, "requests": { "cpu": "2500m", "memory": "10240Mi", "ephemeral-storage": "30Gi" } } }],
                "volumes": [{ "name": "w", "persistentVolumeClaim": { "claimName": "weights" } }, { "name": "e", "emptyDir": {} }],
            },
        }));
        let resources = Resources { cpu: Millicores(2_500), memory: Mebibytes(10_240), gpus: 1, disk: Mebibytes(30_720), volumes: 0 };
        assert_eq!(
            (asks.resources, asks.gpu_memory, &*asks.ports, &*asks.claims),
            (resources, Mebibytes(20_480), &[8_080][..], &["weights".to_owned()][..])
        );
        let node = |zone: &str, kind: &str| -> BTreeMap<String, String> {
            [("topology.kubernetes.io/zone", zone), ("node.kubernetes.io/instance-type", kind)]
                .map(|(k, v)| (k.to_owned(), v.to_owned()))
                .into()
        };
        assert!(asks.takes_node(&node("use1-az2", "g6.xlarge")) && !asks.takes_node(&node("use1-az2", "g5.xlarge")));
        assert!(!asks.takes_node(&node("use1-az4", "g6.xlarge")) && asks.is_spot_first());
        assert!(asks.allows_region("us-east-2") && asks.allows_region("eu-south-2") && !asks.allows_region("eu-west-1"));
        assert!(asks.apart[0].selects(&asks.labels) && asks.spread.is_empty());
    }
}
