//! What EC2 announces for an instance: interruption, rebalance recommendation, a scheduled event, a change of state.

use super::instance::InstanceState;
use super::scheduled_event::ScheduledEvent;
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
    /// AWS Health announces what EC2 will do to the instance.
    Scheduled(ScheduledEvent),
    /// AWS Health says that what was scheduled is over, or will not be.
    ScheduleOver,
}

/// An interruption message about one instance.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Notice {
    /// The instance, ours or not.
    pub instance: InstanceId,
    /// Further instances of the same message: AWS Health names all that share a fault.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<InstanceId>,
    /// Where.
    pub region: Region,
    /// What.
    pub kind: NoticeKind,
    /// When EC2 sent it (EventBridge `time`).
    pub sent_at: Timestamp,
}

/// Capacity that EC2 warned of is not bought for this long, and longer when it is warned of again.
pub const WARNED_FOR: Millis = Millis::from_mins(15);
/// Capacity that EC2 has just taken a machine back from is not bought for this long while something comparable is sold, and for twice as long
/// when it takes another.
///
/// From the recorded availability of 9 zones (p3.2xlarge, 47 days, 1,887 losses; `docs/backtest.md`): half of the absences had ended after half an
/// hour (after 23 to 42 minutes, by zone). Bought again after a quarter of an hour it was lost again within the hour in 60 % of cases, after
/// half an hour in 55 %, after an hour in 47 %, where any moment with capacity has 17 %.
pub const TAKEN_FOR: Millis = Millis::from_mins(30);
/// ... and at most this long: after two hours two thirds of what was bought again stays for an hour.
pub const TAKEN_FOR_AT_MOST: Millis = Millis::from_hours(2);

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
