//! How many replicas of a service run on spot in which pool, and how many on on-demand.
//!
//! Decides:
//! 1. *Spot first.* The requested replicas and the spares are wanted on spot.
//! 2. *Spread, then price.* With spares the next replica goes where fewest are, then where it is cheapest: pools are lost as a whole (over
//!    94 % of the time all or none of a zone's instances are up; Can't Be Late, NSDI'24), so two zones with room are worth more than a
//!    small difference in price. A pool much more expensive than the cheapest is used only when the cheap ones are full.
//! 3. *On-demand only for what spot cannot launch.* A replacement on spot is ready as soon as one on on-demand would be, so
//!    on-demand is bought for replicas that no pool had room for, and given up when spot is *ready*, not when it is launched.
//!    A market without room for the spares has none for a replacement either, so spares are bought too where they would cover the next
//!    loss: where no pool holds more than that many, since a pool is lost as a whole.
//!    (SpotHedge, EuroSys'25, launches on-demand for every spot replica that is not ready, spares included.)
//! 4. *The first loss is a warning.* When one instance is taken, the others mostly follow within minutes. For five minutes what is
//!    left there keeps serving but does not count, so its replacement starts elsewhere before it is lost.
//! 5. *An availability goal is a budget of shortfall* ([`ErrorBudget`]), and a budget is there to be spent:
//!    - While one more loss fits into it, no spare is held, and replicas stay together: without a spare every pool in use is one more that
//!      can fail, and a loss takes as long to repair for three replicas as for one.
//!    - Once it does not, the service is guarded: a spare (two when the budget is overdrawn), and spot spread until the loss of the fullest
//!      pool leaves the requested replicas, up to twice as many. Where a pool whose loss would hurt is not steady, on-demand makes up
//!      for it; a lone pool that is not steady is left for on-demand until a second one has room, and holds no spares: they would be
//!      lost with the rest. A pool is steady when it is expected to last an hour, and longer as the budget is overdrawn. Time heals: the
//!      losses that still fit into one and a half budgets cut a day into equal parts, and a pool that has not been lost for half of
//!      such a part is tried again, whatever came before (the pace at which a deadline job returns to spot, [`super::batch`]).
//! - With one and a half budgets spent in a day, or two in two days, spot is left for on-demand until the balance improves.
//!
//! Does not: count replicas, or know when a pool is lost; those are inputs.

use crate::core::market::availability::CapacityMemory;
use crate::core::units::money::MicroUsdPerHour;
use crate::core::units::time::{Millis, Timestamp};
use crate::core::workload::shortfall::Shortfall;

/// A spot pool and what the service runs in it.
#[derive(Debug, Clone, Copy)]
pub struct ServingPool<'a> {
    /// The price of one replica now.
    pub price: MicroUsdPerHour,
    /// Replicas launched there, ready or not.
    pub launched: u32,
    /// Replicas ready there.
    pub ready: u32,
    /// What has been learned about it.
    pub memory: &'a CapacityMemory,
    /// A launch there was refused in this pass.
    pub refused: bool,
}

/// An availability goal over [`ErrorBudget::SPAN`], and what is left of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ErrorBudget {
    /// How long fewer than the requested replicas may be ready within the span.
    pub allowed: Millis,
    /// How long they were, in the span that ends now.
    pub used: Millis,
    /// ... and in twice the span, so that a bad day is followed by a good one.
    pub used_in_two: Millis,
    /// How long an uncovered loss lasts: the time to notice, and a cold start.
    pub loss: Millis,
}

impl ErrorBudget {
    /// The period over which a goal is kept.
    pub const SPAN: Millis = Millis::from_hours(24);

    /// The budget of a goal in parts per million of the time, for a service whose shortfall until `now` was `seen`.
    pub fn of_goal(goal_ppm: i64, seen: &Shortfall, now: Timestamp, loss: Millis) -> Self {
        let allowed = Millis(Self::SPAN.0 * (1_000_000 - goal_ppm.clamp(0, 1_000_000)) / 1_000_000);
        ErrorBudget { allowed, used: seen.within(now, Self::SPAN), used_in_two: seen.within(now, Self::SPAN + Self::SPAN), loss }
    }
    /// Whether one more loss would be one too many.
    pub fn is_tight(&self) -> bool {
        self.used.0 + self.loss.0 > self.allowed.0
    }
    /// Whether too much of it is spent to rely on spot at all.
    fn is_spent(&self) -> bool {
        self.left().0 < 0 || self.used_in_two.0 + self.loss.0 > 2 * self.allowed.0
    }
    /// What is left until spot is not relied on at all: of one and a half budgets.
    fn left(&self) -> Millis {
        Millis(self.allowed.0 * 3 / 2 - self.used.0)
    }
    /// For how long a pool must not have been lost to be tried again. The N losses that are left cut the span into N + 1 parts, and the
    /// wait is half a part.
    fn healed_after(&self) -> Millis {
        let (span, loss) = (i128::from(Self::SPAN.0), i128::from(self.loss.0));
        let half_a_part = span * loss / (2 * (i128::from(self.left().0.max(0)) + loss)).max(1);
        Millis(i64::try_from(half_a_part).unwrap_or(i64::MAX))
    }
    /// Spares that a tight budget requires.
    fn spares(&self) -> u32 {
        1 + u32::try_from(self.used.0 / self.allowed.0.max(1)).unwrap_or(u32::MAX - 1).min(u32::MAX - 1)
    }
}

