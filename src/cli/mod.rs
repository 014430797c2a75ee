//! One file per subcommand.

pub mod catalog;
pub mod files;
pub mod offers;
pub mod place;
