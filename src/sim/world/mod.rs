//! The simulated world as a whole: market, EC2, cluster, ledger, people and faults, and the events that are still to come.
//!
//! Decides: the order of events (by time, then by when they were put down), and what is there when the world opens. What each does is in [`happening`].
//! Does not: wait. [`crate::sim::run`] lets time pass.

mod happening;

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::Notify;

use crate::core::fleet::{LaunchTemplate, NodeClass};
use crate::core::invariant::Fault;
use crate::core::market::CapacityType;
use crate::core::market::catalog::Catalog;
use crate::core::record::LedgerRecord;
use crate::core::units::ids::{ClassName, Region};
use crate::core::units::time::{Millis, Timestamp};
use crate::sim::account::Account;
use crate::sim::chance::Chance;
use crate::sim::check::Checks;
use crate::sim::cutting::Cuts;
use crate::sim::ec2::{Ec2, Later};
use crate::sim::event::{Event, Owner};
use crate::sim::faults::{Faults, Trouble};
use crate::sim::forging::Forgers;
use crate::sim::history::History;
use crate::sim::kube::Kube;
use crate::sim::maintenance::Maintenance;
use crate::sim::market::{SimMarket, ZONES};
use crate::sim::people::People;
use crate::sim::turnover::Turnover;

/// The cluster's name.
pub const CLUSTER: &str = "sim";

/// Postgres, as far as the operator can tell.
#[derive(Debug, Default)]
pub struct SimLedger {
    /// Rows by id.
    pub rows: BTreeMap<uuid::Uuid, Arc<LedgerRecord>>,
}

/// Everything.
pub struct World {
    began: tokio::time::Instant,
    pub(super) epoch: Timestamp,
    /// The market.
    pub market: SimMarket,
    /// The account: quotas, a reservation, placement scores, shared GPUs.
    pub account: Account,
    /// EC2.
    pub ec2: Ec2,
    /// The cluster.
    pub kube: Kube,
    /// Postgres.
    pub ledger: SimLedger,
    /// Machine types.
    pub catalog: Arc<Catalog>,
    /// What goes wrong.
    pub faults: Faults,
    /// Who forges what.
    pub forgers: Forgers,
    /// What happened.
    pub history: History,
    /// The invariants and what they must remember.
    pub checks: Checks,
    /// Broken invariants; the first ends the run.
    pub broken: Vec<Fault>,
    /// Troubles that only [`crate::sim::run`] can bring about.
    pub troubles: Vec<Trouble>,
    people: People,
    pub(super) maintenance: Maintenance,
    pub(super) turnover: Turnover,
    pub(super) cuts: Cuts,
    of_notices: Chance,
    of_warnings: Chance,
    of_words: Chance,
    of_labels: Chance,
    pub(super) of_restores: Chance,
    pub(super) of_definitions: Chance,
    /// Who takes taints off.
    pub(super) of_taints: Chance,
    queue: BTreeMap<(Timestamp, u64), Event>,
    put_down: u64,
    watches_will_show: bool,
    /// Woken when an event is put down, and when the run should look at [`World::broken`] or [`World::troubles`].
    pub stirred: Arc<Notify>,
    /// Woken when watches show something new, one per operator.
    pub watchers: Vec<Arc<Notify>>,
    /// Woken when a message comes, one per region and operator.
    pub readers: Vec<Arc<Notify>>,
}

impl World {
    /// The world of `seed`, opening now. Must be called on a runtime whose clock is paused.
    pub fn open(seed: u64, faults: Faults, loud: bool) -> World {
        let epoch = Timestamp::from_date(2026, 7, 1);
        let (market, turns) = SimMarket::open(seed, epoch);
        let account = Account::open(seed, &market, epoch);
        let mut world = World {
            began: tokio::time::Instant::now(),
            epoch,
            market,
            account,
            ec2: Ec2::new(seed),
            kube: Kube::of(format!("kube-system-of-{seed}")),
            ledger: SimLedger::default(),
            catalog: Arc::new(Catalog::snapshot()),
            forgers: Forgers::new(seed, faults.level()),
            cuts: Cuts::new(seed, faults.level()),
            faults,
            history: History::new(epoch, loud),
            checks: Checks::default(),
            broken: Vec::new(),
            troubles: Vec::new(),
            people: People::new(seed),
            maintenance: Maintenance::new(seed),
            turnover: Turnover::new(seed),
            of_notices: Chance::new(seed, "rebalance"),
            of_warnings: Chance::new(seed, "early warnings"),
            of_words: Chance::new(seed, "words of another version"),
            of_labels: Chance::new(seed, "labels of nodes"),
            of_restores: Chance::new(seed, "restored backups"),
            of_definitions: Chance::new(seed, "deleted definitions"),
            of_taints: Chance::new(seed, "taints taken off"),
            queue: BTreeMap::new(),
            put_down: 0,
            watches_will_show: true,
            stirred: Arc::new(Notify::new()),
            watchers: Vec::new(),
            readers: Vec::new(),
        };
        turns.into_iter().for_each(|(at, turn)| world.put(at, Event::Market(turn)));
        world.furnish(epoch);
        world.ec2.settle_neighbours(CLUSTER, &world.market.pools[0].capacity, epoch);
        if let Some(at) = world.faults.next_trouble(epoch) {
            world.put(at, Event::Trouble);
        }
        if let Some(at) = super::restoring::first(seed, world.faults.level(), epoch) {
            world.put(at, Event::BackupRestored);
        }
        if let Some(at) = super::undefining::first(seed, world.faults.level(), epoch) {
            world.put(at, Event::PoolsUndefined);
        }
        if let Some(at) = world.cuts.next(epoch) {
            world.put(at, Event::KubeletsCutOff);
        }
        let at = world.maintenance.next(epoch);
        world.put(at, Event::EventScheduled);
        let at = world.turnover.next(epoch);
        world.put(at, Event::ClassChanges);
        if world.forgers.nodes() {
            let at = world.forgers.next(epoch);
            world.put(at, Event::NodeForged);
        }
        if let Some(at) = super::baring::next(&mut world.of_taints, world.faults.level(), epoch) {
            world.put(at, Event::NodeBared);
        }
        world
    }

