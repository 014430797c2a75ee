//! Placement, side by side in one run: ours, the lower bound, packing before pricing, the cheapest single offer per workload, and for few
//! pods the exact optimum by a MILP solver. `cargo bench --bench placement` prints one table.
//!
//! The demand is made by a fixed sequence, the market is the shipped snapshot. Times are the median of several runs.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use lowtide::core::market::Market;
use lowtide::core::market::catalog::Catalog;
use lowtide::core::market::shipped::{SNAPSHOT_DATE, snapshot_market};
use lowtide::core::placement::packing::relax::{Effort, relax};
use lowtide::core::placement::packing::{Bin, Item, NEVER, Problem, RESOURCES};
use lowtide::core::placement::{Demand, Learnt, PlacementRequest, PlacementSettings, PoolPolicy, judge, place};
use lowtide::core::units::money::MicroUsdPerHour;
use lowtide::core::units::{Mebibytes, Millicores};
use lowtide::core::workload::need::{CapacityPreference, Need, WorkloadKind};

/// Twenty-four workloads: GPUs, GiB of GPU memory, CPU in millicores, GiB of memory, models.
const WORKLOADS: [(i64, i64, i64, i64, &[&str]); 24] = [
    (1, 2, 1_000, 4, &[]),
    (1, 8, 2_000, 8, &[]),
    (1, 14, 3_000, 10, &[]),
    (1, 20, 3_500, 12, &[]),
    (1, 20, 6_000, 24, &["l4", "a10g"]),
    (1, 20, 12_000, 48, &["l4"]),
    (1, 40, 3_500, 24, &[]),
    (1, 40, 7_000, 56, &["l40s"]),
    (1, 40, 14_000, 100, &[]),
    (1, 70, 12_000, 120, &[]),
    (1, 80, 20_000, 200, &[]),
    (2, 20, 8_000, 30, &[]),
    (2, 20, 16_000, 60, &["l4"]),
    (2, 40, 16_000, 90, &[]),
    (2, 80, 40_000, 400, &[]),
    (3, 20, 20_000, 80, &[]),
    (4, 20, 30_000, 120, &[]),
    (4, 40, 40_000, 300, &[]),
    (4, 14, 24_000, 100, &[]),
    (4, 70, 80_000, 800, &[]),
    (8, 20, 90_000, 500, &[]),
    (8, 40, 90_000, 700, &[]),
    (8, 80, 150_000, 1_400, &[]),
    (8, 130, 150_000, 1_600, &[]),
];

fn need(index: usize) -> Need {
    let (gpus, gpu_gib, cpu, gib, models) = WORKLOADS[index];
    Need {
        kind: WorkloadKind::Inference,
        gpus,
        gpu_memory: Mebibytes(gpu_gib * 1_024),
        gpu_models: models.iter().map(|m| (*m).into()).collect(),
        cpu: Millicores(cpu),
        memory: Mebibytes(gib * 1_024),
        disk: Mebibytes(0),
        volumes: 0,
        architecture: None,
        regions: Vec::new(),
        zones: Vec::new(),
        instance_types: Vec::new(),
        node_terms: Vec::new(),
        capacity: CapacityPreference::SpotFirst,
        max_price_per_gpu_hour: None,
        data_gib: 0,
        data_region: None,
    }
}

/// Small workloads are common, large ones rare: a multiplicative sequence weighted by 1 / GPUs.
fn demands(pods: usize) -> Vec<Demand> {
    let weights: Vec<u64> = WORKLOADS.iter().map(|w| 8 / w.0.min(8) as u64).collect();
    let total: u64 = weights.iter().sum();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut out = Vec::with_capacity(pods);
    for pod in 0..pods {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let mut at = (state >> 33) % total;
        let index = weights
            .iter()
            .position(|w| {
                if at < *w {
                    true
                } else {
                    at -= w;
                    false
                }
            })
            .unwrap();
        out.push(Demand {
            key: format!("bench/w{index:02}-{pod:06}").into(),
            need: need(index).into(),
            pools: Default::default(),
            owner: None,
            gang: None,
            rescue: false,
            falls_back: false,
            buy_only: None,
            apart: Default::default(),
        });
    }
    out
}

