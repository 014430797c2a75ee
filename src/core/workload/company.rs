//! Which pods may run together: affinity and anti-affinity between pods, topology spread, host ports; and who goes first.
//!
//! Decides: which of these rules are honoured, and that every other hard one is refused with a message.
//! Does not: choose machines (see `placement`), or read rules about the node itself (see `need::constraints`).

use std::collections::{BTreeMap, BTreeSet};

pub use super::between::{Company, Domain};
use super::between::{DOMAINS, company, revision, spread_pods};
use super::labels::PodSelector;
use super::need::constraints::{HOSTNAME, REGION, ZONE, ZONE_ID, refuse};
use super::need::{NeedError, PodAffinityTerm, PodManifest, PodSpec, Toleration, TopologySpreadConstraint};
use super::pod_reader::NamespaceLabels;
use super::preferences::Preferences;
use super::volumes::PodVolumes;
use crate::core::units::shared::Shared;

/// A hard topology spread constraint.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Spread {
    /// The domain.
    pub domain: Domain,
    /// `maxSkew`, at least 1.
    pub max_skew: i64,
    /// `minDomains`: below this the emptiest domain counts as empty. With `nodeAffinityPolicy: Ignore` every node of the cluster is a domain,
    /// also those that hold no such pod: then the emptiest always counts as empty.
    pub min_domains: i64,
    /// Which pods count; `None` counts the replicas of the pod's workload.
    pub pods: Option<PodSelector>,
    /// The values of `matchLabelKeys`: replicas of another revision do not count.
    pub revision: String,
}

/// A pod's rules, besides what it needs from the node.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct PodRules {
    /// Its labels: what others' rules look at.
    pub labels: BTreeMap<String, String>,
    /// Required anti-affinity.
    pub apart: Vec<Company>,
    /// Required affinity.
    pub together: Vec<Company>,
    /// Hard topology spread.
    pub spread: Vec<Spread>,
    /// Host ports that it takes, e.g. `TCP/8080`.
    pub host_ports: BTreeSet<String>,
    /// Taints it tolerates.
    pub tolerations: Vec<Toleration>,
    /// The value of its PriorityClass; higher goes first.
    pub priority: i64,
    /// Its volumes.
    pub volumes: PodVolumes,
    /// What it prefers: breaks ties.
    pub prefers: Preferences,
    /// Labels that its node must have for these rules to be evaluated, besides those of every node.
    pub node_labels: BTreeSet<String>,
}

impl PodRules {
    /// The rules of a pod or pod template, and a fault for each hard one that is not honoured. Without labels of namespaces a rule that selects
    /// namespaces by them selects none.
    pub fn read(manifest: &PodManifest, namespaces: &NamespaceLabels) -> (Shared<PodRules>, Vec<NeedError>) {
        let (spec, mut faults) = (&manifest.spec, Vec::new());
        let affinity = spec.affinity.clone().unwrap_or_default();
        let mut between = |name: &str, terms: Vec<PodAffinityTerm>| -> Vec<Company> {
            let path = format!("spec.affinity.{name}.requiredDuringSchedulingIgnoredDuringExecution");
            terms.iter().filter_map(|term| company((manifest, namespaces), term, &path, &mut faults)).collect()
        };
        let together = affinity.pod_affinity.unwrap_or_default().required_during_scheduling_ignored_during_execution;
        let apart = affinity.pod_anti_affinity.unwrap_or_default().required_during_scheduling_ignored_during_execution;
        let (together, apart) = (between("podAffinity", together), between("podAntiAffinity", apart));
        let spread = spreads(manifest, &mut faults);
        let of_pods = together_keys(spec).chain(spec.topology_spread_constraints.iter().filter(|c| is_hard(c)).map(|c| &c.topology_key));
        let node_labels = of_pods.filter(|key| !EVERYWHERE.contains(&key.as_str())).cloned().collect();
        let rules = PodRules {
            labels: manifest.metadata.labels.clone(),
            apart,
            together,
            spread,
            host_ports: host_ports(spec),
            tolerations: spec.tolerations.clone(),
            priority: spec.priority.unwrap_or(0),
            volumes: PodVolumes::default(),
            prefers: Preferences::read(manifest, namespaces),
            node_labels,
        };
        (rules.into(), faults)
    }

