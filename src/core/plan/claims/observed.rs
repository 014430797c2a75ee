//! What EC2 shows of a claim's machine.
//!
//! Decides: which instance is the claim's, and whether it lives.
//! Does not: act on it (`lifecycle`).

use super::super::pass::Pass;
use crate::core::fleet::{Claim, Instance, InstanceState, Ownership};
use crate::core::snapshot::Observed;
use crate::core::units::time::{Millis, Timestamp};

/// The claim's instance as EC2 shows it, found by id, or by the claim's uid in its tags.
pub(in crate::core::plan) fn observed_instance<'a>(pass: &Pass<'a>, claim: &Claim) -> Option<&'a Instance> {
    let uid = &pass.world.cluster_uid;
    match (&claim.status.instance, &claim.spec.adopted) {
        // Whoever it belongs to now: the caller looks.
        (Some(id), _) => pass.index.instance(id),
        // One that is taken over is ours when its tags say so; of one that has ended only the books are left to close.
        (None, Some(id)) => {
            let ours = |i: &&Instance| i.ownership(uid) == Ownership::Ours && i.claim_uid() == Some(claim.uid.as_str());
            pass.index.instance(id).filter(|i| !i.is_alive() || ours(i))
        }
        (None, None) => pass.index.tagged_with(claim).filter(|i| !i.is_of_another(uid)),
    }
}

/// When the claim's region was last looked at: a plan that goes by it is made again after the next look.
pub(in crate::core::plan) fn observed_at(pass: &Pass, claim: &Claim) -> Option<Timestamp> {
    pass.looks_matter.set(true);
    match pass.world.instances.get(&claim.spec.capacity.region) {
        Some(Observed::Known { at, .. }) => Some(*at),
        _ => None,
    }
}

/// What EC2 says has become of a launched instance.
pub(in crate::core::plan) enum Fate {
    Alive,
    Ended(Option<Instance>),
    Unknown,
}

pub(in crate::core::plan) fn fate(pass: &Pass, claim: &Claim) -> Fate {
    // A kubelet that reports is a machine that runs, whatever EC2's answer leaves out (a tag that somebody removed hides it).
    let reports = || pass.index.node_on(claim.status.instance.as_ref()).is_some_and(|node| node.ready);
    match observed_instance(pass, claim) {
        Some(i) if matches!(i.state, InstanceState::Pending | InstanceState::Running) => return Fate::Alive,
        Some(i) => return Fate::Ended(Some(i.clone())),
        None => {}
    }
    // EC2 may not show an instance it just gave us; later, not shown is gone.
    match (observed_at(pass, claim), claim.status.launched_at) {
        _ if reports() => Fate::Unknown,
        (Some(looked), Some(launched))
            if (looked + pass.world.ec2_ahead.unwrap_or(Millis::ZERO)).since(launched) > pass.settings.read_after_write_lag =>
        {
            Fate::Ended(None)
        }
        _ => Fate::Unknown,
    }
}
