//! What a request, transaction, token or user-hour cost, and what was left of what it earned.
//!
//! Decides: the sentence and the columns. Does not: compute (see [`crate::core::accounting::unit_cost`]).

mod known;

use std::collections::BTreeMap;

use sqlx::{AssertSqlSafe, PgConnection, Row};

use self::known::revenue;
pub(super) use self::known::{Known, hours};
use super::{By, Days, IN_DAYS, Keys, Only, Report, condition, dollars, with_day_of_knowledge};
use crate::core::accounting::unit_cost::{Earned, UnitCost, unit_cost};
use crate::core::units::money::MicroUsd;
use crate::core::workload::need::UsageUnit;
use crate::ledger::store::LedgerFault;

const COLUMNS: [&str; 13] = [
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
    "coverage_percent",
    "units_coverage_percent",
];

/// What a unit is called in a sentence.
fn word(unit: UsageUnit) -> &'static str {
    match unit {
        UsageUnit::Requests => "request",
        UsageUnit::Transactions => "transaction",
        UsageUnit::Tokens => "token",
        UsageUnit::Users => "user-hour",
        UsageUnit::TokensIn => "token read",
        UsageUnit::TokensOut => "token written",
        UsageUnit::MonthlyUsers => "user of a month",
    }
}

/// Cost per unit, by workload or another owner, and over all that have usage.
///
/// Only hours whose usage is known count, on both sides: a gap neither raises nor lowers the mean, and it is reported what share of the cost it rests on.
///
/// # Errors
/// [`LedgerFault`] when Postgres refuses or does not answer.
pub async fn unit_costs(
    connection: &mut PgConnection,
    days: &Days,
    unit: UsageUnit,
    by: impl Into<Keys>,
    only: &[Only],
) -> Result<Report, LedgerFault> {
    let keys = by.into();
    let known = hours(connection, days, unit, &keys, only).await?;
    let revenue = revenue(connection, days, unit, &keys, only).await?;
    let mut report =
        Report { sentence: String::new(), columns: keys.headings().chain(COLUMNS).map(String::from).collect(), rows: Vec::new() };
    let with_units: BTreeMap<&Vec<String>, &Known> =
        known.iter().filter(|(_, known)| known.hours.iter().any(|hour| hour.micro_units > 0)).collect();
    let mut earned_by_all: Option<Earned> = None;
    for (key, known) in &with_units {
        let earned = revenue.get(*key).map(|days| known.earned(days));
        earned_by_all = earned.map(|earned| sum_of(earned_by_all.unwrap_or_default(), earned)).or(earned_by_all);
        if let Some(cost) = unit_cost(&known.hours, earned) {
            report.rows.push(row(key.iter().cloned().map(Some).collect(), known, &cost));
        }
    }
    // Of some owners revenue is not known: then the sum of the others says nothing of all.
    let earned = earned_by_all.filter(|_| with_units.keys().all(|key| revenue.contains_key(*key)));
    let all = Known::of_all(with_units.values().copied());
    match unit_cost(&all.hours, earned) {
        Some(cost) => {
            let unbilled = unbilled(connection, days, unit, only).await?;
            report.sentence = sentence(unit, &all, &cost, earned, (unattributed(connection, days, only).await?, unbilled));
            let total: Vec<Option<String>> = keys.headings().enumerate().map(|(n, _)| (n == 0).then(|| "total".to_owned())).collect();
            report.rows.push(row(total, &all, &cost));
        }
        None => {
            report.sentence = match unbilled(connection, days, unit, only).await? {
                Some(units) => format!("What {} cost is not known for these days: there are {units}.", unit.as_str()),
                None => format!("No usage in {} is known for these days: import it, or have it collected from Prometheus.", unit.as_str()),
            }
        }
    }
    with_day_of_knowledge(connection, report).await
}

fn sum_of(a: Earned, b: Earned) -> Earned {
    Earned { amount: a.amount + b.amount, micro_units: a.micro_units + b.micro_units }
}

/// Other costs of these days that name no workload. Whichever owner or workload is asked for: whose they are is not known.
async fn unattributed(connection: &mut PgConnection, days: &Days, only: &[Only]) -> Result<MicroUsd, LedgerFault> {
    let of_days: Vec<Only> = only.iter().filter(|only| matches!(only.by(), By::Day | By::Month)).cloned().collect();
    let condition = condition(&of_days);
    let sql = format!(
        "SELECT coalesce(round(sum(cost_usd) * 1000000), 0)::bigint AS micro FROM ledger.share_daily
         WHERE line = 'overhead' AND coalesce(workload_namespace, '') = '' AND {IN_DAYS}{condition}"
    );
    let row = sqlx::query(AssertSqlSafe(sql)).bind(&days.from).bind(&days.to).fetch_one(connection).await;
    Ok(MicroUsd(row.map_err(LedgerFault::during("read what names no workload"))?.get("micro")))
}

/// Per mille as percent.
pub(super) fn per_cent(per_mille: i64) -> String {
    format!("{}{}.{}", if per_mille < 0 { "-" } else { "" }, per_mille.abs() / 10, per_mille.abs() % 10)
}

