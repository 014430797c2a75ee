//! What workloads produced (requests, transactions, tokens, users) by clock hour.
//!
//! Decides: how the files are read: a period is a UTC day, and a newer version of it replaces the older whole. What Prometheus says is revised hour by
//! hour and holds where no file speaks.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};

use super::checks::{Check, Checks};
use super::delivery::each_file_once;
use super::entries::{Origin, Version, known_workloads, new_version, not_much_changed, nothing_missing, period_in_words, source_of};
use super::reading::{ReadFile, each_known_line};
use super::statement::{Cell, Held, Kind, Outcome};
use super::table::{Line, is_in_reach};
use super::{ImportFault, Options, Taken};
use crate::core::units::ids::{ObjectRef, derive_uuid};
use crate::core::units::time::{Millis, Timestamp};
use crate::core::workload::need::UsageUnit;
use crate::ledger::rows::Table;
use crate::ledger::store::{LedgerFault, end, ensure_months_of, insert};
use crate::ledger::turns::{self, Turn};

const USAGE_HOUR: Table = Table {
    name: "usage_hour",
    columns: "id, at, workload_namespace, workload_name, unit, revision, quantity, source, statement, lines, model",
};
const KNOWN: [&str; 10] =
    ["hour", "workload", "model", "requests", "transactions", "tokens", "tokens_in", "tokens_out", "users", "monthly_users"];
/// Sources that never speak of each other's requests: AI vendors.
const VENDORS: [&str; 2] = ["anthropic", "openai"];
const ROWS_AT_ONCE: usize = 2_000;
/// More of anything than a workload has in an hour, in millionths: a trillion.
const LARGEST: i128 = 1_000_000_000_000 * 1_000_000;
const HOUR: i64 = 3_600_000;
const DAY: i64 = 24 * HOUR;

/// What a workload produced in one clock hour.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct UsageHour {
    /// The workload.
    pub workload: ObjectRef,
    /// The hour's start.
    pub hour: Timestamp,
    /// Of what.
    pub unit: UsageUnit,
    /// How much, in millionths.
    pub micro_units: i128,
}

/// Whose usage of what, when: workload, unit, hour and model; an empty model is none.
pub(super) type HourKey = (ObjectRef, UsageUnit, Timestamp, String);

/// Quantities in millionths.
pub(super) type Hours = BTreeMap<HourKey, i128>;

/// Takes files of usage in a transaction of the caller's: columns `hour`, `workload` (namespace/name), `model` if there are several, and any of
/// requests, transactions, tokens, tokens_in, tokens_out, users, monthly_users.
///
/// # Errors
/// [`ImportFault`]; then the transaction must be rolled back.
pub(super) async fn take(connection: &mut PgConnection, paths: &[PathBuf], options: &mut Options) -> Result<Vec<Outcome>, ImportFault> {
    turns::take(connection, Turn::Import).await?;
    let mut hours = Hours::new();
    let files = each_file_once(paths, |_, path| read_file(path, &mut hours, options))?;
    known_workloads(connection, &hours.keys().map(|(workload, ..)| workload.clone()).collect(), &mut options.checks).await?;
    let source = source_of(options, Kind::Usage);
    take_days(connection, &source, hours, &files, options).await
}

/// Takes what was read, day by day.
pub(super) async fn take_days(
    connection: &mut PgConnection,
    source: &str,
    hours: Hours,
    files: &[ReadFile],
    options: &mut Options,
) -> Result<Vec<Outcome>, ImportFault> {
    let mut by_day: BTreeMap<i64, Hours> = BTreeMap::new();
    for (key, quantity) in hours {
        by_day.entry(key.2.0.div_euclid(DAY)).or_default().insert(key, quantity);
    }
    let mut outcomes = Vec::new();
    for (day, hours) in by_day {
        let from = Timestamp(day * DAY);
        let cell = Cell { kind: Kind::Usage, source: source.to_owned(), from, until: from + Millis(DAY) };
        outcomes.push(take_day(connection, cell, &hours, files, &mut options.checks).await?);
    }
    Ok(outcomes)
}

