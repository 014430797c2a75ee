//! What is reported to the ledger of what was observed: intervals, instance-hours, who used which machine, how a move went.
//!
//! Decides: when a fact is complete enough to be written, once.
//! Does not: compute money.

use super::super::pass::Pass;
use crate::core::action::{Action, ClaimPatch, ClusterAction};
use crate::core::fleet::{Claim, ClaimSpec, Ended, Instance, NodeClass, NoticeKind, Occupant};
use crate::core::market::egress::EgressPrices;
use crate::core::market::{Capacity, CapacityType, PastPrices};
use crate::core::record::{
    CarriedData, Checkpoint, HourPriced, Interruption, IntervalOpened, LedgerRecord, Migration, OccupancyClosed, OccupancyOpened,
    interval_opened_id, migration_id,
};
use crate::core::snapshot::Lane;
use crate::core::units::ids::Uid;
use crate::core::units::money::MicroUsdPerHour;
use crate::core::units::time::{Millis, Timestamp};
use crate::core::workload::need::{Need, WorkloadKind};
use crate::core::workload::{Pod, PodPhase, Replaces};

pub(in crate::core::plan) fn report_to_the_ledger(pass: &mut Pass) {
    let awake: Vec<&Claim> = (0..).zip(pass.index.machines()).filter(|(at, _)| !pass.is_resting(*at)).map(|(_, m)| m.claim).collect();
    for claim in awake {
        intervals(pass, claim);
        occupancies(pass, claim);
        checkpoints(pass, claim);
    }
    migrations(pass);
}

fn report(pass: &mut Pass, record: LedgerRecord) {
    if !pass.world.recorded.contains_key(&record.id()) {
        pass.step(Vec::new(), vec![record], Vec::new());
    }
}

/// The interval, the price of each instance-hour at its start, and the interruption, once each is certain.
fn intervals(pass: &mut Pass, claim: &Claim) {
    // EC2's own launch time starts the bill, so the interval is reported once EC2 shows the instance.
    if let (Some(seen), Some(_)) = (super::super::claims::observed::observed_instance(pass, claim), &claim.status.instance) {
        let reported = pass.world.reported.get(claim.books()).copied().unwrap_or_default();
        // Asked first: of most machines it was reported long ago.
        if !reported.opened
            && !pass.world.recorded.contains_key(&interval_opened_id(claim.books()))
            && let Some(opened) = interval_opened(pass, claim, seen, true)
        {
            report(pass, opened);
        }
        let until = claim.status.ended.as_ref().map_or(pass.now, |ended| ended.at);
        let (certain, _) = unreported_hours(pass, claim, seen.launched_at, until);
        certain.into_iter().for_each(|record| report(pass, record));
        pass.wake(next_hour(seen.launched_at, last_begun(seen.launched_at, until)));
    }
    if let Some(record) = interruption(claim) {
        report(pass, record);
    }
}

/// All that is still to be reported of a machine that has ended, so that its books can be closed; `None` while something is not certain.
/// What was reported before is reported again: nobody can know that it is durable.
pub(in crate::core::plan) fn last_words(
    pass: &Pass,
    claim: &Claim,
    seen: Option<&Instance>,
    ended: &Ended,
    patient: bool,
) -> Option<Vec<LedgerRecord>> {
    let mut records: Vec<LedgerRecord> = interruption(claim).into_iter().collect();
    if let Some(seen) = seen {
        let (certain, complete) = unreported_hours(pass, claim, seen.launched_at, ended.at);
        if patient && !complete {
            return None;
        }
        records.push(interval_opened(pass, claim, seen, patient)?);
        records.extend(certain);
    }
    for occupant in &claim.status.occupants {
        records.push(closed(claim, occupant, occupant.to?));
    }
    Some(records)
}

/// `None` while the type of a machine whose GPUs are shared is not known, as after a start: reported again later, it must say the same. Who is
/// not `patient` counts whole GPUs.
fn interval_opened(pass: &Pass, claim: &Claim, seen: &Instance, patient: bool) -> Option<LedgerRecord> {
    let spec = &claim.spec;
    if patient && spec.sharing.is_shared() && !pass.world.catalog.types.contains_key(&spec.capacity.instance_type) {
        return None;
    }
    Some(LedgerRecord::IntervalOpened(Box::new(IntervalOpened {
        claim: claim.name.clone(),
        claim_uid: claim.books().clone(),
        decision: spec.decision,
        instance: seen.id.clone(),
        capacity: spec.capacity.clone(),
        // Shares of the cost go by the units that pods hold, so the machine counts in the same units.
        gpus: spec.gpu_units(&pass.world.catalog),
        price_per_hour: spec.price_per_hour,
        on_demand_per_hour: spec.on_demand_per_hour,
        running_from: seen.launched_at,
    })))
}

