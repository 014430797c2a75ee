//! Machines that EC2 has scheduled something for: a reboot, maintenance, retirement.
//!
//! Decides: what is written down of it, that such a machine takes no new work, and that its work leaves before the date.
//! Does not: say at which moment ([`crate::core::policy::maintenance`] does), or move pods (`migration`).
//!
//! EC2 says it in two ways, and either is enough: AWS Health's message on the queue, and DescribeInstanceStatus, which is the net. What the net
//! shows no more is over: it was done, or called off. Of a service one replica leaves at a time, until the last call.

use std::collections::BTreeSet;

use super::super::claims::steps::{lane, patch};
use super::super::pass::Pass;
use super::warnings::on_the_move;
use crate::core::action::{Action, ClaimPatch, EventKind, EventSubject};
use crate::core::fleet::{Claim, MoveMark, NoticeKind, ScheduledEvent, ScheduledMark, Trigger};
use crate::core::policy::maintenance::{Because, Departure, Work, departure};
use crate::core::record::{LedgerRecord, Outcome};
use crate::core::snapshot::{Lane, Observed, PendingNotice};
use crate::core::units::ids::ClaimName;
use crate::core::units::time::{Millis, Timestamp};
use crate::core::workload::{Mobility, Pod, Workload};

/// DescribeInstanceStatus may be behind AWS Health by this much before what it leaves out is over.
const NET_LAG: Millis = Millis::from_mins(10);
/// A message that names a date so long ago is an old one: whether anything is still to come, the net says.
const OLD_AFTER: Millis = Millis::from_hours(1);

/// What is written down of what AWS Health says of one machine or many: of all of ours in one step, so that its message is done with.
pub(super) fn note(pass: &Pass, pending: &PendingNotice) -> (Vec<Lane>, Vec<Action>) {
    let notice = &pending.notice;
    let named = std::iter::once(&notice.instance).chain(&notice.also);
    let names: BTreeSet<ClaimName> = named.filter_map(|id| pass.index.claim_of(id)).cloned().collect();
    let claims: Vec<Claim> = names.iter().filter_map(|name| pass.claims.get(name)).filter(|c| is_held(c)).cloned().collect();
    let (mut lanes, mut actions): (Vec<Lane>, Vec<Action>) = (Vec::new(), Vec::new());
    for claim in &claims {
        let wanted = match notice.kind {
            NoticeKind::Scheduled(event) if event.not_before + OLD_AFTER > pass.now => {
                Some(ScheduledMark { event, noticed_at: pending.received_at, source: "health".to_owned() })
            }
            NoticeKind::ScheduleOver if !claim.is_left_for_maintenance() => None,
            _ => continue,
        };
        let known = claim.status.scheduled.as_ref().map(|mark| mark.event);
        if known == wanted.as_ref().map(|mark| mark.event) {
            continue;
        }
        lanes.extend(lane(claim));
        actions.push(patch(claim, ClaimPatch { scheduled: Some(wanted), ..ClaimPatch::default() }));
    }
    (lanes, actions)
}

/// Nobody has ended it or is about to.
fn is_held(claim: &Claim) -> bool {
    claim.status.terminate_asked.is_none() && claim.status.ended.is_none() && !claim.deleting
}

/// Writes down what EC2 shows, and leaves what is due.
pub(in crate::core::plan) fn leave_in_time(pass: &mut Pass) {
    read_statuses(pass);
    let due = |c: &&Claim| c.status.moving.is_none() && !c.interrupted() && is_held(c);
    let mut scheduled: Vec<Claim> = pass.index.scheduled().iter().copied().filter(due).cloned().collect();
    if scheduled.is_empty() {
        return;
    }
    scheduled.sort_by_key(|claim| (claim.status.scheduled.as_ref().map(|mark| mark.event.not_before), claim.name.clone()));
    let mut moving = on_the_move(pass);
    for claim in scheduled {
        let Some(mark) = claim.status.scheduled.clone() else { continue };
        let pods: Vec<&Pod> = pass.pods_on(&claim.name).into_iter().filter(|pod| !pod.finished()).collect();
        // Without work it ends as empty, like any other.
        if pods.is_empty() || !pass.is_free(&Lane::Claim(claim.name.clone())) {
            continue;
        }
        let work = work_of(pass, &claim, &pods);
        let leaves = departure(mark.event.not_before, &work, pass.now);
        let workloads: BTreeSet<&Workload> = pods.iter().map(|pod| &*pod.workload).collect();
        if leaves.at > pass.now {
            pass.wake(leaves.at);
            announce(pass, &claim, mark.event, leaves);
        } else if leaves.because != Because::LastCall && workloads.iter().any(|workload| moving.contains(*workload)) {
            // At a full minute: a plan that holds until then says the same until then.
            let minute = Millis::from_mins(1).0;
            pass.wake(Timestamp((pass.now.0.div_euclid(minute) + 1) * minute));
        } else if leave(pass, &claim, &mark, leaves) {
            moving.extend(workloads);
        }
    }
}

