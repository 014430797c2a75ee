//! How many replicas of a service run on spot in which pool, and how many on on-demand.
//!
//! Decides:
//! 1. *Spot first, with spares.* As many replicas as are asked for and the spares are wanted on spot, in every pool that has room.
//! 2. *Spread, then price.* The next replica goes where fewest are, then where it is cheapest: pools are lost as a whole (over
//!    94 % of the time all or none of a zone's instances are up; Can't Be Late, NSDI'24), so two zones with room are worth more
//!    than a small difference of price. A pool much dearer than the cheapest is used only when the cheap ones are full.
//! 3. *On-demand only for what spot cannot launch.* A replacement on spot is ready as soon as one on on-demand would be, so
//!    on-demand is bought for replicas that no pool had room for, and given up when spot is *ready*, not when it is launched.
//!    (SpotHedge, EuroSys'25, launches on-demand for every spot replica that is not ready, spares included.)
//!
//! Does not: count replicas, or know when a pool is lost; those are inputs.

use super::memory::PoolMemory;
use crate::core::money::MicroUsdPerHour;

/// A spot pool and what the service runs in it.
#[derive(Debug, Clone, Copy)]
pub struct ServingPool<'a> {
    /// The price of one replica now.
    pub price: MicroUsdPerHour,
    /// Replicas launched there, ready or not.
    pub launched: u32,
    /// Replicas ready there.
    pub ready: u32,
    /// What has been learnt about it.
    pub memory: &'a PoolMemory,
    /// A launch there was refused in this pass.
    pub refused: bool,
}

/// A service when a decision is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Service {
    /// Replicas that must be ready.
    pub replicas: u32,
    /// Replicas wanted on top, on spot only.
    pub spares: u32,
    /// On-demand replicas launched, ready or not.
    pub on_demand: u32,
    /// The price of a replica on on-demand.
    pub on_demand_price: MicroUsdPerHour,
}

/// The pool to try the next launch in; `None` when enough is launched or no pool is worth trying.
/// Ask again after every attempt, with `launched` and `refused` brought up to date.
pub fn next_launch(service: &Service, pools: &[ServingPool<'_>]) -> Option<usize> {
    let launched: u32 = pools.iter().map(|p| p.launched).sum();
    if launched >= service.replicas + service.spares {
        return None;
    }
    let open = || pools.iter().enumerate().filter(|(_, p)| !p.refused && p.price < service.on_demand_price);
    let cheapest = open().map(|(_, p)| p.price).min()?;
    let dear = |p: &ServingPool<'_>| p.price.0 * 1_000 > cheapest.0 * DEAR;
    open().min_by_key(|(i, p)| (dear(p), p.launched, p.price, *i)).map(|(i, _)| i)
}

/// A pool this much dearer than the cheapest, in thousandths, is used only when the others are full.
const DEAR: i64 = 1_500;

/// How many on-demand replicas to hold, once all launches of this pass have been tried.
pub fn on_demand_wanted(service: &Service, pools: &[ServingPool<'_>]) -> u32 {
    let launched: u32 = pools.iter().map(|p| p.launched).sum();
    let ready: u32 = pools.iter().map(|p| p.ready).sum();
    let uncovered = service.replicas.saturating_sub(launched);
    let bridging = service.on_demand.min(service.replicas.saturating_sub(ready));
    uncovered.max(bridging)
}

/// The pool to give a replica back from: there are more than wanted, all ready. The dearest, of those the fullest.
pub fn next_release(service: &Service, pools: &[ServingPool<'_>]) -> Option<usize> {
    let ready: u32 = pools.iter().map(|p| p.ready).sum();
    if ready <= service.replicas + service.spares {
        return None;
    }
    pools.iter().enumerate().filter(|(_, p)| p.ready > 0).max_by_key(|(i, p)| (p.price, p.launched, *i)).map(|(i, _)| i)
}
