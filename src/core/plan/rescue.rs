//! Which steps save work from a machine that EC2 is about to take.
//!
//! Decides: that these go before everything else that is asked of the cluster, in every part of the way: the decision, the machine that is bought, the pods
//! that are made and pinned, the evictions.
//! Does not: plan them (see [`super::moving`]).

use crate::core::action::Step;
use crate::core::fleet::{Claim, Trigger};
use crate::core::record::LedgerRecord;
use crate::core::snapshot::{Lane, Snapshot};
use crate::core::units::ids::ClaimName;

/// Marks them.
pub(super) fn mark(world: &Snapshot, steps: &mut [Step]) {
    for step in steps {
        step.rescue = is_rescue(world, step);
    }
}

fn is_rescue(world: &Snapshot, step: &Step) -> bool {
    let interrupted = |name: &ClaimName| world.claims.get(name).is_some_and(Claim::interrupted);
    let bought = |name: &ClaimName| world.claims.get(name).is_some_and(|claim| claim.spec.trigger == Trigger::InterruptionNotice);
    let touches = |lane: &Lane| match lane {
        Lane::Claim(name) => interrupted(name) || bought(name),
        Lane::Pod(uid) => world.pods.get(uid).is_some_and(|pod| {
            let leaves = pod.replaces.as_ref().is_some_and(|replaces| interrupted(&replaces.from_claim));
            leaves || pod.claim.as_ref().is_some_and(interrupted)
        }),
        // What is read from a queue is noted with the claim that it is about, or drops what is about nothing of ours.
        Lane::Message(_) | Lane::Class(_) | Lane::Pool(_) | Lane::Instance(_) | Lane::Node(_) => false,
    };
    let decided =
        |record: &LedgerRecord| matches!(record, LedgerRecord::Decision(decision) if decision.trigger == Trigger::InterruptionNotice);
    step.records.iter().any(decided) || step.lanes.iter().any(touches)
}
