//! What an instance costs: AWS's billing rules as a pure function over recorded facts.
//!
//! Decides: which milliseconds are paid, at which price, and the one rounding an amount sees. The views in `views.sql` state the same
//! rules in SQL; a test compares both over random intervals.
//! Does not: split the cost over pods (see [`super::allocation`]), or read any table.
//!
//! Sources: EC2 user guide, "Spot Instance pricing" and "Billing for interrupted Spot Instances"; "Amazon EC2 billing and purchasing
//! options" (per second, 60 s minimum, for Linux). Machines whose operating system is billed by the whole hour (SUSE) are not supported:
//! lowtide launches Linux images billed by the second.

use std::collections::BTreeMap;

use crate::core::fleet::EndedBy;
use crate::core::market::CapacityType;
use crate::core::units::money::{MicroUsd, MicroUsdMillis, MicroUsdPerHour};
use crate::core::units::time::{Millis, Timestamp};

/// An instance-hour: counted from the launch, not from the clock's full hours.
pub const INSTANCE_HOUR: Millis = Millis::from_hours(1);
/// The least that is billed.
pub const LEAST_BILLED: Millis = Millis::from_secs(60);

/// The price that was seen at the start of an instance-hour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HourRate {
    /// What holds for the hour.
    pub price: MicroUsdPerHour,
    /// On-demand of the same type and region, where known.
    pub on_demand: Option<MicroUsdPerHour>,
}

/// What is known of one instance's life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaidInterval {
    /// How it was bought.
    pub capacity_type: CapacityType,
    /// When it began to run: pending is not paid.
    pub from: Timestamp,
    /// When it ended, or now while it runs: shutting-down is not paid.
    pub to: Timestamp,
    /// Who ended it; `None` while it runs.
    pub ended_by: Option<EndedBy>,
    /// The price it was bought at.
    pub bought_at: HourRate,
    /// Prices seen at the start of later instance-hours, by hour; 0 is the first.
    pub hours: BTreeMap<u32, HourRate>,
}

/// One instance-hour of an interval, or what was used of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PriceSegment {
    /// Which hour; 0 is the first.
    pub hour: u32,
    /// Its start.
    pub from: Timestamp,
    /// How much of it is billed; of a waived interval: would have been.
    pub billed: Millis,
    /// The price that holds for it.
    pub price: MicroUsdPerHour,
    /// Its cost. Segments add up to the interval's exact amount rounded once.
    pub cost: MicroUsd,
    /// The same milliseconds at the on-demand price, where one is known.
    pub on_demand_cost: Option<MicroUsd>,
}

impl PaidInterval {
    /// How long it ran.
    pub fn ran(&self) -> Millis {
        self.to.since(self.from).max(Millis::ZERO)
    }

    /// EC2 took back a spot instance within its first hour: nothing is charged.
    pub fn waived(&self) -> bool {
        self.capacity_type == CapacityType::Spot && self.ended_by == Some(EndedBy::Ec2Interruption) && self.ran() < INSTANCE_HOUR
    }

    /// The price of an instance-hour: the one seen at its start, else the last one before.
    fn price(&self, hour: u32) -> MicroUsdPerHour {
        self.hours.range(..=hour).next_back().map_or(self.bought_at.price, |(_, rate)| rate.price)
    }

    /// On-demand of the same type and region in an instance-hour; an on-demand instance is its own comparison.
    fn on_demand(&self, hour: u32) -> Option<MicroUsdPerHour> {
        let seen = self.hours.range(..=hour).rev().find_map(|(_, rate)| rate.on_demand).or(self.bought_at.on_demand);
        seen.or_else(|| (self.capacity_type == CapacityType::OnDemand).then(|| self.price(hour)))
    }

    /// The interval hour by hour. Each cost is the rounded running total less the one before, so that nothing is lost or gained.
    pub fn segments(&self) -> Vec<PriceSegment> {
        let billed = self.ran().max(LEAST_BILLED);
        let hours = u32::try_from((billed.0 + INSTANCE_HOUR.0 - 1) / INSTANCE_HOUR.0).unwrap_or(u32::MAX);
        let (mut cost, mut on_demand) = (RunningTotal::default(), RunningTotal::default());
        let segment = |hour: u32| {
            let offset = Millis(i64::from(hour) * INSTANCE_HOUR.0);
            let span = INSTANCE_HOUR.min(billed - offset);
            let charged = if self.waived() { Millis::ZERO } else { span };
            PriceSegment {
                hour,
                from: self.from + offset,
                billed: span,
                price: self.price(hour),
                cost: cost.add(self.price(hour).over(charged)),
                on_demand_cost: self.on_demand(hour).map(|rate| on_demand.add(rate.over(charged))),
            }
        };
        (0..hours).map(segment).collect()
    }

