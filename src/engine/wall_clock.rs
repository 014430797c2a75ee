//! The machine's clock.
//!
//! Decides: how fast a jump of the machine's clock is followed. Does not: run in the simulated world, which has a clock of its own.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use crate::core::units::time::Timestamp;
use crate::ports::Clock;

/// The wall clock, which never jumps while the process runs: spans that end machines lie between two of its readings.
#[derive(Debug, Clone, Copy)]
pub struct WallClock;

/// Of a difference to the machine's clock, this much is made up for: a hundredth of the time that passes.
const SLEW: i128 = 100;

/// The time that was said last, and what a clock that cannot be set showed then. In nanoseconds: a busy process reads the clock every millisecond or more often,
/// and what is rounded away at each reading would add up to minutes in an hour.
#[derive(Debug, Clone, Copy)]
struct Slewed {
    said_nanos: i128,
    steady: Instant,
}

impl Slewed {
    /// The time since 1970: the last one and what has passed since, nearer to `wall` by a hundredth of that at most.
    fn next(&mut self, wall: Duration, steady: Instant) -> Timestamp {
        let passed = nanos(steady.saturating_duration_since(self.steady));
        let (expected, most) = (self.said_nanos + passed, passed / SLEW);
        if passed > 0 {
            let said_nanos = expected + (nanos(wall) - expected).clamp(-most, most);
            *self = Slewed { said_nanos, steady };
        }
        Timestamp(i64::try_from(self.said_nanos / 1_000_000).unwrap_or(i64::MAX))
    }
}

fn nanos(span: Duration) -> i128 {
    i128::try_from(span.as_nanos()).unwrap_or(i128::MAX / 4)
}

impl Clock for WallClock {
    #[allow(clippy::disallowed_methods, reason = "everything else uses this clock")]
    fn now(&self) -> Timestamp {
        static SLEWED: Mutex<Option<Slewed>> = Mutex::new(None);
        let (wall, steady) = (SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default(), Instant::now());
        let mut slewed = SLEWED.lock().unwrap_or_else(PoisonError::into_inner);
        slewed.get_or_insert(Slewed { said_nanos: nanos(wall), steady }).next(wall, steady)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Duration = Duration::from_secs(1_000);

    fn clock(steady: Instant) -> Slewed {
        Slewed { said_nanos: nanos(START), steady }
    }

    /// An NTP client sets the machine's clock by four minutes.
    #[test]
    fn a_jump_of_the_machines_clock_is_followed_by_a_hundredth_of_the_time_that_passes() {
        let began = Instant::now();
        let at = |seconds: u64| began + Duration::from_secs(seconds);
        for (ahead, slowly) in [(true, 600), (false, -600)] {
            let jump = |time: Duration| if ahead { time + Duration::from_secs(240) } else { time - Duration::from_secs(240) };
            let mut clock = clock(began);
            let wall = |seconds: u64| START + Duration::from_secs(seconds);
            assert_eq!(clock.next(wall(10), at(10)), Timestamp(1_010_000), "it keeps time");
            assert_eq!(clock.next(jump(wall(70)), at(70)), Timestamp(1_070_000 + slowly), "a minute is a minute");
            let mut now = 70;
            while now < 70 + 25_000 {
                now += 100;
                clock.next(jump(wall(now)), at(now));
            }
            let made_up = i64::try_from(jump(wall(now)).as_millis()).unwrap();
            assert_eq!(clock.next(jump(wall(now)), at(now)), Timestamp(made_up), "seven hours later it is made up for");
        }
        let mut clock = Slewed { said_nanos: 5_000_000, steady: at(10) };
        assert_eq!(clock.next(Duration::ZERO, began), Timestamp(5), "it never goes back");
    }

    /// With a thousand machines everything that is done asks for the time.
    #[test]
    fn however_often_it_is_read_it_keeps_time_and_follows() {
        for micros in [300, 1_500, 1_999, 20_000, 99_999] {
            let began = Instant::now();
            let (mut clock, mut passed) = (clock(began), Duration::ZERO);
            let mut said = Timestamp(0);
            while passed < Duration::from_secs(100) {
                passed += Duration::from_micros(micros);
                said = clock.next(START + passed, began + passed);
            }
            assert_eq!(said.0, i64::try_from((START + passed).as_millis()).unwrap(), "read every {micros} microseconds");
            let jump = Duration::from_secs(100);
            while passed < Duration::from_secs(200) {
                passed += Duration::from_micros(micros);
                said = clock.next(START + passed + jump, began + passed);
            }
            let followed = said.0 - i64::try_from((START + passed).as_millis()).unwrap();
            assert!(
                (999..=1_001).contains(&followed),
                "a second of a jump in a hundred, not {followed} ms, read every {micros} microseconds"
            );
        }
    }
}
