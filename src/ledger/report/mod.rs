//! Questions people ask of the ledger, answered from its views.
//!
//! Decides: what each report sums, over which days, grouped by what, and the sentence that comes first.
//! Does not: compute a cost (the views do) or print (see [`super::text`]).

mod cost;
mod export;
mod gpu_use;
mod reasons;
mod refusals;
mod reliability;
mod retags;
mod savings;
mod statements;
mod unit_cost;
mod unit_economics;
mod variance;

pub use cost::cost;
pub use export::{View, export};
pub use gpu_use::{Window, compare_gpu_use, compares_gpu_use, gpu_use, groups_gpu_use};
pub use refusals::{RefusalsBy, RefusalsOnly, refusals};
pub use reliability::{ReliabilityBy, ReliabilityOnly, TRUST_SQL, reliability, trust};
pub use retags::retags;
pub use savings::{savings, savings_sql};
pub use statements::{Listed, statements};
pub use unit_cost::{groups_unit_costs, unit_costs};
pub use unit_economics::{EconomicsBy, EconomicsFault, EconomicsOnly, unit_economics};
pub use variance::{VarianceBy, VarianceKey, variance};

use std::collections::BTreeMap;

use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, Column, Executor, PgConnection, Row, SqlSafeStr};

use super::store::LedgerFault;
use crate::core::units::money::MicroUsd;

/// What a report is grouped by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum By {
    /// Label `team`.
    #[default]
    Team,
    /// Label `service`.
    Service,
    /// Label `environment`.
    Environment,
    /// Label `cost-center`.
    CostCenter,
    /// Label `product-area`.
    ProductArea,
    /// Label `component`, or what the kind of work says: training, inference, baseline, api.
    Component,
    /// The workload: namespace and name; of other costs that name none the item.
    Workload,
    /// The workload's namespace.
    Namespace,
    /// UTC day.
    Day,
    /// Calendar month, UTC.
    Month,
    /// What was paid for: pod, double-running, lost-work, boot, idle, drain, egress, overhead.
    Line,
    /// AWS region.
    Region,
    /// EC2 instance type.
    InstanceType,
    /// Spot, on-demand or reserved.
    CapacityType,
}

impl By {
    fn expression(self) -> &'static str {
        match self {
            By::Team => "coalesce(team, '(untagged)')",
            By::Service => "coalesce(service, '(untagged)')",
            By::Environment => "coalesce(environment, '(untagged)')",
            By::CostCenter => "coalesce(cost_center, '(untagged)')",
            By::ProductArea => "coalesce(product_area, '(untagged)')",
            By::Component => "coalesce(component, '(untagged)')",
            By::Workload => {
                "coalesce(CASE workload_namespace WHEN '' THEN workload_name ELSE workload_namespace || '/' || workload_name END, '(none)')"
            }
            By::Namespace => "coalesce(nullif(workload_namespace, ''), '(none)')",
            By::Day => "day::text",
            By::Month => "to_char(day, 'YYYY-MM')",
            By::Line => "line",
            By::Region => "coalesce(region, '(none)')",
            By::InstanceType => "coalesce(instance_type, '(none)')",
            By::CapacityType => "coalesce(capacity_type, '(none)')",
        }
    }

    pub(super) fn heading(self) -> &'static str {
        match self {
            By::Team => "team",
            By::Service => "service",
            By::Environment => "environment",
            By::CostCenter => "cost_center",
            By::ProductArea => "product_area",
            By::Component => "component",
            By::Workload => "workload",
            By::Namespace => "namespace",
            By::Day => "day",
            By::Month => "month",
            By::Line => "line",
            By::Region => "region",
            By::InstanceType => "instance_type",
            By::CapacityType => "capacity_type",
        }
    }
}

/// What a report is grouped by: one or several of [`By`], in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keys(Vec<By>);

impl From<By> for Keys {
    fn from(by: By) -> Self {
        Keys(vec![by])
    }
}

impl From<Vec<By>> for Keys {
    /// None is by team.
    fn from(by: Vec<By>) -> Self {
        Keys(if by.is_empty() { vec![By::Team] } else { by })
    }
}

