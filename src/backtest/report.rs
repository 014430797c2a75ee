//! Results for people and programs: one row per policy and window, one summary per policy, paired differences.

use super::stats::{bootstrap95, mean};
use serde::Serialize;
use std::collections::BTreeMap;

/// One policy on one window; fields that do not apply to the kind of backtest are absent.
#[derive(Debug, Clone, Serialize, Default)]
pub struct Row {
    /// The policy.
    pub policy: String,
    /// The zones it could use.
    pub zones: Vec<String>,
    /// Where the window starts.
    pub start_hours: f64,
    /// What it cost.
    pub cost_usd: f64,
    /// What on-demand alone costs.
    pub on_demand_cost_usd: f64,
    /// The cost over that.
    pub cost_ratio: f64,
    /// The strict lower bound of the window over the same zones.
    pub bound_usd: f64,
    /// Hours after the deadline (batch), or with fewer than the asked replicas ready after the first cold start (service).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub late_hours: Option<f64>,
    /// Work left when the recording ended (batch).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unfinished_hours: Option<f64>,
    /// Share of time ready (service), counted after the first cold start; for a job, 1 when in time, else 0.
    pub availability: f64,
    /// The same over the whole window, the first cold start included (service).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub availability_whole_window: Option<f64>,
    /// The longest time without enough ready replicas (service).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub longest_short_hours: Option<f64>,
    /// Spot instances taken away.
    pub preemptions: u32,
    /// Launches in another zone than before (batch).
    pub moves: u32,
    /// Launches refused.
    pub refused: u32,
    /// Paid hours that did no work.
    pub cold_start_hours: f64,
    /// Instance-hours on on-demand.
    pub on_demand_hours: f64,
    /// Egress.
    pub egress_usd: f64,
    /// Ledger rows of the run; their sum is the bill.
    pub ledger_rows: usize,
}

/// One policy over all windows.
#[derive(Debug, Clone, Serialize)]
pub struct Summary {
    /// The policy.
    pub policy: String,
    /// Rows it sums up.
    pub runs: usize,
    /// Mean cost.
    pub cost_usd: f64,
    /// Mean of what on-demand costs.
    pub on_demand_cost_usd: f64,
    /// Mean cost over mean on-demand cost.
    pub cost_ratio: f64,
    /// Mean of the strict lower bound.
    pub bound_usd: f64,
    /// How much of the way from the bound (0) to on-demand (1) is left.
    pub gap: f64,
    /// Runs that were late, or ever short of ready replicas.
    pub late: usize,
    /// The worst lateness, or the most hours short in one window.
    pub worst_late_hours: f64,
    /// Mean availability.
    pub availability: f64,
    /// Spot instances taken away, all runs.
    pub preemptions: u32,
    /// Moves, all runs.
    pub moves: u32,
    /// Mean of paid hours that did no work.
    pub cold_start_hours: f64,
    /// Mean of on-demand instance-hours.
    pub on_demand_hours: f64,
    /// Mean egress.
    pub egress_usd: f64,
    /// `lowtide` minus this policy, per window (mean over zones for single-zone policies).
    pub lowtide_minus_usd: Option<f64>,
    /// Its 95 % bootstrap interval over windows.
    pub lowtide_minus_ci95: Option<(f64, f64)>,
    /// Windows in which `lowtide` cost more.
    pub lowtide_costlier_windows: Option<usize>,
}

/// Everything a run of `lowtide backtest` found.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Where the market came from and what to know about it.
    pub notes: Vec<String>,
    /// The parameters.
    pub parameters: BTreeMap<String, String>,
    /// The mean over the windows of the strict lower bound with all zones.
    pub bound_usd: f64,
    /// One per policy, set of zones and window.
    pub results: Vec<Row>,
    /// One per policy.
    pub summary: Vec<Summary>,
}

fn per_window(rows: &[&Row]) -> BTreeMap<i64, f64> {
    let mut sums: BTreeMap<i64, (f64, f64)> = BTreeMap::new();
    for r in rows {
        let sum = sums.entry((r.start_hours * 1000.0).round() as i64).or_default();
        *sum = (sum.0 + r.cost_usd, sum.1 + 1.0);
    }
    sums.into_iter().map(|(w, (sum, n))| (w, sum / n)).collect()
}

