//! The custom resources of group `lowtide.dev`, as Rust types. `crds/` is generated from them (`lowtide crds --write`).
//!
//! Decides: field names, defaults, which values the API server refuses, and what `kubectl get` prints.
//! Does not: convert objects into what the core reads (see the adapter next to this module).
//!
//! Conventions: units are in field names, money is a decimal string (a number would lose its last zero in a printer column),
//! and points in time are RFC 3339 with milliseconds, because phases of a migration are measured in milliseconds.
// kube wants one `printcolumn(...)` per printer column.
#![allow(clippy::duplicated_attributes)]

pub mod condition;
pub mod decision;
pub mod moment;
pub mod node_claim;
pub mod node_class;
pub mod node_pool;
pub mod node_settings;
pub mod schema;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;

pub use condition::{Condition, ConditionStatus};
pub use decision::{GpuDecision, GpuDecisionSpec};
pub use moment::Moment;
pub use node_claim::{GpuNodeClaim, GpuNodeClaimSpec, GpuNodeClaimStatus};
pub use node_class::{GpuNodeClass, GpuNodeClassSpec, GpuNodeClassStatus};
pub use node_pool::{GpuNodePool, GpuNodePoolSpec, GpuNodePoolStatus};

/// The API group of every object of ours.
pub const GROUP: &str = "lowtide.dev";
/// The one version served and stored.
pub const VERSION: &str = "v1";
/// The finalizer of a claim: it guards the instance, nothing else.
pub const CLAIM_FINALIZER: &str = "lowtide.dev/instance";
/// The finalizer of a node pool: it is removed with the pool's last claim.
pub const POOL_FINALIZER: &str = "lowtide.dev/claims";

/// What the chart's admission policies put on pods, and what they look at. The chart repeats these strings; a test compares them.
/// Which annotations an owner may write is in [`crate::core::workload::need::OWNER_KEYS`].
pub mod words {
    /// Prefix of every annotation an owner may write.
    pub const PREFIX: &str = "lowtide.dev/";
    /// The annotation that makes a pod ours.
    pub const WORKLOAD: &str = "lowtide.dev/workload";
    /// The label that the mutating policy adds.
    pub const MANAGED_LABEL: &str = "lowtide.dev/managed";
    /// The scheduling gate that the mutating policy adds and the operator lifts.
    pub const GATE: &str = "lowtide.dev/placement";
    /// The extended resource that counts GPUs, and the key of the taint on GPU nodes.
    pub const GPU_RESOURCE: &str = "nvidia.com/gpu";
    /// The node label that pins a pod to a claim. Kubelets may not set labels under this prefix themselves (NodeRestriction).
    pub const CLAIM_NODE_LABEL: &str = "lowtide.node-restriction.kubernetes.io/claim";
}

/// All definitions, by file name, in the order they are installed.
pub fn definitions() -> [(&'static str, CustomResourceDefinition); 4] {
    [
        ("gpunodepools.yaml", GpuNodePool::crd()),
        ("gpunodeclasses.yaml", GpuNodeClass::crd()),
        ("gpunodeclaims.yaml", GpuNodeClaim::crd()),
        ("gpudecisions.yaml", GpuDecision::crd()),
    ]
}
