//! From offers to a packing problem: offers that are equivalent for packing are reduced to the cheapest of them.
//!
//! Decides: which offers a packing needs to consider.

use std::collections::BTreeMap;

use crate::core::units::Resources;
use crate::core::units::ids::{Region, ZoneId};

use super::eligibility::{above_cap, correlated_pool, egress_per_replica};
use super::groups::Group;
use super::listing::{Listing, Usable};
use super::packing::{Bin, Item, NEVER, Problem, RESOURCES};
use super::request::PlacementRequest;
use super::score::unavailability;

/// What is minimised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    /// Price, expected interruptions and egress.
    Cost,
    /// The price alone.
    Price,
}

/// An offer that became a bin: index of the node pool, index of its listing.
pub type Source = (usize, usize);

/// One bit per group.
type Mask = Vec<u64>;

fn mask_of(groups: &[Group], holds: impl Fn(&Group) -> bool) -> Mask {
    let mut mask = vec![0_u64; groups.len().div_ceil(64)];
    for (index, _) in groups.iter().enumerate().filter(|(_, g)| holds(g)) {
        mask[index / 64] |= 1 << (index % 64);
    }
    mask
}

fn has(mask: &Mask, index: usize) -> bool {
    mask[index / 64] >> (index % 64) & 1 == 1
}

/// The offers of one node pool, by what matters: usable room, who may use it, and region if relevant.
type Classes = BTreeMap<(Usable, Mask, usize), Candidate>;
/// Cost, unmet preferences, interruptions, unavailability and price decide, as in [`super::score::Score`]; then the order of node pools and of
/// the market.
type Candidate = (i64, i64, i64, u8, i64, usize, usize);

/// The packing problem of `groups` over the `listed` offers of each node pool, and where each bin comes from.
///
/// Items are the groups in order.
pub fn reduce(request: &PlacementRequest, groups: &[Group], listed: &[Vec<Listing>], measure: Measure) -> (Problem, Vec<Source>) {
    let mut classes = Classes::new();
    let mut extras: Vec<Vec<i64>> = vec![vec![0; groups.len()]];
    for pool in 0..listed.len() {
        collect(request, groups, listed, pool, measure, &mut classes, &mut extras);
    }
    let mut ranked: Vec<(Candidate, Usable, Mask, usize)> = classes.into_iter().map(|((u, m, e), c)| (c, u, m, e)).collect();
    ranked.sort();
    let attaches = groups.iter().any(|g| g.wants.need.volumes > 0);
    let mut kept: Vec<(Candidate, Usable, Mask, usize)> = Vec::new();
    for one in ranked {
        let (_, usable, mask, extra) = &one;
        let beaten = kept.iter().any(|(_, u, m, e)| {
            let (have, want) = (&u.resources, &usable.resources);
            have.gpus >= want.gpus
                && have.cpu >= want.cpu
                && have.memory >= want.memory
                && have.disk >= want.disk
                && (have.volumes >= want.volumes || !attaches)
                && mask.iter().zip(m).all(|(mine, theirs)| mine & !theirs == 0)
                && (e == extra || extras[*e].iter().zip(&extras[*extra]).all(|(theirs, mine)| theirs <= mine))
        });
        if !beaten {
            kept.push(one);
        }
    }
    let items = groups.iter().map(|g| item(g, g.members.len() as i64)).collect();
    let bin = |(candidate, usable, mask, extra): &(Candidate, Usable, Mask, usize)| Bin {
        capacity: sizes(&usable.resources),
        cost: candidate.0.max(1),
        extra: (0..groups.len()).map(|g| if has(mask, g) { extras[*extra][g] } else { NEVER }).collect(),
    };
    let sources = kept.iter().map(|(c, ..)| (c.5, c.6)).collect();
    (Problem { items, bins: kept.iter().map(bin).collect() }, sources)
}

/// Resources in the order of a packing.
pub fn sizes(of: &Resources) -> [i64; RESOURCES] {
    [of.gpus, of.cpu.0, of.memory.0, of.disk.0, of.volumes]
}

/// What `count` pods of `group` take, and which pods they may share a machine with.
pub fn item(group: &Group, count: i64) -> Item {
    let (need, apart) = (group.wants.need, group.apart);
    let size = sizes(&need.resources()).map(|amount| amount.max(0));
    let size = [size[0].max(1), size[1], size[2], size[3], size[4]];
    Item { size, count, most: apart.most_on_one(), has: apart.has, avoids: apart.avoids }
}

