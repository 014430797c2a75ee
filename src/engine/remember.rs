//! What outlives the process besides claims and the outbox: the market memory, and prices on their way into the ledger.
//!
//! Decides: nothing about their content (see [`crate::core::snapshot::memory`] and [`crate::core::market::price_changes`]); only when they are written.
//! Does not: delay anything. A purchase, a rescue or a pass never waits for either.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tracing::{info, warn};

use super::driver::Engine;
use crate::core::snapshot::memory::MarketMemory;
use crate::ports::{Clock, Cloud, Cluster, ClusterError, Ledger};

/// Cool-downs that arrive in a burst are written once.
const BURST: Duration = Duration::from_millis(500);
/// Reading the memory at the start is retried this soon.
const READ_RETRY: Duration = Duration::from_secs(1);
/// Writing it is retried this soon: cool-downs and what the breaker counted are of the next leader's use within seconds.
const WRITE_RETRY: Duration = Duration::from_secs(2);
/// Quotes of one write.
const QUOTES_AT_ONCE: usize = 2_000;

impl<C: Cloud, K: Cluster, L: Ledger, T: Clock + 'static> Engine<C, K, L, T> {
    /// Reads the market memory whenever this operator becomes the leader, and saves it while it leads.
    pub(super) async fn keep_memory(self: Arc<Self>, mut leading: watch::Receiver<bool>) {
        loop {
            while !*leading.borrow() {
                self.state().leading = false;
                if leading.changed().await.is_err() {
                    return;
                }
            }
            self.read_memory().await;
            let mut kept = String::new();
            while *leading.borrow() {
                tokio::select! {
                    biased;
                    () = self.memory_changed.notified() => tokio::time::sleep(BURST).await,
                    () = tokio::time::sleep(self.intervals.memory) => {}
                    _ = leading.changed() => continue,
                }
                let now = self.clock.now();
                let text = self.state().memory.to_text(now);
                if text == kept {
                    continue;
                }
                match self.cluster.keep_market_memory(&text).await {
                    Ok(()) => kept = text,
                    Err(error) => {
                        warn!("the market memory could not be saved, it would be lost with this process: {error}");
                        tokio::time::sleep(WRITE_RETRY).await;
                        self.memory_changed.notify_one();
                    }
                }
            }
        }
    }

    /// The memory of the leader before, or of this one before its restart. Without it everything goes on; dry pools may be asked once more.
    async fn read_memory(&self) {
        loop {
            let text = match self.cluster.market_memory().await {
                Ok(text) => text,
                // It may not be read, or does not exist: retrying does not help.
                Err(error @ (ClusterError::Refused(_) | ClusterError::Gone(_))) => {
                    warn!("the market memory cannot be read, lowtide starts without it: {error}");
                    None
                }
                Err(error) => {
                    warn!("the market memory could not be read yet: {error}");
                    tokio::time::sleep(READ_RETRY).await;
                    continue;
                }
            };
            let now = self.clock.now();
            let mut state = self.state();
            match text.as_deref().map(|text| MarketMemory::from_text(text, now)) {
                Some(Ok(memory)) => {
                    info!(pools = memory.capacities().count(), "the market memory has been read");
                    state.memory = memory.into();
                }
                Some(Err(fault)) => warn!("{fault}"),
                None => {}
            }
            (state.memory_read, state.leading) = (true, true);
            drop(state);
            self.wake.notify_one();
            return;
        }
    }

    /// Writes changed prices to the ledger for as long as the operator lives; only the leader does.
    pub(super) async fn store_prices(self: Arc<Self>, leading: watch::Receiver<bool>) {
        let mut reported = false;
        loop {
            let batch = if *leading.borrow() { self.state().price_changes.batch(QUOTES_AT_ONCE) } else { Vec::new() };
            let mut more = false;
            if !batch.is_empty() {
                match self.ledger.write_prices(&batch).await {
                    Ok(()) => {
                        let mut state = self.state();
                        state.price_changes.written(&batch);
                        (more, reported) = (state.price_changes.waiting() > 0, false);
                    }
                    Err(error) if !reported => {
                        warn!(waiting = batch.len(), "prices are not stored: {error}");
                        reported = true;
                    }
                    Err(_) => {}
                }
            }
            if !more {
                tokio::time::sleep(self.intervals.stored_prices).await;
            }
        }
    }
}
