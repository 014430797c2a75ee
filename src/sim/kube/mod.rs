//! The simulated cluster: objects with versions, controllers and kubelets, as far as lowtide can tell them from the real ones.
//!
//! - `work`: what is held of workloads and their pods; `manifests`: how pods are written down; `volumes`: claims and what is behind them.
//! - `reading`: what the operator's watch makes of a manifest, by the core's one reader; `asks`: what the scheduler makes of it.
//! - `apply`: what each action of the operator does to objects, and what it is refused for.
//! - `controllers`: ReplicaSets, StatefulSets and Jobs make and count pods.
//! - `scheduler`: whether a pod may run on a node.
//! - `kubelet`: nodes join, pods start, end, and fall silent with their machine.
//!
//! Decides: nothing on lowtide's behalf; it behaves as was observed on a real control plane.
//! Does not: fail on purpose (see [`super::faults`]).

mod apply;
pub mod asks;
mod controllers;
mod kubelet;
mod manifests;
mod reading;
pub mod scheduler;
pub mod volumes;
mod work;

pub use kubelet::node_of;
pub use work::{Job, Keeper, Replicated, SimPod, Template};

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::core::fleet::{Claim, ClaimsNow, LaunchTemplate, Node, NodeClass, NodePool, PoolStatus, PoolsDefined, UnreadableClaim};
use crate::core::record::LedgerRecord;
use crate::core::snapshot::Lane;
use crate::core::units::ids::{ClaimName, ClassName, NodeName, PoolName, Region, Uid};
use crate::core::units::shared::Shared;
use crate::core::units::time::Timestamp;
use crate::ports::ClusterView;

/// Where all workloads are.
pub(in crate::sim) const NAMESPACE: &str = "gpu-work";

/// An object with the version of its last change.
#[derive(Debug, Clone)]
pub struct Stored<T> {
    /// Its resourceVersion.
    pub version: u64,
    /// The object.
    pub object: T,
}

/// A node and the claim its label names.
#[derive(Debug, Clone)]
pub struct SimNode {
    /// As the operator sees it.
    pub node: Node,
    /// The claim label.
    pub claim: Option<ClaimName>,
    /// Its machine is gone: nothing on it runs any more, whatever the objects say.
    pub dead: bool,
    /// When it joined.
    pub joined_at: Timestamp,
    /// From when until when its kubelet cannot reach the API server, though its machine runs.
    pub cut_off: Option<(Timestamp, Timestamp)>,
    /// Since when it was last held silent for that, and until when if it is over.
    pub silence: Option<(Timestamp, Option<Timestamp>)>,
}

impl SimNode {
    /// Somebody took the taint of its claim off: a node registers with it, in the name of no claim.
    pub fn is_bare(&self) -> bool {
        self.claim.is_some() && !self.node.guarded
    }
}

/// How many changes there were of each kind of object, shown by a version or known to kubelets alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Changes {
    /// Of pods.
    pub pods: u64,
    /// Of claims.
    pub claims: u64,
    /// Of nodes.
    pub nodes: u64,
}

