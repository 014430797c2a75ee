//! `lowtide operator`: the four live ports, one engine, one Lease, and three URLs for Kubernetes and Prometheus.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tracing::{error, info, warn};

use super::endpoints::EndpointArgs;
use crate::aws::{AwsCloud, AwsSettings};
use crate::core::plan::Settings;
use crate::core::units::time::Millis;
use crate::engine::driver::{Engine, Intervals};
use crate::engine::health;
use crate::engine::wall_clock::WallClock;
use crate::kube::lease::Candidacy;
use crate::kube::pods::AttributionKeys;
use crate::kube::validation_check::{Validation, validation};
use crate::kube::{ClusterSettings, LiveCluster, connect, crd_check, names, read_uid};
use crate::ledger::fetch::{self, Hourly, Location, What};
use crate::ledger::prometheus::Prometheus;
use crate::ledger::upkeep::{self, Upkeep};
use crate::ledger::{PgLedger, nodes_of_claims, usage_queries};
use crate::ports::{Clock, Cloud, Cluster, ClusterError};

/// Runs the operator. It starts even if Postgres or EC2 does not answer; both are retried until they do.
#[derive(Debug, clap::Args)]
pub struct OperatorArgs {
    /// The cluster's name: a tag on instances, a column of decisions.
    #[arg(long, env = "LOWTIDE_CLUSTER", default_value = "default")]
    pub cluster: String,
    /// The namespace lowtide runs in, where it keeps its market memory.
    #[arg(long, env = "LOWTIDE_NAMESPACE", default_value = "lowtide-system")]
    pub namespace: String,
    /// Seconds for which one leader must have seen a machine of ours without a claim before it is terminated.
    #[arg(long, env = "LOWTIDE_ORPHAN_GRACE_SECONDS", default_value_t = 600, value_parser = clap::value_parser!(u32).range(60..=86_400))]
    pub orphan_grace_seconds: u32,
    /// The admission policy (and its binding) that keeps owners from what lowtide writes on their pods: the chart's.
    #[arg(long, env = "LOWTIDE_MARKS_POLICY", default_value = "lowtide-marks")]
    pub marks_policy: String,
    /// The admission policy (and its binding) that limits the operator's own rights to what it does: the chart's. Not looked for unless named.
    #[arg(long, env = "LOWTIDE_GUARD_POLICY")]
    pub guard_policy: Option<String>,
    /// The admission policy (and its binding) that refuses bad annotations where they are written: the chart's. Not looked for unless named.
    #[arg(long, env = "LOWTIDE_ANNOTATIONS_POLICY")]
    pub annotations_policy: Option<String>,
    /// SHA-256 of what the marks policy must say; the chart sets it. Unless given, what it says is not compared.
    #[arg(long, env = "LOWTIDE_MARKS_POLICY_SUM")]
    pub marks_policy_sum: Option<String>,
    /// The same of the guard.
    #[arg(long, env = "LOWTIDE_GUARD_POLICY_SUM")]
    pub guard_policy_sum: Option<String>,
    /// The same of the policy on annotations.
    #[arg(long, env = "LOWTIDE_ANNOTATIONS_POLICY_SUM")]
    pub annotations_policy_sum: Option<String>,
    /// The label of namespaces that lowtide leaves alone, as in the chart's policies: nothing is bought for their pods.
    #[arg(long, env = "LOWTIDE_IGNORE_LABEL", default_value = names::IGNORE)]
    pub ignore_label: String,
    /// Namespaces that the chart's policies do not look into (admission.exemptNamespaces): nothing is bought for their pods either.
    #[arg(long, env = "LOWTIDE_EXEMPT_NAMESPACES", value_delimiter = ',')]
    pub exempt_namespaces: Vec<String>,
    /// Serve where that policy is absent: then nothing refuses what owners write over lowtide's marks.
    #[arg(long, env = "LOWTIDE_SERVE_WITHOUT_VALIDATION")]
    pub serve_without_validation: bool,
    /// Who this process is, for the Lease and for events: the pod's name.
    #[arg(long, env = "LOWTIDE_INSTANCE", default_value = "lowtide")]
    pub instance: String,
    /// URL of the ledger's Postgres, with the writer role.
    #[arg(long, env = "LOWTIDE_DATABASE_URL", hide_env_values = true)]
    pub database_url: String,
    #[command(flatten)]
    endpoint: EndpointArgs,
    /// Address on which /livez, /readyz and /metrics are served.
    #[arg(long, env = "LOWTIDE_LISTEN", default_value = "0.0.0.0:8080")]
    pub listen: SocketAddr,
    /// Seconds between reads of a region's spot prices.
    #[arg(long, env = "LOWTIDE_PRICE_SECONDS", default_value_t = 30)]
    pub price_seconds: u64,
    /// Seconds between reads of a region's instances: the fallback for the interruption queue.
    #[arg(long, env = "LOWTIDE_INSTANCE_SECONDS", default_value_t = 10)]
    pub instance_seconds: u64,
    /// Nothing is bought at a price older than this many seconds.
    #[arg(long, env = "LOWTIDE_MAX_PRICE_AGE_SECONDS", default_value_t = 300)]
    pub max_price_age_seconds: u32,
    /// Seconds between EC2's interruption notice and the end of the machine; different from 120 only in a world whose time runs faster.
    #[arg(long, env = "LOWTIDE_NOTICE_WINDOW_SECONDS", default_value_t = 120, hide = true)]
    pub notice_window_seconds: u32,
    /// Seconds between postings of settled hours; 0 leaves posting to `lowtide ledger post`.
    #[arg(long, env = "LOWTIDE_POST_SECONDS", default_value_t = 60)]
    pub post_seconds: u64,
    /// Prometheus, for usage of workloads that have the annotation lowtide.dev/usage-query; empty: usage is imported or unknown.
    #[arg(long, env = "LOWTIDE_PROMETHEUS_URL", default_value = "", hide_env_values = true)]
    pub prometheus_url: String,
    /// Ask that Prometheus every hour how hard the GPUs of pods worked, as NVIDIA's DCGM exporter says.
    #[arg(long, env = "LOWTIDE_GPU_USE", default_value_t = true, action = clap::ArgAction::Set)]
    pub gpu_use: bool,
    /// Which of the exporter's series are this cluster's where one Prometheus has several, e.g. cluster="prod"; empty: all.
    #[arg(long, env = "LOWTIDE_GPU_USE_SELECTOR", default_value = "")]
    pub gpu_use_selector: String,
    /// A Cost and Usage Report to fetch new versions of, e.g. s3://company-billing/exports/lowtide/; empty: it is imported by hand.
    #[arg(long, env = "LOWTIDE_FETCH_CUR", default_value = "")]
    pub fetch_cur: String,
    /// The spot data feed to fetch new files of, e.g. s3://company-billing/spot/; empty: it is imported by hand, or there is none.
    #[arg(long, env = "LOWTIDE_FETCH_FEED", default_value = "")]
    pub fetch_feed: String,
    /// Seconds between two looks at what there is to fetch.
    #[arg(long, env = "LOWTIDE_FETCH_SECONDS", default_value_t = 3_600, value_parser = clap::value_parser!(u32).range(60..))]
    pub fetch_seconds: u32,
    #[command(flatten)]
    labels: LabelArgs,
    /// Log lines as JSON.
    #[arg(long, env = "LOWTIDE_LOG_JSON")]
    pub log_json: bool,
}

