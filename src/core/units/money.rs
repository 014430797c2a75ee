//! Money without floats: rates in micro-dollars per hour, amounts exact until the one division.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::iter::Sum;
use std::ops::{Add, Mul, Neg, Sub};
use std::str::FromStr;

use crate::core::units::time::Millis;

const MICROS: i64 = 1_000_000;

/// What was wrong with a decimal amount.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not an amount of dollars: expected digits with at most six decimals, e.g. 0.3020")]
pub struct BadMoney {
    /// The given text.
    pub text: String,
}

/// An amount of money in millionths of a US dollar; may be negative.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct MicroUsd(pub i64);

/// A price in millionths of a US dollar per hour. Serialised as a decimal string of dollars per hour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct MicroUsdPerHour(pub i64);

/// An exact amount: micro-dollars per hour times milliseconds. Divide once, at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct MicroUsdMillis(pub i128);

impl From<MicroUsd> for i64 {
    /// Millionths of a dollar.
    fn from(amount: MicroUsd) -> i64 {
        amount.0
    }
}

impl MicroUsdPerHour {
    /// The exact cost of holding something at this rate for `span`.
    pub fn over(self, span: Millis) -> MicroUsdMillis {
        MicroUsdMillis(i128::from(self.0) * i128::from(span.0))
    }
    /// This rate as thousandths of `other`, for saying "340 ‰ of on-demand". `None` when `other` is zero.
    pub fn per_mille_of(self, other: MicroUsdPerHour) -> Option<i64> {
        (other.0 != 0).then(|| self.0 * 1_000 / other.0)
    }
}

impl MicroUsdMillis {
    /// Micro-dollars, rounded half to even. The only division an amount sees.
    pub fn to_micro_usd(self) -> MicroUsd {
        const HOUR: i128 = 3_600_000;
        let (q, r) = (self.0.div_euclid(HOUR), self.0.rem_euclid(HOUR));
        let up = r * 2 > HOUR || (r * 2 == HOUR && q % 2 != 0);
        MicroUsd(at_most(q + i128::from(up)))
    }
}

/// The nearest number that there is: a debt beyond all reason stays one.
fn at_most(figure: i128) -> i64 {
    i64::try_from(figure).unwrap_or(if figure < 0 { i64::MIN } else { i64::MAX })
}

fn write_decimal(f: &mut fmt::Formatter<'_>, micros: i64, least_decimals: usize) -> fmt::Result {
    let sign = if micros < 0 { "-" } else { "" };
    let (whole, part) = (micros.unsigned_abs() / MICROS as u64, micros.unsigned_abs() % MICROS as u64);
    let mut decimals = format!("{part:06}");
    while decimals.len() > least_decimals && decimals.ends_with('0') {
        decimals.pop();
    }
    write!(f, "{sign}{whole}.{decimals}")
}

fn parse_decimal(text: &str) -> Result<i64, BadMoney> {
    let bad = || BadMoney { text: text.chars().take(40).collect() };
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
    let all_digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || !all_digits(whole) || !all_digits(part) || (digits.contains('.') && part.is_empty()) {
        return Err(bad());
    }
    // AWS prints ten decimals; anything below a micro-dollar per hour must be zero, or it would be lost silently.
    if part.len() > 6 && part[6..].bytes().any(|b| b != b'0') {
        return Err(bad());
    }
    let part = &part[..part.len().min(6)];
    let whole: i64 = whole.parse().map_err(|_| bad())?;
    let micros: i64 = format!("{part:0<6}").parse().map_err(|_| bad())?;
    let value = whole.checked_mul(MICROS).and_then(|w| w.checked_add(micros)).ok_or_else(bad)?;
    Ok(if negative { -value } else { value })
}

macro_rules! decimal {
    ($name:ident, $least:expr) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_decimal(f, self.0, $least)
            }
        }
        impl FromStr for $name {
            type Err = BadMoney;
            fn from_str(text: &str) -> Result<Self, BadMoney> {
                parse_decimal(text).map($name)
            }
        }
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
            }
        }
        impl Add for $name {
            type Output = $name;
            fn add(self, o: $name) -> $name {
                $name(self.0 + o.0)
            }
        }
        impl Sub for $name {
            type Output = $name;
            fn sub(self, o: $name) -> $name {
                $name(self.0 - o.0)
            }
        }
        impl Neg for $name {
            type Output = $name;
            fn neg(self) -> $name {
                $name(-self.0)
            }
        }
        impl Mul<i64> for $name {
            type Output = $name;
            fn mul(self, n: i64) -> $name {
                $name(self.0 * n)
            }
        }
        impl Sum for $name {
            fn sum<I: Iterator<Item = $name>>(it: I) -> $name {
                $name(it.map(|v| v.0).sum())
            }
        }
    };
}
decimal!(MicroUsd, 2);
decimal!(MicroUsdPerHour, 4);

