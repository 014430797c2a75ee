//! What a pool has spent this month and is bound to spend.
//!
//! Decides: what counts against a monthly budget (settled, accrued, committed), and what a pool's books say of machines that are gone.
//! Does not: bill. The books go by the price a machine was bought at; the ledger knows the price of every instance-hour.

use std::collections::BTreeMap;

use super::super::pass::Pass;
use crate::core::fleet::{Claim, MonthBooks, NodePool};
use crate::core::market::{CapacityType, Market};
use crate::core::units::ids::{PoolName, Uid};
use crate::core::units::money::MicroUsd;
use crate::core::units::time::{Millis, Timestamp};

/// An interrupted spot machine that ran for less costs nothing (EC2 user guide, "Billing for interrupted Spot Instances").
const FREE_IF_INTERRUPTED_WITHIN: Millis = Millis::from_hours(1);

/// What counts against a pool's budget of one month.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MonthSpend {
    /// Machines that are gone or about to be.
    pub settled: MicroUsd,
    /// Machines that run, up to now.
    pub accrued: MicroUsd,
    /// Machines that run or are on their way, from now to the month's end at today's price. Those that are being left commit nothing.
    pub committed: MicroUsd,
}

impl MonthSpend {
    /// All of it.
    pub fn total(&self) -> MicroUsd {
        self.settled + self.accrued + self.committed
    }
}

/// What counts against the budget of `pool` now. `books` are the pool's, of whatever month.
pub fn month_spend<'a>(
    pool: &PoolName,
    books: Option<&MonthBooks>,
    claims: impl Iterator<Item = &'a Claim>,
    market: &Market,
    now: Timestamp,
) -> MonthSpend {
    let books = books.filter(|b| b.month == now.month_start());
    let mut spend = MonthSpend { settled: books.map_or(MicroUsd(0), settled), ..MonthSpend::default() };
    for claim in claims.filter(|c| c.spec.node_pool == *pool && (c.status.failure.is_none() || c.status.instance.is_some())) {
        if books.is_some_and(|b| b.closing.contains_key(&claim.uid)) {
            continue;
        }
        spend.accrued = spend.accrued + cost_this_month(claim, now, now, false);
        if claim.takes_work() {
            let price = market.offers.get(&claim.spec.capacity).map_or(claim.spec.price_per_hour, |offer| offer.price_per_hour);
            spend.committed = spend.committed + price.over(now.month_end().since(now)).to_micro_usd();
        }
    }
    spend
}

fn settled(books: &MonthBooks) -> MicroUsd {
    books.settled + books.closing.values().copied().sum()
}

/// What `claim` cost of the month that holds `now`, if it ran until `until`.
pub(in crate::core::plan) fn cost_this_month(claim: &Claim, until: Timestamp, now: Timestamp, interrupted: bool) -> MicroUsd {
    let Some(launched) = claim.status.launched_at else { return MicroUsd(0) };
    let asked = claim.status.terminate_asked.as_deref().map(|(asked, _, _)| *asked);
    let ended = asked.into_iter().chain(claim.status.ended.as_deref().map(|ended| ended.at)).fold(until, Timestamp::min);
    let spot = claim.spec.capacity.capacity_type == CapacityType::Spot;
    if interrupted && spot && ended.since(launched) < FREE_IF_INTERRUPTED_WITHIN {
        return MicroUsd(0);
    }
    let from = launched.max(now.month_start());
    claim.spec.price_per_hour.over(ended.since(from).max(Millis::ZERO)).to_micro_usd()
}

/// Whether the books of a claim's pool hold it already, so that the claim may go. A pool that is gone keeps no books.
pub(in crate::core::plan) fn is_settled(pass: &Pass, claim: &Claim) -> bool {
    let pool = &claim.spec.node_pool;
    if !pass.world.pools.contains_key(pool) {
        return true;
    }
    let books = pass.world.pool_statuses.get(pool).map(|status| &status.books);
    books.is_some_and(|b| b.month == pass.now.month_start() && b.closing.contains_key(&claim.uid))
}

/// The books of `pool` after this pass: claims that are gone are added up, those that are about to go are named.
pub(in crate::core::plan) fn next_books(pass: &Pass, pool: &NodePool) -> MonthBooks {
    let month = pass.now.month_start();
    let before = pass.world.pool_statuses.get(&pool.name).map(|status| &status.books).filter(|books| books.month == month);
    let mut books = before.cloned().unwrap_or(MonthBooks { month, ..MonthBooks::default() });
    let there = |uid: &Uid| pass.index.is_claim(uid.as_str());
    let (closing, gone): (BTreeMap<Uid, MicroUsd>, BTreeMap<Uid, MicroUsd>) = books.closing.into_iter().partition(|(uid, _)| there(uid));
    books.settled = books.settled + gone.into_values().sum();
    books.closing = closing;
    if let Some(fresh) = pass.closing.get(&pool.name) {
        books.closing.extend(fresh.iter().map(|(uid, cost)| (uid.clone(), *cost)));
    }
    books
}
