//! The view that passes read, kept from one pass to the next: what the watches announce is read, and nothing else.
//!
//! Decides: what must be read again when an object has changed: itself, and what was read with its help.
//! Does not: read objects field by field (see the module of each subject), or watch (see [`super::watch`]).
//!
//! A part of the view in which nothing has changed stays the same value, so that a pass can tell at no cost (see `engine::settled`). An object
//! that changed in nothing that counts, as a Node does with each heartbeat, changes no part.

mod nodes;
mod pods;
mod surroundings;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use kube::Resource;
use kube::core::DeserializeGuard;

use self::nodes::{DaemonSets, KeptNodes};
use self::pods::KeptPods;
use super::held::Key;
use super::watch::Watches;
use super::{claims, classes, daemonsets, pools};
use crate::core::fleet::{ClassProblem, FrozenLaunch, PoolsDefined};
use crate::core::snapshot::Lane;
use crate::core::units::alike::Alike;
use crate::core::units::ids::{ClaimName, ClassName, PoolName, Uid};
use crate::core::units::shared::Shared;
use crate::core::workload::pod_reader::NamespaceLabels;
use crate::ports::ClusterView;

/// The view, and what is needed to keep it.
#[derive(Default)]
pub struct Kept {
    view: ClusterView,
    /// It has been read once.
    begun: bool,
    namespaces: NamespaceLabels,
    daemonsets: BTreeMap<Key, crate::core::workload::daemonsets::DaemonSet>,
    /// What says which pods are theirs.
    daemonset_uids: DaemonSets,
    nodes: KeptNodes,
    pods: KeptPods,
    /// What claims are launched with, once for those that are launched with the same.
    launches: Alike<FrozenLaunch>,
}

/// The key of an object without a namespace.
fn cluster_wide(name: &str) -> Key {
    (String::new(), name.to_owned())
}

/// Sets a value; an equal one is no change.
fn put<K: Ord + Clone, V: Clone + PartialEq>(map: &mut Shared<BTreeMap<K, V>>, key: K, value: V) {
    if map.get(&key) != Some(&value) {
        map.insert(key, value);
    }
}

/// Takes a value out; one that is not there is no change.
fn take_out<K: Ord + Clone, V: Clone>(map: &mut Shared<BTreeMap<K, V>>, key: &K) {
    if map.contains_key(key) {
        map.remove(key);
    }
}

/// At which version an object is observed.
fn note_version<K: Resource>(view: &mut ClusterView, lane: Lane, object: &K) {
    match object.meta().resource_version.as_deref().and_then(|v| v.parse().ok()) {
        Some(version) => put(&mut view.versions, lane, version),
        None => take_out(&mut view.versions, &lane),
    }
}

/// The object, if it can be read.
fn readable<K>(guarded: Option<&DeserializeGuard<K>>) -> Option<&K> {
    guarded?.0.as_ref().ok()
}

impl Kept {
    /// Brings the view up to date with what the watches hold.
    pub fn catch_up(&mut self, watches: &Watches) -> &ClusterView {
        let namespaces_changed = self.read_namespaces(watches);
        // Before and after: pools that are read while their definition is looked up are of none (see `pools_watch`).
        let defined = watches.pools_defined.now();
        self.read_pools(watches, namespaces_changed);
        self.view.pools_defined = if watches.pools_defined.now() == defined { defined } else { PoolsDefined::Unread };
        let classes_changed = self.read_classes(watches);
        self.read_claims(watches);
        let sets_changed = self.read_daemonsets(watches);
        self.nodes.catch_up(watches, &mut self.view, &self.daemonset_uids, (self.begun, classes_changed || sets_changed));
        self.pods.catch_up(watches, &mut self.view, &self.namespaces, (self.begun, classes_changed, namespaces_changed));
        self.begun = true;
        &self.view
    }

    fn read_namespaces(&mut self, watches: &Watches) -> bool {
        let known = self.namespaces.keys().map(|name| cluster_wide(name));
        let mut changed = false;
        for ((_, name), object) in watches.namespaces.changes(!self.begun, known) {
            let mut labels = object.map(|n| n.metadata.labels.clone().unwrap_or_default());
            if let (Some(labels), true) = (&mut labels, watches.ignored.names.contains(&name)) {
                labels.insert(watches.ignored.label.clone(), "exempt".to_owned());
            }
            changed |= self.namespaces.get(&name) != labels.as_ref();
            match labels {
                Some(labels) => drop(self.namespaces.insert(name, labels)),
                None => drop(self.namespaces.remove(&name)),
            }
        }
        changed
    }

