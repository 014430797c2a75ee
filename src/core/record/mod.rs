//! What the ledger receives: decisions with their reasons, and facts that were observed.

mod decision;
mod facts;
mod refusal;

use std::collections::BTreeMap;

use crate::core::units::time::Timestamp;

pub use decision::{CounterfactualRate, Counterfactuals, Decision, JudgedOffer, Judgement, Outcome};
pub use facts::{
    CarriedData, Checkpoint, HourPriced, Interruption, IntervalClosed, IntervalOpened, LedgerRecord, Migration, OccupancyClosed,
    OccupancyOpened, interval_opened_id, migration_id,
};
pub use refusal::{Refusal, code_of};

/// What was written lately, and when, so that it is not written again. Writing again is harmless, so this may forget.
pub type Recorded = BTreeMap<uuid::Uuid, Timestamp>;
