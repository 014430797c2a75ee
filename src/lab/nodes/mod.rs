//! `make nodes`: the lab with real machines.
//!
//! Real: kubelet, containerd, runc, CNI plugins and kube-proxy on every machine, each in Linux namespaces of its own; kubeadm, which makes the
//! cluster's certificates and executes `kubeadm join`; the user data that lowtide sent, executed as cloud-init would; instance metadata by
//! IMDSv2 at 169.254.169.254 with a hop limit of 1; containers, probes, SIGTERM, Services, HTTP requests from outside; the power cut.
//! Simulated: EC2, GPUs (a device plugin of ours that offers what does not exist), `aws ssm get-parameter`, systemd, k3s' own way of joining.
//! Decides: nothing about lowtide. docs/verified.md says what ran.

pub mod authority;
pub mod cloud_init;
pub mod hypervisor;
pub mod k3s;
pub mod load;
pub mod machine;
mod manifests;
mod report;
pub mod requirements;
pub mod router;
pub mod site;
mod stage;
pub mod store;
mod story;

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use super::look_around::asked_to_end;
use super::progress::say;

/// How every kubelet of the lab is configured; what a host decides (cgroups, disk thresholds) and nothing that a node class says.
pub const KUBELET_CONFIG: &str = include_str!("image/kubelet.yaml");

/// How the story is played.
#[derive(Debug, Clone, clap::Args)]
pub struct NodesArguments {
    /// Where the report is written.
    #[arg(long, default_value = "target/nodes.json")]
    pub report: PathBuf,
    /// Leaves logs and data on disk.
    #[arg(long)]
    pub keep: bool,
    /// Ends after the first machine has joined and a container on it has served.
    #[arg(long)]
    pub first_only: bool,
    /// We are in network and mount namespaces of our own.
    #[arg(long, hide = true)]
    pub inside: bool,
}

/// Plays the story; exit code 1 when something asked did not happen, 2 when the host lacks something.
pub async fn run(arguments: NodesArguments) -> ExitCode {
    if !arguments.inside {
        return enter();
    }
    let played = tokio::select! {
        played = story::play(&arguments) => played,
        () = asked_to_end() => {
            say("\nended before the story was over; everything is cleaned up");
            return ExitCode::FAILURE;
        }
    };
    match played {
        Ok(failed) if failed.is_empty() => {
            say(&format!("\nreport: {}\nevery step passed", arguments.report.display()));
            ExitCode::SUCCESS
        }
        Ok(failed) => {
            say("\nfailed:");
            failed.iter().for_each(|fault| say(&format!("  {fault}")));
            ExitCode::FAILURE
        }
        Err(fault) => {
            say(&format!("\nthe story ended early: {fault}"));
            ExitCode::FAILURE
        }
    }
}

/// Becomes the same program in network and mount namespaces of its own: that network namespace is the router between the machines, and
/// nothing of the host's network is touched.
fn enter() -> ExitCode {
    let missing = requirements::missing();
    if !missing.is_empty() {
        say("real machines cannot be made here; missing:");
        missing.iter().for_each(|what| say(&format!("  {what}")));
        return ExitCode::from(2);
    }
    let own = match std::env::current_exe() {
        Ok(path) => path,
        Err(fault) => {
            say(&format!("finding the running program: {fault}"));
            return ExitCode::FAILURE;
        }
    };
    let fault = Command::new("unshare").args(["--net", "--mount", "--"]).arg(own).args(std::env::args_os().skip(1)).arg("--inside").exec();
    say(&format!("starting in namespaces of our own: {fault}"));
    ExitCode::FAILURE
}
