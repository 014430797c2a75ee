//! The breaker: how many machines may end in ten minutes without a notice, an owner or a pool asking for it.
//!
//! Decides: whether one more such end may go on. Machines fail one at a time; many at once mean that what is seen is wrong (an API server
//! restored from an old backup, a filter that shows nothing, a clock that jumped), and ending them would be the damage.
//! Does not: count ends that somebody asked for: interruptions, empty machines, moves by a pool's policy, deletions.
//!
//! Every end that is to go on asks [`may_end`] first, whoever decides it.

use super::super::pass::Pass;
use crate::core::snapshot::seen;
use crate::core::units::time::Millis;

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

/// A person lets machines be ended faster for now.
pub(in crate::core::plan) fn is_lifted(pass: &mut Pass) -> bool {
    let said = pass.world.pools.values().filter_map(|pool| pool.ends_allowed_until).max();
    match said.filter(|until| until.since(pass.now) <= LONGEST_WORD && *until > pass.now) {
        Some(until) => {
            pass.wake(until);
            true
        }
        None => false,
    }
}

/// Whether `count` more machines may end now without anybody's asking: all of them or none. Counts them when they may.
pub(in crate::core::plan) fn may_end(pass: &mut Pass, count: u64) -> bool {
    let lately = pass.world.unasked_ends.iter().filter(|at| pass.now.since(**at) < WINDOW).count();
    let spent = u64::try_from(lately).unwrap_or(u64::MAX) + pass.unasked_ends;
    if spent + count <= limit(pass) || is_lifted(pass) {
        pass.unasked_ends += count;
        return true;
    }
    if let Some(oldest) = pass.world.unasked_ends.iter().min().copied() {
        pass.wake(oldest + WINDOW);
    }
    pass.held_ends += count;
    false
}
