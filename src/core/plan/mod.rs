//! One pass: from policy, snapshot and time to the steps to take. The only place where lowtide decides.
//!
//! Decides: the order in which questions are asked, so that a rescue is never behind a purchase.
//! Does not: any I/O. The same inputs give the same plan.
//!
//! ```text
//!   notices    -> which claims are doomed, and until when
//!   lifecycle  -> launch, join, empty, terminate, close: one claim at a time
//!   migration  -> let go, replace, delete: the pods of claims that are being left
//!   budget     -> what a pool has spent and is bound to spend
//!   apart      -> rules between pods
//!   asking     -> what a placement is asked: demands, policies, room
//!   deadline   -> whether a pod with a deadline takes spot, waits, or takes on-demand
//!   serving    -> which pool the next replica of a service with spares goes to
//!   reserved   -> offers of capacity reservations, and when work leaves one that ends
//!   buying     -> gated pods onto room we have or machines we buy; refusals with reasons
//!   lifting    -> gates of pods whose machine is Ready
//!   watching   -> pods that were lifted, until they run
//!   health     -> nodes that had joined, until they end; guests leave before that
//!   returning  -> voluntary moves, beyond hysteresis only
//!   facts      -> what the ledger is told of what was observed
//!   status     -> what pools and classes show
//! ```

pub mod apart;
mod asking;
pub mod budget;
mod buying;
mod deadline;
mod facts;
mod guests;
mod health;
mod lifecycle;
mod lifting;
mod migration;
mod notices;
pub mod reserved;
mod returning;
mod room;
mod serving;
mod status;
mod watching;
mod wording;

#[cfg(test)]
pub(crate) mod tests;

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use self::asking::Terms;
use crate::core::action::{Action, ClusterAction, Event, EventKind, EventSubject, Plan, PodTarget, Step};
use crate::core::fleet::{Claim, NodePool, Trigger};
use crate::core::record::{Counterfactuals, Decision, Judgement, LedgerRecord, Outcome};
use crate::core::snapshot::{Lane, Snapshot};
use crate::core::units::ids::{ClaimName, DecisionId, PoolName, Uid};
use crate::core::units::money::MicroUsd;
use crate::core::units::shared::Shared;
use crate::core::units::time::{Millis, Timestamp};
use crate::core::workload::{Attribution, Pod};

/// What holds for every pool: the operator's own settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// A price older than this is not bought on.
    pub max_price_age: Millis,
    /// Prices of the shipped snapshot may be bought on (offline use only).
    pub buy_on_snapshot_prices: bool,
    /// An instance nobody claims is ended after this: its claim may just not be observed yet.
    pub unclaimed_grace: Millis,
    /// How long EC2 may not show an instance it gave us.
    pub read_after_write_lag: Millis,
    /// Kept between the end of a pod's grace and the end of the machine.
    pub deadline_margin: Millis,
    /// How long after a launch without an answer the same launch is asked again.
    pub launch_retry: Millis,
    /// Time between EC2's notice and the end of the instance.
    ///
    /// Source: "Spot Instance interruption notices", Amazon EC2 User Guide: two minutes, best effort.
    pub notice_window: Millis,
    /// A pod whose launches were refused this often in a row takes on-demand, if its owner and pool allow it.
    pub fall_back_after: u64,
    /// How far apart voluntary moves are considered at least: each time the work of every machine is placed anew.
    pub moves_considered_every: Millis,
    /// lowtide's version, for decisions.
    pub code_version: String,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            max_price_age: Millis::from_mins(5),
            buy_on_snapshot_prices: false,
            unclaimed_grace: Millis::from_secs(30),
            read_after_write_lag: Millis::from_secs(60),
            deadline_margin: Millis::from_secs(5),
            launch_retry: Millis::from_secs(5),
            notice_window: Millis::from_mins(2),
            fall_back_after: 4,
            moves_considered_every: Millis::from_secs(5),
            code_version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }
}

