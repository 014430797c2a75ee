//! How often capacity is taken back, how fast work recovers, and how far figures can be relied on.
//!
//! Decides: the sentences. Does not: estimate rates (the views do, with their intervals).

use sqlx::{PgConnection, Row};

use super::{Report, read};
use crate::ledger::store::LedgerFault;

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
    let sql = "SELECT item, usd::numeric(24,6)::text AS usd, share_percent::text AS percent, count::text FROM ledger.trust";
    let mut report = read(sqlx::query(sql).fetch_all(connection).await.map_err(LedgerFault::during("read the report"))?);
    report.sentence = trust_sentence(&report);
    Ok(report)
}

/// How much rests on what AWS said.
fn trust_sentence(report: &Report) -> String {
    let percent = |item: &str| {
        report.rows.iter().find(|row| row.first().and_then(|v| v.as_deref()) == Some(item)).and_then(|row| row.get(2)?.clone())
    };
    match (percent("spend resting on the bill"), percent("spend resting on the spot data feed")) {
        (None, None) => "No spend is recorded yet.".into(),
        (bill, feed) => {
            let (bill, feed) = (bill.unwrap_or_else(|| "0.0".into()), feed.unwrap_or_else(|| "0.0".into()));
            if bill == "0.0" && feed == "0.0" {
                return "No figure has been matched to a bill yet: all are computed from recorded prices.".into();
            }
            format!("{bill} % of spend rests on AWS's bill and {feed} % on the spot data feed; the rest is computed from recorded prices.")
        }
    }
}
