//! Rules between pods, made into what a placement can ask: marks for one machine, zones that are left, zones that are left out.
//!
//! Decides: which pods must not share a machine or a zone, and which count together in a spread.
//! Does not: place them (see [`crate::core::placement`]).
//!
//! Marks are one bit each: one for every port of the host and every anti-affinity over machines that some pod has. With more than 64 of
//! them some share a bit, which keeps pods apart that need not be, and never the other way round.

use std::collections::BTreeSet;

use super::super::pass::Pass;
use super::super::terms::Marks;
use super::replacing::replaced_pod;
use crate::core::fleet::Claim;
use crate::core::market::Capacity;
use crate::core::placement::Apart;
use crate::core::units::ids::ZoneId;
use crate::core::workload::company::{Company, Domain};
use crate::core::workload::labels::PodSelector;
use crate::core::workload::need::Toleration;
use crate::core::workload::{Pod, PodRules};

/// The marks of all pods that are there. Mostly none has such a rule, and nothing is to be looked at.
pub(in crate::core::plan) fn marks(pass: &Pass) -> Marks {
    let pods = || pass.world.pods.values().filter(|p| !p.finished());
    let ports: BTreeSet<&String> = pods().flat_map(|p| &p.rules.host_ports).collect();
    let terms: BTreeSet<&PodSelector> = pods().flat_map(|p| p.rules.alone_on_machine()).collect();
    let over_zones = pods().any(|p| p.rules.apart.iter().any(|c| c.domain == Domain::Zone));
    Marks { ports: ports.into_iter().cloned().collect(), pods: terms.into_iter().cloned().collect(), over_zones }
}

/// What rules between pods leave of the choice for `pod`.
pub(in crate::core::plan) fn of(pass: &Pass, marks: &Marks, pod: &Pod) -> Apart {
    let rules = &pod.rules;
    let (has, avoids) = marks.on(&pod.object().namespace, rules);
    let mut apart = Apart {
        has,
        avoids,
        most_per_machine: rules.most_per_machine(),
        min_zones: rules.zone_spread().map_or(0, |s| if s.min_domains > 1 { s.min_domains } else { 0 }),
        tolerations: telling(&rules.tolerations),
        priority: rules.priority,
        ..Apart::default()
    };
    let selects = |company: &Company, other: &Pod| company.pods.selects(&other.object().namespace, &other.rules.labels);
    let over_zones = |companies: &[Company]| companies.iter().filter(|c| c.domain == Domain::Zone).cloned().collect::<Vec<_>>();
    let (away, near) = (over_zones(&rules.apart), over_zones(&rules.together));
    apart.most_per_zone = away.iter().any(|c| selects(c, pod)).then_some(1);
    if marks.over_zones {
        let met = |other: &&Pod| away.iter().any(|c| selects(c, other)) || over_zones(&other.rules.apart).iter().any(|c| selects(c, pod));
        apart.not_zones = zones_of(pass, pod, met);
    }
    for company in &near {
        let there = zones_of(pass, pod, |other| selects(company, other));
        if there.is_empty() && selects(company, pod) {
            apart.same_zone = Some(format!("{}/{:?}", pod.object().namespace, company.pods));
            continue;
        }
        apart.only_zones = Some(match apart.only_zones.take() {
            Some(before) => before.intersection(&there).cloned().collect(),
            None => there,
        });
    }
    apart
}

/// Zones where other pods that `meant` says stand, or are about to.
fn zones_of(pass: &Pass, pod: &Pod, meant: impl Fn(&&Pod) -> bool) -> BTreeSet<ZoneId> {
    let others = pass.world.pods.values().filter(|p| !p.finished() && p.identity.uid != pod.identity.uid).filter(meant);
    let left = replaced_pod(pass, pod).map(|old| &old.identity.uid);
    others.flat_map(|other| zones_for(pass, other, left == Some(&other.identity.uid))).collect()
}

/// Where a pod stands; where its machine was bought when it is bound to none; and, unless it is `left` for the pod in question, where its
/// work is about to go, because a machine was bought ahead.
fn zones_for(pass: &Pass, pod: &Pod, left: bool) -> Vec<ZoneId> {
    let claims: Vec<&Claim> = match &pod.claim {
        Some(name) => {
            let ahead = pass.index.successors(name).iter().filter(|_| !left).filter_map(|c| pass.claims.get(&c.name));
            pass.claims.get(name).into_iter().chain(ahead.filter(|c| c.takes_work())).collect()
        }
        None => pass.index.bought_for(&pod.identity.uid).iter().filter_map(|name| pass.claims.get(name)).collect(),
    };
    let unread = unread_capacity(pass, pod).map(|at| at.zone.clone());
    claims.into_iter().filter(|c| c.may_run()).map(|c| c.spec.capacity.zone.clone()).chain(unread).collect()
}

