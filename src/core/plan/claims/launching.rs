//! How a machine comes to be: EC2 is asked, an unreported launch is adopted, a refusal is given up.
//!
//! Decides: when EC2 is asked, how far a fault of a launch reaches, and what is left alone because of it.
//! Does not: choose what to buy (`placing::buying`).

use super::super::pass::Pass;
use super::admitted;
use super::observed::{observed_at, observed_instance};
use super::steps::{cluster, lane, patch, remove};
use crate::core::action::{Action, ClaimPatch, ClusterAction, EventKind, EventSubject};
use crate::core::fleet::{Claim, ClassProblem, ClassStatus, Launch, LaunchFailure, tags};
use crate::core::market::CoolDownCause;
use crate::core::snapshot::Lane;
use crate::core::units::ids::client_token;
use crate::core::units::time::{Millis, Timestamp};

/// A claim that no pod took within this time was lost to another pass, and goes.
const UNTAKEN_GRACE: Millis = Millis::from_secs(10);
/// A launch that was asked for and not answered, and would not be asked for now, is waited for this long: EC2 shows what it made, if not at once. What it
/// shows later is a machine without a claim, and ends as one.
const UNANSWERED_GRACE: Millis = Millis::from_mins(1);

/// Writes down the instance that carries the claim's uid.
pub(in crate::core::plan) fn adopt(pass: &mut Pass, claim: &Claim) {
    let Some(found) = observed_instance(pass, claim) else { return };
    let launched = Some((found.id.clone(), found.launched_at));
    pass.notes.push(format!("{} adopts {}, found by its tag", claim.name, found.id));
    pass.step(lane(claim), Vec::new(), vec![patch(claim, ClaimPatch { launched, ..ClaimPatch::default() })]);
}

/// The launch failed: leave that pool of capacity alone, let the pods be placed again.
pub(in crate::core::plan) fn give_up(pass: &mut Pass, claim: &Claim) {
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
    let same = class.launch_template.as_ref().is_some_and(|(name, _)| *name == claim.spec.frozen.launch_template);
    let text = format!("launch template {} is gone from EC2 ({}): it is made again", claim.spec.frozen.launch_template, failure.code);
    let ready = Err(ClassProblem { reason: "LaunchTemplateGone".to_owned(), text });
    let status = ClassStatus {
        zones: class.zones.clone(),
        zone_names: class.zone_names.clone(),
        launch_template: None,
        images: class.kept_images(),
        ready,
    };
    same.then(|| cluster(ClusterAction::SetClassStatus { class: class.name.clone(), status: Box::new(status) }))
}

pub(in crate::core::plan) fn launch(pass: &mut Pass, claim: &Claim) {
    if claim.spec.adopted.is_some() {
        // It stands for a machine that is there already, and waits until EC2 shows it as ours.
        if claim.deleting {
            pass.step(lane(claim), Vec::new(), vec![remove(claim)]);
        }
        return;
    }
    match claim.status.launch_asked_at {
        None => {
            // Nothing is lost of what was never asked for.
            let pool_goes = pass.is_pool_absent(claim) || pass.pool_of(claim).is_some_and(|pool| pool.deleting);
            let unwanted = claim.deleting || pool_goes && pass.world.pools_defined.by().is_some();
            let takes_over = claim.spec.takes_over.as_ref().and_then(|old| pass.world.claims.get(old)).is_some_and(Claim::takes_work);
            let untaken = !takes_over && pass.pods_on(&claim.name).is_empty() && !pass.taken.contains(&claim.name);
            if unwanted || (untaken && pass.due(claim.created_at, UNTAKEN_GRACE)) {
                pass.step(lane(claim), Vec::new(), vec![remove(claim)]);
                return;
            }
            if untaken {
                return;
            }
            // A pool that cannot be read may forbid it.
            let Some(pool) = pass.pool_of(claim) else { return };
            if let Some(objection) = admitted::objection(pass, claim, pool) {
                refuse(pass, claim, &objection);
                return;
            }
        }
        // Asked, and no answer was written down: the same token gives the same instance, never a second one.
        Some(asked) if !pass.due(asked, pass.settings.launch_retry) => return,
        Some(asked) => {
            // Its class or pool may have changed since; or somebody else wrote that it was asked for.
            if let Some(objection) = pass.pool_of(claim).and_then(|pool| admitted::objection(pass, claim, pool)) {
                // If EC2 made the machine, a look shows it by its tag within this time, and it is adopted.
                if pass.due(asked, UNANSWERED_GRACE) && observed_at(pass, claim).is_some_and(|looked| looked > asked + UNANSWERED_GRACE) {
                    refuse(pass, claim, &objection);
                }
                return;
            }
            pass.notes.push(format!("{} was asked for and not answered: asking again with the same token", claim.name));
        }
    }
    if pass.world.cluster_uid.is_empty() {
        pass.notes.push("nothing is launched before the cluster's UID is known".to_owned());
        return;
    }
    let launch = launch_of((&pass.world.cluster, &pass.world.cluster_uid), claim);
    pass.step(lane(claim), Vec::new(), vec![Action::Launch { launch: Box::new(launch), seen: claim.version }]);
}

/// EC2 is not asked for what the claim's class and pool would not ask for.
fn refuse(pass: &mut Pass, claim: &Claim, objection: &str) {
    let note = format!("{} is not launched: {objection}; its pods are placed again", claim.name);
    pass.notes.push(note.clone());
    pass.emit(EventSubject::Pool(claim.spec.node_pool.clone()), (EventKind::Warning, "ClaimRefused"), &claim.uid, note);
    pass.step(lane(claim), Vec::new(), vec![remove(claim)]);
}

/// The launch a claim stands for: a function of the claim alone, so that asking twice is asking once.
fn launch_of((cluster_name, cluster_uid): (&str, &str), claim: &Claim) -> Launch {
    let mut all_tags = claim.spec.frozen.tags.clone();
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
        launch_template: claim.spec.frozen.launch_template.clone(),
        launch_template_version: claim.spec.frozen.launch_template_version.clone(),
        subnet: claim.spec.frozen.subnet.clone(),
        image: claim.spec.frozen.image.clone(),
        reservation: claim.spec.reservation.clone(),
        tags: all_tags,
    }
}

pub(in crate::core::plan) fn cool_down(pass: &Pass, claim: &Claim, cause: CoolDownCause, at: Timestamp) -> Option<Action> {
    let pool = pass.pool_of(claim)?;
    let vcpus = pass.world.catalog.types.get(&claim.spec.capacity.instance_type).map_or(0, |machine| machine.vcpus);
    Some(Action::CoolDown { pool: claim.spec.capacity.clone(), cause, vcpus, base: pool.cool_down_base, max: pool.cool_down_max, at })
}
