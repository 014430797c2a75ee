//! What can go wrong in the lab, each with what to do about it.

use std::path::PathBuf;

/// A fault of the lab.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// A file or folder could not be used.
    #[error("{what}: {source}")]
    Io {
        /// What was being done, with the path.
        what: String,
        /// The system's answer.
        source: std::io::Error,
    },
    /// A control plane binary is not there.
    #[error("{name} is not in {}; build it with `make tools` (Go 1.26 needed, once)", .folder.display())]
    ToolMissing {
        /// The binary.
        name: &'static str,
        /// Where it was looked for.
        folder: PathBuf,
    },
    /// The private Postgres server could not be had.
    #[error(transparent)]
    Postgres(#[from] super::postgres::PostgresFault),
    /// A process ended when it should run on.
    #[error("{name} ended early; its log is {}; last lines:\n{tail}", .log.display())]
    Ended {
        /// The process.
        name: String,
        /// Its log.
        log: PathBuf,
        /// The end of the log.
        tail: String,
    },
    /// Something did not become ready in time.
    #[error("{what} was not ready after {seconds} s; last answer: {last}; logs are in {}", .logs.display())]
    NotReady {
        /// What was waited for.
        what: String,
        /// How long.
        seconds: u64,
        /// What was seen last.
        last: String,
        /// Where to look.
        logs: PathBuf,
    },
    /// A command answered with an error.
    #[error("`{command}` failed ({status}):\n{output}")]
    Command {
        /// The command line.
        command: String,
        /// Exit status.
        status: String,
        /// What it printed.
        output: String,
    },
    /// Kubernetes refused something.
    #[error("{what}: {source}")]
    Kube {
        /// What was being done.
        what: String,
        /// The API's answer.
        source: Box<kube::Error>,
    },
    /// An answer or document did not read as it must.
    #[error("{what}: expected {expected}, found {found}")]
    Unreadable {
        /// Which document.
        what: String,
        /// What was expected.
        expected: String,
        /// What came.
        found: String,
    },
}

impl LabError {
    /// For `map_err`: an I/O fault while doing `what`.
    pub fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> LabError {
        let what = what.into();
        move |source| LabError::Io { what, source }
    }
    /// For `map_err`: a Kubernetes fault while doing `what`.
    pub fn kube(what: impl Into<String>) -> impl FnOnce(kube::Error) -> LabError {
        let what = what.into();
        move |source| LabError::Kube { what, source: Box::new(source) }
    }
}
