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
/// Pod annotation: JSON of [`crate::core::workload::LetGo`]; the pod keeps running although its controller no longer selects it.
pub const LET_GO: &str = "lowtide.dev/let-go";
/// Pod annotation: JSON of [`crate::core::workload::Workload`], written when the pod is released, because it loses its controller
/// reference.
pub const WORKLOAD_REF: &str = crate::core::workload::controllers::WORKLOAD_REF;

/// Pod label by which a ReplicaSet selects its pods.
pub const POD_TEMPLATE_HASH: &str = crate::core::workload::controllers::POD_TEMPLATE_HASH;
/// Pod label by which a Job selects its pods.
pub const JOB_CONTROLLER_UID: &str = "batch.kubernetes.io/controller-uid";

/// Namespace label: lowtide leaves the pods there alone. The chart's `admission.ignoreLabel` may name another.
pub const IGNORE: &str = "lowtide.dev/ignore";
/// Node label: the EC2 instance id, written by the node itself when it boots.
pub const INSTANCE_ID: &str = "lowtide.dev/instance-id";
/// Node label: the node class, from the user data.
pub const NODE_CLASS: &str = "lowtide.dev/node-class";
/// Node label: how the node shares its GPUs, e.g. `mps-4`; absent if each pod has a whole GPU. A device plugin may choose its configuration
/// by it.
pub const GPU_SHARING: &str = "lowtide.dev/gpu-sharing";
/// Node label: the zone id.
pub const ZONE: &str = "topology.kubernetes.io/zone";
/// Node label: the region.
pub const REGION: &str = "topology.kubernetes.io/region";
/// Node taint with effect `NoSchedule`: work is leaving, none may come.
pub const LEAVING_TAINT: &str = "lowtide.dev/leaving";

/// Node pool annotation, written by a person: until then, machines that nobody asked to terminate may go faster than the breaker allows. An
/// RFC 3339 time, at most a day ahead.
pub const ENDS_ALLOWED_UNTIL: &str = "lowtide.dev/ends-allowed-until";
/// Node taint with effect `NoSchedule`: whose work may come. A node registers with [`NO_CLAIM`]; the operator replaces it with the claim,
/// which only the pods bound to that claim tolerate.
pub const CLAIM_TAINT: &str = "lowtide.dev/claim";
/// The value of [`CLAIM_TAINT`] on a node that no claim has been found for.
pub const NO_CLAIM: &str = "none-yet";

/// The label of an EndpointSlice that holds its Service's name.
pub const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// The field manager of everything lowtide writes.
pub const FIELD_MANAGER: &str = "lowtide";
/// Who reports lowtide's events.
pub const REPORTING_CONTROLLER: &str = "lowtide.dev/operator";
