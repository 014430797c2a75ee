//! What people are shown of the cluster, at a terminal (`kubectl lowtide`) and in the console: moves in flight, why a pod is where it is, and
//! what machines cost now.
//!
//! Decides: how what claims, pods and events say is put together, and nothing about machines.
//! Does not: draw (see `cli::kubectl` and `console`).

pub mod moves;
pub mod placed;
pub mod rates;
mod watched;

use k8s_openapi::api::core::v1::Pod;

pub use watched::Watched;

use super::api::GpuNodeClaim;
use super::names;
use crate::core::record::code_of;

/// An annotation of a pod.
pub fn annotation<'a>(pod: &'a Pod, key: &str) -> Option<&'a str> {
    pod.metadata.annotations.as_ref()?.get(key).map(String::as_str)
}

/// Whether lowtide has placed the pod.
pub fn is_placed(pod: &Pod) -> bool {
    annotation(pod, names::CLAIM).is_some()
}

/// A machine in short: type, capacity type and zone.
pub fn offer(claim: &GpuNodeClaim) -> String {
    format!("{} {} in {}", claim.spec.instance_type, code_of(&claim.spec.capacity_type), claim.spec.zone)
}