fn only(market: &Market, region: Option<&str>) -> Market {
    let mut market = market.clone();
    market.offers.retain(|capacity, _| region.is_none_or(|r| capacity.region.as_str() == r));
    market
}

/// An offer as the peers see it: price, GPUs, CPU, memory, GPU memory, model.
struct Kind {
    price: i64,
    room: [i64; RESOURCES],
    gpu_memory: i64,
    model: String,
}

fn kinds(catalog: &Catalog, market: &Market) -> Vec<Kind> {
    let mut kinds: Vec<Kind> = market
        .offers
        .values()
        .filter_map(|o| {
            let m = catalog.types.get(&o.capacity.instance_type)?;
            let a = m.allocatable();
            Some(Kind {
                price: o.price_per_hour.0,
                room: [a.gpus, a.cpu.0, a.memory.0, a.disk.0, a.volumes],
                gpu_memory: m.gpu_memory.0,
                model: m.gpu_model.to_string(),
            })
        })
        .collect();
    kinds.sort_by_key(|k| k.price);
    kinds
}

fn takes(kind: &Kind, need: &Need) -> bool {
    need.gpu_memory.0 <= kind.gpu_memory && (need.gpu_models.is_empty() || need.gpu_models.iter().any(|m| m.as_str() == kind.model))
}

fn size(need: &Need) -> [i64; RESOURCES] {
    [need.gpus, need.cpu.0, need.memory.0, need.disk.0, need.volumes]
}

/// First-fit-decreasing by CPU then memory; a node keeps every type that still holds it, and the cheapest is taken at the end.
fn packing_before_pricing(kinds: &[Kind], demands: &[Demand]) -> i64 {
    let mut order: Vec<&Demand> = demands.iter().collect();
    order.sort_by_key(|d| (-d.need.cpu.0, -d.need.memory.0, d.key.clone()));
    // Types with the same room, model and GPU memory differ in price only: the first is the cheapest.
    let mut seen = BTreeSet::new();
    let kinds: Vec<&Kind> = kinds.iter().filter(|k| seen.insert((k.room, k.gpu_memory, k.model.clone()))).collect();
    let mut nodes: Vec<([i64; RESOURCES], Vec<usize>)> = Vec::new();
    let mut full: BTreeMap<[i64; 5], usize> = BTreeMap::new();
    for demand in order {
        let want = size(&demand.need);
        let holds = |used: &[i64; RESOURCES], k: usize| {
            takes(kinds[k], &demand.need) && (0..RESOURCES).all(|r| used[r] + want[r] <= kinds[k].room[r])
        };
        // Equal pods never fit where the one before did not.
        let models = demand.need.gpu_models.len() as i64;
        let start = full.entry([want[0], want[1], want[2], demand.need.gpu_memory.0, models]).or_default();
        let found = (*start..nodes.len()).find(|n| nodes[*n].1.iter().any(|k| holds(&nodes[*n].0, *k)));
        match found {
            Some(n) => {
                *start = n;
                let used = nodes[n].0;
                nodes[n].1.retain(|k| holds(&used, *k));
                (0..RESOURCES).for_each(|r| nodes[n].0[r] += want[r]);
            }
            None => {
                *start = nodes.len();
                nodes.push((want, (0..kinds.len()).filter(|k| holds(&[0; RESOURCES], *k)).collect()));
            }
        }
    }
    nodes.iter().map(|(_, left)| left.iter().map(|k| kinds[*k].price).min().unwrap_or(0)).sum()
}

