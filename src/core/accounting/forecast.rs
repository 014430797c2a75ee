//! What the next months will cost, as a range, from drivers: GPU-hours, dollars per GPU-hour, and everything else.
//!
//! Decides: how days are drawn (whole weeks, all components together, so that what moved together stays together), what a scenario changes,
//! and by how much ranges are widened for having been too narrow before.
//! Does not: claim to be right: [`calibrate`] says how often its ranges held, and below twenty origins that is not known.
//!
//! Source of the widening: Gibbs and Candès, "Adaptive Conformal Inference Under Distribution Shift" (2021), on a logarithmic scale.

use std::collections::BTreeMap;

/// A day of one component.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct DayOf {
    /// GPU-hours that were paid for.
    pub gpu_hours: f64,
    /// What machines cost, in dollars.
    pub machines_usd: f64,
    /// What they would have cost on demand, same type and region (B0).
    pub on_demand_usd: f64,
    /// Costs that are not machines: APIs bought, egress, overhead.
    pub other_usd: f64,
}

/// Days in order, without gaps; each with its components.
pub type Days = Vec<BTreeMap<String, DayOf>>;

/// What a scenario changes. The default changes nothing.
#[derive(Debug, Clone, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Scenario {
    /// What it says, for people.
    pub note: String,
    /// Factor on GPU-hours and other costs, each month again, by component; `all` holds for the rest.
    pub volume_per_month: BTreeMap<String, f64>,
    /// Factor on GPU-hours per unit of work, by component.
    pub gpu_hours_per_unit: BTreeMap<String, f64>,
    /// Factor on the price of a GPU-hour.
    pub price: f64,
    /// Everything is bought on demand.
    pub spot_gone: bool,
    /// Dollars a month on top, by component, from the n-th month on (1 is the first).
    pub adds: BTreeMap<String, Addition>,
}

/// A cost that a scenario adds.
#[derive(Debug, Clone, Copy, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Addition {
    /// Dollars a month.
    pub usd_per_month: f64,
    /// From this month on; 1 is the first of the forecast.
    #[serde(default = "first")]
    pub from_month: usize,
}

fn first() -> usize {
    1
}

impl Default for Scenario {
    fn default() -> Self {
        Scenario {
            note: String::new(),
            volume_per_month: BTreeMap::new(),
            gpu_hours_per_unit: BTreeMap::new(),
            price: 1.0,
            spot_gone: false,
            adds: BTreeMap::new(),
        }
    }
}

impl Scenario {
    /// The five that hold without a file.
    pub fn usual() -> BTreeMap<String, Scenario> {
        let all = |factor: f64| BTreeMap::from([("all".to_owned(), factor)]);
        let said = |note: &str, scenario: Scenario| Scenario { note: note.to_owned(), ..scenario };
        let base = Scenario::default;
        BTreeMap::from([
            ("base".to_owned(), said("the last weeks go on", base())),
            (
                "optimised".to_owned(),
                said("a fifth fewer GPU-hours for the same work", Scenario { gpu_hours_per_unit: all(0.8), ..base() }),
            ),
            ("growth".to_owned(), said("a tenth more work each month", Scenario { volume_per_month: all(1.1), ..base() })),
            (
                "new-feature".to_owned(),
                said(
                    "$1,000 a month of inference from the second month on",
                    Scenario {
                        adds: BTreeMap::from([("inference".to_owned(), Addition { usd_per_month: 1_000.0, from_month: 2 })]),
                        ..base()
                    },
                ),
            ),
            ("pessimistic".to_owned(), said("no spot, and prices a tenth up", Scenario { spot_gone: true, price: 1.1, ..base() })),
        ])
    }

    fn factor(of: &BTreeMap<String, f64>, component: &str) -> f64 {
        of.get(component).or_else(|| of.get("all")).copied().unwrap_or(1.0)
    }

    /// What `day` of `component` costs in the n-th month (from 0).
    fn cost(&self, component: &str, day: &DayOf, month: usize) -> f64 {
        let growth = Self::factor(&self.volume_per_month, component).powi(i32::try_from(month + 1).unwrap_or(i32::MAX));
        let machines = if self.spot_gone { day.on_demand_usd.max(day.machines_usd) } else { day.machines_usd };
        machines * growth * Self::factor(&self.gpu_hours_per_unit, component) * self.price + day.other_usd * growth
    }
}

/// A range: in four of five cases the outcome is to lie between its ends.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Range {
    /// The tenth percentile.
    pub low: f64,
    /// The median.
    pub middle: f64,
    /// The ninetieth percentile.
    pub high: f64,
}

