//! What belongs together in one snapshot, found once a pass: the instance, the node and the pods of each claim; pods of a workload, of a Job.
//!
//! Decides: nothing. No rule walks all pods or all claims to find one of them; what only some passes ask for is built when it is asked for.
//! Looked up by hash, never walked in the order of a hash: the same snapshot gives the same plan. Large worlds are walked by two threads, which
//! changes how long it takes and nothing else.

mod rest;
mod walks;

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::hash::BuildHasherDefault;

use rustc_hash::FxHasher;

use crate::core::fleet::{Claim, Instance, Node, tags};
use crate::core::snapshot::{Snapshot, seen};
use crate::core::units::ids::{ClaimName, InstanceId, NodeName, PoolName, Uid};
use crate::core::workload::{Mobility, Pod, PodPhase, Replaces, Workload};

use self::walks::{OfClaims, OfEc2, OfPods};

pub(super) use self::rest::{Calm, Here, Settled};
pub(super) use self::walks::Held;

/// Looked up, never walked.
type Lookup<K, V> = std::collections::HashMap<K, V, BuildHasherDefault<FxHasher>>;

fn lookup<K, V>(room: usize) -> Lookup<K, V> {
    Lookup::with_capacity_and_hasher(room, BuildHasherDefault::default())
}

/// Fewer objects are walked sooner than a second thread has started.
const WORTH_A_THREAD: usize = 4_000;

/// The claims of a snapshot with the marks of this pass: a claim that is doomed in this pass takes no new work in this pass.
#[derive(Clone)]
pub(super) struct Claims<'a> {
    world: &'a BTreeMap<ClaimName, Claim>,
    marked: BTreeMap<ClaimName, Claim>,
}

impl<'a> Claims<'a> {
    fn of(world: &'a Snapshot) -> Self {
        Claims { world: &world.claims, marked: BTreeMap::new() }
    }

    /// The claim as this pass has marked it.
    pub(super) fn get(&self, name: &ClaimName) -> Option<&Claim> {
        self.marked.get(name).or_else(|| self.world.get(name))
    }

    /// All of them, by name.
    pub(super) fn values(&self) -> impl Iterator<Item = &Claim> + Clone {
        let none = self.marked.is_empty();
        self.world.iter().map(move |(name, claim)| if none { claim } else { self.marked.get(name).unwrap_or(claim) })
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.world.len()
    }

    /// Those that this pass has marked.
    pub(super) fn marked(&self) -> impl Iterator<Item = &ClaimName> {
        self.marked.keys()
    }

    /// Changes what this pass sees of a claim.
    pub(super) fn mark(&mut self, name: &ClaimName, change: impl FnOnce(&mut Claim)) {
        if let Some(claim) = self.get(name).cloned() {
            change(self.marked.entry(name.clone()).or_insert(claim));
        }
    }
}

/// The indexes over one snapshot.
pub(super) struct Index<'a> {
    world: &'a Snapshot,
    /// Every claim, by name.
    machines: Vec<Machine<'a>>,
    of_claims: OfClaims<'a>,
    of_pods: OfPods<'a>,
    of_ec2: OfEc2<'a>,
    let_go_by: OnceCell<Lookup<&'a str, Vec<&'a Pod>>>,
    by_workload: OnceCell<BTreeMap<&'a Workload, Vec<&'a Pod>>>,
    by_job: OnceCell<Lookup<&'a str, Vec<&'a Pod>>>,
    by_gang: OnceCell<BTreeMap<&'a str, BTreeMap<&'a str, Vec<&'a Pod>>>>,
    bought_for: OnceCell<Lookup<&'a str, Vec<&'a ClaimName>>>,
    promised: OnceCell<Lookup<&'a str, ()>>,
    successors: OnceCell<Lookup<&'a str, Vec<&'a Claim>>>,
    by_claim_uid: OnceCell<Lookup<&'a str, &'a Instance>>,
    claim_uids: OnceCell<Lookup<&'a str, ()>>,
    deleted_at_work: OnceCell<u64>,
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
    /// Where its pods begin and end in [`OfPods::placed`].
    pods: (u32, u32),
}

