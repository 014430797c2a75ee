//! What workloads produced (requests, transactions, tokens, users) by clock hour, and what they earned by day.
//!
//! Decides: how the files are read, and what is a further revision. Whoever gathers usage elsewhere stores it here as well.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};

use super::table::{Line, each_csv_line};
use super::{ImportFault, Taken, text_of};
use crate::core::units::ids::{ObjectRef, derive_uuid};
use crate::core::units::time::{Millis, Timestamp};
use crate::core::workload::need::UsageUnit;
use crate::ledger::rows::Table;
use crate::ledger::store::{LedgerFault, ensure_months_of, insert};
use crate::ledger::turns::{self, Turn};

const USAGE_HOUR: Table =
    Table { name: "usage_hour", columns: "id, at, workload_namespace, workload_name, unit, revision, quantity, source" };
const REVENUE_DAY: Table = Table { name: "revenue_day", columns: "id, at, workload_namespace, workload_name, revision, revenue_usd" };
const ROWS_AT_ONCE: usize = 2_000;
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

/// Takes files of usage: columns `hour`, `workload` (namespace/name) and any of requests, transactions, tokens, users.
///
/// # Errors
/// [`ImportFault`]; then nothing was taken.
pub async fn import_usage(connection: &mut PgConnection, paths: &[PathBuf]) -> Result<Taken, ImportFault> {
    let mut usage = Vec::new();
    for path in paths {
        read_usage(path, &text_of(path)?, &mut usage)?;
    }
    Ok(store_usage(connection, &usage, "file").await?)
}

fn read_usage(path: &Path, text: &str, usage: &mut Vec<UsageHour>) -> Result<(), ImportFault> {
    let mut seen = std::collections::BTreeSet::new();
    each_csv_line(path, text, &["hour", "workload"], |line| {
        let hour = line.time("hour")?;
        if hour.0.rem_euclid(HOUR) != 0 {
            return Err(line.fault("hour", line.get("hour").unwrap_or_default(), "the start of a clock hour, as in 2026-07-20T07:00:00Z"));
        }
        let workload = workload_of(line)?;
        for unit in UsageUnit::ALL {
            let Some(text) = line.get(unit.as_str()) else { continue };
            let micro_units = micro_units(text).ok_or_else(|| line.fault(unit.as_str(), text, "a number of at least 0"))?;
            if !seen.insert((workload.clone(), hour, unit)) {
                return Err(line.fault("hour", line.get("hour").unwrap_or_default(), "each workload and hour once"));
            }
            usage.push(UsageHour { workload: workload.clone(), hour, unit, micro_units });
        }
        Ok(())
    })
}

/// A column `workload` with namespace and name.
pub(super) fn workload_of(line: &Line) -> Result<ObjectRef, ImportFault> {
    let expected = "a workload as namespace/name, as in ml/chat";
    let text = line.need("workload", expected)?;
    match text.split_once('/') {
        Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() && !name.contains('/') => {
            Ok(ObjectRef { namespace: namespace.into(), name: name.into() })
        }
        _ => Err(line.fault("workload", text, expected)),
    }
}

/// A decimal of at least 0 in millionths.
pub(in crate::ledger) fn micro_units(text: &str) -> Option<i128> {
    let tenths_of_nano: crate::core::units::money::BilledUsd = text.parse().ok()?;
    (tenths_of_nano.0 >= 0).then(|| (tenths_of_nano.0 + 5_000) / 10_000)
}

/// Millionths as a decimal.
fn decimal(micro: i128) -> String {
    format!("{}.{:06}", micro / 1_000_000, micro % 1_000_000)
}

