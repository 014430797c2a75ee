//! The life of a claim: asked, launched, joined, left, empty, ended, closed.
//!
//! Decides: which of these a claim is in for, and when its machine counts as joined or as never going to.
//! Does not: choose what to buy (`placing::buying`), move pods (`moving::migration`), or write what an end takes (`ending`).

use std::collections::BTreeSet;

use super::super::pass::Pass;
use super::super::placing::reserved;
use super::breaker;
use super::ending::{self, end_when_empty, leave, terminate};
use super::health;
use super::launching::{adopt, cool_down, give_up, launch};
use super::observed::{Fate, fate, observed_instance};
use super::steps::{keeps_others_off, lane, mark_node, patch};
use crate::core::action::{ClaimPatch, EventKind, EventSubject};
use crate::core::fleet::{Claim, Doubt, Node, Ownership, PoolsDefined, Trigger};
use crate::core::market::CoolDownCause;
use crate::core::snapshot::Lane;
use crate::core::units::ids::PoolName;
use crate::core::units::time::{Millis, Timestamp};
use crate::core::workload::need::constraints::{CAPACITY_TYPE, TYPE};

pub(in crate::core::plan) fn advance_claims(pass: &mut Pass) {
    let claims = pass.claims.clone();
    let awake = (0..).zip(pass.index.machines()).filter(|(at, _)| !pass.is_resting(*at)).filter_map(|(_, m)| claims.get(&m.claim.name));
    let free: Vec<&Claim> = awake.filter(|c| pass.is_free(&Lane::Claim(c.name.clone()))).collect();
    say_undefined(pass, &free);
    for claim in free {
        if is_others(pass, claim) {
            continue;
        }
        match &claim.status {
            status if status.terminate_asked.is_some() => ending::wait_for_end(pass, claim),
            status if status.instance.is_some() => keep(pass, claim),
            // A machine whose launch was not reported: it is ours, even if it has ended meanwhile, and it is billed.
            _ if observed_instance(pass, claim).is_some() => adopt(pass, claim),
            status if status.failure.is_some() => give_up(pass, claim),
            _ => launch(pass, claim),
        }
    }
}

/// The claim's machine carries another cluster's UID: that cluster took it over, or somebody forged a mark. Neither is ours to end.
fn is_others(pass: &mut Pass, claim: &Claim) -> bool {
    let Some(instance) = observed_instance(pass, claim) else { return false };
    let Ownership::Foreign(uid) = instance.ownership(&pass.world.cluster_uid) else { return false };
    let note = format!(
        "its machine {} carries the UID {uid} of another cluster (lowtide-cluster-uid): nothing is done with it here. If it was taken over \
         there, delete this claim and its finalizer; if not, correct the tag",
        instance.id
    );
    pass.emit(EventSubject::Claim(claim.name.clone()), (EventKind::Warning, "OtherCluster"), uid, note);
    true
}

/// A machine that was launched: has it joined, is it lost, wanted, empty?
fn keep(pass: &mut Pass, claim: &Claim) {
    if let Fate::Ended(instance) = fate(pass, claim) {
        ending::lost(pass, claim, instance.as_ref());
        return;
    }
    let node = pass.index.node_on(claim.status.instance.as_ref());
    if claim.status.node_ready_at.is_none() && !joined(pass, claim, node) {
        return;
    }
    guard_again(pass, claim, node);
    // What its pool says of it is not known at the moment: it stays as it is, and what was decided before is carried out.
    if pass.pool_of(claim).is_none() && !pass.is_without_pool(claim) {
        if claim.status.moving.is_some() {
            end_when_empty(pass, claim);
        }
        return;
    }
    if notes_definition(pass, claim) || leave_when_unwanted(pass, claim) || health::tend(pass, claim, node) {
        return;
    }
    end_when_empty(pass, claim);
}

