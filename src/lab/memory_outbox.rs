//! The engine with nothing to run: an outbox in memory and a cloud without machines, so that the way of records into the ledger can be
//! watched alone.
//!
//! Decides: nothing. What is decided is what was asked to be; what is recorded is kept until it is forgotten, as etcd would.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::core::action::{ClusterAction, Plan, Step};
use crate::core::fleet::{FoundImage, ImageSource, Instance, Launch, LaunchTemplate, ScheduledEvent};
use crate::core::market::Quote;
use crate::core::market::catalog::{Architecture, MachineType};
use crate::core::market::quota::VcpuQuota;
use crate::core::market::reservation::CapacityReservation;
use crate::core::market::scores::{PlacementScore, ScoreQuestion};
use crate::core::plan::Planner;
use crate::core::record::LedgerRecord;
use crate::core::snapshot::Lane;
use crate::core::units::ids::{InstanceId, InstanceType, Region, ReservationId, ZoneId};
use crate::core::units::time::Timestamp;
use crate::ports::{Applied, Cloud, CloudError, Cluster, ClusterError, ClusterView, QueueMessage};

/// A cluster that is an outbox and nothing else. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct MemoryOutbox {
    waiting: Arc<Mutex<BTreeMap<uuid::Uuid, LedgerRecord>>>,
    packs: Arc<Mutex<Vec<Vec<LedgerRecord>>>>,
    undecided: Arc<Mutex<Vec<LedgerRecord>>>,
    changed: Arc<Notify>,
}

impl MemoryOutbox {
    fn waiting(&self) -> MutexGuard<'_, BTreeMap<uuid::Uuid, LedgerRecord>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts records in, as the operator does before it carries a step out.
    pub fn put(&self, records: impl IntoIterator<Item = LedgerRecord>) {
        self.waiting().extend(records.into_iter().map(|record| (record.id(), record)));
    }

    /// Has the engine decide these at its next pass: it writes them down and delivers them as it does its own.
    pub fn decide(&self, records: impl IntoIterator<Item = LedgerRecord>) {
        self.undecided.lock().unwrap_or_else(PoisonError::into_inner).extend(records);
        self.changed.notify_one();
    }

    /// What to give the engine as its planner.
    pub fn planner(&self) -> Planner {
        let undecided = Arc::clone(&self.undecided);
        Arc::new(move |_, _, _| {
            let asked = std::mem::take(&mut *undecided.lock().unwrap_or_else(PoisonError::into_inner));
            let step = |record: LedgerRecord| Step::planned(vec![Lane::Message(record.id().to_string())], vec![record], vec![]);
            Plan { steps: asked.into_iter().map(step).collect(), ..Plan::default() }
        })
    }

