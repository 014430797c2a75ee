//! Nodes of ours and the pods of others on them, kept.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1 as core_v1;
use kube::core::DeserializeGuard;

use super::super::held::Key;
use super::super::names;
use super::super::nodes::{self, Other};
use super::super::watch::Watches;
use super::{cluster_wide, note_version, put, readable, take_out};
use crate::core::snapshot::Lane;
use crate::core::units::ids::{ClassName, NodeName, Uid};
use crate::ports::ClusterView;

/// Each DaemonSet by its uid.
pub type DaemonSets = BTreeMap<Uid, Key>;

/// The pods that are not ours, by their node. The Nodes themselves are in the view.
#[derive(Default)]
pub struct KeptNodes {
    others: BTreeMap<Key, Other>,
    on_node: BTreeMap<NodeName, BTreeSet<Key>>,
}

impl KeptNodes {
    /// Reads the Nodes that have changed, and those on which another's pod or whose class has; all of them if `all`, or if a DaemonSet came or went.
    pub fn catch_up(&mut self, watches: &Watches, view: &mut ClusterView, sets: &DaemonSets, (begun, all): (bool, bool)) {
        let mut touched = self.read_others(watches, begun);
        if !begun || all {
            touched.extend(view.nodes.keys().cloned());
        }
        for watched in &watches.nodes {
            let known = view.nodes.keys().map(|name| cluster_wide(name.as_str()));
            touched.extend(watched.changed(!begun, known).into_iter().map(|((_, name), _)| NodeName::from(name)));
        }
        for name in touched {
            let key = cluster_wide(name.as_str());
            // A Node that gets its instance id comes into the one watch and leaves the other, one after the other.
            let object = watches.nodes.iter().rev().find_map(|watched| watched.get(&key)).map(|object| object.unpack());
            self.read(object.as_ref(), name, view, sets);
        }
    }

    fn read(&self, object: Option<&DeserializeGuard<core_v1::Node>>, name: NodeName, view: &mut ClusterView, sets: &DaemonSets) {
        let Some((node, mut read)) = readable(object).and_then(|node| Some((node, nodes::read(node)?))) else {
            take_out(&mut view.versions, &Lane::Node(name.clone()));
            take_out(&mut view.nodes, &name);
            return;
        };
        let class = node.metadata.labels.as_ref().and_then(|l| l.get(names::NODE_CLASS)).map(|c| ClassName::from(c.as_str()));
        match class.map(|name| view.classes.get(&name)) {
            Some(Some(class)) => read.state.foreign_taints.retain(|key| !class.taints.iter().any(|(of_class, _, _)| of_class == key)),
            // Of a class that is gone or cannot be read nobody knows the taints: they are not taken for another's, which would move all work off.
            Some(None) => read.state.foreign_taints.clear(),
            None => {}
        }
        let others = self.on_node.get(&name).into_iter().flatten().filter_map(|key| Some((key, self.others.get(key)?)));
        // What a DaemonSet's pods take is foreseen for every node of their class.
        let foreseen = |key: &Key, other: &Other| {
            other.daemonset.as_ref().is_some_and(|uid| sets.get(uid).is_some_and(|(namespace, _)| *namespace == key.0))
        };
        read.state.others = others.filter(|(key, other)| !foreseen(key, other)).map(|(_, other)| other.pod.clone()).collect();
        read.state.others.sort_by(|a, b| a.pod.cmp(&b.pod));
        note_version(view, Lane::Node(name.clone()), node);
        put(&mut view.nodes, name, read);
    }

    /// The nodes on which another's pod has appeared, changed or gone.
    fn read_others(&mut self, watches: &Watches, begun: bool) -> BTreeSet<NodeName> {
        let mut touched = BTreeSet::new();
        for (key, object) in watches.others.changes(!begun, self.others.keys().cloned()) {
            let read = readable(object.as_ref()).and_then(nodes::other_pod);
            if self.others.get(&key) == read.as_ref() {
                continue;
            }
            if let Some(Other { node, .. }) = self.others.remove(&key) {
                if let Some(keys) = self.on_node.get_mut(&node) {
                    keys.remove(&key);
                    if keys.is_empty() {
                        self.on_node.remove(&node);
                    }
                }
                touched.insert(node);
            }
            if let Some(other) = read {
                self.on_node.entry(other.node.clone()).or_default().insert(key.clone());
                touched.insert(other.node.clone());
                self.others.insert(key, other);
            }
        }
        touched
    }
}
