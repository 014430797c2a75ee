//! How hard the GPUs that were paid for worked: what was active, idle and not measured, and two spans of time compared.
//!
//! Decides: the columns, the sentences, and that use is active time as a share of the measured: what was not measured is on neither side.
//! Does not: split a cost (the view `gpu_use` does).

use std::collections::{BTreeMap, BTreeSet};

use sqlx::{AssertSqlSafe, PgConnection, Row};

use super::unit_cost::{Known, hours, per_cent};
use super::{By, Days, Keys, Month, Only, Report, ask, condition, dollars, with_day_of_knowledge};
use crate::core::accounting::unit_cost::PicoUsd;
use crate::core::units::money::MicroUsd;
use crate::core::units::time::Timestamp;
use crate::core::workload::need::UsageUnit;
use crate::ledger::store::LedgerFault;

const BOUNDS: &str = "SELECT coalesce($1::date, (now() AT TIME ZONE 'UTC')::date - 30)::timestamp AT TIME ZONE 'UTC' AS first,
                             coalesce($2::date, (now() AT TIME ZONE 'UTC')::date + 1)::timestamp AT TIME ZONE 'UTC' AS next";

/// Whether use of GPUs can be grouped and filtered so: it is of one line alone.
pub fn groups_gpu_use(by: By) -> bool {
    by != By::Line
}

/// Whether two spans can be compared so: by what cost by the hour is kept for, so that the cost of units is known as well.
pub fn compares_gpu_use(by: By) -> bool {
    super::groups_unit_costs(by)
}

/// What useful pod time cost by whether its GPUs were active, idle or not measured.
///
/// # Errors
/// [`LedgerFault`] when Postgres refuses or does not answer.
pub async fn gpu_use(connection: &mut PgConnection, days: &Days, by: impl Into<Keys>, only: &[Only]) -> Result<Report, LedgerFault> {
    let keys = by.into();
    let (named, names, columns, condition) = (keys.named(), keys.names(), keys.columns(), condition(only));
    let sql = format!(
        "WITH bounds AS ({BOUNDS}), a AS (
             SELECT {named}, u.gpu_hours, u.active_gpu_hours, u.idle_gpu_hours, u.unmeasured_gpu_hours, u.cost_usd, u.active_usd, u.idle_usd, u.unmeasured_usd,
                    u.most_memory_mib, u.metric, u.shared
             FROM bounds b, LATERAL (SELECT * FROM ledger.gpu_use_of(b.first, b.next)) u WHERE true{condition}
         ), s AS (
             SELECT {names}, grouping(key0) AS is_total, sum(gpu_hours) AS held, sum(active_gpu_hours) AS active, sum(idle_gpu_hours) AS idle,
                    sum(unmeasured_gpu_hours) AS unmeasured, sum(cost_usd) AS cost, sum(active_usd) AS active_usd, sum(idle_usd) AS idle_usd,
                    sum(unmeasured_usd) AS unmeasured_usd, max(most_memory_mib) AS most_memory_mib, string_agg(DISTINCT metric, ' ') AS metric,
                    coalesce(sum(gpu_hours) FILTER (WHERE shared), 0) AS shared
             FROM a GROUP BY GROUPING SETS (({names}), ()) HAVING count(*) > 0
         )
         SELECT {columns}, round(held, 3)::text AS gpu_hours, round(100 * active / nullif(active + idle, 0), 1)::text AS use_percent,
                round(100 * (active + idle) / nullif(held, 0), 1)::text AS measured_percent, cost::numeric(24,6)::text AS cost_usd,
                active_usd::numeric(24,6)::text AS active_usd, idle_usd::numeric(24,6)::text AS idle_usd, unmeasured_usd::numeric(24,6)::text AS unmeasured_usd,
                round(active, 3)::text AS active_gpu_hours, round(idle, 3)::text AS idle_gpu_hours, round(unmeasured, 3)::text AS unmeasured_gpu_hours,
                most_memory_mib::text AS most_memory_mib, metric, round(shared, 3)::text AS shared_gpu_hours
         FROM s ORDER BY is_total, idle_usd DESC, cost DESC, {names}"
    );
    let mut report = ask(connection, sql, days).await?;
    report.sentence = sentence(&report);
    with_day_of_knowledge(connection, report).await
}

