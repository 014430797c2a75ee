//! Accidents that must end no machine: each was once done on the running system and ended some.

use std::collections::BTreeMap;

use super::attacks::forge;
use super::toy::*;
use super::working;
use crate::core::fleet::{Doubt, InstanceState, NoticeKind, PoolsDefined, Trigger, UnreadableClaim, tags};
use crate::core::market::CapacityType;
use crate::core::record::Outcome;
use crate::core::snapshot::memory::MarketMemory;
use crate::core::snapshot::{Held, Observed};
use crate::core::units::ids::{ClaimName, InstanceId, NodeName};
use crate::core::units::money::MicroUsdPerHour;
use crate::core::units::time::Millis;
use crate::core::workload::PodPhase;
use crate::core::workload::need::WorkloadKind;

/// As after a rollback: the pool has a word that this version does not know.
#[test]
fn a_node_pool_that_cannot_be_read_ends_nothing_and_one_that_is_gone_is_drained() {
    let mut toy = working(3);
    let (pools, machines) = (std::mem::take(&mut toy.world.pools), toy.running());
    toy.world.unreadable_pools = pools.keys().cloned().collect();
    toy.add_pod(deployment(), WorkloadKind::Inference);
    toy.run(900);
    assert_eq!(toy.running(), machines, "nothing ends, and nothing is bought");
    assert!(toy.world.claims.values().all(|claim| claim.status.moving.is_none()));
    toy.world.unreadable_pools.clear();
    toy.run(30);
    assert!(toy.world.claims.values().all(|claim| claim.status.moving.as_ref().is_some_and(|mark| mark.trigger == Trigger::Deleted)));
}

/// What `kubectl delete crd gpunodepools.lowtide.dev` does, or a pipeline that prunes definitions: every pool goes with it.
#[test]
fn pools_that_go_with_their_definition_keep_their_machines_and_one_deleted_by_itself_is_drained() {
    let mut toy = working(3);
    let (pools, machines) = (std::mem::take(&mut toy.world.pools), toy.running());
    let left = |toy: &Toy| toy.world.claims.values().filter(|claim| claim.status.moving.is_some()).count();
    toy.world.pools_defined = PoolsDefined::Going;
    toy.add_pod(deployment(), WorkloadKind::Inference);
    toy.run(900);
    assert_eq!((toy.running(), left(&toy), said(&toy, "PoolsUndefined")), (machines.clone(), 0, 1), "{:?}", toy.events);
    // Applied again it is another one, and its pools come later; whoever leads then.
    toy.world.pools_defined = PoolsDefined::By("applied-again".into());
    toy.another_leads();
    toy.run(900);
    assert_eq!((toy.running(), left(&toy)), (machines, 0), "{:?}", toy.events);
    toy.world.pools = pools.clone();
    toy.run(300);
    assert_eq!((toy.running().len(), left(&toy)), (4, 0), "the pod that waited has its machine: {:?}", toy.events);
    // The pool was seen under this definition: deleted now, it is meant.
    toy.world.pools = Default::default();
    toy.run(30);
    assert_eq!(left(&toy), 4, "{:?}", toy.events);
}

/// A machine boots while its pool is not seen, or cannot be read: how long it may take is not known, so that it is not one whose Node is gone.
#[test]
fn a_machine_that_boots_while_its_pool_is_not_seen_is_let_join() {
    for unreadable in [false, true] {
        let mut toy = Toy::new();
        toy.add_pod(deployment(), WorkloadKind::Inference);
        toy.run(10);
        assert_eq!(toy.running().len(), 1);
        let instance = toy.all_instances().remove(0).id;
        toy.lost_nodes.insert(NodeName::from(format!("node-{instance}")));
        let pools = std::mem::take(&mut toy.world.pools);
        if unreadable {
            toy.world.unreadable_pools = pools.keys().cloned().collect();
        } else {
            toy.world.pools_defined = PoolsDefined::Going;
        }
        toy.run(300);
        toy.lost_nodes.clear();
        toy.run(120);
        let still: Vec<InstanceId> = toy.all_instances().into_iter().filter(|i| i.is_alive()).map(|i| i.id).collect();
        assert_eq!(still, [instance], "unreadable: {unreadable}: {:?}", toy.events);
        assert!(toy.world.claims.values().all(|claim| claim.status.node_ready_at.is_some()), "it has joined meanwhile");
    }
}

/// As an API server that was built again, or restored: no claims, no pods, no nodes.
fn forget_everything(toy: &mut Toy) {
    (toy.world.claims, toy.world.pods, toy.world.nodes) = Default::default();
}

