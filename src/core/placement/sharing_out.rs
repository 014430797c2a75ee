//! What gangs, spreads and diversity leave of a group.
//!
//! Decides: the zone of a gang, how replicas are shared out over zones and correlated capacity.
//! Does not: pack (see `packing`).
//!
//! Shares are fixed before packing, cheapest places first, so that they hold whatever is packed together with them.

use std::collections::{BTreeMap, BTreeSet};

use crate::core::units::ids::ZoneId;

use super::eligibility::{Correlated, correlated_pool, most_in_one_pool};
use super::groups::Group;
use super::judge::score;
use super::listing::Listing;
use super::request::{OwnerRule, PlacementRequest};
use super::room;

/// Adds to each group what its gang, spread and diversity ask. `listed` are the offers per node pool, in the order of the request's.
pub fn restrict<'a>(request: &PlacementRequest<'a>, listed: &[Vec<Listing<'a>>], groups: Vec<Group<'a>>) -> Vec<Group<'a>> {
    let groups = one_zone_per_gang(request, listed, groups);
    let mut standing: BTreeMap<&str, BTreeMap<Correlated, i64>> = BTreeMap::new();
    let mut totals: BTreeMap<&str, i64> = BTreeMap::new();
    for group in &groups {
        let Some(owner) = group.owner else { continue };
        *totals.entry(&owner.owner).or_default() += group.members.len() as i64;
        standing.entry(&owner.owner).or_insert_with(|| {
            let mut held = BTreeMap::new();
            owner.standing.iter().for_each(|(capacity, n)| *held.entry(correlated_pool(capacity)).or_insert(0) += n);
            held
        });
    }
    let mut out = Vec::new();
    // Replicas of one owner may form several groups: the later ones are shared out beside the earlier.
    let mut by_zone: BTreeMap<&str, BTreeMap<ZoneId, i64>> = BTreeMap::new();
    for group in groups {
        let Some(owner) = group.owner else {
            out.push(group);
            continue;
        };
        let shared_out = by_zone.entry(&owner.owner).or_insert_with(|| {
            let mut counts = BTreeMap::new();
            owner.standing.iter().for_each(|(capacity, n)| *counts.entry(capacity.zone.clone()).or_insert(0) += n);
            counts
        });
        let total = totals.get(owner.owner.as_str()).copied().unwrap_or(0) + owner.standing.values().sum::<i64>();
        for part in over_zones(request, listed, group, owner, shared_out) {
            match (most_in_one_pool(owner, total), standing.get_mut(owner.owner.as_str())) {
                (Some(most), Some(held)) => out.extend(over_pools(request, listed, part, most, held)),
                _ => out.push(part),
            }
        }
    }
    out
}

/// The least cost per replica, in thousandths of a micro-dollar, of each place that `key` makes of the offers that fit.
fn places<K: Ord>(
    request: &PlacementRequest,
    listed: &[Vec<Listing>],
    group: &Group,
    key: impl Fn(&crate::core::market::Capacity) -> K,
) -> BTreeMap<K, i128> {
    let mut best = BTreeMap::new();
    for (pool, listings) in request.pools.iter().zip(listed) {
        if !group.admitted_by(&pool.name) {
            continue;
        }
        for listing in listings {
            if let Ok(replicas) = group.wants.judge(listing) {
                let cost = score(listing, group.wants.need, replicas, request.settings).nano_usd_per_replica_hour;
                let least = best.entry(key(&listing.offer.capacity)).or_insert(cost);
                *least = cost.min(*least);
            }
        }
    }
    best
}

/// Returns each gang the zone where all of it fits at the least cost; the first of equals.
fn one_zone_per_gang<'a>(request: &PlacementRequest<'a>, listed: &[Vec<Listing<'a>>], mut groups: Vec<Group<'a>>) -> Vec<Group<'a>> {
    // Where members stand already, the zone is known, whatever is on offer there: free room may do.
    let name = |g: &Group<'a>| g.gang.or(g.apart.same_zone.as_deref());
    let gangs: BTreeSet<&str> = groups.iter().filter(|g| g.wants.zone.is_none()).filter_map(name).collect();
    for gang in gangs {
        let mut common: Option<BTreeMap<ZoneId, i128>> = None;
        for group in groups.iter().filter(|g| name(g) == Some(gang)) {
            let here: BTreeMap<ZoneId, i128> = places(request, listed, group, |capacity| capacity.zone.clone());
            let size = group.members.len() as i128;
            let sum = |zone: &ZoneId, before: i128| here.get(zone).map(|cost| before + cost * size);
            common = Some(match common {
                None => here.iter().map(|(zone, cost)| (zone.clone(), cost * size)).collect(),
                Some(have) => have.iter().filter_map(|(zone, before)| Some((zone.clone(), sum(zone, *before)?))).collect(),
            });
        }
        let best = common.unwrap_or_default().into_iter().min_by(|(a, x), (b, y)| x.cmp(y).then_with(|| a.cmp(b)));
        // Without a common zone the members keep no place at all: a zone that does not exist.
        let zone = best.map_or_else(|| ZoneId::from("no zone holds the whole gang"), |(zone, _)| zone);
        groups.iter_mut().filter(|g| name(g) == Some(gang)).for_each(|g| g.wants.zone = Some(zone.clone()));
    }
    groups
}

