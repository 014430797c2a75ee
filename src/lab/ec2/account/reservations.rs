//! On-demand capacity reservations: capacity of one type in one zone that is kept for the account, used by targeted launches only.
//!
//! Source: EC2 user guide, "Reserve compute capacity with EC2 On-Demand Capacity Reservations". What runs on after a reservation's end runs
//! on as on-demand; here it keeps the name of its reservation, so that it can still be recognised.

use crate::core::units::ids::{InstanceType, Region, ZoneId};
use crate::core::units::time::Timestamp;

use super::super::fault::Fault;
use super::Account;
use super::capacity::ZoneCapacity;

/// A reservation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reservation {
    /// As in `cr-0abc`.
    pub id: String,
    /// Its region.
    pub region: Region,
    /// Its zone.
    pub zone: ZoneId,
    /// The type it holds.
    pub instance_type: InstanceType,
    /// How many machines it holds in all.
    pub total: u64,
    /// When it was made.
    pub since: Timestamp,
    /// When it ends; `None` until somebody ends it.
    pub ends_at: Option<Timestamp>,
}

impl Reservation {
    /// `active` or `expired`.
    pub fn state(&self, now: Timestamp) -> &'static str {
        if self.ends_at.is_none_or(|end| now < end) { "active" } else { "expired" }
    }
}

impl Account {
    /// Makes a reservation and gives its id.
    pub fn reserve(&mut self, zone_capacity: &ZoneCapacity, total: u64, ends_at: Option<Timestamp>, now: Timestamp) -> String {
        let id = self.new_id("cr");
        let (region, zone, instance_type) = (zone_capacity.region.clone(), zone_capacity.zone.clone(), zone_capacity.instance_type.clone());
        self.reservations.insert(id.clone(), Reservation { id: id.clone(), region, zone, instance_type, total, since: now, ends_at });
        id
    }

    /// Machines of a reservation that are not in use.
    pub fn reservation_left(&self, reservation: &Reservation) -> u64 {
        let uses = |id: &Option<String>| id.as_ref() == Some(&reservation.id);
        let used = self.instances.values().filter(|i| i.state.is_live() && uses(&i.details.capacity_reservation)).count();
        reservation.total.saturating_sub(u64::try_from(used).unwrap_or(u64::MAX))
    }

    /// Whether one more machine of `zone_capacity` may be launched into the reservation `id`.
    ///
    /// # Errors
    /// `InvalidCapacityReservationId.NotFound`, `InvalidParameterValue` when it holds something else, `ReservationCapacityExceeded`.
    pub(super) fn check_reservation(&self, id: &str, zone_capacity: &ZoneCapacity, now: Timestamp) -> Result<(), Fault> {
        let found = self.reservations.get(id).filter(|r| r.region == zone_capacity.region && r.state(now) == "active");
        let missing = || Fault::bad("InvalidCapacityReservationId.NotFound", format!("The capacity reservation ID '{id}' does not exist"));
        let reservation = found.ok_or_else(missing)?;
        if reservation.zone != zone_capacity.zone || reservation.instance_type != zone_capacity.instance_type {
            return Err(Fault::value(id, "CapacityReservationId", "The reservation is for another instance type or Availability Zone."));
        }
        match self.reservation_left(reservation) {
            0 => Err(Fault::bad("ReservationCapacityExceeded", "The requested reservation does not have sufficient compatible capacity.")),
            _ => Ok(()),
        }
    }
}
