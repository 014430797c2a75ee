//! What is counted while the operator runs: calls to AWS, and what records say.
//!
//! Decides: which record counts as what; each record once, however often it is written.
//! Does not: influence anything. Nothing reads these counters but `/metrics`.

use std::future::Future;

use super::driver::Engine;
use crate::core::fleet::NoticeKind;
use crate::core::market::Capacity;
use crate::core::record::{Decision, LedgerRecord, Migration, Outcome, code_of};
use crate::core::units::ids::Uid;
use crate::core::units::time::Timestamp;
use crate::core::workload::Pod;
use crate::core::workload::need::WorkloadKind;
use crate::metrics::counts::Counts;
use crate::metrics::register as metric;
use crate::ports::{Clock, Cloud, CloudError, Cluster, ClusterView, Ledger};

/// A kind of work as a metric label; empty if no longer known.
fn kind_label(kind: Option<WorkloadKind>) -> &'static str {
    match kind {
        Some(WorkloadKind::Inference) => "inference",
        Some(WorkloadKind::Batch) => "batch",
        None => "",
    }
}

/// The phases of a move, as labels.
const PHASES: [&str; 4] = ["decision", "launched", "node-ready", "pod-ready"];

/// Nothing counted yet; what is rare and has few labels stands at zero from the start.
pub(super) fn at_zero() -> Counts {
    let mut counts = Counts::default();
    for kind in [WorkloadKind::Inference, WorkloadKind::Batch].map(|kind| kind_label(Some(kind))) {
        for metric in [&metric::POD_WAIT, &metric::MOVE_DURATION, &metric::MOVES_LATE] {
            counts.show(metric, &[kind]);
        }
        PHASES.iter().for_each(|phase| counts.show(&metric::MOVE_PHASES, &[kind, phase]));
    }
    counts
}

/// The label of an answer from AWS: `ok`, or AWS's error code.
fn code<R>(answer: &Result<R, CloudError>) -> &str {
    match answer {
        Ok(_) => "ok",
        Err(
            CloudError::NoCapacity { code, .. }
            | CloudError::Quota { code, .. }
            | CloudError::Throttled { code, .. }
            | CloudError::Refused { code, .. },
        ) => code,
        Err(CloudError::TokenUsed { .. }) => "IdempotentParameterMismatch",
        Err(CloudError::TokenEnded { .. }) => crate::core::fleet::TOKEN_ENDED,
        Err(CloudError::Unknown { .. }) => "no-answer",
    }
}

/// The outcome of a launch.
fn launch_outcome<R>(answer: &Result<R, CloudError>) -> &'static str {
    match answer {
        Ok(_) => "launched",
        Err(CloudError::NoCapacity { .. }) => "no-capacity",
        Err(CloudError::Quota { .. }) => "quota",
        Err(CloudError::Throttled { .. }) => "throttled",
        Err(CloudError::TokenUsed { .. } | CloudError::TokenEnded { .. }) => "token",
        Err(CloudError::Refused { .. }) => "refused",
        Err(CloudError::Unknown { .. }) => "unknown",
    }
}

impl<C: Cloud, K: Cluster, L: Ledger, T: Clock + 'static> Engine<C, K, L, T> {
    /// Waits for AWS's answer to `operation`, and counts it.
    pub(super) async fn ask<R>(&self, operation: &str, call: impl Future<Output = Result<R, CloudError>> + Send) -> Result<R, CloudError> {
        let began = self.clock.now();
        let answer = call.await;
        let took = self.clock.now().since(began);
        let mut state = self.state();
        state.counts.add(&metric::CALLS, &[operation, code(&answer)], 1);
        state.counts.observe(&metric::CALL_DURATION, &[operation], took);
        answer
    }

    /// Counts the outcome of a launch.
    pub(super) fn count_launch<R>(&self, capacity: &Capacity, answer: &Result<R, CloudError>) {
        let labels = [capacity.region.as_str(), &capacity.capacity_type.to_string(), launch_outcome(answer)];
        self.state().counts.add(&metric::LAUNCHES, &labels, 1);
    }

    /// Counts a message of an interruption queue.
    pub(super) fn count_notice(&self, notice: &crate::core::fleet::Notice) {
        let kind = match notice.kind {
            NoticeKind::Interruption => "interruption",
            NoticeKind::Rebalance => "rebalance",
            NoticeKind::StateChange(_) => "state-change",
            NoticeKind::Scheduled(_) | NoticeKind::ScheduleOver => "scheduled",
        };
        self.state().counts.add(&metric::NOTICES, &[notice.region.as_str(), kind], 1);
    }

    /// Counts what durable records say. A record that was already counted is not counted again.
    pub(super) fn count_records(&self, records: &[LedgerRecord]) {
        let reported = |r: &LedgerRecord| {
            matches!(
                r,
                LedgerRecord::Decision(_) | LedgerRecord::Migration(_) | LedgerRecord::Interruption(_) | LedgerRecord::OccupancyOpened(_)
            )
        };
        if !records.iter().any(reported) {
            return;
        }
        let view = self.cluster.view().unwrap_or_default();
        let now = self.clock.now();
        let mut state = self.state();
        for record in records.iter().filter(|record| reported(record)) {
            if state.counted.insert(record.id(), now).is_none() {
                count(&mut state.counts, &view, record);
            }
        }
        if state.counted.len() > MOST_REMEMBERED {
            let mut times: Vec<Timestamp> = state.counted.values().copied().collect();
            let (_, median, _) = times.select_nth_unstable(MOST_REMEMBERED / 2);
            let median = *median;
            state.counted.retain(|_, at| *at > median);
        }
    }
}

