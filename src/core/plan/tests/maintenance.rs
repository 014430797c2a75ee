//! What EC2 has scheduled for machines: read in two ways, written down once, and left in time.

use std::collections::BTreeMap;

use super::toy::*;
use crate::core::action::RemovalReason;
use crate::core::fleet::{InstanceState, NoticeKind, ScheduledEvent, ScheduledKind, Trigger};
use crate::core::market::{Capacity, CapacityType};
use crate::core::snapshot::Observed;
use crate::core::units::ids::{InstanceId, Uid};
use crate::core::units::time::{Millis, Timestamp};
use crate::core::workload::need::WorkloadKind;
use crate::core::workload::{Mobility, PodPhase};

/// Midnight of a day, in the toy's time.
const MIDNIGHT: Timestamp = Timestamp(1_036_800_000);

/// One pod that runs since some minutes, at this hour of the day.
fn running(mobility: Mobility, kind: WorkloadKind, hour: i64) -> (Toy, InstanceId, Uid) {
    let mut toy = Toy::new();
    toy.now = MIDNIGHT + Millis::from_hours(hour);
    let pod = toy.add_pod(mobility, kind);
    toy.run(180);
    let id = toy.world.claims.values().find_map(|c| c.status.instance.clone()).unwrap();
    (toy, id, pod)
}

fn retirement(not_before: Timestamp) -> ScheduledEvent {
    ScheduledEvent { kind: ScheduledKind::InstanceRetirement, not_before }
}

/// What DescribeInstanceStatus shows from now on.
fn shown(toy: &mut Toy, events: &[(&InstanceId, ScheduledEvent)]) {
    let value: BTreeMap<InstanceId, ScheduledEvent> = events.iter().map(|(id, event)| ((*id).clone(), *event)).collect();
    for region in [SPOT_A.0, SPOT_B.0] {
        toy.world.scheduled.insert(region.into(), Observed::Known { at: toy.now, value: value.clone().into() });
    }
}

fn is_left(toy: &Toy, id: &InstanceId) -> bool {
    let claim = toy.world.claims.values().find(|c| c.status.instance.as_ref() == Some(id));
    claim.is_none_or(|c| c.status.moving.as_ref().is_some_and(|mark| mark.trigger == Trigger::ScheduledMaintenance))
}

fn is_alive(toy: &Toy, id: &InstanceId) -> bool {
    toy.all_instances().iter().any(|i| i.id == *id && i.state == InstanceState::Running)
}

#[test]
fn a_service_moves_before_the_date_its_replacement_first_and_the_decision_says_why() {
    let (mut toy, id, old) = running(deployment(), WorkloadKind::Inference, 12);
    let date = toy.now + Millis::from_hours(14 * 24);
    shown(&mut toy, &[(&id, retirement(date))]);
    let mut served = true;
    for _ in 0..240 {
        toy.run(1);
        served &= toy.world.pods.values().any(|p| p.phase == PodPhase::Running && p.ready_since.is_some() && p.deleting_until.is_none());
    }
    assert!(served, "never without a Ready replica");
    assert!(!is_alive(&toy, &id) && toy.running().len() == 1, "the old machine is given back: {:?}", toy.running());
    assert!(!toy.world.pods.contains_key(&old));
    let text = format!(
        "EC2 has scheduled instance-retirement from {date} (said by ec2-status); its work moves at once, as nobody names quiet hours"
    );
    let of =
        |trigger: Trigger| toy.decisions().into_iter().filter(move |d| d.trigger == trigger).map(|d| d.text.clone()).collect::<Vec<_>>();
    assert!(of(Trigger::ScheduledMaintenance).iter().any(|said| said.contains(&text)), "{:?}", of(Trigger::ScheduledMaintenance));
    assert_eq!(toy.removals.last().map(|(_, reason)| *reason), Some(RemovalReason::Replaced));
}

