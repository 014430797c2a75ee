//! Which pools of capacity the replicas of a service go to whose owner asks for nothing: not all to one where that is nearly free.
//!
//! Decides: what [`crate::core::policy::spreading`] gets to know of a service and of the offers that could serve it, and what its answer leaves of
//! them for each replica.
//! Does not: bear on services with spares, a goal, a share, a spread over zones or a gang of their own: those ask for more than this, or for
//! something else. Nor keep a replica waiting: what cannot be bought apart is bought where it can be. Room that is paid for already is taken
//! wherever it is.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::super::pass::Pass;
use super::super::terms::Marks;
use super::apart;
use super::deadline::Verdict;
use super::looking::{self, Asker, admitted, asker, is_awaited};
use crate::core::market::availability::CapacityMemory;
use crate::core::market::{Capacity, CapacityType};
use crate::core::placement::eligibility::{Correlated, Wants, correlated_pool, egress_per_replica, listings};
use crate::core::placement::listing::Listing;
use crate::core::placement::{Apart, PlacementRequest};
use crate::core::policy::spreading::{self, DEFAULT_GOAL_PPM, Spread, Terms, losses_per_million_hours, share_out};
use crate::core::units::ids::Uid;
use crate::core::workload::company::Domain;
use crate::core::workload::need::{CapacityPreference, Need, Schedule, WorkloadKind};
use crate::core::workload::{Pod, Workload};

/// The verdicts on those of `pods` that are replicas of a service to be spread, by uid.
pub(in crate::core::plan) fn verdicts(
    pass: &Pass,
    pods: &[&Pod],
    request: &PlacementRequest,
    marks: &Marks,
) -> BTreeMap<Uid, Arc<Verdict>> {
    let mut services: BTreeMap<&Workload, Vec<&Pod>> = BTreeMap::new();
    for pod in pods.iter().filter(|pod| most_extra(pass, pod) > 0 && !is_awaited(pass, pod)) {
        services.entry(&pod.workload).or_default().push(pod);
    }
    services.retain(|workload, _| pass.index.of_workload(workload).len() > 1);
    if services.is_empty() {
        return BTreeMap::new();
    }
    let listed = listings(request);
    let mut known: BTreeMap<Asker, Vec<Place>> = BTreeMap::new();
    let mut by_pod = BTreeMap::new();
    for (workload, asking) in services {
        let mut standing = Standing::of(pass, workload, &asking);
        let mut groups: BTreeMap<Asker, Vec<&Pod>> = BTreeMap::new();
        for pod in asking {
            let Ok((need, _)) = &pod.need else { continue };
            groups.entry(asker(pass, marks, pod, need)).or_default().push(pod);
        }
        for (asker, pods) in groups {
            let most_extra = pods.iter().map(|pod| most_extra(pass, pod)).min().unwrap_or(0);
            let places = known.entry(asker).or_insert_with_key(|(need, pools, rescue, apart)| {
                let wants = Wants { rescue: *rescue, apart: Some(apart), ..Wants::new(request, need) };
                places(request, &wants, admitted(request, &listed, pools))
            });
            let verdicts = share(request, places, &mut standing, most_extra, pods.len());
            by_pod.extend(pods.iter().zip(verdicts).map(|(pod, verdict)| (pod.identity.uid.clone(), verdict)));
        }
    }
    by_pod
}

/// What a replica may cost more for standing apart, in thousandths; 0 when it is not to be spread, or its owner asks for something else.
fn most_extra(pass: &Pass, pod: &Pod) -> i64 {
    let Ok((need, schedule)) = &pod.need else { return 0 };
    let apart_over_zones = pod.rules.apart.iter().any(|c| c.domain == Domain::Zone);
    if !is_plain_service(need, schedule) || apart_over_zones {
        return 0;
    }
    let pools = pass.pools_for(pod);
    let mut pools = pools.iter().filter_map(|name| pass.world.pools.get(name)).peekable();
    if pools.peek().is_none() {
        return 0;
    }
    // Whichever of its pools buys, none of them pays more than it allows.
    pools.map(|pool| if pool.max_share_per_mille.is_some() { 0 } else { pool.spread_most_extra_per_mille }).min().unwrap_or(0)
}

