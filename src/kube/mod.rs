//! Kubernetes: the custom resources, and the adapter that makes a cluster one of the four ports.
//!
//! Decides: how an observation is read, how an action becomes a request, and what an answer means.
//! Does not: decide what to do (see `core`), or when (see `engine`).

pub mod api;
pub mod api_clock;
pub mod apply;
pub mod claims;
pub mod classes;
pub mod cluster;
pub mod crd_check;
pub mod daemonsets;
pub mod endpoints;
pub mod errors;
pub mod held;
pub mod kept;
pub mod lease;
pub mod memory;
pub mod names;
pub mod nodes;
pub mod outbox;
pub mod pods;
pub mod pools;
mod pools_watch;
pub mod shown;
mod turns;
pub mod user_data;
pub mod validation_check;
pub mod watch;
pub mod workloads;

pub use cluster::{ClusterSettings, LiveCluster, connect, read_uid};
