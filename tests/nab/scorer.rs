//! The score of the Numenta Anomaly Benchmark, standard profile, after Lavin and Ahmad, "Evaluating Real-time Anomaly Detection Algorithms:
//! the Numenta Anomaly Benchmark" (2015).
//!
//! The first alarm inside a labelled window counts, the more the earlier: from 1 at the window's start to 0 at its end. An alarm outside costs
//! up to 0.11, the less the closer it follows a window. A window without an alarm costs 1. The first 15 % of a file, at most 750 rows, are for
//! learning. One threshold for all files, the best; 0 is what no alarm at all scores, 100 the first row of every window and nothing else.

/// Rows of a file and its labelled windows, as first and last row, in order.
#[derive(Clone)]
pub struct Labels {
    pub rows: usize,
    pub windows: Vec<(usize, usize)>,
}

/// An alarm: how sure, in which file, at which row.
pub type Alarm = (i64, usize, usize);

const FALSE_ALARM: f64 = 0.11;
/// Further behind a window than three times its length, an alarm has nothing to do with it.
const FAR: f64 = 3.0;

fn sigmoid(at: f64) -> f64 {
    2.0 / (1.0 + (5.0 * at).exp()) - 1.0
}

enum Worth {
    Found { window: usize, reward: f64 },
    False { cost: f64 },
}

impl Labels {
    fn learning(&self) -> usize {
        (self.rows * 15 / 100).min(750)
    }

    fn worth(&self, row: usize) -> Worth {
        if let Some(window) = self.windows.iter().position(|(first, last)| (*first..=*last).contains(&row)) {
            let (first, last) = self.windows[window];
            // -1 at the first row.
            let at = -((last + 1 - row) as f64) / (last + 1 - first) as f64;
            return Worth::Found { window, reward: sigmoid(at) / sigmoid(-1.0) };
        }
        let behind = self.windows.iter().rev().find(|(_, last)| *last < row);
        let at = behind.map_or(f64::INFINITY, |(first, last)| (row - last) as f64 / (last - first) as f64);
        Worth::False { cost: FALSE_ALARM * if at > FAR { -1.0 } else { sigmoid(at) } }
    }
}

/// What one threshold for all files scores at best.
pub struct Score {
    pub points: f64,
    pub threshold: i64,
    pub found: usize,
    pub windows: usize,
    pub false_alarms: usize,
}

pub fn score(files: &[Labels], mut alarms: Vec<Alarm>) -> Score {
    let windows = files.iter().map(|file| file.windows.len()).sum::<usize>();
    let mut rewards: Vec<Vec<Option<f64>>> = files.iter().map(|file| vec![None; file.windows.len()]).collect();
    alarms.retain(|(_, file, row)| *row >= files[*file].learning());
    alarms.sort_by_key(|alarm| std::cmp::Reverse(alarm.0));
    let mut best = Score { points: 0.0, threshold: i64::MAX, found: 0, windows, false_alarms: 0 };
    let (mut sum, mut found, mut false_alarms) = (0.0, 0, 0);
    for (at, (sure, file, row)) in alarms.iter().enumerate() {
        match files[*file].worth(*row) {
            Worth::False { cost } => {
                sum += cost;
                false_alarms += 1;
            }
            Worth::Found { window, reward } => {
                let before = &mut rewards[*file][window];
                found += usize::from(before.is_none());
                // Against a miss, or against a later alarm that was surer.
                sum += (reward - before.unwrap_or(-1.0)).max(0.0);
                *before = Some(before.unwrap_or(reward).max(reward));
            }
        }
        let points = 100.0 * sum / (2 * windows) as f64;
        if alarms.get(at + 1).is_none_or(|next| next.0 < *sure) && points > best.points {
            best = Score { points, threshold: *sure, found, windows, false_alarms };
        }
    }
    best
}
