//! Rules between pods as they are written: the domain of a topology key, and the pods that a term selects.
//!
//! Decides: which topology keys are known, and how `matchLabelKeys` and selectors of namespaces are read.
//! Does not: say which of these rules are hard (see `company`) or only preferred (see `preferences`).

use std::collections::{BTreeMap, BTreeSet};

use super::labels::{LabelOperator, LabelRequirement, PodSelector};
use super::need::constraints::{CAPACITY_TYPE, EBS_ZONE, HOSTNAME, KARPENTER_CAPACITY_TYPE, REGION, ZONE, ZONE_ID, refuse, requirement};
use super::need::{LabelSelector, NeedError, NodeSelectorRequirement, PodAffinityTerm, PodManifest, TopologySpreadConstraint};
use super::pod_reader::NamespaceLabels;

/// The topology domain of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Domain {
    /// A machine.
    Machine,
    /// A zone.
    Zone,
    /// A region.
    Region,
    /// Spot, on-demand or reserved.
    CapacityType,
}

impl Domain {
    /// The domain that the values of a node label divide nodes into.
    pub fn of_label(key: &str) -> Option<Domain> {
        match key {
            HOSTNAME => Some(Domain::Machine),
            ZONE | ZONE_ID | EBS_ZONE => Some(Domain::Zone),
            REGION => Some(Domain::Region),
            CAPACITY_TYPE | KARPENTER_CAPACITY_TYPE => Some(Domain::CapacityType),
            _ => None,
        }
    }
}

/// Pods to be near, or away from, within one domain.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Company {
    /// The domain.
    pub domain: Domain,
    /// Which pods.
    pub pods: PodSelector,
}

/// What to write instead of a topology key that is not known.
pub(super) const DOMAINS: &str = "use kubernetes.io/hostname, topology.kubernetes.io/zone, topology.kubernetes.io/region or lowtide.dev/capacity-type, or make it preferred";

/// The pods and the domain of one term of an affinity between pods.
pub(super) fn company(
    (manifest, known): (&PodManifest, &NamespaceLabels),
    term: &PodAffinityTerm,
    path: &str,
    faults: &mut Vec<NeedError>,
) -> Option<Company> {
    let Some(domain) = Domain::of_label(&term.topology_key) else {
        refuse(faults, path, &format!("ties pods to other pods by {}", term.topology_key), DOMAINS);
        return None;
    };
    let mut requirements = selector(term.label_selector.as_ref()?, path, faults);
    let label = |key: &String| Some((key.clone(), manifest.metadata.labels.get(key)?.clone()));
    for (key, value) in term.match_label_keys.iter().filter_map(label) {
        requirements.push(LabelRequirement { key, operator: LabelOperator::In([value].into()) });
    }
    for (key, value) in term.mismatch_label_keys.iter().filter_map(label) {
        requirements.push(LabelRequirement { key, operator: LabelOperator::NotIn([value].into()) });
    }
    let mut namespaces: BTreeSet<String> = term.namespaces.iter().cloned().collect();
    match &term.namespace_selector {
        Some(every) if *every == LabelSelector::default() => namespaces.clear(),
        Some(by_labels) => {
            let wanted = selector(by_labels, path, faults);
            let meets = |labels: &BTreeMap<String, String>| wanted.iter().all(|r| r.operator.holds(labels.get(&r.key).map(String::as_str)));
            namespaces.extend(known.iter().filter(|(_, labels)| meets(labels)).map(|(name, _)| name.clone()));
            // An empty set would mean every namespace, and no namespace has this name.
            namespaces.insert(String::new());
        }
        None if namespaces.is_empty() => namespaces.extend([namespace_of(manifest)]),
        None => {}
    }
    Some(Company { domain, pods: PodSelector { namespaces, requirements } })
}

fn namespace_of(manifest: &PodManifest) -> String {
    manifest.metadata.namespace.clone().unwrap_or_else(|| "default".to_owned())
}

fn selector(selector: &LabelSelector, path: &str, faults: &mut Vec<NeedError>) -> Vec<LabelRequirement> {
    let equal =
        |(key, value): (&String, &String)| LabelRequirement { key: key.clone(), operator: LabelOperator::In([value.clone()].into()) };
    let mut requirements: Vec<LabelRequirement> = selector.match_labels.iter().map(equal).collect();
    for want in &selector.match_expressions {
        let want = NodeSelectorRequirement { key: want.key.clone(), operator: want.operator.clone(), values: want.values.clone() };
        requirements.extend(requirement(&want, path, faults));
    }
    requirements
}

/// The labels of the pod that `matchLabelKeys` names.
pub(super) fn revision<'m>(
    manifest: &'m PodManifest,
    constraint: &'m TopologySpreadConstraint,
) -> impl Iterator<Item = (&'m String, &'m String)> {
    constraint.match_label_keys.iter().filter_map(|key| Some((key, manifest.metadata.labels.get(key)?)))
}

/// The pods that a spread counts by its own selector.
pub(super) fn spread_pods(
    manifest: &PodManifest,
    constraint: &TopologySpreadConstraint,
    path: &str,
    faults: &mut Vec<NeedError>,
) -> Option<PodSelector> {
    let mut requirements = selector(constraint.label_selector.as_ref()?, path, faults);
    let equal =
        |(key, value): (&String, &String)| LabelRequirement { key: key.clone(), operator: LabelOperator::In([value.clone()].into()) };
    requirements.extend(revision(manifest, constraint).map(equal));
    Some(PodSelector { namespaces: [namespace_of(manifest)].into(), requirements })
}
