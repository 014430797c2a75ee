//! Installs the chart with real Helm, so that what users install is what the lab lives with.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::error::LabError;
use super::process::run;

/// Helm with folders of its own: nothing of the user's configuration is read or written.
#[derive(Debug, Clone)]
pub struct Helm {
    program: PathBuf,
    kubeconfig: PathBuf,
    home: PathBuf,
}

impl Helm {
    /// Helm against the cluster of `kubeconfig`.
    pub fn new(program: PathBuf, kubeconfig: &Path, home: PathBuf) -> Helm {
        Helm { program, kubeconfig: kubeconfig.to_owned(), home }
    }

    /// Runs Helm; returns what it printed.
    pub fn run(&self, args: &[&str]) -> Result<String, LabError> {
        let mut command = Command::new(&self.program);
        command.args(args).env("KUBECONFIG", &self.kubeconfig);
        for kind in ["CACHE", "CONFIG", "DATA"] {
            command.env(format!("HELM_{kind}_HOME"), self.home.join(kind.to_lowercase()));
        }
        run(&mut command)
    }

    /// Installs the chart, or upgrades what is installed. `values` are as for `--set`.
    pub fn install(&self, release: &str, namespace: &str, chart: &Path, values: &[String]) -> Result<String, LabError> {
        let chart = chart.display().to_string();
        let mut args = vec!["upgrade", "--install", release, &chart, "--namespace", namespace, "--create-namespace"];
        for value in values {
            args.extend(["--set", value]);
        }
        self.run(&args)
    }
}
