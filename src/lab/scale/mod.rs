//! `make scale`: a thousand machines and five thousand pods on the real control plane, and what the operator costs and how fast it decides.
//!
//! Decides: what is asked of the lab, in which order, and what is measured meanwhile.
//! Does not: set what is good enough for lowtide itself (see [`goals`]), or decide anything that lowtide decides.
//!
//! Modelled: boots, starts of pods, EC2 itself with its token buckets. Real: the control plane, the operator's process, its rights, Postgres.

mod decisions;
mod goals;
mod machine_load;
mod metrics;
mod replicas;
mod report;
mod stage;
mod workloads;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use super::error::LabError;
use super::look_around::asked_to_end;
use super::progress::say;
use decisions::Notices;
use report::Report;
use stage::Stage;

/// What is measured.
#[derive(Debug, Clone, clap::Args)]
pub struct ScaleArguments {
    /// Machines of one GPU each.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(10..=5_000))]
    pub machines: u32,
    /// Pods on them, in services of ten; as many as share a GPU as are needed for it.
    #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(10..=50_000))]
    pub pods: u32,
    /// Seconds for which the operator is looked at while it has nothing to do.
    #[arg(long, default_value_t = 60)]
    pub rest_seconds: u64,
    /// Longest wait for anything, in seconds.
    #[arg(long, default_value_t = 3_600)]
    pub patience_seconds: u64,
    /// Where the figures are written.
    #[arg(long, default_value = "target/scale.json")]
    pub report: PathBuf,
    /// Leaves logs and data on disk.
    #[arg(long)]
    pub keep: bool,
}

impl ScaleArguments {
    /// Pods per machine.
    fn sharing(&self) -> u32 {
        self.pods.div_ceil(self.machines).max(1)
    }
    /// Pods that are added while machines are interrupted one by one.
    fn more_pods(&self) -> u32 {
        (self.pods / 10).max(10)
    }
    /// Machines that are interrupted one by one meanwhile.
    fn dripping(&self) -> usize {
        usize::try_from(self.machines / 10).unwrap_or(1).clamp(5, 100)
    }
    /// Machines that are interrupted at once.
    fn at_once(&self) -> usize {
        usize::try_from(self.machines / 5).unwrap_or(1).max(2)
    }
}

/// Measures; exit code 1 when the lab could not be brought there. A goal that is not met is shown, and is no failure of the measurement.
pub async fn run(arguments: ScaleArguments) -> ExitCode {
    let measured = tokio::select! {
        measured = measure(&arguments) => measured,
        () = asked_to_end() => {
            say("\nended before everything was measured; everything is cleaned up");
            return ExitCode::FAILURE;
        }
    };
    match measured {
        Ok(report) => {
            say(&report.table());
            say(&format!("figures: {}", arguments.report.display()));
            ExitCode::SUCCESS
        }
        Err(fault) => {
            say(&format!("\nnothing more could be measured: {fault}"));
            ExitCode::FAILURE
        }
    }
}

async fn measure(arguments: &ScaleArguments) -> Result<Report, LabError> {
    let mut stage = Stage::set_up(arguments).await?;
    let mut report = Report::new(arguments);
    let outcome = phases(&mut stage, arguments, &mut report).await;
    if outcome.is_err() {
        stage.keep_logs();
    }
    // What was measured until then is worth keeping.
    report.write(&arguments.report)?;
    outcome.map(|()| report)
}

async fn phases(stage: &mut Stage, arguments: &ScaleArguments, report: &mut Report) -> Result<(), LabError> {
    let rest = Duration::from_secs(arguments.rest_seconds);
    say(&format!("\n1. nothing to do, {} regions, for {} s", stage.regions, rest.as_secs()));
    stage.settle().await?;
    report.idle = Some(stage.watch_rest(rest).await?);

    let (services, replicas) = (arguments.pods.div_ceil(10), 10);
    say(&format!("\n2. {} pods in {services} services, {} to a machine", services * replicas, arguments.sharing()));
    report.growth = Some(stage.grow("first", services, None).await?.0);

    say(&format!("\n3. at rest with all of them, for {} s", rest.as_secs()));
    stage.settle().await?;
    report.rest = Some(stage.watch_rest(rest).await?);

    let more = arguments.more_pods().div_ceil(10);
    say(&format!("\n4. {} more pods, and a notice for {} machines, four a second", more * 10, arguments.dripping()));
    let notices = Notices { machines: arguments.dripping(), pause: Duration::from_millis(250) };
    let (growth, dripping) = stage.grow("more", more, Some(notices)).await?;
    (report.more, report.dripping) = (Some(growth), dripping);

    say(&format!("\n5. a notice for {} machines at once", arguments.at_once()));
    stage.settle().await?;
    let (growth, at_once) = stage.interrupt_at_once(arguments.at_once()).await?;
    (report.rescue, report.at_once) = (Some(growth), Some(at_once));
    Ok(())
}