    /// Pools are few, and which namespaces they allow depends on all of those.
    fn read_pools(&mut self, watches: &Watches, namespaces_changed: bool) {
        let known = self.view.pools.keys().chain(self.view.unreadable_pools.iter()).map(|name| cluster_wide(name.as_str()));
        for (key, object) in watches.pools.changes(!self.begun || namespaces_changed, known) {
            let name = PoolName::from(key.1);
            let read = object.as_ref().map(|guarded| match &guarded.0 {
                Ok(pool) => {
                    pools::read(pool, &self.namespaces, &watches.ignored.label).map(|read| (pool, read)).map_err(|fault| fault.to_string())
                }
                Err(fault) => Err(format!("GpuNodePool {name} cannot be read: {fault}")),
            });
            let view = &mut self.view;
            // One that is there and cannot be read is not gone: nothing of it may end.
            match &read {
                Some(Err(fault)) => {
                    watches
                        .say_once(fault.clone(), "nothing is bought in a node pool that cannot be read, and its machines stay as they are");
                    if !view.unreadable_pools.contains(&name) {
                        view.unreadable_pools.insert(name.clone());
                    }
                }
                _ if view.unreadable_pools.contains(&name) => drop(view.unreadable_pools.remove(&name)),
                _ => {}
            }
            let read = read.and_then(Result::ok);
            match read {
                Some((pool, read)) => {
                    note_version(view, Lane::Pool(name.clone()), pool);
                    match pools::read_status(pool) {
                        Some(status) => put(&mut view.pool_statuses, name.clone(), status),
                        None => take_out(&mut view.pool_statuses, &name),
                    }
                    put(&mut view.pools, name, read);
                }
                None => {
                    take_out(&mut view.versions, &Lane::Pool(name.clone()));
                    take_out(&mut view.pool_statuses, &name);
                    take_out(&mut view.pools, &name);
                }
            }
        }
    }

    /// True if a class has changed.
    fn read_classes(&mut self, watches: &Watches) -> bool {
        let before = self.view.classes.mark();
        let known = self.view.classes.keys().map(|name| cluster_wide(name.as_str()));
        for (key, object) in watches.classes.changes(!self.begun, known) {
            let (name, view) = (ClassName::from(key.1), &mut self.view);
            let Some(class) = readable(object.as_ref()) else {
                take_out(&mut view.versions, &Lane::Class(name.clone()));
                take_out(&mut view.templates, &name);
                take_out(&mut view.classes, &name);
                continue;
            };
            let mut read = classes::read(class);
            match classes::launch_template(class, &watches.cluster_uid) {
                Ok(template) => put(&mut view.templates, name.clone(), template),
                Err(fault) => {
                    take_out(&mut view.templates, &name);
                    read.problem = Some(ClassProblem { reason: "UserDataUnwritable".to_owned(), text: fault.to_string() });
                }
            }
            note_version(view, Lane::Class(name.clone()), class);
            put(&mut view.classes, name, read);
        }
        !self.view.classes.is(&before)
    }

    fn read_claims(&mut self, watches: &Watches) {
        let names = self.view.claims.keys().chain(self.view.unreadable_claims.keys());
        for (key, object) in watches.claims.changes(!self.begun, names.map(|name| cluster_wide(name.as_str()))) {
            let (name, view) = (ClaimName::from(key.1), &mut self.view);
            match object.as_ref().map(|object| (object, claims::read_guarded(object))) {
                Some((object, Ok(mut read))) => {
                    self.launches.share(&mut read.spec.frozen);
                    note_version(view, Lane::Claim(name.clone()), object);
                    take_out(&mut view.unreadable_claims, &name);
                    put(&mut view.claims, name, read);
                }
                Some((_, Err(unreadable))) => {
                    take_out(&mut view.versions, &Lane::Claim(name.clone()));
                    take_out(&mut view.claims, &name);
                    match unreadable {
                        Some(claim) => {
                            watches.say_once(claim.fault.clone(), "a claim cannot be read: its machine is kept, and nothing is swept");
                            put(&mut view.unreadable_claims, name, claim);
                        }
                        None => take_out(&mut view.unreadable_claims, &name),
                    }
                }
                None => {
                    take_out(&mut view.versions, &Lane::Claim(name.clone()));
                    take_out(&mut view.unreadable_claims, &name);
                    take_out(&mut view.claims, &name);
                }
            }
        }
    }

    /// True if one came or went.
    fn read_daemonsets(&mut self, watches: &Watches) -> bool {
        let (mut changed, before) = (false, self.daemonset_uids.clone());
        for (key, object) in watches.daemonsets.changes(!self.begun, self.daemonsets.keys().cloned()) {
            let read = readable(object.as_ref()).map(daemonsets::read);
            if let Some((read, Some(fault))) = &read {
                watches.say_once(format!("DaemonSet {}: {fault}", read.name), "its requests are not counted");
            }
            let read = read.map(|(read, _)| read);
            changed |= self.daemonsets.get(&key) != read.as_ref();
            let uid = readable(object.as_ref()).and_then(|set| set.metadata.uid.as_deref().map(Uid::from));
            self.daemonset_uids.retain(|_, held| *held != key);
            self.daemonset_uids.extend(uid.map(|uid| (uid, key.clone())));
            match read {
                Some(read) => drop(self.daemonsets.insert(key, read)),
                None => drop(self.daemonsets.remove(&key)),
            }
        }
        if changed {
            let mut all: Vec<_> = self.daemonsets.values().cloned().collect();
            all.sort_by(|a, b| a.name.cmp(&b.name));
            self.view.daemonsets = all.into();
        }
        self.daemonset_uids != before
    }
}
