//! What an owner, whoever is root on a machine, or a forged message might do to spend money or to end machines: none of it does.

use std::collections::BTreeMap;

use super::harm::said;
use super::toy::*;
use super::working;
use crate::core::fleet::{Doubt, NoticeKind, Trigger};
use crate::core::market::CapacityType;
use crate::core::snapshot::Held;
use crate::core::units::money::MicroUsdPerHour;
use crate::core::units::time::Millis;
use crate::core::units::{Mebibytes, Millicores, Resources};
use crate::core::workload::need::WorkloadKind;
use crate::core::workload::{Baseline, Pod, PodIdentity, PodPhase, Replaces};

/// Whoever is root on a machine writes what its kubelet says: a large node would draw the pods of all, with their Secrets.
#[test]
fn a_node_has_no_more_room_than_its_machine_whatever_its_kubelet_says() {
    let mut toy = Toy::new();
    let first = toy.add_pod(deployment(), WorkloadKind::Inference);
    toy.run(150);
    let liar = toy.world.nodes.values_mut().next().unwrap();
    liar.allocatable = Resources { cpu: Millicores(1_000_000), memory: Mebibytes(1 << 30), gpus: 1_000, ..liar.allocatable };
    let next = toy.add_pod(deployment(), WorkloadKind::Inference);
    toy.run(150);
    let claims = [&first, &next].map(|pod| toy.world.pods[pod].claim.clone().unwrap());
    assert!(claims[0] != claims[1] && toy.all_instances().len() == 2, "{claims:?}");
}

/// What an owner might write to make lowtide spend: refused often, and in the place of a pod that EC2 interrupts, with much work saved.
pub(super) fn forge(pod: &mut Pod) {
    pod.attempt = 7;
    pod.baseline.b1_per_replica_hour = Some(MicroUsdPerHour(9_000_000));
    pod.replaces = Some(Box::new(Replaces {
        pod: pod.identity.clone(),
        from_claim: "lt-gone".into(),
        decision: crate::core::units::ids::DecisionId(uuid::Uuid::nil()),
        noticed_at: pod.created_at,
        decided_at: pod.created_at,
        deadline: Some(pod.created_at),
        from_region: None,
        work: None,
    }));
}

#[test]
fn what_costs_money_is_read_from_the_claim_and_not_from_the_pod() {
    let mut toy = working(1);
    let bound = toy.world.pods.values().next().unwrap().clone();
    let kept = toy.world.held(&bound).decision;
    assert!(bound.attempt == 1 && bound.baseline != Baseline::default() && kept == bound.placed_by && kept.is_some());
    let mut forged = bound.clone();
    forge(&mut forged);
    assert_eq!(toy.world.held(&forged), toy.world.held(&bound), "whatever a bound pod says, its claim's word holds");

    let another = PodIdentity { uid: "another".into(), ..bound.identity.clone() };
    let mut waiting = Pod { identity: another, phase: PodPhase::Gated, claim: None, node: None, ..bound.clone() };
    forge(&mut waiting);
    assert_eq!(toy.world.held(&waiting), Held::default(), "one that was never bound");
    for claim in [bound.claim.clone(), Some("lt-never".into())] {
        waiting.claim = claim;
        assert_eq!(toy.world.held(&waiting), Held::default(), "nor is it by naming {:?}", waiting.claim);
        let running = Pod { phase: PodPhase::Running, ..waiting.clone() };
        assert_eq!(toy.world.held(&running), Held::default());
    }

    // A machine of the version before, which kept nothing, or one that was adopted: what runs there is believed, and nothing that waits.
    toy.world.claims.values_mut().for_each(|claim| claim.spec.bindings = None);
    assert_eq!(toy.world.held(&forged).attempt, 7);
    waiting.claim = bound.claim;
    assert_eq!(toy.world.held(&waiting), Held::default());
}

#[test]
fn forged_marks_buy_no_on_demand_and_get_past_no_budget() {
    let mut toy = Toy::new();
    let uid = toy.add_pod(deployment(), WorkloadKind::Inference);
    forge(toy.world.pods.get_mut(&uid).unwrap());
    toy.run(150);
    assert_eq!(toy.running().iter().map(|c| c.capacity_type).collect::<Vec<_>>(), [CapacityType::Spot]);
    assert_eq!(toy.world.pods[&uid].attempt, 1, "and the first binding is the first");

    let mut toy = Toy::new();
    toy.world.pools.values_mut().for_each(|pool| pool.monthly_budget = Some(crate::core::units::money::MicroUsd(0)));
    let uid = toy.add_pod(deployment(), WorkloadKind::Inference);
    forge(toy.world.pods.get_mut(&uid).unwrap());
    toy.run(60);
    assert_eq!((toy.running().len(), said(&toy, "Unplaceable")), (0, 1), "{:?}", toy.events);
}

