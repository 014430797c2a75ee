//! Whether an offer may serve a need, and how many such pods one machine holds.
//!
//! Decides: the first refusal in the order of [`Refusal`], the usable slots of a machine under a sharing mode, and an offer's cost.
//! Does not: compare offers (see `score`) or pack mixed needs (see `place`).

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::core::market::catalog::{MachineType, ROOT_VOLUME};
use crate::core::market::quota::QuotaKey;
use crate::core::market::{Capacity, CapacityType, CoolDownCause, Offer, PriceSource};
use crate::core::record::Refusal;
use crate::core::units::ids::{GpuModel, Region, ZoneId};
use crate::core::units::money::MicroUsdPerHour;
use crate::core::units::pattern::matches_pattern;
use crate::core::units::time::{Millis, Timestamp};
use crate::core::units::{Mebibytes, Millicores, Resources};
use crate::core::workload::company::tolerates;
use crate::core::workload::need::{CapacityPreference, Need};

use super::listing::{Listing, Usable};
use super::node_labels::{ClassLabels, ExpectedNode};
use super::request::{Apart, Area, NodeTerms, OnSale, OwnerRule, PlacementRequest, PlacementSettings, PoolLimits, PoolPolicy};
use super::taken_back;

/// Whether one of `patterns` (`*` for anything) matches `text`; none at all match everything.
pub fn allowed(patterns: &[String], text: &str) -> bool {
    patterns.is_empty() || patterns.iter().any(|p| matches_pattern(p, text))
}

/// What pods can use of `machine` as a node of a class with these `terms`; no units if its model cannot be shared that way.
pub fn usable(machine: &MachineType, terms: &NodeTerms) -> Usable {
    let (whole, units, taken) = (machine.allocatable_of(&terms.reserve), terms.sharing.units(machine), &terms.daemonsets);
    Usable {
        resources: Resources {
            cpu: Millicores((whole.cpu.0 - taken.cpu.0).max(0)),
            memory: Mebibytes((whole.memory.0 - taken.memory.0).max(0)),
            gpus: (units.count - taken.gpus).min(terms.reserve.gpu_pods()).max(0),
            disk: Mebibytes((machine.disk(terms.root_volume.unwrap_or(ROOT_VOLUME)).0 - taken.disk.0).max(0)),
            volumes: (whole.volumes - taken.volumes).max(0),
        },
        unit_memory: units.memory,
        most_units_per_pod: units.most_per_pod,
    }
}

/// How many pods of `need` fit into `usable`, together.
pub fn replicas_that_fit(need: &Need, usable: &Usable) -> i64 {
    if need.gpu_memory > usable.unit_memory || need.gpus > usable.most_units_per_pod {
        return 0;
    }
    let share = |have: i64, want: i64| if want <= 0 { i64::MAX } else { have / want };
    share(usable.resources.gpus, need.gpus)
        .min(share(usable.resources.cpu.0, need.cpu.0))
        .min(share(usable.resources.memory.0, need.memory.0))
        .min(share(usable.resources.disk.0, need.disk.0))
        .min(share(usable.resources.volumes, need.volumes))
        .max(0)
}

/// How long a machine bought now is committed.
pub fn commitment_span(settings: &PlacementSettings, now: Timestamp) -> Millis {
    settings.commitment.unwrap_or_else(|| now.month_end().since(now))
}

/// A machine's price with the expected cost of interruptions: rate x (boot + lost work), both paid for but useless.
pub fn cost_with_interruptions(offer: &Offer, interruptions_per_million_hours: i64, settings: &PlacementSettings) -> MicroUsdPerHour {
    let lost = i128::from((settings.boot + settings.lost_work).0);
    let extra = i128::from(offer.price_per_hour.0) * i128::from(interruptions_per_million_hours) * lost;
    let per = 1_000_000_i128 * 3_600_000;
    MicroUsdPerHour(offer.price_per_hour.0 + i64::try_from((extra + per - 1) / per).unwrap_or(0))
}

