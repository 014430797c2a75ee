//! The four ports between the core and a world: [`Cloud`], [`Cluster`], [`Ledger`], [`Clock`].
//!
//! Decides: what a world must be able to do, and how it says that it could not.
//! Does not: do any of it. Live adapters are `aws`, `kube` and `ledger`; simulated ones implement the same traits.

mod clock;
mod cloud;
mod cluster;
pub mod endpoint;
mod ledger;
pub mod percent_encoding;
pub mod urgency;

pub use clock::Clock;
pub use cloud::{Cloud, CloudError, MalformedMessage, QueueMessage};
pub use cluster::{Applied, Cluster, ClusterError, ClusterView};
pub use ledger::{Ledger, LedgerUnavailable};
