//! Dashboards for Grafana and the metrics page, generated from one source; alerts are checked against the same list.
//!
//! - [`dashboard`]: the dashboards: panels, their queries, and which may be empty and why.
//! - [`metrics_page`] writes `docs/metrics.md`.
//!
//! Decides: what to query from Prometheus and the ledger, and how to draw it.
//! Does not: run queries: tests do, on a real Prometheus and a real Postgres.

pub mod dashboard;
pub mod metrics_page;

use std::path::PathBuf;

/// Every generated file, by its path in the repository, with its content.
pub fn files() -> Vec<(PathBuf, String)> {
    let mut files: Vec<(PathBuf, String)> = dashboard::all()
        .iter()
        .map(|dashboard| (PathBuf::from(format!("charts/lowtide/files/dashboards/{}.json", dashboard.uid)), dashboard.to_json()))
        .collect();
    files.push((PathBuf::from("docs/metrics.md"), metrics_page::text()));
    files
}