const HOUR: Millis = Millis::from_hours(1);

/// The last instance-hour that has begun by `until`: a machine that ends on the hour has not begun the next.
pub(in crate::core::plan) fn last_begun(launched: Timestamp, until: Timestamp) -> u32 {
    u32::try_from((until.since(launched).0 - 1).max(0) / HOUR.0).unwrap_or(0)
}

/// When the hour after the one of this number begins, and a moment: then it has begun.
pub(in crate::core::plan) fn next_hour(launched: Timestamp, begun: u32) -> Timestamp {
    launched + Millis(HOUR.0 * i64::from(begun + 1) + 1)
}

/// The hours from `launched` to `until` that were not reported yet and whose price is certain, and whether those are all. Hours that are older
/// than prices are kept were reported by an earlier process, or nobody can learn their price any more: the ledger carries on the price before
/// them.
fn unreported_hours(pass: &Pass, claim: &Claim, launched: Timestamp, until: Timestamp) -> (Vec<LedgerRecord>, bool) {
    let begun = last_begun(launched, until);
    let reported = pass.world.reported.get(claim.books()).map_or(0, |reported| reported.hours);
    let horizon = pass.now - PastPrices::KEPT;
    let forgotten = if launched < horizon { last_begun(launched, horizon) + 1 } else { 0 };
    let mut records = Vec::new();
    for hour in reported.max(forgotten)..=begun {
        let from = launched + Millis(HOUR.0 * i64::from(hour));
        let Some(price_per_hour) = price_at(pass, &claim.spec, from) else { return (records, false) };
        // As it was when the machine was chosen: reported again by another process, which may not know it yet, it is the same.
        let on_demand_per_hour = claim.spec.on_demand_per_hour;
        records.push(LedgerRecord::HourPriced(HourPriced {
            claim_uid: claim.books().clone(),
            hour,
            from,
            price_per_hour,
            on_demand_per_hour,
        }));
    }
    (records, true)
}

/// What a machine costs in the hour that begins at `from`; `None` while a change may not have been heard of.
fn price_at(pass: &Pass, spec: &ClaimSpec, from: Timestamp) -> Option<MicroUsdPerHour> {
    match spec.capacity.capacity_type {
        CapacityType::Spot => pass.world.market.past_prices.get(&spec.capacity)?.at(from),
        CapacityType::OnDemand => Some(spec.price_per_hour),
        CapacityType::Reserved => reserved_price_at(pass, spec, from),
    }
}

/// What was paid for the reservation, and on-demand once it has ended: its machines run on (EC2 user guide, "Capacity Reservations").
fn reserved_price_at(pass: &Pass, spec: &ClaimSpec, from: Timestamp) -> Option<MicroUsdPerHour> {
    let named = |class: &NodeClass| class.reservations.iter().any(|r| Some(&r.id) == spec.reservation.as_ref());
    if !pass.world.classes.values().any(named) {
        return Some(spec.price_per_hour);
    }
    // Not looked at yet, as after a start: nobody can say whether it has ended.
    let seen = &pass.world.reservations.get(&spec.capacity.region)?.seen;
    let ended = seen.iter().find(|r| Some(&r.id) == spec.reservation.as_ref()).and_then(|r| r.ends_at).is_some_and(|end| from >= end);
    Some(if ended { spec.on_demand_per_hour.unwrap_or(spec.price_per_hour) } else { spec.price_per_hour })
}

/// Reported from the claim, where it is written down: however often, the same.
fn interruption(claim: &Claim) -> Option<LedgerRecord> {
    let mark = claim.status.interruption.as_ref().filter(|mark| mark.kind == NoticeKind::Interruption)?;
    Some(LedgerRecord::Interruption(Box::new(Interruption {
        claim_uid: claim.books().clone(),
        instance: claim.status.instance.clone()?,
        capacity: claim.spec.capacity.clone(),
        noticed_at: mark.noticed_at,
        deadline: mark.deadline?,
        source: mark.source.clone(),
        ran_for: mark.noticed_at.since(claim.status.launched_at?),
    })))
}

