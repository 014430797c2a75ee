//! The ledger's money in short, for `/metrics`.
//!
//! Decides: which figures are read. Does not: read them often: the operator does so every five minutes.

use sqlx::{PgConnection, Row};

use super::{anomalies, budget};
use crate::core::units::money::MicroUsd;
use crate::core::units::time::{Millis, Timestamp};
use crate::ledger::report::Month;
use crate::ledger::store::LedgerFault;
use crate::metrics::finance::{BudgetFigures, FinanceFigures};

/// Whether this login may read what the figures are made of.
///
/// # Errors
/// [`LedgerFault`] when Postgres refuses or does not answer.
pub async fn may_read(connection: &mut PgConnection) -> Result<bool, LedgerFault> {
    let asked = sqlx::query_scalar("SELECT pg_has_role(current_user, 'lowtide_reader', 'member')");
    asked.fetch_one(connection).await.map_err(LedgerFault::during("ask whether this role may read"))
}

/// The figures at `now`.
///
/// # Errors
/// [`LedgerFault`] when Postgres refuses or does not answer.
pub async fn read(connection: &mut PgConnection, now: Timestamp) -> Result<FinanceFigures, LedgerFault> {
    let mut figures = FinanceFigures::default();
    let month_text: String = now.to_date().chars().take(7).collect();
    let sql = "SELECT coalesce(team, '(untagged)') AS team, (sum(spend_usd) * 1000000)::bigint AS spend, (sum(net_saving_b1_usd) * 1000000)::bigint AS saving
               FROM ledger.savings_daily WHERE day >= ($1 || '-01')::date AND day <= $2::text::date GROUP BY 1";
    let rows = sqlx::query(sql).bind(&month_text).bind(now.to_date()).fetch_all(&mut *connection).await;
    for row in rows.map_err(LedgerFault::during("read the month by team"))? {
        let read =
            || -> Result<(String, i64, i64), sqlx::Error> { Ok((row.try_get("team")?, row.try_get("spend")?, row.try_get("saving")?)) };
        let (team, spend, saving) = read().map_err(LedgerFault::during("read the month of a team"))?;
        figures.months.insert(team, (MicroUsd(spend), MicroUsd(saving)));
    }
    if let Ok(month) = month_text.parse::<Month>() {
        for standing in budget::standings(connection, &month, now).await? {
            let budget = BudgetFigures {
                plan: standing.plan,
                spent: standing.spent,
                expected: standing.heading.expected,
                exhausted_at: standing.heading.exhausted_at,
            };
            figures.budgets.insert(standing.name, budget);
        }
    }
    for found in anomalies::find(connection, now, 1, &[]).await? {
        *figures.anomalies.entry((found.team, found.service, found.cause.as_str().to_owned())).or_default() += 1;
    }
    let day = Millis::from_hours(24);
    for (window, from, to) in [("day", now - day, now), ("week-before", now - Millis(8 * day.0), now - day)] {
        // An hour of which nothing is known is left out; one in which nothing was asked for costs as well.
        let sql = "SELECT unit, (sum(cost_usd) / sum(units) * 1000000000)::bigint AS nano
                   FROM ledger.unit_cost($1::text::timestamptz, $2::text::timestamptz) WHERE units IS NOT NULL GROUP BY 1 HAVING sum(units) > 0";
        let rows = sqlx::query(sql).bind(from.to_rfc3339()).bind(to.to_rfc3339()).fetch_all(&mut *connection).await;
        for row in rows.map_err(LedgerFault::during("read unit costs"))? {
            let read = || -> Result<(String, i64), sqlx::Error> { Ok((row.try_get("unit")?, row.try_get("nano")?)) };
            let (unit, nano) = read().map_err(LedgerFault::during("read a unit cost"))?;
            figures.unit_costs.insert((unit, window.to_owned()), nano);
        }
    }
    // Hours are posted with some delay, and GPUs are read hour by hour.
    let sql = "SELECT coalesce(team, '(untagged)') AS team, (sum(active_usd) * 1000000)::bigint AS active, (sum(idle_usd) * 1000000)::bigint AS idle,
                      (sum(unmeasured_usd) * 1000000)::bigint AS unmeasured
               FROM ledger.gpu_use_of($1::text::timestamptz, $2::text::timestamptz) GROUP BY 1";
    let rows = sqlx::query(sql).bind((now - day).to_rfc3339()).bind(now.to_rfc3339()).fetch_all(&mut *connection).await;
    for row in rows.map_err(LedgerFault::during("read the use of GPUs"))? {
        let team: String = row.try_get("team").map_err(LedgerFault::during("read the use of GPUs of a team"))?;
        for part in ["active", "idle", "unmeasured"] {
            let usd = row.try_get(part).map_err(LedgerFault::during("read the use of GPUs of a team"))?;
            figures.gpu_use.insert((team.clone(), part), MicroUsd(usd));
        }
    }
    Ok(figures)
}
