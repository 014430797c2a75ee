//! A pod that carries our annotation: what it needs, how it can be moved, where it is in its life.
//!
//! Decides: which pods hold a place.

use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::sync::Arc;

use super::company::PodRules;
use super::need::{Need, Schedule};
use super::owner::{Attribution, Baseline, PodIdentity, Workload};
use crate::core::units::ids::{ClaimName, DecisionId, NodeName, ObjectRef, Region, Uid};
use crate::core::units::money::MicroUsd;
use crate::core::units::time::{Millis, Timestamp};

/// How a pod can be moved.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mobility {
    /// A ReplicaSet of a Deployment with RollingUpdate: the replacement is made first.
    Surge {
        /// The ReplicaSet's uid: replacements carry it too.
        replica_set: Uid,
        /// The Deployment, owner of the orphan.
        deployment: String,
        /// Its uid.
        deployment_uid: Uid,
    },
    /// A Job: let go by its label, the replacement stays gated until the old pod is gone.
    Job {
        /// The Job's name.
        job: String,
        /// Its uid: replacements carry it too.
        job_uid: Uid,
    },
    /// It breaks before it makes, and this is why (StatefulSet, Recreate, ReadWriteOnce volume, hostPort).
    BreakFirst {
        /// For the event.
        because: String,
    },
    /// Nobody remakes it.
    Bare,
}

/// A mark on a pod that was let go by its controller while it still runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LetGo {
    /// The decision to move it.
    pub decision: DecisionId,
    /// The uid of the controller that will remake it.
    pub controller: Uid,
    /// When.
    pub at: Timestamp,
}

/// What a replacement carries of the pod it replaces, so that the move can be told after the old pod and its claim are gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replaces {
    /// The old pod.
    #[serde(flatten)]
    pub pod: PodIdentity,
    /// The claim it leaves.
    pub from_claim: ClaimName,
    /// The decision to move.
    pub decision: DecisionId,
    /// When the cause was seen.
    pub noticed_at: Timestamp,
    /// When the move was decided.
    pub decided_at: Timestamp,
    /// When EC2 takes the old machine.
    pub deadline: Option<Timestamp>,
    /// The region it leaves: its data may have to follow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_region: Option<Region>,
    /// What was done of its work before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub work: Option<Box<WorkBefore>>,
}

/// What the pods before have done of a job, as far as it is known to be saved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkBefore {
    /// When the first of them was made: a deadline that is a span counts from there.
    pub since: Timestamp,
    /// Work that need not be done again.
    pub saved: Millis,
    /// What their machines cost beyond on-demand for that work; negative is saved.
    #[serde(default)]
    pub overspent: MicroUsd,
}

/// Where a pod is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PodPhase {
    /// Our gate is the only one left.
    Gated,
    /// Others' gates hold it as well: not ours to place yet.
    GatedByOthers,
    /// The scheduler or the kubelet has it.
    Pending,
    /// Running.
    Running,
    /// Ended well.
    Succeeded,
    /// Ended badly.
    Failed,
}

/// What keeps a pod that was lifted from running.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stuck {
    /// Since when, by the clock of the API server or the kubelet.
    pub since: Timestamp,
    /// The scheduler's or the kubelet's own sentence.
    pub said: String,
}

/// A pod that carries our annotation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    /// Where, what, and which.
    pub identity: PodIdentity,
    /// For patches that must not win over a newer state.
    pub resource_version: String,
    /// When it was created.
    pub created_at: Timestamp,
    /// Whose work it is.
    pub workload: Workload,
    /// How it can be moved.
    pub mobility: Mobility,
    /// What it needs, or why that cannot be read.
    pub need: Result<(Need, Schedule), Vec<String>>,
    /// With whom it may run, and who goes first.
    pub rules: Arc<PodRules>,
    /// Who pays.
    pub attribution: Attribution,
    /// Where it is in its life.
    pub phase: PodPhase,
    /// When its containers began to run, as the kubelet says.
    pub started_at: Option<Timestamp>,
    /// Ready, and since when.
    pub ready_since: Option<Timestamp>,
    /// Why it does not run although its gate is lifted, as the scheduler or the kubelet says.
    pub stuck: Option<Stuck>,
    /// Deletion was asked: by when it is over.
    pub deleting_until: Option<Timestamp>,
    /// `terminationGracePeriodSeconds`.
    pub termination_grace: Millis,
    /// The claim it is bound to.
    pub claim: Option<ClaimName>,
    /// The decision that bound it.
    pub placed_by: Option<DecisionId>,
    /// What one replica would have cost otherwise, frozen when it was bound.
    pub baseline: Baseline,
    /// How often it was bound before: makes claim names.
    pub attempt: u64,
    /// The node it runs on.
    pub node: Option<NodeName>,
    /// The pod it replaces.
    pub replaces: Option<Replaces>,
    /// It was let go by its controller and runs on until its replacement is there.
    pub let_go: Option<LetGo>,
    /// EndpointSlices' services that list it at all.
    pub services: BTreeSet<String>,
    /// ... and those that list it as ready.
    pub ready_in: BTreeSet<String>,
}

impl Pod {
    /// It will not use its GPUs any more.
    pub fn finished(&self) -> bool {
        matches!(self.phase, PodPhase::Succeeded | PodPhase::Failed)
    }
    /// It holds a place on a claim.
    pub fn holds(&self, claim: &ClaimName) -> bool {
        !self.finished() && self.claim.as_ref() == Some(claim)
    }
    /// Namespace and name.
    pub fn object(&self) -> &ObjectRef {
        &self.identity.object
    }
}
