//! How much of the GPUs that a pod holds it used, and what the used and the unused part cost.
//!
//! Decides: what readings of a GPU say of a span of time (the time between two readings, by the later one; a gap is not measured, and neither idle nor
//! zero), and the split of an amount into active, allocated but idle, and unmeasured, which adds up exactly. `src/ledger/views/gpu_use.sql` states the split
//! in SQL; a test compares both.
//! Does not: know metrics or ask anyone. Memory says nothing of use: serving engines take all of it, whatever they need.
//!
//! Source: NVIDIA, "DCGM Field Identifiers": profiling fields are averages over the time since the reading before.

use std::collections::BTreeMap;

use crate::core::units::money::MicroUsd;
use crate::core::units::time::{Millis, Timestamp};

/// All of a GPU: activity is in millionths.
pub const WHOLE: i64 = 1_000_000;
/// Readings that are further apart leave a gap, however rarely a GPU is read: Prometheus takes a series for gone after as long.
///
/// Source: Prometheus, "Querying basics", staleness.
pub const LONGEST_GAP: Millis = Millis::from_mins(5);

/// Readings of one GPU, or of one MIG instance, from one or several series.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Device {
    /// Activity in millionths, by when it was read.
    readings: BTreeMap<Timestamp, i64>,
    /// Time between two readings of its slowest series.
    rhythm: Millis,
}

impl Device {
    /// Takes the readings of a series in the order of time; those of two servers that read the same GPU are put together. What is no share of a GPU, as
    /// DCGM's values for "not supported", is left out.
    pub fn add(&mut self, series: impl IntoIterator<Item = (Timestamp, i64)>) {
        let kept: Vec<(Timestamp, i64)> = series.into_iter().filter(|(_, active)| (0..=WHOLE).contains(active)).collect();
        let mut gaps: Vec<i64> = kept.windows(2).map(|pair| pair[1].0.since(pair[0].0).0).collect();
        gaps.sort_unstable();
        self.rhythm = self.rhythm.max(Millis(gaps.get(gaps.len() / 2).copied().unwrap_or_default()));
        self.readings.extend(kept);
    }

    /// Measured time within a span, and activity in it in millionths times milliseconds.
    fn within(&self, (from, to): (Timestamp, Timestamp)) -> (i64, i64) {
        if to <= from {
            return (0, 0);
        }
        // Half as much again: scrapes are late, but none is missing.
        let longest = Millis(self.rhythm.0 * 3 / 2).min(LONGEST_GAP);
        let (mut sampled, mut active, mut before) = (0, 0, None);
        for (at, activity) in self.readings.range(from - longest..=to + longest) {
            if let Some(before) = before.replace(*at).filter(|before| at.since(*before) <= longest) {
                let shared = to.min(*at).since(from.max(before)).0.max(0);
                (sampled, active) = (sampled + shared, active + shared * activity);
            }
        }
        (sampled, active)
    }
}

/// What a pod held and used in a span of time, in milliseconds of one GPU: active <= sampled <= allocated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GpuUse {
    /// Held.
    pub allocated: i64,
    /// Active, of what is sampled.
    pub active: i64,
    /// Held while there were readings.
    pub sampled: i64,
}

/// What the readings of a pod's GPUs say of the time that it held `gpus` of them. If there are more devices than it holds, as when a GPU is read as a whole
/// and by its instances, they count in proportion.
pub fn measured<'a>(gpus: i64, span: (Timestamp, Timestamp), devices: impl IntoIterator<Item = &'a Device>) -> GpuUse {
    let allocated = (gpus * span.1.since(span.0).0).max(0);
    let each = devices.into_iter().map(|device| device.within(span));
    let (sampled, active) = each.fold((0_i128, 0_i128), |sum, (sampled, active)| (sum.0 + i128::from(sampled), sum.1 + i128::from(active)));
    let (held, whole) = (sampled.min(i128::from(allocated)), i128::from(WHOLE));
    let active = if sampled == 0 { 0 } else { (active * held / sampled + whole / 2) / whole };
    let fits = |figure: i128| i64::try_from(figure.min(held)).unwrap_or(allocated);
    GpuUse { allocated, active: fits(active), sampled: fits(held) }
}

/// An amount by what it was paid for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Split {
    /// GPUs at work.
    pub active: MicroUsd,
    /// GPUs that were held and not at work.
    pub idle: MicroUsd,
    /// Nobody knows.
    pub unmeasured: MicroUsd,
}

/// Splits an amount by what is known of the time it was paid for; without a measurement all of it is unmeasured. The three add up to the amount.
pub fn split(amount: MicroUsd, of: Option<GpuUse>) -> Split {
    let Some(of) = of.filter(|of| of.allocated > 0) else { return Split { unmeasured: amount, ..Split::default() } };
    let (active, measured) = (part_of(amount, of.active, of.allocated), part_of(amount, of.sampled, of.allocated));
    Split { active, idle: measured - active, unmeasured: amount - measured }
}