fn read_file(path: &Path, hours: &mut Hours, options: &mut Options) -> Result<ReadFile, ImportFault> {
    let mut of_file = Hours::new();
    let read = each_known_line(path, (&["hour", "workload"], &KNOWN), options, |line, _| read_line(line, &mut of_file))?;
    for (key, quantity) in of_file {
        if let Some(other) = hours.get(&key).filter(|other| **other != quantity) {
            let (workload, unit, hour) = (&key.0, key.1.as_str(), key.2.to_rfc3339());
            let said = format!(
                "{workload} has {} {unit} in the hour from {hour} by one file and {} by {}",
                decimal(*other),
                decimal(quantity),
                path.display()
            );
            options.checks.refuse(Check::HoursTwice, || said)?;
        }
        hours.insert(key, quantity);
    }
    Ok(read)
}

fn read_line(line: &Line, hours: &mut Hours) -> Result<(), ImportFault> {
    let hour = line.time("hour")?;
    let text = line.get("hour").unwrap_or_default();
    if hour.0.rem_euclid(HOUR) != 0 {
        return Err(line.fault("hour", text, "the start of a clock hour, as in 2026-07-20T07:00:00Z"));
    }
    let workload = workload_of(line, "workload")?;
    let model = line.get("model").unwrap_or_default();
    for unit in UsageUnit::ALL {
        let Some(quantity) = line.get(unit.as_str()) else { continue };
        let micro = micro_units(quantity).ok_or_else(|| line.fault(unit.as_str(), quantity, "a number of at least 0"))?;
        if matches!(unit, UsageUnit::Users | UsageUnit::MonthlyUsers) && !model.is_empty() {
            // Whoever asked two models would be two.
            let expected = "no model beside users: people are not added up over models; give them in a row of the workload without one";
            return Err(line.fault("model", model, expected));
        }
        if unit == UsageUnit::MonthlyUsers && hour != month_cell(hour).0 {
            return Err(line.fault("hour", text, "the first hour of a month: monthly_users is how many were active in it"));
        }
        if hours.insert((workload.clone(), unit, hour, model.to_owned()), micro).is_some() {
            return Err(line.fault("hour", text, "each workload, model and hour once"));
        }
    }
    Ok(())
}

async fn take_day(
    connection: &mut PgConnection,
    cell: Cell,
    hours: &Hours,
    files: &[ReadFile],
    checks: &mut Checks,
) -> Result<Outcome, ImportFault> {
    let mut others = there(connection, &cell).await?;
    let before = others.remove(&cell.source).unwrap_or_default();
    let refuse = |checks: &mut Checks, holds: Option<&Held>| look_over_day(checks, &cell, ([&before, hours], &others), holds.is_some());
    let from = Origin { files, made_at: None };
    let Version { outcome, differences } = new_version(connection, cell.clone(), from, [&before, hours], checks, refuse).await?;
    let (id, version) = (outcome.id, outcome.version);
    let row = |((workload, unit, hour, model), micro, lines): &(HourKey, i128, i32)| {
        let (id_of, hour_of) = (id.to_string(), hour.0.to_string());
        let mut parts = vec!["usage", id_of.as_str(), &workload.namespace, &workload.name, unit.as_str(), hour_of.as_str()];
        parts.extend(Some(model.as_str()).filter(|model| !model.is_empty()));
        json!({
            "id": derive_uuid(&parts), "model": Some(model).filter(|model| !model.is_empty()),
            "at": hour.to_rfc3339(), "workload_namespace": workload.namespace, "workload_name": workload.name, "unit": unit.as_str(),
            "revision": version, "quantity": decimal(*micro), "source": cell.source, "statement": id, "lines": lines,
        })
    };
    write(connection, USAGE_HOUR, &differences.iter().map(row).collect::<Vec<_>>()).await?;
    Ok(outcome)
}

/// Refuses a day with an hour beyond reason, that lacks hours which the version before had, that changed by half, or of which another source says something else.
fn look_over_day(
    checks: &mut Checks,
    cell: &Cell,
    ([before, now], others): ([&Hours; 2], &BTreeMap<String, Hours>),
    replaces: bool,
) -> Result<(), ImportFault> {
    if let Some(((workload, unit, hour, _), micro)) = now.iter().find(|(_, micro)| **micro > LARGEST) {
        let (amount, unit, hour) = (decimal(*micro), unit.as_str(), hour.to_rfc3339());
        let said = format!("{workload} has {amount} {unit} in the hour from {hour}; expected at most 1,000,000,000,000 in an hour");
        checks.refuse(Check::BeyondReason, || said)?;
    }
    let day = period_in_words(cell.from, 10);
    let names = |hours: &Hours| {
        let name = |(workload, unit, hour, model): &HourKey| format!("{workload} {} {model} from {hour}", unit.as_str()).replace("  ", " ");
        hours.keys().map(name).collect::<BTreeSet<_>>()
    };
    nothing_missing(checks, &day, "the hour", &names(before), &names(now))?;
    if replaces {
        for unit in UsageUnit::ALL {
            let total = |hours: &Hours| hours.iter().filter(|((_, of, ..), _)| *of == unit).map(|(_, micro)| micro).sum::<i128>() * 10_000;
            not_much_changed(checks, &day, unit.as_str(), total(before), total(now))?;
        }
    }
    let Some((workload, unit, hour)) = differs(&cell.source, now, others) else { return Ok(()) };
    checks.refuse(Check::HoursTwice, || {
        format!("another source has a different figure for {} of {workload} in the hour from {hour}", unit.as_str())
    })
}