/// Which pod labels say who pays.
#[derive(Debug, clap::Args)]
struct LabelArgs {
    /// Label with the team.
    #[arg(long, env = "LOWTIDE_LABEL_TEAM", default_value = "team")]
    label_team: String,
    /// Label with the service.
    #[arg(long, env = "LOWTIDE_LABEL_SERVICE", default_value = "service")]
    label_service: String,
    /// Label with the environment.
    #[arg(long, env = "LOWTIDE_LABEL_ENVIRONMENT", default_value = "environment")]
    label_environment: String,
    /// Label with the cost centre.
    #[arg(long, env = "LOWTIDE_LABEL_COST_CENTER", default_value = "cost-center")]
    label_cost_center: String,
    /// Label with the product area.
    #[arg(long, env = "LOWTIDE_LABEL_PRODUCT_AREA", default_value = "product-area")]
    label_product_area: String,
    /// Label with the component (training, inference, baseline, api); without it batch work counts as training, serving work as inference.
    #[arg(long, env = "LOWTIDE_LABEL_COMPONENT", default_value = "component")]
    label_component: String,
    /// Take team, environment, cost centre and product area from the namespace's labels, and never from the pod's: owners write pods.
    #[arg(long, env = "LOWTIDE_ATTRIBUTION_FROM_NAMESPACE")]
    attribution_from_namespace: bool,
}

