//! Services with spares: which pool the next replica goes to, by the serving policy.

use super::toy::*;
use crate::core::fleet::{NodePool, NoticeKind};
use crate::core::market::quota::{QuotaFamily, VcpuQuota};
use crate::core::market::{Capacity, CapacityType};
use crate::core::record::Outcome;
use crate::core::units::ids::Uid;
use crate::core::units::money::MicroUsdPerHour;
use crate::core::units::time::Millis;
use crate::core::workload::PodPhase;
use crate::core::workload::need::{Schedule, WorkloadKind};

fn spot_a() -> Capacity {
    capacity(SPOT_A.0, SPOT_A.1, CapacityType::Spot)
}

fn spot_b() -> Capacity {
    capacity(SPOT_B.0, SPOT_B.1, CapacityType::Spot)
}

/// A toy in which the second pool costs a tenth more than the first, and a Deployment with this number of replicas.
fn service(replicas: usize, change: impl Fn(&mut Schedule)) -> Toy {
    let mut toy = Toy::new();
    priced(&mut toy, 100_000);
    for _ in 0..replicas {
        let pod = toy.add_pod(deployment(), WorkloadKind::Inference);
        set(&mut toy, &pod, &change);
    }
    toy
}

fn priced(toy: &mut Toy, price: i64) {
    toy.world.market.offers.get_mut(&spot_b()).unwrap().price_per_hour = MicroUsdPerHour(price);
}

fn set(toy: &mut Toy, pod: &Uid, change: &impl Fn(&mut Schedule)) {
    if let Ok((_, schedule)) = &mut toy.world.pods.get_mut(pod).unwrap().need {
        change(schedule);
    }
}

fn one_spare(schedule: &mut Schedule) {
    schedule.spares = 1;
}

/// Machines in the first pool, in the second, and on on-demand.
fn held(toy: &Toy) -> (usize, usize, usize) {
    let running = toy.running();
    let count = |wanted: &dyn Fn(&Capacity) -> bool| running.iter().filter(|p| wanted(p)).count();
    (count(&|p| *p == spot_a()), count(&|p| *p == spot_b()), count(&|p| p.capacity_type == CapacityType::OnDemand))
}

#[test]
fn without_spares_replicas_stand_apart_where_that_is_nearly_free_and_the_decision_says_what_it_costs() {
    let mut toy = service(4, |_| {});
    toy.run(3);
    assert_eq!(held(&toy), (3, 1, 0), "a tenth more for one of four");
    let said = format!("spread: 1 of 4 replicas in {} g6; for the 4 bought now it costs $0.00", SPOT_B.1);
    assert!(toy.decisions().iter().any(|d| d.text.contains(&said) && d.text.contains("more than all in one capacity pool")), "{said}");
    // Nothing is moved together again for being cheaper, and what is lost comes back beside none of the others.
    toy.run(4 * 60);
    assert_eq!(held(&toy), (3, 1, 0));
    assert!(toy.removals.is_empty(), "{:?}", toy.removals);
    priced(&mut toy, 92_000);
    toy.add_pod(deployment(), WorkloadKind::Inference);
    toy.run(60);
    assert_eq!(held(&toy), (3, 2, 0));
}

#[test]
fn what_owner_or_pool_ask_about_a_spread_holds_instead() {
    let together = |change: &dyn Fn(&mut Toy), asks: &dyn Fn(&mut Schedule)| {
        let mut toy = service(4, asks);
        change(&mut toy);
        toy.run(3);
        held(&toy)
    };
    let pools = |toy: &mut Toy, change: &dyn Fn(&mut NodePool)| toy.world.pools.values_mut().for_each(change);
    let (nothing, none) = (|_: &mut Toy| {}, |_: &mut Schedule| {});
    assert_eq!(together(&|toy| priced(toy, 140_000), &none), (4, 0, 0), "half as much again is not nearly free");
    assert_eq!(together(&|toy| pools(toy, &|pool| pool.spread_most_extra_per_mille = 0), &none), (4, 0, 0), "switched off");
    assert_eq!(together(&|toy| pools(toy, &|pool| pool.spread_most_extra_per_mille = 50), &none), (4, 0, 0), "the pool pays less");
    assert_eq!(together(&nothing, &|asks| asks.max_share_per_mille = Some(1_000)), (4, 0, 0), "its owner allows all in one");
    assert_eq!(together(&|toy| pools(toy, &|pool| pool.max_share_per_mille = Some(1_000)), &none), (4, 0, 0), "so does the pool");
    assert_eq!(together(&nothing, &|asks| asks.max_share_per_mille = Some(500)), (2, 2, 0));
}

