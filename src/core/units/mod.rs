//! Names, money, time and amounts: what everything else is counted in.

pub mod ids;
pub mod money;
pub mod pace;
pub mod pattern;
mod resources;
pub mod shared;
pub mod time;

pub use resources::{Mebibytes, Millicores, Resources};