/// What moving a need's data to `region` costs per hour and replica, spread over the amortisation span.
pub fn egress_per_replica(need: &Need, region: &Region, settings: &PlacementSettings) -> MicroUsdPerHour {
    let Some(from) = need.data_region.as_ref().filter(|_| need.data_gib > 0) else { return MicroUsdPerHour(0) };
    let total = i128::from(need.data_gib) * i128::from(settings.egress.per_gib(from, region).0) * 3_600_000;
    let span = i128::from(settings.data_amortisation.0.max(1));
    MicroUsdPerHour(i64::try_from((total + span - 1) / span).unwrap_or(i64::MAX))
}

/// Lists every offer for `pool`, in market order.
pub fn list<'a>(request: &PlacementRequest<'a>, pool: &PoolPolicy) -> Vec<Listing<'a>> {
    list_on_sale(&request.on_sale(), request.settings, pool)
}

/// The offers of each node pool of `request`, in the order of the pools.
pub fn listings<'r>(request: &PlacementRequest<'r>) -> Cow<'r, [Vec<Listing<'r>>]> {
    let list_all = || request.pools.iter().map(|pool| list(request, pool)).collect();
    request.listed.map_or_else(|| Cow::Owned(list_all()), Cow::Borrowed)
}

/// The offers for one node pool of `request`.
pub fn listings_of<'r>(request: &PlacementRequest<'r>, pool: &PoolPolicy) -> Cow<'r, [Listing<'r>]> {
    let known = request.pools.iter().zip(request.listed.unwrap_or_default()).find(|(of, _)| of.name == pool.name);
    known.map_or_else(|| Cow::Owned(list(request, pool)), |(_, listed)| Cow::Borrowed(listed.as_slice()))
}

/// Like [`list`], with its own settings.
pub fn list_on_sale<'a>(on_sale: &OnSale<'a>, settings: &PlacementSettings, pool: &PoolPolicy) -> Vec<Listing<'a>> {
    let OnSale { catalog, market, learnt, now } = *on_sale;
    let committed_for = commitment_span(settings, now);
    let mut usable_by_type = BTreeMap::new();
    let mut regions: BTreeMap<&Region, bool> = BTreeMap::new();
    let mut listings = Vec::with_capacity(market.offers.len());
    let no_class = NodeTerms::default();
    for offer in on_sale.offers() {
        let terms = pool.nodes.get(&offer.capacity.zone);
        let (machine, usable) = *usable_by_type.entry((&offer.capacity.instance_type, terms)).or_insert_with(|| {
            let machine = catalog.types.get(&offer.capacity.instance_type);
            let nothing = Usable { resources: Resources::default(), unit_memory: Mebibytes(0), most_units_per_pod: 0 };
            (machine, machine.map_or(nothing, |m| usable(m, terms.unwrap_or(&no_class))))
        });
        let region_ok = *regions.entry(&offer.capacity.region).or_insert_with(|| allowed(&pool.regions, offer.capacity.region.as_str()));
        let unknown_type = Some(if region_ok { Refusal::GpuModel } else { Refusal::Region });
        let known = machine.map(|m| pool_refusals(on_sale, settings, pool, offer, m, (region_ok, terms), committed_for));
        let (refusal, rescue_refusal) = known.unwrap_or((unknown_type, unknown_type));
        let class = Arc::clone(&terms.unwrap_or(&no_class).class);
        let interruptions_per_million_hours = learnt.interruptions_per_million_hours(offer, now);
        listings.push(Listing {
            offer,
            machine,
            usable,
            refusal,
            rescue_refusal,
            fallback_on_demand: pool.fallback_on_demand,
            interruptions_per_million_hours,
            placement_score: learnt.placement_score(&offer.capacity, now),
            cost: cost_with_interruptions(offer, interruptions_per_million_hours, settings),
            class,
        });
    }
    let is_taken = |at: &&Capacity| learnt.cool_down(at, now).is_some_and(|c| c.cause == CoolDownCause::TakenBack);
    let taken = listings.iter().map(|listing| &listing.offer.capacity).filter(is_taken).collect();
    taken_back::close(&mut listings, &taken);
    listings
}

