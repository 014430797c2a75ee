//! What the ledger receives, where money depends on it.

use std::collections::BTreeMap;

use super::toy::*;
use super::working;
use crate::core::fleet::NoticeKind;
use crate::core::market::reservation::{CapacityReservation, NamedReservation, SeenReservations};
use crate::core::market::{CapacityType, PastPrices};
use crate::core::plan::plan;
use crate::core::record::{CarriedData, LedgerRecord};
use crate::core::units::Mebibytes;
use crate::core::units::ids::ReservationId;
use crate::core::units::money::{MicroUsd, MicroUsdPerHour};
use crate::core::units::time::Millis;
use crate::core::workload::need::WorkloadKind;
use crate::core::workload::sharing::Sharing;
use crate::core::workload::{Pod, PodPhase};

fn set_data(toy: &mut Toy, gib: i64) {
    for pod in toy.world.pods.values_mut() {
        if let Ok((need, _)) = &mut pod.need {
            need.data_gib = gib;
        }
    }
}

fn carried(toy: &Toy) -> Vec<Option<CarriedData>> {
    toy.ledger.iter().filter_map(|r| if let LedgerRecord::OccupancyOpened(o) = r { Some(o.carried.clone()) } else { None }).collect()
}

/// The cheapest offer is in eu-south-2; when that is taken back, work goes to us-east-1 and its data follow.
#[test]
fn data_that_follow_a_move_across_regions_are_recorded_with_the_pairs_price() {
    let mut toy = Toy::new();
    toy.add_pod(deployment(), WorkloadKind::Inference);
    set_data(&mut toy, 20);
    toy.run(120);
    assert_eq!(carried(&toy), [None], "placed where nothing has to be carried to");
    let doomed = toy.all_instances()[0].id.clone();
    toy.dry.insert(capacity(SPOT_A.0, SPOT_A.1, CapacityType::Spot));
    toy.notify(&doomed, NoticeKind::Interruption);
    toy.run(3);
    set_data(&mut toy, 20);
    toy.run(150);
    let moved_by = toy.decisions().iter().find(|d| d.trigger == crate::core::fleet::Trigger::InterruptionNotice).map(|d| d.id);
    let data = CarriedData { gib: 20, from_region: "eu-south-2".into(), price_per_gib: MicroUsd(20_000), moved_by };
    assert_eq!(carried(&toy), [None, Some(data)]);
    let gib: Vec<i64> =
        toy.ledger.iter().filter_map(|r| if let LedgerRecord::Migration(m) = r { Some(m.egress_gib) } else { None }).collect();
    assert_eq!(gib, [20]);
}

#[test]
fn data_kept_in_another_region_are_carried_at_the_first_placement() {
    let mut toy = Toy::new();
    let uid = toy.add_pod(job(), WorkloadKind::Batch);
    if let Ok((need, _)) = &mut toy.world.pods.get_mut(&uid).unwrap().need {
        (need.data_gib, need.data_region) = (1, Some("us-east-1".into()));
    }
    toy.run(120);
    assert_eq!(toy.running()[0].region.as_str(), "eu-south-2");
    let from = carried(&toy)[0].clone().unwrap();
    assert_eq!((from.from_region.as_str(), from.moved_by), ("us-east-1", None));
}

#[test]
fn a_checkpoint_is_recorded_once_and_only_of_running_batch_work() {
    let mut toy = Toy::new();
    let batch = toy.add_pod(job(), WorkloadKind::Batch);
    toy.run(120);
    let at = toy.now;
    if let Ok((_, schedule)) = &mut toy.world.pods.get_mut(&batch).unwrap().need {
        schedule.checkpointed_at = Some(at);
    }
    toy.run(10);
    let reported: Vec<_> =
        toy.ledger.iter().filter_map(|r| if let LedgerRecord::Checkpoint(c) = r { Some(c.clone()) } else { None }).collect();
    assert_eq!(reported.len(), 1);
    assert_eq!((reported[0].at, &reported[0].pod_uid), (at, &batch));
}

/// What `plan` would report now that it is not remembered what was reported.
fn reported_again(toy: &mut Toy) -> Vec<LedgerRecord> {
    (toy.world.recorded, toy.world.reported) = Default::default();
    let planned = plan(&toy.settings, &toy.world, toy.now);
    planned.steps.into_iter().flat_map(|step| step.records).collect()
}

#[test]
fn a_machine_that_shares_its_gpus_is_recorded_the_same_by_a_process_that_does_not_know_its_type_yet() {
    let mut toy = Toy::new();
    toy.gpu_memory = Mebibytes(10_000);
    toy.world.classes.values_mut().for_each(|c| c.sharing.sharing = Sharing::TimeSlicing { replicas: 2 });
    toy.add_pod(deployment(), WorkloadKind::Inference);
    toy.run(120);
    let opened = |records: &[LedgerRecord]| records.iter().filter(|r| matches!(r, LedgerRecord::IntervalOpened(_))).cloned().collect();
    let first: Vec<LedgerRecord> = opened(&toy.ledger);
    assert_eq!(first.len(), 1);
    let catalog = std::mem::take(&mut toy.world.catalog);
    let unread: Vec<LedgerRecord> = opened(&reported_again(&mut toy));
    assert_eq!(unread, [], "two units or one: not certain");
    toy.world.catalog = catalog;
    let again: Vec<LedgerRecord> = opened(&reported_again(&mut toy));
    assert_eq!(again, first);
}