#[test]
fn what_returns_to_spot_stands_apart_too() {
    let mut toy = service(4, |_| {});
    priced(&mut toy, 92_000);
    toy.dry.extend([spot_a(), spot_b()]);
    toy.run(20 * 60);
    assert_eq!(held(&toy), (0, 0, 4), "no spot: on-demand after four refusals");
    toy.dry.clear();
    toy.run(60 * 60);
    let (cheap, apart, on_demand) = held(&toy);
    assert!(cheap >= 1 && apart >= 1 && on_demand == 0, "{cheap} and {apart} on spot, {on_demand} on on-demand");
}

#[test]
fn a_replica_that_cannot_be_bought_apart_is_bought_where_there_is_room() {
    let mut toy = service(10, |_| {});
    priced(&mut toy, 92_000);
    let one_machine = VcpuQuota { family: QuotaFamily::GAndVt, capacity_type: CapacityType::Spot, vcpus: 4 };
    toy.world.quotas.insert(SPOT_B.0.into(), vec![one_machine]);
    toy.run(3);
    let (cheap, apart, on_demand) = held(&toy);
    assert!(cheap + apart == 10 && on_demand == 0, "none of them waits: {cheap} and {apart}, {on_demand} on on-demand");
}

#[test]
fn spares_spread_the_replicas_and_every_decision_says_why() {
    let mut toy = service(4, one_spare);
    toy.run(3);
    assert_eq!(held(&toy), (2, 2, 0));
    let texts: Vec<String> = toy.decisions().iter().map(|d| d.text.to_string()).collect();
    for why in ["0 of 4 replicas stand in eus2-az3 g6", "spread: 1 of 4 replicas stand in eus2-az3 g6 already; 1 of 4 replicas are spares"]
    {
        assert!(texts.iter().any(|text| text.contains(why)), "{why}: {texts:#?}");
        assert!(toy.events.iter().any(|(reason, note)| *reason == "Placed" && note.contains(why)), "{why}: {:#?}", toy.events);
    }
    // Nothing is moved together again for being cheaper.
    toy.run(4 * 60);
    assert_eq!(held(&toy), (2, 2, 0));
    assert!(toy.removals.is_empty(), "{:?}", toy.removals);
}

#[test]
fn a_pool_that_is_half_as_dear_again_is_not_spread_to() {
    let mut toy = service(4, one_spare);
    priced(&mut toy, 140_000);
    toy.run(3);
    assert_eq!(held(&toy), (4, 0, 0));
}

#[test]
fn a_pool_without_room_is_passed_over_and_on_demand_is_bought_for_all_but_the_spare() {
    let mut toy = service(4, one_spare);
    toy.dry.insert(spot_b());
    toy.run(60);
    assert_eq!(held(&toy), (4, 0, 0));
    let mut toy = service(4, one_spare);
    toy.dry.extend([spot_a(), spot_b()]);
    toy.run(120);
    assert_eq!(held(&toy), (0, 0, 3));
    let gated: Vec<Uid> = toy.world.pods.values().filter(|p| p.phase == PodPhase::Gated).map(|p| p.identity.uid.clone()).collect();
    assert_eq!(gated.len(), 1, "the spare waits");
    assert!(toy.events.iter().any(|(reason, note)| *reason == "WaitingForSpot" && note.contains("a spare waits for spot")));
    assert!(toy.decisions().iter().any(|d| d.outcome == Outcome::Launch && d.text.contains("on-demand: spot has no pool")));
    // When spot has room again the spare takes it, and in time the others return, spread.
    toy.dry.clear();
    toy.run(12 * 60);
    assert_eq!(held(&toy), (2, 2, 0));
}

#[test]
fn where_spot_costs_more_than_on_demand_a_spare_does_not_wait_for_it() {
    let mut toy = service(4, one_spare);
    for spot in [spot_a(), spot_b()] {
        toy.world.market.offers.get_mut(&spot).unwrap().price_per_hour = MicroUsdPerHour(ON_DEMAND + 1);
    }
    toy.run(3);
    assert_eq!(held(&toy), (0, 0, 4));
}