/// A part of an amount, rounded half away from zero.
fn part_of(amount: MicroUsd, part: i64, whole: i64) -> MicroUsd {
    let (product, whole) = (i128::from(amount.0) * i128::from(part), i128::from(whole));
    let rounded = (product.abs() * 2 + whole) / (2 * whole) * product.signum();
    MicroUsd(i64::try_from(rounded).unwrap_or(amount.0))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp(seconds * 1_000)
    }

    fn device(readings: &[(i64, i64)]) -> Device {
        let mut device = Device::default();
        device.add(readings.iter().map(|(seconds, percent)| (at(*seconds), percent * WHOLE / 100)));
        device
    }

    /// Two GPUs for ten minutes; one is read every 30 s, half active, with three scrapes missing; the other never.
    #[test]
    fn a_gap_is_not_measured_and_neither_idle_nor_active() {
        let readings: Vec<(i64, i64)> = (0..=20).filter(|n| ![10, 11, 12].contains(n)).map(|n| (n * 30, 50)).collect();
        let of = measured(2, (at(0), at(600)), [&device(&readings)]);
        // From the tenth reading to the fourteenth nothing is known: 120 s.
        assert_eq!(of, GpuUse { allocated: 1_200_000, sampled: 480_000, active: 240_000 });
        assert_eq!(
            split(MicroUsd(1_000_000), Some(of)),
            Split { active: MicroUsd(200_000), idle: MicroUsd(200_000), unmeasured: MicroUsd(600_000) }
        );
    }

    #[test]
    fn readings_just_outside_a_span_cover_its_ends() {
        let steady = device(&[(-20, 0), (10, 100), (40, 100), (70, 0)]);
        // Ten seconds by the reading at 10, thirty by that at 40, twenty by that at 70.
        assert_eq!(measured(1, (at(0), at(60)), [&steady]), GpuUse { allocated: 60_000, sampled: 60_000, active: 40_000 });
        assert_eq!(measured(1, (at(300), at(360)), [&steady]).sampled, 0);
        assert_eq!(measured(1, (at(0), at(60)), [&device(&[(30, 100)])]).sampled, 0, "one reading speaks of no time");
    }

    #[test]
    fn two_servers_that_read_one_gpu_count_once_and_what_is_no_share_is_left_out() {
        let mut twice = device(&[(0, 40), (30, 40), (60, 40)]);
        twice.add([(at(7), 400_000), (at(37), 400_000), (at(67), 400_000)]);
        assert_eq!(measured(1, (at(0), at(60)), [&twice]), GpuUse { allocated: 60_000, sampled: 60_000, active: 24_000 });
        let mut blank = Device::default();
        blank.add((0..3).map(|n| (at(n * 30), i64::MAX)));
        assert_eq!(measured(1, (at(0), at(60)), [&blank]).sampled, 0);
        // A GPU as a whole beside its two instances.
        let all = [device(&[(0, 90), (60, 90)]), device(&[(0, 60), (60, 60)]), device(&[(0, 0), (60, 0)])];
        assert_eq!(measured(1, (at(0), at(60)), &all), GpuUse { allocated: 60_000, sampled: 60_000, active: 30_000 });
    }

    proptest! {
        /// Whatever was read, the parts are no larger than the whole, and whatever was paid, the split adds up and takes no other sign.
        #[test]
        fn parts_fit_and_splits_add_up(
            gpus in 1_i64..9, length in 0_i64..7_200, amount in -5_000_000_i64..5_000_000_000,
            series in prop::collection::vec(prop::collection::btree_map(-400_i64..8_000, -1_i64..102, 0..60), 0..10),
        ) {
            let devices: Vec<Device> = series.iter().map(|readings| device(&readings.iter().map(|(at, active)| (*at, *active)).collect::<Vec<_>>())).collect();
            let of = measured(gpus, (at(0), at(length)), &devices);
            prop_assert_eq!(of.allocated, gpus * length * 1_000);
            prop_assert!(0 <= of.active && of.active <= of.sampled && of.sampled <= of.allocated, "{:?}", of);
            let parts = split(MicroUsd(amount), Some(of));
            prop_assert_eq!(parts.active + parts.idle + parts.unmeasured, MicroUsd(amount));
            for part in [parts.active, parts.idle, parts.unmeasured] {
                prop_assert!(part.0 == 0 || part.0.signum() == amount.signum(), "{:?}", parts);
            }
            if of.sampled == 0 {
                prop_assert_eq!(parts.unmeasured, MicroUsd(amount));
            }
        }
    }
}
