//! Points in time and durations, in whole milliseconds. The core never reads a clock.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::ops::{Add, Sub};

/// A point in time: milliseconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

/// A span of time in milliseconds; may be negative. Sums end where the numbers do: a pod's grace may be any number of seconds, and none may stop the
/// operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
#[serde(transparent)]
pub struct Millis(pub i64);

impl Millis {
    /// The empty span.
    pub const ZERO: Millis = Millis(0);
    /// A span of whole seconds.
    pub const fn from_secs(seconds: i64) -> Self {
        Millis(seconds.saturating_mul(1_000))
    }
    /// A span of whole minutes.
    pub const fn from_mins(minutes: i64) -> Self {
        Millis(minutes.saturating_mul(60_000))
    }
    /// A span of whole hours.
    pub const fn from_hours(hours: i64) -> Self {
        Millis(hours.saturating_mul(3_600_000))
    }
    /// Whole seconds, rounded towards zero.
    pub const fn as_secs(self) -> i64 {
        self.0 / 1_000
    }
}

impl Timestamp {
    /// The span from `earlier` to this point; negative when `earlier` is later.
    pub const fn since(self, earlier: Timestamp) -> Millis {
        Millis(self.0.saturating_sub(earlier.0))
    }
    /// The start of the second that contains this point.
    pub const fn floor_to_second(self) -> Self {
        Timestamp(self.0 - self.0.rem_euclid(1_000))
    }
    /// RFC 3339 in UTC with milliseconds, e.g. `2026-07-20T13:44:30.000Z`.
    pub fn to_rfc3339(self) -> String {
        let (days, ms) = (self.0.div_euclid(86_400_000), self.0.rem_euclid(86_400_000));
        let (y, m, d) = civil_from_days(days);
        let (h, mi, s, f) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1_000 % 60, ms % 1_000);
        format!("{y:04}-{m:02}-{d:02}T{h:02}:{mi:02}:{s:02}.{f:03}Z")
    }
    /// The UTC day, e.g. `2026-07-20`.
    pub fn to_date(self) -> String {
        self.to_rfc3339().chars().take(10).collect()
    }
    /// When the calendar month (UTC) that contains this point began.
    pub fn month_start(self) -> Self {
        let (year, month, _) = civil_from_days(self.0.div_euclid(86_400_000));
        Timestamp::from_date(year, month, 1)
    }
    /// When the calendar month (UTC) that contains this point ends.
    pub fn month_end(self) -> Self {
        let (year, month, _) = civil_from_days(self.0.div_euclid(86_400_000));
        if month == 12 { Timestamp::from_date(year + 1, 1, 1) } else { Timestamp::from_date(year, month + 1, 1) }
    }
    /// Midnight UTC of a calendar date (proleptic Gregorian; month and day count from 1).
    pub fn from_date(year: i64, month: i64, day: i64) -> Self {
        Timestamp(days_from_civil(year, month, day).saturating_mul(86_400_000))
    }
}

/// Days since 1970-01-01 of a civil date: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms".
fn days_from_civil(y: i64, m: i64, d: i64) -> i64 {
    let y = if m <= 2 { y - 1 } else { y };
    let era = y.div_euclid(400);
    let yoe = y.rem_euclid(400);
    let doy = (153 * (if m > 2 { m - 3 } else { m + 9 }) + 2) / 5 + d - 1;
    era * 146_097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719_468
}

/// The inverse of [`days_from_civil`].
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1_460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let m = if mp < 10 { mp + 3 } else { mp - 9 };
    (yoe + era * 400 + i64::from(m <= 2), m, doy - (153 * mp + 2) / 5 + 1)
}

