//! Placements checked by an independent checker: drawn requests, and cases small enough to solve by hand.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod checker;
mod limits;

use std::collections::BTreeMap;

use lowtide::core::market::catalog::Catalog;
use lowtide::core::market::quota::{QuotaFamily, QuotaKey};
use lowtide::core::market::{Capacity, CapacityType, Market, Offer, PriceSource};
use lowtide::core::placement::{
    AreaSpread, Demand, Gang, Learnt, OwnerRule, Placement, PlacementRequest, PlacementSettings, PoolLimits, PoolPolicy, Room, Target,
    counterfactuals, judge, place,
};
use lowtide::core::record::Refusal;
use lowtide::core::units::ids::{ClaimName, Region};
use lowtide::core::units::money::{MicroUsd, MicroUsdPerHour};
use lowtide::core::units::time::{Millis, Timestamp};
use lowtide::core::units::{Mebibytes, Millicores, Resources};
use lowtide::core::workload::company::Domain;
use lowtide::core::workload::need::{CapacityPreference, Need, WorkloadKind};
use lowtide::core::workload::sharing::Sharing;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

const NOW: Timestamp = Timestamp(1_800_000_000_000);

fn offer(region: &str, zone: &str, instance_type: &str, capacity_type: CapacityType, micros: i64) -> Offer {
    let capacity = Capacity { region: region.into(), zone: zone.into(), instance_type: instance_type.into(), capacity_type };
    let (source, interruptions_per_million_hours) = (PriceSource::File, 0);
    Offer { capacity, price_per_hour: MicroUsdPerHour(micros), observed_at: NOW, source, interruptions_per_million_hours }
}

fn market(offers: impl IntoIterator<Item = Offer>) -> Market {
    Market { offers: offers.into_iter().map(|o| (o.capacity.clone(), o)).collect(), ..Market::default() }
}

fn need(gpus: i64, gpu_gib: i64, cpu: i64, gib: i64) -> Need {
    Need {
        kind: WorkloadKind::Inference,
        gpus,
        gpu_memory: Mebibytes(gpu_gib * 1_024),
        gpu_models: Vec::new(),
        cpu: Millicores(cpu),
        memory: Mebibytes(gib * 1_024),
        architecture: None,
        regions: Vec::new(),
        zones: Vec::new(),
        instance_types: Vec::new(),
        capacity: CapacityPreference::SpotFirst,
        max_price_per_gpu_hour: None,
        data_gib: 0,
        data_region: None,
        node_terms: Vec::new(),
        disk: Mebibytes(0),
        volumes: 0,
    }
}

fn pods(name: &str, count: usize, need: &Need) -> Vec<Demand> {
    let pod = |i| {
        let (key, pools) = (format!("ns/{name}-{i:03}").into(), Default::default());
        let (rescue, falls_back, apart) = (false, false, Default::default());
        Demand { key, need: need.clone().into(), pools, owner: None, gang: None, rescue, falls_back, apart, buy_only: None }
    };
    (0..count).map(pod).collect()
}

fn settings() -> PlacementSettings {
    PlacementSettings { commitment: Some(Millis::from_hours(744)), ..PlacementSettings::default() }
}

fn open_pool(market: &Market) -> PoolPolicy {
    PoolPolicy::open("pool", market.offers.keys().map(|p| p.zone.clone()).collect())
}

/// Places and checks.
fn placed(market: &Market, demands: &[Demand], room: &[Room], pools: &[PoolPolicy], settings: &PlacementSettings) -> Placement {
    placed_knowing(Learnt::default(), market, demands, room, pools, settings)
}

/// As [`placed`], with what was learnt.
fn placed_knowing(
    learnt: Learnt,
    market: &Market,
    demands: &[Demand],
    room: &[Room],
    pools: &[PoolPolicy],
    settings: &PlacementSettings,
) -> Placement {
    let catalog = Catalog::snapshot();
    let request = PlacementRequest { catalog: &catalog, market, learnt, demands, room, pools, now: NOW, settings, listed: None };
    let placement = place(&request);
    assert_eq!(checker::faults(&request, &placement), Vec::<String>::new());
    placement
}

