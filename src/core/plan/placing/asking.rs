//! What a pass asks of a placement: demands, policies and room.
//!
//! Decides: which pools a pod may use, which pods are rescues, what is left of a pool's limits and of quotas.
//! Does not: choose (see [`crate::core::placement`]) or buy (`buying`).

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;

use super::super::pass::Pass;
use super::super::terms::Terms;
use super::apart;
use super::budget;
use super::deadline::{self, Verdict};
use super::replacing::is_rescue;
use super::serving;
use super::spreading;
use super::tied;
use crate::core::fleet::{Claim, Instance, InstanceState, NodeClass, NodePool, tags};
use crate::core::market::Capacity;
use crate::core::market::quota::{QuotaKey, vcpus_left};
use crate::core::placement::eligibility::list_on_sale;
use crate::core::placement::listing::Listing;
use crate::core::placement::node_labels::ClassLabels;
use crate::core::placement::{
    self, Apart, AreaSpread, Demand, Gang, Held, NodeTerms, OnSale, OwnerRule, PlacementRequest, PoolPolicy, Room,
};
use crate::core::record::Refusal;
use crate::core::snapshot::seen;
use crate::core::units::ids::{Uid, ZoneId};
use crate::core::units::shared::Shared;
use crate::core::workload::company::{Domain, Spread};
use crate::core::workload::need::{CapacityPreference, Schedule};
use crate::core::workload::{Pod, PodPhase, Workload};

/// The terms of this pass, made once: when the doomed claims are known.
pub(in crate::core::plan) fn terms<'a>(pass: &Pass<'a>) -> Rc<Terms<'a>> {
    let terms = pass.terms.get_or_init(|| {
        let (pools, settings) = (pool_policies(pass), placement_settings(pass));
        let (catalog, market) = (&pass.world.catalog, &pass.world.market);
        let on_sale = OnSale { catalog, market, learnt: pass.learnt(), now: pass.now };
        let mut listed: Vec<_> = pools.iter().map(|pool| list_on_sale(&on_sale, &settings, pool)).collect();
        close_warned(pass, &mut listed);
        close_taken(pass, &mut listed);
        let marks = apart::marks(pass);
        Rc::new(Terms { pools, settings, listed, followers: tied::followers(pass, &marks), marks })
    });
    Rc::clone(terms)
}

/// Capacity that EC2 has just warned of is not bought, whether or not its cool-down is known yet.
fn close_warned(pass: &Pass, listed: &mut [Vec<Listing>]) {
    let warned = pass.warned().filter(|claim| claim.capacity_warned_until(pass.now).is_some());
    let closed: BTreeSet<&Capacity> = warned.map(|claim| &claim.spec.capacity).collect();
    for listing in listed.iter_mut().flatten().filter(|listing| closed.contains(&listing.offer.capacity)) {
        let also = |refusal: Option<Refusal>| Some(refusal.map_or(Refusal::CoolingDown, |own| own.min(Refusal::CoolingDown)));
        (listing.refusal, listing.rescue_refusal) = (also(listing.refusal), also(listing.rescue_refusal));
    }
}

/// Nor is capacity that EC2 takes machines back from at this moment, where something comparable is sold.
fn close_taken(pass: &Pass, listed: &mut [Vec<Listing>]) {
    let taken = pass.interrupted().filter(|claim| claim.capacity_taken_until(pass.now).is_some());
    let taken: BTreeSet<&Capacity> = taken.map(|claim| &claim.spec.capacity).collect();
    listed.iter_mut().for_each(|listings| placement::taken_back::close(listings, &taken));
}

/// What one placement is asked.
pub(in crate::core::plan) struct Asked<'a> {
    demands: Vec<Demand>,
    room: Vec<Room>,
    terms: Rc<Terms<'a>>,
    verdicts: BTreeMap<Uid, Arc<Verdict>>,
    /// What is only preferred: replicas of a service apart from each other.
    preferred: BTreeMap<Uid, Arc<Verdict>>,
}

