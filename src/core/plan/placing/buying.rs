//! Gated pods onto room we have or machines we buy.
//!
//! Decides: which pods are placed in this pass, under which pool's policy, and what is said when none will do.
//! Does not: compare offers (see [`crate::core::placement`]) or lift gates (`lifting`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::super::moving::watching::{has_outgrown, is_misfit};
use super::super::pass::{Pass, target};
use super::super::reporting::wording;
use super::apart;
use super::asking::Asked;
use super::bindings::{bind_as_kept, bindings_of, keep_bindings};
use super::deadline;
use super::judging::{Bought, Judged};
use super::refusing::refuse;
use super::replacing::{is_rescue, replaced_pod, trigger_of};
use super::room::{free_room, kept_for};
use super::tied;
use crate::core::action::{Action, ClusterAction, EventKind, EventSubject, Note};
use crate::core::fleet::{Claim, ClaimSpec, FrozenLaunch, NodeClass, NodePool, Trigger};
use crate::core::market::{Capacity, CapacityType, Offer, PriceSource};
use crate::core::placement::{self, Demand, Placement, PlacementRequest, PlannedMachine, Target};
use crate::core::record::{Counterfactuals, Decision, JudgedOffer, Judgement, LedgerRecord, OUTBOX_CLOSED, Outcome, code_of};
use crate::core::snapshot::Lane;
use crate::core::units::ids::{ClaimName, DecisionId, ReservationId};
use crate::core::units::shared::Shared;
use crate::core::workload::need::Need;
use crate::core::workload::{Baseline, Mobility, Pod, Replaces};

pub(in crate::core::plan) fn buy<'a>(pass: &mut Pass<'a>) {
    let waiting: Vec<&'a Pod> = waiting_pods(pass).into_iter().filter(|pod| !bind_where_bought(pass, pod)).collect();
    if waiting.is_empty() {
        return;
    }
    pass.weighed = true;
    // The cheapest of half the market is not the cheapest. A rescue does not wait for the rest.
    let waiting: Vec<&Pod> = if pass.world.market_surveyed {
        waiting
    } else {
        pass.wake(pass.now + crate::core::units::time::Millis::from_secs(1));
        waiting.into_iter().filter(|pod| is_rescue(pass, pod)).collect()
    };
    let (rescues, others): (Vec<&Pod>, Vec<&Pod>) = waiting.into_iter().partition(|pod| is_rescue(pass, pod));
    let taken = pass.taken.len();
    place_all(pass, &rescues);
    pass.hurries |= pass.taken.len() > taken;
    if pass.hurries && !others.is_empty() {
        // What saves work is handed out before anything is weighed for new pods: they have the next pass, which comes at once.
        pass.wake(pass.now + crate::core::units::time::Millis(1));
        return;
    }
    if pass.world.outbox_closed {
        others.iter().for_each(|pod| wait_for_the_ledger(pass, pod));
        return;
    }
    place_all(pass, &others);
}

/// Too much waits for Postgres for anything to be bought that saves no work.
fn wait_for_the_ledger(pass: &mut Pass, pod: &Pod) {
    let note =
        format!("{OUTBOX_CLOSED} records or more wait for Postgres: nothing is bought for new pods until fewer do. Bring Postgres back");
    pass.emit(EventSubject::Pod(pod.identity.clone()), (EventKind::Warning, "OutboxFull"), "closed", note);
}

