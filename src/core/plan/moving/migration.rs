//! Moving pods off a claim that is being left: by a notice, by choice, by expiry, by deletion.
//!
//! Decides: for each pod what happens now: let it go, wait for its replacement, evict it, delete it.
//! Does not: place the replacement (`buying`) or lift its gate (`lifting`).
//!
//! The steps, and what was tried on a real control plane:
//! - Deployment: without `pod-template-hash` its ReplicaSet lets the pod go and makes a replacement within a second, while the old pod
//!   keeps serving; it goes when the replacement is Ready in every Service that the old one serves.
//! - Job: without `batch.kubernetes.io/controller-uid` the Job makes a replacement and counts no failure; the old pod is asked to stop at once
//!   (deleted with all the grace there is) and the replacement stays gated until it is gone.
//! - Anything else breaks before it makes, and an event says so.
//!
//! Before any of this the API server is asked whether it would take the replacement, unless EC2 takes the machine and there is no time to lose:
//! a full quota or an admission policy that refuses it is better known while the old pod runs.

use super::super::pass::{Pass, target};
use super::super::reporting::wording;
use super::guests;
use crate::core::action::{Action, ClusterAction, Event, EventKind, EventSubject, RemovalReason};
use crate::core::fleet::{Claim, MoveMark, Trigger};
use crate::core::snapshot::Lane;
use crate::core::units::ids::Uid;
use crate::core::units::time::{Millis, Timestamp};
use crate::core::workload::need::WorkloadKind;
use crate::core::workload::{LetGo, Mobility, Pod, PodPhase};

/// A pod always gets at least this long to end, even when the machine is nearly gone.
const LEAST_GRACE: Millis = Millis::from_secs(1);
/// A bare pod on a machine that is left by choice ends after this: nobody remakes it, and the machine is paid for meanwhile.
const BARE_FOR: Millis = Millis::from_mins(30);

pub(in crate::core::plan) fn move_pods(pass: &mut Pass) {
    // Nothing can be moved off a machine that is gone: `lifecycle` removes its pods.
    let left = |c: &&&Claim| c.status.moving.as_ref().is_some_and(|mark| mark.trigger != Trigger::InstanceLost);
    let leaving = pass.index.leaving().to_vec();
    for claim in leaving.iter().filter(left).copied() {
        let Some(mark) = claim.status.moving.clone() else { continue };
        guests::keep_new_pods_off(pass, claim);
        if let Some(deadline) = claim.leaves_by() {
            guests::leave_by(pass, claim, deadline);
        }
        for pod in pass.pods_on(&claim.name) {
            move_pod(pass, claim, &mark, pod);
        }
    }
    give_back_finished(pass);
}

fn move_pod(pass: &mut Pass, claim: &Claim, mark: &MoveMark, pod: &Pod) {
    let deadline = claim.leaves_by();
    match pod.phase {
        // Still gated: `buying` binds it elsewhere.
        PodPhase::Gated | PodPhase::GatedByOthers | PodPhase::Succeeded | PodPhase::Failed => {}
        PodPhase::Pending => remake_unstarted(pass, pod),
        PodPhase::Running => match &*pod.mobility {
            Mobility::Surge { replica_set, deployment, deployment_uid } => {
                let owner = (deployment.clone(), deployment_uid.clone());
                surge(pass, claim, mark, pod, replica_set, owner, deadline);
            }
            Mobility::Job { job, job_uid } => checkpoint_and_remake(pass, mark, pod, (job.clone(), job_uid.clone()), deadline),
            Mobility::BreakFirst { because } => break_first(pass, mark, pod, because, deadline),
            Mobility::Bare => warn_bare(pass, mark, pod, deadline),
        },
    }
}

/// Pinned to a machine that is being left, and not started: its controller makes another, which is placed again.
fn remake_unstarted(pass: &mut Pass, pod: &Pod) {
    if pod.deleting_until.is_some() || pod.node.is_some() {
        return;
    }
    if *pod.mobility == Mobility::Bare {
        let note = "its machine is leaving before it started, and nobody remakes a bare pod: delete and create it again".to_owned();
        pass.emit(EventSubject::Pod(pod.identity.clone()), (EventKind::Warning, "NotRemade"), "unstarted", note);
        return;
    }
    remove(pass, pod, LEAST_GRACE, RemovalReason::NodeDied, true);
}

