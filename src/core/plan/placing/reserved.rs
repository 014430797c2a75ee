//! Capacity reservations in the plan: their offers, and work that must leave before one ends.
//!
//! Decides: which of the reservations that classes name are offered now, and when a machine in one is left.
//! Does not: judge the offers (see [`crate::core::placement`]).

use std::collections::BTreeMap;

use super::super::pass::Pass;
use crate::core::fleet::Claim;
use crate::core::market::Capacity;
use crate::core::market::reservation::{LEAVE_BEFORE_END, NamedReservation, Occupied, ReservedOffer, offers};
use crate::core::snapshot::Snapshot;
use crate::core::units::time::Timestamp;

/// Every reserved offer of the regions that have been looked at.
pub fn reserved_offers(world: &Snapshot, now: Timestamp) -> BTreeMap<Capacity, ReservedOffer> {
    let holds = |claim: &Claim| claim.may_run();
    let occupied: Vec<Occupied> = world
        .claims
        .values()
        .filter(|c| holds(c))
        .filter_map(|c| Some(Occupied { reservation: c.spec.reservation.as_ref()?, asked_at: c.status.launch_asked_at }))
        .collect();
    let mut found = BTreeMap::new();
    for (region, seen) in &world.reservations {
        let classes = world.classes.values().filter(|class| class.region == *region);
        let named: Vec<NamedReservation> = classes.flat_map(|class| class.reservations.iter().cloned()).collect();
        found.extend(offers(region, &named, seen, &occupied, now));
    }
    found
}

/// The machine's reservation is over or about to be: what runs on after its end is billed as on-demand, or ended by EC2.
pub(in crate::core::plan) fn is_ending(pass: &mut Pass, claim: &Claim) -> bool {
    let Some(id) = &claim.spec.reservation else { return false };
    let seen = pass.world.reservations.get(&claim.spec.capacity.region).and_then(|r| r.seen.iter().find(|r| r.id == *id));
    let Some(reservation) = seen else { return false };
    match reservation.ends_at {
        _ if !reservation.active => true,
        Some(end) => {
            let leave_at = pass.by_our_clock(end - LEAVE_BEFORE_END);
            pass.wake(leave_at);
            pass.now >= leave_at
        }
        None => false,
    }
}
