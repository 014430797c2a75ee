//! Decimals of any length, exact: FOCUS asks that products match.
//!
//! Decides: how a number is written (NumericFormat: digits, one point, a minus, E notation; nothing else).

/// `mantissa * 10^-scale`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Decimal {
    mantissa: i128,
    scale: i32,
}

impl Decimal {
    /// `None` when it is not written as FOCUS asks, or has more digits than can be held.
    pub(super) fn read(text: &str) -> Option<Decimal> {
        let (figure, exponent) = match text.split_once('E') {
            Some((figure, exponent)) if !exponent.starts_with('+') => (figure, exponent.parse::<i32>().ok()?),
            Some(_) => return None,
            None => (text, 0),
        };
        let (negative, digits) = figure.strip_prefix('-').map_or((false, figure), |rest| (true, rest));
        let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
        let pointless = digits.ends_with('.') || whole.is_empty();
        if pointless || !whole.bytes().chain(part.bytes()).all(|byte| byte.is_ascii_digit()) || exponent.abs() > 30 {
            return None;
        }
        let mantissa: i128 = format!("{whole}{part}").parse().ok()?;
        let scale = i32::try_from(part.len()).ok()? - exponent;
        Some(Decimal { mantissa: if negative { -mantissa } else { mantissa }, scale })
    }

    pub(super) fn is_negative(self) -> bool {
        self.mantissa < 0
    }

    pub(super) fn is_zero(self) -> bool {
        self.mantissa == 0
    }

    /// `None` beyond 38 digits.
    pub(super) fn times(self, other: Decimal) -> Option<Decimal> {
        let (a, b) = (self.shortest(), other.shortest());
        Some(Decimal { mantissa: a.mantissa.checked_mul(b.mantissa)?, scale: a.scale + b.scale })
    }

    pub(super) fn minus(self, other: Decimal) -> Option<Decimal> {
        let (a, b) = self.aligned(other)?;
        Some(Decimal { mantissa: a.checked_sub(b)?, scale: self.scale.max(other.scale) })
    }

    pub(super) fn same_as(self, other: Decimal) -> bool {
        let (a, b) = (self.shortest(), other.shortest());
        a.mantissa == b.mantissa && (a.scale == b.scale || a.mantissa == 0)
    }

    fn shortest(self) -> Decimal {
        let mut short = self;
        while short.mantissa != 0 && short.mantissa % 10 == 0 {
            (short.mantissa, short.scale) = (short.mantissa / 10, short.scale - 1);
        }
        short
    }

    fn aligned(self, other: Decimal) -> Option<(i128, i128)> {
        let scale = self.scale.max(other.scale);
        let at = |d: Decimal| d.mantissa.checked_mul(10_i128.checked_pow(u32::try_from(scale - d.scale).ok()?)?);
        Some((at(self)?, at(other)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_focus_writes_them() {
        for good in ["0", "-1.5", "0.0913000000", "3.5E7", "12E-3", "123456789012345678901234567890"] {
            assert!(Decimal::read(good).is_some(), "{good}");
        }
        for bad in ["", "+1", "1,000", "$1", "1.", ".5", "1e3", "1E+3", "1/2", "NaN", "1 ", "--1", "0x1"] {
            assert!(Decimal::read(bad).is_none(), "{bad}");
        }
        let read = |text: &str| Decimal::read(text).unwrap();
        assert!(read("0.8048").times(read("0.4958333333")).unwrap().same_as(read("0.39904666663984")));
        assert!(read("1.50").same_as(read("15E-1")) && read("0").same_as(read("-0.00")) && !read("1").same_as(read("1.0000000001")));
        assert!(read("0.8").minus(read("1.0228")).unwrap().same_as(read("-0.2228")));
    }
}
