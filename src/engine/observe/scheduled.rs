//! The loop that keeps what EC2 has scheduled for our instances: the net below AWS Health's messages.
//!
//! Decides: nothing; what cannot be read keeps its last value and its time, so that nothing is taken for called off.

use std::sync::Arc;

use tracing::{info, warn};

use super::market::FIRST_RETRY;
use crate::core::snapshot::Observed;
use crate::core::units::ids::Region;
use crate::engine::driver::Engine;
use crate::ports::{Clock, Cloud, Cluster, Ledger};

impl<C: Cloud, K: Cluster, L: Ledger, T: Clock + 'static> Engine<C, K, L, T> {
    /// Keeps the scheduled events of a region.
    pub(in crate::engine) async fn watch_scheduled_events(self: Arc<Self>, region: Region) {
        let (mut retry, mut round) = (FIRST_RETRY, 0);
        loop {
            round += 1;
            let at = self.clock.now();
            let pause = match self.ask("scheduled-events", self.cloud.scheduled_events(&region)).await {
                Ok(seen) => {
                    retry = FIRST_RETRY;
                    let before = self.state().scheduled.insert(region.clone(), Observed::Known { at, value: seen.clone().into() });
                    let known = matches!(before, Some(Observed::Known { value, .. }) if *value == seen);
                    if !known && !seen.is_empty() {
                        info!(%region, instances = seen.len(), "EC2 has scheduled events");
                    }
                    self.wake.notify_one();
                    self.pace(self.intervals.scheduled_events, &format!("scheduled events {region}"), round)
                }
                Err(error) => {
                    warn!(%region, "scheduled events could not be read; AWS Health's messages still count: {error}");
                    self.pause_after(&error, &mut retry)
                }
            };
            tokio::select! {
                biased;
                () = tokio::time::sleep(pause) => {}
                () = self.look_at_scheduled.due(&region) => {}
            }
        }
    }
}
