//! The watches, and the view that a pass reads from them.
//!
//! Decides: what is watched, and which parts are kept.
//! Does not: read objects field by field (see the module of each subject), or do anything (see [`super::apply`]).
//!
//! A broken object never stops a watch: it is logged with its name when it arrives and left out of the view.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use futures::StreamExt;
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::storage::v1::StorageClass;
use kube::core::{DeserializeGuard, PartialObjectMeta};
use kube::runtime::reflector::{self, Store};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::api::{GpuNodeClaim, GpuNodeClass, GpuNodePool, words};
use super::endpoints::Endpoints;
use super::names;
use super::pods::{AttributionKeys, NeedAnswer, WatchedPods, manifest_of};
use super::{claims, classes, daemonsets, nodes, pools, workloads};
use crate::core::fleet::{ClassProblem, OtherPod};
use crate::core::snapshot::Lane;
use crate::core::units::ids::{ClassName, NodeName};
use crate::core::workload::PodRules;
use crate::core::workload::need::{PodManifest, Vocabulary};
use crate::core::workload::pod_reader::{NamespaceLabels, PodReader};
use crate::core::workload::volumes::{self, VolumeFacts, VolumeObject, Volumes};
use crate::ports::ClusterView;

/// An object, or why it cannot be read.
type Guarded<K> = DeserializeGuard<K>;
/// An object of which only the metadata is requested.
type Meta<K> = PartialObjectMeta<K>;

/// One watch: its objects, and whether it has listed once.
pub struct Watched<K: Resource<DynamicType = ()> + Clone + 'static> {
    store: Store<K>,
    listed: Arc<AtomicBool>,
}

/// All watches of lowtide.
pub struct Watches {
    pods: Watched<Guarded<Pod>>,
    /// Pods that are not ours: what they take from our nodes, and to drain them before a machine ends.
    others: Watched<Guarded<Pod>>,
    volume_claims: Watched<Guarded<PersistentVolumeClaim>>,
    volumes: Watched<Guarded<PersistentVolume>>,
    storage_classes: Watched<Guarded<StorageClass>>,
    /// Nodes that carry their instance id, and nodes of our classes that do not (EKS: it is in the provider id).
    nodes: [Watched<Guarded<Node>>; 2],
    replica_sets: Watched<Meta<ReplicaSet>>,
    deployments: Watched<Guarded<Deployment>>,
    daemonsets: Watched<Guarded<DaemonSet>>,
    namespaces: Watched<Meta<Namespace>>,
    slices: Watched<Guarded<EndpointSlice>>,
    pools: Watched<Guarded<GpuNodePool>>,
    classes: Watched<Guarded<GpuNodeClass>>,
    claims: Watched<Guarded<GpuNodeClaim>>,
    /// The cluster's UID: two clusters never share a launch template.
    cluster_uid: String,
    keys: AttributionKeys,
    /// The manifest of each pod, by uid: it is parsed once per version, not once per pass.
    manifests: Mutex<BTreeMap<String, Known>>,
    /// Faults already logged: the view is read many times, a fault is reported once.
    reported: Mutex<BTreeSet<String>>,
    changed: Arc<Notify>,
    /// Ends every watch when dropped.
    _tasks: JoinSet<()>,
}

impl Watches {
    /// Starts every watch.
    pub fn start(client: &Client, cluster_uid: String, keys: AttributionKeys) -> Self {
        let mut start = Starter { client: client.clone(), changed: Arc::new(Notify::new()), tasks: JoinSet::new() };
        let managed = watcher::Config::default().labels(&format!("{}=true", words::MANAGED_LABEL));
        let others = watcher::Config::default().labels(&format!("{}!=true", words::MANAGED_LABEL)).fields("spec.nodeName!=");
        let by_id = watcher::Config::default().labels(names::INSTANCE_ID);
        let by_class = watcher::Config::default().labels(&format!("{},!{}", names::NODE_CLASS, names::INSTANCE_ID));
        let all = watcher::Config::default;
        Watches {
            pods: start.guarded(managed, |_| ()),
            others: start.guarded(others, nodes::trim_other),
            volume_claims: start.guarded(all(), |_| ()),
            volumes: start.guarded(all(), |_| ()),
            storage_classes: start.guarded(all(), |_| ()),
            nodes: [start.guarded(by_id, |_| ()), start.guarded(by_class, |_| ())],
            replica_sets: start.metadata(all()),
            deployments: start.guarded(all(), keep_strategy),
            daemonsets: start.guarded(all(), daemonsets::trim),
            namespaces: start.metadata(all()),
            slices: start.guarded(all(), |_| ()),
            pools: start.guarded(all(), |_| ()),
            classes: start.guarded(all(), |_| ()),
            claims: start.guarded(all(), |_| ()),
            cluster_uid,
            keys,
            manifests: Mutex::new(BTreeMap::new()),
            reported: Mutex::new(BTreeSet::new()),
            changed: start.changed,
            _tasks: start.tasks,
        }
    }

