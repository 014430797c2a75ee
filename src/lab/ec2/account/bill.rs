//! The truth about cost, for checking ledgers against. AWS's rules for Linux instances:
//! - from the launch until the end, by the second, at least 60 s of it;
//! - a spot instance pays, for each of its instance-hours, the capacity's price at the start of that hour;
//! - a spot instance that EC2 takes back within its first hour costs nothing;
//! - on-demand pays the region's list price;
//! - a machine in a capacity reservation pays nothing: the reservation is paid for, used or not, and is on no line here.
//!
//! Sources: "Spot Instance pricing", "Billing for interrupted Spot Instances" (EC2 user guide); "from the time an instance is launched
//! until it is terminated or stopped" (EC2 On-Demand pricing). Begin and end are the account's own, in the whole seconds that EC2 works
//! in. The user guide's table of states calls `pending`, a few seconds with EC2, free; nothing EC2 says of an instance tells when that
//! ended, so nobody could check a bill that left it out, and here it is billed. A price that is not known makes the amount unknown,
//! never zero.
//!
//! Written apart from `core::accounting`, which works from what the operator recorded: the demo holds one against the other.

use crate::core::units::ids::InstanceId;
use crate::core::units::money::{MicroUsd, MicroUsdMillis, MicroUsdPerHour};
use crate::core::units::time::{Millis, Timestamp};

use super::Account;
use super::instance::{CapacityType, Instance, SPOT_TERMINATION};

const HOUR: Millis = Millis::from_hours(1);
/// AWS bills no Linux instance for less.
const LEAST: Millis = Millis::from_secs(60);

/// A stretch of billed time at one price.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// From when on.
    pub from: Timestamp,
    /// For how long it is billed; the 60 s minimum is in here.
    pub billed: Millis,
    /// The price, where known.
    pub price: Option<MicroUsdPerHour>,
}

/// What one instance cost so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BillLine {
    /// Whose.
    pub instance: InstanceId,
    /// The billed time.
    pub segments: Vec<Segment>,
    /// Whether AWS waives it: taken back within the first hour.
    pub waived: bool,
    /// The amount, where every price is known.
    pub amount: Option<MicroUsd>,
}

impl Account {
    /// What `instance` costs up to `now`.
    pub fn bill_line(&self, instance: &Instance, now: Timestamp) -> BillLine {
        let segments = self.segments(instance, now);
        let first_hour = instance.end_time().is_some_and(|ended| ended.since(instance.launch_time()) < HOUR);
        let waived = instance.state_reason == Some(SPOT_TERMINATION) && first_hour;
        let exact = segments.iter().map(|segment| segment.price.map(|price| price.over(segment.billed))).sum::<Option<MicroUsdMillis>>();
        let amount = if waived { Some(MicroUsd(0)) } else { exact.map(MicroUsdMillis::to_micro_usd) };
        BillLine { instance: instance.id.clone(), segments, waived, amount }
    }

