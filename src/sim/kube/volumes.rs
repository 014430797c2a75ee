//! PersistentVolumeClaims, the volumes they are bound to, and the storage classes that make them.
//!
//! Decides: when a claim is bound and where its volume then is; which claims only one node, or one pod, may use.
//! Does not: attach anything (see `kubelet`), or say what this means for a pod's mobility (lowtide's own reader does).

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::NAMESPACE;
use crate::core::workload::volumes::{self, Volumes};

/// The label that says where a volume is.
const ZONE: &str = "topology.kubernetes.io/zone";

/// A PersistentVolumeClaim and what is behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// `ReadWriteOnce`, `ReadWriteOncePod` or `ReadWriteMany`.
    pub mode: &'static str,
    /// It is bound when its first pod is scheduled (`WaitForFirstConsumer`), to a volume in one of these zones; empty: in any.
    pub waits_for: Vec<String>,
    /// It is bound to a volume.
    pub bound: bool,
    /// The zone of that volume; `None`: it is reachable everywhere, as a file system of a region or of an on-premises store is.
    pub zone: Option<String>,
}

impl Volume {
    /// Only one node at a time may use it.
    pub fn is_of_one_node(&self) -> bool {
        self.mode != "ReadWriteMany"
    }

    /// Only one pod at a time may use it.
    pub fn is_of_one_pod(&self) -> bool {
        self.mode == "ReadWriteOncePod"
    }

    /// Whether a pod on a node in `zone` can use it.
    pub fn reached_from(&self, zone: &str) -> bool {
        match (self.bound, &self.zone) {
            (true, at) => at.as_ref().is_none_or(|at| at == zone),
            (false, _) => self.waits_for.is_empty() || self.waits_for.iter().any(|z| z == zone),
        }
    }
}

/// All of them, by the name of the claim.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Store {
    volumes: BTreeMap<String, Volume>,
}

impl Store {
    /// The claim of this name.
    pub fn get(&self, claim: &str) -> Option<&Volume> {
        self.volumes.get(claim)
    }

    /// Adds a claim; one that is there already stays what it is. True when it is new.
    pub fn add(&mut self, claim: &str, volume: Volume) -> bool {
        let new = !self.volumes.contains_key(claim);
        self.volumes.entry(claim.to_owned()).or_insert(volume);
        new
    }

    /// A pod that mounts `claim` was scheduled to `zone`: a claim that waited for its first consumer has its volume there. True when it had
    /// waited.
    pub fn consume(&mut self, claim: &str, zone: &str) -> bool {
        let Some(volume) = self.volumes.get_mut(claim).filter(|v| !v.bound) else { return false };
        (volume.bound, volume.zone) = (true, Some(zone.to_owned()));
        true
    }

    /// What lowtide's reader says of them, from the objects as the API server shows them.
    pub fn facts(&self, take_all_for_shared: bool) -> Volumes {
        let read = |objects: Vec<Value>| objects.into_iter().filter_map(|object| serde_json::from_value(object).ok()).collect::<Vec<_>>();
        let of = |make: fn(&str, &Volume) -> Option<Value>| self.volumes.iter().filter_map(|(name, v)| make(name, v)).collect::<Vec<_>>();
        let mut claims = of(|name, v| Some(claim(name, v)));
        if take_all_for_shared {
            claims.iter_mut().for_each(|claim| claim["spec"]["accessModes"] = json!(["ReadWriteMany"]));
        }
        volumes::facts(&read(claims), &read(of(volume)), &read(of(class)))
    }
}

fn claim(name: &str, of: &Volume) -> Value {
    let mut object = json!({
        "metadata": { "namespace": NAMESPACE, "name": name },
        "spec": { "accessModes": [of.mode], "storageClassName": format!("class-of-{name}") },
    });
    if of.bound {
        object["spec"]["volumeName"] = json!(format!("volume-of-{name}"));
    }
    object
}

fn volume(name: &str, of: &Volume) -> Option<Value> {
    let mut object = json!({ "metadata": { "name": format!("volume-of-{name}") }, "spec": { "accessModes": [of.mode], "csi": { "driver": driver(of) } } });
    if let Some(zone) = &of.zone {
        let here = json!([{ "key": ZONE, "operator": "In", "values": [zone] }]);
        object["spec"]["nodeAffinity"] = json!({ "required": { "nodeSelectorTerms": [{ "matchExpressions": here }] } });
    }
    of.bound.then_some(object)
}

/// Block storage is EBS, and what many nodes may have is a file system.
fn driver(of: &Volume) -> &'static str {
    if of.is_of_one_node() { "ebs.csi.aws.com" } else { "efs.csi.aws.com" }
}

fn class(name: &str, of: &Volume) -> Option<Value> {
    let waits = if of.bound { "Immediate" } else { "WaitForFirstConsumer" };
    let mut object = json!({ "metadata": { "name": format!("class-of-{name}") }, "volumeBindingMode": waits, "provisioner": driver(of) });
    if !of.waits_for.is_empty() {
        object["allowedTopologies"] = json!([{ "matchLabelExpressions": [{ "key": ZONE, "values": of.waits_for }] }]);
    }
    Some(object)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_that_waits_is_bound_where_its_first_pod_goes_and_stays_there() {
        let mut store = Store::default();
        let waits_for = vec!["use1-az2".to_owned(), "use1-az4".to_owned()];
        store.add("data", Volume { mode: "ReadWriteOnce", waits_for, bound: false, zone: None });
        let terms = |store: &Store| store.facts(false).into_values().next().unwrap().reached_from;
        assert_eq!((terms(&store).len(), store.get("data").unwrap().reached_from("use2-az1")), (1, false));
        assert!(store.consume("data", "use1-az4") && !store.consume("data", "use1-az2"));
        assert!(store.get("data").unwrap().reached_from("use1-az4") && !store.get("data").unwrap().reached_from("use1-az2"));
        assert!(format!("{:?}", terms(&store)).contains("use1-az4") && !format!("{:?}", terms(&store)).contains("use1-az2"));
        assert!(
            store.facts(true).into_values().next().unwrap().is_shared() && !store.facts(false).into_values().next().unwrap().is_shared()
        );
    }
}
