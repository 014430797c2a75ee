//! Rules between pods, made into what a placement can ask: marks for one machine, areas that are left, areas that are left out.
//!
//! Decides: which pods must not share a machine, a zone, a region or a capacity type, and which count together in a spread.
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
use crate::core::placement::{Apart, Area, AreaSpread, Wishes};
use crate::core::units::ids::ClaimName;
use crate::core::workload::company::{Company, Domain, Spread};
use crate::core::workload::labels::PodSelector;
use crate::core::workload::need::Toleration;
use crate::core::workload::volumes::PodVolumes;
use crate::core::workload::{Pod, PodRules};

/// The marks of all pods that are there. Mostly none has such a rule, and nothing is to be looked at.
pub(in crate::core::plan) fn marks(pass: &Pass) -> Marks {
    let pods = || pass.world.pods.values().filter(|p| !p.finished());
    let ports: BTreeSet<&String> = pods().flat_map(|p| &p.rules.host_ports).collect();
    let terms: BTreeSet<&PodSelector> = pods().flat_map(|p| p.rules.alone_on_machine()).collect();
    let counted: BTreeSet<&PodSelector> =
        pods().flat_map(|p| p.rules.bounded_on_machine()).filter(|s| s.max_skew > 1).filter_map(|s| s.pods.as_ref()).collect();
    let over_areas = pods().flat_map(|p| &p.rules.apart).map(|c| c.domain).filter(|d| *d != Domain::Machine).collect();
    Marks {
        ports: ports.into_iter().cloned().collect(),
        pods: terms.into_iter().cloned().collect(),
        counted: counted.into_iter().cloned().collect(),
        over_areas,
        common_claims: common_claims(pass),
    }
}

/// Claims that several pods mount and that tie these to one zone or one machine.
fn common_claims(pass: &Pass) -> BTreeSet<(String, String)> {
    let (mut seen, mut common) = (BTreeSet::new(), BTreeSet::new());
    for pod in pass.world.pods.values().filter(|p| !p.finished()) {
        for claim in pod.rules.volumes.of_one_node.union(&pod.rules.volumes.wait_for_first) {
            let key = (pod.object().namespace.clone(), claim.clone());
            if !seen.insert(key.clone()) {
                common.insert(key);
            }
        }
    }
    common
}

/// What rules between pods leave of the choice for `pod`.
pub(in crate::core::plan) fn of(pass: &Pass, marks: &Marks, pod: &Pod) -> Apart {
    let rules = &pod.rules;
    let (has, avoids) = marks.on(&pod.object().namespace, rules);
    let mut apart = Apart {
        has,
        avoids,
        most_per_machine: rules.most_per_machine(),
        most_counted: marks.most_counted(rules),
        one_in_each: alone_in(rules, &pod.object().namespace),
        tolerations: telling(&rules.tolerations),
        priority: rules.priority,
        prefers: wishes(pass, pod),
        ..Apart::default()
    };
    let selects = |company: &Company, other: &Pod| company.pods.selects(&other.object().namespace, &other.rules.labels);
    if !marks.over_areas.is_empty() {
        for company in rules.apart.iter().filter(|c| c.domain != Domain::Machine) {
            apart.not.extend(areas_of(pass, pod, company.domain, |other| selects(company, other)));
        }
        for domain in marks.over_areas.iter().copied() {
            let keeps_it_out = |other: &&Pod| other.rules.apart.iter().any(|c| c.domain == domain && selects(c, pod));
            apart.not.extend(areas_of(pass, pod, domain, keeps_it_out));
        }
    }
    for company in rules.together.iter().filter(|c| c.domain != Domain::Machine) {
        let there = areas_of(pass, pod, company.domain, |other| selects(company, other));
        if there.is_empty() && selects(company, pod) {
            apart.same.insert((company.domain, format!("{}/{:?}", pod.object().namespace, company.pods)));
            continue;
        }
        apart.only.insert(there);
    }
    let is_common = |claim: &&String| marks.has_common(&pod.object().namespace, &BTreeSet::from([(*claim).clone()]));
    for volume in rules.volumes.wait_for_first.iter().filter(is_common) {
        let shares = |other: &&Pod| shares_volume(pod, other, |volumes| volumes.wait_for_first.contains(volume));
        let there = areas_of(pass, pod, Domain::Zone, shares);
        match there.is_empty() {
            true => apart.same.insert((Domain::Zone, format!("{}/{volume}", pod.object().namespace))),
            false => apart.only.insert(there),
        };
    }
    apart.only_claims = shared_machines(pass, marks, pod);
    apart
}

