//! Records and rows: durable once, the same however often they are written, and worth what the bill says.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::bill;
use super::super::world::World;
use crate::core::accounting::billing::{HourRate, PaidInterval};
use crate::core::invariant::Invariant;
use crate::core::record::LedgerRecord;
use crate::core::units::ids::{InstanceId, Uid};
use crate::core::units::money::MicroUsd;

/// A record that is written again says the same again: its id stands for one thing. Gives what was written.
pub fn before_record(world: &mut World, id: uuid::Uuid, record: &LedgerRecord) -> Arc<LedgerRecord> {
    match world.checks.recorded.get(&id) {
        Some(first) if **first == *record => Arc::clone(first),
        // The ledger keeps what it had first: a claim that adopted the machine of a replacement does not know when it was launched.
        Some(first) if world.checks.restored && matches!(record, LedgerRecord::Migration(_)) => Arc::clone(first),
        Some(first) if record.books().is_some_and(|books| world.checks.adopted.contains(books)) => Arc::clone(first),
        Some(first) => {
            let text = format!("one id for two things: {first:?} and then {record:?}");
            world.broke(Invariant::DecisionsDurableOnce, text);
            Arc::new(record.clone())
        }
        None => {
            let first = Arc::new(record.clone());
            world.checks.recorded.insert(id, Arc::clone(&first));
            first
        }
    }
}

/// Only what the ledger has is forgotten.
pub fn before_forget(world: &mut World, id: &uuid::Uuid) {
    if !world.ledger.rows.contains_key(id) {
        world.broke(Invariant::DecisionsDurableOnce, format!("record {id} is forgotten and the ledger does not have it"));
    }
}

/// What is written to the ledger was durable first. Gives the row.
pub fn before_row(world: &mut World, id: uuid::Uuid, record: &LedgerRecord) -> Arc<LedgerRecord> {
    if !world.kube.durable.contains(&id) {
        world.broke(Invariant::DecisionsDurableOnce, format!("{id} is written to the ledger and was not durable first"));
    }
    let durable = world.checks.recorded.get(&id).filter(|first| ***first == *record);
    durable.cloned().unwrap_or_else(|| Arc::new(record.clone()))
}

/// What is known of each machine from the ledger alone.
pub fn intervals(world: &World) -> BTreeMap<Uid, (InstanceId, PaidInterval)> {
    let mut found: BTreeMap<Uid, (InstanceId, PaidInterval)> = BTreeMap::new();
    let now = world.now();
    for record in world.ledger.rows.values() {
        if let LedgerRecord::IntervalOpened(opened) = &**record {
            let interval = PaidInterval {
                capacity_type: opened.capacity.capacity_type,
                from: opened.running_from,
                to: now,
                ended_by: None,
                bought_at: HourRate { price: opened.price_per_hour, on_demand: opened.on_demand_per_hour },
                hours: BTreeMap::new(),
            };
            found.insert(opened.claim_uid.clone(), (opened.instance.clone(), interval));
        }
    }
    for record in world.ledger.rows.values() {
        match &**record {
            LedgerRecord::HourPriced(hour) => {
                if let Some((_, interval)) = found.get_mut(&hour.claim_uid) {
                    interval.hours.insert(hour.hour, HourRate { price: hour.price_per_hour, on_demand: hour.on_demand_per_hour });
                }
            }
            LedgerRecord::IntervalClosed(closed) => {
                if let Some((_, interval)) = found.get_mut(&closed.claim_uid) {
                    (interval.to, interval.ended_by) = (closed.running_to, Some(closed.ended_by));
                }
            }
            _ => {}
        }
    }
    found
}

/// INV-5, once everything has been delivered: each machine costs in the ledger what it cost on the bill, and none is missing.
pub fn final_books(world: &mut World) {
    let now = world.now();
    let known = intervals(world);
    let by_instance: BTreeMap<&InstanceId, &PaidInterval> = known.values().map(|(id, interval)| (id, interval)).collect();
    let mut broken = Vec::new();
    let mut billed = BTreeMap::new();
    for machine in world.ec2.machines.values() {
        let cost = bill::cost(machine, &world.market, &world.account, now);
        billed.insert(machine.books(), cost);
        let text = match by_instance.get(&machine.instance.id) {
            // A machine that ended before anybody saw it, or that nobody claimed, has no books; it must not have cost anything much.
            None if cost.0 > 0 => format!("{} cost ${cost} and is not in the ledger", machine.instance.id),
            None => continue,
            Some(interval) => {
                let ended = machine.instance.ended_at.is_some();
                let ledger: MicroUsd = interval.cost();
                if ended && interval.ended_by.is_none() {
                    format!("{} has ended and its interval is open", machine.instance.id)
                } else if ended && ledger != cost {
                    format!("{} ({}): ${ledger} in the ledger, ${cost} on the bill", machine.instance.id, machine.instance.capacity)
                } else {
                    continue;
                }
            }
        };
        broken.push(text);
    }
    world.checks.billed = billed;
    for text in broken {
        world.broke(Invariant::LedgerIsTheBill, text);
    }
}
