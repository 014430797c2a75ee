//! The watches: what is watched, and which parts of each object are held.
//!
//! Decides: what is watched, and which parts are kept.
//! Does not: read objects (see [`super::kept`] and the module of each subject), or do anything (see [`super::apply`]).
//!
//! A broken object never stops a watch: it is logged with its name when it arrives and left out of the view.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};

use futures::StreamExt;
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::{DeserializeGuard, PartialObjectMeta};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::api::{GpuNodeClaim, GpuNodeClass, GpuNodePool, words};
use super::held::{Form, Held, Pack, Packed};
use super::kept::Kept;
use super::pods::AttributionKeys;
use super::pools_watch::{self, Defined};
use super::{daemonsets, endpoints, names, nodes, pods};
use crate::ports::ClusterView;

/// An object, or why it cannot be read.
type Guarded<K> = DeserializeGuard<K>;
/// An object of which only the metadata is requested.
type Meta<K> = PartialObjectMeta<K>;

/// Namespaces that lowtide leaves alone.
#[derive(Debug, Clone)]
pub struct Ignored {
    /// Those with this label.
    pub label: String,
    /// Those of these names: the chart's policies do not look there.
    pub names: BTreeSet<String>,
}

impl Default for Ignored {
    fn default() -> Self {
        Ignored { label: names::IGNORE.to_owned(), names: BTreeSet::new() }
    }
}

/// All watches of lowtide.
pub struct Watches {
    pub(super) pods: Held<Packed<Guarded<Pod>>>,
    /// Pods that are not ours: what they take from our nodes, and to drain them before a machine ends.
    pub(super) others: Held<Packed<Guarded<Pod>>>,
    pub(super) volume_claims: Held<Packed<Guarded<PersistentVolumeClaim>>>,
    pub(super) volumes: Held<Packed<Guarded<PersistentVolume>>>,
    pub(super) storage_classes: Held<Packed<Guarded<StorageClass>>>,
    /// Nodes that carry their instance id, and nodes of our classes that do not (EKS: it is in the provider id).
    pub(super) nodes: [Held<Packed<Guarded<Node>>>; 2],
    pub(super) replica_sets: Held<Packed<Meta<ReplicaSet>>>,
    pub(super) deployments: Held<Packed<Guarded<Deployment>>>,
    pub(super) daemonsets: Held<Packed<Guarded<DaemonSet>>>,
    pub(super) namespaces: Held<Packed<Meta<Namespace>>>,
    pub(super) slices: Held<Packed<Guarded<EndpointSlice>>>,
    pub(super) pools: Held<Packed<Guarded<GpuNodePool>>>,
    /// What defines them.
    pub(super) pools_defined: Defined,
    pub(super) classes: Held<Packed<Guarded<GpuNodeClass>>>,
    pub(super) claims: Held<Packed<Guarded<GpuNodeClaim>>>,
    /// The cluster's UID: two clusters never share a launch template.
    pub(super) cluster_uid: String,
    pub(super) keys: AttributionKeys,
    /// Namespaces that use no pool.
    pub(super) ignored: Ignored,
    /// The view as it was last asked for.
    kept: Mutex<Kept>,
    /// Faults already logged: an object is read many times, its fault is reported once.
    reported: Mutex<BTreeSet<String>>,
    changed: Arc<Notify>,
    /// Ends every watch when dropped.
    tasks: JoinSet<()>,
}

impl Watches {
    /// Watches of a cluster in which nothing has been looked at yet.
    pub(super) fn new(cluster_uid: String, keys: AttributionKeys) -> Self {
        Watches {
            pods: Held::default(),
            others: Held::default(),
            volume_claims: Held::default(),
            volumes: Held::default(),
            storage_classes: Held::default(),
            nodes: [Held::default(), Held::default()],
            replica_sets: Held::default(),
            deployments: Held::default(),
            daemonsets: Held::default(),
            namespaces: Held::default(),
            slices: Held::default(),
            pools: Held::default(),
            pools_defined: Defined::default(),
            classes: Held::default(),
            claims: Held::default(),
            cluster_uid,
            keys,
            ignored: Ignored::default(),
            kept: Mutex::default(),
            reported: Mutex::default(),
            changed: Arc::new(Notify::new()),
            tasks: JoinSet::new(),
        }
    }

