//! The story of `make demo`: every part of the mission, played on the lab through the real path.
//!
//! Decides: the order of the story, what is asked of the lab, and what counts as having happened.
//! Does not: decide anything that lowtide decides. What is printed was observed; what is modelled says so.

mod alerts;
mod finance;
mod machines;
mod market;
mod migration;
mod models;
mod panels;
mod placing;
mod pods;
mod report;
mod stage;
mod watching;
mod workloads;

use std::path::PathBuf;
use std::process::ExitCode;

use super::error::LabError;
use super::look_around::asked_to_end;
use super::progress::say;
use stage::Stage;

/// How the demo is played.
#[derive(Debug, Clone, clap::Args)]
pub struct DemoArguments {
    /// Modelled time (boot, start of a model, EC2's notice) runs this many times faster. lowtide's own time is real.
    #[arg(long, default_value_t = 4)]
    pub time_scale: u32,
    /// Where the report is written.
    #[arg(long, default_value = "target/demo/report.json")]
    pub report: PathBuf,
    /// Leaves logs and data on disk.
    #[arg(long)]
    pub keep: bool,
    /// Leaves out steps c and f, which take most of the time; the report then says that they were not reached.
    #[arg(long)]
    pub without_migration: bool,
    /// Leaves everything running at the end, for a look at the console, until Ctrl-C.
    #[arg(long)]
    pub stay: bool,
}

/// Plays the story; exit code 1 when something asked did not happen.
pub async fn run(arguments: DemoArguments) -> ExitCode {
    let played = tokio::select! {
        played = play(&arguments) => played,
        () = asked_to_end() => {
            say("\nended before the story was over; everything is cleaned up");
            return ExitCode::FAILURE;
        }
    };
    let stage = match played {
        Ok(stage) => stage,
        Err(fault) => {
            say(&format!("\nthe story ended early: {fault}"));
            return ExitCode::FAILURE;
        }
    };
    let failed = stage.report.failed();
    say(&format!("\nreport: {}", arguments.report.display()));
    match failed.as_slice() {
        [] => say("every step passed"),
        faults => {
            say("failed:");
            faults.iter().for_each(|fault| say(&format!("  {fault}")));
        }
    }
    if arguments.stay {
        stage.how_to_look_around();
        asked_to_end().await;
    }
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn play(arguments: &DemoArguments) -> Result<Stage, LabError> {
    let mut stage = Stage::set_up(arguments).await?;
    let outcome = tell(&mut stage, arguments).await;
    if outcome.is_err() {
        stage.keep_logs();
    }
    stage.report.write(&arguments.report)?;
    outcome?;
    Ok(stage)
}

async fn tell(stage: &mut Stage, arguments: &DemoArguments) -> Result<(), LabError> {
    placing::cheapest_offers(stage).await?;
    placing::refusals(stage).await?;
    if !arguments.without_migration {
        migration::move_in_time(stage).await?;
    }
    market::no_capacity(stage).await?;
    machines::crash_between_asked_and_recorded(stage).await?;
    market::prices_move(stage).await?;
    watching::pages(stage).await?;
    machines::endings(stage).await?;
    finance::the_bill(stage).await?;
    watching::panels(stage).await?;
    alerts::one_of_each_kind(stage).await
}
