//! Runs policies over windows of a market and gathers one result per policy, window and set of zones.

use super::job::BatchJob;
use super::market::Market;
use super::omniscient::{Omniscient, strict_bound};
use super::ours::Lowtide;
use super::policies::cant_be_late::{Greedy, NextLifetime, OnDemand, SpotOnly};
use super::policies::cluster::KarpenterLike;
use super::policies::skynomad::SkyNomad;
use super::policies::skypilot::{Failover, Recovery};
use super::policies::uniform::{MultiZone, Order, UniformProgress};
use super::report::Row;
use super::serve::policies::make as make_service;
use super::serve::simulate::{ServiceSpec, simulate as serve, strict_bound as service_bound};
use super::simulate::{BatchPolicy, BatchRun, on_demand_cost, simulate};
use super::stats::mean;
use crate::core::units::money::MicroUsdMillis;
use std::collections::BTreeMap;

/// A batch policy by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// The name in flags and reports.
    pub name: &'static str,
    /// Whether it works in one zone: then it runs in each zone by itself.
    pub single: bool,
    /// One line for people.
    pub about: &'static str,
}

const fn known(name: &'static str, single: bool, about: &'static str) -> Known {
    Known { name, single, about }
}

/// Every batch policy.
pub const BATCH: &[Known] = &[
    known("lowtide", false, "ours: the policy the operator runs"),
    known("on-demand", false, "on-demand from start to end"),
    known("spot-only", true, "one zone, no safety net"),
    known("greedy", true, "one zone, on-demand when time runs out"),
    known("up", true, "Uniform Progress, one zone"),
    known("up-s", false, "Uniform Progress, SkyPilot's choice of zone"),
    known("up-a", false, "Uniform Progress, most available zone"),
    known("up-ap", false, "Uniform Progress, availability per price"),
    known("skynomad", false, "SkyNomad's utility"),
    known("cheapest", false, "cheapest available zone, on-demand when time runs out"),
    known("next-region", false, "SkyPilot EAGER_NEXT_REGION as documented"),
    known("next-region-as-shipped", false, "SkyPilot EAGER_NEXT_REGION as shipped, prices 7 h old"),
    known("karpenter-like", false, "a model of Karpenter with price-capacity-optimized"),
    known("omniscient", false, "the best feasible plan, whole future known"),
    known("next-lifetime", true, "oracle: knows the life of the next spot instance"),
];

/// A fresh policy for one run.
pub fn make<'a>(name: &str, market: &'a Market, job: &BatchJob, start: usize) -> Option<Box<dyn BatchPolicy + 'a>> {
    let zones = market.zones.len();
    Some(match name {
        "lowtide" => Box::new(Lowtide::new(zones)),
        "on-demand" => Box::new(OnDemand),
        "spot-only" => Box::new(SpotOnly),
        "greedy" => Box::new(Greedy),
        "up" => Box::new(UniformProgress),
        "up-s" => Box::new(MultiZone::new(Order::Failover, zones)),
        "up-a" => Box::new(MultiZone::new(Order::Availability, zones)),
        "up-ap" => Box::new(MultiZone::new(Order::AvailabilityPerPrice, zones)),
        "skynomad" => Box::new(SkyNomad::new(zones)),
        "cheapest" => Box::new(Failover::new(Recovery::Cheapest)),
        "next-region" => Box::new(Failover::new(Recovery::NextRegion)),
        "next-region-as-shipped" => Box::new(Failover::new(Recovery::AsShipped)),
        "karpenter-like" => Box::new(KarpenterLike::default()),
        "omniscient" => Box::new(Omniscient::new(market, job, start)),
        "next-lifetime" => Box::new(NextLifetime { market, start }),
        _ => return None,
    })
}

/// One run's result: the policy, the zones it could use by index in the market, the tick it began at, and what happened.
struct Outcome {
    policy: &'static str,
    zones: Vec<usize>,
    start: usize,
    run: BatchRun,
}

/// Starts of all windows of `span` ticks that fit without overlap.
pub fn disjoint(ticks: usize, span: usize) -> Vec<usize> {
    (0..ticks / span.max(1)).map(|i| i * span).collect()
}

/// A market as a whole and zone by zone: policies of one zone run in each zone by itself.
struct Sets<'a> {
    whole: &'a Market,
    singles: Vec<Market>,
}

impl<'a> Sets<'a> {
    fn of(whole: &'a Market) -> Self {
        Sets { whole, singles: (0..whole.zones.len()).map(|z| whole.only(&[z])).collect() }
    }
    /// The market of `zones`: one of them, or all.
    fn market(&self, zones: &[usize]) -> &Market {
        match zones {
            [one] => self.singles.get(*one).unwrap_or(self.whole),
            _ => self.whole,
        }
    }
    /// The sets of zones a policy runs on.
    fn zones(&self, single: bool) -> Vec<Vec<usize>> {
        let all: Vec<usize> = (0..self.whole.zones.len()).collect();
        if single { all.into_iter().map(|z| vec![z]).collect() } else { vec![all] }
    }
}

