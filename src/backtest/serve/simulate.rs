//! A service of equal replicas on one market under one policy, tick by tick.
//!
//! Decides: what a tick of the world does. Each tick: instances above a zone's capacity are taken (the newest first), replicas whose
//! cold start is over become ready, the policy acts, and the tick is billed. The setting is that of SpotHedge's own trace
//! simulation (EuroSys'25): a replica is one instance, on-demand can always be had and starts as slowly as spot.

use super::super::bill::{Bill, Charge};
use super::super::market::{Market, Past};
use crate::core::market::availability::CapacityMemory;
use crate::core::units::time::{Millis, Timestamp};

/// What is asked of a service.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ServiceSpec {
    /// Replicas that must be ready.
    pub replicas: u32,
    /// Replicas on top.
    pub extra: u32,
    /// From launch to ready; billed.
    pub cold_start: Millis,
    /// How often the world moves and the policy acts.
    pub tick: Millis,
    /// How long the service is watched.
    pub window: Millis,
}

/// A policy for a service. A fresh one is made for every run.
pub trait ServePolicy {
    /// Acts for one tick.
    fn step(&mut self, past: &Past<'_>, yard: &mut Yard<'_>);
}

/// Where a policy acts: it can launch, release and count its own replicas, and sees nothing else of the market.
pub struct Yard<'a> {
    market: &'a Market,
    at: usize,
    now: Millis,
    spec: ServiceSpec,
    /// Per zone, when each replica will be (or became) ready; oldest first.
    spot: Vec<Vec<Millis>>,
    on_demand: Vec<Millis>,
    lost: Vec<u32>,
    refused: u32,
    launches: u32,
    on_demand_launches: u32,
}

impl Yard<'_> {
    /// What is asked for.
    pub fn spec(&self) -> ServiceSpec {
        self.spec
    }
    /// Time since the service began.
    pub fn now(&self) -> Millis {
        self.now
    }
    /// Zones.
    pub fn zones(&self) -> usize {
        self.spot.len()
    }
    /// Spot replicas launched in a zone, ready or not.
    pub fn launched(&self, zone: usize) -> u32 {
        self.spot[zone].len() as u32
    }
    /// Spot replicas ready in a zone.
    pub fn ready(&self, zone: usize) -> u32 {
        self.spot[zone].iter().filter(|t| t.0 <= self.now.0).count() as u32
    }
    /// Spot replicas launched in all zones.
    pub fn all_launched(&self) -> u32 {
        (0..self.zones()).map(|z| self.launched(z)).sum()
    }
    /// Spot replicas ready in all zones.
    pub fn all_ready(&self) -> u32 {
        (0..self.zones()).map(|z| self.ready(z)).sum()
    }
    /// Replicas of a zone taken at this tick.
    pub fn lost(&self, zone: usize) -> u32 {
        self.lost[zone]
    }
    /// Notes in what is known of each zone what was seen of it at this tick.
    pub fn remember(&self, memory: &mut [CapacityMemory], now: Timestamp) {
        for (zone, known) in memory.iter_mut().enumerate() {
            if self.lost(zone) > 0 {
                known.note_loss(now);
                known.observe(now, false);
            } else if self.launched(zone) > 0 {
                known.observe(now, true);
            }
        }
    }
    /// On-demand replicas launched.
    pub fn on_demand(&self) -> u32 {
        self.on_demand.len() as u32
    }
    /// On-demand replicas ready.
    pub fn on_demand_ready(&self) -> u32 {
        self.on_demand.iter().filter(|t| t.0 <= self.now.0).count() as u32
    }
    /// Launches one spot replica; false when the zone has no room for one more.
    pub fn launch(&mut self, zone: usize) -> bool {
        let room = usize::from(self.market.zones[zone].capacity[self.at]);
        if self.spot[zone].len() >= room {
            self.refused += 1;
            return false;
        }
        self.launches += 1;
        self.spot[zone].push(Millis(self.now.0 + self.spec.cold_start.0));
        true
    }
    /// Gives back the newest replica of a zone.
    pub fn release(&mut self, zone: usize) {
        self.spot[zone].pop();
    }
    /// Holds this many on-demand replicas: launches or gives back the newest.
    pub fn hold_on_demand(&mut self, count: u32) {
        self.on_demand.truncate(count as usize);
        while self.on_demand.len() < count as usize {
            self.on_demand_launches += 1;
            self.on_demand.push(Millis(self.now.0 + self.spec.cold_start.0));
        }
    }
}

