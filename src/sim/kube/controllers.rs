//! ReplicaSets, StatefulSets and Jobs: who makes a pod again, and what is counted as failed.
//!
//! Decides: as observed on Kubernetes 1.36: a pod that lost its controller's label is replaced at once and nothing is counted; a Job's
//! pod that is deleted counts as failed and comes again after 10, 20, 40 s.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::apply::whole_second;
use super::asks::Asks;
use super::{Job, Keeper, Kube, NAMESPACE, Replicated, SimPod, Template, manifests};
use crate::core::units::ids::{ObjectRef, Uid};
use crate::core::units::time::{Millis, Timestamp};
use crate::core::workload::{Mobility, Pod, PodIdentity, PodPhase, Workload};
use crate::sim::constraints::mount;
use crate::sim::ec2::Later;
use crate::sim::event::{Event, Owner};

/// First wait before a failed pod of a Job is made again; doubled each time.
const BACK_OFF: Millis = Millis::from_secs(10);

impl Kube {
    /// Brings an owner's pods to what it asks for.
    pub fn reconcile(&mut self, owner: &Owner, now: Timestamp, later: &mut Later) {
        match owner {
            Owner::Replicated(name) => self.reconcile_replicated(name, now, later),
            Owner::Job(name) => self.reconcile_job(name, now, later),
            Owner::Nobody(_) => {}
        }
    }

    /// Pods that the controller of this uid counts as its own.
    fn owned(&self, controller: &Uid) -> Vec<SimPod> {
        let counts = |p: &&SimPod| p.maker == *controller && p.is_counted();
        self.pods.values().map(|stored| &stored.object).filter(counts).cloned().collect()
    }

    /// A quota or a policy keeps pods from being made now; `owner` tries again when it no longer does.
    fn is_refused(&self, owner: &Owner, now: Timestamp, later: &mut Later) -> bool {
        let refused = self.admits_nothing.0 <= now && now < self.admits_nothing.1;
        if refused {
            later.push((self.admits_nothing.1, Event::Reconciles(owner.clone())));
        }
        refused
    }

    fn reconcile_replicated(&mut self, name: &str, now: Timestamp, later: &mut Later) {
        let owner = Owner::Replicated(name.to_owned());
        let Some(work) = self.replicated.get(name).cloned() else {
            // Deleted: the garbage collector takes the pods, also those it had let go of.
            let gone: Vec<SimPod> = self.pods.values().map(|s| &s.object).filter(|p| p.made_by == owner).cloned().collect();
            gone.iter().filter(|p| p.pod.deleting_until.is_none()).for_each(|p| self.end_pod(p, now, later));
            return;
        };
        if let Keeper::StatefulSet { parallel } = work.keeper {
            return self.reconcile_stateful_set(name, &work, parallel, now, later);
        }
        let mut pods = self.owned(&work.controller);
        // A pod that is on its way out does not count: another is made at once, whatever the strategy, which is about new templates.
        let wanted = if pods.len() < work.replicas && self.is_refused(&owner, now, later) { pods.len() } else { work.replicas };
        for _ in pods.len()..wanted {
            let made = self.replicated.get_mut(name).map_or(0, |work| {
                work.made += 1;
                work.made
            });
            self.make_pod_of(name, &work, format!("{name}-{made:04}"), now);
        }
        // Scaled down: not started first, then not Ready, then the youngest.
        pods.sort_by_key(|p| (p.pod.phase == PodPhase::Running, p.pod.ready_since.is_some(), std::cmp::Reverse(p.pod.created_at)));
        let surplus = pods.len().saturating_sub(work.replicas);
        pods.iter().take(surplus).for_each(|p| self.end_pod(p, now, later));
    }

    /// The pods have names of their own: the next of a name is made when the last is gone; in order, when those before it are Ready.
    fn reconcile_stateful_set(&mut self, name: &str, work: &Replicated, parallel: bool, now: Timestamp, later: &mut Later) {
        let named =
            |kube: &Kube, name: &str| kube.pods.values().find(|p| p.object.pod.identity.object.name == name).map(|p| p.object.clone());
        for ordinal in 0..work.replicas {
            let of_it = format!("{name}-{ordinal}");
            match named(self, &of_it) {
                None if self.is_refused(&Owner::Replicated(name.to_owned()), now, later) => {}
                None => self.make_pod_of(name, work, of_it.clone(), now),
                // Of a StatefulSet that was deleted before.
                Some(old) if old.maker != work.controller && old.pod.deleting_until.is_none() => self.end_pod(&old, now, later),
                Some(_) => {}
            }
            let ready = named(self, &of_it).is_some_and(|p| p.pod.ready_since.is_some() && p.pod.deleting_until.is_none());
            if !parallel && !ready {
                return;
            }
        }
        let beyond = |p: &SimPod| {
            let ordinal = p.pod.identity.object.name.rsplit('-').next().and_then(|n| n.parse::<usize>().ok());
            ordinal.is_some_and(|n| n >= work.replicas)
        };
        self.owned(&work.controller).iter().filter(|p| beyond(p)).for_each(|p| self.end_pod(p, now, later));
    }

