//! The plan on a toy world: what a pass decides, carried out at once, pass after pass.

mod loops;
mod toy;
