//! Equal demands as one group.
//!
//! Decides: which pods are interchangeable.
//! Does not: restrict them (see `sharing_out`) or pack them (see `packing`).

use std::collections::{BTreeMap, BTreeSet};

use crate::core::market::Capacity;
use crate::core::units::ids::{PoolName, ZoneId};
use crate::core::workload::need::Need;

use super::eligibility::Wants;
use super::request::{Apart, Area, Demand, OwnerRule, PlacementRequest};

/// Interchangeable demands.
#[derive(Debug, Clone)]
pub struct Group<'a> {
    /// Their need, with the restrictions that were added.
    pub wants: Wants<'a>,
    /// The node pools that admit them; empty means any.
    pub pools: &'a BTreeSet<PoolName>,
    /// Their owner's rule.
    pub owner: Option<&'a OwnerRule>,
    /// Their gang.
    pub gang: Option<&'a str>,
    /// What other pods leave of the choice.
    pub apart: &'a Apart,
    /// Indices into the demands, ascending by key.
    pub members: Vec<usize>,
}

impl Group<'_> {
    /// Whether `pool` admits these demands.
    pub fn admitted_by(&self, pool: &PoolName) -> bool {
        self.pools.is_empty() || self.pools.contains(pool)
    }

    /// Whether a restriction was added to the need.
    pub fn restricted(&self) -> bool {
        !self.wants.areas.is_empty() || self.wants.looks_at_pools()
    }
}

/// Groups the demands at `order` (ascending by key) that are equal but for their key.
pub fn group<'a>(request: &PlacementRequest<'a>, order: &[usize]) -> Vec<Group<'a>> {
    type Gang<'k> = (Option<&'k str>, Option<&'k ZoneId>);
    /// Whether it is a rescue, and whether it falls back.
    type Kind = (bool, bool);
    type Key<'k> = (&'k Need, &'k BTreeSet<PoolName>, &'k Option<OwnerRule>, Gang<'k>, Kind, Option<&'k BTreeSet<Capacity>>, &'k Apart);
    let mut members: BTreeMap<Key, Vec<usize>> = BTreeMap::new();
    // Replicas follow each other in key order, so the last group is usually the right one.
    let mut last: Option<(Key, Vec<usize>)> = None;
    for index in order {
        let demand: &Demand = &request.demands[*index];
        let gang = demand.gang.as_ref();
        let gang = (gang.map(|g| g.name.as_str()), gang.and_then(|g| g.zone.as_ref()));
        let key: Key = (
            &demand.need,
            &demand.pools,
            &demand.owner,
            gang,
            (demand.rescue, demand.falls_back),
            demand.buy_only.as_deref(),
            &demand.apart,
        );
        match &mut last {
            Some((open, list)) if *open == key => list.push(*index),
            _ => {
                if let Some((done, list)) = last.replace((key, vec![*index])) {
                    members.entry(done).or_default().extend(list);
                }
            }
        }
    }
    if let Some((done, list)) = last {
        members.entry(done).or_default().extend(list);
    }
    let group = |((need, pools, owner, (gang, zone), (rescue, falls_back), buy_only, apart), members): (Key<'a>, Vec<usize>)| {
        let areas = zone.cloned().map(Area::Zone).into_iter().collect();
        let wants = Wants { areas, rescue, falls_back, buy_only, apart: Some(apart), ..Wants::new(request, need) };
        Group { wants, pools, owner: owner.as_ref(), gang, apart, members }
    };
    members.into_iter().map(group).collect()
}
