//! Names, money, time and amounts: what everything else is counted in.

pub mod ids;
pub mod money;
pub mod pace;
mod resources;
pub mod shared;
pub mod time;

pub use resources::{Mebibytes, Millicores, Resources};