    /// Starts every watch.
    pub fn start(client: &Client, cluster_uid: String, keys: AttributionKeys, ignored: Ignored) -> Self {
        let mut watches = Watches { ignored, ..Watches::new(cluster_uid, keys) };
        let mut start = Starter { changed: Arc::clone(&watches.changed), ..Starter::new(client) };
        let all = || watcher::Config::default().page_size(PAGE);
        let managed = all().labels(&format!("{}=true", words::MANAGED_LABEL));
        let others = all().labels(&format!("{}!=true", words::MANAGED_LABEL)).fields("spec.nodeName!=");
        let by_id = all().labels(names::INSTANCE_ID);
        let by_class = all().labels(&format!("{},!{}", names::NODE_CLASS, names::INSTANCE_ID));
        start.guarded(&watches.pods, managed, pods::trim);
        start.guarded(&watches.others, others, nodes::trim_other);
        start.guarded(&watches.volume_claims, all(), keep_place);
        start.guarded(&watches.volumes, all(), trim_meta);
        start.guarded(&watches.storage_classes, all(), trim_meta);
        start.guarded(&watches.nodes[0], by_id, nodes::trim);
        start.guarded(&watches.nodes[1], by_class, nodes::trim);
        start.metadata(&watches.replica_sets, all(), |meta| (meta.annotations, meta.labels) = (None, None));
        start.guarded(&watches.deployments, all(), keep_strategy);
        start.guarded(&watches.daemonsets, all(), daemonsets::trim);
        start.metadata(&watches.namespaces, all(), |meta| meta.annotations = None);
        start.guarded(&watches.slices, all(), endpoints::trim);
        start.pools(&watches.pools, &watches.pools_defined, all());
        start.guarded(&watches.classes, all(), |_| ());
        start.guarded(&watches.claims, all(), |_| ());
        watches.tasks = start.tasks;
        watches
    }

    /// Waits until something has changed since the last call; many changes count as one.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// The pool of this name, as held by the watch.
    pub fn pool(&self, name: &str) -> Option<GpuNodePool> {
        named(&self.pools, name)
    }

    /// The class of this name, as held by the watch.
    pub fn class(&self, name: &str) -> Option<GpuNodeClass> {
        named(&self.classes, name)
    }

    /// The claim of this name, as held by the watch.
    pub fn claim(&self, name: &str) -> Option<GpuNodeClaim> {
        named(&self.claims, name)
    }

    /// Logs a fault of an object that is left out, once.
    pub(super) fn tell_once(&self, fault: &impl std::error::Error) {
        self.say_once(fault.to_string(), "an object is left out");
    }

    /// Logs a fault and what follows from it, once.
    pub(super) fn say_once(&self, fault: String, consequence: &str) {
        if self.reported.lock().unwrap_or_else(PoisonError::into_inner).insert(fault.clone()) {
            tracing::error!(fault, "{consequence}");
        }
    }

    fn all_listed(&self) -> bool {
        [
            self.pods.listed(),
            self.others.listed(),
            self.volume_claims.listed(),
            self.volumes.listed(),
            self.storage_classes.listed(),
            self.nodes[0].listed(),
            self.nodes[1].listed(),
            self.replica_sets.listed(),
            self.deployments.listed(),
            self.daemonsets.listed(),
            self.namespaces.listed(),
            self.slices.listed(),
            self.pools.listed(),
            self.classes.listed(),
            self.claims.listed(),
        ]
        .iter()
        .all(|listed| *listed)
    }

    /// What the watches hold; `None` until each has listed once.
    pub fn view(&self) -> Option<ClusterView> {
        self.all_listed().then(|| self.kept.lock().unwrap_or_else(PoisonError::into_inner).catch_up(self).clone())
    }
}

/// The object of this name, if it can be read; for cluster-scoped kinds.
fn named<K>(held: &Held<Packed<Guarded<K>>>, name: &str) -> Option<K>
where
    Guarded<K>: Pack,
{
    held.get(&(String::new(), name.to_owned()))?.unpack().0.ok()
}

/// Strategy and replicas are all that is read of a Deployment; templates of a large cluster are megabytes.
fn keep_strategy(deployment: &mut Deployment) {
    deployment.status = None;
    trim_meta(deployment);
    if let Some(spec) = &mut deployment.spec {
        spec.template = k8s_openapi::api::core::v1::PodTemplateSpec::default();
    }
}

/// Which volume, of which class, mounted how, is all that is read of a claim for one; its owner may write much more.
fn keep_place(claim: &mut PersistentVolumeClaim) {
    trim_meta(claim);
    claim.status = None;
    if let Some(spec) = &mut claim.spec {
        (spec.selector, spec.data_source, spec.data_source_ref, spec.resources) = (None, None, None, None);
    }
}

