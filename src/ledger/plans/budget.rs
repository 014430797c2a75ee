//! Budgets: plans by label and month, compared with what was spent, with what made the difference.
//!
//! Decides: how a file of budgets is read, which row holds, and what is compared.
//! Does not: stop anything: the budget of a node pool does.

use std::collections::BTreeMap;

use serde::Deserialize;
use sqlx::{Connection, PgConnection, Row};

use super::two_decimals;
use crate::core::accounting::pace::{Heading, heading};
use crate::core::units::money::MicroUsd;
use crate::core::units::time::{Millis, Timestamp};
use crate::ledger::report::{Month, Only, Report, fits, with_day_of_knowledge};
use crate::ledger::store::{LedgerFault, end};

/// A file of budgets is not one.
#[derive(Debug, thiserror::Error)]
pub enum BudgetFault {
    /// It cannot be read.
    #[error("{path}: {fault}; expected budgets as in docs/ledger.md, \"Budgets\"")]
    File {
        /// The file.
        path: String,
        /// What is wrong.
        fault: String,
    },
    /// Postgres could not be used.
    #[error(transparent)]
    Ledger(#[from] LedgerFault),
}

/// Labels that a budget may be for, as YAML and as the ledger name them.
const LABELS: [(&str, &str); 6] = [
    ("team", "team"),
    ("service", "service"),
    ("environment", "environment"),
    ("cost-center", "cost_center"),
    ("product-area", "product_area"),
    ("component", "component"),
];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    budgets: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    from: String,
    #[serde(rename = "monthlyUsd")]
    monthly_usd: Option<String>,
    #[serde(default, rename = "for")]
    of: BTreeMap<String, String>,
}

/// A budget as it was entered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Budget {
    /// Its name.
    pub name: String,
    /// From this month on.
    pub from: Month,
    /// Column of the label and its value; `None` is all spend.
    pub of: Option<(&'static str, String)>,
    /// Its plan for each month; `None` ends it.
    pub monthly: Option<MicroUsd>,
}

/// Reads a file of budgets.
///
/// # Errors
/// Says what is wrong with the first entry that is.
pub fn read(path: &str, text: &str) -> Result<Vec<Budget>, BudgetFault> {
    let wrong = |fault: String| BudgetFault::File { path: path.to_owned(), fault };
    let file: File = serde_saphyr::from_str(text).map_err(|fault| wrong(fault.to_string()))?;
    let one = |entry: Entry| -> Result<Budget, String> {
        let what = format!("budget {:?}", entry.name);
        if entry.name.trim().is_empty() {
            return Err("a budget has no name".into());
        }
        let from = entry.from.parse().map_err(|fault| format!("{what}: from: {fault}, not {:?}", entry.from))?;
        let monthly = entry
            .monthly_usd
            .as_deref()
            .map(|usd| usd.parse::<MicroUsd>().map_err(|fault| format!("{what}: monthlyUsd: {fault}")))
            .transpose()?;
        if monthly.is_some_and(|usd| usd.0 < 0) {
            return Err(format!("{what}: monthlyUsd is below 0"));
        }
        let of = match entry.of.into_iter().collect::<Vec<_>>().as_slice() {
            [] => None,
            [(label, value)] => {
                let known = LABELS.iter().find(|(name, _)| name == label);
                let names = LABELS.map(|(name, _)| name).join(", ");
                let (_, column) = known.ok_or_else(|| format!("{what}: no label is called {label:?}; expected one of {names}"))?;
                Some((*column, value.clone()))
            }
            _ => return Err(format!("{what}: it is for several labels; expected one, or none for all spend")),
        };
        Ok(Budget { name: entry.name, from, of, monthly })
    };
    file.budgets.into_iter().map(|entry| one(entry).map_err(wrong)).collect()
}

/// Enters budgets; all or none.
///
/// # Errors
/// [`LedgerFault`] when Postgres refuses or does not answer.
pub async fn enter(connection: &mut PgConnection, budgets: &[Budget]) -> Result<(), LedgerFault> {
    let mut transaction = connection.begin().await.map_err(LedgerFault::during("begin a transaction"))?;
    let entered = add(&mut transaction, budgets).await;
    end(transaction, entered, "enter the budgets").await
}

async fn add(connection: &mut PgConnection, budgets: &[Budget]) -> Result<(), LedgerFault> {
    for budget in budgets {
        let (label, value) = budget.of.as_ref().map(|(label, value)| (*label, value.as_str())).unzip();
        sqlx::query("INSERT INTO ledger.budget (name, from_month, label, value, monthly_usd) VALUES ($1, $2::text::date, $3, $4, $5::text::numeric)")
            .bind(&budget.name)
            .bind(budget.from.first_day())
            .bind(label)
            .bind(value)
            .bind(budget.monthly.map(|usd| usd.to_string()))
            .execute(&mut *connection)
            .await
            .map_err(LedgerFault::during("enter a budget"))?;
    }
    Ok(())
}

