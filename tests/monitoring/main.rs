//! What watches lowtide, run: dashboards, alerts and documents hold to the same metrics, and every panel is asked of real servers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods, missing_docs)]

mod files;
#[cfg(all(feature = "ledger", feature = "lab"))]
mod on_postgres;
mod on_prometheus;
#[cfg(all(feature = "ledger", feature = "lab"))]
mod plans;

/// Where `scripts/tools.sh` puts programs.
fn tools() -> std::path::PathBuf {
    let named = |name: &str| std::env::var_os(name).map(std::path::PathBuf::from);
    let cache = || named("XDG_CACHE_HOME").or_else(|| Some(named("HOME")?.join(".cache"))).map(|cache| cache.join("lowtide"));
    named("LOWTIDE_TOOLS").or_else(|| named("LOWTIDE_CACHE").or_else(cache).map(|cache| cache.join("bin"))).unwrap_or_default()
}