/// Places `waiting`, all of them together: onto room, on machines to buy, or not at all and why.
fn place_all<'a>(pass: &mut Pass<'a>, waiting: &[&'a Pod]) {
    if waiting.is_empty() {
        return;
    }
    let mut asked = Asked::for_pods(pass, waiting, free_room(pass, &BTreeSet::new()));
    let placed = place_apart(pass, &mut asked, waiting);
    let request = asked.request(pass);
    let by_key: BTreeMap<&str, &Pod> = waiting.iter().map(|pod| (pod.identity.uid.as_str(), *pod)).collect();
    let mut judged = Judged::default();
    let mut onto_room: BTreeMap<(ClaimName, Shared<Need>), Vec<&Pod>> = BTreeMap::new();
    // A purchase is one of fifty thousand, perhaps: what is done with is dropped.
    let Placement { assignments, machines, unplaced, .. } = placed;
    for assignment in assignments {
        if let (Target::ExistingRoom(claim), Some(pod)) = (&assignment.target, by_key.get(&*assignment.key))
            && let Ok((need, _)) = &pod.need
        {
            onto_room.entry((claim.clone(), need.clone())).or_default().push(pod);
        }
    }
    for ((claim, need), pods) in onto_room {
        let at = pass.claims.get(&claim).map(|c| c.spec.capacity.clone());
        if !goes_together(pass, &pods, at) {
            continue;
        }
        use_room(pass, &request, &mut judged, &claim, &need, &pods);
    }
    for machine in machines {
        let demands = machine.demands.iter().filter_map(|i| request.demands.get(*i));
        let pods: Vec<(&Pod, &Demand)> = demands.filter_map(|d| Some((*by_key.get(&*d.key)?, d))).collect();
        let only_pods: Vec<&Pod> = pods.iter().map(|(pod, _)| *pod).collect();
        if !goes_together(pass, &only_pods, Some(machine.capacity.clone())) {
            continue;
        }
        buy_machine(pass, &asked, &request, &mut judged, &machine, &pods);
    }
    for unplaced in unplaced {
        if let Some(pod) = by_key.get(&*unplaced.key) {
            refuse(pass, pod, &unplaced.judgement, asked.verdict(pod));
        }
    }
}

/// Places what is asked, replicas of one service apart where that is nearly free. A service of which some replica finds no place that way is
/// placed wherever there is one.
fn place_apart<'a>(pass: &Pass<'a>, asked: &mut Asked<'a>, waiting: &[&Pod]) -> Placement {
    asked.spread_out(pass, waiting);
    loop {
        let placed = placement::place(&asked.request(pass));
        let left: BTreeSet<&str> = placed.unplaced.iter().map(|unplaced| &*unplaced.key).collect();
        let short = waiting.iter().filter(|pod| left.contains(pod.identity.uid.as_str())).map(|pod| &*pod.workload).collect();
        if !asked.gather(&short, waiting) {
            return placed;
        }
    }
}

/// Whether rules between pods let all of `pods` go to `at` beside those that this pass has placed there. If so they count as placed; if not
/// they have the next pass, which sees where the others are.
fn goes_together<'a>(pass: &mut Pass<'a>, pods: &[&'a Pod], at: Option<Capacity>) -> bool {
    let Some(at) = at.filter(|_| !super::asking::terms(pass).marks.over_areas.is_empty()) else { return true };
    if pods.iter().any(|pod| apart::clashes(pass, pod, &at)) {
        pass.wake(pass.now + crate::core::units::time::Millis(1));
        return false;
    }
    pass.placed.extend(pods.iter().map(|pod| (*pod, at.clone())));
    true
}

/// Pods that need a place now: gated by us alone, and bound to nothing that will take them.
fn waiting_pods<'a>(pass: &mut Pass<'a>) -> Vec<&'a Pod> {
    let mut waiting: Vec<&Pod> = Vec::new();
    for pod in pass.index.gated().to_vec() {
        let placed = match pod.claim.as_ref().map(|name| pass.claims.get(name)) {
            None | Some(None) => false,
            // A failed claim cools its pool down and goes first; then its pods are placed again.
            Some(Some(claim)) if is_misfit(claim, pod) || has_outgrown(pass, claim, pod) => false,
            Some(Some(claim)) => claim.takes_work() || (claim.status.failure.is_some() && claim.status.instance.is_none()),
        };
        if placed || !pass.is_free(&Lane::Pod(pod.identity.uid.clone())) {
            continue;
        }
        match &pod.need {
            Ok(_) if pass.pools_for(pod).is_empty() => say_no_pool(pass, pod),
            Ok(_) if tied::waits_for_volume(pass, pod) => {}
            Ok(_) => waiting.push(pod),
            Err(faults) => {
                let note = format!("cannot be placed: {}", faults.join("; "));
                pass.emit(EventSubject::Pod(pod.identity.clone()), (EventKind::Warning, "BadNeed"), faults.join("; "), note);
            }
        }
    }
    // Rescues first, then the oldest: the order is the placement's tie-break.
    waiting.sort_by_cached_key(|p| (replaced_pod(pass, p).is_none(), p.created_at, p.identity.uid.clone()));
    // Terms list the whole market: not for nothing.
    if waiting.is_empty() {
        return waiting;
    }
    let terms = super::asking::terms(pass);
    tied::one_at_a_time(pass, &terms.marks, waiting)
}

