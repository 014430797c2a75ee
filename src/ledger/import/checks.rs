//! What is refused before anything is written, and how a person overrules it.
//!
//! Decides: the names of refusals, and the bounds that are not a matter of the file's kind.
//! Does not: look at a file (each reader asks), or overrule anything by itself.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::reading::ReadFile;
use crate::core::units::money::BilledUsd;

/// A reason to refuse a statement that a person may overrule, by `--accept NAME`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Check {
    /// The same days cost less than half, or more than half as much again, of what the version before said.
    AmountChanged,
    /// It is older than the version that holds.
    OlderVersion,
    /// It is about an account of which nothing is known, or names no machine of ours.
    ForeignAccount,
    /// It has columns that nobody knows.
    UnknownColumns,
    /// It names workloads that never ran.
    UnknownWorkloads,
    /// It reports an hour twice, or another source has already reported it.
    HoursTwice,
    /// An amount is beyond reason.
    BeyondReason,
    /// It leaves out workloads or items that the version before had.
    MissingBefore,
    /// It is final, and machines that cost something in its month are on no line of it.
    MissingMachines,
    /// The last rate of its currency is of more than 35 days before the day it is used for.
    OldRate,
}

impl Check {
    /// As it is given on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Check::AmountChanged => "amount-changed",
            Check::OlderVersion => "older-version",
            Check::ForeignAccount => "foreign-account",
            Check::UnknownColumns => "unknown-columns",
            Check::UnknownWorkloads => "unknown-workloads",
            Check::HoursTwice => "hours-twice",
            Check::BeyondReason => "beyond-reason",
            Check::MissingBefore => "missing-before",
            Check::MissingMachines => "missing-machines",
            Check::OldRate => "old-rate",
        }
    }
}

/// The checks of one command: what is accepted, what of that was needed, and which files it was given beside the data: what is on record about it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Checks {
    accept: BTreeSet<Check>,
    overruled: BTreeSet<Check>,
    /// Files that say how others are read, by what they are.
    beside: BTreeMap<&'static str, ReadFile>,
    /// What the data are, where their kind does not say it.
    role: Option<&'static str>,
}

impl Checks {
    /// With what a person accepts.
    pub fn accepting(accept: impl IntoIterator<Item = Check>) -> Self {
        Checks { accept: accept.into_iter().collect(), ..Checks::default() }
    }

    /// Refuses by `check` unless it is accepted.
    pub(super) fn refuse(&mut self, check: Check, sentence: impl FnOnce() -> String) -> Result<(), super::ImportFault> {
        if self.accept.contains(&check) {
            self.overruled.insert(check);
            return Ok(());
        }
        // What a fault of a line says at its end is said once.
        let sentence = sentence();
        let sentence = sentence.strip_suffix("; nothing was imported").unwrap_or(&sentence).to_owned();
        Err(super::ImportFault::Refused { check, sentence })
    }

    /// Puts a file on record that says how the data are read.
    pub(super) fn read_with(&mut self, role: &'static str, file: Option<ReadFile>) {
        self.beside.extend(file.map(|file| (role, file)));
    }

    /// Puts on record what the data are.
    pub(super) fn data_are(&mut self, role: &'static str) {
        self.role = Some(role);
    }

    /// The files of a statement, for the record: its data, and what they were read with.
    pub(super) fn files_on_record(&self, data: &[ReadFile]) -> Vec<Value> {
        let of = |role: Option<&'static str>, file: &ReadFile| {
            let mut value = json!({"name": file.name, "sha256": file.sha256, "lines": file.lines});
            if let (Some(role), Some(fields)) = (role, value.as_object_mut()) {
                fields.insert("role".into(), role.into());
            }
            value
        };
        data.iter().map(|file| of(self.role, file)).chain(self.beside.iter().map(|(role, file)| of(Some(role), file))).collect()
    }

    /// The names of what was overruled, for the record.
    pub(super) fn overruled(&self) -> Vec<String> {
        self.overruled.iter().map(|check| check.name().to_owned()).collect()
    }
}

/// Dollars that no line of a bill, no day of revenue and no cost is expected to reach.
pub(super) const LARGEST_USD: BilledUsd = BilledUsd(10_000_000 * 10_000_000_000);

/// Whether an amount is beyond reason.
pub(super) fn beyond_reason(amount: BilledUsd) -> bool {
    amount.0.abs() > LARGEST_USD.0
}

/// Whether `now` is less than half of `before`, or more than half as much again. Small amounts may change as they like.
pub(super) fn changed_much(before: BilledUsd, now: BilledUsd) -> bool {
    const SMALL: i128 = 10 * 10_000_000_000;
    let difference = (now.0 - before.0).abs();
    difference > SMALL && (2 * difference > before.0.abs())
}

/// How often something was found of which the first is named: nothing when it is the only one.
pub(super) fn in_all(count: i64, what: &str) -> String {
    if count > 1 { format!(" ({count} {what} in all)") } else { String::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_more_or_half_less_is_much_and_pocket_money_is_not() {
        let usd = |dollars: i128| BilledUsd(dollars * 10_000_000_000);
        for (before, now, much) in [
            (100, 150, false),
            (100, 151, true),
            (100, 50, false),
            (100, 49, true),
            (100, 0, true),
            (4, 12, false),
            (0, 11, true),
            (-100, -160, true),
        ] {
            assert_eq!(changed_much(usd(before), usd(now)), much, "{before} to {now}");
        }
        assert!(beyond_reason(usd(10_000_001)) && beyond_reason(usd(-10_000_001)) && !beyond_reason(usd(9_999_999)));
    }
}
