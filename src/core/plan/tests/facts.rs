//! What the ledger is told, where money hangs on it.

use super::toy::*;
use crate::core::market::CapacityType;
use crate::core::money::MicroUsd;
use crate::core::need::WorkloadKind;
use crate::core::record::{CarriedData, LedgerRecord};
use crate::engine::ports::NoticeKind;

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
fn data_that_follow_a_move_across_regions_are_told_with_the_pairs_price() {
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
    let moved_by = toy.decisions().iter().find(|d| d.trigger == crate::core::decision::Trigger::InterruptionNotice).map(|d| d.id);
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
fn a_checkpoint_is_told_once_and_only_of_running_batch_work() {
    let mut toy = Toy::new();
    let batch = toy.add_pod(job(), WorkloadKind::Batch);
    toy.run(120);
    let at = toy.now;
    if let Ok((_, schedule)) = &mut toy.world.pods.get_mut(&batch).unwrap().need {
        schedule.checkpointed_at = Some(at);
    }
    toy.run(10);
    let told: Vec<_> = toy.ledger.iter().filter_map(|r| if let LedgerRecord::Checkpoint(c) = r { Some(c.clone()) } else { None }).collect();
    assert_eq!(told.len(), 1);
    assert_eq!((told[0].at, &told[0].pod_uid), (at, &batch));
}
