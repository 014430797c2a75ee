//! What all placements of one pass are asked under, and the marks that keep pods apart on one machine.
//!
//! Decides: nothing; `placing::asking` fills in the terms, `placing::apart` the marks.

use std::collections::BTreeSet;

use crate::core::fleet::Node;
use crate::core::placement::listing::Listing;
use crate::core::placement::{self, PoolPolicy};
use crate::core::workload::company::Domain;
use crate::core::workload::labels::PodSelector;
use crate::core::workload::{Pod, PodRules};

/// What all placements of a pass are asked under: the same for each, since a purchase is not undone within a pass.
pub(super) struct Terms<'a> {
    pub(super) pools: Vec<PoolPolicy>,
    pub(super) settings: placement::PlacementSettings,
    pub(super) listed: Vec<Vec<Listing<'a>>>,
    /// What pods avoid on one machine.
    pub(super) marks: Marks,
    /// Pods that may have to follow others to their machines and have no place yet.
    pub(super) followers: Vec<&'a Pod>,
}

/// What pods may avoid on one machine, in a fixed order.
#[derive(Debug, Default)]
pub(super) struct Marks {
    pub(super) ports: Vec<String>,
    pub(super) pods: Vec<PodSelector>,
    /// Which pods spreads count that allow more than one of them on a machine.
    pub(super) counted: Vec<PodSelector>,
    /// Kinds of areas that some pod keeps others out of.
    pub(super) over_areas: BTreeSet<Domain>,
    /// Volume claims, by namespace and name, that several pods mount and that are not everywhere: of one node, or made where the first lands.
    pub(super) common_claims: BTreeSet<(String, String)>,
}

impl Marks {
    /// Whether other pods mount one of these claims, too.
    pub(super) fn has_common(&self, namespace: &str, claims: &BTreeSet<String>) -> bool {
        !self.common_claims.is_empty() && claims.iter().any(|claim| self.common_claims.contains(&(namespace.to_owned(), claim.clone())))
    }

    fn is_empty(&self) -> bool {
        self.ports.is_empty() && self.pods.is_empty()
    }

    /// What a pod has, and what it avoids.
    pub(super) fn on(&self, namespace: &str, rules: &PodRules) -> (u64, u64) {
        if self.is_empty() {
            return (0, 0);
        }
        let (mut has, mut avoids) = (0, 0);
        for (bit, _) in self.ports.iter().enumerate().filter(|(_, port)| rules.host_ports.contains(*port)) {
            has |= 1 << (bit % 64);
            avoids |= 1 << (bit % 64);
        }
        for (at, selector) in self.pods.iter().enumerate() {
            let bit = (at + self.ports.len()) % 64;
            if selector.selects(namespace, &rules.labels) {
                has |= 1 << bit;
            }
            if rules.alone_on_machine().any(|pods| pods == selector) {
                avoids |= 1 << bit;
            }
        }
        (has, avoids)
    }

    /// How many of those that a pod's spreads count may be on one machine.
    pub(super) fn most_counted(&self, rules: &PodRules) -> Vec<(usize, i64)> {
        let at = |pods: &PodSelector| self.counted.iter().position(|counted| counted == pods);
        rules.bounded_on_machine().filter_map(|s| Some((at(s.pods.as_ref()?)?, s.max_skew))).collect()
    }

    /// Adds a pod to what spreads count on its machine.
    pub(super) fn count(&self, counts: &mut Vec<i64>, namespace: &str, rules: &PodRules) {
        counts.resize(self.counted.len(), 0);
        let selected = self.counted.iter().zip(counts).filter(|(pods, _)| pods.selects(namespace, &rules.labels));
        selected.for_each(|(_, count)| *count += 1);
    }

    /// What the pods on a machine have and avoid, ours and others.
    pub(super) fn on_machine(&self, pods: &[&Pod], node: Option<&Node>) -> (u64, u64) {
        if self.is_empty() {
            return (0, 0);
        }
        let ours = pods.iter().map(|p| self.on(&p.object().namespace, &p.rules));
        let others = node.into_iter().flat_map(|n| &n.state.others).map(|o| self.on(&o.pod.object.namespace, &o.rules));
        ours.chain(others).fold((0, 0), |(has, avoids), (h, a)| (has | h, avoids | a))
    }
}
