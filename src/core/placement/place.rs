//! The purchase for all demands.
//!
//! Decides: which machines to buy and which pod goes where, within limits, budgets and quotas, gangs completely or not at all.
//! Does not: pack (see `packing`) or say why an offer is refused (see `eligibility`).

use std::collections::{BTreeMap, BTreeSet};

use crate::core::market::Capacity;
use crate::core::market::quota::QuotaKey;
use crate::core::record::Judgement;
use crate::core::units::ids::ClaimName;
use crate::core::units::money::{MicroUsd, MicroUsdPerHour};
use crate::core::units::shared::Shared;

use super::eligibility::{commitment_span, list_on_sale, listings};
use super::groups::{Group, group};
use super::judge::judge_listed;
use super::listing::Listing;
use super::outcome::{Assignment, Placement, PlannedMachine, Target, Unplaced};
use super::packing::relax::{Effort, feasible_values, relax};
use super::packing::{Bought, Problem, pack};
use super::reduce::{Measure, Source, reduce};
use super::request::{Area, AreaSpread, PlacementRequest, PlacementSettings, PoolPolicy, Room};
use super::room;
use super::sharing_out::restrict;

/// Places all demands of `request`: into free room where there is some, and on machines to buy.
///
/// If a rule can only be kept for some of an owner's pods, fewer are tried: an incomplete gang is left out, a spread that limits have made
/// uneven is divided again among as many replicas as there was room for.
pub fn place(request: &PlacementRequest) -> Placement {
    let mut order: Vec<usize> = (0..request.demands.len()).collect();
    order.sort_by(|a, b| request.demands[*a].key.cmp(&request.demands[*b].key));
    let mut left_out: BTreeMap<usize, Shared<Judgement>> = BTreeMap::new();
    loop {
        let wanted: Vec<usize> = order.iter().copied().filter(|d| !left_out.contains_key(d)).collect();
        let (mut placement, mut unserved) = Plan::new(request, &wanted).run(false);
        if overtaken(request, &placement) {
            (placement, unserved) = Plan::new(request, &wanted).run(true);
        }
        let mut given_up = broken_gangs(request, &wanted, &placement);
        if given_up.is_empty() {
            given_up = broken_spreads(request, &wanted, &placement, &unserved);
        }
        if given_up.is_empty() {
            for (demand, judgement) in left_out {
                placement.unplaced.push(Unplaced { demand, key: request.demands[demand].key.clone(), judgement });
            }
            placement.unplaced.sort_by(|a, b| a.key.cmp(&b.key));
            return placement;
        }
        left_out.extend(given_up);
    }
}

/// Something is unplaced although less important pods are placed: limits or room went to whatever packs best.
fn overtaken(request: &PlacementRequest, placement: &Placement) -> bool {
    let priority = |demand: usize| request.demands[demand].apart.priority;
    let waits = placement.unplaced.iter().map(|u| priority(u.demand)).max();
    waits.is_some_and(|waits| placement.assignments.iter().any(|a| priority(a.demand) < waits))
}

/// Every member of a gang with an unplaced member, with that member's refusals.
fn broken_gangs(request: &PlacementRequest, wanted: &[usize], placement: &Placement) -> BTreeMap<usize, Shared<Judgement>> {
    let gang_of = |demand: usize| request.demands[demand].gang.as_ref().map(|g| g.name.as_str());
    let broken: BTreeMap<&str, &Shared<Judgement>> =
        placement.unplaced.iter().filter_map(|u| Some((gang_of(u.demand)?, &u.judgement))).collect();
    wanted.iter().filter_map(|d| Some((*d, (*broken.get(gang_of(*d)?)?).clone()))).collect()
}

