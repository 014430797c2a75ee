//! Spans are counted between two readings of one clock: what a kubelet, the API server or the leader before wrote down is of another.

use super::toy::*;
use super::working;
use crate::core::action::RemovalReason;
use crate::core::fleet::{ClaimStatus, NoticeKind, Trigger};
use crate::core::plan::plan;
use crate::core::units::ids::{NodeName, Uid};
use crate::core::units::time::Millis;
use crate::core::workload::need::WorkloadKind;
use crate::core::workload::{PodPhase, Stuck};

fn decided(toy: &Toy, trigger: Trigger) -> usize {
    toy.decisions().into_iter().filter(|d| d.trigger == trigger).count()
}

/// By how far the other clock is off.
const OFF: [Millis; 3] = [Millis::from_mins(-4), Millis::ZERO, Millis::from_mins(4)];

#[test]
fn a_node_that_the_leader_before_saw_unwell_has_its_whole_bound_again() {
    for off in OFF {
        let mut toy = working(1);
        toy.world.nodes.values_mut().for_each(|node| node.ready = false);
        toy.run(5);
        toy.another_leads();
        for mark in toy.world.claims.values_mut().filter_map(|claim| claim.status.unhealthy.as_mut()) {
            mark.since = mark.since + off;
        }
        toy.run(175);
        assert_eq!((decided(&toy, Trigger::NodeNotReady), toy.running().len()), (0, 1), "{off}");
        toy.run(10);
        assert_eq!(decided(&toy, Trigger::NodeNotReady), 1, "{off}: and no more");
    }
}

/// The scheduler's condition was False for the gate already, so it is as old as the pod, and by the API server's clock.
#[test]
fn a_pod_that_was_just_lifted_onto_a_machine_that_is_long_there_has_its_time_to_be_bound() {
    for off in OFF {
        let mut toy = working(1);
        let uid: Uid = toy.world.pods.keys().next().cloned().unwrap();
        let long_ago = toy.now - Millis::from_mins(2) + off;
        let pod = toy.world.pods.get_mut(&uid).unwrap();
        (pod.phase, pod.node, pod.ready_since, pod.started_at, pod.created_at) = (PodPhase::Pending, None, None, None, long_ago);
        pod.stuck = Some(Box::new(Stuck { since: long_ago, said: "0/1 nodes are available".into() }));
        let later = toy.now + Millis::from_hours(24);
        toy.starts.insert(uid, later);
        toy.run(19);
        assert!(toy.removals.is_empty(), "{off}: {:?}", toy.removals);
        toy.run(4);
        assert_eq!(toy.removals.first().map(|(_, reason)| *reason), Some(RemovalReason::NotScheduled), "{off}");
    }
}

/// The claims of all machines as a backup has them that is older than the nodes, or as `lowtide adopt` makes them.
fn restore(toy: &mut Toy, adopted: bool) {
    for claim in toy.world.claims.values_mut() {
        let (instance, launched_at) = (claim.status.instance.take(), claim.status.launched_at);
        claim.status = ClaimStatus { launch_asked_at: launched_at, instance: instance.clone(), launched_at, ..ClaimStatus::default() };
        claim.spec.adopted = instance.filter(|_| adopted);
    }
    toy.another_leads();
}

#[test]
fn machines_of_a_restored_or_adopted_claim_have_their_time_to_join_again_and_end_two_at_a_time() {
    for adopted in [false, true] {
        let mut toy = working(6);
        toy.run(300);
        let gone: Vec<NodeName> = toy.world.nodes.keys().cloned().collect();
        toy.lost_nodes.extend(gone.clone());
        let nodes = std::mem::take(&mut toy.world.nodes);
        restore(&mut toy, adopted);
        toy.run(175);
        assert_eq!(decided(&toy, Trigger::NeverJoined), 0, "its kubelets come back in a while");
        toy.run(60);
        let held = toy.events.iter().filter(|(said, _)| *said == "EndsHeld").count();
        assert_eq!((decided(&toy, Trigger::NeverJoined), toy.held_ends, held), (2, 4, 4), "{adopted}");
        toy.lost_nodes.clear();
        toy.world.nodes.extend(nodes.iter().map(|(name, node)| (name.clone(), node.clone())));
        toy.run(10);
        assert!(toy.held_ends == 0 && toy.world.claims.values().filter(|c| c.status.node_ready_at.is_some()).count() == 4, "{adopted}");
    }
}

/// What this leader launched itself and never joins is a machine without work: no number of them is too many.
#[test]
fn machines_that_this_leader_launched_and_that_never_join_are_ended_whatever_their_number() {
    let mut toy = Toy::new();
    let duds = toy.world.market.offers.keys().cloned().collect::<Vec<_>>();
    toy.duds.extend(duds);
    (0..6).for_each(|_| drop(toy.add_pod(deployment(), WorkloadKind::Inference)));
    toy.run(20);
    let launched = toy.running().len();
    assert!(launched >= 4, "{launched}");
    toy.run(170);
    assert!(decided(&toy, Trigger::NeverJoined) >= launched && toy.held_ends == 0, "{:?}", toy.events);
}

/// Nothing has been seen yet, as right after a start: no span has begun, and none is over.
#[test]
fn before_anything_was_seen_no_span_is_over() {
    let mut toy = working(2);
    toy.world.nodes.values_mut().for_each(|node| node.ready = false);
    toy.run(5);
    toy.another_leads();
    let planned = plan(&toy.settings, &toy.world, toy.now + Millis::from_hours(1));
    let ends = |action: &crate::core::action::Action| matches!(action, crate::core::action::Action::Terminate { .. });
    assert!(!planned.steps.iter().flat_map(|step| &step.actions).any(ends));
}

/// EC2 says when it sent a notice. Read by a clock of ours that is ahead, its two minutes would be over before it came.
#[test]
fn a_notice_leaves_its_two_minutes_though_our_clock_is_off() {
    for off in OFF {
        let mut toy = working(1);
        let id = toy.all_instances()[0].id.clone();
        toy.world.ec2_ahead = Some(Millis::ZERO - off);
        toy.notify(&id, NoticeKind::Interruption);
        toy.world.notices.iter_mut().for_each(|pending| pending.notice.sent_at = pending.notice.sent_at - off);
        toy.run(2);
        let deadline = toy.world.claims.values().find_map(|claim| claim.status.interruption.as_ref()?.deadline).unwrap();
        let left = deadline.since(toy.now);
        assert!(left > Millis::from_secs(110) && left <= Millis::from_mins(2), "{off}: {left}");
    }
}
