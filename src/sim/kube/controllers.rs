//! ReplicaSets and Jobs: who makes a pod again, and what is counted as failed.
//!
//! Decides: as observed on Kubernetes 1.36: a pod that lost its controller's label is replaced at once and nothing is counted; a Job's
//! pod that is deleted counts as failed and comes again after 10, 20, 40 s.

use std::collections::BTreeSet;

use super::apply::whole_second;
use super::{Job, Kube, SimPod, Template};
use crate::core::units::ids::{ObjectRef, Uid};
use crate::core::units::time::{Millis, Timestamp};
use crate::core::workload::{Attribution, Mobility, Pod, PodIdentity, PodPhase, Workload};
use crate::sim::ec2::Later;
use crate::sim::world::{Event, Owner};

/// First wait before a failed pod of a Job is made again; doubled each time.
const BACK_OFF: Millis = Millis::from_secs(10);
/// Where all workloads are.
pub(in crate::sim) const NAMESPACE: &str = "gpu-work";

impl Kube {
    /// Brings an owner's pods to what it asks for.
    pub fn reconcile(&mut self, owner: &Owner, now: Timestamp, later: &mut Later) {
        match owner {
            Owner::Deployment(name) => self.reconcile_deployment(name, now, later),
            Owner::Job(name) => self.reconcile_job(name, now, later),
        }
    }

    /// Pods that the owner counts as its own: not let go, not ended, not on their way out.
    fn owned(&self, mobility_of: impl Fn(&Mobility) -> bool) -> Vec<SimPod> {
        let counts =
            |p: &SimPod| mobility_of(&p.pod.mobility) && p.pod.let_go.is_none() && !p.pod.finished() && p.pod.deleting_until.is_none();
        self.pods.values().map(|stored| &stored.object).filter(|p| counts(p)).cloned().collect()
    }

    fn reconcile_deployment(&mut self, name: &str, now: Timestamp, later: &mut Later) {
        let Some(deployment) = self.deployments.get(name).cloned() else {
            // Deleted: the garbage collector takes the pods, also those it had let go of.
            let of_it = |p: &SimPod| p.pod.workload.kind == "Deployment" && p.pod.workload.object.name == name;
            let gone: Vec<SimPod> = self.pods.values().map(|s| &s.object).filter(|p| of_it(p)).cloned().collect();
            gone.iter().filter(|p| p.pod.deleting_until.is_none()).for_each(|p| self.end_pod(p, now, later));
            return;
        };
        let mine = |m: &Mobility| match m {
            Mobility::Surge { replica_set, .. } => *replica_set == deployment.replica_set,
            _ => false,
        };
        let breaking = deployment.breaks.is_some();
        let mut pods = match breaking {
            false => self.owned(mine),
            true => self
                .owned(|m| matches!(m, Mobility::BreakFirst { .. }))
                .into_iter()
                .filter(|p| p.pod.workload.object.name == name)
                .collect(),
        };
        // A pod that broke is made again only when it is gone.
        let leaving = |p: &SimPod| breaking && p.pod.workload.object.name == name && p.pod.deleting_until.is_some();
        let in_the_way = self.pods.values().filter(|p| leaving(&p.object)).count();
        for _ in pods.len() + in_the_way..deployment.replicas {
            self.make_pod_of_deployment(name, now);
        }
        // Scaled down: not started first, then not Ready, then the youngest.
        pods.sort_by_key(|p| (p.pod.phase == PodPhase::Running, p.pod.ready_since.is_some(), std::cmp::Reverse(p.pod.created_at)));
        let surplus = pods.len().saturating_sub(deployment.replicas);
        pods.iter().take(surplus).for_each(|p| self.end_pod(p, now, later));
    }

    fn make_pod_of_deployment(&mut self, name: &str, now: Timestamp) {
        let Some(deployment) = self.deployments.get_mut(name) else { return };
        deployment.made += 1;
        let mobility = match &deployment.breaks {
            Some(because) => Mobility::BreakFirst { because: because.clone() },
            None => Mobility::Surge {
                replica_set: deployment.replica_set.clone(),
                deployment: name.to_owned(),
                deployment_uid: deployment.uid.clone(),
            },
        };
        let (template, pod_name) = (deployment.template.clone(), format!("{name}-{:04}", deployment.made));
        let services = if deployment.breaks.is_some() { BTreeSet::new() } else { BTreeSet::from([name.to_owned()]) };
        self.make_pod(&template, "Deployment", name, pod_name, mobility, services, now);
    }

