//! The dated snapshot of prices, zones and interruption bands that ships with lowtide.
//!
//! Decides: how the shipped facts become offers, and how an advisor band becomes an interruption rate.
//! Does not: vouch for today's price. Every offer from here shows [`PriceSource::Snapshot`] as its source.

use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use crate::core::market::{Capacity, CapacityType, Market, Offer, PriceSource};
use crate::core::units::ids::{InstanceType, Region, ZoneId};
use crate::core::units::money::MicroUsdPerHour;
use crate::core::units::time::Timestamp;

/// The age of the snapshot's prices: the older of its dated parts (2026-07-20T00:00:00Z, see `data/catalog/SOURCES.md`).
pub const SNAPSHOT_DATE: Timestamp = Timestamp(1_784_505_600_000);

const PRICES: &str = include_str!("../../../data/catalog/gpu_prices.csv");
const OFFERINGS: &str = include_str!("../../../data/catalog/gpu_offerings.csv");
const ADVISOR: &str = include_str!("../../../data/catalog/spot_advisor.csv");

/// How often the Spot Instance Advisor saw a type interrupted in a region, over a month.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AdvisorBand {
    /// Less than 5 %.
    Under5,
    /// 5 to 10 %.
    From5To10,
    /// 10 to 15 %.
    From10To15,
    /// 15 to 20 %.
    From15To20,
    /// More than 20 %.
    Over20,
}

impl AdvisorBand {
    /// The band of the feed's index `r`, 0 to 4.
    pub fn from_index(index: u8) -> Option<AdvisorBand> {
        use AdvisorBand::*;
        [Under5, From5To10, From10To15, From15To20, Over20].get(usize::from(index)).copied()
    }

    /// In the advisor's notation.
    pub fn label(self) -> &'static str {
        match self {
            AdvisorBand::Under5 => "<5%",
            AdvisorBand::From5To10 => "5-10%",
            AdvisorBand::From10To15 => "10-15%",
            AdvisorBand::From15To20 => "15-20%",
            AdvisorBand::Over20 => ">20%",
        }
    }

    /// Expected interruptions per million instance-hours: the band's upper end per month of 730 h, rounded up.
    ///
    /// The feed's upper ends are 5, 11, 16, 22 and 100 %, so this gives 69, 151, 220, 302 and 1,370.
    pub fn interruptions_per_million_hours(self) -> i64 {
        let percent_per_month: i64 = match self {
            AdvisorBand::Under5 => 5,
            AdvisorBand::From5To10 => 11,
            AdvisorBand::From10To15 => 16,
            AdvisorBand::From15To20 => 22,
            AdvisorBand::Over20 => 100,
        };
        let per = 100 * 730;
        (percent_per_month * 1_000_000 + per - 1) / per
    }
}

#[derive(Deserialize)]
struct PriceRow {
    region: String,
    az_id: String,
    r#type: String,
    on_demand_usd_h: String,
    spot_usd_h: String,
}

#[derive(Deserialize)]
struct OfferingRow {
    region: String,
    az_id: String,
    r#type: String,
}

#[derive(Deserialize)]
struct AdvisorRow {
    region: String,
    r#type: String,
    interruption_index: u8,
}

fn rows<T: serde::de::DeserializeOwned>(text: &str) -> Vec<T> {
    // The shipped files are part of the program; a test counts their rows.
    csv::Reader::from_reader(text.as_bytes()).into_deserialize().filter_map(Result::ok).collect()
}

