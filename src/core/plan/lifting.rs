//! When a bound pod's gate is lifted.
//!
//! Decides: its machine is Ready with its GPUs, and no older pod of the same Job still runs in its place.
//! Does not: bind (`buying`).

use super::pass::{Pass, target};
use crate::core::action::{Action, ClusterAction};
use crate::core::snapshot::Lane;
use crate::core::units::ids::Uid;
use crate::core::workload::need::WorkloadKind;
use crate::core::workload::{Mobility, Pod, PodPhase};

pub(super) fn lift_gates(pass: &mut Pass) {
    let gated = pass.index.gated().to_vec();
    for pod in gated {
        let Some(claim) = pod.claim.as_ref().and_then(|name| pass.claims.get(name)).filter(|c| c.takes_work()) else { continue };
        let labelled = claim.status.node.as_ref().and_then(|node| pass.world.nodes.get(node)).is_some_and(|n| n.ready && n.labelled);
        if claim.status.node_ready_at.is_none() || !labelled || predecessor_runs(pass, pod) {
            continue;
        }
        let action = ClusterAction::Lift { target: target(pod), claim: claim.name.clone() };
        pass.step(vec![Lane::Pod(pod.identity.uid.clone())], Vec::new(), vec![Action::Cluster(action)]);
    }
}

/// Two pods of one Job never run at once: the checkpoint must be whole before it is read.
fn predecessor_runs(pass: &Pass, pod: &Pod) -> bool {
    let batch = pod.need.as_ref().is_ok_and(|(need, _)| need.kind == WorkloadKind::Batch);
    let Mobility::Job { job_uid, .. } = &pod.mobility else { return false };
    let known = pod.replaces.as_ref().and_then(|r| pass.world.pods.get(&r.pod.uid));
    batch && (known.is_some_and(|old| !old.finished()) || pass.index.of_job(job_uid).iter().any(|old| is_left(pass, old, pod, job_uid)))
}

/// An older pod of the Job that is told to stop and has not stopped, and that no other pod replaces. What was done to it a moment ago may not
/// be seen yet: then a step about it is still under way.
fn is_left(pass: &Pass, old: &Pod, pod: &Pod, job: &Uid) -> bool {
    let of_it = match &old.let_go {
        Some(mark) => mark.controller == *job,
        None => matches!(&old.mobility, Mobility::Job { job_uid, .. } if job_uid == job),
    };
    of_it
        && old.identity.uid != pod.identity.uid
        && old.phase != PodPhase::Gated
        && !old.finished()
        && (old.let_go.is_some() || old.deleting_until.is_some() || !pass.is_free(&Lane::Pod(old.identity.uid.clone())))
        && pass.replacement_of(old).is_none_or(|new| new.identity.uid == pod.identity.uid)
}