fn cheapest_single_offer(kinds: &[Kind], demands: &[Demand]) -> i64 {
    let mut counts: BTreeMap<&Need, i64> = BTreeMap::new();
    demands.iter().for_each(|d| *counts.entry(&d.need).or_insert(0) += 1);
    let price = |need: &Need, count: i64| {
        let fit = |k: &Kind| (0..RESOURCES).filter(|r| size(need)[*r] > 0).map(|r| k.room[r] / size(need)[r]).min().unwrap_or(0);
        let best =
            kinds.iter().filter(|k| takes(k, need) && fit(k) > 0).min_by(|a, b| (a.price * fit(b)).cmp(&(b.price * fit(a)))).unwrap();
        best.price * ((count + fit(best) - 1) / fit(best))
    };
    counts.into_iter().map(|(need, count)| price(need, count)).sum()
}

/// The contents of machines that a plan below `ours` may use, each with its least price.
///
/// Every machine wastes its price less what its pods are worth; all waste together is the plan's cost less the bound. So a plan below
/// `ours` has no machine that wastes more than `ours` less the bound. That no content is worth more than its machine is checked here again.
fn contents_worth_trying(problem: &Problem, values: &[i64], gap: i64, most: usize) -> Option<BTreeMap<Vec<i64>, i64>> {
    fn descend(
        problem: &Problem,
        bin: usize,
        values: &[i64],
        gap: i64,
        at: usize,
        take: &mut Vec<i64>,
        found: &mut BTreeMap<Vec<i64>, i64>,
    ) {
        let kind = &problem.bins[bin];
        let left: [i64; RESOURCES] =
            std::array::from_fn(|r| kind.capacity[r] - take.iter().zip(&problem.items).map(|(t, i)| t * i.size[r]).sum::<i64>());
        let waste = kind.cost - take.iter().zip(values).map(|(t, v)| t * v).sum::<i64>();
        assert!(waste >= 0, "the bound does not hold: a filling is worth more than its machine");
        let density = (at..values.len()).map(|i| values[i] as f64 / problem.items[i].size[0] as f64).fold(0.0, f64::max);
        if waste as f64 - density * left[0] as f64 > gap as f64 {
            return;
        }
        if at == values.len() {
            if waste <= gap && take.iter().any(|t| *t > 0) {
                let least = found.entry(take.clone()).or_insert(kind.cost);
                *least = kind.cost.min(*least);
            }
            return;
        }
        let allowed = kind.extra[at] == 0;
        let fits =
            (0..RESOURCES).filter(|r| problem.items[at].size[*r] > 0).map(|r| left[r] / problem.items[at].size[r]).min().unwrap_or(0);
        for count in 0..=if allowed { fits.min(problem.items[at].count) } else { 0 } {
            take[at] = count;
            descend(problem, bin, values, gap, at + 1, take, found);
        }
        take[at] = 0;
    }
    let mut found = BTreeMap::new();
    for bin in 0..problem.bins.len() {
        descend(problem, bin, values, gap, 0, &mut vec![0; values.len()], &mut found);
        if found.len() > most {
            return None;
        }
    }
    Some(found)
}

/// The least waste by which `contents` cover `counts` exactly, trying plans in the order of their waste (Dijkstra over what is left).
/// `None` when no plan wastes at most `gap`; gives up, with the waste up to which there is no plan, after `most` states.
fn least_waste(contents: &[(Vec<i64>, i64)], values: &[i64], counts: &[i64], gap: i64, most: usize) -> Result<Option<i64>, i64> {
    let waste = |(take, price): &(Vec<i64>, i64)| price - take.iter().zip(values).map(|(t, v)| t * v).sum::<i64>();
    // What few contents hold comes first: that leaves the fewest choices.
    let mut order: Vec<usize> = (0..counts.len()).collect();
    order.sort_by_key(|g| contents.iter().filter(|(t, _)| t[*g] > 0).count());
    let mut queue = std::collections::BinaryHeap::from([(std::cmp::Reverse(0_i64), counts.to_vec())]);
    let mut done = BTreeSet::new();
    while let Some((std::cmp::Reverse(wasted), left)) = queue.pop() {
        let Some(first) = order.iter().copied().find(|g| left[*g] > 0) else { return Ok(Some(wasted)) };
        if !done.insert(left.clone()) {
            continue;
        }
        if done.len() > most {
            return Err(wasted);
        }
        for content in contents.iter().filter(|(t, _)| t[first] > 0 && t.iter().zip(&left).all(|(t, l)| t <= l)) {
            let total = wasted + waste(content);
            if total <= gap {
                queue.push((std::cmp::Reverse(total), left.iter().zip(&content.0).map(|(l, t)| l - t).collect()));
            }
        }
    }
    Ok(None)
}

