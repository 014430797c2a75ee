//! What gangs, spreads and diversity leave of a group.
//!
//! Decides: the zone of a gang, how replicas are shared out over zones, regions, capacity types and correlated capacity.
//! Does not: pack (see `packing`).
//!
//! Shares are fixed before packing, cheapest places first, so that they hold whatever is packed together with them.

use std::collections::{BTreeMap, BTreeSet};

use crate::core::market::Capacity;
use crate::core::units::ids::ZoneId;
use crate::core::workload::company::Domain;

use super::eligibility::{Correlated, correlated_pool, most_in_one_pool};
use super::groups::Group;
use super::judge::score;
use super::listing::Listing;
use super::request::{Area, AreaSpread, OwnerRule, PlacementRequest};
use super::room;

/// Adds to each group what its gang, spread and diversity ask. `listed` are the offers per node pool, in the order of the request's.
pub fn restrict<'a>(request: &PlacementRequest<'a>, listed: &[Vec<Listing<'a>>], groups: Vec<Group<'a>>) -> Vec<Group<'a>> {
    let groups = one_area_per_gang(request, listed, groups);
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
    let mut shared_out: BTreeMap<(&str, &[AreaSpread]), Shares> = BTreeMap::new();
    for group in groups {
        let Some(owner) = group.owner else {
            out.push(group);
            continue;
        };
        let shares = shared_out.entry((&owner.owner, &owner.spreads)).or_insert_with(|| Shares::standing(owner));
        let total = totals.get(owner.owner.as_str()).copied().unwrap_or(0) + owner.standing.values().sum::<i64>();
        for part in over_areas(request, listed, group, owner, shares) {
            match (most_in_one_pool(owner, total), standing.get_mut(owner.owner.as_str())) {
                (Some(most), Some(held)) => out.extend(over_pools(request, listed, part, most, held)),
                _ => out.push(part),
            }
        }
    }
    out
}

/// How many pods count in each area: for each spread of an owner, and for the owner itself.
struct Shares {
    spreads: Vec<BTreeMap<Area, i64>>,
    own: BTreeMap<Area, i64>,
}

impl Shares {
    fn standing(owner: &OwnerRule) -> Shares {
        let by_area = |domains: &[Domain], standing: &BTreeMap<Capacity, i64>| {
            let mut counts = BTreeMap::new();
            for (at, n) in standing {
                domains.iter().filter_map(|d| Area::of(*d, at)).for_each(|area| *counts.entry(area).or_insert(0) += n);
            }
            counts
        };
        let all = [Domain::Zone, Domain::Region, Domain::CapacityType];
        Shares { spreads: owner.spreads.iter().map(|s| by_area(&[s.domain], &s.standing)).collect(), own: by_area(&all, &owner.standing) }
    }

    /// Whether one more may go to `cell`, when replicas may go to any of the `open` ones.
    fn allow(&self, owner: &OwnerRule, alone_in: &BTreeSet<Domain>, cell: &Cell, open: &[&Cell]) -> bool {
        let of_domain = |cell: &Cell, domain: Domain| cell.iter().find(|a| a.domain() == domain).cloned();
        let even = |(spread, counts): (&AreaSpread, &BTreeMap<Area, i64>)| {
            let count = |area: &Area| counts.get(area).copied().unwrap_or(0);
            let areas: BTreeSet<Area> = open.iter().filter_map(|cell| of_domain(cell, spread.domain)).collect();
            let enough = i64::try_from(areas.len()).is_ok_and(|n| n >= spread.min_domains);
            let least = areas.iter().map(count).min().filter(|_| enough).unwrap_or(0);
            let then = i64::from(spread.counts_itself);
            of_domain(cell, spread.domain).is_none_or(|area| count(&area) + then <= least.saturating_add(spread.max_skew))
        };
        let alone = |domain: &Domain| of_domain(cell, *domain).is_none_or(|area| self.own.get(&area).copied().unwrap_or(0) < 1);
        owner.spreads.iter().zip(&self.spreads).all(even) && alone_in.iter().all(alone)
    }

