//! Conditions, in the form of Kubernetes' own (`metav1.Condition`), so that `kubectl wait --for=condition=Ready` works.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::moment::Moment;

/// Whether a condition holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
pub enum ConditionStatus {
    /// It holds.
    True,
    /// It does not.
    False,
    /// Not known yet.
    Unknown,
}

/// One observation about an object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// What is observed, e.g. `Ready`.
    #[serde(rename = "type")]
    #[schemars(length(min = 1, max = 64))]
    pub type_: String,
    /// Whether it holds.
    pub status: ConditionStatus,
    /// Why, in one CamelCase word, e.g. `UnknownSubnet`.
    #[schemars(length(min = 1, max = 128))]
    pub reason: String,
    /// Why, in a sentence for people.
    #[schemars(length(max = 4096))]
    pub message: String,
    /// When `status` last changed.
    pub last_transition_time: Moment,
    /// The `metadata.generation` this refers to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
}

impl Condition {
    /// `type_` with a new state, keeping the time of `previous` when the status did not change.
    pub fn next(previous: &[Condition], type_: &str, status: ConditionStatus, reason: &str, message: &str, now: Moment) -> Condition {
        let last_transition_time = previous.iter().find(|c| c.type_ == type_ && c.status == status).map_or(now, |c| c.last_transition_time);
        Condition {
            type_: type_.to_owned(),
            status,
            reason: reason.to_owned(),
            message: message.to_owned(),
            last_transition_time,
            observed_generation: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::units::time::Timestamp;

    #[test]
    fn the_time_changes_only_with_the_status() {
        let at = |ms| Moment(Timestamp(ms));
        let first = Condition::next(&[], "Ready", ConditionStatus::False, "UnknownSubnet", "subnet-1 is unknown", at(1));
        let same = Condition::next(std::slice::from_ref(&first), "Ready", ConditionStatus::False, "NoImage", "ami-1 is unknown", at(2));
        let other = Condition::next(std::slice::from_ref(&same), "Ready", ConditionStatus::True, "Ready", "", at(3));
        assert_eq!([first, same, other].map(|c| c.last_transition_time), [at(1), at(1), at(3)]);
    }
}
