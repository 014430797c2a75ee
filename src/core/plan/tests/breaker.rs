//! Many machines that fail at once are not many faults of machines: no more of them are given up than may be.

use super::toy::*;
use super::working;
use crate::core::fleet::{NodeState, Trigger};
use crate::core::record::Outcome;
use crate::core::units::ids::NodeName;
use crate::core::units::time::Millis;

fn decided(toy: &Toy, trigger: Trigger) -> usize {
    let given_up = |outcome| matches!(outcome, Outcome::Migrate) || trigger == Trigger::InstanceLost || outcome == Outcome::Terminate;
    let claims: std::collections::BTreeSet<_> =
        toy.decisions().into_iter().filter(|d| d.trigger == trigger && given_up(d.outcome)).filter_map(|d| d.from_claim.clone()).collect();
    claims.len()
}

fn held(toy: &Toy) -> usize {
    toy.events.iter().filter(|(said, note)| *said == "EndsHeld" && note.contains("ends-allowed-until")).count()
}

/// Whoever deletes Nodes, such as a cloud controller that finds no instance behind them.
#[test]
fn nodes_that_are_deleted_in_numbers_end_two_machines_and_the_others_wait_for_a_person() {
    let mut toy = working(6);
    let gone: Vec<NodeName> = toy.world.nodes.keys().cloned().collect();
    toy.lost_nodes.extend(gone);
    let nodes = std::mem::take(&mut toy.world.nodes);
    toy.run(300);
    assert_eq!((decided(&toy, Trigger::NodeGone), toy.held_ends, held(&toy)), (2, 4, 4), "{:?}", toy.events);
    for _ in 0..3 {
        toy.run(3_600);
        toy.another_leads();
    }
    assert_eq!(decided(&toy, Trigger::NodeGone), 2, "however long it lasts, and whoever leads");
    // The Nodes are back.
    toy.lost_nodes.clear();
    toy.world.nodes.extend(nodes.iter().map(|(name, node)| (name.clone(), node.clone())));
    toy.run(900);
    assert_eq!((decided(&toy, Trigger::NodeGone), toy.held_ends), (2, 0));
    assert!(toy.world.claims.values().all(|claim| claim.status.unhealthy.is_none()));
}

/// Machines that fail one after the other are faults of machines: each that fails after the limit was used up waits for ten minutes to have passed.
#[test]
fn a_machine_that_fails_later_has_a_limit_of_its_own() {
    let mut toy = working(6);
    let mut names = toy.world.nodes.keys().cloned().collect::<Vec<_>>().into_iter();
    let mut fall_silent = |toy: &mut Toy, count: usize| {
        names.by_ref().take(count).for_each(|name| toy.world.nodes.get_mut(&name).unwrap().ready = false);
    };
    fall_silent(&mut toy, 2);
    toy.run(200);
    assert_eq!(decided(&toy, Trigger::NodeNotReady), 2);
    fall_silent(&mut toy, 1);
    toy.run(240);
    assert_eq!((decided(&toy, Trigger::NodeNotReady), toy.held_ends), (2, 1), "within ten minutes");
    toy.run(400);
    assert_eq!((decided(&toy, Trigger::NodeNotReady), toy.held_ends), (3, 0));
}

/// The certificates of all kubelets expire, or a region is cut off.
#[test]
fn kubelets_that_fall_silent_in_numbers_end_two_machines_and_a_person_may_say_otherwise() {
    let mut toy = working(6);
    toy.world.nodes.values_mut().for_each(|node| node.ready = false);
    toy.run(400);
    assert_eq!((decided(&toy, Trigger::NodeNotReady), toy.held_ends, held(&toy)), (2, 4, 4), "{:?}", toy.events);
    let soon = toy.now + Millis::from_hours(1);
    toy.world.pools.values_mut().for_each(|pool| pool.ends_allowed_until = Some(soon));
    toy.run(5);
    assert_eq!(decided(&toy, Trigger::NodeNotReady), 6);
}

/// A device plugin's rollout fails everywhere, a monitor reports nonsense, a controller taints all nodes. A cordon is a person's word.
#[test]
fn faults_of_many_nodes_at_once_move_the_work_of_two_machines_and_cordons_that_of_all() {
    let of = |state: NodeState| move |toy: &mut Toy| toy.world.nodes.values_mut().for_each(|node| node.state = state.clone());
    type Change = Box<dyn Fn(&mut Toy)>;
    let without_gpus: Change = Box::new(|toy| toy.world.nodes.values_mut().for_each(|node| node.allocatable.gpus = 0));
    for (trigger, change, expected) in [
        (Trigger::GpusLost, without_gpus, 2),
        (Trigger::GpuFault, Box::new(of(NodeState { gpu_faults: vec!["GpuXid: 79".into()], ..NodeState::default() })), 2),
        (Trigger::NodeTainted, Box::new(of(NodeState { foreign_taints: vec!["x".into()], ..NodeState::default() })), 2),
        (Trigger::Cordoned, Box::new(of(NodeState { cordoned: true, ..NodeState::default() })), 6),
    ] {
        let mut toy = working(6);
        change(&mut toy);
        toy.run(190);
        let moving = toy.world.claims.values().filter(|claim| claim.status.moving.is_some()).count();
        assert_eq!((decided(&toy, trigger), moving), (expected, expected), "{trigger:?}: {:?}", toy.events);
        assert_eq!(held(&toy), 6 - expected, "{trigger:?}");
    }
}

