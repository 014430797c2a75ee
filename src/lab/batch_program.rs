//! Plays the program inside batch pods: it works, is asked to stop, writes a checkpoint, and resumes from it in another pod.
//!
//! kwok executes nothing, so this is the only "work" there is. A pod takes part by annotations on its template:
//! `lab.lowtide.dev/work-seconds` (how much work the Job is), `lab.lowtide.dev/checkpoint-seconds` (from SIGTERM to a written
//! checkpoint, default 2), `lab.lowtide.dev/checkpoint-every-seconds` (checkpoints while working; none by default).
//!
//! Modelled: the work itself, one second of work per second of Running. Real: when the pod ran, was asked to stop (its deletionTimestamp) and ended.
//! The checkpoint store is kept here, keyed by namespace and Job name, as a bucket would be.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams, Patch, PatchParams};
use kube::{Client, ResourceExt};
use serde::Serialize;
use serde_json::json;

use crate::core::units::time::{Millis, Timestamp};

use super::error::LabError;
use super::kubeconfig;
use super::progress::say;

const WORK: &str = "lab.lowtide.dev/work-seconds";
const CHECKPOINT: &str = "lab.lowtide.dev/checkpoint-seconds";
const CHECKPOINT_EVERY: &str = "lab.lowtide.dev/checkpoint-every-seconds";
const OUTCOME: &str = "lab.lowtide.dev/outcome";
const STOPPED: &str = "lab.lowtide.dev/stopped";
const JOB_NAME: &str = "batch.kubernetes.io/job-name";
const TURN: Duration = Duration::from_millis(200);

/// What happened to a program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "event")]
pub enum Happening {
    /// It began to work.
    Started {
        /// Work already done, read from the checkpoint.
        resumed_with_ms: Millis,
        /// Another pod of the same Job was still running: two wrote to one place.
        beside_another: bool,
    },
    /// It got SIGTERM.
    Signalled {
        /// Work done by then.
        done_ms: Millis,
    },
    /// It wrote a checkpoint.
    Checkpointed {
        /// Work in it.
        done_ms: Millis,
    },
    /// It did all its work.
    Finished,
    /// It ended without writing a checkpoint first.
    Died {
        /// Work that no checkpoint has.
        lost_ms: Millis,
    },
}

/// One line of the timeline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ProgramEvent {
    /// When.
    pub at: Timestamp,
    /// Namespace and name of the Job.
    pub job: String,
    /// The pod.
    pub pod: String,
    /// What.
    #[serde(flatten)]
    pub what: Happening,
}

/// What the lab sees of one batch pod.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    uid: String,
    namespace: String,
    pod: String,
    job: String,
    /// Containers run on a machine that is on.
    running: bool,
    /// SIGTERM was sent.
    signalled: bool,
    work: Millis,
    checkpoint: Millis,
    checkpoint_every: Option<Millis>,
}

/// A program while it runs.
#[derive(Debug, Clone)]
struct Program {
    seen: Seen,
    /// Work it began with.
    resumed_with: Millis,
    started: Timestamp,
    signalled: Option<Timestamp>,
    /// It has said its last word; nothing more is done for it.
    over: bool,
}

impl Program {
    /// Work done by `now`: a program that was asked to stop only writes its checkpoint.
    fn done(&self, now: Timestamp) -> Millis {
        let until = self.signalled.unwrap_or(now).min(now);
        (self.resumed_with + until.since(self.started)).min(self.seen.work)
    }
}

/// What must be written on a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Order {
    namespace: String,
    pod: String,
    annotation: &'static str,
    value: String,
}

/// All programs and their checkpoint store. Pure: turns are given the pods seen and the time.
#[derive(Debug, Default)]
struct Programs {
    running: BTreeMap<String, Program>,
    checkpoints: BTreeMap<String, Millis>,
    timeline: Vec<ProgramEvent>,
}

impl Programs {
    fn turn(&mut self, pods: &[Seen], now: Timestamp) -> Vec<Order> {
        let mut orders = Vec::new();
        let present: BTreeSet<&str> = pods.iter().filter(|pod| pod.running).map(|pod| pod.uid.as_str()).collect();
        let gone: Vec<String> = self.running.keys().filter(|uid| !present.contains(uid.as_str())).cloned().collect();
        let ended: Vec<Program> = gone.iter().filter_map(|uid| self.running.remove(uid)).filter(|program| !program.over).collect();
        for program in ended {
            let lost = program.done(now) - self.checkpoint(&program.seen.job);
            self.tell(&program.seen, now, Happening::Died { lost_ms: lost });
        }
        for pod in pods.iter().filter(|pod| pod.running) {
            self.start_if_new(pod, now);
            orders.extend(self.advance(&pod.uid, pod.signalled, now));
        }
        orders
    }

