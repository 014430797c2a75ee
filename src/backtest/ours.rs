//! lowtide's own policies on a recorded market: the functions of [`crate::core::policy`], fed with what the operator would know.

use super::job::{JobState, Running, Try};
use super::market::Past;
use super::simulate::BatchPolicy;
use crate::core::market::availability::CapacityMemory;
use crate::core::policy::batch::{self, Choice, EVEN_ODDS, Holding, Job, OnDemandOffer, SpotCapacity};
use crate::core::units::money::{MicroUsd, MicroUsdMillis};
use crate::core::units::time::{Millis, Timestamp};

/// `lowtide` for a deadline job: sees prices, its own launches, refusals and interruptions, and nothing else of the market.
pub struct Lowtide {
    memory: Vec<CapacityMemory>,
    steps: Vec<Choice>,
    on_demand: Vec<OnDemandOffer>,
    /// Paid so far, and where the checkpoint lay then.
    paid: MicroUsdMillis,
    home: Option<usize>,
}

impl Lowtide {
    /// A fresh policy for `zones` zones that knows nothing yet.
    pub fn new(zones: usize) -> Self {
        let memory = vec![CapacityMemory::default(); zones];
        Lowtide { memory, steps: Vec::new(), on_demand: Vec::new(), paid: MicroUsdMillis(0), home: None }
    }
}

impl Lowtide {
    /// Adds what the last tick cost, and says how much that is more than on-demand costs for the work done.
    fn overspent(&mut self, past: &Past<'_>, s: &JobState) -> MicroUsd {
        let held = match (s.running, s.preempted) {
            (Running::Spot(z), _) | (Running::Idle, Some(z)) => past.price_before(z, 1),
            (Running::OnDemand(z), _) => Some(past.on_demand(z)),
            (Running::Idle, None) => None,
        };
        self.paid = self.paid + held.map_or(MicroUsdMillis(0), |rate| rate.over(past.tick()));
        if let (Some(from), Some(to)) = (self.home, s.home) {
            let carried = past.egress(from, to) * s.job.checkpoint_gib;
            self.paid = self.paid + MicroUsdMillis(i128::from(carried.0) * i128::from(Millis::from_hours(1).0));
        }
        self.home = s.home;
        let cheapest = (0..past.zones()).map(|z| past.on_demand(z)).min().unwrap_or_default();
        self.paid.to_micro_usd() - cheapest.over(Millis(s.job.work.0 - s.remaining.0)).to_micro_usd()
    }
}

fn clock(past: &Past<'_>) -> Timestamp {
    Timestamp(past.elapsed().0)
}

impl BatchPolicy for Lowtide {
    fn decide(&mut self, past: &Past<'_>, s: &JobState, wish: &mut Vec<Try>) {
        let now = clock(past);
        let overspent = self.overspent(past, s);
        if let Some(memory) = s.preempted.and_then(|z| self.memory.get_mut(z)) {
            memory.note_loss(now);
        }
        let egress = |z: usize| s.home.map_or(MicroUsd(0), |h| past.egress(h, z) * s.job.checkpoint_gib);
        let pools: Vec<SpotCapacity<'_>> = self
            .memory
            .iter()
            .enumerate()
            .map(|(z, memory)| SpotCapacity { price: past.price(z), egress: egress(z), memory, prior_ppm: EVEN_ODDS })
            .collect();
        self.on_demand.clear();
        self.on_demand.extend((0..past.zones()).map(|z| OnDemandOffer { price: past.on_demand(z), egress: egress(z) }));
        let holding = match s.running {
            Running::Idle => Holding::Nothing,
            Running::Spot(z) => Holding::Spot(z),
            Running::OnDemand(z) => Holding::OnDemand(z),
        };
        let job = Job {
            remaining: s.remaining,
            deadline: Timestamp(s.job.deadline.0),
            changeover: s.job.changeover,
            changeover_left: s.changeover_left,
            holding,
            overspent,
        };
        self.steps.clear();
        batch::decide(past.tick(), &job, &pools, &self.on_demand, now, &mut self.steps);
        wish.extend(self.steps.iter().map(|step| match *step {
            Choice::Keep => Try::Keep,
            Choice::Wait => Try::Idle,
            Choice::Spot(z) => Try::Spot(z),
            Choice::OnDemand(z) => Try::OnDemand(z),
        }));
    }
    fn saw(&mut self, past: &Past<'_>, zone: usize, up: bool) {
        self.memory[zone].observe(clock(past), up);
    }
}
