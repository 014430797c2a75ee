//! Pods on machines that are being left, and pods whose gate is lifted: what is done with each.
//!
//! - [`choice`]: what must hold before a machine is left that nobody takes.
//! - [`guests`]: pods of others leave before a machine ends.
//! - [`lifting`]: gates of pods whose machine is Ready.
//! - [`maintenance`]: machines that EC2 has scheduled something for.
//! - [`migration`]: let go, replace, delete: the pods of claims that are being left.
//! - [`notices`]: which claims are doomed, and until when.
//! - [`renewing`]: machines that have expired or drifted.
//! - [`returning`]: voluntary moves, beyond hysteresis only.
//! - [`warnings`]: what is done about machines that EC2 calls at risk.
//! - [`watching`]: pods that were lifted, until they run.

mod choice;
pub(super) mod guests;
pub(super) mod lifting;
pub(super) mod maintenance;
pub(super) mod migration;
pub(super) mod notices;
mod renewing;
pub(super) mod returning;
pub(super) mod warnings;
pub(super) mod watching;
