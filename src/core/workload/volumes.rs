//! The volumes of a pod, as far as they tie it to a location or to one node at a time.
//!
//! Decides: which access modes allow a replacement to run alongside the pod it replaces, and where volumes can be reached from.
//! Does not: provision anything, or know how many volumes a node can attach (see `market::catalog`).

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::labels::{LabelOperator, LabelRequirement, LabelTerm, both};
use super::need::constraints::requirement;
use super::need::{Metadata, NodeSelector, NodeSelectorRequirement, PodManifest};

/// A PersistentVolumeClaim and the volume or class behind it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct VolumeFacts {
    /// Access modes, e.g. `ReadWriteOnce`.
    pub access_modes: BTreeSet<String>,
    /// Where it is reachable: the node affinity of its bound volume, or the allowed topologies of its storage class while it waits
    /// for its first consumer. Empty means everywhere.
    pub reached_from: Vec<LabelTerm>,
    /// A bound volume has a location: its pods run there and nowhere else.
    pub bound: bool,
    /// It is an EBS volume, or will be: a node has room for some.
    pub ebs: bool,
    /// Why no pod can have it yet; `None` when it is bound, or will be made where its first pod lands.
    pub missing: Option<String>,
}

/// The volumes of one pod, as far as they matter to other pods and to the moment.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct PodVolumes {
    /// Why no node can have them all yet: a claim that is not there, or that waits for its volume.
    pub missing: Option<String>,
    /// Claims that one pod at a time may use.
    pub of_one_pod: BTreeSet<String>,
    /// Claims that the pods of one node at a time may use.
    pub of_one_node: BTreeSet<String>,
    /// Claims whose volume is made where the first pod lands, and is then in that zone for all.
    pub wait_for_first: BTreeSet<String>,
}

impl PodVolumes {
    /// Those of a pod, by the claims that are known.
    pub fn of(manifest: &PodManifest, known: &Volumes) -> PodVolumes {
        let mut of = PodVolumes::default();
        for (name, facts) in of_pod(manifest, known) {
            let Some(facts) = facts else {
                of.missing.get_or_insert_with(|| format!("PersistentVolumeClaim {name} does not exist"));
                continue;
            };
            if let (Some(why), None) = (&facts.missing, &of.missing) {
                of.missing = Some(format!("PersistentVolumeClaim {name} {why}"));
            }
            if facts.access_modes.contains("ReadWriteOncePod") {
                of.of_one_pod.insert(name.clone());
            }
            if !facts.is_shared() {
                of.of_one_node.insert(name.clone());
            }
            if !facts.bound {
                of.wait_for_first.insert(name);
            }
        }
        of
    }
}

impl VolumeFacts {
    /// Pods on several nodes may mount it at once.
    pub fn is_shared(&self) -> bool {
        self.access_modes.iter().any(|mode| mode == "ReadWriteMany" || mode == "ReadOnlyMany")
    }
}

/// A PersistentVolumeClaim, a PersistentVolume or a StorageClass, as far as it ties pods to a location, in the form of its JSON.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct VolumeObject {
    metadata: Metadata,
    spec: VolumeSpec,
    provisioner: Option<String>,
    volume_binding_mode: Option<String>,
    allowed_topologies: Vec<Topology>,
}

/// AWS's driver for EBS, and what stood in its place within Kubernetes before.
const EBS_DRIVER: &str = "ebs.csi.aws.com";
const IN_TREE_EBS: &str = "kubernetes.io/aws-ebs";
/// The provisioner of classes whose volumes somebody makes by hand.
const BY_HAND: &str = "kubernetes.io/no-provisioner";

#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct VolumeSpec {
    access_modes: Vec<String>,
    volume_name: Option<String>,
    storage_class_name: Option<String>,
    claim_ref: Option<serde_json::Value>,
    node_affinity: VolumeAffinity,
    csi: VolumeDriver,
    aws_elastic_block_store: Option<serde_json::Value>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
