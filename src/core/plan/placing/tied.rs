//! Pods that are tied to others: by a volume that one pod or one machine alone may have, or by an affinity over machines.
//!
//! Decides: that such pods are placed one after the other, the first on a machine with room for those that must follow it, and that no machine
//! is bought for a pod whose volume no machine could have yet.
//! Does not: say which machines are left to a follower (see `apart`).

use super::super::pass::Pass;
use super::super::terms::Marks;
use super::apart::{is_tied, must_share};
use crate::core::action::{EventKind, EventSubject};
use crate::core::units::shared::Shared;
use crate::core::units::time::Millis;
use crate::core::units::{Mebibytes, Millicores};
use crate::core::workload::company::{Company, Domain};
use crate::core::workload::need::Need;
use crate::core::workload::{Pod, PodPhase};

/// A volume that is not there for this long after its pod was made is worth an event: claims of a pod are often made just after it.
const SAID_AFTER: Millis = Millis::from_secs(15);
/// A pod waits this long for others to get a place that it must be near; then they may never get one.
const COMPANY_WITHIN: Millis = Millis::from_mins(1);

/// Whether the pod waits for a volume that no machine could have now.
pub(in crate::core::plan) fn waits_for_volume(pass: &mut Pass, pod: &Pod) -> bool {
    let why = match &pod.rules.volumes.missing {
        Some(missing) => Some(missing.clone()),
        None => in_use(pass, pod),
    };
    let Some(why) = why else { return false };
    if pass.due(pod.created_at, SAID_AFTER) {
        let note = format!("no machine is bought for it before its volume can be used: {why}");
        pass.emit(EventSubject::Pod(pod.identity.clone()), (EventKind::Warning, "WaitingForVolume"), why, note);
    }
    true
}

/// The pod that has a volume which one pod alone may use, and keeps it.
fn in_use(pass: &Pass, pod: &Pod) -> Option<String> {
    if pod.rules.volumes.of_one_pod.is_empty() {
        return None;
    }
    let keeps = |p: &&Pod| !p.finished() && p.claim.is_some() && p.let_go.is_none() && p.deleting_until.is_none();
    let same = |p: &&Pod| p.identity.uid != pod.identity.uid && p.object().namespace == pod.object().namespace;
    let shared = |p: &Pod| p.rules.volumes.of_one_pod.intersection(&pod.rules.volumes.of_one_pod).next().cloned();
    let (holder, claim) = pass.world.pods.values().filter(keeps).filter(same).find_map(|p| Some((p, shared(p)?)))?;
    Some(format!("PersistentVolumeClaim {claim} (ReadWriteOncePod) is in use by pod {}", holder.object()))
}

/// Whether the pod waits for others that it must be near and that are about to get a place. It may be the first of its kind, but not beside
/// them: the scheduler lets it go where none of them is only while there is none anywhere.
fn waits_for_company(pass: &mut Pass, pod: &Pod, waiting: &[&Pod]) -> bool {
    let selects = |company: &Company, other: &Pod| company.pods.selects(&other.object().namespace, &other.rules.labels);
    let own = pod.rules.together.iter().filter(|c| c.domain != Domain::Machine && selects(c, pod));
    let others = own.flat_map(|c| waiting.iter().filter(move |other| selects(c, other) && !other.rules.together.contains(c)));
    let newest = others.map(|other| other.created_at).max();
    newest.is_some_and(|since| !pass.due(since, COMPANY_WITHIN))
}

/// Of pods that must share a machine, or may not use a volume together, the first; the others have the pass that sees where it went.
pub(in crate::core::plan) fn one_at_a_time<'a>(pass: &mut Pass, marks: &Marks, waiting: Vec<&'a Pod>) -> Vec<&'a Pod> {
    let all = waiting.clone();
    let waiting: Vec<&Pod> = waiting.into_iter().filter(|pod| !waits_for_company(pass, pod, &all)).collect();
    if !waiting.iter().any(|pod| is_tied(marks, pod)) {
        return waiting;
    }
    let mut now: Vec<&Pod> = Vec::new();
    for pod in waiting {
        let together = |other: &&Pod| must_share(pod, other) || (is_tied(marks, other) && must_share(other, pod));
        if !(is_tied(marks, pod) && now.iter().any(together)) {
            now.push(pod);
        }
    }
    now
}

/// The pods that may have to follow others to their machines and have no place yet.
pub(in crate::core::plan) fn followers<'a>(pass: &Pass<'a>, marks: &Marks) -> Vec<&'a Pod> {
    let waits = |p: &&Pod| p.phase == PodPhase::Gated && p.claim.is_none() && p.deleting_until.is_none();
    pass.index.gated().iter().copied().filter(waits).filter(|p| is_tied(marks, p) && p.rules.volumes.missing.is_none()).collect()
}

/// Adds to what `pod` needs of its machine what those of `followers` need that must follow it there.
pub(in crate::core::plan) fn make_room_for_followers(followers: &[&Pod], pod: &Pod, need: &mut Shared<Need>) {
    // A volume of one pod is never used by two.
    if !pod.rules.volumes.of_one_pod.is_empty() {
        return;
    }
    for follower in followers.iter().filter(|p| p.identity.uid != pod.identity.uid && must_share(p, pod)) {
        let Ok((more, _)) = &follower.need else { continue };
        need.gpus += more.gpus;
        need.cpu = Millicores(need.cpu.0 + more.cpu.0);
        need.memory = Mebibytes(need.memory.0 + more.memory.0);
        need.disk = Mebibytes(need.disk.0 + more.disk.0);
        // What they share is attached once.
        let shared = follower.rules.volumes.of_one_node.intersection(&pod.rules.volumes.of_one_node).count();
        need.volumes += (more.volumes - i64::try_from(shared).unwrap_or(0)).max(0);
    }
}
