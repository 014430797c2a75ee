//! The subcommands, one file each.

pub mod crds;
pub mod release_pods;
