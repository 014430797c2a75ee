//! The hours of the day in which an owner would rather have work moved.
//!
//! Decides: how they are written, and which moments are in them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::time::{Millis, Timestamp};

const DAY_MINUTES: i64 = 24 * 60;

/// Quiet hours: `22:00-06:00`, in UTC, or at a fixed distance from it as in `22:00-06:00 +02:00`. They may pass midnight.
///
/// There is no database of time zones behind it: where clocks change in summer the hours are off by one for half of the year.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QuietHours {
    /// Minutes since midnight of the written clock.
    from: i64,
    /// ... and until then; not the same.
    to: i64,
    /// By how many minutes the written clock is ahead of UTC.
    ahead: i64,
}

/// Quiet hours that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected quiet hours such as \"22:00-06:00\" (UTC) or \"22:00-06:00 +02:00\", found {0:?}")]
pub struct UnreadableQuietHours(pub String);

impl QuietHours {
    /// Whether `at` is in them.
    pub fn contains(&self, at: Timestamp) -> bool {
        let minute = self.minute_of(at);
        if self.from < self.to { (self.from..self.to).contains(&minute) } else { minute >= self.from || minute < self.to }
    }

    /// `at` itself if it is in them, else when they begin next.
    pub fn next(&self, at: Timestamp) -> Timestamp {
        if self.contains(at) {
            return at;
        }
        let wait = (self.from - self.minute_of(at)).rem_euclid(DAY_MINUTES);
        let minute = Millis::from_mins(1).0;
        Timestamp(at.0.div_euclid(minute) * minute) + Millis::from_mins(wait)
    }

    fn minute_of(&self, at: Timestamp) -> i64 {
        (at.0.div_euclid(Millis::from_mins(1).0) + self.ahead).rem_euclid(DAY_MINUTES)
    }
}

impl FromStr for QuietHours {
    type Err = UnreadableQuietHours;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let unreadable = || UnreadableQuietHours(text.to_owned());
        let (hours, offset) = text.split_once(' ').map_or((text, None), |(hours, offset)| (hours, Some(offset)));
        let (from, to) = hours.split_once('-').ok_or_else(unreadable)?;
        let (from, to) = (clock(from).ok_or_else(unreadable)?, clock(to).ok_or_else(unreadable)?);
        let ahead = match offset {
            None => 0,
            Some(offset) => match (offset.strip_prefix('+').and_then(clock), offset.strip_prefix('-').and_then(clock)) {
                (Some(ahead), _) if ahead <= 14 * 60 => ahead,
                (_, Some(behind)) if behind <= 12 * 60 => -behind,
                _ => return Err(unreadable()),
            },
        };
        if from == to { Err(unreadable()) } else { Ok(QuietHours { from, to, ahead }) }
    }
}

/// Minutes since midnight of `HH:MM`.
fn clock(text: &str) -> Option<i64> {
    let (hours, minutes) = text.split_once(':')?;
    let number = |part: &str, below: i64| -> Option<i64> {
        let digits = part.len() == 2 && part.bytes().all(|b| b.is_ascii_digit());
        part.parse().ok().filter(|n: &i64| digits && *n < below)
    };
    Some(number(hours, 24)? * 60 + number(minutes, 60)?)
}

impl fmt::Display for QuietHours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let clock = |minutes: i64| format!("{:02}:{:02}", minutes / 60, minutes % 60);
        write!(f, "{}-{}", clock(self.from), clock(self.to))?;
        match self.ahead {
            0 => Ok(()),
            ahead => write!(f, " {}{}", if ahead < 0 { '-' } else { '+' }, clock(ahead.abs())),
        }
    }
}

impl Serialize for QuietHours {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for QuietHours {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(hour: i64, minute: i64) -> Timestamp {
        Timestamp::from_date(2026, 7, 20) + Millis::from_mins(hour * 60 + minute) + Millis::from_secs(7)
    }

    #[test]
    fn quiet_hours_pass_midnight_and_keep_their_distance_from_utc() {
        let night: QuietHours = "22:00-06:00".parse().unwrap();
        for (hour, minute, quiet) in [(21, 59, false), (22, 0, true), (23, 59, true), (0, 0, true), (5, 59, true), (6, 0, false)] {
            assert_eq!(night.contains(at(hour, minute)), quiet, "{hour}:{minute}");
        }
        let there: QuietHours = "22:00-06:00 +02:00".parse().unwrap();
        assert_eq!([there.contains(at(20, 0)), there.contains(at(3, 59)), there.contains(at(4, 0))], [true, true, false]);
        let west: QuietHours = "01:00-03:00 -05:30".parse().unwrap();
        assert_eq!([west.contains(at(6, 29)), west.contains(at(6, 30)), west.contains(at(8, 30))], [false, true, false]);
    }

    #[test]
    fn the_next_quiet_moment_is_now_or_their_beginning() {
        let lunch: QuietHours = "12:00-13:00".parse().unwrap();
        assert_eq!(lunch.next(at(12, 30)), at(12, 30));
        assert_eq!(lunch.next(at(11, 0)), at(12, 0) - Millis::from_secs(7));
        assert_eq!(lunch.next(at(13, 0)), at(36, 0) - Millis::from_secs(7), "tomorrow");
    }

    #[test]
    fn what_is_written_is_read_back_and_anything_else_is_refused_with_what_was_expected() {
        for text in ["22:00-06:00", "00:00-23:59 +14:00", "09:30-10:00 -12:00"] {
            assert_eq!(text.parse::<QuietHours>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "22-06",
            "22:00-22:00",
            "24:00-06:00",
            "22:00-06:60",
            "22:00-06:00 02:00",
            "22:00-06:00 +15:00",
            "2:00-06:00",
            "22:00–06:00",
        ] {
            let fault = text.parse::<QuietHours>().unwrap_err().to_string();
            assert!(fault.contains("22:00-06:00 +02:00"), "{fault}");
        }
    }
}