/// What a pod prefers, by where the pods that it likes and dislikes stand now.
fn wishes(pass: &Pass, pod: &Pod) -> Wishes {
    let prefers = &pod.rules.prefers;
    let mut wishes = Wishes { nodes: prefers.nodes.clone(), ..Wishes::default() };
    // A machine that is bought is empty: preferences over machines tell none from another.
    for (weight, company) in prefers.pods.iter().filter(|(_, company)| company.domain != Domain::Machine) {
        for (at, count) in pass.standing_by(&company.pods).iter() {
            if let Some(area) = Area::of(company.domain, at) {
                *wishes.areas.entry(area).or_default() += weight * count;
            }
        }
    }
    wishes
}

/// Both pods are of one namespace and `meant` holds for the volumes of the other.
fn shares_volume(pod: &Pod, other: &Pod, meant: impl Fn(&PodVolumes) -> bool) -> bool {
    pod.object().namespace == other.object().namespace && meant(&other.rules.volumes)
}

/// Pods that `pod` must share a machine with, as one of its rules says: by affinity, or by a volume that one machine alone may have.
pub(in crate::core::plan) fn must_share(pod: &Pod, other: &Pod) -> bool {
    let near = |c: &Company| c.domain == Domain::Machine && c.pods.selects(&other.object().namespace, &other.rules.labels);
    let volume = |volumes: &PodVolumes| !volumes.of_one_node.is_disjoint(&pod.rules.volumes.of_one_node);
    pod.rules.together.iter().any(near) || shares_volume(pod, other, volume)
}

/// Whether any rule of the pod may tie it to the machine of another.
pub(in crate::core::plan) fn is_tied(marks: &Marks, pod: &Pod) -> bool {
    marks.has_common(&pod.object().namespace, &pod.rules.volumes.of_one_node)
        || pod.rules.together.iter().any(|c| c.domain == Domain::Machine)
}

/// The machines that pods which `pod` must share one with leave; `None` when there is no such pod, or when it is the first of its kind.
fn shared_machines(pass: &Pass, marks: &Marks, pod: &Pod) -> Option<BTreeSet<ClaimName>> {
    if !is_tied(marks, pod) {
        return None;
    }
    let stays = |p: &&Pod| !p.finished() && p.let_go.is_none() && p.deleting_until.is_none() && p.identity.uid != pod.identity.uid;
    let claims_of = |meant: &dyn Fn(&Pod) -> bool| -> BTreeSet<ClaimName> {
        let others = pass.world.pods.values().filter(stays).filter(|p| meant(p)).filter_map(|p| p.claim.clone());
        others.filter(|name| pass.claims.get(name).is_some_and(Claim::takes_work)).collect()
    };
    let mut left: Option<BTreeSet<ClaimName>> = None;
    let mut keep = |these: BTreeSet<ClaimName>| {
        left = Some(match left.take() {
            Some(before) => before.intersection(&these).cloned().collect(),
            None => these,
        });
    };
    for company in pod.rules.together.iter().filter(|c| c.domain == Domain::Machine) {
        let selects = |other: &Pod| company.pods.selects(&other.object().namespace, &other.rules.labels);
        let there = claims_of(&selects);
        if !(there.is_empty() && selects(pod)) {
            keep(there);
        }
    }
    let volume = |other: &Pod| shares_volume(pod, other, |volumes| !volumes.of_one_node.is_disjoint(&pod.rules.volumes.of_one_node));
    let holders = claims_of(&volume);
    if !holders.is_empty() {
        keep(holders);
    }
    left
}

/// The kinds of areas in which a pod keeps its own equals away.
fn alone_in(rules: &PodRules, namespace: &str) -> BTreeSet<Domain> {
    let own = rules.apart.iter().filter(|c| c.domain != Domain::Machine && c.pods.selects(namespace, &rules.labels));
    own.map(|c| c.domain).collect()
}

/// Areas where other pods that `meant` says stand, or are about to.
fn areas_of(pass: &Pass, pod: &Pod, domain: Domain, meant: impl Fn(&&Pod) -> bool) -> BTreeSet<Area> {
    let others = pass.world.pods.values().filter(|p| !p.finished() && p.identity.uid != pod.identity.uid).filter(meant);
    let left = replaced_pod(pass, pod).map(|old| &old.identity.uid);
    others.flat_map(|other| places_for(pass, other, left == Some(&other.identity.uid))).filter_map(|at| Area::of(domain, &at)).collect()
}

