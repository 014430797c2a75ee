//! The loops that keep our instances and their notices fresh, one region each, so that one slow region delays no other.
//!
//! Decides: nothing; what EC2 reports is kept with its time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tracing::{info, warn};

use super::market::{FIRST_RETRY, later};
use crate::core::fleet::NoticeKind;
use crate::core::snapshot::{Observed, PendingNotice};
use crate::core::units::ids::Region;
use crate::core::units::shared::Shared;
use crate::engine::driver::Engine;
use crate::ports::{Clock, Cloud, Cluster, Ledger};

impl<C: Cloud, K: Cluster, L: Ledger, T: Clock + 'static> Engine<C, K, L, T> {
    /// Keeps our instances fresh, as EC2 reports them.
    pub(in crate::engine) async fn watch_instances(self: Arc<Self>, region: Region) {
        let mut retry = FIRST_RETRY;
        loop {
            let began = self.clock.now();
            match self.ask("instances", self.cloud.instances(&region, &self.cluster_name)).await {
                Ok(seen) => {
                    retry = FIRST_RETRY;
                    let value: Shared<BTreeMap<_, _>> = seen.into_iter().map(|i| (i.id.clone(), i)).collect();
                    let changed = {
                        let mut state = self.state();
                        let before = match state.instances.get(&region) {
                            Some(Observed::Known { value: before, .. }) if *before == value => Some(before.clone()),
                            _ => None,
                        };
                        let changed = before.is_none();
                        // What has not changed stays the same value, which costs the next pass nothing.
                        state.instances.insert(region.clone(), Observed::Known { at: began, value: before.unwrap_or(value) });
                        state.learn_from_instances(began);
                        changed
                    };
                    if changed {
                        self.wake.notify_one();
                    }
                    tokio::select! {
                        biased;
                        () = tokio::time::sleep(self.intervals.instances) => {}
                        () = self.look_at_instances.due(&region) => tokio::time::sleep(Duration::from_millis(200)).await,
                    }
                }
                Err(error) => {
                    warn!(%region, "instances could not be read: {error}");
                    tokio::time::sleep(retry).await;
                    retry = later(retry);
                }
            }
        }
    }

    /// Takes messages off one interruption queue.
    pub(in crate::engine) async fn watch_queue(self: Arc<Self>, region: Region, queue: String) {
        let mut retry = FIRST_RETRY;
        loop {
            match self.ask("receive-notices", self.cloud.receive_notices(&region, &queue)).await {
                Ok(messages) => {
                    retry = FIRST_RETRY;
                    for message in messages {
                        match message.content {
                            Ok(notice) => self.take_notice(notice, &queue, message.receipt),
                            Err(fault) => {
                                warn!(%region, queue, "{fault}; dropped");
                                if let Err(error) = self.ask("acknowledge", self.cloud.acknowledge(&region, &queue, &message.receipt)).await
                                {
                                    warn!(%region, queue, "a malformed message could not be deleted: {error}");
                                }
                            }
                        }
                    }
                }
                Err(error) => {
                    warn!(%region, queue, "the interruption queue cannot be read, falling back to EC2's states: {error}");
                    tokio::time::sleep(retry).await;
                    retry = later(retry);
                }
            }
        }
    }

    fn take_notice(&self, notice: crate::core::fleet::Notice, queue: &str, receipt: String) {
        let received_at = self.clock.now();
        self.count_notice(&notice);
        info!(instance = %notice.instance, region = %notice.region, kind = ?notice.kind, "notice");
        if matches!(notice.kind, NoticeKind::StateChange(_)) {
            self.look_at_instances.ask(&notice.region);
        }
        if matches!(notice.kind, NoticeKind::Scheduled(_) | NoticeKind::ScheduleOver) {
            self.look_at_scheduled.ask(&notice.region);
        }
        let pending = PendingNotice { notice, received_at, queue: Some(queue.to_owned()), receipt: receipt.clone() };
        self.state().notices.insert(receipt, pending);
        self.wake.notify_one();
    }
}
