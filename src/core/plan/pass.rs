//! What the rules of one pass share: the world with its indexes, what this pass has taken for itself, and the steps so far.
//!
//! Decides: that two steps never touch the same thing, and until when an unchanged world gives the same plan.
//! Does not: choose anything (see the rules beside it).

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;

use super::Settings;
use super::claims::queue::LaunchQueue;
use super::index::{Claims, Index, Notes};
use super::terms::Terms;
use crate::core::action::{Action, ClusterAction, Event, EventKind, EventSubject, Note, PodTarget, Step};
use crate::core::fleet::{Claim, FrozenLaunch, NodeClass, NodePool, Trigger};
use crate::core::market::reservation::ReservedOffer;
use crate::core::market::{Capacity, Offer};
use crate::core::placement::Learnt;
use crate::core::record::{Decision, LedgerRecord, Outcome, code_of};
use crate::core::snapshot::{Lane, Snapshot};
use crate::core::units::Resources;
use crate::core::units::alike::Alike;
use crate::core::units::ids::{ClaimName, ClassName, DecisionId, PoolName, Uid, ZoneId};
use crate::core::units::money::MicroUsd;
use crate::core::units::shared::Shared;
use crate::core::units::time::{Millis, Timestamp};
use crate::core::workload::Pod;
use crate::core::workload::labels::PodSelector;

/// The state of one pass: the world, what this pass has already claimed for itself, and the steps so far.
pub(super) struct Pass<'a> {
    pub(super) settings: &'a Settings,
    pub(super) world: &'a Snapshot,
    pub(super) now: Timestamp,
    /// The cluster's name, as every decision carries it.
    pub(super) cluster: Arc<str>,
    /// Offers of capacity reservations, as the classes name them.
    pub(super) reserved: &'a BTreeMap<Capacity, ReservedOffer>,
    /// Claims with the marks of this pass applied: a claim doomed in this pass takes no new work in this pass.
    pub(super) claims: Claims<'a>,
    /// What belongs together in the world.
    pub(super) index: Index<'a>,
    pub(super) busy: BTreeSet<Lane>,
    /// Old pods that got their replacement in this pass.
    pub(super) replaced: BTreeSet<Uid>,
    /// Pods that got their place in this pass, and the zone of each: rules between pods over zones count them.
    pub(super) placed: Vec<(&'a Pod, Capacity)>,
    /// Claims that got a pod in this pass: they are neither untaken nor empty.
    pub(super) taken: BTreeSet<ClaimName>,
    /// Claims whose machines have ended, and what they cost this month: they go once their pool's books name them.
    pub(super) closing: BTreeMap<PoolName, BTreeMap<Uid, MicroUsd>>,
    /// What every placement of this pass is asked under, once one is: known when the doomed claims are.
    pub(super) terms: OnceCell<Rc<Terms<'a>>>,
    /// Offers were weighed, or wait to be: prices age, cool-downs end, deadlines come nearer, so the next moment may give another plan.
    pub(super) weighed: bool,
    /// A rule has asked when a region was last looked at: another look may give another plan, whatever it shows.
    pub(super) looks_matter: Cell<bool>,
    /// Work is being saved in this pass: what can wait is planned in the next one, at once.
    pub(super) hurries: bool,
    /// Machines of which there is nothing to say, by their position among all claims.
    pub(super) resting: Vec<bool>,
    /// How many refusals of each namespace this pass records.
    pub(super) refused: BTreeMap<String, usize>,
    /// Machines whose end the breaker lets go on in this pass, and those that it keeps.
    pub(super) unasked_ends: u64,
    pub(super) held_ends: u64,
    /// When machines were given up lately, as this leader counted and as the claims say, once somebody asks.
    pub(super) ends_lately: OnceCell<[Vec<Timestamp>; 2]>,
    /// Claims that wait to be launched, by what their pool has before each, once one is launched.
    pub(super) queue: OnceCell<LaunchQueue>,
    /// Classes that can make nodes now, by node pool and zone.
    ready_classes: RefCell<BTreeMap<PoolName, Rc<BTreeMap<ZoneId, &'a NodeClass>>>>,
    /// What daemonsets request on a node of each class.
    daemonsets: RefCell<BTreeMap<ClassName, Resources>>,
    /// Node pools that admit a namespace.
    admitting: RefCell<BTreeMap<String, Shared<BTreeSet<PoolName>>>>,
    policy_hashes: RefCell<BTreeMap<PoolName, Arc<str>>>,
    /// What machines are launched with that are bought in this pass.
    launches: RefCell<Alike<FrozenLaunch>>,
    /// Where the pods stand that preferences select.
    standing: RefCell<BTreeMap<PodSelector, Rc<BTreeMap<Capacity, i64>>>>,
    pub(super) steps: Vec<Step>,
    pub(super) wake_at: Option<Timestamp>,
    pub(super) notes: Vec<String>,
}

