//! Rules between pods hold against every pod that has its place, and against those that are about to: bought for, being placed, or moving.

use super::toy::*;
use crate::core::fleet::{Claim, UnreadableClaim};
use crate::core::market::CapacityType;
use crate::core::units::ids::{ClaimName, Uid, ZoneId};
use crate::core::units::shared::Shared;
use crate::core::workload::need::WorkloadKind;
use crate::core::workload::{Mobility, PodPhase, PodRules};

/// The rules of a pod of `app` that keeps away from pods of `other` within `domain`.
fn apart(app: &str, domain: &str, other: &str) -> Shared<PodRules> {
    let manifest = serde_json::json!({
        "metadata": { "namespace": "default", "labels": { "app": app } },
        "spec": { "affinity": { "podAntiAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": [
            { "topologyKey": domain, "labelSelector": { "matchLabels": { "app": other } } }] } } },
    });
    PodRules::read(&serde_json::from_value(manifest).unwrap(), &Default::default()).0
}

/// Pods of `app` without rules of their own.
fn plain(app: &str) -> Shared<PodRules> {
    Shared::from(PodRules { labels: [("app".to_owned(), app.to_owned())].into(), ..PodRules::default() })
}

/// A pod of a Deployment of its own.
fn add(toy: &mut Toy, app: &str, rules: Shared<PodRules>) -> Uid {
    let mobility = Mobility::Surge {
        replica_set: format!("rs-{app}").into(),
        deployment: app.to_owned(),
        deployment_uid: format!("dep-{app}").into(),
    };
    let uid = toy.add_pod(mobility, WorkloadKind::Inference);
    toy.world.pods.get_mut(&uid).unwrap().rules = rules;
    uid
}

fn claim_of<'a>(toy: &'a Toy, pod: &Uid) -> Option<&'a Claim> {
    toy.world.claims.get(toy.world.pods[pod].claim.as_ref()?)
}

fn zone_of(toy: &Toy, pod: &Uid) -> Option<ZoneId> {
    Some(claim_of(toy, pod)?.spec.capacity.zone.clone())
}

const ZONE: &str = "topology.kubernetes.io/zone";

#[test]
fn two_workloads_that_keep_apart_are_placed_apart_though_both_come_at_once() {
    for (of_chat, of_index) in [
        (apart("chat", ZONE, "index"), plain("index")),
        (plain("chat"), apart("index", ZONE, "chat")),
        (apart("chat", ZONE, "index"), apart("index", ZONE, "chat")),
    ] {
        let mut toy = Toy::new();
        let (chat, index) = (add(&mut toy, "chat", of_chat), add(&mut toy, "index", of_index));
        toy.run(5);
        let zones = [zone_of(&toy, &chat), zone_of(&toy, &index)];
        assert!(zones[0].is_some() && zones[1].is_some() && zones[0] != zones[1], "{zones:?}");
    }
}

/// Charts write it everywhere: other zones for other replicas, if possible. At equal prices it decides, and the event says so; it never costs
/// money.
#[test]
fn what_is_only_preferred_decides_between_offers_of_one_price() {
    let rules = |weight: i64| {
        let manifest = serde_json::json!({
            "metadata": { "namespace": "default", "labels": { "app": "index" } },
            "spec": { "affinity": { "podAntiAffinity": { "preferredDuringSchedulingIgnoredDuringExecution": [
                { "weight": weight, "podAffinityTerm": { "topologyKey": ZONE, "labelSelector": { "matchLabels": { "app": "chat" } } } }] } } },
        });
        PodRules::read(&serde_json::from_value(manifest).unwrap(), &Default::default()).0
    };
    for (price, there) in [(SPOT_A.2, SPOT_B.1), (SPOT_A.2 + 1, SPOT_A.1)] {
        let mut toy = Toy::new();
        toy.world.market.offers.get_mut(&capacity(SPOT_B.0, SPOT_B.1, CapacityType::Spot)).unwrap().price_per_hour.0 = price;
        let chat = add(&mut toy, "chat", plain("chat"));
        // Nothing of it is free for the next.
        toy.run(5);
        assert_eq!(zone_of(&toy, &chat).as_ref().map(ZoneId::as_str), Some(SPOT_A.1));
        let index = add(&mut toy, "index", rules(100));
        toy.run(5);
        assert_eq!(zone_of(&toy, &index).as_ref().map(ZoneId::as_str), Some(there), "{price}");
        let said = toy.events.iter().rev().find(|(reason, _)| *reason == "Placed").unwrap();
        assert_eq!(said.1.contains("the same cost, and it gives less of what the pod prefers"), price == SPOT_A.2, "{}", said.1);
    }
}

