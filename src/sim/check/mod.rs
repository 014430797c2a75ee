//! The invariants, held against the truth of the simulated world after every step.
//!
//! - `standing`: what must hold of machines, claims and pods at every moment.
//! - `acts`: what must hold of an act before it is carried out: it was decided, recorded, and its reason is true.
//! - `bindings`: what must hold of a pod's binding: it was earned, and nothing that anybody wrote on a pod or a Node decided it.
//! - `choice`: what must hold before a machine is left that nobody takes.
//! - `maintenance`: what must hold on the date that EC2 had announced.
//! - `placing`: what must hold of a binding: what the owner asks, and what the scheduler would allow.
//! - `silence`: what must hold of machines that are given up for what is only seen of their Nodes.
//! - `taken_back`: what must hold of a purchase after EC2 has taken a machine back.
//! - `warnings`: what must hold of an act that rests on a rebalance recommendation.
//! - `books`: records and rows: durable once, the same however often they are written, and worth what the bill says.
//!
//! Decides: whether a step broke an invariant of [`crate::core::invariant`]. Written from the design's words, not from the planner's code.

mod acts;
mod bindings;
mod books;
mod choice;
mod maintenance;
mod placing;
mod silence;
mod standing;
mod taken_back;
mod warnings;

pub use acts::{before_action, before_launch, before_terminate};
pub use books::{before_forget, before_record, before_row, final_books};
pub use maintenance::at_the_date;
pub use silence::after_action;
pub(in crate::sim) use silence::two_lead_until;
pub use standing::{after_step, unsettled};

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::kube::Changes;
use super::world::World;
use crate::core::invariant::{Fault, Invariant};
use crate::core::record::LedgerRecord;
use crate::core::units::ids::{ClaimName, Uid};
use crate::core::units::money::MicroUsd;
use crate::core::units::time::{Millis, Timestamp};

/// How far a clock may be off, and how long a watch may lag, before a reason is called untrue.
const TOLERANCE: Millis = Millis::from_secs(150);

/// What the checks must remember.
#[derive(Debug, Default)]
pub struct Checks {
    /// The first text of every record, as it was made durable.
    recorded: BTreeMap<uuid::Uuid, Arc<LedgerRecord>>,
    /// What each machine cost by the bill, once its books were compared.
    pub billed: BTreeMap<Uid, MicroUsd>,
    /// Steps checked.
    pub steps: u64,
    /// Changes of cluster and EC2 up to which everything that stands has been seen to hold.
    held: Option<(Changes, u64)>,
    /// Since when the machine that has been longest without claim or work has been so.
    oldest_mark: Option<Timestamp>,
    /// Since when each pod whose gate is lifted has waited for its node.
    lifted_since: BTreeMap<Uid, Timestamp>,
    /// How often each pod was bound.
    bound: BTreeMap<Uid, u64>,
    /// Pods and the claims that were bought for them, until they are bound there: once.
    bought_with: BTreeSet<(Uid, ClaimName)>,
    /// The books of machines that were adopted: what is recorded of them again, by a claim that knows less, the ledger has already.
    pub adopted: BTreeSet<Uid>,
    /// A backup was restored.
    pub restored: bool,
    /// What was true of each machine when its end was first written down, by the uid of its claim.
    ends_asked: BTreeMap<Uid, silence::Truth>,
    /// When machines were given up lately that were only silent, with work on them, and by which operator.
    given_up: Vec<(Timestamp, u32)>,
    /// Until when two operators may each believe to lead.
    two_lead_until: Option<Timestamp>,
    /// Pods that were to be let go.
    let_go: BTreeSet<Uid>,
}

impl World {
    /// INV-10: what is still out of place when everything had time to find it.
    pub fn must_have_settled(&mut self) {
        for text in unsettled(self) {
            self.broke(Invariant::WorldSettles, text);
        }
    }

    /// An invariant is broken.
    fn broke(&mut self, invariant: Invariant, text: String) {
        self.say(&format!("BROKEN {invariant}: {text}"));
        self.broken.push(Fault { invariant, text });
    }
}