impl<'a> Pass<'a> {
    pub(super) fn new(
        settings: &'a Settings,
        world: &'a Snapshot,
        reserved: &'a BTreeMap<Capacity, ReservedOffer>,
        now: Timestamp,
        notes: &mut Notes,
    ) -> Self {
        let (index, claims) = Index::of(world, notes);
        Pass {
            settings,
            world,
            now,
            cluster: world.cluster.as_str().into(),
            reserved,
            claims,
            index,
            busy: hands_off(world),
            replaced: BTreeSet::new(),
            placed: Vec::new(),
            taken: BTreeSet::new(),
            closing: BTreeMap::new(),
            terms: OnceCell::new(),
            weighed: false,
            looks_matter: Cell::new(false),
            hurries: false,
            resting: Vec::new(),
            refused: BTreeMap::new(),
            unasked_ends: 0,
            held_ends: 0,
            ends_lately: OnceCell::new(),
            queue: OnceCell::new(),
            ready_classes: RefCell::default(),
            daemonsets: RefCell::default(),
            admitting: RefCell::default(),
            policy_hashes: RefCell::default(),
            launches: RefCell::default(),
            standing: RefCell::default(),
            steps: Vec::new(),
            wake_at: None,
            notes: Vec::new(),
        }
    }

    pub(super) fn is_free(&self, lane: &Lane) -> bool {
        !self.busy.contains(lane)
    }

    /// The claims whose machine EC2 warned of and has not announced to take, by name: few, and found without a walk over all.
    pub(super) fn warned(&self) -> impl Iterator<Item = &Claim> {
        self.as_marked(self.index.warned()).filter(|claim| claim.is_warned())
    }

    /// The claims whose machine EC2 takes back, by name.
    pub(super) fn interrupted(&self) -> impl Iterator<Item = &Claim> {
        self.as_marked(self.index.interrupted()).filter(|claim| claim.interrupted())
    }

    /// What this pass has marked, and those that were `found` before, by name, all with the marks of this pass.
    fn as_marked(&self, found: &[&Claim]) -> impl Iterator<Item = &Claim> {
        let names: BTreeSet<&ClaimName> = found.iter().map(|claim| &claim.name).chain(self.claims.marked()).collect();
        let known: Vec<&Claim> = names.into_iter().filter_map(|name| self.claims.get(name)).collect();
        known.into_iter()
    }

    /// Where the selected pods stand and stay, and how many of them: all of a pass that prefer the same ask once.
    pub(super) fn standing_by(&self, selector: &PodSelector) -> Rc<BTreeMap<Capacity, i64>> {
        if let Some(known) = self.standing.borrow().get(selector) {
            return Rc::clone(known);
        }
        let mut standing: BTreeMap<Capacity, i64> = BTreeMap::new();
        let stays = |p: &&Pod| p.claim.is_some() && p.let_go.is_none() && !p.finished();
        for pod in self.world.pods.values().filter(stays).filter(|p| selector.selects(&p.object().namespace, &p.rules.labels)) {
            if let Some(claim) = pod.claim.as_ref().and_then(|name| self.claims.get(name)).filter(|c| c.takes_work()) {
                *standing.entry(claim.spec.capacity.clone()).or_default() += 1;
            }
        }
        let standing = Rc::new(standing);
        self.standing.borrow_mut().insert(selector.clone(), Rc::clone(&standing));
        standing
    }

    /// Whether nothing is to be said of the machine at this position among all claims.
    pub(super) fn is_resting(&self, position: usize) -> bool {
        self.resting.get(position).copied().unwrap_or(false)
    }

    /// Adds a step unless one of its lanes is taken; says whether it was added.
    pub(super) fn step(&mut self, lanes: Vec<Lane>, records: Vec<LedgerRecord>, actions: Vec<Action>) -> bool {
        if !lanes.iter().all(|lane| self.is_free(lane)) {
            return false;
        }
        self.busy.extend(lanes.iter().cloned());
        self.steps.push(Step::planned(lanes, records, actions));
        true
    }

    /// The time by EC2's clock, as far as it is known: by it goes what others wrote down, such as starts of pods and hours of the day. Ours may be wrong.
    pub(super) fn now_by_ec2(&self) -> Timestamp {
        self.now + self.world.ec2_ahead.unwrap_or(Millis::ZERO)
    }

