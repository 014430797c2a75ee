//! Voluntary moves: back to spot, or to a cheaper offer, beyond hysteresis only.
//!
//! Decides: whether a machine whose pods can be replaced first is left for something cheaper, and whether one that a Job's pod has to
//! itself is, when the batch policy says that moving pays and stopping loses no more work than a boot takes.
//! Does not: move pods (`migration`) or choose where they go (`buying` does, when the replacements wait).
//!
//! Guards, all of which must hold: the ledger takes records; every pod on the machine can surge, or the only one is of a Job that has saved or
//! will; none is to stay where it is, and the pool's disruption budgets let one more machine go (`choice`); the API server would take the replacements; the
//! machine is older than its pool's dwell; nothing of the same workload is being moved; no
//! launch was refused for lack of capacity within that dwell, unless the cheaper machine is Ready; the saving is at least the pool's share of what
//! is paid now. One move a pass.
//!
//! The cheaper machine is bought first, and the old one is left only when the new one is Ready: an offer that turns out not to be there
//! costs nothing and moves nobody.

use std::collections::{BTreeMap, BTreeSet};

use super::super::pass::Pass;
use super::super::placing::asking::Asked;
use super::super::placing::buying;
use super::super::placing::room;
use super::super::reporting::wording;
use super::choice::{self, Budgets};
use super::renewing;
use crate::core::action::{Action, ClaimPatch, ClusterAction, EventKind, EventSubject};
use crate::core::fleet::{Claim, DisruptionReason, MoveMark, Trigger};
use crate::core::market::{Capacity, CapacityType, CoolDownCause};
use crate::core::placement::{self, Placement, Room, Target};
use crate::core::record::{LedgerRecord, Outcome};
use crate::core::snapshot::Lane;
use crate::core::units::Resources;
use crate::core::units::ids::{ClaimName, PoolName};
use crate::core::units::money::MicroUsdPerHour;
use crate::core::units::time::Timestamp;
use crate::core::workload::need::Need;
use crate::core::workload::{Mobility, Pod, Workload};

/// What one look at all machines knows: found once, asked for each.
struct Look<'a> {
    /// Workloads of which something is being moved already.
    moving: BTreeSet<&'a Workload>,
    /// When EC2 last refused for lack of capacity.
    refused_at: Option<Timestamp>,
    /// Free room on machines that are Ready and have work, by claim, once a machine has asked for it: moving onto one that is ending already
    /// saves nothing.
    room: Option<BTreeMap<ClaimName, Room>>,
    /// Work that nothing cheaper was found for.
    dismissed: BTreeSet<Alike<'a>>,
}

/// Machines that are equal in this get one answer: what their work needs, the node pool, what is paid, and the room they have left themselves,
/// which is no place to go to.
type Alike<'a> = (Vec<&'a Need>, PoolName, MicroUsdPerHour, Option<(Capacity, Resources)>);

impl<'a> Look<'a> {
    fn of(pass: &Pass<'a>) -> Self {
        let left = |p: &Pod| p.claim.as_ref().and_then(|name| pass.claims.get(name)).is_some_and(|c| !c.takes_work());
        let on_the_move = pass.world.pods.values().filter(|p| !p.finished() && (p.let_go.is_some() || left(p)));
        let refused =
            pass.world.memory.capacities().filter_map(|(_, seen)| seen.cool_down).filter(|c| c.cause == CoolDownCause::NoCapacity);
        Look {
            moving: on_the_move.map(|p| &*p.workload).collect(),
            refused_at: refused.map(|c| c.since).max(),
            room: None,
            dismissed: BTreeSet::new(),
        }
    }

    fn room(&mut self, pass: &Pass) -> &BTreeMap<ClaimName, Room> {
        self.room.get_or_insert_with(|| {
            let useful = |r: &Room| r.ready && !pass.index.pods_on(&r.claim).is_empty();
            room::free_room(pass, &BTreeSet::new()).into_iter().filter(useful).map(|r| (r.claim.clone(), r)).collect()
        })
    }

