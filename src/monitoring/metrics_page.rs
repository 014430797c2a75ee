//! `docs/metrics.md`, from the list of metrics.

use std::fmt::Write as _;

use crate::metrics::register::{ALL, Kind, Metric};

fn row(text: &mut String, metric: &Metric) {
    let labels = if metric.labels.is_empty() { String::new() } else { format!("{{{}}}", metric.labels.join(",")) };
    let kind = match metric.kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
        Kind::Histogram(_) => "histogram",
    };
    let _ = writeln!(text, "| `{}{labels}` | {kind} | {} |", metric.name, metric.help);
}

/// The page.
pub fn text() -> String {
    let mut text = "# Metrics\n\n\
        Written by `lowtide monitoring` from `src/metrics/register.rs`; a test holds it to the code. When to look is in [runbooks.md](runbooks.md).\n\n\
        Units are seconds, bytes and dollars. Counters start at 0 with the process; only the leading replica decides and counts decisions, every\n\
        replica watches prices. `lowtide_ledger_*`, `lowtide_budget*`, `lowtide_cost_anomalies` and `lowtide_unit_cost_dollars` are read from Postgres\n\
        every five minutes by the leader, when its login is a member of `lowtide_reader`; otherwise they are absent.\n\n\
        | metric | type | means |\n|---|---|---|\n"
        .to_owned();
    ALL.iter().filter(|metric| metric.replaced_by.is_none()).for_each(|metric| row(&mut text, metric));
    text.push_str("\n## Old names\n\nExported for one more release.\n\n| old | now |\n|---|---|\n");
    for metric in ALL {
        if let Some(new) = metric.replaced_by {
            let _ = writeln!(text, "| `{}` | `{new}` |", metric.name);
        }
    }
    text
}