/// What a source says of one hour of a workload and unit, by model.
type OfModels<'a> = BTreeMap<&'a str, i128>;

/// What is about to be taken says of an hour, and what each other source does.
type OfHour<'a> = (OfModels<'a>, BTreeMap<&'a str, OfModels<'a>>);

/// An hour for which other sources have a figure for the same models and not the same one. Sources add up where they speak of different models, or are
/// different vendors; views/units.sql counts by the same rule.
fn differs<'a>(source: &str, now: &'a Hours, others: &'a BTreeMap<String, Hours>) -> Option<(&'a ObjectRef, UsageUnit, Timestamp)> {
    let mut by_hour: BTreeMap<(&ObjectRef, UsageUnit, Timestamp), OfHour<'_>> = BTreeMap::new();
    for ((workload, unit, hour, model), micro) in now {
        by_hour.entry((workload, *unit, *hour)).or_default().0.insert(model, *micro);
    }
    for (other, hours) in others {
        for ((workload, unit, hour, model), micro) in hours {
            if let Some(of_hour) = by_hour.get_mut(&(workload, *unit, *hour)) {
                of_hour.1.entry(other).or_default().insert(model, *micro);
            }
        }
    }
    let total = |models: &OfModels<'_>| models.values().sum::<i128>();
    let is_other = |(ours, others): &OfHour<'_>| {
        // Of several others that say the same one counts.
        let mut counted: Vec<(&str, &OfModels<'_>)> = Vec::new();
        for (other, models) in others {
            let is_new = counted.iter().all(|(one, of_one)| add_up((one, of_one), (other, models)));
            if is_new && !add_up((source, ours), (other, models)) {
                counted.push((other, models));
            }
        }
        !counted.is_empty() && counted.iter().map(|(_, models)| total(models)).sum::<i128>() != total(ours)
    };
    by_hour.into_iter().find(|(_, of_hour)| is_other(of_hour)).map(|(key, _)| key)
}

/// Whether what two sources say of an hour is about different requests.
fn add_up((one, of_one): (&str, &OfModels<'_>), (other, of_other): (&str, &OfModels<'_>)) -> bool {
    let are_vendors = VENDORS.contains(&one) && VENDORS.contains(&other) && one != other;
    let all_named = !of_one.contains_key("") && !of_other.contains_key("");
    are_vendors || (all_named && of_one.keys().all(|model| !of_other.contains_key(model)))
}

/// What files say of a day that holds, by source.
async fn there(connection: &mut PgConnection, cell: &Cell) -> Result<BTreeMap<String, Hours>, LedgerFault> {
    let rows = sqlx::query!(
        r#"SELECT s.source, u.workload_namespace, u.workload_name, u.unit, ledger.ms(u.at) AS "at_ms!", coalesce(u.model, '') AS "model!",
                  sum(u.quantity)::text AS "quantity!"
           FROM ledger.usage_hour u JOIN ledger.statement s ON s.id = u.statement
           WHERE s.kind = 'usage' AND s.at = $1::text::timestamptz
           GROUP BY s.source, u.workload_namespace, u.workload_name, u.unit, u.at, u.model HAVING sum(u.lines) > 0"#,
        cell.from.to_rfc3339()
    );
    let rows = rows.fetch_all(connection).await.map_err(LedgerFault::during("read the usage that holds"))?;
    let mut sources = BTreeMap::<String, Hours>::new();
    for row in rows {
        let workload = ObjectRef { namespace: row.workload_namespace, name: row.workload_name };
        if let (Some(unit), Some(micro)) = (UsageUnit::of(&row.unit), micro_units(&row.quantity)) {
            sources.entry(row.source).or_default().insert((workload, unit, Timestamp(row.at_ms), row.model), micro);
        }
    }
    Ok(sources)
}