#[test]
fn a_message_of_aws_health_is_enough_and_names_many() {
    let (mut toy, id, _) = running(deployment(), WorkloadKind::Inference, 12);
    let date = toy.now + Millis::from_hours(14 * 24);
    toy.notify(&id, NoticeKind::Scheduled(retirement(date)));
    let ours = toy.world.notices[0].notice.instance.clone();
    (toy.world.notices[0].notice.instance, toy.world.notices[0].notice.also) = ("i-of-somebody".into(), vec![ours]);
    toy.run(240);
    assert!(toy.world.notices.is_empty() && !is_alive(&toy, &id));
    assert!(toy.decisions().iter().any(|d| d.text.contains("(said by health)")));
}

#[test]
fn quiet_hours_of_the_owner_count_before_those_of_the_pool() {
    for (owner, pool, left_at) in
        [(None, Some("22:00-06:00"), 22), (Some("15:00-16:00"), Some("22:00-06:00"), 15), (Some("13:00-14:00 -03:00"), None, 16)]
    {
        let (mut toy, id, pod) = running(deployment(), WorkloadKind::Inference, 12);
        toy.world.pools.values_mut().for_each(|p| p.quiet_hours = pool.map(|text: &str| text.parse().unwrap()));
        if let Ok((_, schedule)) = &mut toy.world.pods.get_mut(&pod).unwrap().need {
            schedule.quiet_hours = owner.map(|text: &str| text.parse().unwrap());
        }
        let date = toy.now + Millis::from_hours(14 * 24);
        shown(&mut toy, &[(&id, retirement(date))]);
        toy.run(5);
        assert!(!is_left(&toy, &id), "{owner:?} {pool:?}");
        let said = format!("its work moves at {}, in its owners' quiet hours", MIDNIGHT + Millis::from_hours(left_at));
        assert!(toy.events.iter().any(|(reason, note)| *reason == "MaintenanceScheduled" && note.contains(&said)), "{:?}", toy.events);
        toy.now = MIDNIGHT + Millis::from_hours(left_at) - Millis::from_secs(10);
        toy.run(3);
        assert!(!is_left(&toy, &id));
        toy.run(12);
        assert!(is_left(&toy, &id), "{owner:?} {pool:?}");
    }
}

#[test]
fn a_job_may_finish_first_and_is_stopped_for_its_checkpoint_an_hour_before_the_date() {
    let (mut toy, id, pod) = running(job(), WorkloadKind::Batch, 12);
    let date = toy.now + Millis::from_hours(5);
    shown(&mut toy, &[(&id, retirement(date))]);
    toy.run(60);
    assert!(!is_left(&toy, &id));
    toy.now = date - Millis::from_hours(1) - Millis::from_secs(30);
    toy.run(5);
    assert!(!is_left(&toy, &id));
    toy.run(20);
    assert!(is_left(&toy, &id));
    let grace = toy.world.pods.get(&pod).and_then(|p| p.deleting_until).map(|until| until.since(toy.now));
    assert!(grace.is_none_or(|grace| grace <= Millis::from_secs(20)), "its own time for a checkpoint, not an hour: {grace:?}");
    assert!(toy.removals.iter().any(|(_, reason)| *reason == RemovalReason::Maintenance), "{:?}", toy.removals);
}

