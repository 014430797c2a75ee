//! The simulated world as a whole: market, EC2, cluster, ledger, people and faults, and the events that are still to come.
//!
//! Decides: the order of events (by time, then by when they were put down), and what each does.
//! Does not: wait. [`super::run`] lets time pass.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::Notify;

use super::account::Account;
use super::chance::Chance;
use super::check::Checks;
use super::cutting::Cuts;
use super::ec2::{Ec2, Later, TAKEN_BACK};
use super::faults::{Faults, Trouble};
use super::forging::Forgers;
use super::history::History;
use super::kube::{Kube, Replicated, Stored};
use super::maintenance::Maintenance;
use super::market::{SimMarket, Turn, ZONES};
use super::people::{Deed, People};
use super::turnover::Turnover;
use crate::core::fleet::{LaunchTemplate, NodeClass};
use crate::core::invariant::Fault;
use crate::core::market::CapacityType;
use crate::core::market::catalog::Catalog;
use crate::core::record::LedgerRecord;
use crate::core::units::ids::{ClaimName, ClassName, InstanceId, NodeName, Region, Uid};
use crate::core::units::time::{Millis, Timestamp};
use crate::core::workload::PodPhase;

/// The owner of a bare pod looks after it this often.
const OWNER_LOOKS_EVERY: Millis = Millis::from_mins(20);

/// The cluster's name.
pub const CLUSTER: &str = "sim";

/// Who makes a pod, and makes it again.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Owner {
    /// A Deployment or a StatefulSet, by name.
    Replicated(String),
    /// A Job, by name.
    Job(String),
    /// Nobody's: a bare pod, by its own name.
    Nobody(String),
}