    /// Where the work of `claim` could go without buying: useful room, and that on the machine which was bought to take it over.
    fn room_for(&mut self, pass: &Pass, claim: &Claim, successor: Option<&Claim>) -> Vec<Room> {
        let mut found: Vec<Room> = self.room(pass).values().filter(|r| r.claim != claim.name).cloned().collect();
        if let Some(new) = successor.filter(|new| !found.iter().any(|r| r.claim == new.name)) {
            found.extend(room::free_on(pass, new));
            found.sort_by(|a, b| a.claim.cmp(&b.claim));
        }
        found
    }
}

/// Says whether every machine was considered: not while the ledger is away, and not sooner after the last time than the settings say.
/// A machine whose successor is Ready is left at once.
pub(in crate::core::plan) fn consider_moves(pass: &mut Pass) -> bool {
    if !pass.world.ledger_available {
        return false;
    }
    let next = pass.moves_considered_next().unwrap_or(pass.now);
    let due = pass.now >= next || pass.world.moves_considered_at.is_some_and(|last| pass.now < last);
    let joined = pass.index.taking_over().iter().filter(|c| c.status.node_ready_at.is_some() && choice::waits(pass, c));
    let awaited: BTreeSet<&ClaimName> = joined.filter_map(|c| c.spec.takes_over.as_ref()).collect();
    if !due && awaited.is_empty() {
        return false;
    }
    let mut budgets = Budgets::of(pass);
    if due {
        renewing::renew(pass, &mut budgets);
    }
    let claims = pass.world.claims.clone();
    let mut look = Look::of(pass);
    for claim in claims.values().filter(|c| c.takes_work() && c.status.node_ready_at.is_some()) {
        let awaited = awaited.contains(&claim.name);
        let considered = (due || awaited) && pass.is_free(&Lane::Claim(claim.name.clone()));
        if considered && may_move(pass, &look, &mut budgets, claim, awaited) && move_if_cheaper(pass, &mut look, claim) {
            return due;
        }
    }
    due
}

fn may_move<'a>(pass: &mut Pass<'a>, look: &Look, budgets: &mut Budgets<'a>, claim: &Claim, awaited: bool) -> bool {
    let (Some(pool), Some(ready)) = (pass.pool_of(claim), claim.status.node_ready_at) else { return false };
    let pods = pass.pods_on(&claim.name);
    let settled = |pod: &&Pod| pod.ready_since.is_some() && pod.let_go.is_none() && pod.deleting_until.is_none();
    let surges = |pod: &&Pod| matches!(*pod.mobility, Mobility::Surge { .. });
    let movable = pods.iter().all(surges) || (pods.len() == 1 && of_a_job(&pods));
    if pool.deleting || pods.is_empty() || !movable || !pods.iter().all(settled) || !pass.due(ready, pool.return_min_dwell) {
        return false;
    }
    if choice::kept_by_a_pod(pass, claim).is_some() || budgets.admit(pass, claim, DisruptionReason::SavingsMove).is_err() {
        // Both change with the time.
        pass.weighed = true;
        return false;
    }
    if pods.iter().any(|pod| pass.world.refused_replacements.get(&pod.identity.uid).is_some_and(|refused| pass.now < refused.again_at)) {
        return false;
    }
    // Whose successor is Ready asks for nothing that could be refused.
    let refused_lately = !awaited && look.refused_at.is_some_and(|at| pass.now < at + pool.return_min_dwell);
    if refused_lately {
        pass.weighed = true;
        pass.wake(pass.now + pool.return_min_dwell);
        return false;
    }
    pods.iter().all(|pod| !look.moving.contains(&*pod.workload) && pass.is_free(&Lane::Pod(pod.identity.uid.clone())))
}

fn of_a_job(pods: &[&Pod]) -> bool {
    pods.iter().any(|pod| matches!(*pod.mobility, Mobility::Job { .. }))
}

