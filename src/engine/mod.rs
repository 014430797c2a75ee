//! The ports, and the driver that observes, records and executes what the core planned.

pub mod ports;
