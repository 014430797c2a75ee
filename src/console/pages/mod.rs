//! The pages, one file each: what is read, and how it is shown.

pub(super) mod anomalies;
mod changes;
pub(super) mod machines;
pub(super) mod market;
pub(super) mod moves;
pub(super) mod plans;
pub(super) mod pods;
pub(super) mod savings;
pub(super) mod trust;

use std::collections::BTreeMap;

use crate::core::units::time::Timestamp;
use crate::ledger::report::Month;

/// What an address asks for.
type Asked = axum::extract::Query<BTreeMap<String, String>>;

/// The month of an address; what is none is the one that runs.
fn month_of(asked: &BTreeMap<String, String>, now: Timestamp) -> Option<Month> {
    let running = || now.to_rfc3339().chars().take(7).collect::<String>().parse().ok();
    asked.get("month").and_then(|month| month.parse().ok()).or_else(running)
}

/// A word of an address, without white space around it; empty is none.
fn word<'a>(asked: &'a BTreeMap<String, String>, name: &str) -> Option<&'a str> {
    asked.get(name).map(|word| word.trim()).filter(|word| !word.is_empty())
}
