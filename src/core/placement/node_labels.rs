//! Which labels the node of an offer will have, and whether they meet a pod's requirements.
//!
//! Decides: the value of every label of [`KNOWN_LABELS`] before a machine is bought, and which of them still have to be set on a node that
//! has joined. Does not: write anything.
//!
//! A zone has an id that means the same everywhere and a name that differs per account, and pods use either: both are the zone here, and
//! the node gets the form that its pods use. Karpenter's labels are present for pods that require them, and absent for pods that require
//! their absence: nothing else looks at them.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::core::fleet::Labelled;
use crate::core::market::catalog::{Architecture, MachineType};
use crate::core::market::{Capacity, CapacityType};
use crate::core::workload::labels::{LabelOperator, LabelRequirement, LabelTerm};
use crate::core::workload::need::Need;
use crate::core::workload::need::constraints::{
    self, CAPACITY_TYPE, EBS_ZONE, HOSTNAME, KARPENTER_CAPACITY_TYPE, KNOWN_LABELS, REGION, TYPE, ZONE, ZONE_ID,
};

/// What a node class determines about its nodes in one zone, as far as pods can see it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct ClassLabels {
    /// Labels that every node of the class gets.
    pub labels: BTreeMap<String, String>,
    /// The zone's name in this account; `None` if EC2 was not asked.
    pub zone_name: Option<String>,
    /// Taints that the class adds: key, value, effect.
    pub taints: Vec<(String, String, String)>,
}

/// The node of an offer, before it exists.
#[derive(Debug, Clone, Copy)]
pub struct ExpectedNode<'a> {
    /// What is bought, and where.
    pub capacity: &'a Capacity,
    /// What it is.
    pub machine: &'a MachineType,
    /// What its class adds.
    pub class: &'a ClassLabels,
}

/// How the nodes of a class share their GPUs. Discovery appends `-SHARED` to the name of a GPU that is shared in time.
const SHARING: &str = "lowtide.dev/gpu-sharing";

/// Labels whose value lowtide knows better than whoever wrote them: k3s' own controller writes `instance-type=k3s`.
const OURS_TO_CORRECT: [&str; 4] = [TYPE, REGION, ZONE, ZONE_ID];

impl<'a> ExpectedNode<'a> {
    /// Whether one of `terms` holds for the node.
    pub fn meets(&self, terms: &[LabelTerm]) -> bool {
        terms.is_empty() || terms.iter().any(|term| term.iter().all(|want| self.holds(want)))
    }

    fn holds(&self, want: &LabelRequirement) -> bool {
        match want.key.as_str() {
            ZONE | EBS_ZONE | constraints::BETA_ZONE => self.zone_holds(&want.operator),
            // Every node has one, and nobody knows it before.
            HOSTNAME => matches!(want.operator, LabelOperator::NotIn(_) | LabelOperator::Exists | LabelOperator::Other),
            key if key.starts_with("karpenter.") && want.operator == LabelOperator::DoesNotExist => true,
            key => want.operator.holds(self.value(key).as_deref()),
        }
    }

    fn zone_holds(&self, operator: &LabelOperator) -> bool {
        let id = self.capacity.zone.as_str();
        match (&self.class.zone_name, operator) {
            // Which zone a name means depends on the account; without an account, it may mean any zone of the region.
            (None, LabelOperator::In(any)) => {
                any.contains(id) || any.iter().any(|n| constraints::is_zone_name(n) && n.starts_with(self.capacity.region.as_str()))
            }
            (None, other) => other.holds(Some(id)),
            (Some(name), LabelOperator::NotIn(_)) => operator.holds(Some(id)) && operator.holds(Some(name)),
            (Some(name), _) => operator.holds(Some(id)) || operator.holds(Some(name)),
        }
    }