    fn reconcile_job(&mut self, name: &str, now: Timestamp, later: &mut Later) {
        let Some(job) = self.jobs.get(name).cloned().filter(|j| j.finished_at.is_none()) else {
            let of_it = |p: &SimPod| p.pod.workload.kind == "Job" && p.pod.workload.object.name == name && !p.pod.finished();
            let rest: Vec<SimPod> = self.pods.values().map(|s| &s.object).filter(|p| of_it(p)).cloned().collect();
            rest.iter().filter(|p| p.pod.deleting_until.is_none()).for_each(|p| self.end_pod(p, now, later));
            return;
        };
        let mine = |m: &Mobility| matches!(m, Mobility::Job { job, .. } if job == name);
        let succeeded = |p: &SimPod| mine(&p.pod.mobility) && p.pod.phase == PodPhase::Succeeded && p.pod.let_go.is_none();
        if self.pods.values().any(|p| succeeded(&p.object)) {
            if let Some(job) = self.jobs.get_mut(name) {
                job.finished_at = Some(now);
            }
            later.push((now, Event::Reconciles(Owner::Job(name.to_owned()))));
            return;
        }
        let leaving = |p: &SimPod| mine(&p.pod.mobility) && p.pod.let_go.is_none() && p.pod.deleting_until.is_some();
        if !self.owned(mine).is_empty() || self.pods.values().any(|p| leaving(&p.object)) {
            return;
        }
        if now < job.back_off_until {
            later.push((job.back_off_until, Event::Reconciles(Owner::Job(name.to_owned()))));
            return;
        }
        self.make_pod_of_job(name, &job, now);
    }

    fn make_pod_of_job(&mut self, name: &str, job: &Job, now: Timestamp) {
        if let Some(job) = self.jobs.get_mut(name) {
            job.made += 1;
        }
        let mobility = Mobility::Job { job: name.to_owned(), job_uid: job.uid.clone() };
        self.make_pod(&job.template, "Job", name, format!("{name}-{}", job.made + 1), mobility, BTreeSet::new(), now);
    }

    /// The Job controller counts a pod of its own that ended badly.
    pub fn count_failure(&mut self, name: &str, now: Timestamp) {
        if let Some(job) = self.jobs.get_mut(name) {
            job.failures += 1;
            job.back_off_until = now + Millis(BACK_OFF.0 << (job.failures - 1).min(5));
        }
    }

    /// Creates a pod; admission has given it our gate.
    #[allow(clippy::too_many_arguments)]
    fn make_pod(
        &mut self,
        template: &Template,
        kind: &str,
        owner: &str,
        name: String,
        mobility: Mobility,
        services: BTreeSet<String>,
        now: Timestamp,
    ) {
        let uid = Uid::from(format!("pod-{:06}", self.number()));
        let object = |name: String| ObjectRef { namespace: NAMESPACE.into(), name };
        let pod = Pod {
            identity: PodIdentity { object: object(name), uid },
            resource_version: String::new(),
            created_at: whole_second(now),
            workload: Workload { kind: kind.into(), object: object(owner.to_owned()) }.into(),
            mobility,
            need: template.need.clone(),
            rules: Default::default(),
            attribution: Attribution { team: Some(template.team.clone()), ..Attribution::default() }.into(),
            phase: PodPhase::Gated,
            started_at: None,
            ready_since: None,
            stuck: None,
            deleting_until: None,
            termination_grace: template.grace,
            claim: None,
            placed_by: None,
            baseline: Default::default(),
            attempt: 0,
            node: None,
            replaces: None,
            let_go: None,
            services: services.into(),
            ready_in: Default::default(),
        };
        self.put_pod(SimPod { pod, start: template.start, ending: template.ending, running_since: None, ends_at: None, told_at: None });
    }

    /// A controller deletes one of its pods with the pod's own grace.
    fn end_pod(&mut self, pod: &SimPod, now: Timestamp, later: &mut Later) {
        let grace = pod.pod.termination_grace;
        let action = crate::core::action::ClusterAction::DeletePod {
            pod: pod.pod.identity.clone(),
            grace,
            reason: crate::core::action::RemovalReason::Deleted,
        };
        // Nothing can refuse a deletion.
        let _ = self.apply(&action, now, later);
    }
}
