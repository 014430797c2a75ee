//! Machines that are left by choice: within budgets, with nobody on them who is not to be disrupted, and for what has changed.

use super::toy::*;
use crate::core::fleet::{DisruptionSpec, NoticeKind, OtherPod, Trigger};
use crate::core::market::CapacityType;
use crate::core::record::Outcome;
use crate::core::units::ids::{ObjectRef, Uid};
use crate::core::units::time::Millis;
use crate::core::workload::PodIdentity;
use crate::core::workload::need::WorkloadKind;
use crate::core::workload::need::do_not_disrupt::{DoNotDisrupt, Stay};

/// What makes a machine worth leaving.
type Tempt<'a> = &'a dyn Fn(&mut Toy);

/// This many replicas on a machine each, that have run for a while.
fn fleet(replicas: usize) -> Toy {
    let mut toy = Toy::new();
    (0..replicas).for_each(|_| drop(toy.add_pod(deployment(), WorkloadKind::Inference)));
    toy.run(300);
    toy
}

fn budgets(toy: &mut Toy, written: &str) {
    let spec: DisruptionSpec = serde_json::from_str(&format!(r#"{{"budgets": {written}}}"#)).unwrap();
    toy.world.pools.values_mut().for_each(|pool| pool.disruption = spec.read());
}

fn expire(toy: &mut Toy, after: Millis) {
    toy.world.pools.values_mut().for_each(|pool| pool.expire_after = Some(after));
}

/// A class is changed: it makes nodes from another template.
fn change_class(toy: &mut Toy, region: &str) {
    let (class, template) = (format!("class-{region}").as_str().into(), format!("lowtide-{region}-2"));
    toy.world.templates.get_mut(&class).unwrap().name = template.clone();
    toy.world.classes.get_mut(&class).unwrap().launch_template = Some((template, "1".to_owned()));
}

fn leaving(toy: &Toy) -> usize {
    toy.world.claims.values().filter(|c| c.status.moving.is_some()).count()
}

fn keep(toy: &mut Toy, pod: &Uid, said: DoNotDisrupt) {
    toy.world.pods.get_mut(pod).unwrap().need.as_mut().unwrap().1.do_not_disrupt = Some(said);
}

/// The only pod.
fn pod(toy: &Toy) -> Uid {
    toy.world.pods.keys().next().unwrap().clone()
}

#[test]
fn machines_that_expire_together_leave_by_budget() {
    for (written, most) in [("[{\"nodes\": \"10%\"}]", 1), ("[{\"nodes\": \"2\"}]", 2), ("[]", 5)] {
        let mut toy = fleet(5);
        budgets(&mut toy, written);
        expire(&mut toy, Millis::from_secs(200));
        let mut at_once = 0;
        for _ in 0..240 {
            toy.run(1);
            // What they are replaced by does not expire meanwhile.
            if leaving(&toy) > 0 {
                expire(&mut toy, Millis::from_secs(500));
            }
            at_once = at_once.max(leaving(&toy));
        }
        assert_eq!(at_once, most, "{written}");
    }
}

#[test]
fn a_budget_of_none_keeps_expired_machines_and_says_so_once_but_not_those_that_ec2_takes() {
    let mut toy = fleet(1);
    budgets(&mut toy, r#"[{"nodes": "0", "reasons": ["Expiry"]}]"#);
    expire(&mut toy, Millis::from_secs(200));
    toy.run(400);
    assert_eq!((leaving(&toy), toy.removals.len()), (0, 0));
    let said: Vec<_> = toy.events.iter().filter(|(reason, _)| *reason == "ReplacementHeld").map(|(_, note)| note.as_str()).collect();
    let expected =
        "to be replaced (it is older than the 3m20s that its pool allows); it stays: its pool's disruption budgets let no machine go now";
    assert_eq!(said, vec![expected]);
    let doomed = toy.all_instances()[0].id.clone();
    toy.notify(&doomed, NoticeKind::Interruption);
    toy.run(5);
    assert_eq!(leaving(&toy), 1, "a notice asks no budget");
}

#[test]
fn a_window_that_closes_lets_machines_go() {
    let mut toy = fleet(1);
    // Toy time begins on 12 January 1970 at 13:46:40 UTC, a Monday: at a quarter past three in Berlin the window closes.
    budgets(&mut toy, r#"[{"nodes": "0", "schedule": "0 9 * * mon-fri", "duration": "6h15m", "timeZone": "Europe/Berlin"}]"#);
    expire(&mut toy, Millis::from_secs(200));
    toy.run(1_300);
    assert_eq!(leaving(&toy) + toy.removals.len(), 0, "{}", toy.now);
    toy.run(180);
    assert!(leaving(&toy) + toy.removals.len() > 0, "{}", toy.now);
}

#[test]
fn who_is_not_to_be_disrupted_holds_expiry_drift_and_savings_and_nothing_else() {
    let cheaper = |toy: &mut Toy| {
        toy.world.market.offers.get_mut(&capacity(SPOT_A.0, SPOT_A.1, CapacityType::Spot)).unwrap().price_per_hour.0 = SPOT_B.2 * 5;
    };
    let expires = |toy: &mut Toy| expire(toy, Millis::from_secs(310));
    let drifts = |toy: &mut Toy| change_class(toy, SPOT_A.0);
    let tempt: [(&str, Tempt); 3] = [("savings", &cheaper), ("expiry", &expires), ("drift", &drifts)];
    for (what, tempt) in tempt {
        for (said, moved) in [
            (None, true),
            (Some(DoNotDisrupt::Always), false),
            (Some(DoNotDisrupt::For(Millis::from_secs(60))), true),
            (Some(DoNotDisrupt::For(Millis::from_hours(1))), false),
        ] {
            let mut toy = fleet(1);
            let pod = pod(&toy);
            said.into_iter().for_each(|said| keep(&mut toy, &pod, said));
            tempt(&mut toy);
            toy.run(400);
            assert_eq!(!toy.world.pods.contains_key(&pod), moved, "{what}: {said:?}");
        }
    }
    let mut toy = fleet(1);
    let (pod, doomed) = (pod(&toy), toy.all_instances()[0].id.clone());
    keep(&mut toy, &pod, DoNotDisrupt::Always);
    toy.notify(&doomed, NoticeKind::Interruption);
    toy.run(110);
    assert!(!toy.world.pods.contains_key(&pod), "its work is saved from a machine that ends");
}

#[test]
fn a_guest_who_is_not_to_be_disrupted_holds_the_machine_too() {
    let mut toy = fleet(1);
    let guest = OtherPod {
        pod: PodIdentity { object: ObjectRef { namespace: "other".into(), name: "rider".into() }.into(), uid: "rider-1".into() },
        requests: Default::default(),
        rules: Default::default(),
        termination_grace: Millis::from_secs(30),
        deleting: false,
        mirror: false,
        stays: Stay::Always,
    };
    toy.world.nodes.values_mut().for_each(|node| node.state.others.push(guest.clone()));
    expire(&mut toy, Millis::from_secs(200));
    toy.run(300);
    assert_eq!(leaving(&toy) + toy.removals.len(), 0);
    assert!(toy.events.iter().any(|(_, note)| note.ends_with("it stays: pod other/rider is not to be disrupted")), "{:?}", toy.events);
}

#[test]
fn a_machine_is_replaced_when_its_class_makes_nodes_in_another_way_and_says_what_differs() {
    let mut toy = fleet(3);
    change_class(&mut toy, SPOT_B.0);
    toy.run(200);
    assert_eq!(leaving(&toy) + toy.removals.len(), 0, "no machine is of that class");
    change_class(&mut toy, SPOT_A.0);
    toy.run(1_200);
    let left: Vec<_> = toy.decisions().into_iter().filter(|d| d.trigger == Trigger::Drifted && d.outcome == Outcome::Migrate).collect();
    assert_eq!(left.len(), 3, "each once: {left:#?}");
    let why = "is replaced: its class class-eu-south-2 makes nodes from launch template lowtide-eu-south-2-2 now, not lowtide-eu-south-2";
    assert!(left[0].text.ends_with(why), "{}", left[0].text);
    assert!(toy.world.claims.values().all(|c| c.spec.frozen.launch_template == "lowtide-eu-south-2-2"));
    assert_eq!(toy.world.pods.values().filter(|p| p.ready_since.is_some()).count(), 3);
}

#[test]
fn a_pool_that_buys_something_else_now_replaces_what_it_has() {
    let mut toy = fleet(1);
    toy.world.pools.values_mut().for_each(|pool| pool.regions = vec!["us-*".into()]);
    toy.run(400);
    assert_eq!(toy.running(), vec![capacity(SPOT_B.0, SPOT_B.1, CapacityType::Spot)]);
}

#[test]
fn a_drifted_machine_waits_for_its_job_and_an_expired_one_does_not() {
    let mut toy = Toy::new();
    let pod = toy.add_pod(job(), WorkloadKind::Batch);
    toy.run(300);
    change_class(&mut toy, SPOT_A.0);
    toy.run(400);
    assert!(toy.world.pods[&pod].deleting_until.is_none() && leaving(&toy) == 0);
    expire(&mut toy, Millis::from_secs(200));
    toy.run(120);
    assert!(!toy.world.pods.contains_key(&pod), "it was asked to stop and is made again elsewhere");
}

#[test]
fn a_machine_whose_successor_was_taken_by_other_work_gets_another_and_holds_back_nobody() {
    let mut toy = fleet(2);
    let first: Vec<Uid> = toy.world.pods.keys().cloned().collect();
    let cheap = toy.world.market.offers.get_mut(&capacity(SPOT_A.0, SPOT_A.1, CapacityType::Spot)).unwrap();
    cheap.price_per_hour.0 = SPOT_B.2 * 5;
    for _ in 0..400 {
        toy.run(1);
        if toy.world.claims.values().any(|c| c.spec.takes_over.is_some()) {
            break;
        }
    }
    let bought: Vec<_> = toy.world.claims.values().filter(|c| c.spec.takes_over.is_some()).map(|c| c.name.clone()).collect();
    assert_eq!(bought.len(), 1, "one is bought ahead");
    // It comes between: the machine that is Ready first is given to whoever waits.
    let late = toy.add_pod(deployment(), WorkloadKind::Inference);
    toy.run(1_200);
    assert!(toy.world.pods.contains_key(&late));
    let stayed: Vec<_> = first.iter().filter(|pod| toy.world.pods.contains_key(*pod)).collect();
    assert_eq!(stayed, Vec::<&Uid>::new(), "both moved");
}

/// A machine's launch is said by EC2's clock and a pod's start by the kubelet's: neither is older for ours being ahead.
#[test]
fn nothing_is_older_for_our_clock_having_jumped_ahead() {
    let jump = Millis::from_mins(4);
    for (known, left) in [(None, 1), (Some(Millis::ZERO - jump), 0)] {
        for (after, said) in [(400, None), (60, Some(DoNotDisrupt::For(Millis::from_secs(400))))] {
            let mut toy = fleet(1);
            let pod = pod(&toy);
            said.into_iter().for_each(|said| keep(&mut toy, &pod, said));
            (toy.now, toy.world.ec2_ahead) = (toy.now + jump, known);
            expire(&mut toy, Millis::from_secs(after));
            toy.run(50);
            let moves = leaving(&toy) + usize::from(!toy.world.pods.contains_key(&pod));
            assert_eq!(moves.min(1), left, "{known:?}: expires after {after} s, {said:?}");
        }
    }
}
