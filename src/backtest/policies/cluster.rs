//! How cluster autoscalers choose spot capacity: a model of Karpenter.

use super::super::job::{JobState, Running, Try};
use super::super::market::Past;
use super::super::simulate::BatchPolicy;
use super::cant_be_late::safety_net;
use super::uniform::Ask;

/// **A model, not AWS's rule.** Karpenter launches with CreateFleet `price-capacity-optimized`, whose weights are unpublished:
/// here the third of the zones (at least one) with the most capacity at the last tick, cheapest of them first, then the others by
/// capacity and price. Prices are twelve hours old, as Karpenter's pricing controller renews them. When no spot can be had it
/// falls back to on-demand at once, and as it does by default it never goes back from on-demand to spot.
/// Source: karpenter-provider-aws `pkg/providers/pricing` (12 h), `pkg/providers/instance` (spot first, then on-demand).
#[derive(Default)]
pub struct KarpenterLike {
    order: Vec<usize>,
}

impl BatchPolicy for KarpenterLike {
    fn decide(&mut self, past: &Past<'_>, s: &JobState, wish: &mut Vec<Try>) {
        match safety_net(past, s) {
            Some(Ask::OnDemand) => return wish.push(Try::OnDemand(s.home.unwrap_or(0))),
            Some(_) => return wish.push(Try::Keep),
            None => {}
        }
        if s.running != Running::Idle {
            return wish.push(Try::Keep);
        }
        let renewed = (12 * 3_600_000 / past.tick().0).max(1) as usize;
        let stale = past.elapsed_ticks() % renewed;
        let price = |z: usize| past.price_before(z, stale).unwrap_or(past.price(z));
        let room = |z: usize| past.capacity_before(z, 1).unwrap_or(0);
        self.order.clear();
        self.order.extend(0..past.zones());
        self.order.sort_by_key(|z| (std::cmp::Reverse(room(*z)), price(*z), *z));
        let top = past.zones().div_ceil(3);
        // Zones as full of room as the last of the third belong to it: with counts of 0 and 1 there are many ties.
        let least = self.order.get(top - 1).map_or(0, |z| room(*z));
        let third = self.order.iter().take_while(|z| room(**z) >= least).count();
        self.order[..third].sort_by_key(|z| (price(*z), *z));
        wish.extend(self.order.iter().map(|z| Try::Spot(*z)));
        wish.push(Try::OnDemand((0..past.zones()).min_by_key(|z| (past.on_demand(*z), *z)).unwrap_or(0)));
    }
}