/// What a pod stands on whose claim cannot be read: its machine is there all the same, and EC2 says what and where it is.
pub(in crate::core::plan) fn unread_capacity<'a>(pass: &Pass<'a>, pod: &Pod) -> Option<&'a Capacity> {
    let claim = pass.world.unreadable_claims.get(pod.claim.as_ref()?)?;
    let named = claim.instance.as_ref().and_then(|id| pass.index.instance(id));
    let instance = named.or_else(|| pass.index.tagged_with_uid(&claim.uid))?;
    instance.is_alive().then_some(&instance.capacity)
}

/// Whether a pod must not be placed in `zone` because of one that was placed there in this pass: what one placement puts side by side was not
/// there when rules between pods were made into zones.
pub(in crate::core::plan) fn clashes(pass: &Pass, pod: &Pod, zone: &ZoneId) -> bool {
    pass.placed.iter().any(|(other, at)| at == zone && other.identity.uid != pod.identity.uid && keep_apart(pod, other))
}

/// One of two pods keeps the other out of its zone.
fn keep_apart(one: &Pod, other: &Pod) -> bool {
    let keeps = |of: &Pod, out: &Pod| {
        let over_zones = of.rules.apart.iter().filter(|c| c.domain == Domain::Zone);
        over_zones.clone().any(|c| c.pods.selects(&out.object().namespace, &out.rules.labels))
    };
    keeps(one, other) || keeps(other, one)
}

/// The pods that count in the spread of `pod` over zones: by the constraint's own selector, so that replicas of an older revision do not
/// where it says so, else those of its workload.
pub(in crate::core::plan) fn counted_with<'a>(pass: &Pass<'a>, pod: &Pod) -> Vec<&'a Pod> {
    match pod.rules.zone_spread().and_then(|s| s.pods.as_ref()) {
        Some(selector) => {
            pass.world.pods.values().filter(|other| selector.selects(&other.object().namespace, &other.rules.labels)).collect()
        }
        None => pass.index.of_workload(&pod.workload).to_vec(),
    }
}

/// The revision that a spread tells apart, as a part of its owner's name.
pub(in crate::core::plan) fn revision(pod: &Pod) -> &str {
    pod.rules.zone_spread().map_or("", |s| s.revision.as_str())
}

/// Tolerations that some pods have and others have not: what admission adds to every pod tells none from another.
fn telling(tolerations: &[Toleration]) -> Vec<Toleration> {
    let common = |key: &str| key.starts_with("node.kubernetes.io/") || key == "nvidia.com/gpu" || key.starts_with("lowtide.dev/");
    let mut telling: Vec<Toleration> = tolerations.iter().filter(|t| !t.key.as_deref().is_some_and(common)).cloned().collect();
    telling.sort();
    telling
}

/// What rules between pods leave for pods of files, of which none stands anywhere: marks of all of them, and each one's share.
pub fn among<'p>(rules: impl Iterator<Item = (&'p str, &'p PodRules)> + Clone) -> Vec<Apart> {
    let ports: BTreeSet<&String> = rules.clone().flat_map(|(_, r)| &r.host_ports).collect();
    let terms: BTreeSet<&PodSelector> = rules.clone().flat_map(|(_, r)| r.alone_on_machine()).collect();
    let marks = Marks { ports: ports.into_iter().cloned().collect(), pods: terms.into_iter().cloned().collect(), over_zones: false };
    let one = |(namespace, rules): (&str, &PodRules)| {
        let (has, avoids) = marks.on(namespace, rules);
        let own = |c: &&Company| c.domain == Domain::Zone && c.pods.selects(namespace, &rules.labels);
        Apart {
            has,
            avoids,
            most_per_machine: rules.most_per_machine(),
            most_per_zone: rules.apart.iter().find(own).map(|_| 1),
            min_zones: rules.zone_spread().map_or(0, |s| if s.min_domains > 1 { s.min_domains } else { 0 }),
            same_zone: rules.together.iter().find(own).map(|c| format!("{namespace}/{:?}", c.pods)),
            tolerations: telling(&rules.tolerations),
            priority: rules.priority,
            ..Apart::default()
        }
    };
    rules.map(one).collect()
}