    fn packs(&self) -> MutexGuard<'_, Vec<Vec<LedgerRecord>>> {
        self.packs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        let waiting = self.waiting();
        waiting.len() + self.packed()
    }

    /// How many of them wait in packs.
    pub fn packed(&self) -> usize {
        self.packs().iter().map(Vec::len).sum()
    }

    /// How many the engine has not decided yet.
    pub fn undecided(&self) -> usize {
        self.undecided.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Nothing waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Cluster for MemoryOutbox {
    fn uid(&self) -> String {
        "uid".to_owned()
    }
    async fn claims_now(&self) -> Result<crate::core::fleet::ClaimsNow, ClusterError> {
        Ok(Default::default())
    }
    fn view(&self) -> Option<ClusterView> {
        Some(ClusterView::default())
    }
    fn changed(&self) -> impl Future<Output = ()> + Send {
        self.changed.notified()
    }
    async fn apply(&self, _: &ClusterAction) -> Result<Applied, ClusterError> {
        Ok(Applied { lane: Lane::Message(String::new()), resource_version: None })
    }
    async fn record(&self, records: &[LedgerRecord]) -> Result<(), ClusterError> {
        self.put(records.iter().cloned());
        Ok(())
    }
    async fn outbox(&self, limit: usize) -> Result<Vec<LedgerRecord>, ClusterError> {
        if let Some(pack) = self.packs().first() {
            return Ok(pack.clone());
        }
        let mut found: Vec<LedgerRecord> = self.waiting().values().cloned().collect();
        found.sort_by_key(|record| (record.happened_at(), record.id()));
        found.truncate(limit);
        Ok(found)
    }
    async fn outbox_size(&self) -> Result<usize, ClusterError> {
        Ok(self.len())
    }
    async fn pack_outbox(&self, above: usize) -> Result<usize, ClusterError> {
        let mut waiting = self.waiting();
        let mut oldest: Vec<LedgerRecord> = waiting.values().cloned().collect();
        oldest.sort_by_key(|record| (record.happened_at(), record.id()));
        oldest.truncate(if oldest.len() > above { oldest.len() - above / 2 } else { 0 });
        for pack in oldest.chunks(200) {
            pack.iter().for_each(|record| drop(waiting.remove(&record.id())));
            self.packs().push(pack.to_vec());
        }
        Ok(oldest.len())
    }
    async fn market_memory(&self) -> Result<Option<String>, ClusterError> {
        Ok(None)
    }
    async fn keep_market_memory(&self, _: &str) -> Result<(), ClusterError> {
        Ok(())
    }
    async fn forget(&self, records: &[uuid::Uuid]) -> Result<(), ClusterError> {
        // In the order in which everybody locks them.
        let mut waiting = self.waiting();
        let mut packs = self.packs();
        if packs.first().is_some_and(|pack| pack.iter().map(LedgerRecord::id).eq(records.iter().copied())) {
            packs.remove(0);
        }
        records.iter().for_each(|id| drop(waiting.remove(id)));
        Ok(())
    }
}

/// A cloud that has nothing and is asked for nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct EmptyCloud;

fn nothing<T>() -> Result<T, CloudError> {
    Err(CloudError::Unknown { message: "there is no cloud here".into() })
}

impl Cloud for EmptyCloud {
    async fn spot_quotes(&self, _: &Region, _: &[InstanceType], _: Timestamp) -> Result<Vec<Quote>, CloudError> {
        nothing()
    }
    async fn on_demand_quotes(&self, _: &Region, _: &[InstanceType]) -> Result<Vec<Quote>, CloudError> {
        nothing()
    }
    async fn offerings(&self, _: &Region) -> Result<Vec<(InstanceType, ZoneId)>, CloudError> {
        nothing()
    }
    async fn images(&self, _: &Region, _: &[ImageSource]) -> Result<BTreeMap<Architecture, FoundImage>, CloudError> {
        nothing()
    }
    async fn vcpu_quotas(&self, _: &Region) -> Result<Vec<VcpuQuota>, CloudError> {
        nothing()
    }
    async fn placement_scores(&self, _: &Region, _: &ScoreQuestion) -> Result<Vec<PlacementScore>, CloudError> {
        nothing()
    }
    async fn capacity_reservations(&self, _: &Region, _: &[ReservationId]) -> Result<Vec<CapacityReservation>, CloudError> {
        nothing()
    }
    async fn machine_types(&self, _: &Region) -> Result<Vec<MachineType>, CloudError> {
        nothing()
    }
    async fn zone_names(&self, _: &Region) -> Result<BTreeMap<ZoneId, String>, CloudError> {
        Ok(BTreeMap::new())
    }
    async fn subnet_zones(&self, _: &Region, _: &[String]) -> Result<BTreeMap<String, ZoneId>, CloudError> {
        nothing()
    }
    async fn ensure_launch_template(&self, _: &LaunchTemplate) -> Result<String, CloudError> {
        nothing()
    }
    async fn launch(&self, _: &Launch) -> Result<InstanceId, CloudError> {
        nothing()
    }
    async fn instances(&self, _: &Region, _: &str) -> Result<Vec<Instance>, CloudError> {
        nothing()
    }
    async fn scheduled_events(&self, _: &Region) -> Result<BTreeMap<InstanceId, ScheduledEvent>, CloudError> {
        nothing()
    }
    async fn terminate(&self, _: &Region, _: &InstanceId) -> Result<(), CloudError> {
        nothing()
    }
    async fn receive_notices(&self, _: &Region, _: &str) -> Result<Vec<QueueMessage>, CloudError> {
        nothing()
    }
    async fn acknowledge(&self, _: &Region, _: &str, _: &str) -> Result<(), CloudError> {
        nothing()
    }
}
