//! The published batch policies, one module per source, and the list of all policies by name.
//!
//! Decides: what each policy does as its source says; where a source leaves something open, the doc comment of the policy says
//! what was taken. Does not: see the future (except the oracles, which say so).

pub mod cant_be_late;
pub mod cluster;
pub mod skynomad;
pub mod skypilot;
pub mod uniform;
