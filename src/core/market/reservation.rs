//! Capacity reservations: capacity that is already paid for, and what is left of it.
//!
//! Decides: which offers a reservation provides, at what price, how many machines it still has room for, and when it is too near its end.
//! Does not: create or pay for reservations; the platform team does that, and lists them in a node class.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use crate::core::market::{Capacity, CapacityType, Offer, PriceSource};
use crate::core::units::ids::{InstanceType, Region, ReservationId, ZoneId};
use crate::core::units::money::MicroUsdPerHour;
use crate::core::units::time::{Millis, Timestamp};

/// Work leaves a reserved machine this long before its reservation ends; nothing new is put on one closer to its end than
/// [`LEAST_REMAINDER`].
pub const LEAVE_BEFORE_END: Millis = Millis::from_mins(15);
/// A machine that would have to be left sooner than this is not worth booting.
const LEAST_REMAINDER: Millis = Millis::from_mins(60);

/// A reservation listed in a node class.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct NamedReservation {
    /// Its id.
    pub id: ReservationId,
    /// The price counted for an hour of one of its machines. Zero unless the class sets one.
    pub price_per_hour: MicroUsdPerHour,
}

/// A reservation as EC2 describes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CapacityReservation {
    /// Its id.
    pub id: ReservationId,
    /// The type it reserves.
    pub instance_type: InstanceType,
    /// The zone it is in.
    pub zone: ZoneId,
    /// Machines not in use.
    pub available: i64,
    /// Whether it can be used now, according to EC2.
    pub active: bool,
    /// When it ends; `None` until it is cancelled.
    pub ends_at: Option<Timestamp>,
}

/// EC2's answer about the reservations of a region, and when it was requested.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SeenReservations {
    /// When the request was made.
    pub at: Timestamp,
    /// The reservations.
    pub seen: Vec<CapacityReservation>,
}

/// A reserved offer: the reservation to launch into, and how many machines still fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReservedOffer {
    /// The offer.
    pub offer: Offer,
    /// The reservation.
    pub reservation: ReservationId,
    /// Machines left in it.
    pub machines_left: i64,
}

/// A machine of ours in a reservation, or on its way into it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Occupied<'a> {
    /// The reservation.
    pub reservation: &'a ReservationId,
    /// When EC2 was asked for it; `None` if not yet.
    pub asked_at: Option<Timestamp>,
}

/// The offers of the reservations that `named` names in `region`, by pool. Of several reservations in one pool, the first with room: the
/// cheapest, then the one that ends last, then by id.
///
/// What is left is what EC2 reported as available, less what was `occupied` since the request.
pub fn offers(
    region: &Region,
    named: &[NamedReservation],
    seen: &SeenReservations,
    occupied: &[Occupied],
    now: Timestamp,
) -> BTreeMap<Capacity, ReservedOffer> {
    let mut found: Vec<ReservedOffer> = Vec::new();
    let far = |r: &CapacityReservation| r.ends_at.is_none_or(|end| end - LEAVE_BEFORE_END - LEAST_REMAINDER >= now);
    for reservation in seen.seen.iter().filter(|r| r.active && far(r)) {
        let Some(terms) = named.iter().find(|n| n.id == reservation.id) else { continue };
        let unseen = |o: &&Occupied| *o.reservation == reservation.id && o.asked_at.is_none_or(|at| at >= seen.at);
        let since = i64::try_from(occupied.iter().filter(unseen).count()).unwrap_or(i64::MAX);
        let capacity = Capacity {
            region: region.clone(),
            zone: reservation.zone.clone(),
            instance_type: reservation.instance_type.clone(),
            capacity_type: CapacityType::Reserved,
        };
        let offer = Offer {
            capacity,
            price_per_hour: terms.price_per_hour,
            observed_at: seen.at,
            source: PriceSource::Reservation,
            interruptions_per_million_hours: 0,
        };
        found.push(ReservedOffer { offer, reservation: reservation.id.clone(), machines_left: (reservation.available - since).max(0) });
    }
    let end_of =
        |o: &ReservedOffer| seen.seen.iter().find(|r| r.id == o.reservation).and_then(|r| r.ends_at).unwrap_or(Timestamp(i64::MAX));
    found.sort_by(|a, b| {
        let rank = |o: &ReservedOffer| (o.machines_left < 1, o.offer.price_per_hour, std::cmp::Reverse(end_of(o)));
        rank(a).cmp(&rank(b)).then_with(|| a.reservation.cmp(&b.reservation))
    });
    let mut by_pool = BTreeMap::new();
    for one in found {
        by_pool.entry(one.offer.capacity.clone()).or_insert(one);
    }
    by_pool
}

#[cfg(test)]
mod tests {
    use crate::core::market::reservation::*;

    const NOW: Timestamp = Timestamp(1_800_000_000_000);

    fn reservation(id: &str, available: i64, ends_in_minutes: Option<i64>) -> CapacityReservation {
        CapacityReservation {
            id: id.into(),
            instance_type: "p5.48xlarge".into(),
            zone: "use1-az4".into(),
            available,
            active: true,
            ends_at: ends_in_minutes.map(|m| NOW + Millis::from_mins(m)),
        }
    }

    fn named(id: &str, micros: i64) -> NamedReservation {
        NamedReservation { id: id.into(), price_per_hour: MicroUsdPerHour(micros) }
    }

    fn offered(named: &[NamedReservation], seen: Vec<CapacityReservation>, occupied: &[Occupied]) -> Vec<(String, i64, i64)> {
        let seen = SeenReservations { at: NOW, seen };
        let offers = offers(&"us-east-1".into(), named, &seen, occupied, NOW);
        offers.values().map(|o| (o.reservation.to_string(), o.offer.price_per_hour.0, o.machines_left)).collect()
    }

    #[test]
    fn a_named_reservation_is_offered_at_its_sunk_price_and_others_are_not() {
        let seen = || vec![reservation("cr-1", 2, None), reservation("cr-2", 5, None)];
        assert_eq!(offered(&[named("cr-1", 0)], seen(), &[]), [("cr-1".to_owned(), 0, 2)]);
        assert_eq!(offered(&[named("cr-1", 7), named("cr-2", 5)], seen(), &[]), [("cr-2".to_owned(), 5, 5)], "the cheaper one");
        let full = vec![reservation("cr-1", 2, None), reservation("cr-2", 0, None)];
        assert_eq!(offered(&[named("cr-1", 7), named("cr-2", 5)], full, &[]), [("cr-1".to_owned(), 7, 2)], "the one with room");
        let ended = CapacityReservation { active: false, ..reservation("cr-1", 2, None) };
        assert_eq!(offered(&[named("cr-1", 0)], vec![ended], &[]), []);
    }

    #[test]
    fn machines_that_ec2_has_not_counted_yet_come_off_and_the_end_is_kept_clear() {
        let id = ReservationId::from("cr-1");
        let occupied = [None, Some(NOW + Millis(1)), Some(NOW - Millis(1))].map(|asked_at| Occupied { reservation: &id, asked_at });
        assert_eq!(offered(&[named("cr-1", 0)], vec![reservation("cr-1", 3, None)], &occupied), [("cr-1".to_owned(), 0, 1)]);
        assert_eq!(offered(&[named("cr-1", 0)], vec![reservation("cr-1", 3, Some(74))], &[]), []);
        assert_eq!(offered(&[named("cr-1", 0)], vec![reservation("cr-1", 3, Some(75))], &[]).len(), 1);
    }
}