impl<'a> Machine<'a> {
    /// Pods that hold a place on it, oldest first; `placed` is [`Index::placed`].
    pub(super) fn pods_among<'p>(&self, placed: &'p [&'a Pod]) -> &'p [&'a Pod] {
        &placed[self.pods.0 as usize..self.pods.1 as usize]
    }
}

impl<'a> Index<'a> {
    pub(super) fn of(world: &'a Snapshot) -> (Index<'a>, Claims<'a>) {
        // Two walks that have nothing in common but what they read.
        let (of_claims, of_pods, mut of_ec2) = if world.pods.len() + world.nodes.len() > WORTH_A_THREAD {
            std::thread::scope(|scope| {
                let ec2 = scope.spawn(|| OfEc2::of(world));
                let of_claims = OfClaims::of(world);
                let of_pods = OfPods::of(world, &of_claims);
                (of_claims, of_pods, ec2.join().unwrap_or_else(|fault| std::panic::resume_unwind(fault)))
            })
        } else {
            let of_claims = OfClaims::of(world);
            let of_pods = OfPods::of(world, &of_claims);
            (of_claims, of_pods, OfEc2::of(world))
        };
        let (instances, nodes) = (std::mem::take(&mut of_ec2.instances), std::mem::take(&mut of_ec2.nodes));
        let belongs = instances.into_iter().zip(nodes).zip(of_pods.from.windows(2));
        let joined = world.claims.values().zip(belongs);
        let machines =
            joined.map(|(claim, ((instance, node), pods))| Machine { claim, instance, node, pods: (pods[0], pods[1]) }).collect();
        let index = Index {
            world,
            machines,
            of_claims,
            of_pods,
            of_ec2,
            let_go_by: OnceCell::new(),
            by_workload: OnceCell::new(),
            by_job: OnceCell::new(),
            by_gang: OnceCell::new(),
            bought_for: OnceCell::new(),
            promised: OnceCell::new(),
            successors: OnceCell::new(),
            by_claim_uid: OnceCell::new(),
            claim_uids: OnceCell::new(),
            deleted_at_work: OnceCell::new(),
        };
        (index, Claims::of(world))
    }

    /// Every claim with what belongs to it, by name.
    pub(super) fn machines(&self) -> &[Machine<'a>] {
        &self.machines
    }

    /// What was noted of every machine, in the order of [`Index::machines`]: of its claim, of its pods, of its instance and node.
    pub(super) fn noted(&self) -> impl Iterator<Item = (Option<&Settled<'a>>, &Here, Option<&Calm>)> {
        let ec2 = self.of_ec2.calm.iter().zip(&self.machines).map(|(calm, machine)| machine.node.and(calm.as_ref()));
        self.of_claims.settled.iter().zip(&self.of_pods.here).zip(ec2).map(|((settled, here), calm)| (settled.as_ref(), here, calm))
    }

    /// What each node pool has.
    pub(super) fn held(&self) -> &BTreeMap<&'a PoolName, Held> {
        &self.of_claims.held
    }

    /// Claims whose work is being moved off, by name.
    pub(super) fn leaving(&self) -> &[&'a Claim] {
        &self.of_claims.leaving
    }

    /// Claims that are to take over the work of another, by name.
    pub(super) fn taking_over(&self) -> &[&'a Claim] {
        &self.of_claims.taking_over
    }

    /// Claims whose machine EC2 warned of, before this pass.
    pub(super) fn warned(&self) -> &[&'a Claim] {
        &self.of_claims.warned
    }

    /// Claims whose machine EC2 takes back, by name.
    pub(super) fn interrupted(&self) -> &[&'a Claim] {
        &self.of_claims.interrupted
    }

    /// Claims for whose machine EC2 has scheduled something, by name.
    pub(super) fn scheduled(&self) -> &[&'a Claim] {
        &self.of_claims.scheduled
    }

    /// How many claims with work on them are being deleted and have not been left yet.
    pub(super) fn deleted_at_work(&self) -> u64 {
        *self.deleted_at_work.get_or_init(|| {
            let waits =
                |m: &&Machine| m.claim.deleting && m.claim.status.moving.is_none() && !m.pods_among(&self.of_pods.placed).is_empty();
            u64::try_from(self.machines.iter().filter(waits).count()).unwrap_or(u64::MAX)
        })
    }

    /// Where in [`Index::machines`] the claim of this name is.
    pub(super) fn position(&self, claim: &ClaimName) -> Option<usize> {
        self.of_claims.by_name.get(claim.as_str()).map(|at| *at as usize)
    }

    /// Instances whose spot request has a status that matters.
    pub(super) fn said_of(&self) -> &[&'a Instance] {
        &self.of_ec2.said_of
    }

