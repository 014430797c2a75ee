//! What was paid, by anything.
//!
//! Decides: the columns. Does not: compute a cost (the views do).

use sqlx::PgConnection;

use super::{By, Days, IN_DAYS, Report, ask, dollars};
use crate::core::units::money::MicroUsd;
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
                sum(true_up_usd)::numeric(24,6)::text AS true_up_usd, ledger.basis_of(bool_or(running), sum(cost_usd), sum(feed_usd), coalesce(sum(bill_usd) FILTER (WHERE line <> 'overhead'), 0),
                    coalesce(sum(cost_usd) FILTER (WHERE line = 'overhead'), 0)) AS basis,
                coalesce(sum(cost_usd) FILTER (WHERE NOT ledger.is_use(line)), 0)::numeric(24,6)::text AS beside_usd
         FROM ledger.share_daily WHERE {IN_DAYS}
         GROUP BY GROUPING SETS (({key}), ()) HAVING count(*) > 0 ORDER BY grouping({key}), sum(cost_usd) DESC, 1"
    );
    let mut report = ask(connection, sql, days).await?;
    report.sentence = sentence(&report);
    Ok(report)
}

/// What machines cost, and what stands beside them.
fn sentence(report: &Report) -> String {
    let last = |name: &str| {
        let at = report.columns.iter().position(|column| column == name)?;
        report.rows.last()?.get(at)?.as_deref()?.parse::<MicroUsd>().ok()
    };
    let Some(total) = last("cost_usd") else { return "No spend is recorded for these days.".into() };
    let beside = last("beside_usd").unwrap_or_default();
    let machines = dollars(total - beside);
    if beside == MicroUsd(0) {
        return format!("Machines cost {machines}.");
    }
    format!(
        "Machines cost {machines}; with what stands beside them (other costs, credits, taxes and the like: {}) it is {}.",
        dollars(beside),
        dollars(total)
    )
}
