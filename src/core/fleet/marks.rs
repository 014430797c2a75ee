//! What of a pod's own words holds. Owners can write on their pods, and where no admission policy keeps them from it a mark may say anything;
//! nobody but the operator and the platform team writes claims.
//!
//! Decides: which of a pod's marks hold. Does not: remember (see `engine::bindings`).

use std::collections::BTreeMap;

use super::binding::Binding;
use super::claim::Claim;
use super::ownership::UnreadableClaim;
use crate::core::units::ids::ClaimName;
use crate::core::workload::{Baseline, Pod, PodPhase};

/// What holds of a pod's marks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Marks<'a> {
    /// What they say: its claim was written by a version that did not keep bindings, or for a machine that was adopted.
    AsSaid,
    /// What the claim keeps, whatever the pod says.
    Kept(&'a Binding),
    /// Nothing but that it runs on the claim's machine, which its node shows.
    OnlyItsMachine,
    /// Nothing, the claim included.
    None,
}

/// What holds of the marks of `pod`; `before` is what held when it was last seen, for a pod whose claim is gone or cannot be read.
pub fn marks_of<'a>(
    pod: &Pod,
    claims: &'a BTreeMap<ClaimName, Claim>,
    unreadable: &BTreeMap<ClaimName, UnreadableClaim>,
    before: Option<&'a Binding>,
) -> Marks<'a> {
    let waits = matches!(pod.phase, PodPhase::Gated | PodPhase::GatedByOthers);
    let Some(claim) = pod.claim.as_ref().and_then(|name| claims.get(name)) else {
        let unread = !waits && pod.claim.as_ref().is_some_and(|name| unreadable.contains_key(name));
        let unknown = if unread { Marks::AsSaid } else { Marks::OnlyItsMachine };
        return before.map_or(unknown, Marks::Kept);
    };
    let Some(bindings) = &claim.status.bindings else {
        // A pod that runs holds its place there whoever says so; one that waits was bought for, or it was not bound.
        let meant = !waits || !claim.is_observed() || claim.spec.bought_for.iter().any(|p| p.uid == pod.identity.uid);
        return if meant { Marks::AsSaid } else { Marks::None };
    };
    match bindings.iter().find(|binding| binding.pod == pod.identity.uid) {
        Some(binding) => Marks::Kept(binding),
        None if pod.node.is_some() && pod.node == claim.status.node => Marks::OnlyItsMachine,
        None => Marks::None,
    }
}

impl Marks<'_> {
    /// Whether the pod says the same already.
    pub fn are_those_of(&self, pod: &Pod) -> bool {
        let says_nothing = || (pod.placed_by, pod.attempt, pod.baseline) == (None, 0, Baseline::default()) && pod.replaces.is_none();
        match self {
            Marks::AsSaid => true,
            Marks::Kept(binding) => binding.is_mirrored_by(pod),
            Marks::OnlyItsMachine => says_nothing(),
            Marks::None => pod.claim.is_none() && says_nothing(),
        }
    }

    /// Makes `pod` say what holds.
    pub fn put_on(&self, pod: &mut Pod) {
        match self {
            Marks::AsSaid => {}
            Marks::Kept(binding) => {
                (pod.placed_by, pod.attempt, pod.baseline) = (binding.decision, binding.attempt, binding.baseline);
                pod.replaces = binding.replaces.as_deref().cloned();
            }
            Marks::OnlyItsMachine | Marks::None => {
                (pod.placed_by, pod.attempt, pod.baseline, pod.replaces) = (None, 0, Baseline::default(), None);
                if *self == Marks::None {
                    pod.claim = None;
                }
            }
        }
    }
}