/// The last replicas of each owner whose spread came out uneven, as many as were unplaced.
///
/// An area counts as empty if replicas intended for it were not placed; areas that nothing was intended for cannot break a spread.
fn broken_spreads(
    request: &PlacementRequest,
    wanted: &[usize],
    placement: &Placement,
    unserved: &Unserved,
) -> BTreeMap<usize, Shared<Judgement>> {
    let rule_of = |demand: usize| request.demands[demand].owner.as_ref().filter(|o| !o.spreads.is_empty());
    let mut given_up = BTreeMap::new();
    for (owner, short) in unserved {
        let mine = |demand: usize| rule_of(demand).filter(|o| o.owner == *owner);
        let Some(rule) = wanted.iter().find_map(|d| mine(*d)) else { continue };
        let place_of = |target: &Target| match target {
            Target::NewMachine(index) => placement.machines.get(*index).map(|m| &m.capacity),
            Target::ExistingRoom(claim) => request.room.iter().find(|r| r.claim == *claim).map(|r| &r.capacity),
        };
        let assigned: Vec<Option<&Capacity>> =
            placement.assignments.iter().filter(|a| mine(a.demand).is_some()).map(|a| place_of(&a.target)).collect();
        let placed = assigned.len();
        if !rule.spreads.iter().any(|spread| is_uneven(spread, short, &assigned)) {
            continue;
        }
        let judgement = placement.unplaced.iter().find(|u| mine(u.demand).is_some()).map(|u| u.judgement.clone()).unwrap_or_default();
        let replicas = wanted.iter().copied().filter(|d| mine(*d).is_some());
        given_up.extend(replicas.skip(placed).map(|demand| (demand, judgement.clone())));
    }
    given_up
}

/// Whether a spread that `short` areas got too few for came out uneven, in areas that some of `assigned` went to.
fn is_uneven(spread: &AreaSpread, short: &BTreeSet<Area>, assigned: &[Option<&Capacity>]) -> bool {
    let mut counts: BTreeMap<Area, i64> = short.iter().filter(|a| a.domain() == spread.domain).map(|area| (area.clone(), 0)).collect();
    let standing = spread.standing.iter().filter_map(|(at, n)| Some((Area::of(spread.domain, at)?, *n)));
    standing.for_each(|(area, n)| *counts.entry(area).or_default() += n);
    let mut grown = BTreeSet::new();
    for area in assigned.iter().flatten().filter_map(|at| Area::of(spread.domain, at)) {
        *counts.entry(area.clone()).or_default() += 1;
        grown.insert(area);
    }
    let least = counts.values().min().copied().unwrap_or(0);
    let most = grown.iter().filter_map(|area| counts.get(area)).max().copied().unwrap_or(0);
    most - least > spread.max_skew
}

/// Areas that replicas of an owner were intended for but that had no room for them.
type Unserved = BTreeMap<String, BTreeSet<Area>>;

/// A placement in the making.
struct Plan<'a, 'r> {
    request: &'r PlacementRequest<'a>,
    wanted: &'r [usize],
    policies: Vec<PoolPolicy>,
    settings: PlacementSettings,
    room: Vec<Room>,
    /// The offers of each node pool under what is left of limits, budgets and quotas; `None` if less is left than when they were listed.
    listed: Option<Vec<Vec<Listing<'a>>>>,
    placement: Placement,
    /// The packing's value of each group, if nothing was restricted: then it proves the bound directly.
    proof: Option<(Problem, Vec<i64>)>,
}

impl<'a, 'r> Plan<'a, 'r> {
    fn new(request: &'r PlacementRequest<'a>, wanted: &'r [usize]) -> Self {
        let (policies, settings, room) = (request.pools.to_vec(), request.settings.clone(), request.room.to_vec());
        Plan {
            request,
            wanted,
            policies,
            settings,
            room,
            listed: request.listed.map(<[_]>::to_vec),
            placement: Placement::default(),
            proof: None,
        }
    }

