//! What the API server holds of workloads: pods with their manifests, and what makes them.
//!
//! Decides: nothing; `controllers` makes pods of it and `people` say what it is.

use std::sync::Arc;

use serde_json::Value;

use super::asks::Asks;
use super::manifests;
use super::volumes::Volume;
use crate::core::units::ids::Uid;
use crate::core::units::time::{Millis, Timestamp};
use crate::core::workload::Pod;
use crate::sim::event::Owner;

/// A pod and what only its kubelet knows.
#[derive(Debug, Clone)]
pub struct SimPod {
    /// As the operator's watch reads it: from `manifest` what lowtide's reader finds there, from the status the rest.
    pub pod: Pod,
    /// Its metadata and spec, as the API server holds them.
    pub manifest: Arc<Value>,
    /// What it asks, as the simulated scheduler reads the manifest.
    pub asks: Arc<Asks>,
    /// The manifest has changed and was not read since.
    pub unread: bool,
    /// Whose pod it is, also after it was let go.
    pub made_by: Owner,
    /// The uid of the controller that made it; empty for a bare pod.
    pub maker: Uid,
    /// When it was bound to the claim that it is bound to.
    pub placed_at: Timestamp,
    /// From being bound to a node to Ready.
    pub start: Millis,
    /// From being asked to end to ended: draining, or writing a checkpoint.
    pub ending: Millis,
    /// A bare pod ends by itself after this.
    pub work: Option<Millis>,
    /// Since when it runs.
    pub running_since: Option<Timestamp>,
    /// When its kubelet will have ended it.
    pub ends_at: Option<Timestamp>,
    /// When the deletion was asked for.
    pub asked_to_end_at: Option<Timestamp>,
}

impl SimPod {
    /// Changes the manifest.
    pub fn rewrite(&mut self, change: impl FnOnce(&mut Value)) {
        change(Arc::make_mut(&mut self.manifest));
        self.asks = Arc::new(Asks::of(&self.manifest));
        self.unread = true;
    }

    /// Its controller counts it as its own: it was neither let go, nor has it ended or been asked to end.
    pub fn is_counted(&self) -> bool {
        self.pod.let_go.is_none() && !self.pod.finished() && self.pod.deleting_until.is_none()
    }

    /// Its Job, if a Job made it.
    pub fn job(&self) -> Option<&str> {
        if let Owner::Job(name) = &self.made_by { Some(name) } else { None }
    }
}

/// What a workload's pods are like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    /// Metadata and spec, as the owner wrote them.
    pub manifest: Value,
    /// From being bound to a node to Ready.
    pub start: Millis,
    /// From being asked to end to ended.
    pub ending: Millis,
}

impl Template {
    /// What each pod asks.
    pub fn asks(&self) -> Asks {
        Asks::of(&self.manifest)
    }

    /// Sets one of the owner's annotations.
    pub fn annotate(&mut self, key: &str, value: impl ToString) {
        manifests::annotate(&mut self.manifest, key, &value.to_string());
    }
}

/// What makes the pods of a workload with replicas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keeper {
    /// A Deployment of this strategy, by its ReplicaSet.
    Deployment(&'static str),
    /// A StatefulSet: each pod has a name of its own, which the next may have when it is gone; in order, or all at once.
    StatefulSet {
        /// `podManagementPolicy: Parallel`.
        parallel: bool,
    },
}

impl Keeper {
    /// The kind of the workload.
    pub fn kind(self) -> &'static str {
        match self {
            Keeper::Deployment(_) => "Deployment",
            Keeper::StatefulSet { .. } => "StatefulSet",
        }
    }
}

/// A Deployment or a StatefulSet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replicated {
    /// Which of them.
    pub keeper: Keeper,
    /// Its uid.
    pub uid: Uid,
    /// The uid of what controls its pods: its ReplicaSet, or itself.
    pub controller: Uid,
    /// Replicas wanted.
    pub replicas: usize,
    /// More than this are never wanted, because they would find no place or no volume.
    pub most_replicas: usize,
    /// Its pods.
    pub template: Template,
    /// A claim that each pod has to itself, as it is when it is made.
    pub of_each_pod: Option<Volume>,
    /// Its pods can be replaced before they go, as Kubernetes allows it: by a rolling update, and with nothing that only one node can have.
    pub surges: bool,
    /// lowtide honours all that its pods ask; of what it does not, it says so and places nothing.
    pub honoured: bool,
    /// `minAvailable` of its PodDisruptionBudget.
    pub least_available: Option<usize>,
    /// Its pods so far, for names.
    pub made: u64,
}

/// A Job with one completion.
#[derive(Debug, Clone)]
pub struct Job {
    /// Its uid.
    pub uid: Uid,
    /// Its pods.
    pub template: Template,
    /// When it was created.
    pub created_at: Timestamp,
    /// Work of one pod from start to end.
    pub work: Millis,
    /// Work that a checkpoint holds.
    pub saved: Millis,
    /// It writes a checkpoint on its own this often.
    pub saves_every: Millis,
    /// When it should be done.
    pub deadline: Option<Timestamp>,
    /// Pods that the Job controller counted as failed.
    pub failures: u32,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// Work that was done and lost.
    pub lost: Millis,
    /// Its pods so far, for names.
    pub made: u64,
    /// Not before this is a failed pod made again (10, 20, 40 s).
    pub back_off_until: Timestamp,
}
