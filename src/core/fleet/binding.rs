//! What lowtide decided about a pod when it bound it to a claim, as a claim's status can keep it.
//!
//! Decides: nothing. Nothing writes it yet: what holds is read from the pods, which owners may not write.

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
