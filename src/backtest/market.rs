//! A recorded spot market: what could be had, where, at what price, tick by tick; and the view of it that ends now.
//!
//! Decides: nothing. [`Past`] is how the rule "a policy sees past ticks only" is kept: its fields are private and every
//! question it answers is bounded by the present tick.

use crate::core::units::ids::{Region, ZoneId};
use crate::core::units::money::{MicroUsd, MicroUsdPerHour};
use crate::core::units::time::Millis;

/// One zone's recording.
#[derive(Debug, Clone, PartialEq)]
pub struct Zone {
    /// The zone as the recording names it.
    pub zone: ZoneId,
    /// Its region.
    pub region: Region,
    /// What on-demand costs there; it can always be had (as every paper assumes).
    pub on_demand: MicroUsdPerHour,
    /// How many instances the zone could run, per tick.
    pub capacity: Vec<u16>,
    /// The spot price per tick.
    pub spot: Vec<MicroUsdPerHour>,
}

/// Zones over the same ticks.
#[derive(Debug, Clone, PartialEq)]
pub struct Market {
    /// The zones, in order of name.
    pub zones: Vec<Zone>,
    /// The length of a tick.
    pub tick: Millis,
    /// What a GiB costs to carry from zone to zone: `egress[from * zones + to]`.
    egress_per_gib: Vec<MicroUsd>,
}

impl Market {
    /// A market of `zones` with ticks of `tick`, all cut or padded to `ticks` ticks: a zone without data has no capacity.
    /// `egress` gives the price per GiB from one region to another.
    pub fn new(mut zones: Vec<Zone>, tick: Millis, ticks: usize, egress: impl Fn(&Region, &Region) -> MicroUsd) -> Self {
        for z in &mut zones {
            let last = z.spot.last().copied().unwrap_or(z.on_demand);
            z.capacity.resize(ticks, 0);
            z.spot.resize(ticks, last);
        }
        let egress_per_gib = zones.iter().flat_map(|a| zones.iter().map(|b| egress(&a.region, &b.region)).collect::<Vec<_>>()).collect();
        Market { zones, tick, egress_per_gib }
    }
    /// How many ticks were recorded.
    pub fn ticks(&self) -> usize {
        self.zones.first().map_or(0, |z| z.capacity.len())
    }
    /// The price of one GiB from zone `from` to zone `to`.
    pub fn egress(&self, from: usize, to: usize) -> MicroUsd {
        self.egress_per_gib[from * self.zones.len() + to]
    }
    /// Only the zones at these indices.
    pub fn only(&self, keep: &[usize]) -> Market {
        let egress_per_gib = keep.iter().flat_map(|a| keep.iter().map(|b| self.egress(*a, *b)).collect::<Vec<_>>()).collect();
        Market { zones: keep.iter().map(|i| self.zones[*i].clone()).collect(), tick: self.tick, egress_per_gib }
    }
    /// The lowest on-demand price of all zones, and its zone.
    pub fn cheapest_on_demand(&self) -> (usize, MicroUsdPerHour) {
        let best = self.zones.iter().enumerate().min_by_key(|(i, z)| (z.on_demand, *i));
        best.map_or((0, MicroUsdPerHour(0)), |(i, z)| (i, z.on_demand))
    }
    /// What is known at tick `now`, for an observer who began at tick `start`.
    pub fn past(&self, start: usize, now: usize) -> Past<'_> {
        Past { market: self, start, now }
    }
}

/// Everything that had happened when tick `now` began, and nothing later.
#[derive(Debug, Clone, Copy)]
pub struct Past<'a> {
    market: &'a Market,
    start: usize,
    now: usize,
}

impl Past<'_> {
    /// How many zones there are.
    pub fn zones(&self) -> usize {
        self.market.zones.len()
    }
    /// Ticks since the observer began.
    pub fn elapsed_ticks(&self) -> usize {
        self.now - self.start
    }
    /// Time since the observer began.
    pub fn elapsed(&self) -> Millis {
        Millis(self.market.tick.0 * self.elapsed_ticks() as i64)
    }
    /// The length of a tick.
    pub fn tick(&self) -> Millis {
        self.market.tick
    }
    /// The spot price in `zone` now.
    pub fn price(&self, zone: usize) -> MicroUsdPerHour {
        self.market.zones[zone].spot[self.now]
    }
    /// The spot price in `zone` `ago` ticks before now; `None` before the recording.
    pub fn price_before(&self, zone: usize, ago: usize) -> Option<MicroUsdPerHour> {
        self.now.checked_sub(ago).map(|t| self.market.zones[zone].spot[t])
    }
    /// How many instances `zone` could run `ago` ticks before now (0: now); `None` before the recording.
    pub fn capacity_before(&self, zone: usize, ago: usize) -> Option<u16> {
        self.now.checked_sub(ago).map(|t| self.market.zones[zone].capacity[t])
    }
    /// What on-demand costs in `zone`.
    pub fn on_demand(&self, zone: usize) -> MicroUsdPerHour {
        self.market.zones[zone].on_demand
    }
    /// The region of `zone`.
    pub fn region(&self, zone: usize) -> &Region {
        &self.market.zones[zone].region
    }
    /// The price of one GiB from zone `from` to zone `to`.
    pub fn egress(&self, from: usize, to: usize) -> MicroUsd {
        self.market.egress(from, to)
    }
}
