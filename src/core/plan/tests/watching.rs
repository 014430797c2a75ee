//! Nothing is believed because it was done: lifted pods and joined nodes are looked at until they end.

use std::collections::BTreeSet;

use super::toy::*;
use crate::core::action::{Action, ClusterAction, RemovalReason};
use crate::core::fleet::{Claim, NodeState, OtherPod, Trigger};
use crate::core::plan::plan;
use crate::core::record::Outcome;
use crate::core::units::ids::{ClaimName, NodeName, ObjectRef, Uid};
use crate::core::units::time::Millis;
use crate::core::units::{Mebibytes, Millicores, Resources};
use crate::core::workload::need::WorkloadKind;
use crate::core::workload::{PodIdentity, PodPhase, Stuck};

/// A service that runs on its machine.
fn running() -> (Toy, Uid, NodeName) {
    let mut toy = Toy::new();
    let pod = toy.add_pod(deployment(), WorkloadKind::Inference);
    toy.run(150);
    assert_eq!(toy.world.pods[&pod].phase, PodPhase::Running);
    let node = toy.world.nodes.keys().next().unwrap().clone();
    (toy, pod, node)
}

fn claim(toy: &Toy) -> Claim {
    toy.world.claims.values().next().unwrap().clone()
}

fn actions(toy: &Toy, later: Millis) -> Vec<Action> {
    plan(&toy.settings, &toy.world, toy.now + later).steps.into_iter().flat_map(|s| s.actions).collect()
}

fn decided(toy: &Toy, trigger: Trigger) -> Vec<Outcome> {
    toy.decisions().iter().filter(|d| d.trigger == trigger).map(|d| d.outcome).collect()
}

#[test]
fn a_node_that_somebody_deleted_is_given_up_within_half_a_minute() {
    let (mut toy, _, node) = running();
    toy.lost_nodes.insert(node.clone());
    toy.world.nodes.remove(&node);
    toy.run(20);
    assert!(decided(&toy, Trigger::NodeGone).is_empty());
    assert_eq!(claim(&toy).status.unhealthy.unwrap().trigger, Trigger::NodeGone);
    toy.run(20);
    assert_eq!(decided(&toy, Trigger::NodeGone), [Outcome::Terminate]);
    assert!(toy.running().is_empty());
}

#[test]
fn a_silent_node_is_given_up_after_the_bound_of_its_pool_and_one_that_comes_back_is_kept() {
    let (mut toy, _, node) = running();
    toy.world.nodes.get_mut(&node).unwrap().ready = false;
    toy.run(100);
    toy.world.nodes.get_mut(&node).unwrap().ready = true;
    toy.run(100);
    assert_eq!((decided(&toy, Trigger::NodeNotReady), claim(&toy).status.unhealthy), (vec![], None));
    toy.world.nodes.get_mut(&node).unwrap().ready = false;
    toy.run(179);
    assert!(decided(&toy, Trigger::NodeNotReady).is_empty());
    toy.run(5);
    assert_eq!(decided(&toy, Trigger::NodeNotReady), [Outcome::Terminate]);
}

#[test]
fn a_cordoned_or_tainted_node_has_no_room_and_its_work_moves_after_the_bound() {
    for (trigger, state) in [
        (Trigger::Cordoned, NodeState { cordoned: true, ..NodeState::default() }),
        (Trigger::NodeTainted, NodeState { foreign_taints: vec!["maintenance".into()], ..NodeState::default() }),
        (Trigger::GpuFault, NodeState { gpu_faults: vec!["GpuXid: 79".into()], ..NodeState::default() }),
    ] {
        let (mut toy, pod, node) = running();
        toy.world.pods.remove(&pod);
        toy.world.nodes.get_mut(&node).unwrap().state = state;
        let new = toy.add_pod(deployment(), WorkloadKind::Inference);
        toy.run(5);
        let placed = toy.world.pods[&new].claim.clone();
        if trigger != Trigger::GpuFault {
            assert!(placed.is_some() && placed != Some(claim_of(&toy, &node)), "{trigger:?}: a machine of its own is bought");
        }
        toy.run(200);
        assert_ne!(toy.world.pods[&new].claim.as_ref(), None);
    }
    let (mut toy, _, node) = running();
    toy.world.nodes.get_mut(&node).unwrap().state.cordoned = true;
    toy.run(170);
    assert!(decided(&toy, Trigger::Cordoned).is_empty());
    toy.run(15);
    assert_eq!(decided(&toy, Trigger::Cordoned).first(), Some(&Outcome::Migrate));
    assert!(toy.world.pods.values().any(|p| p.let_go.is_some()), "its replacement is made first");
}

fn claim_of(toy: &Toy, node: &NodeName) -> ClaimName {
    toy.world.claims.values().find(|c| c.status.node.as_ref() == Some(node)).map_or_else(|| "none".into(), |c| c.name.clone())
}

#[test]
fn fewer_gpus_than_were_bought_move_the_work() {
    let (mut toy, _, node) = running();
    toy.world.nodes.get_mut(&node).unwrap().allocatable.gpus = 0;
    toy.run(185);
    assert_eq!(decided(&toy, Trigger::GpusLost).first(), Some(&Outcome::Migrate));
}

