//! Machines at rest: most of them, most of the time. They are looked at once a pass, and no rule asks about them one by one.
//!
//! Decides: of which machines [`super::lifecycle`] and [`super::super::reporting::facts`] would say nothing, and until when.
//! Does not: say anything itself. It only leaves out: a pass that leaves nothing out gives the same plan (a test compares the two).
//!
//! A machine is at rest when it runs with its node Ready and whole, its pods are those that are written down, all Ready, nobody leaves or ends
//! it, and the ledger has every hour of it that has begun. What that follows from is noted while the index is built (`index::rest`), so that with a whole
//! fleet at rest a pass costs one look at each.

use super::super::index::{Calm, Here, Settled};
use super::super::pass::Pass;
use super::super::reporting::facts;
use crate::core::units::time::Timestamp;

/// Looks at what was noted of every machine, and asks to be woken when the first of those at rest needs another look.
pub(in crate::core::plan) fn look(pass: &mut Pass) {
    let mut wake: Option<Timestamp> = None;
    let mut is_at_rest = Vec::with_capacity(pass.index.machines().len());
    for (settled, here, calm) in pass.index.noted() {
        let until = settled.zip(calm).and_then(|((settled, hours), calm)| rests_until(settled, hours, *here, calm, pass.now));
        is_at_rest.push(until.is_some());
        wake = [wake, until].into_iter().flatten().min();
    }
    // What this pass has marked is not as it was noted.
    pass.claims.marked().filter_map(|name| pass.index.position(name)).for_each(|at| is_at_rest[at] = false);
    pass.resting = is_at_rest;
    if let Some(at) = wake {
        pass.wake(at);
    }
}

/// Until when the machine is at rest; `None` if it is not.
fn rests_until(settled: &Settled, hours: u32, here: Here, calm: &Calm, now: Timestamp) -> Option<Timestamp> {
    // The pods that run here are those that are written down, all of them.
    let same_as_before = here.running == settled.occupants && here.written_down == settled.occupants;
    if calm.gpus < settled.gpus || !here.at_work || !same_as_before || here.says_more {
        return None;
    }
    // The next instance-hour, if the ledger knows every one that has begun.
    let begun = facts::last_begun(calm.launched_at, now);
    (hours > begun).then(|| facts::next_hour(calm.launched_at, begun)).filter(|at| *at > now)
}
