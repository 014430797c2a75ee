//! `kubectl lowtide`: what lowtide did and why, read from the cluster alone, for whoever stands at a terminal.
//!
//! The program answers to the name `kubectl-lowtide` (a link to it in the PATH is the installation) and to `lowtide kubectl`.
//!
//! Decides: nothing. What was decided is read from claims, pods and events with the caller's own rights; the ledger has it longer and in full
//! (`lowtide explain`).

mod explain;
mod moves;
mod savings;
mod tree;

use std::process::ExitCode;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::core::DeserializeGuard;
use kube::{Api, Client};

use super::answer::tell;
use super::offers::{self, OffersArgs};
use crate::engine::wall_clock::WallClock;
use crate::kube::api::{GpuNodeClaim, words};
use crate::kube::errors::call;
use crate::kube::shown::is_placed;
use crate::ports::{Clock as _, ClusterError};

/// The name under which kubectl looks for its plugin `lowtide`.
pub const PLUGIN_NAME: &str = "kubectl-lowtide";

/// What the plugin can be asked.
#[derive(Debug, clap::Subcommand)]
pub enum PluginCommand {
    /// Says why a pod is where it is, or why it waits.
    Explain(explain::ExplainArgs),
    /// Shows the work that is being moved: each phase, and the time that is left.
    Moves(OutputArgs),
    /// Shows what the machines cost now, and what on-demand would.
    Savings(OutputArgs),
    /// Shows the market for a need, cheapest per packed replica first; the same as `lowtide offers`.
    Market(OffersArgs),
}

/// How an answer is printed.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct OutputArgs {
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Arguments of `lowtide kubectl`.
#[derive(Debug, clap::Args)]
pub struct PluginArgs {
    #[command(subcommand)]
    command: PluginCommand,
}

/// The program as kubectl runs it.
#[derive(Debug, clap::Parser)]
#[command(name = "kubectl lowtide", version, about = "What lowtide did in this cluster, and why")]
pub struct Plugin {
    #[command(subcommand)]
    command: PluginCommand,
}

impl From<Plugin> for PluginArgs {
    fn from(plugin: Plugin) -> Self {
        PluginArgs { command: plugin.command }
    }
}

/// True if the program was started under the plugin's name.
pub fn is_plugin(program: Option<&str>) -> bool {
    let name = program.and_then(|path| std::path::Path::new(path).file_name()).and_then(|name| name.to_str());
    name.is_some_and(|name| name == PLUGIN_NAME)
}

/// Runs the plugin.
pub async fn run(args: PluginArgs) -> ExitCode {
    let answer = match args.command {
        PluginCommand::Market(args) => return offers::run_live(args).await,
        PluginCommand::Explain(args) => noticeably(explain::answer(args)).await,
        PluginCommand::Moves(output) => noticeably(moves::answer(output)).await,
        PluginCommand::Savings(output) => noticeably(savings::answer(output)).await,
    };
    tell(answer.map_err(Into::into))
}

/// Says after two seconds that the API server has not answered yet.
async fn noticeably<T>(asked: impl Future<Output = T>) -> T {
    let mut asked = std::pin::pin!(asked);
    match tokio::time::timeout(Duration::from_secs(2), &mut asked).await {
        Ok(answer) => answer,
        Err(_) => {
            eprintln!("still waiting for the API server ...");
            asked.await
        }
    }
}

/// What stopped an answer.
#[derive(Debug, thiserror::Error)]
pub enum PluginError {
    /// The API server.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// There is no such pod.
    #[error(
        "there is no pod {namespace}/{name}; is the namespace correct (-n)? Of a pod that is gone, `lowtide explain pod {name} -n {namespace}` reads the ledger"
    )]
    NoSuchPod {
        /// Where it was looked for.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// An answer that could not be written as JSON.
    #[error("the answer could not be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
}

/// Now, by this machine's clock.
fn now() -> crate::core::units::time::Timestamp {
    WallClock.now()
}

/// Every machine whose claim can be read, and how many cannot.
async fn claims(client: &Client) -> Result<(Vec<GpuNodeClaim>, usize), ClusterError> {
    let all: Api<DeserializeGuard<GpuNodeClaim>> = Api::all(client.clone());
    let found = call("list the machines", all.list(&ListParams::default())).await?;
    let count = found.items.len();
    let readable: Vec<GpuNodeClaim> = found.into_iter().filter_map(|guarded| guarded.0.ok()).collect();
    let unreadable = count - readable.len();
    Ok((readable, unreadable))
}

/// Pods that lowtide placed or is to place.
async fn pods(client: &Client) -> Result<Vec<Pod>, ClusterError> {
    let all: Api<Pod> = Api::all(client.clone());
    let managed = ListParams::default().labels(&format!("{}=true", words::MANAGED_LABEL));
    let found = call("list the pods", all.list(&managed)).await?;
    Ok(found.into_iter().filter(is_placed).collect())
}
