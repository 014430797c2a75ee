//! A Kubernetes node of ours.

use std::collections::BTreeSet;

use crate::core::units::Resources;
use crate::core::units::ids::{InstanceId, NodeName};

/// A node of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its name.
    pub name: NodeName,
    /// The instance that it says it runs on; believed only when EC2 agrees (see [`super::doubts`]).
    pub instance: InstanceId,
    /// Its addresses and host names, as its kubelet reports them.
    pub addresses: BTreeSet<String>,
    /// The kubelet says Ready.
    pub ready: bool,
    /// What pods can use of it.
    pub allocatable: Resources,
    /// The claim label is on it.
    pub labelled: bool,
    /// Our NoSchedule taint is on it.
    pub tainted: bool,
}