fn say_no_pool(pass: &mut Pass, pod: &Pod) {
    let pools: Vec<&str> = pass.world.pools.keys().map(|name| name.as_str()).collect();
    let known = if pools.is_empty() { "there is none yet".to_owned() } else { format!("known: {}", pools.join(", ")) };
    let note = format!("no GpuNodePool allows namespace {} (spec.namespaceSelector); {known}", pod.object().namespace);
    pass.emit(EventSubject::Pod(pod.identity.clone()), (EventKind::Warning, "NoNodePool"), pools.join(","), note);
}

fn replaces(pass: &mut Pass, pod: &Pod) -> Option<Box<Replaces>> {
    if let Some(known) = pass.world.held(pod).replaces {
        return Some(Box::new(known.clone()));
    }
    let old = replaced_pod(pass, pod)?;
    pass.replaced.insert(old.identity.uid.clone());
    let (mark, from_claim) = (old.let_go.as_ref()?, old.claim.clone()?);
    let from = pass.world.claims.get(&from_claim);
    let interruption = from.and_then(|c| c.status.interruption.as_ref());
    Some(Box::new(Replaces {
        pod: old.identity.clone(),
        from_claim,
        decision: mark.decision,
        noticed_at: interruption.map_or(mark.at, |i| i.noticed_at),
        decided_at: from.and_then(|c| c.status.moving.as_ref()).map_or(mark.at, |m| m.decided_at),
        deadline: interruption.and_then(|i| i.deadline),
        from_region: from.map(|c| c.spec.capacity.region.clone()),
        work: matches!(*old.mobility, Mobility::Job { .. }).then(|| Box::new(deadline::work_before(pass, old))),
    }))
}

/// What would have been paid instead of the offer that was chosen.
fn otherwise(request: &PlacementRequest, need: &Need, judgement: &Judgement, pool: &NodePool) -> Shared<Counterfactuals> {
    let chosen = judgement.chosen.as_ref().map(|chosen| &chosen.capacity);
    let of = |chosen| Shared::from(placement::counterfactuals(request.catalog, request.market, need, chosen, &pool.home_region));
    chosen.map(of).unwrap_or_default()
}

/// Everything a placement decision proves.
fn decision(
    pass: &Pass,
    outcome: Outcome,
    pool: &NodePool,
    need: &Shared<Need>,
    pods: &[&Pod],
    (judgement, counterfactuals): (Shared<Judgement>, Shared<Counterfactuals>),
) -> Option<Decision> {
    let first = pods.first()?;
    let uids: Vec<&str> = pods.iter().map(|pod| pod.identity.uid.as_str()).collect();
    // Two operators that decide at one moment on different offers decide two things.
    let subject = format!("{}@{}#{}", uids.join(","), pass.now.0, judgement.offers_hash);
    let leaving = replaced_pod(pass, first).and_then(|old| old.claim.clone());
    Some(Decision {
        id: DecisionId::derive(&pass.world.cluster, &code_of(&outcome), &subject, pass.world.held(first).attempt),
        cluster: pass.cluster.clone(),
        decided_at: pass.now,
        trigger: trigger_of(pass, first),
        outcome,
        text: Arc::default(),
        node_pool: Some(pool.name.clone()),
        workload: Some(first.workload.clone()),
        attribution: first.attribution.clone(),
        pods: pods.iter().map(|pod| pod.identity.clone()).collect(),
        need: Some(need.clone()),
        judgement,
        counterfactuals,
        claim: None,
        from_claim: leaving,
        instance: None,
        policy_hash: pass.policy_hash(pool),
        code_version: pass.settings.code_version.clone(),
    })
}