#[test]
fn a_zone_is_taken_by_a_pod_that_a_machine_was_bought_for_and_that_is_not_bound_yet() {
    let mut toy = Toy::new();
    let chat = add(&mut toy, "chat", plain("chat"));
    toy.run(2);
    // The process ended between the purchase and the binding, and somebody else is about to write to the pod.
    toy.world.pods.get_mut(&chat).unwrap().claim = None;
    toy.world.in_flight.insert(crate::core::snapshot::Lane::Pod(chat.clone()));
    let index = add(&mut toy, "index", apart("index", ZONE, "chat"));
    toy.run(2);
    assert_eq!(zone_of(&toy, &index).as_ref().map(ZoneId::as_str), Some(SPOT_B.1), "the cheapest zone is to be chat's");
}

#[test]
fn a_zone_is_taken_by_work_that_a_machine_was_bought_ahead_for() {
    let mut toy = Toy::new();
    let chat = add(&mut toy, "chat", plain("chat"));
    toy.world.market.offers.get_mut(&capacity(SPOT_A.0, SPOT_A.1, CapacityType::Spot)).unwrap().price_per_hour.0 = SPOT_B.2 * 2;
    toy.run(300);
    assert_eq!(zone_of(&toy, &chat).as_ref().map(ZoneId::as_str), Some(SPOT_B.1));
    toy.world.market.offers.get_mut(&capacity(SPOT_A.0, SPOT_A.1, CapacityType::Spot)).unwrap().price_per_hour.0 = SPOT_A.2;
    while toy.world.claims.len() < 2 {
        toy.run(1);
    }
    let ahead: ClaimName = toy.world.claims.values().find(|c| c.spec.takes_over.is_some()).unwrap().name.clone();
    assert_eq!(toy.world.claims[&ahead].spec.capacity.zone.as_str(), SPOT_A.1);
    let index = add(&mut toy, "index", apart("index", ZONE, "chat"));
    toy.run(20);
    assert_eq!(zone_of(&toy, &index), None, "chat is in one zone and on its way to the other");
    // The work itself goes where its machine was bought.
    toy.run(200);
    assert_eq!(toy.world.claims[&ahead].status.failure, None);
}

#[test]
fn a_pod_whose_claim_cannot_be_read_stands_where_its_machine_is() {
    for spread in [false, true] {
        let mut toy = Toy::new();
        let manifest = serde_json::json!({
            "metadata": { "namespace": "default", "labels": { "app": "chat" } },
            "spec": { "topologySpreadConstraints": [{ "maxSkew": 1, "topologyKey": ZONE, "whenUnsatisfiable": "DoNotSchedule",
                "labelSelector": { "matchLabels": { "app": "chat" } } }] },
        });
        let spread_rules = PodRules::read(&serde_json::from_value(manifest).unwrap(), &Default::default()).0;
        let chat = add(&mut toy, "chat", if spread { spread_rules.clone() } else { plain("chat") });
        toy.run(100);
        assert_eq!(zone_of(&toy, &chat).as_ref().map(ZoneId::as_str), Some(SPOT_A.1));
        let Claim { name, uid, status, .. } = claim_of(&toy, &chat).unwrap().clone();
        toy.world.claims.remove(&name);
        let unreadable = UnreadableClaim { name: name.clone(), uid, instance: status.instance, fault: "of another version".into() };
        toy.world.unreadable_claims.insert(name, unreadable);
        let other = match spread {
            true => add(&mut toy, "chat", spread_rules),
            false => add(&mut toy, "index", apart("index", ZONE, "chat")),
        };
        let (_, schedule) = toy.world.pods.get_mut(&other).unwrap().need.as_mut().unwrap();
        schedule.zone_max_skew = spread.then_some(1);
        toy.run(5);
        assert_eq!(zone_of(&toy, &other).as_ref().map(ZoneId::as_str), Some(SPOT_B.1), "spread: {spread}");
    }
}

