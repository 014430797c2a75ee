//! How times, spans and amounts are written on pages.

use crate::core::units::time::{Millis, Timestamp};
use crate::ledger::report::Report;

/// A span in one unit, as people say it.
pub(crate) fn span(of: Millis) -> String {
    let seconds = of.0.max(0) / 1_000;
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// How long ago.
pub(crate) fn ago(at: Timestamp, now: Timestamp) -> String {
    format!("{} ago", span(now.since(at)))
}

/// The cell of a column.
pub(crate) fn cell<'a>(report: &'a Report, row: &'a [Option<String>], column: &str) -> Option<&'a str> {
    let at = report.columns.iter().position(|name| name == column)?;
    row.get(at)?.as_deref()
}

/// The cell of a column as a number.
pub(crate) fn number(report: &Report, row: &[Option<String>], column: &str) -> Option<f64> {
    cell(report, row, column)?.parse().ok().filter(|value: &f64| value.is_finite())
}

/// Dollars for headlines.
pub(crate) fn dollars(amount: f64) -> String {
    let sign = if amount < 0.0 { "-" } else { "" };
    let amount = amount.abs();
    match amount {
        0.0..10_000.0 => format!("{sign}${amount:.2}"),
        10_000.0..10_000_000.0 => format!("{sign}${:.1}k", amount / 1_000.0),
        _ => format!("{sign}${:.1}M", amount / 1_000_000.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_and_amounts_have_one_unit() {
        let spans = [0, 119, 120, 7_199, 7_200, 172_799, 172_800].map(|s| span(Millis::from_secs(s)));
        assert_eq!(spans, ["0 s", "119 s", "2 min", "119 min", "2 h", "47 h", "2 d"]);
        assert_eq!(["-5.5", "9999", "12000", "25000000"].map(|n| dollars(n.parse().unwrap())), ["-$5.50", "$9999.00", "$12.0k", "$25.0M"]);
    }
}