struct VolumeDriver {
    driver: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
struct VolumeAffinity {
    required: NodeSelector,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Topology {
    match_label_expressions: Vec<TopologyLabel>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
struct TopologyLabel {
    key: String,
    values: BTreeSet<String>,
}

/// What is known about each of `claims`, from the volumes they are bound to or the storage classes that will create them.
pub fn facts(claims: &[VolumeObject], volumes: &[VolumeObject], classes: &[VolumeObject]) -> Volumes {
    let named = |objects: &[VolumeObject]| -> BTreeMap<String, VolumeObject> {
        objects.iter().map(|o| (o.metadata.name.clone().unwrap_or_default(), o.clone())).collect()
    };
    let (volumes, classes) = (named(volumes), named(classes));
    let of = |claim: &VolumeObject| {
        let key =
            (claim.metadata.namespace.clone().unwrap_or_else(|| "default".to_owned()), claim.metadata.name.clone().unwrap_or_default());
        let named = claim.spec.volume_name.as_ref().filter(|n| !n.is_empty());
        let volume = named.and_then(|name| volumes.get(name));
        let class_name = claim.spec.storage_class_name.as_deref().unwrap_or_default();
        let class = classes.get(class_name);
        let waits = class.filter(|c| c.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer"));
        let (reached_from, missing) = match (volume, waits) {
            (Some(volume), _) => (terms_of(&volume.spec.node_affinity.required), None),
            (None, _) if named.is_some() => (Vec::new(), named.map(|name| format!("is bound to the volume {name}, which does not exist"))),
            (None, Some(class)) if class.provisioner.as_deref() == Some(BY_HAND) => made_by_hand(&volumes, class_name),
            (None, Some(class)) => (class.allowed_topologies.iter().map(topology).collect(), None),
            (None, None) => (Vec::new(), Some(format!("is not bound yet (storage class {class_name:?} does not wait for its first pod)"))),
        };
        let access_modes = claim.spec.access_modes.iter().cloned().collect();
        let ebs = match volume {
            Some(volume) => volume.spec.aws_elastic_block_store.is_some() || volume.spec.csi.driver == EBS_DRIVER,
            None => class.and_then(|c| c.provisioner.as_deref()).is_some_and(|by| by == EBS_DRIVER || by == IN_TREE_EBS),
        };
        (key, VolumeFacts { access_modes, reached_from, bound: volume.is_some(), ebs, missing })
    };
    claims.iter().map(of).collect()
}

/// Where the free volumes of a class are reached from, of which a claim takes one.
fn made_by_hand(volumes: &BTreeMap<String, VolumeObject>, class: &str) -> (Vec<LabelTerm>, Option<String>) {
    let free = || volumes.values().filter(|v| v.spec.claim_ref.is_none() && v.spec.storage_class_name.as_deref() == Some(class));
    if free().next().is_none() {
        return (Vec::new(), Some(format!("waits for a volume of storage class {class}, which makes none itself, and none is free")));
    }
    // One that is reachable from everywhere leaves everywhere.
    let everywhere = free().any(|v| v.spec.node_affinity.required.node_selector_terms.is_empty());
    let terms = if everywhere { Vec::new() } else { free().flat_map(|v| terms_of(&v.spec.node_affinity.required)).collect() };
    (terms, None)
}

/// Requirements that cannot be read count as none: volumes only use labels in a set.
fn terms_of(selector: &NodeSelector) -> Vec<LabelTerm> {
    let read = |want: &NodeSelectorRequirement| requirement(want, "spec.nodeAffinity", &mut Vec::new());
    selector.node_selector_terms.iter().map(|term| term.match_expressions.iter().filter_map(read).collect()).collect()
}

fn topology(topology: &Topology) -> LabelTerm {
    let one = |label: &TopologyLabel| LabelRequirement { key: label.key.clone(), operator: LabelOperator::In(label.values.clone()) };
    topology.match_label_expressions.iter().map(one).collect()
}

/// All claims, by namespace and name.
pub type Volumes = BTreeMap<(String, String), VolumeFacts>;

/// The claims that a pod mounts, by name, with what is known about each.
pub fn of_pod<'a>(manifest: &PodManifest, volumes: &'a Volumes) -> Vec<(String, Option<&'a VolumeFacts>)> {
    let namespace = manifest.metadata.namespace.clone().unwrap_or_else(|| "default".to_owned());
    let pod = manifest.metadata.name.clone().unwrap_or_default();
    let names = manifest.spec.volumes.iter().filter_map(|volume| match &volume.persistent_volume_claim {
        Some(claim) => Some(claim.claim_name.clone()),
        None => volume.ephemeral.as_ref().map(|_| format!("{pod}-{}", volume.name)),
    });
    names.map(|name| (name.clone(), volumes.get(&(namespace.clone(), name)))).collect()
}

/// How many EBS volumes its node attaches for a pod.
pub fn attached(of_pod: &[(String, Option<&VolumeFacts>)]) -> i64 {
    let names: BTreeSet<&String> = of_pod.iter().filter(|(_, facts)| facts.is_some_and(|f| f.ebs)).map(|(name, _)| name).collect();
    i64::try_from(names.len()).unwrap_or(i64::MAX)
}

/// What a pod's volumes require of its node's labels.
pub fn reached_from(of_pod: &[(String, Option<&VolumeFacts>)]) -> Vec<LabelTerm> {
    of_pod.iter().filter_map(|(_, facts)| *facts).fold(Vec::new(), |terms, facts| both(terms, facts.reached_from.clone()))
}

/// Why no second pod can mount what this one mounts: the first volume that only one node may have. An unknown one may be such a volume.
pub fn held_by_one_node(manifest: &PodManifest, volumes: &Volumes) -> Option<String> {
    let claims = of_pod(manifest, volumes);
    // A volume created only for the pod is created again for its replacement.
    let own = |name: &str| {
        let pod = manifest.metadata.name.as_deref().unwrap_or_default();
        manifest.spec.volumes.iter().any(|v| v.ephemeral.is_some() && name == format!("{pod}-{}", v.name))
    };
    claims.iter().filter(|(name, _)| !own(name)).find_map(|(name, facts)| match facts {
        Some(facts) if facts.is_shared() => None,
        Some(facts) => {
            let modes = facts.access_modes.iter().cloned().collect::<Vec<_>>().join(", ");
            Some(format!("PersistentVolumeClaim {name} ({modes}) can be mounted on one node only"))
        }
        None => Some(format!("PersistentVolumeClaim {name} is not known, so it may be mounted on one node only")),
    })
}

#[cfg(test)]
mod tests {
    use crate::core::workload::volumes::*;

    fn pod() -> PodManifest {
        let text = r#"{"metadata":{"namespace":"ml","name":"web-1"},"spec":{"volumes":[
            {"name":"w","persistentVolumeClaim":{"claimName":"weights"}},{"name":"scratch","ephemeral":{}},{"name":"e","emptyDir":{}}]}}"#;
        serde_json::from_str(text).unwrap()
    }

