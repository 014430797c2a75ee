//! The subcommands, one file each: its arguments, and the few lines that call the library.

#[cfg(feature = "live")]
pub mod adopt;
#[cfg(feature = "ledger")]
mod answer;
pub mod backtest;
pub mod catalog;
#[cfg(feature = "live")]
pub mod check;
#[cfg(feature = "live")]
pub mod console;
#[cfg(feature = "live")]
pub mod crds;
#[cfg(feature = "live")]
mod endpoints;
#[cfg(feature = "ledger")]
pub mod explain;
pub mod files;
#[cfg(feature = "live")]
pub mod kubectl;
#[cfg(feature = "ledger")]
pub mod ledger;
#[cfg(feature = "live")]
pub mod live_market;
mod manifests;
pub mod monitoring;
pub mod offers;
#[cfg(feature = "live")]
pub mod operator;
pub mod place;
mod pool_file;
#[cfg(feature = "live")]
pub mod release_pods;
pub mod simulate;