    /// Pods that it does not share a machine with: by anti-affinity, since a machine is in one zone, one region and of one capacity type; or by a
    /// spread that allows one of them on each.
    pub fn alone_on_machine(&self) -> impl Iterator<Item = &PodSelector> {
        let apart = self.apart.iter().map(|c| &c.pods);
        apart.chain(self.bounded_on_machine().filter(|s| s.max_skew == 1).filter_map(|s| s.pods.as_ref()))
    }

    /// Hard spreads that bound how many of their pods one machine may hold: those over machines, since a machine that could be bought is always
    /// empty; and those whose emptiest domain counts as empty, since a pod that is pinned to a machine has no other domain.
    pub fn bounded_on_machine(&self) -> impl Iterator<Item = &Spread> {
        self.spread.iter().filter(|s| s.domain == Domain::Machine || s.min_domains > 1)
    }

    /// Hard spreads over parts of the market.
    pub fn area_spreads(&self) -> impl Iterator<Item = &Spread> {
        self.spread.iter().filter(|s| s.domain != Domain::Machine)
    }

    /// The strictest hard spread over zones.
    pub fn zone_spread(&self) -> Option<&Spread> {
        self.spread.iter().filter(|s| s.domain == Domain::Zone).min_by_key(|s| s.max_skew)
    }

    /// At most this many replicas on one machine, by hard spread.
    pub fn most_per_machine(&self) -> Option<i64> {
        self.bounded_on_machine().map(|s| s.max_skew).min()
    }
}

/// Topology keys that are labels of every node of ours.
const EVERYWHERE: [&str; 4] = [HOSTNAME, ZONE, ZONE_ID, REGION];

fn together_keys(spec: &PodSpec) -> impl Iterator<Item = &String> {
    let affinity = spec.affinity.as_ref();
    let near = affinity.and_then(|a| a.pod_affinity.as_ref()).map(|a| &a.required_during_scheduling_ignored_during_execution);
    let apart = affinity.and_then(|a| a.pod_anti_affinity.as_ref()).map(|a| &a.required_during_scheduling_ignored_during_execution);
    near.into_iter().chain(apart).flatten().map(|term| &term.topology_key)
}

/// Host ports. With `hostNetwork` every port of a container is one: the API server writes `hostPort` there itself.
fn host_ports(spec: &PodSpec) -> BTreeSet<String> {
    let ports = spec.containers.iter().chain(&spec.init_containers).flat_map(|c| &c.ports);
    let taken = ports.filter_map(|port| {
        let number = port.host_port.filter(|n| *n > 0).or(port.container_port.filter(|_| spec.host_network))?;
        Some(format!("{}/{number}", port.protocol.as_deref().unwrap_or("TCP")))
    });
    taken.collect()
}

fn is_hard(constraint: &TopologySpreadConstraint) -> bool {
    constraint.when_unsatisfiable != "ScheduleAnyway"
}

fn spreads(manifest: &PodManifest, faults: &mut Vec<NeedError>) -> Vec<Spread> {
    let mut read = Vec::new();
    let hard = manifest.spec.topology_spread_constraints.iter().enumerate().filter(|(_, c)| is_hard(c));
    for (index, constraint) in hard {
        let path = format!("spec.topologySpreadConstraints[{index}]");
        let Some(domain) = Domain::of_label(&constraint.topology_key) else {
            refuse(
                faults,
                &path,
                &format!("spreads over {}", constraint.topology_key),
                &DOMAINS.replace("make it preferred", "use ScheduleAnyway"),
            );
            continue;
        };
        if constraint.max_skew < 1 {
            let what = format!("has maxSkew {}", constraint.max_skew);
            refuse(faults, &path, &what, "set maxSkew to at least 1, as Kubernetes requires");
            continue;
        }
        let pods = spread_pods(manifest, constraint, &path, faults);
        let revision = revision(manifest, constraint).map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",");
        let everywhere = constraint.node_affinity_policy.as_deref() == Some("Ignore");
        let min_domains = if everywhere { i64::MAX } else { constraint.min_domains.unwrap_or(1).max(1) };
        read.push(Spread { domain, max_skew: constraint.max_skew, min_domains, pods, revision });
    }
    read
}

