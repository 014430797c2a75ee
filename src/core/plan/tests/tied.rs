//! Pods that are tied to others: by volumes of one pod or one machine, or by an affinity over machines.

use super::toy::*;
use crate::core::units::ids::Uid;
use crate::core::units::{Mebibytes, Millicores};
use crate::core::workload::labels::{LabelOperator, LabelRequirement};
use crate::core::workload::need::WorkloadKind;
use crate::core::workload::need::constraints::ZONE;
use crate::core::workload::volumes::PodVolumes;
use crate::core::workload::{Mobility, PodRules};

fn add(toy: &mut Toy, app: &str, rules: PodRules) -> Uid {
    let mobility = Mobility::Surge {
        replica_set: format!("rs-{app}").into(),
        deployment: app.to_owned(),
        deployment_uid: format!("dep-{app}").into(),
    };
    let uid = toy.add_pod(mobility, WorkloadKind::Inference);
    toy.world.pods.get_mut(&uid).unwrap().rules = rules.into();
    uid
}

/// Offers of four GPUs, so that pods can share a machine.
fn toy_with_large_machines() -> Toy {
    let mut toy = Toy::new();
    let offers: Vec<_> = toy.world.market.offers.values().cloned().collect();
    for mut offer in offers {
        (offer.capacity.instance_type, offer.price_per_hour.0) = ("g6.12xlarge".into(), offer.price_per_hour.0 * 5);
        toy.world.market.offers.insert(offer.capacity.clone(), offer);
    }
    (toy.cpu, toy.memory) = (Millicores(1_000), Mebibytes(1_024));
    toy
}

fn machines_of(toy: &Toy) -> usize {
    let claims: std::collections::BTreeSet<_> = toy.world.pods.values().filter_map(|p| p.claim.clone()).collect();
    claims.len()
}

#[test]
fn no_machine_is_bought_before_a_volume_can_be_used_and_the_pod_is_placed_when_it_can() {
    let mut toy = Toy::new();
    let volumes = PodVolumes { missing: Some("PersistentVolumeClaim weights does not exist".to_owned()), ..PodVolumes::default() };
    let uid = add(&mut toy, "web", PodRules { volumes, ..PodRules::default() });
    toy.run(20);
    assert!(toy.running().is_empty() && toy.world.claims.is_empty());
    let said: Vec<_> = toy.events.iter().filter(|(reason, _)| *reason == "WaitingForVolume").collect();
    assert!(said.len() == 1 && said[0].1.contains("weights does not exist"), "{said:?}");
    toy.world.pods.get_mut(&uid).unwrap().rules = PodRules::default().into();
    toy.run(5);
    assert_eq!(toy.running().len(), 1);
}

#[test]
fn a_volume_of_one_pod_is_had_by_one_pod_at_a_time() {
    let mut toy = Toy::new();
    let volumes =
        PodVolumes { of_one_pod: ["weights".to_owned()].into(), of_one_node: ["weights".to_owned()].into(), ..PodVolumes::default() };
    let rules = PodRules { volumes, ..PodRules::default() };
    let (first, _) = (add(&mut toy, "web", rules.clone()), add(&mut toy, "web", rules));
    toy.run(60);
    assert_eq!(toy.running().len(), 1, "the scheduler would keep the other off every node");
    assert!(toy.events.iter().any(|(reason, note)| *reason == "WaitingForVolume" && note.contains("in use by pod")));
    toy.world.pods.remove(&first);
    toy.run(60);
    assert_eq!(machines_of(&toy), 1);
    assert!(toy.world.pods.values().all(|p| p.claim.is_some()));
}

#[test]
fn pods_with_a_volume_of_one_node_share_a_machine_that_was_bought_with_room_for_all() {
    let mut toy = toy_with_large_machines();
    let volumes = PodVolumes { of_one_node: ["weights".to_owned()].into(), ..PodVolumes::default() };
    let rules = PodRules { volumes, ..PodRules::default() };
    (0..3).for_each(|_| drop(add(&mut toy, "web", rules.clone())));
    toy.run(10);
    assert!(toy.world.pods.values().all(|p| p.claim.is_some()));
    assert_eq!((machines_of(&toy), toy.running().len()), (1, 1));
}

