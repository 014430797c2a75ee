//! What belongs together in one snapshot, found once a pass: pods of a claim, of a workload, of a Job; the instance and the node of a machine.
//!
//! Decides: nothing. No rule walks all pods or all claims to find one of them; what only some passes ask for is built when it is asked for.
//! Looked up by hash, never walked in the order of a hash: the same snapshot gives the same plan.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::hash::BuildHasherDefault;

use rustc_hash::FxHasher;

use crate::core::fleet::{Claim, Instance, Node, tags};
use crate::core::snapshot::{Observed, Snapshot};
use crate::core::units::ids::{ClaimName, InstanceId, NodeName, Uid};
use crate::core::workload::{Mobility, Pod, PodPhase, Workload};

/// Looked up, never walked.
type Lookup<K, V> = std::collections::HashMap<K, V, BuildHasherDefault<FxHasher>>;

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
    /// Pods that hold a place, by claim, oldest first.
    holding: Lookup<&'a str, Vec<&'a Pod>>,
    /// Pods behind our gate that are not being deleted, by uid.
    gated: Vec<&'a Pod>,
    /// Pods that were bound as replacements, by uid.
    replacing: Vec<&'a Pod>,
    /// ... by the uid of the pod that each replaces.
    replacements: Lookup<&'a str, &'a Pod>,
    /// Pods that were let go, by uid.
    let_go: Vec<&'a Pod>,
    instances: Lookup<&'a str, &'a Instance>,
    /// Instances whose spot request says something, as EC2 shows them.
    said_of: Vec<&'a Instance>,
    nodes: Lookup<&'a str, &'a Node>,
    let_go_by: OnceCell<Lookup<&'a str, Vec<&'a Pod>>>,
    by_workload: OnceCell<BTreeMap<&'a Workload, Vec<&'a Pod>>>,
    by_job: OnceCell<Lookup<&'a str, Vec<&'a Pod>>>,
    by_gang: OnceCell<BTreeMap<&'a str, BTreeMap<&'a str, Vec<&'a Pod>>>>,
    bought_for: OnceCell<Lookup<&'a str, Vec<&'a ClaimName>>>,
    successors: OnceCell<Lookup<&'a str, Vec<&'a Claim>>>,
    by_instance: OnceCell<Lookup<&'a str, &'a ClaimName>>,
    by_claim_uid: OnceCell<Lookup<&'a str, &'a Instance>>,
    claim_uids: OnceCell<Lookup<&'a str, ()>>,
}

fn lookup<K, V>(room: usize) -> Lookup<K, V> {
    Lookup::with_capacity_and_hasher(room, BuildHasherDefault::default())
}

impl<'a> Index<'a> {
    pub(super) fn of(world: &'a Snapshot) -> (Index<'a>, Claims<'a>) {
        let mut index = Index {
            world,
            holding: lookup(world.claims.len()),
            gated: Vec::new(),
            replacing: Vec::new(),
            replacements: lookup(0),
            let_go: Vec::new(),
            instances: lookup(world.claims.len()),
            said_of: Vec::new(),
            nodes: lookup(world.nodes.len()),
            let_go_by: OnceCell::new(),
            by_workload: OnceCell::new(),
            by_job: OnceCell::new(),
            by_gang: OnceCell::new(),
            bought_for: OnceCell::new(),
            successors: OnceCell::new(),
            by_instance: OnceCell::new(),
            by_claim_uid: OnceCell::new(),
            claim_uids: OnceCell::new(),
        };
        for pod in world.pods.values() {
            index.add_pod(pod);
        }
        for instance in index.seen() {
            index.instances.insert(instance.id.as_str(), instance);
            if instance.spot_request_status.is_some() {
                index.said_of.push(instance);
            }
        }
        for node in world.nodes.values() {
            // Of several Nodes that name one instance the first counts, as the snapshot orders them.
            index.nodes.entry(node.instance.as_str()).or_insert(node);
        }
        (index, Claims::of(world))
    }