fn bind(pass: &mut Pass, pod: &Pod, claim: &ClaimName, decision: DecisionId, baseline: Baseline) -> Action {
    pass.taken.insert(claim.clone());
    Action::Cluster(ClusterAction::Bind {
        target: target(pod),
        claim: claim.clone(),
        decision,
        attempt: pass.world.held(pod).attempt + 1,
        baseline,
        replaces: replaces(pass, pod),
    })
}

/// A machine was bought for this pod and the pod was not bound, as when the process ended in between. True when it is now, or will be.
fn bind_where_bought<'a>(pass: &mut Pass<'a>, pod: &'a Pod) -> bool {
    let Some(claim) = kept_for(pass, pod).cloned() else { return false };
    if !goes_together(pass, &[pod], Some(claim.spec.capacity.clone())) {
        return false;
    }
    let (Ok((need, _)), Some(pool)) = (&pod.need, pass.pool_of(&claim)) else { return false };
    let known = claim.binding_of(&pod.identity.uid);
    let binds = vec![match known {
        // What it was bought with holds, and is kept there already.
        Some(known) => bind_as_kept(pass, pod, &claim, known),
        None => {
            let (world, home) = (&pass.world, &pool.home_region);
            let counterfactuals = placement::counterfactuals(&world.catalog, &world.market, need, &claim.spec.capacity, home);
            bind(pass, pod, &claim.name, claim.spec.decision, counterfactuals.per_replica())
        }
    }];
    let kept = known.is_none().then(|| keep_bindings(pass, &claim, &binds));
    pass.step(vec![Lane::Pod(pod.identity.uid.clone())], Vec::new(), kept.into_iter().chain(binds).collect())
}

fn use_room<'p>(
    pass: &mut Pass,
    request: &PlacementRequest,
    judged: &mut Judged<'p>,
    claim_name: &ClaimName,
    need: &Shared<Need>,
    pods: &[&'p Pod],
) {
    let Some(claim) = pass.claims.get(claim_name).cloned() else { return };
    let Some(pool) = pass.pool_of(&claim) else { return };
    let Some(policy) = request.pools.iter().find(|p| p.name == pool.name) else { return };
    let Some((own, _)) = pods.first().and_then(|pod| pod.need.as_ref().ok()) else { return };
    let judgement = judged.onto_room(request, own, policy, room_as_offer(pass, &claim, pods.len()));
    let otherwise = judged.counterfactuals(request, own, &claim.spec.capacity, &pool.home_region);
    let Some(mut decision) = decision(pass, Outcome::UseRoom, pool, need, pods, (judgement, otherwise)) else { return };
    decision.claim = Some(claim.name.clone());
    decision.instance = claim.status.instance.clone();
    decision.text = format!("room on {}, which is paid for already at ${}/h", claim.spec.capacity, claim.spec.price_per_hour).into();
    let per_replica = decision.counterfactuals.per_replica();
    let binds: Vec<Action> = pods.iter().map(|pod| bind(pass, pod, &claim.name, decision.id, per_replica)).collect();
    let actions = std::iter::once(keep_bindings(pass, &claim, &binds)).chain(binds).collect();
    let note: Arc<str> = format!("placed on {} ({}): {}; decision {}", claim.name, claim.spec.capacity, decision.text, decision.id).into();
    let (id, lanes) = (decision.id, pods.iter().map(|pod| Lane::Pod(pod.identity.uid.clone())).collect());
    if pass.step(lanes, vec![LedgerRecord::Decision(Box::new(decision))], actions) {
        for pod in pods {
            pass.emit(EventSubject::Pod(pod.identity.clone()), (EventKind::Normal, "Placed"), id, note.clone());
        }
    }
}

/// Room that is paid for already, as the offer it is: at the price its machine was bought at, which says where that came from.
fn room_as_offer(pass: &Pass, claim: &Claim, replicas: usize) -> JudgedOffer {
    let origin = claim.spec.price_origin;
    JudgedOffer {
        capacity: claim.spec.capacity.clone(),
        price_per_hour: claim.spec.price_per_hour,
        cost_per_replica_hour: Some(Default::default()),
        replicas: i64::try_from(replicas).unwrap_or(i64::MAX),
        price_age: pass.now.since(origin.map_or(claim.created_at, |origin| origin.observed_at)),
        source: origin.map_or_else(|| PriceSource::usual_of(claim.spec.capacity.capacity_type), |origin| origin.source),
        interruptions_per_million_hours: 0,
        placement_score: None,
        unmet_preferences: 0,
        refusal: None,
    }
}