/// Whether a pool does not buy `at` in any of its regions, whatever the market: for its GPU, its type or how it is sold.
pub fn off_policy(pool: &PoolPolicy, at: &Capacity, model: Option<&GpuModel>) -> [(bool, Refusal); 3] {
    [
        (!pool.models.is_empty() && !model.is_some_and(|model| pool.models.contains(model)), Refusal::GpuModel),
        (!allowed(&pool.instance_types, at.instance_type.as_str()), Refusal::GpuModel),
        (!pool.capacity_types.is_empty() && !pool.capacity_types.contains(&at.capacity_type), Refusal::CapacityType),
    ]
}

/// The first refusal of `offer` that does not depend on a need: in general, and for a rescue.
fn pool_refusals(
    &OnSale { learnt, now, .. }: &OnSale,
    settings: &PlacementSettings,
    pool: &PoolPolicy,
    offer: &Offer,
    machine: &MachineType,
    (region_ok, terms): (bool, Option<&NodeTerms>),
    committed_for: Millis,
) -> (Option<Refusal>, Option<Refusal>) {
    let at = &offer.capacity;
    let cool_down = learnt.cool_down(at, now);
    let quota = QuotaKey::of(at).and_then(|key| settings.quota_vcpus_left.get(&key).copied());
    let stale = match offer.source {
        PriceSource::File => false,
        PriceSource::Snapshot => !settings.snapshot_prices_allowed,
        PriceSource::PriceList => now.since(offer.observed_at) > settings.max_list_price_age,
        PriceSource::SpotPriceHistory | PriceSource::Reservation => now.since(offer.observed_at) > settings.max_price_age,
    };
    let at_limit = |limits: &PoolLimits| {
        let under = |left: Option<i64>, want: i64| left.is_some_and(|left| left < want);
        under(limits.gpus, machine.gpus) || under(limits.nodes, 1) || under(limits.launches, 1)
    };
    let over_budget = pool.budget_left.is_some_and(|left| offer.price_per_hour.over(committed_for).to_micro_usd() > left);
    let [model, instance_type, capacity_type] = off_policy(pool, at, Some(&machine.gpu_model));
    let checks = [
        (!region_ok, Refusal::Region),
        (terms.is_none() || (offer.source == PriceSource::Reservation && !pool.reserved.contains(at)), Refusal::NoNodeClass),
        (terms.is_some_and(|terms| !terms.boots(machine.architecture)), Refusal::Architecture),
        model,
        instance_type,
        capacity_type,
        (cool_down.is_some_and(|c| !matches!(c.cause, CoolDownCause::Quota | CoolDownCause::TakenBack)), Refusal::CoolingDown),
        (cool_down.is_some_and(|c| c.cause == CoolDownCause::Quota), Refusal::Quota),
        (quota.is_some_and(|left| machine.vcpus > left), Refusal::Quota),
        (settings.machines_left.get(at).is_some_and(|left| *left < 1), Refusal::ReservationFull),
        (stale, Refusal::StalePrice),
        (above_cap(offer, machine, pool.max_price_per_gpu_hour), Refusal::PoolPriceCap),
    ];
    let spending = [(at_limit(&pool.limits_left), Refusal::PoolLimit), (over_budget, Refusal::Budget)];
    let first = |checks: &[(bool, Refusal)]| checks.iter().find_map(|(holds, refusal)| holds.then_some(*refusal));
    let common = first(&checks);
    let rescue = common.or(at_limit(&pool.rescue_limits_left).then_some(Refusal::PoolLimit));
    (common.or_else(|| first(&spending)), rescue)
}

/// Whether a machine's price per GPU is above `cap`, without dividing.
pub fn above_cap(offer: &Offer, machine: &MachineType, cap: Option<MicroUsdPerHour>) -> bool {
    cap.is_some_and(|cap| i128::from(offer.price_per_hour.0) > i128::from(cap.0) * i128::from(machine.gpus))
}

