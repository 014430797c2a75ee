//! `lowtide check`: whether everything lowtide needs is there, before and after the install; one line each, with what to do.
//!
//! Decides: what counts as good, as worth a look and as a fault ([`findings`]). Changes nothing: what can only be tried by changing something
//! is asked of EC2 as a dry run.
//! Does not: repair anything.

mod account;
mod cluster;
pub mod findings;
mod ledger;

use std::process::ExitCode;
use std::sync::Arc;

use super::endpoints::EndpointArgs;
use crate::aws::{AwsCloud, AwsSettings};
use crate::engine::wall_clock::WallClock;
use crate::kube::connect;
use findings::{Area, Finding, Verdict};

/// Checks whether everything lowtide needs is there: cluster, AWS in every region of a node class, and Postgres; exit code 1 if something is wrong.
#[derive(Debug, clap::Args)]
#[command(after_help = "Rights are those of whoever runs it. To check the operator's own, run it where the operator runs:\n  \
                        kubectl -n lowtide-system exec deploy/lowtide-operator -- lowtide check")]
pub struct CheckArgs {
    /// The cluster's name, as in the machines' tags.
    #[arg(long, env = "LOWTIDE_CLUSTER", default_value = "default")]
    pub cluster: String,
    /// The operator's namespace.
    #[arg(long, env = "LOWTIDE_NAMESPACE", default_value = "lowtide-system")]
    pub namespace: String,
    /// The admission policy that keeps owners from what lowtide writes on their pods: the chart's.
    #[arg(long, env = "LOWTIDE_MARKS_POLICY", default_value = "lowtide-marks")]
    pub marks_policy: String,
    #[command(flatten)]
    endpoint: EndpointArgs,
    /// URL of the ledger's Postgres; without it Postgres is not checked.
    #[arg(long, env = "LOWTIDE_DATABASE_URL", hide_env_values = true)]
    pub database_url: Option<String>,
    /// Check only the cluster and what the operator reports there: ask nothing of AWS.
    #[arg(long)]
    pub no_aws: bool,
    /// Do not look at Postgres.
    #[arg(long)]
    pub no_postgres: bool,
    /// Print JSON: an array of findings, each with area, what, verdict, found and todo.
    #[arg(long)]
    pub json: bool,
}

/// Runs `lowtide check`.
pub async fn run(args: CheckArgs) -> ExitCode {
    if let Err(fault) = args.endpoint.check() {
        eprintln!("lowtide check: {fault}");
        return ExitCode::FAILURE;
    }
    let findings = look(&args).await;
    // A reader that stopped early (`| head`) is not an error.
    let mut out = std::io::stdout();
    let _ =
        std::io::Write::write_all(&mut out, if args.json { findings::to_json(&findings) } else { findings::to_text(&findings) }.as_bytes());
    if findings.iter().any(|finding| finding.verdict == Verdict::Fault) { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

async fn look(args: &CheckArgs) -> Vec<Finding> {
    let mut all = Vec::new();
    match connect().await {
        Ok(client) => {
            eprintln!("looking at the cluster ...");
            let (mut findings, seen) = cluster::check(args, &client).await;
            all.append(&mut findings);
            if !args.no_aws {
                let settings = AwsSettings { cluster_uid: seen.uid.clone(), ..AwsSettings::new(args.cluster.clone(), Arc::new(WallClock)) };
                let cloud = AwsCloud::new(args.endpoint.of(settings)).await;
                all.append(&mut account::check(&cloud, &args.cluster, &seen.classes).await);
            }
        }
        Err(fault) => all.push(Finding::fault(
            Area::Cluster,
            "API server",
            fault.to_string(),
            "name a cluster in KUBECONFIG, or run this in a pod of the cluster",
        )),
    }
    match &args.database_url {
        _ if args.no_postgres => {}
        Some(url) => {
            eprintln!("looking at Postgres ...");
            all.append(&mut ledger::check(url).await);
        }
        None => all.push(Finding::note(
            Area::Ledger,
            "Postgres",
            "not checked: no database URL was given".to_owned(),
            "set LOWTIDE_DATABASE_URL or --database-url to the operator's",
        )),
    }
    all
}