/// All machines are tagged so.
fn tag_all(toy: &mut Toy, key: &str, value: Option<&str>) {
    for observed in toy.world.instances.values_mut() {
        if let Observed::Known { value: machines, .. } = observed {
            for machine in machines.values_mut() {
                machine.tags = machine.tags.with(key, value);
            }
        }
    }
}

pub(super) fn said(toy: &Toy, reason: &str) -> usize {
    toy.events.iter().filter(|(said, _)| *said == reason).count()
}

/// EC2 shows none of our machines, and their kubelets are silent.
fn show_none(toy: &mut Toy) {
    for observed in toy.world.instances.values_mut() {
        if let Observed::Known { value, .. } = observed {
            value.clear();
        }
    }
    toy.world.nodes.values_mut().for_each(|node| node.ready = false);
}

#[test]
fn an_empty_api_server_of_another_uid_ends_no_machine_and_says_so_once() {
    let mut toy = working(4);
    forget_everything(&mut toy);
    toy.world.cluster_uid = "a cluster built again".into();
    toy.run(1_300);
    assert_eq!((toy.running().len(), said(&toy, "OtherCluster")), (4, 1), "{:?}", toy.events);
    assert!(toy.events.iter().any(|(_, note)| note.contains("toy-uid") && note.contains("lowtide adopt")));
    let shown = |toy: &Toy| toy.world.pool_statuses.values().next().and_then(|status| status.namesake.clone());
    assert!(shown(&toy).is_some_and(|said| said.contains("toy-uid in ")), "{:?}", shown(&toy));
    // What is not seen at the moment is not gone; what is seen to be gone is.
    let seen = std::mem::take(&mut toy.world.instances);
    toy.run(1);
    assert!(shown(&toy).is_some());
    toy.world.instances = seen;
    show_none(&mut toy);
    toy.run(1);
    assert_eq!(shown(&toy), None);
}

#[test]
fn a_restored_etcd_ends_nothing_when_more_are_missing_than_may_end_and_a_person_says_otherwise() {
    let mut toy = working(4);
    forget_everything(&mut toy);
    toy.run(1_300);
    assert_eq!((toy.running().len(), toy.held_ends), (4, 4), "the same UID, and claims of an hour ago");
    assert_eq!(said(&toy, "EndsHeld"), 1);
    let allow = |toy: &mut Toy, until| toy.world.pools.values_mut().for_each(|pool| pool.ends_allowed_until = Some(until));
    let forever = toy.now + Millis::from_hours(24 * 365);
    allow(&mut toy, forever);
    toy.run(5);
    assert_eq!(toy.running().len(), 4, "a word for a year is no word for now");
    let soon = toy.now + Millis::from_hours(1);
    allow(&mut toy, soon);
    toy.run(5);
    assert_eq!(toy.running().len(), 0);
}

#[test]
fn a_machine_that_nobody_claims_is_ended_after_ten_minutes_and_not_before() {
    let mut toy = working(1);
    forget_everything(&mut toy);
    toy.run(600);
    assert_eq!(toy.running().len(), 1);
    toy.run(2);
    assert_eq!(toy.running().len(), 0);
    assert!(toy.decisions().iter().any(|d| d.trigger == Trigger::Unclaimed));
}

#[test]
fn a_machine_with_running_pods_and_no_claim_is_kept() {
    let mut toy = working(1);
    toy.world.claims = BTreeMap::new().into();
    toy.run(1_300);
    assert_eq!((toy.running().len(), said(&toy, "WorkWithoutClaim")), (1, 1));
    assert!(toy.removals.is_empty(), "{:?}", toy.removals);
}

#[test]
fn a_machine_of_an_older_version_is_kept_and_works_on_while_its_claim_stands() {
    let mut toy = working(2);
    tag_all(&mut toy, tags::CLUSTER_UID, None);
    toy.run(900);
    assert_eq!((toy.running().len(), said(&toy, "UnmarkedMachine")), (2, 0), "launched before this version, with claims");
    forget_everything(&mut toy);
    toy.run(1_300);
    assert_eq!((toy.running().len(), said(&toy, "UnmarkedMachine")), (2, 2), "and without");
    assert!(!toy.decisions().iter().any(|d| d.trigger == Trigger::Unclaimed));
}

#[test]
fn a_machine_that_another_cluster_took_over_is_let_be() {
    let mut toy = working(1);
    tag_all(&mut toy, tags::CLUSTER_UID, Some("another"));
    let uid = toy.world.pods.keys().next().cloned().unwrap();
    toy.world.pods.remove(&uid);
    toy.run(900);
    assert_eq!((toy.running().len(), toy.world.claims.len(), said(&toy, "OtherCluster")), (1, 1, 2), "{:?}", toy.events);
}

