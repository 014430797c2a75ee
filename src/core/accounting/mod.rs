//! What machines cost and who pays, by AWS's billing rules, as pure functions of recorded facts.
//!
//! - [`billing`]: an instance's paid hours and their cost.
//! - [`allocation`]: that cost split over the pods that ran there and the named rest.
//!
//! Decides: every rule that turns facts into money. `src/ledger/views.sql` states the same in SQL; a test compares both.
//! Does not: read or write anything.

pub mod allocation;
pub mod billing;