impl Keys {
    /// The keys' expressions, each named `key0`, `key1` and so on.
    fn named(&self) -> String {
        self.0.iter().enumerate().map(|(n, by)| format!("{} AS key{n}", by.expression())).collect::<Vec<_>>().join(", ")
    }

    /// What they are.
    pub fn all(&self) -> &[By] {
        &self.0
    }

    /// The keys' expressions as one array.
    fn array(&self) -> String {
        format!("ARRAY[{}]", self.0.iter().map(|by| by.expression()).collect::<Vec<_>>().join(", "))
    }

    /// Their headings.
    fn headings(&self) -> impl Iterator<Item = &'static str> {
        self.0.iter().map(|by| by.heading())
    }

    /// Those names.
    fn names(&self) -> String {
        (0..self.0.len()).map(|n| format!("key{n}")).collect::<Vec<_>>().join(", ")
    }

    /// For each key its value under its heading; in the row of totals, where `is_total` is 1, the first says so.
    fn columns(&self) -> String {
        let column = |(n, by): (usize, &By)| {
            let total = if n == 0 { "'total'" } else { "NULL" };
            format!("CASE WHEN is_total = 1 THEN {total} ELSE key{n} END AS {}", by.heading())
        };
        self.0.iter().enumerate().map(column).collect::<Vec<_>>().join(", ")
    }
}

/// Only what has this value, as `--only team=search`. Several of one key are one or the other, of several keys all have to fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Only {
    by: By,
    value: String,
}

impl std::str::FromStr for Only {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || "expected a key and its value, as in team=search or line=idle".to_owned();
        let (key, value) = text.split_once('=').ok_or_else(expected)?;
        let by = <By as clap::ValueEnum>::from_str(&key.replace('_', "-"), false).map_err(|_| expected())?;
        Ok(Only { by, value: value.to_owned() })
    }
}

impl Only {
    /// What has this value of `by`.
    pub fn new(by: By, value: impl Into<String>) -> Only {
        Only { by, value: value.into() }
    }

    /// Of what.
    pub fn by(&self) -> By {
        self.by
    }

    /// The value.
    pub fn value(&self) -> &str {
        &self.value
    }
}

/// The condition of filters: columns come from a closed list, values are quoted by Postgres' own rule.
pub(super) fn condition(only: &[Only]) -> String {
    one_of(only.iter().map(|only| (only.by.expression(), only.value.as_str())))
}

/// Whether values by key are what filters ask for, by the rule of [`condition`]: of one key any value, of several keys all.
pub(super) fn fits<'a>(only: &[Only], value_of: impl Fn(By) -> &'a str) -> bool {
    only.iter().all(|asked| only.iter().any(|one| one.by == asked.by && one.value == value_of(asked.by)))
}

/// Columns with the values that they may have; of one column any of its values.
fn one_of<'a>(wanted: impl Iterator<Item = (&'static str, &'a str)>) -> String {
    let mut values: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (column, value) in wanted {
        values.entry(column).or_default().push(format!("'{}'", value.replace('\'', "''")));
    }
    values.into_iter().map(|(column, values)| format!(" AND {column} IN ({})", values.join(", "))).collect()
}

/// UTC days, `from` included, `to` not. Absent: the last 30 days, up to and with today.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Days {
    /// The first day, as `2026-07-01`.
    pub from: Option<String>,
    /// The day after the last.
    pub to: Option<String>,
}

const IN_DAYS: &str = "day >= coalesce($1::date, (now() AT TIME ZONE 'UTC')::date - 30) \
                       AND day < coalesce($2::date, (now() AT TIME ZONE 'UTC')::date + 1)";

/// A calendar month, UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Month {
    year: i16,
    month: i8,
}

impl Month {
    /// Its first day, as `2026-07-01`.
    pub fn first_day(&self) -> String {
        format!("{self}-01")
    }

    /// The month after.
    pub fn next(&self) -> Month {
        if self.month == 12 { Month { year: self.year + 1, month: 1 } } else { Month { month: self.month + 1, ..*self } }
    }

