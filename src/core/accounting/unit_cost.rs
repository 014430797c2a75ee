//! What a unit (a request, a token, a transaction) cost.
//!
//! Decides: the mean as a ratio of sums (hours without units cost too), percentiles over hours weighted by their units, the trend, and
//! the margin. Percentiles are of hours: what single requests cost within an hour is not known.
//! Does not: read usage or cost.

use crate::core::units::money::MicroUsd;
use crate::core::units::time::Timestamp;

/// Millionths of a micro-dollar: a token may cost less than a micro-dollar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct PicoUsd(pub i128);

const PICO_PER_MICRO: i128 = 1_000_000;
const MILLION: i128 = 1_000_000;
const DAY_MS: i64 = 86_400_000;

impl From<MicroUsd> for PicoUsd {
    fn from(amount: MicroUsd) -> Self {
        PicoUsd(i128::from(amount.0) * PICO_PER_MICRO)
    }
}

impl std::fmt::Display for PicoUsd {
    /// Dollars with at least two decimals and four digits that count: four decimals from a dollar on.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let amount = self.0.unsigned_abs();
        // Four digits from the first that counts.
        let dropped = amount.checked_ilog10().map_or(0, |log| if log >= 12 { 8 } else { log.saturating_sub(3) });
        let unit = 10_u128.pow(dropped);
        let rounded = (amount + unit / 2) / unit * unit;
        let (whole, digits) = (rounded / 1_000_000_000_000, format!("{:012}", rounded % 1_000_000_000_000));
        let text = digits.trim_end_matches('0');
        f.pad(&format!("{sign}{whole}.{text:0<2}"))
    }
}

/// Cost and units of one hour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HourOfUnits {
    /// Its start.
    pub hour: Timestamp,
    /// What it cost.
    pub cost: PicoUsd,
    /// What was produced, in millionths; 0 when nothing is known.
    pub micro_units: i128,
}

/// What units earned, over the time whose revenue is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Earned {
    /// How much.
    pub amount: MicroUsd,
    /// By how many units, in millionths.
    pub micro_units: i128,
}

/// What units cost over some time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitCost {
    /// Units, in millionths.
    pub micro_units: i128,
    /// Everything paid, hours without units included.
    pub cost: PicoUsd,
    /// Cost divided by units.
    pub mean: PicoUsd,
    /// Half of the units, 95 % and 99 % of them, were produced in hours in which one cost at most this.
    pub percentiles: [PicoUsd; 3],
    /// Change of the daily cost per unit over 30 days by a straight line through the days, in per mille of the mean; `None` with fewer
    /// than seven days.
    pub trend_per_mille: Option<i64>,
    /// Revenue per unit, where revenue is known.
    pub revenue: Option<PicoUsd>,
}

impl UnitCost {
    /// Revenue per unit less cost per unit.
    pub fn margin(&self) -> Option<PicoUsd> {
        self.revenue.map(|revenue| PicoUsd(revenue.0 - self.mean.0))
    }

    /// Margin in per mille of revenue.
    pub fn margin_per_mille(&self) -> Option<i64> {
        let revenue = self.revenue.filter(|revenue| revenue.0 > 0)?;
        self.margin().and_then(|margin| i64::try_from(margin.0 * 1_000 / revenue.0).ok())
    }
}

/// What a unit cost over `hours`; `None` when no units are known.
pub fn unit_cost(hours: &[HourOfUnits], earned: Option<Earned>) -> Option<UnitCost> {
    let micro_units: i128 = hours.iter().map(|hour| hour.micro_units).sum();
    let cost = PicoUsd(hours.iter().map(|hour| hour.cost.0).sum());
    let mean = per_unit(cost, micro_units)?;
    let mut rated: Vec<(PicoUsd, i128)> =
        hours.iter().filter_map(|hour| Some((per_unit(hour.cost, hour.micro_units)?, hour.micro_units))).collect();
    rated.sort_unstable();
    Some(UnitCost {
        micro_units,
        cost,
        mean,
        percentiles: [50, 95, 99].map(|percent| percentile(&rated, micro_units, percent)),
        trend_per_mille: trend(hours, mean),
        revenue: earned.and_then(|earned| per_unit(earned.amount.into(), earned.micro_units)),
    })
}

fn per_unit(amount: PicoUsd, micro_units: i128) -> Option<PicoUsd> {
    (micro_units > 0).then(|| PicoUsd((2 * amount.0 * MILLION + micro_units) / (2 * micro_units)))
}

