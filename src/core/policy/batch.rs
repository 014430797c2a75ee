//! What one deadline job runs on next: nothing, spot in one pool, or on-demand.

use super::memory::PoolMemory;
use crate::core::money::{MicroUsd, MicroUsdPerHour};
use crate::core::time::{Millis, Timestamp};

/// A spot pool as the policy sees it.
#[derive(Debug, Clone, Copy)]
pub struct SpotPool<'a> {
    /// The price now.
    pub price: MicroUsdPerHour,
    /// What carrying the checkpoint there from where it lies now costs.
    pub egress: MicroUsd,
    /// What has been learnt about it.
    pub memory: &'a PoolMemory,
}

/// An on-demand offer.
#[derive(Debug, Clone, Copy)]
pub struct OnDemandOffer {
    /// The price.
    pub price: MicroUsdPerHour,
    /// What carrying the checkpoint there costs.
    pub egress: MicroUsd,
}

/// What runs now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holding {
    /// Nothing.
    Nothing,
    /// Spot in the pool with this index.
    Spot(usize),
    /// The on-demand offer with this index.
    OnDemand(usize),
}

/// One deadline job when a decision is due.
#[derive(Debug, Clone, Copy)]
pub struct Job {
    /// Work left on one machine.
    pub remaining: Millis,
    /// When it must be done.
    pub deadline: Timestamp,
    /// What a launch loses before work goes on.
    pub changeover: Millis,
    /// Changeover still to serve on what is held.
    pub changeover_left: Millis,
    /// What is held.
    pub holding: Holding,
}

/// One step to try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Keep what is held.
    Keep,
    /// Hold nothing.
    Wait,
    /// Launch spot in this pool.
    Spot(usize),
    /// Launch this on-demand offer.
    OnDemand(usize),
}

/// The parameters of the policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchPolicy {
    /// How often decisions are made: nothing is noticed sooner.
    pub period: Millis,
    /// m
    pub margin: i64,
    /// r
    pub reserve: i64,
    /// h
    pub hysteresis: i64,
}

/// The steps to try, best first. `Wait` is meant when all fail.
pub fn decide(policy: &BatchPolicy, job: &Job, pools: &[SpotPool<'_>], on_demand: &[OnDemandOffer], now: Timestamp, steps: &mut Vec<Step>) {
    let d = job.changeover.0;
    let left = job.deadline.since(now).0;
    let slack = left - job.remaining.0;
    let last_call = d + policy.period.0;
    let od = on_demand
        .iter()
        .enumerate()
        .min_by_key(|(i, o)| (i128::from(o.price.0) * i128::from(job.remaining.0 + d) + i128::from(o.egress.0) * 3_600_000, *i))
        .map(|(i, _)| i);
    let settled = job.changeover_left.0 == 0;
    // Spot may be launched while a launch that is lost at once still leaves time for on-demand.
    if slack < last_call + d {
        match (job.holding, od) {
            (Holding::Spot(_), _) if settled => steps.push(Step::Keep),
            (Holding::OnDemand(_), _) => steps.push(Step::Keep),
            (Holding::Spot(_), _) if slack - job.changeover_left.0 >= last_call => steps.push(Step::Keep),
            (_, Some(od)) => steps.push(Step::OnDemand(od)),
            (_, None) => {}
        }
        if !matches!(steps.last(), Some(Step::Keep | Step::OnDemand(_))) {
            steps.push(Step::Wait);
        }
        return;
    }
    let mut order: Vec<(i64, usize)> = pools.iter().enumerate().map(|(i, p)| (effective(job, p, i), i)).collect();
    order.sort_unstable();
    let trips = 1_000 + job.remaining.0 * 1_000 / mean_stay(pools);
    let reserve = 2 * d * trips / 1_000 * policy.reserve / 1000 + policy.period.0;
    // How far down the list we must go so that the pools up to there are expected to have room often enough.
    let time = left - reserve;
    let (mut none_ppm, mut accept) = (1_000_000_i64, 0);
    for (_, i) in &order {
        accept += 1;
        let p = &pools[*i];
        let a = p.memory.availability_ppm();
        none_ppm = none_ppm * (1_000_000 - a) / 1_000_000;
        let expected = i128::from(time) * i128::from(1_000_000 - none_ppm) / 1_000_000;
        if expected * 1000 >= i128::from(job.remaining.0) * i128::from(policy.margin) {
            break;
        }
    }
    let held = match job.holding {
        Holding::Spot(i) => Some(i),
        _ => None,
    };
    for (price, i) in order.iter().take(accept) {
        if held == Some(*i) {
            break;
        }
        let worth = match held {
            Some(h) => {
                let stay = pools[*i].memory.expected_stay(Millis::ZERO).0.min(job.remaining.0 + d);
                let _ = stay;
                *price * 1000 < pools[h].price.0 * policy.hysteresis
            }
            None => true,
        };
        let worth = worth
            && match job.holding {
                Holding::OnDemand(h) => {
                    let k = on_demand.get(h).map_or(0, |o| o.price.0);
                    let p = pools[*i].price.0;
                    let stay = pools[*i].memory.expected_stay(Millis::ZERO).0.min(job.remaining.0 + d);
                    i128::from(k - p) * i128::from(stay)
                        > i128::from(k + p) * i128::from(d) + 2 * 3_600_000 * i128::from(pools[*i].egress.0)
                }
                _ => true,
            };
        if worth {
            steps.push(Step::Spot(*i));
        }
    }
    match (job.holding, od) {
        (Holding::Spot(_) | Holding::OnDemand(_), _) => steps.push(Step::Keep),
        (Holding::Nothing, Some(od)) if slack < reserve => steps.push(Step::OnDemand(od)),
        (Holding::Nothing, _) => steps.push(Step::Wait),
    }
}

/// How long a stay in any pool has lasted on average.
fn mean_stay(pools: &[SpotPool<'_>]) -> i64 {
    let (up, ended) = pools.iter().map(|p| p.memory.stays()).fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
    ((up + 2 * 3_600_000) * 1_000 / (ended + 1_000)).max(1)
}

/// The price of an hour of work in a pool, with the changeover and the move spread over the expected stay.
fn effective(job: &Job, pool: &SpotPool<'_>, index: usize) -> i64 {
    if job.holding == Holding::Spot(index) {
        return pool.price.0;
    }
    let d = job.changeover.0;
    let stay = pool.memory.expected_stay(Millis::ZERO).0.min(job.remaining.0 + d).max(d + 60_000);
    let paid = i128::from(pool.price.0) * i128::from(stay) + i128::from(pool.egress.0) * 3_600_000;
    i64::try_from(paid / i128::from(stay - d)).unwrap_or(i64::MAX)
}