/// Runs `policies` over windows at `starts`.
fn batch(sets: &Sets<'_>, job: BatchJob, starts: &[usize], policies: &[Known]) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    for known in policies {
        for &start in starts {
            for zones in sets.zones(known.single) {
                let market = sets.market(&zones);
                if let Some(mut policy) = make(known.name, market, &job, start) {
                    let run = simulate(market, job, start, policy.as_mut());
                    outcomes.push(Outcome { policy: known.name, zones, start, run });
                }
            }
        }
    }
    outcomes
}

fn usd(amount: MicroUsdMillis) -> f64 {
    amount.to_micro_usd().0 as f64 / 1e6
}

/// The mean over windows at `starts` of the cost in dollars below which no policy can come that may use every zone of `market`. It is a
/// property of the windows, whichever policies are shown: a policy of one zone has a higher bound of its own in its rows.
pub fn batch_bound(market: &Market, job: BatchJob, starts: &[usize]) -> f64 {
    mean(&starts.iter().map(|start| strict_bound(market, &job, *start)).collect::<Vec<_>>())
}

/// The same for a service that is ready `target` of the time.
pub fn serve_bound(market: &Market, spec: ServiceSpec, target: f64, starts: &[usize]) -> f64 {
    mean(&starts.iter().map(|start| service_bound(market, &spec, *start, target)).collect::<Vec<_>>())
}

/// Deadline jobs under `policies` over windows at `starts`, as rows of a report.
pub fn batch_rows(market: &Market, job: BatchJob, starts: &[usize], policies: &[Known]) -> Vec<Row> {
    let hours = |ms: i64| ms as f64 / 3.6e6;
    let sets = Sets::of(market);
    let mut bounds: BTreeMap<(Vec<usize>, usize), f64> = BTreeMap::new();
    let mut rows = Vec::new();
    for o in batch(&sets, job, starts, policies) {
        let own = sets.market(&o.zones);
        let bound = *bounds.entry((o.zones.clone(), o.start)).or_insert_with(|| strict_bound(own, &job, o.start));
        let (cost, od) = (usd(o.run.bill.total), usd(on_demand_cost(own, &job)));
        let late = hours(o.run.late(&job).0);
        rows.push(Row {
            policy: o.policy.to_owned(),
            zones: o.zones.iter().map(|z| market.zones[*z].zone.to_string()).collect(),
            start_hours: hours(market.tick.0 * o.start as i64),
            cost_usd: cost,
            on_demand_cost_usd: od,
            cost_ratio: cost / od,
            bound_usd: bound,
            late_hours: Some(late),
            unfinished_hours: Some(hours(o.run.unfinished.0)),
            availability: f64::from(u8::from(late == 0.0)),
            preemptions: o.run.preemptions,
            moves: o.run.moves,
            refused: o.run.refused,
            cold_start_hours: hours(o.run.changeover.0),
            on_demand_hours: hours(market.tick.0 * i64::from(o.run.on_demand_ticks)),
            egress_usd: usd(o.run.bill.egress),
            ledger_rows: o.run.bill.rows.len(),
            ..Row::default()
        });
    }
    rows
}

/// Services under `policies` over windows at `starts`, as rows of a report.
pub fn serve_rows(market: &Market, spec: ServiceSpec, target: f64, starts: &[usize], policies: &[&str]) -> Vec<Row> {
    let hours = |ms: i64| ms as f64 / 3.6e6;
    let od = usd(MicroUsdMillis(market.cheapest_on_demand().1.over(spec.window).0 * i128::from(spec.replicas)));
    let goal_ppm = (target * 1e6).round() as i64;
    let mut rows = Vec::new();
    for name in policies {
        for &start in starts {
            let Some(mut policy) = make_service(name, market.zones.len(), goal_ppm) else { continue };
            let run = serve(market, spec, start, policy.as_mut());
            let first = (((spec.cold_start.0 + spec.tick.0 - 1) / spec.tick.0) as u32).min(run.ticks.saturating_sub(1));
            rows.push(Row {
                policy: (*name).to_owned(),
                zones: market.zones.iter().map(|z| z.zone.to_string()).collect(),
                start_hours: hours(market.tick.0 * start as i64),
                cost_usd: usd(run.bill.total),
                on_demand_cost_usd: od,
                cost_ratio: usd(run.bill.total) / od,
                bound_usd: service_bound(market, &spec, start, target),
                late_hours: Some(hours(spec.tick.0 * i64::from(run.short_ticks))),
                availability: (f64::from(run.ready_ticks) / f64::from(run.ticks - first)).min(1.0),
                availability_whole_window: Some(f64::from(run.ready_ticks) / f64::from(run.ticks)),
                longest_short_hours: Some(hours(spec.tick.0 * i64::from(run.longest_short))),
                preemptions: run.preemptions,
                refused: run.refused,
                cold_start_hours: hours(spec.tick.0 * run.starting as i64),
                on_demand_hours: hours(spec.tick.0 * run.on_demand_ticks as i64),
                ledger_rows: run.bill.rows.len(),
                ..Row::default()
            });
        }
    }
    rows
}
