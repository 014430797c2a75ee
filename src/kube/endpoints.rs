//! Which Services list a pod, and which of them send it requests.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};

use super::held::Key;
use super::names;

/// The Services of every pod, kept slice by slice.
#[derive(Debug, Clone, Default)]
pub struct Endpoints {
    /// The pods (by uid) that each slice lists, and whether as ready.
    slices: BTreeMap<Key, BTreeMap<String, bool>>,
    /// By a pod's uid: the Service of each slice that lists it, and whether as ready.
    of_pod: BTreeMap<String, BTreeMap<Key, (String, bool)>>,
}

/// The Services of one pod.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodServices {
    /// Those that list it at all.
    pub listed: BTreeSet<String>,
    /// Those that list it as ready.
    pub ready: BTreeSet<String>,
}

/// What is kept of a slice: the name of its Service, and which pods it lists as ready.
pub fn trim(slice: &mut EndpointSlice) {
    if let Some(labels) = &mut slice.metadata.labels {
        labels.retain(|key, _| key == names::SERVICE_NAME);
    }
    (slice.metadata.annotations, slice.metadata.owner_references, slice.ports) = (None, None, None);
    for endpoint in &mut slice.endpoints {
        let (target_ref, conditions) = (endpoint.target_ref.take(), endpoint.conditions.take());
        *endpoint = Endpoint { target_ref, conditions, ..Endpoint::default() };
    }
}

/// The Service of a slice and the pods (by uid) that it lists; `None` for a slice without a Service. Endpoints that are not pods are left out.
fn listed(slice: &EndpointSlice) -> Option<(String, BTreeMap<String, bool>)> {
    let service = slice.metadata.labels.as_ref().and_then(|l| l.get(names::SERVICE_NAME))?;
    let mut pods = BTreeMap::new();
    for endpoint in &slice.endpoints {
        let target = endpoint.target_ref.as_ref().filter(|t| t.kind.as_deref() == Some("Pod"));
        let Some(uid) = target.and_then(|t| t.uid.clone()) else { continue };
        // "A nil value should be interpreted as true": EndpointConditions in the API reference.
        let ready = endpoint.conditions.as_ref().and_then(|c| c.ready).unwrap_or(true);
        *pods.entry(uid).or_insert(false) |= ready;
    }
    Some((service.clone(), pods))
}

impl Endpoints {
    /// Takes in a slice, or that there is none of this key; returns the uids of the pods whose Services it changes.
    pub fn take_in(&mut self, key: &Key, slice: Option<&EndpointSlice>) -> Vec<String> {
        let (service, pods) = slice.and_then(listed).unwrap_or_default();
        let before = self.slices.remove(key).unwrap_or_default();
        let mut changed = Vec::new();
        for uid in before.keys().filter(|uid| !pods.contains_key(*uid)) {
            if let Some(slices) = self.of_pod.get_mut(uid) {
                slices.remove(key);
                if slices.is_empty() {
                    self.of_pod.remove(uid);
                }
            }
            changed.push(uid.clone());
        }
        for (uid, ready) in &pods {
            let now = (service.clone(), *ready);
            let slices = self.of_pod.entry(uid.clone()).or_default();
            if slices.get(key) != Some(&now) {
                slices.insert(key.clone(), now);
                changed.push(uid.clone());
            }
        }
        if !pods.is_empty() {
            self.slices.insert(key.clone(), pods);
        }
        changed
    }

    /// The slices that list pods.
    pub fn keys(&self) -> impl Iterator<Item = &Key> {
        self.slices.keys()
    }

    /// The Services of the pod with this uid.
    pub fn of(&self, pod_uid: &str) -> PodServices {
        let mut services = PodServices::default();
        for (service, ready) in self.of_pod.get(pod_uid).into_iter().flat_map(BTreeMap::values) {
            services.listed.insert(service.clone());
            if *ready {
                services.ready.insert(service.clone());
            }
        }
        services
    }

    /// Reads EndpointSlices.
    #[cfg(test)]
    pub fn read<'a>(slices: impl Iterator<Item = &'a EndpointSlice>) -> Self {
        let mut endpoints = Endpoints::default();
        for (at, slice) in slices.enumerate() {
            endpoints.take_in(&(String::new(), at.to_string()), Some(slice));
        }
        endpoints
    }
}