/// Stores usage; a value that differs from the stored one is a further revision. `source` says who told.
///
/// # Errors
/// [`LedgerFault`]; then nothing was stored.
pub async fn store_usage(connection: &mut PgConnection, usage: &[UsageHour], source: &str) -> Result<Taken, LedgerFault> {
    let doing = LedgerFault::during;
    let mut transaction = connection.begin().await.map_err(doing("begin a transaction"))?;
    turns::take(&mut transaction, Turn::Import).await?;
    let (namespaces, names) = workloads(usage.iter().map(|hour| &hour.workload));
    let stored = sqlx::query!(
        r#"SELECT DISTINCT ON (u.workload_namespace, u.workload_name, u.unit, u.at) u.workload_namespace, u.workload_name, u.unit, ledger.ms(u.at) AS "at_ms!",
                  u.revision, u.quantity::text AS "quantity!"
           FROM unnest($1::text[], $2::text[]) AS w(namespace, name)
           JOIN ledger.usage_hour u ON u.workload_namespace = w.namespace AND u.workload_name = w.name
           ORDER BY u.workload_namespace, u.workload_name, u.unit, u.at, u.revision DESC"#,
        &namespaces,
        &names
    )
    .fetch_all(&mut *transaction)
    .await
    .map_err(doing("read the usage that is there"))?;
    // By namespace, name, unit and hour: revision and quantity.
    let there: BTreeMap<_, _> = stored
        .into_iter()
        .map(|row| ((row.workload_namespace, row.workload_name, row.unit, row.at_ms), (row.revision, micro_units(&row.quantity))))
        .collect();
    let mut plan = Revisions::default();
    for UsageHour { workload, hour, unit, micro_units } in usage {
        let key = (workload.namespace.clone(), workload.name.clone(), unit.as_str().to_owned(), hour.0);
        let Some(revision) = plan.next(there.get(&key).map(|(n, amount)| (*n, *amount == Some(*micro_units)))) else { continue };
        let parts = ["usage", &workload.namespace, &workload.name, unit.as_str(), &hour.0.to_string(), &revision.to_string()];
        plan.rows.push(json!({
            "id": derive_uuid(&parts), "at": hour.to_rfc3339(), "workload_namespace": workload.namespace, "workload_name": workload.name,
            "unit": unit.as_str(), "revision": revision, "quantity": decimal(*micro_units), "source": source,
        }));
    }
    plan.write(&mut transaction, USAGE_HOUR).await?;
    transaction.commit().await.map_err(doing("commit the usage"))?;
    Ok(plan.taken)
}

/// Takes files of revenue: columns `period` (a day, or a month that is spread evenly over its days), `workload`, `revenue_usd`.
///
/// # Errors
/// [`ImportFault`]; then nothing was taken.
pub async fn import_revenue(connection: &mut PgConnection, paths: &[PathBuf]) -> Result<Taken, ImportFault> {
    let mut days: BTreeMap<(ObjectRef, Timestamp), i64> = BTreeMap::new();
    for path in paths {
        each_csv_line(path, &text_of(path)?, &["period", "workload", "revenue_usd"], |line| {
            let workload = workload_of(line)?;
            for (day, amount) in per_day(line, "revenue_usd")? {
                *days.entry((workload.clone(), day)).or_default() += amount;
            }
            Ok(())
        })?;
    }
    let doing = LedgerFault::during;
    let mut transaction = connection.begin().await.map_err(doing("begin a transaction"))?;
    turns::take(&mut transaction, Turn::Import).await?;
    let (namespaces, names) = workloads(days.keys().map(|(workload, _)| workload));
    let stored = sqlx::query!(
        r#"SELECT DISTINCT ON (r.workload_namespace, r.workload_name, r.at) r.workload_namespace, r.workload_name, ledger.ms(r.at) AS "at_ms!", r.revision,
                  (r.revenue_usd * 1000000)::bigint AS "micro!"
           FROM unnest($1::text[], $2::text[]) AS w(namespace, name)
           JOIN ledger.revenue_day r ON r.workload_namespace = w.namespace AND r.workload_name = w.name
           ORDER BY r.workload_namespace, r.workload_name, r.at, r.revision DESC"#,
        &namespaces,
        &names
    )
    .fetch_all(&mut *transaction)
    .await
    .map_err(doing("read the revenue that is there"))?;
    let there: BTreeMap<(String, String, i64), (i32, i64)> =
        stored.into_iter().map(|row| ((row.workload_namespace, row.workload_name, row.at_ms), (row.revision, row.micro))).collect();
    let mut plan = Revisions::default();
    for ((workload, day), micro) in &days {
        let key = (workload.namespace.clone(), workload.name.clone(), day.0);
        let Some(revision) = plan.next(there.get(&key).map(|(n, amount)| (*n, amount == micro))) else { continue };
        let parts = ["revenue", &workload.namespace, &workload.name, &day.0.to_string(), &revision.to_string()];
        plan.rows.push(json!({
            "id": derive_uuid(&parts), "at": day.to_rfc3339(), "workload_namespace": workload.namespace, "workload_name": workload.name,
            "revision": revision, "revenue_usd": crate::core::units::money::MicroUsd(*micro),
        }));
    }
    plan.write(&mut transaction, REVENUE_DAY).await?;
    transaction.commit().await.map_err(doing("commit the revenue"))?;
    Ok(plan.taken)
}