/// Whether one of `tolerations` tolerates a taint.
///
/// Source: Kubernetes, "Taints and Tolerations": an empty key with `Exists` tolerates everything, an empty effect every effect.
pub fn tolerates(tolerations: &[Toleration], key: &str, value: &str, effect: &str) -> bool {
    tolerations.iter().any(|t| {
        let exists = t.operator.as_deref() == Some("Exists");
        let key_ok = match t.key.as_deref().unwrap_or_default() {
            "" => exists,
            named => named == key,
        };
        let effect_ok = t.effect.as_deref().is_none_or(|e| e.is_empty() || e == effect);
        key_ok && effect_ok && (exists || t.value.as_deref().unwrap_or_default() == value)
    })
}

#[cfg(test)]
mod tests {
    use crate::core::workload::company::*;

    fn read(spec: &str) -> (Shared<PodRules>, Vec<NeedError>) {
        let manifest = format!(r#"{{"metadata":{{"namespace":"ml","labels":{{"app":"web","pod-template-hash":"7d"}}}},"spec":{spec}}}"#);
        PodRules::read(&serde_json::from_str(&manifest).unwrap(), &NamespaceLabels::new())
    }

    #[test]
    fn anti_affinity_and_spread_over_machines_and_zones_are_read() {
        let (rules, faults) = read(
            r#"{"affinity":{"podAntiAffinity":{"requiredDuringSchedulingIgnoredDuringExecution":[
                  {"topologyKey":"kubernetes.io/hostname","labelSelector":{"matchLabels":{"app":"web"}}}]}},
               "topologySpreadConstraints":[
                 {"maxSkew":1,"topologyKey":"topology.kubernetes.io/zone","whenUnsatisfiable":"DoNotSchedule","minDomains":2,
                  "matchLabelKeys":["pod-template-hash"],"labelSelector":{"matchLabels":{"app":"web"}}},
                 {"maxSkew":2,"topologyKey":"kubernetes.io/hostname","whenUnsatisfiable":"DoNotSchedule"},
                 {"maxSkew":1,"topologyKey":"rack","whenUnsatisfiable":"ScheduleAnyway"}]}"#,
        );
        assert!(faults.is_empty(), "{faults:?}");
        assert_eq!(
            (rules.apart.len(), rules.apart[0].domain, rules.most_per_machine()),
            (1, Domain::Machine, Some(1)),
            "minDomains bounds each machine"
        );
        assert!(rules.apart[0].pods.selects("ml", &rules.labels) && !rules.apart[0].pods.selects("other", &rules.labels));
        let zones = rules.zone_spread().unwrap();
        assert_eq!((zones.max_skew, zones.min_domains, zones.revision.as_str()), (1, 2, "pod-template-hash=7d"));
        let mut old = rules.labels.clone();
        old.insert("pod-template-hash".into(), "6c".into());
        assert!(!zones.pods.as_ref().unwrap().selects("ml", &old), "replicas of the old revision do not count");
    }

    #[test]
    fn what_is_not_honoured_is_refused() {
        for spec in [
            r#"{"topologySpreadConstraints":[{"maxSkew":1,"topologyKey":"rack","whenUnsatisfiable":"DoNotSchedule"}]}"#,
            r#"{"topologySpreadConstraints":[{"maxSkew":0,"topologyKey":"topology.kubernetes.io/zone","whenUnsatisfiable":"DoNotSchedule"}]}"#,
            r#"{"affinity":{"podAffinity":{"requiredDuringSchedulingIgnoredDuringExecution":[{"topologyKey":"rack","labelSelector":{}}]}}}"#,
        ] {
            assert_eq!(read(spec).1.len(), 1, "{spec}");
        }
    }

    #[test]
    fn every_domain_that_a_bought_node_tells_is_honoured_and_the_node_gets_the_label() {
        let spec = |key: &str| {
            format!(
                r#"{{"topologySpreadConstraints":[{{"maxSkew":2,"topologyKey":"{key}","whenUnsatisfiable":"DoNotSchedule","labelSelector":{{}}}}]}}"#
            )
        };
        for (key, domain, labels) in [
            ("kubernetes.io/hostname", Domain::Machine, 0),
            ("topology.kubernetes.io/zone", Domain::Zone, 0),
            ("topology.ebs.csi.aws.com/zone", Domain::Zone, 1),
            ("topology.kubernetes.io/region", Domain::Region, 0),
            ("lowtide.dev/capacity-type", Domain::CapacityType, 1),
            ("karpenter.sh/capacity-type", Domain::CapacityType, 1),
        ] {
            let (rules, faults) = read(&spec(key));
            assert!(faults.is_empty(), "{faults:?}");
            assert_eq!((rules.spread[0].domain, rules.node_labels.len()), (domain, labels), "{key}");
        }
    }

    #[test]
    fn who_keeps_others_out_of_its_zone_keeps_them_off_its_machine() {
        let (rules, _) = read(
            r#"{"affinity":{"podAntiAffinity":{"requiredDuringSchedulingIgnoredDuringExecution":[
                  {"topologyKey":"topology.kubernetes.io/zone","labelSelector":{"matchLabels":{"app":"index"}}}]}}}"#,
        );
        assert_eq!(rules.alone_on_machine().count(), 1);
    }

    /// The scheduler sees one domain only of a pod that is pinned: with fewer than `minDomains`, the emptiest counts as empty.
    #[test]
    fn a_spread_whose_emptiest_domain_counts_as_empty_bounds_what_one_machine_holds() {
        let spread = |more: &str| {
            let spec = r#"{"topologySpreadConstraints":[{"maxSkew":2,"topologyKey":"topology.kubernetes.io/zone","whenUnsatisfiable":"DoNotSchedule",
                "labelSelector":{"matchLabels":{"app":"web"}}MORE}]}"#;
            read(&spec.replace("MORE", more)).0
        };
        assert_eq!(spread("").most_per_machine(), None);
        assert_eq!(spread(r#","minDomains":2"#).most_per_machine(), Some(2));
        let everywhere = spread(r#","nodeAffinityPolicy":"Ignore""#);
        assert_eq!((everywhere.most_per_machine(), everywhere.spread[0].min_domains), (Some(2), i64::MAX));
    }

    #[test]
    fn namespaces_are_selected_by_their_labels() {
        let labels = |team: &str| BTreeMap::from([("team".to_owned(), team.to_owned())]);
        let known = NamespaceLabels::from([("a".to_owned(), labels("ml")), ("b".to_owned(), labels("web"))]);
        let selected = |selector: &str| {
            let text = format!(
                r#"{{"metadata":{{"namespace":"a"}},"spec":{{"affinity":{{"podAffinity":{{"requiredDuringSchedulingIgnoredDuringExecution":[
                   {{"topologyKey":"topology.kubernetes.io/zone","labelSelector":{{}}{selector}}}]}}}}}}}}"#
            );
            let rules = PodRules::read(&serde_json::from_str(&text).unwrap(), &known).0;
            ["a", "b", "c"].into_iter().filter(|name| rules.together[0].pods.selects(name, &BTreeMap::new())).collect::<Vec<_>>()
        };
        assert_eq!(selected(""), ["a"]);
        assert_eq!(selected(r#","namespaceSelector":{}"#), ["a", "b", "c"]);
        assert_eq!(selected(r#","namespaceSelector":{"matchLabels":{"team":"web"}}"#), ["b"]);
        assert_eq!(selected(r#","namespaceSelector":{"matchLabels":{"team":"none"}},"namespaces":["c"]"#), ["c"]);
        assert_eq!(selected(r#","namespaceSelector":{"matchLabels":{"team":"none"}}"#), [""; 0]);
    }

    #[test]
    fn ports_of_the_host_are_those_written_and_with_the_host_network_all() {
        let ports = |host_network: bool| {
            let spec = r#"{"hostNetwork":HOST,"containers":[{"ports":[{"containerPort":8000},{"containerPort":1,"hostPort":9000,"protocol":"UDP"}]}]}"#;
            read(&spec.replace("HOST", &host_network.to_string())).0.host_ports.iter().cloned().collect::<Vec<_>>()
        };
        assert_eq!((ports(false), ports(true)), (vec!["UDP/9000".to_owned()], vec!["TCP/8000".to_owned(), "UDP/9000".to_owned()]));
    }

    #[test]
    fn tolerations_tolerate_as_kubernetes_says() {
        let toleration = |text: &str| vec![serde_json::from_str::<Toleration>(text).unwrap()];
        for (text, holds) in [
            (r#"{"operator":"Exists"}"#, true),
            (r#"{"key":"a","operator":"Exists","effect":"NoSchedule"}"#, true),
            (r#"{"key":"a","operator":"Exists","effect":"NoExecute"}"#, false),
            (r#"{"key":"a","value":"b"}"#, true),
            (r#"{"key":"a","value":"c"}"#, false),
            (r#"{"value":"b"}"#, false),
        ] {
            assert_eq!(tolerates(&toleration(text), "a", "b", "NoSchedule"), holds, "{text}");
        }
    }
}
