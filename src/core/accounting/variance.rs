//! Why a month cost other than another: a bridge of ten drivers, exact to the micro-dollar.
//!
//! Decides: the order in which one driver after the other is put to its new value (volume, efficiency, instance mix, spot price, market
//! mix, moves and waste, idle, egress, coverage, other), and what each driver is worth. The ledger's view `variance_month` states the same in
//! SQL; a test compares both.
//! Does not: say it in words (see `ledger::report`).
//!
//! Useful cost of a workload is taken as units x GPU time per unit x share of each machine type x share of each market x price. A driver is worth
//! the cost with it and those before it at their new values, less the cost without: the ten add up to the difference whatever the
//! rounding. Days whose usage is not known count as the other days of the month, by their GPU time ([`whole_month`]): a gap is no smaller volume. Where no
//! units are known GPU time is the volume and there is no efficiency. Work that is new or gone is volume. A machine type
//! that was not used before has no old price: its new one counts as the mix.

use std::collections::{BTreeMap, BTreeSet};

use crate::core::market::CapacityType;
use crate::core::units::money::MicroUsd;
use crate::core::workload::need::UsageUnit;

/// One of the ten things that move a cost, in the order of the bridge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Driver {
    /// More or fewer units; new and ended work.
    Volume,
    /// GPU time per unit.
    Efficiency,
    /// Which machine types in which regions.
    InstanceMix,
    /// What spot cost.
    SpotPrice,
    /// How much ran on demand instead of spot.
    MarketMix,
    /// Double running, lost work, boot and drain.
    MovesAndWaste,
    /// GPUs without a pod.
    Idle,
    /// Data carried across regions.
    Egress,
    /// What AWS billed differently from what was computed: credits, discounts, commitments, other prices.
    Coverage,
    /// On-demand prices, and costs that are not machines.
    Other,
}

impl Driver {
    /// All drivers, in order.
    pub const ALL: [Driver; 10] = [
        Driver::Volume,
        Driver::Efficiency,
        Driver::InstanceMix,
        Driver::SpotPrice,
        Driver::MarketMix,
        Driver::MovesAndWaste,
        Driver::Idle,
        Driver::Egress,
        Driver::Coverage,
        Driver::Other,
    ];

    /// As the ledger writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Driver::Volume => "volume",
            Driver::Efficiency => "efficiency",
            Driver::InstanceMix => "instance mix",
            Driver::SpotPrice => "spot price",
            Driver::MarketMix => "market mix",
            Driver::MovesAndWaste => "moves and waste",
            Driver::Idle => "idle",
            Driver::Egress => "egress",
            Driver::Coverage => "coverage",
            Driver::Other => "other",
        }
    }
}

/// Useful use of one machine type in one market.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Use {
    /// GPU milliseconds.
    pub gpu_ms: i64,
    /// Computed cost.
    pub cost: MicroUsd,
}

/// What drove the cost of one workload in one month.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Drivers {
    /// What it produced, in millionths, by unit; of days without usage reckoned from the others.
    pub units: BTreeMap<UsageUnit, i128>,
    /// The share of its useful GPU time that lies on days whose usage is known, in per mille; whole where nothing is said.
    pub known_per_mille: BTreeMap<UsageUnit, i64>,
    /// Useful use by machine (region and type) and market.
    pub useful: BTreeMap<(String, CapacityType), Use>,
    /// Double running, lost work, boot and drain.
    pub moves_and_waste: MicroUsd,
    /// Idle.
    pub idle: MicroUsd,
    /// Egress.
    pub egress: MicroUsd,
    /// Feed and bill on top of what was computed.
    pub coverage: MicroUsd,
    /// Costs that are not machines.
    pub overhead: MicroUsd,
}

impl Drivers {
    /// What the month cost.
    pub fn total(&self) -> MicroUsd {
        let useful: MicroUsd = self.useful.values().map(|used| used.cost).sum();
        useful + self.moves_and_waste + self.idle + self.egress + self.coverage + self.overhead
    }
}