/// Another version wrote a word into the claim's status, and this one cannot read it.
fn become_unreadable(toy: &mut Toy) -> ClaimName {
    let claim = toy.world.claims.values().next().cloned().unwrap();
    toy.world.claims.remove(&claim.name);
    let fault = format!("GpuNodeClaim {}: status.move.reason is \"tomorrow\"", claim.name);
    let unreadable = UnreadableClaim { name: claim.name.clone(), uid: claim.uid, instance: claim.status.instance, fault };
    toy.world.unreadable_claims.insert(claim.name.clone(), unreadable);
    claim.name
}

#[test]
fn a_claim_that_cannot_be_read_owns_its_machine_and_its_pods_and_stops_every_sweep() {
    let mut toy = working(2);
    let claim = become_unreadable(&mut toy);
    // A stray beside it: the claim that cannot be read might be its own.
    let stray = toy.world.claims.values().next().cloned().unwrap();
    let pods_of_it: Vec<_> =
        toy.world.pods.values().filter(|p| p.claim.as_ref() == Some(&stray.name)).map(|p| p.identity.uid.clone()).collect();
    pods_of_it.iter().for_each(|uid| drop(toy.world.pods.remove(uid)));
    toy.world.claims.remove(&stray.name);
    toy.run(1_300);
    assert_eq!((toy.running().len(), said(&toy, "ClaimUnreadable")), (2, 1), "{:?}", toy.events);
    assert!(toy.removals.is_empty() && toy.world.claims.is_empty(), "its pods stay where they are, and nothing is bought in its place");
    assert!(toy.world.pods.values().all(|pod| pod.claim.as_ref() == Some(&claim) && pod.phase == PodPhase::Running));
    toy.world.unreadable_claims.clear();
    toy.run(1_200);
    assert!(toy.running().len() <= 1, "once all can be read, the stray goes");
}

#[test]
fn a_machine_that_ec2_does_not_show_runs_on_while_its_kubelet_reports() {
    let mut toy = working(1);
    show_none(&mut toy);
    toy.world.nodes.values_mut().for_each(|node| node.ready = true);
    toy.run(600);
    assert!(toy.removals.is_empty() && toy.world.claims.len() == 1, "a tag that somebody removed is no end: {:?}", toy.removals);
}

#[test]
fn an_answer_of_ec2_that_shows_nothing_takes_no_more_than_two_machines_away() {
    let mut toy = working(5);
    show_none(&mut toy);
    toy.run(60);
    let lost = toy.decisions().iter().filter(|d| d.trigger == Trigger::InstanceLost).count();
    assert_eq!((lost, toy.held_ends), (2, 3), "{:?}", toy.events);
    assert_eq!(said(&toy, "EndsHeld"), 3);
}

#[test]
fn a_clock_four_minutes_ahead_ends_no_machine_that_boots() {
    for (ahead, expected) in [(Some(Millis::from_mins(-4)), 0), (None, 1)] {
        let mut toy = Toy::new();
        toy.add_pod(deployment(), WorkloadKind::Inference);
        toy.run(20);
        assert_eq!(toy.running().len(), 1);
        // The clock jumps; EC2's does not, and says so.
        let machine = toy.all_instances()[0].id.clone();
        toy.now = toy.now + Millis::from_mins(4);
        toy.world.ec2_ahead = ahead;
        let boots_still = |toy: &mut Toy, id: &InstanceId| {
            for observed in toy.world.instances.values_mut() {
                if let Observed::Known { value, .. } = observed {
                    value.values_mut().filter(|i| i.id == *id).for_each(|i| i.state = InstanceState::Pending);
                }
            }
        };
        boots_still(&mut toy, &machine);
        toy.run(2);
        let ended = toy.decisions().iter().filter(|d| d.trigger == Trigger::NeverJoined).count();
        assert_eq!(ended, expected, "EC2's clock {ahead:?} ahead of ours");
    }
}

