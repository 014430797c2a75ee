//! The plan on a toy world: what a pass decides, carried out at once, pass after pass.

mod adoption;
mod deadlines;
mod facts;
mod faults;
mod harm;
mod lifting;
mod limits;
mod loops;
mod returning;
mod serving;
pub(crate) mod toy;
