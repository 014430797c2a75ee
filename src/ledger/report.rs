//! Questions people ask of the ledger, answered from its views.
//!
//! Decides: what each report sums, over which days, grouped by what, and the sentence that comes first.
//! Does not: compute a cost (the views do) or print (see [`super::text`]).

use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, Column, PgConnection, Row};

use super::store::LedgerFault;
use crate::core::money::MicroUsd;

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
    /// The workload: namespace and name.
    Workload,
    /// UTC day.
    Day,
    /// What was paid for: pod, double-running, boot, idle, drain.
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
            By::Workload => "coalesce(workload_namespace || '/' || workload_name, '(none)')",
            By::Day => "day::text",
            By::Line => "line",
            By::Region => "region",
            By::InstanceType => "instance_type",
            By::CapacityType => "capacity_type",
        }
    }

    fn heading(self) -> &'static str {
        match self {
            By::Team => "team",
            By::Service => "service",
            By::Environment => "environment",
            By::CostCenter => "cost_center",
            By::ProductArea => "product_area",
            By::Workload => "workload",
            By::Day => "day",
            By::Line => "line",
            By::Region => "region",
            By::InstanceType => "instance_type",
            By::CapacityType => "capacity_type",
        }
    }
}

/// A view that can be exported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum View {
    /// FOCUS 1.2, one row per share of an instance-hour.
    #[value(name = "focus-1-2")]
    Focus12,
    /// Cost by day, owner and machine.
    CostDaily,
    /// Savings by day and owner.
    SavingsDaily,
    /// Cost of a useful GPU-hour.
    UnitCostHourly,
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

/// Spend, what it would have cost otherwise, and what was saved, net.
///
/// # Errors
/// [`LedgerFault`] when Postgres refuses or does not answer.
pub async fn savings(connection: &mut PgConnection, days: &Days, by: By) -> Result<Report, LedgerFault> {
    let (key, heading) = (by.expression(), by.heading());
    let sql = format!(
        "WITH a AS (
             SELECT {key} AS key, cost_micro AS spend, coalesce(b0_micro, 0) AS b0, coalesce(b1_micro, 0) AS b1, coalesce(b2_micro, 0) AS b2,
                    CASE WHEN line = 'pod' THEN cost_micro ELSE 0 END AS useful, CASE WHEN line = 'boot' THEN cost_micro ELSE 0 END AS boot,
                    CASE WHEN line = 'idle' THEN cost_micro ELSE 0 END AS idle, CASE WHEN line = 'drain' THEN cost_micro ELSE 0 END AS drain,
                    CASE WHEN line = 'double-running' THEN cost_micro ELSE 0 END AS moves,
                    CASE WHEN line = 'pod' AND b1_micro IS NULL THEN cost_micro ELSE 0 END AS no_b1, basis
             FROM ledger.allocation WHERE {IN_DAYS}
         )
         SELECT CASE WHEN grouping(key) = 1 THEN 'total' ELSE key END AS {heading},
                (sum(spend) * 0.000001)::numeric(24,6)::text AS spend_usd, (sum(b0) * 0.000001)::numeric(24,6)::text AS b0_usd,
                (sum(b1) * 0.000001)::numeric(24,6)::text AS b1_usd, (sum(b2) * 0.000001)::numeric(24,6)::text AS b2_usd,
                (sum(b1 - useful) * 0.000001)::numeric(24,6)::text AS gross_saving_usd, (sum(boot) * 0.000001)::numeric(24,6)::text AS boot_usd,
                (sum(idle) * 0.000001)::numeric(24,6)::text AS idle_usd, (sum(drain) * 0.000001)::numeric(24,6)::text AS drain_usd,
                (sum(moves) * 0.000001)::numeric(24,6)::text AS moves_usd, (sum(b1 - spend) * 0.000001)::numeric(24,6)::text AS net_saving_usd,
                round(100 * sum(b1 - spend) / nullif(sum(b1), 0), 1)::text AS net_saving_percent,
                (sum(no_b1) * 0.000001)::numeric(24,6)::text AS spend_without_b1_usd,
                CASE WHEN bool_or(basis = 'estimate') THEN 'estimate' ELSE 'computed' END AS basis
         FROM a GROUP BY GROUPING SETS ((key), ()) HAVING count(*) > 0 ORDER BY grouping(key), sum(spend) DESC, key"
    );
    let mut report = ask(connection, sql, days).await?;
    report.sentence = savings_sentence(&report);
    Ok(report)
}

