//! Uniform Progress in one zone and over several.
//!
//! Source: Wu et al., "Can't Be Late: Optimizing Spot Instance Savings under Deadlines", NSDI'24, section 4, rules 1 to 6; the
//! multi-zone forms are the baselines of "SkyNomad" (NSDI'27, arXiv 2601.06520): UP(S) chooses as SkyPilot's failover does,
//! UP(A) by measured availability, UP(AP) by availability over price.

use super::super::job::{JobState, Running, Try};
use super::super::market::Past;
use super::super::simulate::BatchPolicy;
use crate::core::units::time::Millis;

/// What the rules ask for, before a zone is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// Run nothing.
    Idle,
    /// Spot.
    Spot,
    /// On-demand.
    OnDemand,
}

fn ceil_to(span: i64, tick: i64) -> i64 {
    (span + tick - 1).div_euclid(tick) * tick
}

/// Time left and the two safety limits, in whole ticks: time is floored, needs are ceiled.
pub struct Limits {
    /// Time left, floored.
    pub left: i64,
    /// Work left and one changeover, ceiled.
    pub one: i64,
    /// Work left and two changeovers, ceiled.
    pub two: i64,
}

impl Limits {
    /// The limits of this tick.
    pub fn of(past: &Past<'_>, s: &JobState) -> Self {
        let (tick, d) = (past.tick().0, s.job.changeover.0);
        let left = (s.job.deadline.0 - past.elapsed().0).div_euclid(tick) * tick;
        Limits { left, one: ceil_to(s.remaining.0 + d, tick), two: ceil_to(s.remaining.0 + 2 * d, tick) }
    }
}

/// Whether the work done is ahead of (positive) or behind (negative) the straight line to the deadline, `ahead` from now.
pub fn lead(past: &Past<'_>, s: &JobState, ahead: Millis) -> i128 {
    let done = i128::from(s.job.work.0 - s.remaining.0);
    done * i128::from(s.job.deadline.0) - i128::from(past.elapsed().0 + ahead.0) * i128::from(s.job.work.0)
}

/// Rules 2 to 6 for one zone.
pub fn ask(past: &Past<'_>, s: &JobState, on: Ask, has_spot: bool) -> Ask {
    let mut ask = if has_spot { Ask::Spot } else { Ask::Idle };
    if !has_spot && lead(past, s, Millis(0)) < 0 {
        ask = Ask::OnDemand;
    }
    let two = Millis(2 * s.job.changeover.0);
    if on == Ask::OnDemand && (!has_spot || lead(past, s, two) <= 0) {
        ask = Ask::OnDemand;
    }
    let limits = Limits::of(past, s);
    if limits.two >= limits.left && on != Ask::Spot {
        ask = Ask::OnDemand;
    }
    if limits.one >= limits.left {
        let settled = on == Ask::Spot && s.changeover_left.0 == 0;
        ask = if settled { Ask::Spot } else { Ask::OnDemand };
    }
    ask
}

/// What runs, without its zone.
pub fn kind(running: Running) -> Ask {
    match running {
        Running::Idle => Ask::Idle,
        Running::Spot(_) => Ask::Spot,
        Running::OnDemand(_) => Ask::OnDemand,
    }
}

/// Uniform Progress in one zone. Reproduces the 15 zone-windows published with SkyNomad to the cent.
pub struct UniformProgress;

impl BatchPolicy for UniformProgress {
    fn decide(&mut self, past: &Past<'_>, s: &JobState, wish: &mut Vec<Try>) {
        // The zone's state at this tick is seen by asking for an instance: the list says what to do either way.
        let on = kind(s.running);
        let has_spot = past.capacity_before(0, 0).unwrap_or(0) > 0;
        wish.push(match ask(past, s, on, has_spot) {
            Ask::Idle => Try::Idle,
            Ask::Spot => Try::Spot(0),
            Ask::OnDemand => Try::OnDemand(0),
        });
    }
}

/// How a multi-zone form of Uniform Progress orders the zones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// UP(S): by price, the region of the last instance last (SkyPilot's EAGER_NEXT_REGION as documented).
    Failover,
    /// UP(A): by the share of the last five samples that found capacity, and move when another zone's share is higher.
    Availability,
    /// UP(AP): by the share of all samples that found capacity over the price, and move when another zone is 10 % better.
    AvailabilityPerPrice,
}