/// The cluster.
#[derive(Debug, Default)]
pub struct Kube {
    /// The UID of its namespace `kube-system`.
    pub uid: String,
    version: u64,
    changes: Changes,
    next: u64,
    /// Node pools.
    pub pools: BTreeMap<PoolName, Stored<NodePool>>,
    /// By what they are defined.
    pub pools_defined: PoolsDefined,
    /// They are not shown while their definition is gone, nor until they are applied again.
    pub(in crate::sim) pools_applied: bool,
    /// How often the definition was made or deleted.
    pub(in crate::sim) definitions: u32,
    /// Node classes.
    pub classes: BTreeMap<ClassName, Stored<NodeClass>>,
    /// The launch template that each class wants.
    pub templates: Shared<BTreeMap<ClassName, LaunchTemplate>>,
    /// Claims.
    pub claims: BTreeMap<ClaimName, Stored<Claim>>,
    /// Claims whose status another version wrote with a word that this one does not know.
    pub unreadable: BTreeSet<ClaimName>,
    /// Claims that were removed, and when.
    pub removed_claims: BTreeMap<ClaimName, Timestamp>,
    /// Nodes.
    pub nodes: BTreeMap<NodeName, Stored<SimNode>>,
    /// Pods.
    pub pods: BTreeMap<Uid, Stored<SimPod>>,
    /// What pools show.
    pub pool_statuses: Shared<BTreeMap<PoolName, PoolStatus>>,
    /// Records that wait for the ledger.
    pub outbox: BTreeMap<uuid::Uuid, Arc<LedgerRecord>>,
    /// The market memory, as an operator kept it.
    pub market_memory: Option<String>,
    /// Every record that was ever in the outbox.
    pub durable: BTreeSet<uuid::Uuid>,
    /// Deployments and StatefulSets: changed by `put_replicated` and its kind, because pods are read by them.
    pub replicated: BTreeMap<String, Replicated>,
    /// PersistentVolumeClaims.
    pub volumes: volumes::Store,
    /// k3s' own controller writes its name where the instance type belongs.
    pub mislabels: bool,
    /// What manifests are read with.
    around: reading::Around,
    /// Jobs.
    pub jobs: BTreeMap<String, Job>,
    /// From when until when a quota or a policy keeps every pod from being made.
    pub admits_nothing: (Timestamp, Timestamp),
    /// The regions whose kubelets cannot reach the API server, and until when.
    cut_regions: BTreeMap<Region, Timestamp>,
    /// What the watches show.
    pub shown: ClusterView,
    /// What changed and the watches do not show yet.
    unshown: BTreeSet<Lane>,
}

impl Kube {
    /// An empty cluster of that UID.
    pub fn of(uid: String) -> Kube {
        Kube { uid, pools_defined: PoolsDefined::By("definition-0".into()), pools_applied: true, ..Kube::default() }
    }

    /// The next resourceVersion, for a change of `lane`; the watches will show it later.
    pub(in crate::sim) fn bump(&mut self, lane: Lane) -> u64 {
        self.version += 1;
        match &lane {
            Lane::Pod(_) => self.changes.pods += 1,
            Lane::Claim(_) => self.changes.claims += 1,
            Lane::Node(_) => self.changes.nodes += 1,
            Lane::Class(_) | Lane::Pool(_) | Lane::Instance(_) | Lane::Message(_) => {}
        }
        self.unshown.insert(lane);
        self.version
    }

    /// What a quorum read of the claims gives.
    pub fn claims_now(&self) -> ClaimsNow {
        let claims = self.claims.values().map(|c| (c.object.uid.clone(), c.object.status.instance.clone())).collect();
        let unreadable = self.unreadable.iter().filter(|name| self.claims.contains_key(*name)).cloned().collect();
        ClaimsNow { claims, unreadable }
    }

    /// A claim's status cannot be read from now on, or can be again.
    pub fn make_unreadable(&mut self, name: &ClaimName, unreadable: bool) {
        if unreadable {
            self.unreadable.insert(name.clone());
        } else {
            self.unreadable.remove(name);
        }
        if let Some(Stored { object, .. }) = self.claims.get(name).cloned() {
            self.put_claim(object);
        }
    }

    /// Something changed that the watches do not show yet.
    pub fn changed(&self) -> bool {
        !self.unshown.is_empty() || self.around.changed
    }

    /// How many changes there were.
    pub fn changes(&self) -> Changes {
        self.changes
    }

    /// The version of the last change.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The uid of the next claim.
    pub fn claim_uid(&mut self) -> Uid {
        Uid::from(format!("claim-{:06}", self.number()))
    }

    /// A number nobody had before.
    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Stores a pod under a new version.
    pub fn put_pod(&mut self, mut pod: SimPod) {
        let version = self.bump(Lane::Pod(pod.pod.identity.uid.clone()));
        self.read(&mut pod);
        pod.pod.resource_version = version.to_string();
        self.pods.insert(pod.pod.identity.uid.clone(), Stored { version, object: pod });
    }

    /// Changes a pod, if it is there, and stores it under a new version.
    pub fn change_pod(&mut self, uid: &Uid, change: impl FnOnce(&mut SimPod)) {
        if let Some(mut pod) = self.pods.get(uid).map(|stored| stored.object.clone()) {
            change(&mut pod);
            self.put_pod(pod);
        }
    }

