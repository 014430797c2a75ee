//! What an account, a pool and a class allow: quotas, reservations, shared GPUs, budgets and the exemption of rescues.

use std::collections::{BTreeMap, BTreeSet};

use lowtide::core::market::egress::EgressPrices;
use lowtide::core::market::quota::{QuotaFamily, QuotaKey};
use lowtide::core::market::scores::{PlacementScore, ScoreBoard};
use lowtide::core::market::{Capacity, CapacityType, Market, Offer, PriceSource};
use lowtide::core::placement::{Area, Demand, Learnt, Placement, PlacementSettings, PoolLimits, PoolPolicy, Room, Target, Wishes};
use lowtide::core::record::Refusal;
use lowtide::core::units::ids::{ClaimName, Region};
use lowtide::core::units::money::{MicroUsd, MicroUsdPerHour};
use lowtide::core::units::time::{Millis, Timestamp};
use lowtide::core::units::{Mebibytes, Millicores, Resources};
use lowtide::core::workload::labels::{LabelOperator, LabelRequirement};
use lowtide::core::workload::sharing::Sharing;
use proptest::prelude::*;

use crate::{cases, drawn_demands, drawn_market, market, need, offer, open_pool, placed, placed_knowing, pods, settings};

fn rescues(mut demands: Vec<Demand>) -> Vec<Demand> {
    demands.iter_mut().for_each(|d| d.rescue = true);
    demands
}

fn one_offer() -> Market {
    market([offer("us-east-1", "use1-az1", "g6.xlarge", CapacityType::Spot, 300_000)])
}

fn reasons(placement: &Placement, key: &str) -> Vec<Refusal> {
    placement.unplaced.iter().filter(|u| u.key.contains(key)).flat_map(|u| u.judgement.refused.keys().copied()).collect()
}

#[test]
fn a_rescue_is_bought_without_budget_and_launch_rate_and_others_are_not() {
    let market = one_offer();
    let mut demands = rescues(pods("rescue", 2, &need(1, 8, 1_000, 4)));
    demands.extend(pods("other", 2, &need(1, 8, 1_000, 4)));
    let mut pool = open_pool(&market);
    pool.budget_left = Some(MicroUsd(0));
    pool.limits_left.launches = Some(0);
    let placement = placed(&market, &demands, &[], std::slice::from_ref(&pool), &settings());
    assert_eq!((placement.machines.len(), reasons(&placement, "rescue")), (2, vec![]));
    assert_eq!(reasons(&placement, "other"), [Refusal::PoolLimit, Refusal::PoolLimit]);
    pool.limits_left.launches = None;
    let placement = placed(&market, &demands, &[], std::slice::from_ref(&pool), &settings());
    assert_eq!(reasons(&placement, "other"), [Refusal::Budget, Refusal::Budget]);
    pool.rescue_limits_left.nodes = Some(1);
    let placement = placed(&market, &demands, &[], &[pool], &settings());
    assert_eq!((placement.machines.len(), reasons(&placement, "rescue")), (1, vec![Refusal::PoolLimit]));
}

#[test]
fn what_rescues_cost_comes_off_the_budget_of_the_others() {
    let market = one_offer();
    let mut demands = rescues(pods("rescue", 1, &need(1, 8, 1_000, 4)));
    demands.extend(pods("other", 2, &need(1, 8, 1_000, 4)));
    let mut pool = open_pool(&market);
    // $223.20 a machine: two in all.
    pool.budget_left = Some(MicroUsd(500_000_000));
    let placement = placed(&market, &demands, &[], &[pool], &settings());
    assert_eq!((placement.machines.len(), reasons(&placement, "other")), (2, vec![Refusal::Budget]));
}

