//! Keys that lowtide writes on pods and nodes. What the admission policies and owners write is in [`super::api::words`].

/// Pod annotation: the claim it is bound to.
pub const CLAIM: &str = "lowtide.dev/claim";
/// Pod annotation: the decision that bound it.
pub const DECISION: &str = "lowtide.dev/decision";
/// Pod annotation: how often it was bound.
pub const ATTEMPT: &str = "lowtide.dev/attempt";
/// Pod annotation: JSON of [`crate::core::workload::Baseline`], frozen when the pod was bound.
pub const BASELINE: &str = "lowtide.dev/baseline";
/// Pod annotation: JSON of [`crate::core::workload::Replaces`].
pub const REPLACES: &str = "lowtide.dev/replaces";
/// Pod annotation: JSON of [`crate::core::workload::LetGo`]; the pod runs on although its controller does not know it any more.
pub const LET_GO: &str = "lowtide.dev/let-go";
/// Pod annotation: JSON of [`crate::core::workload::Workload`], written when the pod is let go, because its controller reference ends.
pub const WORKLOAD_REF: &str = crate::core::workload::controllers::WORKLOAD_REF;

/// Pod label by which a ReplicaSet knows its pods.
pub const POD_TEMPLATE_HASH: &str = crate::core::workload::controllers::POD_TEMPLATE_HASH;
/// Pod label by which a Job knows its pods.
pub const JOB_CONTROLLER_UID: &str = "batch.kubernetes.io/controller-uid";

/// Node label: the EC2 instance id, written by the node itself when it boots.
pub const INSTANCE_ID: &str = "lowtide.dev/instance-id";
/// Node label: the node class, from the user data.
pub const NODE_CLASS: &str = "lowtide.dev/node-class";
/// Node label: how the node shares its GPUs, as in `mps-4`; absent where one pod has a GPU. A device plugin may choose its configuration by it.
pub const GPU_SHARING: &str = "lowtide.dev/gpu-sharing";
/// Node label: the zone id.
pub const ZONE: &str = "topology.kubernetes.io/zone";
/// Node label: the region.
pub const REGION: &str = "topology.kubernetes.io/region";
/// Node taint with effect `NoSchedule`: work leaves, none may come.
pub const LEAVING_TAINT: &str = "lowtide.dev/leaving";

/// Node pool annotation, written by a person: until then machines may be ended without anybody's asking faster than the breaker lets them.
/// A time as RFC 3339 writes it, at most a day ahead.
pub const ENDS_ALLOWED_UNTIL: &str = "lowtide.dev/ends-allowed-until";
/// Node taint with effect `NoSchedule`: whose work may come. A node registers with [`NO_CLAIM`]; the operator puts the claim in its place,
/// which only the pods bound to that claim tolerate.
pub const CLAIM_TAINT: &str = "lowtide.dev/claim";
/// The value of [`CLAIM_TAINT`] on a node that no claim has been found for.
pub const NO_CLAIM: &str = "none-yet";

/// The label of an EndpointSlice that names its Service.
pub const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// The field manager of everything lowtide writes.
pub const FIELD_MANAGER: &str = "lowtide";
/// Who reports lowtide's events.
pub const REPORTING_CONTROLLER: &str = "lowtide.dev/operator";
