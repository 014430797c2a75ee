//! DescribeCapacityReservations.

use super::super::account::reservations::Reservation;
use super::super::account::{ACCOUNT, Account};
use super::super::fault::Fault;
use super::super::query::page;
use super::{Call, answered};

pub(super) fn describe(account: &mut Account, call: Call<'_>) -> Result<String, Fault> {
    let (asked, filters) = (call.params.list("CapacityReservationId"), call.params.filters());
    let here = |r: &&Reservation| r.region == *call.region;
    if let Some(unknown) = asked.iter().find(|id| !account.reservations.values().filter(here).any(|r| r.id == **id)) {
        let message = format!("The capacity reservation ID '{unknown}' does not exist");
        return Err(Fault::bad("InvalidCapacityReservationId.NotFound", message));
    }
    let mut wanted: Vec<Reservation> = Vec::new();
    for reservation in account.reservations.values().filter(here).filter(|r| asked.is_empty() || asked.contains(&r.id)) {
        let mut fits = true;
        for filter in &filters {
            fits &= match filter.name.as_str() {
                "capacity-reservation-id" => filter.matches(&reservation.id),
                "instance-type" => filter.matches(reservation.instance_type.as_str()),
                "state" => filter.matches(reservation.state(call.now)),
                other => return Err(Fault::bad("InvalidParameterValue", format!("The filter '{other}' is invalid"))),
            };
        }
        if fits {
            wanted.push(reservation.clone());
        }
    }
    let (rows, next) = page(&wanted, call.params, 1_000)?;
    answered(|xml| {
        xml.list("capacityReservationSet", rows, |xml, r| {
            xml.text("capacityReservationId", &r.id).text("ownerId", ACCOUNT).text("instanceType", &r.instance_type);
            xml.text("instancePlatform", "Linux/UNIX").text("tenancy", "default").text("instanceMatchCriteria", "targeted");
            xml.maybe("availabilityZone", account.places.zone(&r.zone).map(|zone| zone.name.as_str())).text("availabilityZoneId", &r.zone);
            xml.text("totalInstanceCount", r.total).text("availableInstanceCount", account.reservation_left(&r));
            xml.text("state", r.state(call.now)).text("createDate", r.since).text("startDate", r.since);
            xml.text("endDateType", if r.ends_at.is_some() { "limited" } else { "unlimited" }).maybe("endDate", r.ends_at);
        });
        xml.maybe("nextToken", next);
    })
}