/// What a run came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServeRun {
    /// What it cost, with its rows.
    pub bill: Bill,
    /// Ticks watched.
    pub ticks: u32,
    /// Ticks with at least the asked replicas ready.
    pub ready_ticks: u32,
    /// Ticks without, the first cold start not counted: what was never up cannot be down, and it is the same for every policy.
    pub short_ticks: u32,
    /// The longest run of ticks without.
    pub longest_short: u32,
    /// Ticks with no replica ready at all, the first cold start not counted.
    pub out_ticks: u32,
    /// Ready replicas, at most the asked, summed over the ticks after the first cold start.
    pub ready_replicas: u64,
    /// Spot replicas taken away.
    pub preemptions: u32,
    /// Launches refused for want of capacity.
    pub refused: u32,
    /// Spot launches.
    pub launches: u32,
    /// On-demand launches.
    pub on_demand_launches: u32,
    /// Replica-ticks paid for while starting.
    pub starting: u64,
    /// Replica-ticks on on-demand.
    pub on_demand_ticks: u64,
}

/// Runs a service from market tick `start` for its window, or until the recording ends.
pub fn simulate(market: &Market, spec: ServiceSpec, start: usize, policy: &mut dyn ServePolicy) -> ServeRun {
    let zones = market.zones.len();
    let cheapest_od = market.cheapest_on_demand();
    let mut yard = Yard {
        market,
        at: start,
        now: Millis(0),
        spec,
        spot: vec![Vec::new(); zones],
        on_demand: Vec::new(),
        lost: vec![0; zones],
        refused: 0,
        launches: 0,
        on_demand_launches: 0,
    };
    let mut run = ServeRun {
        bill: Bill::default(),
        ticks: 0,
        ready_ticks: 0,
        short_ticks: 0,
        longest_short: 0,
        out_ticks: 0,
        ready_replicas: 0,
        preemptions: 0,
        refused: 0,
        launches: 0,
        on_demand_launches: 0,
        starting: 0,
        on_demand_ticks: 0,
    };
    let mut short = 0;
    let first = (spec.cold_start.0 + spec.tick.0 - 1) / spec.tick.0;
    for i in 0..(spec.window.0 / spec.tick.0) {
        yard.now = Millis(i * spec.tick.0);
        yard.at = start + (yard.now.0 / market.tick.0) as usize;
        if yard.at >= market.ticks() {
            break;
        }
        for z in 0..zones {
            let room = usize::from(market.zones[z].capacity[yard.at]);
            yard.lost[z] = yard.spot[z].len().saturating_sub(room) as u32;
            yard.spot[z].truncate(room);
            run.preemptions += yard.lost[z];
        }
        policy.step(&market.past(start, yard.at), &mut yard);
        let ready = yard.all_ready() + yard.on_demand_ready();
        run.ticks += 1;
        run.starting += u64::from(yard.all_launched() + yard.on_demand() - ready);
        run.on_demand_ticks += u64::from(yard.on_demand());
        if i >= first {
            run.out_ticks += u32::from(ready == 0);
            run.ready_replicas += u64::from(ready.min(spec.replicas));
        }
        if ready >= spec.replicas {
            run.ready_ticks += 1;
            short = 0;
        } else {
            short += 1;
            run.short_ticks += u32::from(i >= first);
            run.longest_short = run.longest_short.max(short);
        }
        for z in 0..zones {
            run.bill.hold(Charge::Spot, z, i as usize, yard.launched(z), market.zones[z].spot[yard.at], spec.tick);
        }
        run.bill.hold(Charge::OnDemand, cheapest_od.0, i as usize, yard.on_demand(), cheapest_od.1, spec.tick);
    }
    (run.refused, run.launches, run.on_demand_launches) = (yard.refused, yard.launches, yard.on_demand_launches);
    run
}

/// Dollars below which no policy that is ready `target` of the time can come: every tick at the cheapest replicas that could be had,
/// without cold starts, and without the dearest ticks that the target lets go.
pub fn strict_bound(market: &Market, spec: &ServiceSpec, start: usize, target: f64) -> f64 {
    let od = market.cheapest_on_demand().1.0;
    let mut costs = Vec::new();
    let hours = spec.tick.0 as f64 / 3.6e6;
    for i in 0..(spec.window.0 / spec.tick.0) {
        let at = start + (i * spec.tick.0 / market.tick.0) as usize;
        if at >= market.ticks() {
            break;
        }
        let mut prices: Vec<i64> = market
            .zones
            .iter()
            .flat_map(|z| std::iter::repeat_n(z.spot[at].0.min(od), usize::from(z.capacity[at]).min(spec.replicas as usize)))
            .collect();
        prices.resize(prices.len() + spec.replicas as usize, od);
        prices.sort_unstable();
        costs.push(prices.iter().take(spec.replicas as usize).sum::<i64>() as f64 / 1e6 * hours);
    }
    costs.sort_by(f64::total_cmp);
    let kept = (costs.len() as f64 * target).ceil() as usize;
    costs.iter().take(kept).sum()
}
