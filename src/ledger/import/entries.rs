//! Statements that fit in memory: usage, revenue and other costs, as amounts by key.
//!
//! Decides: what a version changes against the one that holds, what is refused of it, and that it is on record before its rows are.
//! Does not: read a file, or know the tables of rows (see [`super::usage`], [`super::revenue`], [`super::costs`]).

use std::collections::{BTreeMap, BTreeSet};

use sqlx::PgConnection;

use super::checks::{Check, Checks, beyond_reason, changed_much};
use super::reading::ReadFile;
use super::statement::{self, Cell, Changes, Held, New, Outcome, held, id_of, next_version};
use super::table::Line;
use super::{ImportFault, Options};
use crate::core::units::ids::ObjectRef;
use crate::core::units::money::{BilledUsd, MicroUsd};
use crate::core::units::time::Timestamp;
use crate::ledger::store::LedgerFault;

/// A difference to the version that holds: the key, the amount, and whether the key came (1), stayed (0) or went (-1).
pub(super) type Difference<K> = (K, i128, i32);

/// What brings `held` to `new`.
pub(super) fn differences<K: Ord + Clone>(held: &BTreeMap<K, i128>, new: &BTreeMap<K, i128>) -> (Vec<Difference<K>>, Changes) {
    let (mut found, mut changes) = (Vec::new(), Changes::default());
    for (key, amount) in new {
        match held.get(key) {
            None => {
                changes.new += 1;
                found.push((key.clone(), *amount, 1));
            }
            Some(before) if before != amount => {
                changes.changed += 1;
                found.push((key.clone(), amount - before, 0));
            }
            Some(_) => {}
        }
    }
    for (key, amount) in held.iter().filter(|(key, _)| !new.contains_key(key)) {
        changes.gone += 1;
        found.push((key.clone(), -amount, -1));
    }
    (found, changes)
}

/// A version that was taken: what became of it, and the differences that its rows carry; none when it says what holds already.
pub(super) struct Version<K> {
    pub outcome: Outcome,
    pub differences: Vec<Difference<K>>,
}

/// The files that a version is from, and when its source made it, where that is known.
#[derive(Debug, Clone, Copy)]
pub(super) struct Origin<'a> {
    pub files: &'a [ReadFile],
    pub made_at: Option<&'a str>,
}

/// Takes a version of a period: compares what it says `now` with what was there `before`, lets `refuse` look it over, and puts it on record.
pub(super) async fn new_version<K: Ord + Clone>(
    connection: &mut PgConnection,
    cell: Cell,
    from: Origin<'_>,
    [before, now]: [&BTreeMap<K, i128>; 2],
    checks: &mut Checks,
    refuse: impl FnOnce(&mut Checks, Option<&Held>) -> Result<(), ImportFault>,
) -> Result<Version<K>, ImportFault> {
    let (differences, changes) = differences(before, now);
    let holds = held(connection, &cell).await?;
    if let Some(holds) = holds.as_ref().filter(|_| differences.is_empty()) {
        let outcome = Outcome { id: holds.id, version: holds.version, cell, changes, same: true };
        return Ok(Version { outcome, differences });
    }
    statement::refuse_what_has_not_begun(connection, &cell, checks).await?;
    refuse(checks, holds.as_ref())?;
    statement::refuse_what_was_replaced(connection, (&cell, from.files), holds.as_ref(), checks).await?;
    let version = next_version(connection, &cell).await?;
    let new = New {
        cell: &cell,
        said_version: from.made_at.map(str::to_owned),
        files: from.files,
        lines: i64::try_from(now.len()).unwrap_or(i64::MAX),
        total: BilledUsd(now.values().sum::<i128>() * MICRO),
        invoiced: false,
        invoices: None,
    };
    statement::record(connection, &new, version, checks).await?;
    Ok(Version { outcome: Outcome { id: id_of(&cell, version), version, cell, changes, same: false }, differences })
}

/// Amounts are kept in millionths, and compared with bounds in 10^-10.
const MICRO: i128 = 10_000;

/// How a refusal of a month of dollars puts it.
pub(super) struct Words {
    /// What the amounts are, as in `revenue`.
    pub amounts: &'static str,
    /// What each is of, as in `the workload`.
    pub of: &'static str,
    /// What that did, as in `earned`.
    pub verb: &'static str,
}