    /// The value of a label; `None` when the node will not have it.
    pub fn value(&self, key: &str) -> Option<Cow<'a, str>> {
        let (at, machine) = (self.capacity, self.machine);
        let said = |text: &'a str| Some(Cow::Borrowed(text));
        let number = |n: i64| Some(Cow::Owned(n.to_string()));
        let type_name = at.instance_type.as_str();
        let (family, size) = type_name.split_once('.').unwrap_or((type_name, ""));
        match key {
            REGION | constraints::BETA_REGION => said(at.region.as_str()),
            ZONE | ZONE_ID => said(at.zone.as_str()),
            EBS_ZONE | constraints::BETA_ZONE => self.class.zone_name.as_deref().map(Cow::Borrowed),
            constraints::ARCH | constraints::BETA_ARCH => said(match machine.architecture {
                Architecture::Amd64 => "amd64",
                Architecture::Arm64 => "arm64",
            }),
            constraints::OS | constraints::BETA_OS => said("linux"),
            TYPE | constraints::BETA_TYPE => said(type_name),
            CAPACITY_TYPE | KARPENTER_CAPACITY_TYPE => said(match at.capacity_type {
                CapacityType::Spot => "spot",
                CapacityType::OnDemand => "on-demand",
                CapacityType::Reserved => "reserved",
            }),
            "nvidia.com/gpu.present" => said("true"),
            // Of a partitioned GPU discovery reports the partitions, by names of their own.
            "nvidia.com/gpu.count" | "nvidia.com/gpu.memory" | "nvidia.com/gpu.product" if self.shared_as("mig") => None,
            "nvidia.com/gpu.count" | "karpenter.k8s.aws/instance-gpu-count" => number(machine.gpus),
            "nvidia.com/gpu.memory" | "karpenter.k8s.aws/instance-gpu-memory" => number(machine.gpu_memory.0),
            "nvidia.com/gpu.product" if self.class.labels.contains_key(SHARING) => {
                product(machine).map(|p| Cow::Owned(format!("{p}-SHARED")))
            }
            "nvidia.com/gpu.product" => product(machine).map(Cow::Borrowed),
            "nvidia.com/gpu.family" => compute_capability(machine).map(|(family, ..)| Cow::Borrowed(family)),
            "nvidia.com/gpu.compute.major" => compute_capability(machine).and_then(|(_, major, _)| number(major)),
            "nvidia.com/gpu.compute.minor" => compute_capability(machine).and_then(|(.., minor)| number(minor)),
            "karpenter.k8s.aws/instance-gpu-name" => said(machine.gpu_model.as_str()),
            "karpenter.k8s.aws/instance-gpu-manufacturer" => said("nvidia"),
            "karpenter.k8s.aws/instance-family" => said(family),
            "karpenter.k8s.aws/instance-size" => said(size),
            "karpenter.k8s.aws/instance-category" => said(family.split(|c: char| c.is_ascii_digit()).next().unwrap_or_default()),
            "karpenter.k8s.aws/instance-generation" => {
                let digits = family.trim_start_matches(|c: char| !c.is_ascii_digit());
                let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
                said(&digits[..end])
            }
            "karpenter.k8s.aws/instance-cpu" => number(machine.vcpus),
            "karpenter.k8s.aws/instance-memory" => number(machine.memory.0),
            other => self.class.labels.get(other).map(|v| Cow::Borrowed(v.as_str())),
        }
    }

    fn shared_as(&self, mode: &str) -> bool {
        self.class.labels.get(SHARING).is_some_and(|how| how.starts_with(mode))
    }

    /// The labels that a node with these `actual` labels still lacks for a pod of `need`; `None` when it cannot meet the need at all.
    pub fn lacking(&self, need: &Need, actual: &impl Labelled) -> Option<BTreeMap<String, String>> {
        let mut lacking = BTreeMap::new();
        let has = |key: &str| actual.label(key);
        if !need.instance_types.is_empty() && has(TYPE) != Some(self.capacity.instance_type.as_str()) {
            lacking.insert(TYPE.to_owned(), self.capacity.instance_type.to_string());
        }
        // The scheduler compares the label that the pod names: the id under another label is of no use to it.
        if !need.zones.is_empty() && !has(ZONE).is_some_and(|v| need.zones.iter().any(|z| z.as_str() == v)) {
            lacking.insert(ZONE.to_owned(), self.capacity.zone.to_string());
        }
        if need.node_terms.is_empty() {
            return Some(lacking);
        }
        let of_term = need.node_terms.iter().find_map(|term| self.lacking_for(term, actual))?;
        lacking.extend(of_term);
        Some(lacking)
    }

    fn lacking_for(&self, term: &LabelTerm, actual: &impl Labelled) -> Option<BTreeMap<String, String>> {
        let mut lacking = BTreeMap::new();
        for want in term {
            let now = actual.label(&want.key);
            if want.operator.holds(now) {
                continue;
            }
            let free = now.is_none() || OURS_TO_CORRECT.contains(&want.key.as_str());
            let may = free && (KNOWN_LABELS.contains(&want.key.as_str()) || self.class.labels.contains_key(&want.key));
            let zone = || [Some(self.capacity.zone.as_str()), self.class.zone_name.as_deref()].into_iter().flatten().map(Cow::Borrowed);
            let values: Vec<Cow<str>> = if matches!(want.key.as_str(), ZONE | EBS_ZONE | constraints::BETA_ZONE) {
                zone().collect()
            } else {
                self.value(&want.key).into_iter().collect()
            };
            let value = values.into_iter().find(|v| may && want.operator.holds(Some(v)))?;
            lacking.insert(want.key.clone(), value.into_owned());
        }
        Some(lacking)
    }
}

