//! An independent check of a placement: it reads the request and the answer, and shares no code with the planner.

use std::collections::{BTreeMap, BTreeSet};

use lowtide::core::market::quota::QuotaFamily;
use lowtide::core::market::{Capacity, CapacityType, Offer, PriceSource};
use lowtide::core::placement::{Demand, Placement, PlacementRequest, PlannedMachine, PoolPolicy, Target};
use lowtide::core::units::Resources;
use lowtide::core::workload::company::Domain;
use lowtide::core::workload::need::{CapacityPreference, Need};
use lowtide::core::workload::sharing::Sharing;

fn glob(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((head, rest)) => text.strip_prefix(head).is_some_and(|tail| (0..=tail.len()).any(|at| glob(rest, &tail[at..]))),
    }
}

fn any(patterns: &[String], text: &str) -> bool {
    patterns.is_empty() || patterns.iter().any(|p| glob(p, text))
}

/// Every rule that `placement` breaks, in words; empty when it is sound.
pub fn faults(request: &PlacementRequest, placement: &Placement) -> Vec<String> {
    let mut faults = Vec::new();
    each_pod_once(request, placement, &mut faults);
    for (index, machine) in placement.machines.iter().enumerate() {
        let Some(policy) = request.pools.iter().find(|p| p.name == machine.node_pool) else {
            faults.push(format!("machine {index} belongs to no pool"));
            continue;
        };
        let pods: Vec<&Demand> =
            placement.assignments.iter().filter(|a| a.target == Target::NewMachine(index)).map(|a| &request.demands[a.demand]).collect();
        let named: BTreeSet<&str> = machine.demands.iter().map(|d| &*request.demands[*d].key).collect();
        if named != pods.iter().map(|d| &*d.key).collect() || pods.is_empty() {
            faults.push(format!("machine {index} names other pods than are assigned to it, or none"));
        }
        machine_faults(request, policy, &machine.capacity, machine.price_per_hour.0, &pods, &mut faults);
    }
    rooms(request, placement, &mut faults);
    limits(request, placement, &mut faults);
    owners(request, placement, &mut faults);
    let total: i64 = placement.machines.iter().map(|m| m.price_per_hour.0).sum();
    if total != placement.price_per_hour.0 || placement.lower_bound_per_hour.0 > total {
        faults.push(format!("prices {total}, said {:?}, bound {:?}", placement.price_per_hour, placement.lower_bound_per_hour));
    }
    faults
}

fn each_pod_once(request: &PlacementRequest, placement: &Placement, faults: &mut Vec<String>) {
    let mut seen = BTreeMap::new();
    for index in placement.assignments.iter().map(|a| a.demand).chain(placement.unplaced.iter().map(|u| u.demand)) {
        *seen.entry(index).or_insert(0) += 1;
    }
    if seen.len() != request.demands.len() || seen.values().any(|n| *n != 1) {
        faults.push("not every pod is placed or refused exactly once".to_owned());
    }
    for unplaced in &placement.unplaced {
        if unplaced.judgement.chosen.is_some() && request.demands[unplaced.demand].gang.is_none() {
            faults.push(format!("{} is refused although an offer was free for it", unplaced.key));
        }
    }
}

fn need_faults(request: &PlacementRequest, need: &Need, capacity: &Capacity) -> Vec<&'static str> {
    let machine = &request.catalog.types[&capacity.instance_type];
    let checks = [
        (any(&need.regions, capacity.region.as_str()), "region"),
        (need.zones.is_empty() || need.zones.contains(&capacity.zone), "zone"),
        (need.gpu_models.is_empty() || need.gpu_models.contains(&machine.gpu_model), "model"),
        (need.architecture.is_none_or(|a| a == machine.architecture), "architecture"),
        (need.capacity != CapacityPreference::SpotOnly || capacity.capacity_type == CapacityType::Spot, "spot only"),
        (need.capacity != CapacityPreference::OnDemand || capacity.capacity_type != CapacityType::Spot, "never spot"),
    ];
    checks.into_iter().filter(|(ok, _)| !ok).map(|(_, what)| what).collect()
}

