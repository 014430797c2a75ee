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

/// One line for the person who watches; a closed terminal must not end the lab.
pub fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