fn simple(market: &Market, demands: &[Demand]) -> Placement {
    placed(market, demands, &[], &[open_pool(market)], &settings())
}

#[test]
fn two_small_machines_beat_one_large_one_and_the_reverse() {
    // Karpenter core #1149: two 1-GPU pods got a g5.12xlarge.
    let offers = |large| {
        market([
            offer("us-east-1", "use1-az1", "g5.xlarge", CapacityType::OnDemand, 1_006_000),
            offer("us-east-1", "use1-az1", "g5.12xlarge", CapacityType::OnDemand, large),
        ])
    };
    let demands = pods("a", 2, &need(1, 20, 2_000, 8));
    let small = simple(&offers(5_672_000), &demands);
    assert_eq!((small.machines.len(), small.price_per_hour), (2, MicroUsdPerHour(2_012_000)));
    let large = simple(&offers(1_900_000), &demands);
    assert_eq!((large.machines.len(), large.price_per_hour), (1, MicroUsdPerHour(1_900_000)));
}

#[test]
fn different_needs_share_a_machine_when_that_is_cheaper() {
    let market = market([
        offer("us-east-1", "use1-az1", "g6.12xlarge", CapacityType::Spot, 1_000_000),
        offer("us-east-1", "use1-az1", "g6.2xlarge", CapacityType::Spot, 400_000),
    ]);
    let mut demands = pods("a", 2, &need(1, 20, 2_000, 8));
    demands.extend(pods("b", 2, &need(1, 8, 4_000, 16)));
    let placement = simple(&market, &demands);
    assert_eq!((placement.machines.len(), placement.price_per_hour), (1, MicroUsdPerHour(1_000_000)));
    assert_eq!(placement.lower_bound_per_hour, MicroUsdPerHour(1_000_000));
}

#[test]
fn free_room_is_used_first_by_those_that_would_cost_most() {
    let market = market([
        offer("us-east-1", "use1-az1", "g6.xlarge", CapacityType::Spot, 300_000),
        offer("us-east-1", "use1-az1", "g6e.xlarge", CapacityType::Spot, 900_000),
    ]);
    let mut demands = pods("a-small", 1, &need(1, 8, 1_000, 4));
    demands.extend(pods("b-large", 1, &need(1, 40, 1_000, 4)));
    let room = free_room("use1-az1");
    let placement = placed(&market, &demands, &[room], &[open_pool(&market)], &settings());
    assert_eq!(placement.assignments[1].target, Target::ExistingRoom("c1".into()));
    assert_eq!(placement.price_per_hour, MicroUsdPerHour(300_000));
}

#[test]
fn sharing_packs_smaller_models_and_keeps_the_context_reserve() {
    let market = market([offer("us-east-1", "use1-az1", "g6.xlarge", CapacityType::Spot, 300_000)]);
    let pool = open_pool(&market).sharing(Sharing::Mps { replicas: 4 }, Mebibytes(500));
    // 22888 / 4 - 500 = 5222 MiB for each of four.
    let fits = placed(&market, &pods("a", 4, &need(1, 5, 500, 2)), &[], std::slice::from_ref(&pool), &settings());
    assert_eq!((fits.machines.len(), fits.unplaced.len()), (1, 0));
    let too_big = placed(&market, &pods("a", 1, &need(1, 6, 500, 2)), &[], std::slice::from_ref(&pool), &settings());
    assert_eq!(too_big.unplaced[0].judgement.refused, BTreeMap::from([(Refusal::GpuMemory, 1)]));
}

