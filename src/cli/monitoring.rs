//! `lowtide monitoring`: writes the chart's dashboards and the metrics page, or says which are out of date.

use std::path::PathBuf;
use std::process::ExitCode;

/// Where the repository is.
#[derive(Debug, clap::Args)]
pub struct MonitoringArgs {
    /// The repository's folder.
    #[arg(long, default_value = ".")]
    folder: PathBuf,
    /// Write nothing; fail if a file is out of date.
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
            eprintln!("{} is out of date: run lowtide monitoring", path.display());
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
