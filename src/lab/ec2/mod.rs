//! A stand-in for one AWS account of GPU capacity, over HTTP, close enough to AWS for its unmodified SDKs: EC2 (Query/XML),
//! SQS, Service Quotas and Price List (JSON), STS, and each instance's metadata service.
//!
//! Where to look:
//! - [`account`]: the account as a pure state machine; time is an argument.
//! - [`actions`]: EC2's actions, from parameters to XML; `sqs`, `identity`, `pricing`, `imds`: the other services' faces.
//! - `server`: the HTTP edge with the only clock; `control`: `/_sim/…`, by which tests and the demo steer the account.
//!
//! What it does not do: verify signatures, run machines (the node joiner plays those), or know prices and types that the
//! shipped catalog (`data/catalog`) does not know.

pub mod account;
pub mod actions;
mod control;
pub mod facts;
pub mod fault;
mod identity;
mod imds;
mod pricing;
pub mod query;
mod recording;
mod server;
mod sqs;
pub mod standalone;
pub mod xml;

pub use account::AccountSettings;
pub use account::places::{image_id, subnet_id};
pub use server::{SimulatorConfig, SimulatorError, serve};
