//! The one clock.

use crate::core::units::time::Timestamp;

/// The one clock.
pub trait Clock: Send + Sync {
    /// The time now.
    fn now(&self) -> Timestamp;
}
