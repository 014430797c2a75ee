//! Machines of a cluster that is gone, taken over.

use std::collections::{BTreeMap, BTreeSet};

use super::toy::*;
use crate::core::fleet::{Claim, ClaimStatus, Instance, tags};
use crate::core::plan::claims::adoption::{AdoptedPrices, Allowed, Ours, Proposal, propose};
use crate::core::record::LedgerRecord;
use crate::core::snapshot::Observed;
use crate::core::units::money::MicroUsdPerHour;
use crate::core::workload::PodPhase;
use crate::core::workload::need::WorkloadKind;

fn proposed(toy: &Toy, allowed: &Allowed) -> Vec<Option<Proposal>> {
    let world = &toy.world;
    let ours = Ours {
        cluster: &world.cluster,
        uid: &world.cluster_uid,
        claims: &world.claims,
        unreadable: &world.unreadable_claims,
        pools: &world.pools,
        classes: &world.classes,
        catalog: &world.catalog,
    };
    toy.all_instances()
        .iter()
        .map(|machine| propose(&ours, allowed, machine, AdoptedPrices { at_launch: Some(MicroUsdPerHour(91_300)), on_demand: None }))
        .collect()
}

/// What `lowtide adopt` does: the claim first, then the machine's tags.
fn adopt(toy: &mut Toy, allowed: &Allowed) -> usize {
    let proposals = proposed(toy, allowed);
    let machines = toy.all_instances();
    let (uid, now) = (toy.world.cluster_uid.clone(), toy.now);
    let mut adopted = 0;
    let earlier = toy.now.0;
    for (machine, proposal) in machines.into_iter().zip(proposals) {
        let Some(Proposal::Adopt { name, spec, claimed: false }) = proposal else { continue };
        adopted += 1;
        let claim_uid = format!("adopted-{earlier}-{adopted}");
        let books = spec.books.clone().unwrap_or_else(|| claim_uid.as_str().into());
        let (version, created_at, deleting, status) = (1, now, false, ClaimStatus::default());
        let claim = Claim { name: name.clone(), uid: claim_uid.as_str().into(), version, created_at, deleting, spec: *spec, status };
        toy.world.claims.insert(name, claim);
        toy.run(5);
        if !machine.is_alive() {
            continue;
        }
        retag(toy, &machine, &[(tags::CLUSTER_UID, &uid), (tags::CLAIM_UID, &claim_uid), (tags::BOOKS, books.as_str())]);
    }
    adopted
}

fn retag(toy: &mut Toy, machine: &Instance, words: &[(&str, &str)]) {
    for observed in toy.world.instances.values_mut() {
        if let Observed::Known { value, .. } = observed {
            for found in value.values_mut().filter(|i| i.id == machine.id) {
                found.tags = words.iter().fold(found.tags.clone(), |tags, (key, value)| tags.with(key, Some(value)));
            }
        }
    }
}

#[test]
fn machines_of_a_rebuilt_control_plane_are_taken_over_with_their_work_and_nothing_is_bought_or_ended() {
    let mut toy = Toy::new();
    (0..3).for_each(|_| drop(toy.add_pod(deployment(), WorkloadKind::Inference)));
    toy.run(150);
    let before: Vec<_> = toy.all_instances().into_iter().map(|i| i.id).collect();
    toy.world.claims = BTreeMap::new().into();
    toy.world.cluster_uid = "built-again".into();
    toy.run(60);
    let strict = Allowed::default();
    assert!(proposed(&toy, &strict).iter().all(|p| matches!(p, Some(Proposal::Leave { because }) if because.contains("--from-uid"))));
    let allowed = Allowed { from_uids: ["toy-uid".to_owned()].into(), unmarked: false, ended: false };
    assert_eq!(adopt(&mut toy, &allowed), 3);
    toy.run(1_200);
    assert_eq!(toy.all_instances().iter().map(|i| &i.id).collect::<Vec<_>>(), before.iter().collect::<Vec<_>>());
    assert_eq!((toy.running().len(), toy.world.claims.len()), (3, 3));
    assert!(toy.world.pods.values().all(|pod| pod.phase == PodPhase::Running) && toy.removals.is_empty(), "{:?}", toy.removals);
    assert!(toy.world.claims.values().all(|claim| claim.status.node_ready_at.is_some()), "they are claims like any other");
    assert_eq!(proposed(&toy, &allowed), [None, None, None], "and nothing is left to do");
}

