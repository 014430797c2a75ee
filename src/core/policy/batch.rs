//! What one deadline job runs on next: nothing, spot in one pool, or on-demand.
//!
//! Slack is the time to the deadline beyond the work left. It never grows: every launch uses up a changeover, every hour of waiting an
//! hour. Decides, in this order:
//! 1. *Never late.* Spot is launched only if losing it at once would still leave time for on-demand.
//! 2. *Slack is kept for changeovers first, and spent on waiting only beyond that.* An hour of waiting saves at most the
//!    difference of two prices; an hour of slack kept pays for several returns from on-demand to spot. The reserve is one changeover per
//!    interruption still expected, and five more: two round trips to spot and back, and the final move to on-demand.
//! 3. *Wait for cheap pools as long as they are expected to suffice.* Pools are ordered by what an hour of work costs there, with
//!    changeover and egress spread over the expected stay; the list is cut where the pools so far are expected to have room
//!    for as many hours as there is work, within the time beyond the reserve. Spot that is less than a tenth more expensive is taken rather
//!    than waited out, and a pool where an hour of work costs more than on on-demand is not used.
//! 4. *Returns from on-demand are spread over the work.* A return and the move back use up two changeovers of slack. Losses come in
//!    clusters (a second one follows within five minutes 83 to 97 % of the time; stays are heavy-tailed, median 0.3 to 1.4 h against a mean
//!    of 0.7 to 10.4 h), so returns made one right after the other meet the same bad hour. The returns that the slack pays for cut the work
//!    left into equal parts; the job returns to a lost pool once half of such a part has passed since (the other half is for the stay), or
//!    when the pool's stays are expected to last that long. With ample slack the part is minutes, and so is the delay.
//! 5. *Bounded regret.* Spot stakes what it has saved, 3 % of what the work left costs on on-demand, one changeover and one move. However
//!    the market behaves, the job therefore costs at most 3 % more than on on-demand, plus a changeover and a move.
//! 6. *Move for a tenth.* Running spot is left for a pool whose hour of work, including everything it costs to go there, is 10 % cheaper,
//!    but not at the expense of the reserve: one of its changeovers is worth a stay on spot, which is more than a tenth of a price.
//!
//! The rules are from Can't Be Late (1, and for 4 the idea of a pace; NSDI'24), SpotHedge (the figures in 4; EuroSys'25) and reasoning.
//! `docs/backtest.md` says which constants were settled after seeing which data.
//! Does not: know the future, or more about the market than [`CapacityMemory`] has seen.

use crate::core::market::availability::CapacityMemory;
use crate::core::units::money::{MicroUsd, MicroUsdPerHour};
use crate::core::units::time::{Millis, Timestamp};

/// A spot pool as the policy sees it.
#[derive(Debug, Clone, Copy)]
pub struct SpotCapacity<'a> {
    /// The price now.
    pub price: MicroUsdPerHour,
    /// Cost of moving the checkpoint there from where it is now.
    pub egress: MicroUsd,
    /// What has been learned about it.
    pub memory: &'a CapacityMemory,
    /// The initial share of time with capacity, in parts per million, before anything is learned.
    pub prior_ppm: i64,
}

/// An on-demand offer.
#[derive(Debug, Clone, Copy)]
pub struct OnDemandOffer {
    /// The price.
    pub price: MicroUsdPerHour,
    /// Cost of moving the checkpoint there.
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
    /// Time a launch loses before work continues.
    pub changeover: Millis,
    /// Remaining changeover on what is held.
    pub changeover_left: Millis,
    /// What is held.
    pub holding: Holding,
    /// What was paid so far beyond the on-demand cost of the work done; negative if saved.
    pub overspent: MicroUsd,
}

/// How urgent a deadline is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pressure {
    /// There is time to wait for cheap pools.
    Ample,
    /// The remaining slack is kept for interruptions: if no pool has room, on-demand follows at once.
    Reserve,
    /// One more interruption would be one too many: on-demand only.
    LastCall,
}

/// The slack below which only on-demand is safe: a lost launch, another one, and the time to notice.
pub fn last_call(period: Millis, changeover: Millis) -> Millis {
    Millis(2 * changeover.0 + period.0)
}

/// What a job can do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// Keep what is held.
    Keep,
    /// Hold nothing.
    Wait,
    /// Launch spot in this pool.
    Spot(usize),
    /// Launch this on-demand offer.
    OnDemand(usize),
}