fn collect(
    request: &PlacementRequest,
    groups: &[Group],
    listed: &[Vec<Listing>],
    pool: usize,
    measure: Measure,
    classes: &mut Classes,
    extras: &mut Vec<Vec<i64>>,
) {
    // By whether others may have an offer, and whether rescues may.
    let admitted = [(false, false), (false, true), (true, false), (true, true)].map(|(others, rescues)| {
        mask_of(groups, |g| g.admitted_by(&request.pools[pool].name) && if g.wants.rescue { rescues } else { others })
    });
    let tainted = request.pools[pool].nodes.values().any(|terms| !terms.class.taints.is_empty());
    // Few groups have caps, a correlated pool or a deadline; only for them must every single offer be considered.
    let special: Vec<usize> = (0..groups.len())
        .filter(|g| {
            let wants = &groups[*g].wants;
            wants.need.max_price_per_gpu_hour.is_some() || wants.looks_at_pools() || !wants.need.node_terms.is_empty() || tainted
        })
        .collect();
    let wishing: Vec<usize> = (0..groups.len()).filter(|g| !groups[*g].apart.prefers.is_empty()).collect();
    let mut by_type = BTreeMap::new();
    let mut region: Option<(&Region, Mask, usize)> = None;
    let mut zone: Option<(&ZoneId, Mask)> = None;
    for (index, listing) in listed[pool].iter().enumerate() {
        let (at, Some(machine)) = (&listing.offer.capacity, listing.machine) else { continue };
        let admitted = match (listing.refusal(false), listing.refusal(true)) {
            (Some(_), Some(_)) => continue,
            (others, rescues) => &admitted[usize::from(others.is_none()) * 2 + usize::from(rescues.is_none())],
        };
        if region.as_ref().is_none_or(|(name, ..)| *name != &at.region) {
            let extra: Vec<i64> = groups.iter().map(|g| egress_per_replica(g.wants.need, &at.region, request.settings).0).collect();
            let slot = if measure == Measure::Price { 0 } else { extras.iter().position(|e| *e == extra).unwrap_or(extras.len()) };
            if slot == extras.len() {
                extras.push(extra);
            }
            region = Some((&at.region, mask_of(groups, |g| g.wants.regions.contains(&at.region)), slot));
        }
        if zone.as_ref().is_none_or(|(name, _)| *name != &at.zone) {
            zone = Some((&at.zone, mask_of(groups, |g| g.wants.may_buy() && g.wants.place_ok(at))));
        }
        let fits: &Mask = by_type.entry((&at.instance_type, at.capacity_type, listing.usable)).or_insert_with(|| {
            mask_of(groups, |g| {
                let need = g.wants.need;
                (need.gpu_models.is_empty() || need.gpu_models.contains(&machine.gpu_model))
                    && (need.instance_types.is_empty() || need.instance_types.contains(&machine.instance_type))
                    && need.architecture.is_none_or(|a| a == machine.architecture)
                    && g.wants.capacity_type_ok(at.capacity_type)
                    && g.wants.capacity_refusal(at.capacity_type, listing.fallback_on_demand).is_none()
                    && g.wants.replicas_on(&listing.usable) > 0
            })
        });
        let (Some((_, region_mask, slot)), Some((_, zone_mask))) = (&region, &zone) else { continue };
        let mut mask: Mask = (0..fits.len()).map(|w| fits[w] & admitted[w] & region_mask[w] & zone_mask[w]).collect();
        let before = mask.clone();
        for g in special.iter().filter(|g| has(&before, **g)) {
            let wants = &groups[*g].wants;
            let outside =
                wants.within.as_ref().is_some_and(|w| *w != correlated_pool(at)) || wants.buy_only.is_some_and(|these| !these.contains(at));
            let elsewhere = !wants.labels_ok(at, machine, &listing.class) || !wants.tolerates(&listing.class);
            if outside || elsewhere || above_cap(listing.offer, machine, wants.need.max_price_per_gpu_hour) {
                mask[g / 64] &= !(1 << (g % 64));
            }
        }
        if mask.iter().all(|w| *w == 0) {
            continue;
        }
        let cost = if measure == Measure::Price { listing.offer.price_per_hour.0 } else { listing.cost.0 };
        let offer = listing.offer;
        let unmet: i64 = wishing.iter().filter(|g| has(&mask, **g)).map(|g| groups[*g].wants.unmet(listing)).sum();
        let candidate = (
            cost,
            unmet,
            listing.interruptions_per_million_hours,
            unavailability(listing.placement_score),
            offer.price_per_hour.0,
            pool,
            index,
        );
        let best = classes.entry((listing.usable, mask, *slot)).or_insert(candidate);
        *best = candidate.min(*best);
    }
}
