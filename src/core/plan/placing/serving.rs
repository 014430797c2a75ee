//! Which pool of capacity the next replica of a service with spares goes to, and when it goes to on-demand.
//!
//! Decides: what [`crate::core::policy::serving`] gets to know of a service and of the offers that could serve it, and what its answer leaves of
//! them for each replica.
//! Does not: change how many replicas there are: spares are some of those the owner asks for. Nor choose among the offers that are left
//! (see [`crate::core::placement`]); room that is paid for already is taken wherever it is.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::super::pass::Pass;
use super::super::terms::Marks;
use super::deadline::Verdict;
use super::looking::{self, Asker, admitted, asker, is_awaited};
use crate::core::market::availability::CapacityMemory;
use crate::core::market::{Capacity, CapacityType};
use crate::core::placement::PlacementRequest;
use crate::core::placement::eligibility::{Correlated, Wants, correlated_pool, listings};
use crate::core::placement::listing::Listing;
use crate::core::policy::serving::{ErrorBudget, Service, ServingPool, next_launch, on_demand_wanted};
use crate::core::record::Refusal;
use crate::core::units::ids::Uid;
use crate::core::units::money::MicroUsdPerHour;
use crate::core::units::time::Millis;
use crate::core::workload::need::{CapacityPreference, Need, Schedule, WorkloadKind};
use crate::core::workload::shortfall::Shortfall;
use crate::core::workload::{Pod, PodPhase, Workload};

/// The verdicts on those of `pods` that belong to a service with spares, by uid. They are taken in the order given: each knows of the ones before.
pub(in crate::core::plan) fn verdicts(
    pass: &Pass,
    pods: &[&Pod],
    request: &PlacementRequest,
    marks: &Marks,
) -> BTreeMap<Uid, Arc<Verdict>> {
    let mut services: BTreeMap<&Workload, Vec<&Pod>> = BTreeMap::new();
    for pod in pods.iter().filter(|pod| terms(pod).is_some() && !is_awaited(pass, pod)) {
        services.entry(&pod.workload).or_default().push(pod);
    }
    if services.is_empty() {
        return BTreeMap::new();
    }
    let listed = listings(request);
    // Replicas of a service are mostly equal, and each look goes through the whole market.
    let mut known: BTreeMap<Asker, Places> = BTreeMap::new();
    let mut by_pod = BTreeMap::new();
    for (workload, asking) in services {
        let mut standing = Standing::of(pass, workload, &asking);
        for pod in asking {
            let Some((need, schedule)) = terms(pod) else { continue };
            let market = known.entry(asker(pass, marks, pod, need)).or_insert_with_key(|(need, pools, rescue, apart)| {
                let wants = Wants { rescue: *rescue, apart: Some(apart), ..Wants::new(request, need) };
                Places::of(&wants, admitted(request, &listed, pools))
            });
            if let Some(verdict) = judge(pass, pod, (schedule, request.settings.boot), market, &mut standing) {
                by_pod.insert(pod.identity.uid.clone(), Arc::new(verdict));
            }
        }
    }
    by_pod
}

/// Need and schedule of a replica whose owner wants spares or has a goal, and takes spot.
fn terms(pod: &Pod) -> Option<(&Need, &Schedule)> {
    let (need, schedule) = pod.need.as_ref().ok()?;
    let asks = schedule.spares > 0 || schedule.availability_goal_ppm.is_some();
    (asks && need.kind == WorkloadKind::Inference && need.capacity == CapacityPreference::SpotFirst).then_some((need, schedule))
}

/// Where the replicas of a service stand, those that are being asked for left out until they have an answer.
#[derive(Default)]
struct Standing {
    total: u32,
    /// Launched and ready, by spot pool.
    spot: BTreeMap<Correlated, (u32, u32)>,
    on_demand: u32,
    on_demand_ready: u32,
}

impl Standing {
    fn of(pass: &Pass, workload: &Workload, asking: &[&Pod]) -> Standing {
        let mut standing = Standing { total: u32::try_from(asking.len()).unwrap_or(u32::MAX), ..Standing::default() };
        for pod in looking::standing(pass, workload, asking) {
            standing.total += 1;
            let claim = pod.claim.as_ref().and_then(|name| pass.claims.get(name)).filter(|c| c.takes_work());
            let ready = u32::from(pod.ready_since.is_some());
            match claim.map(|claim| &claim.spec.capacity) {
                Some(at) if at.capacity_type == CapacityType::Spot => {
                    let (launched, up) = standing.spot.entry(correlated_pool(at)).or_default();
                    (*launched, *up) = (*launched + 1, *up + ready);
                }
                Some(_) => (standing.on_demand, standing.on_demand_ready) = (standing.on_demand + 1, standing.on_demand_ready + ready),
                None => {}
            }
        }
        standing
    }
}

/// One spot pool that is lost as a whole: sizes of one family in one zone.
struct Place {
    at: Correlated,
    /// The least of a replica on any of its offers that can be had; of those that cannot, when there is none.
    price: MicroUsdPerHour,
    /// The offers, without those that cool down.
    open: BTreeSet<Capacity>,
    cheapest: Capacity,
}

