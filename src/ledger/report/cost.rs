//! What was paid, by anything.
//!
//! Decides: the columns. Does not: compute a cost (the views do).

use sqlx::PgConnection;

use super::{By, Days, IN_DAYS, Report, ask, cents};
use crate::ledger::store::LedgerFault;

/// What was paid, by anything.
///
/// # Errors
/// [`LedgerFault`] when Postgres refuses or does not answer.
pub async fn cost(connection: &mut PgConnection, days: &Days, by: By) -> Result<Report, LedgerFault> {
    let (key, heading) = (by.expression(), by.heading());
    let sql = format!(
        "SELECT CASE WHEN grouping({key}) = 1 THEN 'total' ELSE {key} END AS {heading},
                round(sum(gpu_ms) / 3600000.0, 3)::text AS gpu_hours, sum(cost_usd)::numeric(24,6)::text AS cost_usd, sum(b0_usd)::numeric(24,6)::text AS b0_usd,
                sum(true_up_usd)::numeric(24,6)::text AS true_up_usd, ledger.basis_of(bool_or(running), sum(cost_usd), sum(feed_usd), sum(bill_usd)) AS basis
         FROM ledger.share_daily WHERE {IN_DAYS}
         GROUP BY GROUPING SETS (({key}), ()) HAVING count(*) > 0 ORDER BY grouping({key}), sum(cost_usd) DESC, 1"
    );
    let mut report = ask(connection, sql, days).await?;
    let total = report.rows.last().and_then(|row| row.get(2)).and_then(|v| v.as_deref()).and_then(|v| v.parse().ok());
    report.sentence = total.map_or_else(|| "No spend is recorded for these days.".into(), |usd| format!("Machines cost ${}.", cents(usd)));
    Ok(report)
}