/// What is paid for the machine now: a spot price moves, an on-demand price is what was bought.
fn paid_now(pass: &Pass, claim: &Claim) -> MicroUsdPerHour {
    super::super::reporting::facts::current_price(pass, &claim.spec.capacity).unwrap_or(claim.spec.price_per_hour)
}

/// What the work of `claim` needs, when nothing else bears on where it may go: no deadline, no spread, no gang, no spares. Equal answers then
/// hold for equal work.
fn plain_needs<'a>(pass: &Pass<'a>, claim: &ClaimName) -> Option<Vec<&'a Need>> {
    let plain = |pod: &&'a Pod| {
        let (need, schedule) = pod.need.as_ref().ok()?;
        let free = schedule.deadline.is_none()
            && schedule.gang.is_none()
            && schedule.spares == 0
            && schedule.availability_goal_ppm.is_none()
            && schedule.zone_max_skew.is_none()
            && schedule.max_share_per_mille.is_none();
        let shared = pass.pools_for(pod).iter().any(|name| pass.world.pools.get(name).is_some_and(|p| p.max_share_per_mille.is_some()));
        (free && !shared).then_some(&**need)
    };
    let mut needs: Vec<&Need> = pass.index.pods_on(claim).iter().map(plain).collect::<Option<_>>()?;
    needs.sort();
    Some(needs)
}

fn move_if_cheaper<'a>(pass: &mut Pass<'a>, look: &mut Look<'a>, claim: &Claim) -> bool {
    let Some(pool) = pass.pool_of(claim) else { return false };
    let successors = pass.index.successors(&claim.name);
    if successors.iter().any(|c| c.status.failure.is_some()) {
        // Its capacity is about to cool down.
        return false;
    }
    let successor = successors.iter().copied().find(|c| choice::waits(pass, c));
    if successor.is_some_and(|c| c.status.node_ready_at.is_none()) {
        return false;
    }
    pass.weighed = true;
    let now = paid_now(pass, claim);
    let own = look.room(pass).get(&claim.name).map(|room| (room.capacity.clone(), room.free));
    let alike = plain_needs(pass, &claim.name).filter(|_| successor.is_none()).map(|needs| (needs, pool.name.clone(), now, own));
    if alike.as_ref().is_some_and(|alike| look.dismissed.contains(alike)) {
        return false;
    }
    let room = look.room_for(pass, claim, successor);
    let pods = pass.pods_on(&claim.name);
    let mut asked = Asked::for_pods(pass, &pods, room);
    // A Job's pod stops before it is made again: the batch policy says whether that pays.
    let mut policy = pods.iter().find_map(|pod| asked.verdict(pod)).filter(|_| of_a_job(&pods)).map(|verdict| verdict.text.clone());
    if asked.len() != pods.len() || (of_a_job(&pods) && policy.is_none()) {
        return false;
    }
    let mut better = placement::place(&asked.request(pass));
    if !better.unplaced.is_empty() || !saves_enough(now, better.price_per_hour, pool.return_min_saving_per_mille) {
        look.dismissed.extend(alike);
        return false;
    }
    // What pays goes where its service's other replicas are not, if that pays too.
    if successor.is_none() && asked.spread_out(pass, &pods) {
        let apart = placement::place(&asked.request(pass));
        if apart.unplaced.is_empty() && saves_enough(now, apart.price_per_hour, pool.return_min_saving_per_mille) {
            better = apart;
            policy = pods.iter().find_map(|pod| asked.verdict(pod)).map(|verdict| verdict.text.clone());
        } else {
            // What is bought is judged among all that could have been.
            asked.gather(&pods.iter().map(|pod| &*pod.workload).collect(), &pods);
        }
    }
    let request = asked.request(pass);
    let then = better.price_per_hour;
    let trigger = trigger_of(pass, claim, &better);
    let place = if better.machines.is_empty() { "room on machines we have".to_owned() } else { names(&better) };
    let policy = policy.map_or_else(String::new, |text| format!("; {text}"));
    let why = format!(
        "{} costs ${now}/h, on {place} its work would cost ${then}/h: {}, and the pool asks for a saving of {} % at least{policy}",
        claim.spec.capacity,
        wording::trigger(trigger),
        pool.return_min_saving_per_mille / 10
    );
    // One successor at a time: whatever the placement says of it, a second is never bought beside it.
    let ahead = successor.is_some();
    match better.machines.as_slice() {
        [] => leave(pass, claim, trigger, &better_key(&better, now), why),
        [machine] if !ahead => buying::buy_ahead(pass, &request, machine, claim, trigger, &why),
        // One machine for several cheaper ones: they are bought one by one, as the replacements wait.
        _ => false,
    }
}

