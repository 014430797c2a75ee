//! How many replicas of a service run on spot in which pool, and how many on on-demand.
//!
//! Decides:
//! 1. *Spot first, with spares.* As many replicas as are asked for and the spares are wanted on spot, in every pool that has room.
//! 2. *Spread, then price.* The next replica goes where fewest are, then where it is cheapest: pools are lost as a whole (over
//!    94 % of the time all or none of a zone's instances are up; Can't Be Late, NSDI'24), so two zones with room are worth more
//!    than a small difference of price. A pool much dearer than the cheapest is used only when the cheap ones are full.
//! 3. *On-demand only for what spot cannot launch.* A replacement on spot is ready as soon as one on on-demand would be, so
//!    on-demand is bought for replicas that no pool had room for, and given up when spot is *ready*, not when it is launched.
//!    A market without room for the spares has none for a replacement either, so spares are bought too where they would cover the next
//!    loss: where no pool holds more than them, since a pool is lost as a whole.
//!    (SpotHedge, EuroSys'25, launches on-demand for every spot replica that is not ready, spares included.)
//! 4. *The first loss is a warning.* Where one instance was taken the others mostly follow within minutes. For five minutes what is
//!    left there keeps serving but does not count, so its replacement starts elsewhere before it is lost.
//!
//! Does not: count replicas, or know when a pool is lost; those are inputs.

use super::memory::PoolMemory;
use crate::core::money::MicroUsdPerHour;
use crate::core::time::{Millis, Timestamp};

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

impl ServingPool<'_> {
    /// Whether what runs here is expected to be lost soon.
    fn suspect(&self, now: Timestamp) -> bool {
        self.memory.lost_within(now, SUSPECT)
    }
}

fn sum(pools: &[ServingPool<'_>], now: Timestamp, count: impl Fn(&ServingPool<'_>) -> u32) -> u32 {
    pools.iter().filter(|p| !p.suspect(now)).map(count).sum()
}

/// The pool to try the next launch in; `None` when enough is launched or no pool is worth trying.
/// Ask again after every attempt, with `launched` and `refused` brought up to date.
pub fn next_launch(service: &Service, pools: &[ServingPool<'_>], now: Timestamp) -> Option<usize> {
    if sum(pools, now, |p| p.launched) >= service.replicas + service.spares {
        return None;
    }
    let open =
        || pools.iter().enumerate().filter(|(_, p)| !p.refused && p.price < service.on_demand_price && !(p.suspect(now) && p.launched > 0));
    let cheapest = open().map(|(_, p)| p.price).min()?;
    let dear = |p: &ServingPool<'_>| p.price.0 * 1_000 > cheapest.0 * DEAR;
    open().min_by_key(|(i, p)| (p.suspect(now), dear(p), p.launched, p.price, *i)).map(|(i, _)| i)
}

/// A pool this much dearer than the cheapest, in thousandths, is used only when the others are full.
const DEAR: i64 = 1_500;
/// For so long after a loss the rest of a pool is expected to go too. The five minutes within which 83 to 97 % of second losses
/// follow the first (SpotHedge, EuroSys'25, section 2).
const SUSPECT: Millis = Millis::from_mins(5);

/// How many on-demand replicas to hold, once all launches of this pass have been tried.
pub fn on_demand_wanted(service: &Service, pools: &[ServingPool<'_>], now: Timestamp) -> u32 {
    let uncovered = service.replicas.saturating_sub(sum(pools, now, |p| p.launched));
    // What is expected to be lost is no replica to count on, but while it is there it is as good as a spare.
    let all: u32 = pools.iter().map(|p| p.launched).sum();
    let whole_pool = pools.iter().map(|p| p.launched).max().unwrap_or(0);
    let covers = whole_pool <= service.spares;
    let without_spare = if covers { (service.replicas + service.spares).saturating_sub(all).min(service.replicas) } else { 0 };
    let bridging = service.on_demand.min(service.replicas.saturating_sub(sum(pools, now, |p| p.ready)));
    uncovered.max(without_spare).max(bridging)
}

/// The pool to give a replica back from: there are more than wanted, all ready. The dearest, of those the fullest.
pub fn next_release(service: &Service, pools: &[ServingPool<'_>], now: Timestamp) -> Option<usize> {
    if sum(pools, now, |p| p.ready) <= service.replicas + service.spares {
        return None;
    }
    pools.iter().enumerate().filter(|(_, p)| p.ready > 0 && !p.suspect(now)).max_by_key(|(i, p)| (p.launched, p.price, *i)).map(|(i, _)| i)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(on_demand: u32) -> Service {
        Service { replicas: 3, spares: 1, on_demand, on_demand_price: MicroUsdPerHour(3_000_000) }
    }
    fn pool(memory: &PoolMemory, launched: u32, ready: u32, price: i64) -> ServingPool<'_> {
        ServingPool { price: MicroUsdPerHour(price), launched, ready, memory, refused: false }
    }

    #[test]
    fn replicas_spread_before_they_look_at_price_unless_a_pool_is_dear() {
        let m = PoolMemory::default();
        let now = Timestamp(0);
        assert_eq!(next_launch(&service(0), &[pool(&m, 1, 1, 900_000), pool(&m, 0, 0, 1_000_000)], now), Some(1));
        assert_eq!(next_launch(&service(0), &[pool(&m, 1, 1, 900_000), pool(&m, 0, 0, 2_000_000)], now), Some(0));
        assert_eq!(next_launch(&service(0), &[pool(&m, 2, 2, 900_000), pool(&m, 2, 2, 1_000_000)], now), None);
    }

    #[test]
    fn on_demand_covers_only_what_spot_could_not_launch_and_stays_until_spot_is_ready() {
        let m = PoolMemory::default();
        let now = Timestamp(0);
        assert_eq!(on_demand_wanted(&service(0), &[pool(&m, 4, 0, 1)], now), 0);
        assert_eq!(on_demand_wanted(&service(0), &[pool(&m, 1, 1, 1); 3], now), 1, "there is no room for the spare");
        assert_eq!(on_demand_wanted(&service(0), &[pool(&m, 3, 3, 1)], now), 0, "one spare would not cover the loss of that pool");
        assert_eq!(on_demand_wanted(&service(0), &[pool(&m, 2, 2, 1)], now), 1);
        assert_eq!(on_demand_wanted(&service(0), &[], now), 3, "a spare is not bought on on-demand alone");
        assert_eq!(on_demand_wanted(&service(2), &[pool(&m, 4, 1, 1)], now), 2);
        assert_eq!(on_demand_wanted(&service(2), &[pool(&m, 4, 3, 1)], now), 0);
    }

    #[test]
    fn what_is_left_in_a_pool_after_a_loss_is_replaced_elsewhere_before_it_goes() {
        let (good, mut lossy) = (PoolMemory::default(), PoolMemory::default());
        lossy.note_loss(Timestamp(0));
        // Two that are about to go are spares as long as they are there.
        let pools = [pool(&lossy, 2, 2, 900_000), pool(&good, 2, 2, 900_000)];
        assert_eq!(next_launch(&service(0), &pools, Timestamp(60_000)), Some(1));
        assert_eq!(on_demand_wanted(&service(0), &pools, Timestamp(60_000)), 1);
        assert_eq!(next_launch(&service(0), &pools, Timestamp(301_000)), None);
    }
}