impl<'a> Asked<'a> {
    /// `pods` onto `room` or machines to buy, under the pools as they are now.
    pub(in crate::core::plan) fn for_pods(pass: &Pass<'a>, pods: &[&Pod], room: Vec<Room>) -> Self {
        let mut asked = Asked { demands: Vec::new(), room, terms: terms(pass), verdicts: BTreeMap::new(), preferred: BTreeMap::new() };
        asked.verdicts = deadline::verdicts(pass, pods, &asked.request(pass), &asked.terms.marks);
        let spread = serving::verdicts(pass, pods, &asked.request(pass), &asked.terms.marks);
        asked.verdicts.extend(spread);
        // Replicas follow each other, and what rules between pods leave is equal for them.
        let mut last: Shared<Apart> = Shared::default();
        let demands = pods.iter().filter_map(|pod| {
            let mut demand = demand_of(pass, pod, asked.verdict(pod))?;
            if demand.apart == last {
                demand.apart = last.clone();
            }
            last = demand.apart.clone();
            Some(demand)
        });
        asked.demands = demands.collect();
        asked
    }

    /// What the pod's deadline or the spread of its service asks for.
    pub(in crate::core::plan) fn verdict(&self, pod: &Pod) -> Option<&Verdict> {
        let uid = &pod.identity.uid;
        self.verdicts.get(uid).or_else(|| self.preferred.get(uid)).map(Arc::as_ref)
    }

    /// Prefers to have replicas of one service apart, where nothing else bears on it; says whether that changes what is asked.
    pub(in crate::core::plan) fn spread_out(&mut self, pass: &Pass<'a>, pods: &[&Pod]) -> bool {
        // Who was refused often takes whatever is to be had.
        let free = |pod: &&&Pod| !self.verdicts.contains_key(&pod.identity.uid) && !refused_often(pass, pod);
        let plain: Vec<&Pod> = pods.iter().filter(free).copied().collect();
        let found = spreading::verdicts(pass, &plain, &self.request(pass), &self.terms.marks);
        for demand in self.demands.iter_mut().filter(|_| !found.is_empty()) {
            if let Some(verdict) = found.get(&Uid::from(&*demand.key)) {
                demand.buy_only = verdict.buy_only.clone();
            }
        }
        self.preferred = found;
        !self.preferred.is_empty()
    }

    /// Gives up the preference for replicas apart of these pods' services: what cannot be had apart is had where it can be.
    pub(in crate::core::plan) fn gather(&mut self, services: &BTreeSet<&Workload>, pods: &[&Pod]) -> bool {
        let of_them = pods.iter().filter(|pod| services.contains(&*pod.workload)).map(|pod| &pod.identity.uid);
        let given_up: BTreeSet<Uid> = of_them.filter(|uid| self.preferred.remove(*uid).is_some()).cloned().collect();
        for demand in self.demands.iter_mut().filter(|_| !given_up.is_empty()) {
            if given_up.contains(&Uid::from(&*demand.key)) {
                demand.buy_only = None;
            }
        }
        !given_up.is_empty()
    }

    /// How many pods are asked for: those whose need can be read.
    pub(in crate::core::plan) fn len(&self) -> usize {
        self.demands.len()
    }

    /// The request, over this pass's catalog and market.
    pub(in crate::core::plan) fn request<'r>(&'r self, pass: &Pass<'a>) -> PlacementRequest<'r> {
        PlacementRequest {
            catalog: &pass.world.catalog,
            market: &pass.world.market,
            learnt: pass.learnt(),
            demands: &self.demands,
            room: &self.room,
            pools: &self.terms.pools,
            now: pass.now,
            settings: &self.terms.settings,
            listed: Some(&self.terms.listed),
        }
    }
}

/// Launches for it were refused so often in a row that on-demand may be taken.
fn refused_often(pass: &Pass, pod: &Pod) -> bool {
    pod.phase == PodPhase::Gated && pass.world.held(pod).attempt >= pass.settings.fall_back_after
}

