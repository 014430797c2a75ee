//! `GpuNodeClaim` and the core's claim: both ways, without loss.
//!
//! Decides: how a claim's fields are written in the object, and which phase and conditions people see.
//! Does not: decide anything from the phase; the timestamps do.

use std::collections::BTreeMap;

use kube::core::{DeserializeGuard, ObjectMeta};
use serde_json::{Value, json};

use super::api::node_claim::{self as api, ClaimPhase, GpuNodeClaim, GpuNodeClaimSpec, GpuNodeClaimStatus, InterruptionKind};
use super::api::{Condition, ConditionStatus, Moment};
use super::classes;
use super::pods::timestamp;
use crate::core::action::ClaimPatch;
use crate::core::fleet::{
    self, Binding, Claim, ClaimSpec, ClaimStatus, ClaimsNow, Ended, FrozenLaunch, InterruptionMark, LaunchFailure, MoveMark, NoticeKind,
    Occupant, ScheduledEvent, ScheduledMark, Trigger, Unhealthy,
};
use crate::core::market::{Capacity, PriceOrigin};
use crate::core::units::ids::{
    ClaimName, ClassName, DecisionId, InstanceId, InstanceType, NodeName, ObjectRef, PoolName, Region, ReservationId, Uid, ZoneId,
};
use crate::core::units::shared::Shared;
use crate::core::workload::PodIdentity;

/// What in a claim cannot be read. lowtide itself does not write it like this.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("GpuNodeClaim {claim}: {field} is {found:?}, expected {expected}; its machine is kept and left alone until this can be read")]
pub struct UnreadableClaim {
    /// Its name.
    pub claim: String,
    /// Where.
    pub field: &'static str,
    /// What was found.
    pub found: String,
    /// What was expected.
    pub expected: &'static str,
}

impl UnreadableClaim {
    /// What the core must know about it: it owns its machine all the same.
    pub fn owner(&self, meta: &ObjectMeta, instance: Option<&str>) -> Option<fleet::UnreadableClaim> {
        let name = ClaimName::from(meta.name.as_deref()?);
        let (uid, instance) = (Uid::from(meta.uid.as_deref()?), instance.map(InstanceId::from));
        Some(fleet::UnreadableClaim { name, uid, instance, fault: self.to_string() })
    }
}

/// Reads a claim as received; one that cannot be read is reported by name, uid and, if that can be read, instance.
///
/// # Errors
/// When a field cannot be read: another version, or someone by hand, wrote it. `None` for an object without a uid, which the API server
/// never returns.
pub fn read_guarded(object: &DeserializeGuard<GpuNodeClaim>) -> Result<Claim, Option<fleet::UnreadableClaim>> {
    match &object.0 {
        Ok(claim) => read(claim).map_err(|fault| {
            let instance = claim.status.as_ref().and_then(|s| s.instance_id.as_deref()).or(claim.spec.adopted_instance.as_deref());
            fault.owner(&claim.metadata, instance)
        }),
        Err(invalid) => {
            let claim = invalid.metadata.name.clone().unwrap_or_default();
            let (field, expected) = ("the object", "values and fields that this version knows");
            Err(UnreadableClaim { claim, field, found: invalid.error.clone(), expected }.owner(&invalid.metadata, None))
        }
    }
}

/// The claims in these objects.
pub fn claims_now(objects: &[DeserializeGuard<GpuNodeClaim>]) -> ClaimsNow {
    let mut now = ClaimsNow::default();
    for object in objects {
        match read_guarded(object) {
            Ok(claim) => drop(now.claims.insert(claim.uid, claim.status.instance.or(claim.spec.adopted))),
            Err(Some(unreadable)) => {
                now.claims.insert(unreadable.uid, unreadable.instance);
                now.unreadable.push(unreadable.name);
            }
            Err(None) => {}
        }
    }
    now
}