/// The market's price of a pool of capacity now, if it is known.
pub(in crate::core::plan) fn current_price(pass: &Pass, capacity: &Capacity) -> Option<MicroUsdPerHour> {
    pass.offer(capacity).map(|offer| offer.price_per_hour)
}

/// On-demand price of the same type in the same zone's region, if it is known.
pub(in crate::core::plan) fn on_demand_price(pass: &Pass, capacity: &Capacity) -> Option<MicroUsdPerHour> {
    current_price(pass, &Capacity { capacity_type: CapacityType::OnDemand, ..capacity.clone() })
}

/// Who uses the machine. A time is written into the claim before it is reported to the ledger, or comes from the kubelet: a record that is
/// reported again after a crash says the same again.
fn occupancies(pass: &mut Pass, claim: &Claim) {
    let lane = Lane::Claim(claim.name.clone());
    if claim.status.node_ready_at.is_none() || !pass.is_free(&lane) {
        return;
    }
    let mut records = Vec::new();
    let mut occupants = Vec::new();
    // Nothing runs on a machine that has ended, whatever its node still shows.
    let ended = claim.status.ended.as_ref().map(|ended| ended.at);
    let here = pass.index.pods_on(&claim.name);
    let pod_of = |uid: &Uid| here.iter().copied().find(|pod| pod.identity.uid == *uid).or_else(|| pass.world.pods.get(uid));
    if ended.is_none() && same_as_before(claim, here) {
        return;
    }
    for occupant in &claim.status.occupants {
        let pod = pod_of(&occupant.pod.uid);
        let runs = ended.is_none() && pod.is_some_and(|pod| pod.phase == PodPhase::Running);
        match occupant.to {
            None if runs => {
                let ready_since = pod.and_then(|pod| pod.ready_since);
                occupants.push(Occupant { ready_at: occupant.ready_at.or(ready_since), ..occupant.clone() });
            }
            None => occupants.push(Occupant { to: Some(ended.unwrap_or(pass.now).max(occupant.from)), ..occupant.clone() }),
            // The node of a machine that has ended shows its pods as running for a while: one that is no longer written down would count as new.
            Some(_) if here.iter().any(|pod| pod.identity.uid == occupant.pod.uid && pod.phase == PodPhase::Running) => {
                occupants.push(occupant.clone());
            }
            Some(to) => records.push(closed(claim, occupant, to)),
        }
    }
    for pod in here {
        let known = claim.status.occupants.iter().any(|o| o.pod.uid == pod.identity.uid);
        if let (false, PodPhase::Running, Some(from)) = (known, pod.phase, pod.started_at)
            && ended.is_none_or(|at| from < at)
        {
            occupants.push(Occupant { pod: pod.identity.clone(), from, ready_at: pod.ready_since, to: None });
            records.extend(opened(pass, claim, pod, from));
        }
    }
    if occupants != claim.status.occupants {
        // As many claims keep theirs as there are machines.
        occupants.shrink_to_fit();
        let patch = Box::new(ClaimPatch { occupants: Some(occupants), ..ClaimPatch::default() });
        let action = Action::Cluster(ClusterAction::PatchClaim { claim: claim.name.clone(), patch, seen: Some(claim.version) });
        pass.step(vec![lane], records, vec![action]);
    }
}

/// The pods that run here are those that are written down, all of them Ready as written: most machines, most of the time.
pub(in crate::core::plan) fn same_as_before(claim: &Claim, here: &[&Pod]) -> bool {
    let running = |pod: &&&Pod| pod.phase == PodPhase::Running && pod.started_at.is_some();
    let runs = |o: &Occupant| o.to.is_none() && o.ready_at.is_some() && here.iter().any(|p| p.identity.uid == o.pod.uid && running(&p));
    claim.status.occupants.iter().all(runs) && here.iter().filter(running).count() == claim.status.occupants.len()
}

fn closed(claim: &Claim, occupant: &Occupant, to: Timestamp) -> LedgerRecord {
    LedgerRecord::OccupancyClosed(OccupancyClosed { claim_uid: claim.books().clone(), pod_uid: occupant.pod.uid.clone(), to })
}

/// GPU units of the machine that no other pod there holds; at least one.
fn left_on(pass: &Pass, claim: &Claim, pod: &Pod) -> i64 {
    let others = pass.pods_on(&claim.name).into_iter().filter(|other| other.identity.uid != pod.identity.uid && !other.finished());
    let held: i64 = others.filter_map(|other| other.need.as_ref().ok()).map(|(need, _)| need.gpus).sum();
    (claim.spec.gpu_units(&pass.world.catalog) - held).max(1)
}