/// What is known of the exact optimum for few pods: by search over plans in the order of their waste, and by a MILP solver.
fn exact_optimum(kinds: &[Kind], demands: &[Demand], ours: i64) -> String {
    let mut counts: BTreeMap<&Need, i64> = BTreeMap::new();
    demands.iter().for_each(|d| *counts.entry(&d.need).or_insert(0) += 1);
    let groups: Vec<(&Need, i64)> = counts.into_iter().collect();
    let mut seen = BTreeSet::new();
    let kinds = kinds.iter().filter(|k| seen.insert((k.room, k.gpu_memory, k.model.clone())));
    let extra = |k: &Kind| groups.iter().map(|(n, _)| if takes(k, n) { 0 } else { NEVER }).collect();
    let problem = Problem {
        items: groups.iter().map(|(n, count)| Item::plain(size(n), *count)).collect(),
        bins: kinds.map(|k| Bin { capacity: k.room, cost: k.price, extra: extra(k) }).collect(),
    };
    let counts: Vec<i64> = groups.iter().map(|g| g.1).collect();
    let values = relax(&problem, &counts, Vec::new(), Effort::THOROUGH).values;
    let gap = ours - counts.iter().zip(&values).map(|(n, v)| n * v).sum::<i64>();
    let contents: Vec<(Vec<i64>, i64)> = contents_worth_trying(&problem, &values, gap, 20_000).unwrap_or_default().into_iter().collect();
    if contents.is_empty() {
        return "too many contents to try".to_owned();
    }
    let over = |base: i64| format!("{} ({:.3}% over)", MicroUsdPerHour(base), (ours as f64 / base as f64 - 1.0) * 100.0);
    let searched = match least_waste(&contents, &values, &counts, gap, 1_500_000) {
        Ok(Some(waste)) => format!("optimum {}", over(ours - gap + waste)),
        Ok(None) => format!("optimum {}", over(ours)),
        Err(waste) => format!("no plan below {}", over(ours - gap + waste)),
    };
    let mut milp = microlp::Problem::new(microlp::OptimizationDirection::Minimize);
    let vars: Vec<_> = contents.iter().map(|(_, price)| milp.add_integer_var(*price as f64 / 1e6, (0, 100))).collect();
    for (g, count) in counts.iter().enumerate() {
        let row: Vec<_> = contents.iter().zip(&vars).filter(|((t, _), _)| t[g] > 0).map(|((t, _), v)| (*v, t[g] as f64)).collect();
        milp.add_constraint(row, microlp::ComparisonOp::Ge, *count as f64);
    }
    milp.set_time_limit(std::time::Duration::from_secs(10));
    let solved = match milp.solve() {
        Ok(microlp::SolveOutcome::Solution(s)) if s.status() == microlp::SolutionStatus::Optimal => {
            format!("optimum {}", over((s.objective() * 1e6).round() as i64))
        }
        _ => "no proof within 10 s".to_owned(),
    };
    format!("ours {}; by search: {searched}; by MILP: {solved}; {} contents", MicroUsdPerHour(ours), contents.len())
}