    /// Waits until something has changed since the last call; many changes count as one.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// The pool of this name, as held by the watch.
    pub fn pool(&self, name: &str) -> Option<GpuNodePool> {
        self.pools.named(name)
    }

    /// The class of this name, as held by the watch.
    pub fn class(&self, name: &str) -> Option<GpuNodeClass> {
        self.classes.named(name)
    }

    /// The claim of this name, as held by the watch.
    pub fn claim(&self, name: &str) -> Option<GpuNodeClaim> {
        self.claims.named(name)
    }

    fn tell_once(&self, fault: &impl std::error::Error) {
        self.say_once(fault.to_string(), "an object is left out");
    }

    fn say_once(&self, fault: String, consequence: &str) {
        if self.reported.lock().unwrap_or_else(PoisonError::into_inner).insert(fault.clone()) {
            tracing::error!(fault, "{consequence}");
        }
    }

    fn all_listed(&self) -> bool {
        let kept = [
            &self.pods.listed,
            &self.others.listed,
            &self.volume_claims.listed,
            &self.volumes.listed,
            &self.storage_classes.listed,
            &self.nodes[0].listed,
            &self.nodes[1].listed,
            &self.replica_sets.listed,
            &self.deployments.listed,
            &self.daemonsets.listed,
            &self.namespaces.listed,
            &self.slices.listed,
            &self.pools.listed,
            &self.classes.listed,
            &self.claims.listed,
        ];
        kept.iter().all(|listed| listed.load(Ordering::Acquire))
    }

    /// What the watches hold; `None` until each has listed once.
    pub fn view(&self) -> Option<ClusterView> {
        self.all_listed().then(|| {
            let mut view = ClusterView::default();
            self.read_policy(&mut view);
            self.read_machines(&mut view);
            self.read_pods(&mut view);
            view
        })
    }

    fn read_policy(&self, view: &mut ClusterView) {
        let namespaces = self.read_namespaces();
        for pool in valid(&self.pools.store.state()) {
            match pools::read(pool, &namespaces) {
                Ok(read) => {
                    let name = read.name.clone();
                    note_version(view, Lane::Pool(name.clone()), pool);
                    view.pool_statuses.extend(pools::read_status(pool).map(|status| (name.clone(), status)));
                    view.pools.insert(name, read);
                }
                Err(fault) => self.tell_once(&fault),
            }
        }
        for class in valid(&self.classes.store.state()) {
            let mut read = classes::read(class);
            match classes::launch_template(class, &self.cluster_uid) {
                Ok(template) => {
                    view.templates.insert(read.name.clone(), template);
                }
                Err(fault) => read.problem = Some(ClassProblem { reason: "UserDataUnwritable".to_owned(), text: fault.to_string() }),
            }
            note_version(view, Lane::Class(read.name.clone()), class);
            view.classes.insert(read.name.clone(), read);
        }
    }

    fn read_machines(&self, view: &mut ClusterView) {
        for object in self.claims.store.state() {
            match claims::read_guarded(&object) {
                Ok(read) => {
                    note_version(view, Lane::Claim(read.name.clone()), &*object);
                    view.claims.insert(read.name.clone(), read);
                }
                Err(unreadable) => {
                    if let Some(claim) = unreadable {
                        self.say_once(claim.fault.clone(), "a claim cannot be read: its machine is kept, and nothing is swept");
                        view.unreadable_claims.insert(claim.name.clone(), claim);
                    }
                }
            }
        }
        for set in valid(&self.daemonsets.store.state()) {
            let (read, fault) = daemonsets::read(set);
            if let Some(fault) = fault {
                self.say_once(format!("DaemonSet {}: {fault}", read.name), "its requests are not counted");
            }
            view.daemonsets.push(read);
        }
        view.daemonsets.sort_by(|a, b| a.name.cmp(&b.name));
        let mut others: BTreeMap<NodeName, Vec<OtherPod>> = BTreeMap::new();
        for pod in valid(&self.others.store.state()) {
            if let Some((node, read)) = nodes::other_pod(pod) {
                others.entry(node).or_default().push(read);
            }
        }
        others.values_mut().for_each(|pods| pods.sort_by(|a, b| a.pod.cmp(&b.pod)));
        for node in self.nodes.iter().flat_map(|watched| watched.store.state()) {
            if let Some((node, mut read)) = node.0.as_ref().ok().and_then(|node| Some((node, nodes::read(node)?))) {
                let class = node.metadata.labels.as_ref().and_then(|l| l.get(names::NODE_CLASS)).map(|c| ClassName::from(c.as_str()));
                if let Some(class) = class.and_then(|name| view.classes.get(&name)) {
                    read.state.foreign_taints.retain(|key| !class.taints.iter().any(|(of_class, _, _)| of_class == key));
                }
                read.state.others = others.remove(&read.name).unwrap_or_default();
                note_version(view, Lane::Node(read.name.clone()), node);
                view.nodes.insert(read.name.clone(), read);
            }
        }
    }

