//! `lowtide place`: what lowtide would buy for Kubernetes manifests, without a cluster or an account.

use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use super::files::{self, FileError};
use super::manifests::{self, ManifestWorkload, Manifests};
use super::pool_file::{self, FiledPool};
use crate::core::market::catalog::Catalog;
use crate::core::market::shipped::SNAPSHOT_DATE;
use crate::core::market::{CapacityType, Market};
use crate::core::placement::{Demand, Gang, Learnt, OwnerRule, Placement, PlacementRequest, PlacementSettings, place};
use crate::core::plan::placing::apart;
use crate::core::plan::placing::spreading::{self, OfFile};
use crate::core::record::{Judgement, code_of};
use crate::core::units::money::MicroUsdPerHour;
use crate::core::units::shared::Shared;
use crate::core::units::time::Millis;
use crate::core::workload::controllers::Controllers;
use crate::core::workload::need::{NeedError, PodManifest, Schedule, Vocabulary, parse_with};
use crate::core::workload::pod_reader::{AttributionKeys, PodReader};
use crate::core::workload::{PodRules, controllers};

/// Arguments of `lowtide place`.
#[derive(Debug, clap::Args)]
pub struct PlaceArgs {
    /// Manifests in YAML or JSON, any number of documents: Pods and the workloads that run them, with their volumes, LimitRanges and PriorityClasses.
    #[arg(short = 'f', long = "filename", value_name = "FILE")]
    file: PathBuf,
    /// Offers as CSV with the header region,zone,instance_type,capacity_type,price_per_hour; without it, the shipped snapshot.
    #[arg(long, value_name = "FILE")]
    offers: Option<PathBuf>,
    /// A GpuNodePool in YAML whose caps, budget and limits apply; without it, everything may be bought.
    #[arg(long, value_name = "FILE")]
    pool: Option<PathBuf>,
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Answer {
    price_per_hour: MicroUsdPerHour,
    lower_bound_per_hour: MicroUsdPerHour,
    cost_per_hour: MicroUsdPerHour,
    solve_ms: f64,
    prices: String,
    nodes: Vec<Node>,
    unplaced: Vec<UnplacedWorkload>,
    on_notice: Vec<OnNotice>,
}

#[derive(Serialize)]
struct OnNotice {
    namespace: String,
    workload: String,
    kind: String,
    what: String,
}

#[derive(Serialize)]
struct Node {
    region: String,
    zone: String,
    instance_type: String,
    capacity_type: CapacityType,
    price_per_hour: MicroUsdPerHour,
    pods: Vec<PodRow>,
}

#[derive(Serialize)]
struct PodRow {
    namespace: String,
    workload: String,
    replica: i64,
}

#[derive(Serialize)]
struct UnplacedWorkload {
    namespace: String,
    workload: String,
    replicas: i64,
    reasons: Vec<Reason>,
}

#[derive(Serialize)]
struct Reason {
    reason: String,
    offers: u32,
    example: Option<String>,
}

/// One pod from the manifests: which workload, which replica.
type Replica = (usize, i64);

/// Plans and prints.
pub fn run(args: PlaceArgs) -> ExitCode {
    match answer(&args) {
        Ok((answer, faulty)) => {
            let printed = if args.json { files::print_json(&answer) } else { files::print(&table(&answer)) };
            if faulty { ExitCode::FAILURE } else { printed }
        }
        Err(fault) => {
            eprintln!("{fault}");
            ExitCode::FAILURE
        }
    }
}

fn answer(args: &PlaceArgs) -> Result<(Answer, bool), FileError> {
    let catalog = Catalog::snapshot();
    let market = files::market(args.offers.as_deref(), SNAPSHOT_DATE)?;
    let pool = pool_file::pool(args.pool.as_deref(), &market)?;
    let manifests = manifests::read(&args.file)?;
    for object in &manifests.skipped {
        eprintln!("skipped: {object} runs no pods that lowtide would place");
    }
    tell_unknown_types(&market, &catalog);
    let workloads = &manifests.workloads;
    let asked = asked(&manifests, &vocabulary(&catalog, &market), pool.max_share_per_mille);
    let started = Instant::now();
    let (placement, lower_bound_per_hour) = spread((&catalog, &market), &pool, &asked, &settings());
    let Asked { replicas, faulty: mut unplaced, .. } = asked;
    let faulty = !unplaced.is_empty();
    let solve_ms = started.elapsed().as_micros() as f64 / 1_000.0;
    unplaced.extend(refused(&placement, workloads, &replicas));
    let prices = match &args.offers {
        Some(path) => path.display().to_string(),
        None => format!("shipped snapshot of {}", &SNAPSHOT_DATE.to_rfc3339()[..10]),
    };
    let answer = Answer {
        price_per_hour: placement.price_per_hour,
        lower_bound_per_hour,
        cost_per_hour: placement.cost_per_hour,
        solve_ms,
        prices,
        nodes: nodes(&placement, workloads, &replicas),
        unplaced,
        on_notice: on_a_notice(&manifests),
    };
    Ok((answer, faulty))
}

/// The assumptions without a cluster. A budget counts for a whole month, so that the answer does not depend on the day.
fn settings() -> PlacementSettings {
    PlacementSettings { snapshot_prices_allowed: true, commitment: Some(Millis::from_hours(744)), ..PlacementSettings::default() }
}

fn placed((catalog, market): (&Catalog, &Market), pool: &FiledPool, demands: &[Demand], settings: &PlacementSettings) -> Placement {
    let pools = std::slice::from_ref(&pool.policy);
    let learnt = Learnt::default();
    place(&PlacementRequest { catalog, market, learnt, demands, room: &[], pools, now: SNAPSHOT_DATE, settings, listed: None })
}

/// The placement with replicas of one service apart where the pool allows that to cost something, and the bound on any purchase. A service of
/// which some replica finds no place that way is placed wherever there is one.
fn spread(sold: (&Catalog, &Market), pool: &FiledPool, asked: &Asked, settings: &PlacementSettings) -> (Placement, MicroUsdPerHour) {
    let (mut demands, plain) = (asked.demands.clone(), placed(sold, pool, &asked.demands, settings));
    let pools = std::slice::from_ref(&pool.policy);
    let (catalog, market) = sold;
    let learnt = Learnt::default();
    let request =
        PlacementRequest { catalog, market, learnt, demands: &asked.demands, room: &[], pools, now: SNAPSHOT_DATE, settings, listed: None };
    for (workload, schedule) in &asked.workloads {
        let own: Vec<usize> = (0..demands.len()).filter(|at| asked.replicas[*at].0 == *workload).collect();
        let Some(first) = own.first().map(|at| &asked.demands[*at]) else { continue };
        let work = OfFile { need: &first.need, schedule, apart: &first.apart, replicas: own.len() };
        for (at, offers) in own.iter().zip(spreading::of_file(&request, &work, pool.spread_most_extra_per_mille)) {
            demands[*at].buy_only = Some(offers);
        }
    }
    if demands.iter().all(|demand| demand.buy_only.is_none()) {
        let bound = plain.lower_bound_per_hour;
        return (plain, bound);
    }
    loop {
        let apart = placed(sold, pool, &demands, settings);
        let short: BTreeSet<usize> = apart.unplaced.iter().map(|u| asked.replicas[u.demand].0).collect();
        let of_them = |at: &usize| demands[*at].buy_only.is_some() && short.contains(&asked.replicas[*at].0);
        let given_up: Vec<usize> = (0..demands.len()).filter(of_them).collect();
        if given_up.is_empty() {
            return (apart, plain.lower_bound_per_hour);
        }
        given_up.into_iter().for_each(|at| demands[at].buy_only = None);
    }
}

/// Types missing from the catalog cannot be planned with: reports each once, rather than only in the count of refusals.
fn tell_unknown_types(market: &Market, catalog: &Catalog) {
    let mut unknown: BTreeMap<&str, usize> = BTreeMap::new();
    for capacity in market.offers.keys().filter(|capacity| !catalog.types.contains_key(&capacity.instance_type)) {
        *unknown.entry(capacity.instance_type.as_str()).or_default() += 1;
    }
    for (instance_type, offers) in unknown {
        eprintln!("{instance_type} is not in the catalog (lowtide catalog lists it): its offers ({offers}) are not used");
    }
}

/// The names annotations may use: those in the snapshot and in the given offers.
fn vocabulary(catalog: &Catalog, market: &Market) -> Vocabulary {
    let mut vocabulary = Vocabulary::snapshot().clone();
    vocabulary.models.extend(catalog.models());
    vocabulary.regions.extend(market.offers.keys().map(|p| p.region.clone()));
    vocabulary
}

/// What the file's workloads need from a placement.
#[derive(Default)]
struct Asked {
    demands: Vec<Demand>,
    replicas: Vec<Replica>,
    /// What their owners said, by workload.
    workloads: Vec<(usize, Shared<Schedule>)>,
    faulty: Vec<UnplacedWorkload>,
}

fn asked(manifests: &Manifests, vocabulary: &Vocabulary, pool_share_per_mille: Option<i64>) -> Asked {
    let (controllers, keys) = (Controllers::default(), AttributionKeys::default());
    let reader =
        PodReader { controllers: &controllers, volumes: &manifests.volumes, keys: &keys, namespaces: &Default::default(), vocabulary };
    let pod_of = |workload: &ManifestWorkload| {
        let mut pod = workload.pod.clone();
        // Offline, a Job is batch and everything else serves, unless the owner says otherwise.
        pod.metadata.annotations.entry("lowtide.dev/workload".to_owned()).or_insert_with(|| workload.default_work().to_owned());
        pod
    };
    let pods: Vec<PodManifest> = manifests.workloads.iter().map(pod_of).collect();
    let rules: Vec<Shared<PodRules>> = pods.iter().map(|pod| reader.rules(pod)).collect();
    let named = manifests.workloads.iter().zip(&rules).map(|(w, r)| (w.namespace.as_str(), &**r));
    let aparts = apart::among(named);
    let mut asked = Asked::default();
    for (index, (workload, pod)) in manifests.workloads.iter().zip(&pods).enumerate() {
        let (need, schedule) = match reader.need(pod) {
            Ok(read) => read,
            Err(_) => {
                asked.faulty.push(invalid(workload, &parse_with(pod, vocabulary).err().unwrap_or_default()));
                continue;
            }
        };
        let name = format!("{}/{}/{}{}", workload.kind, workload.namespace, workload.name, workload.part);
        let share = schedule.max_share_per_mille.into_iter().chain(pool_share_per_mille).min();
        let spreads = apart::spreads_among(&workload.namespace, &rules[index]);
        let owned = !spreads.is_empty() || share.is_some() || !aparts[index].one_in_each.is_empty();
        let rule = OwnerRule { owner: name.clone(), spreads, max_share_per_mille: share, standing: BTreeMap::new() };
        let owner = owned.then_some(rule);
        let gang = schedule.gang.as_ref().map(|gang| Gang { name: format!("{}/{gang}", workload.namespace), zone: None });
        asked.workloads.push((index, schedule));
        for replica in 0..workload.replicas {
            let key = format!("{}/{}-{}{}-{replica:06}", workload.namespace, workload.name, workload.kind, workload.part);
            asked.demands.push(Demand {
                key: key.into(),
                need: need.clone(),
                pools: Default::default(),
                owner: owner.clone(),
                gang: gang.clone(),
                rescue: false,
                apart: aparts[index].clone().into(),
                falls_back: false,
                buy_only: None,
            });
            asked.replicas.push((index, replica));
        }
    }
    asked
}

/// What an interruption notice does to each workload's pods, according to the operator's own reader.
fn on_a_notice(manifests: &Manifests) -> Vec<OnNotice> {
    let of = |workload: &ManifestWorkload| {
        let what = match workload.kind.as_str() {
            "Deployment" => match controllers::held(&workload.pod, &manifests.volumes, &workload.name, &workload.strategy) {
                None => "its replacement is Ready before it ends".to_owned(),
                Some(because) => format!("it ends before it is recreated: {because}"),
            },
            "Job" | "CronJob" | "JobSet" => "it is asked to stop, writes its checkpoint, and is recreated".to_owned(),
            "Pod" => "it ends, and no controller recreates it".to_owned(),
            kind => format!("it ends before it is recreated: a {kind} creates the next pod only when this one is gone"),
        };
        OnNotice { namespace: workload.namespace.clone(), workload: workload.name.clone(), kind: workload.kind.clone(), what }
    };
    manifests.workloads.iter().map(of).collect()
}

fn invalid(workload: &ManifestWorkload, faults: &[NeedError]) -> UnplacedWorkload {
    let reason = |fault: &NeedError| {
        eprintln!("{} {}/{}: {fault}", workload.kind, workload.namespace, workload.name);
        let reason = if matches!(fault, NeedError::NotHonoured { .. }) { "not-honoured" } else { "invalid" };
        Reason { reason: reason.to_owned(), offers: 0, example: Some(fault.to_string()) }
    };
    UnplacedWorkload {
        namespace: workload.namespace.clone(),
        workload: workload.name.clone(),
        replicas: workload.replicas,
        reasons: faults.iter().map(reason).collect(),
    }
}

fn nodes(placement: &Placement, workloads: &[ManifestWorkload], replicas: &[Replica]) -> Vec<Node> {
    let pod = |demand: &usize| {
        let (workload, replica) = replicas[*demand];
        PodRow { namespace: workloads[workload].namespace.clone(), workload: workloads[workload].name.clone(), replica }
    };
    let node = |machine: &crate::core::placement::PlannedMachine| Node {
        region: machine.capacity.region.to_string(),
        zone: machine.capacity.zone.to_string(),
        instance_type: machine.capacity.instance_type.to_string(),
        capacity_type: machine.capacity.capacity_type,
        price_per_hour: machine.price_per_hour,
        pods: machine.demands.iter().map(pod).collect(),
    };
    placement.machines.iter().map(node).collect()
}

/// The refused replicas, by workload and reason.
fn refused(placement: &Placement, workloads: &[ManifestWorkload], replicas: &[Replica]) -> Vec<UnplacedWorkload> {
    let mut by_workload: BTreeMap<(usize, &str), (i64, &Judgement)> = BTreeMap::new();
    for unplaced in &placement.unplaced {
        let (workload, _) = replicas[unplaced.demand];
        by_workload.entry((workload, &unplaced.judgement.offers_hash)).or_insert((0, &unplaced.judgement)).0 += 1;
    }
    let row = |((workload, _), (count, judgement)): ((usize, &str), (i64, &Judgement))| UnplacedWorkload {
        namespace: workloads[workload].namespace.clone(),
        workload: workloads[workload].name.clone(),
        replicas: count,
        reasons: reasons(judgement),
    };
    by_workload.into_iter().map(row).collect()
}

fn reasons(judgement: &Judgement) -> Vec<Reason> {
    let reason = |(refusal, offers): (&crate::core::record::Refusal, &u32)| {
        let best = judgement.best_refused.iter().find(|o| o.refusal == Some(*refusal));
        Reason { reason: code_of(refusal), offers: *offers, example: best.map(|o| format!("{} at ${}/h", o.capacity, o.price_per_hour)) }
    };
    judgement.refused.iter().map(reason).collect()
}

fn table(answer: &Answer) -> String {
    let mut out = format!("prices: {}\n", answer.prices);
    if !answer.nodes.is_empty() {
        let _ = writeln!(out, "{:<16} {:<16} {:<18} {:<10} {:>10} PODS", "REGION", "ZONE", "TYPE", "CAPACITY", "$/H");
    }
    for node in &answer.nodes {
        let pods: Vec<String> = node.pods.iter().map(|p| format!("{}/{}:{}", p.namespace, p.workload, p.replica)).collect();
        let _ = writeln!(
            out,
            "{:<16} {:<16} {:<18} {:<10} {:>10} {}",
            node.region,
            node.zone,
            node.instance_type,
            node.capacity_type,
            node.price_per_hour.to_string(),
            pods.join(" ")
        );
    }
    let _ = writeln!(
        out,
        "{} nodes, ${}/h; no purchase costs less than ${}/h; with expected interruptions and egress ${}/h; solved in {:.3} ms",
        answer.nodes.len(),
        answer.price_per_hour,
        answer.lower_bound_per_hour,
        answer.cost_per_hour,
        answer.solve_ms
    );
    for unplaced in &answer.unplaced {
        let _ = writeln!(out, "not placed: {} of {}/{}", replicas_of(unplaced.replicas), unplaced.namespace, unplaced.workload);
        for reason in &unplaced.reasons {
            let _ = writeln!(out, "  {:<18} {:>6} offers  {}", reason.reason, reason.offers, reason.example.as_deref().unwrap_or(""));
        }
    }
    out
}

fn replicas_of(count: i64) -> String {
    if count == 1 { "1 replica".to_owned() } else { format!("{count} replicas") }
}

#[cfg(test)]
mod agreement;
