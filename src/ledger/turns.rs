//! Who waits for whom in Postgres.
//!
//! Decides: the numbers of the advisory locks that transactions take turns by. Those that end in
//! 801, 802 and 805 are taken in SQL: by `ledger.ensure_month`, by migrations and by `ledger.rebuild_rollups`.

use sqlx::PgConnection;

use super::store::LedgerFault;

/// What is done by one transaction at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i64)]
pub(super) enum Turn {
    /// Sealing.
    Seal = 7_239_462_803,
    /// Posting.
    Post = 7_239_462_804,
    /// Importing bills, costs and usage: two imports would give one revision twice.
    Import = 7_239_462_806,
}

/// Waits until nobody else does this; holds until the transaction ends.
pub(super) async fn take(connection: &mut PgConnection, turn: Turn) -> Result<(), LedgerFault> {
    let query = sqlx::query!("SELECT pg_advisory_xact_lock($1)", turn as i64);
    query.fetch_one(connection).await.map_err(LedgerFault::during("take turns"))?;
    Ok(())
}
