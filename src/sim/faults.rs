//! What goes wrong, when, and how often.
//!
//! Decides: the fate of every call to a port, and which troubles last for a while (Postgres away, API server away, stale watches, a
//! queue that is denied, a clock that jumps, a second operator). All of it from the seed.
//! Does not: carry anything out (see [`super::ports`]).

use super::chance::Chance;
use crate::core::units::time::{Millis, Timestamp};

/// How hostile the world is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Level {
    /// Nothing goes wrong but what the market does.
    None,
    /// Two calls in a thousand, a trouble a day.
    Calm,
    /// Fifteen calls in a thousand, a trouble every six hours.
    Rough,
    /// Fifty calls in a thousand, a trouble every two hours.
    Hostile,
}

impl Level {
    fn calls_per_mille(self) -> i64 {
        match self {
            Level::None => 0,
            Level::Calm => 2,
            Level::Rough => 15,
            Level::Hostile => 50,
        }
    }

    /// How far apart troubles are, on average.
    pub(super) fn trouble_every(self) -> Option<Millis> {
        match self {
            Level::None => None,
            Level::Calm => Some(Millis::from_hours(24)),
            Level::Rough => Some(Millis::from_hours(6)),
            Level::Hostile => Some(Millis::from_hours(2)),
        }
    }
}

/// Which port a call goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Port {
    /// EC2 and its queues.
    Cloud,
    /// The API server.
    Cluster,
    /// Postgres.
    Ledger,
}

/// What becomes of one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Fate {
    /// Before it takes effect.
    pub before: Millis,
    /// After it took effect, before the caller knows.
    pub after: Millis,
    /// The process ends before it takes effect.
    pub crash_before: bool,
    /// The process ends after it took effect and before it knows.
    pub crash_after: bool,
    /// It is refused: no effect.
    pub refused: bool,
    /// It takes effect, and the caller learns that nobody knows.
    pub unreported: bool,
}

/// A trouble that lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// Postgres does not answer.
    LedgerAway(Millis),
    /// The API server does not answer.
    ApiAway(Millis),
    /// Watches show an old state.
    Stale(Millis),
    /// The interruption queues are denied.
    QueuesDenied(Millis),
    /// EC2 throttles everything.
    Throttled(Millis),
    /// The operator's clock jumps.
    ClockJumps(Millis),
    /// The operator's process ends.
    Crash,
    /// A second operator believes that it leads.
    SecondOperator(Millis),
    /// Another version writes a word into a claim that this one cannot read.
    UnreadableClaim(Millis),
    /// A quota or an admission policy keeps every pod from being made.
    AdmitsNothing(Millis),
    /// An operator of the same values runs on an API server that was built again: empty, and of another UID.
    EmptyApiServer(Millis),
}

/// All that goes wrong in one history.
#[derive(Debug, Clone)]
pub struct Faults {
    level: Level,
    of_calls: Chance,
    of_delays: Chance,
    of_troubles: Chance,
    /// Until when Postgres is away.
    pub ledger_away_until: Timestamp,
    /// Until when the API server is away.
    pub api_away_until: Timestamp,
    /// Until when watches show an old state.
    pub stale_until: Timestamp,
    /// Until when queues are denied.
    pub queues_denied_until: Timestamp,
    /// Until when EC2 throttles.
    pub throttled_until: Timestamp,
    /// Ends the process at this changing call, counted from 0: before its effect, or after.
    pub crash_point: Option<(u64, bool)>,
    /// Changing calls so far.
    pub changes: u64,
    /// From here on nothing goes wrong any more.
    pub quiet: bool,
}

impl Faults {
    /// The faults of a seed.
    pub fn new(seed: u64, level: Level, crash_point: Option<(u64, bool)>) -> Faults {
        let never = Timestamp(0);
        Faults {
            level,
            of_calls: Chance::new(seed, "faults of calls"),
            of_delays: Chance::new(seed, "delays of calls"),
            of_troubles: Chance::new(seed, "troubles"),
            ledger_away_until: never,
            api_away_until: never,
            stale_until: never,
            queues_denied_until: never,
            throttled_until: never,
            crash_point,
            changes: 0,
            quiet: false,
        }
    }

    /// How hostile the world is.
    pub fn level(&self) -> Level {
        self.level
    }

    /// The fate of a call; `changes` says that it changes something.
    pub fn of_call(&mut self, port: Port, changes: bool) -> Fate {
        let (quick, slow) = match port {
            Port::Cloud => (Millis(120), Millis(900)),
            Port::Cluster => (Millis(3), Millis(20)),
            Port::Ledger => (Millis(4), Millis(30)),
        };
        let mut fate = Fate { before: self.of_delays.span(quick, slow), ..Fate::default() };
        if changes {
            if self.crash_point.is_some_and(|(at, _)| at == self.changes) {
                let before = self.crash_point.is_some_and(|(_, before)| before);
                (fate.crash_before, fate.crash_after) = (before, !before);
            }
            self.changes += 1;
        }
        if self.quiet || !self.of_calls.happens(self.level.calls_per_mille()) {
            return fate;
        }
        match self.of_calls.below(if changes { 10 } else { 4 }) {
            0 | 1 => fate.refused = true,
            2 => fate.before = self.of_delays.span(Millis::from_secs(2), Millis::from_secs(40)),
            3 => fate.after = self.of_delays.span(Millis::from_secs(2), Millis::from_secs(25)),
            4..7 => fate.unreported = true,
            7 => (fate.unreported, fate.after) = (true, self.of_delays.span(Millis::from_secs(1), Millis::from_secs(20))),
            8 => fate.crash_before = true,
            _ => fate.crash_after = true,
        }
        fate
    }

    /// When the next trouble comes after `now`; `None` in a world without.
    pub fn next_trouble(&mut self, now: Timestamp) -> Option<Timestamp> {
        self.level.trouble_every().map(|every| now + self.of_troubles.waiting(every))
    }

    /// Which trouble it is.
    pub fn draw_trouble(&mut self) -> Trouble {
        let chance = &mut self.of_troubles;
        let minutes = |chance: &mut Chance, least, most| chance.span(Millis::from_mins(least), Millis::from_mins(most));
        match chance.below(13) {
            0 | 1 => Trouble::LedgerAway(minutes(chance, 1, 30)),
            2 => Trouble::ApiAway(minutes(chance, 1, 6)),
            3 => Trouble::Stale(chance.span(Millis::from_secs(2), Millis::from_secs(60))),
            4 => Trouble::QueuesDenied(minutes(chance, 2, 30)),
            5 => Trouble::Throttled(minutes(chance, 1, 5)),
            6 => Trouble::ClockJumps(chance.span(Millis::from_mins(-4), Millis::from_mins(4))),
            7 | 8 => Trouble::Crash,
            9 => Trouble::SecondOperator(minutes(chance, 1, 10)),
            10 => Trouble::UnreadableClaim(minutes(chance, 2, 25)),
            11 => Trouble::AdmitsNothing(minutes(chance, 2, 40)),
            _ => Trouble::EmptyApiServer(minutes(chance, 12, 30)),
        }
    }

    /// How long the watches lag behind.
    pub fn watch_lag(&mut self) -> Millis {
        self.of_delays.span(Millis(5), Millis(60))
    }

    /// How long a process that ended is away.
    pub fn restart_delay(&mut self) -> Millis {
        self.of_troubles.span(Millis(500), Millis::from_secs(20))
    }
}
