//! Claims, pods of lowtide and namespaces, as watches hold them for readers that decide nothing.
//!
//! Decides: what is watched. Does not: write anything; it needs the right to list and watch, and no other.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::core::{DeserializeGuard, PartialObjectMeta};
use kube::runtime::watcher;
use kube::{Client, ResourceExt};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::super::api::{GpuNodeClaim, words};
use super::super::held::Held;
use super::super::pods;
use super::super::watch::Starter;

/// The watches. Dropping it ends them.
pub struct Watched {
    claims: Held<DeserializeGuard<GpuNodeClaim>>,
    pods: Held<DeserializeGuard<Pod>>,
    namespaces: Held<PartialObjectMeta<Namespace>>,
    /// Counts changes.
    version: watch::Receiver<u64>,
    _tasks: JoinSet<()>,
}

/// An object of a watch that can be read.
#[derive(Clone)]
pub struct Read<K>(Arc<DeserializeGuard<K>>);

impl<K> Read<K> {
    /// The object; `None` only for what [`Watched`] leaves out.
    fn of(guarded: Arc<DeserializeGuard<K>>) -> Option<Read<K>> {
        guarded.0.is_ok().then_some(Read(guarded))
    }

    /// The object itself.
    pub fn get(&self) -> Option<&K> {
        self.0.0.as_ref().ok()
    }
}

impl Watched {
    /// Starts the watches.
    pub fn start(client: &Client) -> Watched {
        let (claims, pods, namespaces) = (Held::default(), Held::default(), Held::default());
        let mut start = Starter::new(client);
        let managed = watcher::Config::default().labels(&format!("{}=true", words::MANAGED_LABEL));
        start.guarded(&claims, watcher::Config::default(), |_| ());
        start.guarded(&pods, managed, pods::trim);
        start.metadata(&namespaces, watcher::Config::default(), |meta| meta.annotations = None);
        let (changed, mut tasks) = start.started();
        let (counted, version) = watch::channel(0);
        tasks.spawn(async move {
            loop {
                changed.notified().await;
                counted.send_modify(|n| *n += 1);
            }
        });
        Watched { claims, pods, namespaces, version, _tasks: tasks }
    }

    /// Whether every watch has listed once.
    pub fn listed(&self) -> bool {
        self.claims.listed() && self.pods.listed() && self.namespaces.listed()
    }

    /// Every claim that can be read, and how many cannot.
    pub fn claims(&self) -> (Vec<Read<GpuNodeClaim>>, usize) {
        let all = self.claims.all();
        let count = all.len();
        let readable: Vec<_> = all.into_iter().filter_map(|(_, claim)| Read::of(claim)).collect();
        let unreadable = count - readable.len();
        (readable, unreadable)
    }

    /// The claim of this name.
    pub fn claim(&self, name: &str) -> Option<Read<GpuNodeClaim>> {
        self.claims.get(&(String::new(), name.to_owned())).and_then(Read::of)
    }

    /// Every pod that lowtide placed or is to place.
    pub fn pods(&self) -> Vec<Read<Pod>> {
        self.pods.all().into_iter().filter_map(|(_, pod)| Read::of(pod)).collect()
    }

    /// The pod of this name.
    pub fn pod(&self, namespace: &str, name: &str) -> Option<Read<Pod>> {
        self.pods.get(&(namespace.to_owned(), name.to_owned())).and_then(Read::of)
    }

    /// Every namespace, by name.
    pub fn namespaces(&self) -> Vec<String> {
        self.namespaces.all().into_iter().map(|(_, namespace)| namespace.name_any()).collect()
    }

    /// Counts up with every change; many at once may count as one.
    pub fn version(&self) -> watch::Receiver<u64> {
        self.version.clone()
    }
}
