//! What is decided about pods when they are bound, as their claim keeps it.
//!
//! Decides: what is kept, and when it is dropped. Does not: bind (`buying`), or say what holds (see [`crate::core::snapshot`]).

use super::super::pass::{Pass, target};
use crate::core::action::{Action, ClaimPatch, ClusterAction};
use crate::core::fleet::{Binding, Claim};
use crate::core::workload::Pod;

/// What `binds` decide about their pods, as their claim keeps it.
pub(super) fn bindings_of(binds: &[Action]) -> Vec<Binding> {
    let of = |bind: &Action| match bind {
        Action::Cluster(ClusterAction::Bind { target, claim: _, decision, attempt, baseline, replaces }) => {
            let (pod, decision, replaces) = (target.pod.uid.clone(), Some(*decision), replaces.clone());
            Some(Binding { pod, decision, attempt: *attempt, baseline: *baseline, replaces })
        }
        _ => None,
    };
    let mut kept: Vec<Binding> = binds.iter().filter_map(of).collect();
    // As many claims keep theirs as there are machines.
    kept.shrink_to_fit();
    kept
}

/// Binds a pod as its claim keeps it since it was bought: whom it replaces is not chosen again.
pub(super) fn bind_as_kept(pass: &mut Pass, pod: &Pod, claim: &Claim, kept: &Binding) -> Action {
    pass.taken.insert(claim.name.clone());
    pass.replaced.extend(kept.replaces.iter().map(|replaces| replaces.pod.uid.clone()));
    Action::Cluster(ClusterAction::Bind {
        target: target(pod),
        claim: claim.name.clone(),
        decision: kept.decision.unwrap_or(claim.spec.decision),
        attempt: kept.attempt,
        baseline: kept.baseline,
        replaces: kept.replaces.clone(),
    })
}

/// Keeps in a claim what `binds` will write on their pods, before they carry it, and drops what it keeps of pods that are gone. Each binding
/// is a value of its own: whatever else changes the claim meanwhile, neither is in the other's way.
pub(super) fn keep_bindings(pass: &Pass, claim: &Claim, binds: &[Action]) -> Action {
    let gone = claim.status.bindings.keys().filter(|pod| !pass.world.pods.contains_key(*pod)).map(|pod| (pod.clone(), None));
    let bindings = gone.chain(bindings_of(binds).into_iter().map(|binding| (binding.pod.clone(), Some(binding)))).collect();
    let patch = Box::new(ClaimPatch { bindings, ..ClaimPatch::default() });
    Action::Cluster(ClusterAction::PatchClaim { claim: claim.name.clone(), patch, seen: None })
}
