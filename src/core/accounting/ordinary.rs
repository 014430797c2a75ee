//! How far a value of a series is from what is ordinary there.
//!
//! Decides: the ordinary (the median of the same place in earlier seasons, a few steps to either side, rescaled to the level of late if the
//! rule asks for it), its spread (1.4826 times the median deviation, with floors), and which of many alarms of one cause is reported.
//! Does not: know what a value means. [`super::anomaly`] is the rule for costs by the hour; `tests/nab` holds the rule against the Numenta
//! Anomaly Benchmark.

use std::collections::{BTreeMap, VecDeque};

/// With fewer values than this to compare with, nothing is out of the ordinary.
const LEAST_SAMPLES: usize = 4;
/// 1.4826 times the median deviation estimates the standard deviation of a normal distribution; in ten-thousandths.
const NORMAL: i128 = 14_826;

/// What a step without a value stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Absent {
    /// Nothing: zero, as for costs.
    Zero,
    /// A value that is not known.
    Unknown,
}

/// Which values can be out of the ordinary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sides {
    /// Those above it.
    Above,
    /// Those above and those below.
    Both,
}

/// A shorter season that helps out while there are too few of the long ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shorter {
    /// Its steps.
    pub season: i64,
    /// How many are looked back on.
    pub seasons: i64,
}

/// What is ordinary in a series. Lengths are in steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// Steps of a season: a value is compared with those a whole number of seasons before.
    pub season: i64,
    /// How many seasons are looked back on.
    pub seasons: i64,
    /// Steps to either side that count as the same place in a season.
    pub near: i64,
    /// Earlier seasons are rescaled by the median of this many steps before each; `None`: taken as they were.
    pub level: Option<i64>,
    /// Helps out while there are too few seasons.
    pub shorter: Option<Shorter>,
    /// Steps of history before a season is ordinary.
    pub history: i64,
    /// A value must be as far from the median of this many steps before it too. It stands alone while there is no season yet, once there is
    /// the length of one.
    pub lately: Option<i64>,
    /// What a step without a value stands for.
    pub absent: Absent,
    /// Which values can be out of the ordinary.
    pub sides: Sides,
    /// The spread is at least this part of the ordinary, in per cent.
    pub least_spread_percent: i64,
    /// ... and at least this; one or more.
    pub least_spread: i64,
}

/// How far a value is from the ordinary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Departure {
    /// What is ordinary.
    pub ordinary: i64,
    /// Thousandths of a spread, rounded down; not positive on a side that does not count.
    pub milli_spreads: i64,
}

fn median(mut values: Vec<i64>) -> i64 {
    if values.is_empty() {
        return 0;
    }
    // Of an even number the upper one.
    let middle = values.len() / 2;
    *values.select_nth_unstable(middle).1
}

fn narrow(value: i128) -> i64 {
    i64::try_from(value).unwrap_or(if value < 0 { i64::MIN } else { i64::MAX })
}

impl Rule {
    fn value<V: Copy + Into<i64>>(&self, series: &BTreeMap<i64, V>, step: i64) -> Option<i64> {
        let known = series.get(&step).map(|value| (*value).into());
        known.or((self.absent == Absent::Zero).then_some(0))
    }

    /// The values of the `steps` before `end`.
    fn before<V: Copy + Into<i64>>(&self, series: &BTreeMap<i64, V>, end: i64, steps: i64) -> Vec<i64> {
        let mut values: Vec<i64> = series.range(end - steps..end).map(|(_, value)| (*value).into()).collect();
        if self.absent == Absent::Zero {
            values.resize(usize::try_from(steps).unwrap_or_default(), 0);
        }
        values
    }

    fn level_at<V: Copy + Into<i64>>(&self, series: &BTreeMap<i64, V>, step: i64) -> Option<i64> {
        // Two steps back: what is being judged does not move the level it is judged by.
        self.level.map(|steps| median(self.before(series, step - 2, steps)))
    }

    /// The values that stood at the same place in earlier seasons; none without history enough.
    fn of_season<V: Copy + Into<i64>>(&self, series: &BTreeMap<i64, V>, step: i64, first: i64) -> Vec<i64> {
        let mut samples = Vec::new();
        if step - first < self.history {
            return samples;
        }
        let now = self.level_at(series, step);
        for then in (1..=self.seasons).map(|season| step - season * self.season) {
            if then - self.near - self.level.unwrap_or(0) < first {
                break;
            }
            let scale = now.zip(self.level_at(series, then)).filter(|(now, then)| *now > 0 && *then > 0);
            let around = (then - self.near..=then + self.near).filter_map(|at| self.value(series, at));
            samples.extend(around.map(|value| match scale {
                Some((now, then)) => narrow(i128::from(value) * i128::from(now) / i128::from(then)),
                None => value,
            }));
        }
        if let (true, Some(short)) = (samples.len() < LEAST_SAMPLES, self.shorter) {
            let steps = (1..=short.seasons).map(|season| step - season * short.season).filter(|at| *at >= first);
            samples.extend(steps.filter_map(|at| self.value(series, at)));
        }
        samples
    }

    fn from(&self, samples: Vec<i64>, value: i64) -> Option<Departure> {
        if samples.len() < LEAST_SAMPLES {
            return None;
        }
        let ordinary = median(samples.clone());
        let deviation = median(samples.iter().map(|x| (x - ordinary).abs()).collect());
        let spread = narrow(i128::from(deviation) * NORMAL / 10_000);
        let spread = spread.max(ordinary.abs() / 100 * self.least_spread_percent).max(self.least_spread).max(1);
        let by = i128::from(value) - i128::from(ordinary);
        let by = if self.sides == Sides::Both { by.abs() } else { by };
        Some(Departure { ordinary, milli_spreads: narrow((by * 1_000).div_euclid(i128::from(spread))) })
    }

    /// How far the value of `step` is from the ordinary; `None` without history enough, or without a value.
    pub fn departure<V: Copy + Into<i64>>(&self, series: &BTreeMap<i64, V>, step: i64) -> Option<Departure> {
        let first = *series.keys().next()?;
        let value = self.value(series, step)?;
        let by_season = self.from(self.of_season(series, step, first), value);
        let lately = self.lately.filter(|_| step - first >= self.season);
        let by_late = lately.and_then(|steps| self.from(self.before(series, step, steps), value));
        by_season.into_iter().chain(by_late).min_by_key(|departure| departure.milli_spreads)
    }
}

/// Alarms that are news: worse than every one of the `quiet` steps before, by step. An anomaly that goes on is one, until it is worse.
pub fn news(milli_spreads: &BTreeMap<i64, i64>, quiet: i64) -> BTreeMap<i64, i64> {
    // Falling from front to back: what is no worse than a later one cannot be the worst again.
    let mut worst: VecDeque<(i64, i64)> = VecDeque::new();
    let mut news = BTreeMap::new();
    for (&step, &far) in milli_spreads {
        while worst.front().is_some_and(|(then, _)| *then < step - quiet) {
            worst.pop_front();
        }
        if far > worst.front().map_or(0, |(_, far)| *far) {
            news.insert(step, far);
        }
        while worst.back().is_some_and(|(_, before)| *before <= far) {
            worst.pop_back();
        }
        worst.push_back((step, far));
    }
    news
}