fn machine_faults(
    request: &PlacementRequest,
    policy: &PoolPolicy,
    capacity: &Capacity,
    price: i64,
    pods: &[&Demand],
    faults: &mut Vec<String>,
) {
    let Some(offer) = request.market.offers.get(capacity) else {
        faults.push(format!("{capacity} is not on the market"));
        return;
    };
    let machine = &request.catalog.types[&capacity.instance_type];
    let whole = machine.allocatable();
    let Some(terms) = policy.nodes.get(&capacity.zone) else {
        faults.push(format!("{capacity}: no class of {} makes nodes there", policy.name));
        return;
    };
    let (per_gpu, most) = match terms.sharing.sharing {
        Sharing::Exclusive => (1, i64::MAX),
        // A model without MIG has no instance at all.
        Sharing::Mig { replicas } => (if ["a100", "h100", "h200"].contains(&machine.gpu_model.as_str()) { replicas } else { 0 }, 1),
        Sharing::TimeSlicing { replicas } | Sharing::Mps { replicas } => (replicas, 1),
    };
    let shared = terms.sharing.sharing != Sharing::Exclusive;
    let memory = machine.gpu_memory.0 / per_gpu.max(1) - if shared { terms.sharing.context_reserve.0 } else { 0 };
    let taken = &terms.daemonsets;
    let mut left = [whole.gpus * per_gpu - taken.gpus, whole.cpu.0 - taken.cpu.0, whole.memory.0 - taken.memory.0];
    for pod in pods {
        let need = &pod.need;
        left = [left[0] - need.gpus, left[1] - need.cpu.0, left[2] - need.memory.0];
        for what in need_faults(request, need, capacity) {
            faults.push(format!("{} breaks its {what} on {capacity}", pod.key));
        }
        if need.gpu_memory.0 > memory || need.gpus > most {
            faults.push(format!("{} does not fit the GPUs of {capacity}", pod.key));
        }
        if need.max_price_per_gpu_hour.is_some_and(|cap| price > cap.0 * machine.gpus) {
            faults.push(format!("{} is above its owner's cap on {capacity}", pod.key));
        }
        if !pod.pools.is_empty() && !pod.pools.contains(&policy.name) {
            faults.push(format!("{} may not use the capacity {}", pod.key, policy.name));
        }
    }
    let pool_ok = any(&policy.regions, capacity.region.as_str())
        && (offer.source != PriceSource::Reservation || policy.reserved.contains(capacity))
        && age_is_fine(request, offer)
        && (policy.models.is_empty() || policy.models.contains(&machine.gpu_model))
        && any(&policy.instance_types, capacity.instance_type.as_str())
        && (policy.capacity_types.is_empty() || policy.capacity_types.contains(&capacity.capacity_type))
        && policy.max_price_per_gpu_hour.is_none_or(|cap| price <= cap.0 * machine.gpus)
        && request.learnt.cool_down(capacity, request.now).is_none();
    if left.iter().any(|l| *l < 0) || !pool_ok || offer.price_per_hour.0 != price {
        faults.push(format!("{capacity}: left {left:?}, capacity allows {pool_ok}, price {price}"));
    }
}

fn age_is_fine(request: &PlacementRequest, offer: &Offer) -> bool {
    let (age, settings) = (request.now.0 - offer.observed_at.0, request.settings);
    match offer.source {
        PriceSource::File => true,
        PriceSource::Snapshot => settings.snapshot_prices_allowed,
        PriceSource::PriceList => age <= settings.max_list_price_age.0,
        PriceSource::SpotPriceHistory | PriceSource::Reservation => age <= settings.max_price_age.0,
    }
}

fn rooms(request: &PlacementRequest, placement: &Placement, faults: &mut Vec<String>) {
    for room in request.room {
        let mut used = Resources::default();
        for assignment in placement.assignments.iter().filter(|a| a.target == Target::ExistingRoom(room.claim.clone())) {
            let need = &request.demands[assignment.demand].need;
            used.gpus += need.gpus;
            used.cpu.0 += need.cpu.0;
            used.memory.0 += need.memory.0;
            let too_much = need.gpu_memory > room.gpu_memory || need.gpus > room.most_units_per_pod;
            if !need_faults(request, need, &room.capacity).is_empty() || too_much {
                faults.push(format!("{} may not be in the room of {}", assignment.key, room.claim));
            }
        }
        if used.gpus > room.free.gpus || used.cpu > room.free.cpu || used.memory > room.free.memory {
            faults.push(format!("the room of {} is overfull", room.claim));
        }
    }
}