impl LabelArgs {
    fn keys(&self) -> AttributionKeys {
        AttributionKeys {
            team: self.label_team.clone(),
            service: self.label_service.clone(),
            environment: self.label_environment.clone(),
            cost_center: self.label_cost_center.clone(),
            product_area: self.label_product_area.clone(),
            component: self.label_component.clone(),
            from_namespace: self.attribution_from_namespace,
        }
    }
}

fn set_up_log(json: bool) {
    let filter =
        tracing_subscriber::EnvFilter::try_from_env("LOWTIDE_LOG").unwrap_or_else(|_| "info,kube_runtime=warn,aws_config=warn".into());
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if json { builder.json().init() } else { builder.with_ansi(false).init() }
}

/// The cluster's UID: queried until it is known. Before that, nothing can be identified as ours.
async fn cluster_uid(client: &kube::Client) -> String {
    loop {
        match read_uid(client).await {
            Ok(uid) => return uid,
            Err(fault) => {
                error!("{fault}; nothing is done until the cluster's UID is known; retrying in 5 s");
                tokio::time::sleep(Duration::from_secs(5)).await;
            }
        }
    }
}

/// Waits until the API server's CRDs have every field that this version writes: it would silently drop the others. If they cannot be read,
/// that is logged and nothing waits.
async fn definitions_will_do(client: &kube::Client) {
    loop {
        match crd_check::missing(client).await {
            Ok(lacking) if lacking.is_empty() => return,
            Ok(lacking) => {
                let (count, first) = (lacking.len(), lacking.first().cloned().unwrap_or_default());
                error!(
                    "the custom resource definitions in the cluster are older than this lowtide ({count} fields are unknown, first {first}): \
                     `lowtide crds | kubectl apply --server-side -f -`, or upgrade the chart; looked at again in 10 s"
                );
                tokio::time::sleep(Duration::from_secs(10)).await;
            }
            // An API server that restarts must not have this version write under definitions that drop what it writes.
            Err(fault @ ClusterError::Unreachable(_)) => {
                warn!(
                    "the custom resource definitions cannot be compared with this version's yet: {fault}; nothing is done until they are; retrying in 5 s"
                );
                tokio::time::sleep(Duration::from_secs(5)).await;
            }
            Err(fault) => {
                warn!("the custom resource definitions could not be compared with this version's: {fault}");
                return;
            }
        }
    }
}

/// How often it is looked at whether owners are still kept from our marks.
const VALIDATION_EVERY: Duration = Duration::from_secs(60);

/// Waits until it is seen that owners are kept from what lowtide writes on their pods, unless it was configured to serve without that.
async fn owners_are_kept_out(client: &kube::Client, args: &OperatorArgs) {
    loop {
        let (Validation::Absent(why) | Validation::Unknown(why)) =
            validation(client, &args.marks_policy, args.marks_policy_sum.as_deref()).await
        else {
            return;
        };
        if args.serve_without_validation {
            warn!("nothing is seen to keep owners from what lowtide writes on their pods ({why}); it serves all the same, as configured");
            return;
        }
        error!(
            "nothing is seen to keep owners from what lowtide writes on their pods: {why}. Install the chart with admission.marks.enabled (its roles may read \
             the policy), or say --serve-without-validation; looked at again in 10 s"
        );
        tokio::time::sleep(Duration::from_secs(10)).await;
    }
}

/// A policy that is watched while the operator runs, and what nobody is kept from without it.
struct WatchedPolicy {
    name: String,
    sum: Option<String>,
    keeps: &'static str,
    last: Validation,
}

impl WatchedPolicy {
    fn all(args: &OperatorArgs) -> Vec<WatchedPolicy> {
        let marks = (!args.serve_without_validation)
            .then(|| (args.marks_policy.clone(), args.marks_policy_sum.clone(), "owners are kept from what lowtide writes on their pods"));
        let named = |name: &Option<String>, sum: &Option<String>, keeps| Some((name.clone()?, sum.clone(), keeps));
        let guard = named(
            &args.guard_policy,
            &args.guard_policy_sum,
            "a thief of the operator's token is kept from what lowtide itself does not do",
        );
        let notes = named(&args.annotations_policy, &args.annotations_policy_sum, "annotations that lowtide cannot read are refused");
        marks
            .into_iter()
            .chain(guard)
            .chain(notes)
            .map(|(name, sum, keeps)| WatchedPolicy { name, sum, keeps, last: Validation::InForce })
            .collect()
    }