    /// The current offers, consulted while machines are bought.
    fn take_listed(&mut self) -> Vec<Vec<Listing<'a>>> {
        let listed = || self.policies.iter().map(|pool| list_on_sale(&self.request.on_sale(), &self.settings, pool)).collect();
        self.listed.take().unwrap_or_else(listed)
    }

    fn run(mut self, by_priority: bool) -> (Placement, Unserved) {
        let request = *self.request;
        let mut groups = group(&request, self.wanted);
        if groups.iter().any(|g| g.gang.is_some() || g.owner.is_some() || !g.apart.same.is_empty()) {
            let listed = self.take_listed();
            groups = restrict(&request, &listed, groups);
            self.listed = Some(listed);
        }
        // What the packing of all groups together finds, proves the bound as it is, unless something restricted it.
        let (rescues, others): (Vec<Group>, Vec<Group>) = groups.into_iter().partition(|g| g.wants.rescue);
        let mut levels: BTreeMap<std::cmp::Reverse<i64>, Vec<Group>> = BTreeMap::new();
        for group in others {
            levels.entry(std::cmp::Reverse(if by_priority { group.apart.priority } else { 0 })).or_default().push(group);
        }
        let together = usize::from(!rescues.is_empty()) + levels.len() < 2;
        let mut unserved = Unserved::new();
        // Rescues are placed first and buy machines of their own: their purchases are exempt from budgets, so other pods must not share
        // them. Then the more important, one level after the other.
        for stage in std::iter::once(rescues).chain(levels.into_values()).filter(|stage| !stage.is_empty()) {
            let plain = together && request.room.is_empty() && !stage.iter().any(Group::restricted);
            for group in self.stage(stage, plain) {
                if let Some(owner) = group.owner.filter(|_| !group.wants.areas.is_empty()) {
                    unserved.entry(owner.owner.clone()).or_default().extend(group.wants.areas.iter().cloned());
                }
            }
        }
        if request.settings.proves_bounds {
            self.bound();
        }
        (self.finish(), unserved)
    }

    /// Places `groups` and says why what is left of them cannot be; returns the groups that are not empty.
    fn stage(&mut self, mut groups: Vec<Group<'a>>, plain: bool) -> Vec<Group<'a>> {
        let request = *self.request;
        let mut first = true;
        loop {
            let (policies, settings) = (self.policies.clone(), self.settings.clone());
            let now = PlacementRequest { pools: &policies, settings: &settings, listed: None, ..request };
            let (listed, machines) = (self.take_listed(), self.placement.machines.len());
            let (problem, sources) = reduce(&now, &groups, &listed, Measure::Cost);
            let plain = plain && first;
            if first {
                self.use_room(&mut groups, &problem);
                first = false;
            }
            let counts: Vec<i64> = groups.iter().map(|g| g.members.len() as i64).collect();
            let problem = with_counts(problem, &counts);
            let packing = pack(&problem);
            let rejected = self.buy(&mut groups, &problem, &sources, &listed, packing.bought, &packing.values);
            if !rejected {
                if plain && self.placement.unplaced.is_empty() {
                    self.proof = Some((problem, packing.values));
                }
                self.refuse(&now, &groups, &listed);
                self.listed = (self.placement.machines.len() == machines).then_some(listed);
                groups.retain(|g| !g.members.is_empty());
                return groups;
            }
        }
    }

    /// Puts pods into free room, the most valuable first.
    fn use_room(&mut self, groups: &mut [Group], problem: &Problem) {
        if self.room.is_empty() {
            return;
        }
        let counts: Vec<i64> = groups.iter().map(|g| g.members.len() as i64).collect();
        let values = relax(problem, &counts, Vec::new(), Effort::QUICK);
        let at: BTreeMap<ClaimName, usize> = self.room.iter().enumerate().map(|(at, room)| (room.claim.clone(), at)).collect();
        for (claim, content) in room::fill_rooms(self.request, &self.room, groups, &values) {
            for (item, count) in content {
                let (need, apart) = (groups[item].wants.need, groups[item].apart);
                for demand in groups[item].members.drain(..count as usize) {
                    let key = self.request.demands[demand].key.clone();
                    self.placement.assignments.push(Assignment { demand, key, target: Target::ExistingRoom(claim.clone()) });
                }
                if let Some(room) = at.get(&claim).and_then(|at| self.room.get_mut(*at)) {
                    (0..count).for_each(|_| room.free.take(need.resources()));
                    room.node.has |= apart.has;
                    room.node.avoids |= apart.avoids;
                    room.node.count(apart, count);
                }
            }
        }
    }

    /// Buys what limits, budgets and quotas allow, the least wasteful first; returns whether something was left over.
    fn buy(
        &mut self,
        groups: &mut [Group],
        problem: &Problem,
        sources: &[Source],
        listed: &[Vec<Listing>],
        bought: Vec<Bought>,
        values: &[i64],
    ) -> bool {
        let waste = |b: &Bought| problem.cost(b.bin, &b.content) - b.content.iter().map(|(i, n)| values[*i] * n).sum::<i64>();
        let mut ranked: Vec<(i64, Bought)> = bought.into_iter().map(|b| (waste(&b), b)).collect();
        ranked.sort();
        let mut rejected = false;
        for (_, one) in ranked {
            let (pool, listing) = sources[one.bin];
            let rescue = one.content.iter().any(|(item, _)| groups[*item].wants.rescue);
            if self.commit(pool, &listed[pool][listing], rescue) {
                self.machine(groups, problem, pool, &listed[pool][listing], one);
            } else {
                rejected = true;
            }
        }
        rejected
    }

    /// Takes one machine off limits, budget, quota and reservation of its pool; `false` if they do not allow it. A rescue has limits of its
    /// own, is bought whatever the budget says, and counts towards both.
    fn commit(&mut self, pool: usize, listing: &Listing, rescue: bool) -> bool {
        let Some(machine) = listing.machine else { return false };
        let at = &listing.offer.capacity;
        let committed = listing.offer.price_per_hour.over(commitment_span(self.request.settings, self.request.now)).to_micro_usd();
        let quota = QuotaKey::of(at);
        let quota_left = quota.as_ref().and_then(|key| self.settings.quota_vcpus_left.get(key).copied());
        let policy = &mut self.policies[pool];
        let limits = if rescue { &policy.rescue_limits_left } else { &policy.limits_left };
        let enough = |left: Option<i64>, want: i64| left.is_none_or(|l| l >= want);
        let allowed = enough(limits.gpus, machine.gpus)
            && enough(limits.nodes, 1)
            && enough(limits.launches, 1)
            && (rescue || policy.budget_left.is_none_or(|left| left >= committed))
            && enough(quota_left, machine.vcpus)
            && enough(self.settings.machines_left.get(at).copied(), 1);
        if !allowed {
            return false;
        }
        let less = |left: &mut Option<i64>, by: i64| *left = left.map(|l| l - by);
        for limits in [&mut policy.limits_left, &mut policy.rescue_limits_left] {
            less(&mut limits.gpus, machine.gpus);
            less(&mut limits.nodes, 1);
            less(&mut limits.launches, 1);
        }
        policy.budget_left = policy.budget_left.map(|MicroUsd(left)| MicroUsd(left - committed.0));
        if let Some(left) = quota.and_then(|key| self.settings.quota_vcpus_left.get_mut(&key)) {
            *left -= machine.vcpus;
        }
        if let Some(left) = self.settings.machines_left.get_mut(at) {
            *left -= 1;
        }
        true
    }

    fn machine(&mut self, groups: &mut [Group], problem: &Problem, pool: usize, listing: &Listing, bought: Bought) {
        let cost = problem.cost(bought.bin, &bought.content) - (problem.bins[bought.bin].cost - listing.cost.0);
        let mut demands = Vec::new();
        for (item, count) in bought.content {
            let members = &mut groups[item].members;
            // Members were assigned in key order; the rest keeps it.
            demands.extend(members.drain(..(count as usize).min(members.len())));
        }
        demands.sort_by(|a, b| self.request.demands[*a].key.cmp(&self.request.demands[*b].key));
        for demand in &demands {
            let target = Target::NewMachine(self.placement.machines.len());
            self.placement.assignments.push(Assignment { demand: *demand, key: self.request.demands[*demand].key.clone(), target });
        }
        self.placement.machines.push(PlannedMachine {
            capacity: listing.offer.capacity.clone(),
            price_per_hour: listing.offer.price_per_hour,
            cost_per_hour: MicroUsdPerHour(cost),
            node_pool: self.policies[pool].name.clone(),
            demands,
        });
    }

    /// The rest has no offer: says why, once per group.
    fn refuse(&mut self, now: &PlacementRequest, groups: &[Group], listed: &[Vec<Listing>]) {
        for group in groups.iter().filter(|g| !g.members.is_empty()) {
            let admitting = now.pools.iter().zip(listed).filter(|(pool, _)| group.admitted_by(&pool.name));
            let judgements = admitting.map(|(_, listings)| judge_listed(now, &group.wants, listings, None));
            // Of several pools, the one that came closest is the most informative.
            let judgement = Shared::from(judgements.max_by_key(|j| j.refused.keys().next_back().copied()).unwrap_or_default());
            for demand in &group.members {
                let key = self.request.demands[*demand].key.clone();
                self.placement.unplaced.push(Unplaced { demand: *demand, key, judgement: judgement.clone() });
            }
        }
    }

    /// The lower bounds: for the pods that are placed, without limits, spreads and diversity, so that they hold for every purchase.
    fn bound(&mut self) {
        let placed: BTreeSet<usize> = self.placement.assignments.iter().map(|a| a.demand).collect();
        let order: Vec<usize> = self.wanted.iter().copied().filter(|d| placed.contains(d)).collect();
        if self.placement.machines.is_empty() {
            return;
        }
        let request = *self.request;
        let listed = listings(&request);
        let groups = group(&request, &order);
        let counts: Vec<i64> = groups.iter().map(|g| g.members.len() as i64).collect();
        let (problem, values) = match self.proof.take().filter(|(p, _)| p.items.iter().map(|i| i.count).eq(counts.iter().copied())) {
            Some(proof) => proof,
            None => {
                let (problem, _) = reduce(&request, &groups, &listed, Measure::Cost);
                let values = relax(&problem, &counts, Vec::new(), Effort::THOROUGH).values;
                (problem, values)
            }
        };
        // The packing counts a free machine (a paid reservation) at a micro-dollar: no purchase has more of them than pods.
        let free = listed.iter().flatten().any(|l| l.offer.price_per_hour.0 < 1);
        let pods = if free { order.len() as i64 } else { 0 };
        let proved = |values: &[i64]| MicroUsdPerHour((room::bound(&request, &groups, values) - pods).max(0));
        self.placement.cost_lower_bound_per_hour = proved(&values);
        let (by_price, _) = reduce(&request, &groups, &listed, Measure::Price);
        let carries = problem.bins.iter().any(|b| b.extra.iter().any(|e| *e > 0 && *e != super::packing::NEVER));
        let values = if by_price == problem {
            values
        } else if carries {
            relax(&by_price, &counts, Vec::new(), Effort::THOROUGH).values
        } else {
            feasible_values(&by_price, &counts, &values)
        };
        self.placement.lower_bound_per_hour = proved(&values);
    }

    fn finish(self) -> Placement {
        let mut placement = self.placement;
        placement.assignments.sort_by(|a, b| a.key.cmp(&b.key));
        placement.unplaced.sort_by(|a, b| a.key.cmp(&b.key));
        placement.price_per_hour = placement.machines.iter().map(|m| m.price_per_hour).sum();
        placement.cost_per_hour = placement.machines.iter().map(|m| m.cost_per_hour).sum();
        placement
    }
}

fn with_counts(mut problem: Problem, counts: &[i64]) -> Problem {
    for (item, count) in problem.items.iter_mut().zip(counts) {
        item.count = *count;
    }
    problem
}
