//! Kubelets that cannot reach the API server for minutes: those of a region whose network is cut, or all, as with certificates that have expired.
//!
//! Decides: when it happens, where and for how long, from the seed alone. What runs there runs on; the cluster holds the nodes silent after a while,
//! and hears of nothing until it is over.
//! Does not: judge what the operator makes of it (see [`super::check`]).

use super::chance::Chance;
use super::ec2::Later;
use super::event::Event;
use super::faults::Level;
use super::kube::node_of;
use super::world::World;
use crate::core::units::ids::{NodeName, Region};
use crate::core::units::time::{Millis, Timestamp};

/// When it comes, and for how long.
#[derive(Debug, Clone)]
pub struct Cuts(Chance, Option<Millis>);

impl Cuts {
    /// Those of a seed, a quarter as often as other troubles.
    pub fn new(seed: u64, level: Level) -> Cuts {
        Cuts(Chance::new(seed, "kubelets that are cut off"), level.trouble_every().map(|every| Millis(every.0 * 4)))
    }

    /// When the next comes.
    pub fn next(&mut self, now: Timestamp) -> Option<Timestamp> {
        let every = self.1?;
        Some(now + self.0.waiting(every))
    }
}

impl World {
    /// A region is cut off, or all are: from now on nothing is heard of their kubelets.
    pub(super) fn kubelets_are_cut_off(&mut self, now: Timestamp, later: &mut Later) {
        if self.faults.quiet {
            return;
        }
        later.extend(self.cuts.next(now).map(|at| (at, Event::KubeletsCutOff)));
        let all = self.market.regions().to_vec();
        let one = self.cuts.0.one_of(&all).cloned();
        let regions: Vec<Region> = if self.cuts.0.happens(500) { all } else { one.into_iter().collect() };
        let span = self.cuts.0.span(Millis::from_mins(1), Millis::from_mins(12));
        self.say(&format!("the kubelets of {regions:?} cannot reach the API server for {span}"));
        let there = self.ec2.alive().filter(|machine| regions.contains(&machine.instance.capacity.region));
        let nodes: Vec<NodeName> = there.map(|machine| node_of(&machine.instance.id)).collect();
        self.kube.cut_off((regions, nodes), now + span, now, later);
        later.push((now + span, Event::KubeletsBack));
    }
}
