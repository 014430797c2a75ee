//! What a request, transaction, token or user-hour cost, and what was left of what it earned.
//!
//! Decides: the sentence and the columns. Does not: compute (see [`crate::core::accounting::unit_cost`]).

use std::collections::{BTreeMap, BTreeSet};

use sqlx::{AssertSqlSafe, PgConnection, Row};

use super::{By, Days, IN_DAYS, Keys, Only, Report, condition, dollars, with_day_of_knowledge};
use crate::core::accounting::unit_cost::{Earned, HourOfUnits, PicoUsd, UnitCost, unit_cost};
use crate::core::units::money::MicroUsd;
use crate::core::units::time::Timestamp;
use crate::core::workload::need::UsageUnit;
use crate::ledger::import::micro_units;
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

/// What is known of an owner's hours.
#[derive(Debug, Default, Clone)]
pub(super) struct Known {
    /// Hours whose usage is known, with the cost of the workloads whose usage is.
    hours: Vec<HourOfUnits>,
    /// By UTC day: cost in hours whose usage is known, and of all hours of workloads that have any usage.
    days: BTreeMap<i64, (i128, i128)>,
    /// The hours that cost something.
    all_hours: BTreeSet<Timestamp>,
    /// Millionths of units in hours for which no cost is posted.
    without_cost: i128,
}

const DAY_MS: i64 = 86_400_000;

impl Known {
    /// Of several owners together.
    pub(super) fn of_all<'a>(each: impl Iterator<Item = &'a Known> + Clone) -> Known {
        let mut all = Known { hours: summed(each.clone().flat_map(|known| known.hours.iter())), ..Known::default() };
        for known in each {
            for (day, (covered, whole)) in &known.days {
                let sum = all.days.entry(*day).or_default();
                *sum = (sum.0 + covered, sum.1 + whole);
            }
            all.all_hours.extend(&known.all_hours);
            all.without_cost += known.without_cost;
        }
        all
    }

    /// Cost and units, in millionths, of the hours whose usage is known.
    pub(super) fn sums(&self) -> (PicoUsd, i128) {
        self.hours.iter().fold((PicoUsd(0), 0), |sum, hour| (PicoUsd(sum.0.0 + hour.cost.0), sum.1 + hour.micro_units))
    }

    /// Share of the cost that lies in hours whose usage is known, in per mille.
    fn coverage(&self) -> i64 {
        let (covered, whole) = self.days.values().fold((0, 0), |sum: (i128, i128), day| (sum.0 + day.0, sum.1 + day.1));
        if whole <= 0 { 1_000 } else { i64::try_from(covered * 1_000 / whole).unwrap_or_default().clamp(0, 1_000) }
    }

    /// Share of the units that fell into hours for which a cost is posted, in per mille.
    fn unit_coverage(&self) -> i64 {
        let costed: i128 = self.hours.iter().map(|hour| hour.micro_units).sum();
        let all = costed + self.without_cost;
        if all <= 0 { 1_000 } else { i64::try_from(costed * 1_000 / all).unwrap_or_default() }
    }

    /// What was earned in the hours whose usage is known: of each day by that day's share of the cost. A month without any revenue is one whose revenue
    /// is not known: its units earned nothing that could be divided by them.
    fn earned(&self, days: &BTreeMap<i64, MicroUsd>) -> Earned {
        let months: BTreeSet<String> = days.keys().map(|day| month_of(Timestamp(day * DAY_MS))).collect();
        let units = self.hours.iter().filter(|hour| months.contains(&month_of(hour.hour))).map(|hour| hour.micro_units).sum();
        Earned { amount: self.share_of(days), micro_units: units }
    }

    fn share_of(&self, earned: &BTreeMap<i64, MicroUsd>) -> MicroUsd {
        let part = |(day, amount): (&i64, &MicroUsd)| {
            let (covered, whole) = self.days.get(day).copied().unwrap_or_default();
            let part = if whole > 0 { i128::from(amount.0) * covered / whole } else { 0 };
            MicroUsd(i64::try_from(part).unwrap_or(i64::MAX))
        };
        earned.iter().map(part).sum()
    }
}

fn sum_of(a: Earned, b: Earned) -> Earned {
    Earned { amount: a.amount + b.amount, micro_units: a.micro_units + b.micro_units }
}