impl Range {
    fn of(mut draws: Vec<f64>) -> Range {
        draws.sort_by(f64::total_cmp);
        let at = |percent: usize| draws.get((draws.len() * percent / 100).min(draws.len().saturating_sub(1))).copied().unwrap_or(0.0);
        Range { low: at(10), middle: at(50), high: at(90) }
    }

    /// As wide again by `factor` to either side, never below 0.
    pub fn widened(self, factor: f64) -> Range {
        let Range { low, middle, high } = self;
        Range { low: (middle - (middle - low) * factor).max(0.0), middle, high: middle + (high - middle) * factor }
    }

    fn holds(&self, outcome: f64) -> bool {
        (self.low..=self.high).contains(&outcome)
    }
}

/// Days of a block: whole weeks, so that a Monday follows a Sunday.
const BLOCK: usize = 7;
/// Draws of one forecast.
const DRAWS: usize = 400;
/// Days that are drawn from; older ones are another time.
const LOOKS_BACK: usize = 91;
/// With fewer days than this nothing is forecast.
pub const LEAST_DAYS: usize = 14;
/// With fewer origins than this the coverage is not known.
pub const LEAST_ORIGINS: usize = 20;
/// How many of ten outcomes are to lie outside of a range: two.
const OUTSIDE: f64 = 0.2;
/// How fast ranges widen and narrow.
const PACE: f64 = 0.5;

/// Numbers from a seed: SplitMix64.
struct Chance(u64);
impl Chance {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        usize::try_from((z ^ (z >> 31)) % u64::try_from(n.max(1)).unwrap_or(1)).unwrap_or(0)
    }
}

/// The cost of each of the next `months` (given by their days) by component, and of all components under the empty name.
pub fn forecast(days: &Days, months: &[usize], scenario: &Scenario, seed: u64) -> Vec<BTreeMap<String, Range>> {
    let days = &days[days.len().saturating_sub(LOOKS_BACK)..];
    if days.len() < BLOCK {
        return Vec::new();
    }
    let components: std::collections::BTreeSet<&String> = days.iter().flat_map(BTreeMap::keys).chain(scenario.adds.keys()).collect();
    let mut draws: Vec<BTreeMap<String, Vec<f64>>> = vec![BTreeMap::new(); months.len()];
    let mut chance = Chance(seed);
    for _ in 0..DRAWS {
        let mut at = days.len();
        let mut left = 0;
        for (month, length) in months.iter().enumerate() {
            let mut sums: BTreeMap<&str, f64> = components.iter().map(|name| (name.as_str(), 0.0)).collect();
            for _ in 0..*length {
                if left == 0 {
                    // A whole number of weeks before the day that is drawn for: the same weekday.
                    let weeks = days.len() / BLOCK;
                    at = days.len() - BLOCK * (1 + chance.below(weeks));
                    left = BLOCK;
                }
                for (name, day) in &days[at] {
                    *sums.entry(name).or_default() += scenario.cost(name, day, month);
                }
                (at, left) = (at + 1, left - 1);
            }
            for (name, added) in &scenario.adds {
                if month + 1 >= added.from_month {
                    *sums.entry(name).or_default() += added.usd_per_month;
                }
            }
            let all = sums.values().sum();
            draws[month].entry(String::new()).or_default().push(all);
            for (name, usd) in sums {
                draws[month].entry(name.to_owned()).or_default().push(usd);
            }
        }
    }
    draws.into_iter().map(|month| month.into_iter().map(|(name, draws)| (name, Range::of(draws))).collect()).collect()
}

/// How often ranges held that were made before the outcome was known.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Calibration {
    /// Origins: weeks that were forecast from the days before them alone.
    pub origins: usize,
    /// Part of the ranges that held, as drawn.
    pub drawn: f64,
    /// Part of the ranges that held, as widened by what was known at the time.
    pub widened: f64,
    /// By how much ranges are widened now.
    pub factor: f64,
}

impl Calibration {
    /// In words, to stand beside a figure.
    pub fn sentence(&self) -> String {
        let held = format!(
            "{:.0} % of {} weekly ranges held, asked were 80 % ({:.0} % before widening)",
            100.0 * self.widened,
            self.origins,
            100.0 * self.drawn
        );
        if self.origins < LEAST_ORIGINS {
            format!("not calibrated: {} origins, at least {LEAST_ORIGINS} are needed; {held}", self.origins)
        } else {
            held
        }
    }
}

