//! What the ledger, the statuses and people are given to read.
//!
//! - [`facts`]: what the ledger receives of what was observed.
//! - [`status`]: what pools and classes show.
//! - [`wording`]: decisions in sentences.

pub(super) mod facts;
pub(super) mod status;
pub(super) mod wording;