/// The pod was lifted, and the scheduler says why it does not bind it.
fn unbound(toy: &mut Toy, pod: &Uid, said: &str) {
    let since = toy.now;
    let pod = toy.world.pods.get_mut(pod).unwrap();
    (pod.phase, pod.node, pod.ready_since, pod.started_at) = (PodPhase::Pending, None, None, None);
    pod.stuck = Some(Box::new(Stuck { since, said: said.into() }));
    toy.look();
}

#[test]
fn a_pod_that_is_not_bound_in_time_is_made_again_with_the_schedulers_sentence_and_never_tried_there_again() {
    let (mut toy, pod, _) = running();
    unbound(&mut toy, &pod, "0/1 nodes are available: 1 Insufficient cpu");
    let deleted = |actions: &[Action]| {
        actions.iter().any(
            |a| matches!(a, Action::Cluster(ClusterAction::DeletePod { pod: p, reason: RemovalReason::NotScheduled, .. }) if p.uid == pod),
        )
    };
    assert!(!deleted(&actions(&toy, Millis::from_secs(10))), "the scheduler may be slow");
    let late = actions(&toy, Millis::from_secs(21));
    assert!(deleted(&late), "{late:?}");
    let said = |a: &&Action| matches!(a, Action::Cluster(ClusterAction::Emit(e)) if e.reason == "NotScheduled" && e.note.to_string().contains("1 Insufficient cpu"));
    assert!(late.iter().any(|a| said(&a)));
    let remembered = late.iter().find_map(|a| match a {
        Action::Cluster(ClusterAction::PatchClaim { patch, .. }) => patch.misfit.clone(),
        _ => None,
    });
    let need = toy.world.pods[&pod].need.as_ref().unwrap().0.fingerprint();
    assert_eq!(remembered, Some(need.clone()));
    // The machine is there and free, and yet the next pod of the same need gets another.
    toy.world.pods.remove(&pod);
    let name = claim(&toy).name;
    toy.world.claims.get_mut(&name).unwrap().status.misfits.insert(need);
    let next = toy.add_pod(deployment(), WorkloadKind::Inference);
    toy.run(5);
    assert!(toy.world.pods[&next].claim.is_some() && toy.world.pods[&next].claim != Some(name));
}

fn guest(cpu: i64) -> OtherPod {
    OtherPod {
        pod: PodIdentity { object: ObjectRef { namespace: "other".into(), name: "rider".into() }.into(), uid: "rider-1".into() },
        requests: Resources { cpu: Millicores(cpu), memory: Mebibytes(512), ..Resources::default() },
        rules: Default::default(),
        termination_grace: Millis::from_secs(30),
        deleting: false,
        stays: Default::default(),
        mirror: false,
    }
}

#[test]
fn what_guests_take_is_not_room_and_they_are_evicted_before_the_machine_ends() {
    let (mut toy, pod, node) = running();
    toy.world.pods.remove(&pod);
    // One that asks for a year keeps the machine no longer than ten minutes.
    let stayer =
        OtherPod { pod: PodIdentity { uid: "stayer".into(), ..guest(0).pod }, termination_grace: Millis::from_hours(8_760), ..guest(0) };
    toy.world.nodes.get_mut(&node).unwrap().state.others.extend([guest(3_500), stayer]);
    toy.run(2);
    let name = claim(&toy).name;
    let next = toy.add_pod(deployment(), WorkloadKind::Inference);
    let bound_there = |toy: &Toy| toy.world.pods[&next].claim == Some(name.clone());
    toy.run(3);
    assert!(!bound_there(&toy), "a CPU pod took what this one needs");
    let ends = |a: &Action| matches!(a, Action::Terminate { claim, .. } if *claim == name);
    let evicted = |a: &Action| matches!(a, Action::Cluster(ClusterAction::Evict { pod, reason: RemovalReason::MachineEnds, .. }) if pod.uid.as_str() == "rider-1");
    let at_grace = actions(&toy, Millis::from_secs(31));
    assert!(at_grace.iter().any(evicted) && !at_grace.iter().any(ends), "{at_grace:?}");
    let later = actions(&toy, Millis::from_secs(31 + 600 + 130));
    assert!(later.iter().any(ends), "nobody waits for ever");
}

/// The operator may delete no pod of others (`lowtide-guard`): whatever their grace and however late, they are evicted.
#[test]
fn guests_are_evicted_at_a_notice_however_long_their_grace_and_mirrors_are_left_to_their_kubelet() {
    let (mut toy, _, node) = running();
    let patient = OtherPod { termination_grace: Millis::from_secs(600), ..guest(500) };
    let mut mirror = OtherPod { mirror: true, ..guest(2_000) };
    mirror.pod.uid = "mirror".into();
    toy.world.nodes.get_mut(&node).unwrap().state.others.extend([patient, mirror]);
    let machine = toy.all_instances()[0].id.clone();
    toy.notify(&machine, crate::core::fleet::NoticeKind::Interruption);
    toy.run(2);
    for late in [1, 60, 110] {
        let acts = actions(&toy, Millis::from_secs(late));
        let of_guests = |a: &Action| match a {
            Action::Cluster(ClusterAction::Evict { pod, grace, reason: RemovalReason::MachineEnds }) => {
                Some((pod.uid.to_string(), Some(*grace)))
            }
            Action::Cluster(ClusterAction::DeletePod { pod, reason: RemovalReason::MachineEnds, .. }) => Some((pod.uid.to_string(), None)),
            _ => None,
        };
        let left: Vec<_> = acts.iter().filter_map(of_guests).collect();
        assert!(
            matches!(left.as_slice(), [(uid, Some(grace))] if uid == "rider-1" && *grace <= Millis::from_secs(120)),
            "{late}: {left:?}"
        );
    }
}

