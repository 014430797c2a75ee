//! The simulated market: prices that wander and capacity that comes and goes, one pool at a time, pools of a region together.
//!
//! Decides: what every pool costs and how many machines it has at every moment, from the seed alone: nothing an operator does changes it.
//! Does not: hand out machines (see [`super::ec2`]).
//!
//! - **Prices** stay between a tenth of and the whole on-demand price, as every row of the recorded catalog does (minimum 0.100, maximum
//!   1.0), and move some 5 % at a time every few hours (recorded: 40 to 191 changes per pool in 45 days).
//! - **Capacity** is an alternating renewal process with heavy-tailed spans. Each pool takes the medians and means of one recorded pool
//!   (`data/catalog/spot_availability_stats.csv`, 30 pools probed 2022 and 2023).
//! - **Regions** fall short as a whole at times: recorded availability correlates 0.43 within a region and 0.14 across.
//! - Price and capacity do not depend on each other (recorded correlation -0.2 to 0.2).

use std::collections::BTreeMap;
use std::sync::OnceLock;

use serde::Deserialize;

use super::chance::Chance;
use crate::core::market::shipped::snapshot_market;
use crate::core::market::{Capacity, CapacityType, Market};
use crate::core::units::ids::{InstanceType, Region, ZoneId};
use crate::core::units::money::MicroUsdPerHour;
use crate::core::units::time::{Millis, Timestamp};

const STATS: &str = include_str!("../../data/catalog/spot_availability_stats.csv");

/// Where the simulated cluster may buy.
pub const ZONES: [(&str, &str); 6] = [
    ("eu-south-2", "eus2-az2"),
    ("eu-south-2", "eus2-az3"),
    ("us-east-1", "use1-az2"),
    ("us-east-1", "use1-az4"),
    ("us-east-2", "use2-az1"),
    ("us-east-2", "use2-az3"),
];
/// What is sold there, with an on-demand price in micro-dollars where the catalog has none for the region.
const TYPES: [(&str, i64); 5] =
    [("g6.xlarge", 804_800), ("g6.2xlarge", 977_600), ("g5.xlarge", 1_006_000), ("g6e.xlarge", 1_861_000), ("g6.12xlarge", 4_601_600)];

/// Between two moves of a pool's price, on average.
const PRICE_MOVES_EVERY: Millis = Millis::from_hours(9);
/// A region is short 38 % of the time: every 147 minutes on average, for the median and the mean below. These give the recorded correlation.
const SHORTAGE_EVERY: Millis = Millis::from_mins(147);
const SHORTAGE: (Millis, Millis) = (Millis::from_mins(30), Millis::from_mins(90));
const SHORT_PER_MILLE: i64 = 380;
/// A pool that is available as often as the recorded mean (620 thousandths) is caught by this many of a thousand shortages; one that is
/// always available, by none.
const CAUGHT_PER_MILLE: i64 = 850;
const MEAN_AVAILABLE_PER_MILLE: i64 = 620;

/// The recorded spans of one pool, in hours.
#[derive(Debug, Clone, Deserialize)]
struct RecordedPool {
    mean_up_h: String,
    median_up_h: String,
    mean_down_h: String,
    median_down_h: String,
}

/// Median and mean of the spans with and without capacity, shortages of the region apart, and how often a shortage catches the pool.
#[derive(Debug, Clone, Copy)]
struct Renewal {
    up: (Millis, Millis),
    down: (Millis, Millis),
    caught_per_mille: i64,
}

impl Renewal {
    /// The pool with these recorded spans: what shortages take is left out of its own spans, so that all in all it is available as often
    /// as recorded.
    fn recorded(up: (Millis, Millis), down: (Millis, Millis)) -> Renewal {
        let available = up.1.0 * 1_000 / (up.1.0 + down.1.0).max(1);
        let caught_per_mille = (CAUGHT_PER_MILLE * (1_000 - available) / (1_000 - MEAN_AVAILABLE_PER_MILLE)).min(950);
        let spared = 1_000_000 - SHORT_PER_MILLE * caught_per_mille;
        let own = (available * 1_000_000 / spared).clamp(1, 995);
        let down_mean = Millis(up.1.0 * (1_000 - own) / own);
        let down_median = Millis((down.0.0 * down_mean.0 / down.1.0.max(1)).max(1));
        Renewal { up, down: (down_median, down_mean), caught_per_mille }
    }
}

