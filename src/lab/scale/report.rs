//! What was measured, as JSON and as a table.

use std::path::Path;

use serde::Serialize;
use serde_json::json;

use super::ScaleArguments;
use super::decisions::Latency;
use super::goals::{Judged, judge};
use super::machine_load::Taken;
use crate::lab::error::LabError;
use crate::lab::wall_clock;

/// What the operator and its servers had to do over a while.
#[derive(Debug, Clone, Serialize)]
pub struct Load {
    /// The operator's process.
    pub operator: Taken,
    /// Requests to the API server, of all its clients.
    pub requests_per_second: f64,
    /// Those of the operator.
    pub operator_requests_per_second: f64,
    /// What etcd holds at the end.
    pub etcd_bytes: f64,
}

/// What was bought in one phase.
#[derive(Debug, Clone, Serialize)]
pub struct Machines {
    /// Machines that run at the end.
    pub running: usize,
    /// Machines bought in this phase.
    pub bought: i64,
    /// In how many regions.
    pub regions: usize,
    /// From the beginning to the last launch.
    pub last_launch_seconds: f64,
    /// What of it EC2's token bucket takes from even the fastest client: launches of the busiest region, after its burst, at its rate.
    pub bucket_seconds: f64,
    /// Launches that the bucket has refused since the operator's start.
    pub refused_by_bucket: f64,
}

/// A phase in which pods came to run.
#[derive(Debug, Clone, Serialize)]
pub struct Growth {
    /// Pods ready at the end.
    pub pods: i64,
    /// From the beginning until all were.
    pub seconds: f64,
    /// What was bought.
    pub machines: Machines,
    /// What it took.
    pub load: Load,
}

/// Everything.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    started_at: String,
    machines: u32,
    pods: u32,
    cores: usize,
    /// An optimised program, as `make scale` builds it, or one of a developer.
    optimised: bool,
    /// Nothing to do.
    pub idle: Option<Load>,
    /// All pods from nothing.
    pub growth: Option<Growth>,
    /// All of them at rest.
    pub rest: Option<Load>,
    /// More pods.
    pub more: Option<Growth>,
    /// Notices one by one meanwhile.
    pub dripping: Option<Latency>,
    /// Until everything ran again after many notices at once.
    pub rescue: Option<Growth>,
    /// Many notices at once.
    pub at_once: Option<Latency>,
}

impl Report {
    /// Nothing measured yet.
    pub fn new(arguments: &ScaleArguments) -> Report {
        Report {
            started_at: wall_clock().to_rfc3339(),
            machines: arguments.machines,
            pods: arguments.pods,
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            optimised: !cfg!(debug_assertions),
            idle: None,
            growth: None,
            rest: None,
            more: None,
            dripping: None,
            rescue: None,
            at_once: None,
        }
    }

    /// Writes the report as JSON; makes its folder.
    pub fn write(&self, path: &Path) -> Result<(), LabError> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(LabError::io(format!("making {}", folder.display())))?;
        }
        let text = serde_json::to_string_pretty(&json!({ "figures": self, "goals": judge(self) })).unwrap_or_default();
        std::fs::write(path, text + "\n").map_err(LabError::io(format!("writing {}", path.display())))
    }

    /// For people.
    pub fn table(&self) -> String {
        let mut lines = vec![
            String::new(),
            format!("{:<34} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}", "", "seconds", "CPU %", "MiB", "API r/s", "its r/s", "etcd MiB"),
        ];
        let row = |name: &str, seconds: f64, load: &Load| {
            let (cpu, mib) = (load.operator.cpu_percent, load.operator.rss_mib);
            let (all, own, etcd) = (load.requests_per_second, load.operator_requests_per_second, load.etcd_bytes / f64::from(1 << 20));
            format!("{name:<34} {seconds:>9.1} {cpu:>9.1} {mib:>9.0} {all:>9.1} {own:>9.1} {etcd:>9.1}")
        };
        let rests = [("nothing to do", &self.idle), ("all machines at rest", &self.rest)];
        let grown = [("all pods from nothing", &self.growth), ("a tenth more pods", &self.more), ("many machines taken", &self.rescue)];
        lines.extend(rests.iter().filter_map(|(name, load)| load.as_ref().map(|load| row(name, load.operator.seconds, load))));
        for (name, growth) in grown.iter().filter_map(|(name, growth)| Some((name, growth.as_ref()?))) {
            lines.push(row(name, growth.seconds, &growth.load));
            let m = &growth.machines;
            lines.push(format!(
                "    {} pods ready, {} machines run; {} bought in {} regions within {:.1} s, of which {:.1} s are EC2's token bucket",
                growth.pods, m.running, m.bought, m.regions, m.last_launch_seconds, m.bucket_seconds
            ));
        }
        lines.push(String::new());
        let latency = |name: &str, l: &Latency| {
            let (d, r) = (l.decided, l.durable);
            format!(
                "{name:<34} {} notices, {} undecided; decided p50 {} p99 {} most {} ms; durable p50 {} p99 {} most {} ms",
                l.notices, l.undecided, d.p50_ms, d.p99_ms, d.most_ms, r.p50_ms, r.p99_ms, r.most_ms
            )
        };
        lines.extend(self.dripping.iter().map(|l| latency("one by one while pods are bought", l)));
        lines.extend(self.at_once.iter().map(|l| latency("at once", l)));
        lines.push(String::new());
        lines.extend(judge(self).iter().map(goal_line));
        lines.push(self.circumstances());
        lines.join("\n")
    }

    /// What makes the figures worth more or less.
    fn circumstances(&self) -> String {
        let loads = [&self.idle, &self.rest].into_iter().flatten().map(|load| load.operator.machine_cpu_percent);
        let busiest = loads.fold(0.0, f64::max);
        let build = if self.optimised { "optimised" } else { "a developer's build, without optimisation: not comparable" };
        format!("\nprogram: {build}; {} cores, while the operator rested {busiest:.0} % busy with everything that ran on them", self.cores)
    }
}

fn goal_line(judged: &Judged) -> String {
    let Judged { what, measured, at_most, unit, met } = judged;
    let measured = measured.map_or_else(|| "not measured".to_owned(), |figure| format!("{figure:.1}"));
    let verdict = match met {
        Some(true) => "met",
        Some(false) => "NOT MET",
        None => "",
    };
    format!("{what:<50} {measured:>14}   goal <= {at_most} {unit:<12} {verdict}")
}