/// Availability of a pool about which nothing is known, in parts per million.
pub const EVEN_ODDS: i64 = 500_000;
/// A pool must be this much cheaper, in thousandths, for running work to move.
const WORTH_MOVING: i64 = 900;
/// Changeovers kept in reserve besides one per expected interruption: two round trips to spot and back, and the final move to on-demand.
const SPARE_CHANGEOVERS: i64 = 5;
/// What spot may lose beyond what it has saved, in thousandths of what the work left costs on on-demand.
const STAKE: i64 = 30;
/// Assumed length of a stay before any was seen.
const UNSEEN_STAY: Millis = Millis::from_hours(2);
const HOUR: i128 = 3_600_000;

/// The choices to try, best first, appended to `choices`. Decisions are made every `period`: nothing is noticed sooner than that.
pub fn decide(
    period: Millis,
    job: &Job,
    pools: &[SpotCapacity<'_>],
    on_demand: &[OnDemandOffer],
    now: Timestamp,
    choices: &mut Vec<Choice>,
) -> Pressure {
    let d = job.changeover.0;
    let left = job.deadline.since(now).0;
    let slack = left - job.remaining.0;
    let fallback = cheapest_on_demand(job, on_demand);
    if slack < last_call(period, job.changeover).0 {
        // There is time for one more launch, if not for two: what has become too expensive is left all the same.
        let leave = |held: usize, od: usize| slack >= d + period.0 && costs_more_than(job, &pools[held], &on_demand[od]);
        choices.push(match (job.holding, fallback) {
            (Holding::Spot(held), Some(od)) if leave(held, od) => Choice::OnDemand(od),
            _ => at_last_call(period, job, slack, fallback),
        });
        return Pressure::LastCall;
    }
    let interruptions = i128::from(job.remaining.0) * 1_000 / i128::from(mean_stay(pools).0);
    let changeovers = interruptions + i128::from(SPARE_CHANGEOVERS) * 1_000;
    let reserve = i64::try_from(i128::from(d) * changeovers / 1_000).unwrap_or(i64::MAX).saturating_add(period.0);
    let no_more = fallback.and_then(|od| on_demand.get(od)).map_or(i64::MAX, |od| hour_on_demand(job, od));
    let stake = stake(job, pools, fallback.and_then(|od| on_demand.get(od)));
    let mut order: Vec<(i64, usize)> = pools.iter().enumerate().map(|(i, p)| (hour_of_work(job, p, i), i)).collect();
    order.retain(|(price, i)| job.holding == Holding::Spot(*i) || (*price < no_more && launch_cost(job, &pools[*i]) <= stake));
    order.sort_unstable();
    let accepted = enough(job, pools, &order, left.saturating_sub(reserve));
    let pressure = if slack < reserve { Pressure::Reserve } else { Pressure::Ample };
    for (price, i) in order.iter().take(accepted) {
        if job.holding == Holding::Spot(*i) {
            break;
        }
        let may_go = match job.holding {
            Holding::Nothing => true,
            Holding::Spot(_) => pressure == Pressure::Ample,
            Holding::OnDemand(_) => is_due(job, &pools[*i], slack - last_call(period, job.changeover).0, now),
        };
        if may_go && worth_going(job, pools, on_demand, *i, *price) {
            choices.push(Choice::Spot(*i));
        }
    }
    choices.push(match (job.holding, fallback) {
        (Holding::Spot(held), Some(od)) if costs_more_than(job, &pools[held], &on_demand[od]) => Choice::OnDemand(od),
        (Holding::Spot(_) | Holding::OnDemand(_), _) => Choice::Keep,
        (Holding::Nothing, Some(od)) if pressure == Pressure::Reserve || order.is_empty() => Choice::OnDemand(od),
        (Holding::Nothing, _) => Choice::Wait,
    });
    pressure
}

/// The on-demand offer that finishes the job at the lowest cost.
fn cheapest_on_demand(job: &Job, on_demand: &[OnDemandOffer]) -> Option<usize> {
    let total = |o: &OnDemandOffer| i128::from(o.price.0) * i128::from(job.remaining.0 + job.changeover.0) + i128::from(o.egress.0) * HOUR;
    on_demand.iter().enumerate().min_by_key(|(i, o)| (total(o), *i)).map(|(i, _)| i)
}

/// No time for another loss: what runs productively continues, anything else becomes on-demand.
fn at_last_call(period: Millis, job: &Job, slack: i64, fallback: Option<usize>) -> Choice {
    let safe = job.changeover_left.0 == 0 || slack - job.changeover_left.0 >= job.changeover.0 + period.0;
    match (job.holding, fallback) {
        (Holding::OnDemand(_), _) => Choice::Keep,
        (Holding::Spot(_), _) if safe => Choice::Keep,
        (_, Some(od)) => Choice::OnDemand(od),
        (Holding::Spot(_), None) => Choice::Keep,
        (Holding::Nothing, None) => Choice::Wait,
    }
}

/// How many pools of `order` are needed so that together they are expected to have room for the work within `time`. Pools are assumed to
/// come and go independently (measured correlation 0.43 within a region, 0.14 across).
fn enough(job: &Job, pools: &[SpotCapacity<'_>], order: &[(i64, usize)], time: i64) -> usize {
    let mut none_ppm = 1_000_000_i64;
    for (n, (_, i)) in order.iter().enumerate() {
        none_ppm = none_ppm * (1_000_000 - pools[*i].memory.availability_ppm_from(pools[*i].prior_ppm)) / 1_000_000;
        if i128::from(time) * i128::from(1_000_000 - none_ppm) >= i128::from(job.remaining.0) * 1_000_000 {
            let as_cheap = |price: i64| {
                order.first().is_some_and(|(best, _)| i128::from(price) * i128::from(WORTH_MOVING) <= i128::from(*best) * 1_000)
            };
            return (n + 1).max(order.iter().take_while(|(price, _)| as_cheap(*price)).count());
        }
    }
    order.len()
}

/// Whether going to `pool`, where an hour of work costs `price`, beats what is held.
fn worth_going(job: &Job, pools: &[SpotCapacity<'_>], on_demand: &[OnDemandOffer], pool: usize, price: i64) -> bool {
    match job.holding {
        Holding::Nothing => true,
        Holding::Spot(held) => i128::from(price) * 1_000 < i128::from(pools[held].price.0) * i128::from(WORTH_MOVING),
        Holding::OnDemand(held) => {
            // There and back: a changeover at each price and the data transfer both ways, against what the stay saves.
            let (k, p) = (on_demand.get(held).map_or(0, |o| o.price.0), pools[pool].price.0);
            let stay = stay_in(job, &pools[pool]);
            let costs = i128::from(k + p) * i128::from(job.changeover.0) + 2 * HOUR * i128::from(pools[pool].egress.0);
            i128::from(k - p) * i128::from(stay) > costs
        }
    }
}

/// Whether it is time to return from on-demand to `pool`, with slack `to_spend` on returns.
fn is_due(job: &Job, pool: &SpotCapacity<'_>, to_spend: i64, now: Timestamp) -> bool {
    // A return costs two changeovers. N returns cut the work into N + 1 parts, and half a part is spent on on-demand.
    let d = i128::from(job.changeover.0);
    let half_a_part = i128::from(job.remaining.0) * d / (i128::from(to_spend.max(0)) + 2 * d).max(1);
    let half_a_part = Millis(i64::try_from(half_a_part).unwrap_or(i64::MAX));
    pool.memory.expected_stay(Millis::ZERO) >= half_a_part || !pool.memory.lost_within(now, half_a_part)
}

/// How long a stay in any pool has lasted on average.
fn mean_stay(pools: &[SpotCapacity<'_>]) -> Millis {
    let (up, ended) = pools.iter().map(|p| p.memory.stays()).fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
    Millis(((up + UNSEEN_STAY.0) * 1_000 / (ended + 1_000)).max(1))
}

/// How long a stay that begins now is expected to last, as far as the job needs it.
fn stay_in(job: &Job, pool: &SpotCapacity<'_>) -> i64 {
    pool.memory.expected_stay(Millis::ZERO).0.min(job.remaining.0 + job.changeover.0)
}

/// The price of an hour of work in a pool, in micro-dollars, with changeover and move spread over the expected stay.
fn hour_of_work(job: &Job, pool: &SpotCapacity<'_>, index: usize) -> i64 {
    if job.holding == Holding::Spot(index) {
        return pool.price.0;
    }
    let d = job.changeover.0;
    let stay = stay_in(job, pool).max(d + Millis::from_mins(1).0);
    let paid = i128::from(pool.price.0) * i128::from(stay) + i128::from(pool.egress.0) * HOUR;
    i64::try_from(paid / i128::from(stay - d)).unwrap_or(i64::MAX)
}

/// Whether the held spot has become so expensive that finishing on on-demand costs less, with the changeover and move to it.
fn costs_more_than(job: &Job, held: &SpotCapacity<'_>, on_demand: &OnDemandOffer) -> bool {
    held.price.0 > hour_on_demand(job, on_demand)
}

/// What a launch in `pool` may lose, in micro-dollar-milliseconds.
fn launch_cost(job: &Job, pool: &SpotCapacity<'_>) -> i128 {
    i128::from(pool.price.0) * i128::from(job.changeover.0) + i128::from(pool.egress.0) * HOUR
}

/// What a launch may lose at most: what was saved, a share of what on-demand costs for the rest, one changeover of it, and one move.
fn stake(job: &Job, pools: &[SpotCapacity<'_>], fallback: Option<&OnDemandOffer>) -> i128 {
    let Some(fallback) = fallback else { return i128::MAX };
    let farthest = pools.iter().map(|p| p.egress.0).max().unwrap_or(0);
    let rest = i128::from(job.remaining.0) * i128::from(STAKE) / 1_000 + i128::from(job.changeover.0);
    i128::from(fallback.price.0) * rest + i128::from(farthest - job.overspent.0) * HOUR
}

/// The price of an hour of work on on-demand, in micro-dollars, with changeover and move spread over all that is left.
fn hour_on_demand(job: &Job, offer: &OnDemandOffer) -> i64 {
    let paid = i128::from(offer.price.0) * i128::from(job.remaining.0 + job.changeover.0) + i128::from(offer.egress.0) * HOUR;
    i64::try_from(paid / i128::from(job.remaining.0.max(1))).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const H: i64 = 3_600_000;

    fn job(remaining: i64, deadline: i64, holding: Holding) -> Job {
        let (changeover, changeover_left, overspent) = (Millis(H / 5), Millis(0), MicroUsd(0));
        Job { remaining: Millis(remaining), deadline: Timestamp(deadline), changeover, changeover_left, holding, overspent }
    }
    fn choices(job: &Job, prices: &[i64], memory: &CapacityMemory, egress: i64) -> Vec<Choice> {
        let capacity = |p: &i64| SpotCapacity { price: MicroUsdPerHour(*p), egress: MicroUsd(egress), memory, prior_ppm: EVEN_ODDS };
        let pools: Vec<SpotCapacity<'_>> = prices.iter().map(capacity).collect();
        let od = [OnDemandOffer { price: MicroUsdPerHour(3_000_000), egress: MicroUsd(0) }];
        let mut out = Vec::new();
        decide(Millis::from_secs(195), job, &pools, &od, Timestamp(0), &mut out);
        out
    }

    #[test]
    fn without_slack_nothing_but_on_demand_is_tried() {
        let memory = CapacityMemory::default();
        assert_eq!(choices(&job(10 * H, 10 * H + H / 4, Holding::Nothing), &[1], &memory, 0), [Choice::OnDemand(0)]);
        assert_eq!(choices(&job(10 * H, 10 * H + H / 4, Holding::Spot(0)), &[1], &memory, 0), [Choice::Keep]);
    }

    #[test]
    fn a_dear_pool_is_passed_over_while_cheap_ones_are_expected_to_do() {
        let memory = CapacityMemory::default();
        // Half the time is expected in the cheap pool, and the work needs a tenth of it.
        assert_eq!(choices(&job(H, 20 * H, Holding::Nothing), &[900_000, 1_300_000], &memory, 0), [Choice::Spot(0), Choice::Wait]);
        // Now it needs nearly all: every pool is tried, and on-demand follows because the slack is reserved.
        assert_eq!(
            choices(&job(19 * H, 20 * H, Holding::Nothing), &[900_000, 1_300_000], &memory, 0),
            [Choice::Spot(0), Choice::Spot(1), Choice::OnDemand(0)]
        );
    }

    #[test]
    fn spot_is_left_alone_once_it_has_lost_what_it_saved_and_its_stake() {
        let memory = CapacityMemory::default();
        // A changeover on on-demand is $0.60, one in the pool $0.18, and 3 % of the ten hours left $0.90, of one hour $0.09.
        for (left, overspent, expected) in [
            (10, 0, Choice::Spot(0)),
            (10, 1_320_000, Choice::Spot(0)),
            (10, 1_320_001, Choice::OnDemand(0)),
            (1, 510_000, Choice::Spot(0)),
            (1, 510_001, Choice::OnDemand(0)),
        ] {
            let job = Job { overspent: MicroUsd(overspent), ..job(left * H, 40 * H, Holding::Nothing) };
            assert_eq!(choices(&job, &[900_000], &memory, 0).first(), Some(&expected), "{left} h left, {overspent}");
        }
    }

    #[test]
    fn a_pool_that_was_lost_is_returned_to_from_on_demand_after_half_of_its_part_of_the_work() {
        let lost = |minutes_ago: i64, hours_up: i64| {
            let mut memory = CapacityMemory::default();
            for hour in 0..=hours_up {
                memory.observe(Timestamp((hour - hours_up) * H - minutes_ago * 60_000), hour < hours_up);
            }
            memory.note_loss(Timestamp(-minutes_ago * 60_000));
            memory
        };
        // 40 h of work, changeovers of 12 min, ticks of 3 min 15 s. Of slack, 27 min 15 s are for the last call.
        for (slack_min, minutes_ago, hours_up, returns) in [
            // 24 min 45 s pay for a little more than one return: half of a part is 9 h 50 min 46 s.
            (52, 590, 0, false),
            (52, 591, 0, true),
            // 3 h 29 min 45 s: 2 h 3 min 12 s.
            (237, 123, 0, false),
            (237, 124, 0, true),
            // 3 h 36 min 45 s: less than the 2 h assumed for a stay before any was seen.
            (244, 1, 0, true),
            // A pool that is expected to last as long is not waited for.
            (52, 5, 18, true),
            (52, 5, 17, false),
        ] {
            let memory = lost(minutes_ago, hours_up);
            let on_demand = job(40 * H, 40 * H + slack_min * 60_000, Holding::OnDemand(0));
            let expected: &[Choice] = if returns { &[Choice::Spot(0), Choice::Keep] } else { &[Choice::Keep] };
            assert_eq!(choices(&on_demand, &[900_000], &memory, 0), expected, "{slack_min} min of slack, lost {minutes_ago} min ago");
        }
        let never_lost = CapacityMemory::default();
        assert_eq!(choices(&job(40 * H, 41 * H, Holding::OnDemand(0)), &[900_000], &never_lost, 0), [Choice::Spot(0), Choice::Keep]);
    }

    #[test]
    fn the_reserve_is_not_spent_on_a_lower_price() {
        let memory = CapacityMemory::default();
        // Ten hours of work are expected to be interrupted five times, and five changeovers more: 2 h and a tick.
        for (deadline, expected) in [(12 * H, &[Choice::Keep][..]), (12 * H + 200_000, &[Choice::Spot(0), Choice::Keep][..])] {
            assert_eq!(choices(&job(10 * H, deadline, Holding::Spot(1)), &[900_000, 2_000_000], &memory, 0), expected, "{deadline}");
        }
    }

    #[test]
    fn what_costs_a_tenth_more_is_not_waited_for_and_what_costs_more_than_on_demand_is_not_taken() {
        let memory = CapacityMemory::default();
        let waiting = job(H, 20 * H, Holding::Nothing);
        assert_eq!(choices(&waiting, &[900_000, 990_000, 1_010_000], &memory, 0), [Choice::Spot(0), Choice::Spot(1), Choice::Wait]);
        assert_eq!(choices(&waiting, &[3_100_000], &memory, 0), [Choice::OnDemand(0)]);
        assert_eq!(choices(&waiting, &[], &memory, 0), [Choice::OnDemand(0)]);
    }

    #[test]
    fn running_spot_moves_only_for_more_than_the_move_costs() {
        let memory = CapacityMemory::default();
        let running = job(10 * H, 40 * H, Holding::Spot(1));
        assert_eq!(choices(&running, &[900_000, 2_000_000], &memory, 0), [Choice::Spot(0), Choice::Keep]);
        assert_eq!(choices(&running, &[1_800_000, 2_000_000], &memory, 0), [Choice::Keep]);
        assert_eq!(choices(&running, &[900_000, 2_000_000], &memory, 4_000_000), [Choice::Keep]);
    }
}
