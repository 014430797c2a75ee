//! How many machines of a node pool may be left by choice at once: its disruption budgets.
//!
//! Decides: how budgets are written and read, and what is reported of one that cannot be read.
//! Does not: say what they allow at a moment (see [`crate::core::policy::disruption`]).
//!
//! Written as in Karpenter's NodePool (`spec.disruption.budgets`), with a time zone added.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

#[cfg(feature = "live")]
use super::schema;
use crate::core::units::recurrence::{Recurrence, Zone};
use crate::core::units::time::{Millis, parse_span};

/// Why a machine is left by choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum DisruptionReason {
    /// Spot is cheaper again, or another offer is.
    SavingsMove,
    /// The work of several machines fits on fewer or cheaper ones.
    Consolidation,
    /// The machine is not as its pool and class would make it now.
    Drift,
    /// The machine is older than its pool allows.
    Expiry,
}

impl fmt::Display for DisruptionReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// How many nodes may be left by choice at once, when, and for which reasons. Of several budgets that are active the lowest applies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "live", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct DisruptionSpec {
    /// The budgets. Absent: one of 10 percent at any time. Empty: no limit.
    #[serde(default = "default_budgets")]
    #[cfg_attr(feature = "live", schemars(length(max = 50)))]
    pub budgets: Vec<BudgetSpec>,
}

/// One budget.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "live", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
#[cfg_attr(
    feature = "live",
    schemars(extend("x-kubernetes-validations" = [
        { "rule": "has(self.schedule) == has(self.duration)", "message": "schedule and duration belong together: set both or neither" },
        { "rule": "!has(self.timeZone) || has(self.schedule)", "message": "timeZone is that of schedule: set schedule and duration as well" }
    ]))
)]
pub struct BudgetSpec {
    /// How many nodes of the pool may be on their way out at once: a number, e.g. `"5"`, or a share, rounded up, e.g. `"10%"`. `"0"` keeps every
    /// node while the budget is active.
    #[cfg_attr(feature = "live", schemars(schema_with = "schema::nodes"))]
    pub nodes: String,
    /// The reasons for which it applies. Absent: all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "live", schemars(schema_with = "schema::optional_reasons"))]
    pub reasons: Option<Vec<DisruptionReason>>,
    /// When it begins to be active, as a cron expression, e.g. `0 9 * * mon-fri`. Absent: it is always active.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "live", schemars(schema_with = "schema::optional_schedule"))]
    pub schedule: Option<String>,
    /// How long it is active each time, e.g. `8h`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "live", schemars(schema_with = "schema::optional_span"))]
    pub duration: Option<String>,
    /// The time zone by whose clock `schedule` is read, e.g. `Europe/Berlin`. Absent: UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "live", schemars(schema_with = "schema::optional_zone"))]
    pub time_zone: Option<String>,
}

/// No window stays open for so long: its end would be no date.
const LONGEST: Millis = Millis::from_hours(24 * 2_000);

/// Karpenter's default.
fn default_budgets() -> Vec<BudgetSpec> {
    vec![BudgetSpec { nodes: "10%".to_owned(), reasons: None, schedule: None, duration: None, time_zone: None }]
}

impl Default for DisruptionSpec {
    fn default() -> Self {
        DisruptionSpec { budgets: default_budgets() }
    }
}

/// The budgets of a pool, read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Disruption {
    /// Those that can be read.
    pub budgets: Vec<DisruptionBudget>,
    /// What is wrong with the others: while there is one, no machine is left by choice.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<String>,
}

/// How many machines may be on their way out at once, for which reasons, and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DisruptionBudget {
    /// How many.
    pub nodes: Nodes,
    /// For these reasons; empty for all.
    pub reasons: BTreeSet<DisruptionReason>,
    /// When; `None` at any time.
    pub window: Option<Window>,
}

/// A number of machines, or a share of a pool's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Nodes {
    /// This number.
    Count(u32),
    /// This share in percent, rounded up.
    Percent(u32),
}

impl Nodes {
    /// How many that is of `all`.
    pub fn of(self, all: u64) -> u64 {
        match self {
            Nodes::Count(count) => count.into(),
            Nodes::Percent(percent) => (all * u64::from(percent)).div_ceil(100),
        }
    }
}

impl FromStr for Nodes {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let number = |digits: &str| digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse::<u32>().ok()).flatten();
        let read = match text.strip_suffix('%') {
            Some(share) => number(share).filter(|percent| *percent <= 100).map(Nodes::Percent),
            None => number(text).map(Nodes::Count),
        };
        read.ok_or_else(|| format!("nodes is {text:?}, expected a number such as \"5\" or a share from \"0%\" to \"100%\""))
    }
}

/// When a budget is active: from each of these moments on, for a while.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// It begins.
    pub begins: Recurrence,
    /// It lasts.
    pub lasts: Millis,
}

impl Serialize for Window {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{} for {} s", self.begins, self.lasts.as_secs()))
    }
}