/// The least rate at or below which `percent` of the units lie. `rated` is sorted.
fn percentile(rated: &[(PicoUsd, i128)], units: i128, percent: i128) -> PicoUsd {
    let mut seen = 0;
    for (rate, weight) in rated {
        seen += weight;
        if seen * 100 >= units * percent {
            return *rate;
        }
    }
    rated.last().map(|(rate, _)| *rate).unwrap_or_default()
}

/// Least squares through the days' cost per unit, each day weighted by its units.
fn trend(hours: &[HourOfUnits], mean: PicoUsd) -> Option<i64> {
    let mut days: std::collections::BTreeMap<i64, (i128, i128)> = std::collections::BTreeMap::new();
    for hour in hours {
        let day = days.entry(hour.hour.0.div_euclid(DAY_MS)).or_default();
        *day = (day.0 + hour.cost.0, day.1 + hour.micro_units);
    }
    let points: Vec<(f64, f64, f64)> = days
        .into_iter()
        .filter_map(|(day, (cost, units))| Some((day as f64, per_unit(PicoUsd(cost), units)?.0 as f64, units as f64)))
        .collect();
    if points.len() < 7 || mean.0 == 0 {
        return None;
    }
    let weight: f64 = points.iter().map(|(_, _, w)| w).sum();
    let (x, y) = points.iter().fold((0.0, 0.0), |(x, y), (day, rate, w)| (x + day * w / weight, y + rate * w / weight));
    let (xx, xy) = points.iter().fold((0.0, 0.0), |(xx, xy), (day, rate, w)| (xx + w * (day - x).powi(2), xy + w * (day - x) * (rate - y)));
    (xx > 0.0).then(|| (xy / xx * 30.0 * 1_000.0 / mean.0 as f64).round() as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hour(n: i64, micro: i64, units: i128) -> HourOfUnits {
        HourOfUnits { hour: Timestamp(n * 3_600_000), cost: MicroUsd(micro).into(), micro_units: units * MILLION }
    }

    #[test]
    fn the_mean_is_a_ratio_of_sums_and_percentiles_are_weighted_by_units() {
        // 90 requests at $0.01, 9 at $0.02, 1 at $1; and an hour that served nobody.
        let hours = [hour(0, 900_000, 90), hour(1, 180_000, 9), hour(2, 1_000_000, 1), hour(3, 920_000, 0)];
        let cost = unit_cost(&hours, Some(Earned { amount: MicroUsd(12_000_000), micro_units: 100 * MILLION })).unwrap();
        assert_eq!((cost.mean.to_string(), cost.micro_units / MILLION), ("0.03".to_owned(), 100), "$3 for 100, not the mean of the hours");
        assert_eq!(cost.percentiles.map(|p| p.to_string()), ["0.01", "0.02", "0.02"]);
        assert_eq!(cost.margin().unwrap().to_string(), "0.09");
        assert_eq!(cost.margin_per_mille(), Some(750));
        assert_eq!(unit_cost(&[hour(0, 5, 0)], None), None);
        let without = unit_cost(&hours, None).unwrap();
        assert_eq!((without.revenue, without.margin_per_mille()), (None, None));
    }

    #[test]
    fn tokens_cost_less_than_a_micro_dollar() {
        let cost = unit_cost(&[hour(0, 804_800, 3_000_000)], None).unwrap();
        assert_eq!(cost.mean.to_string(), "0.0000002683");
        assert_eq!(
            (PicoUsd(1_234_567_000_000).to_string(), PicoUsd(-5_000_000_000).to_string()),
            ("1.2346".to_owned(), "-0.005".to_owned())
        );
    }

    #[test]
    fn the_trend_is_a_line_through_the_days() {
        // $1.00 a unit on day 0, a cent more each day: 30 cents in 30 days, of a mean of $1.145.
        let rising: Vec<_> = (0..30).map(|day| hour(day * 24, 10_000 * (100 + day), 1)).collect();
        assert_eq!(unit_cost(&rising, None).unwrap().trend_per_mille, Some(262));
        let flat: Vec<_> = (0..30).map(|day| hour(day * 24, 1_000_000, 1 + i128::from(day % 3))).collect();
        assert!(unit_cost(&flat, None).unwrap().trend_per_mille.is_some());
        assert_eq!(unit_cost(&rising[..6], None).unwrap().trend_per_mille, None);
    }
}