#[test]
fn machines_that_ec2_says_have_ended_are_given_up_whatever_their_number() {
    let mut toy = working(6);
    toy.world.nodes.values_mut().for_each(|node| node.ready = false);
    toy.run(400);
    assert_eq!(decided(&toy, Trigger::NodeNotReady), 2);
    let alive: Vec<_> = toy
        .all_instances()
        .into_iter()
        .filter(|i| i.is_alive() && toy.world.nodes.values().any(|n| n.instance == i.id && !n.ready))
        .collect();
    assert_eq!(alive.len(), 4);
    alive.iter().for_each(|machine| toy.end_instance(&machine.id, "Server.InternalError"));
    toy.run(10);
    assert_eq!((decided(&toy, Trigger::InstanceLost), toy.held_ends), (4, 0));
}

/// Leaders that follow each other quickly, as while the API server is slow: each began to count again.
#[test]
fn leaders_that_follow_each_other_have_one_limit() {
    let mut toy = working(8);
    toy.world.nodes.values_mut().for_each(|node| node.allocatable.gpus = 0);
    toy.run(190);
    assert_eq!(decided(&toy, Trigger::GpusLost), 2);
    for _ in 0..2 {
        toy.another_leads();
        toy.run(185);
    }
    assert_eq!(decided(&toy, Trigger::GpusLost), 2, "{:?}", toy.world.claims.values().map(|c| &c.status.moving).collect::<Vec<_>>());
}

/// A leader that ends before it has kept what it counted, and whose clock was off: the next has seen its marks, and the claims are gone when it decides.
#[test]
fn a_leader_counts_what_it_saw_of_the_one_before_when_its_claims_are_gone() {
    for off in [Millis::from_mins(-4), Millis::ZERO, Millis::from_mins(4)] {
        let mut toy = working(6);
        toy.world.nodes.values_mut().for_each(|node| node.ready = false);
        while decided(&toy, Trigger::NodeNotReady) < 2 {
            toy.run(1);
        }
        for asked in toy.world.claims.values_mut().filter_map(|claim| claim.status.terminate_asked.as_mut()) {
            asked.0 = asked.0 + off;
        }
        toy.world.memory.unasked_ends.clear();
        toy.another_leads();
        toy.run(500);
        assert_eq!((decided(&toy, Trigger::NodeNotReady), toy.held_ends), (2, 4), "{off}");
        toy.run(1_500);
        assert_eq!((decided(&toy, Trigger::NodeNotReady), toy.held_ends), (2, 4), "{off}: they were unwell when the limit was used up");
    }
}

/// The claims of machines that were ended are soon gone: what the leader before counted is kept beside what it learnt of the market.
#[test]
fn ends_are_counted_on_by_what_the_leader_before_kept() {
    let mut toy = working(6);
    toy.world.memory.unasked_ends = vec![toy.now - Millis::from_mins(1), toy.now + Millis::from_mins(4), toy.now - Millis::from_hours(25)];
    let text = toy.world.memory.to_text(toy.now);
    let kept = crate::core::snapshot::memory::MarketMemory::from_text(&text, toy.now).unwrap();
    assert_eq!(kept.unasked_ends, [toy.now - Millis::from_mins(1), toy.now], "by another's clock, and not those of long ago");
    toy.world.memory.unasked_ends = kept.unasked_ends;
    toy.world.nodes.values_mut().for_each(|node| node.ready = false);
    toy.run(300);
    assert_eq!((decided(&toy, Trigger::NodeNotReady), toy.held_ends), (0, 6));
}

/// A machine on which nothing runs is nobody's loss.
#[test]
fn empty_machines_need_no_leave_of_the_breaker() {
    let mut toy = working(6);
    toy.world.pods = Default::default();
    toy.world.pools.values_mut().for_each(|pool| pool.empty_grace = Millis::from_hours(1));
    let gone: Vec<NodeName> = toy.world.nodes.keys().cloned().collect();
    toy.lost_nodes.extend(gone);
    toy.world.nodes = Default::default();
    toy.run(60);
    assert_eq!((decided(&toy, Trigger::NodeGone), held(&toy)), (6, 0));
}

/// What `kubectl delete crd gpunodeclaims.lowtide.dev` does, or a pipeline that prunes definitions: every claim is being deleted at once.
#[test]
fn claims_that_are_deleted_in_numbers_keep_their_machines_until_a_person_says_so() {
    let mut toy = working(6);
    let delete = |toy: &mut Toy, count: usize| toy.world.claims.values_mut().take(count).for_each(|claim| claim.deleting = true);
    delete(&mut toy, 6);
    toy.run(900);
    assert_eq!((decided(&toy, Trigger::Deleted), toy.held_ends, held(&toy), toy.running().len()), (0, 6, 6, 6), "{:?}", toy.events);
    toy.another_leads();
    toy.run(900);
    assert_eq!((decided(&toy, Trigger::Deleted), toy.running().len()), (0, 6), "whoever leads");
    let allowed = toy.now + Millis::from_hours(1);
    toy.world.pools.values_mut().for_each(|pool| pool.ends_allowed_until = Some(allowed));
    toy.run(900);
    assert_eq!((decided(&toy, Trigger::Deleted), toy.held_ends), (6, 0));

    let mut toy = working(6);
    delete(&mut toy, 2);
    toy.run(60);
    assert_eq!((decided(&toy, Trigger::Deleted), toy.held_ends), (2, 0), "a person may delete claims");
}