/// DescribeInstanceStatus, of every region in which it was looked at.
fn read_statuses(pass: &mut Pass) {
    let world = pass.world;
    let mut changes: Vec<(Claim, Option<ScheduledMark>)> = Vec::new();
    for observed in world.scheduled.values() {
        let Observed::Known { value, .. } = observed else { continue };
        for (instance, event) in value {
            let Some(claim) = pass.index.claim_of(instance).and_then(|name| pass.claims.get(name)) else { continue };
            let known = claim.status.scheduled.as_ref().map(|mark| mark.event);
            if is_held(claim) && known != Some(*event) {
                let mark = ScheduledMark { event: *event, noticed_at: pass.now, source: "ec2-status".to_owned() };
                changes.push((claim.clone(), Some(mark)));
            }
        }
    }
    for claim in pass.index.scheduled() {
        let (Some(mark), Some(instance)) = (&claim.status.scheduled, &claim.status.instance) else { continue };
        let Some(Observed::Known { at, value }) = world.scheduled.get(&claim.spec.capacity.region) else { continue };
        if !value.contains_key(instance) && *at > mark.noticed_at + NET_LAG && is_held(claim) && !claim.is_left_for_maintenance() {
            changes.push(((*claim).clone(), None));
        }
    }
    for (claim, mark) in changes {
        let change = ClaimPatch { scheduled: Some(mark), ..ClaimPatch::default() };
        pass.step(lane(&claim), Vec::new(), vec![patch(&claim, change)]);
    }
}

fn work_of(pass: &Pass, claim: &Claim, pods: &[&Pod]) -> Work {
    let of_pool = pass.pool_of(claim).and_then(|pool| pool.quiet_hours);
    let schedule = |pod: &&Pod| pod.need.as_ref().ok().map(|(_, schedule)| schedule.clone());
    let grace = |pod: &&Pod| schedule(pod).and_then(|s| s.checkpoint_grace).unwrap_or(pod.termination_grace);
    let quiet: BTreeSet<_> = pods.iter().filter_map(|pod| schedule(pod).and_then(|s| s.quiet_hours).or(of_pool)).collect();
    Work {
        serves: pods.iter().any(|pod| !matches!(*pod.mobility, Mobility::Job { .. } | Mobility::Bare)),
        quiet: quiet.into_iter().collect(),
        grace: pods.iter().map(grace).max().unwrap_or_default(),
    }
}

/// What is to come is said once for each date.
fn announce(pass: &mut Pass, claim: &Claim, event: ScheduledEvent, leaves: Departure) {
    let ScheduledEvent { kind, not_before } = event;
    let note = format!(
        "EC2 has scheduled {kind} from {not_before}: no new work is put there, and its work moves at {}, {}",
        leaves.at,
        leaves.because.words()
    );
    let key = format!("{kind}@{not_before}");
    for pod in pass.pods_on(&claim.name) {
        pass.emit(EventSubject::Pod(pod.identity.clone()), (EventKind::Normal, "MaintenanceScheduled"), &key, note.clone());
    }
    pass.emit(EventSubject::Claim(claim.name.clone()), (EventKind::Normal, "MaintenanceScheduled"), key, note);
}

fn leave(pass: &mut Pass, claim: &Claim, mark: &ScheduledMark, leaves: Departure) -> bool {
    let trigger = Trigger::ScheduledMaintenance;
    let ScheduledEvent { kind, not_before } = mark.event;
    let text = format!(
        "{}: EC2 has scheduled {kind} from {not_before} (said by {}); its work moves {}",
        claim.spec.capacity,
        mark.source,
        leaves.because.words()
    );
    let decision = pass.machine_decision(claim, trigger, Outcome::Migrate, &format!("{kind}@{not_before}"), text);
    let moving = Some(MoveMark { decision: decision.id, trigger, decided_at: pass.now });
    let records = vec![LedgerRecord::Decision(Box::new(decision))];
    pass.step(lane(claim), records, vec![patch(claim, ClaimPatch { moving, ..ClaimPatch::default() })])
}