/// Reads a claim.
///
/// # Errors
/// When it has no uid or creation time, or a decision id is not a UUID.
pub fn read(object: &GpuNodeClaim) -> Result<Claim, UnreadableClaim> {
    let meta = &object.metadata;
    let name = meta.name.clone().unwrap_or_default();
    let fault = |field, found: &str, expected| UnreadableClaim { claim: name.clone(), field, found: found.to_owned(), expected };
    let uid = meta.uid.clone().ok_or_else(|| fault("metadata.uid", "", "the uid every object has"))?;
    let created = meta.creation_timestamp.as_ref().ok_or_else(|| fault("metadata.creationTimestamp", "", "a time"))?;
    let decision = |field, text: &str| text.parse().map(DecisionId).map_err(|_| fault(field, text, "the UUID of a decision"));
    Ok(Claim {
        name: ClaimName::from(name.as_str()),
        uid: Uid::from(uid),
        version: meta.resource_version.as_deref().and_then(|version| version.parse().ok()).unwrap_or(0),
        created_at: timestamp(created.0),
        deleting: meta.deletion_timestamp.is_some(),
        spec: read_spec(&object.spec, decision("spec.decisionId", &object.spec.decision_id)?),
        status: match &object.status {
            Some(status) => read_status(status, decision)?,
            None => ClaimStatus::default(),
        },
    })
}

fn read_spec(spec: &GpuNodeClaimSpec, decision: DecisionId) -> ClaimSpec {
    ClaimSpec {
        node_pool: PoolName::from(spec.node_pool.as_str()),
        node_class: ClassName::from(spec.node_class.as_str()),
        capacity: Capacity {
            region: Region::from(spec.region.as_str()),
            zone: ZoneId::from(spec.zone.as_str()),
            instance_type: InstanceType::from(spec.instance_type.as_str()),
            capacity_type: spec.capacity_type,
        },
        price_per_hour: spec.price_per_hour,
        on_demand_per_hour: spec.on_demand_per_hour,
        gpus: spec.gpus,
        decision,
        trigger: spec.reason,
        attempt: spec.attempt,
        frozen: Shared::from(FrozenLaunch {
            launch_template: spec.launch.launch_template.clone(),
            launch_template_version: spec.launch.launch_template_version.clone(),
            subnet: spec.launch.subnet.clone(),
            image: spec.launch.image.clone(),
            tags: spec.launch.tags.clone(),
        }),
        sharing: spec.gpu_sharing.as_ref().map(classes::sharing).unwrap_or_default(),
        reservation: spec.launch.capacity_reservation.as_deref().map(ReservationId::from),
        bought_for: spec.created_for.iter().map(|p| identity(&p.namespace, &p.name, &p.uid)).collect(),
        bindings: spec.bindings.as_ref().map(|all| all.iter().map(read_binding).collect()),
        takes_over: spec.takes_over.as_deref().map(ClaimName::from),
        price_origin: spec.price_source.zip(spec.price_observed_at).map(|(source, at)| PriceOrigin { source, observed_at: at.0 }),
        adopted: spec.adopted_instance.as_deref().map(InstanceId::from),
        books: spec.books_uid.as_deref().map(Uid::from),
    }
}

