//! Which Node is which machine: according to EC2's names and addresses of the machine, never to what the node claims.
//!
//! Decides: whether a Node object may be used as a machine of ours. Does not: remove Nodes, or judge their health.
//!
//! A node writes its own labels and provider id when it registers, and can claim to be any instance. Its name is bound to its credentials,
//! its address to the network: one of them must be what EC2 describes for that instance. If two Nodes both pass for one machine, that
//! cannot be resolved here, so neither is used.

use std::collections::BTreeMap;

use super::instance::Instance;
use super::node::Node;
use crate::core::units::ids::{InstanceId, NodeName};

/// Why a Node is not used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Doubt {
    /// It claims an instance whose private DNS name and addresses, as EC2 describes them, are not its own.
    NotThatMachine {
        /// The claimed instance.
        instance: InstanceId,
    },
    /// Another Node passes for the same machine.
    Twice {
        /// The instance both claim.
        instance: InstanceId,
        /// The other.
        other: NodeName,
    },
    /// EC2 does not show a machine of ours with that id yet.
    NotSeen {
        /// The claimed instance.
        instance: InstanceId,
    },
}

impl Doubt {
    /// The instance it is about.
    pub fn instance(&self) -> &InstanceId {
        match self {
            Doubt::NotThatMachine { instance } | Doubt::Twice { instance, .. } | Doubt::NotSeen { instance } => instance,
        }
    }

    /// It needs attention: more than EC2 not having been asked yet.
    pub fn is_alarming(&self) -> bool {
        !matches!(self, Doubt::NotSeen { .. })
    }
}

/// The Nodes that must not be used, and why. `known` are the pairs of Node and instance recorded in claims: EC2 confirmed them when they
/// joined, so they stay valid until EC2 has been read again after a start.
pub fn doubts<'a>(
    nodes: &BTreeMap<NodeName, Node>,
    shown: impl Fn(&InstanceId) -> Option<&'a Instance>,
    known: &BTreeMap<&NodeName, &InstanceId>,
) -> BTreeMap<NodeName, Doubt> {
    let mut doubts = BTreeMap::new();
    let mut by_instance: BTreeMap<&InstanceId, &NodeName> = BTreeMap::new();
    for (name, node) in nodes {
        let instance = node.instance.clone();
        match shown(&node.instance) {
            Some(machine) if !machine.addresses.is_empty() && !node.is_at(machine) => {
                doubts.insert(name.clone(), Doubt::NotThatMachine { instance });
                continue;
            }
            Some(machine) if !machine.addresses.is_empty() => {}
            _ if known.get(name) == Some(&&node.instance) => {}
            _ => {
                doubts.insert(name.clone(), Doubt::NotSeen { instance });
                continue;
            }
        }
        if let Some(other) = by_instance.insert(&node.instance, name) {
            let twice = |other: &NodeName| Doubt::Twice { instance: node.instance.clone(), other: other.clone() };
            doubts.insert(other.clone(), twice(name));
            doubts.insert(name.clone(), twice(other));
        }
    }
    doubts
}

impl Node {
    /// Its name, or one of its addresses, is one that EC2 reports for the machine.
    pub fn is_at(&self, machine: &Instance) -> bool {
        machine.addresses.iter().any(|at| at == self.name.as_str() || self.addresses.contains(at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::fleet::InstanceState;
    use crate::core::market::{Capacity, CapacityType};
    use crate::core::units::Resources;
    use crate::core::units::time::Timestamp;

    fn node(name: &str, instance: &str, addresses: &[&str]) -> (NodeName, Node) {
        let addresses = addresses.iter().map(|text| (*text).to_owned()).collect();
        let (ready, labelled, tainted, guarded) = (true, false, false, false);
        let node = Node {
            name: name.into(),
            instance: instance.into(),
            addresses,
            ready,
            allocatable: Resources::default(),
            labelled,
            tainted,
            guarded,
            state: Default::default(),
        };
        (name.into(), node)
    }

    fn machine(id: &str, addresses: &[&str]) -> Instance {
        let capacity = Capacity {
            region: "us-east-1".into(),
            zone: "use1-az1".into(),
            instance_type: "g6.xlarge".into(),
            capacity_type: CapacityType::Spot,
        };
        Instance {
            id: id.into(),
            capacity,
            state: InstanceState::Running,
            launched_at: Timestamp(0),
            ended_at: None,
            state_reason: None,
            spot_request_status: None,
            addresses: addresses.iter().map(|text| (*text).to_owned()).collect(),
            tags: Default::default(),
        }
    }

    #[test]
    fn a_node_is_the_machine_whose_name_or_address_ec2_gives() {
        let ec2 = machine("i-1", &["ip-10-0-0-7.ec2.internal", "ip-10-0-0-7", "10.0.0.7"]);
        let none = BTreeMap::new();
        for (name, addresses) in [("ip-10-0-0-7.ec2.internal", &[][..]), ("ip-10-0-0-7", &[]), ("gpu-3", &["10.0.0.7"])] {
            assert_eq!(
                doubts(&[node(name, "i-1", addresses)].into(), |id| (*id == ec2.id).then_some(&ec2), &none),
                BTreeMap::new(),
                "{name}"
            );
        }
        let thief = [node("thief", "i-1", &["10.0.0.99"])].into();
        let expected = [("thief".into(), Doubt::NotThatMachine { instance: "i-1".into() })].into();
        assert_eq!(doubts(&thief, |id| (*id == ec2.id).then_some(&ec2), &none), expected, "it writes another machine's id on itself");
        let known = BTreeMap::from([("thief".into(), "i-1".into())]);
        let known = known.iter().collect();
        assert_eq!(
            doubts(&thief, |id| (*id == ec2.id).then_some(&ec2), &known),
            expected,
            "a claim that says so does not help against EC2"
        );
    }

    #[test]
    fn two_nodes_for_one_machine_are_both_left_alone() {
        let ec2 = machine("i-1", &["10.0.0.7"]);
        let both = [node("a", "i-1", &["10.0.0.7"]), node("b", "i-1", &["10.0.0.7"])].into();
        let found = doubts(&both, |id| (*id == ec2.id).then_some(&ec2), &BTreeMap::new());
        assert_eq!(found.len(), 2);
        assert!(found.values().all(|doubt| matches!(doubt, Doubt::Twice { .. }) && doubt.is_alarming()), "{found:?}");
    }

    #[test]
    fn before_ec2_was_asked_only_what_a_claim_wrote_down_is_used() {
        let nodes = [node("a", "i-1", &[]), node("b", "i-2", &[])].into();
        let known = BTreeMap::from([("a".into(), "i-1".into())]);
        let found = doubts(&nodes, |_| None, &known.iter().collect());
        assert_eq!(found, [("b".into(), Doubt::NotSeen { instance: "i-2".into() })].into());
        assert!(!found.values().any(Doubt::is_alarming));
    }
}