#[test]
fn a_full_outbox_says_so_and_takes_no_more_refusals_but_every_purchase() {
    let mut toy = Toy::new();
    toy.world.outbox_full = true;
    toy.dry.extend([(SPOT_A, CapacityType::Spot), (SPOT_B, CapacityType::Spot)].map(|(at, kind)| capacity(at.0, at.1, kind)));
    let pod = toy.add_pod(deployment(), WorkloadKind::Inference);
    if let Ok((need, _)) = &mut toy.world.pods.get_mut(&pod).unwrap().need {
        need.max_price_per_gpu_hour = Some(MicroUsdPerHour(1_000));
    }
    toy.add_pod(deployment(), WorkloadKind::Inference);
    toy.run(120);
    assert!(said(&toy, "OutboxFull") == 1 && said(&toy, "Unplaceable") > 0, "{:?}", toy.events);
    let outcomes: Vec<Outcome> = toy.decisions().iter().map(|d| d.outcome).collect();
    assert!(!outcomes.contains(&Outcome::Refuse) && outcomes.contains(&Outcome::Launch), "{outcomes:?}");
}

#[test]
fn beyond_the_last_bound_of_the_outbox_nothing_is_bought_but_rescues() {
    let mut toy = Toy::new();
    let pod = toy.add_pod(deployment(), WorkloadKind::Inference);
    toy.run(150);
    toy.world.outbox_full = true;
    toy.world.outbox_closed = true;
    let new = toy.add_pod(deployment(), WorkloadKind::Inference);
    toy.run(60);
    assert_eq!((toy.all_instances().len(), &toy.world.pods[&new].claim), (1, &None));
    assert_eq!(said(&toy, "OutboxFull"), 2, "of the pool and of the pod: {:?}", toy.events);
    let machine = toy.world.claims[toy.world.pods[&pod].claim.as_ref().unwrap()].status.instance.clone().unwrap();
    toy.notify(&machine, crate::core::fleet::NoticeKind::Interruption);
    toy.run(60);
    assert_eq!(toy.decisions().iter().filter(|d| d.outcome == Outcome::Launch).count(), 2, "{:?}", toy.decisions());
}

#[test]
fn a_node_that_ec2_could_not_vouch_for_is_not_one_that_never_joined() {
    // What is known of the only Node that says it is the machine, and how often the machine is given up.
    let not_seen = |instance: &InstanceId| Doubt::NotSeen { instance: instance.clone() };
    let another = |_: &InstanceId| Doubt::NotSeen { instance: "i-another".into() };
    let not_that_machine = |instance: &InstanceId| Doubt::NotThatMachine { instance: instance.clone() };
    let twice = |instance: &InstanceId| Doubt::Twice { instance: instance.clone(), other: "thief".into() };
    type Of<'a> = &'a dyn Fn(&InstanceId) -> Doubt;
    let table: [(&str, Option<Of>, usize); 5] = [
        ("no Node at all", None, 1),
        ("one that EC2 was not asked about yet, or throttles us", Some(&not_seen), 0),
        ("one of another machine", Some(&another), 1),
        ("one that EC2 says is not that machine", Some(&not_that_machine), 1),
        ("two that pass for it", Some(&twice), 1),
    ];
    for (what, doubt, given_up) in table {
        let mut toy = Toy::new();
        toy.duds.insert(capacity(SPOT_A.0, SPOT_A.1, CapacityType::Spot));
        toy.add_pod(deployment(), WorkloadKind::Inference);
        toy.run(20);
        let machine = toy.all_instances()[0].id.clone();
        toy.world.doubtful_nodes = doubt
            .map(|doubt| (crate::core::units::ids::NodeName::from("node-1"), doubt(&machine)))
            .into_iter()
            .collect::<BTreeMap<_, _>>()
            .into();
        toy.run(175);
        let ended = |toy: &Toy| toy.decisions().iter().filter(|d| d.trigger == Trigger::NeverJoined).count();
        assert_eq!(ended(&toy), given_up, "{what}: its pool gives it three minutes to join");
        // Once EC2 answers, and it is no machine's Node, the time that has passed counts.
        toy.world.doubtful_nodes = BTreeMap::new().into();
        toy.run(5);
        assert_eq!(ended(&toy), 1, "{what}");
    }
}

/// The claim of a launch that EC2 refused is gone before its pod is placed again, and the process may be too.
#[test]
fn how_often_a_pod_was_refused_outlives_its_claims_and_the_process() {
    let mut toy = Toy::new();
    toy.dry.extend([SPOT_A, SPOT_B].map(|(region, zone, _)| capacity(region, zone, CapacityType::Spot)));
    let uid = toy.add_pod(deployment(), WorkloadKind::Inference);
    toy.run(8);
    let waiting = toy.world.pods[&uid].clone();
    let refused = toy.world.held(&waiting).attempt;
    assert!(refused > 0 && waiting.attempt == refused, "{waiting:?}");
    toy.world.claims = BTreeMap::new().into();
    let text = toy.world.memory.to_text(toy.now);
    toy.world.memory = MarketMemory::from_text(&text, toy.now).unwrap().into();
    assert_eq!(toy.world.held(&waiting).attempt, refused);
    let mut forged = waiting.clone();
    forge(&mut forged);
    assert_eq!(toy.world.held(&forged).attempt, refused);
    toy.world.memory = MarketMemory::default().into();
    assert_eq!(toy.world.held(&forged), Held::default(), "what nobody remembers is not believed");
}

