//! The bill that EC2 would send, from the world's own truth: what the ledger is held against.
//!
//! Decides: what each machine cost. Written apart from [`crate::core::accounting`], which works from what the operator recorded.
//!
//! Rules and sources as there: the price at the start of each instance-hour holds for it; per second, 60 s at least; a spot machine that
//! EC2 takes back within its first hour costs nothing. A reservation costs what it was paid at; a machine that outlives it goes on as
//! on-demand (EC2 user guide, "Capacity Reservations": when one ends, its instances run on).

use super::account::Account;
use super::ec2::{Machine, TAKEN_BACK};
use super::market::SimMarket;
use crate::core::market::{Capacity, CapacityType};
use crate::core::units::money::{MicroUsd, MicroUsdMillis, MicroUsdPerHour};
use crate::core::units::time::{Millis, Timestamp};

const HOUR: i64 = 3_600_000;

/// What `machine` cost up to `now`.
pub fn cost(machine: &Machine, market: &SimMarket, account: &Account, now: Timestamp) -> MicroUsd {
    let instance = &machine.instance;
    let ran = instance.ended_at.unwrap_or(now).since(instance.launched_at).0.max(0);
    let taken_back = instance.state_reason.as_deref() == Some(TAKEN_BACK) && instance.capacity.capacity_type == CapacityType::Spot;
    if taken_back && ran < HOUR {
        return MicroUsd(0);
    }
    let mut left = ran.max(60_000);
    let mut hour_began = instance.launched_at;
    let mut sum = MicroUsdMillis(0);
    while left > 0 {
        let paid = left.min(HOUR);
        sum = sum + price_at(&instance.capacity, market, account, hour_began).over(Millis(paid));
        left -= paid;
        hour_began = hour_began + Millis(HOUR);
    }
    sum.to_micro_usd()
}

/// What an instance-hour from `pool` costs that begins at `at`: in a reservation what that is paid at, and on-demand once it has ended.
fn price_at(capacity: &Capacity, market: &SimMarket, account: &Account, at: Timestamp) -> MicroUsdPerHour {
    if let Some(reserved) = account.reservation.as_ref().filter(|r| r.capacity == *capacity && at < r.ends_at) {
        return reserved.price_per_hour;
    }
    match capacity.capacity_type {
        CapacityType::Reserved => on_demand(capacity, market),
        _ => market.index_of(capacity).map_or(MicroUsdPerHour(0), |index| market.pools[index].price_at(at)),
    }
}

/// What on-demand of the same type costs there.
pub fn on_demand(capacity: &Capacity, market: &SimMarket) -> MicroUsdPerHour {
    let listed = Capacity { capacity_type: CapacityType::OnDemand, ..capacity.clone() };
    market.index_of(&listed).map_or(MicroUsdPerHour(0), |index| market.pools[index].on_demand)
}