/// An amount in the precision of AWS's bills: units of 10^-10 US dollars. Rounded once, when a share of it is posted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct BilledUsd(pub i128);

impl BilledUsd {
    const UNITS: i128 = 10_000_000_000;
    const PER_MICRO: i128 = 10_000;
    /// What no text is read as: 10^15 dollars.
    const TOO_MUCH: i128 = 1_000_000_000_000_000 * Self::UNITS;

    /// Micro-dollars, rounded half to even.
    pub fn to_micro_usd(self) -> MicroUsd {
        let (q, r) = (self.0.div_euclid(Self::PER_MICRO), self.0.rem_euclid(Self::PER_MICRO));
        let up = r * 2 > Self::PER_MICRO || (r * 2 == Self::PER_MICRO && q % 2 != 0);
        MicroUsd(at_most(q + i128::from(up)))
    }

    /// This many hundredths, thousandths or other parts of `whole` of it, rounded towards zero. No product is longer than it has to be: amounts of a file may be
    /// as large as its writer likes.
    pub fn part(self, of: i128, whole: i128) -> BilledUsd {
        BilledUsd(self.0 / whole * of + self.0 % whole * of / whole)
    }
}

impl From<MicroUsd> for BilledUsd {
    fn from(amount: MicroUsd) -> Self {
        BilledUsd(i128::from(amount.0) * Self::PER_MICRO)
    }
}

impl fmt::Display for BilledUsd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let (whole, part) = (self.0.unsigned_abs() / Self::UNITS.unsigned_abs(), self.0.unsigned_abs() % Self::UNITS.unsigned_abs());
        write!(f, "{sign}{whole}.{part:010}")
    }
}

impl FromStr for BilledUsd {
    type Err = BadMoney;

    /// Reads `0.0913000000`, `-1.5` and, as in some exports, `9.13E-2`. Digits beyond the tenth decimal are rounded half to even. What has more than fifteen digits
    /// before the point, however it is written, is no amount: billions of them can be added up, and multiplied by a rate of exchange.
    fn from_str(text: &str) -> Result<Self, BadMoney> {
        let bad = || BadMoney { text: text.chars().take(40).collect() };
        let (mantissa, exponent) = match text.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().map_err(|_| bad())?),
            None => (text, 0),
        };
        let (negative, digits) = match mantissa.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, mantissa),
        };
        let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
        // `.5` is written by some databases; digits beyond the twentieth, which doubles have, can only break a tie.
        let readable = !(whole.is_empty() && part.is_empty()) && whole.len() <= 15 && (-40..=12).contains(&exponent);
        if !readable || !(whole.bytes().chain(part.bytes())).all(|b| b.is_ascii_digit()) {
            return Err(bad());
        }
        let (part, beyond) = part.split_at(part.len().min(20));
        let rest = beyond.bytes().any(|digit| digit != b'0');
        let figure: i128 = format!("{whole}{part}").parse().map_err(|_| bad())?;
        let shift = 10 + exponent - i32::try_from(part.len()).unwrap_or(i32::MAX);
        let units = match 10_i128.checked_pow(shift.unsigned_abs()) {
            Some(power) if shift >= 0 => figure.checked_mul(power).ok_or_else(bad)?,
            Some(power) => {
                let (q, r) = (figure / power, figure % power);
                q + i128::from(r > power - r || (r == power - r && (rest || q % 2 != 0)))
            }
            None if shift < 0 => 0,
            None => return Err(bad()),
        };
        if units >= Self::TOO_MUCH {
            return Err(bad());
        }
        Ok(BilledUsd(if negative { -units } else { units }))
    }
}

impl Add for BilledUsd {
    type Output = BilledUsd;
    fn add(self, o: BilledUsd) -> BilledUsd {
        BilledUsd(self.0 + o.0)
    }
}
impl Sum for BilledUsd {
    fn sum<I: Iterator<Item = BilledUsd>>(it: I) -> BilledUsd {
        BilledUsd(it.map(|v| v.0).sum())
    }
}

impl Add for MicroUsdMillis {
    type Output = MicroUsdMillis;
    fn add(self, o: MicroUsdMillis) -> MicroUsdMillis {
        MicroUsdMillis(self.0 + o.0)
    }
}
impl Sum for MicroUsdMillis {
    fn sum<I: Iterator<Item = MicroUsdMillis>>(it: I) -> MicroUsdMillis {
        MicroUsdMillis(it.map(|v| v.0).sum())
    }
}

#[cfg(test)]
mod tests {
    use crate::core::units::money::*;

