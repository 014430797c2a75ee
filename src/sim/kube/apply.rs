//! What each action of the operator does to the cluster's objects.
//!
//! Decides: as the API server does: a patch on another version is a conflict, a name that exists is one too, a disruption budget may
//! hold a pod.

use std::sync::Arc;

use super::asks::PIN;
use super::{Kube, SimPod, Stored, manifests};
use crate::core::action::{ClusterAction, PodTarget};
use crate::core::fleet::{Claim, ClaimStatus};
use crate::core::snapshot::Lane;
use crate::core::units::ids::ClaimName;
use crate::core::units::time::{Millis, Timestamp};
use crate::core::workload::{PodIdentity, PodPhase};
use crate::ports::{Applied, ClusterError};
use crate::sim::ec2::Later;
use crate::sim::event::{Event, Owner};

/// Pods of a Node object that is deleted are collected this much later (observed: 46 to 56 s).
const COLLECTED_AFTER: Millis = Millis::from_secs(50);

impl Kube {
    /// Carries out one action.
    pub fn apply(&mut self, action: &ClusterAction, now: Timestamp, later: &mut Later) -> Result<Applied, ClusterError> {
        match action {
            ClusterAction::CreateClaim { name, spec } => {
                if self.claims.contains_key(name) {
                    return Err(ClusterError::Conflict(format!("claim {name} exists")));
                }
                let uid = self.claim_uid();
                let status = ClaimStatus::default();
                self.put_claim(Claim {
                    name: name.clone(),
                    uid,
                    version: 0,
                    created_at: whole_second(now),
                    deleting: false,
                    spec: (**spec).clone(),
                    status,
                });
                Ok(self.applied(Lane::Claim(name.clone())))
            }
            ClusterAction::Bind { target, claim, decision, attempt, baseline, replaces } => self.patch(target, |changed| {
                let pod = &mut changed.pod;
                (pod.claim, pod.placed_by, pod.attempt, pod.baseline) = (Some(claim.clone()), Some(*decision), *attempt, *baseline);
                pod.replaces = replaces.clone();
                changed.placed_at = now;
                changed.rewrite(|manifest| manifests::bind(manifest, claim, *decision, *attempt));
            }),
            ClusterAction::Lift { target, claim } => {
                let lifted = self.patch(target, |changed| {
                    if changed.pod.phase == PodPhase::Gated {
                        (changed.pod.phase, changed.pod.claim) = (PodPhase::Pending, Some(claim.clone()));
                        changed.rewrite(|manifest| manifests::lift(manifest, claim));
                    }
                })?;
                later.push((now + Millis(100), Event::Schedules(target.pod.uid.clone())));
                Ok(lifted)
            }
            ClusterAction::PatchClaim { claim, patch, seen } => {
                let mut changed = self.claim(claim, *seen)?.clone();
                (**patch).clone().apply_to(&mut changed.status);
                self.put_claim(changed);
                Ok(self.applied(Lane::Claim(claim.clone())))
            }
            ClusterAction::MarkNode { node, claim, taint, guard, labels } => {
                let mut marked = self.nodes.get(node).ok_or_else(|| ClusterError::Gone(format!("node {node}")))?.object.clone();
                marked.node.guarded = *guard || !marked.is_bare();
                (marked.node.labelled, marked.node.tainted, marked.claim) = (true, marked.node.tainted || *taint, Some(claim.clone()));
                let claimed = (PIN.to_owned(), claim.to_string());
                Arc::make_mut(&mut marked.node.state.labels).extend(labels.clone().into_iter().chain([claimed]));
                self.put_node(marked);
                Ok(self.applied(Lane::Node(node.clone())))
            }
            ClusterAction::LetGoOfDeployment { target, mark, deployment } => {
                let applied = self.patch(target, |changed| {
                    changed.pod.let_go = Some(Box::new(mark.clone()));
                    changed.rewrite(|manifest| manifests::let_go_of_deployment(manifest, mark, deployment));
                })?;
                later.push((now + Millis(300), Event::Reconciles(Owner::Replicated(deployment.0.clone()))));
                Ok(applied)
            }
            ClusterAction::LetGoOfJob { target, mark, job } => {
                let applied = self.patch(target, |changed| {
                    changed.pod.let_go = Some(Box::new(mark.clone()));
                    changed.rewrite(|manifest| manifests::let_go_of_job(manifest, mark, job));
                })?;
                later.push((now + Millis(1_300), Event::Reconciles(Owner::Job(job.0.clone()))));
                Ok(applied)
            }
            ClusterAction::Rehearse { pod, .. } => match self.admits_nothing {
                (from, until) if from <= now && now < until => Err(ClusterError::ReplacementRefused("exceeded quota: gpu-work".into())),
                _ => Ok(Applied { lane: Lane::Pod(pod.uid.clone()), resource_version: None }),
            },
            ClusterAction::GiveBackToJob { target, job_uid } => {
                let applied = self.patch(target, |changed| {
                    changed.pod.let_go = None;
                    changed.rewrite(|manifest| manifests::give_back_to_job(manifest, job_uid));
                })?;
                if let Some(owner) = self.pods.get(&target.pod.uid).map(|p| p.object.made_by.clone()) {
                    later.push((now + Millis(300), Event::Reconciles(owner)));
                }
                Ok(applied)
            }
            ClusterAction::Evict { pod, grace, .. } => {
                self.ask_budget(pod)?;
                Ok(self.delete_pod(pod, *grace, now, later))
            }
            ClusterAction::DeletePod { pod, grace, .. } => Ok(self.delete_pod(pod, *grace, now, later)),
            ClusterAction::DeleteNode { node } => {
                if self.nodes.remove(node).is_some() {
                    self.bump(Lane::Node(node.clone()));
                    let on_it = self.pods.values().filter(|p| p.object.pod.node.as_ref() == Some(node));
                    later.extend(on_it.map(|p| (now + COLLECTED_AFTER, Event::PodCollected(p.object.pod.identity.uid.clone()))));
                }
                Ok(Applied { lane: Lane::Node(node.clone()), resource_version: None })
            }
            ClusterAction::RemoveClaim { claim, seen } => {
                if self.claims.contains_key(claim) {
                    self.claim(claim, *seen)?;
                }
                self.bump(Lane::Claim(claim.clone()));
                self.claims.remove(claim);
                self.removed_claims.insert(claim.clone(), now);
                Ok(Applied { lane: Lane::Claim(claim.clone()), resource_version: None })
            }
            ClusterAction::SetPoolStatus { pool, status } => {
                self.bump(Lane::Pool(pool.clone()));
                self.pool_statuses.insert(pool.clone(), (**status).clone());
                Ok(Applied { lane: Lane::Pool(pool.clone()), resource_version: None })
            }
            ClusterAction::SetClassStatus { class, status } => {
                let mut shown = self.classes.get(class).ok_or_else(|| ClusterError::Gone(format!("class {class}")))?.object.clone();
                (shown.zones, shown.launch_template) = (status.zones.clone(), status.launch_template.clone());
                shown.zone_names = status.zone_names.clone();
                (shown.images.found, shown.images.looked_up_at) = status.images.clone();
                shown.problem = status.ready.clone().err();
                self.put_class(shown);
                Ok(self.applied(Lane::Class(class.clone())))
            }
            ClusterAction::Emit(_) => Ok(Applied { lane: Lane::Message("event".into()), resource_version: None }),
        }
    }

