//! Parses the command line and runs one subcommand; nothing else.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use lowtide::cli;

/// Buys the cheapest GPU capacity the AWS market has, moves work before the machine dies, and proves every cent.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Prints the custom resource definitions, or writes them to a folder.
    Crds(cli::crds::CrdsArgs),
    /// Lifts lowtide's scheduling gate from every pod, for when the operator goes away.
    ReleasePods(cli::release_pods::ReleasePodsArgs),
}

#[tokio::main]
async fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Crds(args) => cli::crds::run(args),
        Command::ReleasePods(args) => cli::release_pods::run(args).await,
    }
}
