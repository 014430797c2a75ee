//! The hours of workloads with what they cost and produced, and what was earned, by owner.
//!
//! Decides: whose the cost, the units and the revenue of an hour are where a workload changed owners, and on which share of them a figure rests.
//! Does not: divide one by the other (see [`crate::core::accounting::unit_cost`]).

use std::collections::{BTreeMap, BTreeSet};

use sqlx::{AssertSqlSafe, PgConnection, Row};

use super::super::{Days, Keys, Only, condition};
use crate::core::accounting::unit_cost::{Earned, HourOfUnits, PicoUsd};
use crate::core::units::money::MicroUsd;
use crate::core::units::time::Timestamp;
use crate::core::workload::need::UsageUnit;
use crate::ledger::import::micro_units;
use crate::ledger::store::LedgerFault;

/// What is known of an owner's hours.
#[derive(Debug, Default, Clone)]
pub(in crate::ledger::report) struct Known {
    /// Hours whose usage is known, with the cost of the workloads whose usage is.
    pub(super) hours: Vec<HourOfUnits>,
    /// By UTC day: cost in hours whose usage is known, and of all hours of workloads that have any usage.
    days: BTreeMap<i64, (i128, i128)>,
    /// The hours that cost something.
    pub(super) all_hours: BTreeSet<Timestamp>,
    /// Millionths of units in hours for which no cost is posted.
    without_cost: i128,
}

const DAY_MS: i64 = 86_400_000;

impl Known {
    /// Of several owners together.
    pub(in crate::ledger::report) fn of_all<'a>(each: impl Iterator<Item = &'a Known> + Clone) -> Known {
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
    pub(in crate::ledger::report) fn sums(&self) -> (PicoUsd, i128) {
        self.hours.iter().fold((PicoUsd(0), 0), |sum, hour| (PicoUsd(sum.0.0 + hour.cost.0), sum.1 + hour.micro_units))
    }

    /// Share of the cost that lies in hours whose usage is known, in per mille.
    pub(super) fn coverage(&self) -> i64 {
        let (covered, whole) = self.days.values().fold((0, 0), |sum: (i128, i128), day| (sum.0 + day.0, sum.1 + day.1));
        if whole <= 0 { 1_000 } else { i64::try_from(covered * 1_000 / whole).unwrap_or_default().clamp(0, 1_000) }
    }

    /// Share of the units that fell into hours for which a cost is posted, in per mille.
    pub(super) fn unit_coverage(&self) -> i64 {
        let costed: i128 = self.hours.iter().map(|hour| hour.micro_units).sum();
        let all = costed + self.without_cost;
        if all <= 0 { 1_000 } else { i64::try_from(costed * 1_000 / all).unwrap_or_default() }
    }

    /// What was earned in the hours whose usage is known: of each day by that day's share of the cost. A month without any revenue is one whose revenue
    /// is not known: its units earned nothing that could be divided by them.
    pub(super) fn earned(&self, days: &BTreeMap<i64, MicroUsd>) -> Earned {
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

/// The calendar month, as in 2026-07.
fn month_of(at: Timestamp) -> String {
    at.to_rfc3339().chars().take(7).collect()
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

/// Hours with their cost and units, by owner. Units of a workload that changed owners within an hour go by what each paid of it, whoever is asked for; those of
/// hours for which no cost is posted by what each paid of all.
pub(in crate::ledger::report) async fn hours(
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
pub(super) async fn revenue(
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
