//! Placement held against the real kube-scheduler.
//!
//! One way: lowtide's own reader and plan buy for drawn pods and lift their gates; the machines are written as Nodes, the pods with the pin and
//! the toleration that the operator writes, and every one of them must be bound to its machine at once. The other way round: a pod alone that
//! lowtide refuses must be one that the scheduler places on no node of the catalogue.
//!
//! `LOWTIDE_ORACLE_CASES` says how many cases are drawn, `LOWTIDE_ORACLE_FIRST` which is the first.
#![cfg(all(feature = "lab", feature = "live"))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};

use lowtide::core::placement::node_labels::{ClassLabels, ExpectedNode};
use lowtide::core::workload::need::constraints::KNOWN_LABELS;
use serde_json::{Value, json};

mod draw;
mod planned;
mod scheduler;
#[path = "../toy/mod.rs"]
mod toy;

use draw::{Case, Draw};
use planned::{Planned, Play};
use scheduler::{BATCH, Fate, Scheduler};

/// The pin and the taint that tie a pod to its claim's node.
const PIN: &str = "lowtide.node-restriction.kubernetes.io/claim";
const CLAIM_TAINT: &str = "lowtide.dev/claim";
/// Cases that stand in the cluster at one time.
const TOGETHER: usize = 60;

fn asked_for(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |text| text.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn lowtide_and_the_scheduler_agree() {
    let (first, cases) = (asked_for("LOWTIDE_ORACLE_FIRST", 0), asked_for("LOWTIDE_ORACLE_CASES", 240));
    let scheduler = Scheduler::start().await;
    every_pod_that_is_lifted_is_bound_to_its_machine_at_once(&scheduler, first, cases).await;
    what_is_refused_alone_fits_on_no_node_of_the_catalogue(&scheduler, first, cases).await;
}

/// Pods alone that lowtide refuses, tried on one node of every type in every zone.
async fn what_is_refused_alone_fits_on_no_node_of_the_catalogue(scheduler: &Scheduler, first: u64, cases: u64) {
    let lone = |seed: u64| Draw::new(1_000_000 + seed).lone();
    let refused: Vec<(Case, Planned)> = (first..first + cases)
        .map(lone)
        .map(|case| (Play::new(&case).play(), case))
        .filter(|(p, _)| !p.refused.is_empty())
        .map(|(p, c)| (c, p))
        .collect();
    scheduler.nodes(catalogue(&lone(0))).await;
    let mut wrong = Vec::new();
    for (number, some) in refused.chunks(TOGETHER).enumerate() {
        let (batch, namespaces) = (format!("lone{number}"), some.iter().flat_map(|(case, _)| case.namespaces()).collect::<Vec<_>>());
        scheduler.namespaces(&namespaces).await;
        scheduler.volumes(&some.iter().flat_map(|(case, _)| case.volumes.clone()).collect::<Vec<_>>()).await;
        let pod = |case: &Case| {
            let mut pod = written(&case.works[0].pod, &batch);
            pod["metadata"]["name"] = json!(case.works[0].name);
            vec![pod]
        };
        let fates = scheduler.schedule(&batch, some.iter().map(|(case, _)| pod(case)).collect(), &[]).await;
        for (case, planned) in some {
            let work = &case.works[0];
            if let Some(Fate::On(node)) = fates.get(&(work.namespace.clone(), work.name.clone())) {
                wrong.push(format!(
                    "seed {} on {node}, which lowtide refuses: {:?}\n  pod {}\n  volumes {:?}",
                    case.seed, planned.said, work.pod, case.volumes
                ));
            }
        }
        scheduler.clear(&batch, &namespaces).await;
    }
    println!("{cases} pods alone: {} refused, {} of them wrongly", refused.len(), wrong.len());
    assert!(wrong.is_empty(), "{} pods that lowtide refuses can be scheduled:\n{}", wrong.len(), wrong.join("\n"));
    assert!(refused.len() > 5, "some of what is drawn is impossible");
}

/// One Node for each type, zone and capacity type, with all labels that lowtide knows of; each twice, since a zone has an id and a name.
fn catalogue(case: &Case) -> Vec<Value> {
    let mut nodes = Vec::new();
    for (number, at) in case.market.offers.keys().enumerate() {
        let class = case.classes.iter().find(|c| c.region == at.region.as_str()).unwrap();
        let machine = &draw::CATALOG.types[&at.instance_type];
        let of_class = ClassLabels {
            labels: planned::class_of(class, &case.zone_names).node_labels,
            zone_name: Some(case.zone_names[&at.zone].clone()),
            taints: Vec::new(),
        };
        let expected = ExpectedNode { capacity: at, machine, class: &of_class };
        for (form, zone) in [("id", at.zone.to_string()), ("name", case.zone_names[&at.zone].clone())] {
            let name = format!("catalogue-{number}-{form}");
            let mut labels = planned::labels_of(class, &case.zone_names, at, machine, &name);
            let known = KNOWN_LABELS.iter().filter_map(|key| Some(((*key).to_owned(), expected.value(key)?.into_owned())));
            labels.extend(known);
            labels.insert(draw::ZONE.to_owned(), zone);
            let taint = ("nvidia.com/gpu".to_owned(), "present".to_owned(), "NoSchedule".to_owned());
            nodes.push(scheduler::node(&name, "catalogue", &labels, &[taint], machine.allocatable()));
        }
    }
    nodes
}

async fn every_pod_that_is_lifted_is_bound_to_its_machine_at_once(scheduler: &Scheduler, first: u64, cases: u64) {
    let (mut wrong, mut lifted, mut refused) = (Vec::new(), 0, 0);
    let seeds: Vec<u64> = (first..first + cases).collect();
    for (number, seeds) in seeds.chunks(TOGETHER).enumerate() {
        let all: Vec<(Case, Planned)> = seeds
            .iter()
            .map(|seed| Draw::new(*seed).case())
            .map(|case| {
                let planned = Play::new(&case).play();
                (case, planned)
            })
            .collect();
        let faults = ask(scheduler, &format!("b{number}"), &all).await;
        lifted += all.iter().flat_map(|(_, p)| &p.waves).map(|w| w.lifted.len()).sum::<usize>();
        refused += all.iter().map(|(_, p)| p.refused.len()).sum::<usize>();
        wrong.extend(faults);
    }
    println!("{cases} cases: {lifted} pods lifted, {refused} left without a machine, {} not bound at once", wrong.len());
    assert!(wrong.is_empty(), "{} pods were not bound to their machines:\n{}", wrong.len(), wrong.join("\n"));
    assert!(lifted as u64 > cases, "of most cases some pods are placed");
}

/// Writes what lowtide did of each case, and returns a sentence for each pod that was not bound to its machine.
async fn ask(scheduler: &Scheduler, batch: &str, all: &[(Case, Planned)]) -> Vec<String> {
    let namespaces: Vec<String> = all.iter().flat_map(|(case, _)| case.namespaces()).collect();
    scheduler.namespaces(&namespaces).await;
    scheduler.volumes(&all.iter().flat_map(|(case, _)| case.volumes.clone()).collect::<Vec<_>>()).await;
    let mut wrong = Vec::new();
    let mut agents: BTreeSet<String> = BTreeSet::new();
    for wave in 0..2 {
        let waves: Vec<(&Case, &planned::Wave)> = all.iter().map(|(case, p)| (case, &p.waves[wave])).collect();
        let machines = waves.iter().flat_map(|(_, w)| &w.machines);
        scheduler.nodes(machines.map(|m| with_pin(m, batch)).collect()).await;
        let provisioned: Vec<Value> = waves.iter().flat_map(|(_, w)| w.provisioned.clone()).collect();
        let pods = |(case, wave): &(&Case, &planned::Wave)| -> Vec<Value> {
            let on_each = wave.machines.iter().filter_map(|m| Some((m, case.daemon?))).filter(|(m, _)| !agents.contains(&m.claim));
            let agents = on_each.map(|(m, asks)| agent(&case.namespaces()[0], batch, &m.claim, asks));
            agents.chain(wave.lifted.iter().map(|l| pinned(&l.pod, &l.claim, batch))).collect()
        };
        let lists: Vec<Vec<Value>> = waves.iter().map(pods).collect();
        agents.extend(waves.iter().flat_map(|(_, w)| &w.machines).map(|m| m.claim.clone()));
        let fates = scheduler.schedule(batch, lists, &provisioned).await;
        for ((case, w), (_, planned)) in waves.iter().zip(all) {
            for l in &w.lifted {
                let key = (l.pod["metadata"]["namespace"].as_str().unwrap().to_owned(), l.name.clone());
                match fates.get(&key) {
                    Some(Fate::On(node)) if *node == l.claim => {}
                    fate => wrong.push(sentence(case, planned, wave, l, fate)),
                }
            }
        }
    }
    scheduler.clear(batch, &namespaces).await;
    wrong
}

fn sentence(case: &Case, planned: &Planned, wave: usize, l: &planned::Lifted, fate: Option<&Fate>) -> String {
    let machine = planned.waves[wave].machines.iter().find(|m| m.claim == l.claim);
    let beside: Vec<String> = planned.waves[..=wave]
        .iter()
        .flat_map(|w| &w.lifted)
        .map(|o| {
            let at = planned.waves[wave].machines.iter().find(|m| m.claim == o.claim).map(|m| m.capacity.to_string());
            format!("{}={}@{}", o.name, o.claim, at.unwrap_or_default())
        })
        .collect();
    let labels: BTreeMap<_, _> = machine.map(|m| m.labels.clone()).unwrap_or_default();
    format!(
        "seed {} wave {wave} {} on {}: {fate:?}\n  pod {}\n  node {labels:?} {:?}\n  all {}",
        case.seed,
        l.name,
        l.claim,
        l.pod,
        machine.map(|m| m.allocatable),
        beside.join(" ")
    )
}

fn with_pin(machine: &planned::Machine, batch: &str) -> Value {
    let mut labels = machine.labels.clone();
    labels.insert(PIN.to_owned(), machine.claim.clone());
    // A node's own name is its host name.
    labels.insert(draw::HOSTNAME.to_owned(), machine.claim.clone());
    scheduler::node(&machine.claim, batch, &labels, &machine.taints, machine.allocatable)
}

/// As the operator lifts a pod.
fn pinned(pod: &Value, claim: &str, batch: &str) -> Value {
    let mut pod = written(pod, batch);
    pod["spec"]["nodeSelector"][PIN] = json!(claim);
    let toleration = json!({ "key": CLAIM_TAINT, "operator": "Equal", "value": claim, "effect": "NoSchedule" });
    pod["spec"]["tolerations"].as_array_mut().unwrap().push(toleration);
    pod
}

/// Without what the API server fills in itself.
fn written(pod: &Value, batch: &str) -> Value {
    let mut pod = pod.clone();
    pod["metadata"]["labels"][BATCH] = json!(batch);
    let spec = pod["spec"].as_object_mut().unwrap();
    spec.remove("priority");
    spec.remove("overhead");
    pod
}

/// A DaemonSet's pod: bound to its node from the start.
fn agent(namespace: &str, batch: &str, node: &str, (cpu, memory): (i64, i64)) -> Value {
    json!({
        "metadata": { "name": format!("agent-{node}"), "namespace": namespace, "labels": { BATCH: batch } },
        "spec": { "nodeName": node, "terminationGracePeriodSeconds": 0, "containers": [{ "name": "a", "image": "x", "resources": { "requests": { "cpu": format!("{cpu}m"), "memory": format!("{memory}Mi") } } }] },
    })
}
