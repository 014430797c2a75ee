//! Maintenance of the ledger: posting, sealing, verifying.
//!
//! Decides: the wording, and that progress is shown after two seconds.

use std::collections::BTreeMap;
use std::path::PathBuf;
#[cfg(feature = "live")]
use std::sync::Arc;
use std::time::Duration;

use clap::Args;

use super::{Answer, DatabaseArgs};
use crate::core::units::ids::ObjectRef;
use crate::core::units::time::Timestamp;
use crate::core::workload::need::UsageQuery;
use crate::engine::wall_clock::WallClock;
#[cfg(feature = "live")]
use crate::kube::pods::AttributionKeys;
#[cfg(feature = "live")]
use crate::kube::{ClusterSettings, LiveCluster};
use crate::ledger::archive::{self, Retention};
use crate::ledger::gpu_use;
use crate::ledger::import::store_usage;
use crate::ledger::prometheus::Prometheus;
use crate::ledger::report::Month;
use crate::ledger::table_file::Format;
#[cfg(feature = "live")]
use crate::ledger::usage_queries;
use crate::ledger::{connect, poster, seal, verify};
use crate::ports::Clock;
#[cfg(feature = "live")]
use crate::ports::Cluster;

/// How long a cluster may take to list its pods.
#[cfg(feature = "live")]
const LIST_LIMIT: Duration = Duration::from_secs(30);

/// The wall clock.
pub(super) fn now() -> Timestamp {
    WallClock.now()
}

/// Reports progress every two seconds, until dropped.
pub(super) struct Working(tokio::task::JoinHandle<()>);