/// The headline, from the row of totals.
fn savings_sentence(report: &Report) -> String {
    let Some(total) = report.rows.last() else { return "No spend is recorded for these days.".into() };
    let text = |name: &str| report.columns.iter().position(|c| c == name).and_then(|at| total.get(at)).and_then(|v| v.as_deref());
    let usd = |name: &str| text(name).and_then(|v| v.parse::<MicroUsd>().ok()).unwrap_or_default();
    let (net, moves, without) = (usd("net_saving_usd"), usd("moves_usd"), usd("spend_without_b1_usd"));
    let percent = text("net_saving_percent").map_or_else(|| "no".to_owned(), |p| p.trim_start_matches('-').to_owned());
    let mut sentence = if usd("b1_usd") == MicroUsd(0) {
        format!(
            "Spend was ${}; what on-demand would have cost is not known for any of it; moves cost ${}.",
            cents(usd("spend_usd")),
            cents(moves)
        )
    } else if net.0 >= 0 {
        format!("Spot saved ${} net ({percent} %) against the on-demand you would have bought; moves cost ${}.", cents(net), cents(moves))
    } else {
        format!("Spot lost ${} net ({percent} %) against the on-demand you would have bought; moves cost ${}.", cents(-net), cents(moves))
    };
    if without.0 > 0 && usd("b1_usd").0 > 0 {
        sentence
            .push_str(&format!(" For ${} of spend that on-demand price is unknown: it counts as spend and not as saving.", cents(without)));
    }
    if text("basis") == Some("estimate") {
        sentence.push_str(" Machines still running are counted up to now.");
    }
    sentence
}

/// Dollars and cents for sentences; four more decimals below a dollar, where cents would say nothing.
fn cents(amount: MicroUsd) -> String {
    if amount.0.abs() < 1_000_000 {
        return amount.to_string();
    }
    let rounded = (amount.0 + 5_000 * amount.0.signum()) / 10_000;
    format!("{}.{:02}", rounded / 100, (rounded % 100).abs())
}

/// What was paid, by anything.
///
/// # Errors
/// [`LedgerFault`] when Postgres refuses or does not answer.
pub async fn cost(connection: &mut PgConnection, days: &Days, by: By) -> Result<Report, LedgerFault> {
    let (key, heading) = (by.expression(), by.heading());
    let sql = format!(
        "SELECT CASE WHEN grouping({key}) = 1 THEN 'total' ELSE {key} END AS {heading},
                round(sum(gpu_ms) / 3600000.0, 3)::text AS gpu_hours, (sum(cost_micro) * 0.000001)::numeric(24,6)::text AS cost_usd,
                (sum(b0_micro) * 0.000001)::numeric(24,6)::text AS b0_usd,
                CASE WHEN bool_or(basis = 'estimate') THEN 'estimate' ELSE 'computed' END AS basis
         FROM ledger.allocation WHERE {IN_DAYS}
         GROUP BY GROUPING SETS (({key}), ()) HAVING count(*) > 0 ORDER BY grouping({key}), sum(cost_micro) DESC, 1"
    );
    let mut report = ask(connection, sql, days).await?;
    let total = report.rows.last().and_then(|row| row.get(2)).and_then(|v| v.as_deref()).and_then(|v| v.parse().ok());
    report.sentence = total.map_or_else(|| "No spend is recorded for these days.".into(), |usd| format!("Machines cost ${}.", cents(usd)));
    Ok(report)
}

/// Interruptions by pool of capacity, and how fast work recovered.
///
/// # Errors
/// [`LedgerFault`] when Postgres refuses or does not answer.
pub async fn reliability(connection: &mut PgConnection) -> Result<Report, LedgerFault> {
    let sql =
        "SELECT region, zone, instance_type, capacity_type, launches::text, instance_hours::text, interruptions::text, per_launch::text,
                      per_launch_low::text || '-' || per_launch_high AS per_launch_95, per_1000_hours::text,
                      per_1000_hours_low::text || '-' || per_1000_hours_high AS per_1000_hours_95
               FROM ledger.reliability ORDER BY region, zone, instance_type, capacity_type";
    let mut report = read(sqlx::query(sql).fetch_all(&mut *connection).await.map_err(LedgerFault::during("read the report"))?);
    let sql = "SELECT count(*) AS moves, count(recovery_ms) AS recovered,
                      (percentile_disc(0.5) WITHIN GROUP (ORDER BY recovery_ms))::bigint AS p50,
                      (percentile_disc(0.95) WITHIN GROUP (ORDER BY recovery_ms))::bigint AS p95, max(gap_ms) AS gap FROM ledger.migration_timing";
    let row = sqlx::query(sql).fetch_one(connection).await.map_err(LedgerFault::during("read the report"))?;
    let moves: i64 = row.try_get("moves").map_err(LedgerFault::during("read the report"))?;
    let span = |name: &str| row.try_get::<Option<i64>, _>(name).ok().flatten().map(|ms| crate::core::time::Millis(ms).to_string());
    report.sentence = match (moves, span("p50"), span("p95"), span("gap")) {
        (0, ..) => "No pod has been moved.".into(),
        (_, Some(p50), Some(p95), gap) => {
            let gap = gap.map_or_else(|| "not known".into(), |gap| format!("{gap} at most"));
            format!("{moves} pods were moved: Ready again {p50} after the notice (median), {p95} (95th percentile); serving gap {gap}.")
        }
        _ => format!("{moves} pods were moved; none is Ready again yet."),
    };
    Ok(report)
}