#[test]
fn a_rescue_takes_free_room_first_and_nobody_rides_along_on_its_machine() {
    let market = market([offer("us-east-1", "use1-az1", "g6.12xlarge", CapacityType::Spot, 1_000_000)]);
    let small = need(1, 8, 1_000, 4);
    let mut demands = pods("a-other", 1, &small);
    demands.extend(rescues(pods("b-rescue", 1, &small)));
    let capacity = Capacity {
        region: "us-east-1".into(),
        zone: "use1-az1".into(),
        instance_type: "g6.xlarge".into(),
        capacity_type: CapacityType::Spot,
    };
    let free = Resources { cpu: Millicores(3_000), memory: Mebibytes(12_000), gpus: 1, ..Resources::default() };
    let room = Room {
        claim: ClaimName::from("c1"),
        capacity,
        free,
        gpu_memory: Mebibytes(22_888),
        most_units_per_pod: 1,
        node_pool: "capacity".into(),
        ready: true,
        node: Default::default(),
    };
    let placement = placed(&market, &demands, &[room], &[open_pool(&market)], &settings());
    assert_eq!(placement.assignments[1].target, Target::ExistingRoom("c1".into()));
    let both = placed(&market, &demands, &[], &[open_pool(&market)], &settings());
    assert_eq!((both.machines.len(), both.lower_bound_per_hour), (2, MicroUsdPerHour(1_000_000)), "the bound knows of no rescue");
}

#[test]
fn a_reservation_is_free_until_it_is_full_and_belongs_to_the_pools_whose_classes_name_it() {
    let spot = offer("us-east-1", "use1-az1", "g6.xlarge", CapacityType::Spot, 300_000);
    let reserved = Offer { source: PriceSource::Reservation, ..offer("us-east-1", "use1-az1", "g6.xlarge", CapacityType::Reserved, 0) };
    let at = reserved.capacity.clone();
    let market = market([spot, reserved]);
    let demands = pods("a", 3, &need(1, 8, 1_000, 4));
    let limited = PlacementSettings { machines_left: BTreeMap::from([(at.clone(), 2)]), ..settings() };
    let mut pool = open_pool(&market);
    let without = placed(&market, &demands, &[], std::slice::from_ref(&pool), &limited);
    assert_eq!(without.price_per_hour, MicroUsdPerHour(900_000), "no class of the pool names it");
    pool.reserved = BTreeSet::from([at.clone()]);
    let with = placed(&market, &demands, &[], std::slice::from_ref(&pool), &limited);
    assert_eq!((with.price_per_hour, with.cost_per_hour, with.machines.len()), (MicroUsdPerHour(300_000), MicroUsdPerHour(300_000), 3));
    let full = PlacementSettings { machines_left: BTreeMap::from([(at, 0)]), ..settings() };
    pool.capacity_types = BTreeSet::from([CapacityType::Reserved]);
    let none = placed(&market, &demands, &[], &[pool], &full);
    assert_eq!(none.unplaced[0].judgement.refused, BTreeMap::from([(Refusal::CapacityType, 1), (Refusal::ReservationFull, 1)]));
}

#[test]
fn shared_nodes_of_one_zone_stand_beside_exclusive_ones_of_another() {
    let zones = ["use1-az1", "use1-az2"];
    let market = market(zones.iter().map(|z| offer("us-east-1", z, "g6.xlarge", CapacityType::Spot, 300_000)));
    let mut pool = open_pool(&market);
    let shared = open_pool(&market).sharing(Sharing::Mps { replicas: 4 }, Mebibytes(500));
    pool.nodes.insert("use1-az2".into(), shared.nodes[&"use1-az2".into()].clone());
    // 5222 MiB a slot hold 5 GiB; 8 GiB need a whole GPU.
    let mut demands = pods("a-small", 4, &need(1, 5, 500, 2));
    demands.extend(pods("b-large", 1, &need(1, 8, 500, 2)));
    let placement = placed(&market, &demands, &[], &[pool], &settings());
    let machines: Vec<(&str, usize)> = placement.machines.iter().map(|m| (m.capacity.zone.as_str(), m.demands.len())).collect();
    assert_eq!(BTreeSet::from_iter(machines), BTreeSet::from([("use1-az1", 1), ("use1-az2", 4)]));
}

