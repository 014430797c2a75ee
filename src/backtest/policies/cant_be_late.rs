//! Single-zone policies of "Can't Be Late" (NSDI'24) and the two trivial ones.

use super::super::job::{JobState, Running, Try};
use super::super::market::{Market, Past};
use super::super::simulate::BatchPolicy;
use super::uniform::{Ask, Limits, kind};
use crate::core::units::time::Millis;

/// On-demand from the first tick, at the lowest on-demand price.
pub struct OnDemand;

impl BatchPolicy for OnDemand {
    fn decide(&mut self, past: &Past<'_>, _: &JobState, wish: &mut Vec<Try>) {
        let cheapest = (0..past.zones()).min_by_key(|z| (past.on_demand(*z), *z)).unwrap_or(0);
        wish.push(Try::OnDemand(cheapest));
    }
}

/// Spot in one zone, idle without it, no safety net: shows what deadlines are missed by.
pub struct SpotOnly;

impl BatchPolicy for SpotOnly {
    fn decide(&mut self, _: &Past<'_>, _: &JobState, wish: &mut Vec<Try>) {
        wish.extend([Try::Spot(0), Try::Idle]);
    }
}

/// The safety net of rules 2 and 3: `Some` when it decides.
pub fn safety_net(past: &Past<'_>, s: &JobState) -> Option<Ask> {
    let limits = Limits::of(past, s);
    let on = kind(s.running);
    if limits.one >= limits.left {
        let settled = on == Ask::Spot && s.changeover_left.0 == 0;
        return Some(if settled { Ask::Spot } else { Ask::OnDemand });
    }
    (limits.two >= limits.left && on != Ask::Spot).then_some(Ask::OnDemand)
}

/// Greedy: rules 1 to 3 of the paper. Spot whenever there is some, idle otherwise, on-demand when time runs out.
pub struct Greedy;

impl BatchPolicy for Greedy {
    fn decide(&mut self, past: &Past<'_>, s: &JobState, wish: &mut Vec<Try>) {
        match safety_net(past, s) {
            Some(Ask::OnDemand) => wish.push(Try::OnDemand(s.home.unwrap_or(0))),
            Some(_) => wish.push(Try::Keep),
            None => wish.extend([Try::Spot(0), Try::Idle]),
        }
    }
}

/// The next-lifetime oracle of the paper, section 5: greedy's safety net, Uniform Progress's pace, and knowledge of how long the
/// spot instance that can be had now would live. Idle takes it iff that is more than kd/(k-1), on-demand iff more than 2kd/(k-1),
/// with k the on-demand over the spot price. Sees the future of one run, so it is no policy.
pub struct NextLifetime<'a> {
    /// The market, future included.
    pub market: &'a Market,
    /// The tick the job starts at.
    pub start: usize,
}

impl BatchPolicy for NextLifetime<'_> {
    fn decide(&mut self, past: &Past<'_>, s: &JobState, wish: &mut Vec<Try>) {
        if let Some(net) = safety_net(past, s) {
            wish.push(if net == Ask::Spot { Try::Keep } else { Try::OnDemand(0) });
            return;
        }
        if matches!(s.running, Running::Spot(_)) {
            wish.push(Try::Keep);
            return;
        }
        let now = self.start + past.elapsed_ticks();
        let zone = &self.market.zones[0];
        let lifetime = zone.capacity[now..].iter().take_while(|n| **n > 0).count() as i64 * past.tick().0;
        let (od, spot, d) = (i128::from(zone.on_demand.0), i128::from(zone.spot[now].0), i128::from(s.job.changeover.0));
        let times = if matches!(s.running, Running::OnDemand(_)) { 2 } else { 1 };
        let pays = i128::from(lifetime) * (od - spot) > times * od * d;
        let behind = super::uniform::lead(past, s, Millis(0)) < 0;
        // Rule 6 holds here as well: without it the oracle would leave on-demand and come back, paying a changeover each time.
        let ahead = super::uniform::lead(past, s, Millis(2 * s.job.changeover.0)) > 0;
        wish.push(match (pays, s.running) {
            (true, _) => Try::Spot(0),
            (false, Running::OnDemand(_)) if !ahead => Try::Keep,
            (false, _) if behind => Try::OnDemand(0),
            (false, _) => Try::Idle,
        });
    }
}