/// Refuses a month of dollars that lacks what the version before had, that changed by half, or of which another source has spoken. `months` are what the
/// version before said, what this one says, and what other sources say.
pub(super) fn look_over_month<K: Ord>(
    checks: &mut Checks,
    month: &str,
    words: &Words,
    name: impl Fn(&K) -> String,
    months: [&BTreeMap<K, i128>; 3],
    replaces: bool,
) -> Result<(), ImportFault> {
    let [before, now, others] = months.map(|amounts| amounts.keys().map(&name).collect::<BTreeSet<String>>());
    nothing_missing(checks, month, words.of, &before, &now)?;
    if replaces {
        let [before, now, _] = months.map(|amounts| amounts.values().sum::<i128>() * MICRO);
        not_much_changed(checks, month, words.amounts, before, now)?;
    }
    let Some(twice) = now.intersection(&others).next() else { return Ok(()) };
    checks.refuse(Check::HoursTwice, || {
        let verb = words.verb;
        format!("another source has already said what {twice} {verb} in {month}: retract that statement first (lowtide ledger retract)")
    })
}

/// The period of a statement in words, for refusals.
pub(super) fn period_in_words(from: Timestamp, length: usize) -> String {
    from.to_rfc3339().chars().take(length).collect()
}

/// Refuses a version that leaves out what the one before had.
pub(super) fn nothing_missing(
    checks: &mut Checks,
    period: &str,
    what: &str,
    before: &BTreeSet<String>,
    now: &BTreeSet<String>,
) -> Result<(), ImportFault> {
    let missing: Vec<&str> = before.difference(now).map(String::as_str).collect();
    let Some(first) = missing.first() else { return Ok(()) };
    checks.refuse(Check::MissingBefore, || {
        let others = match missing.len() {
            1 => String::new(),
            n => format!(" and {} others", n - 1),
        };
        format!(
            "a new version of {period} replaces the previous one entirely, but it lacks {what} {first}{others}, which the previous one had; give all of {period}, or use \
             another --source"
        )
    })
}

/// Refuses a version that its source made before the one that holds, where both say when.
pub(super) fn not_older(checks: &mut Checks, period: &str, made_at: Option<&str>, holds: Option<&Held>) -> Result<(), ImportFault> {
    let point = |text: Option<&str>| text.and_then(|text| text.parse::<jiff::Timestamp>().ok());
    match (point(made_at), point(holds.and_then(|holds| holds.said_version.as_deref()))) {
        (Some(new), Some(held)) if new < held => {
            checks.refuse(Check::OlderVersion, || format!("this version of {period} was made at {new}, the one that holds at {held}"))
        }
        _ => Ok(()),
    }
}

/// Refuses an amount that changed by half, in units of 10^-10.
pub(super) fn not_much_changed(checks: &mut Checks, period: &str, what: &str, before: i128, now: i128) -> Result<(), ImportFault> {
    if !changed_much(BilledUsd(before), BilledUsd(now)) {
        return Ok(());
    }
    let short = |amount: i128| format!("{}.{:02}", amount / 10_000_000_000, (amount.abs() % 10_000_000_000) / 100_000_000);
    checks.refuse(Check::AmountChanged, || format!("{what} of {period} was {} and would be {}", short(before), short(now)))
}

/// What files of one command have reported: amounts of one day that come from two files, or from a line of the month and a line of the day, would be added up.
#[derive(Debug, Default)]
pub(super) struct Spoken {
    /// By what and day: which part of which file, and whether a line of the whole month.
    of: BTreeMap<(String, Timestamp), ((usize, usize), bool)>,
}

impl Spoken {
    /// Refuses what another file, or another part of one that was put together from several, or a line of another kind has reported.
    pub(super) fn once(
        &mut self,
        checks: &mut Checks,
        file: (usize, usize),
        what: &str,
        days: &[(Timestamp, MicroUsd)],
    ) -> Result<(), ImportFault> {
        let monthly = days.len() > 1;
        for (day, _) in days {
            let (other, was_monthly) = *self.of.entry((what.to_owned(), *day)).or_insert((file, monthly));
            if other == file && was_monthly == monthly {
                continue;
            }
            let how = match other {
                _ if other == file => "given both by the month and by the day",
                (in_file, _) if in_file == file.0 => "in two parts of this file, each with its header",
                _ => "in two of these files",
            };
            return checks.refuse(Check::HoursTwice, || {
                format!("{what} on {} is {how}: the amounts would be added up; give one of them", period_in_words(*day, 10))
            });
        }
        Ok(())
    }
}

