//! Runs policies over windows of a market and gathers one result per policy, window and set of zones.

use super::job::BatchJob;
use super::market::Market;
use super::omniscient::Omniscient;
use super::ours::Lowtide;
use super::policies::cant_be_late::{Greedy, NextLifetime, OnDemand, SpotOnly};
use super::policies::cluster::KarpenterLike;
use super::policies::skynomad::SkyNomad;
use super::policies::skypilot::{Failover, Recovery};
use super::policies::uniform::{MultiZone, Order, UniformProgress};
use super::simulate::{BatchPolicy, BatchRun, simulate};

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

/// One run's result.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The policy.
    pub policy: &'static str,
    /// The zones it could use, by index in the market.
    pub zones: Vec<usize>,
    /// The tick it began at.
    pub start: usize,
    /// What happened; for a lower bound, only the bill is meaningful.
    pub run: BatchRun,
}

/// Starts of all windows of `span` ticks that fit without overlap.
pub fn disjoint(ticks: usize, span: usize) -> Vec<usize> {
    (0..ticks / span.max(1)).map(|i| i * span).collect()
}

/// Runs `policies` over windows at `starts`.
pub fn batch(market: &Market, job: BatchJob, starts: &[usize], policies: &[Known]) -> Vec<Outcome> {
    let singles: Vec<Market> = (0..market.zones.len()).map(|z| market.only(&[z])).collect();
    let all: Vec<usize> = (0..market.zones.len()).collect();
    let mut outcomes = Vec::new();
    for known in policies {
        for &start in starts {
            let sets: Vec<(&Market, Vec<usize>)> =
                if known.single { all.iter().map(|z| (&singles[*z], vec![*z])).collect() } else { vec![(market, all.clone())] };
            for (market, zones) in sets {
                if let Some(mut policy) = make(known.name, market, &job, start) {
                    let run = simulate(market, job, start, policy.as_mut());
                    outcomes.push(Outcome { policy: known.name, zones, start, run });
                }
            }
        }
    }
    outcomes
}
