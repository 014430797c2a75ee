//! What watches lowtide, run: dashboards, alerts and documents hold to the same metrics, and every panel is asked of real servers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods, missing_docs)]

mod files;
#[cfg(all(feature = "ledger", feature = "lab"))]
mod on_postgres;
#[cfg(all(feature = "ledger", feature = "lab"))]
mod on_prometheus;
#[cfg(all(feature = "ledger", feature = "lab"))]
mod plans;
