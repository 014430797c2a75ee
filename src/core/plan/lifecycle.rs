//! The life of a claim: asked, launched, joined, empty, ended, closed.
//!
//! Decides: when EC2 is asked to launch or terminate, when a machine counts as joined, lost or empty, when a claim is over.
//! Does not: choose what to buy (`buying`) or move pods (`migration`).

use super::notices::{observed_at, observed_instance};
use super::pass::Pass;
use super::{breaker, budget, guests, health, reserved, wording};
use crate::core::action::{Action, ClaimPatch, ClusterAction, EventKind, EventSubject, RemovalReason};
use crate::core::fleet::{
    Claim, ClassProblem, ClassStatus, Doubt, Ended, EndedBy, Instance, InstanceState, Launch, LaunchFailure, MoveMark, Node, Occupant,
    Ownership, Trigger, Unhealthy, tags,
};
use crate::core::market::CoolDownCause;
use crate::core::record::{IntervalClosed, LedgerRecord, Outcome};
use crate::core::snapshot::Lane;
use crate::core::units::ids::{DecisionId, client_token};
use crate::core::units::time::{Millis, Timestamp};
use crate::core::workload::PodPhase;
use crate::core::workload::need::constraints::TYPE;

/// A machine EC2 interrupts is ended by EC2 (an interrupted first hour is free); by us only this long after its deadline.
const AFTER_DEADLINE: Millis = Millis::from_secs(60);
/// A claim that no pod took within this time was lost to another pass, and goes.
const UNTAKEN_GRACE: Millis = Millis::from_secs(10);
/// A claim whose machine has ended waits so long for the price of its last hour: it holds nothing up.
const PRICES_PATIENCE: Millis = Millis::from_hours(24);
/// A terminate whose effect does not show is asked again after this.
const TERMINATE_RETRY: Millis = Millis::from_secs(20);