#[test]
fn of_equal_offers_the_likelier_to_be_given_is_taken_and_a_score_never_outweighs_a_cent() {
    let scored =
        |zone: &'static str, price: i64, score: Option<u8>| (offer("us-east-1", zone, "g6.xlarge", CapacityType::Spot, price), score);
    let bought = |offers: Vec<(Offer, Option<u8>)>| {
        let known = |(offer, score): &(Offer, Option<u8>)| {
            Some(PlacementScore { region: offer.capacity.region.clone(), zone: Some(offer.capacity.zone.clone()), score: (*score)? })
        };
        let answer: Vec<PlacementScore> = offers.iter().filter_map(known).collect();
        let mut scores = ScoreBoard::default();
        scores.keep("g6", &answer, crate::NOW);
        let market = market(offers.into_iter().map(|(offer, _)| offer));
        let (demands, learnt) = (pods("a", 1, &need(1, 8, 1_000, 4)), Learnt { scores: Some(&scores), ..Learnt::default() });
        placed_knowing(learnt, &market, &demands, &[], &[open_pool(&market)], &settings()).machines[0].capacity.zone.to_string()
    };
    assert_eq!(bought(vec![scored("use1-az1", 300_000, Some(3)), scored("use1-az2", 300_000, Some(8))]), "use1-az2");
    assert_eq!(bought(vec![scored("use1-az1", 300_000, None), scored("use1-az2", 300_000, Some(8))]), "use1-az2");
    assert_eq!(bought(vec![scored("use1-az1", 300_000, None), scored("use1-az2", 300_000, Some(2))]), "use1-az1");
    assert_eq!(bought(vec![scored("use1-az1", 299_999, Some(1)), scored("use1-az2", 300_000, Some(10))]), "use1-az1");
}