/// Writes down that the node is there, or gives the machine up when its time to join is over. True once it has joined.
fn joined(pass: &mut Pass, claim: &Claim, node: Option<&Node>) -> bool {
    let units = claim.spec.gpu_units(&pass.world.catalog);
    let starting = node.and_then(|node| startup_taint(pass, claim, node));
    if let Some(node) = node.filter(|n| n.ready && n.allocatable.gpus >= units && starting.is_none()) {
        // k3s' own controller writes `k3s` there, whatever the kubelet said.
        let kind = claim.spec.capacity.instance_type.as_str();
        let wrong = node.state.labels.get(TYPE).is_some_and(|said| said != kind);
        // Pods look for their kind by it on every node, also on those whose own pods did not ask for it.
        let capacity_type = (CAPACITY_TYPE.to_owned(), claim.spec.capacity.capacity_type.to_string());
        let labels = wrong.then(|| (TYPE.to_owned(), kind.to_owned())).into_iter().chain([capacity_type]).collect();
        let label = mark_node(claim, &node.name, labels);
        let pools_defined_by = pass.pool_of(claim).and(pass.world.pools_defined.by().cloned());
        let change = ClaimPatch { node: Some(node.name.clone()), node_ready_at: Some(pass.now), pools_defined_by, ..ClaimPatch::default() };
        pass.step(lane(claim), Vec::new(), vec![label, patch(claim, change)]);
        return false;
    }
    let (Some(pool), Some((launched, inherited))) = (pass.pool_of(claim), joins_from(pass, claim)) else { return true };
    if claim.interrupted() || !pass.due(launched, pool.join_timeout) {
        return claim.interrupted();
    }
    // A Node is there that EC2 has not been able to vouch for, as while it throttles us: unknown is not absent.
    let unseen = |doubt: &Doubt| !doubt.is_alarming() && Some(doubt.instance()) == claim.status.instance.as_ref();
    if pass.world.doubtful_nodes.values().any(unseen) {
        return false;
    }
    let twice = |doubt: &Doubt| matches!(doubt, Doubt::Twice { .. }) && Some(doubt.instance()) == claim.status.instance.as_ref();
    let (trigger, cause, what) = match node {
        None if pass.world.doubtful_nodes.values().any(twice) => {
            (Trigger::NeverJoined, CoolDownCause::NeverJoined, "joined, and two Nodes pass for it, so that neither is used".to_owned())
        }
        Some(n) if n.ready && starting.is_some() => {
            let taint = starting.unwrap_or_default();
            (Trigger::NeverJoined, CoolDownCause::NeverJoined, format!("joined and still has its start-up taint {taint}"))
        }
        Some(n) if n.ready => (Trigger::NoGpus, CoolDownCause::NoGpus, format!("joined with {} of {units} GPUs", n.allocatable.gpus)),
        Some(_) => (Trigger::NeverJoined, CoolDownCause::NeverJoined, "joined but was never Ready".to_owned()),
        None => (Trigger::NeverJoined, CoolDownCause::NeverJoined, "never joined".to_owned()),
    };
    let text = format!("{} {} within {}", claim.spec.capacity, what, pool.join_timeout);
    if inherited && !breaker::may_give_up(pass, claim, "never-joined", &text) {
        return false;
    }
    let text = format!("{text}: terminated, and the pool is left alone for a while");
    for pod in pass.pods_on(&claim.name) {
        pass.emit(EventSubject::Pod(pod.identity.clone()), (EventKind::Warning, "MachineFailed"), &claim.uid, text.clone());
    }
    let cool = cool_down(pass, claim, cause, launched + pool.join_timeout);
    let key = node.map_or_else(|| "no-node".to_owned(), |n| format!("ready-{}-gpus-{}", n.ready, n.allocatable.gpus));
    terminate(pass, claim, trigger, &key, text, cool);
    false
}

/// Puts the taint back that keeps others' pods off the claim's node, where somebody took it off.
fn guard_again(pass: &mut Pass, claim: &Claim, node: Option<&Node>) {
    // Before it has the label nobody has marked it.
    let Some(node) = node.filter(|n| n.labelled && !n.guarded && keeps_others_off(claim)) else { return };
    if pass.step(vec![Lane::Node(node.name.clone())], Vec::new(), vec![mark_node(claim, &node.name, Default::default())]) {
        let note = format!(
            "the taint that keeps pods of others off was taken off node {}: it is put back; pods that were scheduled there meanwhile stay",
            node.name
        );
        pass.emit(EventSubject::Claim(claim.name.clone()), (EventKind::Warning, "TaintRestored"), pass.now.0, note);
    }
}

