//! What a request, transaction, token or user-hour cost, and what was left of what it earned.
//!
//! Decides: the sentence and the columns. Does not: compute (see [`crate::core::accounting::unit_cost`]).

use std::collections::BTreeMap;

use sqlx::{AssertSqlSafe, PgConnection, Row};

use super::{By, Days, Report};
use crate::core::accounting::unit_cost::{HourOfUnits, PicoUsd, UnitCost, unit_cost};
use crate::core::units::money::MicroUsd;
use crate::core::units::time::Timestamp;
use crate::core::workload::need::UsageUnit;
use crate::ledger::import::micro_units;
use crate::ledger::store::LedgerFault;

const COLUMNS: [&str; 11] = [
    "units",
    "cost_usd",
    "usd_per_unit",
    "p50",
    "p95",
    "p99",
    "trend_30d_percent",
    "revenue_per_unit",
    "margin_per_unit",
    "margin_percent",
    "hours",
];

/// What a unit is called in a sentence.
fn word(unit: UsageUnit) -> &'static str {
    match unit {
        UsageUnit::Requests => "request",
        UsageUnit::Transactions => "transaction",
        UsageUnit::Tokens => "token",
        UsageUnit::Users => "user-hour",
    }
}

/// Cost per unit, by workload or another owner, and over all that have usage.
///
/// # Errors
/// [`LedgerFault`] when Postgres refuses or does not answer.
pub async fn unit_costs(connection: &mut PgConnection, days: &Days, unit: UsageUnit, by: By) -> Result<Report, LedgerFault> {
    let hours = hours(connection, days, unit, by).await?;
    let revenue = revenue(connection, days, by).await?;
    let mut report = Report {
        sentence: String::new(),
        columns: std::iter::once(by.heading()).chain(COLUMNS).map(String::from).collect(),
        rows: Vec::new(),
    };
    let known = |hours: &[HourOfUnits]| hours.iter().any(|hour| hour.micro_units > 0);
    let with_units: BTreeMap<&String, &Vec<HourOfUnits>> = hours.iter().filter(|(_, hours)| known(hours)).collect();
    for (key, hours) in &with_units {
        if let Some(cost) = unit_cost(hours, revenue.get(*key).copied()) {
            report.rows.push(row(key, hours.len(), &cost));
        }
    }
    let all: Vec<HourOfUnits> = summed(with_units.values().flat_map(|hours| hours.iter()));
    let earned: Option<MicroUsd> = with_units.keys().map(|key| revenue.get(*key).copied()).sum();
    match unit_cost(&all, earned) {
        Some(cost) => {
            report.sentence = sentence(unit, &cost);
            report.rows.push(row("total", all.len(), &cost));
        }
        None => report.sentence = format!("No usage in {} is known for these days: import it, or let Prometheus be asked.", unit.as_str()),
    }
    Ok(report)
}

/// The same hour of several owners is one.
fn summed<'a>(hours: impl Iterator<Item = &'a HourOfUnits>) -> Vec<HourOfUnits> {
    let mut by_hour: BTreeMap<Timestamp, HourOfUnits> = BTreeMap::new();
    for hour in hours {
        let sum = by_hour.entry(hour.hour).or_insert(HourOfUnits { hour: hour.hour, cost: PicoUsd(0), micro_units: 0 });
        (sum.cost, sum.micro_units) = (PicoUsd(sum.cost.0 + hour.cost.0), sum.micro_units + hour.micro_units);
    }
    by_hour.into_values().collect()
}

fn per_cent(per_mille: i64) -> String {
    format!("{}{}.{}", if per_mille < 0 { "-" } else { "" }, per_mille.abs() / 10, per_mille.abs() % 10)
}

fn row(key: &str, hours: usize, cost: &UnitCost) -> Vec<Option<String>> {
    let [p50, p95, p99] = cost.percentiles.map(|p| Some(p.to_string()));
    vec![
        Some(key.to_owned()),
        Some((cost.micro_units / 1_000_000).to_string()),
        Some(cost.cost.to_string()),
        Some(cost.mean.to_string()),
        p50,
        p95,
        p99,
        cost.trend_per_mille.map(per_cent),
        cost.revenue.map(|revenue| revenue.to_string()),
        cost.margin().map(|margin| margin.to_string()),
        cost.margin_per_mille().map(per_cent),
        Some(hours.to_string()),
    ]
}

fn sentence(unit: UsageUnit, cost: &UnitCost) -> String {
    let word = word(unit);
    let [p50, p95, p99] = cost.percentiles;
    let trend = cost.trend_per_mille.map_or_else(String::new, |trend| {
        let sign = if trend >= 0 { "+" } else { "" };
        format!(" Over 30 days it goes {sign}{} %.", per_cent(trend))
    });
    let margin = match (cost.margin(), cost.margin_per_mille()) {
        (Some(margin), Some(percent)) => {
            format!(" It leaves ${margin} of ${} ({} %).", cost.revenue.unwrap_or_default(), per_cent(percent))
        }
        _ => String::new(),
    };
    format!(
        "A {word} cost ${}, everything included; half of them at most ${p50}, 95 % at most ${p95}, 99 % at most ${p99}, by the hour they fell in.{trend}{margin}",
        cost.mean
    )
}

