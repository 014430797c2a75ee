//! The loops of the mission, one test each.

use super::toy::*;
use crate::core::action::RemovalReason;
use crate::core::fleet::{EndedBy, NoticeKind, Trigger};
use crate::core::market::CapacityType;
use crate::core::record::{LedgerRecord, Outcome};
use crate::core::snapshot::Lane;
use crate::core::units::ids::Uid;
use crate::core::units::time::Millis;
use crate::core::workload::PodPhase;
use crate::core::workload::need::WorkloadKind;

fn spot_a() -> crate::core::market::Capacity {
    capacity(SPOT_A.0, SPOT_A.1, CapacityType::Spot)
}

fn spot_b() -> crate::core::market::Capacity {
    capacity(SPOT_B.0, SPOT_B.1, CapacityType::Spot)
}

fn phases(toy: &Toy) -> Vec<PodPhase> {
    toy.world.pods.values().map(|p| p.phase).collect()
}

#[test]
fn a_gated_pod_lands_on_the_cheapest_offer_and_the_reason_is_recorded() {
    let mut toy = Toy::new();
    toy.add_pod(deployment(), WorkloadKind::Inference);
    toy.run(120);
    assert_eq!(toy.running(), vec![spot_a()]);
    assert_eq!(phases(&toy), vec![PodPhase::Running]);
    let decisions = toy.decisions();
    assert_eq!(decisions.len(), 1, "{decisions:#?}");
    assert_eq!((decisions[0].outcome, decisions[0].trigger), (Outcome::Launch, Trigger::PendingPod));
    assert_eq!(decisions[0].judgement.chosen.as_ref().map(|c| c.capacity.clone()), Some(spot_a()));
    let b1 = decisions[0].counterfactuals.b1_on_demand_home.as_ref().map(|b| b.price_per_hour.0);
    assert_eq!(b1, Some(ON_DEMAND));
    assert!(toy.events.iter().any(|(reason, note)| *reason == "Placed" && note.contains("beat")), "{:?}", toy.events);
    let opened = toy.ledger.iter().filter(|r| matches!(r, LedgerRecord::OccupancyOpened(_) | LedgerRecord::IntervalOpened(_))).count();
    assert_eq!(opened, 2);
}

#[test]
fn a_served_pod_is_replaced_before_it_goes() {
    let mut toy = Toy::new();
    let old = toy.add_pod(deployment(), WorkloadKind::Inference);
    toy.run(120);
    let doomed = toy.all_instances()[0].id.clone();
    toy.notify(&doomed, NoticeKind::Interruption);
    toy.notify(&doomed, NoticeKind::Interruption);
    for _ in 0..110 {
        toy.run(1);
        let serving = toy.world.pods.values().filter(|p| p.ready_since.is_some() && p.deleting_until.is_none()).count();
        assert!(serving >= 1, "nobody served at {}", toy.now);
    }
    assert!(!toy.world.pods.contains_key(&old), "the old pod is still there");
    assert_eq!(toy.removals, vec![("pod-001".to_owned(), RemovalReason::Replaced)]);
    assert!(toy.world.notices.is_empty());
    let moved = toy.ledger.iter().filter(|r| matches!(r, LedgerRecord::Migration(_))).count();
    assert_eq!(moved, 1);
    toy.end_instance(&doomed, "Server.SpotInstanceTermination");
    toy.run(5);
    let ended: Vec<EndedBy> =
        toy.ledger.iter().filter_map(|r| if let LedgerRecord::IntervalClosed(c) = r { Some(c.ended_by) } else { None }).collect();
    assert_eq!(ended, vec![EndedBy::Ec2Interruption]);
    assert_eq!(toy.world.claims.len(), 1);
}

#[test]
fn without_a_queue_the_spot_request_still_rescues() {
    let mut toy = Toy::new();
    toy.add_pod(deployment(), WorkloadKind::Inference);
    toy.run(120);
    let now = toy.now;
    for observed in toy.world.instances.values_mut() {
        if let crate::core::snapshot::Observed::Known { value, .. } = observed {
            value.values_mut().for_each(|i| i.spot_request_status = Some(Box::new(("instance-terminated-no-capacity".to_owned(), now))));
        }
    }
    toy.run(3);
    let triggers: Vec<Trigger> = toy.decisions().iter().map(|d| d.trigger).collect();
    assert!(triggers.contains(&Trigger::InterruptionNotice), "{triggers:?}");
}

