//! The driver that observes, records and executes what the core planned.
//!
//! - `driver`: one pass after the other; never waits for an action.
//! - `execute`: executes a step: records first, then actions in order.
//! - `market`: the loops that keep offers fresh; `account`: quotas, reservations and placement scores.
//! - `observe`: the loops that keep instances and notices fresh.
//! - `remember`: the market memory and stored prices.
//! - `deliver`: from the outbox to the ledger.
//! - `counting`: what is counted for `/metrics`; `exported`: its page.
//! - `health` (feature `live`): probes, and the page served.
//! - `links`: pods that name claims which do not know them.
//! - `state`: what the operator holds in memory, all of which it can lose.
//! - `wall_clock`: the clock of the real world.

mod account;
mod counting;
pub mod deliver;
pub mod driver;
mod execute;
pub mod exported;
#[cfg(feature = "live")]
pub mod health;
mod identified;
mod links;
pub mod market;
mod observe;
mod remember;
pub mod settled;
pub mod state;
pub mod wall_clock;

#[cfg(test)]
mod tests;
