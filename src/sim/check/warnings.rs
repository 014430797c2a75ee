//! What must hold of an act that rests on a rebalance recommendation: the capacity is not bought again, and machines leave one after the other.
//!
//! Decides: from the claims as they are stored, so that an operator is held to what it wrote down itself.

use super::super::world::World;
use super::TOLERANCE;
use crate::core::fleet::{Claim, ClaimSpec, NoticeKind, Trigger};
use crate::core::invariant::Invariant;
use crate::core::units::ids::ClaimName;
use crate::core::units::time::{Millis, Timestamp};

/// For so long after a warning its capacity is not bought.
const NOT_BOUGHT_FOR: Millis = Millis::from_mins(14);
/// One of so many machines may leave for a warning at a time.
const ONE_IN: usize = 10;

fn leaving(world: &World) -> impl Iterator<Item = &Claim> {
    let leaves = |c: &&Claim| c.status.moving.as_ref().is_some_and(|mark| mark.trigger == Trigger::RebalanceRecommendation);
    world.kube.claims.values().map(|c| &c.object).filter(leaves).filter(|c| c.status.ended.is_none())
}

/// INV-4: what replaces a machine that was warned of is not bought in the capacity that was warned of.
pub fn before_purchase(world: &mut World, name: &ClaimName, spec: &ClaimSpec, now: Timestamp) {
    if spec.trigger != Trigger::RebalanceRecommendation {
        return;
    }
    let lately = |c: &Claim| {
        let mark = c.status.interruption.as_ref().filter(|mark| mark.kind == NoticeKind::Rebalance);
        mark.is_some_and(|mark| now.since(mark.noticed_at) < NOT_BOUGHT_FOR)
    };
    let (some, all) = leaving(world).fold((false, true), |(_, all), c| (true, all && c.spec.capacity == spec.capacity && lately(c)));
    if some && all {
        let text = format!("{name} is bought in {}, of which EC2 has just warned", spec.capacity);
        world.broke(Invariant::NeedsAndPoliciesHold, text);
    }
}

/// INV-6: a warning is no notice: machines leave one after the other, however many are warned of.
pub fn before_leaving(world: &mut World, name: &ClaimName, now: Timestamp) {
    // Nobody counts what another version wrote and this one cannot read.
    let readable = |c: &&Claim| !world.kube.unreadable.contains(&c.name);
    let known = |c: &&Claim| c.name != *name && c.status.moving.as_ref().is_some_and(|mark| now.since(mark.decided_at) > TOLERANCE);
    let others = leaving(world).filter(known).filter(readable).count();
    // Machines that have just ended counted when it was decided.
    let counted = |c: &Claim| c.may_run() || c.status.ended.as_ref().is_some_and(|ended| now.since(ended.at) < TOLERANCE);
    let gone = world.kube.removed_claims.values().filter(|at| now.since(**at) < TOLERANCE).count();
    let most = (world.kube.claims.values().filter(|c| counted(&c.object)).count() + gone).div_ceil(ONE_IN).max(1);
    if others >= most {
        let text = format!("{name} is left for a warning while {others} others are being left for one");
        world.broke(Invariant::RemovalsHaveReasons, text);
    }
}
