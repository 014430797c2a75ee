//! What was paid, by anything.
//!
//! Decides: the columns. Does not: compute a cost (the views do).

use sqlx::PgConnection;

use super::{Days, IN_DAYS, Keys, Only, Report, ask, condition, dollars, with_day_of_knowledge};
use crate::core::units::money::MicroUsd;
use crate::ledger::store::LedgerFault;

/// What was paid, by anything.
///
/// # Errors
/// [`LedgerFault`] when Postgres refuses or does not answer.
pub async fn cost(connection: &mut PgConnection, days: &Days, by: impl Into<Keys>, only: &[Only]) -> Result<Report, LedgerFault> {
    let keys = by.into();
    // A row for each value of the keys, and one of totals: marked, since a key may be empty.
    let (named, names, columns, condition) = (keys.named(), keys.names(), keys.columns(), condition(only));
    let sql = format!(
        "WITH a AS (
             SELECT {named}, gpu_ms, cost_usd, b0_usd, true_up_usd, running, feed_usd, CASE WHEN line <> 'overhead' THEN bill_usd ELSE 0 END AS bill_usd,
                    CASE WHEN line = 'overhead' THEN cost_usd ELSE 0 END AS entered_usd, CASE WHEN ledger.is_use(line) THEN 0 ELSE cost_usd END AS beside
             FROM ledger.share_daily WHERE {IN_DAYS}{condition}
         ), s AS (
             SELECT {names}, grouping(key0) AS is_total, sum(gpu_ms) AS gpu_ms, sum(cost_usd) AS cost, sum(b0_usd) AS b0, sum(true_up_usd) AS true_up,
                    ledger.basis_of(bool_or(running), sum(cost_usd), sum(feed_usd), sum(bill_usd), sum(entered_usd)) AS basis, sum(beside) AS beside
             FROM a GROUP BY GROUPING SETS (({names}), ()) HAVING count(*) > 0
         )
         SELECT {columns}, round(gpu_ms / 3600000.0, 3)::text AS gpu_hours, cost::numeric(24,6)::text AS cost_usd, b0::numeric(24,6)::text AS b0_usd,
                true_up::numeric(24,6)::text AS true_up_usd, basis, beside::numeric(24,6)::text AS beside_usd
         FROM s ORDER BY is_total, cost DESC, {names}"
    );
    let mut report = ask(connection, sql, days).await?;
    report.sentence = sentence(&report);
    with_day_of_knowledge(connection, report).await
}

/// What machines cost, and what stands beside them.
fn sentence(report: &Report) -> String {
    let Some(total) = report.last::<MicroUsd>("cost_usd") else { return "No spend is recorded for these days.".into() };
    let beside = report.last("beside_usd").unwrap_or_default();
    let machines = dollars(total - beside);
    if beside == MicroUsd(0) {
        return format!("Machines cost {machines}.");
    }
    format!("Machines cost {machines}; with other costs, credits, taxes and the like ({}) it is {}.", dollars(beside), dollars(total))
}
