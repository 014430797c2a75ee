//! Pods with a deadline: spot, waiting, or on-demand, by the batch policy.

use super::toy::*;
use crate::core::fleet::NoticeKind;
use crate::core::market::{Capacity, CapacityType};
use crate::core::record::{Outcome, Refusal};
use crate::core::snapshot::memory::Sighting;
use crate::core::units::ids::Uid;
use crate::core::units::money::MicroUsdPerHour;
use crate::core::units::time::Millis;
use crate::core::workload::PodPhase;
use crate::core::workload::need::{CapacityPreference, Deadline, Schedule, WorkloadKind};

fn spot_a() -> Capacity {
    capacity(SPOT_A.0, SPOT_A.1, CapacityType::Spot)
}

fn spot_b() -> Capacity {
    capacity(SPOT_B.0, SPOT_B.1, CapacityType::Spot)
}

/// A Job's pod that runs for `runtime` minutes and must be done within `deadline` minutes; it saves its work when asked to stop.
fn timed(toy: &mut Toy, runtime: Option<i64>, deadline: i64) -> Uid {
    let uid = toy.add_pod(job(), WorkloadKind::Batch);
    set(toy, &uid, |schedule| {
        schedule.deadline = Some(Deadline::After(Millis::from_mins(deadline)));
        schedule.expected_runtime = runtime.map(Millis::from_mins);
    });
    uid
}

fn set(toy: &mut Toy, pod: &Uid, change: impl Fn(&mut Schedule)) {
    if let Ok((_, schedule)) = &mut toy.world.pods.get_mut(pod).unwrap().need {
        change(schedule);
    }
}

fn phase(toy: &Toy, pod: &Uid) -> PodPhase {
    toy.world.pods[pod].phase
}

fn only_text(toy: &Toy) -> String {
    let texts: Vec<String> = toy.decisions().iter().map(|d| d.text.to_string()).collect();
    assert_eq!(texts.len(), 1, "{texts:#?}");
    texts[0].clone()
}

#[test]
fn slack_decides_between_spot_and_on_demand_and_the_decision_says_so() {
    // Boot is taken for 4 minutes and a machine that never joins is noticed after 3: with less than 11 minutes beyond the work, on-demand.
    for (runtime, deadline, expected, why) in [
        (60, 600, CapacityType::Spot, "worth waiting for"),
        (60, 77, CapacityType::Spot, "kept for interruptions"),
        (60, 70, CapacityType::OnDemand, "no time to lose another machine"),
        (60, 30, CapacityType::OnDemand, "no time to lose another machine"),
    ] {
        let mut toy = Toy::new();
        timed(&mut toy, Some(runtime), deadline);
        toy.run(2);
        let bought: Vec<CapacityType> = toy.running().iter().map(|p| p.capacity_type).collect();
        assert_eq!(bought, [expected], "{runtime} min of work, deadline in {deadline}");
        let text = only_text(&toy);
        assert!(text.contains(why) && text.contains("deadline 1970-01-12T"), "{text}");
        assert!(toy.events.iter().any(|(reason, note)| *reason == "Placed" && note.contains(why)), "{:?}", toy.events);
    }
}

#[test]
fn cheaper_spot_that_a_deadline_forbids_is_refused_for_that_reason() {
    let mut toy = Toy::new();
    timed(&mut toy, Some(60), 70);
    toy.run(2);
    let judgement = &toy.decisions()[0].judgement;
    assert_eq!(judgement.refused.get(&Refusal::CapacityType), Some(&2), "{:?}", judgement.refused);
    assert!(toy.decisions()[0].counterfactuals.b2_spot_home.is_some(), "what spot would have cost is kept");
}