/// What decides: [`plan`]. A type of its own, so that the simulated world can put a planted bug in its place and see it caught.
pub type Planner = std::sync::Arc<dyn Fn(&Settings, &Snapshot, Timestamp) -> Plan + Send + Sync>;

/// Decides everything there is to decide now.
pub fn plan(settings: &Settings, world: &Snapshot, now: Timestamp) -> Plan {
    let mut pass = Pass::new(settings, world, now);
    notices::mark_doomed(&mut pass);
    migration::move_pods(&mut pass);
    buying::buy(&mut pass);
    lifting::lift_gates(&mut pass);
    watching::watch_lifted(&mut pass);
    lifecycle::advance_claims(&mut pass);
    lifecycle::sweep_unclaimed(&mut pass);
    let considered_moves = returning::consider_moves(&mut pass);
    facts::tell_the_ledger(&mut pass);
    status::show(&mut pass);
    let holds_until = pass.holds_until();
    Plan { steps: pass.steps, wake_at: pass.wake_at, notes: pass.notes, considered_moves, holds_until }
}

/// The state of one pass: the world, what this pass has already claimed for itself, and the steps so far.
struct Pass<'a> {
    settings: &'a Settings,
    world: &'a Snapshot,
    now: Timestamp,
    /// Claims with the marks of this pass applied: a claim doomed in this pass takes no new work in this pass.
    claims: Shared<BTreeMap<ClaimName, Claim>>,
    busy: BTreeSet<Lane>,
    /// Old pods that got their replacement in this pass.
    replaced: BTreeSet<Uid>,
    /// Claims that got a pod in this pass: they are neither untaken nor empty.
    taken: BTreeSet<ClaimName>,
    /// Claims whose machines have ended, and what they cost this month: they go once their pool's books name them.
    closing: BTreeMap<PoolName, BTreeMap<Uid, MicroUsd>>,
    /// Pods that hold a place, by claim, oldest first.
    holding: BTreeMap<&'a ClaimName, Vec<&'a Pod>>,
    /// Pods that were bound as replacements, by the uid of the pod they replace.
    replacements: BTreeMap<&'a Uid, &'a Pod>,
    /// What every placement of this pass is asked under, once one is: known when the doomed claims are.
    terms: OnceCell<Rc<Terms<'a>>>,
    /// Offers were weighed, or wait to be: prices age, cool-downs end, deadlines come nearer, so the next moment may give another plan.
    weighed: bool,
    steps: Vec<Step>,
    wake_at: Option<Timestamp>,
    notes: Vec<String>,
}

impl<'a> Pass<'a> {
    fn new(settings: &'a Settings, world: &'a Snapshot, now: Timestamp) -> Self {
        let (claims, busy) = (world.claims.clone(), world.in_flight.clone());
        let mut holding: BTreeMap<&ClaimName, Vec<&Pod>> = BTreeMap::new();
        for pod in world.pods.values().filter(|pod| !pod.finished()) {
            if let Some(claim) = &pod.claim {
                holding.entry(claim).or_default().push(pod);
            }
        }
        for pods in holding.values_mut() {
            pods.sort_by(|a, b| (a.created_at, &a.identity.uid).cmp(&(b.created_at, &b.identity.uid)));
        }
        let mut replacements = BTreeMap::new();
        for pod in world.pods.values() {
            if let Some(replaced) = &pod.replaces {
                replacements.entry(&replaced.pod.uid).or_insert(pod);
            }
        }
        Pass {
            settings,
            world,
            now,
            claims,
            busy,
            replaced: BTreeSet::new(),
            taken: BTreeSet::new(),
            closing: BTreeMap::new(),
            holding,
            replacements,
            terms: OnceCell::new(),
            weighed: false,
            steps: Vec::new(),
            wake_at: None,
            notes: Vec::new(),
        }
    }

    fn is_free(&self, lane: &Lane) -> bool {
        !self.busy.contains(lane)
    }

