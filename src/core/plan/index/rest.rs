//! What a machine at rest is known by, noted while the index is at its claim, its pods, its instance and its node.
//!
//! Decides: what is noted. Does not: say that a machine is at rest (`claims::resting` does).
//!
//! Whatever is noted is kept machine by machine in arrays: who puts it together reads those, and none of the objects again.

use crate::core::fleet::{Claim, Occupant};
use crate::core::market::CapacityType;
use crate::core::snapshot::Snapshot;
use crate::core::units::ids::Uid;
use crate::core::units::time::Timestamp;
use crate::core::workload::{Pod, PodPhase};

/// A claim with which nothing is under way: it has joined, nobody leaves, ends or doubts it, its pods are written down as Ready, and the ledger knows
/// that its machine was bought.
#[derive(Clone, Copy)]
pub(in crate::core::plan) struct Settled<'a> {
    /// GPU units that its node must have.
    pub(in crate::core::plan) gpus: i64,
    /// Instance-hours that the ledger has.
    pub(in crate::core::plan) hours: u32,
    /// How many pods are written down.
    pub(in crate::core::plan) occupants: u32,
    /// The node that its status names.
    node: &'a str,
    /// The uid of the pod that is written down, where it is only one: most machines, and a list is elsewhere in memory.
    only: Option<&'a str>,
    claim: &'a Claim,
}

/// What pods that hold a place on a machine say of it.
#[derive(Clone, Copy, Default)]
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
#[derive(Clone, Copy)]
pub(in crate::core::plan) struct Calm {
    /// EC2's launch time.
    pub(in crate::core::plan) launched_at: Timestamp,
    /// GPUs that pods can use.
    pub(in crate::core::plan) gpus: i64,
}

/// Copies of one name share its text, and that need not be read.
fn same(a: &str, b: &str) -> bool {
    std::ptr::eq(a, b) || a == b
}

impl<'a> Settled<'a> {
    pub(super) fn of(world: &'a Snapshot, claim: &'a Claim) -> Option<Self> {
        let (spec, status) = (&claim.spec, &claim.status);
        // The end of a reservation is watched by the rules.
        let open = spec.capacity.capacity_type != CapacityType::Reserved;
        let settled = open
            && claim.takes_work()
            && status.interruption.is_none()
            && status.scheduled.is_none()
            && status.node_ready_at.is_some()
            && status.unhealthy.is_none()
            && status.empty_since.is_none()
            && status.ended.is_none();
        if !settled || !status.occupants.iter().all(|o| o.to.is_none() && o.ready_at.is_some()) {
            return None;
        }
        world.pools.get(&spec.node_pool).filter(|pool| !pool.deleting)?;
        if claim.definition_to_note(&world.pools_defined).is_some() {
            return None;
        }
        let reported = world.reported.get(claim.books()).filter(|reported| reported.opened)?;
        let only = if let [only] = &status.occupants[..] { Some(only.pod.uid.as_str()) } else { None };
        Some(Settled {
            gpus: spec.gpu_units(&world.catalog),
            hours: reported.hours,
            occupants: u32::try_from(status.occupants.len()).ok()?,
            node: status.node.as_ref()?.as_str(),
            only,
            claim,
        })
    }

    fn has_written_down(&self, pod: &Uid) -> bool {
        let of_it = |occupant: &Occupant| same(occupant.pod.uid.as_str(), pod.as_str());
        self.only.map_or_else(|| self.claim.status.occupants.iter().any(of_it), |only| same(only, pod.as_str()))
    }
}

impl Here {
    pub(super) fn note(&mut self, settled: &Settled, pod: &Pod) {
        if pod.phase == PodPhase::Running && pod.started_at.is_some() {
            self.running += 1;
            self.written_down += u32::from(settled.has_written_down(&pod.identity.uid));
        }
        // Pods that only wait may hold a machine or not (`claims::ending` decides).
        self.at_work |= !pod.waits() && pod.node.as_ref().is_some_and(|node| same(node.as_str(), settled.node));
        // Its checkpoints.
        self.says_more |= pod.need.as_ref().is_ok_and(|(_, schedule)| schedule.checkpointed_at.is_some());
    }
}
