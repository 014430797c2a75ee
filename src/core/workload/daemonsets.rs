//! What DaemonSets take from each of our nodes.
//!
//! Decides: whether a DaemonSet will run on the nodes of a class, from its node selector, its required node affinity and its tolerations, and what
//! all of them request together.
//! Does not: count a DaemonSet that the taints of our nodes keep off. Whoever may make one in some namespace could otherwise raise or stop
//! everybody's purchases; on a node that carries no taint, as of lowtide 0.1, what it takes is not foreseen.

use std::collections::BTreeMap;

use super::company::tolerates;
pub use super::labels::{LabelOperator, LabelRequirement};
use super::need::Toleration;
use super::need::constraints::PIN;
use crate::core::units::{Mebibytes, Millicores, Resources};

/// A DaemonSet in the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DaemonSet {
    /// Namespace and name.
    pub name: String,
    /// What its pod requests.
    pub requests: Resources,
    /// Its node selector.
    pub node_selector: BTreeMap<String, String>,
    /// Its required node affinity: any term suffices, all requirements of a term must hold. Empty requires nothing.
    pub affinity: Vec<Vec<LabelRequirement>>,
    /// What its pod template tolerates; the DaemonSet controller adds tolerations of `node.kubernetes.io/` alone.
    pub tolerations: Vec<Toleration>,
}

/// Key, value and effect of a taint.
pub type Taint = (String, String, String);

/// The taints that every node of ours registers with. The value of the second is the name of its claim: no toleration can name it before.
const OF_OUR_NODES: [(&str, &str, &str); 2] =
    [("nvidia.com/gpu", "present", "NoSchedule"), ("lowtide.dev/claim", "the name of its claim", "NoSchedule")];

/// Labels that NVIDIA's own discovery puts on GPU nodes after they joined: if any nodes have them, lowtide's do.
const DISCOVERED: [&str; 2] = ["nvidia.com/", "feature.node.kubernetes.io/"];
/// Labels whose value depends on the machine: they are assumed present, and every value to match.
const OF_THE_MACHINE: [&str; 6] = [
    "node.kubernetes.io/instance-type",
    "topology.kubernetes.io/zone",
    "kubernetes.io/arch",
    "kubernetes.io/hostname",
    "lowtide.dev/instance-id",
    PIN,
];

impl DaemonSet {
    /// Whether it will run on nodes of ours with these `labels` and, besides those that all have, these `taints`.
    pub fn runs_on(&self, labels: &BTreeMap<String, String>, taints: &[Taint]) -> bool {
        let of_class = taints.iter().map(|(key, value, effect)| (key.as_str(), value.as_str(), effect.as_str()));
        let mut hard = OF_OUR_NODES.into_iter().chain(of_class).filter(|(.., effect)| *effect != "PreferNoSchedule");
        hard.all(|(key, value, effect)| tolerates(&self.tolerations, key, value, effect)) && self.is_selected(labels)
    }

    fn is_selected(&self, labels: &BTreeMap<String, String>) -> bool {
        let selected = self.node_selector.iter().all(|(key, value)| holds(labels, key, &LabelOperator::In([value.clone()].into())));
        let term_holds = |term: &Vec<LabelRequirement>| term.iter().all(|r| holds(labels, &r.key, &r.operator));
        selected && (self.affinity.is_empty() || self.affinity.iter().any(term_holds))
    }
}

fn holds(labels: &BTreeMap<String, String>, key: &str, operator: &LabelOperator) -> bool {
    if *operator == LabelOperator::Other || OF_THE_MACHINE.contains(&key) || DISCOVERED.iter().any(|prefix| key.starts_with(prefix)) {
        return *operator != LabelOperator::DoesNotExist;
    }
    operator.holds(labels.get(key).map(String::as_str))
}

/// What all `daemonsets` that run on nodes of ours with these `labels` and `taints` request.
pub fn overhead(daemonsets: &[DaemonSet], labels: &BTreeMap<String, String>, taints: &[Taint]) -> Resources {
    let mut sum = Resources::default();
    for set in daemonsets.iter().filter(|set| set.runs_on(labels, taints)) {
        sum.cpu = Millicores(sum.cpu.0 + set.requests.cpu.0);
        sum.memory = Mebibytes(sum.memory.0 + set.requests.memory.0);
        sum.gpus += set.requests.gpus;
        sum.disk = Mebibytes(sum.disk.0 + set.requests.disk.0);
    }
    sum
}

#[cfg(test)]
mod tests {
    use crate::core::workload::daemonsets::*;