/// Two replicas of a spread that allows two are on a machine with room for more: the next goes to another.
#[test]
fn a_spread_over_machines_counts_those_that_are_there() {
    let manifest = serde_json::json!({
        "metadata": { "namespace": "default", "labels": { "app": "web" } },
        "spec": { "topologySpreadConstraints": [{ "maxSkew": 2, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "DoNotSchedule",
            "labelSelector": { "matchLabels": { "app": "web" } } }] },
    });
    let rules = (*PodRules::read(&serde_json::from_value(manifest).unwrap(), &Default::default()).0).clone();
    let mut toy = toy_with_large_machines();
    // Only machines of four GPUs.
    toy.world.market.offers.retain(|at, _| at.instance_type.as_str() == "g6.12xlarge");
    (0..2).for_each(|_| drop(add(&mut toy, "web", rules.clone())));
    toy.run(80);
    assert_eq!((machines_of(&toy), toy.running().len()), (1, 1));
    (0..3).for_each(|_| drop(add(&mut toy, "web", rules.clone())));
    toy.run(80);
    let mut on_each: std::collections::BTreeMap<_, usize> = Default::default();
    toy.world.pods.values().filter_map(|p| p.claim.clone()).for_each(|claim| *on_each.entry(claim).or_default() += 1);
    assert_eq!(on_each.values().sum::<usize>(), 5);
    assert!(on_each.values().all(|n| *n <= 2), "{on_each:?}");
}

#[test]
fn affinity_over_machines_is_kept_and_a_follower_waits_for_whom_it_follows() {
    let near = |app: &str, other: &str| {
        let manifest = serde_json::json!({
            "metadata": { "namespace": "default", "labels": { "app": app } },
            "spec": { "affinity": { "podAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": [
                { "topologyKey": "kubernetes.io/hostname", "labelSelector": { "matchLabels": { "app": other } } }] } } },
        });
        (*PodRules::read(&serde_json::from_value(manifest).unwrap(), &Default::default()).0).clone()
    };
    let mut toy = toy_with_large_machines();
    (0..2).for_each(|_| drop(add(&mut toy, "team", near("team", "team"))));
    add(&mut toy, "side", near("side", "team"));
    toy.run(10);
    assert!(toy.world.pods.values().all(|p| p.claim.is_some()), "{:?}", toy.events);
    assert_eq!(machines_of(&toy), 1);
    let mut toy = toy_with_large_machines();
    add(&mut toy, "side", near("side", "nobody"));
    toy.run(10);
    assert!(toy.world.claims.is_empty(), "nothing is bought to be near nobody");
}

/// The rules of a pod of `app` that must be in a zone with pods of `others`.
/// Each of them fits a machine, and not both; or a pod asks for what no type has together.
#[test]
fn what_no_machine_type_has_together_is_said_with_its_sum() {
    let volumes = PodVolumes { of_one_node: ["weights".to_owned()].into(), ..PodVolumes::default() };
    let rules = PodRules { volumes, ..PodRules::default() };
    let mut toy = Toy::new();
    toy.cpu = Millicores(120_000);
    let pods = [add(&mut toy, "a", rules.clone()), add(&mut toy, "b", rules)];
    toy.run(5);
    let said = |toy: &Toy| toy.events.iter().find(|(reason, _)| *reason == "Unplaceable").map(|(_, note)| note.clone()).unwrap();
    assert!(pods.iter().all(|pod| toy.world.pods[pod].claim.is_none()));
    let note = said(&toy);
    assert!(
        note.starts_with("no machine type has all that it and the pods that must share its machine need: 2 GPUs of 20 GiB each, 240 CPU, "),
        "{note}"
    );

    let mut toy = Toy::new();
    toy.cpu = Millicores(190_000);
    toy.memory = Mebibytes(4_300_000);
    add(&mut toy, "a", PodRules::default());
    toy.run(5);
    assert!(
        said(&toy).starts_with("no machine type has all that it needs: 1 GPUs of 20 GiB each, 190 CPU, 4200 GiB of memory; none of "),
        "{}",
        said(&toy)
    );
}