#[test]
fn a_job_checkpoints_before_its_replacement_starts() {
    let mut toy = Toy::new();
    let old = toy.add_pod(job(), WorkloadKind::Batch);
    toy.run(120);
    let doomed = toy.all_instances()[0].id.clone();
    toy.notify(&doomed, NoticeKind::Interruption);
    for _ in 0..120 {
        toy.run(1);
        let running = toy.world.pods.values().filter(|p| p.phase == PodPhase::Running || p.phase == PodPhase::Pending).count();
        assert!(running <= 1, "two pods of one Job at {}", toy.now);
    }
    assert!(!toy.world.pods.contains_key(&old));
    assert_eq!(phases(&toy), vec![PodPhase::Running]);
    assert_eq!(toy.removals, vec![("pod-001".to_owned(), RemovalReason::Interruption)]);
}

#[test]
fn no_capacity_goes_to_the_next_offer_then_to_on_demand_and_back() {
    let mut toy = Toy::new();
    toy.dry.extend([spot_a(), spot_b()]);
    toy.add_pod(deployment(), WorkloadKind::Inference);
    toy.run(200);
    assert_eq!(toy.running().iter().map(|p| p.capacity_type).collect::<Vec<_>>(), vec![CapacityType::OnDemand]);
    let refused: Vec<&str> = toy.events.iter().filter(|(r, _)| *r == "LaunchRefused").map(|(_, n)| n.as_str()).collect();
    assert_eq!(refused.len(), 2, "{refused:?}");
    toy.run(800);
    assert_eq!(toy.running().len(), 1, "while spot is dry nothing is bought beside the on-demand machine");
    assert!(toy.removals.is_empty(), "and nobody is moved");
    toy.dry.clear();
    toy.run(3_700);
    assert_eq!(toy.running(), vec![spot_a()]);
    assert!(toy.decisions().iter().any(|d| d.trigger == Trigger::ReturnToSpot));
}

#[test]
fn after_four_refusals_a_pod_takes_on_demand_and_still_returns_to_spot() {
    let mut toy = Toy::new();
    toy.settings.fall_back_after = 1;
    toy.dry.extend([spot_a(), spot_b()]);
    toy.add_pod(deployment(), WorkloadKind::Inference);
    toy.run(120);
    assert_eq!(toy.running().iter().map(|p| p.capacity_type).collect::<Vec<_>>(), vec![CapacityType::OnDemand]);
    assert_eq!(toy.events.iter().filter(|(r, _)| *r == "LaunchRefused").count(), 1);
    toy.dry.clear();
    toy.run(1_000);
    assert_eq!(toy.running().iter().map(|p| p.capacity_type).collect::<Vec<_>>(), vec![CapacityType::Spot]);
}

#[test]
fn voluntary_moves_wait_for_the_ledger_and_for_hysteresis() {
    let mut toy = Toy::new();
    toy.add_pod(deployment(), WorkloadKind::Inference);
    toy.run(60);
    let offer = toy.world.market.offers.get_mut(&spot_a()).unwrap();
    offer.price_per_hour.0 = SPOT_B.2 * 110 / 100;
    toy.run(600);
    assert_eq!(toy.running(), vec![spot_a()], "10 % is within hysteresis");
    toy.world.ledger_available = false;
    toy.world.market.offers.get_mut(&spot_a()).unwrap().price_per_hour.0 = SPOT_B.2 * 2;
    toy.run(300);
    assert_eq!(toy.running(), vec![spot_a()], "the ledger is away");
    toy.world.ledger_available = true;
    toy.run(600);
    assert_eq!(toy.running(), vec![spot_b()]);
}