pub(super) fn advance_claims(pass: &mut Pass) {
    let claims = pass.claims.clone();
    let free: Vec<&Claim> = claims.values().filter(|c| pass.is_free(&Lane::Claim(c.name.clone()))).collect();
    for claim in free {
        if is_others(pass, claim) {
            continue;
        }
        match &claim.status {
            status if status.terminate_asked.is_some() => wait_for_end(pass, claim),
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

fn cluster(action: ClusterAction) -> Action {
    Action::Cluster(action)
}

fn patch(claim: &Claim, patch: ClaimPatch) -> Action {
    cluster(ClusterAction::PatchClaim { claim: claim.name.clone(), patch: Box::new(patch), seen: Some(claim.version) })
}

fn remove(claim: &Claim) -> Action {
    cluster(ClusterAction::RemoveClaim { claim: claim.name.clone(), seen: Some(claim.version) })
}

fn lane(claim: &Claim) -> Vec<Lane> {
    vec![Lane::Claim(claim.name.clone())]
}

fn cool_down(pass: &Pass, claim: &Claim, cause: CoolDownCause, at: Timestamp) -> Option<Action> {
    let pool = pass.pool_of(claim)?;
    let vcpus = pass.world.catalog.types.get(&claim.spec.capacity.instance_type).map_or(0, |machine| machine.vcpus);
    Some(Action::CoolDown { pool: claim.spec.capacity.clone(), cause, vcpus, base: pool.cool_down_base, max: pool.cool_down_max, at })
}

/// Writes down the instance that carries the claim's uid.
fn adopt(pass: &mut Pass, claim: &Claim) {
    let Some(found) = observed_instance(pass, claim) else { return };
    let launched = Some((found.id.clone(), found.launched_at));
    pass.notes.push(format!("{} adopts {}, found by its tag", claim.name, found.id));
    pass.step(lane(claim), Vec::new(), vec![patch(claim, ClaimPatch { launched, ..ClaimPatch::default() })]);
}

/// The launch failed: leave that pool of capacity alone, let the pods be placed anew.
fn give_up(pass: &mut Pass, claim: &Claim) {
    let Some(failure) = claim.status.failure.clone() else { return };
    if failure.had_a_machine() && observed_at(pass, claim).is_none_or(|looked| looked <= failure.at) {
        // There was an instance: a look after this answer shows it, and its books are closed like any other's.
        return;
    }
    let note = format!("{} could not be launched: {} ({}); trying the next offer", claim.spec.capacity, failure.message, failure.code);
    for pod in pass.pods_on(&claim.name) {
        pass.emit(EventSubject::Pod(pod.identity.clone()), (EventKind::Warning, "LaunchRefused"), &claim.uid, note.clone());
    }
    let (mut lanes, mut actions) = (lane(claim), Vec::new());
    match level_of(&failure) {
        FaultLevel::Offer => actions.extend(cool_down(pass, claim, failure.cause, failure.at)),
        FaultLevel::Region => {
            actions.extend(close_region(pass, claim, &failure));
            let region = &claim.spec.capacity.region;
            let note = format!(
                "EC2 lets this account launch nothing in {region} ({}: {}): nothing more is asked for there for a while; check rights, \
                 service control policies and opt-in",
                failure.code, failure.message
            );
            pass.emit(EventSubject::Class(claim.spec.node_class.clone()), (EventKind::Warning, "RegionDenied"), &failure.code, note);
        }
        FaultLevel::Template => {
            // No offer is to blame: the class makes its template again before anything more is bought for it.
            lanes.push(Lane::Class(claim.spec.node_class.clone()));
            actions.extend(template_is_gone(pass, claim, &failure));
        }
    }
    actions.push(remove(claim));
    pass.step(lanes, Vec::new(), actions);
}

/// How far a fault of a launch reaches.
enum FaultLevel {
    /// The capacity that was asked for.
    Offer,
    /// The launch template of its class.
    Template,
    /// The region: this account may launch nothing there.
    Region,
}

/// Codes by which EC2 says that the account may not launch in a region, whatever it asks for.
///
/// Source: "Error codes for the Amazon EC2 API", client errors common to all actions.
const REGION_WIDE: [&str; 6] =
    ["UnauthorizedOperation", "AuthFailure", "OptInRequired", "Blocked", "PendingVerification", "InvalidClientTokenId"];

fn level_of(failure: &LaunchFailure) -> FaultLevel {
    match failure.code.as_str() {
        code if REGION_WIDE.contains(&code) => FaultLevel::Region,
        code if code.starts_with("InvalidLaunchTemplate") => FaultLevel::Template,
        _ => FaultLevel::Offer,
    }
}

fn close_region(pass: &Pass, claim: &Claim, failure: &LaunchFailure) -> Option<Action> {
    let pool = pass.pool_of(claim)?;
    let region = claim.spec.capacity.region.clone();
    Some(Action::CloseRegion { region, base: pool.cool_down_base, max: pool.cool_down_max, at: failure.at })
}

fn template_is_gone(pass: &Pass, claim: &Claim, failure: &LaunchFailure) -> Option<Action> {
    let class = pass.world.classes.get(&claim.spec.node_class)?;
    // A class that uses another template by now needs nothing.
    let same = class.launch_template.as_ref().is_some_and(|(name, _)| *name == claim.spec.launch_template);
    let text = format!("launch template {} is gone from EC2 ({}): it is made again", claim.spec.launch_template, failure.code);
    let ready = Err(ClassProblem { reason: "LaunchTemplateGone".to_owned(), text });
    let status = ClassStatus { zones: class.zones.clone(), zone_names: class.zone_names.clone(), launch_template: None, ready };
    same.then(|| cluster(ClusterAction::SetClassStatus { class: class.name.clone(), status }))
}

fn launch(pass: &mut Pass, claim: &Claim) {
    if claim.spec.adopted.is_some() {
        // It stands for a machine that is there already, and waits until EC2 shows it as ours.
        if claim.deleting {
            pass.step(lane(claim), Vec::new(), vec![remove(claim)]);
        }
        return;
    }
    match claim.status.launch_asked_at {
        None => {
            let unwanted = claim.deleting || pass.pool_of(claim).is_none_or(|p| p.deleting);
            let takes_over = claim.spec.takes_over.as_ref().and_then(|old| pass.world.claims.get(old)).is_some_and(Claim::takes_work);
            let untaken = !takes_over && pass.pods_on(&claim.name).is_empty() && !pass.taken.contains(&claim.name);
            if unwanted || (untaken && pass.due(claim.created_at, UNTAKEN_GRACE)) {
                pass.step(lane(claim), Vec::new(), vec![remove(claim)]);
                return;
            }
            if untaken {
                return;
            }
        }
        // Asked, and no answer was written down: the same token gives the same instance, never a second one.
        Some(asked) if !pass.due(asked, pass.settings.launch_retry) => return,
        Some(_) => pass.notes.push(format!("{} was asked for and not answered: asking again with the same token", claim.name)),
    }
    if pass.world.cluster_uid.is_empty() {
        pass.notes.push("nothing is launched before the cluster's UID is known".to_owned());
        return;
    }
    let launch = launch_of((&pass.world.cluster, &pass.world.cluster_uid), claim);
    pass.step(lane(claim), Vec::new(), vec![Action::Launch { launch: Box::new(launch), seen: claim.version }]);
}

/// The launch a claim stands for: a function of the claim alone, so that asking twice is asking once.
fn launch_of((cluster_name, cluster_uid): (&str, &str), claim: &Claim) -> Launch {
    let mut all_tags = claim.spec.tags.clone();
    for (key, value) in [
        (tags::CLUSTER, cluster_name),
        (tags::CLUSTER_UID, cluster_uid),
        (tags::CLASS, claim.spec.node_class.as_str()),
        (tags::CLAIM, claim.name.as_str()),
        (tags::CLAIM_UID, claim.uid.as_str()),
        (tags::POOL, claim.spec.node_pool.as_str()),
    ] {
        all_tags.insert(key.to_owned(), value.to_owned());
    }
    all_tags.insert(tags::DECISION.to_owned(), claim.spec.decision.to_string());
    Launch {
        claim: claim.name.clone(),
        claim_uid: claim.uid.clone(),
        capacity: claim.spec.capacity.clone(),
        client_token: client_token(&claim.uid, claim.spec.attempt),
        launch_template: claim.spec.launch_template.clone(),
        launch_template_version: claim.spec.launch_template_version.clone(),
        subnet: claim.spec.subnet.clone(),
        reservation: claim.spec.reservation.clone(),
        tags: all_tags,
    }
}

/// What EC2 says has become of a launched instance.
enum Fate {
    Alive,
    Ended(Option<Instance>),
    Unknown,
}

fn fate(pass: &Pass, claim: &Claim) -> Fate {
    // A kubelet that reports is a machine that runs, whatever EC2's answer leaves out (a tag that somebody removed hides it).
    let reports = pass.world.nodes.values().any(|node| node.ready && Some(&node.instance) == claim.status.instance.as_ref());
    match (observed_instance(pass, claim), observed_at(pass, claim), claim.status.launched_at) {
        (Some(i), _, _) if matches!(i.state, InstanceState::Pending | InstanceState::Running) => Fate::Alive,
        (Some(i), _, _) => Fate::Ended(Some(i.clone())),
        // EC2 may not show an instance it just gave us; later, not shown is gone.
        (None, _, _) if reports => Fate::Unknown,
        (None, Some(looked), Some(launched))
            if (looked + pass.world.ec2_ahead.unwrap_or(Millis::ZERO)).since(launched) > pass.settings.read_after_write_lag =>
        {
            Fate::Ended(None)
        }
        _ => Fate::Unknown,
    }
}

/// A machine that was launched: has it joined, is it lost, wanted, empty?
fn keep(pass: &mut Pass, claim: &Claim) {
    if let Fate::Ended(instance) = fate(pass, claim) {
        lost(pass, claim, instance.as_ref());
        return;
    }
    let node = pass.index.node_on(claim.status.instance.as_ref());
    if claim.status.node_ready_at.is_none() && !joined(pass, claim, node) {
        return;
    }
    if leave_when_unwanted(pass, claim) || health::tend(pass, claim, node) {
        return;
    }
    end_when_empty(pass, claim);
}

/// Writes down that the node is there, or gives the machine up when its time to join is over. True once it has joined.
fn joined(pass: &mut Pass, claim: &Claim, node: Option<&Node>) -> bool {
    let units = claim.spec.gpu_units(&pass.world.catalog);
    if let Some(node) = node.filter(|n| n.ready && n.allocatable.gpus >= units) {
        // k3s' own controller writes `k3s` there, whatever the kubelet said.
        let kind = claim.spec.capacity.instance_type.as_str();
        let wrong = node.state.labels.get(TYPE).is_some_and(|said| said != kind);
        let labels = wrong.then(|| (TYPE.to_owned(), kind.to_owned())).into_iter().collect();
        let label = ClusterAction::MarkNode { node: node.name.clone(), claim: claim.name.clone(), taint: false, labels };
        let change = ClaimPatch { node: Some(node.name.clone()), node_ready_at: Some(pass.now), ..ClaimPatch::default() };
        pass.step(lane(claim), Vec::new(), vec![cluster(label), patch(claim, change)]);
        return false;
    }
    let (Some(pool), Some(launched)) = (pass.pool_of(claim), joins_from(pass, claim)) else { return true };
    if claim.interrupted() || !pass.due(launched, pool.join_timeout) {
        return claim.interrupted();
    }
    // A Node is there that EC2 has not been able to vouch for, as while it throttles us: unknown is not absent.
    let unseen = |doubt: &Doubt| !doubt.is_alarming() && Some(doubt.instance()) == claim.status.instance.as_ref();
    if pass.world.doubtful_nodes.values().any(unseen) {
        return false;
    }
    let (trigger, cause, what) = match node {
        Some(n) if n.ready => (Trigger::NoGpus, CoolDownCause::NoGpus, format!("joined with {} of {units} GPUs", n.allocatable.gpus)),
        Some(_) => (Trigger::NeverJoined, CoolDownCause::NeverJoined, "joined but was never Ready".to_owned()),
        None => (Trigger::NeverJoined, CoolDownCause::NeverJoined, "never joined".to_owned()),
    };
    let text = format!("{} {} within {}: terminated, and the pool is left alone for a while", claim.spec.capacity, what, pool.join_timeout);
    for pod in pass.pods_on(&claim.name) {
        pass.emit(EventSubject::Pod(pod.identity.clone()), (EventKind::Warning, "MachineFailed"), &claim.uid, text.clone());
    }
    let cool = cool_down(pass, claim, cause, launched + pool.join_timeout);
    let key = node.map_or_else(|| "no-node".to_owned(), |n| format!("ready-{}-gpus-{}", n.ready, n.allocatable.gpus));
    terminate(pass, claim, trigger, &key, text, cool);
    false
}

/// The moment, by our clock, from which a machine has its time to join: a span between two readings of EC2's clock, so that a clock of ours
/// that is wrong ends nothing. A machine that was taken over has it again from then.
fn joins_from(pass: &Pass, claim: &Claim) -> Option<Timestamp> {
    // What a claim wrote down of a launch is by EC2's clock as well.
    let by_ec2 = observed_instance(pass, claim).map(|instance| instance.launched_at).or(claim.status.launched_at)?;
    let launched = by_ec2 - pass.world.ec2_ahead.unwrap_or(Millis::ZERO);
    let taken_over = claim.spec.adopted.is_some().then_some(claim.created_at);
    Some(taken_over.map_or(launched, |at| at.max(launched)))
}

/// Marks a claim as being left when its pool, its class or it itself is deleted, or it has expired. True when it did.
fn leave_when_unwanted(pass: &mut Pass, claim: &Claim) -> bool {
    if claim.status.moving.is_some() {
        return false;
    }
    let pool = pass.pool_of(claim);
    let expired = match (pool.and_then(|p| p.expire_after), claim.status.launched_at) {
        (Some(after), Some(launched)) => pass.due(launched, after),
        _ => false,
    };
    let (trigger, key, why) = match pool {
        _ if reserved::is_ending(pass, claim) => (Trigger::ReservationEnding, "", "its capacity reservation ends"),
        _ if claim.deleting => (Trigger::Deleted, "claim-deleted", "its claim was deleted"),
        None => (Trigger::Deleted, "pool-gone", "its node pool is gone"),
        Some(p) if p.deleting => (Trigger::Deleted, "pool-deleted", "its node pool was deleted"),
        _ if expired => (Trigger::Expired, "", "it is older than its pool allows"),
        _ => return false,
    };
    let text = format!("{} is drained: {}", claim.spec.capacity, why);
    leave(pass, claim, trigger, key, text);
    true
}

/// Writes down that the machine is left, and by which decision.
pub(super) fn leave(pass: &mut Pass, claim: &Claim, trigger: Trigger, key: &str, text: String) {
    let decision = pass.machine_decision(claim, trigger, Outcome::Migrate, key, text);
    let moving = Some(MoveMark { decision: decision.id, trigger, decided_at: pass.now });
    let records = vec![LedgerRecord::Decision(Box::new(decision))];
    pass.step(lane(claim), records, vec![patch(claim, ClaimPatch { moving, ..ClaimPatch::default() })]);
}

/// Writes down what is wrong with the claim's node, or that it is well again. True when the step was taken.
pub(super) fn mark_health(pass: &mut Pass, claim: &Claim, unhealthy: Option<Unhealthy>) -> bool {
    let change = ClaimPatch { unhealthy: Some(unhealthy), ..ClaimPatch::default() };
    pass.step(lane(claim), Vec::new(), vec![patch(claim, change)])
}

/// Writes down that a need does not fit there.
pub(super) fn remember_misfit(claim: &Claim, need: String) -> Action {
    patch(claim, ClaimPatch { misfit: Some(need), ..ClaimPatch::default() })
}

fn end_when_empty(pass: &mut Pass, claim: &Claim) {
    let held = pass.taken.contains(&claim.name) || !pass.index.pods_on(&claim.name).is_empty();
    match (held, claim.status.empty_since) {
        (true, Some(_)) => {
            pass.step(lane(claim), Vec::new(), vec![patch(claim, ClaimPatch { empty_since: Some(None), ..ClaimPatch::default() })]);
        }
        (true, None) => {}
        (false, None) => {
            pass.step(
                lane(claim),
                Vec::new(),
                vec![patch(claim, ClaimPatch { empty_since: Some(Some(pass.now)), ..ClaimPatch::default() })],
            );
        }
        (false, Some(since)) => end_after_grace(pass, claim, since),
    }
}

fn end_after_grace(pass: &mut Pass, claim: &Claim, empty_since: Timestamp) {
    let interruption = claim.status.interruption.as_ref().and_then(|mark| mark.deadline);
    if let Some(deadline) = interruption {
        if pass.due(deadline, AFTER_DEADLINE) {
            let text = format!("{} outlived its interruption notice", claim.spec.capacity);
            terminate(pass, claim, Trigger::InterruptionNotice, "outlived", text, None);
        }
        return;
    }
    let grace = match (&claim.status.moving, pass.pool_of(claim)) {
        (None, Some(pool)) => pool.empty_grace,
        _ => Millis::ZERO,
    };
    if pass.due(empty_since, grace) && !guests::leave(pass, claim, empty_since + grace) {
        let trigger = claim.status.moving.as_ref().map_or(Trigger::Empty, |m| m.trigger);
        let text = match trigger {
            Trigger::Empty => format!("{} has had no work for {}", claim.spec.capacity, grace),
            other => format!("{} was left ({})", claim.spec.capacity, wording::trigger(other)),
        };
        terminate(pass, claim, trigger, "empty", text, None);
    }
}

pub(super) fn terminate(pass: &mut Pass, claim: &Claim, trigger: Trigger, key: &str, text: String, before: Option<Action>) {
    let Some(instance) = claim.status.instance.clone() else { return };
    let decision = pass.machine_decision(claim, trigger, Outcome::Terminate, key, text);
    let id: DecisionId = decision.id;
    let mut actions: Vec<Action> = before.into_iter().collect();
    let (claim_name, region) = (claim.name.clone(), claim.spec.capacity.region.clone());
    actions.push(Action::Terminate { claim: claim_name, region, instance, decision: id, trigger, seen: claim.version });
    pass.step(lane(claim), vec![LedgerRecord::Decision(Box::new(decision))], actions);
}

fn wait_for_end(pass: &mut Pass, claim: &Claim) {
    let Some((asked, decision, trigger)) = claim.status.terminate_asked else { return };
    let ended = match fate(pass, claim) {
        Fate::Ended(instance) => Some(instance),
        _ if claim.status.instance.is_none() => Some(None),
        _ => None,
    };
    match ended {
        Some(instance) => close(pass, claim, instance.as_ref(), Some(decision)),
        None if pass.due(asked, TERMINATE_RETRY) => {
            let Some(instance) = claim.status.instance.clone() else { return };
            let (claim_name, region) = (claim.name.clone(), claim.spec.capacity.region.clone());
            let again = Action::Terminate { claim: claim_name, region, instance, decision, trigger, seen: claim.version };
            pass.step(lane(claim), Vec::new(), vec![again]);
        }
        None => {}
    }
}

/// The machine is gone without our asking: as EC2 announced, or not.
fn lost(pass: &mut Pass, claim: &Claim, instance: Option<&Instance>) {
    if claim.interrupted() {
        let decision = claim.status.moving.as_ref().map(|m| m.decision);
        close(pass, claim, instance, decision);
        return;
    }
    let reason = instance.and_then(|i| i.state_reason.clone()).unwrap_or_else(|| "no reason given".to_owned());
    let text = format!("{} is gone without a notice ({reason})", claim.spec.capacity);
    if let Some(mark) = claim.status.moving.clone().filter(|mark| mark.trigger == Trigger::InstanceLost) {
        close(pass, claim, instance, Some(mark.decision));
        return;
    }
    // Not shown is an absence, not an end that somebody saw: many at once mean that the look is wrong.
    if instance.is_none() && !pass.pods_on(&claim.name).is_empty() && !breaker::may_end(pass, 1) {
        let note = format!(
            "EC2 does not show {} any more, and as many other machines went the same way in ten minutes as may: it is kept until then, or until \
             its pool is annotated with {}",
            claim.spec.capacity,
            super::sweeping::ALLOW
        );
        pass.emit(EventSubject::Claim(claim.name.clone()), (EventKind::Warning, "EndsHeld"), "lost", note);
        return;
    }
    // Written down first: its pods are removed by that decision.
    let decision = pass.machine_decision(claim, Trigger::InstanceLost, Outcome::Terminate, &reason, text);
    let moving = Some(MoveMark { decision: decision.id, trigger: Trigger::InstanceLost, decided_at: pass.now });
    let change = ClaimPatch { moving, ..the_end(pass, claim, instance, Some(decision.id)) };
    let records = vec![LedgerRecord::Decision(Box::new(decision))];
    pass.step(lane(claim), records, vec![patch(claim, change)]);
}

/// The instance has ended: that is written down while EC2 still says how, then its pods go, then the node, then the books are closed and
/// the claim goes.
fn close(pass: &mut Pass, claim: &Claim, instance: Option<&Instance>, decision: Option<DecisionId>) {
    let Some(ended) = claim.status.ended.clone() else {
        let change = the_end(pass, claim, instance, decision);
        pass.step(lane(claim), Vec::new(), vec![patch(claim, change)]);
        return;
    };
    let alive: Vec<_> = pass
        .pods_on(&claim.name)
        .into_iter()
        .filter(|p| matches!(p.phase, PodPhase::Running | PodPhase::Pending) && p.node.is_some())
        .collect();
    for pod in alive {
        let (identity, grace, reason) = (pod.identity.clone(), Millis::ZERO, RemovalReason::InstanceLost);
        let delete = ClusterAction::DeletePod { pod: identity.clone(), grace, reason };
        pass.step(vec![Lane::Pod(identity.uid)], Vec::new(), vec![cluster(delete)]);
    }
    if pass.pods_on(&claim.name).iter().any(|p| p.node.is_some() && !p.finished()) {
        return;
    }
    if claim.status.launched_at.is_some() && !budget::is_settled(pass, claim) {
        // The pool's books are written first: a crash in between must not make the month cheaper than it was.
        let cost = budget::cost_this_month(claim, ended.at, pass.now, ended.by == EndedBy::Ec2Interruption);
        pass.closing.entry(claim.spec.node_pool.clone()).or_default().insert(claim.uid.clone(), cost);
        return;
    }
    // The books are closed when the price of every hour is known; longer than this nobody waits for it.
    let patient = !pass.due(ended.at, PRICES_PATIENCE);
    let Some(mut records) = super::facts::last_words(pass, claim, instance, &ended, patient) else { return };
    if claim.status.launched_at.is_some() {
        let Ended { at: running_to, by: ended_by, decision } = ended;
        records.push(LedgerRecord::IntervalClosed(IntervalClosed { claim_uid: claim.uid.clone(), running_to, ended_by, decision }));
    }
    let node = pass.index.node_on(claim.status.instance.as_ref());
    let mut actions: Vec<Action> = node.map(|n| cluster(ClusterAction::DeleteNode { node: n.name.clone() })).into_iter().collect();
    actions.push(remove(claim));
    pass.step(lane(claim), records, actions);
}

/// When the instance ended, who ended it, and that nobody runs there any more: before the ledger is told, so that it is told but once.
fn the_end(pass: &Pass, claim: &Claim, instance: Option<&Instance>, decision: Option<DecisionId>) -> ClaimPatch {
    if claim.status.ended.is_some() {
        return ClaimPatch::default();
    }
    let by_ec2 = instance.and_then(|i| i.state_reason.as_deref()) == Some("Server.SpotInstanceTermination");
    let by = match (by_ec2, &claim.status.terminate_asked, claim.interrupted()) {
        (true, _, _) | (false, None, true) => EndedBy::Ec2Interruption,
        (false, Some(_), _) => EndedBy::Lowtide,
        (false, None, false) => EndedBy::Unknown,
    };
    let asked = claim.status.terminate_asked.as_ref().map(|(at, _, _)| *at);
    let deadline = claim.status.interruption.as_ref().and_then(|m| m.deadline).map(|d| d.min(pass.now));
    let at = instance.and_then(|i| i.ended_at).or(asked).or(deadline).unwrap_or(pass.now);
    let ends = |o: &Occupant| Occupant { to: o.to.or(Some(at.max(o.from))), ..o.clone() };
    let occupants = claim.status.occupants.iter().map(ends).collect();
    ClaimPatch { ended: Some(Ended { at, by, decision }), occupants: Some(occupants), ..ClaimPatch::default() }
}