/// The family and the compute capability of a GPU, as NVIDIA's GPU feature discovery publishes them (`nvidia.com/gpu.family`,
/// `nvidia.com/gpu.compute.major` and `.minor`); `None` for a model that is not known here.
///
/// Source: NVIDIA, "CUDA GPU Compute Capability"; the families are those of GPU feature discovery.
pub fn compute_capability(machine: &MachineType) -> Option<(&'static str, i64, i64)> {
    Some(match machine.gpu_model.as_str() {
        "k80" => ("kepler", 3, 7),
        "m60" => ("maxwell", 5, 2),
        "v100" => ("volta", 7, 0),
        "t4" | "t4g" => ("turing", 7, 5),
        "a100" => ("ampere", 8, 0),
        "a10g" => ("ampere", 8, 6),
        "l4" | "l40s" => ("ada-lovelace", 8, 9),
        "h100" | "h200" => ("hopper", 9, 0),
        "b200" => ("blackwell", 10, 0),
        "b300" => ("blackwell", 10, 3),
        "rtx-pro-4500" | "rtx-pro-server-6000" => ("blackwell", 12, 0),
        _ => return None,
    })
}

/// The GPU's name in NVIDIA's GPU feature discovery; `None` for fractional GPUs, whose names are not known in advance.
///
/// Source: NVML's product names with spaces as dashes, as GPU feature discovery publishes them (`nvidia.com/gpu.product`).
pub fn product(machine: &MachineType) -> Option<&'static str> {
    let gib = machine.gpu_memory.0 / 1_024;
    Some(match (machine.gpu_model.as_str(), gib) {
        ("l4", 20..) => "NVIDIA-L4",
        ("l40s", _) => "NVIDIA-L40S",
        ("a10g", _) => "NVIDIA-A10G",
        ("t4", _) => "Tesla-T4",
        ("t4g", _) => "NVIDIA-T4G",
        ("v100", ..20) => "Tesla-V100-SXM2-16GB",
        ("v100", _) => "Tesla-V100-SXM2-32GB",
        ("a100", ..60) => "NVIDIA-A100-SXM4-40GB",
        ("a100", _) => "NVIDIA-A100-SXM4-80GB",
        ("h100", _) => "NVIDIA-H100-80GB-HBM3",
        ("h200", _) => "NVIDIA-H200",
        ("b200", _) => "NVIDIA-B200",
        ("m60", _) => "Tesla-M60",
        ("k80", _) => "Tesla-K80",
        ("k520", _) => "GRID-K520",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use crate::core::market::catalog::Catalog;
    use crate::core::placement::node_labels::*;
    use crate::core::workload::need::{PodManifest, parse};

    fn need(spec: &str) -> Need {
        let text = format!(
            r#"{{"metadata":{{"annotations":{{"lowtide.dev/workload":"inference"}}}},
                "spec":{{"containers":[{{"resources":{{"limits":{{"nvidia.com/gpu":1}}}}}}],{spec}}}}}"#
        );
        parse(&serde_json::from_str::<PodManifest>(&text).unwrap()).unwrap().0
    }

    fn types(spec: &str) -> Vec<String> {
        let (catalog, class, need) = (Catalog::snapshot(), ClassLabels::default(), need(spec));
        let capacity = |t: &MachineType| Capacity {
            region: "us-east-1".into(),
            zone: "use1-az4".into(),
            instance_type: t.instance_type.clone(),
            capacity_type: CapacityType::Spot,
        };
        let meets = |t: &&MachineType| ExpectedNode { capacity: &capacity(t), machine: t, class: &class }.meets(&need.node_terms);
        catalog.types.values().filter(meets).map(|t| t.instance_type.to_string()).collect()
    }

    fn affinity(terms: &str) -> String {
        format!(r#""affinity":{{"nodeAffinity":{{"requiredDuringSchedulingIgnoredDuringExecution":{{"nodeSelectorTerms":[{terms}]}}}}}}"#)
    }

    #[test]
    fn operators_alternatives_products_and_karpenters_labels_choose_types() {
        let all = Catalog::snapshot().types.len();
        let not_g4dn = types(&affinity(
            r#"{"matchExpressions":[{"key":"node.kubernetes.io/instance-type","operator":"NotIn","values":["g4dn.xlarge"]},
               {"key":"karpenter.k8s.aws/instance-gpu-memory","operator":"Gt","values":["20000"]},
               {"key":"karpenter.sh/capacity-type","operator":"DoesNotExist"}]}"#,
        ));
        assert!(not_g4dn.len() > 20 && not_g4dn.len() < all && not_g4dn.iter().all(|t| !t.starts_with("g4dn")), "{not_g4dn:?}");
        let two = types(&affinity(
            r#"{"matchExpressions":[{"key":"node.kubernetes.io/instance-type","operator":"In","values":["g6.xlarge"]}]},
               {"matchExpressions":[{"key":"node.kubernetes.io/instance-type","operator":"In","values":["g5.xlarge"]}]}"#,
        ));
        assert_eq!(two, ["g5.xlarge", "g6.xlarge"]);
        let l4 = types(r#""nodeSelector":{"nvidia.com/gpu.product":"NVIDIA-L4"}"#);
        assert!(l4.iter().all(|t| t.starts_with("g6.") || t.starts_with("gr6.")) && l4.len() == 10, "whole L4s only: {l4:?}");
        let bf16 = types(&affinity(r#"{"matchExpressions":[{"key":"nvidia.com/gpu.compute.major","operator":"Gt","values":["7"]}]}"#));
        assert!(bf16.len() > 40 && !bf16.iter().any(|t| ["g4dn", "g5g", "p3", "g3"].contains(&t.split('.').next().unwrap())), "{bf16:?}");
        assert_eq!(types(r#""nodeSelector":{"nvidia.com/gpu.family":"volta"}"#).len(), 4);
        assert_eq!(types(r#""nodeSelector":{"beta.kubernetes.io/instance-type":"g6.xlarge"}"#), ["g6.xlarge"]);
        assert_eq!(types(r#""nodeSelector":{"karpenter.k8s.aws/instance-family":"p5"}"#), ["p5.48xlarge", "p5.4xlarge"]);
    }

    #[test]
    fn a_shared_gpu_has_the_name_that_discovery_gives_it() {
        let catalog = Catalog::snapshot();
        let machine = &catalog.types[&crate::core::units::ids::InstanceType::from("g6.xlarge")];
        let (region, zone, instance_type) = ("us-east-1".into(), "use1-az4".into(), machine.instance_type.clone());
        let capacity = Capacity { region, zone, instance_type, capacity_type: CapacityType::Spot };
        let product = |mode: Option<&str>| {
            let labels = mode.map(|mode| (SHARING.to_owned(), mode.to_owned())).into_iter().collect();
            let class = ClassLabels { labels, ..ClassLabels::default() };
            ExpectedNode { capacity: &capacity, machine, class: &class }.value("nvidia.com/gpu.product").map(Cow::into_owned)
        };
        assert_eq!(product(None).as_deref(), Some("NVIDIA-L4"));
        assert_eq!(product(Some("time-slicing-4")).as_deref(), Some("NVIDIA-L4-SHARED"));
        assert_eq!(product(Some("mps-4")).as_deref(), Some("NVIDIA-L4-SHARED"));
        assert_eq!(product(Some("mig-7")), None, "partitions have names of their own");
    }

    /// EKS writes the name under Kubernetes' label and the id under its own: a pod is lifted only onto a node that has what it selects by.
    #[test]
    fn a_zone_id_counts_under_the_label_that_the_pod_names() {
        let catalog = Catalog::snapshot();
        let machine = &catalog.types[&crate::core::units::ids::InstanceType::from("g6.xlarge")];
        let (region, zone, instance_type) = ("us-east-1".into(), "use1-az4".into(), machine.instance_type.clone());
        let capacity = Capacity { region, zone, instance_type, capacity_type: CapacityType::Spot };
        let class = ClassLabels { zone_name: Some("us-east-1a".into()), ..ClassLabels::default() };
        let node = ExpectedNode { capacity: &capacity, machine, class: &class };
        let label = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let on_eks = BTreeMap::from([label(ZONE, "us-east-1a"), label(ZONE_ID, "use1-az4")]);
        let selects = |key: &str, id: &str| need(&format!(r#""nodeSelector":{{"{key}":"{id}"}}"#));
        assert_eq!(node.lacking(&selects(ZONE_ID, "use1-az4"), &on_eks), Some(BTreeMap::new()));
        assert_eq!(
            node.lacking(&selects(ZONE, "use1-az4"), &on_eks),
            Some([label(ZONE, "use1-az4")].into()),
            "the scheduler reads that label"
        );
        let only_zone = BTreeMap::from([label(ZONE, "use1-az4")]);
        assert_eq!(node.lacking(&selects(ZONE_ID, "use1-az4"), &only_zone), Some([label(ZONE_ID, "use1-az4")].into()));
        assert!(node.meets(&selects(ZONE_ID, "use1-az4").node_terms) && !node.meets(&selects(ZONE_ID, "use1-az6").node_terms));
    }

    #[test]
    fn a_zone_is_met_by_its_id_and_by_its_name_in_the_account_and_the_node_gets_the_form_that_was_asked() {
        let catalog = Catalog::snapshot();
        let machine = &catalog.types[&crate::core::units::ids::InstanceType::from("g6.xlarge")];
        let capacity = Capacity {
            region: "us-east-1".into(),
            zone: "use1-az4".into(),
            instance_type: machine.instance_type.clone(),
            capacity_type: CapacityType::Spot,
        };
        let class = ClassLabels { zone_name: Some("us-east-1a".into()), ..ClassLabels::default() };
        let node = ExpectedNode { capacity: &capacity, machine, class: &class };
        let zone = |value: &str| need(&format!(r#""nodeSelector":{{"topology.kubernetes.io/zone":"{value}"}}"#));
        assert!(node.meets(&zone("us-east-1a").node_terms) && !node.meets(&zone("us-east-1b").node_terms));
        let actual = BTreeMap::from([(ZONE.to_owned(), "use1-az4".to_owned()), (TYPE.to_owned(), "k3s".to_owned())]);
        assert_eq!(node.lacking(&zone("us-east-1a"), &actual), Some([(ZONE.to_owned(), "us-east-1a".to_owned())].into()));
        assert_eq!(node.lacking(&zone("use1-az4"), &actual), Some(BTreeMap::new()));
        assert_eq!(node.lacking(&zone("us-east-1b"), &actual), None);
        let typed = need(r#""nodeSelector":{"node.kubernetes.io/instance-type":"g6.xlarge"}"#);
        assert_eq!(node.lacking(&typed, &actual), Some([(TYPE.to_owned(), "g6.xlarge".to_owned())].into()));
        let product = need(r#""nodeSelector":{"nvidia.com/gpu.product":"NVIDIA-L4"}"#);
        let discovered = BTreeMap::from([("nvidia.com/gpu.product".to_owned(), "NVIDIA-L4-SHARED".to_owned())]);
        assert_eq!(node.lacking(&product, &discovered), None, "what discovery found is not overwritten");
        assert!(node.lacking(&product, &BTreeMap::new()).is_some_and(|l| l.len() == 1));
    }
}
