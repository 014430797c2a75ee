//! The walk over all instances and nodes: whose each is, and whether both are well.
//!
//! Decides: nothing.

use super::of_claims::OfClaims;
use super::places::hash_of;
use super::rest::{Calm, Face};
use super::walks::in_blocks;
use crate::core::fleet::{Instance, Node};

/// What belongs to one claim.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Belongings {
    /// The instance that its status names.
    pub(super) instance: Option<u32>,
    /// The node of that instance.
    pub(super) node: Option<u32>,
    /// What is known of both if they are well.
    pub(super) calm: Option<Calm>,
}

/// What one walk over all instances and nodes finds, put together with the claims: instances by their positions as EC2 shows them, nodes in the order of
/// their names.
#[derive(Debug)]
pub(super) struct OfEc2 {
    /// By the position of their claim.
    pub(super) belongings: Vec<Belongings>,
    /// Instances that no claim's status names, and nodes of such.
    pub(super) other_instances: Vec<u32>,
    pub(super) other_nodes: Vec<u32>,
    /// Instances whose spot request says something.
    pub(super) said_of: Vec<u32>,
    /// Instances of another cluster of our name.
    pub(super) foreign: Vec<u32>,
}

/// What that walk finds by itself, while another thread walks the claims.
pub(super) struct SeenInEc2<'a> {
    instances: Vec<SeenInstance<'a>>,
    nodes: Vec<SeenNode<'a>>,
    said_of: Vec<u32>,
    foreign: Vec<u32>,
}

struct SeenInstance<'a> {
    id: &'a str,
    hash: u64,
    calm: Option<Calm>,
}

struct SeenNode<'a> {
    instance: &'a str,
    hash: u64,
    /// Its GPUs, if it is whole.
    whole: Option<i64>,
}

impl<'a> SeenInEc2<'a> {
    pub(super) fn of(cluster_uid: &str, instances: &[&'a Instance], nodes: &[&'a Node]) -> Self {
        let room = (Vec::with_capacity(instances.len()), Vec::with_capacity(nodes.len()));
        let mut found = SeenInEc2 { instances: room.0, nodes: room.1, said_of: Vec::new(), foreign: Vec::new() };
        in_blocks((0..).zip(instances.iter().copied()), |block| {
            let first = found.instances.len();
            for (at, instance) in block.iter().copied() {
                if instance.spot_request_status.is_some() {
                    found.said_of.push(at);
                }
                let calm = instance.is_alive().then_some(Calm { launched_at: instance.launched_at, gpus: 0 });
                found.instances.push(SeenInstance { id: instance.id.as_str(), hash: 0, calm });
            }
            found.instances[first..].iter_mut().for_each(|seen| seen.hash = hash_of(seen.id));
            // Whose it is stands elsewhere in memory.
            for ((at, instance), seen) in block.iter().zip(&mut found.instances[first..]) {
                if instance.is_of_another(cluster_uid) {
                    found.foreign.push(*at);
                    seen.calm = None;
                }
            }
        });
        in_blocks(nodes.iter().copied(), |block| {
            let first = found.nodes.len();
            let whole = |node: &Node| (node.is_whole() && node.guarded).then_some(node.allocatable.gpus);
            found.nodes.extend(block.iter().map(|node| SeenNode { instance: node.instance.as_str(), hash: 0, whole: whole(node) }));
            found.nodes[first..].iter_mut().for_each(|seen| seen.hash = hash_of(seen.instance));
        });
        found
    }
}

impl OfEc2 {
    pub(super) fn of(seen: SeenInEc2, claims: &OfClaims, faces: &[Face]) -> Self {
        let SeenInEc2 { instances, nodes, said_of, foreign } = seen;
        let (other_instances, other_nodes) = (Vec::new(), Vec::new());
        let mut found = OfEc2 { belongings: vec![Belongings::default(); faces.len()], other_instances, other_nodes, said_of, foreign };
        let whose = |hash, id: &str| claims.by_instance.at(hash, id, |at| faces[at as usize].instance.unwrap_or_default());
        in_blocks((0..).zip(&instances).map(|(own, seen)| (own, seen, whose(seen.hash, seen.id))), |block| {
            for (own, seen, at) in block {
                match at {
                    Some(at) => {
                        let belongings = &mut found.belongings[*at as usize];
                        (belongings.instance, belongings.calm) = (Some(*own), seen.calm);
                    }
                    None => found.other_instances.push(*own),
                }
            }
        });
        in_blocks((0..).zip(&nodes).map(|(own, seen)| (own, seen, whose(seen.hash, seen.instance))), |block| {
            for (own, seen, at) in block {
                let Some(at) = at else {
                    found.other_nodes.push(*own);
                    continue;
                };
                let belongings = &mut found.belongings[*at as usize];
                // Of several Nodes that name one instance the first counts, as the snapshot orders them.
                if belongings.node.is_none() {
                    belongings.node = Some(*own);
                    belongings.calm = belongings.calm.zip(seen.whole).map(|(calm, gpus)| Calm { gpus, ..calm });
                }
            }
        });
        found
    }
}
