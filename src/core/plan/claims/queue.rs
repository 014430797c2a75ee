//! Claims that wait to be launched, in the order in which they were made.
//!
//! Decides: what a pool has with each of them: all that was asked for, and those that wait and came before. Of many at once the first ones are within the
//! limits. One that was asked for and is not there yet counts with all that were asked for. Found once a pass, by one walk: many may wait.
//! Does not: know limits (see [`super::admitted`]).

use std::collections::BTreeMap;

use crate::core::fleet::Claim;
use crate::core::units::ids::{ClaimName, PoolName};

/// Machines, and their GPUs.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::core::plan) struct Size {
    pub(super) nodes: i64,
    pub(super) gpus: i64,
}

impl Size {
    fn and(self, claim: &Claim) -> Size {
        Size { nodes: self.nodes + 1, gpus: self.gpus + claim.spec.gpus }
    }
}

/// What a pool has with each claim that waits.
#[derive(Debug, Default)]
pub(in crate::core::plan) struct LaunchQueue {
    upto: BTreeMap<ClaimName, Size>,
}

impl LaunchQueue {
    pub(super) fn of<'c>(claims: impl Iterator<Item = &'c Claim>) -> Self {
        let mut held: BTreeMap<&PoolName, Size> = BTreeMap::new();
        let (asked, mut waiting): (Vec<&Claim>, Vec<&Claim>) = claims.partition(|claim| claim.status.launch_asked_at.is_some());
        for claim in asked.iter().filter(|claim| claim.takes_work()) {
            let size = held.entry(&claim.spec.node_pool).or_default();
            *size = size.and(claim);
        }
        let unanswered = asked.iter().filter(|claim| claim.status.instance.is_none());
        let mut upto: BTreeMap<_, _> =
            unanswered.filter_map(|claim| Some((claim.name.clone(), *held.get(&claim.spec.node_pool)?))).collect();
        waiting.sort_by_key(|claim| (claim.created_at, &claim.name));
        for claim in waiting {
            let size = held.entry(&claim.spec.node_pool).or_default();
            let with = size.and(claim);
            upto.insert(claim.name.clone(), with);
            if claim.takes_work() {
                *size = with;
            }
        }
        LaunchQueue { upto }
    }

    /// What its pool has with this claim; `None` if it has its machine.
    pub(super) fn with(&self, claim: &ClaimName) -> Option<Size> {
        self.upto.get(claim).copied()
    }
}
