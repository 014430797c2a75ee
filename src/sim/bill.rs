//! The bill that EC2 would send, from the world's own truth: what the ledger is held against.
//!
//! Decides: what each machine cost. Written apart from [`crate::core::accounting`], which works from what the operator recorded.
//!
//! Rules and sources as there: the price at the start of each instance-hour holds for it; per second, 60 s at least; a spot machine that
//! EC2 takes back within its first hour costs nothing.

use super::ec2::{Machine, TAKEN_BACK};
use super::market::SimMarket;
use crate::core::market::CapacityType;
use crate::core::money::{MicroUsd, MicroUsdMillis};
use crate::core::time::{Millis, Timestamp};

const HOUR: i64 = 3_600_000;

/// What `machine` cost up to `now`.
pub fn cost(machine: &Machine, market: &SimMarket, now: Timestamp) -> MicroUsd {
    let instance = &machine.instance;
    let Some(index) = market.index_of(&instance.pool) else { return MicroUsd(0) };
    let pool = &market.pools[index];
    let ran = instance.ended_at.unwrap_or(now).since(instance.launched_at).0.max(0);
    let taken_back = instance.state_reason.as_deref() == Some(TAKEN_BACK) && instance.pool.capacity_type == CapacityType::Spot;
    if taken_back && ran < HOUR {
        return MicroUsd(0);
    }
    let mut left = ran.max(60_000);
    let mut hour_began = instance.launched_at;
    let mut sum = MicroUsdMillis(0);
    while left > 0 {
        let paid = left.min(HOUR);
        sum = sum + pool.price_at(hour_began).over(Millis(paid));
        left -= paid;
        hour_began = hour_began + Millis(HOUR);
    }
    sum.to_micro_usd()
}