    /// Pods that hold a place on a claim, oldest first.
    pub(super) fn pods_on(&self, claim: &ClaimName) -> &[&'a Pod] {
        match self.position(claim) {
            Some(at) => self.machines[at].pods_among(&self.of_pods.placed),
            None => self.of_pods.astray.get(claim.as_str()).map_or(&[], Vec::as_slice),
        }
    }

    /// Pods that our gate holds and nobody deletes.
    pub(super) fn gated(&self) -> &[&'a Pod] {
        &self.of_pods.gated
    }

    /// Pods that were bound as replacements of others.
    pub(super) fn replacing(&self) -> &[&'a Pod] {
        &self.of_pods.replacing
    }

    /// Pods that their controller has let go.
    pub(super) fn let_go(&self) -> &[&'a Pod] {
        &self.of_pods.let_go
    }

    /// Pods that something keeps from running.
    pub(super) fn stuck(&self) -> &[&'a Pod] {
        &self.of_pods.stuck
    }

    /// Instances of another cluster of our name.
    pub(super) fn foreign(&self) -> &[&'a Instance] {
        &self.of_ec2.foreign
    }

    /// Pods that this controller has let go, the first to be let go first.
    pub(super) fn let_go_by(&self, controller: &Uid) -> &[&'a Pod] {
        let made = self.let_go_by.get_or_init(|| {
            let mut found: Lookup<&str, Vec<&Pod>> = lookup(0);
            let mut in_order = self.of_pods.let_go.clone();
            in_order.sort_by_key(|pod| (pod.let_go.as_ref().map(|mark| mark.at), &pod.identity.uid));
            for pod in in_order {
                if let Some(mark) = &pod.let_go {
                    found.entry(mark.controller.as_str()).or_default().push(pod);
                }
            }
            found
        });
        made.get(controller.as_str()).map_or(&[], Vec::as_slice)
    }

