//! What a pod prefers and does not insist on: preferred node affinity, preferred affinity to other pods and away from them, and topology spread
//! with `ScheduleAnyway`.
//!
//! Decides: what of it counts, and how much.
//! Does not: refuse anything: what cannot be read, or names a label that no node of ours has, is preferred in vain.

use super::between::{Company, Domain, company, spread_pods};
use super::labels::{LabelRequirement, LabelTerm};
use super::need::constraints::{HOSTNAME, requirement};
use super::need::{NodeSelectorTerm, PodManifest, PodSpec};
use super::pod_reader::NamespaceLabels;

/// A spread with `ScheduleAnyway` weighs as much as the strongest preference that can be written.
const SPREAD_WEIGHT: i64 = 100;

/// What a pod prefers, with weights as they were written (1 to 100).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Preferences {
    /// Requirements on its node.
    pub nodes: Vec<(i64, LabelTerm)>,
    /// Pods to be near, or with a negative weight to be away from: the more of them, the more it weighs.
    pub pods: Vec<(i64, Company)>,
}

impl Preferences {
    /// Those of a pod or pod template.
    pub fn read(manifest: &PodManifest, namespaces: &NamespaceLabels) -> Preferences {
        let (spec, mut unread) = (&manifest.spec, Vec::new());
        let Some(affinity) = &spec.affinity else {
            return Preferences { nodes: Vec::new(), pods: anyway(manifest, spec) };
        };
        let nodes = affinity.node_affinity.iter().flat_map(|n| &n.preferred_during_scheduling_ignored_during_execution);
        let nodes = nodes.filter_map(|wish| Some((wish.weight, term(&wish.preference)?))).collect();
        let (near, apart) = (affinity.pod_affinity.iter().map(|a| (1, a)), affinity.pod_anti_affinity.iter().map(|a| (-1, a)));
        let mut pods = Vec::new();
        for (sign, terms) in near.chain(apart) {
            for wish in &terms.preferred_during_scheduling_ignored_during_execution {
                let meant = company((manifest, namespaces), &wish.pod_affinity_term, "", &mut unread);
                pods.extend(meant.map(|meant| (sign * wish.weight, meant)));
            }
        }
        pods.extend(anyway(manifest, spec));
        Preferences { nodes, pods }
    }

    /// There are none.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty() && self.pods.is_empty()
    }
}

/// A term that some node may meet: one without requirements selects none.
fn term(wanted: &NodeSelectorTerm) -> Option<LabelTerm> {
    let mut unread = Vec::new();
    let fields = wanted.match_fields.iter().map(|field| (HOSTNAME, field));
    let all = wanted.match_expressions.iter().map(|want| (want.key.as_str(), want)).chain(fields);
    let read: Option<Vec<LabelRequirement>> =
        all.map(|(key, want)| Some(LabelRequirement { key: key.to_owned(), ..requirement(want, "", &mut unread)? })).collect();
    read.filter(|read| !read.is_empty())
}

fn anyway(manifest: &PodManifest, spec: &PodSpec) -> Vec<(i64, Company)> {
    let soft = spec.topology_spread_constraints.iter().filter(|c| c.when_unsatisfiable == "ScheduleAnyway");
    let one = |constraint| {
        let (pods, domain) = (spread_pods(manifest, constraint, "", &mut Vec::new())?, Domain::of_label(&constraint.topology_key)?);
        Some((-SPREAD_WEIGHT, Company { domain, pods }))
    };
    soft.filter_map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_have_their_sign_and_what_cannot_be_met_or_read_is_left_out() {
        let manifest = r#"{"metadata":{"namespace":"ml","labels":{"app":"web","pod-template-hash":"7d"}},"spec":{
            "affinity":{
              "nodeAffinity":{"preferredDuringSchedulingIgnoredDuringExecution":[
                {"weight":80,"preference":{"matchExpressions":[{"key":"topology.kubernetes.io/zone","operator":"In","values":["use1-az4"]}]}},
                {"weight":50,"preference":{}},
                {"weight":9,"preference":{"matchExpressions":[{"key":"a","operator":"Near","values":["b"]}]}}]},
              "podAffinity":{"preferredDuringSchedulingIgnoredDuringExecution":[
                {"weight":30,"podAffinityTerm":{"topologyKey":"topology.kubernetes.io/region","labelSelector":{"matchLabels":{"app":"cache"}}}},
                {"weight":30,"podAffinityTerm":{"topologyKey":"example.com/rack","labelSelector":{"matchLabels":{"app":"cache"}}}}]},
              "podAntiAffinity":{"preferredDuringSchedulingIgnoredDuringExecution":[
                {"weight":100,"podAffinityTerm":{"topologyKey":"kubernetes.io/hostname","labelSelector":{"matchLabels":{"app":"web"}}}}]}},
            "topologySpreadConstraints":[
              {"maxSkew":1,"topologyKey":"topology.kubernetes.io/zone","whenUnsatisfiable":"ScheduleAnyway","matchLabelKeys":["pod-template-hash"],
               "labelSelector":{"matchLabels":{"app":"web"}}},
              {"maxSkew":1,"topologyKey":"topology.kubernetes.io/zone","whenUnsatisfiable":"DoNotSchedule","labelSelector":{"matchLabels":{"app":"web"}}}]}}"#;
        let read = Preferences::read(&serde_json::from_str(manifest).unwrap(), &NamespaceLabels::new());
        assert_eq!(read.nodes.iter().map(|(weight, term)| (*weight, term.len())).collect::<Vec<_>>(), [(80, 1)]);
        let pods: Vec<(i64, Domain)> = read.pods.iter().map(|(weight, company)| (*weight, company.domain)).collect();
        assert_eq!(pods, [(30, Domain::Region), (-100, Domain::Machine), (-100, Domain::Zone)]);
        assert_eq!(read.pods[2].1.pods.requirements.len(), 2, "replicas of an older revision do not count");
    }
}
