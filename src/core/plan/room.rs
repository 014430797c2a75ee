//! Room on machines we have or are about to have.
//!
//! Decides: what is free on a machine, and for whom it is kept: a pod that a machine was bought for finds its place there, however late it
//! is bound.
//! Does not: choose among rooms (see [`crate::core::placement`]).

use std::collections::BTreeSet;

use super::pass::Pass;
use crate::core::fleet::Claim;
use crate::core::placement::Room;
use crate::core::units::ids::ClaimName;
use crate::core::units::{Mebibytes, Millicores, Resources};
use crate::core::workload::{Pod, PodPhase};

/// Room on machines that take work, ready or on their way, except on those in `without`.
pub(super) fn free_room(pass: &Pass, without: &BTreeSet<ClaimName>) -> Vec<Room> {
    let usable = pass.claims.values().filter(|claim| is_usable(pass, claim) && !without.contains(&claim.name));
    usable.filter_map(|claim| free_of(pass, claim)).collect()
}

/// Room on one machine, if it takes work and has some.
pub(super) fn free_on(pass: &Pass, claim: &Claim) -> Option<Room> {
    if is_usable(pass, claim) { free_of(pass, claim) } else { None }
}

fn free_of(pass: &Pass, claim: &Claim) -> Option<Room> {
    let mut room = room_on(pass, claim)?;
    for pod in expected_on(pass, claim) {
        take(&mut room.free, pod);
    }
    (room.free.gpus > 0).then_some(room)
}

/// The machine that was bought for a pod that is bound to nothing, if it still has its place there.
pub(super) fn kept_for<'a>(pass: &'a Pass, pod: &Pod) -> Option<&'a Claim> {
    if pod.claim.is_some() {
        return None;
    }
    let bought = pass.index.bought_for(&pod.identity.uid).iter().filter_map(|name| pass.claims.get(name));
    let claim = bought.into_iter().find(|claim| is_usable(pass, claim))?;
    let mut room = room_on(pass, claim)?;
    take(&mut room.free, pod);
    let free = room.free;
    (free.gpus >= 0 && free.cpu.0 >= 0 && free.memory.0 >= 0).then_some(claim)
}

fn is_usable(pass: &Pass, claim: &Claim) -> bool {
    claim.takes_work() && claim.is_observed() && !pass.world.ending.contains(&claim.name)
}

/// Pods that the machine was bought for and that are bound to nothing yet.
fn expected_on<'a>(pass: &'a Pass, claim: &'a Claim) -> impl Iterator<Item = &'a Pod> {
    let known = claim.spec.bought_for.iter().filter_map(|named| pass.world.pods.get(&named.uid));
    known.filter(|pod| pod.claim.is_none() && pod.phase == PodPhase::Gated && pod.deleting_until.is_none())
}

/// What is free beside the pods that are bound there; may be none.
fn room_on(pass: &Pass, claim: &Claim) -> Option<Room> {
    let machine = pass.world.catalog.types.get(&claim.spec.capacity.instance_type)?;
    let node = claim.status.node.as_ref().and_then(|name| pass.index.node(name));
    let units = claim.spec.sharing.units(machine);
    let allocatable = node.map_or(Resources { gpus: units.count, ..machine.allocatable() }, |n| n.allocatable);
    let daemonsets = pass.daemonset_overhead(&claim.spec.node_class);
    let mut free = Resources {
        cpu: Millicores(allocatable.cpu.0 - daemonsets.cpu.0),
        memory: Mebibytes(allocatable.memory.0 - daemonsets.memory.0),
        gpus: allocatable.gpus - daemonsets.gpus,
    };
    for pod in pass.index.pods_on(&claim.name) {
        take(&mut free, pod);
    }
    Some(Room {
        claim: claim.name.clone(),
        pool: claim.spec.capacity.clone(),
        free,
        gpu_memory: units.memory,
        most_units_per_pod: units.most_per_pod,
        node_pool: claim.spec.node_pool.clone(),
        ready: claim.status.node_ready_at.is_some(),
    })
}

fn take(free: &mut Resources, pod: &Pod) {
    match &pod.need {
        Ok((need, _)) => {
            free.cpu.0 -= need.cpu.0;
            free.memory.0 -= need.memory.0;
            free.gpus -= need.gpus;
        }
        // What cannot be read may take all there is.
        Err(_) => free.gpus = 0,
    }
}
