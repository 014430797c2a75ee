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
    /// Shows every instance type with what it has and what pods can use of it.
    Catalog(cli::catalog::CatalogArgs),
    /// Shows the market for a need, cheapest per packed replica first.
    Offers(cli::offers::OffersArgs),
    /// Says what lowtide would buy for Kubernetes manifests, without a cluster or an account.
    Place(cli::place::PlaceArgs),
}

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Catalog(args) => cli::catalog::run(args),
        Command::Offers(args) => cli::offers::run(args),
        Command::Place(args) => cli::place::run(args),
    }
}
