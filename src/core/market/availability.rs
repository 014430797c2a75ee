//! What has been learned about one spot pool from launches, refusals, interruptions and machines that ran on.
//!
//! Decides: how observations become an availability and an expected stay. Does not: read prices; a price says nothing about capacity
//! (measured correlation -0.2 to 0.2).

use crate::core::units::time::{Millis, Timestamp};
use serde::{Deserialize, Serialize};

/// Two observations further apart than this say nothing about the time between them.
const CONTINUITY: Millis = Millis::from_mins(60);

/// The memory of one pool. Sums halve every [`CapacityMemory::HALF_LIFE`] of observed time, so a market may change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct CapacityMemory {
    /// The last observation: when, and whether there was capacity.
    last: Option<(Timestamp, bool)>,
    /// Since when all observations have agreed.
    since: Option<Timestamp>,
    /// Observed time with capacity.
    up: i64,
    /// Observed time without.
    down: i64,
    /// Runs with capacity that ended, in thousandths (they decay too).
    ups_ended: i64,
    /// Runs without that ended, in thousandths.
    downs_ended: i64,
    /// When a machine was last taken away.
    last_loss: Option<Timestamp>,
}

impl CapacityMemory {
    /// Observed time after which an observation's weight halves.
    pub const HALF_LIFE: Millis = Millis::from_hours(168);

    /// At `at`, a launch, a refusal, an interruption or a running machine showed whether there was capacity.
    pub fn observe(&mut self, at: Timestamp, has_capacity: bool) {
        if let Some((then, was)) = self.last {
            let span = at.since(then);
            if span.0 <= 0 && was == has_capacity {
                return;
            }
            if span.0 > CONTINUITY.0 {
                self.since = Some(at);
            } else {
                let sum = if was { &mut self.up } else { &mut self.down };
                *sum += span.0;
                if was != has_capacity {
                    let ended = if was { &mut self.ups_ended } else { &mut self.downs_ended };
                    *ended += 1_000;
                    self.since = Some(at);
                }
            }
        } else {
            self.since = Some(at);
        }
        self.last = Some((at, has_capacity));
        if self.up + self.down > 2 * Self::HALF_LIFE.0 {
            for sum in [&mut self.up, &mut self.down, &mut self.ups_ended, &mut self.downs_ended] {
                *sum /= 2;
            }
        }
    }
    /// At `at`, a running machine was taken away (or its interruption was announced).
    pub fn note_loss(&mut self, at: Timestamp) {
        self.last_loss = Some(at);
    }
    /// Whether a machine was taken away within `span` before `now`.
    pub fn lost_within(&self, now: Timestamp, span: Millis) -> bool {
        self.last_loss.is_some_and(|at| now.since(at).0 < span.0)
    }
    /// The last observation.
    pub fn last(&self) -> Option<(Timestamp, bool)> {
        self.last
    }
    /// For how long all observations have agreed with the last one.
    pub fn age(&self, now: Timestamp) -> Millis {
        self.since.map_or(Millis::ZERO, |s| Millis(now.since(s).0.max(0)))
    }
    /// The share of time with capacity, in parts per million. Starts at one half, with a weight of six hours of observation.
    pub fn availability_ppm(&self) -> i64 {
        self.availability_ppm_from(500_000)
    }
    /// Like [`CapacityMemory::availability_ppm`], starting at `prior_ppm`.
    pub fn availability_ppm_from(&self, prior_ppm: i64) -> i64 {
        const PRIOR: i64 = Millis::from_hours(6).0;
        (self.up * 1_000_000 + PRIOR * prior_ppm) / (self.up + self.down + PRIOR)
    }
    /// Observed time with capacity, and how many thousandths of runs of it have ended.
    pub fn stays(&self) -> (i64, i64) {
        (self.up, self.ups_ended)
    }
    /// How long capacity that is there now can be expected to last, having lasted `age`. Runs are heavy-tailed (median 0.3 to 1.4 h,
    /// mean 0.7 to 10.4 h), so what has lasted a while is expected to last as long again.
    pub fn expected_stay(&self, age: Millis) -> Millis {
        const PRIOR: i64 = Millis::from_hours(2).0;
        let mean = (self.up + PRIOR) * 1_000 / (self.ups_ended + 1_000);
        Millis(mean.max(age.0))
    }
    /// How long capacity that is missing now can be expected to stay away, having been away for `age`.
    pub fn expected_absence(&self, age: Millis) -> Millis {
        const PRIOR: i64 = Millis::from_hours(2).0;
        let mean = (self.down + PRIOR) * 1_000 / (self.downs_ended + 1_000);
        Millis(mean.max(age.0))
    }
}
