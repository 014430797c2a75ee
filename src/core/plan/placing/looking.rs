//! What the rules share that look at the market for single pods before all are placed together: `deadline`, `serving`, `spreading`.
//!
//! Decides: for whom one look at the market is enough, which offers a pod may see, and which replicas of its service stand already.
//! Does not: judge offers (see [`crate::core::placement::eligibility`]), or say where a replica goes.

use std::collections::BTreeSet;

use super::super::pass::Pass;
use super::super::terms::Marks;
use super::apart;
use super::replacing::{is_rescue, replaced_pod};
use crate::core::placement::listing::Listing;
use crate::core::placement::{Apart, PlacementRequest};
use crate::core::units::ids::{PoolName, Uid};
use crate::core::units::shared::Shared;
use crate::core::workload::need::Need;
use crate::core::workload::{Pod, Workload};

/// What a look for a replica goes by: the need, the node pools that admit it, whether it is a rescue, and what other pods leave of the choice.
/// Replicas with the same share one look: it goes through the whole market.
pub(super) type Asker<'p> = (&'p Need, Shared<BTreeSet<PoolName>>, bool, Apart);

pub(super) fn asker<'p>(pass: &Pass, marks: &Marks, pod: &Pod, need: &'p Need) -> Asker<'p> {
    (need, pass.pools_for(pod), is_rescue(pass, pod), apart::of(pass, marks, pod))
}

/// The offers of the node pools in `pools`, of all that are `listed` pool by pool.
pub(super) fn admitted<'l, 'm>(
    request: &PlacementRequest<'l>,
    listed: &'l [Vec<Listing<'m>>],
    pools: &BTreeSet<PoolName>,
) -> impl Iterator<Item = &'l Listing<'m>> {
    request.pools.iter().zip(listed).filter(|(pool, _)| pools.contains(&pool.name)).flat_map(|(_, listings)| listings)
}

/// The pods of a workload that stay, but for those that are `asking`.
pub(super) fn standing<'a>(pass: &Pass<'a>, workload: &Workload, asking: &[&Pod]) -> Vec<&'a Pod> {
    let asked: BTreeSet<&Uid> = asking.iter().map(|pod| &pod.identity.uid).collect();
    let stays = |p: &&Pod| p.let_go.is_none() && !p.finished() && p.deleting_until.is_none();
    pass.index.of_workload(workload).iter().copied().filter(stays).filter(|p| !asked.contains(&p.identity.uid)).collect()
}

/// A machine that was bought to take its work over is Ready: the answer was given then, and asked again, the market that the machine came from
/// may have no quota left for a second.
pub(super) fn is_awaited(pass: &Pass, pod: &Pod) -> bool {
    let claims = [pod.claim.as_ref(), replaced_pod(pass, pod).and_then(|old| old.claim.as_ref())];
    let mut successors = claims.into_iter().flatten().flat_map(|claim| pass.index.successors(claim));
    successors.any(|new| new.takes_work() && new.status.node_ready_at.is_some())
}