#[test]
fn budgets_limits_and_quotas_hold_and_are_named() {
    let market = market([offer("us-east-1", "use1-az1", "g6.xlarge", CapacityType::Spot, 300_000)]);
    let demands = pods("a", 5, &need(1, 8, 1_000, 4));
    let mut pool = open_pool(&market);
    // 0.30 x 744 h = $223.20 a machine: $500 pays for two.
    pool.budget_left = Some(MicroUsd(500_000_000));
    let budget = placed(&market, &demands, &[], std::slice::from_ref(&pool), &settings());
    assert_eq!((budget.machines.len(), budget.unplaced.len()), (2, 3));
    assert_eq!(budget.unplaced[0].judgement.refused, BTreeMap::from([(Refusal::Budget, 1)]));
    pool.limits_left = PoolLimits { nodes: Some(1), ..PoolLimits::default() };
    let limit = placed(&market, &demands, &[], std::slice::from_ref(&pool), &settings());
    assert_eq!((limit.machines.len(), limit.unplaced[0].judgement.refused.clone()), (1, BTreeMap::from([(Refusal::PoolLimit, 1)])));
    let quota = QuotaKey { region: "us-east-1".into(), family: QuotaFamily::GAndVt, capacity_type: CapacityType::Spot };
    let bound = PlacementSettings { quota_vcpus_left: BTreeMap::from([(quota, 15)]), ..settings() };
    let quota = placed(&market, &demands, &[], &[open_pool(&market)], &bound);
    assert_eq!((quota.machines.len(), quota.unplaced[0].judgement.refused.clone()), (3, BTreeMap::from([(Refusal::Quota, 1)])));
}

#[test]
fn gangs_stand_in_one_zone_or_not_at_all() {
    let zones = ["use1-az1", "use1-az2"];
    let market = market(zones.iter().map(|z| offer("us-east-1", z, "g6.xlarge", CapacityType::Spot, 300_000)));
    let mut demands = pods("g", 3, &need(1, 8, 1_000, 4));
    demands.iter_mut().for_each(|d| d.gang = Some(Gang { name: "ns/g".into(), zone: None }));
    let whole = simple(&market, &demands);
    assert_eq!(whole.machines.len(), 3);
    let mut pool = open_pool(&market);
    pool.limits_left.nodes = Some(2);
    let none = placed(&market, &demands, &[], &[pool], &settings());
    assert_eq!((none.machines.len(), none.unplaced.len()), (0, 3));
}

#[test]
fn spreads_and_shares_hold_where_one_place_is_cheapest() {
    let zones = ["use1-az1", "use1-az2", "use1-az4"];
    let market = market(zones.iter().zip(1..).map(|(z, i)| offer("us-east-1", z, "g6.xlarge", CapacityType::Spot, 300_000 * i)));
    let rule = |skew: Option<i64>, share| OwnerRule {
        owner: "d".into(),
        spreads: skew.map(AreaSpread::over_zones).into_iter().collect(),
        max_share_per_mille: share,
        standing: BTreeMap::new(),
    };
    let mut demands = pods("d", 6, &need(1, 8, 1_000, 4));
    demands.iter_mut().for_each(|d| d.owner = Some(rule(Some(1), None)));
    assert_eq!(simple(&market, &demands).price_per_hour, MicroUsdPerHour(2 * 300_000 * (1 + 2 + 3)));
    demands.iter_mut().for_each(|d| d.owner = Some(rule(None, Some(500))));
    assert_eq!(simple(&market, &demands).price_per_hour, MicroUsdPerHour(3 * 300_000 * (1 + 2)));
    demands.iter_mut().for_each(|d| d.owner = Some(rule(None, Some(200))));
    let tight = simple(&market, &demands);
    assert_eq!((tight.machines.len(), tight.unplaced.len()), (3, 3));
    assert_eq!(tight.unplaced[0].judgement.refused.keys().collect::<Vec<_>>(), [&Refusal::Diversity]);
}

