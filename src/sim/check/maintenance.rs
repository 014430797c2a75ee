//! What must hold on the date for which EC2 has scheduled something: the work has left.
//!
//! Decides: from the truth: what ran there, since when anybody could have known, and whether it was being moved.

use super::super::world::World;
use crate::core::fleet::{Claim, Trigger};
use crate::core::invariant::Invariant;
use crate::core::units::ids::InstanceId;
use crate::core::units::time::{Millis, Timestamp};
use crate::core::workload::{Mobility, Pod, PodPhase};

/// EC2 said it for so long that no trouble of this world can have hidden it.
const KNOWN_FOR: Millis = Millis::from_hours(3);
/// Work that came so late is being moved, at best.
const JUST_STARTED: Millis = Millis::from_hours(2);

/// INV-11: no machine ends on a date that was announced with work on it that could have been moved.
pub fn at_the_date(world: &mut World, id: &InstanceId, now: Timestamp) {
    let Some(machine) = world.ec2.machines.get(id).filter(|m| m.doomed_at.is_none()) else { return };
    if machine.scheduled.is_none_or(|(_, said_at)| now.since(said_at) < KNOWN_FOR) {
        return;
    }
    let Some(claim) = world.kube.claims.values().map(|c| &c.object).find(|c| c.uid == machine.claim_uid) else { return };
    // Nobody may touch a claim that another version wrote into, and what is leaving has the reason it was left for.
    if claim.deleting || world.kube.unreadable.contains(&claim.name) || (claim.status.moving.is_some() && !for_this(claim)) {
        return;
    }
    let movable = |p: &&Pod| matches!(*p.mobility, Mobility::Surge { .. } | Mobility::Job { .. });
    let runs = |p: &&Pod| p.phase == PodPhase::Running && p.claim.as_ref() == Some(&claim.name) && p.deleting_until.is_none();
    let settled = |p: &&Pod| p.ready_since.is_some_and(|since| now.since(since) > JUST_STARTED);
    let left = |p: &&Pod| p.let_go.is_some();
    let here = world.kube.pods.values().map(|p| &p.object.pod).filter(runs).filter(settled).filter(movable);
    let forgotten = here.filter(|p| !left(p)).map(|p| p.identity.object.name.clone()).next();
    if let Some(pod) = forgotten {
        let text = format!("{pod} still runs on {id}, for which EC2 had scheduled something for this moment");
        world.broke(Invariant::EndsWereSeen, text);
    }
}

fn for_this(claim: &Claim) -> bool {
    claim.status.moving.as_ref().is_some_and(|mark| mark.trigger == Trigger::ScheduledMaintenance)
}
