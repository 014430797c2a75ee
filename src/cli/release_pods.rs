//! `lowtide release-pods`: lifts our scheduling gate from every pod, so that nothing waits for an operator that no longer runs.
//!
//! The chart's post-delete hook runs it after everything else is gone.
//! Pods are not pinned: any node with room may take them.

use std::process::ExitCode;

use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use serde_json::json;

use crate::kube::api::words;
use crate::kube::errors::{call, gone_is_done};
use crate::kube::{connect, names};
use crate::ports::ClusterError;

/// Concurrent requests.
const AT_ONCE: usize = 16;
/// Pods per page.
const PAGE: u32 = 500;
/// Pods created meanwhile are gated as long as the admission policy exists: the list is read again this many times.
const ROUNDS: u32 = 5;

/// Lifts lowtide's scheduling gate from every pod and prints what it did.
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

/// Lifts the gate from every pod that has it, and lists again until none does.
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
        Ok(client) => release(&client, args.dry_run).await,
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