impl DisruptionSpec {
    /// Whether it is what holds where nothing is written.
    pub fn is_default(&self) -> bool {
        *self == DisruptionSpec::default()
    }

    /// The budgets, and what is wrong with those that cannot be read.
    pub fn read(&self) -> Disruption {
        let mut disruption = Disruption { budgets: Vec::new(), faults: Vec::new() };
        for (at, written) in self.budgets.iter().enumerate() {
            match written.read() {
                Ok(budget) => disruption.budgets.push(budget),
                Err(fault) => disruption.faults.push(format!("spec.disruption.budgets[{at}]: {fault}")),
            }
        }
        disruption
    }
}

impl BudgetSpec {
    fn read(&self) -> Result<DisruptionBudget, String> {
        let reasons = self.reasons.iter().flatten().copied().collect();
        Ok(DisruptionBudget { nodes: self.nodes.parse()?, reasons, window: self.window()? })
    }

    fn window(&self) -> Result<Option<Window>, String> {
        let (schedule, duration) = match (&self.schedule, &self.duration, &self.time_zone) {
            (None, None, None) => return Ok(None),
            (Some(schedule), Some(duration), _) => (schedule, duration),
            _ => return Err("schedule and duration belong together: set both or neither".to_owned()),
        };
        let zone = self.time_zone.as_deref().map_or_else(|| Ok(Zone::utc()), Zone::named).map_err(|fault| format!("timeZone: {fault}"))?;
        let begins = Recurrence::read(schedule, zone).map_err(|fault| format!("schedule: {fault}"))?;
        let expected =
            || format!("duration is {duration:?}, expected days, hours and minutes above 0 and below 2000 days, e.g. 8h or 1h30m");
        Ok(Some(Window { begins, lasts: parse_span(duration).filter(|span| *span < LONGEST).ok_or_else(expected)? }))
    }
}

impl Disruption {
    /// Whether it is what holds where nothing is written: such pools keep the policy hash that earlier versions gave them.
    pub fn is_default(&self) -> bool {
        *self == Disruption::default()
    }
}

impl Default for Disruption {
    fn default() -> Self {
        DisruptionSpec::default().read()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Disruption {
        serde_json::from_str::<DisruptionSpec>(json).unwrap().read()
    }

    #[test]
    fn a_pool_without_budgets_has_one_of_ten_percent_and_one_with_an_empty_list_has_no_limit() {
        assert!(read("{}").is_default());
        assert_eq!(read("{}").budgets[0].nodes, Nodes::Percent(10));
        assert!(read(r#"{"budgets": []}"#).budgets.is_empty());
    }

    #[test]
    fn a_budget_is_read_as_it_is_written() {
        let read = read(
            r#"{"budgets": [{"nodes": "2", "reasons": ["Drift", "Expiry"], "schedule": "0 22 * * *", "duration": "7h30m", "timeZone": "Europe/Berlin"}]}"#,
        );
        assert!(read.faults.is_empty(), "{:?}", read.faults);
        let budget = &read.budgets[0];
        assert_eq!((budget.nodes, budget.reasons.len()), (Nodes::Count(2), 2));
        assert_eq!(budget.window.as_ref().unwrap().lasts, Millis::from_mins(450));
        assert_eq!(serde_json::to_value(budget).unwrap()["window"], "0 22 * * * Europe/Berlin for 27000 s");
    }

    #[test]
    fn a_share_is_rounded_up_and_none_stays_none() {
        for (nodes, all, allowed) in
            [("10%", 1, 1), ("10%", 10, 1), ("10%", 11, 2), ("0%", 50, 0), ("0", 50, 0), ("100%", 7, 7), ("5", 3, 5)]
        {
            assert_eq!(nodes.parse::<Nodes>().unwrap().of(all), allowed, "{nodes} of {all}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_reported_with_its_place() {
        for (budget, fault) in [
            (r#"{"nodes": "ten"}"#, "budgets[0]: nodes is \"ten\""),
            (r#"{"nodes": ""}"#, "nodes is \"\""),
            (r#"{"nodes": "101%"}"#, "nodes is \"101%\""),
            (r#"{"nodes": "1", "schedule": "@daily"}"#, "schedule and duration belong together"),
            (r#"{"nodes": "1", "schedule": "0 25 * * *", "duration": "1h"}"#, "schedule: \"0 25 * * *\" is no cron expression"),
            (r#"{"nodes": "1", "schedule": "@daily", "duration": "0h"}"#, "duration is \"0h\""),
            (r#"{"nodes": "1", "schedule": "@daily", "duration": "106751991167d"}"#, "below 2000 days"),
            (r#"{"nodes": "1", "schedule": "@daily", "duration": "8h", "timeZone": "Mars/Base"}"#, "timeZone: no time zone is called"),
        ] {
            let read = read(&format!(r#"{{"budgets": [{budget}]}}"#));
            assert!(read.budgets.is_empty() && read.faults.len() == 1 && read.faults[0].contains(fault), "{budget}: {:?}", read.faults);
        }
    }
}
