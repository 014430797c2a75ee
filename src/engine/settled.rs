//! Skips a pass that would plan what the last one planned: nothing.
//!
//! Decides: whether the world is still the one in which the last plan found nothing to do, and whether that plan still holds.
//! Does not: say for how long a plan holds (see [`crate::core::action::Plan::holds_until`]).
//!
//! Half of all wake-ups bring no news: a step has ended and the watch has yet to show it, prices were read and have not changed.

use std::collections::{BTreeMap, BTreeSet};

use crate::core::action::Plan;
use crate::core::fleet::Bound;
use crate::core::snapshot::{Lane, PendingNotice, RefusedReplacement, Snapshot};
use crate::core::units::ids::{ClaimName, PoolName, Uid};
use crate::core::units::shared::{Mark, Shared};
use crate::core::units::time::{Millis, Timestamp};

/// However long a plan says it holds, it is made again after this time.
const TRUSTED_FOR: Millis = Millis::from_mins(1);

/// A world in which nothing was to be done.
#[derive(Debug)]
pub struct Settled {
    marks: Vec<Mark>,
    cluster: (String, String),
    unasked_ends: Vec<Timestamp>,
    ec2_ahead: Option<Millis>,
    notices: Vec<PendingNotice>,
    in_flight: BTreeSet<Lane>,
    pending_bindings: BTreeMap<Uid, Bound>,
    ending: BTreeSet<ClaimName>,
    refused_replacements: BTreeMap<Uid, RefusedReplacement>,
    recent_launches: BTreeMap<PoolName, Vec<Timestamp>>,
    market_surveyed: bool,
    ledger_available: bool,
    outbox_full: bool,
    moves_considered_at: Option<Timestamp>,
    from: Timestamp,
    until: Timestamp,
    /// When the plan asked to be woken.
    pub wake_at: Option<Timestamp>,
}

impl Settled {
    /// From a plan made at `now`; `None` if it has something to do, or may be outdated at once.
    pub fn of(world: &Snapshot, planned: &Plan, now: Timestamp) -> Option<Settled> {
        let until = planned.holds_until.min(now + TRUSTED_FOR);
        if !planned.steps.is_empty() || until <= now {
            return None;
        }
        let mut marks = Vec::new();
        each_shared(world, |part| marks.push(part.mark()));
        Some(Settled {
            marks,
            cluster: (world.cluster.clone(), world.cluster_uid.clone()),
            unasked_ends: world.unasked_ends.clone(),
            ec2_ahead: world.ec2_ahead,
            notices: world.notices.clone(),
            in_flight: world.in_flight.clone(),
            pending_bindings: world.pending_bindings.clone(),
            ending: world.ending.clone(),
            refused_replacements: world.refused_replacements.clone(),
            recent_launches: world.recent_launches.clone(),
            market_surveyed: world.market_surveyed,
            ledger_available: world.ledger_available,
            outbox_full: world.outbox_full,
            moves_considered_at: world.moves_considered_at,
            from: now,
            until,
            wake_at: planned.wake_at,
        })
    }

    /// Whether `world` at `now` gives the same plan.
    pub fn holds(&self, world: &Snapshot, now: Timestamp) -> bool {
        let flags = |w: &Snapshot| (w.market_surveyed, w.ledger_available, w.moves_considered_at);
        let unchanged = now >= self.from
            && now < self.until
            && (self.market_surveyed, self.ledger_available, self.moves_considered_at) == flags(world)
            && self.in_flight == world.in_flight
            && self.pending_bindings == world.pending_bindings
            && self.ending == world.ending
            && self.refused_replacements == world.refused_replacements
            && self.notices == world.notices
            && self.recent_launches == world.recent_launches
            && (self.cluster.0 == world.cluster && self.cluster.1 == world.cluster_uid)
            && self.outbox_full == world.outbox_full
            && self.unasked_ends == world.unasked_ends
            && self.ec2_ahead == world.ec2_ahead;
        let (mut marks, mut same) = (self.marks.iter(), unchanged);
        if unchanged {
            each_shared(world, |part| same &= marks.next().is_some_and(|mark| part.is(mark)));
        }
        same
    }
}

/// A part of the world that is passed on without copying.
trait Part {
    fn mark(&self) -> Mark;
    fn is(&self, mark: &Mark) -> bool;
}

impl<T: Send + Sync + 'static> Part for Shared<T> {
    fn mark(&self) -> Mark {
        Shared::mark(self)
    }
    fn is(&self, mark: &Mark) -> bool {
        Shared::is(self, mark)
    }
}

/// Visits every shared part of the world in one order. All fields are listed, so that a new one does not compile until it has its place
/// here or in [`Settled`].
fn each_shared(world: &Snapshot, visit: impl FnMut(&dyn Part)) {
    let Snapshot {
        pools,
        classes,
        pods,
        replicas_wanted,
        nodes,
        claims,
        instances,
        scheduled,
        market,
        memory,
        scores,
        quotas,
        reservations,
        closed_regions,
        unreadable_claims,
        doubtful_nodes,
        unclaimed_since,
        daemonsets,
        catalog,
        templates,
        pool_statuses,
        recorded,
        reported,
        // `Settled` keeps these and compares them by content.
        cluster: _,
        cluster_uid: _,
        unasked_ends: _,
        ec2_ahead: _,
        notices: _,
        in_flight: _,
        pending_bindings: _,
        ending: _,
        refused_replacements: _,
        recent_launches: _,
        market_surveyed: _,
        ledger_available: _,
        outbox_full: _,
        moves_considered_at: _,
    } = world;
    let parts: [&dyn Part; 23] = [
        pools,
        classes,
        pods,
        replicas_wanted,
        nodes,
        claims,
        instances,
        scheduled,
        market,
        memory,
        scores,
        quotas,
        reservations,
        closed_regions,
        unreadable_claims,
        doubtful_nodes,
        unclaimed_since,
        daemonsets,
        catalog,
        templates,
        pool_statuses,
        recorded,
        reported,
    ];
    parts.into_iter().for_each(visit);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_without_steps_holds_for_the_same_world_until_it_says() {
        let (world, now) = (Snapshot::default(), Timestamp(1_000_000));
        let planned = Plan { holds_until: now + Millis::from_secs(30), ..Plan::default() };
        let settled = Settled::of(&world, &planned, now).unwrap();
        assert!(settled.holds(&world.clone(), now) && settled.holds(&world, now + Millis(29_999)));
        assert!(!settled.holds(&world, now + Millis::from_secs(30)) && !settled.holds(&world, now - Millis(1)), "too late, and too early");
        let mut touched = world.clone();
        touched.reported.of(&"uid".into()).hours = 1;
        assert!(!settled.holds(&touched, now), "a shared part has changed");
        assert!(!settled.holds(&Snapshot { ledger_available: true, ..world.clone() }, now), "a part of its own has");
        assert!(Settled::of(&world, &Plan { holds_until: now, ..Plan::default() }, now).is_none(), "a plan that is not certain of itself");
        let long = Plan { holds_until: now + Millis::from_hours(9), ..Plan::default() };
        assert!(!Settled::of(&world, &long, now).unwrap().holds(&world, now + TRUSTED_FOR), "trusted for this long");
    }
}
