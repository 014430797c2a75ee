//! The policies on recorded spot markets: published ones, ours, and the bounds no policy can beat.
//!
//! Decides: what each policy would have paid on a recorded market, and how sure we are of the differences.
//! Does not: tune anything, or let a policy see the future. A policy gets a [`market::Past`], which has no method that answers
//! about a later tick; only the two omniscient references are built from a whole [`market::Market`].

pub mod bill;
pub mod chart;
pub mod job;
pub mod load;
pub mod market;
pub mod omniscient;
pub mod ours;
pub mod policies;
pub mod report;
pub mod run;
pub mod serve;
pub mod simulate;
pub mod stats;