/// Counted records that are remembered; a record is written again within seconds or never.
const MOST_REMEMBERED: usize = 20_000;

fn count(counts: &mut Counts, view: &ClusterView, record: &LedgerRecord) {
    match record {
        LedgerRecord::Decision(decision) => count_decision(counts, decision),
        LedgerRecord::Migration(migration) => count_move(counts, kind_of(view, &migration.pod_uid), migration),
        LedgerRecord::Interruption(reported) => {
            counts.add(&metric::INTERRUPTIONS, &[reported.capacity.region.as_str(), &reported.capacity.capacity_type.to_string()], 1);
        }
        LedgerRecord::OccupancyOpened(stay) => {
            if let Some(pod) = view.pods.get(&stay.pod_uid) {
                counts.observe(&metric::POD_WAIT, &[kind_label(Some(stay.kind))], stay.from.since(pod.created_at));
            }
        }
        _ => {}
    }
}

fn count_decision(counts: &mut Counts, decision: &Decision) {
    let trigger = code_of(&decision.trigger);
    counts.add(&metric::DECISIONS, &[&trigger, &code_of(&decision.outcome)], 1);
    for (reason, offers) in &decision.judgement.refused {
        counts.add(&metric::REFUSED, &[&code_of(reason)], u64::from(*offers));
    }
    if decision.outcome == Outcome::Migrate {
        counts.add(&metric::MOVES, &[&trigger, kind_label(decision.need.as_ref().map(|need| need.kind))], 1);
    }
}

/// The kind of a pod that was moved: it may be gone, but its replacement refers to it.
fn kind_of(view: &ClusterView, moved: &Uid) -> Option<WorkloadKind> {
    let kind = |pod: &Pod| pod.need.as_ref().ok().map(|(need, _)| need.kind);
    let replaces = |pod: &&Pod| pod.replaces.as_ref().is_some_and(|old| old.pod.uid == *moved);
    view.pods.get(moved).and_then(kind).or_else(|| view.pods.values().find(replaces).and_then(kind))
}

fn count_move(counts: &mut Counts, kind: Option<WorkloadKind>, reported: &Migration) {
    let kind = kind_label(kind);
    // A phase that did not happen (there was free room) is skipped; the next one counts from the one before.
    let mut before = Some(reported.noticed_at);
    let reached = [Some(reported.decided_at), reported.launched_at, reported.node_ready_at, reported.pod_ready_at];
    for (phase, at) in PHASES.into_iter().zip(reached) {
        if let (Some(from), Some(to)) = (before, at) {
            counts.observe(&metric::MOVE_PHASES, &[kind, phase], to.since(from));
        }
        before = at.or(before);
    }
    if let Some(ready) = reported.pod_ready_at {
        counts.observe(&metric::MOVE_DURATION, &[kind], ready.since(reported.noticed_at));
        if reported.deadline.is_some_and(|deadline| ready > deadline) {
            counts.add(&metric::MOVES_LATE, &[kind], 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::units::ids::{DecisionId, ObjectRef};

    #[test]
    fn a_move_is_counted_phase_by_phase_and_late_when_it_is() {
        let at = |seconds: i64| Timestamp(seconds * 1_000);
        let mut reported = Migration {
            decision: DecisionId::derive("c", "move", "p", 1),
            pod: ObjectRef { namespace: "ml".into(), name: "p".into() },
            pod_uid: "p".into(),
            from_claim: "a".into(),
            to_claim: Some("b".into()),
            noticed_at: at(0),
            deadline: Some(at(120)),
            decided_at: at(1),
            launched_at: Some(at(4)),
            node_ready_at: Some(at(64)),
            pod_ready_at: Some(at(119)),
            old_gone_at: None,
            egress_gib: 0,
        };
        let mut counts = Counts::default();
        count_move(&mut counts, Some(WorkloadKind::Inference), &reported);
        let sums = |counts: &Counts| -> Vec<(String, i64)> {
            counts.histograms(&metric::MOVE_PHASES).map(|(labels, h)| (labels.join(" "), h.sum.0 / 1_000)).collect()
        };
        let phases = [("decision", 1), ("launched", 3), ("node-ready", 60), ("pod-ready", 55)];
        assert_eq!(sums(&counts), phases.map(|(phase, s)| (format!("inference {phase}"), s)));
        assert_eq!(counts.totals(&metric::MOVES_LATE).count(), 0);
        (reported.launched_at, reported.node_ready_at, reported.pod_ready_at) = (None, None, Some(at(121)));
        count_move(&mut counts, None, &reported);
        assert_eq!(sums(&counts)[..2], [(" decision".to_owned(), 1), (" pod-ready".to_owned(), 120)], "room was there");
        assert_eq!(counts.totals(&metric::MOVES_LATE).map(|(_, n)| n).sum::<u64>(), 1);
    }
}