    /// The exact cost and on-demand cost of the first `hours` instance-hours: where the running totals stand after them.
    pub fn exact_totals(&self, hours: u32) -> (MicroUsdMillis, MicroUsdMillis) {
        let free = self.waived();
        let whole = self.segments().into_iter().filter(|segment| segment.hour < hours && !free);
        whole.fold(Default::default(), |(cost, on_demand), segment| {
            let rate = self.on_demand(segment.hour).unwrap_or_default();
            (cost + segment.price.over(segment.billed), on_demand + rate.over(segment.billed))
        })
    }

    /// What the interval costs.
    pub fn cost(&self) -> MicroUsd {
        self.segments().iter().map(|segment| segment.cost).sum()
    }
}

/// An exact sum that gives each addend its share of the rounded total.
#[derive(Default)]
struct RunningTotal(MicroUsdMillis);

impl RunningTotal {
    fn add(&mut self, amount: MicroUsdMillis) -> MicroUsd {
        let before = self.0.to_micro_usd();
        self.0 = self.0 + amount;
        self.0.to_micro_usd() - before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spot(ran: Millis, ended_by: Option<EndedBy>) -> PaidInterval {
        let bought_at = HourRate { price: MicroUsdPerHour(91_300), on_demand: Some(MicroUsdPerHour(804_800)) };
        let from = Timestamp::from_date(2026, 7, 20) + Millis(827_000);
        PaidInterval { capacity_type: CapacityType::Spot, from, to: from + ran, ended_by, bought_at, hours: BTreeMap::new() }
    }

    /// "Spot Instance pricing": the price at the start of each instance-hour holds for that hour; a change applies from the next.
    #[test]
    fn the_price_at_the_start_of_an_instance_hour_holds_for_it() {
        let mut interval = spot(Millis::from_mins(150), Some(EndedBy::Lowtide));
        interval.hours.insert(1, HourRate { price: MicroUsdPerHour(200_000), on_demand: None });
        let segments = interval.segments();
        assert_eq!(segments.iter().map(|s| s.cost.0).collect::<Vec<_>>(), [91_300, 200_000, 100_000]);
        assert_eq!(segments[1].from, interval.from + Millis::from_hours(1), "hours are counted from the launch");
        assert_eq!(segments[2].on_demand_cost, Some(MicroUsd(402_400)), "the last known on-demand price is carried on");
    }

    /// EC2 pricing: "billed in one-second increments, with a minimum of 60 seconds".
    #[test]
    fn a_minute_is_the_least() {
        assert_eq!(spot(Millis(1), Some(EndedBy::Lowtide)).cost(), MicroUsd(1_522), "91,300 / 60 = 1521.7");
        assert_eq!(spot(Millis::from_secs(60), Some(EndedBy::Lowtide)).cost(), MicroUsd(1_522));
        assert_eq!(spot(Millis::from_secs(61), Some(EndedBy::Lowtide)).cost(), MicroUsd(1_547));
    }

    /// "Billing for interrupted Spot Instances": interrupted by EC2 in the first hour, no charge; later, the seconds used.
    #[test]
    fn ec2_interrupting_in_the_first_hour_costs_nothing() {
        let early = spot(Millis::from_hours(1) - Millis(1), Some(EndedBy::Ec2Interruption));
        assert_eq!((early.cost(), early.segments()[0].on_demand_cost), (MicroUsd(0), Some(MicroUsd(0))));
        assert_eq!(spot(Millis::from_hours(1), Some(EndedBy::Ec2Interruption)).cost(), MicroUsd(91_300));
    }

    /// The same page: terminated by the user in the first hour, the seconds used are charged. Nobody knows who: charged as well.
    #[test]
    fn our_own_termination_is_charged() {
        for who in [EndedBy::Lowtide, EndedBy::Unknown] {
            assert_eq!(spot(Millis::from_mins(30), Some(who)).cost(), MicroUsd(45_650));
        }
    }

    /// The rule of the free first hour is spot's alone.
    #[test]
    fn on_demand_is_paid_and_is_its_own_comparison() {
        let mut interval = spot(Millis::from_mins(30), Some(EndedBy::Ec2Interruption));
        interval.capacity_type = CapacityType::OnDemand;
        interval.bought_at = HourRate { price: MicroUsdPerHour(804_800), on_demand: None };
        assert_eq!((interval.cost(), interval.segments()[0].on_demand_cost), (MicroUsd(402_400), Some(MicroUsd(402_400))));
    }

    #[test]
    fn hours_add_up_to_the_whole_rounded_once() {
        let mut interval = spot(Millis::from_hours(1_000) + Millis(1_234), Some(EndedBy::Lowtide));
        interval.from = Timestamp(17);
        interval.to = interval.from + Millis::from_hours(1_000) + Millis(1_234);
        let once = MicroUsdPerHour(91_300).over(interval.ran()).to_micro_usd();
        assert_eq!(interval.cost(), once);
    }
}
