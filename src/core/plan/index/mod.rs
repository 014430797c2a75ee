//! What belongs together in one snapshot, found once a pass: the instance, the node and the pods of each claim; pods of a workload, of a Job.
//!
//! Decides: nothing. No rule walks all pods or all claims to find one of them; what only some passes ask for is built when it is asked for.
//! Looked up by hash, never walked in the order of a hash: the same snapshot gives the same plan. Large worlds are walked by two threads, and what the last
//! pass noted of a part that has not changed since is not made again ([`Notes`]): both change how long it takes and nothing else.

mod asked;
mod marks;
mod notes;
mod of_claims;
mod of_ec2;
mod of_pods;
mod places;
mod rest;
mod walks;

use std::collections::BTreeMap;
use std::hash::BuildHasherDefault;

use rustc_hash::FxHasher;

use crate::core::fleet::{Claim, Instance, Node, tags};
use crate::core::snapshot::Snapshot;
use crate::core::units::ids::{ClaimName, InstanceId, NodeName, PoolName};
use crate::core::workload::Pod;

use self::asked::Asked;
use self::notes::Noted;
use self::of_ec2::Belongings;
use self::places::hash_of;

pub use self::notes::Notes;

pub(super) use self::marks::Claims;
pub(super) use self::of_claims::Held;
pub(super) use self::rest::{Calm, Here, Settled};

/// Looked up, never walked.
type Lookup<K, V> = std::collections::HashMap<K, V, BuildHasherDefault<FxHasher>>;

fn lookup<K, V>(room: usize) -> Lookup<K, V> {
    Lookup::with_capacity_and_hasher(room, BuildHasherDefault::default())
}

/// The indexes over one snapshot.
pub(super) struct Index<'a> {
    world: &'a Snapshot,
    /// Every claim, by name.
    machines: Vec<Machine<'a>>,
    /// Pods that hold a place, claim by claim, oldest first.
    placed: Vec<&'a Pod>,
    noted: Noted<'a>,
    leaving: Vec<&'a Claim>,
    taking_over: Vec<&'a Claim>,
    warned: Vec<&'a Claim>,
    interrupted: Vec<&'a Claim>,
    scheduled: Vec<&'a Claim>,
    gated: Vec<&'a Pod>,
    let_go: Vec<&'a Pod>,
    stuck: Vec<&'a Pod>,
    /// Pods that were bound as replacements, by uid.
    replacing: Vec<&'a Pod>,
    /// ... by the uid of the pod that each replaces.
    replacements: Lookup<&'a str, &'a Pod>,
    /// Pods that hold a place on a claim that is not there, by its name, oldest first.
    astray: Lookup<&'a str, Vec<&'a Pod>>,
    said_of: Vec<&'a Instance>,
    foreign: Vec<&'a Instance>,
    /// Instances that no claim's status names, and nodes of such, by the instance's id.
    other_instances: Lookup<&'a str, &'a Instance>,
    other_nodes: Lookup<&'a str, &'a Node>,
    asked: Asked<'a>,
}

/// A claim with what belongs to it.
#[derive(Clone, Copy)]
pub(super) struct Machine<'a> {
    /// The claim, without the marks of this pass.
    pub(super) claim: &'a Claim,
    /// The instance that its status names, where EC2 shows it.
    pub(super) instance: Option<&'a Instance>,
    /// The node of that instance.
    pub(super) node: Option<&'a Node>,
    /// What is known of both if they are well.
    calm: Option<Calm>,
    /// Where its pods begin and end in [`Index::placed`].
    pods: (u32, u32),
}

impl<'a> Machine<'a> {
    /// Pods that hold a place on it, oldest first; `placed` is [`Index::placed`].
    pub(super) fn pods_among<'p>(&self, placed: &'p [&'a Pod]) -> &'p [&'a Pod] {
        &placed[self.pods.0 as usize..self.pods.1 as usize]
    }
}

/// The objects at these positions.
fn at<'a, T>(positions: &[u32], all: &[&'a T]) -> Vec<&'a T> {
    positions.iter().map(|at| all[*at as usize]).collect()
}

