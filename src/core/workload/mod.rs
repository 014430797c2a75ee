//! The work: what a pod needs, whose it is, how it can be moved, and what runs beside it.

pub mod daemonsets;
pub mod need;
mod owner;
mod pod;
pub mod service_memory;
pub mod sharing;
pub mod shortfall;

pub use owner::{Attribution, Baseline, PodIdentity, Workload};
pub use pod::{LetGo, Mobility, Pod, PodPhase, Replaces, WorkBefore};
