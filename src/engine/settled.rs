//! Skips a pass that would plan what the last one planned: nothing.
//!
//! Decides: whether the world is still the one in which the last plan found nothing to do, and whether that plan still holds.
//! Does not: say for how long a plan holds (see [`crate::core::action::Plan::holds_until`]).
//!
//! Half of all wake-ups bring no news: a step has ended and the watch has yet to show it, prices were read and have not changed.

use std::collections::{BTreeMap, BTreeSet};

use crate::core::action::Plan;
use crate::core::fleet::{Bound, Instance, PoolsDefined};
use crate::core::record::RecentRefusals;
use crate::core::snapshot::{Lane, Observed, PendingNotice, RefusedReplacement, Snapshot};
use crate::core::units::ids::{ClaimName, InstanceId, PoolName, Region, Uid};
use crate::core::units::shared::{Mark, Shared};
use crate::core::units::time::{Millis, Timestamp};

/// However long a plan says it holds, it is made again after this time.
const TRUSTED_FOR: Millis = Millis::from_mins(1);

/// A world in which nothing was to be done.
#[derive(Debug)]
pub struct Settled {
    marks: Vec<Mark>,
    /// What was seen in each region, where it does not matter when it was seen.
    seen: Option<BTreeMap<Region, Option<Mark>>>,
    cluster: (String, String),
    ec2_ahead: Option<Millis>,
    pools_defined: PoolsDefined,
    notices: Vec<PendingNotice>,
    in_flight: BTreeSet<Lane>,
    pending_bindings: BTreeMap<Uid, Bound>,
    ending: BTreeSet<ClaimName>,
    refused_replacements: BTreeMap<Uid, RefusedReplacement>,
    recent_launches: BTreeMap<PoolName, Vec<Timestamp>>,
    recent_refusals: RecentRefusals,
    market_surveyed: bool,
    ledger_available: bool,
    outbox_full: bool,
    outbox_closed: bool,
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
        each_shared(world, |_, part| marks.push(part.mark()));
        Some(Settled {
            marks,
            seen: (!planned.looks_matter).then(|| world.instances.iter().map(|(region, look)| (region.clone(), mark_of(look))).collect()),
            cluster: (world.cluster.clone(), world.cluster_uid.clone()),
            ec2_ahead: world.ec2_ahead,
            pools_defined: world.pools_defined.clone(),
            notices: world.notices.clone(),
            in_flight: world.in_flight.clone(),
            pending_bindings: world.pending_bindings.clone(),
            ending: world.ending.clone(),
            refused_replacements: world.refused_replacements.clone(),
            recent_launches: world.recent_launches.clone(),
            recent_refusals: world.recent_refusals.clone(),
            market_surveyed: world.market_surveyed,
            ledger_available: world.ledger_available,
            outbox_full: world.outbox_full,
            outbox_closed: world.outbox_closed,
            moves_considered_at: world.moves_considered_at,
            from: now,
            until,
            wake_at: planned.wake_at,
        })
    }

    /// Why `world` at `now` may give another plan: the first part that has changed, or the time; `None` if it gives the same.
    pub fn changed(&self, world: &Snapshot, now: Timestamp) -> Option<&'static str> {
        if now < self.from || now >= self.until {
            return Some("time");
        }
        let own = [
            ("market_surveyed", self.market_surveyed == world.market_surveyed),
            ("ledger_available", self.ledger_available == world.ledger_available),
            ("moves_considered_at", self.moves_considered_at == world.moves_considered_at),
            ("in_flight", self.in_flight == world.in_flight),
            ("pending_bindings", self.pending_bindings == world.pending_bindings),
            ("ending", self.ending == world.ending),
            ("refused_replacements", self.refused_replacements == world.refused_replacements),
            ("notices", self.notices == world.notices),
            ("recent_launches", self.recent_launches == world.recent_launches),
            ("recent_refusals", self.recent_refusals == world.recent_refusals),
            ("cluster", self.cluster.0 == world.cluster && self.cluster.1 == world.cluster_uid),
            ("outbox_full", self.outbox_full == world.outbox_full),
            ("outbox_closed", self.outbox_closed == world.outbox_closed),
            ("ec2_ahead", self.ec2_ahead == world.ec2_ahead),
            ("pools_defined", self.pools_defined == world.pools_defined),
        ];
        if let Some((name, _)) = own.into_iter().find(|(_, same)| !same) {
            return Some(name);
        }
        let mut marks = self.marks.iter();
        let mut first = None;
        each_shared(world, |name, part| {
            let same = marks.next().is_some_and(|mark| part.is(mark)) || name == "instances" && self.sees_the_same(world);
            if !same {
                first = first.or(Some(name));
            }
        });
        first
    }

    /// Every look since has shown what the plan knew, and the plan does not go by when that was.
    fn sees_the_same(&self, world: &Snapshot) -> bool {
        let same = |(region, look): (&Region, &Look), (known, mark): (&Region, &Option<Mark>)| match (look, mark) {
            (Observed::Known { value, .. }, Some(mark)) => region == known && value.is(mark),
            (Observed::Unknown, None) => region == known,
            _ => false,
        };
        let all = |seen: &BTreeMap<Region, Option<Mark>>| {
            seen.len() == world.instances.len() && world.instances.iter().zip(seen).all(|(now, known)| same(now, known))
        };
        self.seen.as_ref().is_some_and(all)
    }
}

