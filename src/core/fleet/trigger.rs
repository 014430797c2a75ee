//! What triggers a decision: the closed list that claims, decisions and the ledger share.

use serde::{Deserialize, Serialize};

/// What triggered a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Trigger {
    /// A gated pod is waiting.
    PendingPod,
    /// EC2 will take the machine back.
    InterruptionNotice,
    /// EC2 says the machine is at risk.
    RebalanceRecommendation,
    /// EC2 has scheduled a reboot, maintenance or the retirement of the machine.
    ScheduledMaintenance,
    /// A launch was refused; another offer is tried.
    LaunchRefused,
    /// The capacity reservation it runs in ends.
    ReservationEnding,
    /// Spot beats the on-demand it runs on, beyond hysteresis.
    ReturnToSpot,
    /// A cheaper offer beats the one it runs on, beyond hysteresis.
    CheaperOffer,
    /// The node has no work left.
    Empty,
    /// The machine never joined.
    NeverJoined,
    /// The machine joined without its GPUs.
    NoGpus,
    /// The machine is gone without a notice.
    InstanceLost,
    /// Its Node object is gone although the machine is running.
    NodeGone,
    /// The kubelet has been silent, or not Ready, for too long.
    NodeNotReady,
    /// The node was cordoned.
    Cordoned,
    /// The node was tainted by others.
    NodeTainted,
    /// The node has fewer GPUs than were bought.
    GpusLost,
    /// The node reports a broken GPU.
    GpuFault,
    /// The node is older than its pool allows.
    Expired,
    /// The node is not as its pool and class would make it now.
    Drifted,
    /// The pool or claim was deleted.
    Deleted,
    /// One of our instances without a claim.
    Unclaimed,
    /// A person took the machine over from a cluster that is gone.
    Adopted,
    /// A value from another version. Only objects written by others have it; the object keeps the value.
    #[serde(other)]
    Unknown,
}

impl Trigger {
    /// Something is wrong with the node, as Kubernetes or people say, though EC2 runs its machine.
    pub fn is_of_the_node(self) -> bool {
        use Trigger::{Cordoned, GpuFault, GpusLost, NodeGone, NodeNotReady, NodeTainted};
        matches!(self, NodeGone | NodeNotReady | Cordoned | NodeTainted | GpusLost | GpuFault)
    }

    /// Nobody asked for it, and neither EC2 nor a person said it: the breaker counts such ends.
    pub fn is_only_seen(self) -> bool {
        self == Trigger::InstanceLost || (self.is_of_the_node() && self != Trigger::Cordoned)
    }
}
