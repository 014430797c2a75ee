//! What EC2 announces for an instance: interruption, rebalance recommendation, a change of state.

use super::instance::InstanceState;
use crate::core::units::ids::{InstanceId, Region};
use crate::core::units::time::{Millis, Timestamp};

/// The kind of interruption message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NoticeKind {
    /// Two minutes are left.
    Interruption,
    /// At risk.
    Rebalance,
    /// EC2 reports this state for the instance.
    StateChange(InstanceState),
}

/// An interruption message about one instance.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Notice {
    /// The instance, ours or not.
    pub instance: InstanceId,
    /// Where.
    pub region: Region,
    /// What.
    pub kind: NoticeKind,
    /// When EC2 sent it (EventBridge `time`).
    pub sent_at: Timestamp,
}

/// Capacity that EC2 warned of is not bought for this long, and longer when it is warned of again.
pub const WARNED_FOR: Millis = Millis::from_mins(15);

/// What is seen of a rebalance recommendation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Warning {
    /// It was given: the pool is left alone for `base`, longer each time it is warned of again, up to `max`.
    Given {
        /// First span.
        base: Millis,
        /// Longest span.
        max: Millis,
    },
    /// EC2 took the machine it was given for.
    Followed,
    /// Nothing came of it.
    Over,
}
