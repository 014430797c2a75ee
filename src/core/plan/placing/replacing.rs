//! Which pod a waiting pod replaces, and whether that makes it a rescue.
//!
//! Decides: whose replacement a gated pod is, and so what set off its placement.
//! Does not: let pods go (`moving::migration`) or place them (`buying`).

use super::super::pass::Pass;
use crate::core::fleet::Trigger;
use crate::core::units::time::Millis;
use crate::core::workload::{Mobility, Pod, PodPhase};

/// Kubernetes keeps creation times in whole seconds.
const SAME_SECOND: Millis = Millis::from_secs(2);

/// The pod that this one is the replacement of: let go by the same controller, and not replaced yet. Oldest first.
pub(in crate::core::plan) fn replaced_pod<'a>(pass: &Pass<'a>, pod: &Pod) -> Option<&'a Pod> {
    let controller = match &*pod.mobility {
        Mobility::Surge { replica_set, .. } => replica_set,
        Mobility::Job { job_uid, .. } => job_uid,
        Mobility::BreakFirst { .. } | Mobility::Bare => return None,
    };
    if let Some(replaces) = pass.world.held(pod).replaces.or_else(|| pass.index.promised(pod)) {
        return pass.world.pods.get(&replaces.pod.uid);
    }
    let mut let_go = pass.index.let_go_by(controller).iter().copied();
    let in_time = |old: &&Pod| old.let_go.as_ref().is_some_and(|mark| pod.created_at >= mark.at - SAME_SECOND);
    let free = |old: &&Pod| {
        pass.replacement_of(old).is_none() && !pass.replaced.contains(&old.identity.uid) && !pass.index.is_promised(&old.identity.uid)
    };
    let_go.find(|old| in_time(old) && free(old))
}

/// The pod waits for a place and replaces one whose machine EC2 takes, or says it may take. Once it has its place it is a pod like any other.
pub(in crate::core::plan) fn is_rescue(pass: &Pass, pod: &Pod) -> bool {
    if pod.phase != PodPhase::Gated {
        return false;
    }
    // The old pod and its claim may be gone already; what was decided then is not.
    if pass.world.held(pod).replaces.is_some_and(|r| r.deadline.is_some()) {
        return true;
    }
    let left = replaced_pod(pass, pod).and_then(|old| old.claim.as_ref()).and_then(|name| pass.world.claims.get(name));
    left.is_some_and(|claim| claim.status.interruption.is_some() || claim.is_left_for_maintenance())
}

/// What set off the placement of a pod that waits: the loss or the leaving of a machine, a refused launch, or the pod itself.
pub(super) fn trigger_of(pass: &Pass, pod: &Pod) -> Trigger {
    let leaving = replaced_pod(pass, pod).and_then(|old| old.claim.as_ref()).and_then(|name| pass.world.claims.get(name));
    match leaving.and_then(|claim| claim.status.moving.as_ref()) {
        Some(mark) => mark.trigger,
        None if pass.world.held(pod).attempt > 0 => Trigger::LaunchRefused,
        None => Trigger::PendingPod,
    }
}