#[test]
fn a_claim_keeps_the_bindings_of_pods_that_come_later_and_drops_those_of_pods_that_are_gone() {
    let mut toy = Toy::new();
    (toy.cpu, toy.memory) = (crate::core::units::Millicores(900), crate::core::units::Mebibytes(2_048));
    toy.gpu_memory = crate::core::units::Mebibytes(4_096);
    for class in toy.world.classes.values_mut() {
        class.sharing.sharing = crate::core::workload::sharing::Sharing::TimeSlicing { replicas: 4 };
    }
    let first = toy.add_pod(deployment(), WorkloadKind::Inference);
    toy.run(10);
    let second = toy.add_pod(deployment(), WorkloadKind::Inference);
    toy.run(120);
    let kept = |toy: &Toy| {
        let claim = toy.world.claims.values().next().unwrap();
        let bought_with = claim.spec.bindings.iter().flatten().map(|b| b.pod.clone()).collect::<Vec<_>>();
        (bought_with, claim.status.bindings.keys().cloned().collect::<Vec<_>>())
    };
    assert_eq!(kept(&toy), (vec![first.clone()], vec![second.clone()]));
    for uid in [&first, &second] {
        let pod = &toy.world.pods[uid];
        let (held, said) = (toy.world.held(pod), (pod.placed_by, pod.attempt, pod.baseline));
        assert_eq!((held.decision, held.attempt, held.baseline), said, "the pod carries a copy");
    }
    toy.world.pods.remove(&second);
    let third = toy.add_pod(deployment(), WorkloadKind::Inference);
    toy.run(20);
    assert_eq!(kept(&toy), (vec![first], vec![third]));
}

/// Two clusters of one name read one queue.
#[test]
fn what_is_said_of_another_clusters_machine_is_left_in_the_queue() {
    let mut toy = working(1);
    tag_all(&mut toy, tags::CLUSTER_UID, Some("another"));
    let machine = toy.all_instances()[0].id.clone();
    for claimed in [true, false] {
        toy.notify(&machine, NoticeKind::Interruption);
        toy.notify(&machine, NoticeKind::Rebalance);
        toy.notify(&machine, NoticeKind::ScheduleOver);
        toy.run(5);
        assert_eq!(toy.world.notices.len(), 3, "with a claim that the other cluster took over: {claimed}");
        assert!(toy.world.claims.values().all(|claim| claim.status.interruption.is_none() && claim.status.moving.is_none()));
        toy.world.notices.clear();
        toy.world.claims = BTreeMap::new().into();
    }
    assert!(toy.events.iter().any(|(said, note)| *said == "OtherCluster" && note.contains("interruption queue of its own")));
    tag_all(&mut toy, tags::CLUSTER_UID, Some("toy-uid"));
    toy.notify(&machine, NoticeKind::Interruption);
    toy.run(2);
    assert!(toy.world.notices.is_empty(), "one of ours that nobody claims");
}

/// etcd is restored, or somebody takes a claim's finalizer away, between the lifting of a gate and the scheduler: nothing has the pod's pin, and
/// no claim is there to watch it from.
#[test]
fn a_lifted_pod_whose_claim_is_gone_is_placed_again() {
    let mut toy = working(1);
    let uid = toy.world.pods.keys().next().unwrap().clone();
    let now = toy.now;
    let pod = toy.world.pods.get_mut(&uid).unwrap();
    (pod.phase, pod.node, pod.ready_since, pod.started_at) = (PodPhase::Pending, None, None, None);
    pod.stuck = Some(Box::new(crate::core::workload::Stuck { since: now, said: "0/1 nodes match".into() }));
    toy.starts.insert(uid.clone(), now + Millis::from_hours(24));
    toy.world.claims = BTreeMap::new().into();
    toy.run(14 * 60);
    assert_eq!((toy.removals.len(), toy.world.pods.contains_key(&uid)), (0, true), "its claim may come back");
    toy.run(2 * 60);
    assert_eq!(toy.removals.first().map(|(_, reason)| *reason), Some(crate::core::action::RemovalReason::NotScheduled));
}
