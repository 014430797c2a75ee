//! The walks over all claims, all pods, and all instances with their nodes. Each object is visited once: fifty thousand of each do not fit the processor's
//! caches, and a second visit takes longer than all the rest of a pass with nothing to do.
//!
//! Decides: nothing.

use std::collections::BTreeMap;

use super::rest::{Calm, Here, Settled};
use super::{Lookup, lookup};
use crate::core::fleet::{Claim, Instance, Node};
use crate::core::snapshot::{Snapshot, seen};
use crate::core::units::ids::PoolName;
use crate::core::units::money::MicroUsdPerHour;
use crate::core::workload::{Pod, PodPhase};

/// The machines that a node pool has now.
#[derive(Clone, Copy, Default)]
pub(in crate::core::plan) struct Held {
    pub(in crate::core::plan) claims: i64,
    pub(in crate::core::plan) gpus: i64,
    pub(in crate::core::plan) price_per_hour: MicroUsdPerHour,
    pub(in crate::core::plan) on_demand_per_hour: MicroUsdPerHour,
}

impl Held {
    fn add(&mut self, claim: &Claim) {
        let spec = &claim.spec;
        self.claims += 1;
        self.gpus += spec.gpus;
        self.price_per_hour = self.price_per_hour + spec.price_per_hour;
        self.on_demand_per_hour = self.on_demand_per_hour + spec.on_demand_per_hour.unwrap_or(spec.price_per_hour);
    }
}

/// What one walk over all claims finds.
pub(super) struct OfClaims<'a> {
    /// Where in [`Index::machines`], by the claim's name.
    pub(super) by_name: Lookup<&'a str, u32>,
    /// Claims whose work is being moved off, by name.
    pub(super) leaving: Vec<&'a Claim>,
    /// Claims that are to take over the work of another, by name.
    pub(super) taking_over: Vec<&'a Claim>,
    /// Claims whose machine EC2 warned of, by name.
    pub(super) warned: Vec<&'a Claim>,
    /// Claims whose machine EC2 takes back, by name.
    pub(super) interrupted: Vec<&'a Claim>,
    /// Claims for whose machine EC2 has scheduled something, by name.
    pub(super) scheduled: Vec<&'a Claim>,
    /// Claims with which nothing is under way, by their position.
    pub(super) settled: Vec<Option<Settled<'a>>>,
    /// What each node pool has.
    pub(super) held: BTreeMap<&'a PoolName, Held>,
}

/// What one walk over all pods finds.
pub(super) struct OfPods<'a> {
    /// Pods that hold a place, claim by claim, oldest first.
    pub(super) placed: Vec<&'a Pod>,
    /// Where in `placed` the pods of each claim begin; one more than there are claims.
    pub(super) from: Vec<u32>,
    /// Pods that hold a place on a claim that is not there, by its name, oldest first.
    pub(super) astray: Lookup<&'a str, Vec<&'a Pod>>,
    /// Pods behind our gate that are not being deleted, by uid.
    pub(super) gated: Vec<&'a Pod>,
    /// Pods that were bound as replacements, by uid.
    pub(super) replacing: Vec<&'a Pod>,
    /// ... by the uid of the pod that each replaces.
    pub(super) replacements: Lookup<&'a str, &'a Pod>,
    /// Pods that were let go, by uid.
    pub(super) let_go: Vec<&'a Pod>,
    /// Pods that something keeps from running, by uid.
    pub(super) stuck: Vec<&'a Pod>,
    /// What pods say of the machine of each settled claim, by its position.
    pub(super) here: Vec<Here>,
}

/// What one walk over all instances and nodes finds.
pub(super) struct OfEc2<'a> {
    /// Where in [`Index::machines`], by the instance that the claim's status names; the first claim counts.
    pub(super) by_instance: Lookup<&'a str, u32>,
    /// By the position of their claim.
    pub(super) instances: Vec<Option<&'a Instance>>,
    pub(super) nodes: Vec<Option<&'a Node>>,
    pub(super) calm: Vec<Option<Calm>>,
    /// Instances that no claim's status names, and nodes of such, by the instance's id.
    pub(super) other_instances: Lookup<&'a str, &'a Instance>,
    pub(super) other_nodes: Lookup<&'a str, &'a Node>,
    /// Instances whose spot request says something, as EC2 shows them.
    pub(super) said_of: Vec<&'a Instance>,
    /// Instances of another cluster of our name, as EC2 shows them.
    pub(super) foreign: Vec<&'a Instance>,
}

impl<'a> OfClaims<'a> {
    pub(super) fn of(world: &'a Snapshot) -> Self {
        let mut found = OfClaims {
            by_name: lookup(world.claims.len()),
            leaving: Vec::new(),
            taking_over: Vec::new(),
            warned: Vec::new(),
            interrupted: Vec::new(),
            scheduled: Vec::new(),
            settled: Vec::with_capacity(world.claims.len()),
            held: BTreeMap::new(),
        };
        for (at, claim) in (0..).zip(world.claims.values()) {
            found.by_name.insert(claim.name.as_str(), at);
            if claim.status.moving.is_some() {
                found.leaving.push(claim);
            }
            if claim.spec.takes_over.is_some() {
                found.taking_over.push(claim);
            }
            if claim.is_warned() {
                found.warned.push(claim);
            }
            if claim.interrupted() {
                found.interrupted.push(claim);
            }
            if claim.status.scheduled.is_some() {
                found.scheduled.push(claim);
            }
            if claim.status.instance.is_some() && claim.may_run() {
                found.held.entry(&claim.spec.node_pool).or_default().add(claim);
            }
            found.settled.push(Settled::of(world, claim));
        }
        found
    }
}

