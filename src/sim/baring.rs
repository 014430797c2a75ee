//! Somebody takes the taint of a claim off its node: by hand, or by a controller that writes a node's taints as a whole.
//!
//! Decides: when, and off which node. Does not: judge what becomes of it (see [`super::check`]).

use super::chance::Chance;
use super::ec2::Later;
use super::event::Event;
use super::faults::Level;
use super::world::World;
use crate::core::units::ids::NodeName;
use crate::core::units::time::{Millis, Timestamp};

/// When it happens next; never where nothing goes wrong.
pub fn next(chance: &mut Chance, level: Level, now: Timestamp) -> Option<Timestamp> {
    (level != Level::None).then(|| now + chance.waiting(Millis::from_hours(30)))
}

impl World {
    /// The taint goes, whatever else is on the node.
    pub(super) fn somebody_bares_a_node(&mut self, now: Timestamp, later: &mut Later) {
        if self.faults.quiet {
            return;
        }
        later.extend(next(&mut self.of_taints, self.faults.level(), now).map(|at| (at, Event::NodeBared)));
        let guarded: Vec<NodeName> =
            self.kube.nodes.values().filter(|n| n.object.node.guarded).map(|n| n.object.node.name.clone()).collect();
        let Some(name) = self.of_taints.one_of(&guarded).cloned() else { return };
        let Some(mut bared) = self.kube.nodes.get(&name).map(|stored| stored.object.clone()) else { return };
        self.say(&format!("somebody takes the taint of its claim off {name}"));
        bared.node.guarded = false;
        self.kube.put_node(bared);
    }
}
