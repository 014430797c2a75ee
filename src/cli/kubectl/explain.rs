//! `kubectl lowtide explain`: why a pod is where it is, or why it waits.
//!
//! Decides: how it is drawn. What is known is put together by [`crate::kube::shown::placed`].

use k8s_openapi::api::core::v1::Pod;
use kube::Api;

use super::tree::Branch;
use super::{OutputArgs, PluginError, now};
use crate::core::units::time::Timestamp;
use crate::kube::api::GpuNodeClaim;
use crate::kube::errors::call;
use crate::kube::shown::annotation;
use crate::kube::shown::placed::{Explanation, Machine, events_about, explain};
use crate::kube::{connect, names};

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
