//! Prices on their way into the ledger: only changes, and never more than a bounded number of them.
//!
//! Decides: which observed quotes are news, and what is dropped during a long ledger outage: intermediate prices, never the latest.
//! Does not: write them (see the engine and the `ledger`).

use std::collections::BTreeMap;

use crate::core::market::{CapacityType, PriceSource, Quote};
use crate::core::units::ids::{InstanceType, Region, ZoneId};

/// At most this many changes wait: some days of a busy market, and a few megabytes. If there are more, only the last price of each pool is
/// kept.
pub const MOST_WAITING: usize = 50_000;

/// What a price is for.
type Subject = (Region, Option<ZoneId>, InstanceType, CapacityType);

/// The last price seen of each pool, and the changes that are not written yet.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PriceChanges {
    last: BTreeMap<Subject, Quote>,
    waiting: Vec<Quote>,
}

fn subject(quote: &Quote) -> Subject {
    (quote.region.clone(), quote.zone.clone(), quote.instance_type.clone(), quote.capacity_type)
}

impl PriceChanges {
    /// Takes in quotes as they were seen: those whose price differs from the last one of their pool wait to be written.
    ///
    /// Each read of the spot price history overlaps the previous one, so what it says about earlier times has already been seen.
    pub fn see(&mut self, quotes: &[Quote]) {
        for quote in quotes {
            let before = self.last.get(&subject(quote));
            if before.is_some_and(|old| quote.source == PriceSource::SpotPriceHistory && quote.effective_from < old.effective_from) {
                continue;
            }
            if before.is_none_or(|old| old.price_per_hour != quote.price_per_hour) {
                self.waiting.push(quote.clone());
            }
            self.last.insert(subject(quote), quote.clone());
        }
        if self.waiting.len() > MOST_WAITING.max(self.last.len()) {
            self.waiting = self.last.values().cloned().collect();
        }
    }

    /// The oldest waiting changes, at most `most`.
    pub fn batch(&self, most: usize) -> Vec<Quote> {
        self.waiting.iter().take(most).cloned().collect()
    }

    /// `batch` is in the ledger.
    pub fn written(&mut self, batch: &[Quote]) {
        let mut done = batch.iter().peekable();
        self.waiting.retain(|quote| {
            let same = done.peek() == Some(&quote);
            if same {
                done.next();
            }
            !same
        });
    }

    /// Number of waiting changes.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }
}

#[cfg(test)]
mod tests {
    use crate::core::market::price_changes::*;
    use crate::core::units::money::MicroUsdPerHour;
    use crate::core::units::time::Timestamp;

    fn quote(zone: usize, at: i64, micros: i64) -> Quote {
        Quote {
            region: "us-east-1".into(),
            zone: Some(format!("use1-az{zone}").into()),
            instance_type: "g6.xlarge".into(),
            capacity_type: CapacityType::Spot,
            price_per_hour: MicroUsdPerHour(micros),
            effective_from: Timestamp(at),
            source: PriceSource::SpotPriceHistory,
        }
    }

    #[test]
    fn only_changes_wait_and_what_was_written_waits_no_more() {
        let mut changes = PriceChanges::default();
        changes.see(&[quote(1, 0, 100), quote(2, 0, 200)]);
        changes.see(&[quote(1, 0, 100), quote(2, 5, 210)]);
        assert_eq!(changes.batch(9), [quote(1, 0, 100), quote(2, 0, 200), quote(2, 5, 210)]);
        let batch = changes.batch(2);
        changes.see(&[quote(1, 7, 90)]);
        changes.written(&batch);
        assert_eq!(changes.batch(9), [quote(2, 5, 210), quote(1, 7, 90)]);
    }

    #[test]
    fn a_long_absence_costs_the_way_and_not_the_last_price() {
        let mut changes = PriceChanges::default();
        let batch = (0..MOST_WAITING as i64 + 1).map(|n| quote(usize::try_from(n % 3).unwrap(), n, n)).collect::<Vec<_>>();
        let flying = {
            changes.see(&batch[..10]);
            changes.batch(10)
        };
        changes.see(&batch[10..]);
        assert_eq!(changes.waiting(), 3);
        changes.written(&flying);
        let last: Vec<i64> = changes.batch(9).iter().map(|q| q.price_per_hour.0).collect();
        assert!(last.iter().all(|price| *price >= MOST_WAITING as i64 - 2), "{last:?}");
    }

    #[test]
    fn a_look_that_overlaps_the_one_before_tells_no_change_twice() {
        let mut changes = PriceChanges::default();
        changes.see(&[quote(1, 10, 100), quote(1, 20, 200)]);
        changes.see(&[quote(1, 10, 100), quote(1, 20, 200), quote(1, 30, 100)]);
        let prices: Vec<i64> = changes.batch(9).iter().map(|q| q.price_per_hour.0).collect();
        assert_eq!(prices, [100, 200, 100]);
    }
}
