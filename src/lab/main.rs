//! `lowtide-lab`: the lab. Parses and runs; nothing else.

use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use lowtide::lab::demo::{self, DemoArguments};
use lowtide::lab::ec2::{SimulatorConfig, standalone};
use lowtide::lab::look_around;
use lowtide::lab::nodes::{self, NodesArguments, cloud_init, k3s};
use lowtide::lab::scale::{self, ScaleArguments};
use lowtide::lab::start::LabOptions;

/// What surrounds lowtide, on one machine: a real control plane, a simulated EC2, a private Postgres.
#[derive(Parser)]
#[command(name = "lowtide-lab", version)]
struct Arguments {
    #[command(subcommand)]
    command: Cmd,
}

#[derive(Subcommand)]
enum Cmd {
    /// Plays the whole story and writes a report: what `make demo` runs.
    Demo(DemoArguments),
    /// Starts everything, installs the chart, runs the operator, and stays until Ctrl-C.
    Up(UpArguments),
    /// Measures the operator with a thousand machines and five thousand pods: what `make scale` runs.
    Scale(ScaleArguments),
    /// Plays a story on real machines, as root on Linux: what `make nodes` runs.
    Nodes(NodesArguments),
    /// Inside a real machine: executes its user data, as cloud-init does.
    #[command(hide = true)]
    CloudInit {
        /// The user data of a machine that is not EC2's.
        #[arg(long)]
        file: Option<std::path::PathBuf>,
    },
    /// Inside a real machine: the kubelet's arguments that k3s' configuration amounts to, one a line.
    #[command(hide = true)]
    K3sArguments,
    /// Only the EC2 simulator, on loopback (`lowtide-ec2` has more settings).
    Ec2 {
        /// Port.
        #[arg(long, default_value_t = 4566)]
        port: u16,
    },
}

#[derive(clap::Args)]
struct UpArguments {
    /// Seconds from EC2's `running` to the registration of the Node.
    #[arg(long, default_value_t = 5.0)]
    boot_seconds: f64,
    /// Only the lab: no chart, no operator.
    #[arg(long)]
    bare: bool,
    /// Leaves logs and data on disk.
    #[arg(long)]
    keep: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        eprintln!("a TLS provider was installed before ours: this build mixes two");
        return ExitCode::FAILURE;
    }
    match Arguments::parse().command {
        Cmd::Demo(arguments) => demo::run(arguments).await,
        Cmd::Up(arguments) => {
            let boot = Duration::from_secs_f64(arguments.boot_seconds.max(0.0));
            let options = LabOptions { boot, keep: arguments.keep, ..LabOptions::default() };
            look_around::run(options, arguments.bare).await
        }
        Cmd::Scale(arguments) => scale::run(arguments).await,
        Cmd::Nodes(arguments) => nodes::run(arguments).await,
        Cmd::CloudInit { file } => ended(cloud_init::run(file.as_deref()).await),
        Cmd::K3sArguments => ended(k3s::arguments().map(|all| all.iter().for_each(|one| println!("{one}")))),
        Cmd::Ec2 { port } => ended(standalone::run(port, SimulatorConfig::default()).await),
    }
}

fn ended<E: std::fmt::Display>(outcome: Result<(), E>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            eprintln!("{fault}");
            ExitCode::FAILURE
        }
    }
}
