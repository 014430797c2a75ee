//! What a pass costs, by how many pods and machines there are: `cargo bench --bench pass` prints one table and writes
//! `target/bench-pass.json` below the repository's root.
//!
//! The world is the toy world of the core's tests over the whole shipped market: 10 replicas a service, five sizes of need; once with
//! machines of one GPU and once with machines of eight. Decisions are those of the operator, with all their refused offers. Times are the
//! median of several passes over the same snapshot, each with what the one before noted of it, as the operator's have; two more rows say what a pass with
//! nothing to do costs without such notes (`first`) and after a change of one pod (`pod`). Memory is the peak of a process of its own while it makes one such pass, world included,
//! with an allocator that gives back at once what is freed: what the world took while it grew is not counted.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "../tests/toy/mod.rs"]
mod toy;

use std::collections::BTreeMap;
use std::fs;
use std::hint::black_box;
use std::time::Instant;

use lowtide::core::fleet::{InstanceState, NodeClass, NoticeKind};
use lowtide::core::market::shipped::snapshot_market;
use lowtide::core::market::{CapacityType, PriceSource};
use lowtide::core::plan::{Notes, plan, plan_with};
use lowtide::core::snapshot::Observed;
use lowtide::core::units::ids::{ClassName, Region};
use lowtide::core::units::time::Millis;
use lowtide::core::units::{Mebibytes, Millicores};
use lowtide::core::workload::need::WorkloadKind;
use lowtide::core::workload::{Mobility, PodPhase};
use toy::Toy;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// GiB of GPU memory, CPU in millicores and GiB of memory of the five sizes.
const SIZES: [(i64, i64, i64); 5] = [(8, 2_000, 8), (14, 3_000, 10), (20, 3_500, 12), (20, 6_000, 24), (40, 7_000, 40)];
const REPLICAS: usize = 10;
/// One line of the result.
#[derive(serde::Serialize, serde::Deserialize)]
struct Row {
    pods: usize,
    machines: usize,
    gpus_per_machine: i64,
    what: String,
    ms: f64,
    peak_mib: u64,
}

/// `pods` gated pods, and nothing bought for them.
fn world(pods: usize, gpus_per_machine: i64) -> Toy {
    let mut toy = Toy::new();
    let mut market = snapshot_market();
    // As EC2 and the price list give them: the operator does not buy on the snapshot.
    for (at, offer) in &mut market.offers {
        offer.source = if at.capacity_type == CapacityType::Spot { PriceSource::SpotPriceHistory } else { PriceSource::PriceList };
    }
    let template = toy.world.classes.values().next().unwrap().clone();
    let mut classes: BTreeMap<ClassName, NodeClass> = BTreeMap::new();
    for at in market.offers.keys() {
        let name = ClassName::from(format!("class-{}", at.region));
        let class = classes.entry(name.clone()).or_insert_with(|| NodeClass {
            name: name.clone(),
            region: at.region.clone(),
            zones: BTreeMap::new(),
            zone_names: BTreeMap::new(),
            subnets: Vec::new(),
            ..template.clone()
        });
        class.zones.insert(at.zone.clone(), format!("subnet-{}", at.zone));
        class.zone_names.insert(at.zone.clone(), format!("{}a", at.zone));
    }
    for class in classes.values_mut() {
        class.subnets = class.zones.values().cloned().collect();
        class.launch_template = Some((format!("lowtide-{}", class.region), "1".to_owned()));
    }
    toy.world.instances =
        classes.values().map(|c| (c.region.clone(), Observed::Known { at: toy.now, value: BTreeMap::new().into() })).collect();
    toy.world.templates = classes
        .values()
        .map(|c| (c.name.clone(), toy::template_of(&c.name, c.region.as_str(), &format!("lowtide-{}", c.region))))
        .collect();
    let mut pool = toy::pool(classes.keys().cloned().collect());
    if gpus_per_machine == 8 {
        pool.instance_types = toy.world.catalog.types.values().filter(|t| t.gpus == 8).map(|t| t.instance_type.clone()).collect();
        pool.capacity_types = [CapacityType::Spot].into();
    }
    pool.home_region = Region::from("us-east-1");
    toy.world.pools = BTreeMap::from([(pool.name.clone(), pool)]).into();
    toy.world.classes = classes.into();
    toy.world.market = market.into();
    for index in 0..pods {
        let service = index / REPLICAS;
        let (gpu_gib, cpu, gib) = SIZES[service % SIZES.len()];
        (toy.gpu_memory, toy.cpu, toy.memory) = (Mebibytes(gpu_gib * 1_024), Millicores(cpu), Mebibytes(gib * 1_024));
        let mobility = Mobility::Surge {
            replica_set: format!("rs-{service}").into(),
            deployment: format!("svc-{service}"),
            deployment_uid: format!("dep-{service}").into(),
        };
        toy.add_pod(mobility, WorkloadKind::Inference);
    }
    toy.live();
    toy
}

