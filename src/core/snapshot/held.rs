//! What holds of a pod's marks.
//!
//! Decides: which facts about a pod count: those that its claim keeps, and of pods whose claim is gone those that are remembered. What the pod
//! itself carries is a copy that its owner may have written.
//! Does not: say which claim it is bound to (the pod does, and the engine drops a link that its claim does not know).

use crate::core::fleet::Binding;
use crate::core::snapshot::Snapshot;
use crate::core::units::ids::DecisionId;
use crate::core::workload::{Baseline, Pod, Replaces};

/// What was decided about a pod when it was last bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Held<'a> {
    /// The decision that bound it.
    pub decision: Option<DecisionId>,
    /// How often it has been bound.
    pub attempt: u64,
    /// What one replica would have cost otherwise.
    pub baseline: Baseline,
    /// The pod it replaces.
    pub replaces: Option<&'a Replaces>,
}

impl<'a> Held<'a> {
    fn of(binding: &'a Binding) -> Self {
        let Binding { pod: _, decision, attempt, baseline, replaces } = binding;
        Held { decision: *decision, attempt: *attempt, baseline: *baseline, replaces: replaces.as_deref() }
    }

    fn as_said(pod: &'a Pod) -> Self {
        Held { decision: pod.placed_by, attempt: pod.attempt, baseline: pod.baseline, replaces: pod.replaces.as_deref() }
    }
}

impl Snapshot {
    /// What holds of `pod`, whatever it says itself. A pod that runs on a machine of a version that kept nothing, or on an adopted one, is
    /// believed: it waits for nothing that its words could buy.
    pub fn held<'a>(&'a self, pod: &'a Pod) -> Held<'a> {
        let (Some(name), uid) = (&pod.claim, &pod.identity.uid) else { return Held::default() };
        if let Some(bound) = self.pending_bindings.get(uid).filter(|bound| bound.claim == *name) {
            return Held::of(&bound.binding);
        }
        let claim = self.claims.get(name);
        if let Some(binding) = claim.and_then(|claim| claim.binding_of(uid)).or_else(|| self.memory.bindings.of(uid, name)) {
            return Held::of(binding);
        }
        let kept_nothing = match claim {
            Some(claim) => claim.spec.bindings.is_none(),
            None => self.unreadable_claims.contains_key(name),
        };
        if kept_nothing && !pod.waits() { Held::as_said(pod) } else { Held::default() }
    }
}