fn machines<'a>(noted: &Noted<'a>) -> Vec<Machine<'a>> {
    let belongs = noted.of_ec2.belongings.iter().zip(noted.of_pods.from.windows(2));
    let machine = |(claim, (own, pods)): (&&'a Claim, (&Belongings, &[u32]))| Machine {
        claim,
        instance: own.instance.map(|at| noted.instances[at as usize]),
        node: own.node.map(|at| noted.nodes[at as usize]),
        calm: own.calm.filter(|_| own.node.is_some()),
        pods: (pods[0], pods[1]),
    };
    noted.claims.iter().zip(belongs).map(machine).collect()
}

impl<'a> Index<'a> {
    /// With what was noted of a world before; `notes` are of this one then.
    pub(super) fn of(world: &'a Snapshot, notes: &mut Notes) -> (Index<'a>, Claims<'a>) {
        let noted = notes.take(world);
        let (of_claims, of_pods, of_ec2) = (&noted.of_claims, &noted.of_pods, &noted.of_ec2);
        let mut astray: Lookup<&str, Vec<&Pod>> = lookup(0);
        for pod in at(&of_pods.astray, &noted.pods) {
            pod.claim.iter().for_each(|claim| astray.entry(claim.as_str()).or_default().push(pod));
        }
        astray.values_mut().for_each(|pods| pods.sort_by_key(|pod| pod.created_at));
        // The mark says where to look; what counts is what its claim keeps.
        let (mut replacing, mut replacements) = (Vec::new(), lookup(0));
        for pod in at(&of_pods.replacing, &noted.pods) {
            if let Some(replaced) = world.held(pod).replaces {
                replacing.push(pod);
                replacements.entry(replaced.pod.uid.as_str()).or_insert(pod);
            }
        }
        let mut other_nodes: Lookup<&str, &Node> = lookup(0);
        for node in at(&of_ec2.other_nodes, &noted.nodes) {
            other_nodes.entry(node.instance.as_str()).or_insert(node);
        }
        let index = Index {
            world,
            machines: machines(&noted),
            placed: at(&of_pods.placed, &noted.pods),
            leaving: at(&of_claims.leaving, &noted.claims),
            taking_over: at(&of_claims.taking_over, &noted.claims),
            warned: at(&of_claims.warned, &noted.claims),
            interrupted: at(&of_claims.interrupted, &noted.claims),
            scheduled: at(&of_claims.scheduled, &noted.claims),
            gated: at(&of_pods.gated, &noted.pods),
            let_go: at(&of_pods.let_go, &noted.pods),
            stuck: at(&of_pods.stuck, &noted.pods),
            replacing,
            replacements,
            astray,
            said_of: at(&of_ec2.said_of, &noted.instances),
            foreign: at(&of_ec2.foreign, &noted.instances),
            other_instances: at(&of_ec2.other_instances, &noted.instances).into_iter().map(|seen| (seen.id.as_str(), seen)).collect(),
            other_nodes,
            noted,
            asked: Asked::default(),
        };
        (index, Claims::of(world))
    }

    /// Every claim with what belongs to it, by name.
    pub(super) fn machines(&self) -> &[Machine<'a>] {
        &self.machines
    }

    /// What was noted of every machine, in the order of [`Index::machines`]: of its claim with the hours that the ledger has, of its pods, of its instance and
    /// node.
    pub(super) fn noted(&self) -> impl Iterator<Item = (Option<(&Settled, u32)>, &Here, Option<&Calm>)> {
        let claims = self.noted.of_claims.settled.iter().zip(&*self.noted.books);
        let claims = claims.map(|(settled, hours)| settled.as_ref().zip(*hours));
        claims.zip(&self.noted.of_pods.here).zip(&self.machines).map(|((claim, here), machine)| (claim, here, machine.calm.as_ref()))
    }

    /// What each node pool has.
    pub(super) fn held(&self) -> &BTreeMap<PoolName, Held> {
        &self.noted.of_claims.held
    }

    /// Claims whose work is being moved off, by name.
    pub(super) fn leaving(&self) -> &[&'a Claim] {
        &self.leaving
    }

    /// Claims that are to take over the work of another, by name.
    pub(super) fn taking_over(&self) -> &[&'a Claim] {
        &self.taking_over
    }