/// What happens at a moment that was set before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The market moves.
    Market(Turn),
    /// EC2 says of every machine in the pool with this index that it is at risk.
    AtRisk(usize),
    /// EC2 schedules something for some machine.
    EventScheduled,
    /// The date of what EC2 has scheduled for a machine.
    ScheduledComes(InstanceId),
    /// What EC2 has scheduled for a machine will not be.
    CalledOff(InstanceId),
    /// Somebody changes a node class.
    ClassChanges,
    /// A message can be received.
    MessageComes,
    /// An instance is running.
    Runs(InstanceId),
    /// A machine's kubelet joins.
    Joins(InstanceId),
    /// EC2 takes a machine that it had announced.
    TakenBack(InstanceId),
    /// A machine has ended.
    MachineGone(InstanceId),
    /// A node has been silent for too long.
    NodeSilent(NodeName),
    /// A controller looks at its pods.
    Reconciles(Owner),
    /// The scheduler looks at a pod.
    Schedules(Uid),
    /// A pod has started.
    PodStarts(Uid),
    /// A pod that was asked to end has ended.
    PodEnds(Uid),
    /// A pod object is removed, whatever its kubelet thinks.
    PodRemoved(Uid),
    /// The pod of a deleted Node is collected.
    PodCollected(Uid),
    /// A Job's pod has done its work.
    WorkDone(Uid),
    /// The watches show what is there.
    WatchesShow,
    /// Somebody does something.
    Done(Deed),
    /// A workload that was deleted is created again.
    Recreate(String, Box<Replicated>),
    /// The owner of a bare pod looks whether it runs.
    OwnerLooks(Uid),
    /// What another version wrote can be read again.
    Readable(ClaimName),
    /// The next trouble.
    Trouble,
    /// The control plane is restored from an old backup.
    BackupRestored,
    /// The definition of node pools is deleted.
    PoolsUndefined,
    /// It is applied again.
    PoolsDefined,
    /// So are the pools.
    PoolsApplied,
    /// Somebody adopts machines whose claims are missing; this many looks are left.
    Adopts(u32),
    /// Somebody registers a Node that says it is a machine of ours.
    NodeForged,
    /// Somebody finds it and takes it away.
    ForgedNodeGoes(NodeName),
    /// Somebody takes the taint of its claim off a node.
    NodeBared,
    /// The kubelets of a region can no longer reach the API server.
    KubeletsCutOff,
    /// They can again.
    KubeletsBack,
}

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
    /// Troubles that only [`super::run`] can bring about.
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

    fn happens(&mut self, event: Event, now: Timestamp, later: &mut Later) {
        match event {
            Event::Market(turn) => self.market_turns(turn, now, later),
            Event::AtRisk(index) => self.call_at_risk(index, now, later),
            Event::EventScheduled => self.ec2_schedules(now, later),
            Event::ScheduledComes(id) => self.scheduled_comes(&id, now, later),
            Event::ClassChanges => self.class_changes(now, later),
            Event::CalledOff(id) => self.ec2.call_off(&id, now, later),
            Event::MessageComes => self.readers.iter().for_each(|reader| reader.notify_one()),
            Event::Runs(id) => {
                if let Some(machine) = self.ec2.machines.get_mut(&id).filter(|m| m.alive()) {
                    machine.instance.state = crate::core::fleet::InstanceState::Running;
                }
            }
            Event::Joins(id) => {
                if let Some(machine) = self.ec2.machines.get(&id).cloned() {
                    if let Some(until) = self.kube.cut_until(&machine.instance.capacity.region, now) {
                        return later.push((until + Millis::from_secs(5), Event::Joins(id)));
                    }
                    self.kube.joins(&machine, &self.catalog, now);
                    self.say(&format!("{id} joins: {:?}", machine.boot));
                }
            }
            Event::TakenBack(id) => {
                self.say(&format!("EC2 takes {id}"));
                self.ec2.end(&id, TAKEN_BACK, now, later);
            }
            Event::MachineGone(id) => self.kube.machine_gone(&id, now, later),
            Event::NodeSilent(name) => self.kube.node_silent(&name, now),
            Event::Reconciles(owner) => self.kube.reconcile(&owner, now, later),
            Event::Schedules(uid) => self.kube.schedule(&uid, now, later),
            Event::PodStarts(uid) => self.kube.starts(&uid, now, later),
            Event::PodEnds(uid) => self.kube.ends(&uid, now, later),
            Event::PodRemoved(uid) => self.kube.removed(&uid, now, later),
            Event::PodCollected(uid) => {
                let orphan =
                    self.kube.pods.get(&uid).and_then(|p| p.object.pod.node.clone()).is_some_and(|n| !self.kube.nodes.contains_key(&n));
                if orphan {
                    self.kube.removed(&uid, now, later);
                }
            }
            Event::WorkDone(uid) => self.kube.work_done(&uid, now, later),
            Event::WatchesShow => {
                if now < self.faults.stale_until || now < self.faults.api_away_until {
                    let until = self.faults.stale_until.max(self.faults.api_away_until);
                    later.push((until + self.faults.watch_lag(), Event::WatchesShow));
                } else {
                    self.watches_will_show = false;
                    self.kube.show();
                    self.watchers.iter().for_each(|watcher| watcher.notify_one());
                }
            }
            Event::Done(deed) => self.somebody_does(deed, now, later),
            Event::Recreate(name, work) => {
                self.say(&format!("somebody creates {} {name} again", work.keeper.kind()));
                self.kube.put_replicated(&name, *work);
                later.push((now + Millis(300), Event::Reconciles(Owner::Replicated(name))));
            }
            Event::OwnerLooks(uid) => self.owner_looks(&uid, now, later),
            Event::Readable(name) => self.kube.make_unreadable(&name, false),
            Event::Trouble => self.trouble_comes(now, later),
            Event::BackupRestored => self.backup_is_restored(now, later),
            Event::PoolsUndefined => self.pools_are_undefined(now, later),
            Event::PoolsDefined => self.pools_are_defined(now, later),
            Event::PoolsApplied => self.kube.show_pools(true),
            Event::Adopts(looks) => self.somebody_adopts(looks, now, later),
            Event::NodeForged => self.somebody_forges_a_node(now, later),
            Event::ForgedNodeGoes(name) => self.kube.take_node(&name),
            Event::NodeBared => self.somebody_bares_a_node(now, later),
            Event::KubeletsCutOff => self.kubelets_are_cut_off(now, later),
            Event::KubeletsBack => self.kube.heard_again(now, later),
        }
    }

    fn market_turns(&mut self, turn: Turn, now: Timestamp, later: &mut Later) {
        if self.faults.quiet {
            return;
        }
        let again = self.market.turn(turn, now);
        later.push((again, Event::Market(turn)));
        self.warn_early(turn, again, now, later);
        if matches!(turn, Turn::Price(_)) {
            return;
        }
        for (index, ids) in self.ec2.beyond(&self.market) {
            let pool = self.market.pools[index].capacity.clone();
            for id in ids {
                self.say(&format!("EC2 will take {id} ({pool})"));
                // One in four was said to be at risk before; here that comes with the notice.
                if self.of_notices.happens(250) {
                    self.ec2.recommend_rebalance(&id, now, later);
                }
                self.ec2.doom(&id, now, later);
            }
        }
        // Machines that were not taken may still be called at risk.
        let alive: Vec<InstanceId> = self.ec2.alive().filter(|m| m.doomed_at.is_none()).map(|m| m.instance.id.clone()).collect();
        if self.of_notices.happens(20)
            && let Some(id) = self.of_notices.one_of(&alive).cloned()
        {
            self.ec2.recommend_rebalance(&id, now, later);
        }
    }

    /// Before a pool falls short EC2 says so in two of five cases, minutes before, of every machine there; and at times of a pool that does not.
    fn warn_early(&mut self, turn: Turn, again: Timestamp, now: Timestamp, later: &mut Later) {
        if let Turn::Capacity(index) = turn
            && self.market.is_up(index)
        {
            let at = again - self.of_warnings.span(Millis::from_mins(2), Millis::from_mins(45));
            if self.of_warnings.happens(400) && at > now {
                later.push((at, Event::AtRisk(index)));
            }
        }
        if self.of_warnings.happens(30)
            && let Some(at) = self.ec2.alive().map(|m| m.instance.capacity.clone()).nth(0)
            && let Some(index) = self.market.index_of(&at)
        {
            later.push((now, Event::AtRisk(index)));
        }
    }

    fn call_at_risk(&mut self, index: usize, now: Timestamp, later: &mut Later) {
        if self.faults.quiet {
            return;
        }
        let capacity = self.market.pools[index].capacity.clone();
        let here = self.ec2.alive().filter(|m| m.doomed_at.is_none() && m.instance.capacity == capacity);
        let spot = here.filter(|m| m.instance.capacity.capacity_type == CapacityType::Spot);
        let ids: Vec<InstanceId> = spot.map(|m| m.instance.id.clone()).collect();
        if !ids.is_empty() {
            self.say(&format!("EC2 calls {} machines in {capacity} at risk", ids.len()));
        }
        ids.iter().for_each(|id| self.ec2.recommend_rebalance(id, now, later));
    }

    fn somebody_does(&mut self, deed: Deed, now: Timestamp, later: &mut Later) {
        if self.faults.quiet {
            return;
        }
        later.push((self.people.again(&deed, now), Event::Done(deed.clone())));
        let names: Vec<String> = self.kube.replicated.keys().cloned().collect();
        match deed {
            Deed::Scale => {
                let Some((name, work)) = self.people.choose(&names).and_then(|name| self.kube.replicated.get_key_value(name)) else {
                    return;
                };
                let (name, replicas) = (name.clone(), self.people.replicas(work));
                self.kube.scale(&name, replicas);
                self.say(&format!("somebody scales {name} to {replicas}"));
                later.push((now + Millis(200), Event::Reconciles(Owner::Replicated(name))));
            }
            Deed::Submit => {
                let (name, mut job) = self.people.job(now, &self.account, &mut self.kube.volumes);
                self.turnover.ask_for_peace(&mut job.template);
                self.say(&format!("somebody submits Job {name}: {} of work", job.work));
                self.kube.put_job(&name, job);
                later.push((now + Millis(200), Event::Reconciles(Owner::Job(name))));
            }
            Deed::StartNotebook => {
                let (name, template, work) = self.people.notebook(&self.account, &mut self.kube.volumes);
                self.say(&format!("somebody starts the bare pod {name} for {work}"));
                let uid = self.kube.make_bare_pod(&template, &name, work, now);
                later.push((now + OWNER_LOOKS_EVERY, Event::OwnerLooks(uid)));
            }
            Deed::DeleteClaim => {
                let claims: Vec<_> = self.kube.claims.values().map(|Stored { object, .. }| object.clone()).collect();
                let Some(mut claim) = self.people.choose(&claims).cloned() else { return };
                self.say(&format!("somebody deletes claim {}", claim.name));
                claim.deleting = true;
                self.kube.put_claim(claim);
            }
            Deed::Redeploy => {
                let Some(name) = self.people.choose(&names).cloned() else { return };
                let Some(mut work) = self.kube.remove_replicated(&name) else { return };
                self.say(&format!("somebody deletes {} {name}", work.keeper.kind()));
                later.push((now + Millis(200), Event::Reconciles(Owner::Replicated(name.clone()))));
                let own = work.controller == work.uid;
                work.uid = Uid::from(format!("{}-{name}-{}", work.keeper.kind().to_lowercase(), now.0));
                work.controller = if own { work.uid.clone() } else { Uid::from(format!("replica-set-{name}-{}", now.0)) };
                later.push((now + Millis::from_mins(10), Event::Recreate(name, Box::new(work))));
            }
        }
    }

    /// Nobody makes a bare pod again: its owner, who reads that it does not start, deletes it.
    fn owner_looks(&mut self, uid: &Uid, now: Timestamp, later: &mut Later) {
        let Some(pod) = self.kube.pods.get(uid).map(|p| p.object.clone()).filter(|p| !p.pod.finished()) else { return };
        let stuck = pod.pod.phase == PodPhase::Pending && pod.pod.node.is_none() && pod.pod.deleting_until.is_none();
        if stuck && pod.pod.stuck.as_ref().is_some_and(|stuck| now.since(stuck.since) > OWNER_LOOKS_EVERY) {
            self.say(&format!("the owner of {} gives it up", pod.pod.identity.object.name));
            self.kube.end_pod(&pod, now, later);
        }
        later.push((now + OWNER_LOOKS_EVERY, Event::OwnerLooks(uid.clone())));
    }

    fn trouble_comes(&mut self, now: Timestamp, later: &mut Later) {
        if self.faults.quiet {
            return;
        }
        if let Some(at) = self.faults.next_trouble(now) {
            later.push((at, Event::Trouble));
        }
        let trouble = self.faults.draw_trouble();
        self.say(&format!("trouble: {trouble:?}"));
        match trouble {
            Trouble::LedgerAway(span) => self.faults.ledger_away_until = now + span,
            Trouble::ApiAway(span) => self.faults.api_away_until = now + span,
            Trouble::Stale(span) => self.faults.stale_until = now + span,
            Trouble::QueuesDenied(span) => self.faults.queues_denied_until = now + span,
            Trouble::Throttled(span) => self.faults.throttled_until = now + span,
            Trouble::AdmitsNothing(span) => self.kube.admits_nothing = (now, now + span),
            Trouble::UnreadableClaim(span) => {
                let claims: Vec<ClaimName> = self.kube.claims.keys().cloned().collect();
                if let Some(name) = self.of_words.one_of(&claims).cloned() {
                    self.say(&format!("another version writes into {name} what this one cannot read"));
                    self.kube.make_unreadable(&name, true);
                    later.push((now + span, Event::Readable(name)));
                }
            }
            Trouble::SecondOperator(span) => {
                super::check::two_lead_until(&mut self.checks, now + span);
                self.troubles.push(trouble);
                self.stirred.notify_one();
            }
            Trouble::ClockJumps(_) | Trouble::Crash | Trouble::EmptyApiServer(_) => {
                self.troubles.push(trouble);
                self.stirred.notify_one();
            }
        }
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
