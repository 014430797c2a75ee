//! Gates of Jobs: two pods of one Job never run at once.

use super::toy::*;
use crate::core::units::ids::Uid;
use crate::core::units::time::Millis;
use crate::core::workload::PodPhase;
use crate::core::workload::need::WorkloadKind;

/// A Job's pod that runs, is then asked to stop, and takes ten minutes for it; and the pod that the Job makes meanwhile, which names no
/// predecessor: nobody moved it.
fn stopping_and_new(toy: &mut Toy) -> (Uid, Uid) {
    let first = toy.add_pod(job(), WorkloadKind::Batch);
    toy.run(150);
    assert_eq!(toy.world.pods[&first].phase, PodPhase::Running);
    let until = toy.now + Millis::from_mins(10);
    toy.world.pods.get_mut(&first).unwrap().deleting_until = Some(until);
    (first, toy.add_pod(job(), WorkloadKind::Batch))
}

#[test]
fn the_gate_of_a_jobs_next_pod_stays_until_the_one_that_is_asked_to_stop_has_stopped() {
    let mut toy = Toy::new();
    let (first, second) = stopping_and_new(&mut toy);
    toy.run(9 * 60);
    assert!(toy.world.pods.contains_key(&first));
    let waiting = &toy.world.pods[&second];
    assert!(waiting.phase == PodPhase::Gated && waiting.claim.is_some(), "it has its machine and waits: {waiting:?}");
    toy.run(2 * 60);
    assert_eq!(toy.world.pods[&second].phase, PodPhase::Running);
}

#[test]
fn pods_of_another_job_do_not_wait_for_it() {
    let mut toy = Toy::new();
    let (_, second) = stopping_and_new(&mut toy);
    let other = crate::core::workload::Mobility::Job { job: "other".into(), job_uid: "job-2".into() };
    toy.world.pods.get_mut(&second).unwrap().mobility = other.into();
    toy.run(5 * 60);
    assert_eq!(toy.world.pods[&second].phase, PodPhase::Running);
}