/// Whether a machine was bought for a rescue: then all of its pods are rescues, and no budget or launch rate held it up.
fn is_rescue(request: &PlacementRequest, machine: &PlannedMachine, faults: &mut Vec<String>) -> bool {
    let rescues = machine.demands.iter().filter(|d| request.demands[**d].rescue).count();
    if rescues != 0 && rescues != machine.demands.len() {
        faults.push(format!("{} is bought for rescues and others ride along", machine.capacity));
    }
    rescues != 0
}

fn limits(request: &PlacementRequest, placement: &Placement, faults: &mut Vec<String>) {
    for policy in request.pools {
        let mine: Vec<_> = placement.machines.iter().filter(|m| m.node_pool == policy.name).collect();
        let gpus: i64 = mine.iter().map(|m| request.catalog.types[&m.capacity.instance_type].gpus).sum();
        let hours = request.settings.commitment.map(|c| c.0 / 3_600_000);
        let spend: Option<i64> = hours.map(|h| mine.iter().map(|m| m.price_per_hour.0 * h).sum());
        let over = |limit: Option<i64>, have: i64| limit.is_some_and(|l| have > l);
        let nodes = mine.len() as i64;
        // What rescues take counts for all; each kind has a limit of its own.
        let rescued: Vec<_> = mine.iter().filter(|m| is_rescue(request, m, faults)).collect();
        let rescued_gpus: i64 = rescued.iter().map(|m| request.catalog.types[&m.capacity.instance_type].gpus).sum();
        let (own, all) = (policy.rescue_limits_left, policy.limits_left);
        let taken = rescued.len() as i64;
        if over(own.gpus, rescued_gpus) || over(own.nodes, taken) || over(own.launches, taken) {
            faults.push(format!("{}: {taken} rescues with {rescued_gpus} GPUs break the limits of rescues", policy.name));
        }
        let ordinary = nodes - taken;
        if ordinary > 0 && (over(all.gpus, gpus) || over(all.nodes, nodes) || over(all.launches, nodes)) {
            faults.push(format!("{}: {nodes} nodes and {gpus} GPUs break its limits", policy.name));
        }
        if let (Some(budget), Some(spend)) = (policy.budget_left, spend)
            && spend > budget.0
            && ordinary > 0
        {
            faults.push(format!("{}: {spend} is above its budget {budget}", policy.name));
        }
    }
    account_limits(request, placement, faults);
}

/// Quotas by region, first letter of the family and market; reservations by pool.
fn account_limits(request: &PlacementRequest, placement: &Placement, faults: &mut Vec<String>) {
    for (key, left) in &request.settings.quota_vcpus_left {
        let letter = if key.family == QuotaFamily::P { "p" } else { "g" };
        let mine = placement.machines.iter().map(|m| &m.capacity).filter(|capacity| {
            capacity.region == key.region
                && capacity.capacity_type == key.capacity_type
                && capacity.instance_type.as_str().starts_with(letter)
        });
        let used: i64 = mine.map(|capacity| request.catalog.types[&capacity.instance_type].vcpus).sum();
        if used > (*left).max(0) {
            faults.push(format!("{used} vCPUs are bought on a quota of which {left} are left: {key:?}"));
        }
    }
    for (capacity, left) in &request.settings.machines_left {
        let bought = placement.machines.iter().filter(|m| m.capacity == *capacity).count() as i64;
        if bought > (*left).max(0) {
            faults.push(format!("{bought} machines from {capacity}, which has {left}"));
        }
    }
}

fn place_of<'a>(request: &'a PlacementRequest, placement: &'a Placement, target: &Target) -> &'a Capacity {
    match target {
        Target::NewMachine(index) => &placement.machines[*index].capacity,
        Target::ExistingRoom(claim) => &request.room.iter().find(|r| r.claim == *claim).expect("a room that exists").capacity,
    }
}

