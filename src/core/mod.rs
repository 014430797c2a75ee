//! Every rule of lowtide, as pure functions of policy, snapshot and time.
//!
//! Decides: what to buy, where a pod goes, when work moves, when a machine ends, and why.
//! Does not: read a clock, do I/O, or draw a random number. Time and chance are arguments.
//!
//! A map of the modules, bottom up; imports only point down (`tests/layout.rs`):
//!
//! - [`units`]: names, money, time, amounts.
//! - [`market`]: what can be bought, at what price, and what is known about it.
//! - [`workload`]: pods, what they need, who owns them, how they can be moved.
//! - [`fleet`]: node pools and classes, claims, nodes, instances, notices.
//! - [`record`]: what the ledger receives: decisions with their reasons, and facts.
//! - [`accounting`]: what machines cost and who pays, by AWS's billing rules.
//! - [`snapshot`]: what one pass may look at. [`invariant`]: what must always hold.
//! - [`placement`]: which offers to buy for which pods, and why every other offer was refused.
//! - [`policy`]: which capacity to hold for a deadline, or for a service.
//! - [`action`]: what a pass can do to the world.
//! - [`plan`]: one pass, from snapshot to steps: the only place where lowtide decides.

pub mod accounting;
pub mod action;
pub mod fleet;
pub mod invariant;
pub mod market;
pub mod placement;
pub mod plan;
pub mod policy;
pub mod record;
pub mod snapshot;
pub mod units;
pub mod workload;
