//! Policies for a service: on-demand, SpotHedge and the baselines of its paper, a Karpenter-like model, and ours.

use super::super::market::Past;
use super::simulate::{ServePolicy, Yard};
use crate::core::market::availability::CapacityMemory;
use crate::core::policy::serving::{ErrorBudget, Service, ServingPool, next_launch, next_release, on_demand_wanted};
use crate::core::units::time::Timestamp;
use crate::core::workload::shortfall::Shortfall;

/// All replicas on on-demand.
pub struct OnDemand;

impl ServePolicy for OnDemand {
    fn step(&mut self, _: &Past<'_>, yard: &mut Yard<'_>) {
        yard.hold_on_demand(yard.spec().replicas);
    }
}

fn by_price(past: &Past<'_>, zones: impl Iterator<Item = usize>) -> Option<usize> {
    zones.min_by_key(|z| (past.price(*z), *z))
}

/// SpotHedge. Source: Mao et al., "SkyServe: Serving AI Models across Regions and Clouds with Spot Instances", EuroSys'25,
/// section 3: zones that pre-empt (or, in the code, refuse a launch) leave the active set, zones where a replica becomes ready enter
/// it, and with fewer than two active zones all become active; the next replica goes to the cheapest active zone not yet in
/// use, else to the cheapest active one. On-demand replicas: min(N, N + extra - ready spot). Every replica that misses may try until
/// every zone refused in this tick, which is more than SkyServe does (one attempt at a time).
pub struct SpotHedge {
    active: Vec<bool>,
}

impl SpotHedge {
    /// A fresh policy.
    pub fn new(zones: usize) -> Self {
        SpotHedge { active: vec![true; zones] }
    }
    fn leave(&mut self, zone: usize) {
        self.active[zone] = false;
        if self.active.iter().filter(|a| **a).count() < 2 {
            self.active.fill(true);
        }
    }
}

impl ServePolicy for SpotHedge {
    fn step(&mut self, past: &Past<'_>, yard: &mut Yard<'_>) {
        for z in 0..yard.zones() {
            if yard.ready(z) > 0 {
                self.active[z] = true;
            }
        }
        for z in 0..yard.zones() {
            if yard.lost(z) > 0 {
                self.leave(z);
            }
        }
        let (n, extra) = (yard.spec().replicas, yard.spec().extra);
        let mut refused = vec![false; yard.zones()];
        while yard.all_launched() < n + extra {
            let open = |z: &usize| self.active[*z] && !refused[*z];
            let unused = by_price(past, (0..yard.zones()).filter(open).filter(|z| yard.launched(*z) == 0));
            let Some(z) = unused.or_else(|| by_price(past, (0..yard.zones()).filter(open))) else { break };
            if !yard.launch(z) {
                refused[z] = true;
                self.leave(z);
            }
        }
        let ready = yard.all_ready();
        yard.hold_on_demand(n.min((n + extra).saturating_sub(ready)));
    }
}

/// Round robin: the next replica goes to the next zone, whatever happened there; no on-demand. A baseline of SpotHedge's paper.
#[derive(Default)]
pub struct RoundRobin {
    next: usize,
}

impl ServePolicy for RoundRobin {
    fn step(&mut self, _: &Past<'_>, yard: &mut Yard<'_>) {
        let wanted = yard.spec().replicas + yard.spec().extra;
        for _ in yard.all_launched()..wanted {
            yard.launch(self.next % yard.zones());
            self.next += 1;
        }
    }
}

/// Even spread: replica i belongs to zone i modulo the zones and waits for it; no on-demand. A baseline of SpotHedge's paper.
pub struct EvenSpread;

impl ServePolicy for EvenSpread {
    fn step(&mut self, _: &Past<'_>, yard: &mut Yard<'_>) {
        let (wanted, zones) = (yard.spec().replicas + yard.spec().extra, yard.zones() as u32);
        for z in 0..yard.zones() {
            let share = wanted / zones + u32::from((z as u32) < wanted % zones);
            while yard.launched(z) < share && yard.launch(z) {}
        }
    }
}

/// **A model** of Karpenter: exactly the asked replicas; spot in the cheapest zone that has room, else on-demand, and it goes back to
/// spot (consolidation) one replica at a time, waiting for the replacement to be ready.
pub struct KarpenterLike;