/// Where a pod stands; where its machine was bought when it is bound to none; and, unless it is `left` for the pod in question, where its
/// work is about to go, because a machine was bought ahead.
fn places_for(pass: &Pass, pod: &Pod, left: bool) -> Vec<Capacity> {
    let claims: Vec<&Claim> = match &pod.claim {
        Some(name) => {
            let ahead = pass.index.successors(name).iter().filter(|_| !left).filter_map(|c| pass.claims.get(&c.name));
            pass.claims.get(name).into_iter().chain(ahead.filter(|c| c.takes_work())).collect()
        }
        None => pass.index.bought_for(&pod.identity.uid).iter().filter_map(|name| pass.claims.get(name)).collect(),
    };
    let unread = unread_capacity(pass, pod).cloned();
    claims.into_iter().filter(|c| c.may_run()).map(|c| c.spec.capacity.clone()).chain(unread).collect()
}

/// What a pod stands on whose claim cannot be read: its machine is there all the same, and EC2 says what and where it is.
pub(in crate::core::plan) fn unread_capacity<'a>(pass: &Pass<'a>, pod: &Pod) -> Option<&'a Capacity> {
    let claim = pass.world.unreadable_claims.get(pod.claim.as_ref()?)?;
    let named = claim.instance.as_ref().and_then(|id| pass.index.instance(id));
    let instance = named.or_else(|| pass.index.tagged_with_uid(&claim.uid))?;
    instance.is_alive().then_some(&instance.capacity)
}

/// Whether a pod must not be placed at `at` because of one that was placed in this pass: what one placement puts side by side was not there
/// when rules between pods were made into areas.
pub(in crate::core::plan) fn clashes(pass: &Pass, pod: &Pod, at: &Capacity) -> bool {
    let others = pass.placed.iter().filter(|(other, _)| other.identity.uid != pod.identity.uid);
    others.into_iter().any(|(other, there)| keep_apart(pod, other, (at, there)))
}

/// One of two pods keeps the other out of an area that both places are in.
fn keep_apart(one: &Pod, other: &Pod, (at, there): (&Capacity, &Capacity)) -> bool {
    let common = |domain: Domain| Area::of(domain, at).is_some_and(|area| area.holds(there));
    let keeps =
        |of: &Pod, out: &Pod| of.rules.apart.iter().any(|c| common(c.domain) && c.pods.selects(&out.object().namespace, &out.rules.labels));
    keeps(one, other) || keeps(other, one)
}

/// The pods that count in a spread of `pod`: by the constraint's own selector, so that replicas of an older revision do not where it says so,
/// else those of its workload.
pub(in crate::core::plan) fn counted_with<'a>(pass: &Pass<'a>, pod: &Pod, spread: Option<&Spread>) -> Vec<&'a Pod> {
    match spread.and_then(|s| s.pods.as_ref()) {
        Some(selector) => {
            pass.world.pods.values().filter(|other| selector.selects(&other.object().namespace, &other.rules.labels)).collect()
        }
        None => pass.index.of_workload(&pod.workload).to_vec(),
    }
}

/// The revision that a spread tells apart, as a part of its owner's name.
pub(in crate::core::plan) fn revision(pod: &Pod) -> &str {
    pod.rules.area_spreads().map(|s| s.revision.as_str()).find(|revision| !revision.is_empty()).unwrap_or_default()
}

/// Whether replicas of a pod count in its own spread.
pub(in crate::core::plan) fn counts_itself(spread: &Spread, namespace: &str, rules: &PodRules) -> bool {
    spread.pods.as_ref().is_none_or(|pods| pods.selects(namespace, &rules.labels))
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
    let marks = Marks {
        ports: ports.into_iter().cloned().collect(),
        pods: terms.into_iter().cloned().collect(),
        counted: Vec::new(),
        over_areas: BTreeSet::new(),
        common_claims: BTreeSet::new(),
    };
    let one = |(namespace, rules): (&str, &PodRules)| {
        let (has, avoids) = marks.on(namespace, rules);
        let own = |c: &&Company| c.domain != Domain::Machine && c.pods.selects(namespace, &rules.labels);
        Apart {
            has,
            avoids,
            most_per_machine: rules.most_per_machine(),
            one_in_each: alone_in(rules, namespace),
            same: rules.together.iter().filter(own).map(|c| (c.domain, format!("{namespace}/{:?}", c.pods))).collect(),
            tolerations: telling(&rules.tolerations),
            priority: rules.priority,
            prefers: Wishes { nodes: rules.prefers.nodes.clone(), ..Wishes::default() },
            ..Apart::default()
        }
    };
    rules.map(one).collect()
}

/// The spreads of pods of files over parts of the market.
pub fn spreads_among(namespace: &str, rules: &PodRules) -> Vec<AreaSpread> {
    let one = |spread: &Spread| AreaSpread {
        domain: spread.domain,
        max_skew: spread.max_skew,
        min_domains: spread.min_domains,
        standing: Default::default(),
        counts_itself: counts_itself(spread, namespace, rules),
    };
    rules.area_spreads().map(one).collect()
}
