//! Pods whose gate was lifted, looked at until they run.
//!
//! Decides: when a pod that the scheduler does not bind is placed elsewhere, and what its owner reads meanwhile.
//! Does not: place it (`buying` does, when its controller has made it again), or judge the node (`health`).
//!
//! A pod cannot be gated again: one that is not bound in time is deleted, its controller makes another, and that is placed again. What was
//! tried is remembered on the claim, so that the same need is not tried there again.

use super::super::claims::steps;
use super::super::pass::Pass;
use crate::core::action::{Action, ClusterAction, EventKind, EventSubject, RemovalReason};
use crate::core::fleet::Claim;
use crate::core::snapshot::Lane;
use crate::core::units::time::Millis;
use crate::core::workload::{Mobility, Pod, PodPhase, Stuck};

/// The scheduler has this long to bind a pod whose machine is there.
const BOUND_WITHIN: Millis = Millis::from_secs(20);
/// A claim that is gone may come back: a person has `lowtide adopt` take its machine over. After this its pod is placed elsewhere.
const CLAIM_BACK_WITHIN: Millis = Millis::from_mins(15);
/// A pod that is bound has this long to be Ready before its owner reads what the kubelet says: images of models are large.
const READY_WITHIN: Millis = Millis::from_mins(15);
/// After this many machines on which the same need was not bound, the machine is not what is wrong.
const MOST_MISFITS: usize = 3;

pub(in crate::core::plan) fn watch_lifted(pass: &mut Pass) {
    let stuck = pass
        .index
        .stuck()
        .iter()
        .copied()
        .filter(|p| p.claim.is_some() && p.deleting_until.is_none() && !p.finished() && p.let_go.is_none());
    let stuck: Vec<(&Pod, &Stuck)> = stuck.filter_map(|pod| Some((pod, pod.stuck.as_deref()?))).collect();
    for (pod, stuck) in stuck {
        match (pod.phase, &pod.node) {
            (PodPhase::Pending, None) => unbound(pass, pod, stuck),
            (PodPhase::Pending | PodPhase::Running, Some(_)) => unready(pass, pod, stuck),
            _ => {}
        }
    }
}

fn unbound(pass: &mut Pass, pod: &Pod, stuck: &Stuck) {
    let Some(claim) = pod.claim.as_ref().and_then(|name| pass.claims.get(name)).cloned() else {
        return without_claim(pass, pod);
    };
    // The scheduler's condition is as old as the pod: it was False for the gate. So what counts is since when it was seen to be so without one.
    let Some(seen) = pass.world.first_sights.stuck_since(pod) else { return };
    let since = claim.status.node_ready_at.map_or(seen, |ready| ready.max(seen));
    if !claim.takes_work() || !pass.due(since, BOUND_WITHIN) {
        return;
    }
    let tried = tried_on(pass, pod);
    let (subject, said) = (EventSubject::Pod(pod.identity.clone()), &stuck.said);
    let what = format!("its machine {} is there, and the scheduler does not bind it: {said}", claim.name);
    if *pod.mobility == Mobility::Bare {
        let note = format!("{what}; nobody remakes a bare pod: delete and create it again");
        pass.emit(subject, (EventKind::Warning, "NotScheduled"), &claim.uid, note);
        return;
    }
    if tried >= MOST_MISFITS {
        let note = format!("{what}; so it was on {tried} machines, and no further one is bought for it: change what the scheduler names");
        pass.emit(subject, (EventKind::Warning, "NotScheduled"), "no more", note);
        return;
    }
    let Ok((need, _)) = &pod.need else { return };
    let remember = steps::remember_misfit(&claim, need.fingerprint());
    let (identity, grace, reason) = (pod.identity.clone(), Millis::from_secs(1), RemovalReason::NotScheduled);
    let delete = Action::Cluster(ClusterAction::DeletePod { pod: identity, grace, reason });
    let lanes = vec![Lane::Pod(pod.identity.uid.clone()), Lane::Claim(claim.name.clone())];
    if pass.step(lanes, Vec::new(), vec![remember, delete]) {
        pass.emit(subject, (EventKind::Warning, "NotScheduled"), &claim.uid, format!("{what}; it is made again and placed elsewhere"));
    }
}

/// Its claim is gone and nobody removed it through lowtide: etcd was restored, or somebody took the finalizer away. No machine will have its pin.
fn without_claim(pass: &mut Pass, pod: &Pod) {
    let unread = pod.claim.as_ref().is_some_and(|name| pass.world.unreadable_claims.contains_key(name));
    let Some(since) = pass.world.first_sights.stuck_since(pod) else { return };
    if unread || !pass.due(since, CLAIM_BACK_WITHIN) {
        return;
    }
    let (subject, name) = (EventSubject::Pod(pod.identity.clone()), pod.claim.as_ref().map_or("", |name| name.as_str()));
    let what = format!("its gate was lifted for claim {name}, which is gone for {CLAIM_BACK_WITHIN}");
    if *pod.mobility == Mobility::Bare {
        let note = format!("{what}; nobody remakes a bare pod: delete and create it again");
        pass.emit(subject, (EventKind::Warning, "NotScheduled"), "no claim", note);
        return;
    }
    let (identity, grace, reason) = (pod.identity.clone(), Millis::from_secs(1), RemovalReason::NotScheduled);
    let delete = Action::Cluster(ClusterAction::DeletePod { pod: identity, grace, reason });
    if pass.step(vec![Lane::Pod(pod.identity.uid.clone())], Vec::new(), vec![delete]) {
        pass.emit(subject, (EventKind::Warning, "NotScheduled"), "no claim", format!("{what}; it is made again and placed elsewhere"));
    }
}

/// On how many machines a pod of the same need was not bound.
fn tried_on(pass: &Pass, pod: &Pod) -> usize {
    let Ok((need, _)) = &pod.need else { return 0 };
    let need = need.fingerprint();
    pass.claims.values().filter(|c| c.status.misfits.contains(&need)).count()
}

/// Whether a pod of this need was tried on the claim's node and not bound.
pub(in crate::core::plan) fn is_misfit(claim: &Claim, pod: &Pod) -> bool {
    !claim.status.misfits.is_empty() && pod.need.as_ref().is_ok_and(|(need, _)| claim.status.misfits.contains(&need.fingerprint()))
}

/// Whether the pod has grown beyond the claim's whole machine since it was bound: its owner may change what it requests while it waits.
pub(in crate::core::plan) fn has_outgrown(pass: &Pass, claim: &Claim, pod: &Pod) -> bool {
    let (Ok((need, _)), Some(machine)) = (&pod.need, pass.world.catalog.types.get(&claim.spec.capacity.instance_type)) else {
        return false;
    };
    let node = claim.status.node.as_ref().and_then(|name| pass.world.nodes.get(name));
    let class = pass.world.classes.get(&claim.spec.node_class);
    let expected = || class.map_or_else(|| machine.allocatable(), |class| class.allocatable(machine));
    let has = node.map_or_else(expected, |node| node.usable_of(machine, claim.spec.gpus));
    need.cpu > has.cpu || need.memory > has.memory
}

fn unready(pass: &mut Pass, pod: &Pod, stuck: &Stuck) {
    let Some(since) = pass.world.first_sights.stuck_since(pod) else { return };
    if pod.ready_since.is_none() && pass.due(since, READY_WITHIN) {
        let note = format!("it is bound and not Ready for {READY_WITHIN}; the kubelet says: {}", stuck.said);
        pass.emit(EventSubject::Pod(pod.identity.clone()), (EventKind::Warning, "NotReady"), "bound", note);
    }
}
