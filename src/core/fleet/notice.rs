//! What EC2 announces for an instance: interruption, rebalance recommendation, a change of state.

use super::instance::InstanceState;
use crate::core::units::ids::{InstanceId, Region};
use crate::core::units::time::Timestamp;

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
