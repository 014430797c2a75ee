//! Which capacity to hold: for one deadline job ([`batch`]) and for a service of identical replicas ([`serving`]).
//!
//! Decides: from what was observed about each spot capacity,
//! its price now and the state of the work, what to run next.
//! Does not: know where its inputs come from. The operator and the backtests call the same functions.

pub mod batch;
pub mod serving;