impl<'a> OfPods<'a> {
    pub(super) fn of(world: &'a Snapshot, claims: &OfClaims<'a>) -> Self {
        let by_name = &claims.by_name;
        let mut found = OfPods {
            placed: Vec::new(),
            from: vec![0; by_name.len() + 1],
            astray: lookup(0),
            gated: Vec::new(),
            replacing: Vec::new(),
            replacements: lookup(0),
            let_go: Vec::new(),
            stuck: Vec::new(),
            here: vec![Here::default(); by_name.len()],
        };
        let mut placed: Vec<(u32, &Pod)> = Vec::with_capacity(world.pods.len());
        for pod in world.pods.values() {
            if let (Some(claim), false) = (&pod.claim, pod.finished()) {
                match by_name.get(claim.as_str()) {
                    Some(at) => {
                        placed.push((*at, pod));
                        if let Some(settled) = &claims.settled[*at as usize] {
                            found.here[*at as usize].note(settled, pod);
                        }
                    }
                    None => found.astray.entry(claim.as_str()).or_default().push(pod),
                }
            }
            found.note(world, pod);
        }
        // Counted, then laid out: by claim, and by uid within one.
        for (at, _) in &placed {
            found.from[*at as usize + 1] += 1;
        }
        for at in 1..found.from.len() {
            found.from[at] += found.from[at - 1];
        }
        let mut next = found.from.clone();
        if let Some((_, any)) = placed.first() {
            found.placed = vec![*any; placed.len()];
        }
        for (at, pod) in placed {
            let next = &mut next[at as usize];
            found.placed[*next as usize] = pod;
            *next += 1;
        }
        let oldest_first = |pods: &mut [&Pod]| pods.sort_by_key(|pod| pod.created_at);
        for at in 1..found.from.len() {
            let (from, to) = (found.from[at - 1] as usize, found.from[at] as usize);
            if to - from > 1 {
                oldest_first(&mut found.placed[from..to]);
            }
        }
        found.astray.values_mut().for_each(|pods| oldest_first(pods));
        found
    }

    fn note(&mut self, world: &'a Snapshot, pod: &'a Pod) {
        if pod.phase == PodPhase::Gated && pod.deleting_until.is_none() {
            self.gated.push(pod);
        }
        // The mark says where to look; what counts is what its claim keeps.
        if let Some(replaced) = pod.replaces.as_ref().and_then(|_| world.held(pod).replaces) {
            self.replacing.push(pod);
            self.replacements.entry(replaced.pod.uid.as_str()).or_insert(pod);
        }
        if pod.let_go.is_some() {
            self.let_go.push(pod);
        }
        if pod.stuck.is_some() {
            self.stuck.push(pod);
        }
    }
}

impl<'a> OfEc2<'a> {
    pub(super) fn of(world: &'a Snapshot) -> Self {
        let mut by_instance = lookup(world.claims.len());
        for (at, claim) in (0..).zip(world.claims.values()) {
            if let Some(id) = &claim.status.instance {
                by_instance.entry(id.as_str()).or_insert(at);
            }
        }
        let mut found = OfEc2 {
            by_instance,
            instances: vec![None; world.claims.len()],
            nodes: vec![None; world.claims.len()],
            calm: vec![None; world.claims.len()],
            other_instances: lookup(0),
            other_nodes: lookup(0),
            said_of: Vec::new(),
            foreign: Vec::new(),
        };
        for instance in seen(&world.instances) {
            let foreign = instance.is_of_another(&world.cluster_uid);
            match found.by_instance.get(instance.id.as_str()) {
                Some(at) => {
                    let calm = instance.is_alive() && !foreign;
                    found.instances[*at as usize] = Some(instance);
                    found.calm[*at as usize] = calm.then_some(Calm { launched_at: instance.launched_at, gpus: 0 });
                }
                None => {
                    found.other_instances.insert(instance.id.as_str(), instance);
                }
            }
            if instance.spot_request_status.is_some() {
                found.said_of.push(instance);
            }
            if foreign {
                found.foreign.push(instance);
            }
        }
        for node in world.nodes.values() {
            // Of several Nodes that name one instance the first counts, as the snapshot orders them.
            match found.by_instance.get(node.instance.as_str()) {
                Some(at) if found.nodes[*at as usize].is_none() => {
                    found.nodes[*at as usize] = Some(node);
                    let calm = found.calm[*at as usize].filter(|_| node.is_whole() && node.guarded);
                    found.calm[*at as usize] = calm.map(|calm| Calm { gpus: node.allocatable.gpus, ..calm });
                }
                Some(_) => (),
                None => {
                    found.other_nodes.entry(node.instance.as_str()).or_insert(node);
                }
            }
        }
        found
    }
}
