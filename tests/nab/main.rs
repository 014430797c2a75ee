//! The rule of what is ordinary, held against the Numenta Anomaly Benchmark: 58 series with 116 labelled windows.
//!
//! The ledger's own rule asks for weeks of dollars; these are metrics of two weeks and more, mostly a value every five minutes. What is run is
//! the same rule with other settings, the same for all files: hours are averaged, a season is a day, and both sides count. `README.md` says
//! where the data is from.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use lowtide::core::accounting::anomaly::{HOURLY, WEEK};
use lowtide::core::accounting::ordinary::{Absent, Rule, Sides, news};

mod scorer;

use scorer::{Alarm, Labels, score};

const HOUR: i64 = 3_600;
const DAY: i64 = 24;
/// Random Cut Forest on the same data, by the benchmark's own results.
const RANDOM_CUT_FOREST: f64 = 51.7;

/// Six weeks back, an hour to either side, a floor of 10 %: as for costs. The level is not rescaled, as there is seldom history for it.
const METRIC: Rule = Rule {
    season: DAY,
    seasons: 6 * 7,
    level: None,
    shorter: None,
    history: 2 * DAY,
    lately: Some(WEEK),
    absent: Absent::Unknown,
    sides: Sides::Both,
    // A millionth: values are kept in millionths.
    least_spread: 1,
    ..HOURLY
};

struct File {
    labels: Labels,
    /// Means in millionths, by hour since 1970.
    hours: BTreeMap<i64, i64>,
    /// The row at which an hour's mean is known: the first of the next hour, or its own in a series of hours.
    known: BTreeMap<i64, usize>,
}

fn numbers<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> Vec<T> {
    text.split(' ').map(|word| word.parse().unwrap()).collect()
}

fn read(path: &Path) -> File {
    let (mut at, mut step, mut windows, mut rows) = (0, 0, Vec::new(), Vec::<(i64, f64)>::new());
    let mut next = 0;
    for line in fs::read_to_string(path).unwrap().lines() {
        if let Some(start) = line.strip_prefix("start ") {
            next = start.parse().unwrap();
        } else if let Some(usual) = line.strip_prefix("step ") {
            step = usual.parse().unwrap();
        } else if let Some(window) = line.strip_prefix("window ") {
            let window = numbers::<usize>(window);
            windows.push((window[0], window[1]));
        } else if let Some(other) = line.strip_prefix('+') {
            next = at + other.parse::<i64>().unwrap();
        } else {
            at = next;
            next = at + step;
            rows.push((at, line.parse().unwrap()));
        }
    }
    let (mut hours, mut known) = (BTreeMap::new(), BTreeMap::new());
    let (mut hour, mut values) = (rows[0].0.div_euclid(HOUR), Vec::new());
    let mean = |values: &[f64]| (values.iter().sum::<f64>() / values.len() as f64 * 1e6).round() as i64;
    for (row, (at, value)) in rows.iter().enumerate() {
        if at.div_euclid(HOUR) > hour {
            hours.insert(hour, mean(&values));
            known.insert(hour, if step < HOUR { row } else { row - 1 });
            (hour, values) = (at.div_euclid(HOUR), Vec::new());
        }
        // Where a clock went back, the hour goes on.
        values.push(*value);
    }
    File { labels: Labels { rows: rows.len(), windows }, hours, known }
}

fn corpus() -> Vec<File> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/nab/data");
    let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| read(path)).collect()
}

fn departures(rule: &Rule, files: &[File]) -> Vec<BTreeMap<i64, i64>> {
    let far = |file: &File, hour| rule.departure(&file.hours, hour).map(|departure| (hour, departure.milli_spreads));
    files.iter().map(|file| file.hours.keys().filter_map(|hour| far(file, *hour)).collect()).collect()
}

fn alarms(files: &[File], departures: &[BTreeMap<i64, i64>], quiet: i64) -> Vec<Alarm> {
    let of_file = |(at, (file, far)): (usize, (&File, _))| -> Vec<Alarm> {
        news(far, quiet).into_iter().map(|(hour, far)| (far, at, file.known[&hour])).collect()
    };
    files.iter().zip(departures).enumerate().flat_map(of_file).collect()
}

/// Hours, and the hour before each: the lesser of the two.
fn two_in_a_row(departures: &[BTreeMap<i64, i64>]) -> Vec<BTreeMap<i64, i64>> {
    let lesser = |far: &BTreeMap<i64, i64>| {
        let pair = |(hour, now): (&i64, &i64)| far.get(&(hour - 1)).map(|before| (*hour, *now.min(before)));
        far.iter().filter_map(pair).collect()
    };
    departures.iter().map(lesser).collect()
}

