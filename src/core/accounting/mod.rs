//! What machines cost and who pays, by AWS's billing rules, as pure functions of recorded facts.
//!
//! - [`billing`]: an instance's paid hours and their cost.
//! - [`allocation`]: that cost split over the pods that ran there and the named rest.
//! - [`bill`]: what AWS said those hours cost.
//! - [`statement`]: both together, share by share.
//! - [`posting`]: the rows that bring the ledger from what is posted to the statement.
//! - [`owners`]: who pays for a share, as labels stood at the time.
//! - [`anomaly`], [`forecast`], [`pace`]: whether a cost is ordinary, what is to be expected, whether a budget will hold.
//! - [`ordinary`]: how far a value of any series is from what is ordinary there.
//! - [`unit_cost`]: what a request or a token cost.
//! - [`gpu_use`]: how much of its GPUs a pod used, and what that part cost.
//! - [`recommendation`]: whether its GPUs could be fewer, smaller or shared.
//! - [`variance`]: why a month cost other than another.
//!
//! Decides: every rule that turns facts into money. `src/ledger/views` states the billing and allocation rules in SQL as well; a test
//! compares both.
//! Does not: read or write anything.

pub mod allocation;
pub mod anomaly;
pub mod bill;
pub mod billing;
pub mod forecast;
pub mod gpu_use;
pub mod ordinary;
pub mod owners;
pub mod pace;
pub mod posting;
pub mod recommendation;
pub mod statement;
pub mod unit_cost;
pub mod variance;