    fn applied(&self, lane: Lane) -> Applied {
        Applied { lane, resource_version: Some(self.version) }
    }

    /// A claim, if it is still at the version that was `seen`.
    fn claim(&self, name: &ClaimName, seen: Option<u64>) -> Result<&Claim, ClusterError> {
        let stored = self.claims.get(name).ok_or_else(|| ClusterError::Gone(format!("claim {name}")))?;
        match seen.filter(|seen| *seen != stored.version) {
            Some(seen) => Err(ClusterError::Conflict(format!("claim {name} is at version {}, not {seen}", stored.version))),
            None => Ok(&stored.object),
        }
    }

    /// A patch meant for one pod at one version.
    fn patch(&mut self, target: &PodTarget, change: impl FnOnce(&mut SimPod)) -> Result<Applied, ClusterError> {
        let uid = &target.pod.uid;
        let Some(Stored { version, .. }) = self.pods.get(uid) else {
            return Err(ClusterError::Gone(format!("pod {}", target.pod.object)));
        };
        if version.to_string() != target.resource_version {
            return Err(ClusterError::Conflict(format!(
                "pod {} is at version {version}, not {}",
                target.pod.object, target.resource_version
            )));
        }
        self.change_pod(uid, change);
        Ok(self.applied(Lane::Pod(uid.clone())))
    }

    /// A PodDisruptionBudget lets a Ready pod go only while enough others are Ready; pods that were let go count as healthy.
    fn ask_budget(&self, identity: &PodIdentity) -> Result<(), ClusterError> {
        let Some(SimPod { pod, made_by, .. }) = self.pods.get(&identity.uid).map(|p| &p.object) else { return Ok(()) };
        let Owner::Replicated(deployment) = made_by else { return Ok(()) };
        let Some(least) = self.replicated.get(deployment).and_then(|d| d.least_available) else { return Ok(()) };
        let of_it = |p: &&Stored<SimPod>| p.object.made_by == *made_by && p.object.pod.ready_since.is_some();
        let healthy = self.pods.values().filter(of_it).filter(|p| p.object.pod.deleting_until.is_none()).count();
        let counts = pod.ready_since.is_some() && pod.deleting_until.is_none();
        if counts && healthy <= least {
            return Err(ClusterError::HeldByBudget(format!("{healthy} healthy pods of {deployment}, {least} needed")));
        }
        Ok(())
    }

    /// Asks a pod to end within `grace`. A second deletion may shorten the time, never lengthen it; none removes the object at once.
    fn delete_pod(&mut self, identity: &PodIdentity, grace: Millis, now: Timestamp, later: &mut Later) -> Applied {
        let uid = &identity.uid;
        let lane = Lane::Pod(uid.clone());
        let Some(pod) = self.pods.get(uid).map(|p| p.object.clone()) else { return Applied { lane, resource_version: None } };
        // A pod that never reached a kubelet has nobody to wait for.
        if grace.0 <= 0 || pod.pod.node.is_none() {
            later.push((now, Event::PodRemoved(uid.clone())));
            return Applied { lane, resource_version: None };
        }
        let until = pod.pod.deleting_until.map_or(now + grace, |before| before.min(now + grace));
        let asked = pod.asked_to_end_at.unwrap_or(now);
        let ends_at = (asked + pod.ending).min(until);
        self.change_pod(uid, |p| (p.pod.deleting_until, p.asked_to_end_at, p.ends_at) = (Some(until), Some(asked), Some(ends_at)));
        later.push((ends_at, Event::PodEnds(uid.clone())));
        // A ReplicaSet does not count it any more; others wait until it is gone.
        if matches!(pod.made_by, Owner::Replicated(_)) {
            later.push((now + Millis(300), Event::Reconciles(pod.made_by)));
        }
        self.applied(lane)
    }
}

/// Objects carry whole seconds.
pub(super) fn whole_second(at: Timestamp) -> Timestamp {
    Timestamp(at.0 / 1_000 * 1_000)
}
