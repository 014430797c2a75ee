//! The invariants that can be seen in one snapshot: checked after every pass, in tests and in the simulated world.
//!
//! Decides: what must never be true. Does not: repair anything.

use std::collections::BTreeMap;

use super::ids::{InstanceId, Uid};
use super::world::{Observed, PodPhase, Snapshot};
use crate::engine::ports::{InstanceState, tags};

/// A broken invariant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// `INV-1` to `INV-8`, as in the design.
    pub invariant: &'static str,
    /// What was seen.
    pub text: String,
}

/// All faults visible in `world`.
pub fn check(world: &Snapshot) -> Vec<Fault> {
    let mut faults = two_instances(world);
    faults.extend(overfull_claims(world));
    faults.extend(in_two_claims(world));
    faults
}

/// INV-2: no claim ever has two instances.
fn two_instances(world: &Snapshot) -> Vec<Fault> {
    let mut by_claim: BTreeMap<&str, Vec<&InstanceId>> = BTreeMap::new();
    for observed in world.instances.values() {
        let Observed::Known { value, .. } = observed else { continue };
        for instance in value.values().filter(|i| matches!(i.state, InstanceState::Pending | InstanceState::Running)) {
            if let Some(uid) = instance.tags.get(tags::CLAIM_UID) {
                by_claim.entry(uid).or_default().push(&instance.id);
            }
        }
    }
    let doubled = by_claim.into_iter().filter(|(_, ids)| ids.len() > 1);
    doubled.map(|(uid, ids)| Fault { invariant: "INV-2", text: format!("claim uid {uid} has {} instances: {ids:?}", ids.len()) }).collect()
}

/// INV-4: the GPUs of the pods on a claim never exceed the claim's.
fn overfull_claims(world: &Snapshot) -> Vec<Fault> {
    let mut faults = Vec::new();
    for claim in world.claims.values() {
        let on_it = world.pods.values().filter(|p| p.holds(&claim.name) && p.phase != PodPhase::GatedByOthers);
        let held: i64 = on_it.filter_map(|p| p.need.as_ref().ok()).map(|(need, _)| need.gpus).sum();
        let node = claim.status.node.as_ref().and_then(|n| world.nodes.get(n));
        let units = claim.spec.gpu_units(&world.catalog);
        let has = node.map_or(units, |n| n.allocatable.gpus.max(units));
        if held > has {
            faults.push(Fault { invariant: "INV-4", text: format!("{} has {has} GPUs and its pods hold {held}", claim.name) });
        }
    }
    faults
}

/// INV-7: no pod is in two live claims.
fn in_two_claims(world: &Snapshot) -> Vec<Fault> {
    let mut seen: BTreeMap<&Uid, u32> = BTreeMap::new();
    for occupant in world.claims.values().flat_map(|c| &c.status.occupants) {
        *seen.entry(&occupant.pod.uid).or_default() += 1;
    }
    let twice = seen.into_iter().filter(|(_, count)| *count > 1);
    twice.map(|(uid, count)| Fault { invariant: "INV-7", text: format!("pod {uid} runs on {count} claims") }).collect()
}