    /// What is `at` by EC2's clock, by ours.
    pub(super) fn by_our_clock(&self, at: Timestamp) -> Timestamp {
        at - self.world.ec2_ahead.unwrap_or(Millis::ZERO)
    }

    /// Asks for a pass at `at` even if nothing changes.
    pub(super) fn wake(&mut self, at: Timestamp) {
        if at > self.now {
            self.wake_at = Some(self.wake_at.map_or(at, |earlier| earlier.min(at)));
        }
    }

    /// Whether `span` has passed since `from`; asks to be woken when it will have.
    pub(super) fn due(&mut self, from: Timestamp, span: Millis) -> bool {
        self.wake(from + span);
        self.now >= from + span
    }

    /// Until when the same world gives the same plan. What goes by the time asks to be woken, but for the month's end and the next look at
    /// voluntary moves.
    pub(super) fn holds_until(&self) -> Timestamp {
        if self.weighed || !self.steps.is_empty() || !self.notes.is_empty() {
            return self.now;
        }
        let moves = self.moves_considered_next();
        [self.wake_at, moves].into_iter().flatten().fold(self.now.month_end(), Timestamp::min)
    }

    /// When voluntary moves are considered next; `None` while the ledger is away.
    pub(super) fn moves_considered_next(&self) -> Option<Timestamp> {
        let next = self.world.moves_considered_at.map_or(self.now, |last| last + self.settings.moves_considered_every);
        self.world.ledger_available.then_some(next)
    }