#[test]
fn while_there_is_time_a_job_waits_for_the_cheap_pool_and_takes_on_demand_at_the_last_call() {
    let mut toy = Toy::new();
    toy.dry.insert(spot_a());
    let pod = timed(&mut toy, Some(60), 240);
    toy.run(30);
    assert_eq!(phase(&toy, &pod), PodPhase::Gated);
    assert!(toy.running().is_empty(), "the dear pool is not taken while the cheap one is expected to do: {:?}", toy.running());
    let waits = toy.events.iter().find(|(reason, _)| *reason == "WaitingForSpot").expect("the owner is informed");
    assert!(waits.1.contains("on-demand only from 1970-01-12T") && waits.1.contains("cooling down"), "{}", waits.1);
    let refused = toy.decisions().into_iter().find(|d| d.outcome == Outcome::Refuse).unwrap();
    assert_eq!(refused.judgement.refused.get(&Refusal::NotForDeadline), Some(&3), "{:?}", refused.judgement.refused);
    // After half an hour the dear pool will do; here it is dry as well. Nothing comes back. In the end on-demand still makes it.
    toy.dry.insert(spot_b());
    toy.run(200 * 60);
    assert_eq!(toy.running(), [capacity(SPOT_A.0, SPOT_A.1, CapacityType::OnDemand)]);
    let ready = toy.world.pods[&pod].ready_since.expect("it runs");
    let done = ready + Millis::from_mins(60);
    assert!(done <= toy.world.pods[&pod].created_at + Millis::from_mins(240), "on-demand came too late");
}

#[test]
fn after_half_an_hour_any_spot_below_on_demand_will_do() {
    let mut toy = Toy::new();
    toy.dry.insert(spot_a());
    timed(&mut toy, Some(60), 600);
    toy.run(29 * 60);
    assert!(toy.running().is_empty());
    toy.run(2 * 60);
    assert_eq!(toy.running(), [spot_b()]);
    assert!(toy.decisions().last().unwrap().text.contains("waited 30m00s for cheap pools"), "{:?}", toy.decisions().last());
}

#[test]
fn what_was_learnt_of_a_pool_is_what_a_job_goes_by() {
    let mut toy = Toy::new();
    // The cheap pool had nothing all day, so waiting for it alone would not do.
    for minute in 0..(24 * 60) {
        let at = toy.now - Millis::from_mins(24 * 60 - minute);
        let (base, max) = (Millis::from_mins(1), Millis::from_mins(1));
        let refused = Sighting::Refused { cause: crate::core::market::CoolDownCause::NoCapacity, vcpus: 4, base, max };
        toy.world.memory.record(&spot_a(), refused, at);
    }
    toy.dry.insert(spot_a());
    timed(&mut toy, Some(60), 240);
    toy.run(5);
    assert_eq!(toy.running(), [spot_b()]);
}

#[test]
fn work_that_is_not_saved_needs_more_slack() {
    let with = |change: &dyn Fn(&mut Schedule)| {
        let mut toy = Toy::new();
        let pod = timed(&mut toy, Some(60), 110);
        set(&mut toy, &pod, change);
        toy.run(2);
        toy.running()[0].capacity_type
    };
    assert_eq!(with(&|_| {}), CapacityType::Spot, "50 minutes beyond work that is saved when asked");
    assert_eq!(with(&|s| s.checkpoint_grace = None), CapacityType::OnDemand, "one loss of everything would be too late");
    assert_eq!(with(&|s| s.checkpoint_grace = Some(Millis::from_mins(10))), CapacityType::OnDemand, "EC2 gives two minutes");
}

#[test]
fn without_a_runtime_the_second_half_is_on_demand() {
    for (elapsed, expected) in [(0, CapacityType::Spot), (31, CapacityType::OnDemand)] {
        let mut toy = Toy::new();
        timed(&mut toy, None, 60);
        toy.now = toy.now + Millis::from_mins(elapsed);
        toy.run(2);
        assert_eq!(toy.running()[0].capacity_type, expected);
        assert!(only_text(&toy).contains("no lowtide.dev/expected-runtime"));
    }
}

#[test]
fn an_owner_who_takes_spot_only_or_serves_is_left_alone() {
    let mut toy = Toy::new();
    let pod = timed(&mut toy, Some(60), 70);
    if let Ok((need, _)) = &mut toy.world.pods.get_mut(&pod).unwrap().need {
        need.capacity = CapacityPreference::SpotOnly;
    }
    toy.run(2);
    assert_eq!(toy.running(), [spot_a()]);
    let mut toy = Toy::new();
    toy.world.market.offers.retain(|at, _| at.capacity_type == CapacityType::Spot);
    timed(&mut toy, Some(60), 70);
    toy.run(2);
    assert_eq!(toy.running(), [spot_a()], "no on-demand is to be had, and any machine is better than none");
}