    /// The pod that was bound as the replacement of `old`.
    pub(super) fn replacement_of(&self, old: &Pod) -> Option<&'a Pod> {
        self.of_pods.replacements.get(old.identity.uid.as_str()).copied()
    }

    /// The instance of this id, where EC2 shows it.
    pub(super) fn instance(&self, id: &InstanceId) -> Option<&'a Instance> {
        match self.of_ec2.by_instance.get(id.as_str()) {
            Some(at) => self.machines[*at as usize].instance,
            None => self.of_ec2.other_instances.get(id.as_str()).copied(),
        }
    }

    /// The node that runs on this instance.
    pub(super) fn node_on(&self, instance: Option<&InstanceId>) -> Option<&'a Node> {
        let instance = instance?.as_str();
        match self.of_ec2.by_instance.get(instance) {
            Some(at) => self.machines[*at as usize].node,
            None => self.of_ec2.other_nodes.get(instance).copied(),
        }
    }

    /// The node of this name.
    pub(super) fn node(&self, name: &NodeName) -> Option<&'a Node> {
        self.world.nodes.get(name)
    }

    /// All pods of a workload.
    pub(super) fn of_workload(&self, workload: &Workload) -> &[&'a Pod] {
        let made = self.by_workload.get_or_init(|| {
            let mut found: BTreeMap<&Workload, Vec<&Pod>> = BTreeMap::new();
            for pod in self.world.pods.values() {
                found.entry(&pod.workload).or_default().push(pod);
            }
            found
        });
        made.get(workload).map_or(&[], Vec::as_slice)
    }

    /// All pods that a Job made, those that it has let go included.
    pub(super) fn of_job(&self, job: &Uid) -> &[&'a Pod] {
        let made = self.by_job.get_or_init(|| {
            let mut found: Lookup<&str, Vec<&Pod>> = lookup(0);
            for pod in self.world.pods.values() {
                let own = if let Mobility::Job { job_uid, .. } = &*pod.mobility { Some(job_uid) } else { None };
                let former = pod.let_go.as_ref().map(|mark| &mark.controller).filter(|controller| Some(*controller) != own);
                for job in own.into_iter().chain(former) {
                    found.entry(job.as_str()).or_default().push(pod);
                }
            }
            found
        });
        made.get(job.as_str()).map_or(&[], Vec::as_slice)
    }

    /// All pods of a gang in a namespace.
    pub(super) fn of_gang(&self, namespace: &str, gang: &str) -> &[&'a Pod] {
        let made = self.by_gang.get_or_init(|| {
            let mut found: BTreeMap<&str, BTreeMap<&str, Vec<&Pod>>> = BTreeMap::new();
            for pod in self.world.pods.values() {
                if let Some(gang) = pod.need.as_ref().ok().and_then(|(_, schedule)| schedule.gang.as_deref()) {
                    found.entry(pod.object().namespace.as_str()).or_default().entry(gang).or_default().push(pod);
                }
            }
            found
        });
        made.get(namespace).and_then(|gangs| gangs.get(gang)).map_or(&[], Vec::as_slice)
    }

    /// Claims that were bought for a pod, by name.
    pub(super) fn bought_for(&self, pod: &Uid) -> &[&'a ClaimName] {
        let made = self.bought_for.get_or_init(|| {
            let mut found: Lookup<&str, Vec<&ClaimName>> = lookup(self.world.claims.len());
            for claim in self.world.claims.values() {
                for named in &claim.spec.bought_for {
                    found.entry(named.uid.as_str()).or_default().push(&claim.name);
                }
            }
            found
        });
        made.get(pod.as_str()).map_or(&[], Vec::as_slice)
    }

    /// Whom a pod that waits is to replace by the claim that was bought for it: decided when it was bought, and kept there before the pod is bound.
    pub(super) fn promised(&self, pod: &Pod) -> Option<&'a Replaces> {
        let uid = &pod.identity.uid;
        let mut bought = self.bought_for(uid).iter().filter(|_| pod.claim.is_none());
        bought.find_map(|name| self.world.claims.get(*name)?.binding_of(uid)?.replaces.as_deref())
    }

    /// A pod that waits is to replace this one.
    pub(super) fn is_promised(&self, old: &Uid) -> bool {
        let made = self.promised.get_or_init(|| {
            let waiting = self.world.pods.values().filter(|pod| pod.phase == PodPhase::Gated);
            waiting.filter_map(|pod| self.promised(pod)).map(|replaces| (replaces.pod.uid.as_str(), ())).collect()
        });
        made.contains_key(old.as_str())
    }

    /// Claims that are to take over the work of `claim`, by name.
    pub(super) fn successors(&self, claim: &ClaimName) -> &[&'a Claim] {
        let made = self.successors.get_or_init(|| {
            let mut found: Lookup<&str, Vec<&Claim>> = lookup(0);
            for successor in self.taking_over().iter().copied() {
                if let Some(old) = &successor.spec.takes_over {
                    found.entry(old.as_str()).or_default().push(successor);
                }
            }
            found
        });
        made.get(claim.as_str()).map_or(&[], Vec::as_slice)
    }

    /// The claim whose status names this instance.
    pub(super) fn claim_of(&self, instance: &InstanceId) -> Option<&'a ClaimName> {
        // Of two claims that name one instance, the one that its tag names.
        let tagged = self.instance(instance).and_then(|seen| seen.tags.get(tags::CLAIM));
        let tagged = tagged.and_then(|name| Some(&self.machines[*self.of_claims.by_name.get(name)? as usize].claim.name));
        let own = tagged.filter(|name| self.world.claims.get(*name).is_some_and(|claim| claim.status.instance.as_ref() == Some(instance)));
        own.or_else(|| self.of_ec2.by_instance.get(instance.as_str()).map(|at| &self.machines[*at as usize].claim.name))
    }

    /// The instance that carries this claim's uid in its tags: of a launch whose answer was not written down.
    pub(super) fn tagged_with(&self, claim: &Claim) -> Option<&'a Instance> {
        self.tagged_with_uid(&claim.uid).filter(|instance| instance.capacity.region == claim.spec.capacity.region)
    }

    /// The instance that carries the uid of a claim in its tags, whether that claim can be read or not.
    pub(super) fn tagged_with_uid(&self, claim: &Uid) -> Option<&'a Instance> {
        let made = self.by_claim_uid.get_or_init(|| {
            let mut found = lookup(self.machines.len());
            for instance in seen(&self.world.instances) {
                if let Some(uid) = instance.tags.get(tags::CLAIM_UID) {
                    found.entry(uid).or_insert(instance);
                }
            }
            found
        });
        made.get(claim.as_str()).copied()
    }

    /// Whether a claim with this uid is there.
    pub(super) fn is_claim(&self, uid: &str) -> bool {
        let made = self.claim_uids.get_or_init(|| {
            let mut found = lookup(self.world.claims.len());
            for claim in self.world.claims.values() {
                found.insert(claim.uid.as_str(), ());
            }
            found
        });
        made.contains_key(uid)
    }
}
