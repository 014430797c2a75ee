//! How a machine ends: empty, left, lost, terminated; and how its claim is closed.
//!
//! Decides: when EC2 is asked to terminate, what is written when a machine is gone, and when its claim may go.
//! Does not: judge a node's health (`health`) or count ends that nobody asked for (`breaker`).

use super::super::moving::guests;
use super::super::moving::watching::{has_outgrown, is_misfit};
use super::super::pass::Pass;
use super::super::placing::budget;
use super::super::reporting::facts;
use super::super::reporting::wording;
use super::breaker;
use super::observed::{Fate, fate};
use super::steps::{cluster, lane, patch, remove};
use crate::core::action::{Action, ClaimPatch, ClusterAction, EventKind, EventSubject, RemovalReason};
use crate::core::fleet::{Claim, Ended, EndedBy, Instance, InstanceState, MoveMark, Occupant, Trigger};
use crate::core::record::{IntervalClosed, LedgerRecord, Outcome};
use crate::core::snapshot::Lane;
use crate::core::units::ids::DecisionId;
use crate::core::units::time::{Millis, Timestamp};
use crate::core::workload::{Pod, PodPhase};

/// A terminate whose effect does not show is asked again after this.
const TERMINATE_RETRY: Millis = Millis::from_secs(20);
/// A claim whose machine has ended waits this long for the price of its last hour: it holds nothing up.
const PRICES_PATIENCE: Millis = Millis::from_hours(24);
/// A machine EC2 interrupts is ended by EC2 (an interrupted first hour is free); by us only this long after its deadline.
const AFTER_DEADLINE: Millis = Millis::from_secs(60);
/// Writes down that the machine is left, and by which decision.
pub(in crate::core::plan) fn leave(pass: &mut Pass, claim: &Claim, trigger: Trigger, key: &str, text: String) {
    let decision = pass.machine_decision(claim, trigger, Outcome::Migrate, key, text);
    let moving = Some(MoveMark { decision: decision.id, trigger, decided_at: pass.now });
    let records = vec![LedgerRecord::Decision(Box::new(decision))];
    pass.step(lane(claim), records, vec![patch(claim, ClaimPatch { moving, ..ClaimPatch::default() })]);
}

pub(in crate::core::plan) fn end_when_empty(pass: &mut Pass, claim: &Claim) {
    let held = pass.taken.contains(&claim.name) || pass.index.pods_on(&claim.name).iter().any(|pod| is_held_by(pass, claim, pod));
    match (held, claim.status.empty_since) {
        (true, Some(_)) => {
            pass.step(lane(claim), Vec::new(), vec![patch(claim, ClaimPatch { empty_since: Some(None), ..ClaimPatch::default() })]);
        }
        (true, None) => {}
        (false, None) => {
            pass.step(
                lane(claim),
                Vec::new(),
                vec![patch(claim, ClaimPatch { empty_since: Some(Some(pass.now)), ..ClaimPatch::default() })],
            );
        }
        (false, Some(since)) => end_after_grace(pass, claim, since),
    }
}

/// A pod that waits holds a machine only while it can still come there: of one that is left, or that it cannot run on, nobody would ever lift its
/// gate, and the machine would be paid until somewhere else has room for it.
fn is_held_by(pass: &Pass, claim: &Claim, pod: &Pod) -> bool {
    let elsewhere = || pod.node.is_some() && claim.status.node.is_some() && pod.node != claim.status.node;
    if !pod.waits() {
        // An owner may name any claim on a pod of its own.
        return claim.knows(&pod.identity.uid) || !elsewhere();
    }
    claim.takes_work() && !is_misfit(claim, pod) && !has_outgrown(pass, claim, pod)
}