#[test]
fn spot_that_costs_more_than_on_demand_is_not_spot_to_take() {
    let mut toy = Toy::new();
    for offer in toy.world.market.offers.values_mut().filter(|o| o.capacity.capacity_type == CapacityType::Spot) {
        offer.price_per_hour = MicroUsdPerHour(ON_DEMAND + 1);
    }
    timed(&mut toy, Some(60), 600);
    toy.run(2);
    assert_eq!(toy.running(), [capacity(SPOT_A.0, SPOT_A.1, CapacityType::OnDemand)]);
    assert!(only_text(&toy).contains("costs more on spot"));
}

#[test]
fn a_replacement_knows_when_its_job_began_and_what_was_saved() {
    let mut toy = Toy::new();
    let first = timed(&mut toy, Some(60), 100);
    toy.run(40 * 60);
    assert_eq!(phase(&toy, &first), PodPhase::Running);
    let doomed = toy.all_instances()[0].id.clone();
    let begun = toy.world.pods[&first].created_at;
    toy.notify(&doomed, NoticeKind::Interruption);
    toy.run(2);
    let second = toy.world.pods.keys().find(|uid| **uid != first).unwrap().clone();
    set(&mut toy, &second, |schedule| {
        schedule.deadline = Some(Deadline::After(Millis::from_mins(100)));
        schedule.expected_runtime = Some(Millis::from_mins(60));
    });
    toy.run(1);
    let work = toy.world.pods[&second].replaces.clone().and_then(|r| r.work).expect("the replacement carries what was done");
    assert_eq!(work.since, begun);
    assert!(work.overspent.0 < 0, "spot saved money: {work:?}");
    assert!((Millis::from_mins(37)..Millis::from_mins(40)).contains(&work.saved), "{work:?}");
    // 100 minutes from the job's beginning, not from its second pod's: 60 are left for 21 of work, and spot is taken again.
    let text = toy.decisions().last().unwrap().text.clone();
    let deadline = begun + Millis::from_mins(100);
    assert!(text.contains(&format!("deadline {deadline}, 21m")), "{text}");
    assert_eq!(toy.running().last().map(|p| p.capacity_type), Some(CapacityType::Spot));
}

/// A Job on on-demand because spot had nothing: an hour in, spot has room again.
fn on_demand_job(change: impl Fn(&mut Schedule)) -> (Toy, Uid) {
    let mut toy = Toy::new();
    for spot in [spot_a(), spot_b()] {
        toy.world.market.offers.get_mut(&spot).unwrap().price_per_hour = MicroUsdPerHour(ON_DEMAND * 2);
    }
    let pod = timed(&mut toy, Some(600), 1_800);
    set(&mut toy, &pod, change);
    toy.run(100);
    assert_eq!(toy.running(), [capacity(SPOT_A.0, SPOT_A.1, CapacityType::OnDemand)]);
    assert_eq!(phase(&toy, &pod), PodPhase::Running);
    let offer = |toy: &mut Toy, at: Capacity, price: i64| toy.world.market.offers.get_mut(&at).unwrap().price_per_hour.0 = price;
    offer(&mut toy, spot_a(), SPOT_A.2);
    offer(&mut toy, spot_b(), SPOT_B.2);
    (toy, pod)
}

#[test]
fn a_running_job_that_saves_when_asked_returns_to_spot_and_its_successor_is_ready_first() {
    let (mut toy, first) = on_demand_job(|_| {});
    toy.run(100);
    assert_eq!(toy.running().len(), 2, "the cheaper machine is bought first: {:?}", toy.running());
    assert_eq!(phase(&toy, &first), PodPhase::Running);
    assert!(toy.removals.is_empty());
    toy.run(120);
    assert_eq!(toy.running(), [spot_a()]);
    let text = toy.decisions().iter().find(|d| d.outcome == Outcome::Migrate).map(|d| d.text.clone()).unwrap();
    assert!(text.contains("spot is cheaper again") && text.contains("of work left: going there costs less than staying"), "{text}");
    assert_eq!(toy.removals.len(), 1, "asked to stop once: {:?}", toy.removals);
    let second = toy.world.pods.values().next().unwrap();
    assert!(second.identity.uid != first && second.phase == PodPhase::Running);
    let work = second.replaces.as_ref().and_then(|r| r.work.as_ref()).unwrap();
    assert!(work.saved > Millis::from_mins(2), "{work:?}");
}