    /// The month before.
    pub fn previous(&self) -> Month {
        if self.month == 1 { Month { year: self.year - 1, month: 12 } } else { Month { month: self.month - 1, ..*self } }
    }

    /// Its days.
    pub fn days(&self) -> Days {
        Days { from: Some(self.first_day()), to: Some(self.next().first_day()) }
    }

    /// The days of several months, which follow one another.
    ///
    /// # Errors
    /// Names the month that is missing between them.
    pub fn days_of(months: &[Month]) -> Result<Days, String> {
        let (Some(first), Some(last)) = (months.iter().min(), months.iter().max()) else { return Ok(Days::default()) };
        let mut month = *first;
        while month < *last {
            month = month.next();
            if !months.contains(&month) {
                return Err(format!("expected consecutive months; {month} is missing between {first} and {last}"));
            }
        }
        Ok(Days { from: Some(first.first_day()), to: Some(last.next().first_day()) })
    }
}

impl std::str::FromStr for Month {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let first: Option<jiff::civil::Date> = (text.len() == 7).then(|| format!("{text}-01").parse().ok()).flatten();
        let first = first.ok_or_else(|| "expected a calendar month as 2026-07".to_owned())?;
        Ok(Month { year: first.year(), month: first.month() })
    }
}

impl std::fmt::Display for Month {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:04}-{:02}", self.year, self.month)
    }
}

/// An answer: a sentence and a table whose values are text, exact to the last digit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// What it comes down to.
    pub sentence: String,
    /// Column names.
    pub columns: Vec<String>,
    /// Rows; `None` is unknown.
    pub rows: Vec<Vec<Option<String>>>,
}

impl Report {
    /// What `row` has in the column `name`; `None` where that is unknown.
    fn figure<T: std::str::FromStr>(&self, row: &[Option<String>], name: &str) -> Option<T> {
        let at = self.columns.iter().position(|column| column == name)?;
        row.get(at)?.as_deref()?.parse().ok()
    }

    /// What the last row has in the column `name`: the sum, in reports that end with one.
    fn last<T: std::str::FromStr>(&self, name: &str) -> Option<T> {
        self.figure(self.rows.last()?, name)
    }
}

fn with_columns(sentence: String, columns: &[&str], rows: Vec<Vec<Option<String>>>) -> Report {
    Report { sentence, columns: columns.iter().map(|name| (*name).to_owned()).collect(), rows }
}

/// Dollars with all six decimals, for tables.
pub(super) fn six_decimals(amount: MicroUsd) -> String {
    let sign = if amount.0 < 0 { "-" } else { "" };
    format!("{sign}{}.{:06}", amount.0.unsigned_abs() / 1_000_000, amount.0.unsigned_abs() % 1_000_000)
}

/// Dollars for sentences, the sign before the currency.
pub(super) fn dollars(amount: MicroUsd) -> String {
    let sign = if amount.0 < 0 { "-" } else { "" };
    format!("{sign}${}", cents(MicroUsd(amount.0.abs())))
}

/// A difference in dollars, always with its sign.
fn signed_dollars(amount: MicroUsd) -> String {
    if amount.0 >= 0 { format!("+{}", dollars(amount)) } else { dollars(amount) }
}

/// Dollars and cents for sentences; four more decimals below a dollar, where cents would say nothing.
pub(super) fn cents(amount: MicroUsd) -> String {
    if amount.0.abs() < 1_000_000 {
        return amount.to_string();
    }
    let rounded = (amount.0 + 5_000 * amount.0.signum()) / 10_000;
    format!("{}.{:02}", rounded / 100, (rounded % 100).abs())
}

/// From now on this connection sees what was known by the end of a UTC day, as `2026-08-10`; `None` is everything.
///
/// # Errors
/// [`LedgerFault`] when Postgres refuses or does not answer.
pub async fn as_of(connection: &mut PgConnection, day: Option<&str>) -> Result<(), LedgerFault> {
    let sql = "SELECT set_config('lowtide.as_of', coalesce(($1::text::date + 1)::text, ''), false)";
    sqlx::query(sql).bind(day).execute(connection).await.map_err(LedgerFault::during("go back to what was known"))?;
    Ok(())
}

