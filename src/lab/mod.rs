//! The local world: real where it can be, simulated where it must be. Never in the image.

pub mod ec2;
pub mod postgres;
