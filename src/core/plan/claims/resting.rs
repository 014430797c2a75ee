//! Machines at rest: most of them, most of the time. They are looked at once a pass, and no rule asks about them one by one.
//!
//! Decides: of which machines [`super::lifecycle`] and [`super::super::reporting::facts`] would say nothing, and until when.
//! Does not: say anything itself. It only leaves out: a pass that leaves nothing out gives the same plan (a test compares the two).
//!
//! A machine is at rest when it runs with its node Ready and whole, its pods are those that are written down, all Ready, nobody leaves or ends
//! it, and the ledger has every hour of it that has begun. With a whole fleet at rest a pass costs one look at each.

use super::super::index::Machine;
use super::super::pass::Pass;
use super::super::reporting::facts;
use crate::core::fleet::Claim;
use crate::core::market::CapacityType;
use crate::core::record::Reported;
use crate::core::snapshot::Snapshot;
use crate::core::units::time::Timestamp;
use crate::core::workload::Pod;

/// Fewer machines than this are looked at sooner than a second thread has started.
const WORTH_A_THREAD: usize = 2_000;

/// Looks at every machine once, and asks to be woken when the first of those at rest needs another look.
pub(in crate::core::plan) fn look(pass: &mut Pass) {
    let machines = pass.index.machines();
    let mut is_at_rest = vec![false; machines.len()];
    let half = if machines.len() > WORTH_A_THREAD { machines.len() / 2 } else { 0 };
    let look = Look { world: pass.world, now: pass.now };
    let pods = pass.index.placed();
    let (first, second) = is_at_rest.split_at_mut(half);
    let wake = if half == 0 {
        look.at_each(machines, pods, second)
    } else {
        let (front, back) = machines.split_at(half);
        std::thread::scope(|scope| {
            let other = scope.spawn(|| look.at_each(front, pods, first));
            let wake = look.at_each(back, pods, second);
            let others = other.join().unwrap_or_else(|fault| std::panic::resume_unwind(fault));
            [wake, others].into_iter().flatten().min()
        })
    };
    pass.claims.marked().filter_map(|name| pass.index.position(name)).for_each(|at| is_at_rest[at] = false);
    pass.resting = is_at_rest;
    if let Some(at) = wake {
        pass.wake(at);
    }
}

/// What one look needs besides the machine.
#[derive(Clone, Copy)]
struct Look<'a> {
    world: &'a Snapshot,
    now: Timestamp,
}

impl Look<'_> {
    /// Fills in who is at rest; the earliest moment at which one of them needs another look.
    fn at_each(self, machines: &[Machine], pods: &[&Pod], is_at_rest: &mut [bool]) -> Option<Timestamp> {
        let mut wake: Option<Timestamp> = None;
        for (machine, at_rest) in machines.iter().zip(is_at_rest) {
            if let Some(until) = self.at(machine, machine.pods_among(pods)) {
                *at_rest = true;
                wake = Some(wake.map_or(until, |earlier| earlier.min(until)));
            }
        }
        wake
    }

    /// Until when the machine is at rest; `None` if it is not.
    fn at(self, machine: &Machine, pods: &[&Pod]) -> Option<Timestamp> {
        let (claim, calm) = (machine.claim, machine.calm?);
        if !settled(claim) || calm.gpus < claim.spec.gpu_units(&self.world.catalog) {
            return None;
        }
        // Pods that only wait may hold it or not (`ending` decides).
        if pods.iter().all(|pod| pod.waits() || pod.node != claim.status.node)
            || !facts::same_as_before(claim, pods)
            || pods.iter().any(|pod| says_more(pod))
        {
            return None;
        }
        self.world.pools.get(&claim.spec.node_pool).filter(|pool| !pool.deleting)?;
        // What defines it is written down first.
        if self.world.pools_defined.by().is_some_and(|uid| claim.status.pools_defined_by.as_ref() != Some(uid)) {
            return None;
        }
        hours_reported_until(&self.world.reported, claim, calm.launched_at, self.now).filter(|at| *at > self.now)
    }
}

/// Nothing is under way with the claim: it has joined, and nobody leaves, ends or doubts it.
fn settled(claim: &Claim) -> bool {
    let s = &claim.status;
    // The end of a reservation is watched by the rules.
    let open = claim.spec.capacity.capacity_type != CapacityType::Reserved;
    open && claim.takes_work()
        && s.interruption.is_none()
        && s.scheduled.is_none()
        && s.node_ready_at.is_some()
        && s.unhealthy.is_none()
        && s.empty_since.is_none()
        && s.ended.is_none()
}

/// More is reported of this pod than that it is there: its checkpoints.
fn says_more(pod: &Pod) -> bool {
    pod.need.as_ref().is_ok_and(|(_, schedule)| schedule.checkpointed_at.is_some())
}

/// When the next instance-hour begins, if the ledger knows that the machine was bought and every hour that has begun.
fn hours_reported_until(reported: &Reported, claim: &Claim, launched: Timestamp, now: Timestamp) -> Option<Timestamp> {
    let reported = reported.get(claim.books()).filter(|reported| reported.opened)?;
    let begun = facts::last_begun(launched, now);
    (reported.hours > begun).then(|| facts::next_hour(launched, begun))
}