/// Buys a machine that is to take over the work of `old`, before anything is moved. True when the step was taken.
pub(in crate::core::plan) fn buy_ahead(
    pass: &mut Pass,
    request: &PlacementRequest,
    machine: &PlannedMachine,
    old: &Claim,
    trigger: Trigger,
    why: &str,
) -> bool {
    let pods: Vec<&Pod> = pass.pods_on(&old.name);
    let Some(first) = pods.first() else { return false };
    let Some(pool) = pass.world.pools.get(&machine.node_pool) else { return false };
    let Some(policy) = request.pools.iter().find(|p| p.name == pool.name) else { return false };
    let Some(class) = pass.ready_classes(pool).get(&machine.capacity.zone).copied() else { return false };
    let Ok((need, _)) = &first.need else { return false };
    let judgement = Shared::from(placement::judge_chosen(request, need, policy, Some(&machine.capacity)));
    let otherwise = otherwise(request, need, &judgement, pool);
    let Some(mut decision) = decision(pass, Outcome::Launch, pool, need, &pods, (judgement, otherwise)) else { return false };
    let name = ClaimName::derive(&["takes-over", old.uid.as_str(), &pass.now.0.to_string()]);
    decision.trigger = trigger;
    decision.from_claim = Some(old.name.clone());
    decision.claim = Some(name.clone());
    decision.text = format!("{why}; bought ahead: {}", wording::placed(&decision.judgement)).into();
    let Some(base) = spec_of(pass, machine, pool, class) else { return false };
    let bought_for = pods.iter().map(|pod| pod.identity.clone()).collect();
    let spec = ClaimSpec { decision: decision.id, trigger, bought_for, takes_over: Some(old.name.clone()), ..base };
    let create = ClusterAction::CreateClaim { name: name.clone(), spec: Box::new(spec) };
    // Where no replacement would be admitted, nothing is bought for it.
    let rehearse =
        |pod: &&Pod| ClusterAction::Rehearse { pod: pod.identity.clone(), ends_first: !matches!(*pod.mobility, Mobility::Surge { .. }) };
    let actions = pods.iter().map(rehearse).chain([create]).map(Action::Cluster).collect();
    let lanes = vec![Lane::Claim(old.name.clone()), Lane::Claim(name)];
    pass.step(lanes, vec![LedgerRecord::Decision(Box::new(decision))], actions)
}

/// Claim names are made of the first pod and its attempt: two operators that decide the same collide on the name, and only one buys.
/// Where another pod has taken the place that was bought for this one, the next name follows from that claim.
fn claim_name(pass: &Pass, pod: &Pod) -> ClaimName {
    let attempt = pass.world.held(pod).attempt.to_string();
    let name_after = |after: &str| ClaimName::derive(&["claim", pod.identity.uid.as_str(), &attempt, after]);
    let mut name = name_after("");
    for _ in 0..=pass.claims.len() {
        match pass.claims.get(&name) {
            Some(taken) => name = name_after(taken.uid.as_str()),
            None => break,
        }
    }
    name
}

/// Pods of one need and one reason, and the demand of one of them.
type Alike<'p> = (&'p Demand, Vec<&'p Pod>);