    fn volumes(mode: &str) -> Volumes {
        let facts = VolumeFacts { access_modes: [mode.to_owned()].into(), ..VolumeFacts::default() };
        [(("ml".to_owned(), "weights".to_owned()), facts)].into()
    }

    #[test]
    fn a_pod_waits_for_claims_that_no_node_can_have_yet() {
        let object = |text: &str| serde_json::from_str::<VolumeObject>(text).unwrap();
        let claim = |spec: &str| object(&format!(r#"{{"metadata":{{"namespace":"ml","name":"weights"}},"spec":{spec}}}"#));
        let class = |mode: &str, provisioner: &str| {
            object(&format!(r#"{{"metadata":{{"name":"fast"}},"provisioner":"{provisioner}","volumeBindingMode":"{mode}"}}"#))
        };
        let volume = object(r#"{"metadata":{"name":"v1"},"spec":{"storageClassName":"fast"}}"#);
        let missing = |spec: &str, volumes: &[VolumeObject], classes: &[VolumeObject]| {
            let known = facts(&[claim(spec)], volumes, classes);
            let manifest = serde_json::from_str(
                r#"{"metadata":{"namespace":"ml"},"spec":{"volumes":[{"name":"w","persistentVolumeClaim":{"claimName":"weights"}}]}}"#,
            );
            PodVolumes::of(&manifest.unwrap(), &known).missing.unwrap_or_default()
        };
        let (fast, bound) = (r#"{"storageClassName":"fast"}"#, r#"{"storageClassName":"fast","volumeName":"v1"}"#);
        assert_eq!(missing(bound, std::slice::from_ref(&volume), &[]), "");
        assert!(missing(bound, &[], &[]).contains("volume v1, which does not exist"));
        assert_eq!(missing(fast, &[], &[class("WaitForFirstConsumer", "ebs.csi.aws.com")]), "");
        assert!(missing(fast, &[], &[class("Immediate", "ebs.csi.aws.com")]).contains("not bound yet"));
        assert!(missing(fast, &[], &[class("WaitForFirstConsumer", BY_HAND)]).contains("none is free"));
        assert_eq!(missing(fast, &[volume], &[class("WaitForFirstConsumer", BY_HAND)]), "");
        assert!(PodVolumes::of(&pod(), &Volumes::new()).missing.unwrap().contains("weights does not exist"));
    }

    #[test]
    fn ebs_volumes_are_counted_whether_they_are_there_or_wait_for_their_pod_and_others_are_not() {
        let object = |text: &str| serde_json::from_str::<VolumeObject>(text).unwrap();
        let claim = |name: &str, spec: &str| object(&format!(r#"{{"metadata":{{"namespace":"ml","name":"{name}"}},"spec":{spec}}}"#));
        let claims = [
            claim("bound", r#"{"volumeName":"v1"}"#),
            claim("old", r#"{"volumeName":"v2"}"#),
            claim("waits", r#"{"storageClassName":"gp3"}"#),
            claim("shared", r#"{"storageClassName":"efs"}"#),
        ];
        let volumes = [
            object(r#"{"metadata":{"name":"v1"},"spec":{"csi":{"driver":"ebs.csi.aws.com","volumeHandle":"vol-1"}}}"#),
            object(r#"{"metadata":{"name":"v2"},"spec":{"awsElasticBlockStore":{"volumeID":"vol-2"}}}"#),
        ];
        let class = |name: &str, by: &str| {
            object(&format!(r#"{{"metadata":{{"name":"{name}"}},"provisioner":"{by}","volumeBindingMode":"WaitForFirstConsumer"}}"#))
        };
        let known = facts(&claims, &volumes, &[class("gp3", "ebs.csi.aws.com"), class("efs", "efs.csi.aws.com")]);
        let mount = |name: &&str| format!(r#"{{"name":"{name}","persistentVolumeClaim":{{"claimName":"{name}"}}}}"#);
        let of = |names: &[&str]| {
            let mounts = names.iter().map(mount).collect::<Vec<_>>().join(",");
            let pod = serde_json::from_str(&format!(r#"{{"metadata":{{"namespace":"ml"}},"spec":{{"volumes":[{mounts}]}}}}"#)).unwrap();
            attached(&of_pod(&pod, &known))
        };
        assert_eq!([of(&["bound", "old", "waits", "shared", "unknown"]), of(&["bound", "bound"]), of(&["shared"])], [3, 1, 0]);
    }

    #[test]
    fn only_what_one_node_alone_may_mount_keeps_a_replacement_off() {
        assert_eq!(held_by_one_node(&pod(), &volumes("ReadWriteMany")), None);
        assert_eq!(held_by_one_node(&pod(), &volumes("ReadOnlyMany")), None);
        for mode in ["ReadWriteOnce", "ReadWriteOncePod"] {
            let because = held_by_one_node(&pod(), &volumes(mode)).unwrap();
            assert_eq!(because, format!("PersistentVolumeClaim weights ({mode}) can be mounted on one node only"));
        }
        assert!(held_by_one_node(&pod(), &Volumes::new()).unwrap().contains("is not known"));
    }
}
