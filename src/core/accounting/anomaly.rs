//! Whether an hour's cost is out of the ordinary.
//!
//! Decides: the rule for costs ([`HOURLY`]: the same hour of the week, an hour to either side, over six weeks, rescaled to the level of the
//! last week), how far an hour must be from the ordinary, and that two hours in a row make an anomaly. Only more than usual counts.
//! Does not: say how the ordinary and its spread are taken (see [`super::ordinary`]), know what is planned (see `ledger::anomalies`) or say
//! why (see [`super::variance`]).
//!
//! Needs two weeks of history; before that nothing is out of the ordinary, as nothing is ordinary.

use std::collections::BTreeMap;

use super::ordinary::{Absent, Departure, Rule, Shorter, Sides};
use crate::core::units::money::MicroUsd;

/// Hours of a week.
pub const WEEK: i64 = 168;
/// How many thousandths of a spread above the ordinary an hour must be.
const FIRES_AT: i64 = 3_000;

/// What an hour ordinarily costs.
pub const HOURLY: Rule = Rule {
    season: WEEK,
    seasons: 6,
    near: 1,
    level: Some(WEEK),
    // Of a second week there is one sample of three: the day before, at the same hour, helps out.
    shorter: Some(Shorter { season: 24, seasons: 13 }),
    history: 2 * WEEK,
    lately: None,
    absent: Absent::Zero,
    sides: Sides::Above,
    least_spread_percent: 10,
    // Cents are nobody's anomaly.
    least_spread: 2_000_000,
};

/// Costs by hour since 1970. An hour that is absent cost nothing, if it lies after the first.
pub type Hours = BTreeMap<i64, MicroUsd>;

/// An hour out of the ordinary, and the one before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Anomaly {
    /// The second of the two hours.
    pub hour: i64,
    /// What it cost.
    pub cost: MicroUsd,
    /// What is ordinary.
    pub ordinary: MicroUsd,
}

fn fires(hours: &Hours, hour: i64) -> Option<Departure> {
    HOURLY.departure(hours, hour).filter(|departure| departure.milli_spreads >= FIRES_AT)
}

/// Whether `hour` and the one before are both out of the ordinary.
pub fn anomaly(hours: &Hours, hour: i64) -> Option<Anomaly> {
    fires(hours, hour - 1)?;
    let ordinary = MicroUsd(fires(hours, hour)?.ordinary);
    Some(Anomaly { hour, cost: hours.get(&hour).copied().unwrap_or_default(), ordinary })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers from a seed: xorshift64*.
    struct Chance(u64);
    impl Chance {
        fn unit(&mut self) -> f64 {
            self.0 ^= self.0 >> 12;
            self.0 ^= self.0 << 25;
            self.0 ^= self.0 >> 27;
            (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11) as f64 / (1_u64 << 53) as f64
        }
        fn normal(&mut self) -> f64 {
            (-2.0 * self.unit().max(1e-12).ln()).sqrt() * (std::f64::consts::TAU * self.unit()).cos()
        }
    }

    /// Ten weeks of a service: days and weekends, a level that drifts, noise that hangs together.
    fn service(seed: u64) -> Hours {
        let mut chance = Chance(seed * 7_919 + 1);
        let (base, swing, weekend) = (10.0 + 90.0 * chance.unit(), 0.5 * chance.unit(), 0.4 + 0.6 * chance.unit());
        let (mut noise, mut drift) = (0.0, 0.0);
        let cost = |hour: i64, noise: f64, drift: f64| {
            let day = 1.0 + swing * (std::f64::consts::TAU * (hour % 24) as f64 / 24.0).sin();
            let week = if hour / 24 % 7 >= 5 { weekend } else { 1.0 };
            MicroUsd((base * day * week * (1.0_f64 + noise + drift).max(0.1) * 1e6) as i64)
        };
        (0..10 * WEEK)
            .map(|hour| {
                noise = 0.7 * noise + 0.05 * chance.normal();
                drift += 0.0005 * chance.normal();
                (hour, cost(hour, noise, drift))
            })
            .collect()
    }

    #[test]
    fn few_false_alarms_and_spikes_are_found_within_two_hours() {
        let (services, mut alarms, mut found) = (30, 0, [0; 3]);
        let month = 30 * 24;
        for seed in 0..services {
            let hours = service(seed);
            let end = 10 * WEEK;
            alarms += (end - month..end).filter(|hour| anomaly(&hours, *hour).is_some()).count();
            for (at, factor) in [3, 4, 6].into_iter().enumerate() {
                // 1.5, 2 and 3 times the ordinary, for four hours, somewhere in the last week.
                let from = end - WEEK + i64::try_from(seed).unwrap() * 5 % (WEEK - 8);
                let mut spiked = hours.clone();
                for hour in from..from + 4 {
                    spiked.entry(hour).and_modify(|cost| cost.0 = cost.0 * factor / 2);
                }
                found[at] += usize::from(anomaly(&spiked, from + 1).is_some());
            }
        }
        let rate = alarms as f64 / services as f64;
        println!(
            "false alarms per service and 30 days: {rate:.3}; found within two hours of {services}: 1.5x {}, 2x {}, 3x {}",
            found[0], found[1], found[2]
        );
        assert!(rate <= 0.1, "{rate}");
        let all = usize::try_from(services).unwrap();
        assert!(found[0] * 10 >= all * 7 && found[1] * 100 >= all * 95 && found[2] == all, "{found:?}");
    }

    #[test]
    fn a_young_service_and_cents_are_never_out_of_the_ordinary() {
        let hours =
            |cost: i64| -> Hours { (0..4 * WEEK).map(|h| (h, MicroUsd(if h >= 4 * WEEK - 2 { 5 * cost } else { cost }))).collect() };
        let last = 4 * WEEK - 1;
        assert!(anomaly(&hours(10_000_000), last).is_some(), "ten dollars an hour become fifty");
        assert_eq!(anomaly(&hours(100_000), last), None, "ten cents become fifty");
        let young: Hours = hours(10_000_000).into_iter().filter(|(h, _)| *h > 3 * WEEK).collect();
        assert_eq!(anomaly(&young, last), None);
        let mut single = hours(10_000_000);
        single.insert(last, MicroUsd(10_000_000));
        assert_eq!(anomaly(&single, last), None, "one hour is not two");
    }
}
