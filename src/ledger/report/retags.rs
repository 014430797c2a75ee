//! Corrections of the labels of past days: which, by whom, when and why.
//!
//! Decides: the columns and the sentence.

use sqlx::PgConnection;

use super::{Days, Report, ask, with_day_of_knowledge};
use crate::ledger::store::LedgerFault;

/// Corrections of labels of these days (all of them without either end), the newest first.
///
/// # Errors
/// [`LedgerFault`] when Postgres refuses or does not answer.
pub async fn retags(connection: &mut PgConnection, days: &Days) -> Result<Report, LedgerFault> {
    let sql = "SELECT workload_namespace || '/' || workload_name AS workload, from_day::text, last_day::text, labels::text, state, reason, taken_by,
                      to_char(taken_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS') AS taken_at, withdraws::text, id::text AS correction
               FROM ledger.retags WHERE ($1::date IS NULL OR last_day >= $1::date) AND ($2::date IS NULL OR from_day < $2::date) ORDER BY ledger.retags.taken_at DESC";
    let mut report = ask(connection, sql.to_owned(), days).await?;
    let hold = report.rows.iter().filter(|row| row.get(4).and_then(Option::as_deref) == Some("holds")).count();
    report.sentence = match report.rows.len() {
        0 => "No labels were corrected.".to_owned(),
        _ if hold == 1 => "1 label correction holds.".to_owned(),
        _ => format!("{hold} label corrections hold."),
    };
    with_day_of_knowledge(connection, report).await
}
