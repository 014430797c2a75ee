//! `lowtide release-pods`: lifts our scheduling gate from every pod, so that nothing waits for an operator that no longer runs.
//!
//! The chart's post-delete hook runs it, when everything else is gone. Pods are not pinned: any node with room may take them. Machines are
//! not ended: those that still run are listed, with what they cost.

use std::process::ExitCode;

use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, Patch, PatchParams};
use kube::core::DeserializeGuard;
use kube::{Api, Client, ResourceExt};
use serde_json::json;

use crate::core::units::money::MicroUsdPerHour;
use crate::kube::api::{GpuNodeClaim, words};
use crate::kube::claims;
use crate::kube::errors::{call, gone_is_done};
use crate::kube::{connect, names};
use crate::ports::ClusterError;

/// Concurrent requests.
const AT_ONCE: usize = 16;
/// Pods per page.
const PAGE: u32 = 500;
/// Pods created meanwhile are gated as long as the admission policy exists: the list is read again this many times.
const ROUNDS: u32 = 5;

/// Lifts lowtide's scheduling gate from every pod and prints what it did, and which machines still run.
#[derive(Debug, clap::Args)]
pub struct ReleasePodsArgs {
    /// Only print which pods are gated.
    #[arg(long)]
    pub dry_run: bool,
}

/// What was done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Released {
    /// Namespace and name of each pod whose gate was lifted, or would be.
    pub pods: Vec<String>,
    /// Pods that could not be released, and why.
    pub failed: Vec<String>,
}

/// Machines that still run although nobody looks after them any more.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StillRunning {
    /// One line each: claim, instance, where, what, and dollars per hour.
    pub lines: Vec<String>,
    /// What all of them cost per hour, as bought.
    pub price_per_hour: MicroUsdPerHour,
    /// The definition of claims is gone, and with it every claim: only EC2 knows what runs.
    pub undefined: bool,
}

/// The machines that claims stand for and that have not ended. Where the definitions are gone only EC2 knows.
///
/// # Errors
/// When claims cannot be listed.
pub async fn still_running(client: &Client) -> Result<StillRunning, ClusterError> {
    let api: Api<DeserializeGuard<GpuNodeClaim>> = Api::all(client.clone());
    let mut params = ListParams::default().limit(PAGE);
    let mut found = StillRunning::default();
    loop {
        let page = match call("list claims", api.list(&params)).await {
            Ok(page) => page,
            Err(ClusterError::Gone(_)) => return Ok(StillRunning { undefined: true, ..found }),
            Err(fault) => return Err(fault),
        };
        for object in &page.items {
            match claims::read_guarded(object) {
                Ok(claim) if claim.may_run() && claim.status.launch_asked_at.or(claim.status.launched_at).is_some() => {
                    let (at, price) = (&claim.spec.capacity, claim.spec.price_per_hour);
                    let instance = claim.status.instance.as_ref().map_or("asked for, not answered", |id| id.as_str());
                    found.price_per_hour = MicroUsdPerHour(found.price_per_hour.0.saturating_add(price.0));
                    found.lines.push(format!("{} ({instance}): {at} at ${price}/h", claim.name));
                }
                Ok(_) | Err(None) => {}
                Err(Some(unread)) => {
                    let instance = unread.instance.as_ref().map_or("unknown", |id| id.as_str());
                    found.lines.push(format!("{} ({instance}): cannot be read, so its price is unknown", unread.name));
                }
            }
        }
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(found),
        }
    }
}

/// What is said of machines that still run.
pub fn farewell(machines: &StillRunning) -> Vec<String> {
    if machines.undefined {
        return vec!["whether machines still run is not known here, as the definition (CRD) of claims is gone: look in EC2 for those with the tag lowtide-cluster".to_owned()];
    }
    if machines.lines.is_empty() {
        return vec!["no machine that a claim stands for still runs".to_owned()];
    }
    let (count, price) = (machines.lines.len(), machines.price_per_hour);
    let head = format!(
        "{count} machines still run and cost ${price}/h: nothing here ends them. Delete their node pools before lowtide goes, or end them in EC2 \
         (tag lowtide-cluster)"
    );
    std::iter::once(head).chain(machines.lines.iter().map(|line| format!("  {line}"))).collect()
}

/// Lifts the gate from every pod that carries it, and looks again until none does.
///
/// # Errors
/// When pods cannot be listed. A pod that cannot be released is listed in the result.
pub async fn release(client: &Client, dry_run: bool) -> Result<Released, ClusterError> {
    let mut done = Released::default();
    for _ in 0..ROUNDS {
        let held = held(client).await?;
        if dry_run {
            done.pods = held.into_iter().map(|(namespace, name)| format!("{namespace}/{name}")).collect();
            return Ok(done);
        }
        if held.is_empty() {
            break;
        }
        done.failed.clear();
        let mut lifts = stream::iter(held.iter().map(|(namespace, name)| lift(client, namespace, name))).buffered(AT_ONCE);
        while let Some(lifted) = lifts.next().await {
            match lifted {
                Ok(Some(pod)) => done.pods.push(pod),
                Ok(None) => (),
                Err(fault) => done.failed.push(fault.to_string()),
            }
        }
    }
    Ok(done)
}

/// Pods with our gate. A gated pod is always Pending.
async fn held(client: &Client) -> Result<Vec<(String, String)>, ClusterError> {
    let pods: Api<Pod> = Api::all(client.clone());
    let mut params = ListParams::default().fields("status.phase=Pending").limit(PAGE);
    let mut held = Vec::new();
    loop {
        let page = call("list pending pods", pods.list(&params)).await?;
        let gated = |pod: &&Pod| {
            let gates = pod.spec.iter().flat_map(|s| s.scheduling_gates.iter().flatten());
            gates.into_iter().any(|gate| gate.name == words::GATE)
        };
        held.extend(page.items.iter().filter(gated).map(|pod| (pod.namespace().unwrap_or_default(), pod.name_any())));
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(held),
        }
    }
}

/// Lifts only our gate; `None` if the pod is gone.
async fn lift(client: &Client, namespace: &str, name: &str) -> Result<Option<String>, ClusterError> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let body = json!({ "spec": { "schedulingGates": [{ "$patch": "delete", "name": words::GATE }] } });
    let params = PatchParams { field_manager: Some(names::FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    let what = format!("lift the gate of pod {namespace}/{name}");
    let lifted = gone_is_done(call(what, pods.patch_metadata(name, &params, &Patch::Strategic(body))).await)?;
    Ok(lifted.map(|_| format!("{namespace}/{name}")))
}

/// Runs `lowtide release-pods`.
pub async fn run(args: ReleasePodsArgs) -> ExitCode {
    let outcome = match connect().await {
        Ok(client) => {
            let released = release(&client, args.dry_run).await;
            match still_running(&client).await {
                Ok(machines) => farewell(&machines).iter().for_each(|line| println!("{line}")),
                Err(fault) => eprintln!("lowtide release-pods: which machines still run is not known: {fault}"),
            }
            released
        }
        Err(error) => Err(error),
    };
    match outcome {
        Ok(done) => {
            let verb = if args.dry_run { "holds" } else { "released" };
            done.pods.iter().for_each(|pod| println!("{verb} {pod}"));
            done.failed.iter().for_each(|fault| eprintln!("lowtide release-pods: {fault}"));
            println!("{} pods {}, {} failed", done.pods.len(), if args.dry_run { "held" } else { "released" }, done.failed.len());
            if done.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("lowtide release-pods: {error}");
            ExitCode::FAILURE
        }
    }
}