fn surge(
    pass: &mut Pass,
    claim: &Claim,
    mark: &MoveMark,
    pod: &Pod,
    replica_set: &Uid,
    deployment: (String, Uid),
    deadline: Option<Timestamp>,
) {
    if pod.deleting_until.is_some() {
        return;
    }
    let last_call = deadline.map(|d| d - pod.termination_grace - pass.settings.deadline_margin);
    let Some(_) = &pod.let_go else {
        let Some(rehearsal) = rehearsal(pass, pod, false, last_call) else { return };
        let let_go = LetGo { decision: mark.decision, controller: replica_set.clone(), at: pass.now };
        let action = ClusterAction::LetGoOfDeployment { target: target(pod), mark: let_go, deployment };
        let note =
            format!("{}: its replacement is made first, this pod serves on until that is Ready", wording::leaving(claim, mark.trigger));
        let event = pod_event(pass, pod, (EventKind::Normal, "Migrating"), mark, note);
        let actions = rehearsal.into_iter().chain([action]).chain(event).map(Action::Cluster).collect();
        pass.step(vec![Lane::Pod(pod.identity.uid.clone())], Vec::new(), actions);
        return;
    };
    if replaced(pass, pod) || unwanted(pass, pod) {
        // PodDisruptionBudgets are asked while there is time; the replacement already serves.
        remove(pass, pod, pod.termination_grace, RemovalReason::Replaced, true);
    } else if let (Some(last_call), Some(deadline)) = (last_call, deadline) {
        pass.wake(last_call);
        if pass.now >= last_call {
            let note = "the machine is about to go and the replacement is not Ready yet: this pod ends now".to_owned();
            pass.emit(EventSubject::Pod(pod.identity.clone()), (EventKind::Warning, "MigratedCold"), mark.decision, note);
            remove(pass, pod, grace_until(pass, deadline).min(pod.termination_grace), reason_of(mark.trigger), false);
        }
    }
}

/// Its Deployment was scaled down meanwhile: it has as many pods as it wants without this one, all Ready, and makes none for it.
fn unwanted(pass: &Pass, old: &Pod) -> bool {
    let Mobility::Surge { deployment_uid, .. } = &*old.mobility else { return false };
    let Some(wanted) = pass.world.replicas_wanted.get(deployment_uid).filter(|_| pass.replacement_of(old).is_none()) else { return false };
    let counts = |p: &&Pod| p.let_go.is_none() && p.deleting_until.is_none() && !p.finished();
    let others: Vec<&Pod> = pass.index.of_workload(&old.workload).iter().copied().filter(counts).collect();
    i64::try_from(others.len()).is_ok_and(|n| n >= *wanted) && others.iter().all(|p| p.ready_since.is_some() && stays(pass, p))
}

/// Its machine is not being left.
fn stays(pass: &Pass, pod: &Pod) -> bool {
    pod.claim.as_ref().and_then(|name| pass.claims.get(name)).is_some_and(Claim::takes_work)
}

/// The replacement is Ready, in every Service in which the old pod is, and on a machine that stays.
fn replaced(pass: &Pass, old: &Pod) -> bool {
    pass.replacement_of(old).is_some_and(|new| {
        new.ready_since.is_some() && new.deleting_until.is_none() && old.ready_in.is_subset(&new.ready_in) && stays(pass, new)
    })
}

