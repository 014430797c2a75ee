//! One pass after the other: observe, plan, hand the steps out, sleep until something changes.
//!
//! Decides: nothing about the world; only when a pass runs.
//! Does not: wait for an action. A notice overtakes a launch that EC2 keeps waiting.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tracing::{info, warn};

use super::ports::{Clock, Cloud, Cluster, Ledger};
use super::state::{State, Survey};
use crate::core::ids::Region;
use crate::core::plan::{Settings, plan};
use crate::core::time::{Millis, Timestamp};

/// Changes that come in a burst are planned once.
const DEBOUNCE: Duration = Duration::from_millis(20);
/// A pass runs at least this often, whatever is or is not heard.
const HEARTBEAT: Millis = Millis::from_secs(2);

/// How often the world outside the cluster is looked at, and what was learnt written down.
#[derive(Debug, Clone)]
pub struct Schedule {
    /// Spot prices of a region, at most this long apart.
    pub spot_prices: Duration,
    /// List prices of a region, at most this long apart.
    pub list_prices: Duration,
    /// Types and offerings of a region.
    pub catalog: Duration,
    /// Instances of a region: the net below the queues.
    pub instances: Duration,
    /// vCPU quotas of a region.
    pub quotas: Duration,
    /// Capacity reservations of a region, where a class names some.
    pub reservations: Duration,
    /// Spot placement scores of all regions.
    pub scores: Duration,
    /// A region that is closed to the account.
    pub closed_regions: Duration,
    /// How far apart the market memory is kept at most; a cool-down is kept at once.
    pub memory: Duration,
    /// How far apart price changes are stored.
    pub stored_prices: Duration,
}

impl Default for Schedule {
    fn default() -> Self {
        Schedule {
            spot_prices: Duration::from_secs(30),
            list_prices: Duration::from_secs(45),
            catalog: Duration::from_secs(6 * 3600),
            instances: Duration::from_secs(10),
            quotas: Duration::from_secs(600),
            reservations: Duration::from_secs(30),
            scores: Duration::from_secs(3600),
            closed_regions: Duration::from_secs(300),
            memory: Duration::from_secs(60),
            stored_prices: Duration::from_secs(10),
        }
    }
}

/// The four ports, the settings and the memory of one operator.
pub struct Engine<C, K, L, T> {
    /// EC2.
    pub cloud: Arc<C>,
    /// Kubernetes.
    pub cluster: Arc<K>,
    /// Postgres.
    pub ledger: Arc<L>,
    /// Time.
    pub clock: Arc<T>,
    /// The cluster's name.
    pub cluster_name: String,
    /// What holds for every pool.
    pub settings: Settings,
    /// How often the world is looked at.
    pub schedule: Schedule,
    pub(super) state: Mutex<State>,
    pub(super) wake: Notify,
    pub(super) look_at_instances: Notify,
    pub(super) memory_changed: Notify,
}

impl<C: Cloud, K: Cluster, L: Ledger, T: Clock + 'static> Engine<C, K, L, T> {
    /// An engine that has seen nothing yet.
    pub fn new(cloud: C, cluster: K, ledger: L, clock: T, cluster_name: String, settings: Settings, schedule: Schedule) -> Arc<Self> {
        Arc::new(Engine {
            cloud: Arc::new(cloud),
            cluster: Arc::new(cluster),
            ledger: Arc::new(ledger),
            clock: Arc::new(clock),
            cluster_name,
            settings,
            schedule,
            state: Mutex::new(State::default()),
            wake: Notify::new(),
            look_at_instances: Notify::new(),
            memory_changed: Notify::new(),
        })
    }

    /// The memory. A panic elsewhere does not make it unusable: every pass reads it afresh.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs until `stop` says so: passes only while `leading`, observation always, so that a new leader starts warm.
    pub async fn run(self: Arc<Self>, mut leading: watch::Receiver<bool>, mut stop: watch::Receiver<bool>) {
        let mut looked_after: std::collections::BTreeSet<(Region, Option<String>)> = Default::default();
        let deliveries = tokio::spawn(Arc::clone(&self).deliver_outbox(leading.clone()));
        let mut loops = tokio::task::JoinSet::new();
        loops.spawn(Arc::clone(&self).keep_memory(leading.clone()));
        loops.spawn(Arc::clone(&self).store_prices(leading.clone()));
        loops.spawn(Arc::clone(&self).watch_scores());
        loop {
            self.look_after_regions(&mut looked_after, &mut loops);
            let next = if *leading.borrow() { self.pass() } else { None };
            let now = self.clock.now();
            let sleep = next.unwrap_or(now + HEARTBEAT).min(now + HEARTBEAT).since(now).0.max(10);
            tokio::select! {
                () = self.cluster.changed() => {}
                () = self.wake.notified() => {}
                _ = leading.changed() => {}
                _ = stop.changed() => break,
                () = tokio::time::sleep(Duration::from_millis(u64::try_from(sleep).unwrap_or(1_000))) => {}
            }
            tokio::time::sleep(DEBOUNCE).await;
        }
        // Running actions are all safe to cut: what they asked for is written in the claims.
        loops.abort_all();
        deliveries.abort();
    }

    /// Starts the loops of regions and queues that classes have come to name.
    fn look_after_regions(
        self: &Arc<Self>,
        known: &mut std::collections::BTreeSet<(Region, Option<String>)>,
        loops: &mut tokio::task::JoinSet<()>,
    ) {
        let Some(view) = self.cluster.view() else { return };
        for class in view.classes.values() {
            if known.insert((class.region.clone(), None)) {
                info!(region = %class.region, "watching the market and our instances");
                let now = self.clock.now();
                self.state().surveys.insert(class.region.clone(), Survey::begun(now));
                loops.spawn(Arc::clone(self).watch_spot_prices(class.region.clone()));
                loops.spawn(Arc::clone(self).watch_list_prices(class.region.clone()));
                loops.spawn(Arc::clone(self).watch_instances(class.region.clone()));
                loops.spawn(Arc::clone(self).watch_quotas(class.region.clone()));
                loops.spawn(Arc::clone(self).watch_reservations(class.region.clone()));
            }
            if let Some(queue) = &class.interruption_queue
                && known.insert((class.region.clone(), Some(queue.clone())))
            {
                loops.spawn(Arc::clone(self).watch_queue(class.region.clone(), queue.clone()));
            }
        }
    }

    /// One pass. Says when the next one is due.
    fn pass(self: &Arc<Self>) -> Option<Timestamp> {
        let view = self.cluster.view()?;
        let now = self.clock.now();
        let snapshot = {
            let mut state = self.state();
            state.passes += 1;
            state.snapshot(&self.cluster_name, view, now)
        };
        let planned = plan(&self.settings, &snapshot, now);
        for fault in crate::core::invariant::check(&snapshot) {
            warn!(invariant = fault.invariant, "{}", fault.text);
        }
        for note in &planned.notes {
            info!("{note}");
        }
        for step in planned.steps {
            self.dispatch(step);
        }
        planned.wake_at
    }
}
