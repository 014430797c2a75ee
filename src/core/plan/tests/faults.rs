//! Bad input: each has a sentence where its author looks, and stops nothing else.

use super::toy::*;
use crate::core::action::{Action, ClusterAction, EventSubject};
use crate::core::fleet::ClassProblem;
use crate::core::plan::plan;
use crate::core::record::Outcome;
use crate::core::units::ids::ClassName;
use crate::core::units::money::MicroUsdPerHour;
use crate::core::units::time::Millis;
use crate::core::workload::PodPhase;
use crate::core::workload::need::WorkloadKind;

/// A second pod without fault is placed all the same.
fn others_go_on(toy: &mut Toy) {
    let good = toy.add_pod(deployment(), WorkloadKind::Inference);
    toy.run(150);
    assert_eq!(toy.world.pods[&good].phase, PodPhase::Running, "a fault elsewhere held up a good pod");
}

fn said(toy: &Toy, reason: &str) -> Vec<String> {
    toy.events.iter().filter(|(r, _)| *r == reason).map(|(_, note)| note.clone()).collect()
}

#[test]
fn a_need_that_cannot_be_read_is_reported_on_the_pod_once() {
    let mut toy = Toy::new();
    let pod = toy.add_pod(deployment(), WorkloadKind::Inference);
    let fault = "lowtide.dev/gpu-models names l5, which no machine has; known: a10g, l4".to_owned();
    toy.world.pods.get_mut(&pod).unwrap().need = Err(vec![fault.clone()]);
    toy.run(30);
    let notes = said(&toy, "BadNeed");
    assert!(notes.len() == 1 && notes[0].contains(&fault), "{notes:?}");
    others_go_on(&mut toy);
}

#[test]
fn a_cap_below_every_offer_says_how_many_offers_it_ruled_out() {
    let mut toy = Toy::new();
    let pod = toy.add_pod(deployment(), WorkloadKind::Inference);
    if let Ok((need, _)) = &mut toy.world.pods.get_mut(&pod).unwrap().need {
        need.max_price_per_gpu_hour = Some(MicroUsdPerHour(1_000));
    }
    toy.run(30);
    let notes = said(&toy, "Unplaceable");
    assert!(notes.len() == 1 && notes[0].contains("4 above the owner's price cap"), "{notes:?}");
    assert_eq!(toy.decisions().iter().filter(|d| d.outcome == Outcome::Refuse).count(), 1);
    others_go_on(&mut toy);
}

#[test]
fn a_region_that_no_class_serves_says_so() {
    let mut toy = Toy::new();
    let pod = toy.add_pod(deployment(), WorkloadKind::Inference);
    if let Ok((need, _)) = &mut toy.world.pods.get_mut(&pod).unwrap().need {
        need.regions = vec!["ap-*".to_owned()];
    }
    toy.run(30);
    assert!(said(&toy, "Unplaceable")[0].contains("4 region not allowed"), "{:?}", said(&toy, "Unplaceable"));
    others_go_on(&mut toy);
}

#[test]
fn a_pool_without_a_usable_class_shows_why_and_its_pods_learn_it() {
    let mut toy = Toy::new();
    toy.world.pools.values_mut().for_each(|p| p.classes = vec![ClassName::from("not-there")]);
    toy.add_pod(deployment(), WorkloadKind::Inference);
    toy.run(5);
    let status = toy.world.pool_statuses.values().next().unwrap().ready.clone().unwrap_err();
    assert!(status.0 == "NodeClassNotFound" && status.1.contains("not-there"), "{status:?}");
    assert!(said(&toy, "Unplaceable")[0].contains("4 no node class for its zone"), "{:?}", toy.events);
    toy.world.pools.values_mut().for_each(|p| p.classes.clear());
    toy.run(5);
    assert_eq!(toy.world.pool_statuses.values().next().unwrap().ready.clone().unwrap_err().0, "NoNodeClass");
}

#[test]
fn a_class_with_an_unknown_subnet_is_prepared_again_and_holds_up_no_other() {
    let mut toy = Toy::new();
    let bad = ClassName::from(format!("class-{}", SPOT_A.0));
    let class = toy.world.classes.get_mut(&bad).unwrap();
    (class.problem, class.launch_template) =
        (Some(ClassProblem { reason: "UnknownSubnet".into(), text: "subnet-x does not exist".into() }), None);
    class.zones.clear();
    let steps = plan(&toy.settings, &toy.world, toy.now).steps;
    let asked = |a: &Action| matches!(a, Action::PrepareClass { class, .. } if *class == bad);
    assert!(steps.iter().flat_map(|s| &s.actions).any(asked), "somebody may have made the subnet meanwhile");
    others_go_on(&mut toy);
    assert_eq!(toy.running(), vec![capacity(SPOT_B.0, SPOT_B.1, crate::core::market::CapacityType::Spot)]);
}

#[test]
fn a_namespace_that_no_pool_allows_learns_which_pools_there_are() {
    let mut toy = Toy::new();
    let pod = toy.add_pod(deployment(), WorkloadKind::Inference);
    toy.world.pods.get_mut(&pod).unwrap().identity.object.namespace = "elsewhere".into();
    toy.run(10);
    assert!(said(&toy, "NoNodePool")[0].contains("known: gpu"));
    others_go_on(&mut toy);
}

#[test]
fn an_event_about_a_pod_names_that_pod() {
    let mut toy = Toy::new();
    let pod = toy.add_pod(deployment(), WorkloadKind::Inference);
    toy.now = toy.now + crate::core::units::time::Millis::from_secs(1);
    toy.world.market.offers.values_mut().for_each(|o| o.observed_at = toy.now);
    let steps = plan(&toy.settings, &toy.world, toy.now).steps;
    let about = steps.iter().flat_map(|s| &s.actions).find_map(|a| match a {
        Action::Cluster(ClusterAction::Emit(event)) => Some(event.subject.clone()),
        _ => None,
    });
    assert_eq!(about, Some(EventSubject::Pod(toy.world.pods[&pod].identity.clone())));
}

#[test]
fn two_operators_that_refuse_a_pod_in_one_moment_by_other_prices_take_two_decisions() {
    let mut toy = Toy::new();
    let pod = toy.add_pod(deployment(), WorkloadKind::Inference);
    if let Ok((need, _)) = &mut toy.world.pods.get_mut(&pod).unwrap().need {
        need.max_price_per_gpu_hour = Some(MicroUsdPerHour(1_000));
    }
    let refused = |toy: &Toy| {
        let planned = plan(&toy.settings, &toy.world, toy.now);
        planned.steps.iter().flat_map(|step| &step.records).map(|record| record.id()).collect::<Vec<_>>()
    };
    let first = refused(&toy);
    assert_eq!((first.len(), refused(&toy)), (1, first.clone()), "the same prices, the same decision");
    for offer in toy.world.market.offers.values_mut() {
        offer.observed_at = offer.observed_at - Millis(1);
    }
    assert_ne!(refused(&toy), first);
}
