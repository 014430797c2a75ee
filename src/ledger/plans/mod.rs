//! What people plan and expect: budgets, anomalies and forecasts over the ledger's figures.
//!
//! - [`budget`]: plans by label and month, compared with what was spent.
//! - [`anomalies`]: services out of the ordinary, and why.
//! - [`forecast`]: the next months, by scenario and component, and how earlier forecasts came out.
//! - [`recommendations`]: what to change about GPUs that are paid for and idle, and what came of it.
//! - [`figures`]: all of it in short, for `/metrics`.
//!
//! Decides: which costs are put together. Does not: decide what is ordinary or expected (see [`crate::core::accounting`]).

pub mod anomalies;
pub mod budget;
pub mod figures;
pub mod forecast;
pub mod recommendations;

use crate::core::units::money::MicroUsd;

/// Dollars with two decimals, for tables of plans.
fn two_decimals(amount: MicroUsd) -> String {
    let cents = (amount.0 + 5_000 * amount.0.signum()) / 10_000;
    format!("{}{}.{:02}", if cents < 0 { "-" } else { "" }, (cents / 100).abs(), (cents % 100).abs())
}
