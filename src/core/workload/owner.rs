//! Who owns a pod: its workload, its identity, who pays, and what it would have cost otherwise.
//!
//! Decides: which labels say who pays.

use serde::{Deserialize, Serialize};

use super::need::WorkloadKind;
use crate::core::units::ids::{ObjectRef, Uid};
use crate::core::units::money::MicroUsdPerHour;
use crate::core::units::shared::Shared;

/// What one replica would have cost per hour otherwise, frozen when its pod was placed and carried by the pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct Baseline {
    /// B1: cheapest on-demand at home.
    pub b1_per_replica_hour: Option<MicroUsdPerHour>,
    /// B2: cheapest spot at home.
    pub b2_per_replica_hour: Option<MicroUsdPerHour>,
}

/// Who owns the work and who pays.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct Attribution {
    /// Label `team`.
    pub team: Option<String>,
    /// Label `service`.
    pub service: Option<String>,
    /// Label `environment`.
    pub environment: Option<String>,
    /// Label `cost-center`.
    pub cost_center: Option<String>,
    /// Label `product-area`.
    pub product_area: Option<String>,
    /// The kind of spend: label `component`, otherwise `training` for batch and `inference` for serving work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub component: Option<String>,
}

impl Attribution {
    /// The same, with the component of `kind` if there is no label.
    pub fn or_component_of(self, kind: WorkloadKind) -> Self {
        let of_kind = match kind {
            WorkloadKind::Inference => "inference",
            WorkloadKind::Batch => "training",
        };
        Attribution { component: self.component.or_else(|| Some(of_kind.to_owned())), ..self }
    }
}

/// The workload a pod belongs to: its topmost controller that we know (Deployment, StatefulSet, Job), or the pod itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Workload {
    /// `Deployment`, `StatefulSet`, `Job`, `ReplicaSet`, `Pod`.
    pub kind: String,
    /// Where and what.
    #[serde(flatten)]
    pub object: ObjectRef,
}

/// A pod as identified in a decision.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PodIdentity {
    /// Where and what; whoever names the pod shares it.
    #[serde(flatten)]
    pub object: Shared<ObjectRef>,
    /// Its uid.
    pub uid: Uid,
}