fn demand_of(pass: &Pass, pod: &Pod, verdict: Option<&Verdict>) -> Option<Demand> {
    let (need, schedule) = pod.need.as_ref().ok()?;
    let (mut need, pools) = (need.clone(), pass.pools_for(pod));
    let refused_often = refused_often(pass, pod);
    let may_fall_back = || pools.iter().filter_map(|name| pass.world.pools.get(name)).any(NodePool::may_fall_back);
    // Pool after pool had nothing: capacity now, and back to spot later. A deadline or a service with spares knows better how long spot may be waited for.
    let wanted = need.capacity == CapacityPreference::SpotFirst && verdict.map_or(refused_often, |verdict| verdict.on_demand_only);
    let falls_back = wanted && may_fall_back();
    if falls_back {
        need.capacity = CapacityPreference::OnDemand;
    }
    let key = pod.identity.uid.text();
    tied::make_room_for_followers(&terms(pass).followers, pod, &mut need);
    let (owner, gang, rescue) = (owner_rule(pass, pod, schedule), gang_of(pass, pod, schedule), is_rescue(pass, pod));
    let buy_only = verdict.and_then(|verdict| verdict.buy_only.clone());
    let apart = apart::of(pass, &terms(pass).marks, pod).into();
    Some(Demand { key, need, pools, owner, gang, rescue, falls_back, apart, buy_only })
}

/// What the owner and the pools want of all replicas together, with where those that stay stand already.
fn owner_rule(pass: &Pass, pod: &Pod, schedule: &Schedule) -> Option<OwnerRule> {
    // Whichever of its pools buys, none of them stands for more than it allows.
    let pools = pass.pools_for(pod);
    let allowed = pools.iter().filter_map(|name| pass.world.pools.get(name)?.max_share_per_mille);
    let max_share_per_mille = allowed.chain(schedule.max_share_per_mille).min();
    let apart_over_areas = pod.rules.apart.iter().any(|c| c.domain != Domain::Machine);
    let spreads = area_spreads(pass, pod, schedule);
    if spreads.is_empty() && max_share_per_mille.is_none() && !apart_over_areas {
        return None;
    }
    let owner = format!("{}/{}{}", pod.workload.kind, pod.workload.object, apart::revision(pod));
    Some(OwnerRule { owner, spreads, max_share_per_mille, standing: standing(pass, pod, pod.rules.zone_spread()) })
}

/// The pod's hard spreads over parts of the market, with where the pods that count stand already.
fn area_spreads(pass: &Pass, pod: &Pod, schedule: &Schedule) -> Vec<AreaSpread> {
    let read = pod.rules.area_spreads().filter(|s| s.domain != Domain::Zone || schedule.zone_max_skew.is_some());
    let mut spreads: Vec<AreaSpread> = read
        .map(|spread| AreaSpread {
            domain: spread.domain,
            max_skew: spread.max_skew,
            min_domains: spread.min_domains,
            standing: standing(pass, pod, Some(spread)),
            counts_itself: apart::counts_itself(spread, &pod.object().namespace, &pod.rules),
        })
        .collect();
    if let (Some(skew), None) = (schedule.zone_max_skew, pod.rules.zone_spread()) {
        spreads.push(AreaSpread { standing: standing(pass, pod, None), ..AreaSpread::over_zones(skew) });
    }
    spreads
}

/// Where the pods that count with `pod` stand and stay.
fn standing(pass: &Pass, pod: &Pod, spread: Option<&Spread>) -> BTreeMap<Capacity, i64> {
    let mut standing: BTreeMap<Capacity, i64> = BTreeMap::new();
    for other in apart::counted_with(pass, pod, spread).into_iter().filter(|p| p.let_go.is_none() && !p.finished()) {
        let claim = other.claim.as_ref().and_then(|name| pass.claims.get(name)).filter(|c| c.takes_work());
        let at = claim.map(|c| &c.spec.capacity).or_else(|| apart::unread_capacity(pass, other));
        if let (Some(at), false) = (at, other.identity.uid == pod.identity.uid) {
            *standing.entry(at.clone()).or_default() += 1;
        }
    }
    standing
}

/// The gang, and the zone where members of it stand already.
fn gang_of(pass: &Pass, pod: &Pod, schedule: &Schedule) -> Option<Gang> {
    let name = schedule.gang.as_ref()?;
    let stays = |p: &&&Pod| p.let_go.is_none() && !p.finished();
    let claims = pass
        .index
        .of_gang(&pod.object().namespace, name)
        .iter()
        .filter(stays)
        .filter_map(|p| p.claim.as_ref())
        .filter_map(|c| pass.claims.get(c));
    let zone = claims.filter(|c| c.takes_work()).map(|c| c.spec.capacity.zone.clone()).next();
    Some(Gang { name: format!("{}/{name}", pod.object().namespace), zone })
}

