//! What people forge where nobody keeps them from it: marks on pods, and Nodes that say they are another's machine.
//!
//! Decides: who forges what, and when, from the seed alone. Forged marks are shown by the watches and change nothing else: what was really
//! decided about a pod is what the world keeps. A forged Node is an object like any other, on which nothing ever runs.
//! Does not: judge what the operator makes of it (see [`super::check`]).

use super::chance::Chance;
use super::ec2::Later;
use super::event::Event;
use super::faults::Level;
use super::kube::{SimNode, node_of};
use super::world::World;
use crate::core::fleet::{Instance, Node, NodeState};
use crate::core::units::Resources;
use crate::core::units::ids::{ClaimName, DecisionId, NodeName};
use crate::core::units::time::{Millis, Timestamp};
use crate::core::workload::{Pod, Replaces};
use crate::ports::ClusterView;

/// Who forges in a history.
#[derive(Debug, Clone)]
pub struct Forgers {
    of_nodes: Chance,
    /// Owners write marks.
    marks: bool,
    /// Somebody has a join token.
    nodes: bool,
}

/// Names of forged Nodes begin so.
const THIEF: &str = "thief-of-";

impl Forgers {
    /// Those of a seed: in one of four histories owners forge marks, in one of four somebody forges Nodes.
    pub fn new(seed: u64, level: Level) -> Forgers {
        let draw = |name| level != Level::None && Chance::new(seed, name).happens(250);
        Forgers { of_nodes: Chance::new(seed, "forged nodes"), marks: draw("who forges marks"), nodes: draw("who forges nodes") }
    }

    /// Somebody has a join token.
    pub fn nodes(&self) -> bool {
        self.nodes
    }

    /// When the next Node is forged.
    pub fn next(&mut self, now: Timestamp) -> Timestamp {
        now + self.of_nodes.waiting(Millis::from_hours(5))
    }

    /// What the watches show of pods whose owners forge: refused often, in the place of a pod whose machine EC2 takes, and bound to a machine of
    /// their choice.
    pub fn show(&self, view: &mut ClusterView) {
        if !self.marks {
            return;
        }
        let chosen = view.claims.values().find(|claim| claim.takes_work()).map(|claim| claim.name.clone());
        let forges = |pod: &&Pod| pod.identity.uid.as_str().bytes().map(u64::from).sum::<u64>() % 4 == 0;
        let forgers: Vec<_> = view.pods.values().filter(forges).map(|pod| pod.identity.uid.clone()).collect();
        for uid in forgers {
            if let Some(pod) = view.pods.get_mut(&uid) {
                forge(pod, chosen.as_ref());
            }
        }
    }
}

fn forge(pod: &mut Pod, chosen: Option<&ClaimName>) {
    pod.attempt = 7;
    pod.replaces = Some(Box::new(Replaces {
        pod: pod.identity.clone(),
        from_claim: "lt-forged".into(),
        decision: DecisionId(uuid::Uuid::nil()),
        noticed_at: pod.created_at,
        decided_at: pod.created_at,
        deadline: Some(pod.created_at),
        from_region: None,
        work: None,
    }));
    if pod.waits() && pod.claim.is_none() {
        pod.claim = chosen.cloned();
    }
}

/// Whether a Node is a forged one.
pub fn is_forged(name: &NodeName) -> bool {
    name.as_str().starts_with(THIEF)
}

impl World {
    /// A Node registers that says it is one of our machines: under an address of its own, or under that of the machine.
    pub(super) fn somebody_forges_a_node(&mut self, now: Timestamp, later: &mut Later) {
        if self.faults.quiet {
            return;
        }
        later.push((self.forgers.next(now), Event::NodeForged));
        let alive: Vec<Instance> = self.ec2.alive().map(|machine| machine.instance.clone()).collect();
        let Some(Instance { id: instance, addresses, .. }) = self.forgers.of_nodes.one_of(&alive).cloned() else { return };
        // Before the machine itself has joined, nobody could tell: docs/security.md names that as open.
        let bold = self.forgers.of_nodes.happens(500) && self.kube.nodes.contains_key(&node_of(&instance));
        let name = NodeName::from(format!("{THIEF}{instance}"));
        let allocatable = Resources { gpus: 8, ..self.catalog.types.values().next().map(|kind| kind.allocatable()).unwrap_or_default() };
        let of_the_machine = addresses.into_iter().filter(|text| !text.starts_with("ip-")).collect();
        let addresses = if bold { of_the_machine } else { vec!["192.0.2.1".to_owned()] };
        let (forged, state) = (name.clone(), NodeState::default());
        let node =
            Node { name: forged, instance, addresses, ready: true, allocatable, labelled: false, tainted: false, guarded: false, state };
        self.say(&format!("somebody registers {name}{}", if bold { " under the machine's own address" } else { "" }));
        self.kube.put_node(SimNode { node, claim: None, dead: false, joined_at: now, cut_off: None, silence: None });
        later.push((now + self.forgers.of_nodes.span(Millis::from_mins(2), Millis::from_mins(25)), Event::ForgedNodeGoes(name)));
    }
}