/// A column with namespace and name.
pub(super) fn workload_of(line: &Line, column: &str) -> Result<ObjectRef, ImportFault> {
    let expected = "a workload as namespace/name, as in ml/chat";
    let text = line.need(column, expected)?;
    workload_named(text).ok_or_else(|| line.fault(column, text, expected))
}

/// The workload of a text as `ml/chat`.
pub(super) fn workload_named(text: &str) -> Option<ObjectRef> {
    let (namespace, name) = text.split_once('/')?;
    let is_name = !namespace.is_empty() && !name.is_empty() && !name.contains('/');
    is_name.then(|| ObjectRef { namespace: namespace.into(), name: name.into() })
}

/// A column with a calendar day; its midnight.
pub(super) fn day_of(line: &Line, column: &str) -> Result<Timestamp, ImportFault> {
    let expected = "a day as 2026-07-20, from 2000 to 2199";
    let text = line.need(column, expected)?;
    let day: Option<jiff::civil::Date> = text.parse().ok();
    day.map(midnight).filter(|day| is_in_reach(*day)).ok_or_else(|| line.fault(column, text, expected))
}

pub(super) fn midnight(day: jiff::civil::Date) -> Timestamp {
    Timestamp::from_date(i64::from(day.year()), i64::from(day.month()), i64::from(day.day()))
}

/// The calendar month of a point in time: its first midnight, and that of the next.
pub(super) fn month_cell(at: Timestamp) -> (Timestamp, Timestamp) {
    let first: Option<jiff::civil::Date> = at.to_rfc3339().get(..7).and_then(|month| format!("{month}-01").parse().ok());
    let first = first.unwrap_or(jiff::civil::date(1970, 1, 1));
    (midnight(first), midnight(first.checked_add(jiff::Span::new().months(1)).unwrap_or(first)))
}

/// A decimal of at least 0 in millionths.
pub(in crate::ledger) fn micro_units(text: &str) -> Option<i128> {
    let tenths_of_nano: crate::core::units::money::BilledUsd = text.parse().ok()?;
    (tenths_of_nano.0 >= 0).then(|| (tenths_of_nano.0 + 5_000) / 10_000)
}

/// Millionths as a decimal.
fn decimal(micro: i128) -> String {
    let sign = if micro < 0 { "-" } else { "" };
    format!("{sign}{}.{:06}", micro.abs() / 1_000_000, micro.abs() % 1_000_000)
}

/// Adds rows to a table, in portions; months get their partitions first.
pub(super) async fn write(connection: &mut PgConnection, table: Table, rows: &[Value]) -> Result<(), LedgerFault> {
    ensure_months_of(connection, rows).await?;
    for chunk in rows.chunks(ROWS_AT_ONCE) {
        insert(connection, table, chunk).await?;
    }
    Ok(())
}

/// Stores what Prometheus says: a value that differs from the stored one is a further revision. `source` names who said it.
///
/// # Errors
/// [`LedgerFault`]; then nothing was stored.
pub async fn store_usage(connection: &mut PgConnection, usage: &[UsageHour], source: &str) -> Result<Taken, LedgerFault> {
    let mut transaction = connection.begin().await.map_err(LedgerFault::during("begin a transaction"))?;
    let taken = revise(&mut transaction, usage, source).await;
    end(transaction, taken, "commit the usage").await
}

