//! A quota or a policy that keeps a replacement from being made is seen before a pod is let go or asked to end.

use super::toy::*;
use crate::core::action::{Action, ClusterAction, RemovalReason};
use crate::core::fleet::NoticeKind;
use crate::core::market::CapacityType;
use crate::core::plan::plan;
use crate::core::units::time::Millis;
use crate::core::workload::Mobility;
use crate::core::workload::need::WorkloadKind;

fn expire(toy: &mut Toy) {
    toy.world.pools.values_mut().for_each(|p| p.expire_after = Some(Millis::from_secs(130)));
}

/// Whatever remakes it: nobody is let go or asked to end while a replacement would be refused, and it is asked less and less often.
#[test]
fn nobody_leaves_a_machine_by_choice_while_no_replacement_would_be_admitted() {
    let set = || Mobility::BreakFirst { because: "it is of a StatefulSet".into() };
    for mobility in [deployment(), job(), set()] {
        let mut toy = Toy::new();
        let old = toy.add_pod(mobility.clone(), WorkloadKind::Inference);
        toy.run(120);
        toy.admits_nothing = true;
        expire(&mut toy);
        toy.run(600);
        let pod = &toy.world.pods[&old];
        assert!(pod.ready_since.is_some() && pod.let_go.is_none() && pod.deleting_until.is_none(), "{mobility:?}");
        assert_eq!((toy.removals.clone(), toy.world.pods.len()), (Vec::new(), 1), "{mobility:?}");
        assert!((3..8).contains(&toy.refusals), "asked {} times in ten minutes: {mobility:?}", toy.refusals);
        assert!(!toy.events.iter().any(|(reason, _)| ["Migrating", "Checkpointing"].contains(reason)), "{:?}", toy.events);
        toy.admits_nothing = false;
        toy.world.pools.values_mut().for_each(|p| p.expire_after = None);
        toy.run(900);
        assert_eq!(toy.removals.len(), 1, "when a replacement is admitted the machine is left: {mobility:?}");
    }
}

#[test]
fn after_a_notice_a_pod_serves_until_the_last_call_and_a_job_is_asked_to_stop_at_once() {
    let mut toy = Toy::new();
    let old = toy.add_pod(deployment(), WorkloadKind::Inference);
    toy.run(120);
    toy.admits_nothing = true;
    let doomed = toy.all_instances()[0].id.clone();
    toy.notify(&doomed, NoticeKind::Interruption);
    toy.run(60);
    assert!(toy.world.pods[&old].let_go.is_none() && toy.removals.is_empty(), "it serves on");
    toy.run(50);
    assert_eq!(toy.removals, vec![("pod-001".to_owned(), RemovalReason::Interruption)], "it ends with its grace before the machine does");

    let mut toy = Toy::new();
    toy.add_pod(job(), WorkloadKind::Batch);
    toy.run(120);
    toy.admits_nothing = true;
    let doomed = toy.all_instances()[0].id.clone();
    toy.notify(&doomed, NoticeKind::Interruption);
    toy.run(3);
    assert_eq!((toy.removals.len(), toy.refusals), (1, 0), "its checkpoint needs the time");
}

#[test]
fn no_machine_is_bought_ahead_for_a_pod_that_would_not_be_made_again() {
    let mut toy = Toy::new();
    toy.add_pod(deployment(), WorkloadKind::Inference);
    toy.run(300);
    toy.world.market.offers.get_mut(&capacity(SPOT_A.0, SPOT_A.1, CapacityType::Spot)).unwrap().price_per_hour.0 = SPOT_B.2 * 5;
    toy.world.moves_considered_at = None;
    let planned = plan(&toy.settings, &toy.world, toy.now);
    let actions: Vec<&Action> = planned.steps.iter().flat_map(|s| &s.actions).collect();
    let at = |meant: fn(&ClusterAction) -> bool| actions.iter().position(|a| matches!(a, Action::Cluster(a) if meant(a)));
    let asked = at(|a| matches!(a, ClusterAction::Rehearse { ends_first: false, .. }));
    let bought = at(|a| matches!(a, ClusterAction::CreateClaim { .. }));
    assert!(asked.is_some() && asked < bought, "{actions:?}");
    toy.admits_nothing = true;
    toy.run(600);
    assert_eq!(toy.all_instances().len(), 1);
    assert!((1..8).contains(&toy.refusals), "asked {} times", toy.refusals);
}