    fn take(&mut self, owner: &OwnerRule, cell: &Cell) {
        for area in cell {
            for (spread, counts) in owner.spreads.iter().zip(&mut self.spreads).filter(|(s, _)| s.domain == area.domain()) {
                *counts.entry(area.clone()).or_insert(0) += i64::from(spread.counts_itself);
            }
            *self.own.entry(area.clone()).or_insert(0) += 1;
        }
    }
}

/// One area of each kind that an owner's replicas are shared out over.
type Cell = BTreeSet<Area>;

/// Cost per replica in thousandths of a micro-dollar, and what is not met of preferences at that cost.
type Cost = (i128, i128);

/// The least cost of each place that `key` makes of the offers that fit.
fn places<K: Ord>(
    request: &PlacementRequest,
    listed: &[Vec<Listing>],
    group: &Group,
    key: impl Fn(&crate::core::market::Capacity) -> K,
) -> BTreeMap<K, Cost> {
    let mut best = BTreeMap::new();
    for (pool, listings) in request.pools.iter().zip(listed) {
        if !group.admitted_by(&pool.name) {
            continue;
        }
        for listing in listings {
            if let Ok(replicas) = group.wants.judge(listing) {
                let score = score(listing, &group.wants, replicas, request.settings);
                let cost = (score.nano_usd_per_replica_hour, i128::from(score.unmet_preferences));
                let least = best.entry(key(&listing.offer.capacity)).or_insert(cost);
                *least = cost.min(*least);
            }
        }
    }
    best
}

/// Gives each gang the zone, and pods that stay together the area, where most of it may be and all of it fits at the least cost; the first of
/// equals.
fn one_area_per_gang<'a>(request: &PlacementRequest<'a>, listed: &[Vec<Listing<'a>>], mut groups: Vec<Group<'a>>) -> Vec<Group<'a>> {
    let names = |g: &Group<'a>| -> BTreeSet<(Domain, &'a str)> {
        // Where members stand already, the zone is known, whatever is on offer there: free room may do.
        let gang = g.gang.filter(|_| g.wants.areas.is_empty()).map(|gang| (Domain::Zone, gang));
        gang.into_iter().chain(g.apart.same.iter().map(|(domain, name)| (*domain, name.as_str()))).collect()
    };
    let of_group: Vec<BTreeSet<(Domain, &str)>> = groups.iter().map(names).collect();
    for gang in of_group.iter().flatten().copied().collect::<BTreeSet<_>>() {
        let members: Vec<usize> = (0..groups.len()).filter(|at| of_group[*at].contains(&gang)).collect();
        let mut common: Option<BTreeMap<Area, Cost>> = None;
        for group in members.iter().map(|at| &groups[*at]) {
            let mut here = places(request, listed, group, |capacity| Area::of(gang.0, capacity));
            here.extend(room::free_for(request, group, |capacity| Area::of(gang.0, capacity)).into_keys().map(|area| (area, (0, 0))));
            let here: BTreeMap<Area, Cost> = here.into_iter().filter_map(|(area, cost)| Some((area?, cost))).collect();
            let size = group.members.len() as i128;
            let sum = |area: &Area, before: Cost| here.get(area).map(|cost| (before.0 + cost.0 * size, before.1 + cost.1 * size));
            common = Some(match common {
                None => here.keys().filter_map(|area| Some((area.clone(), sum(area, (0, 0))?))).collect(),
                Some(have) => have.iter().filter_map(|(area, before)| Some((area.clone(), sum(area, *before)?))).collect(),
            });
        }
        let left_out = |area: &Area| left_out_of(request, listed, members.iter().map(|at| &groups[*at]), area);
        let best = common.unwrap_or_default().into_iter().min_by_key(|(area, cost)| (left_out(area), *cost, area.clone()));
        // Without a common area the members keep no place at all: a zone that does not exist.
        let area = best.map_or_else(|| Area::Zone(ZoneId::from("no zone holds the whole gang")), |(area, _)| area);
        for at in members {
            groups[at].wants.areas.insert(area.clone());
        }
    }
    groups
}

