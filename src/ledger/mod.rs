//! The savings ledger: every decision, every cent, and what it would have cost otherwise, in Postgres.
//!
//! Decides: how facts are kept (append-only, hashed, sealed) and what follows from them (cost, savings, reliability).
//! Does not: decide anything about machines. The operator only needs [`PgLedger`]; people use the views and `lowtide ledger`.

pub mod address;
pub mod archive;
mod derivation;
pub mod explain;
pub mod fetch;
pub mod focus;
pub mod gpu_use;
pub mod import;
pub mod migrate;
mod parquet_rows;
pub mod plans;
pub mod poster;
pub mod prometheus;
pub mod reconcile;
pub mod report;
pub mod retag;
mod retry;
pub mod rows;
pub mod seal;
mod store;
pub mod table_file;
pub mod text;
mod turns;
pub mod upkeep;
pub mod verify;
mod who;

use std::collections::BTreeMap;

use crate::core::units::ids::ObjectRef;
use crate::core::workload::need::UsageQuery;
use crate::ports::ClusterView;

pub use migrate::{MigrateFault, connect, migrate};
pub use store::{LedgerFault, PgLedger};

/// How the usage of each workload is asked of Prometheus, as the annotations of its pods say.
pub fn usage_queries(view: &ClusterView) -> BTreeMap<ObjectRef, UsageQuery> {
    let said = view.pods.values().filter_map(|pod| {
        let (_, schedule) = pod.need.as_ref().ok()?;
        Some((pod.workload.object.clone(), schedule.usage_query.clone()?))
    });
    said.collect()
}

/// Which node each machine is, by uid of its claim.
pub fn nodes_of_claims(view: &ClusterView) -> BTreeMap<String, String> {
    let of = |claim: &crate::core::fleet::Claim| Some((claim.books().as_str().to_owned(), claim.status.node.as_ref()?.as_str().to_owned()));
    view.claims.values().filter_map(of).collect()
}
