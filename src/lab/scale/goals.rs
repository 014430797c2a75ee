//! What is good enough, beside what was measured.

use serde::Serialize;

use super::report::Report;

/// A figure and its goal.
#[derive(Debug, Clone, Serialize)]
pub struct Judged {
    /// Of what.
    pub what: &'static str,
    /// As measured; `None` if it was not.
    pub measured: Option<f64>,
    /// At most this is good enough.
    pub at_most: f64,
    /// Of both.
    pub unit: &'static str,
    /// Whether the goal is met; `None` if nothing was measured.
    pub met: Option<bool>,
}

/// Every goal.
pub fn judge(report: &Report) -> Vec<Judged> {
    let decided = |of: Option<super::decisions::Latency>| {
        // A machine about which nothing was decided took longer than any. A decision before its notice says that the operator's clock and ours differ, which the
        // operator's does for hours after the machine's was set: then nothing was measured.
        of.filter(|l| l.undecided > 0 || l.decided.p50_ms >= 0)
            .map(|l| if l.undecided > 0 { f64::INFINITY } else { l.decided.p99_ms as f64 })
    };
    let (idle, rest) = (report.idle.as_ref(), report.rest.as_ref());
    let all = [
        ("operator with nothing to do", idle.map(|l| l.operator.cpu_percent), 1.0, "% of a core"),
        ("operator with all machines at rest", rest.map(|l| l.operator.cpu_percent), 3.0, "% of a core"),
        ("its resident memory then", rest.map(|l| l.operator.rss_mib), 110.0, "MiB"),
        ("notice to decision while pods are bought, p99", decided(report.dripping), 150.0, "ms"),
        ("notice to decision, many machines at once, p99", decided(report.at_once), 150.0, "ms"),
    ];
    let judged = |(what, measured, at_most, unit): (&'static str, Option<f64>, f64, &'static str)| {
        let met = measured.map(|figure| figure <= at_most);
        Judged { what, measured, at_most, unit, met }
    };
    all.map(judged).to_vec()
}