/// Uniform Progress over several zones. Where the rules ask for spot, zones are tried in the order of the form.
/// UP(A) samples one zone every two hours, UP(AP) every zone every hour, as SkyNomad's artifact does; samples are free here, and
/// cost a minute of spot each there.
pub struct MultiZone {
    order: Order,
    samples: Vec<Vec<bool>>,
    next_sample: Vec<usize>,
    ranked: Vec<(f64, usize)>,
}

impl MultiZone {
    /// A fresh policy for `zones` zones.
    pub fn new(order: Order, zones: usize) -> Self {
        MultiZone { order, samples: vec![Vec::new(); zones], next_sample: vec![0; zones], ranked: Vec::new() }
    }
    fn every(&self, past: &Past<'_>) -> usize {
        let span = if self.order == Order::Availability { Millis::from_hours(2) } else { Millis::from_hours(1) };
        ((span.0 + past.tick().0 / 2) / past.tick().0).max(1) as usize
    }
    fn share(&self, zone: usize) -> f64 {
        let all = &self.samples[zone];
        let window = if self.order == Order::Availability { all.len().saturating_sub(5) } else { 0 };
        let seen = &all[window..];
        if seen.is_empty() { 0.5 } else { seen.iter().filter(|up| **up).count() as f64 / seen.len() as f64 }
    }
    fn score(&self, past: &Past<'_>, zone: usize) -> f64 {
        match self.order {
            Order::Failover => -(past.price(zone).0 as f64),
            Order::Availability => self.share(zone),
            Order::AvailabilityPerPrice => self.share(zone) / past.price(zone).0.max(1) as f64,
        }
    }
    fn rank(&mut self, past: &Past<'_>, home: Option<usize>) {
        let mut ranked = std::mem::take(&mut self.ranked);
        ranked.clear();
        ranked.extend((0..past.zones()).map(|z| (self.score(past, z), z)));
        ranked.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        if let (Order::Failover, Some(home)) = (self.order, home) {
            ranked.sort_by_key(|(_, z)| past.region(*z) == past.region(home));
        }
        self.ranked = ranked;
    }
    fn sample(&mut self, past: &Past<'_>, main: Option<usize>) {
        if self.order == Order::Failover {
            return;
        }
        let (now, every) = (past.elapsed_ticks(), self.every(past));
        if let Some(z) = main.filter(|z| now >= self.next_sample[*z]) {
            self.samples[z].push(true);
            self.next_sample[z] = now + every;
        }
        let mut due: Vec<usize> = (0..past.zones()).filter(|z| main != Some(*z) && now >= self.next_sample[*z]).collect();
        due.sort_by_key(|z| (self.samples[*z].len(), *z));
        let most = if self.order == Order::Availability { 1 } else { due.len() };
        for z in due.into_iter().take(most) {
            self.samples[z].push(past.capacity_before(z, 0).unwrap_or(0) > 0);
            self.next_sample[z] = now + every;
        }
    }
    fn worth_moving(&self, past: &Past<'_>, from: usize) -> bool {
        let Some(best) = self.ranked.first() else { return false };
        match self.order {
            Order::Failover => false,
            Order::Availability => best.0 > self.score(past, from) + 1e-6,
            Order::AvailabilityPerPrice => self.score(past, from) < best.0 * 0.9,
        }
    }
}

impl BatchPolicy for MultiZone {
    fn decide(&mut self, past: &Past<'_>, s: &JobState, wish: &mut Vec<Try>) {
        let od = Try::OnDemand(s.home.unwrap_or(0));
        let main = if let Running::Spot(z) = s.running { Some(z) } else { None };
        match ask(past, s, kind(s.running), true) {
            Ask::OnDemand => wish.push(od),
            Ask::Idle => wish.push(Try::Idle),
            Ask::Spot => {
                self.rank(past, s.home);
                match s.running {
                    Running::Spot(z) if !self.worth_moving(past, z) => wish.push(Try::Keep),
                    _ => {
                        wish.extend(self.ranked.iter().map(|(_, z)| Try::Spot(*z)));
                        let fallback = ask(past, s, Ask::Idle, false);
                        wish.push(if fallback == Ask::OnDemand { od } else { Try::Idle });
                    }
                }
                self.sample(past, main);
            }
        }
    }
    fn saw(&mut self, past: &Past<'_>, zone: usize, up: bool) {
        // A launch that succeeded or failed, and a pre-emption, are samples too; a tick that merely went well is not.
        if self.order != Order::Failover && (!up || self.next_sample[zone] <= past.elapsed_ticks()) {
            self.samples[zone].push(up);
        }
    }
}