fn checkpoint_and_remake(pass: &mut Pass, mark: &MoveMark, pod: &Pod, job: (String, Uid), deadline: Option<Timestamp>) {
    if pod.deleting_until.is_some() || finishes_in_time(pass, pod, deadline) {
        return;
    }
    let asked_until = asked_until(pass, mark, pod, deadline);
    let Some(rehearsal) = rehearsal(pass, pod, true, asked_until) else { return };
    let wanted = pod.need.as_ref().ok().and_then(|(_, s)| s.checkpoint_grace).unwrap_or(pod.termination_grace);
    // Of a notice's two minutes all is given; of the days before maintenance what was asked for.
    let left = deadline.map(|d| grace_until(pass, d));
    let grace = match left {
        Some(left) if mark.trigger == Trigger::ScheduledMaintenance => left.min(wanted),
        left => left.unwrap_or(wanted),
    };
    let tell = ClusterAction::DeletePod { pod: pod.identity.clone(), grace, reason: reason_of(mark.trigger) };
    let let_go = pod.let_go.is_none().then(|| {
        let let_go = LetGo { decision: mark.decision, controller: job.1.clone(), at: pass.now };
        ClusterAction::LetGoOfJob { target: target(pod), mark: let_go, job }
    });
    let note = format!(
        "the machine is being left ({}): asked to stop, {} for a checkpoint; it is remade elsewhere",
        wording::trigger(mark.trigger),
        grace
    );
    let event = pod_event(pass, pod, (EventKind::Normal, "Checkpointing"), mark, note);
    let actions = rehearsal.into_iter().chain(let_go).chain([tell]).chain(event).map(Action::Cluster).collect();
    pass.step(vec![Lane::Pod(pod.identity.uid.clone())], Vec::new(), actions);
}

/// Asking about a replacement again takes this long at most, once EC2 has said when it takes the machine.
const ASKED_AGAIN_WITHIN: Millis = Millis::from_secs(15);

/// Until when it matters whether a replacement would be admitted, of a pod that ends first: a notice leaves no time to ask, and before
/// maintenance there are days.
fn asked_until(pass: &Pass, mark: &MoveMark, pod: &Pod, deadline: Option<Timestamp>) -> Option<Timestamp> {
    match mark.trigger {
        Trigger::ScheduledMaintenance => deadline.map(|d| d - pod.termination_grace - pass.settings.deadline_margin),
        _ => deadline.map(|_| pass.now),
    }
}

/// What comes before a pod is let go or asked to end: the question whether a replacement would be admitted; nothing at `last_call`, when the pod
/// ends in any case. `None` while the last answer, a refusal, counts.
fn rehearsal(pass: &mut Pass, pod: &Pod, ends_first: bool, last_call: Option<Timestamp>) -> Option<Option<ClusterAction>> {
    // Who is not Ready has nothing to lose.
    if pod.let_go.is_some() || pod.ready_since.is_none() || last_call.is_some_and(|at| pass.now >= at) {
        return Some(None);
    }
    if let Some(refused) = pass.world.refused_replacements.get(&pod.identity.uid) {
        let soon = last_call.is_some_and(|last| last.since(pass.now) <= pass.settings.notice_window);
        let next = if soon { refused.again_at.min(refused.asked_at + ASKED_AGAIN_WITHIN) } else { refused.again_at };
        let again_at = last_call.map_or(next, |last| next.min(last));
        if pass.now < again_at {
            pass.wake(again_at);
            return None;
        }
    }
    last_call.into_iter().for_each(|at| pass.wake(at));
    Some(Some(ClusterAction::Rehearse { pod: pod.identity.clone(), ends_first }))
}