/// What a sentence says of it.
async fn known_by(connection: &mut PgConnection) -> Result<Option<String>, LedgerFault> {
    let sql = "SELECT (nullif(current_setting('lowtide.as_of', true), '')::date - 1)::text";
    sqlx::query_scalar(sql).fetch_one(connection).await.map_err(LedgerFault::during("ask which day's knowledge is asked for"))
}

/// Adds to a sentence whose knowledge it rests on.
///
/// # Errors
/// [`LedgerFault`] when Postgres refuses or does not answer.
pub async fn with_day_of_knowledge(connection: &mut PgConnection, mut report: Report) -> Result<Report, LedgerFault> {
    if let Some(day) = known_by(connection).await? {
        report.sentence.push_str(&format!(" This is what was known at the end of {day}."));
    }
    Ok(report)
}

async fn ask(connection: &mut PgConnection, sql: String, days: &Days) -> Result<Report, LedgerFault> {
    ask_with(connection, sql, days, |query| query).await
}

type Query<'q> = sqlx::query::Query<'q, sqlx::Postgres, sqlx::postgres::PgArguments>;

/// As [`ask`], with more to bind than the days.
async fn ask_with(
    connection: &mut PgConnection,
    sql: String,
    days: &Days,
    more: impl FnOnce(Query<'_>) -> Query<'_>,
) -> Result<Report, LedgerFault> {
    // Built from the constants above; what the user typed is bound, or quoted.
    let query = more(sqlx::query(AssertSqlSafe(sql.clone())).bind(days.from.clone()).bind(days.to.clone()));
    let mut report = read(query.fetch_all(&mut *connection).await.map_err(LedgerFault::during("read the report"))?);
    if report.rows.is_empty() {
        // A table without rows still has its header.
        let described =
            connection.describe(AssertSqlSafe(sql).into_sql_str()).await.map_err(LedgerFault::during("read the report's columns"))?;
        report.columns = described.columns().iter().map(|column| column.name().to_owned()).collect();
    }
    Ok(report)
}

fn read(rows: Vec<PgRow>) -> Report {
    let columns = rows.first().map_or_else(Vec::new, |row| row.columns().iter().map(|column| column.name().to_owned()).collect());
    let text = |row: &PgRow| (0..row.columns().len()).map(|at| row.try_get::<Option<String>, _>(at).ok().flatten()).collect();
    Report { sentence: String::new(), columns, rows: rows.iter().map(text).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_of_one_key_are_one_or_the_other_and_values_cannot_leave_their_quotes() {
        let only: Vec<Only> = ["team=search", "team=o'neill", "cost_center=7"].iter().map(|text| text.parse().unwrap()).collect();
        assert_eq!(
            condition(&only),
            " AND coalesce(cost_center, '(untagged)') IN ('7') AND coalesce(team, '(untagged)') IN ('search', 'o''neill')"
        );
        assert!("squad=x".parse::<Only>().is_err() && "team".parse::<Only>().is_err());
    }

    #[test]
    fn rows_in_memory_are_filtered_by_the_same_rule() {
        let only: Vec<Only> = ["team=search", "team=vision", "service=chat"].iter().map(|text| text.parse().unwrap()).collect();
        let row = |team: &'static str, service: &'static str| move |by| if by == By::Team { team } else { service };
        assert!(fits(&only, row("vision", "chat")) && fits(&[], row("", "")));
        assert!(!fits(&only, row("vision", "batch")) && !fits(&only, row("nobody", "chat")));
    }

    #[test]
    fn months_follow_one_another() {
        let months = |texts: &[&str]| Month::days_of(&texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<_>>());
        let days = months(&["2027-01", "2026-12"]).unwrap();
        assert_eq!((days.from.as_deref(), days.to.as_deref()), (Some("2026-12-01"), Some("2027-02-01")));
        assert_eq!(months(&[]).unwrap(), Days::default());
        assert_eq!(
            months(&["2026-05", "2026-07"]).unwrap_err(),
            "expected consecutive months; 2026-06 is missing between 2026-05 and 2026-07"
        );
    }
}
