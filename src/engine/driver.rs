//! One pass after the other, and sleep until something changes.
//!
//! Decides: nothing about the world; only when a pass runs.
//! Does not: wait for an action. A notice overtakes a launch that EC2 keeps waiting.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tracing::info;

use super::observe::due::LooksDue;
use super::state::{State, Survey};
use crate::core::plan::{Planner, Settings, planner};
use crate::core::units::ids::Region;
use crate::core::units::shared::Mark;
use crate::core::units::time::Millis;
use crate::ports::{Clock, Cloud, Cluster, Ledger};

/// How often the world outside the cluster is read, and what was learned is saved.
#[derive(Debug, Clone)]
pub struct Intervals {
    /// Spot prices of a region, at most this long apart.
    pub spot_prices: Duration,
    /// List prices of a region, at most this long apart.
    pub list_prices: Duration,
    /// Types and offerings of a region.
    pub catalog: Duration,
    /// Instances of a region: the fallback for the queues.
    pub instances: Duration,
    /// The outbox, for records that another process left there, and whether Postgres answers.
    pub outbox: Duration,
    /// Changes that arrive within this time are planned together.
    pub burst: Duration,
    /// Records that arrive within this time are delivered together.
    pub gathering: Duration,
    /// The world is observed at least this often, with or without events.
    pub heartbeat: Millis,
    /// vCPU quotas of a region.
    pub quotas: Duration,
    /// Capacity reservations of a region, if a class lists any.
    pub reservations: Duration,
    /// What EC2 has scheduled for instances of a region. It says so days ahead, at worst hours.
    pub scheduled_events: Duration,
    /// Spot placement scores of all regions.
    pub scores: Duration,
    /// A region that is closed to the account.
    pub closed_regions: Duration,
    /// Longest interval between saves of the market memory; a cool-down is saved at once.
    pub memory: Duration,
    /// Interval at which price changes are stored.
    pub stored_prices: Duration,
}

impl Default for Intervals {
    fn default() -> Self {
        Intervals {
            spot_prices: Duration::from_secs(30),
            list_prices: Duration::from_secs(900),
            catalog: Duration::from_secs(6 * 3600),
            instances: Duration::from_secs(10),
            quotas: Duration::from_secs(600),
            reservations: Duration::from_secs(30),
            scheduled_events: Duration::from_secs(300),
            scores: Duration::from_secs(3600),
            closed_regions: Duration::from_secs(300),
            memory: Duration::from_secs(60),
            stored_prices: Duration::from_secs(10),
            outbox: Duration::from_secs(5),
            burst: Duration::from_millis(20),
            gathering: Duration::from_millis(50),
            heartbeat: Millis::from_secs(2),
        }
    }
}

/// The regions and queues whose loops run.
#[derive(Default)]
struct LookedAfter {
    loops: BTreeSet<(Region, Option<String>)>,
    /// The classes as last read.
    classes: Option<Mark>,
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
    /// What applies to every pool.
    pub settings: Settings,
    /// How often the world is read.
    pub intervals: Intervals,
    pub(super) planner: Planner,
    pub(super) state: Mutex<State>,
    pub(super) wake: Notify,
    pub(super) look_at_instances: LooksDue,
    pub(super) look_at_scheduled: LooksDue,
    /// Woken when a record was written to the outbox.
    pub(super) outbox_filled: Notify,
    /// The steps being executed.
    pub(super) steps: Mutex<JoinSet<()>>,
    pub(super) memory_changed: Notify,
}

