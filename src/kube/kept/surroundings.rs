//! What reading a pod depends on besides the pod itself: its controllers, its volumes, the Services that list it, the names it may use.
//!
//! Decides: which pods must be read again when one of these changes.

use std::collections::{BTreeMap, BTreeSet};

use kube::core::DeserializeGuard;
use serde::Serialize;

use super::super::endpoints::Endpoints;
use super::super::held::{Held, Key, Pack, Packed};
use super::super::watch::Watches;
use super::super::workloads;
use super::{put, readable, take_out};
use crate::core::units::ids::Uid;
use crate::core::workload::controllers::Controllers;
use crate::core::workload::need::Vocabulary;
use crate::core::workload::volumes::{self, VolumeObject, Volumes};
use crate::ports::ClusterView;

/// All of it, kept.
#[derive(Default)]
pub struct Surroundings {
    pub controllers: Controllers,
    /// The uids by which `controllers` lists ReplicaSets and Deployments.
    sets: BTreeMap<Key, String>,
    deployments: BTreeMap<Key, String>,
    pub volumes: Volumes,
    volume_claims: BTreeMap<Key, VolumeObject>,
    bound_volumes: BTreeMap<Key, VolumeObject>,
    storage_classes: BTreeMap<Key, VolumeObject>,
    pub endpoints: Endpoints,
    pub vocabulary: Vocabulary,
}

/// Whose reading has changed.
#[derive(Debug, Default)]
pub struct Touched {
    /// That of every pod.
    pub every_pod: bool,
    /// That of the pods of these ReplicaSets, by uid.
    pub replica_sets: BTreeSet<String>,
    /// Possibly that of every pod with volumes.
    pub volumes: bool,
    /// That of pods whose rules select namespaces by their labels.
    pub namespaces: bool,
    /// The Services of these pods, by uid.
    pub served: BTreeSet<String>,
}

impl Surroundings {
    /// Takes in what has changed.
    pub fn catch_up(&mut self, watches: &Watches, view: &mut ClusterView, (begun, classes_changed): (bool, bool)) -> Touched {
        let mut touched = Touched::default();
        self.read_replica_sets(watches, begun, &mut touched);
        self.read_deployments(watches, view, begun, &mut touched);
        self.read_volumes(watches, begun, &mut touched);
        for (key, slice) in watches.slices.changes(!begun, self.endpoints.keys().cloned().collect::<Vec<_>>().into_iter()) {
            touched.served.extend(self.endpoints.take_in(&key, readable(slice.as_ref())));
        }
        if !begun || classes_changed {
            let node_labels: BTreeSet<String> = view.classes.values().flat_map(|c| c.node_labels.keys().cloned()).collect();
            if !begun || self.vocabulary.node_labels != node_labels {
                // The names that pods may use: those in the snapshot, and the labels that node classes add.
                self.vocabulary = Vocabulary { node_labels, ..Vocabulary::snapshot().clone() };
                touched.every_pod = true;
            }
        }
        touched
    }

    fn read_replica_sets(&mut self, watches: &Watches, begun: bool, touched: &mut Touched) {
        let held = &mut self.controllers.replica_sets;
        for (key, object) in watches.replica_sets.changes(!begun, self.sets.keys().cloned()) {
            let now = object.map(|set| (set.metadata.uid.clone().unwrap_or_default(), workloads::deployment_of(&set)));
            let before = self.sets.remove(&key).and_then(|uid| held.remove_entry(&uid));
            if before != now {
                touched.replica_sets.extend([&before, &now].into_iter().flatten().map(|(uid, _)| uid.clone()));
            }
            if let Some((uid, deployment)) = now {
                self.sets.insert(key, uid.clone());
                held.insert(uid, deployment);
            }
        }
    }

    fn read_deployments(&mut self, watches: &Watches, view: &mut ClusterView, begun: bool, touched: &mut Touched) {
        let mut changed = BTreeSet::new();
        for (key, object) in watches.deployments.changes(!begun, self.deployments.keys().cloned()) {
            let now = readable(object.as_ref()).map(|d| (d.metadata.uid.clone().unwrap_or_default(), workloads::facts(d)));
            let before = self.deployments.remove(&key).and_then(|uid| self.controllers.deployments.remove_entry(&uid));
            if let Some((uid, _)) = before.as_ref().filter(|(uid, _)| now.as_ref().is_none_or(|(now, _)| now != uid)) {
                take_out(&mut view.replicas_wanted, &Uid::from(uid.as_str()));
            }
            // How many it wants changes nothing for those it has.
            let counts = |of: &Option<(String, crate::core::workload::controllers::DeploymentFacts)>| {
                of.as_ref().map(|(uid, facts)| (uid.clone(), facts.name.clone(), facts.strategy.clone()))
            };
            if counts(&before) != counts(&now) {
                changed.extend([&before, &now].into_iter().flatten().map(|(uid, _)| uid.clone()));
            }
            if let Some((uid, facts)) = now {
                put(&mut view.replicas_wanted, Uid::from(uid.as_str()), facts.replicas);
                self.deployments.insert(key, uid.clone());
                self.controllers.deployments.insert(uid, facts);
            }
        }
        if !changed.is_empty() {
            let theirs = |deployment: &Option<(String, String)>| deployment.as_ref().is_some_and(|(_, uid)| changed.contains(uid));
            let sets = self.controllers.replica_sets.iter().filter(|(_, deployment)| theirs(deployment));
            touched.replica_sets.extend(sets.map(|(uid, _)| uid.clone()));
        }
    }

    fn read_volumes(&mut self, watches: &Watches, begun: bool, touched: &mut Touched) {
        let changed = [
            take_in(&mut self.volume_claims, &watches.volume_claims, begun),
            take_in(&mut self.bound_volumes, &watches.volumes, begun),
            take_in(&mut self.storage_classes, &watches.storage_classes, begun),
        ];
        if changed.contains(&true) {
            let all = |objects: &BTreeMap<Key, VolumeObject>| objects.values().cloned().collect::<Vec<_>>();
            self.volumes = volumes::facts(&all(&self.volume_claims), &all(&self.bound_volumes), &all(&self.storage_classes));
            touched.volumes = true;
        }
    }
}

/// True if one of the objects has changed in what counts.
fn take_in<K>(objects: &mut BTreeMap<Key, VolumeObject>, held: &Held<Packed<DeserializeGuard<K>>>, begun: bool) -> bool
where
    K: Serialize,
    DeserializeGuard<K>: Pack,
{
    let mut changed = false;
    for (key, object) in held.changes(!begun, objects.keys().cloned().collect::<Vec<_>>().into_iter()) {
        let read = readable::<K>(object.as_ref()).and_then(volume_object);
        changed |= objects.get(&key) != read.as_ref();
        match read {
            Some(read) => drop(objects.insert(key, read)),
            None => drop(objects.remove(&key)),
        }
    }
    changed
}

fn volume_object(object: &impl Serialize) -> Option<VolumeObject> {
    serde_json::to_value(object).and_then(serde_json::from_value).ok()
}