/// Hours with decimals, as milliseconds; no float.
fn hours(text: &str) -> Option<Millis> {
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let thousandths: i64 = format!("{part:0<3}").get(..3)?.parse().ok()?;
    Some(Millis(whole.parse::<i64>().ok()? * 3_600_000 + thousandths * 3_600))
}

fn recorded() -> Vec<Renewal> {
    let rows = csv::Reader::from_reader(STATS.as_bytes()).into_deserialize::<RecordedPool>().filter_map(Result::ok);
    let spans = |r: RecordedPool| {
        let up = (hours(&r.median_up_h)?, hours(&r.mean_up_h)?);
        Some(Renewal::recorded(up, (hours(&r.median_down_h)?, hours(&r.mean_down_h)?)))
    };
    rows.filter_map(spans).collect()
}

/// One pool's past and what moves it next.
#[derive(Debug, Clone)]
pub struct CapacityMarket {
    /// The pool.
    pub capacity: Capacity,
    /// On-demand price of the same type and region.
    pub on_demand: MicroUsdPerHour,
    /// Every price so far with the moment it began; never empty.
    pub prices: Vec<(Timestamp, MicroUsdPerHour)>,
    /// How many machines the pool has while it has any.
    size: u32,
    up: bool,
    renewal: Renewal,
    of_price: Chance,
    of_capacity: Chance,
}

/// What moves next in the market.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Turn {
    /// The price of the pool with this index moves.
    Price(usize),
    /// The pool with this index gets or loses its capacity.
    Capacity(usize),
    /// The region with this index falls short, or recovers.
    Shortage(usize),
}

/// All pools.
#[derive(Debug, Clone)]
pub struct SimMarket {
    /// Every pool, spot and on-demand, in order.
    pub pools: Vec<CapacityMarket>,
    regions: Vec<Region>,
    /// For each region, the pools that its present shortage caught.
    short: BTreeMap<usize, Vec<usize>>,
    of_shortage: Vec<Chance>,
}

impl SimMarket {
    /// The market of `seed` as it opens at `now`, and when each part of it moves first.
    pub fn open(seed: u64, now: Timestamp) -> (SimMarket, Vec<(Timestamp, Turn)>) {
        // Shipped tables, the same for every seed: read once.
        static TABLES: OnceLock<(Market, Vec<Renewal>)> = OnceLock::new();
        let (known, recorded) = TABLES.get_or_init(|| (snapshot_market(), recorded()));
        let (mut pools, mut turns) = (Vec::new(), Vec::new());
        let mut draw = Chance::new(seed, "market");
        // In a third of the markets a type costs nearly the same everywhere, as types often do within a region.
        let mut of_alike = Chance::new(seed, "prices alike");
        let are_alike = of_alike.happens(333);
        // Names that are the same share their text: they are compared often.
        let types = TYPES.map(|(name, otherwise)| (InstanceType::from(name), otherwise));
        let mut here = Region::from("");
        for (region, zone) in ZONES {
            if here.as_str() != region {
                here = Region::from(region);
            }
            let zone = ZoneId::from(zone);
            for (instance_type, otherwise) in &types {
                for capacity_type in [CapacityType::Spot, CapacityType::OnDemand] {
                    let pool = Capacity { region: here.clone(), zone: zone.clone(), instance_type: instance_type.clone(), capacity_type };
                    let listed = known.offers.get(&Capacity { capacity_type: CapacityType::OnDemand, ..pool.clone() });
                    let on_demand = listed.map_or(MicroUsdPerHour(*otherwise), |o| o.price_per_hour);
                    let recorded_price = known.offers.get(&pool).map(|o| o.price_per_hour);
                    let price = match capacity_type {
                        CapacityType::Spot => recorded_price.unwrap_or(MicroUsdPerHour(on_demand.0 * draw.between(200, 600) / 1_000)),
                        _ => on_demand,
                    };
                    let alike = MicroUsdPerHour(on_demand.0 * of_alike.between(350, 365) / 1_000);
                    let price = if are_alike && capacity_type == CapacityType::Spot { alike } else { price };
                    let name = format!("{pool}");
                    let otherwise =
                        Renewal::recorded((Millis::from_hours(1), Millis::from_hours(3)), (Millis::from_mins(30), Millis::from_hours(2)));
                    let renewal = draw.one_of(recorded).copied().unwrap_or(otherwise);
                    let mut one = CapacityMarket {
                        capacity: pool,
                        on_demand,
                        prices: vec![(now, price)],
                        size: u32::try_from(draw.between(1, 6)).unwrap_or(1),
                        up: true,
                        renewal,
                        of_price: Chance::new(seed, &format!("price of {name}")),
                        of_capacity: Chance::new(seed, &format!("capacity of {name}")),
                    };
                    let index = pools.len();
                    if capacity_type == CapacityType::Spot {
                        let (up, down) = (one.renewal.up.1.0, one.renewal.down.1.0);
                        one.up = one.of_capacity.below(up + down) < up;
                        turns.push((now + one.of_price.waiting(PRICE_MOVES_EVERY), Turn::Price(index)));
                        turns.push((now + one.next_span(), Turn::Capacity(index)));
                    }
                    pools.push(one);
                }
            }
        }
        let mut regions: Vec<Region> = pools.iter().map(|p| p.capacity.region.clone()).collect();
        regions.dedup();
        let mut of_shortage: Vec<Chance> = regions.iter().map(|r| Chance::new(seed, &format!("shortage of {r}"))).collect();
        turns.extend(of_shortage.iter_mut().enumerate().map(|(i, chance)| (now + chance.waiting(SHORTAGE_EVERY), Turn::Shortage(i))));
        (SimMarket { pools, regions, short: BTreeMap::new(), of_shortage }, turns)
    }

