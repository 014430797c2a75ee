//! A service whose owner asks for nothing, with its replicas together and apart: what the spread costs, and what a lost zone takes.
//!
//! Decides: what the operator does for such a service, tick by tick: missing replicas go where [`crate::core::policy::spreading`] says, or all to
//! the cheapest zone; on-demand only while no zone has room. Voluntary moves between spot prices are left out for both.

use serde::Serialize;

use super::super::market::{Market, Past, Zone};
use super::super::stats::mean;
use super::simulate::{ServePolicy, ServiceSpec, Yard, simulate};
use crate::core::market::availability::CapacityMemory;
use crate::core::policy::spreading::{DEFAULT_GOAL_PPM, Place, Terms, losses_per_million_hours, share_out};
use crate::core::units::time::{Millis, Timestamp};

/// A service without annotations: exactly the asked replicas.
pub struct Unasked {
    memory: Vec<CapacityMemory>,
    /// What a replica may cost more for standing apart, in thousandths; 0 keeps all together.
    most_extra_per_mille: i64,
}

impl Unasked {
    /// A fresh policy for this many zones.
    pub fn new(zones: usize, most_extra_per_mille: i64) -> Self {
        Unasked { memory: vec![CapacityMemory::default(); zones], most_extra_per_mille }
    }

    /// How many of the `missing` replicas to launch in each of the `open` zones.
    fn shares(&self, past: &Past<'_>, yard: &Yard<'_>, open: &[usize], missing: usize) -> Vec<usize> {
        let machines: Vec<[(i64, i64); 1]> = open.iter().map(|z| [(past.price(*z).0, 1)]).collect();
        let places: Vec<Place> = open
            .iter()
            .zip(&machines)
            .map(|(z, machines)| Place {
                machines,
                per_replica: 0,
                standing: i64::from(yard.launched(*z)),
                losses_per_million_hours: losses_per_million_hours(&self.memory[*z], 0),
            })
            .collect();
        let spec = yard.spec();
        let terms = Terms {
            replicas: i64::from(spec.replicas),
            back_after: spec.cold_start,
            goal_ppm: DEFAULT_GOAL_PPM,
            most_extra_per_mille: self.most_extra_per_mille,
        };
        let cheapest = (0..open.len()).min_by_key(|at| (machines[*at][0].0, *at)).unwrap_or(0);
        let together = || (0..open.len()).map(|at| if at == cheapest { missing } else { 0 }).collect();
        share_out(&terms, &places, missing).map_or_else(together, |spread| spread.counts)
    }
}

impl ServePolicy for Unasked {
    fn step(&mut self, past: &Past<'_>, yard: &mut Yard<'_>) {
        let now = Timestamp(yard.now().0);
        yard.remember(&mut self.memory, now);
        let n = yard.spec().replicas;
        let starting = yard.all_launched() > yard.all_ready();
        // Back from on-demand one at a time, the replacement first.
        let back = u32::from(yard.on_demand() > 0 && !starting);
        let mut missing = n.saturating_sub(yard.all_launched() + yard.on_demand()) + back;
        let mut refused = vec![false; yard.zones()];
        'asking: while missing > 0 {
            let open: Vec<usize> = (0..yard.zones()).filter(|z| !refused[*z] && past.price(*z) < past.on_demand(*z)).collect();
            if open.is_empty() {
                break;
            }
            for (z, count) in open.iter().zip(self.shares(past, yard, &open, missing as usize)) {
                for _ in 0..count {
                    if !yard.launch(*z) {
                        refused[*z] = true;
                        continue 'asking;
                    }
                    missing -= 1;
                }
            }
        }
        let uncovered = n.saturating_sub(yard.all_launched());
        let bridging = yard.on_demand().min(n.saturating_sub(yard.all_ready()));
        yard.hold_on_demand(uncovered.max(bridging));
        for (z, r) in refused.iter().enumerate() {
            if *r && yard.launched(z) == 0 {
                self.memory[z].observe(now, false);
            }
        }
    }
}

