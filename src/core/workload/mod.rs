//! The work: what a pod needs, who owns it, how it can be moved, and what runs next to it.

pub mod alike_pods;
mod between;
pub mod company;
pub mod controllers;
pub mod daemonsets;
pub mod labels;
pub mod need;
mod owner;
mod pod;
pub mod pod_reader;
pub mod preferences;
pub mod service_memory;
pub mod sharing;
pub mod shortfall;
pub mod volumes;

pub use company::PodRules;
pub use owner::{Attribution, Baseline, PodIdentity, Workload};
pub use pod::{LetGo, Mobility, Pod, PodPhase, Replaces, Stuck, WorkBefore};