/// An event that belongs to a step and is not written if the step stops before.
fn pod_event(pass: &Pass, pod: &Pod, what: (EventKind, &'static str), mark: &MoveMark, note: String) -> Option<ClusterAction> {
    let event = Event::new(EventSubject::Pod(pod.identity.clone()), what, &mark.decision.to_string(), note);
    (!pass.world.recorded.contains_key(&event.id())).then_some(ClusterAction::Emit(Box::new(event)))
}

/// Moving a pod that ends before its machine does would only cost work.
fn finishes_in_time(pass: &Pass, pod: &Pod, deadline: Option<Timestamp>) -> bool {
    let runtime = pod.need.as_ref().ok().and_then(|(_, s)| s.expected_runtime);
    match (runtime, pod.ready_since, deadline) {
        (Some(runtime), Some(started), Some(deadline)) => started + runtime + pass.settings.deadline_margin < deadline,
        _ => false,
    }
}

fn break_first(pass: &mut Pass, mark: &MoveMark, pod: &Pod, because: &str, deadline: Option<Timestamp>) {
    if pod.deleting_until.is_some() {
        return;
    }
    let last_call = deadline.is_some_and(|d| pass.now >= d - pod.termination_grace - pass.settings.deadline_margin);
    let note = format!("the machine is being left ({}); no replacement can be made first: {because}", wording::trigger(mark.trigger));
    pass.emit(EventSubject::Pod(pod.identity.clone()), (EventKind::Warning, "BreaksFirst"), mark.decision, note);
    let asked_until = asked_until(pass, mark, pod, deadline);
    let Some(rehearsal) = rehearsal(pass, pod, true, asked_until) else { return };
    let grace = deadline.map_or(pod.termination_grace, |d| grace_until(pass, d).min(pod.termination_grace));
    let end = removal(pod, grace, reason_of(mark.trigger), !last_call);
    let actions = rehearsal.into_iter().chain([end]).map(Action::Cluster).collect();
    pass.step(vec![Lane::Pod(pod.identity.uid.clone())], Vec::new(), actions);
    pass.wake(pass.now + Millis::from_secs(2));
}

fn warn_bare(pass: &mut Pass, mark: &MoveMark, pod: &Pod, deadline: Option<Timestamp>) {
    let note = "its machine is being left and nobody remakes a bare pod: use a Job or a Deployment".to_owned();
    pass.emit(EventSubject::Pod(pod.identity.clone()), (EventKind::Warning, "NotRemade"), "running", note);
    let Some(deadline) = deadline else {
        // Nobody takes the machine, and it is paid for: its owner has a while to react, and then it ends.
        if pod.deleting_until.is_none() && pass.due(mark.decided_at, BARE_FOR) {
            let note = format!("its machine is left for {BARE_FOR}: it ends now, and nobody remakes it");
            pass.emit(EventSubject::Pod(pod.identity.clone()), (EventKind::Warning, "BareEnds"), "left", note);
            remove(pass, pod, pod.termination_grace, reason_of(mark.trigger), true);
        }
        return;
    };
    let last_call = deadline - pod.termination_grace - pass.settings.deadline_margin;
    pass.wake(last_call);
    if pass.now >= last_call && pod.deleting_until.is_none() {
        remove(pass, pod, grace_until(pass, deadline).min(pod.termination_grace), reason_of(mark.trigger), false);
    }
}

fn grace_until(pass: &Pass, deadline: Timestamp) -> Millis {
    (deadline.since(pass.now) - pass.settings.deadline_margin).max(LEAST_GRACE)
}

fn remove(pass: &mut Pass, pod: &Pod, grace: Millis, reason: RemovalReason, ask_budgets: bool) {
    let action = removal(pod, grace, reason, ask_budgets);
    pass.step(vec![Lane::Pod(pod.identity.uid.clone())], Vec::new(), vec![Action::Cluster(action)]);
}

fn removal(pod: &Pod, grace: Millis, reason: RemovalReason, ask_budgets: bool) -> ClusterAction {
    let pod = pod.identity.clone();
    match ask_budgets {
        true => ClusterAction::Evict { pod, grace, reason },
        false => ClusterAction::DeletePod { pod, grace, reason },
    }
}

fn reason_of(trigger: Trigger) -> RemovalReason {
    match trigger {
        Trigger::ReturnToSpot | Trigger::CheaperOffer => RemovalReason::BetterOffer,
        Trigger::ReservationEnding => RemovalReason::ReservationEnding,
        Trigger::ScheduledMaintenance => RemovalReason::Maintenance,
        Trigger::Expired => RemovalReason::Expired,
        Trigger::Drifted => RemovalReason::Drifted,
        Trigger::Deleted => RemovalReason::Deleted,
        Trigger::InstanceLost => RemovalReason::InstanceLost,
        trigger if trigger.is_of_the_node() => RemovalReason::Unhealthy,
        _ => RemovalReason::Interruption,
    }
}

/// A Job's pod that finished after it was let go is given back: the Job counts it and drops the replacement.
fn give_back_finished(pass: &mut Pass) {
    let finished: Vec<&Pod> = pass.index.let_go().iter().copied().filter(|p| p.phase == PodPhase::Succeeded).collect();
    for pod in finished {
        let batch = pod.need.as_ref().is_ok_and(|(need, _)| need.kind == WorkloadKind::Batch);
        if let (Mobility::Job { job_uid, .. }, true) = (&*pod.mobility, batch) {
            let action = ClusterAction::GiveBackToJob { target: target(pod), job_uid: job_uid.clone() };
            pass.step(vec![Lane::Pod(pod.identity.uid.clone())], Vec::new(), vec![Action::Cluster(action)]);
        }
    }
}