/// What an object is called is all that is read of its metadata.
fn trim_meta<K: Resource>(object: &mut K) {
    let meta = object.meta_mut();
    (meta.annotations, meta.labels, meta.finalizers, meta.owner_references) = (None, None, None, None);
}

/// Starts watches that report changes to one place.
pub(super) struct Starter {
    client: Client,
    changed: Arc<Notify>,
    tasks: JoinSet<()>,
}

impl Starter {
    /// Of this cluster.
    pub(super) fn new(client: &Client) -> Starter {
        Starter { client: client.clone(), changed: Arc::default(), tasks: JoinSet::new() }
    }

    /// What is notified of changes, and the watches; dropping those ends them.
    pub(super) fn started(self) -> (Arc<Notify>, JoinSet<()>) {
        (self.changed, self.tasks)
    }

    /// Watches objects of which one that cannot be read is logged; `trim` drops what nobody needs.
    pub(super) fn guarded<K, F>(&mut self, held: &Held<F>, config: watcher::Config, trim: fn(&mut K))
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
        F: Form<Object = Guarded<K>> + Send + Sync + 'static,
    {
        self.start(held, config, move |object: &mut Guarded<K>| match &mut object.0 {
            Ok(valid) => {
                trim(valid);
                None
            }
            Err(invalid) => Some(invalid.error.clone()),
        });
    }

    /// Watches the metadata of objects; `trim` drops what nobody needs.
    pub(super) fn metadata<K, F>(&mut self, held: &Held<F>, config: watcher::Config, trim: fn(&mut ObjectMeta))
    where
        K: Resource<DynamicType = ()> + Clone + Debug + Send + Sync + 'static,
        F: Form<Object = Meta<K>> + Send + Sync + 'static,
    {
        self.start(held, config, move |object: &mut Meta<K>| {
            trim(&mut object.metadata);
            None
        });
    }

    /// Watches node pools, and by what they are defined.
    fn pools(&mut self, held: &Held<Packed<Guarded<GpuNodePool>>>, defined_by: &Defined, config: watcher::Config) {
        let keep = |object: &mut Guarded<GpuNodePool>| {
            let fault = object.0.as_ref().err().map(|invalid| invalid.error.clone());
            trim_and_say(object, fault);
        };
        let shown = (held.clone(), defined_by.clone());
        self.tasks.spawn(pools_watch::watch(self.client.clone(), shown, Arc::clone(&self.changed), config, keep));
    }

    /// Starts one watch. `keep` drops the unneeded parts of an object and returns its fault, if it has one.
    fn start<F>(&mut self, held: &Held<F>, config: watcher::Config, keep: impl Fn(&mut F::Object) -> Option<String> + Send + 'static)
    where
        F: Form<Object: Clone + Debug + DeserializeOwned + Send + Sync + 'static> + Send + Sync + 'static,
    {
        let keep = move |object: &mut F::Object| {
            let fault = keep(object);
            trim_and_say(object, fault);
        };
        let events = watcher(Api::<F::Object>::all(self.client.clone()), config).default_backoff().modify(keep);
        let (held, changed) = (held.clone(), Arc::clone(&self.changed));
        self.tasks.spawn(async move {
            futures::pin_mut!(events);
            while let Some(event) = events.next().await {
                match event.map(|event| held.take_in(event)) {
                    Ok(true) => changed.notify_one(),
                    Ok(false) => (),
                    Err(error) => tracing::warn!(kind = %F::Object::kind(&()), %error, "a watch failed and is restarted"),
                }
            }
        });
    }
}

/// Drops what nobody needs of any object, and logs one that cannot be read.
fn trim_and_say<K: Resource<DynamicType = ()>>(object: &mut K, fault: Option<String>) {
    let meta = object.meta_mut();
    meta.managed_fields = None;
    // What `kubectl apply` writes there is the object once more.
    if let Some(annotations) = &mut meta.annotations {
        annotations.remove(LAST_APPLIED);
    }
    if let Some(fault) = fault {
        let namespace = object.namespace().unwrap_or_default();
        tracing::error!(kind = %K::kind(&()), namespace, name = object.name_any(), fault, "an object cannot be read; it is left out");
    }
}

/// Objects a page of a list: one may have more than a megabyte, and whoever may make pods may make many.
const PAGE: u32 = 50;
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
