//! What the operator's watch makes of the cluster's pods: their manifests, read by the core's one reader, as the live adapter does.
//!
//! Decides: when a pod is read again: when its manifest changes, and all of them when controllers or volumes do. Never once a pass.
//! Does not: know what a pod asks for otherwise: scheduler, controllers and checks have a reading of their own ([`super::asks`]).

use std::collections::BTreeMap;

use serde::Deserialize as _;

use super::Kube;
use super::work::{Keeper, Replicated, SimPod};
use crate::core::snapshot::Lane;
use crate::core::units::ids::Uid;
use crate::core::workload::Pod;
use crate::core::workload::controllers::{Controllers, DeploymentFacts};
use crate::core::workload::need::{PodManifest, Vocabulary};
use crate::core::workload::pod_reader::{AttributionKeys, NamespaceLabels, PodReader, ReadPod};
use crate::core::workload::volumes::Volumes;

/// What a reading depends on besides the pod.
#[derive(Debug, Default)]
pub struct Around {
    controllers: Controllers,
    volumes: Volumes,
    keys: AttributionKeys,
    namespaces: NamespaceLabels,
    /// Something of it changed, and nothing was read since.
    pub changed: bool,
}

impl Around {
    /// Reads one pod into what the operator knows of it.
    fn read(&self, of: &SimPod, volumes: &Volumes) -> Pod {
        let (vocabulary, mut pod) = (Vocabulary::snapshot(), of.pod.clone());
        let (controllers, keys, namespaces) = (&self.controllers, &self.keys, &self.namespaces);
        let reader = PodReader { controllers, volumes, keys, namespaces, vocabulary };
        let (manifest, asked) = match PodManifest::deserialize(&*of.manifest) {
            Ok(manifest) => {
                let asked = (reader.need(&manifest), reader.rules(&manifest));
                (manifest, asked)
            }
            Err(fault) => (PodManifest::default(), (Err(vec![format!("the pod's manifest cannot be read: {fault}")]), Default::default())),
        };
        let ReadPod { workload, mobility, need, rules, attribution, termination_grace } =
            reader.read(&manifest, asked, pod.let_go.as_deref());
        (pod.workload, pod.mobility, pod.need, pod.rules) = (workload, mobility, need, rules);
        (pod.attribution, pod.termination_grace) = (attribution, termination_grace);
        pod
    }
}

fn controllers(replicated: &BTreeMap<String, Replicated>) -> Controllers {
    let mut found = Controllers::default();
    for (name, work) in replicated {
        if let Keeper::Deployment(strategy) = work.keeper {
            found.replica_sets.insert(work.controller.to_string(), Some((name.clone(), work.uid.to_string())));
            let replicas = i64::try_from(work.replicas).unwrap_or(0);
            let facts = DeploymentFacts { name: name.clone(), strategy: strategy.to_owned(), replicas };
            found.deployments.insert(work.uid.to_string(), facts);
        }
    }
    found
}

impl Kube {
    /// Reads a pod whose manifest has changed.
    pub(super) fn read(&mut self, pod: &mut SimPod) {
        let looked = self.look_around();
        if std::mem::take(&mut pod.unread) || looked {
            pod.pod = self.around.read(pod, &self.around.volumes);
        }
    }

    /// Looks at controllers and volumes, if they have changed; then every pod is read again, and the watch shows what has become of it.
    pub(super) fn look_around(&mut self) -> bool {
        if !std::mem::take(&mut self.around.changed) {
            return false;
        }
        (self.around.controllers, self.around.volumes) = (controllers(&self.replicated), self.volumes.facts(false));
        for (uid, stored) in &mut self.pods {
            let read = self.around.read(&stored.object, &self.around.volumes);
            if read != stored.object.pod {
                stored.object.pod = read;
                self.unshown.insert(Lane::Pod(uid.clone()));
            }
        }
        true
    }

    /// Replicas that each Deployment wants, as the watch shows them.
    pub(super) fn show_replicas(&mut self) {
        let wanted = self.around.controllers.replicas_wanted();
        if *self.shown.replicas_wanted != wanted {
            self.shown.replicas_wanted = wanted.into();
        }
    }

