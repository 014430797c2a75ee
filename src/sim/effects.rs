//! What an operator's calls do to the world: written to the history, held against the invariants, and settled.
//!
//! Decides: nothing.

use std::fmt::{self, Write as _};

use super::check;
use super::ec2::Has;
use super::world::World;
use crate::core::action::{ClaimPatch, ClusterAction, EventSubject};
use crate::core::fleet::Launch;
use crate::core::record::LedgerRecord;
use crate::core::units::ids::InstanceId;
use crate::ports::{Applied, CloudError, ClusterError};

impl World {
    /// EC2 is asked for a machine.
    pub fn launch(&mut self, launch: &Launch, operator: u32) -> Result<InstanceId, CloudError> {
        let now = self.now();
        check::before_launch(self, launch, now);
        let mut later = Vec::new();
        let has = Has { market: &self.market, account: &self.account, catalog: &self.catalog };
        let answer = self.ec2.launch(launch, &has, now, &mut later);
        let outcome = match &answer {
            Ok(id) => id.to_string(),
            Err(fault) => fault.to_string(),
        };
        self.say(&format!("op{operator} launches {} for {}: {outcome}", launch.capacity, launch.claim));
        self.settle(now, later);
        answer
    }

    /// EC2 is asked to end a machine.
    pub fn terminate(&mut self, instance: &InstanceId, operator: u32) {
        let now = self.now();
        check::before_terminate(self, instance, now);
        self.say(&format!("op{operator} terminates {instance}"));
        let mut later = Vec::new();
        self.ec2.end(instance, "Client.UserInitiatedShutdown", now, &mut later);
        self.settle(now, later);
    }

    /// The API server is asked to change something.
    pub fn apply(&mut self, action: &ClusterAction, operator: u32) -> Result<Applied, ClusterError> {
        let now = self.now();
        check::before_action(self, action, now);
        let mut later = Vec::new();
        let outcome = self.kube.apply(action, now, &mut later);
        if outcome.is_ok() {
            check::after_action(self, action, operator, now);
        }
        let fault = outcome.as_ref().err().map_or_else(String::new, |fault| format!(": {fault}"));
        self.say(&format!("op{operator} {}{fault}", described(action)));
        self.settle(now, later);
        outcome
    }

    /// A record is made durable in the outbox.
    pub fn record(&mut self, record: &LedgerRecord, operator: u32) {
        let now = self.now();
        let id = record.id();
        let record = check::before_record(self, id, record);
        self.kube.durable.insert(id);
        self.say(&format!("op{operator} records {}", record_in_words(&record)));
        self.kube.outbox.entry(id).or_insert(record);
        self.settle(now, Vec::new());
    }

    /// Records are taken out of the outbox.
    pub fn forget(&mut self, records: &[uuid::Uuid], operator: u32) {
        let now = self.now();
        for id in records {
            check::before_forget(self, id);
            self.kube.outbox.remove(id);
        }
        self.say(&format!("op{operator} forgets {} records", records.len()));
        self.settle(now, Vec::new());
    }

    /// Records are written to Postgres; one that is there stays as it is.
    pub fn write(&mut self, records: &[LedgerRecord], operator: u32) {
        let now = self.now();
        if records.is_empty() {
            return;
        }
        for record in records {
            let id = record.id();
            let row = check::before_row(self, id, record);
            self.ledger.rows.entry(id).or_insert(row);
        }
        self.say(&format!("op{operator} delivers {} records", records.len()));
        self.settle(now, Vec::new());
    }
}

fn described(action: &ClusterAction) -> String {
    match action {
        ClusterAction::CreateClaim { name, spec } => {
            format!("claims {name}: {} at ${}/h ({:?})", spec.capacity, spec.price_per_hour, spec.trigger)
        }
        ClusterAction::Bind { target, claim, .. } => format!("binds {} to {claim}", target.pod.object.name),
        ClusterAction::Lift { target, claim } => format!("lifts the gate of {} for {claim}", target.pod.object.name),
        ClusterAction::PatchClaim { claim, patch, .. } => format!("patches {claim}: {}", patch_in_words(patch)),
        ClusterAction::MarkNode { node, claim, taint, .. } => format!("marks {node} for {claim}{}", if *taint { ", tainted" } else { "" }),
        ClusterAction::LetGoOfDeployment { target, .. } | ClusterAction::LetGoOfJob { target, .. } => {
            format!("lets {} go", target.pod.object.name)
        }
        ClusterAction::Rehearse { pod, .. } => format!("asks whether a replacement of {} would be admitted", pod.object.name),
        ClusterAction::GiveBackToJob { target, .. } => format!("gives {} back to its Job", target.pod.object.name),
        ClusterAction::Evict { pod, grace, reason } => format!("evicts {} ({reason:?}), {grace} of grace", pod.object.name),
        ClusterAction::DeletePod { pod, grace, reason } => format!("deletes {} ({reason:?}), {grace} of grace", pod.object.name),
        ClusterAction::DeleteNode { node } => format!("deletes {node}"),
        ClusterAction::RemoveClaim { claim, .. } => format!("removes {claim}"),
        ClusterAction::SetPoolStatus { pool, status } => format!("shows pool {pool}: {} machines", status.claims),
        ClusterAction::SetClassStatus { class, status } => format!("shows class {class}: {} zones", status.zones.len()),
        ClusterAction::Emit(event) => format!("says {} of {}: {}", event.reason, subject_in_words(&event.subject), event.note),
    }
}