/// A service on spot whose owner asks for nothing that bears on how many of its replicas may be lost together.
fn is_plain_service(need: &Need, schedule: &Schedule) -> bool {
    need.kind == WorkloadKind::Inference
        && need.capacity != CapacityPreference::OnDemand
        && schedule.spares == 0
        && schedule.availability_goal_ppm.is_none()
        && schedule.max_share_per_mille.is_none()
        && schedule.zone_max_skew.is_none()
        && schedule.gang.is_none()
}

/// Where the replicas of a service stand, those that are being asked for left out until they have an answer.
struct Standing {
    total: i64,
    by_pool: BTreeMap<Correlated, i64>,
}

impl Standing {
    fn of(pass: &Pass, workload: &Workload, asking: &[&Pod]) -> Standing {
        let mut standing = Standing { total: i64::try_from(asking.len()).unwrap_or(i64::MAX), by_pool: BTreeMap::new() };
        for pod in looking::standing(pass, workload, asking) {
            standing.total += 1;
            let claim = pod.claim.as_ref().and_then(|name| pass.claims.get(name)).filter(|c| c.takes_work());
            if let Some(at) = claim.map(|c| &c.spec.capacity).or_else(|| apart::unread_capacity(pass, pod)) {
                *standing.by_pool.entry(correlated_pool(at)).or_default() += 1;
            }
        }
        standing
    }
}

/// One pool that is lost as a whole: sizes of one family in one zone.
struct Place {
    at: Correlated,
    /// Machines that can be had: cost with expected interruptions, and replicas.
    machines: Vec<(i64, i64)>,
    per_replica: i64,
    /// The offer with the least cost per replica: a pool's memory is that of its cheapest type.
    cheapest: (i128, Capacity),
    interruptions_per_million_hours: i64,
    losses_per_million_hours: i64,
    /// One set for all services of a need: what was judged for one of them holds for the others.
    open: Arc<BTreeSet<Capacity>>,
}

/// The pools in which a replica can be bought now.
fn places<'a>(request: &PlacementRequest, wants: &Wants, listings: impl Iterator<Item = &'a Listing<'a>>) -> Vec<Place> {
    let mut found: BTreeMap<Correlated, Place> = BTreeMap::new();
    for listing in listings {
        let Ok(replicas) = wants.judge(listing) else { continue };
        let at = &listing.offer.capacity;
        let per_replica = egress_per_replica(wants.need, &at.region, request.settings).0;
        let each = (i128::from(listing.cost.0) * 1_000 / i128::from(replicas), at.clone());
        let interruptions_per_million_hours = listing.interruptions_per_million_hours;
        let place = found.entry(correlated_pool(at)).or_insert_with(|| Place {
            at: correlated_pool(at),
            machines: Vec::new(),
            per_replica,
            cheapest: each.clone(),
            interruptions_per_million_hours,
            losses_per_million_hours: 0,
            open: Arc::default(),
        });
        place.machines.push((listing.cost.0, replicas));
        Arc::make_mut(&mut place.open).insert(at.clone());
        if each < place.cheapest {
            (place.cheapest, place.interruptions_per_million_hours) = (each, interruptions_per_million_hours);
        }
    }
    let unseen = CapacityMemory::default();
    let mut found: Vec<Place> = found.into_values().collect();
    for place in found.iter_mut().filter(|place| place.at.2 == CapacityType::Spot) {
        let record = request.learnt.memory.and_then(|memory| memory.of(&place.cheapest.1));
        let memory = record.map_or(&unseen, |record| &record.capacity);
        place.losses_per_million_hours = losses_per_million_hours(memory, place.interruptions_per_million_hours);
    }
    found
}