    #[test]
    fn prices_read_and_print_without_loss() {
        for (text, micros, shown) in [
            ("0.302", 302_000, "0.3020"),
            ("55.04", 55_040_000, "55.0400"),
            ("0.0913000000", 91_300, "0.0913"),
            ("-1.5", -1_500_000, "-1.5000"),
        ] {
            let price: MicroUsdPerHour = text.parse().unwrap();
            assert_eq!((price.0, price.to_string().as_str()), (micros, shown));
        }
        for bad in ["", ".", "1.", "abc", "1e3", "0.0000001", "99999999999999999", "+1", "1.2.3"] {
            assert!(bad.parse::<MicroUsdPerHour>().is_err(), "{bad:?} passed");
        }
    }

    #[test]
    fn bills_are_read_to_ten_decimals_however_they_are_written() {
        for (text, units, micros) in [
            ("0.0913000000", 913_000_000, 91_300),
            ("9.13E-2", 913_000_000, 91_300),
            ("-0.0000005", -5_000, 0),
            ("0.0000015", 15_000, 2),
            ("0.00000000005", 0, 0),
            ("0.00000000015", 2, 0),
            ("12", 120_000_000_000, 12_000_000),
            ("1e3", 10_000_000_000_000, 1_000_000_000),
            (".5", 5_000_000_000, 500_000),
            // As a Parquet file of doubles gives 1.2345678901234567e-8, a tie that is none, and next to nothing.
            ("0.000000012345678901234567", 123, 0),
            ("0.00000000005000000000000000000001", 1, 0),
            ("3.7E-30", 0, 0),
        ] {
            let amount: BilledUsd = text.parse().unwrap();
            assert_eq!((amount.0, amount.to_micro_usd().0), (units, micros), "{text}");
        }
        assert_eq!(BilledUsd(-15_000_000_001).to_string(), "-1.5000000001");
        for bad in [
            "",
            ".",
            "-",
            "abc",
            "1e99",
            "1.2.3",
            "--1",
            "1 USD",
            "NaN",
            "1e",
            "1,234.50",
            "12,50",
            "(12.50)",
            "+1",
            "1e15",
            "-999999999999999E12",
        ] {
            assert!(bad.parse::<BilledUsd>().is_err(), "{bad:?} passed");
        }
    }

    #[test]
    fn amounts_beyond_reason_stay_what_they_are() {
        let huge = |dollars: i128| BilledUsd(dollars * 10_000_000_000);
        assert_eq!((huge(10_i128.pow(15)).to_micro_usd().0, huge(-(10_i128.pow(15))).to_micro_usd().0), (i64::MAX, i64::MIN));
        assert_eq!(MicroUsdMillis(i128::MIN / 2).to_micro_usd().0, i64::MIN);
        for (amount, of, whole, part) in [(80, 375, 1_000, 30), (-80, 375, 1_000, -30), (-7, 1, 2, -3), (7, 0, 2, 0)] {
            assert_eq!(BilledUsd(amount).part(of, whole), BilledUsd(part), "{of}/{whole} of {amount}");
        }
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(crate::mutation::CASES))]

        /// Whatever stands in a column of amounts can be added up a million times, and taken at a rate.
        #[test]
        fn whatever_is_read_as_an_amount_is_one_that_can_be_counted_with(
            text in proptest::prop_oneof!["-?[0-9]{0,17}[.]?[0-9]{0,40}([eE]-?[0-9]{1,3})?", crate::mutation::text(&["0.0913000000", "-9.13E-2", "1e12"])]
        ) {
            if let Ok(amount) = text.parse::<BilledUsd>() {
                let _ = (amount.0.abs() * 1_000_000, amount.part(7 * BilledUsd::TOO_MUCH / 1_000_000_000, BilledUsd::UNITS));
                assert_eq!(amount.to_string().parse(), Ok(amount), "{text}");
                let micro = i128::from(amount.to_micro_usd().0);
                assert!(micro == 0 || micro.signum() == amount.0.signum(), "{text} is {micro}");
            }
            if let Ok(price) = text.parse::<MicroUsdPerHour>() {
                assert_eq!(price.to_string().parse(), Ok(price), "{text}");
            }
        }
    }

    #[test]
    fn amounts_are_divided_once_and_rounded_half_to_even() {
        let rate = MicroUsdPerHour(1);
        assert_eq!(rate.over(Millis(1_800_000)).to_micro_usd(), MicroUsd(0));
        assert_eq!(MicroUsdPerHour(3).over(Millis(1_800_000)).to_micro_usd(), MicroUsd(2));
        assert_eq!(MicroUsdPerHour(302_000).over(Millis::from_hours(24)).to_micro_usd(), MicroUsd(7_248_000));
    }
}
