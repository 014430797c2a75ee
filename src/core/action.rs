//! What a pass can do to the world: the closed list of actions, and the steps they are grouped in.
//!
//! Decides: nothing. [`super::plan`] chooses actions, the engine carries them out.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::core::fleet::{
    Binding, ClaimSpec, ClaimStatus, ClassStatus, Ended, ImageSource, InterruptionMark, Launch, LaunchFailure, LaunchTemplate, MoveMark,
    NoticeKind, Occupant, PoolStatus, ScheduledMark, Unhealthy, Warning,
};
use crate::core::record::LedgerRecord;
use crate::core::snapshot::Lane;
use crate::core::units::ids::{ClaimName, ClassName, DecisionId, InstanceId, NodeName, PoolName, Region, Uid};
use crate::core::units::time::{Millis, Timestamp};
use crate::core::workload::{Baseline, LetGo, PodIdentity, Replaces};

/// Why a pod is deleted or evicted. The closed list of INV-6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RemovalReason {
    /// EC2 takes the machine.
    Interruption,
    /// A better offer beat hysteresis.
    BetterOffer,
    /// The capacity reservation of its machine ends.
    ReservationEnding,
    /// EC2 has scheduled something for its machine.
    Maintenance,
    /// The machine expired.
    Expired,
    /// The machine is not as its pool and class would make it now.
    Drifted,
    /// The pool or the claim was deleted.
    Deleted,
    /// The machine is gone.
    InstanceLost,
    /// Its replacement is Ready.
    Replaced,
    /// The machine it was bound to died before it started.
    NodeDied,
    /// The scheduler does not bind it to the machine it was meant for.
    NotScheduled,
    /// The machine it runs on, as a guest, is about to end.
    MachineEnds,
    /// Its node is not well: cordoned, silent, tainted by others, or without its GPUs.
    Unhealthy,
}

/// A change of a claim's status. Fields left `None` stay as they are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ClaimPatch {
    /// EC2 is about to be asked.
    pub launch_asked_at: Option<Timestamp>,
    /// The instance and EC2's launch time.
    pub launched: Option<(InstanceId, Timestamp)>,
    /// The node joined.
    pub node: Option<NodeName>,
    /// The node is Ready with its GPUs.
    pub node_ready_at: Option<Timestamp>,
    /// The launch failed.
    pub failure: Option<LaunchFailure>,
    /// EC2 will take the machine.
    pub interruption: Option<InterruptionMark>,
    /// EC2 said that the machine was at risk, and did not take it.
    pub warning_over: bool,
    /// EC2 has scheduled something for the machine; `Some(None)` when that is over.
    pub scheduled: Option<Option<ScheduledMark>>,
    /// Work is being moved off.
    pub moving: Option<MoveMark>,
    /// The pods that run here, all of them.
    pub occupants: Option<Vec<Occupant>>,
    /// What was decided about pods that are bound here, by uid; `None` of pods that are gone. The others' stay: no other writer is in the way.
    pub bindings: BTreeMap<Uid, Option<Binding>>,
    /// Since when it is empty; `Some(None)` when it is not any more.
    pub empty_since: Option<Option<Timestamp>>,
    /// What is wrong with its node; `Some(None)` when it is well again.
    pub unhealthy: Option<Option<Unhealthy>>,
    /// A need whose pod the scheduler did not bind there.
    pub misfit: Option<String>,
    /// The definition of node pools, under which its pool is seen.
    pub pools_defined_by: Option<Uid>,
    /// EC2 is about to be asked to terminate it.
    pub terminate_asked: Option<(Timestamp, DecisionId, crate::core::fleet::Trigger)>,
    /// The instance has ended.
    pub ended: Option<Ended>,
}

