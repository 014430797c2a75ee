//! One pass: from policy, snapshot and time to the steps to take. The only place where lowtide decides.
//!
//! Decides: the order in which questions are asked, so that a rescue is never behind a purchase.
//! Does not: any I/O. The same inputs give the same plan.
//!
//! A map of its rooms, and what each asks of the others, from the ground up; no file imports one that imports it (`tests/layout.rs`):
//!
//! - `index`: what belongs together in the world, found once a pass; `terms`: what all placements of a pass are asked under; `pass`: what the
//!   rules of one pass share.
//! - [`placing`]: pods that need a place, onto room or onto machines to buy.
//! - [`moving`]: notices, pods on machines that are being left, gates, and moves by choice.
//! - [`claims`]: machines, from the launch to the end.
//! - [`reporting`]: what the ledger, the statuses and people are given to read.

pub mod claims;
mod index;
mod moving;
mod pass;
pub mod placing;
mod reporting;
mod rescue;
mod terms;

#[cfg(test)]
pub(crate) mod tests;

use std::sync::{Arc, Mutex, PoisonError};

use self::claims::{lifecycle, resting, sweeping};
use self::moving::{lifting, maintenance, migration, notices, returning, warnings, watching};
use self::pass::Pass;
use self::placing::{buying, reserved};
use self::reporting::{facts, status};
use super::action::Plan;
use super::snapshot::Snapshot;
use super::units::time::{Millis, Timestamp};

pub use self::index::Notes;
pub use self::pass::policy_hash;

/// What holds for every pool: the operator's own settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// A price older than this is not bought on.
    pub max_price_age: Millis,
    /// Prices of the shipped snapshot may be bought on (offline use only).
    pub buy_on_snapshot_prices: bool,
    /// A machine of ours that no claim has stood for is ended after this, seen by one leader all the time: `orphanGraceSeconds`.
    pub orphan_grace: Millis,
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
    /// How far apart voluntary moves are considered at least: each time the work of every machine is placed again.
    pub moves_considered_every: Millis,
    /// lowtide's version, for decisions.
    pub code_version: Arc<str>,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            max_price_age: Millis::from_mins(5),
            buy_on_snapshot_prices: false,
            orphan_grace: Millis::from_secs(600),
            read_after_write_lag: Millis::from_secs(60),
            deadline_margin: Millis::from_secs(5),
            launch_retry: Millis::from_secs(5),
            notice_window: Millis::from_mins(2),
            fall_back_after: 4,
            moves_considered_every: Millis::from_secs(5),
            code_version: env!("CARGO_PKG_VERSION").into(),
        }
    }
}

/// What decides: [`plan`]. A type of its own, so that the simulated world can put a planted bug in its place and see it caught.
pub type Planner = Arc<dyn Fn(&Settings, &Snapshot, Timestamp) -> Plan + Send + Sync>;

/// Decides everything there is to decide now.
pub fn plan(settings: &Settings, world: &Snapshot, now: Timestamp) -> Plan {
    plan_with(&mut Notes::default(), settings, world, now)
}

/// The same plan, sooner: what the last pass noted of parts of the world that are the same values now is taken from `notes`, which are of this world then.
pub fn plan_with(notes: &mut Notes, settings: &Settings, world: &Snapshot, now: Timestamp) -> Plan {
    decide(notes, settings, world, now, resting::look)
}

/// [`plan`] with notes of its own, from one pass to the next.
pub fn planner() -> Planner {
    let notes = Mutex::new(Notes::default());
    Arc::new(move |settings, world, now| plan_with(&mut notes.lock().unwrap_or_else(PoisonError::into_inner), settings, world, now))
}

/// The same plan by asking every rule about every machine, those at rest included: what [`plan`] is held against.
pub fn plan_asking_about_each(settings: &Settings, world: &Snapshot, now: Timestamp) -> Plan {
    decide(&mut Notes::default(), settings, world, now, |_| {})
}

fn decide(notes: &mut Notes, settings: &Settings, world: &Snapshot, now: Timestamp, look_for_rest: impl FnOnce(&mut Pass)) -> Plan {
    let reserved = reserved::reserved_offers(world, now);
    let mut pass = Pass::new(settings, world, &reserved, now, notes);
    notices::mark_doomed(&mut pass);
    warnings::weigh(&mut pass);
    maintenance::leave_in_time(&mut pass);
    migration::move_pods(&mut pass);
    buying::buy(&mut pass);
    lifting::lift_gates(&mut pass);
    watching::watch_lifted(&mut pass);
    look_for_rest(&mut pass);
    lifecycle::advance_claims(&mut pass);
    sweeping::sweep_unclaimed(&mut pass);
    sweeping::report(&mut pass);
    // What saves work has been handed out before anything is compared for work that is safe.
    let considered_moves = !pass.hurries && returning::consider_moves(&mut pass);
    facts::report_to_the_ledger(&mut pass);
    status::show(&mut pass);
    let holds_until = pass.holds_until();
    let (unasked_ends, held_ends) = (pass.unasked_ends, pass.held_ends);
    let looks_matter = pass.looks_matter.get();
    rescue::mark(world, &mut pass.steps);
    Plan {
        steps: pass.steps,
        wake_at: pass.wake_at,
        notes: pass.notes,
        unasked_ends,
        held_ends,
        considered_moves,
        holds_until,
        looks_matter,
    }
}
