//! `lowtide simulate`: histories of a simulated cluster from their seeds.

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crate::core::units::time::Millis;
use crate::sim::faults::Level;
use crate::sim::planted::PlantedBug;
use crate::sim::report::{Outcome, Summary};
use crate::sim::run::{Scenario, play};

/// Simulates days of a cluster: a moving market, machines that EC2 takes back, people who deploy and scale, and faults at every call; the
/// operator is the real one. Every invariant is checked after every step. The same seed gives the same history.
#[derive(Debug, clap::Args)]
pub struct SimulateArgs {
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Number of seeds, starting with the first; more than one prints a summary.
    #[arg(long, default_value_t = 1)]
    seeds: u64,
    /// Simulated days per seed.
    #[arg(long, default_value_t = 7)]
    days: u32,
    /// Simulated hours per seed, instead of days.
    #[arg(long, conflicts_with = "days")]
    hours: Option<u32>,
    /// How hostile the world is.
    #[arg(long, value_enum, default_value_t = Level::Rough)]
    faults: Level,
    /// Kill the operator at this mutating call, counted from 0.
    #[arg(long)]
    crash_at: Option<u64>,
    /// With --crash-at: before the call takes effect instead of after.
    #[arg(long, requires = "crash_at")]
    before: bool,
    /// Plant this bug in the operator and see it caught.
    #[arg(long, value_enum, hide_possible_values = true)]
    plant: Option<PlantedBug>,
    /// Print every step as it happens, to standard error.
    #[arg(long)]
    trace: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl SimulateArgs {
    fn scenario(&self, seed: u64) -> Scenario {
        let crash_point = self.crash_at.map(|at| (at, self.before));
        let span = Millis::from_hours(self.hours.map_or_else(|| 24 * i64::from(self.days), i64::from));
        let scenario = Scenario { crash_point, span, loud: self.trace, ..Scenario::new(seed, 0, self.faults) };
        match self.plant {
            Some(bug) => scenario.planted(bug),
            None => scenario,
        }
    }
}

/// Runs `lowtide simulate`; fails if an invariant was broken.
pub fn run(args: SimulateArgs) -> ExitCode {
    // The operator's own log would repeat each step, with wall-clock times.
    if args.seeds > 1 { many(&args) } else { one(&args) }
}

fn one(args: &SimulateArgs) -> ExitCode {
    match std::thread::scope(|scope| scope.spawn(|| play(&args.scenario(args.seed))).join()) {
        Ok(Ok(outcome)) => {
            let text = match args.json {
                true => serde_json::to_string_pretty(&outcome).unwrap_or_default(),
                false => outcome.to_text(&args.scenario(args.seed).command()),
            };
            let _ = writeln!(std::io::stdout(), "{text}");
            if outcome.broken.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Ok(Err(fault)) => {
            eprintln!("lowtide: the simulated world could not be started: {fault}");
            ExitCode::FAILURE
        }
        Err(_) => {
            eprintln!("lowtide: the operator panicked; to reproduce: {}", args.scenario(args.seed).command());
            ExitCode::FAILURE
        }
    }
}

/// Plays many seeds on all cores, with a line of progress every few seconds.
fn many(args: &SimulateArgs) -> ExitCode {
    let (next, summary, began) = (AtomicU64::new(args.seed), Mutex::new((Summary::default(), Instant::now())), Instant::now());
    let end = args.seed.saturating_add(args.seeds);
    let workers = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        return;
                    }
                    let outcome = std::panic::catch_unwind(|| play(&args.scenario(seed)));
                    let mut held = summary.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                    match outcome {
                        Ok(Ok(outcome)) => note(&mut held.0, &outcome, args),
                        Ok(Err(fault)) => drop(held.0.failed.insert(seed, fault.to_string())),
                        Err(_) => drop(held.0.failed.insert(seed, "the operator panicked".to_owned())),
                    }
                    if held.1.elapsed().as_secs() >= 5 {
                        held.1 = Instant::now();
                        let Summary { histories, failed, .. } = &held.0;
                        eprintln!("{histories} of {} seeds, {} failed, {} s", args.seeds, failed.len(), began.elapsed().as_secs());
                    }
                }
            });
        }
    });
    let (summary, _) = summary.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    let _ = match args.json {
        true => writeln!(std::io::stdout(), "{}", serde_json::to_string_pretty(&summary).unwrap_or_default()),
        false => writeln!(std::io::stdout(), "{}", described(&summary, began.elapsed().as_secs())),
    };
    if summary.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn note(summary: &mut Summary, outcome: &Outcome, args: &SimulateArgs) {
    summary.add(outcome);
    if let Some(fault) = outcome.broken.first() {
        eprintln!(
            "seed {}: {}\n  to reproduce: {}",
            outcome.seed,
            fault.chars().take(300).collect::<String>(),
            args.scenario(outcome.seed).command()
        );
    }
}

fn described(summary: &Summary, seconds: u64) -> String {
    let Summary { histories, days, failed, machines, interruptions, changing_calls, cost_usd, on_demand_usd } = summary;
    let verdict = match failed.len() {
        0 => "all invariants held".to_owned(),
        n => format!("{n} seeds broke an invariant: {:?}", failed.keys().collect::<Vec<_>>()),
    };
    format!(
        "{histories} histories, {days} days, {machines} machines, {interruptions} interruptions, {changing_calls} changing calls in {seconds} s\n\
         cost ${cost_usd}, on demand ${on_demand_usd}\n{verdict}"
    )
}