/// Whether paying `then` instead of `now` saves at least this share of it, in thousandths. What is free already cannot be had for less.
fn saves_enough(now: MicroUsdPerHour, then: MicroUsdPerHour, per_mille: i64) -> bool {
    then < now && i128::from(then.0) * 1_000 <= i128::from(now.0) * i128::from(1_000 - per_mille)
}

fn names(placement: &Placement) -> String {
    placement.machines.iter().map(|m| m.capacity.to_string()).collect::<Vec<_>>().join(" and ")
}

fn trigger_of(pass: &Pass, claim: &Claim, better: &Placement) -> Trigger {
    let rooms = better.assignments.iter().filter_map(|a| match &a.target {
        Target::ExistingRoom(name) => pass.claims.get(name).map(|c| c.spec.capacity.capacity_type),
        Target::NewMachine(index) => better.machines.get(*index).map(|m| m.capacity.capacity_type),
    });
    let to_spot = rooms.into_iter().all(|capacity_type| capacity_type == CapacityType::Spot);
    match claim.spec.capacity.capacity_type {
        CapacityType::OnDemand if to_spot => Trigger::ReturnToSpot,
        _ => Trigger::CheaperOffer,
    }
}

/// What a move for a better offer rests on: what is paid now, and what the work would cost where it goes.
fn better_key(better: &Placement, now: MicroUsdPerHour) -> String {
    let places =
        better.assignments.iter().filter_map(|a| if let Target::ExistingRoom(name) = &a.target { Some(name.as_str()) } else { None });
    format!("{now}>{}@{}", better.price_per_hour, places.collect::<Vec<_>>().join(","))
}

fn leave(pass: &mut Pass, claim: &Claim, trigger: Trigger, key: &str, text: String) -> bool {
    let decision = pass.machine_decision(claim, trigger, Outcome::Migrate, key, text.clone());
    let id = decision.id;
    let moving = Some(MoveMark { decision: decision.id, trigger, decided_at: pass.now });
    let patch = Box::new(ClaimPatch { moving, ..ClaimPatch::default() });
    let actions = vec![Action::Cluster(ClusterAction::PatchClaim { claim: claim.name.clone(), patch, seen: Some(claim.version) })];
    let moved = pass.step(vec![Lane::Claim(claim.name.clone())], vec![LedgerRecord::Decision(Box::new(decision))], actions);
    if moved {
        for pod in pass.pods_on(&claim.name) {
            pass.emit(EventSubject::Pod(pod.identity.clone()), (EventKind::Normal, "MovingToCheaper"), id, text.clone());
        }
    }
    moved
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_move_saves_the_pools_share_and_nothing_is_moved_for_nothing() {
        for (now, then, per_mille, enough) in
            [(100, 85, 150, true), (100, 86, 150, false), (100, 99, 0, true), (100, 100, 0, false), (0, 0, 150, false), (0, 0, 0, false)]
        {
            assert_eq!(saves_enough(MicroUsdPerHour(now), MicroUsdPerHour(then), per_mille), enough, "{now} -> {then}, {per_mille}");
        }
    }
}