    /// Stores a node under a new version.
    pub fn put_node(&mut self, node: SimNode) {
        let version = self.bump(Lane::Node(node.node.name.clone()));
        self.nodes.insert(node.node.name.clone(), Stored { version, object: node });
    }

    /// Takes a node away.
    pub fn take_node(&mut self, name: &NodeName) {
        if self.nodes.remove(name).is_some() {
            self.bump(Lane::Node(name.clone()));
        }
    }

    /// Stores a claim under a new version.
    pub fn put_claim(&mut self, mut claim: Claim) {
        let version = self.bump(Lane::Claim(claim.name.clone()));
        claim.version = version;
        self.claims.insert(claim.name.clone(), Stored { version, object: claim });
    }

    /// Stores a pool under a new version.
    pub fn put_pool(&mut self, pool: NodePool) {
        let version = self.bump(Lane::Pool(pool.name.clone()));
        self.pools.insert(pool.name.clone(), Stored { version, object: pool });
    }

    /// Stores a class under a new version.
    pub fn put_class(&mut self, class: NodeClass) {
        let version = self.bump(Lane::Class(class.name.clone()));
        self.classes.insert(class.name.clone(), Stored { version, object: class });
    }

    /// Removes a pod object.
    pub fn remove_pod(&mut self, uid: &Uid) -> Option<SimPod> {
        self.bump(Lane::Pod(uid.clone()));
        self.pods.remove(uid).map(|stored| stored.object)
    }

    /// The watches show what is there now.
    pub fn show(&mut self) {
        fn set<K: Ord + Clone, S, T: Clone>(
            shown: &mut BTreeMap<K, T>,
            versions: &mut BTreeMap<Lane, u64>,
            lane: Lane,
            key: K,
            stored: Option<&Stored<S>>,
            read: impl Fn(&S) -> T,
        ) {
            match stored {
                Some(stored) => {
                    versions.insert(lane, stored.version);
                    shown.insert(key, read(&stored.object));
                }
                None => {
                    versions.remove(&lane);
                    shown.remove(&key);
                }
            }
        }
        self.look_around();
        self.show_replicas();
        let view = &mut self.shown;
        (view.templates, view.pool_statuses) = (self.templates.clone(), self.pool_statuses.clone());
        view.pools_defined = self.pools_defined.clone();
        let versions = &mut *view.versions;
        for lane in std::mem::take(&mut self.unshown) {
            match lane.clone() {
                Lane::Pod(uid) => set(&mut view.pods, versions, lane, uid.clone(), self.pods.get(&uid), |p| p.pod.clone()),
                Lane::Claim(name) => {
                    let readable = self.claims.get(&name).filter(|_| !self.unreadable.contains(&name));
                    set(&mut view.claims, versions, lane, name.clone(), readable, Clone::clone);
                    match self.claims.get(&name).filter(|_| self.unreadable.contains(&name)) {
                        Some(Stored { object, .. }) => {
                            let (uid, instance) = (object.uid.clone(), object.status.instance.clone());
                            let fault =
                                format!("GpuNodeClaim {name}: status.move.reason is \"tomorrow\", which this version does not know");
                            view.unreadable_claims.insert(name.clone(), UnreadableClaim { name, uid, instance, fault });
                        }
                        // Looked at first: to change nothing is a change to who compares.
                        None if view.unreadable_claims.contains_key(&name) => {
                            view.unreadable_claims.remove(&name);
                        }
                        None => {}
                    }
                }
                Lane::Class(name) => set(&mut view.classes, versions, lane, name.clone(), self.classes.get(&name), Clone::clone),
                Lane::Pool(name) => {
                    let stored = self.pools.get(&name).filter(|_| self.pools_applied);
                    set(&mut view.pools, versions, lane, name.clone(), stored, Clone::clone);
                }
                Lane::Node(name) => set(&mut view.nodes, versions, lane, name.clone(), self.nodes.get(&name), |n| n.node.clone()),
                Lane::Instance(_) | Lane::Message(_) => {}
            }
        }
    }
}