    /// Says when it goes, and when it is back.
    async fn look(&mut self, client: &kube::Client) {
        let now = validation(client, &self.name, self.sum.as_deref()).await;
        match &now {
            Validation::Absent(why) if now != self.last => error!("no longer true that {}: {why}. Install the chart again", self.keeps),
            Validation::Unknown(fault) if now != self.last => warn!("whether {} could not be read: {fault}", self.keeps),
            Validation::InForce if now != self.last => info!("{}", self.keeps),
            _ => {}
        }
        self.last = now;
    }
}

/// Looks at each policy at once and then every minute. What runs is not left for it; `tell` receives how many do not hold.
async fn watch_policies(client: kube::Client, mut policies: Vec<WatchedPolicy>, tell: impl Fn(usize)) {
    loop {
        for policy in &mut policies {
            policy.look(&client).await;
        }
        // One that cannot be read is not seen to hold: whoever takes the right to read it silences nothing.
        tell(policies.iter().filter(|policy| policy.last != Validation::InForce).count());
        tokio::time::sleep(VALIDATION_EVERY).await;
    }
}

/// Asks Linux for pages of four kilobytes: an operator lives for months with half a gigabyte, and where two megabytes are given at once, every hole in what it
/// holds is as large (with a thousand machines a third of its memory).
#[cfg(target_os = "linux")]
fn ask_for_small_pages() {
    if let Err(fault) = rustix::thread::disable_transparent_huge_pages(true) {
        info!(%fault, "Linux may give huge pages: the operator takes more memory than it needs");
    }
}