/// Which types are offered in which zones.
pub fn snapshot_offerings() -> BTreeSet<(Region, ZoneId, InstanceType)> {
    rows::<OfferingRow>(OFFERINGS).into_iter().map(|r| (r.region.into(), r.az_id.into(), r.r#type.into())).collect()
}

/// The advisor's band of each type in each region. A type that is not listed is unknown.
pub fn snapshot_bands() -> &'static BTreeMap<(Region, InstanceType), AdvisorBand> {
    static BANDS: OnceLock<BTreeMap<(Region, InstanceType), AdvisorBand>> = OnceLock::new();
    BANDS.get_or_init(|| {
        let row = |r: AdvisorRow| Some(((r.region.into(), r.r#type.into()), AdvisorBand::from_index(r.interruption_index)?));
        rows::<AdvisorRow>(ADVISOR).into_iter().filter_map(row).collect()
    })
}

/// The market of the shipped facts.
///
/// On-demand prices apply to a region and are offered in each zone that sells the type there. Spot prices apply to their zone. What has no
/// price is absent. A spot pool without an advisor band counts as the worst band.
pub fn snapshot_market() -> Market {
    let offerings = snapshot_offerings();
    let bands = snapshot_bands();
    let mut market = Market::default();
    let mut on_demand: BTreeMap<(Region, InstanceType), MicroUsdPerHour> = BTreeMap::new();
    for row in rows::<PriceRow>(PRICES) {
        let (region, instance_type) = (Region::from(row.region), InstanceType::from(row.r#type));
        if let Ok(price) = row.on_demand_usd_h.parse() {
            on_demand.insert((region.clone(), instance_type.clone()), price);
        }
        if let Ok(price) = row.spot_usd_h.parse() {
            let band = bands.get(&(region.clone(), instance_type.clone())).copied().unwrap_or(AdvisorBand::Over20);
            let capacity = Capacity { region, zone: row.az_id.into(), instance_type, capacity_type: CapacityType::Spot };
            insert(&mut market, capacity, price, band.interruptions_per_million_hours());
        }
    }
    for (region, zone, instance_type) in offerings {
        if let Some(price) = on_demand.get(&(region.clone(), instance_type.clone())) {
            insert(&mut market, Capacity { region, zone, instance_type, capacity_type: CapacityType::OnDemand }, *price, 0);
        }
    }
    market
}

fn insert(market: &mut Market, capacity: Capacity, price_per_hour: MicroUsdPerHour, interruptions_per_million_hours: i64) {
    let offer = Offer {
        capacity: capacity.clone(),
        price_per_hour,
        observed_at: SNAPSHOT_DATE,
        source: PriceSource::Snapshot,
        interruptions_per_million_hours,
    };
    market.offers.insert(capacity, offer);
}

#[cfg(test)]
mod tests {
    use crate::core::market::shipped::*;

    #[test]
    fn no_row_of_the_shipped_files_is_lost() {
        let lines = |text: &str| text.lines().count() - 1;
        assert_eq!(rows::<PriceRow>(PRICES).len(), lines(PRICES));
        assert_eq!(rows::<OfferingRow>(OFFERINGS).len(), lines(OFFERINGS));
        assert_eq!(rows::<AdvisorRow>(ADVISOR).len(), lines(ADVISOR));
    }

    #[test]
    fn every_price_in_the_file_becomes_an_offer_and_nothing_else_does() {
        let market = snapshot_market();
        let spot = market.offers.values().filter(|o| o.capacity.capacity_type == CapacityType::Spot).count();
        let priced: BTreeSet<_> =
            rows::<PriceRow>(PRICES).into_iter().filter(|r| !r.spot_usd_h.is_empty()).map(|r| (r.az_id, r.r#type)).collect();
        assert_eq!(spot, priced.len());
        let best = &market.offers[&Capacity {
            region: "eu-south-2".into(),
            zone: "eus2-az3".into(),
            instance_type: "g6.xlarge".into(),
            capacity_type: CapacityType::Spot,
        }];
        assert_eq!(best.price_per_hour, MicroUsdPerHour(91_300));
        assert_eq!(SNAPSHOT_DATE, Timestamp::from_date(2026, 7, 20));
    }

    #[test]
    fn the_bands_give_rates_that_differ() {
        let rates: Vec<i64> = (0..5).filter_map(AdvisorBand::from_index).map(AdvisorBand::interruptions_per_million_hours).collect();
        assert_eq!(rates, [69, 151, 220, 302, 1_370]);
    }
}