/// Zones in which at least one offer, alone, could be bought for `demand`: an empty one of these counts in a spread.
fn zones_that_could_serve<'a>(request: &'a PlacementRequest, demand: &Demand) -> BTreeSet<&'a str> {
    let mut zones = BTreeSet::new();
    for policy in request.pools.iter().filter(|p| demand.pools.is_empty() || demand.pools.contains(&p.name)) {
        let limits = if demand.rescue { policy.rescue_limits_left } else { policy.limits_left };
        for offer in request.market.offers.values() {
            let mut faults = Vec::new();
            machine_faults(request, policy, &offer.capacity, offer.price_per_hour.0, &[demand], &mut faults);
            let gpus = request.catalog.types[&offer.capacity.instance_type].gpus;
            let hours = request.settings.commitment.map_or(0, |c| c.0 / 3_600_000);
            let enough = |left: Option<i64>, want: i64| left.is_none_or(|l| l >= want);
            let affordable =
                demand.rescue || (policy.budget_left.is_none_or(|b| offer.price_per_hour.0 * hours <= b.0) && enough(limits.launches, 1));
            let mut alone = Vec::new();
            let machine = PlannedMachine {
                capacity: offer.capacity.clone(),
                price_per_hour: offer.price_per_hour,
                cost_per_hour: offer.price_per_hour,
                node_pool: policy.name.clone(),
                demands: Vec::new(),
            };
            account_limits(request, &Placement { machines: vec![machine], ..Placement::default() }, &mut alone);
            let within = enough(limits.gpus, gpus) && enough(limits.nodes, 1) && enough(limits.launches, 1);
            let affordable = affordable && alone.is_empty() && within;
            if faults.is_empty() && affordable {
                zones.insert(offer.capacity.zone.as_str());
            }
        }
    }
    zones
}

fn owners(request: &PlacementRequest, placement: &Placement, faults: &mut Vec<String>) {
    let mut gangs: BTreeMap<&str, (i64, i64, BTreeSet<&str>)> = BTreeMap::new();
    for demand in request.demands {
        if let Some(gang) = &demand.gang {
            gangs.entry(&gang.name).or_default().0 += 1;
        }
    }
    let mut zones: BTreeMap<&str, BTreeMap<&str, i64>> = BTreeMap::new();
    let mut shares: BTreeMap<&str, BTreeMap<(&str, &str, CapacityType), i64>> = BTreeMap::new();
    for assignment in &placement.assignments {
        let demand = &request.demands[assignment.demand];
        let at = place_of(request, placement, &assignment.target);
        if let Some(gang) = &demand.gang {
            let entry = gangs.entry(&gang.name).or_default();
            entry.1 += 1;
            entry.2.insert(at.zone.as_str());
        }
        if let Some(owner) = &demand.owner {
            let family = at.instance_type.as_str().split('.').next().unwrap();
            *zones.entry(&owner.owner).or_default().entry(at.zone.as_str()).or_default() += 1;
            *shares.entry(&owner.owner).or_default().entry((at.zone.as_str(), family, at.capacity_type)).or_default() += 1;
        }
    }
    for (gang, (members, placed, zones)) in gangs {
        if placed != 0 && (placed != members || zones.len() != 1) {
            faults.push(format!("gang {gang}: {placed} of {members} in {} zones", zones.len()));
        }
    }
    for demand in request.demands {
        let Some(owner) = &demand.owner else { continue };
        let total = request.demands.iter().filter(|d| d.owner.as_ref().is_some_and(|o| o.owner == owner.owner)).count() as i64;
        if let (Some(skew), Some(by_zone)) =
            (owner.spreads.iter().find(|s| s.domain == Domain::Zone).map(|s| s.max_skew), zones.get(owner.owner.as_str()))
        {
            let most = by_zone.values().max().copied().unwrap_or(0);
            // Rescues have limits of their own: a zone counts when each of the owner's replicas could have gone there.
            let mine = request.demands.iter().filter(|d| d.owner.as_ref().is_some_and(|o| o.owner == owner.owner));
            let mut could_serve = zones_that_could_serve(request, demand);
            mine.for_each(|d| could_serve = could_serve.intersection(&zones_that_could_serve(request, d)).copied().collect());
            let least = could_serve.iter().map(|zone| by_zone.get(zone).copied().unwrap_or(0)).min().unwrap_or(most);
            if most - least > skew {
                faults.push(format!("{}: skew {} over zones", owner.owner, most - least));
            }
        }
        if let (Some(share), Some(by_pool)) = (owner.max_share_per_mille, shares.get(owner.owner.as_str())) {
            let most = by_pool.values().max().copied().unwrap_or(0);
            if most > (total * share / 1_000).max(1) {
                faults.push(format!("{}: {most} of {total} in one correlated pool", owner.owner));
            }
        }
    }
}