    /// Adds a step unless one of its lanes is taken; says whether it was added.
    fn step(&mut self, lanes: Vec<Lane>, records: Vec<LedgerRecord>, actions: Vec<Action>) -> bool {
        if !lanes.iter().all(|lane| self.is_free(lane)) {
            return false;
        }
        self.busy.extend(lanes.iter().cloned());
        self.steps.push(Step { lanes, records, actions });
        true
    }

    /// Asks for a pass at `at` even if nothing changes.
    fn wake(&mut self, at: Timestamp) {
        if at > self.now {
            self.wake_at = Some(self.wake_at.map_or(at, |earlier| earlier.min(at)));
        }
    }

    /// Whether `span` has passed since `from`; asks to be woken when it will have.
    fn due(&mut self, from: Timestamp, span: Millis) -> bool {
        self.wake(from + span);
        self.now >= from + span
    }

    /// Until when the same world gives the same plan. What goes by the time asks to be woken, but for the month's end and the next look at
    /// voluntary moves.
    fn holds_until(&self) -> Timestamp {
        if self.weighed || !self.steps.is_empty() || !self.notes.is_empty() {
            return self.now;
        }
        let moves = returning::considered_next(self);
        [self.wake_at, moves].into_iter().flatten().fold(self.now.month_end(), Timestamp::min)
    }

    fn pool_of(&self, claim: &Claim) -> Option<&'a NodePool> {
        self.world.pools.get(&claim.spec.node_pool)
    }

    /// Pods that hold a place on a claim, oldest first.
    fn pods_on(&self, claim: &ClaimName) -> Vec<&'a Pod> {
        self.holding.get(claim).cloned().unwrap_or_default()
    }

    /// This pass, as a number for ids: an id never stands for decisions of two moments.
    fn moment(&self) -> u64 {
        self.now.0.unsigned_abs()
    }

    /// The pod that was bound as the replacement of `old`.
    fn replacement_of(&self, old: &Pod) -> Option<&'a Pod> {
        self.replacements.get(&old.identity.uid).copied()
    }

    /// An event, unless the same words were already said about the same subject.
    fn emit(&mut self, subject: EventSubject, kind: EventKind, reason: &'static str, note: String) {
        let event = Event { subject, kind, reason, note };
        if !self.world.recorded.contains_key(&event.id()) {
            self.step(Vec::new(), Vec::new(), vec![Action::Cluster(ClusterAction::Emit(event))]);
        }
    }

    /// A decision about a machine as such, without an offer to choose.
    fn machine_decision(&self, claim: &Claim, trigger: Trigger, outcome: Outcome, text: String) -> Decision {
        let kind = format!("{trigger:?}/{outcome:?}/{text}");
        Decision {
            id: DecisionId::derive(&self.world.cluster, &kind, claim.uid.as_str(), self.moment()),
            cluster: self.world.cluster.clone(),
            decided_at: self.now,
            trigger,
            outcome,
            text,
            node_pool: Some(claim.spec.node_pool.clone()),
            workload: None,
            attribution: Attribution::default(),
            pods: self.pods_on(&claim.name).iter().map(|pod| pod.identity.clone()).collect(),
            need: None,
            judgement: Judgement::default(),
            counterfactuals: Counterfactuals::default(),
            claim: None,
            from_claim: Some(claim.name.clone()),
            instance: claim.status.instance.clone(),
            policy_hash: self.pool_of(claim).map_or_else(String::new, policy_hash),
            code_version: self.settings.code_version.clone(),
        }
    }
}

/// The patch target of a pod as it was observed.
fn target(pod: &Pod) -> PodTarget {
    PodTarget { pod: pod.identity.clone(), resource_version: pod.resource_version.clone() }
}

/// SHA-256 over a pool's policy, in hex: two decisions with the same hash were taken under the same rules.
pub fn policy_hash(pool: &NodePool) -> String {
    use sha2::{Digest, Sha256};
    let digest = Sha256::digest(format!("{pool:?}").as_bytes());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