#[test]
fn a_mirror_takes_room_and_keeps_no_machine() {
    let (mut toy, pod, node) = running();
    let mirror = OtherPod { mirror: true, ..guest(3_500) };
    toy.world.pods.remove(&pod);
    toy.world.nodes.get_mut(&node).unwrap().state.others.push(mirror);
    let name = claim(&toy).name;
    let next = toy.add_pod(deployment(), WorkloadKind::Inference);
    toy.run(5);
    assert_ne!(toy.world.pods[&next].claim, Some(name.clone()), "it took what this one needs");
    let ends = |a: &Action| matches!(a, Action::Terminate { claim, .. } if *claim == name);
    let gone = |toy: &Toy| !toy.world.claims.contains_key(&name) || actions(toy, Millis::ZERO).iter().any(ends);
    toy.run(32);
    assert!(gone(&toy), "nobody waits for what cannot be ended: {:?}", toy.events);
}

#[test]
fn a_denied_region_closes_and_a_deleted_template_is_made_again_and_no_offer_is_blamed() {
    for (code, region) in [("UnauthorizedOperation", true), ("InvalidLaunchTemplateName.NotFoundException", false)] {
        let mut toy = Toy::new();
        toy.dry = BTreeSet::from([capacity(SPOT_A.0, SPOT_A.1, crate::core::market::CapacityType::Spot)]);
        toy.add_pod(deployment(), WorkloadKind::Inference);
        toy.run(2);
        let name = claim(&toy).name;
        let Some(failure) = &mut toy.world.claims.get_mut(&name).unwrap().status.failure else { panic!("the launch was refused") };
        failure.code = code.into();
        let acted = actions(&toy, Millis::from_secs(1));
        assert!(!acted.iter().any(|a| matches!(a, Action::CoolDown { .. })), "{acted:?}");
        let closed = acted.iter().any(|a| matches!(a, Action::CloseRegion { region, .. } if region.as_str() == SPOT_A.0));
        let remade = acted
            .iter()
            .any(|a| matches!(a, Action::Cluster(ClusterAction::SetClassStatus { status, .. }) if status.launch_template.is_none()));
        assert_eq!((closed, remade), (region, !region), "{code}: {acted:?}");
    }
}

#[test]
fn a_bare_pod_on_a_machine_that_is_left_by_choice_ends_after_half_an_hour_with_a_sentence() {
    let mut toy = Toy::new();
    let pod = toy.add_pod(crate::core::workload::Mobility::Bare, WorkloadKind::Batch);
    toy.run(150);
    let node = toy.world.nodes.keys().next().unwrap().clone();
    toy.world.nodes.get_mut(&node).unwrap().state.cordoned = true;
    toy.run(190);
    let ends = |actions: &[Action]| {
        actions
            .iter()
            .any(|a| matches!(a, Action::Cluster(ClusterAction::Evict { pod: p, reason: RemovalReason::Unhealthy, .. }) if p.uid == pod))
    };
    assert!(claim(&toy).status.moving.is_some());
    assert!(!ends(&actions(&toy, Millis::from_mins(29))));
    let late = actions(&toy, Millis::from_mins(31));
    assert!(ends(&late), "{late:?}");
    assert!(late.iter().any(|a| matches!(a, Action::Cluster(ClusterAction::Emit(e)) if e.reason == "BareEnds")));
}

#[test]
fn a_node_that_lacks_a_label_that_was_promised_is_given_it_before_the_gate_is_lifted() {
    let mut toy = Toy::new();
    let pod = toy.add_pod(deployment(), WorkloadKind::Inference);
    let wanted = crate::core::workload::labels::LabelRequirement {
        key: "topology.kubernetes.io/zone".into(),
        operator: crate::core::workload::labels::LabelOperator::In([format!("{}a", SPOT_A.0)].into()),
    };
    toy.world.pods.get_mut(&pod).unwrap().need.as_mut().unwrap().0.node_terms = vec![vec![wanted]];
    toy.run(150);
    assert_eq!(toy.world.pods[&pod].phase, PodPhase::Running);
    let node = toy.world.nodes.values().next().unwrap();
    assert_eq!(node.state.labels.get("topology.kubernetes.io/zone"), Some(format!("{}a", SPOT_A.0).as_str()));
    assert_eq!(claim(&toy).spec.capacity.zone.as_str(), SPOT_A.1, "the zone of that name");
}
