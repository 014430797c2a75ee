//! Where decisions and facts end up.

use std::future::Future;

use crate::core::market::Quote;
use crate::core::record::LedgerRecord;

/// The ledger could not take records now; they stay in the outbox.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the ledger did not take the records: {message}; they wait in the outbox")]
pub struct LedgerUnavailable {
    /// What Postgres or the network said.
    pub message: String,
}

/// Where decisions and facts end up.
pub trait Ledger: Send + Sync + 'static {
    /// Writes records; writing one twice is harmless. All or none.
    fn write(&self, records: &[LedgerRecord]) -> impl Future<Output = Result<(), LedgerUnavailable>> + Send;
    /// Writes prices as they were seen; writing one twice is harmless. All or none.
    fn write_prices(&self, quotes: &[Quote]) -> impl Future<Output = Result<(), LedgerUnavailable>> + Send;
}