#[test]
fn a_crash_between_asked_and_recorded_buys_nothing_twice() {
    let mut toy = Toy::new();
    toy.add_pod(deployment(), WorkloadKind::Inference);
    toy.run(2);
    for claim in toy.world.claims.values_mut() {
        assert!(claim.status.instance.is_some());
        (claim.status.instance, claim.status.launched_at) = (None, None);
    }
    toy.run(120);
    assert_eq!(toy.all_instances().len(), 1);
    assert_eq!(phases(&toy), vec![PodPhase::Running]);
}

#[test]
fn an_empty_machine_ends_after_its_grace_and_its_books_are_closed() {
    let mut toy = Toy::new();
    let pod = toy.add_pod(deployment(), WorkloadKind::Inference);
    toy.run(120);
    toy.world.pods.remove(&pod);
    toy.run(20);
    assert_eq!(toy.running().len(), 1, "the grace is 30 s");
    toy.run(30);
    assert_eq!((toy.running().len(), toy.world.claims.len(), toy.world.nodes.len()), (0, 0, 0));
    let closed = toy.ledger.iter().filter(|r| matches!(r, LedgerRecord::IntervalClosed(_) | LedgerRecord::OccupancyClosed(_))).count();
    assert_eq!(closed, 2);
}

#[test]
fn a_machine_that_never_joins_is_ended_and_its_pool_left_alone() {
    let mut toy = Toy::new();
    toy.duds.insert(spot_a());
    toy.add_pod(deployment(), WorkloadKind::Inference);
    toy.run(340);
    assert_eq!(toy.running(), vec![spot_b()]);
    assert!(toy.decisions().iter().any(|d| d.trigger == Trigger::NeverJoined && d.outcome == Outcome::Terminate));
    assert_eq!(phases(&toy), vec![PodPhase::Running]);
}

#[test]
fn a_need_that_nothing_meets_says_which_need_ruled_out_how_many_once() {
    let mut toy = Toy::new();
    let pod = toy.add_pod(deployment(), WorkloadKind::Inference);
    if let Ok((need, _)) = &mut toy.world.pods.get_mut(&pod).unwrap().need {
        need.gpu_memory.0 = 1_000_000;
    }
    toy.run(30);
    let said: Vec<&str> = toy.events.iter().filter(|(r, _)| *r == "Unplaceable").map(|(_, n)| n.as_str()).collect();
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].contains("4 too little GPU memory"), "{said:?}");
    assert_eq!(toy.decisions().iter().filter(|d| d.outcome == Outcome::Refuse).count(), 1);
}

#[test]
fn deleting_a_pool_drains_its_machines_and_buys_nothing() {
    let mut toy = Toy::new();
    toy.add_pod(deployment(), WorkloadKind::Inference);
    toy.run(120);
    toy.world.pools.values_mut().for_each(|p| p.deleting = true);
    toy.run(60);
    assert!(toy.decisions().iter().any(|d| d.trigger == Trigger::Deleted && d.outcome == Outcome::Migrate));
    assert_eq!(toy.all_instances().len(), 1, "nothing new is bought for a pool that is being deleted");
}

#[test]
fn a_notice_for_a_stranger_is_dropped_and_said() {
    let mut toy = Toy::new();
    toy.add_pod(deployment(), WorkloadKind::Inference);
    toy.run(120);
    let ours = toy.all_instances()[0].id.clone();
    toy.notify(&ours, NoticeKind::Interruption);
    toy.world.notices[0].notice.instance = "i-stranger".into();
    toy.run(2);
    assert!(toy.world.notices.is_empty());
    assert!(toy.world.claims.values().all(|c| c.status.interruption.is_none()));
}

#[test]
fn an_instance_that_vanishes_without_notice_is_recorded_and_its_pods_are_remade() {
    let mut toy = Toy::new();
    toy.add_pod(deployment(), WorkloadKind::Inference);
    toy.run(120);
    let id = toy.all_instances()[0].id.clone();
    toy.end_instance(&id, "Server.InternalError");
    toy.run(10);
    assert!(toy.decisions().iter().any(|d| d.trigger == Trigger::InstanceLost));
    assert_eq!(toy.removals.iter().map(|(_, r)| *r).collect::<Vec<_>>(), vec![RemovalReason::InstanceLost]);
    assert!(toy.world.claims.is_empty());
}

