//! What lowtide decided about a pod when it bound it to a claim: kept by the claim, and only mirrored on the pod.
//!
//! Decides: nothing (see `marks`).

use serde::{Deserialize, Serialize};

use crate::core::units::ids::{DecisionId, Uid};
use crate::core::workload::{Baseline, Pod, Replaces};

/// One pod's binding, as its claim keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Binding {
    /// The pod.
    pub pod: Uid,
    /// The decision that bound it.
    pub decision: Option<DecisionId>,
    /// How often it has been bound, this time included: what makes it take on-demand.
    pub attempt: u64,
    /// What one replica would have cost otherwise, frozen then.
    pub baseline: Baseline,
    /// The pod it replaces, with the work that one had done: what lets it past a budget.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaces: Option<Box<Replaces>>,
}

impl Binding {
    /// Of a pod whose marks hold.
    pub fn of(pod: &Pod) -> Binding {
        Binding {
            pod: pod.identity.uid.clone(),
            decision: pod.placed_by,
            attempt: pod.attempt,
            baseline: pod.baseline,
            replaces: pod.replaces.clone().map(Box::new),
        }
    }

    /// The pod says the same.
    pub fn is_mirrored_by(&self, pod: &Pod) -> bool {
        (self.decision, self.attempt, self.baseline) == (pod.placed_by, pod.attempt, pod.baseline)
            && self.replaces.as_deref() == pod.replaces.as_ref()
    }
}
