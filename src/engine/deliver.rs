//! From the outbox to the ledger: every record exactly once, however often it is written.
//!
//! Decides: nothing. A record is forgotten by the outbox only after the ledger has it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tracing::{info, warn};

use super::driver::Engine;
use crate::core::record::LedgerRecord;
use crate::ports::{Clock, Cloud, Cluster, Ledger};

const BATCH: usize = 200;
/// While the ledger is away, records are put together once more than this many wait one by one.
const PACKED_ABOVE: usize = 2_000;
/// Interval between attempts while Postgres or the API server is down.
const AWAY: Duration = Duration::from_secs(1);

/// How a delivery went.
enum Delivered {
    /// There may be more.
    Some,
    /// Nothing is left.
    All,
    /// The outbox or the ledger does not answer.
    Away,
}

impl<C: Cloud, K: Cluster, L: Ledger, T: Clock + 'static> Engine<C, K, L, T> {
    /// Delivers for as long as the operator lives; only the leader does.
    pub(super) async fn deliver_outbox(self: Arc<Self>, leading: watch::Receiver<bool>) {
        loop {
            match if *leading.borrow() { self.deliver_once().await } else { Delivered::Away } {
                Delivered::Some => {}
                Delivered::Away => tokio::time::sleep(AWAY).await,
                Delivered::All => tokio::select! {
                    biased;
                    () = self.outbox_filled.notified() => tokio::time::sleep(self.intervals.gathering).await,
                    () = tokio::time::sleep(self.intervals.outbox) => {}
                },
            }
        }
    }

    async fn deliver_once(&self) -> Delivered {
        let records = match self.cluster.outbox(BATCH).await {
            Ok(records) => records,
            Err(error) => {
                warn!("the outbox could not be read: {error}");
                return Delivered::Away;
            }
        };
        // A batch that is not full is the last.
        let waiting = match records.len() {
            BATCH => self.cluster.outbox_size().await.unwrap_or(BATCH),
            all => all,
        };
        {
            let mut state = self.state();
            state.outbox_size = waiting;
            state.outbox_oldest = records.iter().map(LedgerRecord::happened_at).min();
        }
        // An empty write checks whether Postgres is reachable.
        let written = self.ledger.write(&records).await;
        let available = written.is_ok();
        let before = std::mem::replace(&mut self.state().ledger_available, available);
        match written {
            Err(error) => {
                if before {
                    warn!(waiting, "{error}");
                }
                if waiting > PACKED_ABOVE
                    && let Err(error) = self.cluster.pack_outbox(PACKED_ABOVE).await
                {
                    warn!(waiting, "waiting records could not be put together, they stay as they are: {error}");
                }
                Delivered::Away
            }
            Ok(()) => {
                if !before {
                    info!(delivered = records.len(), "the ledger accepts records");
                    self.wake.notify_one();
                }
                if records.is_empty() {
                    return Delivered::All;
                }
                let ids: Vec<uuid::Uuid> = records.iter().map(LedgerRecord::id).collect();
                if let Err(error) = self.cluster.forget(&ids).await {
                    warn!("delivered records could not be removed from the outbox, they will be delivered again: {error}");
                    return Delivered::Away;
                }
                Delivered::Some
            }
        }
    }
}