    fn read_namespaces(&self) -> NamespaceLabels {
        let labels = |n: &Arc<Meta<Namespace>>| (n.name_any(), n.metadata.labels.clone().unwrap_or_default());
        self.namespaces.store.state().iter().map(labels).collect()
    }

    fn read_volumes(&self) -> Volumes {
        let claims: Vec<_> = valid(&self.volume_claims.store.state()).filter_map(volume_object).collect();
        let volumes: Vec<_> = valid(&self.volumes.store.state()).filter_map(volume_object).collect();
        let classes: Vec<_> = valid(&self.storage_classes.store.state()).filter_map(volume_object).collect();
        volumes::facts(&claims, &volumes, &classes)
    }

    fn read_pods(&self, view: &mut ClusterView) {
        let (sets, deployments) = (self.replica_sets.store.state(), self.deployments.store.state());
        let controllers = workloads::read(sets.iter().map(AsRef::as_ref), valid(&deployments));
        view.replicas_wanted = controllers.replicas_wanted().into();
        let volumes = self.read_volumes();
        let vocabulary = vocabulary_of(view);
        let node_labels = Arc::new(vocabulary.node_labels.clone());
        let endpoints = Endpoints::read(valid(&self.slices.store.state()));
        let namespaces = if self.keys.from_namespace { self.read_namespaces() } else { NamespaceLabels::new() };
        let (controllers, volumes, vocabulary) = (&controllers, &volumes, &vocabulary);
        let reader = PodReader { controllers, volumes, keys: &self.keys, namespaces: &namespaces, vocabulary };
        let pods = WatchedPods { reader, endpoints: &endpoints };
        let mut known = self.manifests.lock().unwrap_or_else(PoisonError::into_inner);
        let mut still = BTreeMap::new();
        for pod in valid(&self.pods.store.state()) {
            let uid = pod.metadata.uid.clone().unwrap_or_default();
            let version = pod.metadata.resource_version.clone().unwrap_or_default();
            let around = Around::of(pod, volumes, &node_labels);
            let same = |known: &Known| known.version == version && known.around == around;
            let entry = known.remove(&uid).filter(same).unwrap_or_else(|| Known::read(pod, version, around, &reader));
            match pods.read(pod, &entry.manifest, (entry.need.clone(), Arc::clone(&entry.rules))) {
                Ok(read) => {
                    note_version(view, Lane::Pod(read.identity.uid.clone()), pod);
                    view.pods.insert(read.identity.uid.clone(), read);
                }
                Err(fault) => self.tell_once(&fault),
            }
            still.insert(uid, entry);
        }
        *known = still;
    }
}

/// A pod's manifest as it was read, and what it was read with.
struct Known {
    version: String,
    around: Around,
    manifest: PodManifest,
    need: NeedAnswer,
    rules: Arc<PodRules>,
}

impl Known {
    fn read(pod: &Pod, version: String, around: Around, reader: &PodReader) -> Known {
        match manifest_of(pod) {
            Ok(manifest) => Known { version, around, need: reader.need(&manifest), rules: PodRules::read(&manifest).0, manifest },
            Err(fault) => Known { version, around, need: Err(vec![fault]), rules: Arc::default(), manifest: PodManifest::default() },
        }
    }
}

/// What a pod's need depends on besides the pod: what is known about its volumes, and the labels that may be selected.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Around {
    volumes: Vec<Option<VolumeFacts>>,
    node_labels: Arc<BTreeSet<String>>,
}