fn read_status<E>(status: &GpuNodeClaimStatus, decision: impl Fn(&'static str, &str) -> Result<DecisionId, E>) -> Result<ClaimStatus, E> {
    let moving = status.move_.as_ref().map(|m| {
        let decision = decision("status.move.decisionId", &m.decision_id)?;
        Ok(MoveMark { decision, trigger: m.reason, decided_at: m.decided_at.0 })
    });
    let terminate_asked = status.termination.as_ref().map(|t| {
        let decision = decision("status.termination.decisionId", &t.decision_id)?;
        Ok((t.asked_at.0, decision, t.reason))
    });
    let ended = status.ended.as_ref().map(|e| {
        let decision = e.decision_id.as_deref().map(|id| decision("status.ended.decisionId", id)).transpose()?;
        Ok(Ended { at: e.at.0, by: e.by, decision })
    });
    Ok(ClaimStatus {
        launch_asked_at: status.launch_asked_at.map(|m| m.0),
        instance: status.instance_id.as_deref().map(InstanceId::from),
        launched_at: status.launched_at.map(|m| m.0),
        node: status.node_name.as_deref().map(NodeName::from),
        node_ready_at: status.node_ready_at.map(|m| m.0),
        failure: status.failure.as_ref().map(|f| Box::new(read_failure(f))),
        interruption: status.interruption.as_ref().map(|i| Box::new(read_interruption(i))),
        scheduled: status.scheduled.as_ref().map(|s| {
            Box::new(ScheduledMark {
                event: ScheduledEvent { kind: s.code, not_before: s.not_before.0 },
                noticed_at: s.noticed_at.0,
                source: s.source.clone(),
            })
        }),
        moving: moving.transpose()?.map(Box::new),
        occupants: status.occupants.iter().map(read_occupant).collect(),
        bindings: status.bindings.values().map(read_binding).map(|binding| (binding.pod.clone(), binding)).collect(),
        empty_since: status.empty_since.map(|m| m.0),
        unhealthy: status.unhealthy.as_ref().map(|u| Box::new(Unhealthy { trigger: u.reason, since: u.since.0 })),
        misfits: status.misfits.iter().cloned().collect(),
        pools_defined_by: status.pool_definition_uid.as_deref().map(Uid::from),
        terminate_asked: terminate_asked.transpose()?.map(Box::new),
        ended: ended.transpose()?.map(Box::new),
    })
}

fn read_failure(f: &api::Failure) -> LaunchFailure {
    LaunchFailure { cause: f.cause, code: f.code.clone(), message: f.message.clone(), at: f.at.0 }
}

fn read_interruption(mark: &api::InterruptionMark) -> InterruptionMark {
    let kind = match mark.kind {
        InterruptionKind::Interruption => NoticeKind::Interruption,
        InterruptionKind::Rebalance => NoticeKind::Rebalance,
    };
    InterruptionMark { kind, noticed_at: mark.noticed_at.0, deadline: mark.deadline.map(|m| m.0), source: mark.source.clone() }
}

/// A text of another version that cannot be read says nothing: unknown is not zero, and no reason to leave the machine alone.
fn read_binding(b: &api::PodBinding) -> Binding {
    Binding {
        pod: Uid::from(b.pod_uid.as_str()),
        decision: b.decision_id.as_deref().and_then(|id| id.parse().ok()).map(DecisionId),
        attempt: b.attempt,
        baseline: serde_json::from_str(&b.baseline).unwrap_or_default(),
        replaces: b.replaces.as_deref().and_then(|text| serde_json::from_str(text).ok()),
    }
}

fn read_occupant(o: &api::Occupant) -> Occupant {
    let moment = |at: Option<Moment>| at.map(|m| m.0);
    Occupant { pod: identity(&o.namespace, &o.name, &o.uid), from: o.from.0, ready_at: moment(o.ready_at), to: moment(o.to) }
}

fn identity(namespace: &str, name: &str, uid: &str) -> PodIdentity {
    let object = ObjectRef { namespace: namespace.to_owned(), name: name.to_owned() };
    PodIdentity { object: object.into(), uid: Uid::from(uid) }
}

/// The spec of the object that stores this intent.
pub fn write_spec(spec: &ClaimSpec) -> GpuNodeClaimSpec {
    let saved = spec.on_demand_per_hour.map(|on_demand| on_demand - spec.price_per_hour);
    let pod_ref =
        |p: &PodIdentity| api::PodRef { namespace: p.object.namespace.clone(), name: p.object.name.clone(), uid: p.uid.to_string() };
    GpuNodeClaimSpec {
        node_pool: spec.node_pool.to_string(),
        node_class: spec.node_class.to_string(),
        region: spec.capacity.region.to_string(),
        zone: spec.capacity.zone.to_string(),
        instance_type: spec.capacity.instance_type.to_string(),
        capacity_type: spec.capacity.capacity_type,
        price_per_hour: spec.price_per_hour,
        price_source: spec.price_origin.map(|origin| origin.source),
        price_observed_at: spec.price_origin.map(|origin| Moment(origin.observed_at)),
        on_demand_per_hour: spec.on_demand_per_hour,
        saved_per_hour: saved,
        gpus: spec.gpus,
        decision_id: spec.decision.to_string(),
        reason: spec.trigger,
        attempt: spec.attempt,
        launch: api::FrozenLaunch {
            launch_template: spec.frozen.launch_template.clone(),
            launch_template_version: spec.frozen.launch_template_version.clone(),
            subnet: spec.frozen.subnet.clone(),
            image: spec.frozen.image.clone(),
            capacity_reservation: spec.reservation.as_ref().map(ToString::to_string),
            tags: spec.frozen.tags.clone(),
        },
        gpu_sharing: classes::written_sharing(&spec.sharing),
        created_for: spec.bought_for.iter().map(pod_ref).collect(),
        bindings: spec.bindings.as_ref().map(|all| all.iter().map(binding).collect()),
        takes_over: spec.takes_over.as_ref().map(ToString::to_string),
        adopted_instance: spec.adopted.as_ref().map(ToString::to_string),
        books_uid: spec.books.as_ref().map(ToString::to_string),
    }
}

/// The merge patch of the status subresource for `patch`. `observed` is the status as the watch holds it: it only affects what people are
/// shown (phase and conditions), so that a lagging watch loses nothing.
pub fn status_patch(observed: &GpuNodeClaimStatus, patch: &ClaimPatch) -> Value {
    let mut status = observed.clone();
    let mut changed = BTreeMap::new();
    set_life(&mut status, &mut changed, patch);
    set_marks(&mut status, &mut changed, patch);
    if let Some(occupants) = &patch.occupants {
        status.occupants = occupants.iter().map(occupant).collect();
        changed.insert("occupants", json!(status.occupants));
    }
    if !patch.bindings.is_empty() {
        // By uid, so that a merge patch changes these and leaves the others; null takes one away.
        let written: BTreeMap<&str, Option<api::PodBinding>> =
            patch.bindings.iter().map(|(pod, kept)| (pod.as_str(), kept.as_ref().map(binding))).collect();
        changed.insert("bindings", json!(written));
    }
    if let Some(empty_since) = patch.empty_since {
        status.empty_since = empty_since.map(Moment);
        changed.insert("emptySince", json!(status.empty_since));
    }
    if let Some(unhealthy) = &patch.unhealthy {
        status.unhealthy = unhealthy.as_ref().map(|u| api::Unhealthy { reason: u.trigger, since: Moment(u.since) });
        changed.insert("unhealthy", json!(status.unhealthy));
    }
    if let Some(need) = &patch.misfit {
        status.misfits.retain(|known| known != need);
        status.misfits.push(need.clone());
        changed.insert("misfits", json!(status.misfits));
    }
    changed.extend(derived(&status));
    json!({ "status": changed })
}

/// The part of the status meant only for people (phase, conditions, time of the last transition), derived from the rest.
fn derived(status: &GpuNodeClaimStatus) -> BTreeMap<&'static str, Value> {
    let phase = phase_of(status);
    let mut words = BTreeMap::from([("phase", json!(phase)), ("conditions", json!(conditions_of(status)))]);
    if let Some(at) = reached_at(status, phase) {
        words.insert("lastTransition", json!(at));
    }
    words
}