#[test]
fn a_job_goes_to_the_machine_that_was_bought_for_it_when_nothing_more_can_be_bought() {
    let (mut toy, _) = on_demand_job(|_| {});
    toy.world.pools.values_mut().for_each(|pool| pool.max_nodes = Some(2));
    toy.run(220);
    assert_eq!(toy.running(), [spot_a()]);
}

#[test]
fn a_running_job_stays_when_moving_would_lose_work_or_does_not_pay() {
    type Change = fn(&mut Schedule);
    let cases: [(&str, Change, i64); 5] = [
        ("nothing is known to be saved", |s| s.checkpoint_grace = None, SPOT_A.2),
        ("EC2 gives two minutes", |s| s.checkpoint_grace = Some(Millis::from_mins(10)), SPOT_A.2),
        ("hardly any work is left", |s| s.expected_runtime = Some(Millis::from_mins(6)), SPOT_A.2),
        ("the saving is less than the pool asks for", |_| {}, ON_DEMAND * 9 / 10),
        ("no time for a changeover", |s| s.deadline = Some(Deadline::After(Millis::from_mins(612))), SPOT_A.2),
    ];
    for (why, change, price) in cases {
        let (mut toy, pod) = on_demand_job(|_| {});
        set(&mut toy, &pod, change);
        for spot in [spot_a(), spot_b()] {
            toy.world.market.offers.get_mut(&spot).unwrap().price_per_hour = MicroUsdPerHour(price);
        }
        toy.run(240);
        assert_eq!((toy.running().len(), toy.removals.len()), (1, 0), "{why}: {:?}", toy.decisions().last().map(|d| &d.text));
        assert_eq!(phase(&toy, &pod), PodPhase::Running, "{why}");
    }
}

#[test]
fn a_job_that_has_just_saved_may_return_and_one_whose_data_cost_more_to_carry_may_not() {
    let (mut toy, pod) = on_demand_job(|s| s.checkpoint_grace = None);
    let saved_at = toy.now + Millis::from_secs(20);
    set(&mut toy, &pod, |s| s.checkpointed_at = Some(saved_at));
    toy.run(240);
    assert_eq!(toy.running(), [spot_a()]);
    // A terabyte to another region costs more than the work that is left can save.
    let (mut toy, pod) = on_demand_job(|_| {});
    if let Ok((need, _)) = &mut toy.world.pods.get_mut(&pod).unwrap().need {
        need.data_gib = 1_000;
    }
    toy.world.market.offers.get_mut(&spot_a()).unwrap().price_per_hour = MicroUsdPerHour(ON_DEMAND);
    toy.run(240);
    assert_eq!((toy.running().len(), toy.removals.len()), (1, 0), "{:?}", toy.decisions().last().map(|d| &d.text));
}

#[test]
fn while_the_old_pod_still_works_a_refusal_is_said_once_a_minute_and_not_with_every_pass() {
    let mut toy = Toy::new();
    let first = timed(&mut toy, Some(600), 1_800);
    toy.run(40 * 60);
    let machine = toy.all_instances()[0].id.clone();
    for spot in [spot_a(), spot_b()] {
        toy.dry.insert(spot);
    }
    toy.notify(&machine, NoticeKind::Interruption);
    let before = toy.decisions().len();
    toy.run(2);
    let second = toy.world.pods.keys().find(|uid| **uid != first).unwrap().clone();
    set(&mut toy, &second, |schedule| {
        schedule.deadline = Some(Deadline::After(Millis::from_mins(1_800)));
        schedule.expected_runtime = Some(Millis::from_mins(600));
    });
    toy.run(50);
    let refused: Vec<_> = toy.decisions()[before..].iter().filter(|d| d.outcome == Outcome::Refuse).map(|d| d.text.clone()).collect();
    assert!((1..=3).contains(&refused.len()), "{refused:#?}");
}
