//! Every rule of lowtide, as pure functions of policy, snapshot and time.
//!
//! Decides: what to buy, where a pod goes, when work moves, when a machine ends, and why.
//! Does not: read a clock, do I/O, or draw a random number. Time and chance are arguments.

pub mod accounting;
pub mod action;
pub mod catalog;
pub mod daemonsets;
pub mod decision;
pub mod egress;
pub mod ids;
pub mod invariant;
pub mod market;
pub mod market_memory;
pub mod market_snapshot;
pub mod money;
pub mod need;
pub mod pace;
pub mod placement;
pub mod placement_scores;
pub mod plan;
pub mod policy;
pub mod price_changes;
pub mod quota;
pub mod record;
pub mod reservation;
pub mod service_memory;
pub mod shared;
pub mod sharing;
pub mod time;
pub mod world;
