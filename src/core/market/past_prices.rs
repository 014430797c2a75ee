//! The price changes of one capacity over the last days: an instance-hour costs the price at its start.
//!
//! Decides: for which moments the price is known for certain.

use std::collections::BTreeMap;

use crate::core::units::money::MicroUsdPerHour;
use crate::core::units::time::{Millis, Timestamp};

/// The price changes of one pool over the last days, and how far they are known.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PastPrices {
    /// Each price with the time from which it applied.
    changes: BTreeMap<Timestamp, MicroUsdPerHour>,
    /// No change before this moment is missing.
    known_until: Timestamp,
}

impl PastPrices {
    /// How long changes are kept.
    pub const KEPT: Millis = Millis::from_hours(76);

    /// These changes answer a request made at `asked_at`: until then nothing is missing.
    pub fn learn(&mut self, changes: impl IntoIterator<Item = (Timestamp, MicroUsdPerHour)>, asked_at: Timestamp) {
        self.changes.extend(changes);
        self.known_until = self.known_until.max(asked_at);
        // The last change before the horizon still applies after it.
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
}