/// A process that starts beside a machine of ten days, or adopts it, knows the prices of three: it reports the hours of those.
#[test]
fn the_hours_of_a_machine_that_is_older_than_all_known_prices_are_recorded_from_where_they_are_known() {
    let mut toy = Toy::new();
    toy.add_pod(deployment(), WorkloadKind::Inference);
    toy.run(100);
    let launched = toy.all_instances()[0].launched_at;
    toy.now = launched + Millis::from_hours(240) + Millis::from_mins(30);
    let known_from = toy.now - PastPrices::KEPT;
    let (pool, now) = (capacity(SPOT_A.0, SPOT_A.1, CapacityType::Spot), toy.now);
    let mut past = PastPrices::default();
    past.learn([(known_from, MicroUsdPerHour(5))], now);
    toy.world.market.past_prices.insert(pool, past);
    let mut hours = || -> Vec<u32> {
        reported_again(&mut toy)
            .iter()
            .filter_map(|r| if let LedgerRecord::HourPriced(hour) = r { Some(hour.hour) } else { None })
            .collect()
    };
    assert_eq!(hours(), (165..=240).collect::<Vec<u32>>());
}

#[test]
fn hours_that_begin_after_a_reservation_has_ended_cost_what_on_demand_does() {
    let mut toy = Toy::new();
    let id = ReservationId::from("cr-1");
    toy.add_pod(deployment(), WorkloadKind::Inference);
    toy.run(100);
    let launched = toy.all_instances()[0].launched_at;
    for claim in toy.world.claims.values_mut() {
        (claim.spec.capacity.capacity_type, claim.spec.reservation) = (CapacityType::Reserved, Some(id.clone()));
        claim.spec.price_per_hour = MicroUsdPerHour(7);
    }
    for class in toy.world.classes.values_mut() {
        class.reservations = vec![NamedReservation { id: id.clone(), price_per_hour: MicroUsdPerHour(7) }];
    }
    toy.now = launched + Millis::from_mins(150);
    let hours = |toy: &mut Toy| -> Vec<i64> {
        reported_again(toy)
            .iter()
            .filter_map(|r| if let LedgerRecord::HourPriced(hour) = r { Some(hour.price_per_hour.0) } else { None })
            .collect()
    };
    assert_eq!(hours(&mut toy), [] as [i64; 0], "the reservation was not looked at yet");
    let reservation = CapacityReservation {
        id,
        instance_type: "g6.xlarge".into(),
        zone: SPOT_A.1.into(),
        available: 0,
        active: false,
        ends_at: Some(launched + Millis::from_mins(90)),
    };
    let seen = SeenReservations { at: toy.now, seen: vec![reservation] };
    toy.world.reservations = BTreeMap::from([(SPOT_A.0.into(), seen)]).into();
    assert_eq!(hours(&mut toy), [7, 7, ON_DEMAND], "the hour in which it ended is paid as it began");
    toy.world.classes.values_mut().for_each(|class| class.reservations.clear());
    assert_eq!(hours(&mut toy), [7, 7, 7], "nobody says any more what became of it");
}

/// The API server deletes the pods of a machine that has ended some time later, and their kubelet's last word stays until then.
#[test]
fn a_pod_that_its_machines_end_closed_is_not_opened_again_while_its_node_still_shows_it() {
    let mut toy = working(1);
    let (uid, shown) = toy.world.pods.iter().map(|(uid, pod)| (uid.clone(), pod.clone())).next().unwrap();
    let ended = toy.all_instances()[0].id.clone();
    toy.end_instance(&ended, "Server.SpotInstanceTermination");
    let before = toy.ledger.len();
    for _ in 0..20 {
        // As a leader sees it that started since: the pod counts as Ready from now on, and nothing that was reported is known to be durable.
        toy.world.recorded.clear();
        toy.world.pods.insert(uid.clone(), Pod { ready_since: Some(toy.now), ..shown.clone() });
        toy.run(1);
    }
    toy.run(60);
    let said: Vec<LedgerRecord> = toy
        .ledger
        .drain(before..)
        .filter(|record| match record {
            LedgerRecord::OccupancyOpened(opened) => opened.pod_uid == uid,
            LedgerRecord::OccupancyClosed(closed) => closed.pod_uid == uid,
            _ => false,
        })
        .collect();
    assert!(said.iter().all(|record| matches!(record, LedgerRecord::OccupancyClosed(_))), "{said:?}");
    assert!(!said.is_empty(), "its end was never reported");
}

/// Between binding and start an init container gives as long as one likes.
#[test]
fn a_pod_whose_owner_breaks_its_annotations_after_it_was_bound_pays_for_what_the_machine_has_left() {
    let mut toy = Toy::new();
    let uid = toy.add_pod(deployment(), WorkloadKind::Inference);
    while toy.world.pods[&uid].phase == PodPhase::Gated {
        toy.run(1);
    }
    toy.world.pods.get_mut(&uid).unwrap().need = Err(vec!["lowtide.dev/regions is \"xx-1\"".into()]);
    toy.run(150);
    assert_eq!(toy.world.pods[&uid].phase, PodPhase::Running);
    let opened: Vec<_> = toy.ledger.iter().filter_map(|r| if let LedgerRecord::OccupancyOpened(o) = r { Some(o) } else { None }).collect();
    let gpus = toy.world.catalog.types[&toy.running()[0].instance_type].gpus;
    assert!(opened.len() == 1 && opened[0].pod_uid == uid && opened[0].gpus == gpus, "{opened:?}");
}
