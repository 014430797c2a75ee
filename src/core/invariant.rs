//! What must never be true, in one register: the simulated world checks it after every step, tests and debug builds after every pass, and
//! the operator exports it as a metric.
//!
//! Decides: which invariants there are, and what of them can be seen in one snapshot ([`check`]). The rest is seen by the simulated world
//! alone, which knows the truth behind the snapshot.
//! Does not: repair anything.

use std::collections::BTreeMap;
use std::fmt;

use crate::core::fleet::tags;
use crate::core::snapshot::{Observed, Snapshot};
use crate::core::units::ids::{ClaimName, InstanceId, Uid};
use crate::core::workload::PodPhase;

/// An invariant. The numbers are those of the design; they never change their meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Invariant {
    /// INV-1.
    EveryInstanceClaimed,
    /// INV-2.
    OneInstancePerClaim,
    /// INV-3.
    DecisionsDurableOnce,
    /// INV-4.
    NeedsAndPoliciesHold,
    /// INV-5.
    LedgerIsTheBill,
    /// INV-6.
    RemovalsHaveReasons,
    /// INV-7.
    OneClaimPerPod,
    /// INV-8.
    SameSeedSameHistory,
    /// INV-9.
    OnePodPerJob,
    /// INV-10.
    WorldSettles,
    /// INV-11.
    EndsWereSeen,
    /// INV-12.
    LiftedPodsRun,
}

impl Invariant {
    /// All of them, in order.
    pub const ALL: [Invariant; 12] = [
        Invariant::EveryInstanceClaimed,
        Invariant::OneInstancePerClaim,
        Invariant::DecisionsDurableOnce,
        Invariant::NeedsAndPoliciesHold,
        Invariant::LedgerIsTheBill,
        Invariant::RemovalsHaveReasons,
        Invariant::OneClaimPerPod,
        Invariant::SameSeedSameHistory,
        Invariant::OnePodPerJob,
        Invariant::WorldSettles,
        Invariant::EndsWereSeen,
        Invariant::LiftedPodsRun,
    ];

    /// As in `INV-3`.
    pub fn number(self) -> String {
        format!("INV-{}", self as u8 + 1)
    }

    /// What it says.
    pub fn meaning(self) -> &'static str {
        match self {
            Invariant::EveryInstanceClaimed => "each of our running instances has one claim and work, or is being adopted, ended or swept",
            Invariant::OneInstancePerClaim => "no claim ever has two instances",
            Invariant::DecisionsDurableOnce => "every decision is durable before it is executed and reaches the ledger exactly once",
            Invariant::NeedsAndPoliciesHold => "no pod is placed on an offer that breaks its need, its cap or its pool's policy",
            Invariant::LedgerIsTheBill => "the ledger's cost of a machine equals its bill to the micro-dollar",
            Invariant::RemovalsHaveReasons => "nothing is evicted or terminated but for a true reason of the closed list",
            Invariant::OneClaimPerPod => "no pod is in two live claims, and no machine holds more than it has",
            Invariant::SameSeedSameHistory => "the same seed gives the same history",
            Invariant::OnePodPerJob => "two pods of one Job never run at once",
            Invariant::EndsWereSeen => {
                "no machine with running work, of another cluster or of a claim that cannot be read ends but for a reason seen of that machine"
            }
            Invariant::LiftedPodsRun => "a pod whose gate was lifted runs, or is being placed again, within a bound",
            Invariant::WorldSettles => "when nothing goes wrong any more, all work has its place and nothing else is paid for",
        }
    }
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.number())
    }
}

/// A broken invariant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Which.
    pub invariant: Invariant,
    /// What was seen.
    pub text: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}): {}", self.invariant, self.invariant.meaning(), self.text)
    }
}

/// What [`check`] can see.
pub const SEEN_IN_A_SNAPSHOT: [Invariant; 2] = [Invariant::OneInstancePerClaim, Invariant::OneClaimPerPod];

/// All faults visible in `world`.
pub fn check(world: &Snapshot) -> Vec<Fault> {
    let mut faults = two_instances(world);
    faults.extend(overfull_claims(world));
    faults.extend(in_two_claims(world));
    faults
}

/// INV-2.
fn two_instances(world: &Snapshot) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut by_claim: BTreeMap<&str, &InstanceId> = BTreeMap::new();
    for observed in world.instances.values() {
        let Observed::Known { value, .. } = observed else { continue };
        // A copy that somebody made by hand carries our tags, and is not ours.
        for instance in value.values().filter(|i| i.is_alive() && i.is_of_a_fleet()) {
            let Some(uid) = instance.tags.get(tags::CLAIM_UID) else { continue };
            if let Some(other) = by_claim.insert(uid, &instance.id) {
                let text = format!("claim uid {uid} has two instances: {other} and {}", instance.id);
                faults.push(Fault { invariant: Invariant::OneInstancePerClaim, text });
            }
        }
    }
    faults
}

/// INV-7: the GPUs of the pods on a claim never exceed the claim's.
fn overfull_claims(world: &Snapshot) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut held_on: BTreeMap<&ClaimName, i64> = BTreeMap::new();
    for pod in world.pods.values().filter(|p| !p.finished() && p.phase != PodPhase::GatedByOthers) {
        if let (Some(claim), Ok((need, _))) = (&pod.claim, &pod.need) {
            *held_on.entry(claim).or_default() += need.gpus;
        }
    }
    for claim in world.claims.values() {
        let held = held_on.get(&claim.name).copied().unwrap_or(0);
        let node = claim.status.node.as_ref().and_then(|n| world.nodes.get(n));
        let units = claim.spec.gpu_units(&world.catalog);
        let has = node.map_or(units, |n| n.allocatable.gpus.max(units));
        if held > has {
            let text = format!("{} has {has} GPUs and its pods hold {held}", claim.name);
            faults.push(Fault { invariant: Invariant::OneClaimPerPod, text });
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
    twice.map(|(uid, count)| Fault { invariant: Invariant::OneClaimPerPod, text: format!("pod {uid} runs on {count} claims") }).collect()
}