fn row(mut key: Vec<Option<String>>, known: &Known, cost: &UnitCost) -> Vec<Option<String>> {
    let [p50, p95, p99] = cost.percentiles.map(|p| Some(p.to_string()));
    key.extend([
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
        Some(known.hours.len().to_string()),
        Some(per_cent(known.coverage())),
        Some(per_cent(known.unit_coverage())),
    ]);
    key
}

/// What vendors produced on days for which they have no bill yet, in words; `None` is nothing. With filters, of the workloads that have any cost by them.
async fn unbilled(connection: &mut PgConnection, days: &Days, unit: UsageUnit, only: &[Only]) -> Result<Option<String>, LedgerFault> {
    let of_wanted = if only.is_empty() {
        String::new()
    } else {
        format!(
            "AND EXISTS (SELECT FROM ledger.share_daily s WHERE s.workload_namespace = u.workload_namespace AND s.workload_name = u.workload_name AND {IN_DAYS}{})",
            condition(only)
        )
    };
    let sql = format!(
        "SELECT round(sum(u.unbilled))::text AS units, count(DISTINCT ledger.utc_day(u.hour)) AS days,
                string_agg(DISTINCT array_to_string(u.vendors, ' and '), ' and ') AS vendors
         FROM (SELECT coalesce($1::date, (now() AT TIME ZONE 'UTC')::date - 30)::timestamp AT TIME ZONE 'UTC' AS first,
                      least(coalesce($2::date, ledger.open_day() + 1), ledger.open_day() + 1)::timestamp AT TIME ZONE 'UTC' AS next) b,
              LATERAL ledger.usage_of(b.first, b.next) u
         WHERE u.unit = $3 AND u.unbilled > 0 {of_wanted} HAVING sum(u.unbilled) > 0"
    );
    let query = sqlx::query(AssertSqlSafe(sql)).bind(&days.from).bind(&days.to).bind(unit.as_str());
    let row = query.fetch_optional(connection).await.map_err(LedgerFault::during("see what vendors have not billed yet"))?;
    Ok(row.map(|row| without_a_bill(&row, unit.as_str())))
}

/// Units, days and vendors of a row, in words.
pub(super) fn without_a_bill(row: &sqlx::postgres::PgRow, unit: &str) -> String {
    let days: i64 = row.get("days");
    let of_days = if days == 1 { "1 day".to_owned() } else { format!("{days} days") };
    format!("{} {unit} at {} on {of_days} without a vendor bill", row.get::<String, _>("units"), row.get::<String, _>("vendors"))
}

fn sentence(
    unit: UsageUnit,
    known: &Known,
    cost: &UnitCost,
    earned: Option<Earned>,
    (unattributed, unbilled): (MicroUsd, Option<String>),
) -> String {
    let word = word(unit);
    let [p50, p95, p99] = cost.percentiles;
    let trend = cost.trend_per_mille.map_or_else(String::new, |trend| {
        let sign = if trend >= 0 { "+" } else { "" };
        format!(" Over 30 days it changed by {sign}{} %.", per_cent(trend))
    });
    let margin = match (cost.margin(), cost.margin_per_mille()) {
        (Some(margin), Some(percent)) => {
            let units = earned.unwrap_or_default().micro_units;
            let rests = if units == cost.micro_units {
                String::new()
            } else {
                let share = i64::try_from(units * 1_000 / cost.micro_units.max(1)).unwrap_or_default();
                format!(", by the months whose revenue is known: those of {} % of the {word}s", per_cent(share))
            };
            format!(" That leaves ${margin} of ${} ({} %){rests}.", cost.revenue.unwrap_or_default(), per_cent(percent))
        }
        _ => String::new(),
    };
    let missing = match unattributed {
        MicroUsd(0) => String::new(),
        amount => format!(" Not in it: {} of other costs that name no workload.", dollars(amount)),
    };
    let coverage = match known.coverage() {
        1_000 => String::new(),
        share => format!(
            " It rests on {} % of what these workloads cost ({} of {} hours): hours whose usage is not known are left out.",
            per_cent(share),
            known.hours.len(),
            known.all_hours.len()
        ),
    };
    let without_cost = match known.unit_coverage() {
        1_000 => String::new(),
        share => format!(" It rests on {} % of the {word}s: for the hours of the others no cost is posted.", per_cent(share)),
    };
    let included = match (unattributed, &unbilled) {
        (MicroUsd(0), None) => "including everything that is posted",
        (_, None) => "including everything that names its workload",
        (_, Some(_)) => "without what vendors have not billed yet",
    };
    let not_billed = unbilled.map_or_else(String::new, |units| format!(" Left out: {units}, since what they cost is not known yet."));
    format!(
        "A {word} cost ${}, {included}; half of them at most ${p50}, 95 % at most ${p95}, 99 % at most ${p99}, by the hour they fell in.{coverage}{without_cost}{not_billed}{missing}{trend}{margin}",
        cost.mean
    )
}

/// Whether unit costs can be grouped and filtered so: by what cost by the hour is kept for.
pub fn groups_unit_costs(by: By) -> bool {
    !matches!(by, By::Line | By::Region | By::InstanceType | By::CapacityType)
}
