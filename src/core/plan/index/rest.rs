//! What a machine at rest is known by, noted while the index is at its claim, its pods, its instance and its node.
//!
//! Decides: what is noted. Does not: say that a machine is at rest (`claims::resting` does).
//!
//! Whatever is noted is kept machine by machine in arrays: who puts it together reads those, and none of the objects again.

use super::places::same;
use crate::core::fleet::{Claim, Occupant};
use crate::core::market::CapacityType;
use crate::core::snapshot::Snapshot;
use crate::core::units::ids::NodeName;
use crate::core::units::time::Timestamp;
use crate::core::workload::{Pod, PodPhase};

/// A claim with which nothing is under way: it has joined, nobody leaves, ends or doubts it, and its pods are written down as Ready.
#[derive(Debug, Clone, Copy)]
pub(in crate::core::plan) struct Settled {
    /// GPU units that its node must have.
    pub(in crate::core::plan) gpus: i64,
    /// How many pods are written down.
    pub(in crate::core::plan) occupants: u32,
}

/// What pods that hold a place on a machine say of it.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::core::plan) struct Here {
    /// How many run there.
    pub(in crate::core::plan) running: u32,
    /// ... that the claim has written down.
    pub(in crate::core::plan) written_down: u32,
    /// One of them is on its node.
    pub(in crate::core::plan) at_work: bool,
    /// More is reported of one of them than that it is there.
    pub(in crate::core::plan) says_more: bool,
}

/// What is to be known of a machine that EC2 shows as running and ours, and whose node is whole.
#[derive(Debug, Clone, Copy)]
pub(in crate::core::plan) struct Calm {
    /// EC2's launch time.
    pub(in crate::core::plan) launched_at: Timestamp,
    /// GPUs that pods can use.
    pub(in crate::core::plan) gpus: i64,
}

impl Settled {
    /// By what stands in the claim itself.
    pub(super) fn by_itself(world: &Snapshot, claim: &Claim) -> Option<Self> {
        let (spec, status) = (&claim.spec, &claim.status);
        // The end of a reservation is watched by the rules.
        let open = spec.capacity.capacity_type != CapacityType::Reserved;
        let settled = open
            && claim.takes_work()
            && status.interruption.is_none()
            && status.scheduled.is_none()
            && status.node.is_some()
            && status.node_ready_at.is_some()
            && status.unhealthy.is_none()
            && status.empty_since.is_none()
            && status.ended.is_none();
        if !settled {
            return None;
        }
        world.pools.get(&spec.node_pool).filter(|pool| !pool.deleting)?;
        if claim.definition_to_note(&world.pools_defined).is_some() {
            return None;
        }
        Some(Settled { gpus: spec.gpu_units(&world.catalog), occupants: u32::try_from(status.occupants.len()).ok()? })
    }

    /// The same, if all pods of the claim are written down as Ready.
    pub(super) fn with_its_pods(self, claim: &Claim) -> Option<Self> {
        claim.status.occupants.iter().all(|o| o.to.is_none() && o.ready_at.is_some()).then_some(self)
    }
}

/// Instance-hours of the claim's machine that the ledger has; `None` where it does not know that it was bought.
pub(super) fn hours_of(world: &Snapshot, claim: &Claim) -> Option<u32> {
    world.reported.get(claim.books()).filter(|reported| reported.opened).map(|reported| reported.hours)
}

/// What pods and machines are compared with, of each claim, so that the claim need not be read again for it.
#[derive(Clone, Copy)]
pub(super) struct Face<'a> {
    claim: &'a Claim,
    pub(super) name: &'a str,
    /// The instance that its status names.
    pub(super) instance: Option<&'a str>,
    /// The node that its status names.
    node: Option<&'a str>,
    /// The uid of the pod that is written down, where it is only one: most machines, and a list is elsewhere in memory.
    only: Option<&'a str>,
}

impl<'a> Face<'a> {
    pub(super) fn of(claim: &'a Claim) -> Self {
        let status = &claim.status;
        Face {
            claim,
            name: claim.name.as_str(),
            instance: status.instance.as_ref().map(|id| id.as_str()),
            node: status.node.as_ref().map(NodeName::as_str),
            only: if let [only] = &status.occupants[..] { Some(only.pod.uid.as_str()) } else { None },
        }
    }

    fn has_written_down(&self, pod: &str) -> bool {
        let of_it = |occupant: &Occupant| same(occupant.pod.uid.as_str(), pod);
        self.only.map_or_else(|| self.claim.status.occupants.iter().any(of_it), |only| same(only, pod))
    }
}

/// What is to be known of a pod that holds a place, so that it need not be read again where it is put together with its claim.
#[derive(Clone, Copy)]
pub(super) struct Seen<'a> {
    /// Its position among all pods.
    pub(super) at: u32,
    /// The claim that it is bound to, and what that is looked up by.
    pub(super) claim: &'a str,
    pub(super) hash: u64,
    uid: &'a str,
    /// The node where it holds a machine. Pods that only wait may hold one or not (`claims::ending` decides).
    node: Option<&'a str>,
    runs: bool,
    /// Its checkpoints.
    says_more: bool,
}

impl<'a> Seen<'a> {
    pub(super) fn of(at: u32, pod: &'a Pod) -> Option<Self> {
        let claim = pod.claim.as_ref().filter(|_| !pod.finished())?;
        Some(Seen {
            at,
            claim: claim.as_str(),
            hash: 0,
            uid: pod.identity.uid.as_str(),
            node: pod.node.as_ref().filter(|_| !pod.waits()).map(NodeName::as_str),
            runs: pod.phase == PodPhase::Running && pod.started_at.is_some(),
            says_more: pod.need.as_ref().is_ok_and(|(_, schedule)| schedule.checkpointed_at.is_some()),
        })
    }
}

impl Here {
    pub(super) fn note(&mut self, face: &Face, pod: &Seen) {
        if pod.runs {
            self.running += 1;
            self.written_down += u32::from(face.has_written_down(pod.uid));
        }
        self.at_work |= pod.node.zip(face.node).is_some_and(|(on, own)| same(on, own));
        self.says_more |= pod.says_more;
    }
}