/// A need with its patterns already matched against the regions of the market.
#[derive(Debug, Clone)]
pub struct Wants<'a> {
    /// The need.
    pub need: &'a Need,
    /// The regions it accepts.
    pub regions: BTreeSet<Region>,
    /// What a gang or a spread leaves: one area of each kind that is in it.
    pub areas: BTreeSet<Area>,
    /// The one correlated pool that diversity leaves.
    pub within: Option<Correlated>,
    /// It is a rescue: no budget, and the limits of rescues.
    pub rescue: bool,
    /// On-demand is requested for work whose owner chose `spot-first`.
    pub falls_back: bool,
    /// Only these may be bought.
    pub buy_only: Option<&'a BTreeSet<Capacity>>,
    /// What other pods leave of the choice.
    pub apart: Option<&'a Apart>,
}

/// What counts as one for diversity: sizes of one family in one zone share the same hosts, so they run out together.
pub type Correlated = (ZoneId, String, CapacityType);

impl<'a> Wants<'a> {
    /// `need` against the market of `request`.
    pub fn new(request: &PlacementRequest, need: &'a Need) -> Self {
        let mut regions = BTreeSet::new();
        for capacity in request.on_sale().offers().map(|offer| &offer.capacity) {
            if !regions.contains(&capacity.region) && allowed(&need.regions, capacity.region.as_str()) {
                regions.insert(capacity.region.clone());
            }
        }
        Wants { need, regions, areas: BTreeSet::new(), within: None, rescue: false, falls_back: false, buy_only: None, apart: None }
    }

    /// Whether single capacity pools are ruled out.
    pub fn looks_at_pools(&self) -> bool {
        self.within.is_some() || self.buy_only.is_some()
    }

    /// How many such pods one machine of this room holds.
    pub fn replicas_on(&self, usable: &Usable) -> i64 {
        replicas_that_fit(self.need, usable).min(self.apart.map_or(i64::MAX, Apart::most_on_one))
    }

    /// Whether the rules between pods, their shares and the pod's own zones leave the zone and the region of `at`.
    pub fn place_ok(&self, at: &Capacity) -> bool {
        self.asks_for_place(at) && self.apart.is_none_or(|a| a.leaves_place(at))
    }

    /// Whether a machine may be bought at all: not for pods that must share one which is there.
    pub fn may_buy(&self) -> bool {
        self.apart.is_none_or(|a| a.only_claims.is_none())
    }

    /// Whether the rules between pods and their shares leave `capacity_type`.
    pub fn capacity_type_ok(&self, capacity_type: CapacityType) -> bool {
        let other = |area: &Area| matches!(area, Area::CapacityType(wanted) if *wanted != capacity_type);
        !self.areas.iter().any(other) && self.apart.is_none_or(|a| a.leaves_type(capacity_type))
    }

    fn asks_for_place(&self, at: &Capacity) -> bool {
        let somewhere = |area: &&Area| !matches!(area, Area::CapacityType(_));
        (self.need.zones.is_empty() || self.need.zones.contains(&at.zone)) && self.areas.iter().filter(somewhere).all(|area| area.holds(at))
    }

    /// Whether the node of an offer has the labels that the need asks for.
    pub fn labels_ok(&self, at: &Capacity, machine: &MachineType, class: &ClassLabels) -> bool {
        self.need.node_terms.is_empty() || ExpectedNode { capacity: at, machine, class }.meets(&self.need.node_terms)
    }

    /// How much of what its pods prefer an offer does not give.
    pub fn unmet(&self, listing: &Listing) -> i64 {
        let Some((wishes, machine)) = self.apart.map(|a| &a.prefers).filter(|w| !w.is_empty()).zip(listing.machine) else { return 0 };
        wishes.unmet(&ExpectedNode { capacity: &listing.offer.capacity, machine, class: &listing.class })
    }

    /// Whether every taint of a node class is tolerated.
    pub fn tolerates(&self, class: &ClassLabels) -> bool {
        let tolerations = self.apart.map_or(&[][..], |a| a.tolerations.as_slice());
        let hard = |effect: &str| effect == "NoSchedule" || effect == "NoExecute";
        // Every GPU pod tolerates the taint of GPU nodes: the admission policy ensures it.
        let counts = |key: &str| key != "nvidia.com/gpu" && !key.starts_with("lowtide.dev/");
        class.taints.iter().all(|(key, value, effect)| !hard(effect) || !counts(key) || tolerates(tolerations, key, value, effect))
    }