/// How many pods of `groups` their spreads and anti-affinities would leave without a place if all had to be in `area`.
fn left_out_of<'g, 'a: 'g>(
    request: &PlacementRequest<'a>,
    listed: &[Vec<Listing<'a>>],
    groups: impl Iterator<Item = &'g Group<'a>>,
    area: &Area,
) -> usize {
    let mut shared_out: BTreeMap<(&str, &[AreaSpread]), Shares> = BTreeMap::new();
    let mut left_out = 0;
    for group in groups {
        let Some(owner) = group.owner else { continue };
        let mut there = group.clone();
        there.wants.areas.insert(area.clone());
        let shares = shared_out.entry((&owner.owner, &owner.spreads)).or_insert_with(|| Shares::standing(owner));
        let parts = over_areas(request, listed, there, owner, shares);
        left_out += parts.iter().filter(|part| part.wants.areas.contains(&no_share())).map(|part| part.members.len()).sum::<usize>();
    }
    left_out
}

/// Where those are put that no area may take more of: a zone that does not exist, and that they are refused for.
fn no_share() -> Area {
    Area::Zone(ZoneId::from("every zone holds its share"))
}

/// Shares a group out over areas so that no area has more than `maxSkew` above the emptiest one that could serve it, beside the owner's
/// replicas that were shared out before; adds its own to them. Free room comes before what is on offer: its price is sunk, and a machine that
/// was bought for a replica is where that replica goes. Pods that have an area already are shared out within it.
fn over_areas<'a>(
    request: &PlacementRequest<'a>,
    listed: &[Vec<Listing<'a>>],
    group: Group<'a>,
    owner: &OwnerRule,
    shares: &mut Shares,
) -> Vec<Group<'a>> {
    let alone_in = &group.apart.one_in_each;
    let domains: BTreeSet<Domain> = owner.spreads.iter().map(|s| s.domain).chain(alone_in.iter().copied()).collect();
    if domains.is_empty() {
        return vec![group];
    }
    let cell_of = |at: &Capacity| -> Cell { domains.iter().filter_map(|domain| Area::of(*domain, at)).collect() };
    let mut cells: Vec<(Cost, Cell)> = places(request, listed, &group, cell_of).into_iter().map(|(cell, cost)| (cost, cell)).collect();
    cells.sort();
    let on_offer = cells.len();
    let mut free = room::free_for(request, &group, cell_of);
    cells.extend(free.keys().filter(|cell| !cells.iter().any(|(_, c)| c == *cell)).map(|cell| ((0, 0), cell.clone())).collect::<Vec<_>>());
    if cells.is_empty() {
        return vec![group];
    }
    let mut parts: Vec<Vec<usize>> = vec![Vec::new(); cells.len()];
    let mut left = Vec::new();
    for member in &group.members {
        let has_room = |at: usize| free.get(&cells[at].1).is_some_and(|n| *n > 0);
        let open: Vec<usize> = (0..cells.len()).filter(|at| *at < on_offer || has_room(*at)).collect();
        let open_cells: Vec<&Cell> = open.iter().map(|at| &cells[*at].1).collect();
        let even: Vec<usize> = open.iter().copied().filter(|at| shares.allow(owner, alone_in, &cells[*at].1, &open_cells)).collect();
        let Some(at) = even.iter().copied().find(|at| has_room(*at)).or_else(|| even.first().copied()) else {
            left.push(*member);
            continue;
        };
        if let Some(left) = free.get_mut(&cells[at].1) {
            *left -= 1;
        }
        shares.take(owner, &cells[at].1);
        parts[at].push(*member);
    }
    let part = |(members, (_, cell)): (Vec<usize>, (Cost, Cell))| {
        let mut part = Group { members, ..group.clone() };
        part.wants.areas.extend(cell);
        part
    };
    let none = (left, ((0, 0), Cell::from([no_share()])));
    parts.into_iter().zip(cells).chain([none]).filter(|(members, _)| !members.is_empty()).map(part).collect()
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
    let mut pools: Vec<(Cost, Correlated)> =
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