impl ServePolicy for KarpenterLike {
    fn step(&mut self, past: &Past<'_>, yard: &mut Yard<'_>) {
        let n = yard.spec().replicas;
        let starting = yard.all_launched() > yard.all_ready();
        let back = if yard.on_demand() > 0 && !starting { 1 } else { 0 };
        let missing = n.saturating_sub(yard.all_launched() + yard.on_demand()) + back;
        let mut refused = vec![false; yard.zones()];
        let mut launched = 0;
        while launched < missing {
            let Some(z) = by_price(past, (0..yard.zones()).filter(|z| !refused[*z])) else { break };
            if yard.launch(z) { launched += 1 } else { refused[z] = true }
        }
        let uncovered = n.saturating_sub(yard.all_launched());
        let bridging = yard.on_demand().min(n.saturating_sub(yard.all_ready()));
        yard.hold_on_demand(uncovered.max(bridging));
    }
}

/// `lowtide` for a service: the functions of [`crate::core::policy::serving`], fed with what the operator would know.
pub struct Lowtide {
    memory: Vec<CapacityMemory>,
    /// The availability goal, in parts per million; `None` holds the spares always.
    goal_ppm: Option<i64>,
    shortfall: Shortfall,
}

impl Lowtide {
    /// A fresh policy for this many zones.
    pub fn new(zones: usize, goal_ppm: Option<i64>) -> Self {
        Lowtide { memory: vec![CapacityMemory::default(); zones], goal_ppm, shortfall: Shortfall::default() }
    }

    fn learn(&mut self, yard: &Yard<'_>, now: Timestamp) {
        yard.remember(&mut self.memory, now);
        self.shortfall.observe(now, yard.all_ready() + yard.on_demand_ready() >= yard.spec().replicas);
    }

    fn service(&self, past: &Past<'_>, yard: &Yard<'_>, now: Timestamp) -> Service {
        let spec = yard.spec();
        Service {
            replicas: spec.replicas,
            spares: spec.extra,
            on_demand: yard.on_demand(),
            on_demand_ready: yard.on_demand_ready(),
            on_demand_price: (0..yard.zones()).map(|z| past.on_demand(z)).min().unwrap_or_default(),
            budget: self.goal_ppm.map(|goal| ErrorBudget::of_goal(goal, &self.shortfall, now, spec.cold_start + spec.tick)),
        }
    }
}

impl ServePolicy for Lowtide {
    fn step(&mut self, past: &Past<'_>, yard: &mut Yard<'_>) {
        let now = Timestamp(yard.now().0);
        self.learn(yard, now);
        let mut refused = vec![false; yard.zones()];
        loop {
            let pools = pools(&self.memory, past, yard, &refused);
            match next_launch(&self.service(past, yard, now), &pools, now) {
                Some(z) if yard.launch(z) => {}
                Some(z) => refused[z] = true,
                None => break,
            }
        }
        let hold = on_demand_wanted(&self.service(past, yard, now), &pools(&self.memory, past, yard, &refused), now);
        yard.hold_on_demand(hold);
        while let Some(z) = next_release(&self.service(past, yard, now), &pools(&self.memory, past, yard, &refused), now) {
            yard.release(z);
        }
        for (z, r) in refused.iter().enumerate() {
            if *r && yard.launched(z) == 0 {
                self.memory[z].observe(now, false);
            }
        }
    }
}

fn pools<'m>(memory: &'m [CapacityMemory], past: &Past<'_>, yard: &Yard<'_>, refused: &[bool]) -> Vec<ServingPool<'m>> {
    let capacity = |(z, memory): (usize, &'m CapacityMemory)| ServingPool {
        price: past.price(z),
        launched: yard.launched(z),
        ready: yard.ready(z),
        memory,
        refused: refused[z],
    };
    memory.iter().enumerate().map(capacity).collect()
}

/// Every serving policy: name and one line for people.
pub const SERVE: &[(&str, &str)] = &[
    ("lowtide", "ours: the policy the operator runs, with an availability goal"),
    ("lowtide-spares", "the same without a goal: its spares are held always"),
    ("on-demand", "all replicas on on-demand"),
    ("spothedge", "SpotHedge (SkyServe)"),
    ("round-robin", "spot only, zones in turn"),
    ("even-spread", "spot only, a fixed share per zone"),
    ("karpenter-like", "a model of Karpenter: cheapest zone, on-demand when none"),
];

/// A fresh policy for one run; `goal_ppm` is the availability that a service asks for, in parts per million.
pub fn make(name: &str, zones: usize, goal_ppm: i64) -> Option<Box<dyn ServePolicy>> {
    Some(match name {
        "lowtide" => Box::new(Lowtide::new(zones, Some(goal_ppm))),
        "lowtide-spares" => Box::new(Lowtide::new(zones, None)),
        "on-demand" => Box::new(OnDemand),
        "spothedge" => Box::new(SpotHedge::new(zones)),
        "round-robin" => Box::new(RoundRobin::default()),
        "even-spread" => Box::new(EvenSpread),
        "karpenter-like" => Box::new(KarpenterLike),
        _ => return None,
    })
}
