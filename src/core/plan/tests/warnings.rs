//! Rebalance recommendations: what they close, what they move and what is learnt of them.

use super::toy::*;
use crate::core::fleet::{Claim, NoticeKind, Trigger, Warning};
use crate::core::market::{Capacity, CapacityType};
use crate::core::snapshot::memory::{Sighting, Warnings};
use crate::core::units::ids::{InstanceId, Uid};
use crate::core::units::time::Millis;
use crate::core::workload::need::WorkloadKind;

fn spot_a() -> Capacity {
    capacity(SPOT_A.0, SPOT_A.1, CapacityType::Spot)
}

/// Replicas of one service that all run in the cheapest pool, their machines old enough for anything.
fn service(replicas: usize) -> Toy {
    let mut toy = Toy::new();
    toy.world.pools.values_mut().for_each(|pool| pool.spread_most_extra_per_mille = 0);
    (0..replicas).for_each(|_| drop(toy.add_pod(deployment(), WorkloadKind::Inference)));
    toy.run(180);
    assert_eq!(toy.running(), vec![spot_a(); replicas]);
    toy
}

fn warn_all(toy: &mut Toy) {
    let ids: Vec<InstanceId> = toy.world.claims.values().filter_map(|c| c.status.instance.clone()).collect();
    ids.iter().for_each(|id| toy.notify(id, NoticeKind::Rebalance));
}

fn leaving(toy: &Toy) -> usize {
    let leaves = |c: &&Claim| c.status.moving.as_ref().is_some_and(|mark| mark.trigger == Trigger::RebalanceRecommendation);
    toy.world.claims.values().filter(leaves).filter(|c| c.status.ended.is_none()).count()
}

fn learn(toy: &mut Toy, warning: Warning, times: usize) {
    let now = toy.now;
    (0..times).for_each(|_| toy.world.memory.record(&spot_a(), Sighting::Warned(warning), now));
}

#[test]
fn work_that_is_called_at_risk_moves_and_not_to_the_capacity_that_was_warned_of() {
    let mut toy = service(1);
    warn_all(&mut toy);
    toy.run(240);
    assert!(!toy.running().is_empty() && !toy.running().contains(&spot_a()), "{:?}", toy.running());
    let text = "EC2 says it is at risk; what comes of warnings here is not known yet; leaving for nothing is expected to cost $0.00";
    assert!(toy.decisions().iter().any(|d| d.trigger == Trigger::RebalanceRecommendation && d.text.contains(text)), "{text}");
    // Nor is it bought for anybody else for a quarter of an hour.
    let _pod: Uid = toy.add_pod(deployment(), WorkloadKind::Inference);
    toy.run(120);
    assert!(!toy.running().contains(&spot_a()), "{:?}", toy.running());
}

#[test]
fn many_that_are_warned_of_at_once_leave_one_after_the_other() {
    let mut toy = service(4);
    warn_all(&mut toy);
    let mut left = 0;
    for _ in 0..900 {
        toy.run(1);
        assert!(leaving(&toy) <= 1, "{} leave at once", leaving(&toy));
        left = left.max(toy.running().iter().filter(|at| **at != spot_a()).count());
    }
    assert!(left >= 2, "{left} have left in a quarter of an hour");
}

#[test]
fn warnings_that_mean_nothing_move_nothing_and_are_over_after_an_hour() {
    let mut toy = service(4);
    learn(&mut toy, Warning::Over, 60);
    warn_all(&mut toy);
    toy.run(5 * 60);
    assert_eq!((toy.running(), leaving(&toy)), (vec![spot_a(); 4], 0));
    let said = "0 of 60 such warnings here were followed by a notice; leaving for nothing";
    let notes: Vec<&String> =
        toy.events.iter().filter(|(reason, note)| *reason == "AtRisk" && note.contains(said)).map(|(_, n)| n).collect();
    assert_eq!(notes.len(), 4, "said once of each machine: {:?}", toy.events);
    toy.run(60 * 60);
    assert!(toy.world.claims.values().all(|c| c.status.interruption.is_none()), "the machines take work again");
    assert_eq!(toy.world.memory.warnings(&spot_a()), Warnings { given: 64, followed: 0 });
}

#[test]
fn a_notice_after_a_warning_is_learnt_and_moves_the_work_at_once() {
    let mut toy = service(1);
    learn(&mut toy, Warning::Over, 60);
    warn_all(&mut toy);
    toy.run(60);
    let id = toy.world.claims.values().find_map(|c| c.status.instance.clone()).unwrap();
    toy.notify(&id, NoticeKind::Interruption);
    toy.run(2);
    let claim = toy.world.claims.values().find(|c| c.status.instance.as_ref() == Some(&id)).unwrap();
    assert_eq!(claim.status.moving.as_ref().map(|mark| mark.trigger), Some(Trigger::InterruptionNotice));
    assert_eq!(toy.world.memory.warnings(&spot_a()), Warnings { given: 61, followed: 1 });
}

#[test]
fn a_job_leaves_early_only_if_its_checkpoint_takes_longer_than_a_notice_lasts() {
    for (grace, leaves) in [(Millis::from_secs(60), 0), (Millis::from_mins(6), 1)] {
        let mut toy = Toy::new();
        let pod = toy.add_pod(job(), WorkloadKind::Batch);
        if let Ok((_, schedule)) = &mut toy.world.pods.get_mut(&pod).unwrap().need {
            schedule.checkpoint_grace = Some(grace);
        }
        toy.run(180);
        warn_all(&mut toy);
        toy.run(2);
        assert_eq!(leaving(&toy), leaves, "{grace}");
    }
}