/// Requirements on nodes and pods in areas, each with weights.
#[test]
fn of_equal_offers_the_preferred_is_taken_and_a_preference_never_costs_a_cent() {
    let spot = CapacityType::Spot;
    let in_zone = |weight: i64, zone: &str| {
        let operator = LabelOperator::In([zone.to_owned()].into());
        (weight, vec![LabelRequirement { key: "topology.kubernetes.io/zone".into(), operator }])
    };
    let bought = |offers: &[(&'static str, i64)], prefers: Wishes| {
        let market = market(offers.iter().map(|(zone, price)| offer("us-east-1", zone, "g6.xlarge", spot, *price)));
        let mut demands = pods("a", 1, &need(1, 8, 1_000, 4));
        demands.iter_mut().for_each(|d| d.apart.prefers = prefers.clone());
        let placement = placed(&market, &demands, &[], &[open_pool(&market)], &settings());
        placement.machines.iter().map(|m| m.capacity.zone.to_string()).collect::<Vec<_>>().join(", ")
    };
    let two = |first: i64, second: i64| [("use1-az1", first), ("use1-az2", second)];
    let wishes = |nodes: Vec<(i64, Vec<LabelRequirement>)>| Wishes { nodes, ..Wishes::default() };
    assert_eq!(bought(&two(300_000, 300_000), Wishes::default()), "use1-az1");
    assert_eq!(bought(&two(300_000, 300_000), wishes(vec![in_zone(1, "use1-az2")])), "use1-az2");
    assert_eq!(bought(&two(300_000, 300_000), wishes(vec![in_zone(1, "use1-az2"), in_zone(2, "use1-az1")])), "use1-az1");
    assert_eq!(bought(&two(299_999, 300_000), wishes(vec![in_zone(100, "use1-az2")])), "use1-az1");
    let away = Wishes { areas: [(Area::Zone("use1-az1".into()), -30)].into(), ..Wishes::default() };
    assert_eq!(bought(&two(300_000, 300_000), away.clone()), "use1-az2");
    assert_eq!(bought(&two(299_999, 300_000), away), "use1-az1");
}

/// Eight pods with one volume each fit a machine of eight GPUs only where it attaches eight; others count beside them.
#[test]
fn no_machine_gets_more_volumes_than_it_can_attach() {
    let spot = CapacityType::Spot;
    let of_type = |kind: &'static str| market([offer("us-east-1", "use1-az1", kind, spot, 1_000_000)]);
    let with = |volumes: i64| lowtide::core::workload::need::Need { volumes, ..need(1, 8, 1_000, 4) };
    let machines = |market: &Market, demands: &[Demand]| {
        let placement = placed(market, demands, &[], &[open_pool(market)], &settings());
        (placement.machines.len(), placement.unplaced.len())
    };
    assert_eq!(machines(&of_type("g5.48xlarge"), &pods("a", 8, &with(1))), (2, 0), "six volumes at most");
    assert_eq!(machines(&of_type("g5.48xlarge"), &pods("a", 8, &with(0))), (1, 0));
    assert_eq!(machines(&of_type("g6.48xlarge"), &pods("a", 8, &with(1))), (1, 0));
    let mixed: Vec<Demand> = [pods("a", 3, &with(2)), pods("b", 5, &with(0))].concat();
    assert_eq!(machines(&of_type("g5.48xlarge"), &mixed), (1, 0));
    let market = of_type("g5.48xlarge");
    let refused = placed(&market, &pods("a", 1, &with(7)), &[], &[open_pool(&market)], &settings());
    assert_eq!(refused.unplaced[0].judgement.refused.keys().collect::<Vec<_>>(), [&Refusal::Volumes]);
}

#[test]
fn list_prices_keep_longer_than_spot_prices_and_both_end() {
    let aged = |source, capacity_type, age: Millis| Offer {
        source,
        observed_at: crate::NOW - age,
        ..offer("us-east-1", "use1-az1", "g6.xlarge", capacity_type, 300_000)
    };
    let refused = |offer: Offer| {
        let market = market([offer]);
        let placement = placed(&market, &pods("a", 1, &need(1, 8, 1_000, 4)), &[], &[open_pool(&market)], &settings());
        reasons(&placement, "a")
    };
    let hours = Millis::from_hours;
    assert_eq!(refused(aged(PriceSource::SpotPriceHistory, CapacityType::Spot, Millis::from_mins(6))), [Refusal::StalePrice]);
    assert_eq!(refused(aged(PriceSource::PriceList, CapacityType::OnDemand, hours(20))), []);
    assert_eq!(refused(aged(PriceSource::PriceList, CapacityType::OnDemand, hours(25))), [Refusal::StalePrice]);
}

#[test]
fn carrying_data_costs_what_the_pair_of_regions_costs() {
    let market = market([
        offer("us-east-2", "use2-az1", "g6.xlarge", CapacityType::Spot, 310_000),
        offer("eu-west-1", "euw1-az1", "g6.xlarge", CapacityType::Spot, 305_000),
    ]);
    let mut heavy = need(1, 8, 1_000, 4);
    (heavy.data_gib, heavy.data_region) = (24, Some("us-east-1".into()));
    let region = |settings: &PlacementSettings| {
        let placement = placed(&market, &pods("a", 1, &heavy), &[], &[open_pool(&market)], settings);
        placement.machines[0].capacity.region.clone()
    };
    // From us-east-1, 24 GiB over a day: $0.01/h to us-east-2, $0.02/h to eu-west-1.
    assert_eq!(region(&settings()), Region::from("us-east-2"));
    let flat = PlacementSettings { egress: std::sync::Arc::new(EgressPrices::flat(MicroUsd(20_000))), ..settings() };
    assert_eq!(region(&flat), Region::from("eu-west-1"));
}

/// A pool, an account and demands with every rule drawn.
#[derive(Debug, Clone)]
struct Drawn {
    pools: Vec<PoolPolicy>,
    settings: PlacementSettings,
    demands: Vec<Demand>,
    market: Market,
}

fn sharing(drawn: u8) -> Sharing {
    match drawn {
        0 => Sharing::Mps { replicas: 2 },
        1 => Sharing::TimeSlicing { replicas: 4 },
        2 => Sharing::Mig { replicas: 7 },
        _ => Sharing::Exclusive,
    }
}

fn drawn_rules() -> impl Strategy<Value = Drawn> {
    let limits = || (prop::option::of(0..5_i64), prop::option::of(0..20_i64), prop::option::of(0..4_i64));
    let quotas = prop::collection::vec((any::<bool>(), any::<bool>(), any::<bool>(), 0..200_i64), 0..4);
    let reservation = prop::option::of((0..3_u8, 0..3_i64));
    (
        drawn_market(),
        drawn_demands(),
        (limits(), limits()),
        prop::option::of(0..20_000_i64),
        quotas,
        (0..6_u8, 0..6_u8),
        reservation,
        any::<u64>(),
    )
        .prop_map(|(mut market, mut demands, (all, own), budget, quotas, (mode, other_mode), reservation, rescued)| {
            let limits = |(nodes, gpus, launches)| PoolLimits { gpus, nodes, launches };
            for (index, demand) in demands.iter_mut().enumerate() {
                demand.rescue = rescued >> (index % 64) & 3 == 3;
            }
            let mut settings = settings();
            for (spot, p, west, left) in quotas {
                let key = QuotaKey {
                    region: if west { "us-east-1" } else { "eu-south-2" }.into(),
                    family: if p { QuotaFamily::P } else { QuotaFamily::GAndVt },
                    capacity_type: if spot { CapacityType::Spot } else { CapacityType::OnDemand },
                };
                settings.quota_vcpus_left.insert(key, left);
            }
            let mut reserved = BTreeSet::new();
            if let Some((kind, left)) = reservation {
                let instance_type = ["g6.xlarge", "g6.12xlarge", "p5.48xlarge"][usize::from(kind)];
                let free = offer("us-east-1", "use1-az1", instance_type, CapacityType::Reserved, 0);
                settings.machines_left.insert(free.capacity.clone(), left);
                reserved.insert(free.capacity.clone());
                market.offers.insert(free.capacity.clone(), Offer { source: PriceSource::Reservation, observed_at: crate::NOW, ..free });
            }
            let policy = |name: &str, mode: u8| PoolPolicy {
                limits_left: limits(all),
                rescue_limits_left: limits(own),
                budget_left: budget.map(|dollars| MicroUsd(dollars * 1_000_000)),
                reserved: reserved.clone(),
                ..PoolPolicy::open(name, market.offers.keys().map(|p| p.zone.clone()).collect()).sharing(sharing(mode), Mebibytes(500))
            };
            let mut daemons = policy("second", other_mode);
            daemons.nodes.values_mut().for_each(|terms| {
                terms.daemonsets = Resources { cpu: Millicores(900), memory: Mebibytes(2_000), ..Resources::default() };
            });
            Drawn { pools: vec![policy("first", mode), daemons], settings, demands, market }
        })
}

proptest! {
    #![proptest_config(cases(200))]

    #[test]
    fn every_rule_holds_in_every_drawn_world(drawn in drawn_rules()) {
        placed(&drawn.market, &drawn.demands, &[], &drawn.pools, &drawn.settings);
    }

    #[test]
    fn no_rule_that_binds_others_makes_a_rescue_worse(drawn in drawn_rules()) {
        let rescued = |placement: &Placement| placement.assignments.iter().filter(|a| drawn.demands[a.demand].rescue).count();
        let before = placed(&drawn.market, &drawn.demands, &[], &drawn.pools, &drawn.settings);
        let mut broke = drawn.pools.clone();
        for pool in &mut broke {
            (pool.budget_left, pool.limits_left) = (Some(MicroUsd(0)), PoolLimits { gpus: Some(0), nodes: Some(0), launches: Some(0) });
        }
        let after = placed(&drawn.market, &drawn.demands, &[], &broke, &drawn.settings);
        // Gangs and spreads of rescues and others together may give up as a whole: they are drawn apart here.
        if drawn.demands.iter().all(|d| d.gang.is_none() && d.owner.is_none()) {
            prop_assert_eq!(rescued(&before), rescued(&after));
        }
    }
}

#[test]
fn an_old_date_is_no_age_of_a_price_that_a_file_gives() {
    let mut market = one_offer();
    market.offers.values_mut().for_each(|o| o.observed_at = Timestamp(0));
    assert_eq!(placed(&market, &pods("a", 1, &need(1, 8, 1_000, 4)), &[], &[open_pool(&market)], &settings()).machines.len(), 1);
}