/// Lives until everything runs and a pass has nothing to do.
fn settle(toy: &mut Toy) {
    let pods = toy.world.pods.len();
    let mut last = None;
    for _ in 0..60 {
        toy.now = toy.now + Millis::from_secs(20);
        toy.live();
        // Voluntary moves are looked at by a row of their own.
        toy.world.moves_considered_at = Some(toy.now);
        let decided = plan(&toy.settings, &toy.world, toy.now);
        let quiet = decided.steps.is_empty();
        last = decided.steps.first().map(|step| step.actions.clone());
        toy.take(decided);
        (toy.ledger, toy.events) = (Vec::new(), Vec::new());
        let running = toy.world.pods.values().filter(|p| p.phase == PodPhase::Running).count();
        if quiet && running == pods {
            as_adapters_make_them(toy);
            return;
        }
    }
    let running = toy.world.pods.values().filter(|p| p.phase == PodPhase::Running).count();
    panic!("{running} of {pods} pods run after twenty minutes; the last pass still wanted {last:?}");
}

/// The maps as adapters make them, all at once, and not as a world grows them: half of each node is room for more.
fn as_adapters_make_them(toy: &mut Toy) {
    let world = &mut toy.world;
    world.pods = std::mem::take(&mut *world.pods).into_iter().collect();
    world.claims = std::mem::take(&mut *world.claims).into_iter().collect();
    world.nodes = std::mem::take(&mut *world.nodes).into_iter().collect();
    world.recorded = std::mem::take(&mut *world.recorded).into_iter().collect();
    for observed in world.instances.values_mut() {
        if let Observed::Known { value, .. } = observed {
            *value = std::mem::take(&mut **value).into_iter().collect();
        }
    }
}

/// Forgets the process's peak of memory; the kernel counts from now on.
fn forget_peak() {
    let _ = fs::write("/proc/self/clear_refs", "5");
}

fn peak_mib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) / 1_024
}

/// What has changed since the pass before.
#[derive(Clone, Copy, PartialEq)]
enum News {
    /// Nothing that passes take notes of.
    Nothing,
    /// One pod was written again.
    Pod,
    /// There was none.
    Everything,
}

fn pass(toy: &mut Toy) {
    black_box(plan_with(&mut toy.notes, &toy.settings, &toy.world, toy.now));
}

/// The median of `times` passes, in milliseconds, each after such news.
fn time(toy: &mut Toy, times: usize, news: News) -> (f64, u64) {
    if news != News::Everything {
        pass(toy);
    }
    forget_peak();
    let mut span = || {
        match news {
            News::Nothing => {}
            News::Pod => toy.world.pods.values_mut().next().unwrap().resource_version.push('0'),
            News::Everything => toy.notes = Notes::default(),
        }
        let began = Instant::now();
        pass(toy);
        began.elapsed().as_secs_f64() * 1_000.0
    };
    let mut spans: Vec<f64> = (0..times).map(|_| span()).collect();
    spans.sort_by(f64::total_cmp);
    (spans[spans.len() / 2], peak_mib())
}