#[test]
fn replicas_spread_over_regions_and_capacity_types_and_over_both_with_zones() {
    let zones = [("us-east-1", "use1-az1"), ("us-east-1", "use1-az2"), ("eu-south-2", "eus2-az1")];
    let kinds = [CapacityType::Spot, CapacityType::OnDemand];
    let offers = zones.iter().zip(1..).flat_map(|((region, zone), i)| {
        kinds.map(|kind| offer(region, zone, "g6.xlarge", kind, if kind == CapacityType::Spot { 100_000 } else { 900_000 } * i))
    });
    let market = market(offers);
    let spread =
        |domain, max_skew, min_domains| AreaSpread { domain, max_skew, min_domains, standing: BTreeMap::new(), counts_itself: true };
    let placed_with = |spreads: Vec<AreaSpread>| {
        let rule = OwnerRule { owner: "d".into(), spreads, max_share_per_mille: None, standing: BTreeMap::new() };
        let mut demands = pods("d", 4, &need(1, 8, 1_000, 4));
        demands.iter_mut().for_each(|d| d.owner = Some(rule.clone()));
        let placement = simple(&market, &demands);
        let mut at: Vec<String> = placement.machines.iter().map(|m| format!("{} {}", m.capacity.zone, m.capacity.capacity_type)).collect();
        at.sort();
        (at, placement.unplaced.len())
    };
    let two_each = ["eus2-az1 spot", "eus2-az1 spot", "use1-az1 spot", "use1-az1 spot"].map(str::to_owned).to_vec();
    assert_eq!(placed_with(vec![spread(Domain::Region, 1, 1)]), (two_each, 0));
    let both_kinds = ["use1-az1 on-demand", "use1-az1 on-demand", "use1-az1 spot", "use1-az1 spot"].map(str::to_owned).to_vec();
    assert_eq!(placed_with(vec![spread(Domain::CapacityType, 1, 1)]), (both_kinds, 0));
    let over_both = ["eus2-az1 spot", "use1-az1 on-demand", "use1-az1 spot", "use1-az2 on-demand"].map(str::to_owned).to_vec();
    assert_eq!(placed_with(vec![spread(Domain::CapacityType, 1, 1), spread(Domain::Zone, 1, 1)]), (over_both, 0));
    assert_eq!(placed_with(vec![spread(Domain::Region, 1, 3)]).1, 2, "with fewer regions than minDomains the emptiest counts as empty");
}

/// Pods that stay together in a zone are there spread as they ask, in the cheapest zone that holds most of them so.
#[test]
fn pods_that_stay_together_are_spread_within_the_area_that_takes_most_of_them() {
    let (spot, on_demand) = (CapacityType::Spot, CapacityType::OnDemand);
    let market = market([
        offer("us-east-1", "use1-az1", "g6.xlarge", spot, 100_000),
        offer("us-east-1", "use1-az2", "g6.xlarge", spot, 300_000),
        offer("us-east-1", "use1-az2", "g6.xlarge", on_demand, 900_000),
        offer("eu-south-2", "eus2-az1", "g6.xlarge", spot, 400_000),
        offer("eu-south-2", "eus2-az1", "g6.xlarge", on_demand, 950_000),
    ]);
    let spread = |domain, min_domains| AreaSpread { domain, max_skew: 1, min_domains, standing: BTreeMap::new(), counts_itself: true };
    let placed_with = |spreads: Vec<AreaSpread>, same: &[(Domain, &str)]| {
        let mut demands = pods("d", 2, &need(1, 8, 1_000, 4));
        for demand in &mut demands {
            demand.owner =
                Some(OwnerRule { owner: "d".into(), spreads: spreads.clone(), max_share_per_mille: None, standing: BTreeMap::new() });
            demand.apart.same = same.iter().map(|(domain, name)| (*domain, (*name).to_owned())).collect();
        }
        let placement = simple(&market, &demands);
        let mut at: Vec<String> = placement.machines.iter().map(|m| format!("{} {}", m.capacity.zone, m.capacity.capacity_type)).collect();
        at.sort();
        (at.join(", "), placement.unplaced.len())
    };
    let in_zone = [(Domain::Zone, "z")];
    assert_eq!(placed_with(vec![], &in_zone), ("use1-az1 spot, use1-az1 spot".to_owned(), 0));
    let both = "use1-az2 on-demand, use1-az2 spot".to_owned();
    assert_eq!(placed_with(vec![spread(Domain::CapacityType, 2)], &in_zone), (both, 0), "one capacity type takes one of them only");
    // As the scheduler counts it: every zone of the cluster is a domain, and all but theirs are empty.
    assert_eq!(placed_with(vec![spread(Domain::Zone, i64::MAX)], &in_zone), ("use1-az1 spot".to_owned(), 1));
    // In one region and of one capacity type.
    let twice = [(Domain::Region, "r"), (Domain::CapacityType, "c")];
    assert_eq!(placed_with(vec![spread(Domain::Zone, 2)], &twice), ("use1-az1 spot, use1-az2 spot".to_owned(), 0));
}