    pub(super) fn pool_of(&self, claim: &Claim) -> Option<&'a NodePool> {
        self.world.pools.get(&claim.spec.node_pool)
    }

    /// The claim's pool is not there. One that cannot be read, as after a rollback, is.
    pub(super) fn is_pool_absent(&self, claim: &Claim) -> bool {
        self.pool_of(claim).is_none() && !self.world.unreadable_pools.contains(&claim.spec.node_pool)
    }

    /// The claim's pool was removed, by itself. One that went with the definition of all pools was not: its machines stay as they are.
    pub(super) fn is_without_pool(&self, claim: &Claim) -> bool {
        self.is_pool_absent(claim) && self.is_defined(claim)
    }

    /// Pools are defined as they were when the claim's was last seen.
    pub(super) fn is_defined(&self, claim: &Claim) -> bool {
        claim.is_of_definition(&self.world.pools_defined)
    }

    /// What was learnt of the market, and what of it is reserved for us.
    pub(super) fn learnt(&self) -> Learnt<'a> {
        Learnt { memory: Some(&self.world.memory), scores: Some(&self.world.scores), reserved: Some(self.reserved) }
    }

    /// What is sold of this capacity, open or reserved.
    pub(super) fn offer(&self, capacity: &Capacity) -> Option<&'a Offer> {
        self.world.market.offers.get(capacity).or_else(|| self.reserved.get(capacity).map(|reserved| &reserved.offer))
    }

    /// Pods that hold a place on a claim, oldest first.
    pub(super) fn pods_on(&self, claim: &ClaimName) -> Vec<&'a Pod> {
        self.index.pods_on(claim).to_vec()
    }

    /// Classes of a pool that can make nodes now, by the zones they serve.
    pub(super) fn ready_classes(&self, pool: &NodePool) -> Rc<BTreeMap<ZoneId, &'a NodeClass>> {
        let make = || {
            let classes = pool.classes.iter().filter_map(|name| self.world.classes.get(name));
            let ready = classes.filter(|c| c.problem.is_none() && c.launch_template.is_some());
            Rc::new(ready.flat_map(|class| class.zones.keys().map(move |zone| (zone.clone(), class))).collect())
        };
        Rc::clone(self.ready_classes.borrow_mut().entry(pool.name.clone()).or_insert_with(make))
    }

    /// What the cluster's daemonsets request on a node of this class.
    pub(super) fn daemonset_overhead(&self, class: &ClassName) -> Resources {
        let of = |class: &NodeClass| crate::core::workload::daemonsets::overhead(&self.world.daemonsets, &class.node_labels, &class.taints);
        let make = || self.world.classes.get(class).map_or_else(Resources::default, of);
        *self.daemonsets.borrow_mut().entry(class.clone()).or_insert_with(make)
    }

    /// The node pools that admit pods of the pod's namespace.
    pub(super) fn pools_for(&self, pod: &Pod) -> Shared<BTreeSet<PoolName>> {
        let namespace = pod.object().namespace.as_str();
        if let Some(known) = self.admitting.borrow().get(namespace) {
            return known.clone();
        }
        let allows = |pool: &&NodePool| !pool.deleting && pool.namespaces.contains(namespace);
        let found: Shared<BTreeSet<PoolName>> = self.world.pools.values().filter(allows).map(|pool| pool.name.clone()).collect();
        self.admitting.borrow_mut().insert(namespace.to_owned(), found.clone());
        found
    }

    /// [`policy_hash`] of a pool.
    pub(super) fn policy_hash(&self, pool: &NodePool) -> Arc<str> {
        let make = || Arc::from(policy_hash(pool));
        Arc::clone(self.policy_hashes.borrow_mut().entry(pool.name.clone()).or_insert_with(make))
    }

    /// What a machine is launched with, shared with those that are launched with the same.
    pub(super) fn shared_launch(&self, frozen: FrozenLaunch) -> Shared<FrozenLaunch> {
        let mut frozen = Shared::from(frozen);
        self.launches.borrow_mut().share(&mut frozen);
        frozen
    }

    /// This pass, as a number for ids: an id never stands for decisions of two moments.
    pub(super) fn moment(&self) -> u64 {
        self.now.0.unsigned_abs()
    }

    /// The pod that was bound as the replacement of `old`.
    pub(super) fn replacement_of(&self, old: &Pod) -> Option<&'a Pod> {
        self.index.replacement_of(old)
    }

    /// An event, unless the same news of the same subject was reported before. `key` is what makes it news.
    pub(super) fn emit(&mut self, subject: EventSubject, what: (EventKind, &'static str), key: impl ToString, note: impl Into<Note>) {
        let event = Event::new(subject, what, &key.to_string(), note);
        if !self.world.recorded.contains_key(&event.id()) {
            self.step(Vec::new(), Vec::new(), vec![Action::Cluster(ClusterAction::Emit(Box::new(event)))]);
        }
    }

    /// A decision about a machine as such, without an offer to choose. `key` holds the facts it rests on, where trigger and outcome do not
    /// say them: two operators that decide at one moment on different facts decide two things.
    pub(super) fn machine_decision(
        &self,
        claim: &Claim,
        trigger: Trigger,
        outcome: Outcome,
        key: &str,
        text: impl Into<Arc<str>>,
    ) -> Decision {
        let (kind, subject) = (format!("{}/{}", code_of(&trigger), code_of(&outcome)), format!("{}#{key}", claim.uid));
        Decision {
            id: DecisionId::derive(&self.world.cluster, &kind, &subject, self.moment()),
            cluster: self.cluster.clone(),
            decided_at: self.now,
            trigger,
            outcome,
            text: text.into(),
            node_pool: Some(claim.spec.node_pool.clone()),
            workload: None,
            attribution: Default::default(),
            pods: self.pods_on(&claim.name).iter().map(|pod| pod.identity.clone()).collect(),
            need: None,
            judgement: Default::default(),
            counterfactuals: Default::default(),
            claim: None,
            from_claim: Some(claim.name.clone()),
            instance: claim.status.instance.clone(),
            policy_hash: self.pool_of(claim).map_or_else(|| "".into(), |pool| self.policy_hash(pool)),
            code_version: self.settings.code_version.clone(),
        }
    }
}

/// The lanes that a pass must not touch: what is under way, and everything of claims that cannot be read. Their pods are neither placed
/// again nor removed, their machines neither ended nor replaced, until somebody can read what was written.
fn hands_off(world: &Snapshot) -> BTreeSet<Lane> {
    let mut busy = world.in_flight.clone();
    if world.unreadable_claims.is_empty() {
        return busy;
    }
    for claim in world.unreadable_claims.values() {
        busy.insert(Lane::Claim(claim.name.clone()));
        busy.extend(claim.instance.clone().map(Lane::Instance));
    }
    let theirs = world.pods.values().filter(|pod| pod.claim.as_ref().is_some_and(|name| world.unreadable_claims.contains_key(name)));
    busy.extend(theirs.map(|pod| Lane::Pod(pod.identity.uid.clone())));
    busy
}

/// The patch target of a pod as it was observed.
pub(super) fn target(pod: &Pod) -> PodTarget {
    PodTarget { pod: pod.identity.clone(), resource_version: pod.resource_version.clone() }
}

/// SHA-256 over a pool's policy, in hex: two decisions with the same hash were taken under the same rules.
pub fn policy_hash(pool: &NodePool) -> String {
    pool.policy_hash()
}