/// A budget in a month, as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Its name.
    pub name: String,
    /// Of what, as `team ml`; `all` is all spend.
    pub of: String,
    /// Its plan.
    pub plan: MicroUsd,
    /// Spent in the month.
    pub spent: MicroUsd,
    /// Where it is heading; of a month that is over, what was spent.
    pub heading: Heading,
    /// The step of the bridge that changed most against the month before, and by how much.
    pub mostly: Option<(String, MicroUsd)>,
}

/// One statement for all budgets: which row holds, what was spent in the month and in the last seven full days (of fewer, where the ledger is younger), and the
/// largest step. `$1` is the month's first
/// day, `$2` today, and `$3` to `$4` the days of the pace.
pub const STANDINGS: &str = "
WITH held AS (
    SELECT DISTINCT ON (name) * FROM ledger.budget WHERE from_month <= $1::text::date AND entered_at < (SELECT ledger.known_before()) ORDER BY name, from_month DESC, n DESC
), live AS (SELECT * FROM held WHERE monthly_usd IS NOT NULL),
costs AS (
    SELECT day, workload_namespace, workload_name, team, service, environment, cost_center, product_area, component, sum(cost_usd) AS usd
    FROM ledger.share_daily WHERE day >= least($1::text::date, $3::text::date) AND day < greatest(($1::text::date + interval '1 month')::date, $4::text::date)
    GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9
), matched AS (
    SELECT b.name, c.* FROM live b JOIN costs c ON b.label IS NULL OR b.value = CASE b.label WHEN 'team' THEN c.team WHEN 'service' THEN c.service
        WHEN 'environment' THEN c.environment WHEN 'cost_center' THEN c.cost_center WHEN 'product_area' THEN c.product_area ELSE c.component END
), sums AS (
    SELECT name, sum(usd) FILTER (WHERE day >= $1::text::date AND day < ($1::text::date + interval '1 month')::date AND day <= $2::text::date) AS spent,
           sum(usd) FILTER (WHERE day >= $3::text::date AND day < $4::text::date) AS week
    FROM matched GROUP BY name
), kept AS (
    SELECT CASE WHEN EXISTS (SELECT FROM ledger.share_daily WHERE day < $3::text::date) THEN $4::text::date - $3::text::date
                ELSE $4::text::date - (SELECT min(day) FROM costs WHERE day < $4::text::date) END AS days
), steps AS (
    SELECT m.name, v.step, sum(v.difference_usd) AS usd
    FROM (SELECT DISTINCT name, workload_namespace, workload_name FROM matched) m
    JOIN ledger.variance_month v ON v.month = $1::text::date AND v.workload_namespace IS NOT DISTINCT FROM m.workload_namespace
        AND v.workload_name IS NOT DISTINCT FROM m.workload_name
    GROUP BY 1, 2
), largest AS (SELECT DISTINCT ON (name) * FROM steps ORDER BY name, abs(usd) DESC, step)
SELECT b.name, coalesce(replace(b.label, '_', '-') || ' ' || b.value, 'all') AS of, (b.monthly_usd * 1000000)::bigint AS plan,
       (coalesce(s.spent, 0) * 1000000)::bigint AS spent, (coalesce(s.week, 0) * 1000000)::bigint AS week, greatest(coalesce(k.days, 1), 1)::bigint AS days, l.step, (l.usd * 1000000)::bigint AS step_micro
FROM live b CROSS JOIN kept k LEFT JOIN sums s USING (name) LEFT JOIN largest l USING (name) ORDER BY b.name";

/// All budgets of `month` as they stand at `now`.
///
/// # Errors
/// [`LedgerFault`] when Postgres refuses or does not answer.
pub async fn standings(connection: &mut PgConnection, month: &Month, now: Timestamp) -> Result<Vec<Standing>, LedgerFault> {
    let query = sqlx::query(STANDINGS)
        .bind(month.first_day())
        .bind(now.to_date())
        .bind((now - Millis::from_hours(7 * 24)).to_date())
        .bind(now.to_date());
    let current = now.to_date().starts_with(&month.to_string());
    let rows = query.fetch_all(connection).await.map_err(LedgerFault::during("read the budgets"))?;
    let standing = |row: &sqlx::postgres::PgRow| -> Result<Standing, sqlx::Error> {
        let (plan, spent): (i64, i64) = (row.try_get("plan")?, row.try_get("spent")?);
        let (plan, spent, pace) =
            (MicroUsd(plan), MicroUsd(spent), MicroUsd(row.try_get::<i64, _>("week")? / row.try_get::<i64, _>("days")?.max(1)));
        let heading = if current { heading(plan, spent, pace, now) } else { Heading { expected: spent, exhausted_at: None } };
        let mostly = row.try_get::<Option<String>, _>("step")?.zip(row.try_get::<Option<i64>, _>("step_micro")?.map(MicroUsd));
        Ok(Standing { name: row.try_get("name")?, of: row.try_get("of")?, plan, spent, heading, mostly })
    };
    rows.iter().map(standing).collect::<Result<_, _>>().map_err(LedgerFault::during("read a budget"))
}