/// The days of a line's period, each with its part of an amount in micro-dollars; the parts add up.
pub(super) fn per_day(line: &Line, column: &str) -> Result<Vec<(Timestamp, i64)>, ImportFault> {
    let expected = "a day as 2026-07-20, or a month as 2026-07";
    let text = line.need("period", expected)?;
    let amount = line.usd(column)?.to_micro_usd().0;
    if let Ok(day) = text.parse::<jiff::civil::Date>() {
        return Ok(vec![(midnight(day), amount)]);
    }
    let first: jiff::civil::Date = format!("{text}-01").parse().map_err(|_| line.fault("period", text, expected))?;
    let days = i64::from(first.days_in_month());
    let upto = |n: i64| i64::try_from(i128::from(amount) * i128::from(n) / i128::from(days)).unwrap_or(i64::MAX);
    Ok((0..days).map(|n| (midnight(first) + Millis(n * DAY), upto(n + 1) - upto(n))).collect())
}

fn midnight(day: jiff::civil::Date) -> Timestamp {
    Timestamp::from_date(i64::from(day.year()), i64::from(day.month()), i64::from(day.day()))
}

fn workloads<'a>(of: impl Iterator<Item = &'a ObjectRef>) -> (Vec<String>, Vec<String>) {
    let each: std::collections::BTreeSet<&ObjectRef> = of.collect();
    each.into_iter().map(|workload| (workload.namespace.clone(), workload.name.clone())).unzip()
}

/// Rows that are new or changed.
#[derive(Default)]
pub(super) struct Revisions {
    pub rows: Vec<Value>,
    pub taken: Taken,
}

impl Revisions {
    /// The number of the revision to write, from the stored one and whether it says the same; `None` when it does.
    pub(super) fn next(&mut self, stored: Option<(i32, bool)>) -> Option<i32> {
        match stored {
            Some((_, true)) => {
                self.taken.same += 1;
                None
            }
            Some((revision, false)) => {
                self.taken.changed += 1;
                Some(revision + 1)
            }
            None => {
                self.taken.new += 1;
                Some(0)
            }
        }
    }

    pub(super) async fn write(&self, connection: &mut PgConnection, table: Table) -> Result<(), LedgerFault> {
        ensure_months_of(connection, &self.rows).await?;
        for chunk in self.rows.chunks(ROWS_AT_ONCE) {
            insert(connection, table, chunk).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_is_read_by_the_hour_and_refused_where_it_is_wrong() {
        let read = |text: &str| {
            let mut usage = Vec::new();
            read_usage(Path::new("usage.csv"), text, &mut usage).map(|()| usage).map_err(|fault| fault.to_string())
        };
        let good = "hour,workload,requests,tokens\n2026-07-20T07:00:00Z,ml/chat,1200,3.5\n2026-07-20T08:00:00Z,ml/chat,,7\n";
        let found: Vec<_> = read(good).unwrap().iter().map(|hour| (hour.unit.as_str(), hour.micro_units)).collect();
        assert_eq!(found, [("requests", 1_200_000_000), ("tokens", 3_500_000), ("tokens", 7_000_000)]);
        for (text, said) in [
            (
                good.replace("07:00:00", "07:30:00"),
                "line 2: column hour holds \"2026-07-20T07:30:00Z\"; expected the start of a clock hour",
            ),
            (good.replace("ml/chat", "chat"), "expected a workload as namespace/name"),
            (good.replace("1200", "-1"), "column requests holds \"-1\"; expected a number of at least 0"),
            (good.replace("08:00:00Z", "07:00:00Z"), "expected each workload and hour once"),
            (good.replace("hour,", "when,"), "missing: hour"),
        ] {
            let fault = read(&text).unwrap_err();
            assert!(fault.contains(said), "{fault}");
        }
        assert_eq!(decimal(3_500_000), "3.500000");
    }

    #[test]
    fn a_month_is_spread_over_its_days_to_the_micro_dollar() {
        let mut days = Vec::new();
        let text = "period,workload,revenue_usd\n2026-02,ml/chat,100\n2026-03-05,ml/chat,-1.5\n";
        each_csv_line(Path::new("revenue.csv"), text, &["period"], |line| {
            days.extend(per_day(line, "revenue_usd")?);
            Ok(())
        })
        .unwrap();
        assert_eq!(days.len(), 29);
        assert_eq!(days[..28].iter().map(|(_, micro)| micro).sum::<i64>(), 100_000_000);
        assert_eq!(days[28], (Timestamp::from_date(2026, 3, 5), -1_500_000));
    }
}
