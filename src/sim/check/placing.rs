//! INV-4: a pod is bound only to what its owner allows and the scheduler would: its own needs, its volumes, and the pods that are there; and not
//! all of a service is bought in one place while another is nearly free.
//!
//! Decides: from the simulated scheduler's reading of manifests ([`super::super::kube::asks`]), never from lowtide's.
//! Does not: hold against a binding what its operator could not know: a pod that was placed within [`TOLERANCE`], or a claim removed meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::super::kube::asks::{Asks, Others};
use super::super::kube::scheduler::{HOSTNAME, REGION, TYPE, ZONE};
use super::super::kube::{SimPod, Stored};
use super::super::market::ZONES;
use super::super::world::World;
use super::TOLERANCE;
use super::acts::removed_lately;
use crate::core::fleet::{Claim, Trigger};
use crate::core::invariant::Invariant;
use crate::core::market::{Capacity, CapacityType};
use crate::core::record::{Decision, JudgedOffer, LedgerRecord, Outcome, Refusal};
use crate::core::units::ids::{ClaimName, DecisionId};
use crate::core::units::time::{Millis, Timestamp};
use crate::core::workload::PodIdentity;

/// A pod is about to be bound to a claim.
pub fn before_binding(world: &mut World, identity: &PodIdentity, claim: &ClaimName, now: Timestamp) {
    if removed_lately(world, claim, now) {
        return;
    }
    let Some(pod) = world.kube.pods.get(&identity.uid).map(|p| p.object.clone()) else { return };
    let name = &identity.object.name;
    let Some(claim) = world.kube.claims.get(claim).map(|c| c.object.clone()) else {
        return world.broke(Invariant::NeedsAndPoliciesHold, format!("{name} is bound to {claim}, which is no claim"));
    };
    let mut faults = against_its_needs(world, &pod, &claim);
    faults.extend(against_its_volumes(world, &pod, &claim, now));
    faults.extend(against_others(world, &pod, &claim, now));
    if !faults.is_empty() {
        let text = format!("{name} is bound to {} ({}) against {}", claim.name, claim.spec.capacity, faults.join(" and "));
        world.broke(Invariant::NeedsAndPoliciesHold, text);
    }
}

