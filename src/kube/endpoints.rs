//! Which Services list a pod, and which of them send it requests.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::discovery::v1::EndpointSlice;

use super::names;

/// The Services of every pod, by the pod's uid.
#[derive(Debug, Clone, Default)]
pub struct Endpoints {
    of_pod: BTreeMap<String, PodServices>,
}

/// The Services of one pod.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodServices {
    /// Those that list it at all.
    pub listed: BTreeSet<String>,
    /// Those that list it as ready.
    pub ready: BTreeSet<String>,
}

impl Endpoints {
    /// Reads EndpointSlices; slices without a Service and endpoints that are not pods are left out.
    pub fn read<'a>(slices: impl Iterator<Item = &'a EndpointSlice>) -> Self {
        let mut endpoints = Endpoints::default();
        for slice in slices {
            let Some(service) = slice.metadata.labels.as_ref().and_then(|l| l.get(names::SERVICE_NAME)) else { continue };
            for endpoint in &slice.endpoints {
                let target = endpoint.target_ref.as_ref().filter(|t| t.kind.as_deref() == Some("Pod"));
                let Some(uid) = target.and_then(|t| t.uid.clone()) else { continue };
                let services = endpoints.of_pod.entry(uid).or_default();
                services.listed.insert(service.clone());
                // "A nil value should be interpreted as true": EndpointConditions in the API reference.
                if endpoint.conditions.as_ref().and_then(|c| c.ready).unwrap_or(true) {
                    services.ready.insert(service.clone());
                }
            }
        }
        endpoints
    }

    /// The Services of the pod with this uid.
    pub fn of(&self, pod_uid: &str) -> PodServices {
        self.of_pod.get(pod_uid).cloned().unwrap_or_default()
    }
}
