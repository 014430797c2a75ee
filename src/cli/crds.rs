//! `lowtide crds`: prints the custom resource definitions, or writes one file per definition.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::kube::api;

/// Prints the custom resource definitions, or writes them to a folder.
#[derive(Debug, clap::Args)]
pub struct CrdsArgs {
    /// Write one file per definition into this folder instead of printing.
    #[arg(long, value_name = "DIR")]
    pub write: Option<PathBuf>,
}

/// Why the definitions could not be printed or written.
#[derive(Debug, thiserror::Error)]
pub enum CrdsError {
    /// A definition could not be written as YAML.
    #[error("the definition {file} could not be written as YAML: {message}")]
    Yaml {
        /// The file it belongs in.
        file: &'static str,
        /// What the writer said.
        message: String,
    },
    /// A file could not be written.
    #[error("{path} could not be written: {source}; choose a folder you may write to")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// Every definition as YAML, by file name.
///
/// # Errors
/// When a definition cannot be written as YAML.
pub fn rendered() -> Result<Vec<(&'static str, String)>, CrdsError> {
    let render = |(file, crd)| {
        let yaml = serde_saphyr::to_string(&crd).map_err(|e| CrdsError::Yaml { file, message: e.to_string() })?;
        Ok((file, format!("# Written by `lowtide crds --write`; the types are in src/kube/api.\n{}\n", yaml.trim_end())))
    };
    api::definitions().into_iter().map(render).collect()
}

/// Writes every definition into `folder`, which is created if missing.
///
/// # Errors
/// When a definition cannot be written as YAML, or a file cannot be written.
pub fn write(folder: &Path) -> Result<(), CrdsError> {
    let fault = |path: &Path| {
        let path = path.to_owned();
        move |source| CrdsError::Write { path, source }
    };
    std::fs::create_dir_all(folder).map_err(fault(folder))?;
    for (file, yaml) in rendered()? {
        let path = folder.join(file);
        std::fs::write(&path, yaml).map_err(fault(&path))?;
    }
    Ok(())
}

/// Runs `lowtide crds`.
pub fn run(args: CrdsArgs) -> ExitCode {
    let done = match args.write {
        Some(folder) => write(&folder),
        None => rendered().map(|all| all.iter().for_each(|(_, yaml)| print!("---\n{yaml}"))),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            eprintln!("lowtide crds: {fault}");
            ExitCode::FAILURE
        }
    }
}
