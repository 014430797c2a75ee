//! The steps that change one claim.
//!
//! Decides: nothing; how a change of a claim's status is written as an action.

use std::collections::BTreeMap;

use super::super::pass::Pass;
use crate::core::action::{Action, ClaimPatch, ClusterAction};
use crate::core::fleet::{Claim, Unhealthy};
use crate::core::snapshot::Lane;
use crate::core::units::ids::NodeName;

pub(in crate::core::plan) fn cluster(action: ClusterAction) -> Action {
    Action::Cluster(action)
}

pub(in crate::core::plan) fn patch(claim: &Claim, patch: ClaimPatch) -> Action {
    cluster(ClusterAction::PatchClaim { claim: claim.name.clone(), patch: Box::new(patch), seen: Some(claim.version) })
}

pub(in crate::core::plan) fn remove(claim: &Claim) -> Action {
    cluster(ClusterAction::RemoveClaim { claim: claim.name.clone(), seen: Some(claim.version) })
}

pub(in crate::core::plan) fn lane(claim: &Claim) -> Vec<Lane> {
    vec![Lane::Claim(claim.name.clone())]
}

/// Puts the claim's label and `labels` on its node, and its taint.
pub(in crate::core::plan) fn mark_node(claim: &Claim, node: &NodeName, labels: BTreeMap<String, String>) -> Action {
    let (node, guard) = (node.clone(), keeps_others_off(claim));
    cluster(ClusterAction::MarkNode { node, claim: claim.name.clone(), taint: false, guard, labels })
}

/// The claim's node has its taint, whatever it registered with. Pods of a claim of an older version, which keeps no bindings, do not tolerate it.
pub(in crate::core::plan) fn keeps_others_off(claim: &Claim) -> bool {
    claim.spec.bindings.is_some() || claim.spec.adopted.is_some()
}

/// Writes down that a need does not fit there.
pub(in crate::core::plan) fn remember_misfit(claim: &Claim, need: String) -> Action {
    patch(claim, ClaimPatch { misfit: Some(need), ..ClaimPatch::default() })
}

/// Writes down what is wrong with the claim's node, or that it is well again. True when the step was taken.
pub(in crate::core::plan) fn mark_health(pass: &mut Pass, claim: &Claim, unhealthy: Option<Unhealthy>) -> bool {
    let change = ClaimPatch { unhealthy: Some(unhealthy), ..ClaimPatch::default() };
    pass.step(lane(claim), Vec::new(), vec![patch(claim, change)])
}
