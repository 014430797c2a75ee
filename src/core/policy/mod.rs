//! Which capacity to hold: for one deadline job ([`batch`]), for a service of identical replicas with spares or a goal ([`serving`]), and for
//! one without ([`spreading`]); when work leaves a machine that EC2 will work on ([`maintenance`]); and how many machines may be left by choice
//! ([`disruption`]).
//!
//! Decides: from what was observed about each spot capacity,
//! its price now and the state of the work, what to run next.
//! Does not: know where its inputs come from. The operator and the backtests call the same functions.

pub mod batch;
pub mod disruption;
pub mod maintenance;
pub mod serving;
pub mod spreading;