/// How far the figures can be relied on.
///
/// # Errors
/// [`LedgerFault`] when Postgres refuses or does not answer.
pub async fn trust(connection: &mut PgConnection) -> Result<Report, LedgerFault> {
    let sql = "SELECT item, usd::numeric(24,6)::text AS usd, count::text FROM ledger.trust";
    let mut report = read(sqlx::query(sql).fetch_all(connection).await.map_err(LedgerFault::during("read the report"))?);
    report.sentence = "No figure has been matched to a bill yet: all are computed from recorded prices.".into();
    Ok(report)
}

/// A view's rows of these days, every value as text.
///
/// # Errors
/// [`LedgerFault`] when Postgres refuses or does not answer.
pub async fn export(connection: &mut PgConnection, view: View, days: &Days) -> Result<Report, LedgerFault> {
    let (name, day) = match view {
        View::Focus12 => ("focus_1_2", "left(\"ChargePeriodStart\", 10)::date"),
        View::CostDaily => ("cost_daily", "day"),
        View::SavingsDaily => ("savings_daily", "day"),
        View::UnitCostHourly => ("unit_cost_hourly", "day"),
    };
    let columns: Vec<String> = sqlx::query_scalar(
        "SELECT format('%I::text AS %I', attname, attname) FROM pg_attribute WHERE attrelid = ('ledger.' || $1)::regclass AND attnum > 0 ORDER BY attnum",
    )
    .bind(name)
    .fetch_all(&mut *connection)
    .await
    .map_err(LedgerFault::during("read the view's columns"))?;
    let sql = format!(
        "SELECT {} FROM (SELECT *, {day} AS of_day FROM ledger.{name}) v WHERE {}",
        columns.join(", "),
        IN_DAYS.replace("day ", "of_day ")
    );
    ask(connection, sql, days).await
}

async fn ask(connection: &mut PgConnection, sql: String, days: &Days) -> Result<Report, LedgerFault> {
    // Built from the constants above; what the user typed is bound.
    let query = sqlx::query(AssertSqlSafe(sql)).bind(&days.from).bind(&days.to);
    Ok(read(query.fetch_all(connection).await.map_err(LedgerFault::during("read the report"))?))
}

fn read(rows: Vec<PgRow>) -> Report {
    let columns = rows.first().map_or_else(Vec::new, |row| row.columns().iter().map(|column| column.name().to_owned()).collect());
    let text = |row: &PgRow| (0..row.columns().len()).map(|at| row.try_get::<Option<String>, _>(at).ok().flatten()).collect();
    Report { sentence: String::new(), columns, rows: rows.iter().map(text).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn total(spend: &str, b1: &str, net: &str, percent: Option<&str>, without: &str) -> Report {
        let columns = ["spend_usd", "b1_usd", "net_saving_usd", "net_saving_percent", "moves_usd", "spend_without_b1_usd", "basis"];
        let row = [Some(spend), Some(b1), Some(net), percent, Some("0.250000"), Some(without), Some("computed")];
        Report {
            sentence: String::new(),
            columns: columns.map(String::from).to_vec(),
            rows: vec![row.map(|v| v.map(String::from)).to_vec()],
        }
    }

    #[test]
    fn a_loss_is_called_a_loss() {
        assert_eq!(
            savings_sentence(&total("31.900000", "100.004000", "68.104000", Some("68.1"), "0.000000")),
            "Spot saved $68.10 net (68.1 %) against the on-demand you would have bought; moves cost $0.25."
        );
        assert_eq!(
            savings_sentence(&total("1.022800", "0.804800", "-0.218000", Some("-27.1"), "0.000000")),
            "Spot lost $0.218 net (27.1 %) against the on-demand you would have bought; moves cost $0.25."
        );
        assert!(savings_sentence(&total("5.000000", "0.000000", "-5.000000", None, "5.000000")).contains("not known for any of it"));
        assert!(savings_sentence(&total("5.000000", "9.000000", "4.000000", Some("44.4"), "1.500000")).contains("For $1.50 of spend"));
    }
}
