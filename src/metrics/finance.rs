//! What the ledger says of money, for `/metrics`: read from Postgres now and then, kept until the next look.
//!
//! Decides: nothing.

use std::collections::BTreeMap;

use crate::core::units::money::MicroUsd;
use crate::core::units::time::Timestamp;

/// A budget of this month.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BudgetFigures {
    /// Its plan.
    pub plan: MicroUsd,
    /// Spent so far.
    pub spent: MicroUsd,
    /// Spent by the end of the month, at the pace of the last seven days.
    pub expected: MicroUsd,
    /// When it will be used up, if within the month.
    pub exhausted_at: Option<Timestamp>,
}

/// What the ledger says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FinanceFigures {
    /// Spend and net saving (B1) of this month by team; work without a team is `(untagged)`.
    pub months: BTreeMap<String, (MicroUsd, MicroUsd)>,
    /// Budgets by name.
    pub budgets: BTreeMap<String, BudgetFigures>,
    /// Services out of the ordinary, by team, service and cause.
    pub anomalies: BTreeMap<(String, String, String), i64>,
    /// Cost of a unit in billionths of a dollar, by unit and window (`day` or `week-before`).
    pub unit_costs: BTreeMap<(String, String), i64>,
    /// Useful pod time of the last 24 hours by team and use: `active`, `idle` (held by a pod, doing nothing) or `unmeasured`.
    pub gpu_use: BTreeMap<(String, &'static str), MicroUsd>,
}
