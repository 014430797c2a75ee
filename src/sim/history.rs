//! What happened, line by line, and a fingerprint of all of it.
//!
//! Decides: how a step is worded. Two runs with the same fingerprint went the same way to the letter.

use std::collections::VecDeque;

use sha2::{Digest, Sha256};

use crate::core::units::time::{Millis, Timestamp};

/// Lines kept for a trace of the last steps.
const KEPT: usize = 120;

/// The history of one run.
#[derive(Debug)]
pub struct History {
    began: Timestamp,
    last: VecDeque<String>,
    digest: Sha256,
    /// Lines so far.
    pub lines: u64,
    /// Print each line as it happens.
    pub loud: bool,
}

impl History {
    /// An empty history that begins at `began`.
    pub fn new(began: Timestamp, loud: bool) -> History {
        History { began, last: VecDeque::new(), digest: Sha256::new(), lines: 0, loud }
    }

    /// One more line.
    pub fn say(&mut self, now: Timestamp, text: &str) {
        let Millis(ms) = now.since(self.began);
        let (day, ms) = (ms / 86_400_000, ms % 86_400_000);
        let line = format!("day {day} {:02}:{:02}:{:02}.{:03}  {text}", ms / 3_600_000, ms / 60_000 % 60, ms / 1_000 % 60, ms % 1_000);
        self.digest.update(line.as_bytes());
        self.digest.update(b"\n");
        self.lines += 1;
        if self.loud {
            eprintln!("{line}");
        }
        if self.last.len() == KEPT {
            self.last.pop_front();
        }
        self.last.push_back(line);
    }

    /// The last steps, oldest first.
    pub fn trace(&self) -> Vec<String> {
        self.last.iter().cloned().collect()
    }

    /// SHA-256 over all lines, in hex.
    pub fn fingerprint(&self) -> String {
        self.digest.clone().finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}