fn placement_settings(pass: &Pass) -> placement::PlacementSettings {
    placement::PlacementSettings {
        max_price_age: pass.settings.max_price_age,
        snapshot_prices_allowed: pass.settings.buy_on_snapshot_prices,
        quota_vcpus_left: quotas_left(pass),
        machines_left: pass.reserved.iter().map(|(capacity, r)| (capacity.clone(), r.machines_left)).collect(),
        proves_bounds: false,
        ..placement::PlacementSettings::default()
    }
}

/// vCPUs left of each quota: what Service Quotas says, less every machine that we have or have asked for, and not more than EC2's last
/// refusal leaves. What others run in the account is not known.
fn quotas_left(pass: &Pass) -> BTreeMap<QuotaKey, i64> {
    let vcpus = |capacity: &Capacity| pass.world.catalog.types.get(&capacity.instance_type).map_or(0, |machine| machine.vcpus);
    let claimed = pass.claims.values().filter(|c| c.may_run()).map(|c| &c.spec.capacity);
    let alive = |i: &&Instance| matches!(i.state, InstanceState::Pending | InstanceState::Running);
    let by_claim = |i: &Instance| i.tags.get(tags::CLAIM_UID).is_some_and(|uid| pass.index.is_claim(uid));
    let unclaimed = seen(&pass.world.instances).filter(alive).filter(|i| !by_claim(i)).map(|i| &i.capacity);
    let mut left = vcpus_left(&pass.world.quotas, claimed.chain(unclaimed).map(|capacity| (capacity, vcpus(capacity))));
    pass.world.memory.bound_quotas(&mut left, pass.now);
    left
}

fn pool_policies(pass: &Pass) -> Vec<PoolPolicy> {
    pass.world.pools.values().filter(|pool| !pool.deleting).map(|pool| pool_policy(pass, pool)).collect()
}

fn pool_policy(pass: &Pass, pool: &NodePool) -> PoolPolicy {
    let classes = pass.ready_classes(pool);
    let terms = |zone: &ZoneId, class: &NodeClass| NodeTerms {
        sharing: class.sharing,
        daemonsets: pass.daemonset_overhead(&class.name),
        root_volume: class.root_volume,
        reserve: class.reserve,
        architectures: (!class.images.sources.is_empty()).then(|| class.images.found.keys().copied().collect()),
        class: Arc::new(class_labels(class, zone)),
    };
    let named = |class: &NodeClass, id| class.reservations.iter().any(|n| n.id == id);
    let reserved = pass.reserved.iter();
    let reserved = reserved.filter(|(at, r)| classes.get(&at.zone).is_some_and(|class| named(class, r.reservation.clone())));
    let nodes = classes.iter().map(|(zone, class)| (zone.clone(), terms(zone, class))).collect();
    PoolPolicy::of(pool, nodes, reserved.map(|(at, _)| at.clone()).collect(), &held(pass, pool))
}

/// What pods see of the nodes that `class` makes in `zone`.
pub(in crate::core::plan) fn class_labels(class: &NodeClass, zone: &ZoneId) -> ClassLabels {
    ClassLabels { labels: class.node_labels.clone(), zone_name: class.zone_names.get(zone).cloned(), taints: class.taints.clone() }
}

/// What the pool holds and has spent.
fn held(pass: &Pass, pool: &NodePool) -> Held {
    let held: Vec<&Claim> = pass.claims.values().filter(|c| c.spec.node_pool == pool.name && c.may_run()).collect();
    let (doomed, kept): (Vec<&Claim>, Vec<&Claim>) = held.into_iter().partition(|c| c.status.interruption.is_some());
    let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
    let gpus = |claims: &[&Claim]| claims.iter().map(|c| c.spec.gpus).sum::<i64>();
    let minute_ago = pass.now - crate::core::units::time::Millis::from_mins(1);
    let recent = pass.world.recent_launches.get(&pool.name).map_or(0, |at| at.iter().filter(|t| **t > minute_ago).count());
    let books = pass.world.pool_statuses.get(&pool.name).map(|status| &status.books);
    Held {
        nodes: count(kept.len()),
        gpus: gpus(&kept),
        doomed_nodes: count(doomed.len()),
        doomed_gpus: gpus(&doomed),
        launched_lately: count(recent),
        spent: budget::month_spend(&pool.name, books, pass.claims.values(), &pass.world.market, pass.now).total(),
    }
}