impl ClaimPatch {
    /// Changes `status` as the patch says: what it leaves out stays.
    pub fn apply_to(self, status: &mut ClaimStatus) {
        // Without `..`: a field that is forgotten here does not compile.
        let ClaimPatch {
            launch_asked_at,
            launched,
            node,
            node_ready_at,
            failure,
            interruption,
            warning_over,
            scheduled,
            moving,
            occupants,
            bindings,
            empty_since,
            unhealthy,
            misfit,
            pools_defined_by,
            terminate_asked,
            ended,
        } = self;
        status.launch_asked_at = launch_asked_at.or(status.launch_asked_at);
        if let Some((id, at)) = launched {
            (status.instance, status.launched_at) = (Some(id), Some(at));
        }
        status.node = node.or(status.node.take());
        status.node_ready_at = node_ready_at.or(status.node_ready_at);
        status.failure = failure.map(Box::new).or(status.failure.take());
        let known = status.interruption.take().filter(|mark| !(warning_over && mark.kind == NoticeKind::Rebalance));
        status.interruption = interruption.map(Box::new).or(known);
        status.scheduled = scheduled.map_or(status.scheduled.take(), |now| now.map(Box::new));
        status.moving = moving.map(Box::new).or(status.moving.take());
        status.occupants = occupants.unwrap_or(std::mem::take(&mut status.occupants));
        for (pod, binding) in bindings {
            match binding {
                Some(binding) => drop(status.bindings.insert(pod, binding)),
                None => drop(status.bindings.remove(&pod)),
            }
        }
        status.empty_since = empty_since.unwrap_or(status.empty_since);
        status.unhealthy = unhealthy.map_or(status.unhealthy.take(), |now| now.map(Box::new));
        status.misfits.extend(misfit);
        status.pools_defined_by = pools_defined_by.or(status.pools_defined_by.take());
        status.terminate_asked = terminate_asked.map(Box::new).or(status.terminate_asked.take());
        status.ended = ended.map(Box::new).or(status.ended.take());
    }
}

/// The pod a patch is meant for, and the state it was decided on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodTarget {
    /// Where, what, and which.
    pub pod: PodIdentity,
    /// A patch on a newer state is refused by the API server and decided again.
    pub resource_version: String,
}

/// Whether an event tells of normal running or of a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum EventKind {
    /// As expected.
    Normal,
    /// Somebody should look.
    Warning,
}

/// What an event is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum EventSubject {
    /// A pod.
    Pod(PodIdentity),
    /// A node pool.
    Pool(PoolName),
    /// A node class.
    Class(ClassName),
    /// A claim.
    Claim(ClaimName),
}

impl EventSubject {
    /// What tells it from every other subject: its kind, and its uid or name.
    fn key(&self) -> (&'static str, &str) {
        match self {
            EventSubject::Pod(pod) => ("pod", pod.uid.as_str()),
            EventSubject::Pool(name) => ("pool", name.as_str()),
            EventSubject::Class(name) => ("class", name.as_str()),
            EventSubject::Claim(name) => ("claim", name.as_str()),
        }
    }
}

/// What an event says: a sentence or two, below 1,024 bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// In so many words.
    Text(Arc<str>),
    /// A machine was bought for the pod. A pass may buy fifty thousand: what is equal of what it says of them is there once.
    Placed {
        /// What was chosen and why.
        text: Arc<str>,
        /// The claim.
        claim: ClaimName,
        /// The decision.
        decision: DecisionId,
    },
}

impl<T: Into<Arc<str>>> From<T> for Note {
    fn from(text: T) -> Self {
        Note::Text(text.into())
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Note::Text(text) => f.write_str(text),
            Note::Placed { text, claim, decision } => write!(f, "{text}; claim {claim}; decision {decision}"),
        }
    }
}

/// An event for `kubectl describe`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// About what.
    pub subject: EventSubject,
    /// Normal or warning.
    pub kind: EventKind,
    /// CamelCase, one of a closed list in `plan`.
    pub reason: &'static str,
    /// What it says.
    pub note: Note,
    id: uuid::Uuid,
}