fn end_after_grace(pass: &mut Pass, claim: &Claim, empty_since: Timestamp) {
    let interruption = claim.status.interruption.as_ref().and_then(|mark| mark.deadline);
    if let Some(deadline) = interruption {
        if pass.due(deadline, AFTER_DEADLINE) {
            let text = format!("{} outlived its interruption notice", claim.spec.capacity);
            terminate(pass, claim, Trigger::InterruptionNotice, "outlived", text, None);
        }
        return;
    }
    let grace = match (&claim.status.moving, pass.pool_of(claim)) {
        (None, Some(pool)) => pool.empty_grace,
        _ => Millis::ZERO,
    };
    if pass.due(empty_since, grace) && !guests::leave(pass, claim, empty_since + grace) {
        let trigger = claim.status.moving.as_ref().map_or(Trigger::Empty, |m| m.trigger);
        let text = match trigger {
            Trigger::Empty => format!("{} has had no work for {}", claim.spec.capacity, grace),
            other => format!("{} was left ({})", claim.spec.capacity, wording::trigger(other)),
        };
        terminate(pass, claim, trigger, "empty", text, None);
    }
}

pub(in crate::core::plan) fn terminate(pass: &mut Pass, claim: &Claim, trigger: Trigger, key: &str, text: String, before: Option<Action>) {
    let Some(instance) = claim.status.instance.clone() else { return };
    let decision = pass.machine_decision(claim, trigger, Outcome::Terminate, key, text);
    let id: DecisionId = decision.id;
    let mut actions: Vec<Action> = before.into_iter().collect();
    let (claim_name, region) = (claim.name.clone(), claim.spec.capacity.region.clone());
    actions.push(Action::Terminate { claim: claim_name, region, instance, decision: id, trigger, seen: claim.version });
    pass.step(lane(claim), vec![LedgerRecord::Decision(Box::new(decision))], actions);
}

pub(in crate::core::plan) fn wait_for_end(pass: &mut Pass, claim: &Claim) {
    let Some((asked, decision, trigger)) = claim.status.terminate_asked.as_deref().copied() else { return };
    let ended = match fate(pass, claim) {
        Fate::Ended(instance) => Some(instance),
        _ if claim.status.instance.is_none() => Some(None),
        _ => None,
    };
    match ended {
        Some(instance) => close(pass, claim, instance.as_ref(), Some(decision)),
        None if pass.due(asked, TERMINATE_RETRY) => {
            let Some(instance) = claim.status.instance.clone() else { return };
            let (claim_name, region) = (claim.name.clone(), claim.spec.capacity.region.clone());
            let again = Action::Terminate { claim: claim_name, region, instance, decision, trigger, seen: claim.version };
            pass.step(lane(claim), Vec::new(), vec![again]);
        }
        None => {}
    }
}

/// The machine is gone without our asking: as EC2 announced, or not.
pub(in crate::core::plan) fn lost(pass: &mut Pass, claim: &Claim, instance: Option<&Instance>) {
    if claim.interrupted() {
        let decision = claim.status.moving.as_ref().map(|m| m.decision);
        close(pass, claim, instance, decision);
        return;
    }
    let reason = instance.and_then(|i| i.state_reason.clone()).unwrap_or_else(|| "no reason given".to_owned());
    let stopped = instance.filter(|i| i.state == InstanceState::Stopped);
    let text = match stopped {
        Some(_) => format!("{} was stopped in EC2 ({reason}): its work is placed elsewhere", claim.spec.capacity),
        None => format!("{} is gone without a notice ({reason})", claim.spec.capacity),
    };
    if let Some(stopped) = stopped {
        let note = format!(
            "{} was stopped in EC2: its work is placed elsewhere and its claim goes, but nothing of it is deleted, and its volumes cost. End it in EC2 if nobody \
             wants what is on them; started again it would be nobody's",
            stopped.id
        );
        pass.emit(EventSubject::Pool(claim.spec.node_pool.clone()), (EventKind::Warning, "MachineStopped"), &stopped.id, note);
    }
    if let Some(mark) = claim.status.moving.clone().filter(|mark| mark.trigger == Trigger::InstanceLost) {
        close(pass, claim, instance, Some(mark.decision));
        return;
    }
    // Not shown is an absence, not an end that somebody saw: many at once mean that the look is wrong.
    if instance.is_none() && !breaker::may_give_up(pass, claim, "lost", &format!("EC2 does not show {} any more", claim.spec.capacity)) {
        return;
    }
    // Written down first: its pods are removed by that decision.
    let decision = pass.machine_decision(claim, Trigger::InstanceLost, Outcome::Terminate, &reason, text);
    let moving = Some(MoveMark { decision: decision.id, trigger: Trigger::InstanceLost, decided_at: pass.now });
    let change = ClaimPatch { moving, ..the_end(pass, claim, instance, Some(decision.id)) };
    let records = vec![LedgerRecord::Decision(Box::new(decision))];
    pass.step(lane(claim), records, vec![patch(claim, change)]);
}