    fn start_if_new(&mut self, pod: &Seen, now: Timestamp) {
        if self.running.contains_key(&pod.uid) {
            return;
        }
        let resumed_with = self.checkpoint(&pod.job);
        let beside_another = self.running.values().any(|other| other.seen.job == pod.job && !other.over);
        self.tell(pod, now, Happening::Started { resumed_with_ms: resumed_with, beside_another });
        self.running.insert(pod.uid.clone(), Program { seen: pod.clone(), resumed_with, started: now, signalled: None, over: false });
    }

    fn advance(&mut self, uid: &str, signalled: bool, now: Timestamp) -> Option<Order> {
        let mut program = self.running.get(uid).filter(|program| !program.over)?.clone();
        let seen = program.seen.clone();
        let done = program.done(now);
        let order = |annotation, value: &str| {
            Some(Order { namespace: seen.namespace.clone(), pod: seen.pod.clone(), annotation, value: value.to_owned() })
        };
        let mut answer = None;
        if done >= seen.work {
            self.tell(&seen, now, Happening::Finished);
            program.over = true;
            answer = order(OUTCOME, "succeeded");
        } else if let Some(signalled_at) = program.signalled {
            if now.since(signalled_at) >= seen.checkpoint {
                self.checkpoints.insert(seen.job.clone(), done);
                self.tell(&seen, now, Happening::Checkpointed { done_ms: done });
                program.over = true;
                answer = order(STOPPED, &now.to_rfc3339());
            }
        } else if signalled {
            program.signalled = Some(now);
            self.tell(&seen, now, Happening::Signalled { done_ms: done });
        } else if seen.checkpoint_every.is_some_and(|every| done - self.checkpoint(&seen.job) >= every) {
            self.checkpoints.insert(seen.job.clone(), done);
            self.tell(&seen, now, Happening::Checkpointed { done_ms: done });
        }
        self.running.insert(uid.to_owned(), program);
        answer
    }

    fn checkpoint(&self, job: &str) -> Millis {
        self.checkpoints.get(job).copied().unwrap_or(Millis::ZERO)
    }

    fn tell(&mut self, seen: &Seen, at: Timestamp, what: Happening) {
        self.timeline.push(ProgramEvent { at, job: seen.job.clone(), pod: seen.pod.clone(), what });
    }
}

/// The timeline of all programs, shared with whoever writes the report.
#[derive(Debug, Clone, Default)]
pub struct Timeline(Arc<Mutex<Vec<ProgramEvent>>>);

impl Timeline {
    /// Everything that happened so far, oldest first.
    pub fn events(&self) -> Vec<ProgramEvent> {
        self.0.lock().map(|events| events.clone()).unwrap_or_default()
    }
    fn set(&self, events: &[ProgramEvent]) {
        if let Ok(mut shared) = self.0.lock() {
            *shared = events.to_vec();
        }
    }
}

/// Plays all batch programs until dropped. A fault is reported once, and tried again at the next turn.
pub async fn run(admin_kubeconfig: PathBuf, timeline: Timeline) -> Result<(), LabError> {
    let client = kubeconfig::client(&admin_kubeconfig, None).await?;
    let mut programs = Programs::default();
    let mut last_fault = String::new();
    loop {
        match play(&client, &mut programs).await {
            Ok(()) => last_fault.clear(),
            Err(fault) => {
                let fault = fault.to_string();
                if fault != last_fault {
                    say(&format!("  batch program: {fault}"));
                }
                last_fault = fault;
            }
        }
        timeline.set(&programs.timeline);
        tokio::time::sleep(TURN).await;
    }
}

async fn play(client: &Client, programs: &mut Programs) -> Result<(), LabError> {
    let everywhere: Api<Pod> = Api::all(client.clone());
    let batch = ListParams::default().labels(JOB_NAME);
    let pods = everywhere.list(&batch).await.map_err(LabError::kube("listing batch pods"))?;
    let seen: Vec<Seen> = pods.iter().filter_map(see).collect();
    for order in programs.turn(&seen, super::wall_clock()) {
        let pods: Api<Pod> = Api::namespaced(client.clone(), &order.namespace);
        let patch = json!({"metadata": {"annotations": {(order.annotation): order.value}}});
        let answer = pods.patch_metadata(&order.pod, &PatchParams::default(), &Patch::Merge(&patch)).await;
        match answer {
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            answer => drop(answer.map_err(LabError::kube(format!("marking pod {}", order.pod)))?),
        }
    }
    Ok(())
}

