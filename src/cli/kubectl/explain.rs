//! `kubectl lowtide explain`: why a pod is where it is, or why it waits.
//!
//! Decides: which of what was written about a pod answers the question: its claim for where and for how much, events for why.
//! Does not: know more than Kubernetes keeps. Events last an hour by default; the ledger keeps decisions for good.

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::events::v1::Event;
use kube::api::ListParams;
use kube::{Api, Client};
use serde::Serialize;

use super::tree::Branch;
use super::{OutputArgs, PluginError, annotation, now};
use crate::core::record::code_of;
use crate::core::units::money::MicroUsdPerHour;
use crate::core::units::time::Timestamp;
use crate::kube::api::{GpuNodeClaim, words};
use crate::kube::errors::call;
use crate::kube::{connect, names};
use crate::ports::ClusterError;

/// Arguments of `kubectl lowtide explain`.
#[derive(Debug, clap::Args)]
pub struct ExplainArgs {
    /// The pod's name; `pod/NAME` is understood, too.
    pod: String,
    /// Its namespace; that of the current context if it is not given.
    #[arg(short, long)]
    namespace: Option<String>,
    #[command(flatten)]
    output: OutputArgs,
}

/// The answer about one pod.
#[derive(Debug, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
struct Explanation {
    namespace: String,
    pod: String,
    /// `Running`, `Waiting for a machine` and so on.
    state: String,
    machine: Option<Machine>,
    /// The decision that placed it, for `lowtide explain decision`.
    decision: Option<String>,
    /// The pod it replaces, by name.
    replaces: Option<String>,
    /// What lowtide wrote about it, newest first.
    said: Vec<Said>,
}

#[derive(Debug, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
struct Machine {
    claim: String,
    /// Type, capacity type, zone and region.
    offer: String,
    phase: String,
    node: Option<String>,
    price_per_hour: MicroUsdPerHour,
    on_demand_per_hour: Option<MicroUsdPerHour>,
    /// What made lowtide buy it, in the ledger's words.
    bought_for: String,
    /// Other pods on it, by name.
    beside: Vec<String>,
}

#[derive(Debug, Serialize, PartialEq, Eq)]
struct Said {
    at: Option<Timestamp>,
    reason: String,
    text: String,
}

/// The requested explanation.
pub async fn answer(args: ExplainArgs) -> Result<String, PluginError> {
    let client = connect().await?;
    let namespace = args.namespace.unwrap_or_else(|| client.default_namespace().to_owned());
    let name = args.pod.strip_prefix("pod/").unwrap_or(&args.pod).to_owned();
    let pods: Api<Pod> = Api::namespaced(client.clone(), &namespace);
    let Some(pod) = call(format!("read pod {namespace}/{name}"), pods.get_opt(&name)).await? else {
        return Err(PluginError::NoSuchPod { namespace, name });
    };
    let claim = match annotation(&pod, names::CLAIM) {
        Some(claim) => call(format!("read claim {claim}"), Api::<GpuNodeClaim>::all(client.clone()).get_opt(claim)).await?,
        None => None,
    };
    let events = events_about(&client, &namespace, &pod).await?;
    let explanation = explain(&pod, claim.as_ref(), &events);
    Ok(if args.output.json { serde_json::to_string_pretty(&explanation)? } else { tree(&explanation, now()).draw() })
}

async fn events_about(client: &Client, namespace: &str, pod: &Pod) -> Result<Vec<Event>, ClusterError> {
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

fn explain(pod: &Pod, claim: Option<&GpuNodeClaim>, events: &[Event]) -> Explanation {
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
        replaces: replaces.map(|old| old.pod.object.name),
        said,
    }
}

fn state_of(pod: &Pod, claim: Option<&GpuNodeClaim>) -> String {
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

fn tree(explanation: &Explanation, now: Timestamp) -> Branch {
    let mut lines = Vec::new();
    if let Some(machine) = &explanation.machine {
        lines.push(drawn_machine(machine));
    }
    if let Some(old) = &explanation.replaces {
        lines.push(Branch::of(format!("replaces pod {old}")));
    }
    let said = explanation.said.iter().map(|said| {
        let ago = said.at.map_or_else(String::new, |at| format!("{} ago  ", now.since(at)));
        Branch::of(format!("{ago}{}: {}", said.reason, said.text))
    });
    lines.push(match explanation.said.is_empty() {
        false => Branch::of("what lowtide said").with(said),
        true => Branch::of("Kubernetes keeps no event of lowtide about it any more (an hour is the default)"),
    });
    if let Some(decision) = &explanation.decision {
        lines.push(Branch::of(format!("the whole decision, with every refused offer: lowtide explain decision {decision}")));
    }
    Branch::of(format!("pod {}/{}: {}", explanation.namespace, explanation.pod, explanation.state)).with(lines)
}

fn drawn_machine(machine: &Machine) -> Branch {
    let saved = machine.on_demand_per_hour.filter(|on_demand| on_demand.0 > machine.price_per_hour.0);
    let saved = saved.map_or_else(String::new, |on_demand| {
        format!("; on-demand ${on_demand}/h, {} % more", (on_demand.0 - machine.price_per_hour.0) * 100 / machine.price_per_hour.0.max(1))
    });
    let mut lines = vec![
        Branch::of(format!("${}/h when it was bought{saved}", machine.price_per_hour)),
        Branch::of(format!("bought because of: {}", machine.bought_for)),
    ];
    lines.extend(machine.node.iter().map(|node| Branch::of(format!("node {node}"))));
    if !machine.beside.is_empty() {
        lines.push(Branch::of(format!("shared with {}", machine.beside.join(", "))));
    }
    Branch::of(format!("machine {}: {}, {}", machine.claim, machine.offer, machine.phase)).with(lines)
}