/// A machine of ours with a free GPU.
fn free_room(zone: &str) -> Room {
    let capacity =
        Capacity { region: "us-east-1".into(), zone: zone.into(), instance_type: "g6e.xlarge".into(), capacity_type: CapacityType::Spot };
    let free = Resources { cpu: Millicores(3_000), memory: Mebibytes(20_000), gpus: 1, ..Resources::default() };
    Room {
        claim: ClaimName::from("c1"),
        capacity,
        free,
        gpu_memory: Mebibytes(45_776),
        most_units_per_pod: 1,
        node_pool: "capacity".into(),
        ready: true,
        node: Default::default(),
    }
}

/// Free room is used where the spread allows it, whatever is on offer elsewhere; what it does not hold is bought.
#[test]
fn spreads_and_shares_go_to_free_room_first() {
    let market = market(["use1-az1", "use1-az2"].map(|zone| offer("us-east-1", zone, "g6.xlarge", CapacityType::Spot, 300_000)));
    let room = free_room("use1-az4");
    for (skew, share) in [(Some(1), None), (None, Some(400))] {
        let rule = OwnerRule {
            owner: "d".into(),
            spreads: skew.map(AreaSpread::over_zones).into_iter().collect(),
            max_share_per_mille: share,
            standing: BTreeMap::new(),
        };
        let mut demands = pods("d", 3, &need(1, 8, 1_000, 4));
        demands.iter_mut().for_each(|d| d.owner = Some(rule.clone()));
        let placement = placed(&market, &demands, std::slice::from_ref(&room), &[open_pool(&market)], &settings());
        let in_room = placement.assignments.iter().filter(|a| matches!(a.target, Target::ExistingRoom(_))).count();
        assert_eq!((in_room, placement.machines.len(), placement.unplaced.len()), (1, 2, 0), "skew {skew:?}, share {share:?}");
    }
}

#[test]
fn a_gang_whose_zone_is_known_goes_to_free_room_there_though_nothing_is_on_offer() {
    let market = market([offer("us-east-1", "use1-az1", "g6.xlarge", CapacityType::Spot, 300_000)]);
    let mut demands = pods("g", 1, &need(1, 8, 1_000, 4));
    demands[0].gang = Some(Gang { name: "g".into(), zone: Some("use1-az4".into()) });
    let placement = placed(&market, &demands, &[free_room("use1-az4")], &[open_pool(&market)], &settings());
    assert_eq!(placement.assignments.len(), 1, "{:?}", placement.unplaced);
    assert_eq!(placement.assignments[0].target, Target::ExistingRoom("c1".into()));
}

#[test]
fn a_spread_holds_when_a_limit_leaves_replicas_without_a_place() {
    let zones = ["use1-az1", "use1-az2", "use1-az4"];
    let market = market(zones.iter().zip(1..).map(|(z, i)| offer("us-east-1", z, "g6.xlarge", CapacityType::Spot, 300_000 * i)));
    let rule =
        OwnerRule { owner: "d".into(), spreads: vec![AreaSpread::over_zones(1)], max_share_per_mille: None, standing: BTreeMap::new() };
    let mut demands = pods("d", 9, &need(1, 8, 1_000, 4));
    demands.iter_mut().for_each(|d| d.owner = Some(rule.clone()));
    for nodes in 0..9 {
        let mut pool = open_pool(&market);
        pool.limits_left.nodes = Some(nodes);
        let placement = placed(&market, &demands, &[], &[pool], &settings());
        assert_eq!((placement.machines.len() as i64, placement.unplaced.len() as i64), (nodes, 9 - nodes));
    }
}

#[test]
fn egress_and_interruptions_are_part_of_the_cost() {
    let near = offer("us-east-1", "use1-az1", "g6.xlarge", CapacityType::Spot, 350_000);
    let far = offer("eu-south-2", "eus2-az1", "g6.xlarge", CapacityType::Spot, 100_000);
    let market = market([near, far]);
    let mut heavy = need(1, 8, 1_000, 4);
    assert_eq!(simple(&market, &pods("a", 1, &heavy)).machines[0].capacity.region, Region::from("eu-south-2"));
    // 480 GiB at $0.02 over 24 h are $0.40/h.
    (heavy.data_gib, heavy.data_region) = (480, Some("us-east-1".into()));
    assert_eq!(simple(&market, &pods("a", 1, &heavy)).machines[0].capacity.region, Region::from("us-east-1"));
}

