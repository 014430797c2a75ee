//! The simulated world: one seed, one history. It implements the same four ports as the live adapters, and is driven by the operator's
//! own plan, driver and recovery on a virtual clock.
//!
//! ```text
//!   market ─┐                         ┌─ kube: objects, controllers, kubelets
//!   people ─┤                         │
//!   faults ─┴─> world: events in order ─> ec2: machines, queues ─> bill
//!                 ▲        │
//!          ports  │        └─> check: the invariants, after every step
//!   engine (the operator's own), one or two of them, started and ended by run
//! ```
//!
//! Decides: what happens to the operator, from the seed alone. Every kind of accident draws from a stream of its own.
//! Does not: decide anything for the operator, or need AWS, Kubernetes or Postgres.

pub mod account;
mod baring;
pub mod bill;
pub mod chance;
pub mod check;
mod constraints;
mod cutting;
pub mod ec2;
mod effects;
pub mod event;
pub mod faults;
pub mod forging;
pub mod history;
pub mod kube;
pub mod maintenance;
pub mod market;
pub mod people;
pub mod planted;
pub mod ports;
pub mod report;
pub mod restoring;
pub mod run;
pub mod turnover;
mod undefining;
pub mod world;