/// The instance has ended: that is written down while EC2 still says how, then its pods go, then the node, then the books are closed and
/// the claim goes.
fn close(pass: &mut Pass, claim: &Claim, instance: Option<&Instance>, decision: Option<DecisionId>) {
    let Some(ended) = claim.status.ended.clone() else {
        let change = the_end(pass, claim, instance, decision);
        pass.step(lane(claim), Vec::new(), vec![patch(claim, change)]);
        return;
    };
    let alive: Vec<_> = pass
        .pods_on(&claim.name)
        .into_iter()
        .filter(|p| matches!(p.phase, PodPhase::Running | PodPhase::Pending) && p.node.is_some())
        .collect();
    for pod in alive {
        let (identity, grace, reason) = (pod.identity.clone(), Millis::ZERO, RemovalReason::InstanceLost);
        let delete = ClusterAction::DeletePod { pod: identity.clone(), grace, reason };
        pass.step(vec![Lane::Pod(identity.uid)], Vec::new(), vec![cluster(delete)]);
    }
    if pass.pods_on(&claim.name).iter().any(|p| p.node.is_some() && !p.finished()) {
        return;
    }
    if claim.status.launched_at.is_some() && !budget::is_settled(pass, claim) {
        // The pool's books are written first: a crash in between must not make the month cheaper than it was.
        let cost = budget::cost_this_month(claim, ended.at, pass.now, ended.by == EndedBy::Ec2Interruption);
        pass.closing.entry(claim.spec.node_pool.clone()).or_default().insert(claim.uid.clone(), cost);
        return;
    }
    // The books are closed when the price of every hour is known; longer than this nobody waits for it.
    let patient = !pass.due(ended.at, PRICES_PATIENCE);
    let Some(mut records) = facts::last_words(pass, claim, instance, &ended, patient) else { return };
    if claim.status.launched_at.is_some() {
        let Ended { at: running_to, by: ended_by, decision } = *ended;
        records.push(LedgerRecord::IntervalClosed(IntervalClosed { claim_uid: claim.books().clone(), running_to, ended_by, decision }));
    }
    let node = pass.index.node_on(claim.status.instance.as_ref());
    let mut actions: Vec<Action> = node.map(|n| cluster(ClusterAction::DeleteNode { node: n.name.clone() })).into_iter().collect();
    actions.push(remove(claim));
    pass.step(lane(claim), records, actions);
}

/// When the instance ended, who ended it, and that nobody runs there any more: before it is reported to the ledger, so that it is reported once.
fn the_end(pass: &Pass, claim: &Claim, instance: Option<&Instance>, decision: Option<DecisionId>) -> ClaimPatch {
    if claim.status.ended.is_some() {
        return ClaimPatch::default();
    }
    let by_ec2 = instance.and_then(|i| i.state_reason.as_deref()) == Some("Server.SpotInstanceTermination");
    let by = match (by_ec2, &claim.status.terminate_asked, claim.interrupted()) {
        (true, _, _) | (false, None, true) => EndedBy::Ec2Interruption,
        (false, Some(_), _) => EndedBy::Lowtide,
        (false, None, false) => EndedBy::Unknown,
    };
    let asked = claim.status.terminate_asked.as_deref().map(|(at, _, _)| *at);
    let deadline = claim.status.interruption.as_ref().and_then(|m| m.deadline).map(|d| d.min(pass.now));
    let at = instance.and_then(|i| i.ended_at).or(asked).or(deadline).unwrap_or(pass.now);
    let ends = |o: &Occupant| Occupant { to: o.to.or(Some(at.max(o.from))), ..o.clone() };
    let occupants = claim.status.occupants.iter().map(ends).collect();
    ClaimPatch { ended: Some(Ended { at, by, decision }), occupants: Some(occupants), ..ClaimPatch::default() }
}