/// What the lines of a file say, by its part and their hash how often: a file that was put behind itself without its header says everything twice. With its header
/// it has two parts, which are compared otherwise.
#[derive(Debug, Default)]
pub(super) struct Said(BTreeMap<(usize, u64), u32>);

impl Said {
    /// Counts a line.
    pub(super) fn count(&mut self, line: &Line) {
        *self.0.entry((line.part, line.hashed())).or_default() += 1;
    }

    /// Refuses a file of which at least half of the lines come again, word for word. One such line may well be a second purchase.
    pub(super) fn refuse_repeated(&self, checks: &mut Checks, file: &ReadFile) -> Result<(), ImportFault> {
        let repeated = self.0.values().filter(|times| **times > 1).count();
        if repeated < 2 || 2 * repeated < self.0.len() {
            return Ok(());
        }
        checks.refuse(Check::HoursTwice, || {
            format!(
                "{repeated} of the {} different lines of {} come more than once, word for word: it looks like a file that was put behind itself, and would be \
                 added up; give it once",
                self.0.len(),
                file.name
            )
        })
    }
}

/// Refuses an amount of dollars beyond reason.
pub(super) fn reasonable(checks: &mut Checks, amount: BilledUsd, said: impl FnOnce() -> ImportFault) -> Result<(), ImportFault> {
    if beyond_reason(amount) { checks.refuse(Check::BeyondReason, || said().to_string()) } else { Ok(()) }
}

/// Refuses names that no decision, no pod and no posting knows: usually typos.
pub(super) async fn known_workloads(
    connection: &mut PgConnection,
    workloads: &BTreeSet<ObjectRef>,
    checks: &mut Checks,
) -> Result<(), ImportFault> {
    let (namespaces, names): (Vec<String>, Vec<String>) = workloads.iter().map(|w| (w.namespace.clone(), w.name.clone())).unzip();
    let unknown = sqlx::query_scalar!(
        r#"SELECT w.namespace || '/' || w.name AS "workload!" FROM unnest($1::text[], $2::text[]) AS w(namespace, name)
           WHERE NOT EXISTS (SELECT FROM ledger.workload_version v WHERE v.workload_namespace = w.namespace AND v.workload_name = w.name AND v.workload_kind <> 'External')
             AND NOT EXISTS (SELECT FROM ledger.decision d WHERE d.workload_namespace = w.namespace AND d.workload_name = w.name)
             AND NOT EXISTS (SELECT FROM ledger.usage_hour u WHERE u.workload_namespace = w.namespace AND u.workload_name = w.name AND u.statement IS NOT NULL)
             AND (w.namespace, w.name) NOT IN (SELECT o.workload_namespace, o.workload_name FROM ledger.occupancy_opened o)
           ORDER BY 1"#,
        &namespaces,
        &names
    );
    let unknown = unknown.fetch_all(connection).await.map_err(LedgerFault::during("look for the workloads"))?;
    let Some(first) = unknown.first() else { return Ok(()) };
    checks.refuse(Check::UnknownWorkloads, || {
        let others = if unknown.len() > 1 { format!(" and {} others", unknown.len() - 1) } else { String::new() };
        format!("{first}{others} never ran on a machine of lowtide's: is the name correct?")
    })
}

/// The source that a person gives, or the kind's own name.
pub(super) fn source_of(options: &Options, kind: super::statement::Kind) -> String {
    options.source.clone().unwrap_or_else(|| kind.as_str().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Whatever versions there were, their differences add up to the last one.
        #[test]
        fn differences_add_up_to_the_last_version(versions in prop::collection::vec(prop::collection::btree_map(0_u8..6, -3_i128..4, 0..6), 1..6)) {
            let (mut sums, mut held) = (BTreeMap::<u8, (i128, i32)>::new(), BTreeMap::new());
            for version in &versions {
                let (found, changes) = differences(&held, version);
                prop_assert_eq!(found.len(), changes.new + changes.changed + changes.gone);
                for (key, amount, lines) in found {
                    let sum = sums.entry(key).or_default();
                    *sum = (sum.0 + amount, sum.1 + lines);
                }
                held.clone_from(version);
            }
            let there: BTreeMap<u8, i128> = sums.iter().filter(|(_, (_, lines))| *lines > 0).map(|(key, (sum, _))| (*key, *sum)).collect();
            prop_assert_eq!(&there, &held);
            prop_assert!(sums.values().all(|(sum, lines)| *lines > 0 || (*sum == 0 && *lines == 0)), "what is gone leaves nothing");
        }
    }
}