impl Around {
    fn of(pod: &Pod, volumes: &Volumes, node_labels: &Arc<BTreeSet<String>>) -> Around {
        let namespace = pod.metadata.namespace.clone().unwrap_or_default();
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        let mounted = pod.spec.iter().flat_map(|s| s.volumes.iter().flatten()).filter_map(|v| match &v.persistent_volume_claim {
            Some(claim) => Some(claim.claim_name.clone()),
            None => v.ephemeral.as_ref().map(|_| format!("{name}-{}", v.name)),
        });
        let volumes = mounted.map(|claim| volumes.get(&(namespace.clone(), claim)).cloned()).collect();
        Around { volumes, node_labels: Arc::clone(node_labels) }
    }
}

/// The names that pods may use: those in the snapshot, and the labels that node classes add.
fn vocabulary_of(view: &ClusterView) -> Vocabulary {
    let node_labels = view.classes.values().flat_map(|c| c.node_labels.keys().cloned()).collect();
    Vocabulary { node_labels, ..Vocabulary::snapshot().clone() }
}

fn volume_object(object: &impl serde::Serialize) -> Option<VolumeObject> {
    serde_json::to_value(object).and_then(serde_json::from_value).ok()
}

fn note_version<K: Resource>(view: &mut ClusterView, lane: Lane, object: &K) {
    let version = object.meta().resource_version.as_deref().and_then(|v| v.parse().ok());
    view.versions.extend(version.map(|v| (lane, v)));
}

/// Strategy and replicas are all that is read of a Deployment; templates of a large cluster are megabytes.
fn keep_strategy(deployment: &mut Deployment) {
    deployment.status = None;
    if let Some(spec) = &mut deployment.spec {
        spec.template = k8s_openapi::api::core::v1::PodTemplateSpec::default();
    }
}

impl<K: Resource<DynamicType = ()> + Clone + 'static> Watched<Guarded<K>> {
    /// The object of this name, if it can be read; for cluster-scoped kinds.
    fn named(&self, name: &str) -> Option<K> {
        self.store.find(|o| o.name_any() == name)?.0.as_ref().ok().cloned()
    }
}

/// Every object that can be read.
fn valid<K>(held: &[Arc<Guarded<K>>]) -> impl Iterator<Item = &K> {
    held.iter().filter_map(|object| object.0.as_ref().ok())
}

struct Starter {
    client: Client,
    changed: Arc<Notify>,
    tasks: JoinSet<()>,
}

impl Starter {
    fn guarded<K>(&mut self, config: watcher::Config, trim: fn(&mut K)) -> Watched<Guarded<K>>
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    {
        self.start(config, move |object: &mut Guarded<K>| match &mut object.0 {
            Ok(valid) => {
                trim(valid);
                None
            }
            Err(invalid) => Some(invalid.error.clone()),
        })
    }

    fn metadata<K>(&mut self, config: watcher::Config) -> Watched<Meta<K>>
    where
        K: Resource<DynamicType = ()> + Clone + Debug + Send + Sync + 'static,
    {
        self.start(config, |_| None)
    }

    /// Starts one watch. `keep` drops the unneeded parts of an object and returns its fault, if it has one.
    fn start<K>(&mut self, config: watcher::Config, keep: impl Fn(&mut K) -> Option<String> + Send + 'static) -> Watched<K>
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    {
        let (store, writer) = reflector::store::<K>();
        let listed = Arc::new(AtomicBool::new(false));
        let (flag, changed) = (Arc::clone(&listed), Arc::clone(&self.changed));
        let keep = move |object: &mut K| {
            object.meta_mut().managed_fields = None;
            if let Some(fault) = keep(object) {
                let namespace = object.namespace().unwrap_or_default();
                tracing::error!(kind = %K::kind(&()), namespace, name = object.name_any(), fault, "an object cannot be read; it is left out");
            }
        };
        let events = watcher(Api::<K>::all(self.client.clone()), config).default_backoff().modify(keep).reflect(writer);
        self.tasks.spawn(async move {
            futures::pin_mut!(events);
            while let Some(event) = events.next().await {
                match event {
                    Ok(watcher::Event::Init | watcher::Event::InitApply(_)) => (),
                    Ok(watcher::Event::InitDone) => {
                        flag.store(true, Ordering::Release);
                        changed.notify_one();
                    }
                    Ok(watcher::Event::Apply(_) | watcher::Event::Delete(_)) => changed.notify_one(),
                    Err(error) => tracing::warn!(kind = %K::kind(&()), %error, "a watch failed and is restarted"),
                }
            }
        });
        Watched { store, listed }
    }
}
