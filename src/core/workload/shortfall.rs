//! How long a service had fewer ready replicas than requested.
//!
//! Decides: how observations of a service become periods of shortfall, and how long they are remembered. Does not: observe, or know a goal.

use crate::core::units::time::{Millis, Timestamp};
use serde::{Deserialize, Serialize};

/// Spans remembered at most: a shortfall every five minutes of a day. Older ones are merged into their successor, which overcounts rather
/// than undercounts.
const MOST_SPANS: usize = 288;
/// Nothing further back is needed.
const REMEMBERED: Millis = Millis::from_hours(48);

/// Spans of shortfall of one service, the oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Shortfall {
    /// From when to when, both in Unix milliseconds.
    spans: Vec<(Timestamp, Timestamp)>,
    /// It has been short since then.
    since: Option<Timestamp>,
    /// Enough were ready at some time: what was never up cannot be down.
    begun: bool,
}

impl Shortfall {
    /// At `at`, enough replicas were ready or not. Returns whether anything changed that is worth saving.
    pub fn observe(&mut self, at: Timestamp, enough: bool) -> bool {
        match (self.since, enough) {
            (None, false) if self.begun => self.since = Some(at),
            (Some(since), true) => {
                self.since = None;
                self.spans.retain(|(_, to)| at.since(*to).0 < REMEMBERED.0);
                if self.spans.len() >= MOST_SPANS {
                    let oldest = self.spans.remove(0);
                    if let Some(next) = self.spans.first_mut() {
                        next.0 = Timestamp(next.0.0 - oldest.1.since(oldest.0).0);
                    }
                }
                if at.since(since).0 > 0 {
                    self.spans.push((since, at));
                }
            }
            (None, true) if !self.begun => self.begun = true,
            _ => return false,
        }
        true
    }

    /// How long it was short in the `span` before `now`, up to now.
    pub fn within(&self, now: Timestamp, span: Millis) -> Millis {
        let from = now - span;
        let open = self.since.map(|since| (since, now));
        let part = |(a, b): &(Timestamp, Timestamp)| (*b).min(now).since((*a).max(from)).0.max(0);
        Millis(self.spans.iter().chain(open.iter()).map(part).sum())
    }

    /// Nothing is left of it that a span of two days before `now` would count.
    pub fn is_forgotten(&self, now: Timestamp) -> bool {
        self.since.is_none() && self.spans.iter().all(|(_, to)| now.since(*to).0 >= REMEMBERED.0)
    }
}

#[cfg(test)]
mod tests {
    use crate::core::workload::shortfall::*;

    #[test]
    fn the_first_start_does_not_count_and_what_is_older_than_the_span_neither() {
        let minute = |m: i64| Timestamp(m * 60_000);
        let mut seen = Shortfall::default();
        assert!(!seen.observe(minute(0), false), "it was never up");
        assert!(seen.observe(minute(5), true));
        assert!(seen.observe(minute(10), false) && !seen.observe(minute(11), false));
        assert_eq!(seen.within(minute(12), Millis::from_hours(24)), Millis::from_mins(2), "it still is");
        seen.observe(minute(13), true);
        seen.observe(minute(60), false);
        seen.observe(minute(61), true);
        for (now, hours, minutes) in [(70, 24, 4), (72, 1, 2), (71, 1, 3), (200, 1, 0), (61, 24, 4)] {
            assert_eq!(seen.within(minute(now), Millis::from_hours(hours)), Millis::from_mins(minutes), "at {now}, {hours} h");
        }
        assert!(!seen.is_forgotten(minute(70)) && seen.is_forgotten(minute(61 + 48 * 60)));
    }

    #[test]
    fn it_stays_small_and_never_counts_less_for_it() {
        let mut seen = Shortfall::default();
        seen.observe(Timestamp(0), true);
        for k in 0..1_000 {
            seen.observe(Timestamp(k * 60_000), false);
            seen.observe(Timestamp(k * 60_000 + 1_000), true);
        }
        assert!(seen.spans.len() <= MOST_SPANS);
        assert_eq!(seen.within(Timestamp(1_000 * 60_000), Millis::from_hours(24)), Millis(1_000_000));
    }
}