/// A replica of a service whose owner asks for nothing is about to be bound to a spot machine that was bought for it: not where all the others stand
/// while the decision itself names an offer elsewhere that costs next to nothing more. The others have stood there for long, or were placed by
/// the same pass.
pub fn before_joining(world: &mut World, identity: &PodIdentity, decision: DecisionId, now: Timestamp) {
    let Some(decision) = decided(world, decision) else { return };
    let by_choice = matches!(decision.trigger, Trigger::CheaperOffer | Trigger::ReturnToSpot);
    let (Some(chosen), Some(pod)) = (&decision.judgement.chosen, world.kube.pods.get(&identity.uid).map(|p| &p.object)) else { return };
    let plain = pod.asks.spares == 0 && pod.asks.spread.is_empty() && pod.asks.apart.is_empty() && pod.asks.capacity != "on-demand";
    let served = matches!(pod.made_by, super::super::event::Owner::Replicated(_));
    let simple = !world.account.is_tight() && !world.account.shares();
    // What a process that ended left to the next one was decided in another world.
    let fresh = now.since(decision.decided_at) < Millis::from_secs(10);
    // Nobody takes on-demand back: replicas that share it are not lost together.
    let on_spot = chosen.capacity.capacity_type == CapacityType::Spot;
    if decision.outcome != Outcome::Launch || !fresh || by_choice || !served || !plain || !simple || !on_spot || chosen.replicas != 1 {
        return;
    }
    let stays = |p: &&SimPod| p.pod.let_go.is_none() && p.pod.deleting_until.is_none() && !p.pod.finished();
    let all = world.kube.pods.values().map(|p| &p.object).filter(stays).filter(|p| p.made_by == pod.made_by);
    let others: Vec<&SimPod> = all.filter(|p| p.pod.identity.uid != identity.uid).collect();
    let same = |on: &Claim| lost_with(&on.spec.capacity) == lost_with(&chosen.capacity) && on.status.moving.is_none() && !on.deleting;
    let known = |p: &SimPod| {
        let of_this_pass = p.pod.placed_by.and_then(|id| decided(world, id)).is_some_and(|other| other.decided_at == decision.decided_at);
        of_this_pass || now.since(p.placed_at) > TOLERANCE
    };
    let beside = |p: &&SimPod| {
        let on = p.pod.claim.as_ref().and_then(|name| world.kube.claims.get(name));
        on.is_some_and(|on| same(&on.object)) && known(p)
    };
    let others = if others.iter().all(beside) { others.len() } else { 0 };
    if others == 0 {
        return;
    }
    // Where nothing of ours ever ran, only what is published is known.
    let unseen = |at: &Capacity| !world.ec2.machines.values().any(|m| lost_with(&m.instance.capacity) == lost_with(at));
    let most = nearly_free_per_mille(now.since(world.epoch));
    let cost = |offer: &JudgedOffer| i128::from(offer.cost_per_replica_hour.unwrap_or(offer.price_per_hour).0);
    let as_good = |offer: &&JudgedOffer| {
        let apart = offer.capacity.capacity_type == CapacityType::Spot && lost_with(&offer.capacity) != lost_with(&chosen.capacity);
        let rare = offer.interruptions_per_million_hours < 1_000_000 / 168;
        let fits = offer.refusal == Some(Refusal::MoreExpensive) && offer.replicas == 1;
        apart && rare && fits && cost(offer) * 1_000 <= cost(chosen) * i128::from(1_000 + most) && unseen(&offer.capacity)
    };
    if let Some(other) = decision.judgement.best_refused.iter().find(as_good) {
        let text = format!(
            "{} is bought for {}, where its {others} other replicas are, and {} costs ${} against ${} per replica",
            chosen.capacity,
            identity.object.name,
            other.capacity,
            other.cost_per_replica_hour.unwrap_or(other.price_per_hour),
            chosen.cost_per_replica_hour.unwrap_or(chosen.price_per_hour)
        );
        world.broke(Invariant::NeedsAndPoliciesHold, text);
    }
}

/// The decision of this id, as it was made durable.
fn decided(world: &World, id: DecisionId) -> Option<Arc<Decision>> {
    match &**world.checks.recorded.get(&id.0)? {
        LedgerRecord::Decision(decision) => Some(Arc::new((**decision).clone())),
        _ => None,
    }
}

/// What is lost together: sizes of one family in one zone.
fn lost_with(at: &Capacity) -> (&str, &str, CapacityType) {
    (at.zone.as_str(), at.instance_type.as_str().split('.').next().unwrap_or_default(), at.capacity_type)
}

/// What a second replica may surely cost more elsewhere, in thousandths, before all of a service stands in one pool: three quarters of what two
/// replicas lose less by standing apart. An hour without service is worth 200 of service, an outage lasts four minutes, and a pool is lost once
/// in a week and the time for which it has been seen to last, at most all of this `history`.
fn nearly_free_per_mille(history: Millis) -> i64 {
    let (week, outage) = (168 * 60, 4 * 200 * 1_000);
    let seen = (history.0 / 60_000).clamp(0, week);
    (outage * 3 / (2 * (week + seen)) - outage / (2 * week)) * 3 / 4
}

/// The labels that the claim's node has, or will have.
fn labels_of(claim: &Claim) -> BTreeMap<String, String> {
    let at = &claim.spec.capacity;
    let labels = [
        (HOSTNAME, claim.name.to_string()),
        (REGION, at.region.to_string()),
        (ZONE, at.zone.to_string()),
        (TYPE, at.instance_type.to_string()),
    ];
    let all = labels.map(|(key, value)| (key.to_owned(), value)).into_iter();
    all.chain([("kubernetes.io/arch".to_owned(), "amd64".to_owned()), ("kubernetes.io/os".to_owned(), "linux".to_owned())]).collect()
}