fn subject_in_words(subject: &EventSubject) -> &str {
    match subject {
        EventSubject::Pod(pod) => &pod.object.name,
        EventSubject::Pool(name) => name.as_str(),
        EventSubject::Class(name) => name.as_str(),
        EventSubject::Claim(name) => name.as_str(),
    }
}

/// What the patch sets; what it leaves alone is not mentioned.
fn patch_in_words(patch: &ClaimPatch) -> String {
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
    } = patch;
    let mut text = String::new();
    let mut tell = |what: fmt::Arguments| {
        let _ = write!(text, "{}{what}", if text.is_empty() { "" } else { "; " });
    };
    if let Some(at) = launch_asked_at {
        tell(format_args!("EC2 is asked at {at}"));
    }
    if let Some((instance, at)) = launched {
        tell(format_args!("{instance} was launched at {at}"));
    }
    if let Some(uid) = pools_defined_by {
        tell(format_args!("its pool is defined by {uid}"));
    }
    if let Some(node) = node {
        tell(format_args!("its node is {node}"));
    }
    if let Some(at) = node_ready_at {
        tell(format_args!("Ready since {at}"));
    }
    if let Some(failure) = failure {
        tell(format_args!("its launch failed with {} ({:?}) at {}: {}", failure.code, failure.cause, failure.at, failure.message));
    }
    if let Some(mark) = interruption {
        tell(format_args!("{:?} noticed at {} by {}, until {:?}", mark.kind, mark.noticed_at, mark.source, mark.deadline));
    }
    if *warning_over {
        tell(format_args!("nothing came of EC2's warning"));
    }
    match scheduled {
        Some(Some(mark)) => tell(format_args!("{} from {} on, said by {}", mark.event.kind, mark.event.not_before, mark.source)),
        Some(None) => tell(format_args!("what was scheduled is over")),
        None => {}
    }
    if let Some(mark) = moving {
        tell(format_args!("its work moves by {} ({:?}) of {}", mark.decision, mark.trigger, mark.decided_at));
    }
    if let Some(occupants) = occupants {
        tell(format_args!("its pods are {occupants:?}"));
    }
    for (pod, binding) in bindings {
        match binding {
            Some(binding) => tell(format_args!("it keeps the binding of {pod} (attempt {})", binding.attempt)),
            None => tell(format_args!("it drops the binding of {pod}")),
        }
    }
    match empty_since {
        Some(Some(at)) => tell(format_args!("empty since {at}")),
        Some(None) => tell(format_args!("not empty any more")),
        None => {}
    }
    match unhealthy {
        Some(Some(mark)) => tell(format_args!("its node is not well since {} ({:?})", mark.since, mark.trigger)),
        Some(None) => tell(format_args!("its node is well again")),
        None => {}
    }
    if let Some(need) = misfit {
        tell(format_args!("need {need} does not fit there"));
    }
    if let Some((at, decision, trigger)) = terminate_asked {
        tell(format_args!("its end is asked for at {at} by {decision} ({trigger:?})"));
    }
    if let Some(ended) = ended {
        tell(format_args!("it ended: {ended:?}"));
    }
    text
}

fn record_in_words(record: &LedgerRecord) -> String {
    match record {
        LedgerRecord::Decision(d) => format!("decision {:?} after {:?}: {}", d.outcome, d.trigger, d.text),
        LedgerRecord::IntervalOpened(r) => format!("that {} runs for {}", r.instance, r.claim),
        LedgerRecord::HourPriced(r) => format!("hour {} of {} at ${}", r.hour, r.claim_uid, r.price_per_hour),
        LedgerRecord::IntervalClosed(r) => format!("that {} ended at {} ({:?})", r.claim_uid, r.running_to, r.ended_by),
        LedgerRecord::OccupancyOpened(r) => format!("that {} runs on {}", r.pod.name, r.claim_uid),
        LedgerRecord::OccupancyClosed(r) => format!("that {} left {}", r.pod_uid, r.claim_uid),
        LedgerRecord::Migration(r) => format!("that {} moved", r.pod.name),
        LedgerRecord::Interruption(r) => format!("that EC2 takes {}", r.instance),
        LedgerRecord::Checkpoint(r) => format!("that {} wrote a checkpoint", r.pod_uid),
    }
}