/// What each driver moved in one workload from `before` to `after`; the ten add up to the difference of the totals.
pub fn bridge(before: &Drivers, after: &Drivers) -> BTreeMap<Driver, MicroUsd> {
    let [volume, efficiency, mix, spot, market, end] = useful_after_each(before, after);
    let start: i64 = before.useful.values().map(|used| used.cost.0).sum();
    BTreeMap::from([
        (Driver::Volume, MicroUsd(volume - start)),
        (Driver::Efficiency, MicroUsd(efficiency - volume)),
        (Driver::InstanceMix, MicroUsd(mix - efficiency)),
        (Driver::SpotPrice, MicroUsd(spot - mix)),
        (Driver::MarketMix, MicroUsd(market - spot)),
        (Driver::MovesAndWaste, after.moves_and_waste - before.moves_and_waste),
        (Driver::Idle, after.idle - before.idle),
        (Driver::Egress, after.egress - before.egress),
        (Driver::Coverage, after.coverage - before.coverage),
        (Driver::Other, MicroUsd(end - market) + after.overhead - before.overhead),
    ])
}

/// Useful cost after each of the drivers that change it, micro-dollars.
fn useful_after_each(before: &Drivers, after: &Drivers) -> [i64; 6] {
    let sum = |drivers: &Drivers| {
        drivers.useful.values().fold(Use::default(), |sum, used| Use { gpu_ms: sum.gpu_ms + used.gpu_ms, cost: sum.cost + used.cost })
    };
    let (was, is) = (sum(before), sum(after));
    if was.gpu_ms == 0 || is.gpu_ms == 0 {
        return [is.cost.0; 6];
    }
    let same_mix = scaled(was.cost.0, is.gpu_ms, was.gpu_ms);
    let volume = units_of_both(before, after).map_or(same_mix, |(_, u0, u1)| scaled_wide(was.cost.0, u1, u0));
    let machines: BTreeSet<&str> = before.useful.keys().chain(after.useful.keys()).map(|(machine, _)| machine.as_str()).collect();
    let (mut mix, mut spot, mut market) = (0, 0, 0);
    for machine in machines {
        let of = |drivers: &Drivers| -> BTreeMap<CapacityType, Use> {
            drivers.useful.iter().filter(|((name, _), _)| name == machine).map(|((_, capacity), used)| (*capacity, *used)).collect()
        };
        let (old, new) = (of(before), of(after));
        let (g0, c0): (i64, i64) = (old.values().map(|u| u.gpu_ms).sum(), old.values().map(|u| u.cost.0).sum());
        let (g1, c1): (i64, i64) = (new.values().map(|u| u.gpu_ms).sum(), new.values().map(|u| u.cost.0).sum());
        if g0 == 0 {
            (mix, spot, market) = (mix + c1, spot + c1, market + c1);
            continue;
        }
        mix += scaled(c0, g1, g0);
        let markets: BTreeSet<CapacityType> = old.keys().chain(new.keys()).copied().collect();
        for capacity in markets {
            let (o, n) = (old.get(&capacity).copied().unwrap_or_default(), new.get(&capacity).copied().unwrap_or_default());
            spot += match capacity {
                CapacityType::Spot if o.gpu_ms > 0 && n.gpu_ms > 0 => {
                    // The old share of the market, at the new price.
                    let (part, whole) = (i128::from(g1) * i128::from(o.gpu_ms), i128::from(g0) * i128::from(n.gpu_ms));
                    scaled_wide(n.cost.0, part, whole)
                }
                _ => scaled(o.cost.0, g1, g0),
            };
            let known_price = capacity != CapacityType::Spot && o.gpu_ms > 0;
            market += if known_price { scaled(o.cost.0, n.gpu_ms, o.gpu_ms) } else { n.cost.0 };
        }
    }
    [volume, same_mix, mix, spot, market, is.cost.0]
}

/// The units of a month whose usage is known on days with `known` of its `whole` useful GPU time.
pub fn whole_month(unit: UsageUnit, micro_units: i128, known: i64, whole: i64) -> i128 {
    // People of a month are counted once.
    if unit == UsageUnit::MonthlyUsers || known <= 0 || known >= whole {
        return micro_units;
    }
    micro_units * i128::from(whole) / i128::from(known)
}

/// The first unit that both months have, and how many: the bridge goes by it.
pub fn units_of_both(before: &Drivers, after: &Drivers) -> Option<(UsageUnit, i128, i128)> {
    before.units.iter().find_map(|(unit, u0)| {
        let u1 = after.units.get(unit)?;
        (*u0 > 0 && *u1 > 0).then_some((*unit, *u0, *u1))
    })
}

fn scaled(amount: i64, part: i64, whole: i64) -> i64 {
    scaled_wide(amount, i128::from(part), i128::from(whole))
}

