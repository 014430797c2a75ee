//! Why a pod is where it is, or why it waits.
//!
//! Decides: which of what was written about a pod answers the question: its claim for where and for how much, events for why.
//! Does not: know more than Kubernetes keeps. Events last an hour by default; the ledger keeps decisions for good.

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::events::v1::Event;
use kube::api::ListParams;
use kube::{Api, Client};
use serde::Serialize;

use super::annotation;
use crate::core::record::code_of;
use crate::core::units::money::MicroUsdPerHour;
use crate::core::units::time::Timestamp;
use crate::kube::api::{GpuNodeClaim, words};
use crate::kube::errors::call;
use crate::kube::names;
use crate::ports::ClusterError;

/// The answer about one pod.
#[derive(Debug, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub pod: String,
    /// `Running`, `Waiting for a machine` and so on.
    pub state: String,
    /// Where it is, or will be.
    pub machine: Option<Machine>,
    /// The decision that placed it, for `lowtide explain decision`.
    pub decision: Option<String>,
    /// The pod it replaces, by name.
    pub replaces: Option<String>,
    /// What lowtide wrote about it, newest first.
    pub said: Vec<Said>,
}

/// The machine of a pod.
#[derive(Debug, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Machine {
    /// Its claim.
    pub claim: String,
    /// Type, capacity type, zone and region.
    pub offer: String,
    /// How far it is.
    pub phase: String,
    /// Its node, once it has one.
    pub node: Option<String>,
    /// What it cost when it was bought.
    pub price_per_hour: MicroUsdPerHour,
    /// What on-demand of the same type did.
    pub on_demand_per_hour: Option<MicroUsdPerHour>,
    /// What made lowtide buy it, in the ledger's words.
    pub bought_for: String,
    /// Other pods on it, by name.
    pub beside: Vec<String>,
}

/// What lowtide wrote about a pod.
#[derive(Debug, Serialize, PartialEq, Eq)]
pub struct Said {
    /// When.
    pub at: Option<Timestamp>,
    /// In one word.
    pub reason: String,
    /// In a sentence.
    pub text: String,
}

/// lowtide's events about a pod.
///
/// # Errors
/// When the API server refuses or does not answer.
pub async fn events_about(client: &Client, namespace: &str, pod: &Pod) -> Result<Vec<Event>, ClusterError> {
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    let all: Api<Event> = Api::namespaced(client.clone(), namespace);
    let found = call("list the events", all.list(&ListParams::default().fields(&format!("regarding.uid={uid}")))).await;
    // An API server that knows no such field is asked for all of them.
    let found = match found {
        Ok(found) => found,
        Err(ClusterError::Refused(_)) => call("list the events", all.list(&ListParams::default())).await?,
        Err(other) => return Err(other),
    };
    let ours = |e: &Event| e.reporting_controller.as_deref() == Some(names::REPORTING_CONTROLLER);
    let about = |e: &Event| e.regarding.as_ref().and_then(|r| r.uid.as_deref()) == Some(uid);
    Ok(found.into_iter().filter(|event| ours(event) && about(event)).collect())
}

/// Puts together what is known of a pod.
pub fn explain(pod: &Pod, claim: Option<&GpuNodeClaim>, events: &[Event]) -> Explanation {
    let mut said: Vec<Said> = events
        .iter()
        .map(|event| Said {
            at: event.event_time.as_ref().map(|at| Timestamp(at.0.as_millisecond())),
            reason: event.reason.clone().unwrap_or_default(),
            text: event.note.clone().unwrap_or_default(),
        })
        .collect();
    said.sort_by(|a, b| b.at.cmp(&a.at).then_with(|| a.reason.cmp(&b.reason)));
    let replaces = annotation(pod, names::REPLACES).and_then(|text| serde_json::from_str::<crate::core::workload::Replaces>(text).ok());
    Explanation {
        namespace: pod.metadata.namespace.clone().unwrap_or_default(),
        pod: pod.metadata.name.clone().unwrap_or_default(),
        state: state_of(pod, claim),
        machine: claim.map(|claim| machine_of(pod, claim)),
        decision: annotation(pod, names::DECISION).map(str::to_owned),
        replaces: replaces.map(|old| old.pod.object.name.clone()),
        said,
    }
}

/// What a pod does, or waits for.
pub fn state_of(pod: &Pod, claim: Option<&GpuNodeClaim>) -> String {
    let gated = pod.spec.iter().flat_map(|spec| spec.scheduling_gates.iter().flatten()).any(|gate| gate.name == words::GATE);
    let phase = pod.status.as_ref().and_then(|status| status.phase.clone()).unwrap_or_else(|| "Unknown".to_owned());
    match (gated, claim) {
        (true, None) => "waits: lowtide has not placed it".to_owned(),
        (true, Some(_)) => "waits for its machine".to_owned(),
        (false, _) => phase,
    }
}

fn machine_of(pod: &Pod, claim: &GpuNodeClaim) -> Machine {
    let (spec, status) = (&claim.spec, claim.status.as_ref());
    let own = pod.metadata.uid.as_deref().unwrap_or_default();
    let beside = status.iter().flat_map(|s| &s.occupants).filter(|o| o.to.is_none() && o.uid != own);
    Machine {
        claim: claim.metadata.name.clone().unwrap_or_default(),
        offer: format!("{} {} in {} ({})", spec.instance_type, code_of(&spec.capacity_type), spec.zone, spec.region),
        phase: status.map_or_else(|| "Pending".to_owned(), |s| format!("{:?}", s.phase)),
        node: status.and_then(|s| s.node_name.clone()),
        price_per_hour: spec.price_per_hour,
        on_demand_per_hour: spec.on_demand_per_hour,
        bought_for: code_of(&spec.reason),
        beside: beside.map(|o| format!("{}/{}", o.namespace, o.name)).collect(),
    }
}