/// Forecasts each week from the days before it, holds the outcome against the range, and learns how wide ranges have to be.
pub fn calibrate(days: &Days, seed: u64) -> Calibration {
    let (mut factor, mut origins, mut drawn, mut widened) = (1.0_f64, 0, 0, 0);
    let total = |day: &BTreeMap<String, DayOf>| day.values().map(|of| of.machines_usd + of.other_usd).sum::<f64>();
    let mut origin = days.len() % BLOCK + 2 * BLOCK;
    while origin + BLOCK <= days.len() {
        let before = days[..origin].to_vec();
        let made = forecast(&before, &[BLOCK], &Scenario::default(), seed);
        let Some(range) = made.first().and_then(|month| month.get("")) else { break };
        let outcome: f64 = days[origin..origin + BLOCK].iter().map(total).sum();
        origins += 1;
        drawn += usize::from(range.holds(outcome));
        let held = range.widened(factor).holds(outcome);
        widened += usize::from(held);
        let missed = if held { 0.0 } else { 1.0 };
        factor = (factor * (PACE * (missed - OUTSIDE)).exp()).clamp(0.5, 20.0);
        origin += BLOCK;
    }
    let part = |n: usize| if origins == 0 { 0.0 } else { n as f64 / origins as f64 };
    Calibration { origins, drawn: part(drawn), widened: part(widened), factor }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn days(n: usize, seed: u64, mut usd: impl FnMut(usize) -> f64) -> Days {
        let mut chance = Chance(seed);
        (0..n)
            .map(|day| {
                let noise = 0.8 + 0.4 * chance.below(1_000) as f64 / 1_000.0;
                let machines = usd(day) * noise;
                BTreeMap::from([
                    (
                        "inference".to_owned(),
                        DayOf { gpu_hours: machines, machines_usd: machines, on_demand_usd: 3.0 * machines, other_usd: 0.0 },
                    ),
                    ("api".to_owned(), DayOf { other_usd: 10.0, ..DayOf::default() }),
                ])
            })
            .collect()
    }

    #[test]
    fn scenarios_change_what_they_say_and_components_add_up() {
        let history = days(60, 1, |_| 100.0);
        let of = |name: &str| forecast(&history, &[30, 31], &Scenario::usual()[name], 7);
        let middle = |made: &[BTreeMap<String, Range>], month: usize, component: &str| made[month][component].middle;
        let base = of("base");
        assert!((middle(&base, 0, "") - 3_300.0).abs() < 150.0, "{}", middle(&base, 0, ""));
        assert!((middle(&base, 0, "api") - 300.0).abs() < 1e-6 && base[0][""].low < base[0][""].high);
        let close = |a: f64, b: f64| (a / b - 1.0).abs() < 0.02;
        assert!(close(middle(&of("optimised"), 0, "inference"), 0.8 * middle(&base, 0, "inference")));
        assert!(close(middle(&of("growth"), 1, "inference"), 1.21 * middle(&base, 1, "inference")));
        assert!(close(middle(&of("pessimistic"), 0, "inference"), 3.3 * middle(&base, 0, "inference")));
        let feature = of("new-feature");
        assert!(close(middle(&feature, 0, ""), middle(&base, 0, "")) && close(middle(&feature, 1, ""), middle(&base, 1, "") + 1_000.0));
        assert_eq!(of("base"), base, "the same seed gives the same forecast");
        assert!(forecast(&days(3, 1, |_| 1.0), &[30], &Scenario::default(), 7).is_empty());
    }

    /// Coverage over simulated years, a half of them with a level that jumps: what is printed is what was measured.
    #[test]
    fn widened_ranges_hold_about_as_often_as_they_say() {
        let (mut drawn, mut widened, mut origins) = (0.0, 0.0, 0.0);
        for seed in 0..8 {
            let mut level = 100.0;
            let mut chance = Chance(seed + 100);
            let history = days(364, seed, |day| {
                if day % 7 == 0 {
                    level *= 0.92 + 0.17 * chance.below(1_000) as f64 / 1_000.0;
                }
                if seed % 2 == 1 && day == 180 {
                    level *= 1.6;
                }
                level
            });
            let made = calibrate(&history, 3);
            assert_eq!(made.origins, 50);
            let n = made.origins as f64;
            (drawn, widened, origins) = (drawn + made.drawn * n, widened + made.widened * n, origins + n);
        }
        println!(
            "80 % ranges of {origins} weeks: {:.0} % held as drawn, {:.0} % as widened",
            100.0 * drawn / origins,
            100.0 * widened / origins
        );
        let (drawn, widened) = (drawn / origins, widened / origins);
        assert!((0.72..=0.88).contains(&widened), "{widened}");
        assert!((widened - 0.8).abs() < (drawn - 0.8).abs() || (drawn - 0.8).abs() < 0.04, "{drawn} {widened}");
    }

    #[test]
    fn below_twenty_origins_it_says_so() {
        let made = calibrate(&days(63, 1, |_| 50.0), 1);
        assert_eq!(made.origins, 7);
        assert!(made.sentence().starts_with("not calibrated: 7 origins"), "{}", made.sentence());
        assert!(!calibrate(&days(300, 1, |_| 50.0), 1).sentence().contains("not calibrated"));
    }
}