impl Event {
    /// An event. `key` holds the facts that make it news, as in a decision's id.
    pub fn new(subject: EventSubject, (kind, reason): (EventKind, &'static str), key: &str, note: impl Into<Note>) -> Self {
        let (of, name) = subject.key();
        let id = crate::core::units::ids::derive_uuid(&["event", of, name, reason, key]);
        Event { subject, kind, reason, note: note.into(), id }
    }

    /// Its identity, of subject, reason and key: the same news of the same subject is reported once, however it is worded.
    pub fn id(&self) -> uuid::Uuid {
        self.id
    }
}

/// One thing to do in the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClusterAction {
    /// Writes the intent, with the finalizer. A name that exists is an error: another pass was first.
    CreateClaim {
        /// Its name, derived from the pod and the attempt.
        name: ClaimName,
        /// What it buys.
        spec: Box<ClaimSpec>,
    },
    /// Binds a gated pod to a claim: annotations `lowtide.dev/claim`, `decision`, `attempt`, `replaces`.
    Bind {
        /// The pod.
        target: PodTarget,
        /// The claim.
        claim: ClaimName,
        /// The decision.
        decision: DecisionId,
        /// The attempt this is.
        attempt: u64,
        /// What one replica would cost otherwise, frozen now.
        baseline: Baseline,
        /// The pod it replaces.
        replaces: Option<Box<Replaces>>,
    },
    /// Pins a bound pod to its claim's node and lifts our gate, in one patch.
    Lift {
        /// The pod.
        target: PodTarget,
        /// The claim: value of the node label.
        claim: ClaimName,
    },
    /// Changes a claim's status.
    PatchClaim {
        /// The claim.
        claim: ClaimName,
        /// What changes.
        patch: Box<ClaimPatch>,
        /// The version it was decided on: a newer one is a conflict. `None` for what EC2 said, which is so in any case.
        seen: Option<u64>,
    },
    /// Puts the claim label on a node, and taints when asked.
    MarkNode {
        /// The node.
        node: NodeName,
        /// The claim.
        claim: ClaimName,
        /// Keep new pods off.
        taint: bool,
        /// Keep all pods off but those bound to the claim. Without it the taint only gets the claim's name where the node registered with it.
        guard: bool,
        /// Labels that lowtide promised and the node has not.
        labels: BTreeMap<String, String>,
    },
    /// Lets a Deployment's pod go: strips `pod-template-hash`, marks it, makes the Deployment its non-controller owner.
    LetGoOfDeployment {
        /// The pod.
        target: PodTarget,
        /// The mark.
        mark: LetGo,
        /// The Deployment's name and uid.
        deployment: (String, Uid),
    },
    /// Lets a Job's pod go: strips `batch.kubernetes.io/controller-uid`, marks it, makes the Job its non-controller owner.
    LetGoOfJob {
        /// The pod.
        target: PodTarget,
        /// The mark.
        mark: LetGo,
        /// The Job's name and uid.
        job: (String, Uid),
    },
    /// Asks whether the API server would take a replacement of the pod, without making one: quotas, admission and what the pod refers to may
    /// keep it from being made. A refusal ends the step.
    Rehearse {
        /// The pod.
        pod: PodIdentity,
        /// It ends before its replacement is made: what it holds of a quota is free by then.
        ends_first: bool,
    },
    /// Gives a finished pod back to its Job, which counts it.
    GiveBackToJob {
        /// The pod.
        target: PodTarget,
        /// The Job's uid.
        job_uid: Uid,
    },
    /// Evicts a pod; a PodDisruptionBudget may refuse, and it is asked again on the next pass.
    Evict {
        /// The pod.
        pod: PodIdentity,
        /// Grace it gets.
        grace: Millis,
        /// Why.
        reason: RemovalReason,
    },
    /// Deletes a pod; nothing can refuse.
    DeletePod {
        /// The pod.
        pod: PodIdentity,
        /// Grace it gets.
        grace: Millis,
        /// Why.
        reason: RemovalReason,
    },
    /// Deletes a Node object. Last: pods of a deleted node stay in the endpoints for most of a minute.
    DeleteNode {
        /// The node.
        node: NodeName,
    },
    /// Deletes a claim and lifts its finalizer: its instance is gone or never was.
    RemoveClaim {
        /// The claim.
        claim: ClaimName,
        /// The version it was decided on: a newer one is a conflict.
        seen: Option<u64>,
    },
    /// Writes a pool's status.
    SetPoolStatus {
        /// The pool.
        pool: PoolName,
        /// The status.
        status: Box<PoolStatus>,
    },
    /// Writes a class's status.
    SetClassStatus {
        /// The class.
        class: ClassName,
        /// The status.
        status: Box<ClassStatus>,
    },
    /// Writes an event.
    Emit(Box<Event>),
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// In the cluster.
    Cluster(ClusterAction),
    /// Marks the claim "asked", asks EC2, and writes down what came: the instance or the failure.
    Launch {
        /// What to launch.
        launch: Box<Launch>,
        /// The claim's version it was decided on: EC2 is not asked for a claim that somebody changed.
        seen: u64,
    },
    /// Marks the claim "terminate asked" and asks EC2.
    Terminate {
        /// The claim.
        claim: ClaimName,
        /// Where.
        region: Region,
        /// What.
        instance: InstanceId,
        /// By which decision.
        decision: DecisionId,
        /// Why.
        trigger: crate::core::fleet::Trigger,
        /// The claim's version it was decided on.
        seen: u64,
    },
    /// Ends one of our instances that no claim stands for.
    TerminateUnclaimed {
        /// Where.
        region: Region,
        /// What.
        instance: InstanceId,
        /// The claim it was launched for, by its tags: asked for once more before the machine is ended.
        claim_uid: Option<String>,
    },
    /// Deletes a message whose effect is durable.
    Acknowledge {
        /// Where.
        region: Region,
        /// The queue.
        queue: String,
        /// The receipt.
        receipt: String,
    },
    /// Makes sure a class's launch template exists and its subnets are known, then writes its status.
    PrepareClass {
        /// The class.
        class: ClassName,
        /// The template.
        template: Box<LaunchTemplate>,
        /// Its subnets.
        subnets: Vec<String>,
        /// Where its images are looked up.
        images: Vec<ImageSource>,
    },
    /// Leaves a whole region alone for a while: the account may launch nothing there.
    CloseRegion {
        /// The region.
        region: Region,
        /// First span.
        base: Millis,
        /// Longest span.
        max: Millis,
        /// When it refused: the same refusal, reported twice, counts once.
        at: Timestamp,
    },
    /// EC2 warned of a pool of capacity, or what came of a warning.
    Warned {
        /// The pool of capacity.
        pool: crate::core::market::Capacity,
        /// What was seen.
        seen: Warning,
        /// When.
        at: Timestamp,
    },
    /// Leaves a pool of capacity alone for a while.
    CoolDown {
        /// The pool of capacity.
        pool: crate::core::market::Capacity,
        /// Why.
        cause: crate::core::market::CoolDownCause,
        /// vCPUs of the machine it was refused for; 0 is unknown.
        vcpus: i64,
        /// First span.
        base: Millis,
        /// Longest span.
        max: Millis,
        /// When it refused: the same refusal, reported twice, counts once.
        at: Timestamp,
    },
}