type Look = Observed<BTreeMap<InstanceId, Instance>>;

fn mark_of(look: &Look) -> Option<Mark> {
    if let Observed::Known { value, .. } = look { Some(value.mark()) } else { None }
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

/// Visits every shared part of the world, with its name, in one order. All fields are listed, so that a new one does not compile until it has its place
/// here or in [`Settled`].
fn each_shared(world: &Snapshot, mut visit: impl FnMut(&'static str, &dyn Part)) {
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
        unreadable_pools,
        doubtful_nodes,
        unclaimed_since,
        first_sights,
        daemonsets,
        catalog,
        templates,
        pool_statuses,
        recorded,
        reported,
        // `Settled` keeps these and compares them by content.
        cluster: _,
        cluster_uid: _,
        ec2_ahead: _,
        pools_defined: _,
        notices: _,
        in_flight: _,
        pending_bindings: _,
        ending: _,
        refused_replacements: _,
        recent_launches: _,
        recent_refusals: _,
        market_surveyed: _,
        ledger_available: _,
        outbox_full: _,
        outbox_closed: _,
        moves_considered_at: _,
    } = world;
    let parts: [(&'static str, &dyn Part); 25] = [
        ("pools", pools),
        ("classes", classes),
        ("pods", pods),
        ("replicas_wanted", replicas_wanted),
        ("nodes", nodes),
        ("claims", claims),
        ("instances", instances),
        ("scheduled", scheduled),
        ("market", market),
        ("memory", memory),
        ("scores", scores),
        ("quotas", quotas),
        ("reservations", reservations),
        ("closed_regions", closed_regions),
        ("unreadable_claims", unreadable_claims),
        ("unreadable_pools", unreadable_pools),
        ("doubtful_nodes", doubtful_nodes),
        ("unclaimed_since", unclaimed_since),
        ("first_sights", first_sights),
        ("daemonsets", daemonsets),
        ("catalog", catalog),
        ("templates", templates),
        ("pool_statuses", pool_statuses),
        ("recorded", recorded),
        ("reported", reported),
    ];
    parts.into_iter().for_each(|(name, part)| visit(name, part));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_without_steps_holds_for_the_same_world_until_it_says() {
        let (world, now) = (Snapshot::default(), Timestamp(1_000_000));
        let planned = Plan { holds_until: now + Millis::from_secs(30), ..Plan::default() };
        let settled = Settled::of(&world, &planned, now).unwrap();
        assert_eq!([settled.changed(&world.clone(), now), settled.changed(&world, now + Millis(29_999))], [None, None]);
        let too_late_and_too_early = [now + Millis::from_secs(30), now - Millis(1)];
        assert_eq!(too_late_and_too_early.map(|at| settled.changed(&world, at)), [Some("time"); 2]);
        let mut touched = world.clone();
        touched.reported.of(&"uid".into()).hours = 1;
        assert_eq!(settled.changed(&touched, now), Some("reported"), "a shared part");
        assert_eq!(
            settled.changed(&Snapshot { ledger_available: true, ..world.clone() }, now),
            Some("ledger_available"),
            "a part of its own"
        );
        assert!(Settled::of(&world, &Plan { holds_until: now, ..Plan::default() }, now).is_none(), "a plan that is not certain of itself");
        let long = Plan { holds_until: now + Millis::from_hours(9), ..Plan::default() };
        assert_eq!(Settled::of(&world, &long, now).unwrap().changed(&world, now + TRUSTED_FOR), Some("time"), "trusted for this long");
    }

    #[test]
    fn a_look_that_shows_the_same_is_no_news_where_nothing_waits_for_a_look() {
        let now = Timestamp(1_000_000);
        let (world, seen) = (Snapshot::default(), Shared::<BTreeMap<InstanceId, Instance>>::default());
        let looked = |at, value: &Shared<BTreeMap<InstanceId, Instance>>| {
            let instances = BTreeMap::from([(Region::from("us-east-1"), Observed::Known { at: Timestamp(at), value: value.clone() })]);
            Snapshot { instances: instances.into(), ..world.clone() }
        };
        let planned = Plan { holds_until: now + Millis::from_secs(30), ..Plan::default() };
        let settled = Settled::of(&looked(1, &seen), &planned, now).unwrap();
        assert_eq!(settled.changed(&looked(2, &seen), now), None);
        assert_eq!(settled.changed(&looked(2, &Shared::default()), now), Some("instances"), "another value");
        assert_eq!(settled.changed(&world, now), Some("instances"), "a region is gone");
        let settled = Settled::of(&looked(1, &seen), &Plan { looks_matter: true, ..planned }, now).unwrap();
        assert_eq!(settled.changed(&looked(2, &seen), now), Some("instances"), "a machine waits to be seen");
    }
}
