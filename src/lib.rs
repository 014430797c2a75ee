//! lowtide buys the cheapest GPU capacity the AWS market has, moves work before the machine dies,
//! and accounts for every cent.
//!
//! Every pass of the operator has the same four steps, and only the second one decides anything:
//!
//! ```text
//!   observe  ->  plan(policy, snapshot, now) -> Plan  ->  record  ->  execute
//!   adapters     core (pure)                            outbox      adapters
//! ```
//!
//! Where to look:
//! - [`core`]: every rule. No clock, no I/O, no randomness, no hash-map iteration.
//! - [`ports`]: what a world must provide.
//! - [`engine`]: the driver that observes, records and executes what the core planned.
//! - [`backtest`]: the policies on recorded spot markets.
//! - `aws`, `kube` (feature `live`), `ledger` (feature `ledger`): adapters; they do I/O and decide nothing.
//! - `console` (feature `live`): pages for people, read from the cluster and the ledger.
//! - `lab` (feature `lab`): the local world: EC2 simulator, control plane, the demo.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

// The toy world names the crate as benchmarks do.
#[cfg(test)]
extern crate self as lowtide;

/// What comes from outside, changed at random.
#[cfg(test)]
#[path = "../tests/mutation/mod.rs"]
pub(crate) mod mutation;

/// What released versions wrote.
#[cfg(all(test, feature = "live"))]
#[path = "../tests/released/mod.rs"]
pub(crate) mod released;

pub mod backtest;
pub mod cli;
pub mod core;
pub mod engine;
pub mod metrics;
pub mod monitoring;
pub mod ports;
pub mod sim;

#[cfg(feature = "live")]
pub mod aws;
#[cfg(feature = "live")]
pub mod kube;
#[cfg(feature = "ledger")]
pub mod ledger;

#[cfg(feature = "live")]
pub mod console;

#[cfg(feature = "lab")]
pub mod lab;
