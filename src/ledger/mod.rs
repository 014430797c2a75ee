//! The savings ledger: every decision, every cent, and what it would have cost otherwise, in Postgres.
//!
//! Decides: how facts are kept (append-only, hashed, sealed) and what follows from them (cost, savings, reliability).
//! Does not: decide anything about machines. The operator only needs [`PgLedger`]; people use the views and `lowtide ledger`.

pub mod explain;
pub mod import;
pub mod migrate;
pub mod poster;
pub mod reconcile;
pub mod report;
mod retry;
mod rows;
pub mod seal;
mod store;
pub mod text;

pub use migrate::{MigrateFault, connect, migrate};
pub use store::{LedgerFault, PgLedger};
