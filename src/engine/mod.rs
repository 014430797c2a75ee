//! The ports, and the driver that observes, records and executes what the core planned.
//!
//! - [`ports`]: what a world must be able to do.
//! - `driver`: one pass after the other; never waits for an action.
//! - `execute`: carries a step out: records first, then actions in order.
//! - `observe`: the loops that keep prices, instances and notices fresh.
//! - `deliver`: from the outbox to the ledger.
//! - `state`: what the operator holds in memory, all of which it can lose.

pub mod ports;

#[cfg(feature = "live")]
pub mod deliver;
#[cfg(feature = "live")]
pub mod driver;
#[cfg(feature = "live")]
mod execute;
#[cfg(feature = "live")]
pub mod health;
#[cfg(feature = "live")]
mod observe;
#[cfg(feature = "live")]
pub mod state;

#[cfg(all(test, feature = "live"))]
mod tests;
