//! Names, money, time and amounts: the units of everything else.

pub mod alike;
pub mod ids;
pub mod money;
pub mod pace;
pub mod pattern;
pub mod quiet_hours;
pub mod recurrence;
mod resources;
pub mod shared;
pub mod time;

pub use resources::{Mebibytes, Millicores, Resources};
