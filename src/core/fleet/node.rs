//! A Kubernetes node of ours.

use std::sync::Arc;

use super::tag_list::TagList;
use crate::core::market::catalog::MachineType;
use crate::core::units::Resources;
use crate::core::units::ids::{InstanceId, NodeName};
use crate::core::units::shared::Shared;
use crate::core::units::time::Millis;
use crate::core::workload::need::do_not_disrupt::Stay;
use crate::core::workload::{PodIdentity, PodRules};

/// A node of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its name.
    pub name: NodeName,
    /// The instance it claims to run on; believed only if EC2 agrees (see [`super::doubts`]).
    pub instance: InstanceId,
    /// Its addresses and host names, as its kubelet reports them.
    pub addresses: Vec<String>,
    /// The kubelet says Ready.
    pub ready: bool,
    /// What pods can use.
    pub allocatable: Resources,
    /// The claim label is on it.
    pub labelled: bool,
    /// The NoSchedule taint that keeps new work off a machine that is left is on it.
    pub tainted: bool,
    /// The NoSchedule taint of the claim in its label is on it, which only pods that are bound to that claim tolerate.
    pub guarded: bool,
    /// What else the scheduler and people see.
    pub state: NodeState,
}

impl Node {
    /// What pods can have of it: what its kubelet says, but of what is fought over no more than `machine` has, in `units` of its GPUs. Whoever is root on a
    /// machine writes what its kubelet says, and would have everybody's pods placed there.
    pub fn usable_of(&self, machine: &MachineType, units: i64) -> Resources {
        let (said, most) = (self.allocatable, machine.capacity());
        Resources { cpu: said.cpu.min(most.cpu), memory: said.memory.min(most.memory), gpus: said.gpus.min(units), ..said }
    }

    /// It is Ready, and nobody keeps pods off it or reports a fault of it.
    pub fn is_whole(&self) -> bool {
        self.ready && !self.state.cordoned && self.state.foreign_taints.is_empty() && self.state.gpu_faults.is_empty()
    }
}

/// What the scheduler and people see of a node, besides its capacity.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NodeState {
    /// It was cordoned (`spec.unschedulable`).
    pub cordoned: bool,
    /// Keys of taints with effect NoSchedule or NoExecute that neither lowtide, nor its class, nor Kubernetes itself put there.
    pub foreign_taints: Vec<String>,
    /// Conditions that report a broken GPU, as node monitors write them.
    pub gpu_faults: Vec<String>,
    /// Its labels.
    pub labels: Arc<TagList>,
    /// Pods on it that are not ours and not of a DaemonSet that is there.
    pub others: Vec<OtherPod>,
}

/// A pod on a node of ours without our annotations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtherPod {
    /// Which.
    pub pod: PodIdentity,
    /// What it requests.
    pub requests: Resources,
    /// With which pods it may run, as far as others depend on it.
    pub rules: Shared<PodRules>,
    /// `terminationGracePeriodSeconds`.
    pub termination_grace: Millis,
    /// Deletion was requested.
    pub deleting: bool,
    /// Until when no move by choice disturbs it.
    pub stays: Stay,
    /// It is the mirror of a static pod: it takes room, and nobody can end it through the API.
    pub mirror: bool,
}