fn peak_kib() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|l| l.starts_with("VmHWM:")).unwrap_or("VmHWM: 0 kB");
    line.split_whitespace().nth(1).unwrap_or("0").to_owned()
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn main() {
    let catalog = Catalog::snapshot();
    let whole = snapshot_market();
    let settings = PlacementSettings {
        snapshot_prices_allowed: true,
        boot: lowtide::core::units::time::Millis(0),
        lost_work: lowtide::core::units::time::Millis(0),
        ..PlacementSettings::default()
    };
    println!(
        "market: shipped snapshot of {}, {} offers; $/h of prices alone (interruption cost set to 0)",
        &SNAPSHOT_DATE.to_rfc3339()[..10],
        whole.offers.len()
    );
    println!(
        "{:<10} {:>6} {:>9} {:>11} {:>12} {:>12} {:>8} {:>12} {:>7} {:>12} {:>7} {:>9}",
        "REGIONS", "PODS", "MS", "PODS/S", "$/H", "BOUND $/H", "OVER", "FFD $/H", "x", "SINGLE $/H", "x", "PEAK KIB"
    );
    let mut few = Vec::new();
    for (name, region) in [("us-east-1", Some("us-east-1")), ("all", None)] {
        let market = only(&whole, region);
        let zones = market.offers.keys().map(|p| p.zone.clone()).collect();
        let pool = PoolPolicy::open("bench", zones);
        let kinds = kinds(&catalog, &market);
        for pods in [1, 10, 100, 1_000, 5_000, 50_000] {
            let demands = demands(pods);
            let request = PlacementRequest {
                catalog: &catalog,
                market: &market,
                learnt: Learnt::default(),
                demands: &demands,
                room: &[],
                pools: std::slice::from_ref(&pool),
                now: SNAPSHOT_DATE,
                settings: &settings,
                listed: None,
            };
            let mut placement = None;
            let times = (0..if pods > 10_000 { 5 } else { 11 }).map(|_| {
                let started = Instant::now();
                placement = Some(place(&request));
                started.elapsed().as_secs_f64() * 1e3
            });
            let ms = median(times.collect());
            let placement = placement.unwrap();
            assert!(placement.unplaced.is_empty(), "every pod of the bench fits somewhere");
            let (cost, bound) = (placement.price_per_hour.0, placement.lower_bound_per_hour.0);
            let over = |base: i64| format!("{:.3}%", (cost as f64 / base as f64 - 1.0) * 100.0);
            let times_ours = |other: i64| format!("{:.3}", other as f64 / cost as f64);
            let (ffd, single) = (packing_before_pricing(&kinds, &demands), cheapest_single_offer(&kinds, &demands));
            if pods <= 100 {
                few.push((name, region, pods, cost));
            }
            println!(
                "{:<10} {:>6} {:>9.3} {:>11.0} {:>12} {:>12} {:>8} {:>12} {:>7} {:>12} {:>7} {:>9}",
                name,
                pods,
                ms,
                pods as f64 / ms * 1e3,
                placement.price_per_hour.to_string(),
                placement.lower_bound_per_hour.to_string(),
                over(bound),
                MicroUsdPerHour(ffd).to_string(),
                times_ours(ffd),
                MicroUsdPerHour(single).to_string(),
                times_ours(single),
                peak_kib()
            );
        }
        let one = demands(1);
        let request = PlacementRequest {
            catalog: &catalog,
            market: &market,
            learnt: Learnt::default(),
            demands: &[],
            room: &[],
            pools: std::slice::from_ref(&pool),
            now: SNAPSHOT_DATE,
            settings: &settings,
            listed: None,
        };
        let times = (0..101).map(|_| {
            let started = Instant::now();
            std::hint::black_box(judge(&request, &one[0].need, &pool));
            started.elapsed().as_secs_f64() * 1e3
        });
        println!(
            "{name}: one pod judged against {} offers, every refusal counted and hashed: {:.3} ms",
            market.offers.len(),
            median(times.collect())
        );
    }
    println!("the exact optimum for few pods:");
    for (name, region, pods, ours) in few {
        let market = only(&whole, region);
        println!("{name:<10} {pods:>6} {}", exact_optimum(&kinds(&catalog, &market), &demands(pods), ours));
    }
}