impl Drop for Working {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Starts reporting what is being done.
pub(super) fn working(what: &'static str) -> Working {
    Working(tokio::spawn(async move {
        let begun = tokio::time::Instant::now();
        loop {
            tokio::time::sleep(Duration::from_secs(2)).await;
            eprintln!("lowtide: {what}, {} s so far", begun.elapsed().as_secs());
        }
    }))
}

/// `lowtide ledger post`.
pub(super) async fn post(database: &DatabaseArgs) -> Answer {
    let mut connection = connect(&database.database_url).await?;
    let _progress = working("posting");
    let done = poster::post(&mut connection, now()).await?;
    if done.rows == 0 && done.rollups == 0 {
        return Ok("Nothing has settled since the last posting.".into());
    }
    Ok(format!("Posted {} rows for {} machines; {} daily sums rebuilt.", done.rows, done.machines, done.rollups))
}

/// Which workloads' usage to query from Prometheus.
#[derive(Debug, Clone, Args)]
pub struct CollectUsageArgs {
    /// Prometheus, e.g. http://prometheus.monitoring:9090.
    #[arg(long, env = "LOWTIDE_PROMETHEUS_URL", hide_env_values = true)]
    prometheus_url: String,
    /// A workload and its query, e.g. ml/chat=requests=sum(increase(http_requests_total{app="chat"}[1h])); may be repeated. Without any,
    /// the queries come from the annotation lowtide.dev/usage-query of the workloads in kubectl's current cluster.
    #[arg(long = "query", value_parser = workload_query)]
    queries: Vec<(ObjectRef, UsageQuery)>,
    /// Number of full hours back.
    #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u32).range(1..=24 * 366))]
    hours: u32,
    /// How hard the GPUs of pods worked instead, as NVIDIA's DCGM exporter says.
    #[arg(long, conflicts_with = "queries")]
    gpu_use: bool,
    /// Which of the exporter's series, where Prometheus has several clusters, e.g. cluster="prod".
    #[arg(long, default_value = "", requires = "gpu_use")]
    selector: String,
    #[command(flatten)]
    database: DatabaseArgs,
}

fn workload_query(text: &str) -> Result<(ObjectRef, UsageQuery), String> {
    let read = || {
        let (workload, query) = text.split_once('=')?;
        let (namespace, name) = workload.split_once('/')?;
        Some((ObjectRef { namespace: namespace.into(), name: name.into() }, UsageQuery::parse(query)?))
    };
    read().ok_or_else(|| {
        "expected NAMESPACE/NAME=UNIT=QUERY, where UNIT is requests, transactions, tokens, tokens_in, tokens_out or users".to_owned()
    })
}

/// `lowtide ledger collect-usage`.
pub(super) async fn collect_usage(args: CollectUsageArgs) -> Answer {
    let _progress = working("asking Prometheus");
    if args.gpu_use {
        return collect_gpu_use(&args).await;
    }
    let queries = if args.queries.is_empty() { annotated().await? } else { args.queries.into_iter().collect() };
    if queries.is_empty() {
        return Err("no pod has the annotation lowtide.dev/usage-query; pass queries with --query".into());
    }
    let prometheus = Prometheus::new(&args.prometheus_url);
    let (mut usage, mut silent) = (Vec::new(), Vec::new());
    for (workload, query) in &queries {
        let hours = prometheus.usage(workload, query, now(), args.hours).await?;
        if hours.is_empty() {
            silent.push(workload.to_string());
        }
        usage.extend(hours);
    }
    let mut connection = connect(&args.database.database_url).await?;
    let taken = store_usage(&mut connection, &usage, "prometheus").await?;
    let silent = if silent.is_empty() { String::new() } else { format!(" Prometheus has nothing for {}.", silent.join(", ")) };
    Ok(format!("Hours of usage of {} workloads: {taken}.{silent}", queries.len()))
}

/// As the operator does every hour.
async fn collect_gpu_use(args: &CollectUsageArgs) -> Answer {
    let mut connection = connect(&args.database.database_url).await?;
    let prometheus = Prometheus::new(&args.prometheus_url);
    let gpu_use::Collected { held, known, taken } =
        gpu_use::collect(&mut connection, (&prometheus, &args.selector), &BTreeMap::new(), now(), args.hours).await?;
    let silent = if known < held { " What Prometheus has no readings of stays unmeasured." } else { "" };
    Ok(format!("Pods held GPUs in {held} hours of pods; of {known} something is known: {taken}.{silent}"))
}

/// The queries of the cluster's workloads: this build has no Kubernetes.
#[cfg(not(feature = "live"))]
async fn annotated() -> Result<BTreeMap<ObjectRef, UsageQuery>, Box<dyn std::error::Error>> {
    Ok(BTreeMap::new())
}

/// The queries of the cluster's workloads.
#[cfg(feature = "live")]
async fn annotated() -> Result<BTreeMap<ObjectRef, UsageQuery>, Box<dyn std::error::Error>> {
    let client = crate::kube::connect().await?;
    let settings = ClusterSettings {
        cluster: String::new(),
        // Nothing is launched, terminated or adopted from here.
        uid: String::new(),
        namespace: "default".into(),
        instance: "lowtide ledger".into(),
        attribution: AttributionKeys::default(),
        ignore_label: crate::kube::names::IGNORE.to_owned(),
        exempt_namespaces: Vec::new(),
    };
    let cluster = LiveCluster::start(client, settings, Arc::new(WallClock));
    let listing = async {
        loop {
            if let Some(view) = cluster.view() {
                return view;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let view = tokio::time::timeout(LIST_LIMIT, listing).await;
    Ok(usage_queries(&view.map_err(|_| "the cluster did not list its pods within 30 s; does `kubectl get pods -A` work?")?))
}

/// `lowtide ledger seal`.
pub(super) async fn seal(database: &DatabaseArgs) -> Answer {
    let mut connection = connect(&database.database_url).await?;
    let _progress = working("sealing");
    let sealed = seal::seal(&mut connection).await?;
    Ok(match sealed.root {
        Some(root) => format!("Sealed {} rows. Root of seal {}: {root}", sealed.rows, sealed.number),
        None => "Nothing has settled since the last seal.".into(),
    })
}

/// What to move out of the database, and where to.
#[derive(Debug, Clone, Args)]
pub struct ArchiveArgs {
    /// Months before this one, e.g. 2026-01, and only those older than the retention.
    #[arg(long)]
    before: Month,
    /// Folder for the files; created if missing. Existing files are never overwritten.
    #[arg(long)]
    to: PathBuf,
    /// File format.
    #[arg(long, value_enum, default_value_t = Format::Parquet)]
    format: Format,
    /// Number of full months before this one to keep.
    #[arg(long, default_value_t = Retention::default().months)]
    keep_months: u32,
    /// Number of full months for which refused offers are kept.
    #[arg(long, default_value_t = Retention::default().candidate_months)]
    keep_candidate_months: u32,
    #[command(flatten)]
    database: DatabaseArgs,
}

/// `lowtide ledger archive`.
pub(super) async fn archive(args: ArchiveArgs) -> Answer {
    let mut connection = connect(&args.database.database_url).await?;
    let _progress = working("archiving");
    let this: Month = now().to_rfc3339().chars().take(7).collect::<String>().parse()?;
    let retention = Retention { months: args.keep_months, candidate_months: args.keep_candidate_months };
    let archived = archive::archive(&mut connection, args.before, this, retention, &args.to, args.format).await?;
    if archived.is_empty() {
        return Ok("No month is old enough.".into());
    }
    let rows: usize = archived.iter().map(|month| month.rows).sum();
    let files: Vec<String> =
        archived.iter().map(|month| format!("{} {}: {} rows, {}", month.table, month.month, month.rows, month.file.display())).collect();
    Ok(format!(
        "Archived {} months with {rows} rows, each read back and verified before it was dropped:\n{}",
        archived.len(),
        files.join("\n")
    ))
}

/// What to verify.
#[derive(Debug, Clone, Args)]
pub struct VerifyArgs {
    /// Recompute the postings of one in N machines from their facts and bills; 1 is all, 0 none.
    #[arg(long, default_value_t = 1)]
    recompute_every: u32,
    /// Recompute only machines that ran on this UTC day or after it, as 2026-07-01. Seals are checked in any case.
    #[arg(long, value_parser = day)]
    from: Option<String>,
    /// Recompute only machines that began to run before this UTC day.
    #[arg(long, value_parser = day)]
    to: Option<String>,
    #[command(flatten)]
    database: DatabaseArgs,
}

/// `lowtide ledger verify`.
pub(super) async fn verify(args: &VerifyArgs) -> Answer {
    let mut connection = connect(&args.database.database_url).await?;
    let _progress = working("recomputing every hash");
    let mut outcome = verify::verify(&mut connection).await?;
    if args.recompute_every > 0 {
        let sample = verify::Sample { every: args.recompute_every, from: args.from.clone(), to: args.to.clone() };
        outcome.findings.extend(verify::recompute(&mut connection, &sample).await?);
    }
    verified(&outcome, args)
}

/// What was recomputed, as the sentence puts it.
fn recomputed(args: &VerifyArgs) -> String {
    let of_days = match (&args.from, &args.to) {
        (None, None) => String::new(),
        (Some(from), None) => format!(" that ran on {from} or later"),
        (None, Some(to)) => format!(" that began before {to}"),
        (Some(from), Some(to)) => format!(" that ran from {from} to before {to}"),
    };
    match args.recompute_every {
        0 => "and none was recomputed".to_owned(),
        1 => format!(
            "and the postings of every machine{of_days} follow from its facts: all of those that ended, the settled hours of those that run"
        ),
        n => format!("and of one machine in {n}{of_days} the postings follow from its facts"),
    }
}

fn day(text: &str) -> Result<String, String> {
    text.parse::<jiff::civil::Date>().map(|day| day.to_string()).map_err(|_| "expected a day as 2026-07-20".to_owned())
}

fn verified(outcome: &verify::Verification, args: &VerifyArgs) -> Answer {
    let verify::Verification { seals, sealed_rows, archived_rows, unsealed_rows, last_root, findings } = outcome;
    if findings.is_empty() {
        let archived = if *archived_rows == 0 { String::new() } else { format!(" ({archived_rows} of them archived)") };
        let seals = if *seals == 1 { "1 seal".to_owned() } else { format!("{seals} seals") };
        return Ok(format!(
            "Nothing was altered, removed or added: {sealed_rows} rows under {seals}{archived}, {unsealed_rows} not sealed yet. Views, functions, rights and \
             triggers are those of the last migration, every posting has its cause, {}.\nLast root: {last_root}",
            recomputed(args)
        ));
    }
    let lines: Vec<String> = findings.iter().map(ToString::to_string).collect();
    Err(format!("the ledger is not what was written; {} findings:\n{}", lines.len(), lines.join("\n")).into())
}