    /// Moves what is due; says when it moves again.
    pub fn turn(&mut self, turn: Turn, now: Timestamp) -> Timestamp {
        match turn {
            Turn::Price(index) => self.pools[index].move_price(now),
            Turn::Capacity(index) => {
                let pool = &mut self.pools[index];
                pool.up = !pool.up;
                now + pool.next_span()
            }
            Turn::Shortage(region) => {
                let chance = &mut self.of_shortage[region];
                if self.short.remove(&region).is_some() {
                    return now + chance.waiting(SHORTAGE_EVERY);
                }
                let name = &self.regions[region];
                let here = self
                    .pools
                    .iter()
                    .enumerate()
                    .filter(|(_, p)| p.capacity.region == *name && p.capacity.capacity_type == CapacityType::Spot);
                let caught = here.filter(|(_, p)| chance.happens(p.renewal.caught_per_mille)).map(|(index, _)| index).collect();
                self.short.insert(region, caught);
                now + chance.heavy_tailed(SHORTAGE.0, SHORTAGE.1)
            }
        }
    }

    /// How many machines the pool has in all; on-demand never runs out here.
    pub fn size(&self, index: usize) -> u32 {
        let pool = &self.pools[index];
        match pool.capacity.capacity_type {
            CapacityType::Spot if !pool.up || self.short.values().any(|caught| caught.contains(&index)) => 0,
            CapacityType::Spot => pool.size,
            CapacityType::OnDemand | CapacityType::Reserved => u32::MAX,
        }
    }

    /// Whether the pool has capacity of its own, shortages of its region apart.
    pub fn is_up(&self, index: usize) -> bool {
        self.pools.get(index).is_some_and(|pool| pool.up)
    }

    /// The index of a pool.
    pub fn index_of(&self, capacity: &Capacity) -> Option<usize> {
        self.pools.iter().position(|p| p.capacity == *capacity)
    }

    /// The regions, in order.
    pub fn regions(&self) -> &[Region] {
        &self.regions
    }
}

impl CapacityMarket {
    fn next_span(&mut self) -> Millis {
        let (median, mean) = if self.up { self.renewal.up } else { self.renewal.down };
        // The probes behind the statistics were minutes apart: nothing shorter was seen.
        Millis(self.of_capacity.heavy_tailed(median, mean).0.max(60_000))
    }

    fn move_price(&mut self, now: Timestamp) -> Timestamp {
        let (floor, cap) = (self.on_demand.0 / 10, self.on_demand.0);
        // Mostly a small step; once in ten a jump.
        let reach = if self.of_price.happens(100) { 300 } else { 50 };
        let step = self.of_price.between(1_000 - reach, 1_000 + reach);
        let price = MicroUsdPerHour((self.price().0 * step / 1_000).clamp(floor, cap));
        if price != self.price() {
            self.prices.push((now, price));
        }
        now + self.of_price.waiting(PRICE_MOVES_EVERY)
    }