fn against_its_needs(world: &World, pod: &SimPod, claim: &Claim) -> Vec<String> {
    let (asks, at) = (pod.asks.without_pin(), &claim.spec.capacity);
    let Some(machine) = world.catalog.types.get(&at.instance_type) else { return Vec::new() };
    let (units, has, wants) = (claim.spec.sharing.units(machine), machine.allocatable(), asks.resources);
    let capacity_ok = match asks.capacity.as_str() {
        "spot-only" => at.capacity_type == CapacityType::Spot,
        "on-demand" => at.capacity_type != CapacityType::Spot,
        _ => true,
    };
    let bought_for = claim.spec.bought_for.iter().any(|p| p.uid == pod.pod.identity.uid);
    let honoured = match &pod.made_by {
        super::super::event::Owner::Replicated(name) => world.kube.replicated.get(name).is_none_or(|work| work.honoured),
        _ => true,
    };
    let checks = [
        (honoured, "what lowtide does not honour"),
        (asks.allows_region(at.region.as_str()), "its regions"),
        (asks.takes_node(&labels_of(claim)), "its node selector"),
        (wants.gpus <= units.most_per_pod.min(units.count), "its number of GPUs"),
        (asks.gpu_memory <= units.memory, "its GPU memory"),
        (wants.cpu <= has.cpu && wants.memory <= has.memory, "its CPU and memory"),
        (wants.disk <= has.disk, "its disk"),
        (capacity_ok, "its capacity preference"),
        (!bought_for || asks.cap.is_none_or(|cap| claim.spec.price_per_hour.0 <= cap.0 * claim.spec.gpus), "its price cap"),
    ];
    checks.into_iter().filter(|(holds, _)| !holds).map(|(_, text)| text.to_owned()).collect()
}

/// Its volumes can be reached from the claim's zone, and none that one node has is in use on another.
fn against_its_volumes(world: &World, pod: &SimPod, claim: &Claim, now: Timestamp) -> Vec<String> {
    let mut faults = Vec::new();
    for name in &pod.asks.claims {
        let Some(volume) = world.kube.volumes.get(name) else { continue };
        if !volume.reached_from(claim.spec.capacity.zone.as_str()) {
            faults.push(format!("the place of its volume {name} ({volume:?})"));
        }
        // One that has been asked to end leaves it soon; one of a Job is waited for.
        let uses = |other: &&SimPod| {
            other.asks.claims.contains(name) && other.pod.deleting_until.is_none() && other.job().is_none() && other.pod.node.is_some()
        };
        let held = standing(world, pod, now).filter(|(other, _)| uses(other)).find(|(_, on)| on.name != claim.name);
        if let Some((other, on)) = held.filter(|_| volume.is_of_one_node()) {
            faults.push(format!("its volume {name}, which {} uses on {}", other.pod.identity.object.name, on.name));
        }
    }
    faults
}

/// Other pods that have had their place for longer than an operator may not know of it, and the claims that they have it on.
fn standing<'a>(world: &'a World, pod: &'a SimPod, now: Timestamp) -> impl Iterator<Item = (&'a SimPod, &'a Claim)> {
    let others = world.kube.pods.values().map(|p: &Stored<SimPod>| &p.object).filter(|p| p.pod.identity.uid != pod.pod.identity.uid);
    let known = others.filter(move |p| !p.pod.finished() && now.since(p.placed_at) > TOLERANCE);
    known.filter_map(|p| {
        let claim = &world.kube.claims.get(p.pod.claim.as_ref()?)?.object;
        let alive = claim.status.instance.is_none() || world.ec2.machine_of(&claim.uid).is_some_and(super::super::ec2::Machine::alive);
        alive.then_some((p, claim))
    })
}

fn against_others(world: &World, pod: &SimPod, claim: &Claim, now: Timestamp) -> Vec<String> {
    let (asks, here) = (&pod.asks, labels_of(claim));
    let mut faults = Vec::new();
    for (other, on) in standing(world, pod, now) {
        let (name, there) = (&other.pod.identity.object.name, labels_of(on));
        let keeps = |term: &Others, of: &Asks| term.selects(&of.labels) && here.get(&term.domain) == there.get(&term.domain);
        if asks.apart.iter().any(|term| keeps(term, &other.asks)) || other.asks.apart.iter().any(|term| keeps(term, asks)) {
            faults.push(format!("its anti-affinity with {name} on {} ({})", on.name, on.spec.capacity));
        }
        if on.name == claim.name && other.asks.ports.iter().any(|port| asks.ports.contains(port)) {
            faults.push(format!("a port of the host that {name} has"));
        }
    }
    faults.extend(
        asks.spread
            .iter()
            .filter(|spread| exceeds(world, (pod, claim), spread, &here, now))
            .map(|s| format!("its spread over {}", s.domain)),
    );
    faults
}