    fn add_pod(&mut self, pod: &'a Pod) {
        if let (Some(claim), false) = (&pod.claim, pod.finished()) {
            let pods = self.holding.entry(claim.as_str()).or_default();
            // Mostly one, and mostly older ones first.
            let key = |p: &Pod| (p.created_at, p.identity.uid.clone());
            let at = pods.iter().rposition(|other| key(other) <= key(pod)).map_or(0, |at| at + 1);
            pods.insert(at, pod);
        }
        if pod.phase == PodPhase::Gated && pod.deleting_until.is_none() {
            self.gated.push(pod);
        }
        // The mark says where to look; what counts is what its claim keeps.
        if let Some(replaced) = pod.replaces.as_ref().and_then(|_| self.world.held(pod).replaces) {
            self.replacing.push(pod);
            self.replacements.entry(replaced.pod.uid.as_str()).or_insert(pod);
        }
        if pod.let_go.is_some() {
            self.let_go.push(pod);
        }
    }

    /// Every instance that EC2 shows with our tag, by region and id.
    pub(super) fn seen(&self) -> impl Iterator<Item = &'a Instance> + use<'a> {
        let known = self.world.instances.values().filter_map(|o| if let Observed::Known { value, .. } = o { Some(value) } else { None });
        known.flat_map(|instances| instances.values())
    }

    /// Instances whose spot request has a status that matters.
    pub(super) fn said_of(&self) -> &[&'a Instance] {
        &self.said_of
    }

    /// Pods that hold a place on a claim, oldest first.
    pub(super) fn pods_on(&self, claim: &ClaimName) -> &[&'a Pod] {
        self.holding.get(claim.as_str()).map_or(&[], Vec::as_slice)
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

    /// Pods that this controller has let go, the first to be let go first.
    pub(super) fn let_go_by(&self, controller: &Uid) -> &[&'a Pod] {
        let made = self.let_go_by.get_or_init(|| {
            let mut found: Lookup<&str, Vec<&Pod>> = lookup(0);
            let mut in_order = self.let_go.clone();
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
        self.replacements.get(old.identity.uid.as_str()).copied()
    }

    /// The instance of this id, where EC2 shows it.
    pub(super) fn instance(&self, id: &InstanceId) -> Option<&'a Instance> {
        self.instances.get(id.as_str()).copied()
    }

    /// The node that runs on this instance.
    pub(super) fn node_on(&self, instance: Option<&InstanceId>) -> Option<&'a Node> {
        self.nodes.get(instance?.as_str()).copied()
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
                let own = if let Mobility::Job { job_uid, .. } = &pod.mobility { Some(job_uid) } else { None };
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

    /// Claims that are to take over the work of `claim`, by name.
    pub(super) fn successors(&self, claim: &ClaimName) -> &[&'a Claim] {
        let made = self.successors.get_or_init(|| {
            let mut found: Lookup<&str, Vec<&Claim>> = lookup(0);
            for successor in self.world.claims.values() {
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
        // The tag says it at once; only for an instance that EC2 does not show, or whose tag is wrong, all claims are asked.
        let tagged = self.instance(instance).and_then(|seen| seen.tags.get(tags::CLAIM));
        let tagged = tagged.and_then(|name| self.world.claims.get_key_value(&ClaimName::from(name.as_str())));
        if let Some((name, _)) = tagged.filter(|(_, claim)| claim.status.instance.as_ref() == Some(instance)) {
            return Some(name);
        }
        let made = self.by_instance.get_or_init(|| {
            let mut found = lookup(self.world.claims.len());
            for claim in self.world.claims.values() {
                if let Some(id) = &claim.status.instance {
                    found.entry(id.as_str()).or_insert(&claim.name);
                }
            }
            found
        });
        made.get(instance.as_str()).copied()
    }

    /// The instance that carries this claim's uid in its tags: of a launch whose answer was not written down.
    pub(super) fn tagged_with(&self, claim: &Claim) -> Option<&'a Instance> {
        let made = self.by_claim_uid.get_or_init(|| {
            let mut found = lookup(self.instances.len());
            for instance in self.seen() {
                if let Some(uid) = instance.tags.get(tags::CLAIM_UID) {
                    found.entry(uid.as_str()).or_insert(instance);
                }
            }
            found
        });
        let found = made.get(claim.uid.as_str()).copied();
        found.filter(|instance| instance.capacity.region == claim.spec.capacity.region)
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
