//! The machine's clock.
//!
//! Decides: nothing. Does not: run in the simulated world, which has a clock of its own.

use std::time::SystemTime;

use crate::core::units::time::Timestamp;
use crate::ports::Clock;

/// The wall clock.
#[derive(Debug, Clone, Copy)]
pub struct WallClock;

impl Clock for WallClock {
    #[allow(clippy::disallowed_methods, reason = "everything else uses this clock")]
    fn now(&self) -> Timestamp {
        let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Timestamp(i64::try_from(since_1970.as_millis()).unwrap_or(i64::MAX))
    }
}