/// `amount * part / whole`, half up; nothing here is negative.
fn scaled_wide(amount: i64, part: i128, whole: i128) -> i64 {
    // 128 bits hold a month's cost times its GPU time squared of any fleet there is; beyond, the last digits go.
    let shift =
        [amount.unsigned_abs().into(), part.unsigned_abs()].iter().map(|n: &u128| 128 - n.leading_zeros()).sum::<u32>().saturating_sub(125);
    let (part, whole) = (part >> shift, (whole >> shift).max(1));
    i64::try_from((2 * i128::from(amount) * part + whole) / (2 * whole)).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000;

    fn used(rows: &[(&str, CapacityType, i64, i64)], requests: Option<i128>) -> Drivers {
        Drivers {
            units: requests.map(|n| (UsageUnit::Requests, n * 1_000_000)).into_iter().collect(),
            useful: rows
                .iter()
                .map(|(machine, capacity, hours, cost)| {
                    (((*machine).to_owned(), *capacity), Use { gpu_ms: hours * HOUR, cost: MicroUsd(*cost) })
                })
                .collect(),
            ..Drivers::default()
        }
    }

    fn worth(before: &Drivers, after: &Drivers) -> Vec<(&'static str, i64)> {
        let moved = bridge(before, after);
        assert_eq!(moved.values().copied().sum::<MicroUsd>(), after.total() - before.total(), "the drivers do not add up");
        moved.into_iter().filter(|(_, amount)| amount.0 != 0).map(|(driver, amount)| (driver.as_str(), amount.0)).collect()
    }

    use CapacityType::{OnDemand, Spot};

    #[test]
    fn each_driver_is_worth_what_it_alone_changes() {
        let before = used(&[("g6", Spot, 100, 10_000_000)], Some(1_000));
        assert_eq!(worth(&before, &used(&[("g6", Spot, 150, 15_000_000)], Some(1_500))), [("volume", 5_000_000)]);
        assert_eq!(worth(&before, &used(&[("g6", Spot, 80, 8_000_000)], Some(1_000))), [("efficiency", -2_000_000)]);
        assert_eq!(worth(&before, &used(&[("g6", Spot, 100, 12_000_000)], Some(1_000))), [("spot price", 2_000_000)]);
        assert_eq!(worth(&before, &used(&[("g5", Spot, 100, 30_000_000)], Some(1_000))), [("instance mix", 20_000_000)]);
        let fallen_back = used(&[("g6", Spot, 90, 9_000_000), ("g6", OnDemand, 10, 8_000_000)], Some(1_000));
        assert_eq!(worth(&before, &fallen_back), [("market mix", 7_000_000)]);
        let raised = used(&[("g6", Spot, 90, 9_000_000), ("g6", OnDemand, 10, 9_000_000)], Some(1_000));
        assert_eq!(worth(&fallen_back, &raised), [("other", 1_000_000)], "a list price that rose");
        let waste =
            Drivers { moves_and_waste: MicroUsd(5), idle: MicroUsd(6), egress: MicroUsd(7), coverage: MicroUsd(-8), ..before.clone() };
        assert_eq!(worth(&before, &waste), [("moves and waste", 5), ("idle", 6), ("egress", 7), ("coverage", -8)]);
    }

    #[test]
    fn without_units_gpu_time_is_the_volume_and_new_and_ended_work_are_volume_too() {
        let work = used(&[("g6", Spot, 100, 10_000_000)], None);
        assert_eq!(worth(&work, &used(&[("g6", Spot, 150, 15_000_000)], None)), [("volume", 5_000_000)]);
        assert_eq!(worth(&work, &used(&[("g6", Spot, 150, 15_000_000)], Some(7))), [("volume", 5_000_000)]);
        assert_eq!(worth(&Drivers::default(), &work), [("volume", 10_000_000)]);
        assert_eq!(worth(&work, &Drivers::default()), [("volume", -10_000_000)]);
        assert_eq!(worth(&Drivers::default(), &Drivers::default()), []);
    }

    #[test]
    fn everything_at_once_adds_up() {
        let before = used(&[("g6", Spot, 97, 9_999_999), ("g6", OnDemand, 3, 2_414_401), ("g5", Spot, 11, 1_777_777)], Some(1_003));
        let after = used(&[("g6", Spot, 41, 5_000_003), ("g5", OnDemand, 7, 7_042_001), ("p4", Spot, 13, 31_000_019)], Some(991));
        let moved = worth(&before, &after);
        assert!(moved.len() >= 5, "{moved:?}");
    }
}
