//! What made lowtide decide: the closed list that claims, decisions and the ledger share.

use serde::{Deserialize, Serialize};

/// What made lowtide decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Trigger {
    /// A gated pod waits.
    PendingPod,
    /// EC2 will take the machine back.
    InterruptionNotice,
    /// EC2 says the machine is at risk.
    RebalanceRecommendation,
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
    /// The node is older than its pool allows.
    Expired,
    /// The pool or claim was deleted.
    Deleted,
    /// One of our instances that no claim stands for.
    Unclaimed,
    /// A person took the machine over from a cluster that is gone.
    Adopted,
    /// A word of another version. Only objects that somebody else wrote have it; the object keeps the word.
    #[serde(other)]
    Unknown,
}
