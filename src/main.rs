//! Parse and run; nothing else.

use clap::{Parser, Subcommand};
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "lowtide", version, about)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run policies on recorded spot markets and compare what they would have paid.
    Backtest(lowtide::cli::backtest::BacktestArgs),
}

fn main() -> ExitCode {
    match Args::parse().command {
        Command::Backtest(args) => lowtide::cli::backtest::run(args),
    }
}