/// A service when a decision is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Service {
    /// Replicas that must be ready.
    pub replicas: u32,
    /// Extra replicas wanted, on spot only.
    pub spares: u32,
    /// On-demand replicas launched, ready or not.
    pub on_demand: u32,
    /// On-demand replicas that are ready.
    pub on_demand_ready: u32,
    /// The price of a replica on on-demand.
    pub on_demand_price: MicroUsdPerHour,
    /// Its availability goal, which then decides when spares are held; `None` always holds them.
    pub budget: Option<ErrorBudget>,
}

/// What a service does about the next loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stance {
    /// No goal: the spares are held always.
    Spares,
    /// The budget has room for the next loss: none are held.
    Risk,
    /// It has not.
    Guard(ErrorBudget),
    /// It is spent: on-demand only.
    Leave,
}

impl Service {
    fn stance(&self) -> Stance {
        match self.budget {
            None => Stance::Spares,
            Some(budget) if budget.is_tight() && budget.is_spent() => Stance::Leave,
            Some(budget) if budget.is_tight() => Stance::Guard(budget),
            Some(_) => Stance::Risk,
        }
    }
    /// Extra replicas wanted now.
    fn spares_now(&self) -> u32 {
        match self.stance() {
            Stance::Spares => self.spares,
            Stance::Risk | Stance::Leave => 0,
            Stance::Guard(budget) => self.spares.max(budget.spares()).min(self.replicas),
        }
    }
}

impl ServingPool<'_> {
    /// Whether what runs here is expected to be lost soon.
    fn suspect(&self, now: Timestamp) -> bool {
        self.memory.lost_within(now, SUSPECT)
    }
    /// Whether it lasts long enough to be relied on when the budget is tight.
    fn steady(&self, budget: &ErrorBudget, now: Timestamp) -> bool {
        let stay = i128::from(self.memory.expected_stay(Millis::ZERO).0);
        let lasts = stay * i128::from(budget.allowed.0) >= i128::from(STEADY.0) * i128::from(budget.used.0.max(1));
        lasts || !self.memory.lost_within(now, budget.healed_after())
    }
}

/// A pool this much more expensive than the cheapest, in thousandths, is used only when the others are full.
const DEAR: i64 = 1_500;
/// For this long after a loss the rest of a pool is expected to go too. The five minutes within which 83 to 97 % of second losses
/// follow the first (SpotHedge, EuroSys'25, section 2).
const SUSPECT: Millis = Millis::from_mins(5);
/// A pool that is expected to last this long is steady as long as the budget is not overdrawn.
const STEADY: Millis = Millis::from_hours(1);

/// Replicas in pools that are not suspect: all of them, and those of the fullest.
#[derive(Debug, Clone, Copy, Default)]
struct Counted {
    all: u32,
    fullest: u32,
}

impl Counted {
    fn of(pools: &[ServingPool<'_>], now: Timestamp, count: impl Fn(&ServingPool<'_>) -> u32) -> Counted {
        pools
            .iter()
            .filter(|p| !p.suspect(now))
            .map(count)
            .fold(Counted::default(), |sum, n| Counted { all: sum.all + n, fullest: sum.fullest.max(n) })
    }
    /// What the loss of the fullest leaves.
    fn after_loss(self) -> u32 {
        self.all - self.fullest
    }
}

