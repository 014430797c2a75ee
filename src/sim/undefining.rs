//! Somebody deletes the definition (CRD) of node pools, or a pipeline prunes it: every pool goes with it, and is applied again later.
//!
//! Decides: when it happens, for how long, and when the pools come back, from the seed alone. What the pools were is what they are afterwards.
//! Does not: judge what the operator makes of it (see [`super::check`]): to the checks no pool was ever deleted.

use super::chance::Chance;
use super::ec2::Later;
use super::event::Event;
use super::faults::Level;
use super::kube::Kube;
use super::world::World;
use crate::core::fleet::PoolsDefined;
use crate::core::snapshot::Lane;
use crate::core::units::ids::PoolName;
use crate::core::units::time::{Millis, Timestamp};

/// When the definition is deleted, in one history of four.
pub fn first(seed: u64, level: Level, epoch: Timestamp) -> Option<Timestamp> {
    let mut chance = Chance::new(seed, "who deletes a definition");
    let happens = level != Level::None && chance.happens(250);
    happens.then(|| epoch + chance.span(Millis::from_hours(3), Millis::from_hours(150)))
}

impl World {
    /// The definition goes, and the pools with it.
    pub(super) fn pools_are_undefined(&mut self, now: Timestamp, later: &mut Later) {
        if self.faults.quiet {
            return;
        }
        self.say("the definition of node pools is deleted");
        self.kube.define_pools(false);
        let away = self.of_definitions.span(Millis::from_secs(5), Millis::from_mins(40));
        later.push((now + away, Event::PoolsDefined));
    }

    /// It is applied again, and what was in it some time later.
    pub(super) fn pools_are_defined(&mut self, now: Timestamp, later: &mut Later) {
        self.say("the definition of node pools is applied again");
        self.kube.define_pools(true);
        let away = self.of_definitions.span(Millis::ZERO, Millis::from_mins(5));
        later.push((now + away, Event::PoolsApplied));
    }
}

impl Kube {
    /// The definition is deleted, or made again under another uid. Either way there are no pools then.
    fn define_pools(&mut self, there: bool) {
        self.definitions += 1;
        let uid = format!("definition-{}", self.definitions);
        self.pools_defined = if there { PoolsDefined::By(uid.into()) } else { PoolsDefined::Going };
        self.show_pools(false);
    }

    /// The pools are there from now on, or are not.
    pub(super) fn show_pools(&mut self, applied: bool) {
        self.pools_applied = applied;
        let names: Vec<PoolName> = self.pools.keys().cloned().collect();
        for name in names {
            let version = self.bump(Lane::Pool(name.clone()));
            self.pools.entry(name).and_modify(|stored| stored.version = version);
        }
    }
}
