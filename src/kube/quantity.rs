//! Kubernetes quantities, as in `3920m`, `15Gi` or `1e3`, as whole thousandths of a unit.

/// Thousandths of the unit, rounded down; `None` when `text` is no quantity.
pub fn milli_units(text: &str) -> Option<i128> {
    let split = text.find(|c: char| !matches!(c, '0'..='9' | '.' | '+' | '-')).unwrap_or(text.len());
    let (number, suffix) = text.split_at(split);
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    if part.contains(['+', '-']) || part.len() > 12 || whole.len() > 18 || (whole.is_empty() && part.is_empty()) {
        return None;
    }
    let digits: i128 = format!("{whole}{part}").parse().ok()?;
    let scale = 10_i128.pow(u32::try_from(part.len()).ok()?);
    let (factor, divisor) = factor(suffix)?;
    Some(digits.checked_mul(factor)?.checked_mul(1_000)?.div_euclid(scale * divisor))
}

/// What a suffix multiplies by, and what it divides by.
fn factor(suffix: &str) -> Option<(i128, i128)> {
    Some(match suffix {
        "" => (1, 1),
        "n" => (1, 1_000_000_000),
        "u" => (1, 1_000_000),
        "m" => (1, 1_000),
        "k" => (1_000, 1),
        "M" => (1_000_000, 1),
        "G" => (1_000_000_000, 1),
        "T" => (1_000_000_000_000, 1),
        "P" => (1_000_000_000_000_000, 1),
        "Ki" => (1 << 10, 1),
        "Mi" => (1 << 20, 1),
        "Gi" => (1 << 30, 1),
        "Ti" => (1 << 40, 1),
        "Pi" => (1 << 50, 1),
        _ => {
            let exponent: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
            let power = 10_i128.checked_pow(exponent.unsigned_abs()).filter(|_| exponent.abs() <= 15)?;
            if exponent < 0 { (1, power) } else { (power, 1) }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_as_the_api_server_writes_them() {
        for (text, milli) in [
            ("4", 4_000),
            ("3920m", 3_920),
            ("0.5", 500),
            ("1Gi", 1_073_741_824_000),
            ("1.5Ki", 1_536_000),
            ("2e3", 2_000_000),
            ("16063004Ki", 16_448_516_096_000),
            ("100n", 0),
        ] {
            assert_eq!(milli_units(text), Some(milli), "{text}");
        }
        for bad in ["", "Gi", "1Xi", "1.2.3", "1e99", "one"] {
            assert_eq!(milli_units(bad), None, "{bad}");
        }
    }
}