/// Where recordings say only whether a zone had capacity, it is taken to have room for every replica: over 94 % of the time all or none of a
/// zone's instances were up (Can't Be Late, NSDI'24).
pub fn with_room(market: &Market, replicas: u32) -> Market {
    let mut market = market.clone();
    let room = u16::try_from(replicas).unwrap_or(u16::MAX);
    let binary = |zone: &Zone| zone.capacity.iter().all(|n| *n <= 1);
    for zone in market.zones.iter_mut().filter(|zone| binary(zone)) {
        zone.capacity.iter_mut().for_each(|n| *n *= room);
    }
    market
}

/// One number of replicas, together and apart: means over all windows.
#[derive(Debug, Clone, Serialize)]
pub struct SpreadRow {
    /// Replicas of the service.
    pub replicas: u32,
    /// What a replica may cost more for standing apart, in percent; 0 is all together.
    pub most_extra_percent: f64,
    /// Windows.
    pub windows: usize,
    /// Mean cost of a window.
    pub cost_usd: f64,
    /// Share of the time in which at least one replica was ready.
    pub up: f64,
    /// Share of the time in which all were.
    pub all_ready: f64,
    /// Ready replicas over asked ones.
    pub ready: f64,
    /// Minutes a day without any replica.
    pub out_minutes_per_day: f64,
    /// Replicas taken away per window.
    pub taken: f64,
}

/// What a service of `spec` comes to over windows at `starts`.
pub fn spread_row(market: &Market, spec: ServiceSpec, most_extra_per_mille: i64, starts: &[usize]) -> SpreadRow {
    let first = (spec.cold_start.0 + spec.tick.0 - 1) / spec.tick.0;
    let runs: Vec<_> =
        starts.iter().map(|start| simulate(market, spec, *start, &mut Unasked::new(market.zones.len(), most_extra_per_mille))).collect();
    let ticks: f64 = runs.iter().map(|run| (i64::from(run.ticks) - first).max(0) as f64).sum();
    let sum = |of: &dyn Fn(&super::simulate::ServeRun) -> f64| runs.iter().map(of).sum::<f64>();
    let out = sum(&|run| f64::from(run.out_ticks)) / ticks.max(1.0);
    SpreadRow {
        replicas: spec.replicas,
        most_extra_percent: most_extra_per_mille as f64 / 10.0,
        windows: runs.len(),
        cost_usd: mean(&runs.iter().map(|run| run.bill.total.to_micro_usd().0 as f64 / 1e6).collect::<Vec<_>>()),
        up: 1.0 - out,
        all_ready: 1.0 - sum(&|run| f64::from(run.short_ticks)) / ticks.max(1.0),
        ready: sum(&|run| run.ready_replicas as f64) / (ticks.max(1.0) * f64::from(spec.replicas)),
        out_minutes_per_day: out * Millis::from_hours(24).0 as f64 / 60_000.0,
        taken: mean(&runs.iter().map(|run| f64::from(run.preemptions)).collect::<Vec<_>>()),
    }
}

/// The rows as a table, a line for each.
pub fn table(rows: &[SpreadRow]) -> String {
    let mut out = format!(
        "{:>8} {:>8} {:>8} {:>12} {:>8} {:>9} {:>11} {:>9} {:>16} {:>9}\n",
        "replicas", "extra %", "windows", "$ / window", "vs. 0 %", "up %", "all ready %", "ready %", "out minutes/day", "taken"
    );
    for row in rows {
        let together = rows.iter().find(|other| other.replicas == row.replicas && other.most_extra_percent == 0.0);
        let more = together.map_or_else(|| "-".to_owned(), |t| format!("{:+.2} %", (row.cost_usd / t.cost_usd - 1.0) * 100.0));
        out.push_str(&format!(
            "{:>8} {:>8.1} {:>8} {:>12.3} {:>8} {:>9.3} {:>11.3} {:>9.3} {:>16.2} {:>9.2}\n",
            row.replicas,
            row.most_extra_percent,
            row.windows,
            row.cost_usd,
            more,
            row.up * 100.0,
            row.all_ready * 100.0,
            row.ready * 100.0,
            row.out_minutes_per_day,
            row.taken
        ));
    }
    out
}