/// Sums up rows per policy, in order of mean cost.
pub fn summarise(rows: &[Row]) -> Vec<Summary> {
    let mut policies: Vec<&str> = Vec::new();
    for r in rows {
        if !policies.contains(&r.policy.as_str()) {
            policies.push(&r.policy);
        }
    }
    let ours = per_window(&rows.iter().filter(|r| r.policy == "lowtide").collect::<Vec<_>>());
    let mut all: Vec<Summary> =
        policies.iter().map(|p| summary(p, &rows.iter().filter(|r| r.policy == *p).collect::<Vec<_>>(), &ours)).collect();
    all.sort_by(|a, b| a.cost_usd.total_cmp(&b.cost_usd));
    all
}

fn summary(policy: &str, rows: &[&Row], ours: &BTreeMap<i64, f64>) -> Summary {
    let of = |f: &dyn Fn(&Row) -> f64| mean(&rows.iter().map(|r| f(r)).collect::<Vec<_>>());
    let (cost, od, bound) = (of(&|r| r.cost_usd), of(&|r| r.on_demand_cost_usd), of(&|r| r.bound_usd));
    let differences: Vec<f64> = per_window(rows).iter().filter_map(|(w, c)| ours.get(w).map(|o| o - c)).collect();
    let compared = policy != "lowtide" && !differences.is_empty();
    Summary {
        policy: policy.to_owned(),
        runs: rows.len(),
        cost_usd: cost,
        on_demand_cost_usd: od,
        cost_ratio: if od > 0.0 { cost / od } else { 0.0 },
        bound_usd: bound,
        gap: if od > bound { (cost - bound) / (od - bound) } else { 0.0 },
        late: rows.iter().filter(|r| r.late_hours.is_some_and(|h| h > 0.0)).count(),
        worst_late_hours: rows.iter().filter_map(|r| r.late_hours).fold(0.0, f64::max),
        availability: of(&|r| r.availability),
        preemptions: rows.iter().map(|r| r.preemptions).sum(),
        moves: rows.iter().map(|r| r.moves).sum(),
        cold_start_hours: of(&|r| r.cold_start_hours),
        on_demand_hours: of(&|r| r.on_demand_hours),
        egress_usd: of(&|r| r.egress_usd),
        lowtide_minus_usd: compared.then(|| mean(&differences)),
        lowtide_minus_ci95: compared.then(|| bootstrap95(&differences)),
        lowtide_costlier_windows: compared.then(|| differences.iter().filter(|d| **d > 0.005).count()),
    }
}

/// The summary as an aligned table.
pub fn table(summary: &[Summary], service: bool) -> String {
    let last = if service { "avail %" } else { "late" };
    let head = [
        "policy",
        "runs",
        "$ mean",
        "x od",
        "gap %",
        last,
        "worst h",
        "preempt",
        "moves",
        "cold h",
        "od h",
        "egress $",
        "ours - it, $ (95 % CI)",
        "costlier in",
    ];
    let mut lines = vec![head.map(str::to_owned).to_vec()];
    for s in summary {
        let ci = s
            .lowtide_minus_ci95
            .map_or(String::from("-"), |(a, b)| format!("{:+.2} ({a:+.2} .. {b:+.2})", s.lowtide_minus_usd.unwrap_or(0.0)));
        lines.push(vec![
            s.policy.clone(),
            s.runs.to_string(),
            format!("{:.2}", s.cost_usd),
            format!("{:.3}", s.cost_ratio),
            format!("{:.1}", s.gap * 100.0),
            if service { format!("{:.3}", s.availability * 100.0) } else { s.late.to_string() },
            format!("{:.2}", s.worst_late_hours),
            s.preemptions.to_string(),
            s.moves.to_string(),
            format!("{:.2}", s.cold_start_hours),
            format!("{:.2}", s.on_demand_hours),
            format!("{:.2}", s.egress_usd),
            ci,
            s.lowtide_costlier_windows.map_or(String::from("-"), |n| n.to_string()),
        ]);
    }
    let widths: Vec<usize> = (0..head.len()).map(|c| lines.iter().map(|l| l[c].len()).max().unwrap_or(0)).collect();
    let mut out = String::new();
    for line in lines {
        let cells: Vec<String> = line
            .iter()
            .enumerate()
            .map(|(c, cell)| if c == 0 { format!("{cell:<w$}", w = widths[c]) } else { format!("{cell:>w$}", w = widths[c]) })
            .collect();
        out.push_str(cells.join("  ").trim_end());
        out.push('\n');
    }
    out
}
