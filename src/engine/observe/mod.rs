//! Observe: the loops that keep what lowtide knows of the world outside the cluster fresh, one region each, so that a slow region delays no other.
//!
//! Decides: nothing; what cannot be read keeps its last value.
//!
//! - [`market`]: prices, types and offerings.
//! - `instances`: our instances and their notices.
//! - `scheduled`: what EC2 has scheduled for instances.
//! - `due`: regions that are looked at before their turn.
//! - `account`: quotas, reservations, placement scores.
//! - `identified`: which Nodes are our machines, according to EC2.

mod account;
pub(super) mod due;
mod identified;
mod instances;
pub mod market;
mod scheduled;

pub(super) use self::identified::Identified;
