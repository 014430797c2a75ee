//! Capacity that refused us is avoided for a while.
//!
//! Decides: how long, and when past refusals are forgotten.

use serde::{Deserialize, Serialize};

use crate::core::units::time::{Millis, Timestamp};

/// A pool that answered "no capacity" is avoided, longer each time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CoolDown {
    /// How many refusals in a row.
    pub refusals: u32,
    /// When it refused last.
    pub since: Timestamp,
    /// When it may be tried again.
    pub until: Timestamp,
    /// Why it was refused.
    pub cause: CoolDownCause,
}

/// Why a pool is left alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CoolDownCause {
    /// EC2 said there is no capacity.
    NoCapacity,
    /// EC2 warned that it may interrupt instances there.
    Interrupted,
    /// EC2 took an instance back there: it is left alone while something comparable is sold.
    TakenBack,
    /// A machine from there never joined the cluster.
    NeverJoined,
    /// A machine from there joined without its GPUs.
    NoGpus,
    /// The account's quota is used up.
    Quota,
    /// EC2 refused because of the configuration (unsupported type, unknown subnet, permission).
    Refused,
}

impl CoolDown {
    /// The next cool-down after one more refusal at `now`: `base`, doubled each time, at most `cap`. Refusals that ended longer ago than
    /// `cap` are forgotten: the market has moved on.
    pub fn after(previous: Option<CoolDown>, cause: CoolDownCause, now: Timestamp, base: Millis, cap: Millis) -> CoolDown {
        let in_a_row = previous.filter(|p| now.since(p.until) <= cap);
        let refusals = in_a_row.map_or(0, |p| p.refusals).saturating_add(1);
        let span = base.0.saturating_mul(1_i64 << (refusals - 1).min(20)).min(cap.0);
        CoolDown { refusals, since: now, until: now + Millis(span), cause }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cool_downs_double_up_to_the_cap() {
        let (base, cap) = (Millis::from_mins(3), Millis::from_mins(10));
        let first = CoolDown::after(None, CoolDownCause::NoCapacity, Timestamp(0), base, cap);
        let second = CoolDown::after(Some(first), CoolDownCause::NoCapacity, Timestamp(0), base, cap);
        let third = CoolDown::after(Some(second), CoolDownCause::NoCapacity, Timestamp(0), base, cap);
        assert_eq!([first.until.0, second.until.0, third.until.0], [180_000, 360_000, 600_000]);
        let next_day = CoolDown::after(Some(third), CoolDownCause::NoCapacity, Timestamp(86_400_000), base, cap);
        assert_eq!((next_day.refusals, next_day.until.0), (1, 86_580_000), "yesterday's refusals do not count");
    }
}