/// Shares a group out over zones so that no zone has more than `maxSkew` above the emptiest zone that could serve it, beside the owner's
/// replicas that were shared out before; adds its own to them. Free room comes before what is on offer: its price is sunk, and a machine that
/// was bought for a replica is where that replica goes.
fn over_zones<'a>(
    request: &PlacementRequest<'a>,
    listed: &[Vec<Listing<'a>>],
    group: Group<'a>,
    owner: &OwnerRule,
    shared_out: &mut BTreeMap<ZoneId, i64>,
) -> Vec<Group<'a>> {
    let skew = match (owner.zone_max_skew, group.apart.most_per_zone) {
        (None, None) => return vec![group],
        (skew, _) => skew.unwrap_or(i64::MAX).max(1),
    };
    let most = group.apart.most_per_zone.unwrap_or(i64::MAX);
    if group.wants.zone.is_some() {
        return vec![group];
    }
    let mut zones: Vec<(i128, ZoneId)> =
        places(request, listed, &group, |capacity| capacity.zone.clone()).into_iter().map(|(zone, cost)| (cost, zone)).collect();
    zones.sort();
    let on_offer = zones.len();
    let mut free = room::free_for(request, &group, |capacity| capacity.zone.clone());
    zones.extend(free.keys().filter(|zone| !zones.iter().any(|(_, z)| z == *zone)).map(|zone| (0, zone.clone())).collect::<Vec<_>>());
    if zones.is_empty() {
        return vec![group];
    }
    let mut counts: Vec<i64> = zones.iter().map(|(_, zone)| shared_out.get(zone).copied().unwrap_or(0)).collect();
    let mut parts: Vec<Vec<usize>> = vec![Vec::new(); zones.len()];
    let mut left = Vec::new();
    for member in &group.members {
        let has_room = |at: usize| free.get(&zones[at].1).is_some_and(|n| *n > 0);
        let open = || (0..zones.len()).filter(|at| *at < on_offer || has_room(*at));
        let enough_zones = i64::try_from(open().count()).is_ok_and(|n| n >= group.apart.min_zones);
        let least = open().map(|at| counts[at]).min().filter(|_| enough_zones).unwrap_or(0);
        let even = |at: &usize| counts[*at] < least.saturating_add(skew) && counts[*at] < most;
        let Some(at) = open().filter(even).find(|at| has_room(*at)).or_else(|| open().find(even)) else {
            left.push(*member);
            continue;
        };
        if let Some(left) = free.get_mut(&zones[at].1) {
            *left -= 1;
        }
        counts[at] += 1;
        parts[at].push(*member);
    }
    shared_out.extend(zones.iter().zip(&counts).map(|((_, zone), n)| (zone.clone(), *n)));
    let part = |(members, (_, zone)): (Vec<usize>, (i128, ZoneId))| {
        let mut part = Group { members, ..group.clone() };
        part.wants.zone = Some(zone);
        part
    };
    // No zone may take more: these keep a zone that does not exist, and are refused for it.
    let none = (left, (0, ZoneId::from("every zone holds its share")));
    parts.into_iter().zip(zones).chain([none]).filter(|(members, _)| !members.is_empty()).map(part).collect()
}

/// Shares a group out over correlated pools, at most `most` of the owner's replicas in each, counting what is `held`. Free room comes first, as
/// with zones.
fn over_pools<'a>(
    request: &PlacementRequest<'a>,
    listed: &[Vec<Listing<'a>>],
    group: Group<'a>,
    most: i64,
    held: &mut BTreeMap<Correlated, i64>,
) -> Vec<Group<'a>> {
    let mut pools: Vec<(i128, Correlated)> =
        places(request, listed, &group, correlated_pool).into_iter().map(|(pool, cost)| (cost, pool)).collect();
    pools.sort();
    let rooms = room::free_for(request, &group, correlated_pool).into_iter();
    let order = rooms.chain(pools.into_iter().map(|(_, pool)| (pool, most)));
    let mut rest = group.members.as_slice();
    let mut out = Vec::new();
    for (pool, holds) in order {
        let have = held.entry(pool.clone()).or_default();
        let take = usize::try_from((most - *have).min(holds)).unwrap_or(0).min(rest.len());
        if take > 0 {
            let (here, after) = rest.split_at(take);
            let mut part = Group { members: here.to_vec(), ..group.clone() };
            part.wants.within = Some(pool);
            out.push(part);
            *have += take as i64;
            rest = after;
        }
    }
    if !rest.is_empty() {
        // No pool is left that may take more: these keep a pool that does not exist, and are refused for diversity.
        let mut part = Group { members: rest.to_vec(), ..group.clone() };
        let nowhere = crate::core::market::CapacityType::Reserved;
        part.wants.within = Some((ZoneId::from("every pool holds its share"), String::new(), nowhere));
        out.push(part);
    }
    out
}