#[test]
fn every_offer_is_refused_for_one_reason_and_the_first_in_order() {
    let mut market = market([
        offer("us-east-1", "use1-az1", "g6.xlarge", CapacityType::Spot, 300_000),
        offer("us-east-1", "use1-az1", "g6.xlarge", CapacityType::OnDemand, 804_800),
        offer("us-east-1", "use1-az1", "g4dn.xlarge", CapacityType::Spot, 200_000),
        offer("eu-south-2", "eus2-az1", "g4dn.xlarge", CapacityType::OnDemand, 500_000),
        offer("us-east-1", "use1-az1", "g6e.xlarge", CapacityType::OnDemand, 1_861_000),
    ]);
    let stale = Offer {
        source: PriceSource::SpotPriceHistory,
        observed_at: Timestamp(0),
        ..offer("us-east-1", "use1-az2", "g6.xlarge", CapacityType::Spot, 1)
    };
    market.offers.insert(stale.capacity.clone(), stale);
    let mut want = need(1, 20, 1_000, 4);
    (want.regions, want.max_price_per_gpu_hour) = (vec!["us-*".into()], Some(MicroUsdPerHour(1_000_000)));
    let (catalog, settings, pool) = (Catalog::snapshot(), settings(), open_pool(&market));
    let request = PlacementRequest {
        catalog: &catalog,
        market: &market,
        learnt: Learnt::default(),
        demands: &[],
        room: &[],
        pools: &[],
        now: NOW,
        settings: &settings,
        listed: None,
    };
    let judgement = judge(&request, &want, &pool);
    assert_eq!(judgement.chosen.as_ref().unwrap().price_per_hour, MicroUsdPerHour(300_000));
    let expected =
        [Refusal::Region, Refusal::GpuMemory, Refusal::StalePrice, Refusal::OwnerPriceCap, Refusal::MoreExpensive].map(|r| (r, 1));
    assert_eq!(judgement.refused, BTreeMap::from(expected));
    assert_eq!((judgement.best_refused.len(), judgement.offers_hash.len()), (5, 64));
    let chosen = judgement.chosen.unwrap().capacity;
    let otherwise = counterfactuals(&catalog, &market, &want, &chosen, &"us-east-1".into());
    assert_eq!(otherwise.b0_on_demand_same.unwrap().price_per_hour, MicroUsdPerHour(804_800));
    assert_eq!(otherwise.b1_on_demand_home.unwrap().price_per_hour, MicroUsdPerHour(804_800));
    assert_eq!(counterfactuals(&catalog, &market, &want, &chosen, &"sa-east-1".into()).b1_on_demand_home, None);
}

/// Types the drawn markets sell, with a plain price in micro-dollars.
const SOLD: [(&str, i64); 9] = [
    ("g4dn.xlarge", 526_000),
    ("g4dn.12xlarge", 3_912_000),
    ("g6.xlarge", 804_800),
    ("g6.2xlarge", 977_600),
    ("g6.12xlarge", 4_601_600),
    ("g6.48xlarge", 13_350_400),
    ("g6e.xlarge", 1_861_000),
    ("g6e.12xlarge", 10_492_640),
    ("p5.48xlarge", 55_040_000),
];

fn drawn_market() -> impl Strategy<Value = Market> {
    prop::collection::vec((0..SOLD.len(), 0..3_usize, any::<bool>(), 100..1_000_i64), 4..30).prop_map(|rows| {
        let row = |(kind, zone, spot, share): (usize, usize, bool, i64)| {
            let (region, zone) = [("us-east-1", "use1-az1"), ("us-east-1", "use1-az2"), ("eu-south-2", "eus2-az1")][zone];
            let capacity = if spot { CapacityType::Spot } else { CapacityType::OnDemand };
            offer(region, zone, SOLD[kind].0, capacity, SOLD[kind].1 * share / 1_000)
        };
        market(rows.into_iter().map(row))
    })
}

