//! SkyPilot's managed-job recovery, with Can't Be Late's safety net so that it can be compared on deadline jobs.
//!
//! Source: `sky/jobs/recovery_strategy.py`. SkyPilot has no deadline policy of its own and never returns from on-demand to spot.

use super::super::job::{JobState, Running, Try};
use super::super::market::Past;
use super::super::simulate::BatchPolicy;
use super::cant_be_late::safety_net;
use super::uniform::Ask;

/// Which zones recovery tries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recovery {
    /// Any zone, cheapest first. Also what EAGER_NEXT_REGION does as shipped: the block on the pre-empted region tests the
    /// launched resources' region, which is always set, so it never blocks (issue 10021).
    Cheapest,
    /// EAGER_NEXT_REGION as documented: other regions first, cheapest first, the pre-empted region for three ticks last.
    NextRegion,
    /// As shipped, with prices of a catalogue that is renewed every seven hours, as SkyPilot's is.
    AsShipped,
}

/// Launch by price; stay until pre-empted; recover as `recovery` says; idle when nothing can be had; on-demand when time runs out.
pub struct Failover {
    recovery: Recovery,
    blocked: Option<(usize, usize)>,
    order: Vec<usize>,
}

impl Failover {
    /// A fresh policy.
    pub fn new(recovery: Recovery) -> Self {
        Failover { recovery, blocked: None, order: Vec::new() }
    }
}

/// Milliseconds between renewals (7 h) of SkyPilot's price catalogue.
const CATALOGUE_MS: i64 = 7 * 3_600_000;
/// How many tries the pre-empted region stays blocked (`MAX_RETRIES` of the launch in other regions).
const BLOCKED_TICKS: usize = 3;

impl BatchPolicy for Failover {
    fn decide(&mut self, past: &Past<'_>, s: &JobState, wish: &mut Vec<Try>) {
        if let Some(z) = s.preempted {
            self.blocked = Some((z, past.elapsed_ticks() + BLOCKED_TICKS));
        }
        match safety_net(past, s) {
            Some(Ask::OnDemand) => return wish.push(Try::OnDemand(s.home.unwrap_or(0))),
            Some(_) => return wish.push(Try::Keep),
            None => {}
        }
        if matches!(s.running, Running::Spot(_)) {
            return wish.push(Try::Keep);
        }
        let stale = match self.recovery {
            Recovery::AsShipped => past.elapsed_ticks() % ((CATALOGUE_MS / past.tick().0).max(1) as usize),
            _ => 0,
        };
        let price = |z: usize| past.price_before(z, stale).unwrap_or(past.price(z));
        self.order.clear();
        self.order.extend(0..past.zones());
        self.order.sort_by_key(|z| (price(*z), *z));
        if let (Recovery::NextRegion, Some((zone, until))) = (self.recovery, self.blocked) {
            let still = past.elapsed_ticks() < until;
            self.order.sort_by_key(|z| still && past.region(*z) == past.region(zone));
        }
        wish.extend(self.order.iter().map(|z| Try::Spot(*z)));
        wish.push(Try::Idle);
    }
}