/// What the spread leaves to each of `asked` replicas, in order; nothing when all of them are best bought where they cost least.
fn share(request: &PlacementRequest, places: &[Place], standing: &mut Standing, most_extra: i64, asked: usize) -> Vec<Arc<Verdict>> {
    let terms =
        Terms { replicas: standing.total, back_after: request.settings.boot, goal_ppm: DEFAULT_GOAL_PPM, most_extra_per_mille: most_extra };
    // Where even a full machine costs too much per replica, nothing is bought: most of a market.
    let alone = places.iter().flat_map(|p| p.machines.iter().map(|(cost, _)| cost + p.per_replica)).min().unwrap_or(0);
    let worth = |p: &&Place| (p.cheapest.0 + i128::from(p.per_replica) * 1_000) <= i128::from(alone) * i128::from(1_000 + most_extra);
    let places: Vec<&Place> = places.iter().filter(worth).collect();
    let offered: Vec<spreading::Place> = places
        .iter()
        .map(|place| spreading::Place {
            machines: &place.machines,
            per_replica: place.per_replica,
            standing: standing.by_pool.get(&place.at).copied().unwrap_or(0),
            losses_per_million_hours: place.losses_per_million_hours,
        })
        .collect();
    let Some(spread) = share_out(&terms, &offered, asked) else {
        return Vec::new();
    };
    let mut verdicts = Vec::with_capacity(asked);
    for (place, count) in places.iter().zip(&spread.counts).filter(|(_, count)| **count > 0) {
        let here = standing.by_pool.entry(place.at.clone()).or_default();
        *here += i64::try_from(*count).unwrap_or(i64::MAX);
        let text = words(place, *here, standing.total, asked, &spread);
        let verdict = Verdict { on_demand_only: false, buy_only: Some(Arc::clone(&place.open)), waits: false, text };
        verdicts.extend(std::iter::repeat_n(Arc::new(verdict), *count));
    }
    verdicts
}

fn words(place: &Place, here: i64, total: i64, asked: usize, spread: &Spread) -> String {
    let (extra, together) = (spread.extra.0, spread.together.0.max(1));
    let tenths = i128::from(extra) * 1_000 / i128::from(together);
    format!(
        "spread: {here} of {total} replicas in {} {}; for the {asked} bought now it costs ${}/h ({}.{} %) more than all in one capacity pool, \
         and losing one is expected to cost ${}/h less",
        place.at.0,
        place.at.1,
        spread.extra,
        tenths / 10,
        tenths % 10,
        spread.avoided
    )
}

/// A workload of a file, none of whose pods stands anywhere.
pub struct OfFile<'d> {
    /// What each replica needs.
    pub need: &'d Need,
    /// What its owner said.
    pub schedule: &'d Schedule,
    /// What other pods leave of the choice.
    pub apart: &'d Apart,
    /// How many there are.
    pub replicas: usize,
}

/// What a spread leaves of the offers for each replica of a workload of a file, in order; empty where nothing is spread.
pub fn of_file(request: &PlacementRequest, work: &OfFile, most_extra_per_mille: i64) -> Vec<Arc<BTreeSet<Capacity>>> {
    let spreads = is_plain_service(work.need, work.schedule) && !work.apart.one_in_each.contains(&Domain::Zone) && work.replicas > 1;
    if !spreads || most_extra_per_mille <= 0 {
        return Vec::new();
    }
    let listed = listings(request);
    let wants = Wants { apart: Some(work.apart), ..Wants::new(request, work.need) };
    let places = places(request, &wants, listed.iter().flatten());
    let mut standing = Standing { total: i64::try_from(work.replicas).unwrap_or(i64::MAX), by_pool: BTreeMap::new() };
    let verdicts = share(request, &places, &mut standing, most_extra_per_mille, work.replicas);
    verdicts.iter().filter_map(|verdict| verdict.buy_only.clone()).collect()
}
