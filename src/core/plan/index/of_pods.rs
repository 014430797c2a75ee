//! The walk over all pods: which hold a place and on which claim, and of which something is to be known.
//!
//! Decides: nothing.

use super::of_claims::OfClaims;
use super::places::hash_of;
use super::rest::{Face, Here, Seen};
use super::walks::in_blocks;
use crate::core::workload::{Pod, PodPhase};

/// What one walk over all pods finds, put together with the claims: pods by their positions in the order of their uids.
#[derive(Debug, Default)]
pub(super) struct OfPods {
    /// Pods that hold a place, claim by claim, oldest first.
    pub(super) placed: Vec<u32>,
    /// Where in `placed` the pods of each claim begin; one more than there are claims.
    pub(super) from: Vec<u32>,
    /// Pods that hold a place on a claim that is not there.
    pub(super) astray: Vec<u32>,
    /// Pods behind our gate that are not being deleted.
    pub(super) gated: Vec<u32>,
    /// Pods that say they were bound as replacements.
    pub(super) replacing: Vec<u32>,
    /// Pods that were let go.
    pub(super) let_go: Vec<u32>,
    /// Pods that something keeps from running.
    pub(super) stuck: Vec<u32>,
    /// What pods say of the machine of each settled claim, by its position.
    pub(super) here: Vec<Here>,
}

/// What that walk finds by itself, while another thread walks the claims.
pub(super) struct SeenPods<'a> {
    placed: Vec<Seen<'a>>,
    of_note: OfPods,
}

impl<'a> SeenPods<'a> {
    pub(super) fn of(pods: &[&'a Pod]) -> Self {
        let mut found = SeenPods { placed: Vec::with_capacity(pods.len()), of_note: OfPods::default() };
        in_blocks((0..).zip(pods.iter().copied()), |block| {
            let first = found.placed.len();
            for (at, pod) in block.iter().copied() {
                found.placed.extend(Seen::of(at, pod));
                found.of_note.note(at, pod);
            }
            found.placed[first..].iter_mut().for_each(|seen| seen.hash = hash_of(seen.claim));
        });
        found
    }
}

impl OfPods {
    pub(super) fn of(seen: SeenPods, pods: &[&Pod], claims: &OfClaims, faces: &[Face]) -> Self {
        let SeenPods { placed: seen, of_note: mut found } = seen;
        found.from = vec![0; faces.len() + 1];
        found.here = vec![Here::default(); faces.len()];
        let mut placed: Vec<(u32, u32)> = Vec::with_capacity(seen.len());
        let whose = |seen: &Seen| claims.by_name.at(seen.hash, seen.claim, |at| faces[at as usize].name);
        in_blocks(seen.iter().map(|seen| (seen, whose(seen))), |block| {
            for (seen, at) in block {
                let Some(at) = at else {
                    found.astray.push(seen.at);
                    continue;
                };
                placed.push((*at, seen.at));
                found.from[*at as usize + 1] += 1;
                if claims.settled[*at as usize].is_some() {
                    found.here[*at as usize].note(&faces[*at as usize], seen);
                }
            }
        });
        drop(seen);
        // Counted, then laid out: by claim, and by uid within one.
        for at in 1..found.from.len() {
            found.from[at] += found.from[at - 1];
        }
        let mut next = found.from.clone();
        found.placed = vec![0; placed.len()];
        for (at, pod) in placed {
            let next = &mut next[at as usize];
            found.placed[*next as usize] = pod;
            *next += 1;
        }
        for at in 1..found.from.len() {
            let (from, to) = (found.from[at - 1] as usize, found.from[at] as usize);
            if to - from > 1 {
                found.placed[from..to].sort_by_key(|pod| pods[*pod as usize].created_at);
            }
        }
        found
    }

    fn note(&mut self, at: u32, pod: &Pod) {
        if pod.phase == PodPhase::Gated && pod.deleting_until.is_none() {
            self.gated.push(at);
        }
        if pod.replaces.is_some() {
            self.replacing.push(at);
        }
        if pod.let_go.is_some() {
            self.let_go.push(at);
        }
        if pod.stuck.is_some() {
            self.stuck.push(at);
        }
    }
}
