//! The next months by scenario and component, and how earlier forecasts came out.
//!
//! Decides: which days are history (full UTC days), how scenarios are read, and what is printed beside a figure.
//! Does not: draw or widen a range (see [`crate::core::accounting::forecast`]).

use std::collections::BTreeMap;

use serde::Deserialize;
use sqlx::{PgConnection, Row};

use crate::core::accounting::forecast::{Calibration, DayOf, Days, LEAST_DAYS, Range, Scenario, calibrate, forecast};
use crate::core::units::time::{Millis, Timestamp};
use crate::ledger::report::{Month, Only, Report, condition};
use crate::ledger::store::LedgerFault;

const DAY: i64 = Millis::from_hours(24).0;
/// Days of history that are read: two years, for the origins of the calibration.
const READ_DAYS: i64 = 730;
/// Every forecast of the same history is the same.
const SEED: u64 = 20_260_701;

/// Nothing can be forecast.
#[derive(Debug, thiserror::Error)]
pub enum ForecastFault {
    /// Too little is known.
    #[error("{0} full days of cost are known; a forecast needs {LEAST_DAYS}")]
    TooLittle(usize),
    /// The file of scenarios is not one.
    #[error("{path}: {fault}; expected scenarios as in docs/ledger.md, \"Forecast\"")]
    Scenarios {
        /// The file.
        path: String,
        /// What is wrong.
        fault: String,
    },
    /// Postgres could not be used.
    #[error(transparent)]
    Ledger(#[from] LedgerFault),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    scenarios: BTreeMap<String, Scenario>,
}

/// Reads a file of scenarios; `base` is added when it is not there, for the others are compared with it.
///
/// # Errors
/// Says what is wrong.
pub fn read(path: &str, text: &str) -> Result<BTreeMap<String, Scenario>, ForecastFault> {
    let wrong = |fault: String| ForecastFault::Scenarios { path: path.to_owned(), fault };
    let file: File = serde_saphyr::from_str(text).map_err(|fault| wrong(fault.to_string()))?;
    for (name, scenario) in &file.scenarios {
        let factors = scenario.volume_per_month.values().chain(scenario.gpu_hours_per_unit.values()).chain([&scenario.price]);
        if factors.into_iter().any(|factor| !factor.is_finite() || !(0.0..=100.0).contains(factor)) {
            return Err(wrong(format!("scenario {name:?}: a factor is not between 0 and 100; 1.1 is a tenth more")));
        }
        if scenario.adds.values().any(|added| !(-1e9..=1e9).contains(&added.usd_per_month) || added.from_month == 0) {
            return Err(wrong(format!("scenario {name:?}: adds needs usd_per_month of at most a billion, and from_month of at least 1")));
        }
    }
    let mut scenarios = file.scenarios;
    scenarios.entry("base".to_owned()).or_insert_with(|| Scenario { note: "the last weeks go on".to_owned(), ..Scenario::default() });
    Ok(scenarios)
}

/// A forecast.
#[derive(Debug, Clone, PartialEq)]
pub struct Forecast {
    /// Months, in order; the first begins after the last day that is known.
    pub months: Vec<Month>,
    /// By scenario: what it says, and for each month the ranges by component; the empty one is all.
    pub scenarios: BTreeMap<String, (String, Vec<BTreeMap<String, Range>>)>,
    /// How often ranges held.
    pub calibration: Calibration,
}

/// What forecasts are made from: full days by component, from `$1` to `$2`, of all spend or of what filters leave.
pub fn history_sql(only: &[Only]) -> String {
    format!("{HISTORY}{} GROUP BY 1, 2 ORDER BY 1", condition(only))
}

const HISTORY: &str = "SELECT (day - date '1970-01-01')::bigint AS day, CASE WHEN line = 'overhead' AND component IS NULL THEN 'api' ELSE coalesce(component, '(untagged)') END AS component,
                      (sum(gpu_ms) / 3600000.0)::float8 AS gpu_hours, coalesce(sum(cost_usd) FILTER (WHERE line NOT IN ('overhead', 'egress')), 0)::float8 AS machines,
                      coalesce(sum(b0_usd + without_b0_usd) FILTER (WHERE line NOT IN ('overhead', 'egress')), 0)::float8 AS on_demand,
                      coalesce(sum(cost_usd) FILTER (WHERE line IN ('overhead', 'egress')), 0)::float8 AS other
               FROM ledger.share_daily WHERE day >= $1::text::date AND day < $2::text::date";

/// Full UTC days before `now` with their components. Boot, idle, moves and drains are machine costs of the work they were for.
async fn history(connection: &mut PgConnection, now: Timestamp, only: &[Only]) -> Result<Days, LedgerFault> {
    // What a person typed is quoted.
    let query = sqlx::query(sqlx::AssertSqlSafe(history_sql(only))).bind((now - Millis(READ_DAYS * DAY)).to_date()).bind(now.to_date());
    let rows = query.fetch_all(connection).await.map_err(LedgerFault::during("read costs by day"))?;
    let mut days: BTreeMap<i64, BTreeMap<String, DayOf>> = BTreeMap::new();
    for row in rows {
        let read = || -> Result<(i64, String, DayOf), sqlx::Error> {
            let day = DayOf {
                gpu_hours: row.try_get("gpu_hours")?,
                machines_usd: row.try_get("machines")?,
                on_demand_usd: row.try_get("on_demand")?,
                other_usd: row.try_get("other")?,
            };
            Ok((row.try_get("day")?, row.try_get("component")?, day))
        };
        let (day, component, figures) = read().map_err(LedgerFault::during("read a cost by day"))?;
        days.entry(day).or_default().insert(component, figures);
    }
    // A day without cost between two with is a day that cost nothing.
    let Some(first) = days.keys().next().copied() else { return Ok(Vec::new()) };
    Ok((first..now.0.div_euclid(DAY)).map(|day| days.remove(&day).unwrap_or_default()).collect())
}

/// The next `months` calendar months, the one that runs left out, of all spend or of what filters leave.
///
/// # Errors
/// [`ForecastFault`].
pub async fn make(
    connection: &mut PgConnection,
    now: Timestamp,
    months: usize,
    scenarios: &BTreeMap<String, Scenario>,
    only: &[Only],
) -> Result<Forecast, ForecastFault> {
    let days = history(connection, now, only).await?;
    if days.len() < LEAST_DAYS {
        return Err(ForecastFault::TooLittle(days.len()));
    }
    let calibration = calibrate(&days, SEED);
    // From the first full month on, growth with it.
    let mut at = now.month_end();
    let (mut names, mut lengths) = (Vec::new(), Vec::new());
    for _ in 0..months {
        let name: String = at.to_rfc3339().chars().take(7).collect();
        names.extend(name.parse::<Month>().ok());
        lengths.push(usize::try_from(at.month_end().since(at).0 / DAY).unwrap_or(30));
        at = at.month_end();
    }
    let widen = |ranges: BTreeMap<String, Range>| {
        ranges.into_iter().map(|(name, range)| (name, range.widened(calibration.factor.max(1.0)))).collect()
    };
    let made = scenarios
        .iter()
        .map(|(name, scenario)| {
            let ranges: Vec<_> = forecast(&days, &lengths, scenario, SEED).into_iter().map(widen).collect();
            (name.clone(), (scenario.note.clone(), ranges))
        })
        .collect();
    Ok(Forecast { months: names, scenarios: made, calibration })
}

/// The forecast for people: each scenario and month, by component, with what the scenario adds to the base.
pub fn report(made: &Forecast) -> Report {
    let columns = ["scenario", "month", "component", "low_usd", "middle_usd", "high_usd", "against_base_usd", "assumes"];
    let mut rows = Vec::new();
    let base = made.scenarios.get("base").map(|(_, months)| months);
    let usd = |amount: f64| Some(format!("{amount:.2}"));
    for (scenario, (note, months)) in &made.scenarios {
        for (at, (month, ranges)) in made.months.iter().zip(months).enumerate() {
            for (component, range) in ranges {
                let of_base = base.and_then(|months| months.get(at)).and_then(|ranges| ranges.get(component)).map_or(0.0, |r| r.middle);
                let name = if component.is_empty() { "all" } else { component };
                let mut row = vec![Some(scenario.clone()), Some(month.to_string()), Some(name.to_owned())];
                row.extend([usd(range.low), usd(range.middle), usd(range.high), usd(range.middle - of_base), Some(note.clone())]);
                rows.push(row);
            }
        }
    }
    let next = base.and_then(|months| months.first()).and_then(|ranges| ranges.get("")).copied().unwrap_or_default();
    let month = made.months.first().map(ToString::to_string).unwrap_or_default();
    let sentence = format!(
        "{month}: ${:.2}, in four of five cases between ${:.2} and ${:.2} ({}).",
        next.middle,
        next.low,
        next.high,
        made.calibration.sentence()
    );
    Report { sentence, columns: columns.map(String::from).to_vec(), rows }
}

/// Keeps a forecast, to be compared with what comes.
///
/// # Errors
/// [`LedgerFault`] when Postgres refuses or does not answer.
pub async fn keep(connection: &mut PgConnection, made: &Forecast) -> Result<(), LedgerFault> {
    let origins = i32::try_from(made.calibration.origins).unwrap_or(i32::MAX);
    for (scenario, (_, months)) in &made.scenarios {
        for (month, ranges) in made.months.iter().zip(months) {
            for (component, range) in ranges {
                sqlx::query(
                    "INSERT INTO ledger.forecast (month, scenario, component, low_usd, middle_usd, high_usd, origins)
                     VALUES ($1::text::date, $2, $3, $4::numeric, $5::numeric, $6::numeric, $7)",
                )
                .bind(month.first_day())
                .bind(scenario)
                .bind(component)
                .bind(format!("{:.6}", range.low))
                .bind(format!("{:.6}", range.middle))
                .bind(format!("{:.6}", range.high))
                .bind(origins)
                .execute(&mut *connection)
                .await
                .map_err(LedgerFault::during("keep the forecast"))?;
            }
        }
    }
    Ok(())
}

/// Kept forecasts of months that are over by `now`, compared with what was spent.
///
/// # Errors
/// [`LedgerFault`] when Postgres refuses or does not answer.
pub async fn outcome(connection: &mut PgConnection, now: Timestamp) -> Result<Report, LedgerFault> {
    let sql = "WITH actual AS (
            SELECT date_trunc('month', day)::date AS month, CASE WHEN line = 'overhead' AND component IS NULL THEN 'api' ELSE coalesce(component, '(untagged)') END AS component,
                   sum(cost_usd) AS usd FROM ledger.share_daily GROUP BY 1, 2
        ), sums AS (SELECT * FROM actual UNION ALL SELECT month, '', sum(usd) FROM actual GROUP BY 1)
        SELECT to_char(f.made_at AT TIME ZONE 'UTC', 'YYYY-MM-DD') AS made_on, to_char(f.month, 'YYYY-MM') AS month, f.scenario,
               CASE f.component WHEN '' THEN 'all' ELSE f.component END AS component, round(f.low_usd, 2)::text AS low_usd, round(f.middle_usd, 2)::text AS middle_usd,
               round(f.high_usd, 2)::text AS high_usd, round(coalesce(s.usd, 0), 2)::text AS actual_usd,
               CASE WHEN coalesce(s.usd, 0) BETWEEN f.low_usd AND f.high_usd THEN 'held' ELSE 'missed' END AS outcome
        FROM ledger.forecast f LEFT JOIN sums s ON s.month = f.month AND s.component = f.component
        WHERE f.month + interval '1 month' <= $1::text::date AND f.made_at < (SELECT ledger.known_before()) ORDER BY f.month DESC, f.n";
    let rows = sqlx::query(sql)
        .bind(now.to_date())
        .fetch_all(connection)
        .await
        .map_err(LedgerFault::during("hold forecasts against what came"))?;
    let columns = ["made_on", "month", "scenario", "component", "low_usd", "middle_usd", "high_usd", "actual_usd", "outcome"];
    let text = |row: &sqlx::postgres::PgRow| columns.map(|name| row.try_get::<Option<String>, _>(name).ok().flatten()).to_vec();
    let rows: Vec<Vec<Option<String>>> = rows.iter().map(text).collect();
    let of_base = |row: &&Vec<Option<String>>| row[2].as_deref() == Some("base") && row[3].as_deref() == Some("all");
    let held = rows.iter().filter(of_base).filter(|row| row[8].as_deref() == Some("held")).count();
    let sentence = match rows.iter().filter(of_base).count() {
        0 => "No stored forecast is for a month that is over: store one with lowtide ledger forecast --keep.".to_owned(),
        n => format!("{held} of {n} base forecasts held."),
    };
    Ok(Report { sentence, columns: columns.map(String::from).to_vec(), rows })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scenarios_are_read_and_wrong_ones_say_what_is_wrong() {
        let good = "scenarios:\n  summer:\n    note: holidays\n    volume_per_month: {inference: 0.9}\n    price: 1.2\n    adds: {api: {usd_per_month: 50}}\n";
        let scenarios = read("s.yaml", good).unwrap();
        assert_eq!(scenarios.keys().collect::<Vec<_>>(), ["base", "summer"]);
        assert_eq!((scenarios["summer"].price, scenarios["summer"].adds["api"].from_month), (1.2, 1));
        for (text, says) in
            [("scenarios: {x: {price: -1}}", "between 0 and 100"), ("scenarios: {x: {prices: 1}}", "prices"), ("scenarios: 3", "s.yaml")]
        {
            let fault = read("s.yaml", text).unwrap_err().to_string();
            assert!(fault.contains(says), "{fault}");
        }
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(crate::mutation::CASES))]

        #[test]
        fn whatever_a_file_of_scenarios_holds_can_be_reckoned_with_or_is_refused_with_a_sentence(
            file in crate::mutation::json(vec![serde_json::json!({ "scenarios": { "summer": { "note": "holidays", "volume_per_month": { "inference": 0.9 },
                "gpu_hours_per_unit": { "all": 1.1 }, "price": 1.2, "adds": { "api": { "usd_per_month": 50, "from_month": 2 } } } } })]),
            text in crate::mutation::text(&["scenarios:\n  summer:\n    note: holidays\n    price: 1.2\n    adds: {api: {usd_per_month: 50}}\n"]),
        ) {
            for text in [file.to_string(), text] {
                match read("s.yaml", &text) {
                    Ok(scenarios) => for scenario in scenarios.values() {
                        assert!((0.0..=100.0).contains(&scenario.price), "{scenario:?}");
                        assert!(scenario.adds.values().all(|added| added.usd_per_month.abs() <= 1e9 && added.from_month > 0), "{scenario:?}");
                    },
                    Err(fault) => assert!(fault.to_string().contains("s.yaml"), "{fault}"),
                }
            }
        }
    }
}
