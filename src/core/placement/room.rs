//! Free room on our machines: which pods go there, and how it lowers the lower bound.
//!
//! Decides: which room serves which pods. Its price is sunk, so it is used wherever it saves a purchase.

use std::collections::BTreeMap;

use crate::core::market::Capacity;
use crate::core::market::catalog::MachineType;
use crate::core::units::ids::ClaimName;
use crate::core::units::money::MicroUsdPerHour;
use crate::core::units::pattern::matches_pattern;

use super::eligibility::{Wants, correlated_pool, egress_per_replica};
use super::groups::Group;
use super::listing::Usable;
use super::node_labels::ExpectedNode;
use super::packing::fill::fill;
use super::packing::relax::Relaxed;
use super::packing::{Bin, Content, NEVER, Problem};
use super::reduce::{item, sizes};
use super::request::{PlacementRequest, Room};

/// A room that is used, and what goes there: group and how many.
type RoomUse = (ClaimName, Content);

/// The value for free room of a pod that fits no offer (micro-dollars per hour): more than any machine.
const PRICELESS: i64 = 10_000_000_000;
/// Nodes of each room's search.
const NODES: u32 = 4_000;

/// Fills `rooms`, Ready ones first, then by claim; returns each used room with its content.
pub(super) fn fill_rooms(request: &PlacementRequest, rooms: &[Room], groups: &[Group], relaxed: &Relaxed) -> Vec<RoomUse> {
    let problem = problem_of(request, rooms, groups);
    let value = |(item, value): (usize, &i64)| if relaxed.packable[item] { *value } else { PRICELESS };
    let values: Vec<i64> = relaxed.values.iter().enumerate().map(value).collect();
    let mut left: Vec<i64> = groups.iter().map(|g| g.members.len() as i64).collect();
    let mut order: Vec<usize> = (0..rooms.len()).collect();
    order.sort_by_key(|r| (!rooms[*r].ready, &rooms[*r].claim));
    let mut used = Vec::new();
    for room in order {
        let most: Vec<i64> = left.iter().zip(groups).map(|(left, group)| (*left).min(group.apart.left_on(&rooms[room].node))).collect();
        let best = fill(&problem, room, &values, &most, NODES);
        if best.content.is_empty() {
            continue;
        }
        for (item, count) in &best.content {
            left[*item] -= count;
        }
        used.push((rooms[room].claim.clone(), best.content));
    }
    used
}

/// How many replicas of `group` free room holds, by `key` of its location.
pub(super) fn free_for<K: Ord>(request: &PlacementRequest, group: &Group, key: impl Fn(&Capacity) -> K) -> BTreeMap<K, i64> {
    let mut free = BTreeMap::new();
    for room in request.room.iter().filter(|room| extra(request, room, group).is_some()) {
        *free.entry(key(&room.capacity)).or_insert(0) += group.wants.replicas_on(&usable(room)).min(group.apart.left_on(&room.node));
    }
    free
}

/// What pods can use of `room`.
fn usable(room: &Room) -> Usable {
    Usable { resources: room.free, unit_memory: room.gpu_memory, most_units_per_pod: room.most_units_per_pod }
}

/// What the pods of `groups` cost at least, when items are worth `values` and each room may hold what it can for nothing.
pub(super) fn bound(request: &PlacementRequest, groups: &[Group], values: &[i64]) -> i64 {
    let all: i64 = groups.iter().zip(values).map(|(g, v)| g.members.len() as i64 * v).sum();
    if request.room.is_empty() {
        return all;
    }
    let problem = problem_of(request, request.room, groups);
    let most: Vec<i64> = groups.iter().map(|g| g.members.len() as i64).collect();
    let saved: i64 = (0..request.room.len()).map(|room| fill(&problem, room, values, &most, NODES).upper).sum();
    (all - saved).max(0)
}

fn problem_of(request: &PlacementRequest, rooms: &[Room], groups: &[Group]) -> Problem {
    let items = groups.iter().map(|g| item(g, g.members.len() as i64)).collect();
    let bins = rooms.iter().map(|room| Bin {
        capacity: sizes(&room.free),
        cost: 1,
        extra: groups.iter().map(|g| extra(request, room, g).map_or(NEVER, |e| e.0)).collect(),
    });
    Problem { items, bins: bins.collect() }
}

/// Whether the node has the labels that the need asks for, or can be given them.
fn labels_ok(room: &Room, machine: &MachineType, wants: &Wants) -> bool {
    let node = ExpectedNode { capacity: &room.capacity, machine, class: &room.node.class };
    match &room.node.labels {
        Some(actual) => node.lacking(wants.need, &**actual).is_some(),
        None => node.meets(&wants.need.node_terms),
    }
}

/// What a pod of `group` costs extra in `room`; `None` when it may not go there. Price caps apply when buying, so not here.
fn extra(request: &PlacementRequest, room: &Room, group: &Group) -> Option<MicroUsdPerHour> {
    let (need, wants, at) = (group.wants.need, &group.wants, &room.capacity);
    let machine: &MachineType = request.catalog.types.get(&at.instance_type)?;
    // Nothing is bought here, so whether the pool falls back to on-demand does not matter.
    let capacity_ok = wants.capacity_refusal(at.capacity_type, true).is_none();
    let ok = group.admitted_by(&room.node_pool)
        && (need.regions.is_empty() || need.regions.iter().any(|p| matches_pattern(p, at.region.as_str())))
        && wants.place_ok(at)
        && group.apart.leaves_machine(&room.claim)
        && group.apart.left_on(&room.node) > 0
        && wants.capacity_type_ok(at.capacity_type)
        && wants.tolerates(&room.node.class)
        && group.apart.agrees(room.node.has, room.node.avoids)
        && (room.node.misfits.is_empty() || !room.node.misfits.contains(&need.fingerprint()))
        && labels_ok(room, machine, wants)
        && wants.within.as_ref().is_none_or(|w| *w == correlated_pool(at))
        && (need.gpu_models.is_empty() || need.gpu_models.contains(&machine.gpu_model))
        && (need.instance_types.is_empty() || need.instance_types.contains(&at.instance_type))
        && need.architecture.is_none_or(|a| a == machine.architecture)
        && capacity_ok
        && wants.replicas_on(&usable(room)) > 0;
    ok.then(|| egress_per_replica(need, &at.region, request.settings))
}
