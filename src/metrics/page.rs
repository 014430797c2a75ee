//! The text of `/metrics`.
//!
//! Decides: how a figure is written: in base units, exactly, without a float in between.
//! Source: Prometheus, "Exposition formats", version 0.0.4.

use std::fmt;
use std::fmt::Write as _;

use super::counts::Counts;
use super::register::{Kind, Metric};

/// One figure, written in the base unit of its metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Figure {
    /// A number of things, or 0 and 1.
    Number(i64),
    /// Milliseconds, written as seconds.
    Millis(i64),
    /// Micro-dollars, or millionths of anything, written as whole units.
    Micro(i64),
    /// Billionths, written as whole units.
    Nano(i64),
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (value, unit, places) = match *self {
            Figure::Number(n) => return write!(f, "{n}"),
            Figure::Millis(n) => (n, 1_000_u64, 3),
            Figure::Micro(n) => (n, 1_000_000, 6),
            Figure::Nano(n) => (n, 1_000_000_000, 9),
        };
        let (sign, value) = (if value < 0 { "-" } else { "" }, value.unsigned_abs());
        write!(f, "{sign}{}", value / unit)?;
        match value % unit {
            0 => Ok(()),
            rest => write!(f, ".{}", format!("{rest:0places$}").trim_end_matches('0')),
        }
    }
}

/// A page of metrics.
#[derive(Debug, Default)]
pub struct Page {
    text: String,
}

impl Page {
    /// The text.
    pub fn into_text(self) -> String {
        self.text
    }

    fn head(&mut self, metric: &Metric) {
        let kind = match metric.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram(_) => "histogram",
        };
        let _ = writeln!(self.text, "# HELP {} {}\n# TYPE {} {kind}", metric.name, metric.help, metric.name);
    }

    /// A metric without labels.
    pub fn one(&mut self, metric: &Metric, figure: Figure) {
        self.each(metric, [(Vec::<String>::new(), figure)]);
    }

    /// A metric with a figure for each set of values of its labels.
    pub fn each<S: AsRef<str>>(&mut self, metric: &Metric, rows: impl IntoIterator<Item = (Vec<S>, Figure)>) {
        self.head(metric);
        for (values, figure) in rows {
            let _ = writeln!(self.text, "{}{} {figure}", metric.name, labelled(metric, &values, None));
        }
    }

    /// A counter or histogram as it was counted.
    pub fn counted(&mut self, metric: &Metric, counts: &Counts) {
        self.head(metric);
        for (values, n) in counts.totals(metric) {
            let _ = writeln!(self.text, "{}{} {n}", metric.name, labelled(metric, values, None));
        }
        let Kind::Histogram(bounds) = metric.kind else { return };
        for (values, histogram) in counts.histograms(metric) {
            let mut below = 0;
            for (n, bound) in
                histogram.buckets.iter().zip(bounds.iter().map(|bound| Figure::Millis(*bound).to_string()).chain(["+Inf".to_owned()]))
            {
                below += n;
                let _ = writeln!(self.text, "{}_bucket{} {below}", metric.name, labelled(metric, values, Some(&bound)));
            }
            let labels = labelled(metric, values, None);
            let _ = writeln!(self.text, "{0}_sum{labels} {1}\n{0}_count{labels} {below}", metric.name, Figure::Millis(histogram.sum.0));
        }
    }
}

fn labelled<S: AsRef<str>>(metric: &Metric, values: &[S], bound: Option<&str>) -> String {
    debug_assert_eq!(values.len(), metric.labels.len(), "{}", metric.name);
    let escaped = |value: &str| value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let mut pairs: Vec<String> =
        metric.labels.iter().zip(values).map(|(name, value)| format!("{name}=\"{}\"", escaped(value.as_ref()))).collect();
    pairs.extend(bound.map(|bound| format!("le=\"{bound}\"")));
    if pairs.is_empty() { String::new() } else { format!("{{{}}}", pairs.join(",")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::units::time::Millis;
    use crate::metrics::register::{MOVE_DURATION, SPEND};

    #[test]
    fn figures_are_written_in_base_units_to_the_last_digit() {
        let written =
            [Figure::Number(-3), Figure::Millis(1_500), Figure::Millis(-20), Figure::Micro(1_022_800), Figure::Micro(-1), Figure::Micro(0)];
        assert_eq!(written.map(|f| f.to_string()), ["-3", "1.5", "-0.02", "1.0228", "-0.000001", "0"]);
    }

    #[test]
    fn labels_are_escaped_and_buckets_add_up() {
        let mut page = Page::default();
        page.each(&SPEND, [(vec!["a \"b\"\\\n", "spot"], Figure::Micro(500_000))]);
        let mut counts = Counts::default();
        counts.observe(&MOVE_DURATION, &["batch"], Millis(700));
        counts.observe(&MOVE_DURATION, &["batch"], Millis(99_000_000));
        page.counted(&MOVE_DURATION, &counts);
        let text = page.into_text();
        assert!(text.contains("{team=\"a \\\"b\\\"\\\\\\n\",capacity_type=\"spot\"} 0.5\n"), "{text}");
        for line in [
            "_bucket{kind=\"batch\",le=\"0.5\"} 0\n",
            "le=\"1\"} 1\n",
            "le=\"+Inf\"} 2\n",
            "_sum{kind=\"batch\"} 99000.7\n",
            "_count{kind=\"batch\"} 2\n",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
    }
}
