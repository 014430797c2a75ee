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
//!   judging    -> what decisions of equal pods share
//!   lifting    -> gates of pods whose machine is Ready
//!   watching   -> pods that were lifted, until they run
//!   health     -> nodes that had joined, until they end; guests leave before that
//!   returning  -> voluntary moves, beyond hysteresis only
//!   facts      -> what the ledger receives of what was observed
//!   sweeping   -> machines that no claim stands for, and machines of others
//!   breaker    -> how many machines may end without anybody's asking
//!   status     -> what pools and classes show
//!   pass       -> what all of them share: the world, its indexes, what this pass has taken for itself, the steps
//!   index      -> what belongs together in the world
//! ```

pub mod adoption;
pub mod apart;
mod asking;
mod bindings;
mod breaker;
pub mod budget;
mod buying;
mod deadline;
mod facts;
mod guests;
mod health;
mod index;
mod judging;
mod lifecycle;
mod lifting;
mod migration;
mod notices;
mod pass;
pub mod reserved;
mod returning;
mod room;
mod serving;
mod status;
mod sweeping;
mod watching;
mod wording;

#[cfg(test)]
pub(crate) mod tests;

use self::pass::Pass;
use super::action::Plan;
use super::snapshot::Snapshot;
use super::units::time::{Millis, Timestamp};

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
            orphan_grace: Millis::from_secs(600),
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
    sweeping::sweep_unclaimed(&mut pass);
    sweeping::report(&mut pass);
    // What saves work has been handed out before anything is compared for work that is safe.
    let considered_moves = !pass.hurries && returning::consider_moves(&mut pass);
    facts::tell_the_ledger(&mut pass);
    status::show(&mut pass);
    let holds_until = pass.holds_until();
    let (unasked_ends, held_ends) = (pass.unasked_ends, pass.held_ends);
    Plan { steps: pass.steps, wake_at: pass.wake_at, notes: pass.notes, unasked_ends, held_ends, considered_moves, holds_until }
}
