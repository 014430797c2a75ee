//! The plan on a toy world: what a pass decides, carried out at once, pass after pass.

mod deadlines;
mod facts;
mod faults;
mod lifting;
mod limits;
mod loops;
mod returning;
mod serving;
pub(crate) mod toy;
mod watching;