/// A start-up taint of its class that the node still has: whoever prepares the node takes it off when it is ready for work.
fn startup_taint(pass: &Pass, claim: &Claim, node: &Node) -> Option<String> {
    let class = pass.world.classes.get(&claim.spec.node_class)?;
    node.state.foreign_taints.iter().find(|key| class.startup_taints.contains(key)).cloned()
}

/// The moment, by our clock, from which a machine has its time to join, and whether work may run on it all the same. It is a span between two readings
/// of EC2's clock, so that a clock of ours that is wrong ends nothing; and a machine that this leader did not launch has it from when it was first seen
/// without its node: one that was taken over, or whose claim was restored from before it joined.
fn joins_from(pass: &Pass, claim: &Claim) -> Option<(Timestamp, bool)> {
    // What a claim wrote down of a launch is by EC2's clock as well.
    let by_ec2 = observed_instance(pass, claim).map(|instance| instance.launched_at).or(claim.status.launched_at)?;
    let launched = by_ec2 - pass.world.ec2_ahead.unwrap_or(Millis::ZERO);
    let seen = pass.world.first_sights.joining(claim)?;
    Some((launched.max(seen.since), seen.inherited || claim.spec.adopted.is_some()))
}

/// Writes down which definition defines the pool that is there, where the claim knows another. True when it did.
fn notes_definition(pass: &mut Pass, claim: &Claim) -> bool {
    let Some(uid) = claim.definition_to_note(&pass.world.pools_defined).filter(|_| pass.pool_of(claim).is_some_and(|pool| !pool.deleting))
    else {
        return false;
    };
    let change = ClaimPatch { pools_defined_by: Some(uid.clone()), ..ClaimPatch::default() };
    pass.step(lane(claim), Vec::new(), vec![patch(claim, change)])
}

/// Says on each pool that is gone, or going, with the definition of all pools that its machines are kept, and how they are let go.
fn say_undefined(pass: &mut Pass, claims: &[&Claim]) {
    // While it is being read nothing is known.
    if pass.world.pools_defined == PoolsDefined::Unread {
        return;
    }
    let kept = |claim: &&&Claim| {
        let goes = pass.world.pools_defined == PoolsDefined::Going && pass.pool_of(claim).is_some_and(|pool| pool.deleting);
        claim.may_run() && (goes || pass.is_pool_absent(claim)) && !pass.is_defined(claim)
    };
    let pools: BTreeSet<PoolName> = claims.iter().filter(kept).map(|claim| claim.spec.node_pool.clone()).collect();
    for pool in pools {
        let note = format!(
            "node pool {pool} is gone, and as far as is known with the definition (CRD) of all node pools, which nobody means: its machines and their work are \
             kept, and nothing is bought. Apply the definition and the pool again; if the machines are to end, delete the pool then. See docs/operations.md"
        );
        pass.emit(EventSubject::Pool(pool), (EventKind::Warning, "PoolsUndefined"), "undefined", note);
    }
}

/// Marks a claim as being left when its pool or it itself is deleted, or its reservation ends. True when it did.
fn leave_when_unwanted(pass: &mut Pass, claim: &Claim) -> bool {
    if claim.status.moving.is_some() {
        return false;
    }
    let pool = pass.pool_of(claim);
    let (trigger, key, why) = match pool {
        _ if reserved::is_ending(pass, claim) => (Trigger::ReservationEnding, "", "its capacity reservation ends"),
        _ if claim.deleting && breaker::may_leave_deleted(pass, claim) => (Trigger::Deleted, "claim-deleted", "its claim was deleted"),
        None if pass.is_without_pool(claim) => (Trigger::Deleted, "pool-gone", "its node pool is gone"),
        Some(p) if p.deleting && pass.world.pools_defined.by().is_some() => (Trigger::Deleted, "pool-deleted", "its node pool was deleted"),
        _ => return false,
    };
    let text = format!("{} is drained: {}", claim.spec.capacity, why);
    leave(pass, claim, trigger, key, text);
    true
}
