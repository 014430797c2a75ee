//! What the ledger receives: decisions with their reasons, and facts that were observed.

mod decision;
mod facts;
mod refusal;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::BuildHasherDefault;

use rustc_hash::FxHasher;

use crate::core::units::ids::Uid;
use crate::core::units::time::{Millis, Timestamp};

pub use decision::{CounterfactualRate, Counterfactuals, Decision, JudgedOffer, Judgement, Outcome};
pub use facts::{
    CarriedData, Checkpoint, HourPriced, Interruption, IntervalClosed, IntervalOpened, LedgerRecord, Migration, OccupancyClosed,
    OccupancyOpened, interval_closed_id, interval_opened_id, migration_id, occupancy_opened_id,
};
pub use refusal::{Refusal, code_of};

/// What the ledger has received of one machine, as far as this process remembers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReportedOf {
    /// That it was bought.
    pub opened: bool,
    /// The instance-hours from the first on, without a gap.
    pub hours: u32,
}

/// [`ReportedOf`] each machine, by the uid of its claim. Looked up, never walked.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reported(HashMap<Uid, ReportedOf, BuildHasherDefault<FxHasher>>);

impl Reported {
    /// What is remembered of a machine.
    pub fn get(&self, claim: &Uid) -> Option<&ReportedOf> {
        self.0.get(claim)
    }

    /// ... to be changed.
    pub fn of(&mut self, claim: &Uid) -> &mut ReportedOf {
        self.0.entry(claim.clone()).or_default()
    }

    /// How many machines are remembered.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Nothing is remembered.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Forgets all machines but these.
    pub fn keep(&mut self, claims: &BTreeSet<&Uid>) {
        self.0.retain(|uid, _| claims.contains(uid));
    }
}

/// From this many records that wait for Postgres on, what can be recorded later is not recorded now. Packed they take a few hundred bytes each:
/// four and a half days of ten decisions a second, in about as much of etcd as it has by default. An alert says so at a quarter of it.
pub const OUTBOX_BOUND: usize = 4_000_000;

/// From this many on nothing is bought for new pods: a full etcd would stop the whole cluster. Rescues, moves and ends go on; there are no more of them than
/// machines.
pub const OUTBOX_CLOSED: usize = OUTBOX_BOUND / 2 * 3;

/// This number of refusals of one namespace's pods is recorded within an hour: whoever may make pods may make thousands that nothing can hold.
pub const REFUSALS_AN_HOUR: usize = 120;

/// When refusals of each namespace's pods were recorded within the last hour. Of this process: after a restart it counts from nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RecentRefusals(BTreeMap<String, Vec<Timestamp>>);

impl RecentRefusals {
    const KEPT: Millis = Millis::from_hours(1);

    /// Notes the refusals among `records`, which are recorded `now`.
    pub fn note(&mut self, records: &[LedgerRecord], now: Timestamp) {
        let namespace = |record: &LedgerRecord| match record {
            LedgerRecord::Decision(decision) if decision.outcome == Outcome::Refuse => {
                Some(decision.workload.as_ref()?.object.namespace.clone())
            }
            _ => None,
        };
        let refused: Vec<String> = records.iter().filter_map(namespace).collect();
        if refused.is_empty() {
            return;
        }
        self.0.values_mut().for_each(|at| at.retain(|at| now.since(*at) < Self::KEPT));
        self.0.retain(|_, at| !at.is_empty());
        refused.into_iter().for_each(|namespace| self.0.entry(namespace).or_default().push(now));
    }

    /// How many of `namespace` were recorded within the hour before `now`.
    pub fn of(&self, namespace: &str, now: Timestamp) -> usize {
        self.0.get(namespace).map_or(0, |at| at.iter().filter(|at| now.since(**at) < Self::KEPT).count())
    }
}

/// What was written lately, and when, so that it is not written again. Writing again is harmless, so this may forget.
pub type Recorded = BTreeMap<uuid::Uuid, Timestamp>;
