//! What a claim keeps of the pods that are bound to it.
//!
//! Decides: that it is written before the pods carry it, in the same step, and that what is there already stays.
//! Does not: bind (`buying`), or judge what pods say of themselves (see [`crate::core::fleet::marks_of`]).

use super::super::pass::Pass;
use crate::core::action::{Action, ClaimPatch, ClusterAction};
use crate::core::fleet::{Binding, Claim};
use crate::core::units::ids::ClaimName;

/// Keeps in the claim what `binds` will write on its pods, before they carry it; with what is kept there of pods that are there already.
pub(super) fn keep_bindings(pass: &Pass, (name, claim): (&ClaimName, Option<&Claim>), binds: &[Action]) -> Action {
    let mut bindings: Vec<Binding> = Vec::new();
    for bind in binds {
        if let Action::Cluster(ClusterAction::Bind { target, decision, attempt, baseline, replaces, .. }) = bind {
            let (pod, decision) = (target.pod.uid.clone(), Some(*decision));
            bindings.push(Binding { pod, decision, attempt: *attempt, baseline: *baseline, replaces: replaces.clone() });
        }
    }
    let kept = claim.and_then(|claim| claim.status.bindings.as_deref()).unwrap_or_default();
    for pod in pass.index.pods_on(name) {
        let uid = &pod.identity.uid;
        if !bindings.iter().any(|binding| binding.pod == *uid) {
            bindings.push(kept.iter().find(|binding| binding.pod == *uid).cloned().unwrap_or_else(|| Binding::of(pod)));
        }
    }
    let patch = Box::new(ClaimPatch { bindings: Some(bindings), ..ClaimPatch::default() });
    Action::Cluster(ClusterAction::PatchClaim { claim: name.clone(), patch, seen: claim.map(|claim| claim.version) })
}
