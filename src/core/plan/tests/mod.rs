//! The plan on a toy world: what a pass decides, carried out at once, pass after pass.

mod adoption;
mod breaker;
mod choice;
mod classes;
mod clocks;
mod company;
mod deadlines;
mod facts;
mod fallback;
mod faults;
mod harm;
mod identity;
mod lifting;
mod limits;
mod loops;
mod maintenance;
mod rehearsing;
mod returning;
mod serving;
mod tied;
#[path = "../../../../tests/toy/mod.rs"]
pub(crate) mod toy;
mod warnings;
mod watching;