fn near_in_zone(app: &str, others: &[&str]) -> PodRules {
    let manifest = serde_json::json!({
        "metadata": { "namespace": "default", "labels": { "app": app } },
        "spec": { "affinity": { "podAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": [
            { "topologyKey": ZONE, "labelSelector": { "matchExpressions": [{ "key": "app", "operator": "In", "values": others }] } }] } } },
    });
    (*PodRules::read(&serde_json::from_value(manifest).unwrap(), &Default::default()).0).clone()
}

fn plain(app: &str) -> PodRules {
    PodRules { labels: [("app".to_owned(), app.to_owned())].into(), ..PodRules::default() }
}

fn zone_of(toy: &Toy, uid: &Uid) -> Option<String> {
    Some(toy.world.claims.get(toy.world.pods[uid].claim.as_ref()?)?.spec.capacity.zone.to_string())
}

/// It may be the first of its kind, but not while another that it must be near is about to get a place elsewhere.
#[test]
fn who_must_be_near_others_waits_for_those_that_come_with_it() {
    let mut toy = Toy::new();
    let chat = add(&mut toy, "chat", near_in_zone("chat", &["chat", "index"]));
    let index = add(&mut toy, "index", plain("index"));
    toy.world.pods.get_mut(&index).unwrap().need.as_mut().unwrap().0.regions = vec!["us-east-1".to_owned()];
    toy.run(10);
    assert_eq!((zone_of(&toy, &chat).as_deref(), zone_of(&toy, &index).as_deref()), (Some("use1-az4"), Some("use1-az4")));
}

#[test]
fn who_must_be_near_others_does_not_wait_for_ever_for_those_that_get_no_place() {
    let mut toy = Toy::new();
    let chat = add(&mut toy, "chat", near_in_zone("chat", &["chat", "index"]));
    let index = add(&mut toy, "index", plain("index"));
    toy.world.pods.get_mut(&index).unwrap().need.as_mut().unwrap().0.gpus = 64;
    toy.run(30);
    assert_eq!(zone_of(&toy, &chat), None);
    toy.run(60);
    assert!(zone_of(&toy, &chat).is_some() && zone_of(&toy, &index).is_none());
}

/// The scheduler compares what is written: an id on one node and a name on the other are two zones to it.
#[test]
fn the_nodes_of_pods_that_must_be_near_each_other_have_one_form_of_their_zone() {
    let mut toy = Toy::new();
    let index = add(&mut toy, "index", plain("index"));
    let by_id = LabelRequirement { key: ZONE.to_owned(), operator: LabelOperator::In(["use1-az4".to_owned()].into()) };
    toy.world.pods.get_mut(&index).unwrap().need.as_mut().unwrap().0.node_terms = vec![vec![by_id]];
    toy.run(80);
    let chat = add(&mut toy, "chat", near_in_zone("chat", &["index"]));
    let by_name = LabelRequirement { key: ZONE.to_owned(), operator: LabelOperator::In(["us-east-1a".to_owned()].into()) };
    toy.world.pods.get_mut(&chat).unwrap().need.as_mut().unwrap().0.node_terms = vec![vec![by_name]];
    toy.run(80);
    let form = |uid: &Uid| toy.world.nodes[toy.world.pods[uid].node.as_ref().unwrap()].state.labels.get(ZONE).unwrap().to_owned();
    assert_eq!((form(&chat), form(&index)), ("us-east-1a".to_owned(), "us-east-1a".to_owned()));
}

/// Pods that must be near others by capacity type find the label on every node, also where nobody asked for it.
#[test]
fn every_node_says_its_capacity_type() {
    let mut toy = Toy::new();
    add(&mut toy, "index", plain("index"));
    toy.run(60);
    assert!(
        toy.world.nodes.values().all(|node| node.state.labels.get("lowtide.dev/capacity-type") == Some("spot"))
            && toy.world.nodes.len() == 1
    );
}
