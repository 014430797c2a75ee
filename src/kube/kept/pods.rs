//! Pods of ours, kept.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::Pod;
use kube::core::DeserializeGuard;

use super::super::held::Key;
use super::super::pods::WatchedPods;
use super::super::watch::Watches;
use super::super::workloads;
use super::surroundings::{Surroundings, Touched};
use super::{note_version, readable, take_out};
use crate::core::snapshot::Lane;
use crate::core::units::ids::Uid;
use crate::core::units::shared::Shared;
use crate::core::workload as core_workload;
use crate::core::workload::alike_pods::AlikePods;
use crate::core::workload::pod_reader::{NamespaceLabels, PodReader};
use crate::core::workload::volumes::{VolumeFacts, Volumes};
use crate::ports::ClusterView;

/// What was read of pods, and with what. The pods themselves are in the view.
#[derive(Default)]
pub struct KeptPods {
    around: Surroundings,
    known: BTreeMap<Key, Known>,
    /// By uid.
    keys: BTreeMap<String, Key>,
    alike: AlikePods,
}

/// What one pod was read with.
struct Known {
    uid: String,
    /// The uid of its controller.
    controller: Option<String>,
    /// The volume claims it mounts.
    mounts: Vec<(String, String)>,
    /// What was known of each.
    volumes: Vec<Option<VolumeFacts>>,
    /// Its rules select namespaces by their labels.
    selects_namespaces: bool,
}

fn selects_namespaces(pod: &Pod) -> bool {
    let Some(affinity) = pod.spec.as_ref().and_then(|s| s.affinity.as_ref()) else { return false };
    let near = affinity.pod_affinity.iter().flat_map(|a| a.required_during_scheduling_ignored_during_execution.iter().flatten());
    let apart = affinity.pod_anti_affinity.iter().flat_map(|a| a.required_during_scheduling_ignored_during_execution.iter().flatten());
    near.chain(apart).any(|term| term.namespace_selector.is_some())
}

impl Known {
    fn of(pod: &Pod, volumes: &Volumes) -> Known {
        let namespace = pod.metadata.namespace.clone().unwrap_or_default();
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        let mounts = pod.spec.iter().flat_map(|s| s.volumes.iter().flatten()).filter_map(|v| match &v.persistent_volume_claim {
            Some(claim) => Some((namespace.clone(), claim.claim_name.clone())),
            None => v.ephemeral.as_ref().map(|_| (namespace.clone(), format!("{name}-{}", v.name))),
        });
        let mut known = Known {
            uid: pod.metadata.uid.clone().unwrap_or_default(),
            controller: workloads::controller(&pod.metadata).map(|owner| owner.uid.clone()),
            mounts: mounts.collect(),
            volumes: Vec::new(),
            selects_namespaces: selects_namespaces(pod),
        };
        known.volumes = known.facts(volumes);
        known
    }

    fn facts(&self, volumes: &Volumes) -> Vec<Option<VolumeFacts>> {
        self.mounts.iter().map(|claim| volumes.get(claim).cloned()).collect()
    }

    fn is_touched(&self, touched: &Touched, volumes: &Volumes) -> bool {
        touched.every_pod
            || (touched.namespaces && self.selects_namespaces)
            || self.controller.as_ref().is_some_and(|uid| touched.replica_sets.contains(uid))
            || (touched.volumes && !self.mounts.is_empty() && self.facts(volumes) != self.volumes)
    }
}

impl KeptPods {
    /// Reads the pods that have changed, and those around which something has.
    pub fn catch_up(
        &mut self,
        watches: &Watches,
        view: &mut ClusterView,
        namespaces: &NamespaceLabels,
        (begun, classes_changed, namespaces_changed): (bool, bool, bool),
    ) {
        let mut touched = self.around.catch_up(watches, view, (begun, classes_changed));
        touched.every_pod |= namespaces_changed && watches.keys.from_namespace;
        touched.namespaces = namespaces_changed;
        let changed = watches.pods.changed(!begun, self.known.keys().cloned());
        let again: BTreeSet<Key> = self.touched(&touched);
        let served = std::mem::take(&mut touched.served);
        let again = again.into_iter().filter(|key| changed.binary_search_by(|(of, _)| of.cmp(key)).is_err());
        let again: Vec<_> = again.map(|key| (watches.pods.get(&key), key)).map(|(object, key)| (key, object)).collect();
        for (key, object) in changed.into_iter().chain(again) {
            self.read(watches, view, namespaces, key, object.map(|object| object.unpack()).as_ref());
        }
        for uid in &served {
            if self.keys.contains_key(uid) {
                self.read_services(&mut view.pods, uid);
            }
        }
    }

    fn touched(&self, touched: &Touched) -> BTreeSet<Key> {
        if !touched.every_pod && !touched.volumes && !touched.namespaces && touched.replica_sets.is_empty() {
            return BTreeSet::new();
        }
        let theirs = self.known.iter().filter(|(_, known)| known.is_touched(touched, &self.around.volumes));
        theirs.map(|(key, _)| key.clone()).collect()
    }

    fn read(
        &mut self,
        watches: &Watches,
        view: &mut ClusterView,
        namespaces: &NamespaceLabels,
        key: Key,
        object: Option<&DeserializeGuard<Pod>>,
    ) {
        let pod = readable(object);
        let uid = pod.map(|pod| pod.metadata.uid.clone().unwrap_or_default());
        // A pod of the same name may be another one.
        if let Some(before) = self.known.remove(&key).filter(|known| uid.as_ref() != Some(&known.uid)) {
            self.keys.remove(&before.uid);
            forget(view, &Uid::from(before.uid));
        }
        let Some(pod) = pod else { return };
        let Surroundings { controllers, volumes, endpoints, vocabulary, .. } = &self.around;
        let reader = PodReader { controllers, volumes, keys: &watches.keys, namespaces, vocabulary };
        let read = WatchedPods { reader, endpoints }.read(pod);
        let known = Known::of(pod, volumes);
        match read {
            Ok(mut read) => {
                self.alike.share(&mut read);
                let uid = read.identity.uid.clone();
                note_version(view, Lane::Pod(uid.clone()), pod);
                super::put(&mut view.pods, uid, read);
            }
            Err(fault) => {
                watches.tell_once(&fault);
                forget(view, &Uid::from(known.uid.as_str()));
            }
        }
        self.keys.insert(known.uid.clone(), key.clone());
        self.known.insert(key, known);
    }

    /// Services change more often than anything else about a pod, and concern nothing else of it.
    fn read_services(&mut self, pods: &mut Shared<BTreeMap<Uid, core_workload::Pod>>, uid: &str) {
        let services = self.around.endpoints.of(uid);
        let uid = Uid::from(uid);
        if pods.get(&uid).is_none_or(|pod| *pod.services == services.listed && *pod.ready_in == services.ready) {
            return;
        }
        if let Some(pod) = pods.get_mut(&uid) {
            (pod.services, pod.ready_in) = (services.listed.into(), services.ready.into());
            self.alike.share_services(pod);
        }
    }
}

fn forget(view: &mut ClusterView, uid: &Uid) {
    take_out(&mut view.versions, &Lane::Pod(uid.clone()));
    take_out(&mut view.pods, uid);
}