fn drawn_demands() -> impl Strategy<Value = Vec<Demand>> {
    let group = (1..5_i64, 0..5_usize, 1..10_i64, 1..6_i64, 1..9_usize, 0..6_u8);
    prop::collection::vec(group, 1..5).prop_map(|groups| {
        let mut demands = Vec::new();
        for (index, (gpus, memory, cpu, gib, count, rule)) in groups.into_iter().enumerate() {
            let mut want = need(gpus, [2, 14, 20, 40, 70][memory], cpu * 900, gib * 6);
            if rule == 4 {
                want.max_price_per_gpu_hour = Some(MicroUsdPerHour(500_000));
            }
            if rule == 5 {
                want.capacity = CapacityPreference::OnDemand;
            }
            let mut some = pods(&format!("w{index}"), count, &want);
            let owner = OwnerRule {
                owner: format!("w{index}"),
                spreads: (rule == 1).then(|| AreaSpread::over_zones(1)).into_iter().collect(),
                max_share_per_mille: (rule == 2).then_some(500),
                standing: BTreeMap::new(),
            };
            for pod in &mut some {
                pod.owner = (rule == 1 || rule == 2).then(|| owner.clone());
                pod.gang = (rule == 3).then(|| Gang { name: format!("ns/w{index}"), zone: None });
            }
            demands.extend(some);
        }
        demands
    })
}

/// The same cases every time, so that a change is judged and not luck; with `PROPTEST_CASES`, that many fresh ones.
fn cases(otherwise: u32) -> ProptestConfig {
    let plain = ProptestConfig::default();
    let wanted = std::env::var_os("PROPTEST_CASES").is_some();
    if wanted { plain } else { ProptestConfig { cases: otherwise, rng_seed: RngSeed::Fixed(1), ..plain } }
}

proptest! {
    #![proptest_config(cases(200))]

    #[test]
    fn every_drawn_placement_is_sound(market in drawn_market(), demands in drawn_demands(), nodes in prop::option::of(0..6_i64), budget in prop::option::of(0..20_000_i64)) {
        let mut pool = open_pool(&market);
        pool.limits_left.nodes = nodes;
        pool.budget_left = budget.map(|dollars| MicroUsd(dollars * 1_000_000));
        placed(&market, &demands, &[], &[pool], &settings());
    }

    #[test]
    fn the_order_of_pods_changes_nothing(market in drawn_market(), demands in drawn_demands(), turn in 0..40_usize) {
        let mut turned = demands.clone();
        turned.reverse();
        turned.rotate_left(turn % demands.len());
        let (one, other) = (simple(&market, &demands), simple(&market, &turned));
        let named = |p: &Placement, d: &[Demand]| -> Vec<(Capacity, Vec<String>)> {
            p.machines.iter().map(|m| (m.capacity.clone(), m.demands.iter().map(|i| d[*i].key.to_string()).collect())).collect()
        };
        prop_assert_eq!(named(&one, &demands), named(&other, &turned));
    }

    #[test]
    fn a_better_market_never_makes_the_plan_cost_more(market in drawn_market(), demands in drawn_demands(), at in 0..30_usize, share in 100..1_000_i64) {
        let plain: Vec<Demand> = demands.into_iter().map(|d| Demand { owner: None, gang: None, ..d }).collect();
        let mut better = market.clone();
        let index = at % market.offers.len();
        for offer in better.offers.values_mut().skip(index).take(1) {
            offer.price_per_hour = MicroUsdPerHour(offer.price_per_hour.0 * share / 1_000);
        }
        let extra = offer("us-east-1", "use1-az1", SOLD[at % SOLD.len()].0, CapacityType::Reserved, SOLD[at % SOLD.len()].1 * share / 1_000);
        better.offers.insert(extra.capacity.clone(), extra);
        let (before, after) = (simple(&market, &plain), simple(&better, &plain));
        prop_assert!(after.unplaced.len() <= before.unplaced.len());
        if after.unplaced.len() == before.unplaced.len() {
            prop_assert!(after.price_per_hour.0 * 1_000 <= before.price_per_hour.0 * 1_005, "{} after {}", after.price_per_hour, before.price_per_hour);
        }
    }
}
