//! `lowtide monitoring`: writes the dashboards of the chart and the page of metrics, or says which are behind.

use std::path::PathBuf;
use std::process::ExitCode;

/// Where the repository is.
#[derive(Debug, clap::Args)]
pub struct MonitoringArgs {
    /// The repository's folder.
    #[arg(long, default_value = ".")]
    folder: PathBuf,
    /// Writes nothing; fails when a file is not what would be written.
    #[arg(long)]
    check: bool,
}

/// Runs `lowtide monitoring`.
pub fn run(args: MonitoringArgs) -> ExitCode {
    let mut behind = false;
    for (path, content) in crate::monitoring::files() {
        let path = args.folder.join(path);
        if std::fs::read_to_string(&path).is_ok_and(|found| found == content) {
            continue;
        }
        if args.check {
            eprintln!("{} is behind: run lowtide monitoring", path.display());
            behind = true;
            continue;
        }
        let written = path.parent().map_or(Ok(()), std::fs::create_dir_all).and_then(|()| std::fs::write(&path, content));
        if let Err(fault) = written {
            eprintln!("{} cannot be written: {fault}; is --folder the repository?", path.display());
            return ExitCode::FAILURE;
        }
        println!("wrote {}", path.display());
    }
    if behind { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