/// The calendar month, as in 2026-07.
fn month_of(at: Timestamp) -> String {
    at.to_rfc3339().chars().take(7).collect()
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

/// The same hour of several owners is one.
fn summed<'a>(hours: impl Iterator<Item = &'a HourOfUnits>) -> Vec<HourOfUnits> {
    let mut by_hour: BTreeMap<Timestamp, HourOfUnits> = BTreeMap::new();
    for hour in hours {
        let sum = by_hour.entry(hour.hour).or_insert(HourOfUnits { hour: hour.hour, cost: PicoUsd(0), micro_units: 0 });
        (sum.cost, sum.micro_units) = (PicoUsd(sum.cost.0 + hour.cost.0), sum.micro_units + hour.micro_units);
    }
    by_hour.into_values().collect()
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

/// Hours with their cost and units, by owner. Units of a workload that changed owners within an hour go by what each paid of it, whoever is asked for; those of
/// hours for which no cost is posted by what each paid of all.
pub(super) async fn hours(
    connection: &mut PgConnection,
    days: &Days,
    unit: UsageUnit,
    keys: &Keys,
    only: &[Only],
) -> Result<BTreeMap<Vec<String>, Known>, LedgerFault> {
    let (key, condition) = (keys.array(), condition(only));
    // Columns come from a closed list; what the user typed is bound, or quoted.
    let sql = format!(
        "WITH bounds AS (
             SELECT coalesce($1::date, (now() AT TIME ZONE 'UTC')::date - 30)::timestamp AT TIME ZONE 'UTC' AS first,
                    least(coalesce($2::date, ledger.open_day() + 1), ledger.open_day() + 1)::timestamp AT TIME ZONE 'UTC' AS next
         ), cost AS MATERIALIZED (
             SELECT h.hour, {key} AS key, true{condition} AS wanted, h.workload_namespace AS namespace, h.workload_name AS name, sum(h.cost_usd) AS cost
             FROM bounds b, LATERAL (SELECT x.*, ledger.utc_day(x.hour) AS day FROM ledger.hourly_cost(b.first, b.next) x) h GROUP BY 1, 2, 3, 4, 5
         ), used AS MATERIALIZED (
             SELECT u.hour, u.workload_namespace AS namespace, u.workload_name AS name, u.quantity, u.unbilled
             FROM bounds b, LATERAL ledger.usage_of(b.first, b.next) u WHERE u.unit = $3
         ), both_ AS (
             SELECT c.key, c.wanted, c.hour, c.cost, u.quantity IS NOT NULL AS covered,
                    u.quantity * CASE WHEN sum(c.cost) OVER w = 0 THEN 1.0 / count(*) OVER w ELSE c.cost / sum(c.cost) OVER w END AS quantity
             FROM cost c LEFT JOIN used u ON u.hour = c.hour AND u.namespace = c.namespace AND u.name = c.name
             WHERE EXISTS (SELECT FROM used x WHERE x.namespace = c.namespace AND x.name = c.name)
             WINDOW w AS (PARTITION BY c.hour, c.namespace, c.name)
         ), parts AS (
             SELECT key, wanted, namespace, name, CASE WHEN sum(sum(cost)) OVER w = 0 THEN 1.0 / count(*) OVER w ELSE sum(cost) / sum(sum(cost)) OVER w END AS part
             FROM cost GROUP BY key, wanted, namespace, name WINDOW w AS (PARTITION BY namespace, name)
         )
         SELECT key, ledger.ms(hour) AS hour_ms, round(coalesce(sum(cost) FILTER (WHERE covered), 0), 12)::text AS cost, round(sum(cost), 12)::text AS all_cost,
                round(coalesce(sum(quantity), 0), 6)::text AS quantity, bool_or(covered) AS covered
         FROM both_ WHERE wanted GROUP BY key, hour
         UNION ALL
         SELECT p.key, NULL, '0', '0', round(sum(u.units * p.part), 6)::text, false
         FROM (SELECT namespace, name, coalesce(unbilled, 0) + CASE WHEN EXISTS (SELECT FROM cost c WHERE c.hour = x.hour AND c.namespace = x.namespace AND c.name = x.name)
                                                                    THEN 0 ELSE coalesce(quantity, 0) END AS units FROM used x) u JOIN parts p USING (namespace, name)
         WHERE p.wanted AND u.units > 0 GROUP BY p.key
         ORDER BY key, hour_ms"
    );
    let query = sqlx::query(AssertSqlSafe(sql)).bind(&days.from).bind(&days.to).bind(unit.as_str());
    let rows = query.fetch_all(connection).await.map_err(LedgerFault::during("read cost and usage by the hour"))?;
    let mut owners: BTreeMap<Vec<String>, Known> = BTreeMap::new();
    for row in rows {
        let text = |name: &str| row.try_get::<String, _>(name).unwrap_or_default();
        let known = owners.entry(row.try_get("key").unwrap_or_default()).or_default();
        let Some(hour) = row.try_get::<Option<i64>, _>("hour_ms").ok().flatten().map(Timestamp) else {
            known.without_cost += micro_units(&text("quantity")).unwrap_or_default();
            continue;
        };
        let (cost, whole) = (pico(&text("cost")), pico(&text("all_cost")));
        let day = known.days.entry(hour.0.div_euclid(DAY_MS)).or_default();
        *day = (day.0 + cost.0, day.1 + whole.0);
        known.all_hours.insert(hour);
        if row.try_get("covered").unwrap_or_default() {
            known.hours.push(HourOfUnits { hour, cost, micro_units: micro_units(&text("quantity")).unwrap_or_default() });
        }
    }
    Ok(owners)
}