#[test]
fn the_replacement_of_a_replica_that_ec2_takes_goes_where_the_fewest_are() {
    let mut toy = service(4, one_spare);
    toy.run(120);
    let doomed = toy.all_instances().into_iter().find(|i| i.capacity == spot_a()).unwrap().id;
    toy.notify(&doomed, NoticeKind::Interruption);
    toy.run(2);
    let second = toy.world.pods.values().find(|p| p.created_at > toy.now - Millis::from_secs(3)).unwrap().identity.uid.clone();
    set(&mut toy, &second, &one_spare);
    toy.run(2);
    let text = toy.decisions().last().unwrap().text.clone();
    assert!(text.contains("spread: 1 of 4 replicas stand in eus2-az3") || text.contains("2 of 4 replicas stand in use1-az4"), "{text}");
    assert_eq!(held(&toy).0 + held(&toy).1, 5, "the old machine and its replacement");
}

#[test]
fn a_goal_keeps_replicas_on_the_cheapest_until_its_budget_is_tight_and_leaves_spot_when_it_is_spent() {
    let goal = |schedule: &mut Schedule| (schedule.spares, schedule.availability_goal_ppm) = (1, Some(995_000));
    // 7.2 minutes a day; a loss is taken for the four minutes of a boot.
    for (short_minutes, expected) in [(0, (4, 0, 0)), (3, (4, 0, 0)), (4, (2, 2, 0)), (11, (0, 0, 3))] {
        let mut toy = service(4, goal);
        let first = toy.world.pods.values().next().unwrap().clone();
        let begun = toy.now - Millis::from_hours(3);
        for (at, ready) in [(begun, true), (begun, false), (begun + Millis::from_mins(short_minutes), true)] {
            let mut pods = std::collections::BTreeMap::from([(first.identity.uid.clone(), first.clone())]);
            pods.get_mut(&first.identity.uid).unwrap().ready_since = ready.then_some(at);
            if let Some(after) = toy.world.memory.services.after_look(&pods, &Default::default(), at) {
                toy.world.memory.services = after;
            }
        }
        toy.run(3);
        assert_eq!(held(&toy), expected, "{short_minutes} minutes short: {:?}", toy.decisions().last().map(|d| &d.text));
        let said = toy.decisions().iter().any(|d| d.text.contains("availability goal 99.5000 %"));
        assert_eq!(said, short_minutes >= 4);
    }
}

#[test]
fn shortfall_is_counted_from_pods_that_were_seen_and_kept_over_a_restart() {
    let mut toy = service(2, |schedule| (schedule.spares, schedule.availability_goal_ppm) = (1, Some(995_000)));
    let service = toy.world.pods.values().next().unwrap().workload.clone();
    let wanted = std::collections::BTreeMap::from([(Uid::from("dep-1"), 2)]);
    let look = |toy: &mut Toy, ready: usize, minute: i64| {
        let at = toy.now + Millis::from_mins(minute);
        for (n, pod) in toy.world.pods.values_mut().enumerate() {
            pod.ready_since = (n < ready).then_some(at);
        }
        let after = toy.world.memory.services.after_look(&toy.world.pods, &wanted, at);
        let changed = after.is_some();
        toy.world.memory.services = after.unwrap_or_else(|| toy.world.memory.services.clone());
        (changed, toy.world.memory.services.of(&service).map(|seen| seen.within(at, Millis::from_hours(24))))
    };
    for (ready, minute, changed, short) in [(0, 0, false, None), (2, 1, true, Some(0)), (1, 2, false, Some(0)), (0, 3, true, Some(0))] {
        assert_eq!(look(&mut toy, ready, minute), (changed, short.map(Millis::from_mins)), "at {minute}");
    }
    assert_eq!(look(&mut toy, 1, 7), (true, Some(Millis::from_mins(4))), "one of two is a spare");
    let now = toy.now + Millis::from_mins(8);
    let kept = crate::core::snapshot::memory::MarketMemory::from_text(&toy.world.memory.to_text(now), now).unwrap();
    assert_eq!(kept.services, toy.world.memory.services);
}