/// A pod that takes part; `None` for all others.
fn see(pod: &Pod) -> Option<Seen> {
    let seconds = |key: &str| -> Option<Millis> {
        let text = pod.annotations().get(key)?;
        text.parse::<f64>().ok().filter(|seconds| seconds.is_finite() && *seconds >= 0.0).map(|seconds| Millis((seconds * 1_000.0) as i64))
    };
    let namespace = pod.namespace()?;
    let job = format!("{namespace}/{}", pod.labels().get(JOB_NAME)?);
    let status = pod.status.as_ref()?;
    let ready = status.conditions.iter().flatten().any(|condition| condition.type_ == "Ready" && condition.status == "True");
    Some(Seen {
        uid: pod.uid()?,
        pod: pod.name_any(),
        job,
        namespace,
        running: status.phase.as_deref() == Some("Running") && ready,
        signalled: pod.metadata.deletion_timestamp.is_some(),
        work: seconds(WORK)?,
        checkpoint: seconds(CHECKPOINT).unwrap_or(Millis::from_secs(2)),
        checkpoint_every: seconds(CHECKPOINT_EVERY),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(uid: &str, signalled: bool) -> Seen {
        Seen {
            uid: uid.into(),
            namespace: "team".into(),
            pod: format!("train-{uid}"),
            job: "team/train".into(),
            running: true,
            signalled,
            work: Millis::from_secs(60),
            checkpoint: Millis::from_secs(3),
            checkpoint_every: None,
        }
    }
    fn at(seconds: i64) -> Timestamp {
        Timestamp(seconds * 1_000)
    }

    #[test]
    fn a_signalled_program_writes_its_checkpoint_and_the_next_pod_does_only_the_rest() {
        let mut programs = Programs::default();
        assert_eq!(programs.turn(&[pod("a", false)], at(0)), []);
        assert_eq!(programs.turn(&[pod("a", true)], at(40)), []);
        let stopped = programs.turn(&[pod("a", true)], at(43));
        assert_eq!(stopped.iter().map(|o| (o.pod.as_str(), o.annotation)).collect::<Vec<_>>(), [("train-a", STOPPED)]);
        assert_eq!(programs.turn(&[], at(44)), []);
        assert_eq!(programs.turn(&[pod("b", false)], at(50)), []);
        assert_eq!(programs.turn(&[pod("b", false)], at(69)), []);
        let finished = programs.turn(&[pod("b", false)], at(70));
        assert_eq!(finished.iter().map(|o| (o.annotation, o.value.as_str())).collect::<Vec<_>>(), [(OUTCOME, "succeeded")]);
        let timeline: Vec<_> = programs.timeline.iter().map(|event| event.what.clone()).collect();
        let done_ms = Millis::from_secs(40);
        let started = |resumed_with_ms| Happening::Started { resumed_with_ms, beside_another: false };
        let expected = [
            started(Millis::ZERO),
            Happening::Signalled { done_ms },
            Happening::Checkpointed { done_ms },
            started(done_ms),
            Happening::Finished,
        ];
        assert_eq!(timeline, expected);
    }

    #[test]
    fn a_machine_that_dies_loses_the_work_since_the_last_checkpoint() {
        let mut programs = Programs::default();
        let every = Seen { checkpoint_every: Some(Millis::from_secs(10)), ..pod("a", false) };
        for second in 0..=25 {
            programs.turn(std::slice::from_ref(&every), at(second));
        }
        programs.turn(&[], at(26));
        assert_eq!(programs.timeline.last().unwrap().what, Happening::Died { lost_ms: Millis::from_secs(6) });
    }

    #[test]
    fn two_pods_of_one_job_at_once_are_reported() {
        let mut programs = Programs::default();
        programs.turn(&[pod("a", false)], at(0));
        programs.turn(&[pod("a", true), pod("b", false)], at(5));
        assert!(programs.timeline.iter().any(|event| matches!(event.what, Happening::Started { beside_another: true, .. })));
    }
}
