//! One of our EC2 instances, as EC2 describes it, and the tags that identify its owner.

use super::tag_list::TagList;
use crate::core::market::Capacity;
use crate::core::units::ids::InstanceId;
use crate::core::units::time::Timestamp;

/// A state of an EC2 instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InstanceState {
    /// Not paid for yet.
    Pending,
    /// Paid for.
    Running,
    /// Somebody stopped it, or is about to: it computes nothing, its volumes cost, and whoever may can start it again.
    Stopped,
    /// On its way out.
    ShuttingDown,
    /// Gone.
    Terminated,
}

/// One of our instances, as EC2 describes it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Instance {
    /// Its id.
    pub id: InstanceId,
    /// What it is.
    #[serde(rename = "pool")]
    pub capacity: Capacity,
    /// Its state.
    pub state: InstanceState,
    /// EC2's launch time.
    pub launched_at: Timestamp,
    /// When it ended, if EC2 says so.
    pub ended_at: Option<Timestamp>,
    /// `StateReason.Code`, e.g. `Server.SpotInstanceTermination`.
    pub state_reason: Option<String>,
    /// When EC2 decided to take it back, according to its spot request (`instance-terminated-no-capacity` and similar).
    pub spot_request_status: Option<Box<(String, Timestamp)>>,
    /// Its private DNS name (whole, and its first label) and private addresses according to EC2: they identify its Node.
    pub addresses: Vec<String>,
    /// Its tags.
    pub tags: TagList,
}

/// Tag keys of an instance. Keys carry no `/`, so that they can be read from instance metadata.
pub mod tags {
    /// Cluster name: what is ours.
    pub const CLUSTER: &str = "lowtide-cluster";
    /// The cluster's UID, that of its namespace `kube-system`: distinguishes clusters with the same name.
    pub const CLUSTER_UID: &str = "lowtide-cluster-uid";
    /// Node class name.
    pub const CLASS: &str = "lowtide-class";
    /// Claim name.
    pub const CLAIM: &str = "lowtide-claim";
    /// Claim uid, from which the token is derived.
    pub const CLAIM_UID: &str = "lowtide-claim-uid";
    /// Of an adopted machine: the uid of the claim it was launched for, under which the ledger keeps its books.
    pub const BOOKS: &str = "lowtide-books";
    /// Decision id.
    pub const DECISION: &str = "lowtide-decision";
    /// Node pool name.
    pub const POOL: &str = "lowtide-pool";
    /// What EC2 itself writes on a machine that a fleet launched, as all of ours are. Nobody else can: `aws:` is reserved, and "launch more like
    /// this" copies every tag but those (<https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/Using_Tags.html>, restrictions).
    pub const FLEET: &str = "aws:ec2:fleet-id";
}
