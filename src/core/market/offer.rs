//! Offers, and the market they form.
//!
//! Decides: what is recorded about a price: its source and its age. Does not: choose (see `placement`), or fetch prices (see `aws`).

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use super::capacity::{Capacity, CapacityType};
use super::past_prices::PastPrices;
use crate::core::units::money::MicroUsdPerHour;
use crate::core::units::shared::Shared;
use crate::core::units::time::Timestamp;

/// Where a price came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PriceSource {
    /// DescribeSpotPriceHistory.
    SpotPriceHistory,
    /// The Pricing API.
    PriceList,
    /// The dated snapshot that ships with lowtide.
    Snapshot,
    /// A file the user gave.
    File,
    /// A capacity reservation: already paid for, at the price in its node class.
    Reservation,
}

impl PriceSource {
    /// Where the operator gets prices of this capacity type.
    pub fn usual_of(capacity_type: CapacityType) -> PriceSource {
        match capacity_type {
            CapacityType::Spot => PriceSource::SpotPriceHistory,
            CapacityType::OnDemand => PriceSource::PriceList,
            CapacityType::Reserved => PriceSource::Reservation,
        }
    }
}

/// A price's source, and when it was last confirmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PriceOrigin {
    /// The source.
    pub source: PriceSource,
    /// When it was last confirmed.
    pub observed_at: Timestamp,
}

impl Offer {
    /// Where its price comes from.
    pub fn origin(&self) -> PriceOrigin {
        PriceOrigin { source: self.source, observed_at: self.observed_at }
    }
}

/// Capacity with a price.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// What is offered.
    #[serde(rename = "pool")]
    pub capacity: Capacity,
    /// Its price, for the whole machine.
    pub price_per_hour: MicroUsdPerHour,
    /// When that price was last confirmed.
    pub observed_at: Timestamp,
    /// The source.
    pub source: PriceSource,
    /// Expected interruptions per million instance-hours as EC2's advisor rates them; zero for on-demand and reserved. What we saw ourselves is
    /// looked up where offers are listed (`core::placement`). Precise enough to distinguish the advisor's bands
    /// (69 to 1,370), see [`crate::core::market::shipped::AdvisorBand`].
    pub interruptions_per_million_hours: i64,
}

/// Everything that can be bought: one offer for each capacity. What was learned of it is elsewhere: `core::snapshot::memory`, [`super::scores`].
///
/// Capacity without a price is absent: unknown, never a guess.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Market {
    /// The offers.
    pub offers: BTreeMap<Capacity, Offer>,
    /// The latest price changes of each spot pool: an instance-hour costs the price at its start.
    pub past_prices: Shared<BTreeMap<Capacity, PastPrices>>,
}

/// No machine costs more: seventy times the most expensive one of July 2026. A price above it is a mistake, and sums over a million pods
/// stay exact.
pub const HIGHEST_PRICE: MicroUsdPerHour = MicroUsdPerHour(10_000_000_000);
