//! What must hold before a machine is left that nobody takes: its owners let it be, and its pool's budgets do.
//!
//! Decides: which pods keep their machine where it is, how many machines of a pool are on their way out, and whether one more may follow.
//! Does not: say what a budget allows (see [`crate::core::policy::disruption`]), or choose a machine (`renewing` and `returning` do).
//!
//! Whoever leaves a machine by choice asks here first. Nobody asks who saves work from a machine that ends or is broken, or whom a person asked.

use std::collections::{BTreeMap, BTreeSet};

use super::super::pass::Pass;
use crate::core::fleet::{Claim, DisruptionReason};
use crate::core::policy::disruption::{self, Allowed};
use crate::core::snapshot::Lane;
use crate::core::units::ids::{ClaimName, PoolName};
use crate::core::units::time::Timestamp;
use crate::core::workload::need::do_not_disrupt::Stay;

/// The machines of each pool, and those of them that are on their way out, counted once a look; and what the budgets allow now, read once a look.
pub(super) struct Budgets<'a> {
    machines: BTreeMap<&'a PoolName, u64>,
    leaving: BTreeMap<&'a PoolName, BTreeSet<ClaimName>>,
    allowed: BTreeMap<(&'a PoolName, DisruptionReason), Allowed>,
}

/// Why a machine stays where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Held {
    /// As many of its pool are on their way out as the budgets allow now.
    Budget { most: u64, until: Option<Timestamp> },
    /// A pod on it is not to be disturbed.
    Pod { name: String, until: Option<Timestamp> },
}

impl Held {
    /// In words, after "it stays:".
    pub(super) fn words(&self) -> String {
        let until = |at: &Option<Timestamp>| at.map_or_else(String::new, |at| format!(", at least until {}", at.to_rfc3339()));
        match self {
            Held::Budget { most: 0, until: at } => format!("its pool's disruption budgets let no machine go now{}", until(at)),
            Held::Budget { most, .. } => format!("its pool's disruption budgets let {most} go at a time, and as many are on their way"),
            Held::Pod { name, until: at } => format!("pod {name} is not to be disrupted{}", until(at)),
        }
    }
}

impl<'a> Budgets<'a> {
    /// One walk over all machines.
    pub(super) fn of(pass: &Pass<'a>) -> Self {
        let mut found = Budgets { machines: BTreeMap::new(), leaving: BTreeMap::new(), allowed: BTreeMap::new() };
        let left_soon: BTreeSet<&ClaimName> =
            pass.index.taking_over().iter().filter(|new| waits(pass, new)).filter_map(|new| new.spec.takes_over.as_ref()).collect();
        for (claim, machine) in pass.claims.values().zip(pass.index.machines()).filter(|(claim, _)| claim.may_run()) {
            let pool = &machine.claim.spec.node_pool;
            *found.machines.entry(pool).or_default() += 1;
            let s = &claim.status;
            // One that ends as empty disturbs nobody.
            if s.moving.is_some() || s.unhealthy.is_some() || left_soon.contains(&claim.name) {
                found.leaving.entry(pool).or_default().insert(claim.name.clone());
            }
        }
        // What was written of a machine and is not seen yet may be that it is left.
        let world = pass.world;
        let written = world.in_flight.iter().filter_map(|lane| if let Lane::Claim(name) = lane { Some(name) } else { None });
        for claim in written.filter_map(|name| world.claims.get(name)).filter(|c| c.may_run() && c.status.node_ready_at.is_some()) {
            found.leaving.entry(&claim.spec.node_pool).or_default().insert(claim.name.clone());
        }
        found
    }

    /// Whether `claim` may be left for `reason`; asks to be woken when that may change.
    pub(super) fn admit(&mut self, pass: &mut Pass<'a>, claim: &Claim, reason: DisruptionReason) -> Result<(), Held> {
        // A pool that cannot be read may have any budget.
        let Some(pool) = pass.pool_of(claim) else { return Err(Held::Budget { most: 0, until: None }) };
        let machines = self.machines.get(&pool.name).copied().unwrap_or(0);
        let read = || disruption::allowed(&pool.disruption, reason, machines, pass.now_by_ec2());
        let allowed = *self.allowed.entry((&pool.name, reason)).or_insert_with(read);
        let others = self.leaving.get(&pool.name).map_or(0, |names| names.len() - usize::from(names.contains(&claim.name)));
        match allowed.machines {
            Some(most) if u64::try_from(others).unwrap_or(u64::MAX) >= most => {
                allowed.until.into_iter().for_each(|at| pass.wake(pass.by_our_clock(at)));
                Err(Held::Budget { most, until: allowed.until })
            }
            _ => Ok(()),
        }
    }

    /// Counts `claim` among those on their way out.
    pub(super) fn spend(&mut self, pass: &Pass<'a>, claim: &Claim) {
        if let Some(pool) = pass.pool_of(claim) {
            self.leaving.entry(&pool.name).or_default().insert(claim.name.clone());
        }
    }
}

/// Whether a machine that was bought ahead still waits for the work of the one that it is to take over. Other work may have taken it: then nobody is on
/// the way to it, and whose it was to be may get another.
pub(super) fn waits(pass: &Pass, successor: &Claim) -> bool {
    successor.takes_work() && pass.index.pods_on(&successor.name).is_empty()
}

/// The pod, of ours or of others, that keeps its machine longest from being left by choice.
pub(super) fn kept_by_a_pod(pass: &Pass, claim: &Claim) -> Option<Held> {
    let ours = pass.index.pods_on(&claim.name).iter().filter(|pod| !pod.finished()).map(|pod| (pod.stay(), pod.object()));
    let node = pass.index.node_on(claim.status.instance.as_ref());
    let others = node.into_iter().flat_map(|node| &node.state.others).map(|other| (other.stays, &*other.pod.object));
    let (stay, pod) = ours.chain(others).filter(|(stay, _)| stay.holds(pass.now_by_ec2())).max()?;
    let until = if let Stay::Until(at) = stay { Some(at) } else { None };
    Some(Held::Pod { name: format!("{}/{}", pod.namespace, pod.name), until })
}
