//! What comes from outside: the spot data feed, the Cost and Usage Report, usage, revenue and other costs.
//!
//! Decides: that a file is taken whole or not at all, and that taking it twice changes nothing.
//! Does not: edit what is there: a value that changed is a further revision, and posting finds the difference.

mod costs;
mod cur;
mod feed;
mod gzip;
mod lines;
mod table;
mod usage;

pub use costs::import_costs;
pub use cur::import_cur;
pub use feed::import_feed;
pub use gzip::DamagedGzip;
pub use lines::{BillImport, ImportedLine};
pub(super) use usage::micro_units;
pub use usage::{UsageHour, import_revenue, import_usage, store_usage};

use std::path::{Path, PathBuf};

use super::store::LedgerFault;

/// A file could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum ImportFault {
    /// It cannot be read.
    #[error("{}: {cause}", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// What the system said.
        cause: std::io::Error,
    },
    /// It is damaged.
    #[error("{}: {cause}", path.display())]
    Damaged {
        /// Which.
        path: PathBuf,
        /// How.
        cause: DamagedGzip,
    },
    /// It is not what it should be.
    #[error("{}, line {line}: {fault}; nothing was taken", path.display())]
    Malformed {
        /// Which.
        path: PathBuf,
        /// Where; 1 is the first.
        line: u64,
        /// Expected and found.
        fault: String,
    },
    /// The ledger could not be used.
    #[error(transparent)]
    Ledger(#[from] LedgerFault),
}

/// How many rows were new, were a change, and were there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Taken {
    /// Not there before.
    pub new: usize,
    /// Of what was there, other values.
    pub changed: usize,
    /// There with the same values.
    pub same: usize,
}

impl std::fmt::Display for Taken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} new, {} changed, {} there already", self.new, self.changed, self.same)
    }
}

/// The text of a file, unpacked if it is gzip.
fn text_of(path: &Path) -> Result<String, ImportFault> {
    let at = || path.to_path_buf();
    let bytes = std::fs::read(path).map_err(|cause| ImportFault::Unreadable { path: at(), cause })?;
    let bytes = gzip::unpacked(bytes).map_err(|cause| ImportFault::Damaged { path: at(), cause })?;
    String::from_utf8(bytes).map_err(|fault| {
        let before = &fault.as_bytes()[..fault.utf8_error().valid_up_to()];
        let line = 1 + u64::try_from(before.iter().filter(|byte| **byte == b'\n').count()).unwrap_or(0);
        ImportFault::Malformed { path: at(), line, fault: "not UTF-8 text".into() }
    })
}