/// A Node that says it is a machine which has joined long ago, under that machine's address: neither is used, and work that runs is not ended.
#[test]
fn a_second_node_of_a_machine_ends_no_work_and_gets_none() {
    let mut toy = working(2);
    let node = toy.world.nodes.values().next().unwrap().clone();
    let twice = |other: &str| Doubt::Twice { instance: node.instance.clone(), other: other.into() };
    toy.world.nodes.remove(&node.name);
    toy.lost_nodes.insert(node.name.clone());
    toy.world.doubtful_nodes = BTreeMap::from([(node.name.clone(), twice("thief")), ("thief".into(), twice(node.name.as_str()))]).into();
    toy.run(900);
    assert_eq!((toy.running().len(), toy.removals.len()), (2, 0), "{:?}", toy.events);
    assert!(toy.world.pods.values().all(|pod| pod.phase == PodPhase::Running));
    assert!(toy.world.claims.values().all(|claim| claim.status.unhealthy.is_none() && claim.status.moving.is_none()));
    // A Node that is gone is another matter.
    toy.world.doubtful_nodes = BTreeMap::new().into();
    toy.run(60);
    assert!(toy.decisions().iter().any(|d| d.trigger == Trigger::NodeGone));
}

/// Messages that whoever may send to the queue could write, or that are delivered again after days: none ends a machine that EC2 runs on.
#[test]
fn notices_that_ec2_cannot_have_sent_end_nothing() {
    let mut toy = working(1);
    let machine = toy.all_instances()[0].clone();
    let say = |toy: &mut Toy, sent_at| {
        toy.notify(&machine.id, NoticeKind::Interruption);
        toy.world.notices.last_mut().unwrap().notice.sent_at = sent_at;
        toy.run(30);
    };
    let steady = |toy: &Toy| {
        let marked = toy.world.claims.values().any(|claim| claim.status.interruption.is_some() || claim.status.moving.is_some());
        (marked, toy.world.notices.len(), toy.removals.len())
    };
    let long_ago = toy.now - Millis::from_hours(24);
    say(&mut toy, long_ago);
    assert_eq!(steady(&toy), (false, 0, 0), "of yesterday: EC2 takes a machine after two minutes, and runs this one on");
    toy.world.claims.values_mut().for_each(|claim| claim.spec.capacity.capacity_type = CapacityType::OnDemand);
    let now = toy.now;
    say(&mut toy, now);
    assert_eq!(steady(&toy), (false, 0, 0), "on-demand is not interrupted");
    toy.world.claims.values_mut().for_each(|claim| claim.spec.capacity.capacity_type = CapacityType::Spot);
    let to_come = toy.now + Millis::from_hours(24 * 365);
    say(&mut toy, to_come);
    let deadline = toy.world.claims.values().find_map(|claim| claim.status.interruption.as_ref()?.deadline);
    assert!(
        deadline.is_some_and(|at| at < toy.now + toy.settings.notice_window),
        "two minutes from when it came, and no year: {deadline:?}"
    );
}

/// An owner may change requests while the pod waits (the subresource `resize`, or gates that still hold): it is not pinned where it cannot run.
#[test]
fn a_pod_that_outgrows_its_machine_while_it_waits_is_placed_again() {
    let mut toy = Toy::new();
    let uid = toy.add_pod(deployment(), WorkloadKind::Inference);
    toy.run(10);
    let first = toy.world.pods[&uid].claim.clone().unwrap();
    if let Ok((need, _)) = &mut toy.world.pods.get_mut(&uid).unwrap().need {
        need.cpu = crate::core::units::Millicores(64_000);
    }
    toy.run(300);
    let pod = &toy.world.pods[&uid];
    assert!(pod.phase == PodPhase::Gated && said(&toy, "Unplaceable") == 1, "{:?}: {:?}", pod.phase, toy.events);
    assert!(!toy.world.claims.contains_key(&first), "and the machine that is of no use goes");
}

/// An owner enlarges a pod that runs, in place (the subresource `resize`): what it then requests is no room any more.
#[test]
fn a_pod_that_grows_while_it_runs_leaves_less_room_beside_it() {
    let bought_for_the_second = |cpu: i64| {
        let mut toy = Toy::new();
        toy.world.classes.values_mut().for_each(|class| {
            class.sharing.sharing = crate::core::workload::sharing::Sharing::Mps { replicas: 2 };
        });
        (toy.gpu_memory, toy.cpu, toy.memory) = (Mebibytes(10_000), Millicores(1_000), Mebibytes(2_048));
        let first = toy.add_pod(deployment(), WorkloadKind::Inference);
        toy.run(300);
        assert_eq!((toy.running().len(), toy.world.pods[&first].phase), (1, PodPhase::Running));
        if let Ok((need, _)) = &mut toy.world.pods.get_mut(&first).unwrap().need {
            need.cpu = Millicores(cpu);
        }
        toy.add_pod(deployment(), WorkloadKind::Inference);
        toy.run(300);
        toy.running().len()
    };
    assert_eq!((bought_for_the_second(1_000), bought_for_the_second(3_500)), (1, 2));
}

/// An owner writes the name of a claim on a pod that runs somewhere else, so that the machine is never empty.
#[test]
fn a_pod_that_runs_elsewhere_keeps_no_machine_from_ending() {
    let mut toy = working(1);
    let (uid, pod) = toy.world.pods.iter().next().map(|(uid, pod)| (uid.clone(), pod.clone())).unwrap();
    let forger = Pod { identity: PodIdentity { uid: "forger".into(), ..pod.identity.clone() }, node: Some("elsewhere".into()), ..pod };
    toy.world.pods.remove(&uid);
    toy.world.pods.insert("forger".into(), forger);
    toy.run(120);
    assert_eq!(toy.running().len(), 0, "{:?}", toy.events);
}