async fn revise(connection: &mut PgConnection, usage: &[UsageHour], source: &str) -> Result<Taken, LedgerFault> {
    turns::take(connection, Turn::Import).await?;
    let workloads: BTreeSet<&ObjectRef> = usage.iter().map(|hour| &hour.workload).collect();
    let (namespaces, names): (Vec<String>, Vec<String>) = workloads.into_iter().map(|w| (w.namespace.clone(), w.name.clone())).unzip();
    let stored = sqlx::query!(
        r#"SELECT DISTINCT ON (u.workload_namespace, u.workload_name, u.unit, u.at) u.workload_namespace, u.workload_name, u.unit, ledger.ms(u.at) AS "at_ms!",
                  u.revision, u.quantity::text AS "quantity!"
           FROM unnest($1::text[], $2::text[]) AS w(namespace, name)
           JOIN ledger.usage_hour u ON u.workload_namespace = w.namespace AND u.workload_name = w.name AND u.statement IS NULL
           ORDER BY u.workload_namespace, u.workload_name, u.unit, u.at, u.revision DESC"#,
        &namespaces,
        &names
    )
    .fetch_all(&mut *connection)
    .await
    .map_err(LedgerFault::during("read the usage that is there"))?;
    // By namespace, name, unit and hour: revision and quantity.
    let there: BTreeMap<_, _> = stored
        .into_iter()
        .map(|row| ((row.workload_namespace, row.workload_name, row.unit, row.at_ms), (row.revision, micro_units(&row.quantity))))
        .collect();
    let (mut rows, mut taken) = (Vec::new(), Taken::default());
    for UsageHour { workload, hour, unit, micro_units } in usage {
        let key = (workload.namespace.clone(), workload.name.clone(), unit.as_str().to_owned(), hour.0);
        let revision = match there.get(&key) {
            Some((_, amount)) if *amount == Some(*micro_units) => {
                taken.same += 1;
                continue;
            }
            Some((revision, _)) => {
                taken.changed += 1;
                revision + 1
            }
            None => {
                taken.new += 1;
                0
            }
        };
        let parts = ["usage", &workload.namespace, &workload.name, unit.as_str(), &hour.0.to_string(), &revision.to_string()];
        rows.push(json!({
            "id": derive_uuid(&parts), "at": hour.to_rfc3339(), "workload_namespace": workload.namespace, "workload_name": workload.name,
            "unit": unit.as_str(), "revision": revision, "quantity": decimal(*micro_units), "source": source,
        }));
    }
    write(connection, USAGE_HOUR, &rows).await?;
    Ok(taken)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::import::reading::each_csv_record;
    use crate::mutation::REACH;

    #[test]
    fn usage_is_read_by_the_hour_and_refused_where_it_is_wrong() {
        let read = |text: &str| {
            let mut usage = Hours::new();
            let done = each_csv_record(Path::new("usage.csv"), &mut text.as_bytes(), (&["hour", "workload"], &|_| true), &mut |line| {
                read_line(line, &mut usage)
            });
            done.map(|_| usage).map_err(|fault| fault.to_string())
        };
        let good = "hour,workload,requests,tokens\n2026-07-20T07:00:00Z,ml/chat,1200,3.5\n2026-07-20T08:00:00Z,ml/chat,,7\n";
        let found: Vec<_> = read(good).unwrap().iter().map(|((_, unit, ..), micro)| (unit.as_str(), *micro)).collect();
        assert_eq!(found, [("requests", 1_200_000_000), ("tokens", 3_500_000), ("tokens", 7_000_000)]);
        for (text, said) in [
            (
                good.replace("07:00:00", "07:30:00"),
                "line 2: column hour holds \"2026-07-20T07:30:00Z\"; expected the start of a clock hour",
            ),
            (good.replace("ml/chat", "chat"), "expected a workload as namespace/name"),
            (good.replace("1200", "-1"), "column requests holds \"-1\"; expected a number of at least 0"),
            (good.replace("08:00:00Z", "07:00:00Z"), "expected each workload, model and hour once"),
            (good.replace("hour,", "when,"), "missing: hour"),
            (
                "hour,workload,model,users\n2026-07-20T07:00:00Z,ml/chat,m-1,3\n".to_owned(),
                "column model holds \"m-1\"; expected no model beside users",
            ),
            (
                "hour,workload,model,monthly_users\n2026-07-01T00:00:00Z,ml/chat,m-1,3\n".to_owned(),
                "column model holds \"m-1\"; expected no model beside users",
            ),
        ] {
            let fault = read(&text).unwrap_err();
            assert!(fault.contains(said), "{fault}");
        }
        assert_eq!((decimal(3_500_000), decimal(-500_000)), ("3.500000".to_owned(), "-0.500000".to_owned()));
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(crate::mutation::CASES))]

        #[test]
        fn whatever_a_usage_file_holds_is_read_or_refused_with_a_sentence(
            text in crate::mutation::csv(&["hour,workload,requests,tokens\n2026-07-20T07:00:00Z,ml/chat,1200,3.5\n2026-07-20T08:00:00Z,ml/chat,,7\n"])
        ) {
            let mut usage = Hours::new();
            let done = each_csv_record(Path::new("usage.csv"), &mut text.as_bytes(), (&["hour", "workload"], &|_| true), &mut |line| {
                read_line(line, &mut usage)
            });
            match done {
                Ok(_) => assert!(usage.iter().all(|((_, _, hour, _), micro)| *micro >= 0 && REACH.contains(&hour.0)), "{usage:?}"),
                Err(fault) => assert!(fault.to_string().contains("nothing was imported"), "{fault}"),
            }
        }
    }
}