/// The patch that corrects phase and conditions of a stored status, if needed: a status patch derives them from what the watch delivered,
/// and the API server may hold newer facts.
pub fn derived_again(stored: &GpuNodeClaimStatus) -> Option<Value> {
    // Compared by status: another version may word a message differently.
    let stated = |all: &[Condition]| all.iter().map(|c| (c.type_.clone(), c.status, c.last_transition_time)).collect::<Vec<_>>();
    let holds = phase_of(stored) == stored.phase && stated(&conditions_of(stored)) == stated(&stored.conditions);
    (!holds).then(|| json!({ "status": derived(stored) }))
}

/// How the machine was launched, or how its launch failed.
fn set_life(status: &mut GpuNodeClaimStatus, changed: &mut BTreeMap<&'static str, Value>, patch: &ClaimPatch) {
    if let Some(at) = patch.launch_asked_at {
        status.launch_asked_at = Some(Moment(at));
        changed.insert("launchAskedAt", json!(status.launch_asked_at));
    }
    if let Some(uid) = &patch.pools_defined_by {
        status.pool_definition_uid = Some(uid.to_string());
        changed.insert("poolDefinitionUid", json!(status.pool_definition_uid));
    }
    if let Some((instance, at)) = &patch.launched {
        status.instance_id = Some(instance.to_string());
        status.launched_at = Some(Moment(*at));
        changed.insert("instanceId", json!(status.instance_id));
        changed.insert("launchedAt", json!(status.launched_at));
    }
    if let Some(node) = &patch.node {
        status.node_name = Some(node.to_string());
        changed.insert("nodeName", json!(status.node_name));
    }
    if let Some(at) = patch.node_ready_at {
        status.node_ready_at = Some(Moment(at));
        changed.insert("nodeReadyAt", json!(status.node_ready_at));
    }
    if let Some(failure) = &patch.failure {
        status.failure = Some(api::Failure {
            cause: failure.cause,
            code: failure.code.clone(),
            message: failure.message.clone(),
            at: Moment(failure.at),
        });
        changed.insert("failure", json!(status.failure));
    }
}