fn opened(pass: &Pass, claim: &Claim, pod: &Pod, from: Timestamp) -> Option<LedgerRecord> {
    let (kind, gpus) = match &pod.need {
        Ok((need, _)) => (need.kind, need.gpus),
        // It was bound when its annotations could be read. Its owner may have changed them since, and would have others pay: it is charged for whatever the
        // machine has left.
        Err(_) => (WorkloadKind::Inference, left_on(pass, claim, pod)),
    };
    let held = pass.world.held(pod);
    Some(LedgerRecord::OccupancyOpened(Box::new(OccupancyOpened {
        claim_uid: claim.books().clone(),
        pod: pod.object().clone(),
        pod_uid: pod.identity.uid.clone(),
        workload: pod.workload.clone(),
        kind,
        attribution: pod.attribution.clone(),
        gpus,
        decision: held.decision.unwrap_or(claim.spec.decision),
        b1_per_replica_hour: held.baseline.b1_per_replica_hour,
        b2_per_replica_hour: held.baseline.b2_per_replica_hour,
        from,
        carried: pod.need.as_ref().ok().and_then(|(need, _)| carried(claim, held.replaces, need)),
    })))
}

/// Data that had to come from another region: from where the owner keeps them, else from where the pod ran before.
fn carried(claim: &Claim, replaces: Option<&Replaces>, need: &Need) -> Option<CarriedData> {
    let to = &claim.spec.capacity.region;
    let left = replaces.and_then(|old| old.from_region.as_ref());
    let from = need.data_region.as_ref().or(left).filter(|from| need.data_gib > 0 && *from != to)?;
    Some(CarriedData {
        gib: need.data_gib,
        from_region: from.clone(),
        price_per_gib: EgressPrices::snapshot().per_gib(from, to),
        moved_by: replaces.map(|old| old.decision),
    })
}

/// What running batch programs said of their checkpoints: when the machine is taken, work after the last one is lost.
fn checkpoints(pass: &mut Pass, claim: &Claim) {
    for pod in pass.index.pods_on(&claim.name).to_vec() {
        let Ok((need, schedule)) = &pod.need else { continue };
        let running = pod.phase == PodPhase::Running && need.kind == WorkloadKind::Batch;
        let Some(at) = schedule.checkpointed_at.filter(|at| running && *at >= pod.created_at) else { continue };
        // By a clock that is ahead of ours.
        pass.wake(at);
        if at <= pass.now {
            report(pass, LedgerRecord::Checkpoint(Checkpoint { claim_uid: claim.books().clone(), pod_uid: pod.identity.uid.clone(), at }));
        }
    }
}

/// A move is reported once its replacement is written down as Ready: from there on, however often, it is reported the same. When the old pod was
/// gone is reported by the end of its occupancy.
fn migrations(pass: &mut Pass) {
    let replacements = pass.index.replacing().to_vec();
    for new in replacements {
        let (Some(old), Some(to)) = (pass.world.held(new).replaces, new.claim.as_ref().and_then(|name| pass.world.claims.get(name))) else {
            continue;
        };
        let written = to.status.occupants.iter().find(|o| o.pod.uid == new.identity.uid);
        let Some(ready_at) = written.and_then(|o| o.ready_at) else { continue };
        if pass.world.recorded.contains_key(&migration_id(old.decision, &old.pod.uid, new.claim.as_ref())) {
            continue;
        }
        let bought = Some(to).filter(|c| c.spec.bought_for.iter().any(|p| p.uid == new.identity.uid));
        let egress_gib = new.need.as_ref().ok().and_then(|(need, _)| carried(to, Some(old), need)).map_or(0, |data| data.gib);
        let record = Migration {
            decision: old.decision,
            pod: (*old.pod.object).clone(),
            pod_uid: old.pod.uid.clone(),
            from_claim: old.from_claim.clone(),
            to_claim: new.claim.clone(),
            noticed_at: old.noticed_at,
            deadline: old.deadline,
            decided_at: old.decided_at,
            launched_at: bought.and_then(|c| c.status.launched_at),
            node_ready_at: bought.and_then(|c| c.status.node_ready_at),
            pod_ready_at: Some(ready_at),
            old_gone_at: None,
            egress_gib,
        };
        report(pass, LedgerRecord::Migration(Box::new(record)));
    }
}
