//! When on-demand is bought for work that asks for spot first, and when it is not.

use super::toy::*;
use crate::core::fleet::NodePool;
use crate::core::market::{Capacity, CapacityType};
use crate::core::record::{Outcome, Refusal};
use crate::core::units::time::Millis;
use crate::core::workload::PodPhase;
use crate::core::workload::need::{CapacityPreference, WorkloadKind};

/// A world whose spot has run out, under a pool of this kind.
fn without_spot(change: impl Fn(&mut NodePool)) -> Toy {
    let mut toy = Toy::new();
    toy.world.pools.values_mut().for_each(change);
    toy.dry = all_spot();
    toy
}

fn all_spot() -> std::collections::BTreeSet<Capacity> {
    [SPOT_A, SPOT_B].map(|(region, zone, _)| capacity(region, zone, CapacityType::Spot)).into()
}

fn claimed(toy: &Toy) -> Vec<CapacityType> {
    toy.world.claims.values().map(|claim| claim.spec.capacity.capacity_type).collect()
}

#[test]
fn a_pool_that_does_not_fall_back_buys_no_on_demand_for_work_that_asks_for_spot_first() {
    let mut toy = without_spot(|pool| pool.fallback_on_demand = false);
    let waits = toy.add_pod(deployment(), WorkloadKind::Inference);
    // Long enough for every spot pool to refuse more often than an on-demand launch would wait for.
    for _ in 0..45 {
        toy.run(20);
        assert!(!claimed(&toy).contains(&CapacityType::OnDemand), "on-demand was bought at {}", toy.now);
    }
    assert_eq!(toy.world.pods[&waits].phase, PodPhase::Gated);
    assert!(toy.world.pods[&waits].attempt >= toy.settings.fall_back_after, "it has been refused often enough to fall back");
    let refused = toy.decisions().into_iter().rfind(|d| d.outcome == Outcome::Refuse).unwrap();
    assert_eq!(refused.judgement.refused.get(&Refusal::NoFallback), Some(&2), "{}", refused.text);
    assert!(refused.text.contains("2 on-demand, which the pool does not fall back to"), "{}", refused.text);
    // Spot comes back, and is taken.
    toy.dry.clear();
    toy.run(500);
    assert_eq!((toy.world.pods[&waits].phase, claimed(&toy)), (PodPhase::Running, vec![CapacityType::Spot]));
}

#[test]
fn work_that_asks_for_on_demand_gets_it_from_a_pool_that_does_not_fall_back() {
    let mut toy = without_spot(|pool| pool.fallback_on_demand = false);
    let pod = toy.add_pod(deployment(), WorkloadKind::Inference);
    toy.world.pods.get_mut(&pod).unwrap().need.as_mut().unwrap().0.capacity = CapacityPreference::OnDemand;
    toy.run(120);
    assert_eq!((toy.world.pods[&pod].phase, claimed(&toy)), (PodPhase::Running, vec![CapacityType::OnDemand]));
}

#[test]
fn a_pool_that_sells_spot_alone_goes_on_trying_spot() {
    let mut toy = without_spot(|pool| pool.capacity_types = [CapacityType::Spot].into());
    let pod = toy.add_pod(deployment(), WorkloadKind::Inference);
    toy.run(900);
    assert!(toy.world.pods[&pod].attempt >= toy.settings.fall_back_after);
    toy.dry.clear();
    toy.run(500);
    assert_eq!((toy.world.pods[&pod].phase, claimed(&toy)), (PodPhase::Running, vec![CapacityType::Spot]));
}

#[test]
fn of_two_pools_the_one_that_falls_back_buys_the_on_demand() {
    let mut toy = without_spot(|pool| pool.fallback_on_demand = false);
    let second = NodePool { name: "second".into(), fallback_on_demand: true, ..pool(toy.world.classes.keys().cloned().collect()) };
    toy.world.pools.insert(second.name.clone(), second);
    let pod = toy.add_pod(deployment(), WorkloadKind::Inference);
    toy.run(400);
    assert_eq!(toy.world.pods[&pod].phase, PodPhase::Running);
    let pools: Vec<String> = toy.world.claims.values().map(|claim| claim.spec.node_pool.to_string()).collect();
    assert_eq!((claimed(&toy), pools), (vec![CapacityType::OnDemand], vec!["second".to_owned()]));
}

#[test]
fn a_deadline_does_not_buy_what_the_pool_forbids() {
    let mut toy = without_spot(|pool| pool.fallback_on_demand = false);
    let pod = toy.add_pod(job(), WorkloadKind::Batch);
    let schedule = &mut toy.world.pods.get_mut(&pod).unwrap().need.as_mut().unwrap().1;
    schedule.deadline = Some(crate::core::workload::need::Deadline::At(toy.now + Millis::from_mins(70)));
    schedule.expected_runtime = Some(Millis::from_mins(60));
    toy.run(900);
    assert_eq!((toy.world.pods[&pod].phase, claimed(&toy).contains(&CapacityType::OnDemand)), (PodPhase::Gated, false));
}
