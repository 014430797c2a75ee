//! A pod with our annotation: what it needs, how it can be moved, where it is in its life cycle.
//!
//! Decides: which pods hold a place.

use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

use super::company::PodRules;
use super::need::NeedAnswer;
use super::need::do_not_disrupt::Stay;
use super::owner::{Attribution, Baseline, PodIdentity, Workload};
use crate::core::units::ids::{ClaimName, DecisionId, NodeName, ObjectRef, Region, Uid};
use crate::core::units::money::MicroUsd;
use crate::core::units::shared::Shared;
use crate::core::units::time::{Millis, Timestamp};

/// How a pod can be moved.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mobility {
    /// A ReplicaSet of a Deployment with RollingUpdate: the replacement is created first.
    Surge {
        /// The ReplicaSet's uid: replacements carry it too.
        replica_set: Uid,
        /// The Deployment, owner of the orphan.
        deployment: String,
        /// Its uid.
        deployment_uid: Uid,
    },
    /// A Job: released by its label, the replacement stays gated until the old pod is gone.
    Job {
        /// The Job's name.
        job: String,
        /// Its uid: replacements carry it too.
        job_uid: Uid,
    },
    /// It must end before its replacement starts, and this is why (StatefulSet, Recreate, ReadWriteOnce volume, hostPort).
    BreakFirst {
        /// For the event.
        because: String,
    },
    /// No controller recreates it.
    Bare,
}

/// A mark on a pod that was released from its controller while it still runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LetGo {
    /// The decision to move it.
    pub decision: DecisionId,
    /// The uid of the controller that will recreate it.
    pub controller: Uid,
    /// When.
    pub at: Timestamp,
}

/// What a replacement records about the pod it replaces, so that the move can be reported after the old pod and its claim are gone.
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
    /// How much of its work was done before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub work: Option<Box<WorkBefore>>,
}

/// How much of a job earlier pods have done, as far as it is known to be saved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkBefore {
    /// When the first of them was created: a deadline given as a duration counts from there.
    pub since: Timestamp,
    /// Work that need not be repeated.
    pub saved: Millis,
    /// What their machines cost beyond on-demand for that work; negative if saved.
    #[serde(default)]
    pub overspent: MicroUsd,
}

/// Where a pod is in its life cycle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PodPhase {
    /// Our gate is the only one left.
    Gated,
    /// It has other gates as well: not ours to place yet.
    GatedByOthers,
    /// The scheduler or the kubelet has it.
    Pending,
    /// Running.
    Running,
    /// Succeeded.
    Succeeded,
    /// Failed.
    Failed,
}

/// What keeps a pod from running after its gate was lifted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stuck {
    /// Since when, by the clock of the API server or the kubelet: for people to read, nothing goes by it.
    pub since: Timestamp,
    /// The scheduler's or the kubelet's own message.
    pub said: String,
}

/// A pod with our annotation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    /// Namespace, name and uid.
    pub identity: PodIdentity,
    /// For patches that must not overwrite a newer state.
    pub resource_version: String,
    /// When it was created.
    pub created_at: Timestamp,
    /// Whose work it is.
    pub workload: Shared<Workload>,
    /// How it can be moved.
    pub mobility: Shared<Mobility>,
    /// What it needs, or why that cannot be read.
    pub need: NeedAnswer,
    /// Which pods it may run with, and who goes first.
    pub rules: Shared<PodRules>,
    /// Who pays.
    pub attribution: Shared<Attribution>,
    /// Where it is in its life.
    pub phase: PodPhase,
    /// When its containers started running, according to the kubelet.
    pub started_at: Option<Timestamp>,
    /// Ready, and since when.
    pub ready_since: Option<Timestamp>,
    /// Why it does not run although its gate is lifted, as the scheduler or the kubelet says.
    pub stuck: Option<Box<Stuck>>,
    /// Deletion was requested: by when it will be gone.
    pub deleting_until: Option<Timestamp>,
    /// `terminationGracePeriodSeconds`.
    pub termination_grace: Millis,
    /// The claim it is bound to.
    pub claim: Option<ClaimName>,
    /// The decision that bound it.
    pub placed_by: Option<DecisionId>,
    /// What one replica would have cost otherwise, frozen when it was bound.
    pub baseline: Baseline,
    /// How often it was bound before: part of claim names.
    pub attempt: u64,
    /// The node it runs on.
    pub node: Option<NodeName>,
    /// The pod it replaces.
    pub replaces: Option<Box<Replaces>>,
    /// It was released from its controller and keeps running until its replacement is there.
    pub let_go: Option<Box<LetGo>>,
    /// EndpointSlices' services that list it at all.
    pub services: Shared<BTreeSet<String>>,
    /// ... and those that list it as ready.
    pub ready_in: Shared<BTreeSet<String>>,
}

impl Pod {
    /// It will no longer use its GPUs.
    pub fn finished(&self) -> bool {
        matches!(self.phase, PodPhase::Succeeded | PodPhase::Failed)
    }
    /// A gate holds it, ours or another's.
    pub fn waits(&self) -> bool {
        matches!(self.phase, PodPhase::Gated | PodPhase::GatedByOthers)
    }
    /// It holds a place on a claim.
    pub fn holds(&self, claim: &ClaimName) -> bool {
        !self.finished() && self.claim.as_ref() == Some(claim)
    }
    /// Until when no move by choice disturbs it; one whose annotations cannot be read stays, whatever they mean.
    pub fn stay(&self) -> Stay {
        let Ok((_, schedule)) = &self.need else { return Stay::Always };
        Stay::of(schedule.do_not_disrupt, self.started_at.unwrap_or(self.created_at))
    }
    /// Namespace and name.
    pub fn object(&self) -> &ObjectRef {
        &self.identity.object
    }
}
