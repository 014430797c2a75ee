//! Pods on machines that are being left, and pods whose gate is lifted: what is done with each.
//!
//! - [`guests`]: pods of others leave before a machine ends.
//! - [`lifting`]: gates of pods whose machine is Ready.
//! - [`maintenance`]: machines that EC2 has scheduled something for.
//! - [`migration`]: let go, replace, delete: the pods of claims that are being left.
//! - [`notices`]: which claims are doomed, and until when.
//! - [`returning`]: voluntary moves, beyond hysteresis only.
//! - [`warnings`]: what is done about machines that EC2 calls at risk.
//! - [`watching`]: pods that were lifted, until they run.

pub(super) mod guests;
pub(super) mod lifting;
pub(super) mod maintenance;
pub(super) mod migration;
pub(super) mod notices;
pub(super) mod returning;
pub(super) mod warnings;
pub(super) mod watching;