    /// The pods as an operator would see them that takes every volume for one that many nodes may mount.
    pub fn pods_with_shared_volumes(&self) -> BTreeMap<Uid, Pod> {
        let volumes = self.volumes.facts(true);
        let again = |pod: &Pod| match self.pods.get(&pod.identity.uid) {
            Some(stored) => {
                let read = self.around.read(&stored.object, &volumes);
                Pod { mobility: read.mobility, need: read.need, ..pod.clone() }
            }
            None => pod.clone(),
        };
        self.shown.pods.iter().map(|(uid, pod)| (uid.clone(), again(pod))).collect()
    }

    /// A workload with replicas is there from now on, or is another.
    pub fn put_replicated(&mut self, name: &str, work: Replicated) {
        self.around.changed = true;
        self.replicated.insert(name.to_owned(), work);
    }

    /// A workload with replicas is deleted.
    pub fn remove_replicated(&mut self, name: &str) -> Option<Replicated> {
        self.around.changed = true;
        self.replicated.remove(name)
    }

    /// Its owners want this many replicas from now on.
    pub fn scale(&mut self, name: &str, replicas: usize) {
        self.around.changed = true;
        if let Some(work) = self.replicated.get_mut(name) {
            work.replicas = replicas;
            work.least_available = work.least_available.map(|_| replicas.saturating_sub(1));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::volumes::Volume;
    use super::super::work::Template;
    use super::super::{NAMESPACE, manifests};
    use super::*;
    use crate::core::units::time::{Millis, Timestamp};
    use crate::core::workload::Mobility;
    use crate::sim::event::Owner;

    /// A Deployment of one replica whose pods mount a claim of this mode, and its pod as lowtide reads it.
    fn reading_of(mode: &'static str, keeper: Keeper) -> Mobility {
        let mut kube = Kube::of("test".to_owned());
        kube.volumes.add("weights", Volume { mode, waits_for: Vec::new(), bound: true, zone: None });
        let manifest = json!({
            "metadata": { "labels": { "app": "web" }, "annotations": { "lowtide.dev/workload": "inference" } },
            "spec": {
                "containers": [{ "name": "main", "resources": { "limits": { "nvidia.com/gpu": "1" } } }],
                "volumes": [{ "name": "w", "persistentVolumeClaim": { "claimName": "weights" } }],
            },
        });
        let template = Template { manifest, start: Millis(0), ending: Millis(0) };
        let (uid, controller) = (Uid::from("deployment-web"), Uid::from("replica-set-web"));
        let (surges, honoured, least_available, of_each_pod, made) = (true, true, None, None, 0);
        let (replicas, most_replicas) = (1, 1);
        let work =
            Replicated { keeper, uid, controller, replicas, most_replicas, template, of_each_pod, surges, honoured, least_available, made };
        kube.put_replicated("web", work);
        kube.reconcile(&Owner::Replicated("web".to_owned()), Timestamp(0), &mut Vec::new());
        let pod = kube.pods.values().next().map(|p| p.object.pod.clone()).unwrap();
        assert!(pod.need.is_ok(), "{:?}", pod.need);
        assert_eq!(pod.workload.kind, keeper.kind());
        (*pod.mobility).clone()
    }

    #[test]
    fn the_cores_reader_says_how_each_pod_can_be_moved() {
        let rolling = Keeper::Deployment("RollingUpdate");
        assert!(matches!(reading_of("ReadWriteMany", rolling), Mobility::Surge { .. }));
        for mode in ["ReadWriteOnce", "ReadWriteOncePod"] {
            assert!(matches!(reading_of(mode, rolling), Mobility::BreakFirst { because } if because.contains(mode)));
        }
        assert!(matches!(reading_of("ReadWriteMany", Keeper::Deployment("Recreate")), Mobility::BreakFirst { .. }));
        assert!(matches!(reading_of("ReadWriteMany", Keeper::StatefulSet { parallel: true }), Mobility::BreakFirst { .. }));
        let bare = manifests::pod(&json!({}), "alone", None);
        assert_eq!((bare["metadata"]["namespace"].as_str(), bare["metadata"].get("ownerReferences")), (Some(NAMESPACE), None));
    }
}
