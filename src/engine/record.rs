//! Record: a step's records become durable in the outbox before anything of it is done.
//!
//! Decides: nothing. A record that cannot be written stops its step; a later pass decides again, under the same ids.

use tracing::info;

use super::driver::Engine;
use super::execute::Stopped;
use crate::core::action::{Action, ClusterAction, Step};
use crate::core::record::LedgerRecord;
use crate::ports::{Clock, Cloud, Cluster, Ledger};

/// That every record of a step is durable. Made here alone: only a step that carries it can be executed.
#[derive(Debug)]
pub struct Recorded(());

/// Everything a step writes that has an id of its own: records and events.
pub(super) fn ids_of(step: &Step) -> Vec<uuid::Uuid> {
    let events =
        step.actions.iter().filter_map(|a| if let Action::Cluster(ClusterAction::Emit(event)) = a { Some(event.id()) } else { None });
    step.records.iter().map(LedgerRecord::id).chain(events).collect()
}

impl<C: Cloud, K: Cluster, L: Ledger, T: Clock + 'static> Engine<C, K, L, T> {
    /// Writes a step's records to the outbox. A step without records has nothing that could be lost.
    pub(super) async fn record(&self, step: Step) -> Result<Step<Recorded>, Stopped> {
        if !step.records.is_empty() {
            self.cluster.record(&step.records).await?;
            self.state().note_reported(&step.records, self.clock.now());
            self.count_records(&step.records);
            self.outbox_filled.notify_one();
            for record in &step.records {
                if let LedgerRecord::Decision(d) = record {
                    info!(decision = %d.id, trigger = ?d.trigger, outcome = ?d.outcome, claim = ?d.claim, "{}", d.text);
                }
            }
        }
        Ok(step.now(Recorded(())))
    }
}