    /// Why capacity of this type is not bought for the need from a node pool that falls back to on-demand, or does not.
    pub fn capacity_refusal(&self, at: CapacityType, fallback_on_demand: bool) -> Option<Refusal> {
        let wanted = match self.need.capacity {
            CapacityPreference::SpotFirst => true,
            CapacityPreference::SpotOnly => at == CapacityType::Spot,
            CapacityPreference::OnDemand => at != CapacityType::Spot,
        };
        let spot_first = self.falls_back || self.need.capacity == CapacityPreference::SpotFirst;
        match at {
            _ if !wanted => Some(Refusal::CapacityType),
            CapacityType::OnDemand if spot_first && !fallback_on_demand => Some(Refusal::NoFallback),
            _ => None,
        }
    }

    /// The first refusal of `listing` for this need, or how many replicas one machine holds (at least 1).
    pub fn judge(&self, listing: &Listing) -> Result<i64, Refusal> {
        let replicas = self.replicas_on(&listing.usable);
        let own = self.refusal(listing, replicas);
        // Reasons are declared in the order in which they are checked, so the first one is the smallest.
        match (own, listing.refusal(self.rescue)) {
            (None, None) => Ok(replicas),
            (Some(one), Some(other)) => Err(one.min(other)),
            (Some(one), None) | (None, Some(one)) => Err(one),
        }
    }

    fn refusal(&self, listing: &Listing, replicas: i64) -> Option<Refusal> {
        let (need, at) = (self.need, &listing.offer.capacity);
        if !self.regions.contains(&at.region) {
            return Some(Refusal::Region);
        }
        if !self.asks_for_place(at) {
            return Some(Refusal::Zone);
        }
        let machine = listing.machine?;
        let capacity = self.capacity_refusal(at.capacity_type, listing.fallback_on_demand);
        let have = &listing.usable;
        let checks = [
            (!need.gpu_models.is_empty() && !need.gpu_models.contains(&machine.gpu_model), Refusal::GpuModel),
            (!need.instance_types.is_empty() && !need.instance_types.contains(&machine.instance_type), Refusal::GpuModel),
            (need.architecture.is_some_and(|a| a != machine.architecture), Refusal::Architecture),
            (need.gpus > have.most_units_per_pod.min(have.resources.gpus), Refusal::GpuCount),
            (need.gpu_memory > have.unit_memory, Refusal::GpuMemory),
            (need.cpu > have.resources.cpu, Refusal::Cpu),
            (need.memory > have.resources.memory, Refusal::Memory),
            (need.disk > have.resources.disk, Refusal::Disk),
            (need.volumes > have.resources.volumes, Refusal::Volumes),
            (!self.labels_ok(at, machine, &listing.class), Refusal::NodeLabels),
            (!self.tolerates(&listing.class), Refusal::Taint),
            (!self.may_buy() || !self.place_ok(at) || !self.capacity_type_ok(at.capacity_type), Refusal::OtherPods),
            (capacity == Some(Refusal::CapacityType), Refusal::CapacityType),
            (capacity == Some(Refusal::NoFallback), Refusal::NoFallback),
            (above_cap(listing.offer, machine, need.max_price_per_gpu_hour), Refusal::OwnerPriceCap),
            (self.within.as_ref().is_some_and(|w| *w != correlated_pool(at)), Refusal::Diversity),
            (replicas < 1, Refusal::GpuCount),
            (self.buy_only.is_some_and(|these| !these.contains(at)), Refusal::NotForDeadline),
        ];
        checks.into_iter().find_map(|(holds, refusal)| holds.then_some(refusal))
    }
}

/// The correlated pool that `pool` belongs to.
pub fn correlated_pool(capacity: &crate::core::market::Capacity) -> Correlated {
    (capacity.zone.clone(), capacity.instance_type.family().to_owned(), capacity.capacity_type)
}

/// How many replicas of an owner with `total` may be in one correlated pool.
pub fn most_in_one_pool(rule: &OwnerRule, total: i64) -> Option<i64> {
    rule.max_share_per_mille.map(|share| (total * share / 1_000).max(1))
}
