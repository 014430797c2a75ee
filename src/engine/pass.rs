//! One pass: what was observed is put side by side, planned, and its steps are handed out.
//!
//! Decides: nothing about the world ([`crate::core::plan`] does); a world in which nothing was to be done is not planned again.
//! Does not: wait for a step. Each is recorded and executed beside the passes; until then its lanes are left alone.

use std::sync::{Arc, PoisonError};

use tracing::{debug, info, warn};

use super::driver::Engine;
use super::record;
use super::settled::Settled;
use crate::core::action::{Action, ClusterAction, Step};
use crate::core::fleet::{Binding, Bound};
use crate::core::units::time::Timestamp;
use crate::ports::{Clock, Cloud, Cluster, Ledger, urgency};

impl<C: Cloud, K: Cluster, L: Ledger, T: Clock + 'static> Engine<C, K, L, T> {
    /// One pass; returns when the next one is due. A world that is still `settled` is not planned again.
    pub(super) fn pass(self: &Arc<Self>, settled: &mut Option<Settled>) -> Option<Timestamp> {
        let view = self.cluster.view()?;
        let now = self.clock.now();
        let snapshot = {
            let mut state = self.state();
            state.passes += 1;
            state.note_ec2_clock(self.cloud.ahead());
            let uid = self.cluster.uid();
            state.take_in(&uid, &view, now);
            if std::mem::take(&mut state.memory_is_due) {
                self.memory_changed.notify_one();
            }
            state.snapshot((&self.cluster_name, &uid), view, now)
        };
        let changed = match settled.as_ref().map(|known| (known.changed(&snapshot, now), known.wake_at)) {
            Some((None, wake_at)) => return wake_at,
            Some((Some(part), _)) => part,
            None => "something was to be done",
        };
        let planned = (self.planner)(&self.settings, &snapshot, now);
        let took = self.clock.now().since(now);
        debug!(changed, took_milliseconds = took.0, steps = planned.steps.len(), "planned");
        self.state().counts.observe(&crate::metrics::register::PASS_DURATION, &[], took);
        let faults = crate::core::invariant::check(&snapshot);
        *settled = if faults.is_empty() { Settled::of(&snapshot, &planned, now) } else { None };
        // No longer referenced elsewhere: what the steps change in memory is not copied first.
        drop(snapshot);
        for fault in faults {
            warn!(invariant = %fault.invariant, "{}", fault.text);
            *self.state().invariant_faults.entry(fault.invariant).or_default() += 1;
        }
        if planned.considered_moves {
            self.state().moves_considered_at = Some(now);
        }
        {
            let mut state = self.state();
            state.held_ends = planned.held_ends;
            if planned.unasked_ends > 0 {
                state.memory.unasked_ends.extend((0..planned.unasked_ends).map(|_| now));
                self.memory_changed.notify_one();
            }
        }
        for note in &planned.notes {
            info!("{note}");
        }
        for step in planned.steps {
            self.hand_out(step);
        }
        planned.wake_at
    }

    /// Notes what a step is about to do, so that the next pass leaves it alone.
    fn begin(&self, step: &Step, ids: &[uuid::Uuid]) {
        let mut state = self.state();
        state.in_flight.extend(step.lanes.iter().cloned());
        state.note_recorded(ids, self.clock.now());
        state.recent_refusals.note(&step.records, self.clock.now());
        for action in &step.actions {
            match action {
                Action::Cluster(ClusterAction::Bind { target, claim, decision, attempt, baseline, replaces }) => {
                    let (pod, decision, replaces) = (target.pod.uid.clone(), Some(*decision), replaces.clone());
                    let binding = Binding { pod: pod.clone(), decision, attempt: *attempt, baseline: *baseline, replaces };
                    state.pending_binds.insert(pod, Bound { claim: claim.clone(), binding });
                }
                Action::Cluster(ClusterAction::RemoveClaim { claim, .. }) | Action::Terminate { claim, .. } => {
                    state.ending.insert(claim.clone());
                }
                Action::Cluster(ClusterAction::CreateClaim { name, spec }) => {
                    state.pending_claims.insert(name.clone(), (**spec).clone());
                }
                _ => {}
            }
        }
    }

    /// Starts a step beside the passes: recorded first, then executed.
    fn hand_out(self: &Arc<Self>, step: Step) {
        let ids = record::ids_of(&step);
        self.begin(&step, &ids);
        let engine = Arc::clone(self);
        let mut steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        while steps.try_join_next().is_some() {}
        steps.spawn(urgency::of(step.rescue, async move {
            let lanes = step.lanes.clone();
            let outcome = match engine.record(step).await {
                Ok(recorded) => engine.execute(&recorded).await,
                Err(stopped) => Err(stopped),
            };
            {
                let now = engine.clock.now();
                let mut state = engine.state();
                for lane in &lanes {
                    state.in_flight.remove(lane);
                }
                if let Err(stopped) = &outcome {
                    state.stopped.extend(lanes.iter().map(|lane| (lane.clone(), now + stopped.hold)));
                    state.counts.add(&crate::metrics::register::STEPS_STOPPED, &[], 1);
                    // Not written, or not known to be: it may be written again, under the same id.
                    state.note_not_recorded(&ids);
                }
            }
            if let Err(stopped) = outcome {
                warn!(?lanes, "a step stopped and will be decided again: {}", stopped.why);
                tokio::time::sleep(std::time::Duration::from_millis(u64::try_from(stopped.hold.0).unwrap_or(1_000))).await;
            }
            engine.wake.notify_one();
        }));
    }
}
