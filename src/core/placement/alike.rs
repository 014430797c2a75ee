//! What replicas of one need cost by themselves.
//!
//! Decides: that a price is one for all of them: replicas of which some find no place have none.
//! Does not: ask whether anybody wants them so (see [`crate::core::accounting::recommendation`]).

use std::collections::BTreeMap;

use crate::core::units::ids::InstanceType;
use crate::core::units::money::MicroUsdPerHour;
use crate::core::units::shared::Shared;
use crate::core::workload::need::Need;

use super::place::place;
use super::request::{Demand, PlacementRequest};

/// Machines for replicas, and what they cost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alike {
    /// Of all machines together.
    pub price_per_hour: MicroUsdPerHour,
    /// How many of each type.
    pub machines: BTreeMap<InstanceType, i64>,
}

/// What `replicas` pods of `need` cost on machines that are bought for them alone; `request` says where, its demands aside. `None` when not all find a place.
pub fn alike(request: &PlacementRequest, need: &Need, replicas: i64) -> Option<Alike> {
    let need = Shared::from(need.clone());
    let demand = |replica: i64| Demand {
        key: format!("alike/{replica:06}").into(),
        need: need.clone(),
        pools: Default::default(),
        owner: None,
        gang: None,
        rescue: false,
        apart: Default::default(),
        falls_back: false,
        buy_only: None,
    };
    let demands: Vec<Demand> = (0..replicas).map(demand).collect();
    let placement = place(&PlacementRequest { demands: &demands, room: &[], ..*request });
    if !placement.unplaced.is_empty() {
        return None;
    }
    let mut machines = BTreeMap::new();
    for machine in &placement.machines {
        *machines.entry(machine.capacity.instance_type.clone()).or_insert(0) += 1;
    }
    Some(Alike { price_per_hour: placement.price_per_hour, machines })
}
