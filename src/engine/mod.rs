//! The driver that observes, records and executes what the core planned.
//!
//! The four steps of a pass have a type each: what was observed is a [`Snapshot`], [`plan`] makes a [`Step`] of it, `record` makes that a
//! `Step<Recorded>`, and `execute` takes nothing else.
//!
//! - `driver`: one pass after the other, and the loops beside them; never waits for an action.
//! - `pass`: one pass: observe, plan, hand out the steps; `settled`: when it can be skipped.
//! - `observe`: the loops that keep what EC2 says fresh.
//! - `record`: a step's records, durable before anything is done; `execute`: its actions.
//! - `deliver`: from the outbox to the ledger.
//! - `remember`: the market memory and stored prices.
//! - `counting`: what is counted for `/metrics`; `exported`: its page.
//! - `health` (feature `live`): probes, and the page served.
//! - `links`: pods that name claims which do not know them.
//! - `state`: what the operator holds in memory, all of which it can lose.
//! - `wall_clock`: the clock of the real world.
//!
//! [`Snapshot`]: crate::core::snapshot::Snapshot
//! [`plan`]: crate::core::plan::plan
//! [`Step`]: crate::core::action::Step

mod counting;
pub mod deliver;
pub mod driver;
mod execute;
pub mod exported;
#[cfg(feature = "live")]
pub mod health;
mod links;
pub mod observe;
mod pass;
mod record;
mod remember;
pub mod settled;
pub mod state;
pub mod wall_clock;

#[cfg(test)]
mod tests;
