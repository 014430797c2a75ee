//! Which Nodes are used, which machines have no claim, and the clocks' differences: kept between passes by one leader.
//!
//! Decides: nothing; [`crate::core::fleet::doubts`] and [`crate::core::fleet::unclaimed_since`] do, from what the cluster and EC2 show.

use std::collections::BTreeMap;

use crate::core::fleet::{Doubt, Instance, Node, doubts, unclaimed_since};
use crate::core::snapshot::{Observed, seen};
use crate::core::units::ids::{InstanceId, NodeName};
use crate::core::units::shared::Shared;
use crate::core::units::time::{Millis, Timestamp};
use crate::engine::state::State;
use crate::ports::ClusterView;

/// The Nodes that are used, and those that are not.
#[derive(Debug, Clone, Default)]
pub(in crate::engine) struct Identified {
    pub(in crate::engine) nodes: Shared<BTreeMap<NodeName, Node>>,
    pub(in crate::engine) doubtful: Shared<BTreeMap<NodeName, Doubt>>,
}

impl State {
    /// Another operator leads now, or this one does again: earlier observations no longer count.
    pub fn leadership_changed(&mut self) {
        (self.unclaimed_since, self.first_sights, self.sighted) = Default::default();
        self.identities = None;
        self.pods_looked_at = None;
        self.held_ends = 0;
    }

    /// What an answer from EC2 said about its clock. It has whole seconds, so a change of less than two is no news.
    pub fn note_ec2_clock(&mut self, ahead: Option<Millis>) {
        let Some(ahead) = ahead else { return };
        let said = if ahead.0.abs() < 2_000 { Millis::ZERO } else { ahead };
        match self.ec2_ahead {
            Some(known) if (ahead - known).0.abs() < 2_000 => return,
            Some(known) => {
                self.clock_jumped(known - ahead);
                self.looks_were_earlier(said - known);
            }
            None => {}
        }
        self.ec2_ahead = Some(said);
    }

    /// Our clock has fallen by `back` against EC2's. A look that was stamped before, read by what EC2's clock is ahead now, would be later than it was,
    /// and a machine that was launched in between would be one that EC2 no longer shows. A look stamped since is made too early by this: the next
    /// one, seconds later, is right.
    fn looks_were_earlier(&mut self, back: Millis) {
        if back.0 <= 0 {
            return;
        }
        for look in self.instances.values_mut() {
            if let Observed::Known { at, .. } = look {
                *at = *at - back;
            }
        }
    }

    /// Our clock is by so much further ahead of EC2's than before: what was first seen was not seen longer ago for that. The other way round
    /// nothing is gained by believing it, and EC2's word may be wrong: then everything is waited for longer.
    fn clock_jumped(&mut self, ahead: Millis) {
        if ahead.0 <= 0 {
            return;
        }
        self.first_sights.shift(ahead);
        self.unclaimed_since.values_mut().for_each(|at| *at = *at + ahead);
        self.memory.clock_jumped(ahead);
    }

    /// Since when what is waited for has been seen so: looked at when claims or pods have changed.
    pub(in crate::engine) fn note_first_sights(&mut self, view: &ClusterView, now: Timestamp) {
        if self.sighted.as_ref().is_some_and(|[claims, pods]| view.claims.is(claims) && view.pods.is(pods)) {
            return;
        }
        if let Some(after) = self.first_sights.after_look(&view.claims, &view.pods, now) {
            self.first_sights = after.into();
        }
        self.sighted = Some([view.claims.mark(), view.pods.mark()]);
    }

    /// Nodes that are not used, and why.
    pub fn doubtful_nodes(&self) -> Shared<BTreeMap<NodeName, Doubt>> {
        self.identities.as_ref().map(|(_, known)| known.doubtful.clone()).unwrap_or_default()
    }

    /// Which Nodes are used, as of the last [`State::take_in`].
    pub(in crate::engine) fn identified(&self) -> Identified {
        self.identities.as_ref().map(|(_, known)| known.clone()).unwrap_or_default()
    }

