//! When this leader first saw what it does not wait for without end: nodes that are unwell, machines that have not joined, pods that do not run; and
//! which machines were given up, whoever led then.
//!
//! Decides: from which reading of its own clock such a span is counted. What others wrote down as "since" (a kubelet, the API server, the leader
//! before) is of another clock, and two clocks give no span. So a new leader begins each of them again.
//! Does not: judge anything (`core::plan` does).

use std::collections::BTreeMap;

use super::memory::ENDS_KEPT;
use crate::core::fleet::{Claim, Unhealthy};
use crate::core::units::ids::{ClaimName, Uid};
use crate::core::units::time::{Millis, Timestamp};
use crate::core::workload::Pod;

/// The first sight of a machine that has not joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Joining {
    /// When.
    pub since: Timestamp,
    /// It was there when this leader began: launched or adopted under another, or before a backup. What runs there, this leader has not put there.
    pub inherited: bool,
}

/// A machine that was given up longer ago than this, by the clock of whoever did, is no news: longer than ends are counted together, by as much as two
/// clocks may be apart.
pub const GIVEN_UP_LATELY: Millis = Millis::from_mins(15);

/// All first sights of one leader.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FirstSights {
    begun: bool,
    unwell: BTreeMap<ClaimName, (Unhealthy, Timestamp)>,
    joining: BTreeMap<ClaimName, Joining>,
    /// Whether a node has it, and when it was first seen so.
    stuck: BTreeMap<Uid, (bool, Timestamp)>,
    /// By the claim's uid: the claim is soon gone, and a leader that ends has not always kept what it counted.
    given_up: BTreeMap<Uid, Timestamp>,
}

impl FirstSights {
    /// What they are after another look; `None` if nothing has changed.
    pub fn after_look(&self, claims: &BTreeMap<ClaimName, Claim>, pods: &BTreeMap<Uid, Pod>, now: Timestamp) -> Option<FirstSights> {
        let mut after = FirstSights { begun: true, ..FirstSights::default() };
        for claim in claims.values() {
            if let Some(mark) = &claim.status.unhealthy {
                let before = self.unwell.get(&claim.name).filter(|(known, _)| *known == **mark).map(|(_, at)| *at);
                after.unwell.insert(claim.name.clone(), ((**mark).clone(), before.unwrap_or(now)));
            }
            if let Some(written) = claim.given_up_at() {
                let lately = || (now.since(written) < GIVEN_UP_LATELY).then_some(now);
                let first = self.given_up.get(&claim.uid).copied().or_else(lately);
                after.given_up.extend(first.map(|at| (claim.uid.clone(), at)));
            }
            if claim.status.node_ready_at.is_none() && claim.status.instance.is_some() {
                let joining = Joining { since: now, inherited: !self.begun };
                after.joining.insert(claim.name.clone(), self.joining.get(&claim.name).copied().unwrap_or(joining));
            }
        }
        for (uid, pod) in pods.iter().filter(|(_, pod)| pod.stuck.is_some()) {
            let bound = pod.node.is_some();
            let before = self.stuck.get(uid).filter(|(was_bound, _)| *was_bound == bound).map(|(_, at)| *at);
            after.stuck.insert(uid.clone(), (bound, before.unwrap_or(now)));
        }
        for (uid, at) in self.given_up.iter().filter(|(_, at)| now.since(**at) < ENDS_KEPT) {
            after.given_up.entry(uid.clone()).or_insert(*at);
        }
        (after != *self).then_some(after)
    }

    /// Since when the node of a claim has been seen to be unwell in the way that its mark says.
    pub fn unwell_since(&self, claim: &Claim) -> Option<Timestamp> {
        let (mark, at) = self.unwell.get(&claim.name)?;
        (Some(mark) == claim.status.unhealthy.as_deref()).then_some(*at)
    }

    /// Since when a claim's machine has been seen without its node.
    pub fn joining(&self, claim: &Claim) -> Option<Joining> {
        self.joining.get(&claim.name).copied()
    }

    /// Since when a pod has been seen not to run, on its node or without one.
    pub fn stuck_since(&self, pod: &Pod) -> Option<Timestamp> {
        let (bound, at) = self.stuck.get(&pod.identity.uid)?;
        (*bound == pod.node.is_some()).then_some(*at)
    }

    /// When machines were given up for what was only seen of them, as this leader has seen it.
    pub fn given_up(&self) -> impl Iterator<Item = Timestamp> {
        self.given_up.values().copied()
    }

    /// The clock they were read from has jumped by so much: every span stays what it was.
    pub fn shift(&mut self, by: Millis) {
        let times = self.unwell.values_mut().map(|(_, at)| at).chain(self.joining.values_mut().map(|j| &mut j.since));
        times.chain(self.stuck.values_mut().map(|(_, at)| at)).chain(self.given_up.values_mut()).for_each(|at| *at = *at + by);
    }
}