/// The offers that could serve a replica.
struct Places {
    spot: Vec<Place>,
    /// On-demand and reserved.
    safe: BTreeSet<Capacity>,
    safe_price: Option<MicroUsdPerHour>,
}

impl Places {
    fn of<'a>(wants: &Wants, listings: impl Iterator<Item = &'a Listing<'a>>) -> Places {
        let mut spot: BTreeMap<Correlated, Place> = BTreeMap::new();
        let (mut safe, mut safe_price) = (BTreeSet::new(), None);
        for listing in listings {
            let (replicas, open) = match wants.judge(listing) {
                Ok(replicas) => (replicas, true),
                Err(Refusal::CoolingDown) => (wants.replicas_on(&listing.usable), false),
                Err(_) => (0, false),
            };
            if replicas < 1 {
                continue;
            }
            let (at, price) = (&listing.offer.capacity, MicroUsdPerHour(listing.offer.price_per_hour.0 / replicas));
            if at.capacity_type != CapacityType::Spot {
                if open {
                    safe.insert(at.clone());
                    safe_price = Some(safe_price.map_or(price, |least: MicroUsdPerHour| least.min(price)));
                }
                continue;
            }
            let new = || Place { at: correlated_pool(at), price, open: BTreeSet::new(), cheapest: at.clone() };
            let place = spot.entry(correlated_pool(at)).or_insert_with(new);
            if (open && place.open.is_empty()) || (open != place.open.is_empty() && price < place.price) {
                (place.price, place.cheapest) = (price, at.clone());
            }
            if open {
                place.open.insert(at.clone());
            }
        }
        Places { spot: spot.into_values().collect(), safe, safe_price }
    }
}

/// What the serving policy says of one replica; `None` leaves it to the cheapest offer. A loss is taken to last as long as a `boot`.
fn judge(pass: &Pass, pod: &Pod, (schedule, boot): (&Schedule, Millis), market: &Places, standing: &mut Standing) -> Option<Verdict> {
    let unseen = CapacityMemory::default();
    let pools: Vec<ServingPool> = market
        .spot
        .iter()
        .map(|place| {
            let (launched, ready) = standing.spot.get(&place.at).copied().unwrap_or_default();
            let memory = pass.world.memory.of(&place.cheapest).map_or(&unseen, |record| &record.capacity);
            ServingPool { price: place.price, launched, ready, memory, refused: place.open.is_empty() }
        })
        .collect();
    let spares = schedule.spares.min(standing.total.saturating_sub(1));
    let none = Shortfall::default();
    let seen = pass.world.memory.services.of(&pod.workload).unwrap_or(&none);
    let budget = schedule.availability_goal_ppm.map(|goal| ErrorBudget::of_goal(goal, seen, pass.now, boot));
    let service = Service {
        replicas: standing.total - spares,
        spares,
        on_demand: standing.on_demand,
        on_demand_ready: standing.on_demand_ready,
        on_demand_price: market.safe_price.unwrap_or(MicroUsdPerHour(i64::MAX)),
        budget,
    };
    if budget.is_some_and(|budget| !budget.is_tight()) {
        return None;
    }
    let head = head(&service, schedule.availability_goal_ppm);
    if let Some((place, pool)) = next_launch(&service, &pools, pass.now).and_then(|at| Some((market.spot.get(at)?, pools.get(at)?))) {
        standing.spot.entry(place.at.clone()).or_default().0 += 1;
        let fullest = pools.iter().zip(&market.spot).max_by_key(|(p, _)| p.launched).filter(|(p, _)| p.launched > pool.launched);
        let why = match fullest {
            Some((other, at)) => format!("{} of {} replicas stand in {} {} already", other.launched, standing.total, at.at.0, at.at.1),
            None => format!("{} of {} replicas stand in {} {}", pool.launched, standing.total, place.at.0, place.at.1),
        };
        let buy_only = Some(Arc::new(place.open.clone()));
        return Some(Verdict { on_demand_only: false, buy_only, waits: false, text: format!("spread: {why}; {head}") });
    }
    let dear = pools.iter().all(|pool| pool.price >= service.on_demand_price);
    if market.safe.is_empty() || (dear && budget.is_none()) {
        // Nothing to choose between, or on-demand costs no more than any spot.
        return None;
    }
    if on_demand_wanted(&service, &pools, pass.now) > standing.on_demand || pod.phase != PodPhase::Gated {
        standing.on_demand += 1;
        let text = format!("on-demand: spot has no pool for it that would be relied on; {head}");
        return Some(Verdict { on_demand_only: true, buy_only: None, waits: false, text });
    }
    let text = format!("a spare waits for spot, since the replicas that must be ready have their places; {head}");
    Some(Verdict { on_demand_only: false, buy_only: Some(Arc::default()), waits: true, text })
}

/// What the owner asked for, and what is left of the budget.
fn head(service: &Service, goal_ppm: Option<i64>) -> String {
    let spares = format!("{} of {} replicas are spares", service.spares, service.replicas + service.spares);
    match (service.budget, goal_ppm) {
        (Some(budget), Some(goal)) => format!(
            "{spares}; availability goal {}.{:04} %: {} of {} short of replicas used in 24 h",
            goal / 10_000,
            goal % 10_000,
            budget.used,
            budget.allowed
        ),
        _ => spares,
    }
}