    fn make_pod_of(&mut self, name: &str, work: &Replicated, pod: String, now: Timestamp) {
        let set = format!("{name}-5d9c");
        let (kind, owner) = match work.keeper {
            Keeper::Deployment(_) => ("ReplicaSet", set.as_str()),
            Keeper::StatefulSet { .. } => ("StatefulSet", name),
        };
        let (made_by, mut template) = (Owner::Replicated(name.to_owned()), work.template.clone());
        if let Some(volume) = &work.of_each_pod {
            let claim = format!("data-{pod}");
            mount(&mut template.manifest, &claim);
            self.around.changed |= self.volumes.add(&claim, volume.clone());
        }
        self.make_pod(&template, pod, (made_by, Some((kind, owner, &work.controller))), None, now);
    }

    /// A pod that nothing makes again, with so much work.
    pub fn make_bare_pod(&mut self, template: &Template, name: &str, work: Millis, now: Timestamp) -> Uid {
        self.around.changed = true;
        self.make_pod(template, name.to_owned(), (Owner::Nobody(name.to_owned()), None), Some(work), now)
    }

    /// A Job is submitted, with the claims that its pods mount.
    pub fn put_job(&mut self, name: &str, job: Job) {
        self.around.changed = true;
        self.jobs.insert(name.to_owned(), job);
    }

    fn reconcile_job(&mut self, name: &str, now: Timestamp, later: &mut Later) {
        let Some(job) = self.jobs.get(name).cloned().filter(|j| j.finished_at.is_none()) else {
            let of_it = |p: &SimPod| p.job() == Some(name) && !p.pod.finished();
            let rest: Vec<SimPod> = self.pods.values().map(|s| &s.object).filter(|p| of_it(p)).cloned().collect();
            rest.iter().filter(|p| p.pod.deleting_until.is_none()).for_each(|p| self.end_pod(p, now, later));
            return;
        };
        let mine = |p: &SimPod| p.maker == job.uid && p.pod.let_go.is_none();
        if self.pods.values().any(|p| mine(&p.object) && p.object.pod.phase == PodPhase::Succeeded) {
            if let Some(job) = self.jobs.get_mut(name) {
                job.finished_at = Some(now);
            }
            later.push((now, Event::Reconciles(Owner::Job(name.to_owned()))));
            return;
        }
        let leaving = |p: &SimPod| mine(p) && p.pod.deleting_until.is_some();
        if !self.owned(&job.uid).is_empty() || self.pods.values().any(|p| leaving(&p.object)) {
            return;
        }
        if self.is_refused(&Owner::Job(name.to_owned()), now, later) {
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
        let (made_by, pod) = (Owner::Job(name.to_owned()), format!("{name}-{}", job.made + 1));
        self.make_pod(&job.template, pod, (made_by, Some(("Job", name, &job.uid))), None, now);
    }

    /// The Job controller counts a pod of its own that ended badly.
    pub fn count_failure(&mut self, name: &str, now: Timestamp) {
        if let Some(job) = self.jobs.get_mut(name) {
            job.failures += 1;
            job.back_off_until = now + Millis(BACK_OFF.0 << (job.failures - 1).min(5));
        }
    }

    /// Creates a pod; admission has given it our gate.
    fn make_pod(
        &mut self,
        template: &Template,
        name: String,
        (made_by, controller): (Owner, Option<(&str, &str, &Uid)>),
        work: Option<Millis>,
        now: Timestamp,
    ) -> Uid {
        let uid = Uid::from(format!("pod-{:06}", self.number()));
        let services = if let Owner::Replicated(of) = &made_by { BTreeSet::from([of.clone()]) } else { BTreeSet::new() };
        let manifest = Arc::new(manifests::pod(&template.manifest, &name, controller));
        let object = ObjectRef { namespace: NAMESPACE.into(), name };
        let pod = Pod {
            identity: PodIdentity { object: object.clone().into(), uid: uid.clone() },
            resource_version: String::new(),
            created_at: whole_second(now),
            // These and their kind are read from the manifest before anybody sees the pod.
            workload: Workload { kind: String::new(), object }.into(),
            mobility: Mobility::Bare.into(),
            need: Err(Vec::new()),
            rules: Default::default(),
            attribution: Default::default(),
            phase: PodPhase::Gated,
            started_at: None,
            ready_since: None,
            stuck: None,
            deleting_until: None,
            termination_grace: Millis::ZERO,
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
        self.put_pod(SimPod {
            pod,
            asks: Arc::new(Asks::of(&manifest)),
            manifest,
            unread: true,
            made_by,
            maker: controller.map_or_else(|| Uid::from(""), |(_, _, uid)| uid.clone()),
            placed_at: now,
            start: template.start,
            ending: template.ending,
            work,
            running_since: None,
            ends_at: None,
            asked_to_end_at: None,
        });
        uid
    }

    /// A controller deletes one of its pods with the pod's own grace.
    pub(in crate::sim) fn end_pod(&mut self, pod: &SimPod, now: Timestamp, later: &mut Later) {
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