    /// Which Nodes are used, and since when machines have had no claim.
    pub(in crate::engine) fn identify(&mut self, uid: &str, view: &ClusterView, now: Timestamp) {
        if let Some(([nodes, instances, claims, unreadable], _)) = &self.identities
            && view.nodes.is(nodes)
            && self.instances.is(instances)
            && view.claims.is(claims)
            && view.unreadable_claims.is(unreadable)
        {
            return;
        }
        let marks = [view.nodes.mark(), self.instances.mark(), view.claims.mark(), view.unreadable_claims.mark()];
        let stray = unclaimed_since(uid, &view.claims, &view.unreadable_claims, seen(&self.instances), &self.unclaimed_since, now);
        // Compared first: an equal value is not a change.
        if *self.unclaimed_since != stray {
            self.unclaimed_since = stray.into();
        }
        let written = view.claims.values().filter_map(|c| Some((c.status.node.as_ref()?, c.status.instance.as_ref()?))).collect();
        let by_id: BTreeMap<&InstanceId, &Instance> = seen(&self.instances).map(|i| (&i.id, i)).collect();
        let doubtful = doubts(&view.nodes, |id| by_id.get(id).copied(), &written);
        let mut nodes = view.nodes.clone();
        if !doubtful.is_empty() {
            nodes.retain(|name, _| !doubtful.contains_key(name));
        }
        let before = self.identities.take().map(|(_, known)| known.doubtful).filter(|before| **before == doubtful);
        let known = Identified { nodes, doubtful: before.unwrap_or_else(|| doubtful.into()) };
        self.identities = Some((marks, known));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::fleet::{InstanceState, TagList, tags};
    use crate::core::market::{Capacity, CapacityType};

    fn machine(uid: &str) -> Instance {
        let capacity = Capacity {
            region: "us-east-1".into(),
            zone: "use1-az1".into(),
            instance_type: "g6.xlarge".into(),
            capacity_type: CapacityType::Spot,
        };
        Instance {
            id: "i-1".into(),
            capacity,
            state: InstanceState::Running,
            launched_at: Timestamp(0),
            ended_at: None,
            state_reason: None,
            spot_request_status: None,
            addresses: ["10.0.0.7".to_owned()].into(),
            tags: TagList::default().with(tags::CLUSTER_UID, Some(uid)),
        }
    }

    fn seen_machine(state: &mut State, machine: Instance) {
        let value = [(machine.id.clone(), machine)].into_iter().collect();
        state.instances.insert("us-east-1".into(), Observed::Known { at: Timestamp(0), value });
    }

    #[test]
    fn a_node_that_names_another_machine_is_no_node_of_the_snapshot() {
        let node = |name: &str, address: &str| {
            let addresses = [address.to_owned()].into();
            let (instance, allocatable) = ("i-1".into(), Default::default());
            Node {
                name: name.into(),
                instance,
                addresses,
                ready: true,
                allocatable,
                labelled: false,
                tainted: false,
                guarded: false,
                state: Default::default(),
            }
        };
        let mut state = State::default();
        seen_machine(&mut state, machine("uid"));
        let nodes = [node("true", "10.0.0.7"), node("thief", "10.0.0.66")].into_iter().map(|n| (n.name.clone(), n)).collect();
        let view = ClusterView { nodes, ..ClusterView::default() };
        state.take_in("uid", &view, Timestamp(0));
        let seen = state.snapshot(("c", "uid"), view, Timestamp(0));
        assert_eq!(seen.nodes.keys().map(|name| name.as_str()).collect::<Vec<_>>(), ["true"]);
        assert!(matches!(seen.doubtful_nodes.get(&NodeName::from("thief")), Some(Doubt::NotThatMachine { .. })));
        assert_eq!(state.doubtful_nodes().len(), 1);
    }

    #[test]
    fn spans_outlive_no_leader_and_no_jump_of_our_clock() {
        let mut state = State::default();
        seen_machine(&mut state, machine("uid"));
        let at = |minutes: i64| Timestamp(0) + Millis::from_mins(minutes);
        let since = |state: &mut State, now| {
            state.take_in("uid", &ClusterView::default(), now);
            state.unclaimed_since.values().copied().collect::<Vec<_>>()
        };
        state.note_ec2_clock(Some(Millis::ZERO));
        assert_eq!(since(&mut state, at(10)), [at(10)]);
        state.note_ec2_clock(Some(Millis::from_mins(-4)));
        assert_eq!(since(&mut state, at(15)), [at(14)], "our clock has jumped by four minutes: a minute has passed");
        state.note_ec2_clock(Some(Millis::ZERO));
        assert_eq!(since(&mut state, at(12)), [at(14)], "and back: waited for longer, never shorter");
        state.leadership_changed();
        state.note_ec2_clock(Some(Millis::from_mins(1)));
        assert_eq!(since(&mut state, at(20)), [at(20)]);
    }

    #[test]
    fn a_look_is_no_later_for_our_clock_having_jumped_back() {
        let mut state = State::default();
        seen_machine(&mut state, machine("uid"));
        let looked = |state: &State| match &state.instances[&"us-east-1".into()] {
            Observed::Known { at, .. } => *at + state.ec2_ahead.unwrap_or(Millis::ZERO),
            _ => Timestamp(i64::MAX),
        };
        state.note_ec2_clock(Some(Millis::ZERO));
        let by_ec2 = looked(&state);
        for ahead in [4, 2, -3, 0, 1] {
            state.note_ec2_clock(Some(Millis::from_mins(ahead)));
            assert!(looked(&state) <= by_ec2, "{ahead} minutes ahead");
        }
        state.note_ec2_clock(Some(Millis::from_mins(5)));
        assert!(looked(&state) <= by_ec2);
    }

    #[test]
    fn a_stray_is_counted_from_its_first_sight_by_one_leader_and_again_by_the_next() {
        let mut state = State::default();
        seen_machine(&mut state, machine("uid"));
        let since = |state: &mut State, now| {
            state.take_in("uid", &ClusterView::default(), Timestamp(now));
            state.snapshot(("c", "uid"), ClusterView::default(), Timestamp(now)).unclaimed_since.values().copied().collect::<Vec<_>>()
        };
        assert_eq!([since(&mut state, 5), since(&mut state, 900)], [[Timestamp(5)], [Timestamp(5)]]);
        state.leadership_changed();
        seen_machine(&mut state, machine("uid"));
        assert_eq!(since(&mut state, 1_000), [Timestamp(1_000)]);
        seen_machine(&mut state, machine("another"));
        assert_eq!(since(&mut state, 2_000), [], "not ours, and so no stray of ours");
    }
}