    /// Pools, classes and the first workloads.
    fn furnish(&mut self, now: Timestamp) {
        let mut classes: Vec<ClassName> = Vec::new();
        for region in self.market.regions().to_vec() {
            let class = ClassName::from(format!("class-{region}"));
            let subnets = ZONES.iter().filter(|(r, _)| *r == region.as_str()).map(|(_, zone)| format!("subnet-{zone}")).collect();
            self.kube.put_class(NodeClass {
                name: class.clone(),
                region: region.clone(),
                subnets,
                zones: BTreeMap::new(),
                problem: None,
                interruption_queue: Some("lowtide".into()),
                launch_template: None,
                tags: BTreeMap::new(),
                sharing: self.account.sharing(&region),
                reservations: self.account.named_in(&region),
                node_labels: BTreeMap::new(),
                zone_names: BTreeMap::new(),
                taints: Vec::new(),
                root_volume: None,
                reserve: Default::default(),
                images: Default::default(),
                startup_taints: Vec::new(),
            });
            self.kube.templates.insert(class.clone(), template_of(&class, &region));
            classes.push(class);
        }
        self.kube.mislabels = self.of_labels.happens(300);
        let mut pool = self.people.pool(classes);
        pool.quiet_hours = self.maintenance.quiet_hours();
        pool.disruption = self.turnover.disruption();
        if self.account.reservation.is_some() {
            pool.capacity_types.insert(CapacityType::Reserved);
        }
        self.kube.put_pool(pool);
        for (name, mut work) in self.people.replicated(&self.account, &mut self.kube.volumes) {
            self.turnover.ask_for_peace(&mut work.template);
            self.kube.put_replicated(&name, work);
            self.put(now + Millis::from_secs(20), Event::Reconciles(Owner::Replicated(name)));
        }
        for (at, deed) in self.people.first_deeds(now) {
            self.put(at, Event::Done(deed));
        }
        self.put(now, Event::WatchesShow);
    }

    /// The time, as everybody but an operator with a wrong clock sees it.
    pub fn now(&self) -> Timestamp {
        self.epoch + Millis(i64::try_from(self.began.elapsed().as_millis()).unwrap_or(i64::MAX))
    }

    /// The moment as the runtime counts.
    pub fn instant(&self, at: Timestamp) -> tokio::time::Instant {
        self.began + std::time::Duration::from_millis(u64::try_from(at.since(self.epoch).0).unwrap_or(0))
    }

    /// Puts an event down for later.
    pub fn put(&mut self, at: Timestamp, event: Event) {
        self.put_down += 1;
        self.queue.insert((at, self.put_down), event);
    }

    /// When the next event is due.
    pub fn next_event(&self) -> Option<Timestamp> {
        self.queue.keys().next().map(|(at, _)| *at)
    }

    /// Lets everything happen that is due, and checks after each.
    pub fn run_due(&mut self) {
        let now = self.now();
        while let Some(entry) = self.queue.first_entry().filter(|entry| entry.key().0 <= now) {
            let event = entry.remove();
            let mut later = Vec::new();
            self.happens(event, now, &mut later);
            self.settle(now, later);
        }
    }

    /// What must follow every step: later events are put down, watches will show, invariants are checked.
    pub fn settle(&mut self, now: Timestamp, later: Later) {
        let stirs = !later.is_empty();
        later.into_iter().for_each(|(at, event)| self.put(at, event));
        if self.kube.changed() && !self.watches_will_show {
            let at = now.max(self.faults.stale_until) + self.faults.watch_lag();
            self.watches_will_show = true;
            self.put(at, Event::WatchesShow);
        }
        super::check::after_step(self, now);
        if stirs || self.kube.changed() || !self.broken.is_empty() {
            self.stirred.notify_one();
        }
    }

    /// A line of history.
    pub fn say(&mut self, text: &str) {
        let now = self.now();
        self.history.say(now, text);
    }
}

fn template_of(class: &ClassName, region: &Region) -> LaunchTemplate {
    LaunchTemplate {
        region: region.clone(),
        class: class.clone(),
        name: format!("lowtide-{region}"),
        image: Some("ami-sim".into()),
        security_groups: vec!["sg-sim".into()],
        instance_profile: None,
        settings: Default::default(),
        user_data: String::new(),
        client_token: format!("template-{region}"),
    }
}
