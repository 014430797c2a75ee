//! `lowtide offers`: the market for a need, cheapest per packed replica first.
//!
//! Decides: nothing; offers are ranked and refused by the planner's rules.

use serde::Serialize;
use std::collections::BTreeMap;
#[cfg(feature = "live")]
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use super::{files, pool_file};
use crate::core::market::catalog::Catalog;
use crate::core::market::shipped::{SNAPSHOT_DATE, snapshot_bands};
use crate::core::market::{Capacity, CapacityType, Market, PriceSource};
use crate::core::placement::{Learnt, PlacementRequest, PlacementSettings, Ranked, judge, rank};
use crate::core::record::{Refusal, code_of};
#[cfg(feature = "live")]
use crate::core::units::ids::Region;
use crate::core::units::money::MicroUsdPerHour;
#[cfg(feature = "live")]
use crate::core::units::pattern::matches_pattern;
use crate::core::units::time::{Millis, Timestamp};
use crate::core::workload::need::{Metadata, NeedError, PodManifest, PodSpec, Vocabulary, parse_with};
use crate::engine::wall_clock::WallClock;
use crate::ports::Clock as _;

/// Arguments of `lowtide offers`. They have the syntax of the annotations.
#[derive(Debug, clap::Args)]
pub struct OffersArgs {
    /// GPUs per replica.
    #[arg(long, default_value_t = 1)]
    gpus: i64,
    /// Memory per GPU, e.g. 20Gi.
    #[arg(long)]
    gpu_memory: Option<String>,
    /// GPU models, e.g. l4,a10g.
    #[arg(long)]
    models: Option<String>,
    /// Regions, e.g. 'us-*,eu-west-1'.
    #[arg(long)]
    regions: Option<String>,
    /// spot-first, spot-only or on-demand.
    #[arg(long)]
    capacity: Option<String>,
    /// Cap in US dollars per GPU-hour.
    #[arg(long)]
    max_price_per_gpu_hour: Option<String>,
    /// CPU per replica, e.g. 4 or 500m.
    #[arg(long)]
    cpu: Option<String>,
    /// Memory per replica, e.g. 16Gi.
    #[arg(long)]
    memory: Option<String>,
    /// Offers as CSV instead of the shipped snapshot.
    #[arg(long, value_name = "FILE")]
    offers: Option<PathBuf>,
    /// Query AWS now instead, with the default credentials; a region that cannot be read is reported and left out.
    #[cfg(feature = "live")]
    #[arg(long, conflicts_with = "offers")]
    live: bool,
    /// With --live: ask EC2 for spot placement scores too. EC2 limits new requests per day, and other regions count as new requests.
    #[cfg(feature = "live")]
    #[arg(long, requires = "live")]
    scores: bool,
    #[cfg(feature = "live")]
    #[command(flatten)]
    endpoint: super::endpoints::EndpointArgs,
    /// Print at most this many rows.
    #[arg(long)]
    limit: Option<usize>,
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Row {
    region: String,
    zone: String,
    instance_type: String,
    capacity_type: CapacityType,
    gpu_model: String,
    gpus: i64,
    price_per_hour: MicroUsdPerHour,
    price_per_gpu_hour: MicroUsdPerHour,
    replicas: i64,
    cost_per_replica_hour: MicroUsdPerHour,
    percent_under_on_demand: Option<i64>,
    risk: Option<&'static str>,
    interruptions_per_1000h: Option<String>,
    placement_score: Option<u8>,
    price_age_seconds: Option<i64>,
    source: PriceSource,
}

/// The offers that meet the need, and how many do not, by reason.
struct Answer {
    rows: Vec<Row>,
    refused: BTreeMap<Refusal, u32>,
}

/// Prints the market of the shipped snapshot, or of a file.
pub fn run(args: OffersArgs) -> ExitCode {
    let market = files::market(args.offers.as_deref(), now()).map_err(|fault| vec![fault.to_string()]);
    print(&args, market.and_then(|market| rows(&args, &Catalog::snapshot(), &market, Learnt::default())))
}

/// Prints the market, queried from AWS if the arguments say so.
#[cfg(feature = "live")]
pub async fn run_live(args: OffersArgs) -> ExitCode {
    if !args.live {
        return run(args);
    }
    if let Err(fault) = args.endpoint.check() {
        return print(&args, Err(vec![fault.to_string()]));
    }
    let patterns: Vec<&str> = args.regions.as_deref().unwrap_or("*").split(',').map(str::trim).collect();
    let wanted = |region: &&Region| patterns.iter().any(|p| matches_pattern(p, region.as_str()));
    let regions: BTreeSet<Region> = Vocabulary::snapshot().regions.iter().filter(wanted).cloned().collect();
    if regions.is_empty() {
        let known: Vec<String> = Vocabulary::snapshot().regions.iter().map(ToString::to_string).collect();
        return print(&args, Err(vec![format!("no region matches {}; known: {}", patterns.join(","), known.join(", "))]));
    }
    let live = super::live_market::read(regions, args.scores, &args.endpoint).await;
    print(&args, live.and_then(|live| rows(&args, &live.catalog, &live.market, Learnt { scores: Some(&live.scores), ..Learnt::default() })))
}

fn print(args: &OffersArgs, answer: Result<Answer, Vec<String>>) -> ExitCode {
    match answer {
        Ok(answer) if args.json => files::print_json(&answer.rows),
        Ok(answer) => files::print(&table(&answer)),
        Err(faults) => {
            faults.iter().for_each(|fault| eprintln!("{fault}"));
            ExitCode::FAILURE
        }
    }
}

/// The pod that the arguments describe, so that they are read by the rules of the annotations.
fn manifest(args: &OffersArgs) -> PodManifest {
    let mut metadata = Metadata::default();
    let words = [
        ("workload", Some("inference".to_owned())),
        ("gpu-memory", args.gpu_memory.clone()),
        ("gpu-models", args.models.clone()),
        ("regions", args.regions.clone()),
        ("capacity", args.capacity.clone()),
        ("max-price-per-gpu-hour", args.max_price_per_gpu_hour.clone()),
    ];
    for (key, value) in words {
        value.map(|v| metadata.annotations.insert(format!("lowtide.dev/{key}"), v));
    }
    let mut container = crate::core::workload::need::Container::default();
    let amounts = [("nvidia.com/gpu", Some(args.gpus.to_string())), ("cpu", args.cpu.clone()), ("memory", args.memory.clone())];
    for (name, value) in amounts {
        value.map(|v| container.resources.limits.insert(name.to_owned(), crate::core::workload::need::Amount::Text(v)));
    }
    PodManifest { metadata, spec: PodSpec { containers: vec![container], ..PodSpec::default() } }
}

fn rows(args: &OffersArgs, catalog: &Catalog, market: &Market, learnt: Learnt) -> Result<Answer, Vec<String>> {
    let now = now();
    let pool = pool_file::pool(None, market).map_err(|fault| vec![fault.to_string()])?.policy;
    let mut vocabulary = Vocabulary::snapshot().clone();
    vocabulary.regions.extend(market.offers.keys().map(|p| p.region.clone()));
    let (need, _) = parse_with(&manifest(args), &vocabulary)
        .map_err(|faults: Vec<NeedError>| faults.iter().map(ToString::to_string).collect::<Vec<_>>())?;
    let settings =
        PlacementSettings { snapshot_prices_allowed: true, commitment: Some(Millis::from_hours(1)), ..PlacementSettings::default() };
    let request = PlacementRequest { catalog, market, learnt, demands: &[], room: &[], pools: &[], now, settings: &settings, listed: None };
    let ranked = rank(&request, &need, &pool);
    let mut refused = judge(&request, &need, &pool).refused;
    // Besides the chosen offer, the table shows those that are merely more expensive.
    refused.remove(&Refusal::MoreExpensive);
    let bands = snapshot_bands();
    let row = |ranked: Ranked| {
        let (at, price) = (&ranked.offer.capacity, ranked.offer.price_per_hour);
        let machine = catalog.types.get(&at.instance_type)?;
        let spot = at.capacity_type == CapacityType::Spot;
        // A file says nothing about interruptions, and none are counted.
        let advised = spot && ranked.offer.source != PriceSource::File;
        let band = bands.get(&(at.region.clone(), at.instance_type.clone())).filter(|_| advised);
        Some(Row {
            region: at.region.to_string(),
            zone: at.zone.to_string(),
            instance_type: at.instance_type.to_string(),
            capacity_type: at.capacity_type,
            gpu_model: machine.gpu_model.to_string(),
            gpus: machine.gpus,
            price_per_hour: price,
            price_per_gpu_hour: MicroUsdPerHour((price.0 + machine.gpus - 1) / machine.gpus.max(1)),
            replicas: ranked.replicas,
            cost_per_replica_hour: ranked.score.cost_per_replica_hour(),
            percent_under_on_demand: on_demand(market, at).and_then(|od| price.per_mille_of(od)).map(|share| (1_000 - share) / 10),
            risk: band.map(|b| b.label()),
            interruptions_per_1000h: advised
                .then_some(ranked.offer.interruptions_per_million_hours)
                .map(|rate| format!("{}.{:03}", rate / 1_000, rate % 1_000)),
            placement_score: ranked.placement_score,
            price_age_seconds: (ranked.offer.source != PriceSource::File).then(|| now.since(ranked.offer.observed_at).as_secs()),
            source: ranked.offer.source,
        })
    };
    Ok(Answer { rows: ranked.into_iter().filter_map(row).take(args.limit.unwrap_or(usize::MAX)).collect(), refused })
}

/// The on-demand price of the same type in the same region, if known; zones of a region share it.
fn on_demand(market: &Market, capacity: &Capacity) -> Option<MicroUsdPerHour> {
    let same = |o: &&crate::core::market::Offer| {
        o.capacity.capacity_type == CapacityType::OnDemand
            && o.capacity.region == capacity.region
            && o.capacity.instance_type == capacity.instance_type
    };
    market.offers.values().filter(same).map(|o| o.price_per_hour).min()
}

/// The time now, for the age of prices.
fn now() -> Timestamp {
    WallClock.now().max(SNAPSHOT_DATE)
}

fn table(answer: &Answer) -> String {
    let mut out = String::new();
    let _ = writeln!(
        out,
        "{:<15} {:<15} {:<17} {:<10} {:<14} {:>4} {:>10} {:>10} {:>8} {:>11} {:>8} {:<6} {:>9} {:>5} {:>8} SOURCE",
        "REGION",
        "ZONE",
        "TYPE",
        "CAPACITY",
        "GPU",
        "GPUS",
        "$/H",
        "$/GPU-H",
        "REPLICAS",
        "$/REPLICA-H",
        "UNDER OD",
        "RISK",
        "INT/1000H",
        "SCORE",
        "AGE"
    );
    for r in &answer.rows {
        let under = r.percent_under_on_demand.map_or_else(|| "-".to_owned(), |p| format!("{p}%"));
        let age = r.price_age_seconds.map_or_else(|| "-".to_owned(), |s| Millis::from_secs(s).to_string());
        let source = code_of(&r.source);
        let _ = writeln!(
            out,
            "{:<15} {:<15} {:<17} {:<10} {:<14} {:>4} {:>10} {:>10} {:>8} {:>11} {:>8} {:<6} {:>9} {:>5} {:>8} {}",
            r.region,
            r.zone,
            r.instance_type,
            r.capacity_type,
            r.gpu_model,
            r.gpus,
            r.price_per_hour.to_string(),
            r.price_per_gpu_hour.to_string(),
            r.replicas,
            r.cost_per_replica_hour.to_string(),
            under,
            r.risk.unwrap_or("-"),
            r.interruptions_per_1000h.as_deref().unwrap_or("-"),
            r.placement_score.map_or_else(|| "-".to_owned(), |score| score.to_string()),
            age,
            source
        );
    }
    if answer.rows.is_empty() {
        out = "no offer meets this need\n".to_owned();
    }
    if !answer.refused.is_empty() {
        let counts: Vec<String> = answer.refused.iter().map(|(refusal, offers)| format!("{offers} ({refusal})")).collect();
        let _ = writeln!(out, "refused: {}", counts.join(", "));
    }
    out
}
