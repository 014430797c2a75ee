//! The breaker: how many machines may end in ten minutes without a notice, an owner or a pool asking for it.
//!
//! Decides: whether one more such end may go on. Machines fail one at a time; many at once mean that what is seen is wrong (an API server
//! restored from an old backup, a filter that shows nothing, a clock that jumped), and ending them would be the damage. So machines that were unwell
//! already when the limit was used up stay for a day, or until a person says otherwise or they are well; one that fails later has a limit of its own.
//! Does not: count ends that somebody asked for: interruptions, empty machines, moves by a pool's policy, cordons, deletions one by one; nor those that EC2
//! itself reports, or of machines on which nothing runs. Claims that are deleted in greater number at once are kept by the same limit: that is what deleting
//! their definition does, and nobody means it.
//!
//! Every other end asks [`may_end`] first, whoever decides it; of a machine that has a claim, by [`may_give_up`].

use super::super::moving::guests;
use super::super::pass::Pass;
use crate::core::action::{EventKind, EventSubject};
use crate::core::fleet::Claim;
use crate::core::snapshot::memory::ENDS_KEPT;
use crate::core::snapshot::seen;
use crate::core::units::ids::PoolName;
use crate::core::units::time::{Millis, Timestamp};

/// What a person writes on a node pool to let machines be ended faster for a while.
pub(in crate::core::plan) const ALLOW: &str = "lowtide.dev/ends-allowed-until";
/// Ends within this time are counted together.
pub(in crate::core::plan) const WINDOW: Millis = Millis::from_mins(10);
/// This number may always end within it...
const AT_LEAST: u64 = 2;
/// ... or this share of all machines, in per cent.
const SHARE_PER_CENT: u64 = 5;
/// A person's word is not taken for longer ahead than this: it would be forgotten there.
const LONGEST_WORD: Millis = Millis::from_hours(24);

/// How many machines may end in [`WINDOW`] unasked.
pub(in crate::core::plan) fn limit(pass: &Pass) -> u64 {
    let alive = seen(&pass.world.instances).filter(|i| i.is_alive());
    let ours = alive.filter(|i| !i.is_of_another(&pass.world.cluster_uid)).count();
    AT_LEAST.max(u64::try_from(ours).unwrap_or(u64::MAX) * SHARE_PER_CENT / 100)
}

/// A person lets machines of this pool be ended faster for now; of any, where it is not known whose a machine is.
pub(in crate::core::plan) fn is_lifted(pass: &mut Pass, of: Option<&PoolName>) -> bool {
    let said =
        pass.world.pools.values().filter(|pool| of.is_none_or(|of| pool.name == *of)).filter_map(|pool| pool.ends_allowed_until).max();
    match said.filter(|until| until.since(pass.now) <= LONGEST_WORD && *until > pass.now) {
        Some(until) => {
            pass.wake(until);
            true
        }
        None => false,
    }
}

/// Ends of the last day: as this leader counted, and as claims said that it has seen, from when it saw it. Leaders that follow each other quickly, or
/// two at once, have one limit, so of the two the longer list counts. Found once a pass: where many machines fail, each of them asks.
fn lately<'p>(pass: &'p Pass) -> &'p [Vec<Timestamp>; 2] {
    pass.ends_lately.get_or_init(|| {
        let within = |at: &Timestamp| pass.now.since(*at) < ENDS_KEPT;
        let written = pass.world.first_sights.given_up();
        [pass.world.memory.unasked_ends.iter().copied().filter(within).collect(), written.filter(within).collect()]
    })
}

/// Whether `count` more machines may end now without anybody's asking: all of them or none. Counts them when they may. What ended within [`WINDOW`]
/// counts, and what ended since they are unwell, if somebody has seen when that began.
pub(in crate::core::plan) fn may_end(pass: &mut Pass, of: Option<&PoolName>, count: u64, unwell_since: Option<Timestamp>) -> bool {
    let window = pass.now - WINDOW;
    let from = unwell_since.map_or(window, |since| since.min(window));
    let counted = |ends: &Vec<Timestamp>| ends.iter().filter(|at| **at > from).count();
    let spent = u64::try_from(lately(pass).iter().map(counted).max().unwrap_or_default()).unwrap_or(u64::MAX) + pass.unasked_ends;
    if spent + count <= limit(pass) || is_lifted(pass, of) {
        pass.unasked_ends += count;
        return true;
    }
    if let Some(oldest) = lately(pass).iter().flatten().filter(|at| **at > window).min().copied() {
        pass.wake(oldest + WINDOW);
    }
    pass.held_ends += count;
    false
}

/// Whether claims that are being deleted may be left: not when more of them than [`limit`] wait for it at once.
pub(in crate::core::plan) fn may_leave_deleted(pass: &mut Pass, claim: &Claim) -> bool {
    let waiting = pass.index.deleted_at_work();
    if waiting <= limit(pass) || pass.index.pods_on(&claim.name).is_empty() || is_lifted(pass, Some(&claim.spec.node_pool)) {
        return true;
    }
    pass.held_ends += 1;
    let note = format!(
        "{waiting} claims with work on them are being deleted at once, more than the {} that may be given up: as if their definition (CRD) had been deleted or \
         pruned. Their machines and work are kept until fewer are, or until its pool is annotated with {ALLOW} and a time within a day. If it was an accident: docs/operations.md",
        limit(pass)
    );
    pass.emit(EventSubject::Claim(claim.name.clone()), (EventKind::Warning, "EndsHeld"), "deleted", note);
    false
}

/// Whether the claim's machine may be given up now, for `what`: one on which work runs only as far as [`may_end`] lets. That it is kept is said on
/// the claim; `key` is what makes it news.
pub(in crate::core::plan) fn may_give_up(pass: &mut Pass, claim: &Claim, key: &str, what: &str) -> bool {
    let guests = pass.index.node_on(claim.status.instance.as_ref()).is_some_and(|node| guests::guests(node).next().is_some());
    let is_at_work = guests || !pass.index.pods_on(&claim.name).is_empty();
    // The mark of the leader before counts too: by its clock, but nothing ends for it.
    let marked = claim.status.unhealthy.as_ref().map(|mark| mark.since);
    let seen = pass.world.first_sights.unwell_since(claim);
    if !is_at_work || may_end(pass, Some(&claim.spec.node_pool), 1, marked.into_iter().chain(seen).min()) {
        return true;
    }
    let note = format!(
        "{what}: so it is of more machines than the {} that may be given up in ten minutes without anybody's asking, which is more likely a fault of \
         what is seen than of the machines. It is kept until that passes, or until its pool is annotated with {ALLOW} and a time within a day",
        limit(pass)
    );
    pass.emit(EventSubject::Claim(claim.name.clone()), (EventKind::Warning, "EndsHeld"), key, note);
    false
}
