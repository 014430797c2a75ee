//! Which claims EC2 will take, and until when.
//!
//! Decides: what a message or an EC2 state means for a claim, and when a message is done with.
//! Does not: move anything (see `migration`), or decide what a warning alone does (see `warnings`) or what is scheduled (see `maintenance`).

use std::collections::BTreeMap;

use super::super::claims::observed::{observed_at, observed_instance};
use super::super::pass::Pass;
use super::{maintenance, warnings};
use crate::core::action::{Action, ClaimPatch, ClusterAction};
use crate::core::fleet::{Claim, Instance, InstanceState, InterruptionMark, MoveMark, Notice, NoticeKind, Trigger, tags};
use crate::core::market::CapacityType;
use crate::core::record::{LedgerRecord, Outcome};
use crate::core::snapshot::{Lane, PendingNotice};
use crate::core::units::ids::{ClaimName, InstanceId};
use crate::core::units::time::Millis;

/// Spot request states that mean "this instance will be taken", whatever the instance state says.
///
/// Source: "Spot request status", Amazon EC2 User Guide; on a terminate-type interruption the request goes straight to
/// `instance-terminated-no-capacity` while the instance runs on for two minutes.
const DOOMED_REQUEST: [&str; 6] = [
    "instance-terminated-no-capacity",
    "instance-terminated-by-price",
    "instance-terminated-by-service",
    "instance-terminated-by-experiment",
    "instance-terminated-capacity-oversubscribed",
    "marked-for-termination",
];

pub(in crate::core::plan) fn mark_doomed(pass: &mut Pass) {
    for pending in &pass.world.notices {
        read_notice(pass, pending);
    }
    read_ec2_states(pass);
}

fn read_notice(pass: &mut Pass, pending: &PendingNotice) {
    let notice = &pending.notice;
    // Read from a queue that two clusters share. Deleted, it would never reach the one that it is for; left alone, it is handed out again.
    if is_for_another(pass, notice) {
        return;
    }
    if matches!(notice.kind, NoticeKind::Scheduled(_) | NoticeKind::ScheduleOver) {
        let (lanes, actions) = maintenance::note(pass, pending);
        acknowledge(pass, pending, lanes, Vec::new(), actions);
        return;
    }
    let Some(name) = pass.index.claim_of(&notice.instance).cloned() else {
        // A launch whose answer is not written down yet may be the one meant: keep the message until it is.
        let unanswered = pass.claims.values().any(|c| c.status.instance.is_none() && c.status.launch_asked_at.is_some());
        let news = !matches!(notice.kind, NoticeKind::StateChange(_));
        if !unanswered && acknowledge(pass, pending, Vec::new(), Vec::new(), Vec::new()) && news {
            pass.notes.push(format!("{:?} for {} in {}: not one of our instances, ignored", notice.kind, notice.instance, notice.region));
        }
        return;
    };
    let Some(claim) = pass.claims.get(&name).cloned() else { return };
    if let Some(why) = cannot_be(pass, &claim, pending) {
        if acknowledge(pass, pending, Vec::new(), Vec::new(), Vec::new()) {
            pass.notes.push(format!("{:?} for {} ({}): {why}; ignored", notice.kind, notice.instance, claim.spec.capacity));
        }
        return;
    }
    let known = claim.status.interruption.as_ref().map(|mark| mark.kind);
    let news = match notice.kind {
        NoticeKind::StateChange(_) | NoticeKind::Scheduled(_) | NoticeKind::ScheduleOver => false,
        NoticeKind::Rebalance => known.is_none() && !warnings::is_old(pass.by_our_clock(notice.sent_at), pass.now),
        NoticeKind::Interruption => known != Some(NoticeKind::Interruption),
    };
    if !news {
        acknowledge(pass, pending, Vec::new(), Vec::new(), Vec::new());
        return;
    }
    // Whoever says a time to come gets none: two minutes from now at most.
    let sent_at = pass.by_our_clock(notice.sent_at).min(pending.received_at);
    let deadline = (notice.kind == NoticeKind::Interruption).then(|| sent_at + pass.settings.notice_window);
    let mark = InterruptionMark { kind: notice.kind, noticed_at: pending.received_at, deadline, source: source_of(pending).to_owned() };
    let (lanes, records, actions) =
        if mark.kind == NoticeKind::Rebalance { warnings::note(pass, &claim, mark) } else { doom(pass, &claim, mark) };
    acknowledge(pass, pending, lanes, records, actions);
}

/// It names machines of another cluster of our name and none of ours.
fn is_for_another(pass: &Pass, notice: &Notice) -> bool {
    let uid = &pass.world.cluster_uid;
    let named = || std::iter::once(&notice.instance).chain(&notice.also);
    let foreign = |id: &InstanceId| pass.index.instance(id).is_some_and(|instance| instance.is_of_another(uid));
    named().any(foreign) && !named().any(|id| !foreign(id) && pass.index.claim_of(id).is_some())
}

