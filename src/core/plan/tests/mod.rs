//! The plan on a toy world: what a pass decides, carried out at once, pass after pass.

mod facts;
mod faults;
mod limits;
mod loops;
pub(crate) mod toy;