/// One row for each thing a pass may have to do; `often` times at most.
fn rows(pods: usize, gpus_per_machine: i64, often: usize) -> Vec<Row> {
    let mut toy = world(pods, gpus_per_machine);
    let buy = time(&mut toy, often.min(if pods > 5_000 { 3 } else { 7 }), News::Everything);
    settle(&mut toy);
    toy.now = toy.now + Millis::from_mins(10);
    toy.live();
    toy.world.moves_considered_at = Some(toy.now);
    let left = plan(&toy.settings, &toy.world, toy.now);
    toy.take(left);
    let machines = toy.world.claims.len();
    let mut found = Vec::new();
    let mut add = |what: &str, (ms, peak_mib)| found.push(Row { pods, machines, gpus_per_machine, what: what.to_owned(), ms, peak_mib });
    assert!(plan(&toy.settings, &toy.world, toy.now).steps.is_empty(), "at rest");
    add("first", time(&mut toy, often.min(15), News::Everything));
    add("pod", time(&mut toy, often.min(15), News::Pod));
    add("idle", time(&mut toy, often.min(15), News::Nothing));
    toy.world.moves_considered_at = None;
    add("moves", time(&mut toy, often.min(5), News::Nothing));
    toy.world.moves_considered_at = Some(toy.now);
    let running: Vec<_> = toy
        .all_instances()
        .into_iter()
        .filter(|i| i.state == InstanceState::Running && i.capacity.capacity_type == CapacityType::Spot)
        .map(|i| i.id)
        .collect();
    toy.notify(&running[running.len() / 2], NoticeKind::Interruption);
    add("notice", time(&mut toy, often.min(15), News::Nothing));
    for id in running.iter().step_by(10) {
        toy.notify(id, NoticeKind::Interruption);
    }
    add("tenth", time(&mut toy, often.min(5), News::Nothing));
    add("buy", buy);
    found
}

/// The same rows by a process of its own, for its peaks of memory.
fn peaks(pods: usize, gpus_per_machine: i64) -> Vec<u64> {
    let program = std::env::current_exe().expect("this program");
    let mut command = std::process::Command::new(program);
    command.env("MIMALLOC_PURGE_DELAY", "0").args(["--peaks", &pods.to_string(), &gpus_per_machine.to_string()]);
    let answer = command.output().expect("this program runs");
    let rows: Vec<Row> = serde_json::from_slice(&answer.stdout).expect("its rows");
    rows.iter().map(|row| row.peak_mib).collect()
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let after = |flag: &str, nth: usize| args.iter().position(|a| a == flag).and_then(|at| args.get(at + nth)?.parse::<usize>().ok());
    if let (Some(pods), Some(gpus)) = (after("--peaks", 1), after("--peaks", 2)) {
        println!("{}", serde_json::to_string(&rows(pods, i64::try_from(gpus).expect("a number of GPUs"), 1)).expect("rows are JSON"));
        return;
    }
    if let (Some(pods), Some(gpus)) = (after("--only", 1), after("--only", 2)) {
        for row in rows(pods, i64::try_from(gpus).expect("a number of GPUs"), usize::MAX) {
            println!("{:>8} {:>11.2}", row.what, row.ms);
        }
        return;
    }
    let most = after("--most", 1).unwrap_or(50_000);
    let mut all: Vec<Row> = Vec::new();
    println!("{:>7} {:>9} {:>5} {:>8} {:>11} {:>9} {:>9}", "PODS", "MACHINES", "GPUS", "WHAT", "MS", "PEAK MIB", "EXPONENT");
    for gpus in [1, 8] {
        for pods in [100, 1_000, 5_000, 10_000, 50_000].into_iter().filter(|pods| *pods <= most) {
            let peaks = peaks(pods, gpus);
            for (mut row, peak_mib) in rows(pods, gpus, usize::MAX).into_iter().zip(peaks) {
                row.peak_mib = peak_mib;
                // How the time grows from the row before: 1 is in proportion, 2 with the square.
                let before = all.iter().rev().find(|r| r.what == row.what && r.gpus_per_machine == gpus);
                let exponent = before.map(|b| (row.ms / b.ms).ln() / (row.pods as f64 / b.pods as f64).ln());
                let exponent = exponent.map_or_else(String::new, |e| format!("{e:.2}"));
                println!(
                    "{:>7} {:>9} {:>5} {:>8} {:>11.2} {:>9} {:>9}",
                    row.pods, row.machines, gpus, row.what, row.ms, row.peak_mib, exponent
                );
                all.push(row);
            }
        }
    }
    let written =
        fs::create_dir_all("target").and_then(|()| fs::write("target/bench-pass.json", serde_json::json!({ "rows": all }).to_string()));
    written.expect("target/bench-pass.json can be written");
}
