//! Counters and histograms since the start of the process.
//!
//! Decides: the bounds of the buckets. Does not: decide what is counted, or keep anything over a restart: Prometheus knows a reset.

use std::collections::BTreeMap;

use super::register::{Kind, Metric};
use crate::core::units::time::Millis;

/// Upper bounds of the buckets of passes and calls, in milliseconds.
pub const SHORT_BUCKETS: &[i64] = &[1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000];
/// Upper bounds of the buckets of moves and waits, in milliseconds: two minutes is EC2's notice, and most matters just below it.
pub const LONG_BUCKETS: &[i64] =
    &[500, 1_000, 2_500, 5_000, 10_000, 20_000, 30_000, 45_000, 60_000, 90_000, 120_000, 180_000, 300_000, 600_000, 1_800_000];

/// Values by bucket, their number and their sum.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Histogram {
    /// How many values fell at or below each bound and above the one before; the last is those above all.
    pub buckets: Vec<u64>,
    /// The sum of all values.
    pub sum: Millis,
}

/// All counters and histograms, by metric and by the values of its labels.
#[derive(Debug, Default)]
pub struct Counts {
    totals: BTreeMap<&'static str, BTreeMap<Vec<String>, u64>>,
    histograms: BTreeMap<&'static str, BTreeMap<Vec<String>, Histogram>>,
}

impl Counts {
    /// Shows `metric` with these labels from now on, at zero if nothing was counted: a rate sees no rise in a series that begins with its first event.
    ///
    /// Source: Prometheus, "Instrumentation", "Avoid missing metrics".
    pub fn show(&mut self, metric: &Metric, labels: &[&str]) {
        match metric.kind {
            Kind::Histogram(bounds) => {
                self.histogram(metric, bounds, labels);
            }
            _ => self.add(metric, labels, 0),
        }
    }

    fn histogram(&mut self, metric: &Metric, bounds: &[i64], labels: &[&str]) -> &mut Histogram {
        let empty = || Histogram { buckets: vec![0; bounds.len() + 1], sum: Millis::ZERO };
        self.histograms.entry(metric.name).or_default().entry(owned(labels)).or_insert_with(empty)
    }

    /// Counts `n` more of `metric`.
    pub fn add(&mut self, metric: &Metric, labels: &[&str], n: u64) {
        debug_assert_eq!(labels.len(), metric.labels.len(), "{}", metric.name);
        *self.totals.entry(metric.name).or_default().entry(owned(labels)).or_default() += n;
    }

    /// One more span of `metric`; a span that is negative (clocks differ) is counted as none.
    pub fn observe(&mut self, metric: &Metric, labels: &[&str], span: Millis) {
        debug_assert_eq!(labels.len(), metric.labels.len(), "{}", metric.name);
        let Kind::Histogram(bounds) = metric.kind else { return };
        let span = Millis(span.0.max(0));
        let histogram = self.histogram(metric, bounds, labels);
        if let Some(bucket) = histogram.buckets.get_mut(bounds.partition_point(|bound| *bound < span.0)) {
            *bucket += 1;
        }
        histogram.sum = Millis(histogram.sum.0.saturating_add(span.0));
    }

    /// The counters of `metric`.
    pub fn totals(&self, metric: &Metric) -> impl Iterator<Item = (&Vec<String>, u64)> {
        self.totals.get(metric.name).into_iter().flatten().map(|(labels, n)| (labels, *n))
    }

    /// The histograms of `metric`.
    pub fn histograms(&self, metric: &Metric) -> impl Iterator<Item = (&Vec<String>, &Histogram)> {
        self.histograms.get(metric.name).into_iter().flatten()
    }
}

fn owned(labels: &[&str]) -> Vec<String> {
    labels.iter().map(|label| (*label).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::register::{MOVES, PASS_DURATION};

    #[test]
    fn a_span_on_a_bound_falls_into_that_bucket_and_one_above_all_into_the_last() {
        let mut counts = Counts::default();
        for ms in [0, 1, 2, 3, 30_000, 30_001, -5] {
            counts.observe(&PASS_DURATION, &[], Millis(ms));
        }
        let (_, histogram) = counts.histograms(&PASS_DURATION).next().unwrap();
        assert_eq!(histogram.buckets[..3], [3, 1, 1], "0, 1 and the negative one; 2; 3");
        assert_eq!(histogram.buckets[SHORT_BUCKETS.len() - 1..], [1, 1]);
        assert_eq!(histogram.sum, Millis(60_007));
        counts.show(&PASS_DURATION, &[]);
        assert_eq!(counts.histograms(&PASS_DURATION).next().unwrap().1.sum, Millis(60_007), "what was counted stays");
        counts.show(&MOVES, &["expired", "batch"]);
        assert_eq!(counts.totals(&MOVES).map(|(_, n)| n).collect::<Vec<_>>(), [0]);
        counts.add(&MOVES, &["expired", "batch"], 2);
        counts.add(&MOVES, &["expired", "batch"], 1);
        assert_eq!(counts.totals(&MOVES).map(|(_, n)| n).collect::<Vec<_>>(), [3]);
    }
}