/// The pool to try the next launch in; `None` when enough is launched or no pool is worth trying.
/// Ask again after every attempt, with `launched` and `refused` brought up to date.
pub fn next_launch(service: &Service, pools: &[ServingPool<'_>], now: Timestamp) -> Option<usize> {
    let launched = Counted::of(pools, now, |p| p.launched);
    let stance = service.stance();
    if stance == Stance::Leave {
        return None;
    }
    let missing = launched.all < service.replicas + service.spares_now();
    let uncovered = launched.after_loss() < service.replicas && launched.all < 2 * service.replicas;
    let to_guard = matches!(stance, Stance::Guard(_)) && uncovered;
    if !(missing || to_guard) {
        return None;
    }
    let open =
        || pools.iter().enumerate().filter(|(_, p)| !p.refused && p.price < service.on_demand_price && !(p.suspect(now) && p.launched > 0));
    let cheapest = open().map(|(_, p)| p.price).min()?;
    let dear = |p: &ServingPool<'_>| p.price.0 * 1_000 > cheapest.0 * DEAR;
    // One more in the fullest pool is lost with it.
    let helps = |p: &ServingPool<'_>| missing || p.launched < launched.fullest;
    let Stance::Guard(budget) = stance else {
        let place = |p: &ServingPool<'_>| if stance == Stance::Risk { u32::from(p.launched == 0) } else { p.launched };
        return open().min_by_key(|(i, p)| (p.suspect(now), dear(p), place(p), p.price, *i)).map(|(i, _)| i);
    };
    if pools.iter().all(|p| p.launched == 0) {
        // A refusal costs nothing: a pool that may have room again is tried before one that is known to have some, because an unsteady one
        // is only worth using when there is a second.
        let seen = |p: &ServingPool<'_>| p.memory.last().is_some_and(|(_, up)| up);
        let stay = |p: &ServingPool<'_>| std::cmp::Reverse(p.memory.expected_stay(Millis::ZERO));
        let (at, pool) = open().min_by_key(|(i, p)| (dear(p), seen(p), stay(p), p.price, *i))?;
        return (open().count() > 1 || pool.steady(&budget, now)).then_some(at);
    }
    if launched.all >= service.replicas && open().all(|(_, p)| p.launched == launched.all) {
        // It is the only pool there is: a spare there is lost with the rest.
        return None;
    }
    let (at, pool) = open().filter(|(_, p)| helps(p)).min_by_key(|(i, p)| (p.suspect(now), dear(p), p.launched, p.price, *i))?;
    let alone = open().count() == 1 && pools.iter().enumerate().all(|(i, p)| i == at || p.launched == 0);
    (!alone || pool.steady(&budget, now)).then_some(at)
}

/// The one pool that holds all there is on spot, when it is not steady enough for a tight budget.
fn lone_risk(budget: &ErrorBudget, pools: &[ServingPool<'_>], now: Timestamp) -> Option<usize> {
    let mut held = pools.iter().enumerate().filter(|(_, p)| p.launched > 0 && !p.suspect(now));
    let (at, pool) = held.next()?;
    (held.next().is_none() && !pool.steady(budget, now)).then_some(at)
}

/// How many on-demand replicas to hold, once all launches of this pass have been tried.
pub fn on_demand_wanted(service: &Service, pools: &[ServingPool<'_>], now: Timestamp) -> u32 {
    if service.stance() == Stance::Leave {
        return service.replicas;
    }
    let (launched, ready) = (Counted::of(pools, now, |p| p.launched), Counted::of(pools, now, |p| p.ready));
    let uncovered = service.replicas.saturating_sub(launched.all);
    // A replica that is expected to be lost does not count, but while it runs it is as good as a spare.
    let all: u32 = pools.iter().map(|p| p.launched).sum();
    let whole_pool = pools.iter().map(|p| p.launched).max().unwrap_or(0);
    let spares = service.spares_now();
    let covers = whole_pool <= spares;
    let without_spare = if covers { (service.replicas + spares).saturating_sub(all).min(service.replicas) } else { 0 };
    let bridging = service.on_demand.min(service.replicas.saturating_sub(ready.all));
    let spot_first = uncovered.max(without_spare).max(bridging);
    let Stance::Guard(budget) = service.stance() else { return spot_first };
    if lone_risk(&budget, pools, now).is_some() {
        return service.replicas;
    }
    let hurts = |p: &&ServingPool<'_>| !p.suspect(now) && p.launched > 0 && launched.all - p.launched < service.replicas;
    if pools.iter().filter(hurts).all(|p| p.steady(&budget, now)) {
        return spot_first;
    }
    let after_loss = service.replicas.saturating_sub(launched.after_loss());
    let bridging = service.on_demand.min(service.replicas.saturating_sub(ready.after_loss()));
    spot_first.max(after_loss).max(bridging)
}

/// The pool to give a replica back from: there are more than wanted. Ask again until there is none.
pub fn next_release(service: &Service, pools: &[ServingPool<'_>], now: Timestamp) -> Option<usize> {
    let (launched, ready) = (Counted::of(pools, now, |p| p.launched), Counted::of(pools, now, |p| p.ready));
    let stance = service.stance();
    let mut wanted = service.replicas + service.spares_now();
    // On-demand does all of it now: replicas that may be lost any time are of no use.
    let on_demand_serves = service.on_demand_ready >= service.replicas;
    match stance {
        Stance::Leave => return pools.iter().position(|p| on_demand_serves && p.launched > 0),
        Stance::Guard(budget) => {
            if let Some(at) = lone_risk(&budget, pools, now).filter(|_| on_demand_serves) {
                return Some(at);
            }
            wanted = wanted.max((service.replicas + launched.fullest).min(2 * service.replicas));
        }
        Stance::Spares | Stance::Risk => {}
    }
    if ready.all <= wanted {
        return None;
    }
    // The most expensive of the fullest; without a spare, replicas are kept together, so of the emptiest.
    let full = |p: &ServingPool<'_>| if stance == Stance::Risk { u32::MAX - p.launched } else { p.launched };
    pools.iter().enumerate().filter(|(_, p)| p.ready > 0 && !p.suspect(now)).max_by_key(|(i, p)| (full(p), p.price, *i)).map(|(i, _)| i)
}

#[cfg(test)]
mod tests;
