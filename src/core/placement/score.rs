//! The order of offers for one need.
//!
//! Decides: which of two offers that fit is better.

use crate::core::market::Capacity;
use crate::core::units::money::MicroUsdPerHour;

/// The score of an offer for one need: less is better, compared field by field in this order. The order of the fields is the rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Score {
    /// What one replica costs per hour in thousandths of a micro-dollar, if the machine is filled with this need: price, expected
    /// interruptions and egress.
    pub nano_usd_per_replica_hour: i128,
    /// At equal cost, the one that gives more of what its pods prefer: how much it does not give.
    pub unmet_preferences: i64,
    /// Of those, the one with fewer interruptions.
    pub interruptions_per_million_hours: i64,
    /// Of those, the one more likely to be granted: 10 less EC2's placement score; even odds if there is none.
    pub unavailability: u8,
    /// Of those, the cheaper machine, in case it stays partly empty.
    pub price_per_hour: MicroUsdPerHour,
    /// Of those, by region, zone id, type and capacity type, so that no tie is left.
    pub capacity: Capacity,
}

/// An offer without a placement score ranks as one of even odds.
const UNKNOWN_SCORE: u8 = 5;

/// 10 less a placement score: less is likelier to be given.
pub(super) fn unavailability(placement_score: Option<u8>) -> u8 {
    10 - placement_score.unwrap_or(UNKNOWN_SCORE).min(10)
}

impl Score {
    /// The cost per replica in micro-dollars, rounded up.
    pub fn cost_per_replica_hour(&self) -> MicroUsdPerHour {
        MicroUsdPerHour(i64::try_from((self.nano_usd_per_replica_hour + 999) / 1_000).unwrap_or(i64::MAX))
    }
}