/// Actual against plan, of the budgets for the labels that filters name.
///
/// # Errors
/// [`LedgerFault`] when Postgres refuses or does not answer.
pub async fn report(connection: &mut PgConnection, month: &Month, now: Timestamp, only: &[Only]) -> Result<Report, LedgerFault> {
    let mut standings = standings(connection, month, now).await?;
    let entered = standings.len();
    standings.retain(|s| {
        fits(only, |by| s.of.strip_prefix(&by.heading().replace('_', "-")).and_then(|rest| rest.strip_prefix(' ')).unwrap_or_default())
    });
    let over: Vec<&str> = standings.iter().filter(|s| s.heading.expected > s.plan).map(|s| s.name.as_str()).collect();
    let sentence = match (standings.is_empty(), over.as_slice()) {
        (true, _) if entered > 0 => format!("None of the {entered} budgets of {month} is for that."),
        (true, _) => "No budget is entered for this month: lowtide ledger budget --enter FILE.".to_owned(),
        (_, []) => format!("All budgets of {month} hold."),
        (_, over) => format!("Above plan in {month}, or heading there: {}.", over.join(", ")),
    };
    let columns =
        ["budget", "of", "plan_usd", "spent_usd", "spent_percent", "expected_usd", "used_up_on", "mostly_against_the_month_before"];
    let rows = standings.iter().map(|s| {
        let percent = (s.plan.0 > 0).then(|| format!("{}", i128::from(s.spent.0) * 100 / i128::from(s.plan.0)));
        let mostly = s.mostly.as_ref().map(|(step, usd)| format!("{step} {}{}", if usd.0 > 0 { "+" } else { "" }, two_decimals(*usd)));
        vec![
            Some(s.name.clone()),
            Some(s.of.clone()),
            Some(two_decimals(s.plan)),
            Some(two_decimals(s.spent)),
            percent,
            Some(two_decimals(s.heading.expected)),
            s.heading.exhausted_at.map(Timestamp::to_date),
            mostly,
        ]
    });
    let report = Report { sentence, columns: columns.map(String::from).to_vec(), rows: rows.collect() };
    with_day_of_knowledge(connection, report).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_budgets_is_read_and_a_wrong_one_says_what_is_wrong() {
        let good = "budgets:\n- {name: search, from: 2026-07, monthlyUsd: '1500.50', for: {team: search}}\n- {name: all, from: 2026-07, monthlyUsd: '9000'}\n- {name: old, from: 2026-08}\n";
        let read_back = read("b.yaml", good).unwrap();
        assert_eq!(read_back[0].of, Some(("team", "search".into())));
        assert_eq!((read_back[0].monthly, read_back[1].of.as_ref(), read_back[2].monthly), (Some(MicroUsd(1_500_500_000)), None, None));
        for (text, says) in [
            ("budgets:\n- {name: a, from: 2026-7, monthlyUsd: '1'}", "expected a calendar month as 2026-07"),
            ("budgets:\n- {name: a, from: 2026-07, monthlyUsd: '1', for: {squad: x}}", "no label is called \"squad\""),
            ("budgets:\n- {name: a, from: 2026-07, monthlyUsd: '-1'}", "monthlyUsd"),
            ("budgets:\n- {name: a, from: 2026-07, monthlyUsd: '1', for: {team: x, service: y}}", "several labels"),
            ("budget: []", "b.yaml"),
        ] {
            let fault = read("b.yaml", text).unwrap_err().to_string();
            assert!(fault.contains(says), "{fault}");
        }
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(crate::mutation::CASES))]

        #[test]
        fn whatever_a_file_of_budgets_holds_is_plans_of_at_least_nothing_or_refused_with_a_sentence(
            file in crate::mutation::json(vec![serde_json::json!({ "budgets": [
                { "name": "search", "from": "2026-07", "monthlyUsd": "1500.50", "for": { "team": "search" } }, { "name": "old", "from": "2026-08" }] })]),
            text in crate::mutation::text(&["budgets:\n- {name: search, from: 2026-07, monthlyUsd: '1500.50', for: {team: search}}\n- {name: old, from: 2026-08}\n"]),
            amount in crate::mutation::cell(),
        ) {
            let of_amount = serde_json::json!({ "budgets": [{ "name": "search", "from": "2026-07", "monthlyUsd": amount }] });
            for text in [file.to_string(), text, of_amount.to_string()] {
                match read("b.yaml", &text) {
                    Ok(budgets) => for budget in budgets {
                        assert!(!budget.name.trim().is_empty() && budget.monthly.is_none_or(|usd| usd.0 >= 0), "{budget:?}");
                        assert_eq!(budget.from.to_string().parse(), Ok(budget.from));
                    },
                    Err(fault) => assert!(fault.to_string().contains("b.yaml"), "{fault}"),
                }
            }
        }
    }
}