/// etcd restored from before the machines: the ledger knows them, and what it is sent again it must recognise.
#[test]
fn what_a_ledger_knows_of_an_adopted_machine_is_recorded_under_the_same_ids_even_when_it_is_adopted_twice() {
    let mut toy = Toy::new();
    toy.add_pod(deployment(), WorkloadKind::Inference);
    toy.run(3_700);
    let known: BTreeSet<_> = toy.ledger.iter().map(LedgerRecord::id).collect();
    for _ in 0..2 {
        let pods = toy.world.pods.clone();
        toy.world.claims = BTreeMap::new().into();
        toy.run(60);
        toy.ledger.clear();
        // Another process: it remembers nothing of what was recorded.
        (toy.world.recorded, toy.world.reported) = Default::default();
        assert_eq!(adopt(&mut toy, &Allowed::default()), 1);
        toy.run(600);
        assert_eq!(pods.keys().collect::<Vec<_>>(), toy.world.pods.keys().collect::<Vec<_>>());
        let hours: Vec<_> =
            toy.ledger.iter().filter_map(|r| if let LedgerRecord::HourPriced(h) = r { Some(h.hour) } else { None }).collect();
        assert_eq!(hours.first(), Some(&0), "every hour is recorded again");
        let news: Vec<_> = toy.ledger.iter().filter(|r| !matches!(r, LedgerRecord::Decision(_)) && !known.contains(&r.id())).collect();
        let later = |r: &&&LedgerRecord| matches!(r, LedgerRecord::HourPriced(h) if h.hour >= 2);
        assert_eq!(news.iter().filter(|r| !later(r)).collect::<Vec<_>>(), Vec::<&&LedgerRecord>::new(), "the ledger had all of it");
    }
}

/// Its claim was lost while it ended: without this it would be paid for in the books for ever.
#[test]
fn the_books_of_a_machine_that_ended_without_a_claim_are_closed_when_that_is_asked_for() {
    let mut toy = Toy::new();
    toy.add_pod(deployment(), WorkloadKind::Inference);
    toy.run(600);
    toy.world.claims = BTreeMap::new().into();
    toy.all_instances().iter().for_each(|machine| toy.end_instance(&machine.id, "Server.SpotInstanceTermination"));
    toy.run(60);
    let closed = |toy: &Toy| {
        toy.ledger
            .iter()
            .filter_map(|r| if let LedgerRecord::IntervalClosed(c) = r { Some(c.claim_uid.clone()) } else { None })
            .collect::<Vec<_>>()
    };
    let opened: Vec<_> =
        toy.ledger.iter().filter_map(|r| if let LedgerRecord::IntervalOpened(o) = r { Some(o.claim_uid.clone()) } else { None }).collect();
    assert_eq!((opened.len(), closed(&toy)), (1, vec![]));
    assert_eq!(proposed(&toy, &Allowed::default()).into_iter().flatten().count(), 0, "it has ended");
    assert_eq!(adopt(&mut toy, &Allowed { ended: true, ..Allowed::default() }), 1);
    toy.run(60);
    assert_eq!(closed(&toy), opened, "under the uid that the ledger knows");
}

/// After a backup was restored its pod was bought for again, under the name that the machine still carries.
#[test]
fn the_books_of_a_machine_that_ended_are_closed_though_its_name_is_taken() {
    let mut toy = Toy::new();
    toy.add_pod(deployment(), WorkloadKind::Inference);
    toy.run(600);
    let (name, taken) = toy.world.claims.iter().map(|(name, claim)| (name.clone(), claim.clone())).next().unwrap();
    toy.world.claims = BTreeMap::new().into();
    let machine = toy.all_instances().remove(0);
    toy.run(5);
    let (uid, status) = ("of-the-next".into(), ClaimStatus::default());
    let spec = crate::core::fleet::ClaimSpec { books: None, ..taken.spec };
    toy.world.claims.insert(name.clone(), Claim { uid, status, spec, ..taken });
    let allowed = Allowed { ended: true, ..Allowed::default() };
    let said = proposed(&toy, &allowed);
    assert!(matches!(&said[0], Some(Proposal::Leave { because }) if because.contains("is there already")), "it runs: {said:?}");
    toy.end_instance(&machine.id, "Server.SpotInstanceTermination");
    let said = proposed(&toy, &allowed);
    let Some(Proposal::Adopt { name: other, spec, .. }) = &said[0] else { panic!("{said:?}") };
    assert!(*other != name && spec.books.is_some(), "{said:?}");
}

#[test]
fn a_machine_that_cannot_stand_in_this_cluster_says_why() {
    let mut toy = Toy::new();
    toy.add_pod(deployment(), WorkloadKind::Inference);
    toy.run(100);
    toy.world.claims = BTreeMap::new().into();
    toy.world.pools = BTreeMap::new().into();
    let said = proposed(&toy, &Allowed::default());
    assert!(matches!(&said[0], Some(Proposal::Leave { because }) if because.contains("GpuNodePool gpu")), "{said:?}");
    let machine = toy.all_instances().remove(0);
    retag(&mut toy, &machine, &[(tags::CLUSTER_UID, "")]);
    let said = proposed(&toy, &Allowed::default());
    assert!(matches!(&said[0], Some(Proposal::Leave { because }) if because.contains("--unmarked")), "{said:?}");
}