/// Twelve decimals of dollars.
fn pico(text: &str) -> PicoUsd {
    let (negative, digits) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
    let figure: i128 = format!("{whole}{part:0<12}").parse().unwrap_or_default();
    PicoUsd(if negative { -figure } else { figure })
}

/// What workloads with usage earned, by owner and UTC day: as the labels stood on each day, by whose work it was; on a day without work as over all
/// the days. What runs at a vendor alone has no work of ours: it is split by cost.
async fn revenue(
    connection: &mut PgConnection,
    days: &Days,
    unit: UsageUnit,
    keys: &Keys,
    only: &[Only],
) -> Result<BTreeMap<Vec<String>, BTreeMap<i64, MicroUsd>>, LedgerFault> {
    let (key, condition) = (keys.array(), condition(only));
    let sql = format!(
        "WITH bounds AS (
             SELECT coalesce($1::date, (now() AT TIME ZONE 'UTC')::date - 30) AS first, coalesce($2::date, (now() AT TIME ZONE 'UTC')::date + 1) AS next
         ), worked AS MATERIALIZED (
             SELECT day, namespace, name, key, wanted, CASE WHEN works THEN gpu_ms ELSE paid END AS worked
             FROM (SELECT h.day, h.workload_namespace AS namespace, h.workload_name AS name, {key} AS key, true{condition} AS wanted,
                          coalesce(sum(h.gpu_ms) FILTER (WHERE h.line = 'pod'), 0) AS gpu_ms, sum(h.cost_usd) AS paid,
                          bool_or(bool_or(h.line = 'pod' AND h.gpu_ms > 0)) OVER (PARTITION BY h.workload_namespace, h.workload_name) AS works
                   FROM ledger.share_daily h, bounds b WHERE h.day >= b.first AND h.day < b.next AND h.workload_namespace <> '' GROUP BY 1, 2, 3, 4, 5) x
         ), earned AS (
             SELECT r.day, r.workload_namespace AS namespace, r.workload_name AS name, r.revenue_usd FROM ledger.revenue r, bounds b
             WHERE r.day >= b.first AND r.day < b.next
               AND EXISTS (SELECT FROM ledger.usage u WHERE u.unit = $3 AND u.workload_namespace = r.workload_namespace AND u.workload_name = r.workload_name
                           AND u.hour >= b.first::timestamp AT TIME ZONE 'UTC' AND u.hour < b.next::timestamp AT TIME ZONE 'UTC')
         ), of_day AS (
             SELECT e.day, w.key, w.wanted, e.revenue_usd * w.worked / sum(w.worked) OVER (PARTITION BY e.day, e.namespace, e.name) AS usd
             FROM earned e JOIN worked w ON w.day = e.day AND w.namespace = e.namespace AND w.name = e.name AND w.worked > 0
         ), of_all AS (
             SELECT e.day, w.key, w.wanted, e.revenue_usd * w.worked / sum(w.worked) OVER (PARTITION BY e.day, e.namespace, e.name) AS usd
             FROM earned e JOIN (SELECT namespace, name, key, wanted, sum(worked) AS worked FROM worked GROUP BY 1, 2, 3, 4) w
                  ON w.namespace = e.namespace AND w.name = e.name AND w.worked > 0
             WHERE NOT EXISTS (SELECT FROM worked x WHERE x.day = e.day AND x.namespace = e.namespace AND x.name = e.name AND x.worked > 0)
         )
         SELECT key, day - date '1970-01-01' AS day, round(sum(usd) * 1000000)::bigint AS micro
         FROM (SELECT * FROM of_day UNION ALL SELECT * FROM of_all) x WHERE wanted GROUP BY 1, 2"
    );
    let query = sqlx::query(AssertSqlSafe(sql)).bind(&days.from).bind(&days.to).bind(unit.as_str());
    let rows = query.fetch_all(connection).await.map_err(LedgerFault::during("read revenue"))?;
    let mut earned: BTreeMap<Vec<String>, BTreeMap<i64, MicroUsd>> = BTreeMap::new();
    for row in rows {
        let (Ok(key), Ok(day), Ok(micro)) = (row.try_get("key"), row.try_get::<i32, _>("day"), row.try_get("micro")) else { continue };
        earned.entry(key).or_default().insert(i64::from(day), MicroUsd(micro));
    }
    Ok(earned)
}

/// Whether unit costs can be grouped and filtered so: by what cost by the hour is kept for.
pub fn groups_unit_costs(by: By) -> bool {
    !matches!(by, By::Line | By::Region | By::InstanceType | By::CapacityType)
}