    /// Claims whose machine EC2 warned of, before this pass.
    pub(super) fn warned(&self) -> &[&'a Claim] {
        &self.warned
    }

    /// Claims whose machine EC2 takes back, by name.
    pub(super) fn interrupted(&self) -> &[&'a Claim] {
        &self.interrupted
    }

    /// Claims for whose machine EC2 has scheduled something, by name.
    pub(super) fn scheduled(&self) -> &[&'a Claim] {
        &self.scheduled
    }

    /// Where in [`Index::machines`] the claim of this name is.
    pub(super) fn position(&self, claim: &ClaimName) -> Option<usize> {
        self.position_of(claim.as_str())
    }

    fn position_of(&self, claim: &str) -> Option<usize> {
        let name_at = |at: u32| self.noted.claims[at as usize].name.as_str();
        self.noted.of_claims.by_name.at(hash_of(claim), claim, name_at).map(|at| at as usize)
    }

    /// Where in [`Index::machines`] the first claim is whose status names this instance.
    fn position_on(&self, instance: &str) -> Option<usize> {
        let id_at = |at: u32| self.noted.claims[at as usize].status.instance.as_ref().map_or("", |id| id.as_str());
        self.noted.of_claims.by_instance.at(hash_of(instance), instance, id_at).map(|at| at as usize)
    }

    /// Instances whose spot request has a status that matters.
    pub(super) fn said_of(&self) -> &[&'a Instance] {
        &self.said_of
    }

    /// Pods that hold a place on a claim, oldest first.
    pub(super) fn pods_on(&self, claim: &ClaimName) -> &[&'a Pod] {
        match self.position(claim) {
            Some(at) => self.machines[at].pods_among(&self.placed),
            None => self.astray.get(claim.as_str()).map_or(&[], Vec::as_slice),
        }
    }

    /// Pods that our gate holds and nobody deletes.
    pub(super) fn gated(&self) -> &[&'a Pod] {
        &self.gated
    }

    /// Pods that were bound as replacements of others.
    pub(super) fn replacing(&self) -> &[&'a Pod] {
        &self.replacing
    }

    /// Pods that their controller has let go.
    pub(super) fn let_go(&self) -> &[&'a Pod] {
        &self.let_go
    }

    /// Pods that something keeps from running.
    pub(super) fn stuck(&self) -> &[&'a Pod] {
        &self.stuck
    }

    /// Instances of another cluster of our name.
    pub(super) fn foreign(&self) -> &[&'a Instance] {
        &self.foreign
    }

    /// The pod that was bound as the replacement of `old`.
    pub(super) fn replacement_of(&self, old: &Pod) -> Option<&'a Pod> {
        self.replacements.get(old.identity.uid.as_str()).copied()
    }

    /// The instance of this id, where EC2 shows it.
    pub(super) fn instance(&self, id: &InstanceId) -> Option<&'a Instance> {
        match self.position_on(id.as_str()) {
            Some(at) => self.machines[at].instance,
            None => self.other_instances.get(id.as_str()).copied(),
        }
    }

    /// The node that runs on this instance.
    pub(super) fn node_on(&self, instance: Option<&InstanceId>) -> Option<&'a Node> {
        let instance = instance?.as_str();
        match self.position_on(instance) {
            Some(at) => self.machines[at].node,
            None => self.other_nodes.get(instance).copied(),
        }
    }

    /// The node of this name.
    pub(super) fn node(&self, name: &NodeName) -> Option<&'a Node> {
        self.world.nodes.get(name)
    }

    /// The claim whose status names this instance.
    pub(super) fn claim_of(&self, instance: &InstanceId) -> Option<&'a ClaimName> {
        // Of two claims that name one instance, the one that its tag names.
        let tagged = self.instance(instance).and_then(|seen| seen.tags.get(tags::CLAIM));
        let tagged = tagged.and_then(|name| Some(&self.machines[self.position_of(name)?].claim.name));
        let own = tagged.filter(|name| self.world.claims.get(*name).is_some_and(|claim| claim.status.instance.as_ref() == Some(instance)));
        own.or_else(|| self.position_on(instance.as_str()).map(|at| &self.machines[at].claim.name))
    }
}