#[test]
fn an_empty_machine_draws_no_work_from_a_busy_one() {
    let mut toy = Toy::new();
    let first = toy.add_pod(deployment(), WorkloadKind::Inference);
    toy.run(2);
    toy.add_pod(deployment(), WorkloadKind::Inference);
    toy.run(300);
    assert_eq!(toy.running().len(), 2);
    toy.world.pods.remove(&first);
    toy.run(100);
    assert_eq!(toy.running().len(), 1);
    assert!(toy.removals.is_empty(), "nobody is moved onto a machine that is ending: {:?}", toy.removals);
}

#[test]
fn two_pods_of_one_deployment_that_move_at_once_each_get_their_own_replacement() {
    let mut toy = Toy::new();
    let old = [toy.add_pod(deployment(), WorkloadKind::Inference), toy.add_pod(deployment(), WorkloadKind::Inference)];
    toy.run(150);
    for instance in toy.all_instances() {
        toy.notify(&instance.id, NoticeKind::Interruption);
    }
    toy.run(110);
    let replaced: std::collections::BTreeSet<_> = toy.world.pods.values().filter_map(|p| p.replaces.clone()).map(|r| r.pod.uid).collect();
    assert_eq!(replaced, old.iter().cloned().collect());
    assert!(old.iter().all(|uid| !toy.world.pods.contains_key(uid)), "an old pod was left behind");
}

/// A process ends between the purchase and the binding, and another replacement waits by the time the first is bound: it had taken the first one's place.
#[test]
fn whom_a_pod_replaces_is_decided_when_its_machine_is_bought() {
    let mut toy = Toy::new();
    let old = [toy.add_pod(deployment(), WorkloadKind::Inference), toy.add_pod(deployment(), WorkloadKind::Inference)];
    toy.run(150);
    let instance_of = |toy: &Toy, pod: &Uid| {
        let claim = toy.world.pods[pod].claim.clone().unwrap();
        toy.world.claims[&claim].status.instance.clone().unwrap()
    };
    let doomed = old.clone().map(|pod| instance_of(&toy, &pod));
    assert_ne!(doomed[0], doomed[1]);
    let new_beside = |toy: &Toy, known: &[Uid]| {
        let new = toy.world.pods.values().find(|p| p.claim.is_some() && !known.contains(&p.identity.uid));
        new.map(|p| (p.identity.uid.clone(), p.replaces.clone().unwrap().pod.uid))
    };
    let next = |toy: &mut Toy, known: &[Uid]| {
        (0..30).find_map(|_| {
            toy.run(1);
            new_beside(toy, known)
        })
    };
    toy.notify(&doomed[0], NoticeKind::Interruption);
    let (first, replaced) = next(&mut toy, &old).unwrap();
    assert_eq!(replaced, old[0]);
    let pod = toy.world.pods.get_mut(&first).unwrap();
    (pod.claim, pod.replaces) = (None, None);
    toy.world.in_flight.insert(Lane::Pod(first.clone()));
    toy.notify(&doomed[1], NoticeKind::Interruption);
    let (_, replaced) = next(&mut toy, &[old[0].clone(), old[1].clone(), first.clone()]).unwrap();
    assert_eq!(replaced, old[1], "the first is promised");
    toy.world.in_flight.clear();
    toy.run(1);
    assert_eq!(toy.world.pods[&first].replaces.as_ref().map(|r| &r.pod.uid), Some(&old[0]));
}

#[test]
fn a_pod_let_go_ends_when_its_deployment_is_scaled_down_meanwhile() {
    let mut toy = Toy::new();
    toy.add_pod(deployment(), WorkloadKind::Inference);
    toy.run(120);
    toy.world.pools.values_mut().for_each(|p| p.expire_after = Some(Millis::from_secs(130)));
    toy.run(30);
    let made: Vec<_> = toy.world.pods.values().filter(|p| p.let_go.is_none()).map(|p| p.identity.uid.clone()).collect();
    assert_eq!(made.len(), 1, "a replacement was made");
    made.iter().for_each(|uid| drop(toy.world.pods.remove(uid)));
    toy.run(150);
    assert!(toy.world.pods.is_empty(), "the old pod outlived its Deployment's wish");
    assert_eq!(toy.running(), vec![]);
}