fn sentence(report: &Report) -> String {
    let Some(cost) = report.last::<MicroUsd>("cost_usd") else { return "No pod held a GPU in these days.".into() };
    let part = |name: &str| dollars(report.last(name).unwrap_or_default());
    let Some(used) = report.last::<String>("use_percent") else {
        return format!(
            "Useful pod time cost {}, and nothing of its GPUs' use is known: is NVIDIA's DCGM exporter scraped, and does the operator know Prometheus \
             (ledger.prometheusUrl)?",
            dollars(cost)
        );
    };
    let shared = match report.last::<String>("shared_gpu_hours").as_deref() {
        None | Some("0.000") => String::new(),
        Some(hours) => format!(" {hours} GPU-hours were on shared GPUs, whose readings are of all who share them."),
    };
    format!(
        "Useful pod time cost {}: {} while its GPUs were active, {} while they were held and idle, {} unmeasured. GPUs were active in {used} % of the measured time.{shared}",
        dollars(cost),
        part("active_usd"),
        part("idle_usd"),
        part("unmeasured_usd")
    )
}

/// A span of UTC days that is compared with another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    said: String,
    days: Days,
}

impl std::str::FromStr for Window {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected =
            || "expected a month as 2026-07, a day as 2026-07-20, or days as 2026-07-20..2026-07-27 (the day after the last)".to_owned();
        let day = |text: &str| text.parse::<jiff::civil::Date>().ok().filter(|_| text.len() == 10);
        let of = |from: jiff::civil::Date, to: jiff::civil::Date| Days { from: Some(from.to_string()), to: Some(to.to_string()) };
        let days = match (text.split_once(".."), text.parse::<Month>(), day(text)) {
            (Some((from, to)), ..) => match (day(from), day(to)) {
                (Some(from), Some(to)) if from < to => of(from, to),
                _ => return Err(expected()),
            },
            (None, Ok(month), _) => month.days(),
            (None, _, Some(day)) => of(day, day.tomorrow().map_err(|_| expected())?),
            _ => return Err(expected()),
        };
        Ok(Window { said: text.to_owned(), days })
    }
}

/// How many full days of each span are compared when one of them runs: as many as the running one has, and no more than the other is long. `None`
/// when both are over, and compared whole.
fn full_days(windows: [&Window; 2], now: Timestamp) -> Option<i64> {
    let today: jiff::civil::Date = now.to_date().parse().ok()?;
    let ends = |window: &Window| -> Option<[jiff::civil::Date; 2]> {
        Some([window.days.from.as_deref()?.parse().ok()?, window.days.to.as_deref()?.parse().ok()?])
    };
    let days = |from: jiff::civil::Date, to: jiff::civil::Date| from.until(to).map(|span| i64::from(span.get_days())).ok();
    let [before, after] = [ends(windows[0])?, ends(windows[1])?];
    let runs = |[from, to]: [jiff::civil::Date; 2]| from <= today && today < to;
    if !runs(before) && !runs(after) {
        return None;
    }
    let full = |[from, to]: [jiff::civil::Date; 2]| days(from, to.min(today.max(from)));
    Some(full(before)?.min(full(after)?))
}

/// The first days of a span.
fn first_days(window: &Window, count: Option<i64>) -> Days {
    let from = window.days.from.as_deref().and_then(|from| from.parse::<jiff::civil::Date>().ok());
    let to = from.zip(count).and_then(|(from, count)| from.checked_add(jiff::Span::new().days(count)).ok());
    to.map_or_else(|| window.days.clone(), |to| Days { to: Some(to.to_string()), ..window.days.clone() })
}

