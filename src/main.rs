//! Parses the command line and runs one subcommand; nothing else.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use lowtide::cli;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Buys the cheapest GPU capacity the AWS market has, moves work before the machine dies, and accounts for every cent.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs the policies on recorded spot markets.
    Backtest(cli::backtest::BacktestArgs),
    /// Shows every instance type with what it has and how much of it pods can use.
    Catalog(cli::catalog::CatalogArgs),
    /// Writes the chart's dashboards and docs/metrics.md.
    #[command(hide = true)]
    Monitoring(cli::monitoring::MonitoringArgs),
    /// Shows the market for a need, cheapest per packed replica first.
    Offers(cli::offers::OffersArgs),
    /// Says what lowtide would buy for Kubernetes manifests, without a cluster or an account.
    Place(cli::place::PlaceArgs),
    /// Simulates days of a cluster, with faults, and checks every invariant after every step.
    Simulate(cli::simulate::SimulateArgs),
    /// Says why a machine was bought or work moved, from the ledger alone.
    #[cfg(feature = "ledger")]
    Explain(cli::explain::ExplainArgs),
    /// Creates the savings ledger and reads its reports.
    #[cfg(feature = "ledger")]
    Ledger(cli::ledger::LedgerArgs),
    /// Prints the custom resource definitions, or writes them to a folder.
    #[cfg(feature = "live")]
    Crds(cli::crds::CrdsArgs),
    /// Serves the console: the market, machines, moves, savings and plans as pages.
    #[cfg(feature = "live")]
    Console(cli::console::ConsoleArgs),
    /// Runs the operator; the chart's Deployment starts this.
    #[cfg(feature = "live")]
    Operator(Box<cli::operator::OperatorArgs>),
    /// What `kubectl lowtide` answers, for those who have not installed the plugin: what lowtide did in this cluster, and why.
    #[cfg(feature = "live")]
    Kubectl(cli::kubectl::PluginArgs),
    /// Checks whether everything lowtide needs is there: cluster, AWS and Postgres.
    #[cfg(feature = "live")]
    Check(cli::check::CheckArgs),
    /// Takes over machines with this cluster's name that have no claim, after a rebuilt control plane or a restored backup.
    #[cfg(feature = "live")]
    Adopt(cli::adopt::AdoptArgs),
    /// Lifts lowtide's scheduling gate from every pod, for when the operator is removed.
    #[cfg(feature = "live")]
    ReleasePods(cli::release_pods::ReleasePodsArgs),
}

#[cfg(feature = "live")]
#[tokio::main]
async fn main() -> ExitCode {
    // One TLS provider for Kubernetes, AWS and Postgres alike: with two, rustls refuses to choose.
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        eprintln!("a TLS provider was installed before ours: this build mixes two");
        return ExitCode::FAILURE;
    }
    if cli::kubectl::is_plugin(std::env::args().next().as_deref()) {
        return cli::kubectl::run(cli::kubectl::Plugin::parse().into()).await;
    }
    match Arguments::parse().command {
        Command::Backtest(args) => cli::backtest::run(args),
        Command::Catalog(args) => cli::catalog::run(args),
        Command::Offers(args) => cli::offers::run_live(args).await,
        Command::Monitoring(args) => cli::monitoring::run(args),
        Command::Place(args) => cli::place::run(args),
        Command::Simulate(args) => cli::simulate::run(args),
        Command::Explain(args) => cli::explain::run(args).await,
        Command::Ledger(args) => cli::ledger::run(args).await,
        Command::Crds(args) => cli::crds::run(args),
        Command::Console(args) => cli::console::run(args).await,
        Command::Operator(args) => cli::operator::run(*args).await,
        Command::Kubectl(args) => cli::kubectl::run(args).await,
        Command::Check(args) => cli::check::run(args).await,
        Command::Adopt(args) => cli::adopt::run(args).await,
        Command::ReleasePods(args) => cli::release_pods::run(args).await,
    }
}

// Without AWS and Kubernetes, the ledger still has its commands.
#[cfg(all(feature = "ledger", not(feature = "live")))]
#[tokio::main]
async fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Backtest(args) => cli::backtest::run(args),
        Command::Catalog(args) => cli::catalog::run(args),
        Command::Offers(args) => cli::offers::run(args),
        Command::Monitoring(args) => cli::monitoring::run(args),
        Command::Place(args) => cli::place::run(args),
        Command::Simulate(args) => cli::simulate::run(args),
        Command::Explain(args) => cli::explain::run(args).await,
        Command::Ledger(args) => cli::ledger::run(args).await,
    }
}

#[cfg(not(feature = "ledger"))]
fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Backtest(args) => cli::backtest::run(args),
        Command::Catalog(args) => cli::catalog::run(args),
        Command::Offers(args) => cli::offers::run(args),
        Command::Monitoring(args) => cli::monitoring::run(args),
        Command::Place(args) => cli::place::run(args),
        Command::Simulate(args) => cli::simulate::run(args),
    }
}