impl Add<Millis> for Timestamp {
    type Output = Timestamp;
    fn add(self, span: Millis) -> Timestamp {
        Timestamp(self.0.saturating_add(span.0))
    }
}
impl Sub<Millis> for Timestamp {
    type Output = Timestamp;
    fn sub(self, span: Millis) -> Timestamp {
        Timestamp(self.0.saturating_sub(span.0))
    }
}
impl Add for Millis {
    type Output = Millis;
    fn add(self, other: Millis) -> Millis {
        Millis(self.0.saturating_add(other.0))
    }
}
impl Sub for Millis {
    type Output = Millis;
    fn sub(self, other: Millis) -> Millis {
        Millis(self.0.saturating_sub(other.0))
    }
}
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_rfc3339())
    }
}
impl fmt::Display for Millis {
    /// For people: `4.2s`, `2m03s`, `1h05m`, `3d02h`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let s = self.0 / 1_000;
        match self.0 {
            ms if ms < 60_000 => write!(f, "{}.{}s", s, ms.rem_euclid(1_000) / 100),
            ms if ms < 3_600_000 => write!(f, "{}m{:02}s", s / 60, s % 60),
            ms if ms < 86_400_000 => write!(f, "{}h{:02}m", s / 3_600, s / 60 % 60),
            _ => write!(f, "{}d{:02}h", s / 86_400, s / 3_600 % 24),
        }
    }
}

/// Reads `90s`, `45m`, `1h30m`, `2d`: at least one part, larger units first, above zero.
pub fn parse_span(text: &str) -> Option<Millis> {
    let (mut rest, mut total, mut last_unit) = (text, 0_i64, i64::MAX);
    while !rest.is_empty() {
        let at = rest.find(|c: char| !c.is_ascii_digit())?;
        let (digits, tail) = rest.split_at(at);
        let unit = match tail.as_bytes().first()? {
            b'd' => 86_400_000,
            b'h' => 3_600_000,
            b'm' => 60_000,
            b's' => 1_000,
            _ => return None,
        };
        if unit >= last_unit {
            return None;
        }
        last_unit = unit;
        total = total.checked_add(digits.parse::<i64>().ok()?.checked_mul(unit)?)?;
        rest = &tail[1..];
    }
    (total > 0).then_some(Millis(total))
}

#[cfg(test)]
mod tests {
    use crate::core::units::time::*;

    #[test]
    fn no_span_is_too_long_to_be_added() {
        let (longest, now) = (Millis::from_secs(i64::MAX), Timestamp::from_date(2026, 7, 20));
        assert_eq!(((now + longest).since(now - longest), longest + longest), (Millis(i64::MAX), Millis(i64::MAX)));
        assert!((now + longest).month_end() <= Timestamp(i64::MAX) && (now - longest).month_start() >= Timestamp(i64::MIN));
        assert!(!(now + longest).to_rfc3339().is_empty() && (longest - Millis::from_hours(i64::MIN)) == longest);
    }

    #[test]
    fn dates_round_trip_over_leap_years_and_centuries() {
        for (text, ms) in [
            ("1970-01-01T00:00:00.000Z", 0),
            ("2000-02-29T12:00:00.500Z", 951_825_600_500),
            ("2026-07-20T13:44:30.000Z", 1_784_555_070_000),
        ] {
            assert_eq!(Timestamp(ms).to_rfc3339(), text);
        }
        for days in (-200_000..200_000).step_by(97) {
            let (y, m, d) = civil_from_days(days);
            assert_eq!(days_from_civil(y, m, d), days);
        }
    }

    #[test]
    fn months_begin_and_end_on_their_first() {
        for (at, start, end) in [((2026, 12, 31), (2026, 12), (2027, 1)), ((2024, 2, 29), (2024, 2), (2024, 3))] {
            let point = Timestamp::from_date(at.0, at.1, at.2) + Millis(86_399_999);
            assert_eq!(point.month_start(), Timestamp::from_date(start.0, start.1, 1));
            assert_eq!(point.month_end(), Timestamp::from_date(end.0, end.1, 1));
            assert_eq!(point.month_end().month_start(), point.month_end());
        }
    }

    #[test]
    fn spans_read_as_people_write_them() {
        let shown: Vec<String> = [4_200, 123_000, 3_900_000, 266_400_000].iter().map(|ms| Millis(*ms).to_string()).collect();
        assert_eq!(shown, ["4.2s", "2m03s", "1h05m", "3d02h"]);
    }
}