/// GPU time of an owner, in milliseconds of one GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Time {
    held: i128,
    active: i128,
    measured: i128,
}

impl Time {
    /// Active time as a share of the measured, in per mille.
    fn used(self) -> Option<i64> {
        per_mille(self.active, self.measured)
    }
}

/// GPU time, and cost and units, by owner.
type OfWindow = (BTreeMap<Vec<String>, Time>, BTreeMap<Vec<String>, Known>);

/// What is known of an owner in one of the spans.
#[derive(Debug, Clone, Copy, Default)]
struct Side {
    time: Time,
    /// What 1,000 units cost.
    thousand: Option<PicoUsd>,
}

const COMPARED: [&str; 8] = [
    "use_percent_before",
    "use_percent_after",
    "use_ratio",
    "measured_percent_before",
    "measured_percent_after",
    "usd_per_1000_before",
    "usd_per_1000_after",
    "cost_change_percent",
];

/// Two spans of time: active GPU time as a share of the measured, each a ratio of sums, and what 1,000 units cost, everything included, over the hours whose
/// usage is known. A span that runs at `now` is compared by its full days, with as many days of the other.
///
/// # Errors
/// [`LedgerFault`] when Postgres refuses or does not answer.
pub async fn compare_gpu_use(
    connection: &mut PgConnection,
    windows: [&Window; 2],
    unit: UsageUnit,
    by: impl Into<Keys>,
    only: &[Only],
    now: Timestamp,
) -> Result<Report, LedgerFault> {
    let keys = by.into();
    let full = full_days(windows, now);
    let mut sides = Vec::new();
    for window in windows {
        let days = first_days(window, full);
        let time = times(connection, &days, &keys, only).await?;
        let units = hours(connection, &days, unit, &keys, only).await?;
        sides.push((time, units));
    }
    let [before, after] = [0, 1].map(|at| sides.get(at).cloned().unwrap_or_default());
    let owners: BTreeSet<&Vec<String>> = before.0.keys().chain(after.0.keys()).collect();
    let of = |(times, units): &OfWindow, key: &Vec<String>| Side {
        time: times.get(key).copied().unwrap_or_default(),
        thousand: units.get(key).and_then(thousand),
    };
    let all = |(times, units): &OfWindow| {
        let sum = |a: Time, b: &Time| Time { held: a.held + b.held, active: a.active + b.active, measured: a.measured + b.measured };
        let with_units = units.values().filter(|known| thousand(known).is_some());
        Side { time: times.values().fold(Time::default(), sum), thousand: thousand(&Known::of_all(with_units)) }
    };
    let totals = [all(&before), all(&after)];
    let mut rows: Vec<Vec<Option<String>>> =
        owners.into_iter().map(|key| row(key.iter().cloned().map(Some).collect(), [of(&before, key), of(&after, key)])).collect();
    if !rows.is_empty() {
        rows.push(row(keys.headings().enumerate().map(|(n, _)| (n == 0).then(|| "total".to_owned())).collect(), totals));
    }
    let columns = keys.headings().chain(COMPARED).map(String::from).collect();
    let today = now.to_date();
    let running = windows.iter().rev().find(|window| window.days.to.as_deref().is_some_and(|to| to > today.as_str()));
    let running = running.map_or("", |window| window.said.as_str());
    let sentence = match full {
        None => comparison(windows, unit, totals),
        Some(0) => format!("{running} has no full day yet: there is nothing to compare."),
        Some(days) => {
            let days = if days == 1 { "first full day of each is".to_owned() } else { format!("first {days} full days of each are") };
            format!("{} {running} still runs: the {days} compared.", comparison(windows, unit, totals))
        }
    };
    let report = Report { sentence, columns, rows };
    with_day_of_knowledge(connection, report).await
}