    /// The price now.
    pub fn price(&self) -> MicroUsdPerHour {
        self.prices.last().map_or(self.on_demand, |(_, price)| *price)
    }

    /// The price at a moment: the last one that began by then.
    pub fn price_at(&self, at: Timestamp) -> MicroUsdPerHour {
        let after = self.prices.partition_point(|(from, _)| *from <= at);
        self.prices.get(after.saturating_sub(1)).map_or(self.on_demand, |(_, price)| *price)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Availability of every spot pool, sampled every ten minutes for `days` days.
    fn sampled(seed: u64, days: i64) -> (SimMarket, Vec<(usize, Vec<bool>)>) {
        let start = Timestamp(0);
        let (mut market, mut turns) = SimMarket::open(seed, start);
        let spot: Vec<usize> =
            market.pools.iter().enumerate().filter(|(_, p)| p.capacity.capacity_type == CapacityType::Spot).map(|(i, _)| i).collect();
        let mut series: Vec<(usize, Vec<bool>)> = spot.into_iter().map(|i| (i, Vec::new())).collect();
        for sample in 0..days * 144 {
            let now = start + Millis::from_mins(sample * 10);
            while let Some(next) = turns.iter().copied().min().filter(|(at, _)| *at <= now) {
                turns.retain(|t| *t != next);
                let again = market.turn(next.1, next.0);
                turns.push((again, next.1));
            }
            series.iter_mut().for_each(|(i, seen)| seen.push(market.size(*i) > 0));
        }
        (market, series)
    }

    fn correlation(a: &[bool], b: &[bool]) -> f64 {
        let n = a.len() as f64;
        let mean = |s: &[bool]| s.iter().filter(|u| **u).count() as f64 / n;
        let (ma, mb) = (mean(a), mean(b));
        let both = a.iter().zip(b).filter(|(x, y)| **x && **y).count() as f64 / n;
        let spread = (ma * (1.0 - ma) * mb * (1.0 - mb)).sqrt();
        if spread > 0.0 { (both - ma * mb) / spread } else { 0.0 }
    }

    #[test]
    fn prices_stay_between_a_tenth_and_the_whole_of_on_demand() {
        for seed in 0..20 {
            let (market, _) = sampled(seed, 7);
            for pool in &market.pools {
                assert!(pool.prices.iter().all(|(_, p)| p.0 * 10 >= pool.on_demand.0 - 10 && p.0 <= pool.on_demand.0), "{}", pool.capacity);
                assert_eq!(pool.price_at(pool.prices[0].0), pool.prices[0].1);
            }
            let moves: usize = market.pools.iter().map(|p| p.prices.len() - 1).sum();
            assert!(moves > 100 && moves < 1_500, "{moves} price moves of 30 pools in a week");
        }
    }

    #[test]
    fn capacity_comes_and_goes_as_the_recorded_pools_do_and_together_within_a_region() {
        let (mut available, mut within, mut across) = (Vec::new(), Vec::new(), Vec::new());
        for seed in 0..12 {
            let (market, series) = sampled(seed, 14);
            available.extend(series.iter().map(|(_, s)| s.iter().filter(|u| **u).count() as f64 / s.len() as f64));
            for (a, one) in &series {
                for (b, other) in series.iter().filter(|(b, _)| b > a) {
                    let same = market.pools[*a].capacity.region == market.pools[*b].capacity.region;
                    if same { &mut within } else { &mut across }.push(correlation(one, other));
                }
            }
        }
        let mean = |v: &[f64]| v.iter().sum::<f64>() / v.len() as f64;
        // Recorded: available 0.62 of the time on average; correlated 0.25 to 0.59 within a region, 0.03 to 0.27 across.
        assert!((0.55..0.70).contains(&mean(&available)), "available {:.3}", mean(&available));
        assert!((0.25..0.59).contains(&mean(&within)), "within {:.3}", mean(&within));
        assert!(mean(&across).abs() < 0.05, "across {:.3}", mean(&across));
    }
}