#[test]
fn replicas_leave_one_after_the_other_and_what_is_called_off_takes_work_again() {
    let mut toy = Toy::new();
    toy.world.pools.values_mut().for_each(|pool| pool.spread_most_extra_per_mille = 0);
    (0..3).for_each(|_| drop(toy.add_pod(deployment(), WorkloadKind::Inference)));
    toy.run(180);
    let ids: Vec<InstanceId> = toy.world.claims.values().filter_map(|c| c.status.instance.clone()).collect();
    let date = toy.now + Millis::from_hours(14 * 24);
    let events: Vec<_> = ids.iter().map(|id| (id, retirement(date))).collect();
    shown(&mut toy, &events);
    let works = |toy: &Toy, id: &InstanceId| {
        let claim = toy.world.claims.values().find(|c| c.status.instance.as_ref() == Some(id));
        claim.is_some_and(|c| toy.world.pods.values().any(|p| p.claim.as_ref() == Some(&c.name)))
    };
    let leaving = |toy: &Toy| ids.iter().filter(|id| works(toy, id) && is_left(toy, id)).count();
    for _ in 0..150 {
        toy.run(1);
        assert!(leaving(&toy) <= 1, "{} leave at once", leaving(&toy));
    }
    let kept: Vec<&InstanceId> = ids.iter().filter(|id| !is_left(&toy, id)).collect();
    assert!(!kept.is_empty() && kept.len() < 3, "{kept:?}");
    toy.now = toy.now + Millis::from_mins(11);
    shown(&mut toy, &[]);
    toy.run(5);
    assert!(toy.world.claims.values().filter(|c| c.status.moving.is_none()).all(|c| c.status.scheduled.is_none()), "called off");
}

#[test]
fn no_new_work_is_put_on_a_machine_that_ec2_will_work_on() {
    for scheduled in [false, true] {
        let (mut toy, id, _) = running(job(), WorkloadKind::Batch, 12);
        if scheduled {
            let date = toy.now + Millis::from_hours(14 * 24);
            shown(&mut toy, &[(&id, retirement(date))]);
            toy.run(2);
        }
        // Its work is done, and more comes before it has been empty for long.
        toy.world.pods.clear();
        let _other = toy.add_pod(job(), WorkloadKind::Batch);
        toy.run(2);
        assert_eq!(toy.world.claims.len(), if scheduled { 2 } else { 1 });
    }
}

#[test]
fn an_old_message_moves_nothing() {
    let (mut toy, id, _) = running(deployment(), WorkloadKind::Inference, 12);
    let date = toy.now - Millis::from_hours(2);
    toy.notify(&id, NoticeKind::Scheduled(retirement(date)));
    toy.run(60);
    assert!(toy.world.notices.is_empty() && is_alive(&toy, &id) && !is_left(&toy, &id));
}

#[test]
fn what_was_just_taken_back_is_not_bought_again_while_something_comparable_is_sold() {
    let spot = |place: (&str, &str, i64)| capacity(place.0, place.1, CapacityType::Spot);
    let (mut toy, id, _) = running(deployment(), WorkloadKind::Inference, 12);
    assert_eq!(toy.running(), vec![spot(SPOT_A)]);
    toy.notify(&id, NoticeKind::Interruption);
    toy.run(110);
    toy.end_instance(&id, "Server.SpotInstanceTermination");
    toy.run(30);
    assert_eq!(toy.running(), vec![spot(SPOT_B)], "not in the capacity that was taken back");
    // Nor for others, until it has had time to come back.
    let _pod: Uid = toy.add_pod(deployment(), WorkloadKind::Inference);
    toy.run(60);
    assert!(!toy.running().contains(&spot(SPOT_A)), "{:?}", toy.running());
    toy.now = toy.now + Millis::from_mins(31);
    let _pod: Uid = toy.add_pod(deployment(), WorkloadKind::Inference);
    toy.run(60);
    assert!(toy.running().contains(&spot(SPOT_A)), "{:?}", toy.running());
}

#[test]
fn with_nothing_comparable_left_capacity_that_was_taken_back_is_asked_again() {
    let (mut toy, id, _) = running(deployment(), WorkloadKind::Inference, 12);
    let only: Capacity = toy.running().remove(0);
    toy.world.market.offers.retain(|at, _| at.capacity_type == CapacityType::OnDemand || *at == only);
    toy.notify(&id, NoticeKind::Interruption);
    toy.run(60);
    assert_eq!(toy.running(), vec![only.clone(), only], "on-demand costs nine times as much");
}
