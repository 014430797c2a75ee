//! When work leaves a machine that EC2 has scheduled something for.
//!
//! Decides: the moment, from the date, the work and the hours in which its owners would rather have it moved:
//! - Whatever is to be moved is moved [`LEAD`] before the date at the latest: that is how long a launch that is refused everywhere, or a control
//!   plane that is away, may hold it up.
//! - A service leaves in its quiet hours, in the first ones that all owners on the machine share before then; at once where nobody names any.
//!   EC2 announces what it schedules because the hardware is failing, so nothing is gained by staying.
//! - Jobs and bare pods stay as long as they may: they may be done by then, and each move costs them work.
//!
//! Does not: choose where the work goes, or move it (see `plan::moving`).

use crate::core::units::quiet_hours::QuietHours;
use crate::core::units::time::{Millis, Timestamp};

/// Work has left by so much before the date. The longest cool-down by default, so that every capacity that refused may be asked once more.
pub const LEAD: Millis = Millis::from_hours(1);
/// How far ahead quiet hours are looked for: EC2 announces two weeks ahead at most times, and daily hours repeat.
const DAYS_AHEAD: i64 = 2;

/// What is on the machine.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Work {
    /// Something there serves, so that it gains nothing by staying.
    pub serves: bool,
    /// The quiet hours of those who name any.
    pub quiet: Vec<QuietHours>,
    /// The longest time that anything there needs to end.
    pub grace: Millis,
}

/// When the work leaves, and why then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Departure {
    /// The moment.
    pub at: Timestamp,
    /// Why then.
    pub because: Because,
}

/// Why work leaves when it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Because {
    /// In quiet hours of its owners.
    Quiet,
    /// Nobody names quiet hours.
    NoneNamed,
    /// Quiet hours are named, and none are left before the date.
    NoneLeft,
    /// It could stay until now.
    LastCall,
}

impl Because {
    /// In words, for a decision.
    pub fn words(self) -> &'static str {
        match self {
            Because::Quiet => "in its owners' quiet hours",
            Because::NoneNamed => "at once, as nobody names quiet hours",
            Because::NoneLeft => "at once, as no quiet hours are left before the date",
            Because::LastCall => "as late as it can safely be",
        }
    }
}

/// When `work` leaves a machine to which something is done from `not_before` on.
pub fn departure(not_before: Timestamp, work: &Work, now: Timestamp) -> Departure {
    let latest = not_before - LEAD - work.grace;
    if now >= latest {
        return Departure { at: now, because: Because::LastCall };
    }
    if !work.serves {
        return Departure { at: latest, because: Because::LastCall };
    }
    if work.quiet.is_empty() {
        return Departure { at: now, because: Because::NoneNamed };
    }
    let begins = work.quiet.iter().flat_map(|hours| (0..DAYS_AHEAD).map(move |day| hours.next(now + Millis::from_hours(24 * day))));
    let mut candidates: Vec<Timestamp> = begins.filter(|at| *at < latest).collect();
    candidates.sort();
    let shared = candidates.iter().find(|at| work.quiet.iter().all(|hours| hours.contains(**at)));
    match shared.or(candidates.first()) {
        Some(at) => Departure { at: *at, because: Because::Quiet },
        None => Departure { at: now, because: Because::NoneLeft },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(day: i64, hour: i64) -> Timestamp {
        Timestamp::from_date(2026, 7, 20) + Millis::from_hours(day * 24 + hour)
    }

    fn service(quiet: &[&str]) -> Work {
        Work { serves: true, quiet: quiet.iter().map(|text| text.parse().unwrap()).collect(), grace: Millis::from_mins(5) }
    }

    #[test]
    fn a_service_leaves_in_its_quiet_hours_and_at_once_where_there_are_none() {
        let (date, now) = (at(14, 12), at(0, 12));
        assert_eq!(departure(date, &service(&["22:00-06:00"]), now), Departure { at: at(0, 22), because: Because::Quiet });
        assert_eq!(departure(date, &service(&["22:00-06:00"]), at(0, 23)).at, at(0, 23), "they are now");
        assert_eq!(departure(date, &service(&[]), now), Departure { at: now, because: Because::NoneNamed });
        assert_eq!(departure(at(0, 20), &service(&["22:00-06:00"]), now), Departure { at: now, because: Because::NoneLeft });
    }

    #[test]
    fn owners_who_share_a_machine_are_moved_in_hours_they_share() {
        let (date, now) = (at(14, 12), at(0, 12));
        assert_eq!(departure(date, &service(&["22:00-06:00", "01:00-03:00"]), now).at, at(1, 1));
        assert_eq!(departure(date, &service(&["22:00-06:00", "14:00-15:00"]), now).at, at(0, 14), "they share none: the first of any");
    }

    #[test]
    fn work_that_may_be_done_by_then_stays_until_the_lead_and_its_grace_are_left() {
        let job = Work { serves: false, grace: Millis::from_mins(30), ..Work::default() };
        let date = at(3, 12);
        let last_call = date - LEAD - Millis::from_mins(30);
        assert_eq!(departure(date, &job, at(0, 0)), Departure { at: last_call, because: Because::LastCall });
        assert_eq!(departure(date, &job, at(3, 11)).at, at(3, 11), "it is late already");
        assert_eq!(departure(date, &service(&["22:00-06:00"]), at(3, 11)).because, Because::LastCall, "quiet or not");
    }
}