#[test]
fn replicas_that_spread_over_machines_do_not_share_one_that_has_room() {
    let manifest = serde_json::json!({
        "metadata": { "namespace": "default", "labels": { "app": "chat" } },
        "spec": { "topologySpreadConstraints": [{ "maxSkew": 1, "topologyKey": "kubernetes.io/hostname",
            "whenUnsatisfiable": "DoNotSchedule", "labelSelector": { "matchLabels": { "app": "chat" } } }] },
    });
    let spread = PodRules::read(&serde_json::from_value(manifest).unwrap(), &Default::default()).0;
    let mut toy = Toy::new();
    // Four replicas fit on one machine of four GPUs, and the first is alone there for a while.
    for zone in [SPOT_A, SPOT_B] {
        let one = toy.world.market.offers.remove(&capacity(zone.0, zone.1, CapacityType::Spot)).unwrap();
        let four = crate::core::market::Offer { capacity: four_gpus(zone), ..one };
        toy.world.market.offers.insert(four.capacity.clone(), four);
        toy.world.market.offers.remove(&capacity(zone.0, zone.1, CapacityType::OnDemand));
    }
    let mut pods = Vec::new();
    for _ in 0..3 {
        pods.push(add(&mut toy, "chat", spread.clone()));
        toy.run(100);
    }
    let on: std::collections::BTreeSet<&ClaimName> = pods.iter().filter_map(|p| toy.world.pods[p].claim.as_ref()).collect();
    assert!(pods.iter().all(|p| toy.world.pods[p].phase == PodPhase::Running));
    assert_eq!(on.len(), 3);
}

/// Four GPUs in this zone.
fn four_gpus(at: (&str, &str, i64)) -> crate::core::market::Capacity {
    crate::core::market::Capacity { instance_type: "g6.12xlarge".into(), ..capacity(at.0, at.1, CapacityType::Spot) }
}

/// Work of another kind that keeps out of the cheapest zone, because index is there.
#[test]
fn a_deadline_and_the_spares_of_a_service_choose_among_the_zones_that_others_leave() {
    use crate::core::workload::need::Deadline;
    let hours = crate::core::units::time::Millis::from_hours;
    for spares in [None, Some(1)] {
        let mut toy = Toy::new();
        let index = add(&mut toy, "index", plain("index"));
        toy.run(5);
        assert_eq!(zone_of(&toy, &index).as_ref().map(ZoneId::as_str), Some(SPOT_A.1));
        let rules = apart("work", ZONE, "index");
        let pods: Vec<Uid> = match spares {
            Some(_) => (0..2).map(|_| add(&mut toy, "work", rules.clone())).collect(),
            None => vec![toy.add_pod(job(), WorkloadKind::Batch)],
        };
        for uid in &pods {
            let pod = toy.world.pods.get_mut(uid).unwrap();
            pod.rules = rules.clone();
            let (_, schedule) = pod.need.as_mut().unwrap();
            schedule.spares = spares.unwrap_or(0);
            if spares.is_none() {
                (schedule.deadline, schedule.expected_runtime) = (Some(Deadline::After(hours(10))), Some(hours(1)));
            }
        }
        toy.run(5);
        for pod in &pods {
            assert_eq!(zone_of(&toy, pod).as_ref().map(ZoneId::as_str), Some(SPOT_B.1), "{spares:?}");
        }
    }
}
