//! Room on machines we have or are about to have.
//!
//! Decides: what is free on a machine, and for whom it is kept: a pod that a machine was bought for finds its place there, however late it
//! is bound.
//! Does not: choose among rooms (see [`crate::core::placement`]).

use std::collections::BTreeSet;
use std::sync::Arc;

use super::super::pass::Pass;
use super::apart;
use super::asking::{self, class_labels};
use crate::core::fleet::{Claim, Node, NodeClass};
use crate::core::placement::{Room, RoomNode};
use crate::core::units::Resources;
use crate::core::units::ids::ClaimName;
use crate::core::workload::{Pod, PodPhase};

/// Room on machines that take work, ready or on their way, except on those in `without`.
pub(in crate::core::plan) fn free_room(pass: &Pass, without: &BTreeSet<ClaimName>) -> Vec<Room> {
    let usable = pass.claims.values().filter(|claim| is_usable(pass, claim) && !without.contains(&claim.name));
    usable.filter_map(|claim| free_of(pass, claim)).collect()
}

/// Room on one machine, if it takes work and has some.
pub(in crate::core::plan) fn free_on(pass: &Pass, claim: &Claim) -> Option<Room> {
    if is_usable(pass, claim) { free_of(pass, claim) } else { None }
}

fn free_of(pass: &Pass, claim: &Claim) -> Option<Room> {
    let mut room = room_on(pass, claim)?;
    for pod in expected_on(pass, claim) {
        take(&mut room.free, pod);
        let (has, avoids) = asking::terms(pass).marks.on(&pod.object().namespace, &pod.rules);
        (room.node.has, room.node.avoids) = (room.node.has | has, room.node.avoids | avoids);
        asking::terms(pass).marks.count(&mut room.node.counts, &pod.object().namespace, &pod.rules);
    }
    (room.free.gpus > 0).then_some(room)
}

/// The machine that was bought for a pod that is bound to nothing, if it still has its place there.
pub(in crate::core::plan) fn kept_for<'a>(pass: &'a Pass, pod: &Pod) -> Option<&'a Claim> {
    if pod.claim.is_some() {
        return None;
    }
    let bought = pass.index.bought_for(&pod.identity.uid).iter().filter_map(|name| pass.claims.get(name));
    let claim = bought.into_iter().find(|claim| is_usable(pass, claim))?;
    let mut room = room_on(pass, claim)?;
    take(&mut room.free, pod);
    let free = room.free;
    let fits = free.gpus >= 0 && free.cpu.0 >= 0 && free.memory.0 >= 0 && free.disk.0 >= 0;
    let misfit = pod.need.as_ref().is_ok_and(|(need, _)| room.node.misfits.contains(&need.fingerprint()));
    let apart = apart::of(pass, &asking::terms(pass).marks, pod);
    let alone = !apart.agrees(room.node.has, room.node.avoids) || apart.not.iter().any(|area| area.holds(&claim.spec.capacity));
    let full = apart.left_on(&room.node) < 1;
    (fits && !misfit && !alone && !full).then_some(claim)
}

fn is_usable(pass: &Pass, claim: &Claim) -> bool {
    let node = claim.status.node.as_ref().map(|name| pass.world.nodes.get(name));
    // A node that had joined and is not there any more has no room either.
    let open = node.is_none_or(|found| found.is_some_and(is_open));
    open && claim.takes_work()
        && !claim.is_warned()
        && claim.status.scheduled.is_none()
        && claim.is_observed()
        && !pass.world.ending.contains(&claim.name)
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
    let class = pass.world.classes.get(&claim.spec.node_class);
    let expected = class.map_or_else(|| machine.allocatable(), |class| class.allocatable(machine));
    let mut free = node.map_or(Resources { gpus: units.count, ..expected }, |n| n.usable_of(machine, units.count));
    // A node's own count is in its CSINode, which lowtide does not watch.
    free.volumes = machine.volumes;
    free.take(pass.daemonset_overhead(&claim.spec.node_class));
    for other in node.into_iter().flat_map(|n| &n.state.others) {
        free.take(other.requests);
    }
    for pod in pass.index.pods_on(&claim.name) {
        take(&mut free, pod);
    }
    Some(Room {
        claim: claim.name.clone(),
        capacity: claim.spec.capacity.clone(),
        free,
        gpu_memory: units.memory,
        most_units_per_pod: units.most_per_pod,
        node_pool: claim.spec.node_pool.clone(),
        ready: claim.status.node_ready_at.is_some(),
        node: room_node(pass, claim, node, class),
    })
}

/// What the claim's node is to pods: its labels and who is on it.
fn room_node(pass: &Pass, claim: &Claim, node: Option<&Node>, class: Option<&NodeClass>) -> RoomNode {
    let (terms, ours) = (asking::terms(pass), pass.pods_on(&claim.name));
    let (has, avoids) = terms.marks.on_machine(&ours, node);
    let mut counts = Vec::new();
    if !terms.marks.counted.is_empty() {
        ours.iter().for_each(|p| terms.marks.count(&mut counts, &p.object().namespace, &p.rules));
        let others = node.into_iter().flat_map(|n| &n.state.others);
        others.for_each(|o| terms.marks.count(&mut counts, &o.pod.object.namespace, &o.rules));
    }
    RoomNode {
        has,
        avoids,
        counts,
        labels: node.map(|n| Arc::clone(&n.state.labels)),
        class: Arc::new(class.map_or_else(Default::default, |c| class_labels(c, &claim.spec.capacity.zone))),
        misfits: claim.status.misfits.clone(),
    }
}

/// A node that the scheduler would put nothing on has no room: it is cordoned, not Ready, or tainted by others.
fn is_open(node: &Node) -> bool {
    node.ready && !node.state.cordoned && node.state.foreign_taints.is_empty()
}

fn take(free: &mut Resources, pod: &Pod) {
    match &pod.need {
        Ok((need, _)) => free.take(need.resources()),
        // What cannot be read may take all there is.
        Err(_) => free.gpus = 0,
    }
}