/// Runs until SIGTERM or Ctrl-C, then gives the Lease back.
pub async fn run(args: OperatorArgs) -> ExitCode {
    set_up_log(args.log_json);
    #[cfg(target_os = "linux")]
    ask_for_small_pages();
    if let Err(fault) = args.endpoint.check() {
        error!("{fault}");
        return ExitCode::FAILURE;
    }
    let sources = match sources(&args) {
        Ok(sources) => sources,
        Err(fault) => {
            error!("{fault}");
            return ExitCode::FAILURE;
        }
    };
    let client = match connect().await {
        Ok(client) => client,
        Err(fault) => {
            error!("{fault}");
            return ExitCode::FAILURE;
        }
    };
    let listener = match tokio::net::TcpListener::bind(args.listen).await {
        Ok(listener) => listener,
        Err(fault) => {
            error!("cannot listen on {}: {fault}", args.listen);
            return ExitCode::FAILURE;
        }
    };
    let clock: Arc<dyn Clock> = Arc::new(WallClock);
    let uid = cluster_uid(&client).await;
    definitions_will_do(&client).await;
    owners_are_kept_out(&client, &args).await;
    info!(cluster = args.cluster, uid, "machines of this name and another UID are left alone");
    let cloud_settings = AwsSettings { cluster_uid: uid.clone(), ..AwsSettings::new(args.cluster.clone(), Arc::clone(&clock)) };
    let cloud = AwsCloud::new(args.endpoint.of(cloud_settings)).await;
    let cluster_settings = ClusterSettings {
        cluster: args.cluster.clone(),
        uid,
        namespace: args.namespace.clone(),
        instance: args.instance.clone(),
        attribution: args.labels.keys(),
        ignore_label: args.ignore_label.clone(),
        exempt_namespaces: args.exempt_namespaces.clone(),
    };
    let cluster = LiveCluster::start(client.clone(), cluster_settings, Arc::clone(&clock));
    let ledger = match PgLedger::connect_lazy(&args.database_url) {
        Ok(ledger) => ledger,
        Err(fault) => {
            error!("{fault}");
            return ExitCode::FAILURE;
        }
    };
    let intervals = Intervals {
        spot_prices: Duration::from_secs(args.price_seconds.max(1)),
        instances: Duration::from_secs(args.instance_seconds.max(1)),
        ..Intervals::default()
    };
    let notice_window = Millis::from_secs(i64::from(args.notice_window_seconds));
    let settings = Settings {
        max_price_age: Millis::from_secs(i64::from(args.max_price_age_seconds)),
        notice_window,
        orphan_grace: Millis::from_secs(i64::from(args.orphan_grace_seconds)),
        // Five seconds of the two minutes.
        deadline_margin: Millis(notice_window.0 / 24),
        ..Settings::default()
    };
    let engine = Engine::new(cloud, cluster, ledger, WallClock, args.cluster.clone(), settings, intervals);
    let counting = Arc::clone(&engine);
    let policies =
        tokio::spawn(watch_policies(client.clone(), WatchedPolicy::all(&args), move |absent| counting.note_absent_policies(absent)));
    let candidacy = Candidacy::of_the_cluster(client, &args.namespace, &args.instance, clock);
    let (stop, stopped) = watch::channel(false);
    let health = tokio::spawn(health::serve(listener, Arc::clone(&engine), candidacy.leading(), stopped.clone()));
    info!(cluster = args.cluster, instance = args.instance, listen = %args.listen, "lowtide {} starts", env!("CARGO_PKG_VERSION"));
    let upkeep = keep_ledger(&args, &engine, candidacy.leading());
    let fetching = fetch_bills(&args, sources, &engine, candidacy.leading()).await;
    let running = tokio::spawn(engine.run(candidacy.leading(), stopped));
    wait_for_end().await;
    info!("stopping");
    stop.send_replace(true);
    let ended = running.await;
    candidacy.release().await;
    health.abort();
    upkeep.abort();
    fetching.abort();
    policies.abort();
    if ended.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Posts, seals and collects usage in the background, while this replica leads.
fn keep_ledger<C: Cloud>(
    args: &OperatorArgs,
    engine: &Arc<Engine<C, LiveCluster, PgLedger, WallClock>>,
    leading: watch::Receiver<bool>,
) -> tokio::task::JoinHandle<()> {
    if args.post_seconds == 0 {
        return tokio::spawn(std::future::pending());
    }
    let (queried, listed, shown) = (Arc::clone(engine), Arc::clone(engine), Arc::clone(engine));
    let upkeep = Upkeep {
        url: args.database_url.clone(),
        every: Duration::from_secs(args.post_seconds),
        prometheus: (!args.prometheus_url.is_empty()).then(|| Prometheus::new(&args.prometheus_url)),
        queries: Arc::new(move || usage_queries(&queried.cluster.view().unwrap_or_default())),
        gpu_use: args.gpu_use.then(|| args.gpu_use_selector.clone()),
        nodes: Arc::new(move || nodes_of_claims(&listed.cluster.view().unwrap_or_default())),
        clock: Arc::new(WallClock),
        after_round: Arc::new(move |figures| {
            let mut state = shown.state();
            (state.ledger_posted_at, state.ledger_sealed_at) = (figures.posted_at, figures.sealed_at);
            if let Some((_, finance)) = figures.finance {
                state.finance = (*finance).clone();
            }
        }),
    };
    tokio::spawn(upkeep::keep(upkeep, leading))
}

/// What is fetched hourly, and from where.
fn sources(args: &OperatorArgs) -> Result<Vec<(What, Location)>, String> {
    let said = [("LOWTIDE_FETCH_CUR", What::Cur, &args.fetch_cur), ("LOWTIDE_FETCH_FEED", What::Feed, &args.fetch_feed)];
    let wanted = said.into_iter().filter(|(.., location)| !location.is_empty());
    let read = |(name, what, text): (&str, What, &String)| match text.parse::<Location>() {
        Ok(location) => Ok((what, location)),
        Err(fault) => Err(format!("{name}: {fault}")),
    };
    wanted.map(read).collect()
}

/// Fetches bills in the background, while this replica leads.
async fn fetch_bills<C: Cloud>(
    args: &OperatorArgs,
    sources: Vec<(What, Location)>,
    engine: &Arc<Engine<C, LiveCluster, PgLedger, WallClock>>,
    leading: watch::Receiver<bool>,
) -> tokio::task::JoinHandle<()> {
    if sources.is_empty() {
        return tokio::spawn(std::future::pending());
    }
    let shown = Arc::clone(engine);
    let hourly = Hourly {
        url: args.database_url.clone(),
        sources,
        access: super::ledger::fetch::access(args.endpoint.aws_endpoint_url.clone()).await,
        every: Duration::from_secs(u64::from(args.fetch_seconds)),
        clock: Arc::new(WallClock),
        after_round: Arc::new(move |found| {
            let mut state = shown.state();
            (state.bills_complete_at, state.bills_refused) = (found.complete_at, found.refused);
        }),
    };
    tokio::spawn(fetch::keep(hourly, leading))
}

async fn wait_for_end() {
    let terminated = async {
        match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            Ok(mut signal) => {
                signal.recv().await;
            }
            Err(_) => std::future::pending::<()>().await,
        }
    };
    tokio::select! {
        () = terminated => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}