    fn segments(&self, instance: &Instance, now: Timestamp) -> Vec<Segment> {
        let start = instance.launch_time();
        let ran = instance.end_time().unwrap_or(now.floor_to_second()).since(start);
        let billed = ran.max(LEAST);
        if instance.capacity_type == CapacityType::OnDemand {
            let reserved = instance.details.capacity_reservation.is_some();
            let listed = || self.on_demand_price(&instance.region, &instance.instance_type);
            let price = if reserved { Some(MicroUsdPerHour(0)) } else { listed() };
            return vec![Segment { from: start, billed, price }];
        }
        let hours = (billed.0 + HOUR.0 - 1) / HOUR.0;
        let segment = |hour: i64| {
            let from = start + Millis(hour * HOUR.0);
            let price = self.spot_price_at(&instance.zone, &instance.instance_type, from);
            Segment { from, billed: HOUR.min(billed - Millis(hour * HOUR.0)), price }
        };
        (0..hours).map(segment).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::capacity::ZoneCapacity;
    use super::super::instance::LaunchDetails;
    use super::super::interruption::{Announcement, Interruption};
    use super::super::launch::{LaunchOrder, Launcher};
    use super::super::testing::{OPENED, account};
    use super::*;

    fn launch(account: &mut Account, capacity_type: CapacityType, region: &str, zone: &str) -> InstanceId {
        let zone_capacity = ZoneCapacity { region: region.into(), zone: zone.into(), instance_type: "g6.xlarge".into(), capacity_type };
        let (details, reservation, launcher) = (LaunchDetails::default(), "r-1".into(), Launcher::Run);
        account.launch(LaunchOrder { zone_capacity, max_price: None, details, reservation, launcher }, OPENED).unwrap()
    }

    fn amount(account: &mut Account, id: &InstanceId, at: Timestamp) -> Option<i64> {
        account.advance(at);
        account.bill_line(&account.instances[id], at).amount.map(|amount| amount.0)
    }

    #[test]
    fn each_instance_hour_has_the_price_of_its_start() {
        let mut account = account();
        let id = launch(&mut account, CapacityType::Spot, "eu-south-2", "eus2-az3");
        account.advance(OPENED + account.settings.boot);
        account.set_spot_price(&"eus2-az3".into(), &"g6.xlarge".into(), MicroUsdPerHour(200_000), OPENED + Millis::from_mins(30));
        assert_eq!(amount(&mut account, &id, OPENED), Some(1_522), "60 s of 91,300 at least, half to even");
        assert_eq!(amount(&mut account, &id, OPENED + Millis::from_mins(60)), Some(91_300), "a change within the hour waits");
        assert_eq!(amount(&mut account, &id, OPENED + Millis::from_mins(90)), Some(191_300));
    }

    #[test]
    fn taken_back_in_the_first_hour_is_free_but_the_users_own_end_is_not() {
        let mut account = account();
        let no_warning = Interruption { notice: Millis::ZERO, rebalance_lead: None, announcement: Announcement::None };
        let ids: Vec<InstanceId> = (0..3).map(|_| launch(&mut account, CapacityType::Spot, "eu-south-2", "eus2-az3")).collect();
        let early = OPENED + Millis::from_mins(30);
        account.advance(early);
        account.interrupt(&ids[0], no_warning, early).unwrap();
        account.terminate(&"eu-south-2".into(), &ids[1..2], early).unwrap();
        let late = OPENED + Millis::from_mins(60);
        account.advance(late);
        account.interrupt(&ids[2], no_warning, late).unwrap();
        let at_end: Vec<Option<i64>> = ids.iter().map(|id| amount(&mut account, id, late + Millis::from_hours(5))).collect();
        assert_eq!(at_end, [Some(0), Some(45_650), Some(91_300)]);
    }

    #[test]
    fn the_begin_and_end_that_ec2_tells_are_those_it_bills() {
        let mut account = account();
        let order = |account: &mut Account, at| {
            let zone_capacity = ZoneCapacity {
                region: "eu-south-2".into(),
                zone: "eus2-az3".into(),
                instance_type: "g6.xlarge".into(),
                capacity_type: CapacityType::Spot,
            };
            let (details, reservation, launcher) = (LaunchDetails::default(), "r-1".into(), Launcher::Run);
            account.launch(LaunchOrder { zone_capacity, max_price: None, details, reservation, launcher }, at).unwrap()
        };
        let (id, taken) = (order(&mut account, OPENED + Millis(999)), order(&mut account, OPENED));
        account.advance(OPENED + Millis(121_001));
        account.terminate(&"eu-south-2".into(), std::slice::from_ref(&id), OPENED + Millis(121_001)).unwrap();
        account
            .interrupt(
                &taken,
                Interruption { notice: Millis::ZERO, rebalance_lead: None, announcement: Announcement::None },
                OPENED + Millis(121_001),
            )
            .unwrap();
        assert_eq!(account.instances[&id].launch_time(), OPENED);
        assert_eq!(account.instances[&id].transition_reason().as_deref(), Some("User initiated (1970-02-11 16:02:01 GMT)"));
        assert_eq!(account.instances[&taken].transition_reason().as_deref(), Some("Service initiated (1970-02-11 16:02:01 GMT)"));
        assert_eq!(amount(&mut account, &id, OPENED + Millis::from_hours(9)), Some(3_069), "121 s of 91,300");
    }

    #[test]
    fn an_unknown_price_is_no_amount() {
        let mut account = account();
        let id = launch(&mut account, CapacityType::OnDemand, "sa-east-1", "sae1-az1");
        assert_eq!(amount(&mut account, &id, OPENED + Millis::from_mins(5)), None, "sa-east-1 has no on-demand row");
    }
}