/// What is going to happen to the machine.
fn set_marks(status: &mut GpuNodeClaimStatus, changed: &mut BTreeMap<&'static str, Value>, patch: &ClaimPatch) {
    if patch.warning_over && status.interruption.as_ref().is_some_and(|mark| mark.kind == InterruptionKind::Rebalance) {
        status.interruption = None;
        changed.insert("interruption", Value::Null);
    }
    if let Some(mark) = &patch.interruption {
        status.interruption = Some(api::InterruptionMark {
            // A state change is the fallback for lost notices: EC2 has begun to take the machine.
            kind: match mark.kind {
                NoticeKind::Rebalance => InterruptionKind::Rebalance,
                NoticeKind::Interruption | NoticeKind::StateChange(_) | NoticeKind::Scheduled(_) | NoticeKind::ScheduleOver => {
                    InterruptionKind::Interruption
                }
            },
            noticed_at: Moment(mark.noticed_at),
            deadline: mark.deadline.map(Moment),
            source: mark.source.clone(),
        });
        // A merge patch keeps what it does not mention: a deadline that is no longer known must be set to null.
        let mut value = json!(status.interruption);
        if mark.deadline.is_none() {
            value["deadline"] = Value::Null;
        }
        changed.insert("interruption", value);
    }
    if let Some(scheduled) = &patch.scheduled {
        status.scheduled = scheduled.as_ref().map(|mark| api::ScheduledEvent {
            code: mark.event.kind,
            not_before: Moment(mark.event.not_before),
            noticed_at: Moment(mark.noticed_at),
            source: mark.source.clone(),
        });
        changed.insert("scheduled", json!(status.scheduled));
    }
    if let Some(mark) = &patch.moving {
        let (decision_id, at) = (mark.decision.to_string(), Moment(mark.decided_at));
        status.move_ = Some(api::MoveMark { reason: mark.trigger, decision_id, decided_at: at });
        status.draining_since = Some(at);
        changed.insert("move", json!(status.move_));
        changed.insert("drainingSince", json!(at));
    }
    if let Some((at, decision, trigger)) = &patch.terminate_asked {
        let (asked_at, decision_id) = (Moment(*at), decision.to_string());
        status.termination = Some(api::Termination { asked_at, decision_id, reason: *trigger });
        let mut written = json!(status.termination);
        // A newer version's word is asked again, and stays: a merge patch keeps what it does not mention.
        if let (Trigger::Unknown, Some(fields)) = (trigger, written.as_object_mut()) {
            fields.remove("reason");
        }
        changed.insert("termination", written);
    }
    if let Some(ended) = &patch.ended {
        let decision_id = ended.decision.map(|id| id.to_string());
        status.ended = Some(api::Ended { at: Moment(ended.at), by: ended.by, decision_id });
        changed.insert("ended", json!(status.ended));
    }
}

