//! How many machines of a node pool may be left by choice at a moment, and whether work lets itself be moved at all.
//!
//! Decides: which budgets are active, what they allow for a reason, and when that may change.
//! Does not: choose what is moved, or count what is on its way out (see `plan::moving::choice`).
//!
//! As Karpenter's: of the active budgets that name the reason, or none, the lowest applies, and whatever is on its way out already counts against it,
//! for whichever reason. A window is active from each moment of its schedule for its duration. Source: Karpenter's documentation,
//! "Disruption", and `pkg/apis/v1/nodepool.go`.
//!
//! Only what is done by choice asks: a notice, maintenance, a broken node, a reservation that ends or a deletion moves work whatever budgets say.

use crate::core::fleet::{Disruption, DisruptionReason, Window};
use crate::core::units::time::Timestamp;

/// What the budgets of a pool allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowed {
    /// How many machines may be on their way out at once; `None` without a limit.
    pub machines: Option<u64>,
    /// Until when that is so, if a window opens or closes.
    pub until: Option<Timestamp>,
}

/// What `disruption` allows a pool of `machines` machines at `now`, for `reason`.
pub fn allowed(disruption: &Disruption, reason: DisruptionReason, machines: u64, now: Timestamp) -> Allowed {
    let mut allowed = Allowed { machines: (!disruption.faults.is_empty()).then_some(0), until: None };
    for budget in disruption.budgets.iter().filter(|b| b.reasons.is_empty() || b.reasons.contains(&reason)) {
        let (active, until) = budget.window.as_ref().map_or((true, None), |window| is_active(window, now));
        allowed.until = [allowed.until, until].into_iter().flatten().min();
        if active {
            let most = budget.nodes.of(machines);
            allowed.machines = Some(allowed.machines.map_or(most, |least| least.min(most)));
        }
    }
    allowed
}

/// Whether a window is open, and when that changes.
fn is_active(window: &Window, now: Timestamp) -> (bool, Option<Timestamp>) {
    match window.begins.next_after(now - window.lasts) {
        Some(began) if began <= now => (true, Some(began + window.lasts)),
        next => (false, next),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::fleet::DisruptionSpec;
    use crate::core::units::time::Millis;

    fn disruption(budgets: &str) -> Disruption {
        serde_json::from_str::<DisruptionSpec>(&format!(r#"{{"budgets": {budgets}}}"#)).unwrap().read()
    }

    /// Monday.
    fn monday(hour: i64) -> Timestamp {
        Timestamp::from_date(2026, 7, 20) + Millis::from_hours(hour)
    }

    #[test]
    fn the_lowest_of_the_active_budgets_that_name_the_reason_applies() {
        let budgets = disruption(r#"[{"nodes": "20%"}, {"nodes": "1", "reasons": ["Drift"]}, {"nodes": "0", "reasons": ["Expiry"]}]"#);
        let allowed = |reason| allowed(&budgets, reason, 30, monday(0)).machines;
        assert_eq!(allowed(DisruptionReason::SavingsMove), Some(6));
        assert_eq!(allowed(DisruptionReason::Drift), Some(1));
        assert_eq!(allowed(DisruptionReason::Expiry), Some(0));
        assert_eq!(super::allowed(&disruption("[]"), DisruptionReason::Drift, 30, monday(0)).machines, None, "no budget, no limit");
    }

    #[test]
    fn a_window_closes_and_opens_by_the_clock_of_its_zone() {
        // 09:00 to 17:00 in Berlin, on working days: 07:00 to 15:00 UTC in summer.
        let budgets = disruption(
            r#"[{"nodes": "0", "schedule": "0 9 * * mon-fri", "duration": "8h", "timeZone": "Europe/Berlin"}, {"nodes": "10"}]"#,
        );
        for (hour, machines, until) in [(6, 10, 7), (7, 0, 15), (14, 0, 15), (15, 10, 31), (31, 0, 39)] {
            let allowed = allowed(&budgets, DisruptionReason::Consolidation, 100, monday(hour));
            assert_eq!((allowed.machines, allowed.until), (Some(machines), Some(monday(until))), "at {hour}:00");
        }
    }

    #[test]
    fn while_a_budget_cannot_be_read_nothing_is_moved_by_choice() {
        let budgets =
            disruption(r#"[{"nodes": "100%"}, {"nodes": "50%", "schedule": "@daily", "duration": "8h", "timeZone": "Mars/Base"}]"#);
        assert_eq!(allowed(&budgets, DisruptionReason::SavingsMove, 10, monday(0)).machines, Some(0));
    }
}
