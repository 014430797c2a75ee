//! Amounts in other currencies, by a dated file of rates.
//!
//! Decides: which rate holds on a day (the last one before it), and that a currency without one, or with one of long before, is refused: a guess is no amount.

use std::collections::BTreeMap;
use std::path::Path;

use super::ImportFault;
use super::checks::{Check, Checks};
use super::reading::{ReadFile, each_line};
use super::table::Line;
use crate::core::units::money::BilledUsd;
use crate::core::units::time::{Millis, Timestamp};

/// Dollars for one unit of other currencies, by day.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rates {
    by_currency: BTreeMap<String, BTreeMap<Timestamp, BilledUsd>>,
    /// The file they are from.
    pub(super) file: Option<ReadFile>,
}

/// Dollars for one unit of a currency, in 10^-10.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rate(BilledUsd);

const ONE: i128 = 10_000_000_000;
/// How long before the day a rate may be: whoever has one for each month has none that is older.
const OLDEST: Millis = Millis::from_hours(35 * 24);
/// Dollars that no unit of a currency is worth: what is above is an amount in the wrong column.
const HIGHEST: BilledUsd = BilledUsd(1_000_000 * ONE);

impl Rate {
    /// An amount in dollars, rounded half away from zero at the tenth decimal.
    pub(super) fn times(self, amount: BilledUsd) -> BilledUsd {
        if self.0.0 == ONE {
            return amount;
        }
        // In two parts: the product of two amounts of a file is longer than a number can be.
        let (whole, rest) = (amount.0 / ONE, amount.0 % ONE * self.0.0);
        BilledUsd(whole * self.0.0 + (rest + rest.signum() * ONE / 2) / ONE)
    }
}

impl Rates {
    /// Reads a file with the columns `day,currency,usd_per_unit`.
    ///
    /// # Errors
    /// [`ImportFault`].
    pub fn read(path: &Path) -> Result<Rates, ImportFault> {
        let mut rates = Rates::default();
        let required = ["day", "currency", "usd_per_unit"];
        let file = each_line(
            path,
            &required,
            |_| true,
            |line| {
                let day = line.time("day").or_else(|_| super::usage::day_of(line, "day"))?;
                let rate = line.usd("usd_per_unit")?;
                if rate.0 <= 0 || rate > HIGHEST {
                    return Err(line.fault("usd_per_unit", &rate.to_string(), "more than 0 and at most 1000000"));
                }
                let currency = line.need("currency", "a currency, as in EUR")?.to_uppercase();
                match rates.by_currency.entry(currency.clone()).or_default().insert(day, rate) {
                    Some(other) if other != rate => Err(line.fault(
                        "usd_per_unit",
                        &rate.to_string(),
                        &format!("one rate of {currency} for a day, and {other} stands above"),
                    )),
                    _ => Ok(()),
                }
            },
        )?;
        rates.file = Some(file);
        Ok(rates)
    }

    /// As [`Rates::of`], of a report that always says its currency: one that does not is refused, since whoever pays in another would have dollars.
    pub(super) fn of_named(&self, line: &Line, column: &str, at: Timestamp, checks: &mut Checks) -> Result<Rate, ImportFault> {
        line.need(column, "a currency, as in USD")?;
        self.of(line, column, at, checks)
    }

    /// The rate of a line's currency on a day; dollars when the column is empty. One of long before is refused.
    pub(super) fn of(&self, line: &Line, column: &str, at: Timestamp, checks: &mut Checks) -> Result<Rate, ImportFault> {
        let currency = line.get(column).unwrap_or("USD").to_uppercase();
        if currency == "USD" {
            return Ok(Rate(BilledUsd(ONE)));
        }
        let held = self.by_currency.get(&currency).and_then(|days| days.range(..=at).next_back());
        let none = || {
            let day = at.to_date();
            line.fault(column, &currency, &format!("USD, or a currency with a rate for {day} or before: give a file of rates with --rates"))
        };
        let (day, rate) = held.ok_or_else(none)?;
        if at.since(*day) > OLDEST {
            let expected = format!(
                "a currency with a rate of at most {} days before {}; the last one is of {}",
                OLDEST.0 / Millis::from_hours(24).0,
                at.to_date(),
                day.to_date()
            );
            checks.refuse(Check::OldRate, || line.fault(column, &currency, &expected).to_string())?;
        }
        Ok(Rate(*rate))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_rate_before_the_day_holds() {
        let path = std::env::temp_dir().join(format!("lowtide-rates-{}.csv", std::process::id()));
        std::fs::write(&path, "day,currency,usd_per_unit\n2026-07-01,EUR,1.1\n2026-07-15,EUR,1.25\n").unwrap();
        let rates = Rates::read(&path).unwrap();
        std::fs::write(&path, "day,currency,usd_per_unit\n2026-07-01,EUR,1.1\n2026-07-01,eur,1.2\n").unwrap();
        let twice = Rates::read(&path).unwrap_err().to_string();
        assert!(twice.contains("expected one rate of EUR for a day, and 1.1000000000 stands above"), "{twice}");
        std::fs::remove_file(&path).unwrap();
        let (mut found, mut checks) = (Vec::new(), Checks::default());
        let text = "day,currency\n2026-07-14T00:00:00Z,EUR\n2026-07-15T00:00:00Z,eur\n2026-08-15T00:00:00Z,USD\n2026-06-30T00:00:00Z,EUR\n";
        let read = super::super::reading::each_csv_record(Path::new("x.csv"), &mut text.as_bytes(), (&[], &|_| true), &mut |line| {
            let rate = rates.of(line, "currency", line.time("day")?, &mut checks)?;
            found.push(rate.times(BilledUsd(-3 * ONE)).to_string());
            Ok(())
        });
        assert_eq!(found, ["-3.3000000000", "-3.7500000000", "-3.0000000000"]);
        assert!(read.unwrap_err().to_string().contains("a rate for 2026-06-30 or before"));
        // The last rate is of 15 July: 35 days later it holds, and after that somebody has to say that it does.
        let on = |day: &str, checks: &mut Checks| {
            let text = format!("day,currency\n{day}T00:00:00Z,EUR\n");
            super::super::reading::each_csv_record(Path::new("x.csv"), &mut text.as_bytes(), (&[], &|_| true), &mut |line| {
                rates.of(line, "currency", line.time("day")?, checks).map(|_| ())
            })
            .map_err(|fault| fault.to_string())
        };
        assert!(on("2026-08-19", &mut checks).is_ok());
        let old = on("2026-08-20", &mut checks).unwrap_err();
        assert!(
            old.contains("a rate of at most 35 days before 2026-08-20; the last one is of 2026-07-15") && old.contains("--accept old-rate"),
            "{old}"
        );
        assert!(on("2026-08-20", &mut Checks::accepting([Check::OldRate])).is_ok());
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(crate::mutation::CASES))]

        #[test]
        fn whatever_a_file_of_rates_holds_is_read_or_refused_with_a_sentence(
            text in crate::mutation::csv(&["day,currency,usd_per_unit\n2026-07-01,EUR,1.1\n2026-07-15,eur,1.25\n2026-08-01,JPY,0.0068\n"])
        ) {
            match crate::mutation::read_file(&text, Rates::read) {
                Ok(rates) => for rate in rates.by_currency.values().flat_map(BTreeMap::values) {
                    assert!(rate.0 > 0);
                    let largest: BilledUsd = "-999999999999999.9999999999".parse().unwrap();
                    assert!(Rate(*rate).times(largest).0 <= 0);
                },
                Err(fault) => assert!(fault.to_string().len() > 20, "{fault}"),
            }
        }
    }
}