fn buy_machine<'a, 'p>(
    pass: &mut Pass<'a>,
    asked: &'p Asked<'a>,
    request: &PlacementRequest<'p>,
    judged: &mut Judged<'p>,
    machine: &PlannedMachine,
    pods: &[(&'p Pod, &'p Demand)],
) {
    let Some((first, _)) = pods.first() else { return };
    let Some(pool) = pass.world.pools.get(&machine.node_pool) else { return };
    let Some(policy) = request.pools.iter().find(|p| p.name == pool.name) else { return };
    let Some(class) = pass.ready_classes(pool).get(&machine.capacity.zone).copied() else { return };
    let name = claim_name(pass, first);
    let (mut records, mut binds, mut notes, mut decisions) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    // Pods that share a machine may have come to it for different reasons.
    let mut by_need: BTreeMap<(&Shared<Need>, Option<&str>), Alike<'p>> = BTreeMap::new();
    for (pod, demand) in pods {
        if let Ok((need, _)) = &pod.need {
            let why = asked.verdict(pod).map(|verdict| verdict.text.as_str());
            by_need.entry((need, why)).or_insert((demand, Vec::new())).1.push(pod);
        }
    }
    for ((need, why), (demand, group)) in by_need {
        let Bought { judgement, otherwise, text } = judged.bought(request, (demand, why), (policy, &pool.home_region), &machine.capacity);
        let Some(mut decision) = decision(pass, Outcome::Launch, pool, need, &group, (judgement, otherwise)) else { return };
        decision.claim = Some(name.clone());
        decision.text = text;
        for pod in &group {
            binds.push(bind(pass, pod, &name, decision.id, decision.counterfactuals.per_replica()));
            let note = Note::Placed { text: decision.text.clone(), claim: name.clone(), decision: decision.id };
            notes.push((pod.identity.clone(), decision.id, note));
        }
        decisions.push((decision.id, decision.trigger));
        records.push(LedgerRecord::Decision(Box::new(decision)));
    }
    let (Some((decision, trigger)), Some(spec_base)) = (decisions.first().copied(), spec_of(pass, machine, pool, class)) else { return };
    let bought_for = pods.iter().map(|(pod, _)| pod.identity.clone()).collect();
    let bindings = Some(bindings_of(&binds));
    let spec = ClaimSpec { decision, trigger, bought_for, bindings, ..spec_base };
    let mut actions = vec![Action::Cluster(ClusterAction::CreateClaim { name: name.clone(), spec: Box::new(spec) })];
    actions.extend(binds);
    let mut lanes: Vec<Lane> = pods.iter().map(|(pod, _)| Lane::Pod(pod.identity.uid.clone())).collect();
    lanes.push(Lane::Claim(name));
    if pass.step(lanes, records, actions) {
        for (pod, id, note) in notes {
            pass.emit(EventSubject::Pod(pod), (EventKind::Normal, "Placed"), id, note);
        }
    }
}

/// The part of a claim that does not depend on the decision.
fn spec_of(pass: &Pass, machine: &PlannedMachine, pool: &NodePool, class: &NodeClass) -> Option<ClaimSpec> {
    let (launch_template, launch_template_version) = class.launch_template.clone()?;
    let on_demand = super::super::reporting::facts::on_demand_price(pass, &machine.capacity);
    let kind = pass.world.catalog.types.get(&machine.capacity.instance_type)?;
    Some(ClaimSpec {
        node_pool: pool.name.clone(),
        node_class: class.name.clone(),
        capacity: machine.capacity.clone(),
        price_per_hour: machine.price_per_hour,
        on_demand_per_hour: on_demand.or((machine.capacity.capacity_type == CapacityType::OnDemand).then_some(machine.price_per_hour)),
        gpus: kind.gpus,
        decision: DecisionId(uuid::Uuid::nil()),
        trigger: Trigger::PendingPod,
        attempt: 1,
        frozen: pass.shared_launch(FrozenLaunch {
            launch_template,
            launch_template_version,
            subnet: class.zones.get(&machine.capacity.zone)?.clone(),
            image: class.images.of(kind.architecture).map(|image| image.id.clone()),
            tags: class.tags.clone(),
        }),
        sharing: class.sharing,
        reservation: reservation_for(pass, &machine.capacity, class)?,
        bought_for: Vec::new(),
        bindings: Some(Vec::new()),
        takes_over: None,
        price_origin: pass.offer(&machine.capacity).map(Offer::origin),
        adopted: None,
        books: None,
    })
}

/// The reservation that a machine from `at` is launched into: none for open capacity; `None` altogether when the class names none for it.
fn reservation_for(pass: &Pass, at: &Capacity, class: &NodeClass) -> Option<Option<ReservationId>> {
    if at.capacity_type != CapacityType::Reserved {
        return Some(None);
    }
    let offer = pass.reserved.get(at)?;
    class.reservations.iter().any(|named| named.id == offer.reservation).then_some(Some(offer.reservation.clone()))
}
