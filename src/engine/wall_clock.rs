//! The machine's clock.
//!
//! Decides: how fast a jump of the machine's clock is followed. Does not: run in the simulated world, which has a clock of its own.

use std::sync::{Mutex, PoisonError};
use std::time::{Instant, SystemTime};

use crate::core::units::time::Timestamp;
use crate::ports::Clock;

/// The wall clock, which never jumps while the process runs: spans that end machines lie between two of its readings.
#[derive(Debug, Clone, Copy)]
pub struct WallClock;

/// Of a difference to the machine's clock, this many milliseconds are made up for in a thousand.
const SLEW_PER_MILLE: i64 = 10;

/// The time that was said last, and what a clock that cannot be set showed then.
#[derive(Debug, Clone, Copy)]
struct Slewed {
    said: i64,
    steady: Instant,
}

impl Slewed {
    /// The time, in milliseconds since 1970: the last one and what has passed since, nearer to `wall` by a hundredth of that at most.
    fn next(&mut self, wall: i64, steady: Instant) -> i64 {
        let passed = i64::try_from(steady.saturating_duration_since(self.steady).as_millis()).unwrap_or(i64::MAX);
        let (expected, most) = (self.said.saturating_add(passed), passed.saturating_mul(SLEW_PER_MILLE) / 1_000);
        let nearer = wall.saturating_sub(expected).clamp(-most, most);
        // What is less than a millisecond counts with the next reading.
        if passed > 0 {
            *self = Slewed { said: expected.saturating_add(nearer), steady };
        }
        self.said
    }
}

impl Clock for WallClock {
    #[allow(clippy::disallowed_methods, reason = "everything else uses this clock")]
    fn now(&self) -> Timestamp {
        static SLEWED: Mutex<Option<Slewed>> = Mutex::new(None);
        let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let (wall, steady) = (i64::try_from(since_1970.as_millis()).unwrap_or(i64::MAX), Instant::now());
        let mut slewed = SLEWED.lock().unwrap_or_else(PoisonError::into_inner);
        Timestamp(slewed.get_or_insert(Slewed { said: wall, steady }).next(wall, steady))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// An NTP client sets the machine's clock by four minutes.
    #[test]
    fn a_jump_of_the_machines_clock_is_followed_by_a_hundredth_of_the_time_that_passes() {
        let began = Instant::now();
        let at = |seconds: u64| began + Duration::from_secs(seconds);
        for (jump, slowly) in [(240_000, 600), (-240_000, -600)] {
            let mut clock = Slewed { said: 1_000_000, steady: began };
            assert_eq!(clock.next(1_010_000, at(10)), 1_010_000, "it keeps time");
            assert_eq!(clock.next(1_070_000 + jump, at(70)), 1_070_000 + slowly, "a minute is a minute");
            let mut now = 70;
            while now < 70 + 25_000 {
                now += 100;
                clock.next(1_000_000 + i64::try_from(now).unwrap() * 1_000 + jump, at(now));
            }
            assert_eq!(clock.said, 1_000_000 + 25_070_000 + jump, "seven hours later it is made up for");
        }
        let mut clock = Slewed { said: 5, steady: at(10) };
        assert_eq!(clock.next(0, began), 5, "it never goes back");
    }
}