/// Hours with their cost and units, by owner.
async fn hours(
    connection: &mut PgConnection,
    days: &Days,
    unit: UsageUnit,
    by: By,
) -> Result<BTreeMap<String, Vec<HourOfUnits>>, LedgerFault> {
    let key = key_of(by);
    // The owner's column comes from a closed list; what the user typed is bound.
    let sql = format!(
        "WITH bounds AS (
             SELECT coalesce($1::date, (now() AT TIME ZONE 'UTC')::date - 30)::timestamp AT TIME ZONE 'UTC' AS first,
                    coalesce($2::date, (now() AT TIME ZONE 'UTC')::date + 1)::timestamp AT TIME ZONE 'UTC' AS next
         ), cost AS MATERIALIZED (
             SELECT h.hour, {key} AS key, h.workload_namespace AS namespace, h.workload_name AS name, sum(h.cost_usd) AS cost
             FROM bounds b, ledger.hourly_cost(b.first, b.next) h GROUP BY 1, 2, 3, 4
         ), units AS (
             SELECT c.hour, max(c.key) AS key, u.quantity
             FROM cost c JOIN ledger.usage u ON u.hour = c.hour AND u.workload_namespace = c.namespace AND u.workload_name = c.name AND u.unit = $3
             GROUP BY c.hour, c.namespace, c.name, u.quantity
         )
         SELECT key, ledger.ms(hour) AS hour_ms, round(sum(cost), 12)::text AS cost, coalesce(sum(quantity), 0)::text AS quantity FROM (
             SELECT key, hour, cost, NULL::numeric AS quantity FROM cost UNION ALL SELECT key, hour, 0, quantity FROM units
         ) x GROUP BY key, hour ORDER BY key, hour"
    );
    let query = sqlx::query(AssertSqlSafe(sql)).bind(&days.from).bind(&days.to).bind(unit.as_str());
    let rows = query.fetch_all(connection).await.map_err(LedgerFault::during("read cost and usage by the hour"))?;
    let mut hours: BTreeMap<String, Vec<HourOfUnits>> = BTreeMap::new();
    for row in rows {
        let text = |name: &str| row.try_get::<String, _>(name).unwrap_or_default();
        let hour = Timestamp(row.try_get("hour_ms").unwrap_or_default());
        let of_hour = HourOfUnits { hour, cost: pico(&text("cost")), micro_units: micro_units(&text("quantity")).unwrap_or_default() };
        hours.entry(text("key")).or_default().push(of_hour);
    }
    Ok(hours)
}

/// Twelve decimals of dollars.
fn pico(text: &str) -> PicoUsd {
    let (negative, digits) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
    let figure: i128 = format!("{whole}{part:0<12}").parse().unwrap_or_default();
    PicoUsd(if negative { -figure } else { figure })
}

async fn revenue(connection: &mut PgConnection, days: &Days, by: By) -> Result<BTreeMap<String, MicroUsd>, LedgerFault> {
    let key = key_of(by);
    let sql = format!(
        "WITH bounds AS (
             SELECT coalesce($1::date, (now() AT TIME ZONE 'UTC')::date - 30) AS first, coalesce($2::date, (now() AT TIME ZONE 'UTC')::date + 1) AS next
         ), owners AS (
             SELECT workload_namespace, workload_name, max({key}) AS key FROM ledger.share_daily h, bounds b WHERE h.day >= b.first AND h.day < b.next GROUP BY 1, 2
         )
         SELECT o.key, (sum(r.revenue_usd) * 1000000)::bigint AS micro FROM bounds b, ledger.revenue r JOIN owners o USING (workload_namespace, workload_name)
         WHERE r.day >= b.first AND r.day < b.next GROUP BY o.key"
    );
    let query = sqlx::query(AssertSqlSafe(sql)).bind(&days.from).bind(&days.to);
    let rows = query.fetch_all(connection).await.map_err(LedgerFault::during("read revenue"))?;
    let read = rows.iter().filter_map(|row| Some((row.try_get("key").ok()?, MicroUsd(row.try_get("micro").ok()?))));
    Ok(read.collect())
}

/// Owners that cost by the hour is kept for; everything else is by workload.
fn key_of(by: By) -> &'static str {
    match by {
        By::Team => "coalesce(h.team, '(untagged)')",
        By::Service => "coalesce(h.service, '(untagged)')",
        By::Component => "coalesce(h.component, '(untagged)')",
        _ => "coalesce(h.workload_namespace || '/' || h.workload_name, '(none)')",
    }
}

/// Whether unit costs can be grouped so.
pub fn groups_unit_costs(by: By) -> bool {
    matches!(by, By::Team | By::Service | By::Component | By::Workload)
}