/// By so much EC2 may be late in taking a machine, and clocks may differ, before a notice is called old.
const OLD_AFTER: Millis = Millis::from_mins(5);

/// Why EC2 cannot have said this of the claim's machine: it was forged, or delivered again long after.
fn cannot_be(pass: &Pass, claim: &Claim, pending: &PendingNotice) -> Option<&'static str> {
    let notice = &pending.notice;
    if matches!(notice.kind, NoticeKind::StateChange(_)) {
        return None;
    }
    if claim.spec.capacity.capacity_type != CapacityType::Spot {
        return Some("EC2 interrupts spot capacity alone");
    }
    let looked_at = observed_at(pass, claim)?;
    let runs_on = observed_instance(pass, claim).is_some_and(|i| i.state == InstanceState::Running && i.spot_request_status.is_none());
    let over = pass.by_our_clock(notice.sent_at) + pass.settings.notice_window + OLD_AFTER < looked_at;
    (over && runs_on).then_some("its time is over and EC2 runs the machine on")
}

fn source_of(pending: &PendingNotice) -> &'static str {
    if pending.queue.is_some() { "sqs" } else { "agent" }
}

/// Adds the acknowledgement behind `actions`: a message is deleted only once its effect is durable.
fn acknowledge(
    pass: &mut Pass,
    pending: &PendingNotice,
    mut lanes: Vec<Lane>,
    records: Vec<LedgerRecord>,
    mut actions: Vec<Action>,
) -> bool {
    lanes.push(Lane::Message(pending.receipt.clone()));
    if let Some(queue) = &pending.queue {
        let (region, receipt) = (pending.notice.region.clone(), pending.receipt.clone());
        actions.push(Action::Acknowledge { region, queue: queue.clone(), receipt });
    }
    pass.step(lanes, records, actions)
}

/// What has to be written when a claim is doomed. The claim takes no new work from here on, even if its lane is taken in this pass.
fn doom(pass: &mut Pass, claim: &Claim, mark: InterruptionMark) -> (Vec<Lane>, Vec<LedgerRecord>, Vec<Action>) {
    let trigger = Trigger::InterruptionNotice;
    let left = mark.deadline.map_or_else(|| "some time".to_owned(), |d| d.since(pass.now).to_string());
    let text = format!("{}: notice from {}, {} left; its work moves", claim.spec.capacity, mark.source, left);
    let key = format!("{}@{}", mark.source, mark.deadline.map_or(0, |deadline| deadline.0));
    let decision = pass.machine_decision(claim, trigger, Outcome::Migrate, &key, text);
    let moving = MoveMark { decision: decision.id, trigger, decided_at: pass.now };
    let records = vec![LedgerRecord::Decision(Box::new(decision))];
    pass.claims.mark(&claim.name, |marked| marked.status.interruption = Some(Box::new(mark.clone())));
    pass.hurries = true;
    let patch = ClaimPatch { interruption: Some(mark), moving: Some(moving), ..ClaimPatch::default() };
    let patch = ClusterAction::PatchClaim { claim: claim.name.clone(), patch: Box::new(patch), seen: Some(claim.version) };
    let actions = std::iter::once(Action::Cluster(patch)).chain(warnings::followed(pass, claim)).collect();
    (vec![Lane::Claim(claim.name.clone())], records, actions)
}

/// The net below the queue: a doomed spot request is a notice, however we learn of it.
fn read_ec2_states(pass: &mut Pass) {
    // By claim, whatever order EC2 shows them in.
    let mut doomed: BTreeMap<ClaimName, &Instance> = BTreeMap::new();
    for instance in pass.index.said_of().iter().copied() {
        let unanswered = || instance.tags.get(tags::CLAIM).map(ClaimName::from);
        if let Some(name) = pass.index.claim_of(&instance.id).cloned().or_else(unanswered) {
            doomed.insert(name, instance);
        }
    }
    for (name, instance) in doomed {
        let Some(claim) = pass.claims.get(&name).cloned() else { continue };
        let claim = &claim;
        if claim.interrupted()
            || claim.status.terminate_asked.is_some()
            || observed_instance(pass, claim).is_none_or(|own| own.id != instance.id)
        {
            continue;
        }
        let Some((code, said_at)) = instance.spot_request_status.as_deref().cloned() else { continue };
        let alive = matches!(instance.state, InstanceState::Pending | InstanceState::Running);
        if !alive || !DOOMED_REQUEST.contains(&code.as_str()) {
            continue;
        }
        let deadline = Some(pass.by_our_clock(said_at) + pass.settings.notice_window);
        let mark = InterruptionMark { kind: NoticeKind::Interruption, noticed_at: pass.now, deadline, source: "ec2-state".to_owned() };
        let (lanes, records, actions) = doom(pass, claim, mark);
        pass.step(lanes, records, actions);
    }
}
