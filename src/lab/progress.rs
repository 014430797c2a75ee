//! What the lab prints while it starts: one line per step, with the seconds it took.

use std::io::Write;
use std::time::{Duration, Instant};

/// Waits for one thing, reporting how long it has taken.
#[derive(Debug)]
pub struct Wait {
    what: String,
    since: Instant,
    reported: Instant,
}

impl Wait {
    /// Begins.
    pub fn begin(what: impl Into<String>) -> Wait {
        let now = Instant::now();
        Wait { what: what.into(), since: now, reported: now }
    }
    /// Time since it began.
    pub fn elapsed(&self) -> Duration {
        self.since.elapsed()
    }
    /// Says every five seconds that it is still waiting, and for what.
    pub fn waiting(&mut self, last: &str) {
        if self.reported.elapsed() >= Duration::from_secs(5) {
            self.reported = Instant::now();
            say(&format!("  {:<28} … {:>5.1} s  {last}", self.what, self.since.elapsed().as_secs_f64()));
        }
    }
    /// Ends well.
    pub fn done(self, detail: &str) {
        say(&format!("  {:<28} ✓ {:>5.1} s  {detail}", self.what, self.since.elapsed().as_secs_f64()));
    }
}

/// Waiting for something to be so, with an end, and a word about it now and then.
#[derive(Debug)]
pub struct Patience {
    what: String,
    limit: Duration,
    said_every: Duration,
    since: Instant,
    reported: Instant,
}

impl Patience {
    /// Begins: ends after `limit_seconds`, and is heard of every `said_every_seconds`.
    pub fn begin(what: &str, limit_seconds: u64, said_every_seconds: u64) -> Patience {
        let (limit, said_every) = (Duration::from_secs(limit_seconds), Duration::from_secs(said_every_seconds));
        let now = Instant::now();
        Patience { what: what.to_owned(), limit, said_every, since: now, reported: now }
    }
    /// Whether to wait on; says when not.
    pub fn lasts(&mut self) -> bool {
        if self.since.elapsed() > self.limit {
            say(&format!("     gave up waiting for {} after {} s", self.what, self.limit.as_secs()));
            return false;
        }
        if self.reported.elapsed() > self.said_every {
            self.reported = Instant::now();
            say(&format!("     … {:>3.0} s waiting for {}", self.since.elapsed().as_secs_f64(), self.what));
        }
        true
    }
}

/// One line for the person who watches; a closed terminal must not end the lab.
pub fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