/// A step as it was planned: it must be recorded before anything is done. The next state has no constructor here: whoever writes records
/// makes it (`engine::record`), so that what was not recorded cannot be executed, by type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Planned;

/// Actions that belong together, in order; the first failure ends the step and a later pass decides again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step<S = Planned> {
    /// What nobody else may touch meanwhile.
    pub lanes: Vec<Lane>,
    /// Records that must be durable in the outbox before the first action runs.
    pub records: Vec<LedgerRecord>,
    /// The actions.
    pub actions: Vec<Action>,
    /// It saves work from a machine that EC2 is about to take: what it asks of the cluster goes first.
    pub rescue: bool,
    /// How far it has come.
    pub state: S,
}

impl Step {
    /// A step that the plan asks for.
    pub fn planned(mut lanes: Vec<Lane>, mut records: Vec<LedgerRecord>, mut actions: Vec<Action>) -> Step {
        // A pass may buy fifty thousand machines: room for a fourth record that never comes is a third of its memory.
        lanes.shrink_to_fit();
        records.shrink_to_fit();
        actions.shrink_to_fit();
        Step { lanes, records, actions, rescue: false, state: Planned }
    }
}

impl<S> Step<S> {
    /// The same step, further on.
    pub fn now<N>(self, state: N) -> Step<N> {
        Step { lanes: self.lanes, records: self.records, actions: self.actions, rescue: self.rescue, state }
    }
}

/// What a pass decided.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// The steps; independent of each other. Rescues come first.
    pub steps: Vec<Step>,
    /// The next time something is due without any change of the world.
    pub wake_at: Option<Timestamp>,
    /// What a person reading the log should know of this pass.
    pub notes: Vec<String>,
    /// Machines whose end goes on though nobody asked for it: the breaker counts them.
    pub unasked_ends: u64,
    /// Machines that would be ended and are kept by the breaker until a person says so.
    pub held_ends: u64,
    /// Voluntary moves were considered: the next plan gets to know when.
    pub considered_moves: bool,
    /// Before this, an unchanged world gives the same plan: nothing to do. `now` when that is not certain.
    pub holds_until: Timestamp,
    /// A rule has asked when EC2 was last looked at: another look may give another plan, whatever it shows.
    pub looks_matter: bool,
}