    fn set(selector: &[(&str, &str)], affinity: Vec<Vec<(&str, LabelOperator)>>) -> DaemonSet {
        let requirement = |(key, operator): (&str, LabelOperator)| LabelRequirement { key: key.into(), operator };
        DaemonSet {
            name: "kube-system/x".into(),
            requests: Resources { cpu: Millicores(100), memory: Mebibytes(200), ..Resources::default() },
            node_selector: selector.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect(),
            affinity: affinity.into_iter().map(|term| term.into_iter().map(requirement).collect()).collect(),
            tolerations: vec![tolerating(None, "Exists", None)],
        }
    }

    fn tolerating(key: Option<&str>, operator: &str, value: Option<&str>) -> Toleration {
        let text = |text: &str| text.to_owned();
        Toleration { key: key.map(text), operator: Some(text(operator)), value: value.map(text), effect: None }
    }

    /// An owner with `edit` in some namespace must not weigh on what everybody buys.
    #[test]
    fn a_daemonset_that_the_taints_of_our_nodes_keep_off_counts_nowhere() {
        let exists = |key| tolerating(Some(key), "Exists", None);
        let (gpu, claim, team) = (exists("nvidia.com/gpu"), exists("lowtide.dev/claim"), exists("team"));
        let taint = |effect: &str| vec![("team".to_owned(), "ml".to_owned(), effect.to_owned())];
        for (tolerations, taints, runs) in [
            (vec![], vec![], false),
            (vec![gpu.clone()], vec![], false),
            (vec![claim.clone()], vec![], false),
            (vec![exists("node.kubernetes.io/not-ready")], vec![], false),
            (vec![gpu.clone(), claim.clone()], vec![], true),
            (vec![tolerating(Some("nvidia.com/gpu"), "Equal", Some("present")), claim.clone()], vec![], true),
            (vec![gpu.clone(), tolerating(Some("lowtide.dev/claim"), "Equal", Some("none-yet"))], vec![], false),
            (vec![tolerating(None, "Exists", None)], taint("NoExecute"), true),
            (vec![gpu.clone(), claim.clone()], taint("NoSchedule"), false),
            (vec![gpu.clone(), claim.clone()], taint("PreferNoSchedule"), true),
            (vec![gpu, claim, team], taint("NoSchedule"), true),
        ] {
            let set = DaemonSet { tolerations, ..set(&[], vec![]) };
            assert_eq!(set.runs_on(&BTreeMap::new(), &taints), runs, "{:?} {taints:?}", set.tolerations);
            let counted = overhead(&[set], &BTreeMap::new(), &taints);
            assert_eq!(counted.cpu, Millicores(if runs { 100 } else { 0 }));
        }
    }

    #[test]
    fn what_will_run_on_our_nodes_counts_and_nothing_else() {
        let labels = [("kubernetes.io/os", "linux"), ("lowtide.dev/node-class", "us"), ("tier", "gpu")];
        let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        let one_of = |values: &[&str]| LabelOperator::In(values.iter().map(|v| (*v).to_owned()).collect());
        for (set, runs) in [
            (set(&[], vec![]), true),
            (set(&[("kubernetes.io/os", "linux")], vec![]), true),
            (set(&[("kubernetes.io/os", "windows")], vec![]), false),
            (set(&[("role", "ingress")], vec![]), false),
            (set(&[("nvidia.com/gpu.present", "true")], vec![]), true),
            (set(&[], vec![vec![("tier", one_of(&["gpu"]))], vec![("role", LabelOperator::Exists)]]), true),
            (set(&[], vec![vec![("tier", one_of(&["cpu"]))]]), false),
            (set(&[], vec![vec![("eks.amazonaws.com/compute-type", LabelOperator::NotIn(["fargate".to_owned()].into()))]]), true),
            (set(&[], vec![vec![("tier", LabelOperator::DoesNotExist)]]), false),
            (set(&[], vec![vec![("kubernetes.io/arch", one_of(&["arm64"])), ("cores", LabelOperator::Other)]]), true),
            (set(&[], vec![vec![("nvidia.com/gpu.present", LabelOperator::DoesNotExist)]]), false),
            (set(&[], vec![vec![("lowtide.dev/node-class", LabelOperator::DoesNotExist)]]), false),
            (set(&[], vec![vec![(PIN, LabelOperator::DoesNotExist)]]), false),
        ] {
            assert_eq!(set.runs_on(&labels, &[]), runs, "{set:?}");
        }
        let all = [set(&[], vec![]), set(&[("tier", "gpu")], vec![]), set(&[("role", "ingress")], vec![])];
        assert_eq!(overhead(&all, &labels, &[]), Resources { cpu: Millicores(200), memory: Mebibytes(400), ..Resources::default() });
    }
}
