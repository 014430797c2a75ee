//! What `/metrics` says: the one list of metrics, how they are counted and how they are written.
//!
//! - [`register`]: every metric with its type, labels and meaning. Documents, dashboards and alerts are held to it by tests.
//! - [`counts`]: counters and histograms since the start of the process.
//! - [`finance`]: what the ledger says of money.
//! - [`page`]: the text format of Prometheus.
//!
//! Decides: names, units and labels. Labels are regions, zones, types, node pools, teams and closed lists; never a pod or a workload.
//! Does not: know where values come from (see `engine`).

pub mod counts;
pub mod finance;
pub mod page;
pub mod register;
