//! How often capacity is taken back, how fast work recovers, and how far figures can be relied on.
//!
//! Decides: the sentences. Does not: estimate rates (the views do, with their intervals).

use sqlx::{AssertSqlSafe, PgConnection, Row};

use super::{Days, IN_DAYS, Only, Report, ask, condition, one_of, with_day_of_knowledge};
use crate::ledger::store::LedgerFault;

/// How machines are put together in the report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum ReliabilityBy {
    /// Zone, type and market: what EC2 takes back together.
    #[default]
    Pool,
    /// Region.
    Region,
    /// Availability zone id.
    Zone,
    /// EC2 instance type.
    InstanceType,
    /// Spot, on-demand or reserved.
    CapacityType,
}

impl ReliabilityBy {
    fn columns(self) -> &'static [&'static str] {
        match self {
            ReliabilityBy::Pool => &["region", "zone", "instance_type", "capacity_type"],
            ReliabilityBy::Region => &["region"],
            ReliabilityBy::Zone => &["region", "zone"],
            ReliabilityBy::InstanceType => &["instance_type"],
            ReliabilityBy::CapacityType => &["capacity_type"],
        }
    }
}

/// Only machines with this value, as `--only region=us-east-1`. Several of one key are one or the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReliabilityOnly {
    column: &'static str,
    value: String,
}

impl std::str::FromStr for ReliabilityOnly {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || {
            "expected region, zone, instance-type or capacity-type and its value, as in region=us-east-1 or capacity-type=spot".to_owned()
        };
        let (key, value) = text.split_once('=').ok_or_else(expected)?;
        let column = match key.replace('_', "-").as_str() {
            "region" => "region",
            "zone" => "zone",
            "instance-type" => "instance_type",
            "capacity-type" => "capacity_type",
            _ => return Err(expected()),
        };
        Ok(ReliabilityOnly { column, value: value.to_owned() })
    }
}

/// The first and the day after the last day, as points in time: `$1` and `$2`.
const SPAN: &str = "(coalesce($1::date, (now() AT TIME ZONE 'UTC')::date - 30)::timestamp AT TIME ZONE 'UTC'),
                    (coalesce($2::date, (now() AT TIME ZONE 'UTC')::date + 1)::timestamp AT TIME ZONE 'UTC')";

/// Interruptions in these days, and how fast work recovered from the moves of these days.
///
/// # Errors
/// [`LedgerFault`] when Postgres refuses or does not answer.
pub async fn reliability(
    connection: &mut PgConnection,
    days: &Days,
    by: &[ReliabilityBy],
    only: &[ReliabilityOnly],
) -> Result<Report, LedgerFault> {
    let mut columns: Vec<&str> = Vec::new();
    for column in by.iter().flat_map(|by| by.columns()) {
        if !columns.contains(column) {
            columns.push(column);
        }
    }
    let key = if columns.is_empty() { ReliabilityBy::default().columns().join(", ") } else { columns.join(", ") };
    let wanted = one_of(only.iter().map(|only| (only.column, only.value.as_str())));
    let sql = format!(
        "WITH e AS (
             SELECT {key}, sum(launches) AS launches, sum(ran_ms) AS ran_ms, sum(interruptions) AS interruptions
             FROM ledger.exposure_of({SPAN}) WHERE true{wanted} GROUP BY {key}
         )
         SELECT {key}, e.launches::text AS machines, r.instance_hours::text, e.interruptions::text, r.per_launch::text AS per_machine,
                r.per_launch_low::text || '-' || r.per_launch_high AS per_machine_95, r.per_1000_hours::text,
                r.per_1000_hours_low::text || '-' || r.per_1000_hours_high AS per_1000_hours_95
         FROM e CROSS JOIN LATERAL ledger.interruption_rates(e.launches, e.ran_ms, e.interruptions) r ORDER BY {key}"
    );
    let mut report = ask(connection, sql, days).await?;
    // A move belongs to the machine that was left.
    let moves = format!(
        "SELECT count(*) AS moves, count(recovery_ms) AS recovered, count(gap_ms) AS gaps, (percentile_disc(0.5) WITHIN GROUP (ORDER BY recovery_ms))::bigint AS p50,
                (percentile_disc(0.95) WITHIN GROUP (ORDER BY recovery_ms))::bigint AS p95, max(gap_ms) AS gap
         FROM ledger.migration_timing m
         WHERE noticed_at >= coalesce($1::date, (now() AT TIME ZONE 'UTC')::date - 30)::timestamp AT TIME ZONE 'UTC'
           AND noticed_at < coalesce($2::date, (now() AT TIME ZONE 'UTC')::date + 1)::timestamp AT TIME ZONE 'UTC'
           AND {}",
        if wanted.is_empty() {
            "true".to_owned()
        } else {
            format!("EXISTS (SELECT FROM ledger.capacity_interval i WHERE i.claim = m.from_claim{wanted})")
        }
    );
    let moved = sqlx::query(AssertSqlSafe(moves)).bind(&days.from).bind(&days.to).fetch_one(&mut *connection).await;
    let moved = moved.map_err(LedgerFault::during("read the report"))?;
    let ms = |name: &str| moved.try_get::<Option<i64>, _>(name).ok().flatten();
    let count = |name: &str| moved.try_get::<i64, _>(name).unwrap_or_default();
    let moves = count("moves");
    // Not of all moves it is known: one may not be over, or its end was never seen.
    let of_them = |known: i64| if known == moves { String::new() } else { format!(", known of {known} of them") };
    let span = |ms: Option<i64>| ms.map(|ms| crate::core::units::time::Millis(ms).to_string());
    let recovery = match (moves, span(ms("p50")), span(ms("p95")), span(ms("gap"))) {
        (0, ..) => "no pod was moved.".into(),
        (moves, Some(p50), Some(p95), gap) => {
            let gap = gap.map_or_else(|| "not known".into(), |gap| format!("{gap} at most{}", of_them(count("gaps"))));
            let recovered = of_them(count("recovered"));
            format!(
                "{}: Ready again {p50} after the notice (median), {p95} (95th percentile){recovered}; serving gap {gap}.",
                pods_moved(moves)
            )
        }
        (moves, ..) => format!("{}; none is Ready again yet.", pods_moved(moves)),
    };
    report.sentence = format!("{}; {recovery}", taken_back(&report));
    with_day_of_knowledge(connection, report).await
}