impl<C: Cloud, K: Cluster, L: Ledger, T: Clock + 'static> Engine<C, K, L, T> {
    /// An engine that has seen nothing yet.
    pub fn new(cloud: C, cluster: K, ledger: L, clock: T, cluster_name: String, settings: Settings, intervals: Intervals) -> Arc<Self> {
        Self::with_planner((cloud, cluster, ledger, clock), cluster_name, settings, intervals, planner())
    }

    /// An engine that uses `planner` instead of [`crate::core::plan::plan`].
    pub fn with_planner(
        (cloud, cluster, ledger, clock): (C, K, L, T),
        cluster_name: String,
        settings: Settings,
        intervals: Intervals,
        planner: Planner,
    ) -> Arc<Self> {
        Arc::new(Engine {
            cloud: Arc::new(cloud),
            cluster: Arc::new(cluster),
            ledger: Arc::new(ledger),
            clock: Arc::new(clock),
            cluster_name,
            settings,
            intervals,
            planner,
            state: Mutex::new(State::starting_from(super::counting::at_zero())),
            wake: Notify::new(),
            look_at_instances: LooksDue::default(),
            look_at_scheduled: LooksDue::default(),
            outbox_filled: Notify::new(),
            steps: Mutex::default(),
            memory_changed: Notify::new(),
        })
    }

    /// Of the admission policies that are watched, this number does not hold.
    pub fn note_absent_policies(&self, absent: usize) {
        self.state().absent_policies = absent;
    }

    /// The memory. A panic elsewhere does not make it unusable: every pass reads it afresh.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs until `stop` says so: passes only while `leading`, observation always, so that a new leader starts warm.
    pub async fn run(self: Arc<Self>, mut leading: watch::Receiver<bool>, mut stop: watch::Receiver<bool>) {
        let mut looked_after = LookedAfter::default();
        let mut loops = JoinSet::new();
        let mut settled = None;
        loops.spawn(Arc::clone(&self).deliver_outbox(leading.clone()));
        loops.spawn(Arc::clone(&self).keep_memory(leading.clone()));
        loops.spawn(Arc::clone(&self).store_prices(leading.clone()));
        loops.spawn(Arc::clone(&self).watch_scores());
        loop {
            self.look_after_regions(&mut looked_after, &mut loops);
            let next = if *leading.borrow() { self.pass(&mut settled) } else { None };
            let now = self.clock.now();
            let heartbeat = now + self.intervals.heartbeat;
            let sleep = next.unwrap_or(heartbeat).min(heartbeat).since(now).0.max(10);
            tokio::select! {
                // In a fixed order: the same history gives the same passes.
                biased;
                _ = stop.changed() => break,
                _ = leading.changed() => self.state().leadership_changed(),
                () = self.cluster.changed() => {}
                () = self.wake.notified() => {}
                () = tokio::time::sleep(Duration::from_millis(u64::try_from(sleep).unwrap_or(1_000))) => {}
            }
            tokio::time::sleep(self.intervals.burst).await;
        }
        // All running actions are safe to cancel: what they requested is written in the claims.
        self.cut_steps();
    }

    /// Stops the running steps wherever they are, as the end of the process would.
    pub fn cut_steps(&self) {
        self.steps.lock().unwrap_or_else(PoisonError::into_inner).abort_all();
    }

    /// Starts the loops of regions and queues that have appeared in classes.
    fn look_after_regions(self: &Arc<Self>, looked_after: &mut LookedAfter, loops: &mut JoinSet<()>) {
        let Some(view) = self.cluster.view() else { return };
        if looked_after.classes.replace(view.classes.mark()).is_some_and(|before| view.classes.is(&before)) {
            return;
        }
        let known = &mut looked_after.loops;
        for class in view.classes.values() {
            if known.insert((class.region.clone(), None)) {
                info!(region = %class.region, "watching the market and our instances");
                let now = self.clock.now();
                self.state().surveys.insert(class.region.clone(), Survey::begun(now));
                loops.spawn(Arc::clone(self).watch_spot_prices(class.region.clone()));
                loops.spawn(Arc::clone(self).watch_list_prices(class.region.clone()));
                loops.spawn(Arc::clone(self).watch_instances(class.region.clone()));
                loops.spawn(Arc::clone(self).watch_scheduled_events(class.region.clone()));
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
}
