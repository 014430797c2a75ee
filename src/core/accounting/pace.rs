//! Whether a budget will hold, at the pace of the last days.
//!
//! Decides: the expected end of the month and the day a budget is used up. Does not: stop anything; the budget of a node pool does.

use crate::core::units::money::MicroUsd;
use crate::core::units::time::{Millis, Timestamp};

/// Where a budget is heading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heading {
    /// Spent by the end of the month.
    pub expected: MicroUsd,
    /// When the plan is used up, if within the month.
    pub exhausted_at: Option<Timestamp>,
}

/// Of a `plan` of which `spent` is gone at `now`, at `pace` per day from here on.
pub fn heading(plan: MicroUsd, spent: MicroUsd, pace: MicroUsd, now: Timestamp) -> Heading {
    const DAY: i128 = Millis::from_hours(24).0 as i128;
    let left = now.month_end().since(now).0;
    let whole = |n: i128| i64::try_from(n).unwrap_or(i64::MAX);
    let expected = MicroUsd(spent.0.saturating_add(whole(i128::from(pace.0) * i128::from(left) / DAY)));
    let exhausted_at = if spent.0 >= plan.0 {
        Some(now)
    } else if expected.0 > plan.0 && pace.0 > 0 {
        Some(now + Millis(whole(i128::from(plan.0 - spent.0) * DAY / i128::from(pace.0))))
    } else {
        None
    };
    Heading { expected, exhausted_at }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_that_will_be_exceeded_names_the_day() {
        let (noon, usd) = (Timestamp::from_date(2026, 7, 11), |n: i64| MicroUsd(n * 1_000_000));
        let found = heading(usd(1_000), usd(500), usd(40), noon);
        assert_eq!(found.expected, usd(500 + 21 * 40));
        assert_eq!(found.exhausted_at.unwrap().to_rfc3339(), "2026-07-23T12:00:00.000Z");
        assert_eq!(heading(usd(1_000), usd(100), usd(40), noon), Heading { expected: usd(940), exhausted_at: None });
        assert_eq!(heading(usd(10), usd(10), usd(0), noon).exhausted_at, Some(noon));
    }
}