/// The points with alarms reported that are the worst of three to ten days.
fn points(name: &str, files: &[File], departures: &[BTreeMap<i64, i64>]) -> Vec<f64> {
    let labels: Vec<Labels> = files.iter().map(|file| file.labels.clone()).collect();
    let of = |days: &i64| {
        let score = score(&labels, alarms(files, departures, days * DAY));
        let (found, windows, false_alarms, threshold) = (score.found, score.windows, score.false_alarms, score.threshold);
        println!(
            "{name}, worst of {days} days: {:.1} ({found} of {windows} windows, {false_alarms} alarms outside, from {threshold} thousandths)",
            score.points
        );
        score.points
    };
    [3, 4, 5, 6, 7, 8, 10].iter().map(of).collect()
}

#[test]
fn the_rule_scores_above_random_cut_forest() {
    let files = corpus();
    assert_eq!((files.len(), files.iter().map(|file| file.labels.windows.len()).sum::<usize>()), (58, 116));
    let points = points("the rule", &files, &departures(&METRIC, &files));
    assert!(points.iter().all(|points| *points > RANDOM_CUT_FOREST), "{points:?}");
}

#[test]
#[cfg_attr(debug_assertions, ignore = "six times the benchmark: over a minute without optimisation")]
fn the_score_does_not_hang_on_one_setting() {
    let files = corpus();
    let variants = [
        ("floor of 5 %", Rule { least_spread_percent: 5, ..METRIC }),
        ("floor of 20 %", Rule { least_spread_percent: 20, ..METRIC }),
        ("two weeks back", Rule { seasons: 14, ..METRIC }),
        ("two weeks of late", Rule { lately: Some(2 * WEEK), ..METRIC }),
        ("rescaled by the level of a week", Rule { level: Some(WEEK), ..METRIC }),
        ("season only", Rule { lately: None, ..METRIC }),
    ];
    for (name, rule) in variants {
        let points = points(name, &files, &departures(&rule, &files));
        assert!(points[2] > RANDOM_CUT_FOREST, "{name}: {points:?}");
    }
}

/// What protects a ledger from false alarms costs points here: labels are often one spike, or a fall.
#[test]
fn two_hours_in_a_row_and_only_above_score_less() {
    let files = corpus();
    let far = departures(&METRIC, &files);
    let whole = points("the rule", &files, &far);
    let above = points("only above", &files, &departures(&Rule { sides: Sides::Above, ..METRIC }, &files));
    let pairs = points("two hours in a row", &files, &two_in_a_row(&far));
    assert!(whole.iter().zip(&above).zip(&pairs).all(|((whole, above), pair)| above < whole && pair < whole));
}

#[test]
fn the_first_row_of_every_window_scores_a_hundred_and_no_alarm_nothing() {
    let labels: Vec<Labels> = corpus().iter().map(|file| file.labels.clone()).collect();
    assert!(score(&labels, Vec::new()).points.abs() < 1e-9);
    let first = |(at, file): (usize, &Labels)| -> Vec<Alarm> { file.windows.iter().map(|window| (1, at, window.0)).collect() };
    let perfect: Vec<Alarm> = labels.iter().enumerate().flat_map(first).collect();
    assert!((score(&labels, perfect.clone()).points - 100.0).abs() < 1e-9);
    // One alarm far from any window, as sure as the rest: 0.11 of 232.
    let far = labels.iter().position(|file| file.windows.is_empty()).unwrap();
    let with_one: Vec<Alarm> = perfect.into_iter().chain([(1, far, 2_000)]).collect();
    assert!((score(&labels, with_one).points - (100.0 - 11.0 / 232.0)).abs() < 1e-9);
}

#[test]
fn an_alarm_that_goes_on_is_one_until_it_is_worse_or_old() {
    let far = BTreeMap::from([(1, -5), (2, 4_000), (3, 4_000), (4, 3_000), (5, 6_000), (6, 5_000), (16, 5_500), (17, 5_500)]);
    let expected = BTreeMap::from([(2, 4_000), (5, 6_000), (16, 5_500)]);
    assert_eq!(news(&far, 10), expected);
    // One step longer, and the worst is not forgotten yet.
    assert_eq!(news(&far, 11), BTreeMap::from([(2, 4_000), (5, 6_000)]));
}
