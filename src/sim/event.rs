//! What can happen in the simulated world at a moment that was set before.
//!
//! Does not: say what it does. [`super::world`] does.

use super::kube::Replicated;
use super::market::Turn;
use super::people::Deed;
use crate::core::units::ids::{ClaimName, InstanceId, NodeName, Uid};

/// Who makes a pod, and makes it again.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Owner {
    /// A Deployment or a StatefulSet, by name.
    Replicated(String),
    /// A Job, by name.
    Job(String),
    /// Nobody's: a bare pod, by its own name.
    Nobody(String),
}

/// What happens at a moment that was set before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The market moves.
    Market(Turn),
    /// EC2 says of every machine in the pool with this index that it is at risk.
    AtRisk(usize),
    /// EC2 schedules something for some machine.
    EventScheduled,
    /// The date of what EC2 has scheduled for a machine.
    ScheduledComes(InstanceId),
    /// What EC2 has scheduled for a machine will not be.
    CalledOff(InstanceId),
    /// Somebody changes a node class.
    ClassChanges,
    /// A message can be received.
    MessageComes,
    /// An instance is running.
    Runs(InstanceId),
    /// A machine's kubelet joins.
    Joins(InstanceId),
    /// EC2 takes a machine that it had announced.
    TakenBack(InstanceId),
    /// A machine has ended.
    MachineGone(InstanceId),
    /// A node has been silent for too long.
    NodeSilent(NodeName),
    /// A controller looks at its pods.
    Reconciles(Owner),
    /// The scheduler looks at a pod.
    Schedules(Uid),
    /// A pod has started.
    PodStarts(Uid),
    /// A pod that was asked to end has ended.
    PodEnds(Uid),
    /// A pod object is removed, whatever its kubelet thinks.
    PodRemoved(Uid),
    /// The pod of a deleted Node is collected.
    PodCollected(Uid),
    /// A Job's pod has done its work.
    WorkDone(Uid),
    /// The watches show what is there.
    WatchesShow,
    /// Somebody does something.
    Done(Deed),
    /// A workload that was deleted is created again.
    Recreate(String, Box<Replicated>),
    /// The owner of a bare pod looks whether it runs.
    OwnerLooks(Uid),
    /// What another version wrote can be read again.
    Readable(ClaimName),
    /// The next trouble.
    Trouble,
    /// The control plane is restored from an old backup.
    BackupRestored,
    /// The definition of node pools is deleted.
    PoolsUndefined,
    /// It is applied again.
    PoolsDefined,
    /// So are the pools.
    PoolsApplied,
    /// Somebody adopts machines whose claims are missing; this many looks are left.
    Adopts(u32),
    /// Somebody registers a Node that says it is a machine of ours.
    NodeForged,
    /// Somebody finds it and takes it away.
    ForgedNodeGoes(NodeName),
    /// Somebody takes the taint of its claim off a node.
    NodeBared,
    /// The kubelets of a region can no longer reach the API server.
    KubeletsCutOff,
    /// They can again.
    KubeletsBack,
}
