//! The subcommands, one file each: its arguments, and the few lines that call the library.

pub mod backtest;
#[cfg(feature = "live")]
pub mod crds;
#[cfg(feature = "live")]
pub mod explain;
#[cfg(feature = "live")]
pub mod ledger;
#[cfg(feature = "live")]
pub mod operator;
#[cfg(feature = "live")]
pub mod release_pods;