fn occupant(occupant: &Occupant) -> api::Occupant {
    let PodIdentity { object, uid } = &occupant.pod;
    api::Occupant {
        namespace: object.namespace.clone(),
        name: object.name.clone(),
        uid: uid.to_string(),
        from: Moment(occupant.from),
        ready_at: occupant.ready_at.map(Moment),
        to: occupant.to.map(Moment),
    }
}

fn binding(binding: &Binding) -> api::PodBinding {
    api::PodBinding {
        pod_uid: binding.pod.to_string(),
        decision_id: binding.decision.map(|id| id.to_string()),
        attempt: binding.attempt,
        baseline: json!(binding.baseline).to_string(),
        replaces: binding.replaces.as_ref().map(|replaces| json!(replaces).to_string()),
    }
}

fn phase_of(status: &GpuNodeClaimStatus) -> ClaimPhase {
    match status {
        s if s.termination.is_some() => ClaimPhase::Terminating,
        s if s.failure.is_some() => ClaimPhase::Failed,
        s if s.move_.is_some() => ClaimPhase::Draining,
        s if s.node_ready_at.is_some() => ClaimPhase::Ready,
        s if s.instance_id.is_some() => ClaimPhase::Launched,
        s if s.launch_asked_at.is_some() => ClaimPhase::Launching,
        _ => ClaimPhase::Pending,
    }
}

fn reached_at(status: &GpuNodeClaimStatus, phase: ClaimPhase) -> Option<Moment> {
    match phase {
        ClaimPhase::Pending | ClaimPhase::Unknown => None,
        ClaimPhase::Launching => status.launch_asked_at,
        ClaimPhase::Launched => status.launched_at,
        ClaimPhase::Ready => status.node_ready_at,
        ClaimPhase::Draining => status.draining_since,
        ClaimPhase::Terminating => status.termination.as_ref().map(|t| t.asked_at),
        ClaimPhase::Failed => status.failure.as_ref().map(|f| f.at),
    }
}

/// Conditions for `kubectl wait`: each is true since its timestamp; one not yet reached is left out.
fn conditions_of(status: &GpuNodeClaimStatus) -> Vec<Condition> {
    let reached = |type_: &str, at: Option<Moment>, reason: &str, message: String| {
        at.map(|at| Condition {
            type_: type_.to_owned(),
            status: ConditionStatus::True,
            reason: reason.to_owned(),
            message,
            last_transition_time: at,
            observed_generation: None,
        })
    };
    let instance = status.instance_id.clone().unwrap_or_default();
    let node = status.node_name.clone().unwrap_or_default();
    let interruption = status.interruption.as_ref().filter(|i| i.kind == InterruptionKind::Interruption);
    let source = interruption.map(|i| format!("EC2 takes the machine, reported by {}", i.source)).unwrap_or_default();
    [
        reached("Launched", status.launched_at, "InstanceKnown", format!("instance {instance}")),
        reached("Ready", status.node_ready_at, "NodeReady", format!("node {node} is Ready with its GPUs")),
        reached("Interrupted", interruption.map(|i| i.noticed_at), "InterruptionNotice", source),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[cfg(test)]
#[allow(clippy::panic, reason = "a test that cannot go on ends")]
mod tests;
