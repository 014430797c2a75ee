//! The market: offers, their prices and how old those are, and which pools are cooling down.
//!
//! Decides: whether a price may be bought on, and how long a pool that refused us is left alone.
//! Does not: choose (see `placement`), or ask anyone for a price (see the `aws` adapter).

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

use super::ids::{InstanceType, Region, ZoneId};
use super::money::MicroUsdPerHour;
use super::shared::Shared;
use super::time::{Millis, Timestamp};

/// How capacity is bought.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CapacityType {
    /// Prepaid capacity (ODCR or Capacity Block).
    Reserved,
    /// Interruptible with two minutes' notice.
    Spot,
    /// List price.
    OnDemand,
}

impl fmt::Display for CapacityType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            CapacityType::Reserved => "reserved",
            CapacityType::Spot => "spot",
            CapacityType::OnDemand => "on-demand",
        })
    }
}

/// One pool of capacity: what EC2 can run out of, and what has one price.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CapacityPool {
    /// The region.
    pub region: Region,
    /// The zone id.
    pub zone: ZoneId,
    /// The instance type.
    pub instance_type: InstanceType,
    /// How it is bought.
    pub capacity_type: CapacityType,
}

impl fmt::Display for CapacityPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} in {}", self.instance_type, self.capacity_type, self.zone)
    }
}

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
    /// A capacity reservation: paid for already, at the price its node class states.
    Reservation,
}

/// A pool with a price.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// What is offered.
    pub pool: CapacityPool,
    /// Its price, for the whole machine.
    pub price_per_hour: MicroUsdPerHour,
    /// When that price was last confirmed.
    pub observed_at: Timestamp,
    /// Who said so.
    pub source: PriceSource,
    /// Expected interruptions per million instance-hours; zero for on-demand and reserved. Fine enough to tell the advisor's bands apart
    /// (69 to 1,370), see [`super::market_snapshot::AdvisorBand`].
    pub interruptions_per_million_hours: i64,
    /// EC2's spot placement score, 1 (unlikely to be given) to 10, where one is known. Says nothing of the price.
    pub placement_score: Option<u8>,
}

/// Everything that can be bought, one offer per pool, and what is known of each pool.
///
/// A pool without a price is absent: unknown, never a guess.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Market {
    /// The offers.
    pub offers: BTreeMap<CapacityPool, Offer>,
    /// Pools that refused us, and until when they are left alone.
    pub cool_downs: BTreeMap<CapacityPool, CoolDown>,
    /// The latest price changes of each spot pool: an instance-hour costs what held at its start.
    pub past_prices: Shared<BTreeMap<CapacityPool, PastPrices>>,
}

/// The price changes of one pool over the last days, and how far they are known.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PastPrices {
    /// Each price with the moment it began.
    changes: BTreeMap<Timestamp, MicroUsdPerHour>,
    /// No change before this moment is missing.
    known_until: Timestamp,
}

impl PastPrices {
    /// For so long changes are kept.
    pub const KEPT: Millis = Millis::from_hours(76);

    /// These changes were told by somebody who was asked at `asked_at`: until then nothing is missing.
    pub fn learn(&mut self, changes: impl IntoIterator<Item = (Timestamp, MicroUsdPerHour)>, asked_at: Timestamp) {
        self.changes.extend(changes);
        self.known_until = self.known_until.max(asked_at);
        // The last change before the horizon holds beyond it.
        if let Some((last, _)) = self.changes.range(..asked_at - Self::KEPT).next_back() {
            let kept = self.changes.split_off(&{ *last });
            self.changes = kept;
        }
    }

    /// The price at `at`; `None` when it is not known for certain.
    pub fn at(&self, at: Timestamp) -> Option<MicroUsdPerHour> {
        self.changes.range(..=at).next_back().filter(|_| at < self.known_until).map(|(_, price)| *price)
    }
}

/// No machine costs more: seventy times the dearest of July 2026. What says so is a mistake, and sums over a million pods stay exact.
pub const HIGHEST_PRICE: MicroUsdPerHour = MicroUsdPerHour(10_000_000_000);

/// A pool that answered "no capacity" is left alone, longer each time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CoolDown {
    /// How many refusals in a row.
    pub refusals: u32,
    /// When it refused last.
    pub since: Timestamp,
    /// When it may be asked again.
    pub until: Timestamp,
    /// Why it was refused.
    pub cause: CoolDownCause,
}

/// Why a pool is left alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CoolDownCause {
    /// EC2 said there is no capacity.
    NoCapacity,
    /// EC2 interrupted an instance there.
    Interrupted,
    /// A machine from there never joined the cluster.
    NeverJoined,
    /// A machine from there joined without its GPUs.
    NoGpus,
    /// The account's quota is used up.
    Quota,
    /// EC2 refused for a reason of configuration (unsupported type, unknown subnet, permission).
    Refused,
}

impl CoolDown {
    /// The next cool-down after one more refusal at `now`: `base`, doubled each time, at most `cap`. Refusals that ended longer ago than
    /// `cap` are forgotten: the market has moved on.
    pub fn after(previous: Option<CoolDown>, cause: CoolDownCause, now: Timestamp, base: Millis, cap: Millis) -> CoolDown {
        let in_a_row = previous.filter(|p| now.since(p.until) <= cap);
        let refusals = in_a_row.map_or(0, |p| p.refusals).saturating_add(1);
        let span = base.0.saturating_mul(1_i64 << (refusals - 1).min(20)).min(cap.0);
        CoolDown { refusals, since: now, until: now + Millis(span), cause }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_past_price_is_known_only_where_nothing_can_be_missing() {
        let (at, price) = (|minutes| Timestamp(0) + Millis::from_mins(minutes), MicroUsdPerHour);
        let mut past = PastPrices::default();
        past.learn([(at(10), price(1)), (at(60), price(2))], at(90));
        assert_eq!(
            [at(5), at(10), at(59), at(60), at(89), at(90)].map(|t| past.at(t).map(|p| p.0)),
            [None, Some(1), Some(1), Some(2), Some(2), None]
        );
        let later = at(60) + PastPrices::KEPT + Millis::from_hours(1);
        past.learn([], later);
        assert_eq!((past.at(at(30)), past.at(at(60))), (None, Some(price(2))), "what is old is forgotten, but for what still holds");
    }

    #[test]
    fn cool_downs_double_up_to_the_cap() {
        let (base, cap) = (Millis::from_mins(3), Millis::from_mins(10));
        let first = CoolDown::after(None, CoolDownCause::NoCapacity, Timestamp(0), base, cap);
        let second = CoolDown::after(Some(first), CoolDownCause::NoCapacity, Timestamp(0), base, cap);
        let third = CoolDown::after(Some(second), CoolDownCause::NoCapacity, Timestamp(0), base, cap);
        assert_eq!([first.until.0, second.until.0, third.until.0], [180_000, 360_000, 600_000]);
        let next_day = CoolDown::after(Some(third), CoolDownCause::NoCapacity, Timestamp(86_400_000), base, cap);
        assert_eq!((next_day.refusals, next_day.until.0), (1, 86_580_000), "yesterday's refusals do not count");
    }
}