fn pods_moved(moves: i64) -> String {
    if moves == 1 { "1 pod was moved".to_owned() } else { format!("{moves} pods were moved") }
}

/// Over all rows: what EC2 took back.
fn taken_back(report: &Report) -> String {
    let sum = |name: &str| -> i64 { report.rows.iter().filter_map(|row| report.figure::<i64>(row, name)).sum() };
    let (machines, taken) = (sum("machines"), sum("interruptions"));
    if machines == 0 {
        return "No machine ran in these days".into();
    }
    format!("EC2 took back {taken} of {machines} machines ({:.1} %)", 100.0 * taken as f64 / machines as f64)
}

/// The statement behind [`trust`]: `$1` is the first day and `$2` the day after the last; NULL for the last 30 days.
pub const TRUST_SQL: &str = "SELECT item, usd::numeric(24,6)::text AS usd, share_percent::text AS percent, count::text
               FROM ledger.trust_of(coalesce($1::date, (now() AT TIME ZONE 'UTC')::date - 30), coalesce($2::date, (now() AT TIME ZONE 'UTC')::date + 1))";

/// How far the figures of these days can be relied on. With filters it is about the spend that they leave: facts that are missing belong to nobody.
///
/// # Errors
/// [`LedgerFault`] when Postgres refuses or does not answer.
pub async fn trust(connection: &mut PgConnection, days: &Days, only: &[Only]) -> Result<Report, LedgerFault> {
    let sql = if only.is_empty() { TRUST_SQL.to_owned() } else { trust_of_part(only) };
    let mut report = ask(connection, sql, days).await?;
    report.sentence = trust_sentence(&report);
    with_day_of_knowledge(connection, report).await
}

/// The items of `trust_of` that are about spend, of a part of it: views/trust.sql says them of all.
fn trust_of_part(only: &[Only]) -> String {
    format!(
        "WITH spend AS (
             SELECT sum(cost_usd) AS total, sum(bill_usd) FILTER (WHERE line <> 'overhead') AS bill, sum(feed_usd) AS feed,
                    sum(cost_usd) FILTER (WHERE line = 'overhead') AS entered,
                    sum(cost_usd - bill_usd - feed_usd) FILTER (WHERE NOT running AND line <> 'overhead') AS estimate,
                    sum(cost_usd) FILTER (WHERE running) AS running, sum(cost_usd) FILTER (WHERE team IS NULL) AS untagged,
                    sum(without_b0_usd) AS without_b0, sum(without_b1_usd) AS without_b1
             FROM ledger.share_daily WHERE {IN_DAYS}{}
         )
         SELECT item, coalesce(usd, 0)::numeric(24,6)::text AS usd, round(100 * coalesce(usd, 0) / nullif(total, 0), 1)::text AS percent, NULL::text AS count
         FROM spend CROSS JOIN LATERAL (VALUES (1, 'spend resting on the bill', bill), (2, 'spend resting on the spot data feed', feed),
             (3, 'spend entered by hand or by others'' files', entered), (4, 'spend computed from recorded prices', estimate),
             (5, 'spend of machines still running', running), (6, 'spend without a team', untagged), (7, 'spend, no on-demand price known (B0)', without_b0),
             (8, 'spend, no on-demand price at home known (B1)', without_b1)) AS s(n, item, usd) ORDER BY n",
        condition(only)
    )
}

/// How much rests on what AWS said.
fn trust_sentence(report: &Report) -> String {
    let percent = |item: &str| {
        report.rows.iter().find(|row| row.first().and_then(|v| v.as_deref()) == Some(item)).and_then(|row| row.get(2)?.clone())
    };
    match (percent("spend resting on the bill"), percent("spend resting on the spot data feed")) {
        (None, None) => "No spend is recorded in these days.".into(),
        (bill, feed) => {
            let (bill, feed) = (bill.unwrap_or_else(|| "0.0".into()), feed.unwrap_or_else(|| "0.0".into()));
            let entered = percent("spend entered by hand or by others' files").unwrap_or_else(|| "0.0".into());
            let entered =
                if entered == "0.0" { String::new() } else { format!(" {entered} % was entered by hand or came from others' files;") };
            if bill == "0.0" && feed == "0.0" {
                return format!(
                    "0.0 % of spend rests on AWS's bill: nothing has been matched to one yet;{entered} the rest is computed from recorded prices."
                );
            }
            format!(
                "{bill} % of spend rests on AWS's bill and {feed} % on the spot data feed;{entered} the rest is computed from recorded prices."
            )
        }
    }
}