/// A hard spread is exceeded: on one machine, or in a zone while another that can be had holds less. Counted in favour of the operator:
/// what it may not know is left out here and counted there.
fn exceeds(world: &World, (pod, claim): (&SimPod, &Claim), spread: &Others, here: &BTreeMap<String, String>, now: Timestamp) -> bool {
    // EC2 may have announced the end of its machine a moment ago: then its work moves, though no claim says so yet.
    let announced = |on: &Claim| world.ec2.machine_of(&on.uid).is_some_and(|m| m.doomed_at.is_some() || m.at_risk);
    let stays = |p: &SimPod, on: &Claim| {
        let leaves = p.pod.let_go.is_some() || p.pod.deleting_until.is_some();
        // One that was given up holds nobody: its pods are made again elsewhere.
        let left = on.status.moving.is_some() || on.status.terminate_asked.is_some() || on.deleting;
        !leaves && !left && !announced(on) && spread.selects(&p.asks.labels)
    };
    let Some(place) = here.get(&spread.domain) else { return true };
    let same = |(p, on): &(&SimPod, &Claim)| stays(p, on) && labels_of(on).get(&spread.domain) == Some(place);
    let beside = i64::try_from(standing(world, pod, now).filter(same).count()).unwrap_or(i64::MAX);
    if spread.domain == HOSTNAME {
        return beside + 1 > spread.max_skew;
    }
    // Which zones can be had is plain only where nothing but the market rules them out: on-demand never runs out.
    let plain =
        !world.account.is_tight() && !world.account.shares() && pod.asks.cap.is_none() && pod.asks.is_spot_first() && pod.asks.spares == 0;
    // A rescue goes where anything is to be had at once, and the operator may just have started and know no market.
    let doomed = |name: &ClaimName| world.kube.claims.get(name).is_some_and(|on| announced(&on.object));
    // The pod whose machine EC2 took may be gone by now, whether anybody had heard that it would be taken or not: the claim keeps what its replacement was
    // bound for.
    let replaced = claim.binding_of(&pod.pod.identity.uid).and_then(|binding| binding.replaces.as_ref());
    let taken = |on: &Stored<Claim>| world.ec2.machine_of(&on.object.uid).is_some_and(|m| m.doomed_at.is_some());
    let kept = replaced.is_some_and(|old| old.deadline.is_some() || world.kube.claims.get(&old.from_claim).is_some_and(taken));
    let leaves = |p: &SimPod| p.made_by == pod.made_by && p.pod.let_go.is_some() && p.pod.claim.as_ref().is_some_and(doomed);
    let rescue = kept || world.kube.pods.values().any(|p| leaves(&p.object));
    if spread.domain != ZONE || !plain || rescue {
        return false;
    }
    let served: BTreeSet<&str> = world.kube.classes.values().flat_map(|c| c.object.zones.keys().map(|zone| zone.as_str())).collect();
    let mut held: BTreeMap<&str, i64> = BTreeMap::new();
    for (region, zone) in ZONES.iter().filter(|(_, zone)| served.contains(zone)) {
        let mut labels = here.clone();
        labels.extend([(ZONE.to_owned(), (*zone).to_owned()), (REGION.to_owned(), (*region).to_owned())]);
        if pod.asks.without_pin().takes_node(&labels) && pod.asks.allows_region(region) {
            held.insert(zone, 0);
        }
    }
    for other in world.kube.pods.values().map(|p| &p.object).filter(|p| spread.selects(&p.asks.labels)) {
        let on = other.pod.claim.as_ref().and_then(|name| world.kube.claims.get(name));
        if let Some(count) = on.and_then(|on| held.get_mut(on.object.spec.capacity.zone.as_str())) {
            *count += 1;
        }
    }
    let least = held.values().min().copied().unwrap_or(0);
    beside + 1 - least > spread.max_skew
}