/// GPU time by owner.
async fn times(connection: &mut PgConnection, days: &Days, keys: &Keys, only: &[Only]) -> Result<BTreeMap<Vec<String>, Time>, LedgerFault> {
    let (key, condition) = (keys.array(), condition(only));
    // Columns come from a closed list; what the user typed is bound, or quoted.
    let sql = format!(
        "WITH bounds AS ({BOUNDS})
         SELECT {key} AS key, round(sum(u.gpu_hours) * 3600000)::bigint AS held, round(sum(u.active_gpu_hours) * 3600000)::bigint AS active,
                round(sum(u.active_gpu_hours + u.idle_gpu_hours) * 3600000)::bigint AS measured
         FROM bounds b, LATERAL (SELECT * FROM ledger.gpu_use_of(b.first, b.next)) u WHERE true{condition} GROUP BY 1"
    );
    let rows = sqlx::query(AssertSqlSafe(sql)).bind(&days.from).bind(&days.to).fetch_all(connection).await;
    let mut times = BTreeMap::new();
    for row in rows.map_err(LedgerFault::during("read the use of GPUs"))? {
        let figure = |name: &str| i128::from(row.try_get::<i64, _>(name).unwrap_or_default());
        times.insert(
            row.try_get("key").unwrap_or_default(),
            Time { held: figure("held"), active: figure("active"), measured: figure("measured") },
        );
    }
    Ok(times)
}

/// What 1,000 units cost, where any are known.
fn thousand(known: &Known) -> Option<PicoUsd> {
    let (cost, micro_units) = known.sums();
    (micro_units > 0).then(|| PicoUsd(cost.0 * 1_000_000_000 / micro_units))
}

/// A share in per mille, rounded.
fn per_mille(part: i128, whole: i128) -> Option<i64> {
    (whole > 0).then(|| i64::try_from((part * 2_000 + whole) / (2 * whole)).unwrap_or_default())
}

/// By how much more of the measured time GPUs were active, in hundredths.
fn ratio([before, after]: [Side; 2]) -> Option<i128> {
    let (part, whole) = (after.time.active * before.time.measured, after.time.measured * before.time.active);
    (whole > 0).then(|| (part * 200 + whole) / (2 * whole))
}

fn change([before, after]: [Side; 2]) -> Option<i64> {
    let (before, after) = (before.thousand?.0, after.thousand?.0);
    (before > 0).then(|| i64::try_from((after - before) * 1_000 / before).unwrap_or_default())
}

fn hundredths(figure: i128) -> String {
    format!("{}.{:02}", figure / 100, figure % 100)
}

fn row(mut key: Vec<Option<String>>, sides: [Side; 2]) -> Vec<Option<String>> {
    let percent = |figure: Option<i64>| figure.map(per_cent);
    let [before, after] = sides;
    key.extend([
        percent(before.time.used()),
        percent(after.time.used()),
        ratio(sides).map(hundredths),
        percent(per_mille(before.time.measured, before.time.held)),
        percent(per_mille(after.time.measured, after.time.held)),
        before.thousand.map(|cost| cost.to_string()),
        after.thousand.map(|cost| cost.to_string()),
        percent(change(sides)),
    ]);
    key
}

