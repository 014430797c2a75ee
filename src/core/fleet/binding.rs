//! What lowtide decided about a pod when it bound it to a claim. The claim keeps it: owners can write on their pods, and nobody but the
//! operator and the platform team writes claims. What the pods carry is a copy for people.
//!
//! - In a claim's spec: of the pods it was bought for. In its status: of those that were bound to it later, by uid.
//! - In the operator's memory: of pods that wait again because their claim is gone (`remembered_bindings`).
//!
//! Decides: nothing. What holds of a pod: see [`crate::core::snapshot`].

use serde::{Deserialize, Serialize};

use crate::core::units::ids::{DecisionId, Uid};
use crate::core::workload::{Baseline, Replaces};

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
