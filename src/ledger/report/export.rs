//! A view's rows as they are, for other programs.
//!
//! Decides: which views, and how their days are found. Does not: change a value.

use sqlx::PgConnection;

use super::{Days, IN_DAYS, Report, ask};
use crate::ledger::store::LedgerFault;

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
    let columns = sqlx::query_scalar!(
        r#"SELECT format('%I::text AS %I', attname, attname) AS "column!" FROM pg_attribute
           WHERE attrelid = ('ledger.' || $1::text)::regclass AND attnum > 0 ORDER BY attnum"#,
        name
    )
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