fn comparison(windows: [&Window; 2], unit: UsageUnit, sides: [Side; 2]) -> String {
    let [before, after] = sides;
    let (Some(used_before), Some(used_after)) = (before.time.used(), after.time.used()) else {
        let silent = windows.iter().zip(sides).find(|(_, side)| side.time.measured == 0).map_or("", |(window, _)| window.said.as_str());
        return format!("No use of GPUs was measured in {silent}: there is nothing to compare.");
    };
    let times = ratio(sides).map_or_else(String::new, |ratio| format!(", {} times as much", hundredths(ratio)));
    let unit = unit.as_str();
    let cost = match (before.thousand, after.thousand) {
        (Some(was), Some(is)) => {
            let change =
                change(sides).map_or_else(String::new, |change| format!(" ({}{} %)", if change >= 0 { "+" } else { "" }, per_cent(change)));
            format!(" 1,000 {unit} cost ${was} and ${is}{change}.")
        }
        _ => format!(" What {unit} cost is not known of both."),
    };
    let measured = sides.map(|side| per_mille(side.time.measured, side.time.held).unwrap_or_default());
    let rests = match measured {
        [1_000, 1_000] => String::new(),
        [was, is] => format!(" Measured were {} % and {} % of the GPU time.", per_cent(was), per_cent(is)),
    };
    format!(
        "GPUs were active in {} % of the measured time in {} and in {} % in {}{times}.{cost}{rests}",
        per_cent(used_before),
        windows[0].said,
        per_cent(used_after),
        windows[1].said
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_a_month_a_day_or_days() {
        let days = |text: &str| text.parse::<Window>().map(|window| (window.days.from.unwrap(), window.days.to.unwrap()));
        let of = |from: &str, to: &str| Ok((from.to_owned(), to.to_owned()));
        assert_eq!(days("2026-12"), of("2026-12-01", "2027-01-01"));
        assert_eq!(days("2026-07-31"), of("2026-07-31", "2026-08-01"));
        assert_eq!(days("2026-07-20..2026-07-27"), of("2026-07-20", "2026-07-27"));
        for wrong in ["2026", "2026-07-20..2026-07-20", "2026-07-20..", "july", "2026-13"] {
            assert!(days(wrong).unwrap_err().contains("expected a month"), "{wrong}");
        }
    }

    #[test]
    fn a_running_span_is_cut_to_its_full_days_and_the_other_with_it() {
        let cut = |before: &str, after: &str, now: Timestamp| {
            let windows: [Window; 2] = [before, after].map(|text| text.parse().unwrap());
            let full = full_days([&windows[0], &windows[1]], now);
            (full, windows.map(|window| first_days(&window, full).to.unwrap()))
        };
        let of = |full: Option<i64>, to: [&str; 2]| (full, to.map(str::to_owned));
        let noon = |month, day| Timestamp::from_date(2026, month, day) + crate::core::units::time::Millis::from_hours(12);
        assert_eq!(cut("2026-06", "2026-07", noon(7, 11)), of(Some(10), ["2026-06-11", "2026-07-11"]));
        assert_eq!(cut("2026-02", "2026-03", noon(3, 31)), of(Some(28), ["2026-03-01", "2026-03-29"]));
        assert_eq!(cut("2026-06", "2026-07", noon(7, 1)), of(Some(0), ["2026-06-01", "2026-07-01"]));
        assert_eq!(cut("2026-06", "2026-07", noon(8, 1)), of(None, ["2026-07-01", "2026-08-01"]));
        assert_eq!(cut("2026-07-01..2026-07-04", "2026-07-20..2026-07-27", noon(7, 22)), of(Some(2), ["2026-07-03", "2026-07-22"]));
    }

    #[test]
    fn a_comparison_is_of_sums_and_says_what_it_rests_on() {
        let side = |active, measured, held, pico: i128| Side { time: Time { held, active, measured }, thousand: Some(PicoUsd(pico)) };
        let windows: [Window; 2] = ["2026-06", "2026-07"].map(|text| text.parse().unwrap());
        let sides = [side(350, 1_000, 1_000, 2_000_000_000_000), side(780, 1_000, 1_000, 897_435_897_436)];
        assert_eq!(
            comparison([&windows[0], &windows[1]], UsageUnit::Requests, sides),
            "GPUs were active in 35.0 % of the measured time in 2026-06 and in 78.0 % in 2026-07, 2.23 times as much. 1,000 requests cost $2.00 and $0.8974 (-55.1 %)."
        );
        let half = [side(0, 0, 1_000, 1), side(1, 2, 4, 1)];
        assert!(comparison([&windows[0], &windows[1]], UsageUnit::Requests, half).starts_with("No use of GPUs was measured in 2026-06"));
        assert_eq!(
            row(Vec::new(), half).iter().map(|value| value.as_deref().unwrap_or("-")).collect::<Vec<_>>()[..5],
            ["-", "50.0", "-", "0.0", "50.0"]
        );
    }
}
