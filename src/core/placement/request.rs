//! The input of a placement: the demands, the free room, the policies, and the settings.
//!
//! Decides: nothing; these are the inputs and their units.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::core::fleet::TagList;
use crate::core::market::catalog::{Architecture, Catalog};
use crate::core::market::egress::EgressPrices;
use crate::core::market::quota::QuotaKey;
use crate::core::market::reservation::ReservedOffer;
use crate::core::market::reserve::NodeReserve;
use crate::core::market::scores::ScoreBoard;
use crate::core::market::{Capacity, CapacityType, CoolDown, Market, Offer};
use crate::core::snapshot::memory::MarketMemory;
use crate::core::units::ids::{ClaimName, GpuModel, PoolName, Region, ZoneId};
use crate::core::units::money::{MicroUsd, MicroUsdPerHour};
use crate::core::units::shared::Shared;
use crate::core::units::time::{Millis, Timestamp};
use crate::core::units::{Mebibytes, Resources};
use crate::core::workload::company::Domain;
use crate::core::workload::labels::LabelTerm;
use crate::core::workload::need::{Need, Toleration};
use crate::core::workload::sharing::{GpuSharing, Sharing};

use super::listing::Listing;
use super::node_labels::{ClassLabels, ExpectedNode};

/// Everything a placement depends on. The same request gives the same placement.
#[derive(Debug, Clone, Copy)]
pub struct PlacementRequest<'a> {
    /// The machine types.
    pub catalog: &'a Catalog,
    /// What can be bought.
    pub market: &'a Market,
    /// What was learned of it, and what of it is reserved for us.
    pub learnt: Learnt<'a>,
    /// The pods to place, in any order.
    pub demands: &'a [Demand],
    /// Free room on machines we pay for anyway.
    pub room: &'a [Room],
    /// The policies of the node pools.
    pub pools: &'a [PoolPolicy],
    /// The time now.
    pub now: Timestamp,
    /// What applies to every pool.
    pub settings: &'a PlacementSettings,
    /// The offers of each of `pools` from [`super::eligibility::list`], if already listed; `None` lists them.
    pub listed: Option<&'a [Vec<Listing<'a>>]>,
}

impl<'a> PlacementRequest<'a> {
    /// What can be bought.
    pub fn on_sale(&self) -> OnSale<'a> {
        OnSale { catalog: self.catalog, market: self.market, learnt: self.learnt, now: self.now }
    }
}

/// What can be bought at a moment.
#[derive(Debug, Clone, Copy)]
pub struct OnSale<'a> {
    /// The machine types.
    pub catalog: &'a Catalog,
    /// The offers.
    pub market: &'a Market,
    /// What was learned of it, and what of it is reserved for us.
    pub learnt: Learnt<'a>,
    /// The moment.
    pub now: Timestamp,
}

impl<'a> OnSale<'a> {
    /// Every offer: the market's in its order, then those of reservations.
    pub fn offers(&self) -> impl Iterator<Item = &'a Offer> + use<'a> {
        self.market.offers.values().chain(self.learnt.reserved.into_iter().flat_map(|reserved| reserved.values().map(|r| &r.offer)))
    }
}

/// What lowtide knows of capacity beside its price. It is looked up where offers are listed, so nothing that was learned is ever copied into
/// an offer and grows old there. Each part may be unknown, as for a market from a file.
#[derive(Debug, Clone, Copy, Default)]
pub struct Learnt<'a> {
    /// Refusals, launches, interruptions.
    pub memory: Option<&'a MarketMemory>,
    /// EC2's spot placement scores.
    pub scores: Option<&'a ScoreBoard>,
    /// Offers of capacity reservations.
    pub reserved: Option<&'a BTreeMap<Capacity, ReservedOffer>>,
}

impl Learnt<'_> {
    /// Until when capacity is left alone, and why.
    pub fn cool_down(&self, capacity: &Capacity, now: Timestamp) -> Option<CoolDown> {
        self.memory?.cool_down(capacity).filter(|cool_down| cool_down.until > now)
    }

    /// Expected interruptions of an offer per million instance-hours: as the advisor rates it, moved by what we saw.
    pub fn interruptions_per_million_hours(&self, offer: &Offer, now: Timestamp) -> i64 {
        let advised = offer.interruptions_per_million_hours;
        self.memory.map_or(advised, |memory| memory.interruptions_per_million_hours(&offer.capacity, advised, now))
    }

    /// EC2's spot placement score, 1 (unlikely to be given) to 10, where a fresh one is known. Says nothing of the price.
    pub fn placement_score(&self, capacity: &Capacity, now: Timestamp) -> Option<u8> {
        self.scores?.of(capacity, now)
    }
}

/// One pod to place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Demand {
    /// The stable name of the pod, `namespace/name`. Unique in a request; it breaks ties.
    pub key: Arc<str>,
    /// What it needs.
    pub need: Shared<Need>,
    /// The node pools that admit it; empty means any.
    pub pools: Shared<BTreeSet<PoolName>>,
    /// Its owner's rule for the replicas together.
    pub owner: Option<OwnerRule>,
    /// The gang it belongs to: all or none of it is placed, in one zone.
    pub gang: Option<Gang>,
    /// It replaces a pod whose machine EC2 takes: it is exempt from budgets, has the limits for rescues, and is placed before all others.
    pub rescue: bool,
    /// What other pods leave of the choice.
    pub apart: Shared<Apart>,
    /// Its owner chose `spot-first`, and on-demand is now requested for it (see `need`): only a pool that falls back allows that.
    pub falls_back: bool,
    /// Only these may be bought for it; `None` allows all. It may use any room that is already paid for.
    pub buy_only: Option<Arc<BTreeSet<Capacity>>>,
}

/// An owner's rule for its replicas together. Equal for all replicas of one owner.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct OwnerRule {
    /// Whose replicas count together, e.g. `Deployment/default/web`.
    pub owner: String,
    /// Their hard topology spread constraints over parts of the market.
    pub spreads: Vec<AreaSpread>,
    /// At most this share of replicas (in thousandths) is in one correlated capacity pool: one zone, family and capacity type.
    ///
    /// At least one replica is always allowed in each.
    pub max_share_per_mille: Option<i64>,
    /// Replicas of this owner that already run and stay, by location.
    pub standing: BTreeMap<Capacity, i64>,
}

/// A part of the market.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Area {
    /// A zone.
    Zone(ZoneId),
    /// A region.
    Region(Region),
    /// A capacity type, wherever it is.
    CapacityType(CapacityType),
}

impl Area {
    /// The part of the market that `at` is in; a machine is none.
    pub fn of(domain: Domain, at: &Capacity) -> Option<Area> {
        match domain {
            Domain::Machine => None,
            Domain::Zone => Some(Area::Zone(at.zone.clone())),
            Domain::Region => Some(Area::Region(at.region.clone())),
            Domain::CapacityType => Some(Area::CapacityType(at.capacity_type)),
        }
    }

    /// Whether `at` is in it.
    pub fn holds(&self, at: &Capacity) -> bool {
        match self {
            Area::Zone(zone) => *zone == at.zone,
            Area::Region(region) => *region == at.region,
            Area::CapacityType(capacity_type) => *capacity_type == at.capacity_type,
        }
    }

    /// Which kind of part it is.
    pub fn domain(&self) -> Domain {
        match self {
            Area::Zone(_) => Domain::Zone,
            Area::Region(_) => Domain::Region,
            Area::CapacityType(_) => Domain::CapacityType,
        }
    }
}

/// A hard topology spread constraint over parts of the market.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct AreaSpread {
    /// What it spreads over; not machines.
    pub domain: Domain,
    /// `maxSkew`, at least 1.
    pub max_skew: i64,
    /// With fewer areas than this to choose from, the emptiest counts as empty.
    pub min_domains: i64,
    /// Pods that count and stay, by location.
    pub standing: BTreeMap<Capacity, i64>,
    /// The replicas themselves count.
    pub counts_itself: bool,
}

impl AreaSpread {
    /// A spread of an owner's replicas over zones, of which none stands yet.
    pub fn over_zones(max_skew: i64) -> AreaSpread {
        AreaSpread { domain: Domain::Zone, max_skew, min_domains: 1, standing: BTreeMap::new(), counts_itself: true }
    }
}

/// What rules between pods leave of the choice for one pod. Equal for replicas.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Apart {
    /// Marks of this pod, one bit each: what others may avoid on one machine, such as a host port or labels that an anti-affinity selects.
    pub has: u64,
    /// Marks it avoids on its machine.
    pub avoids: u64,
    /// At most this many equal pods on one machine, by topology spread over machines.
    pub most_per_machine: Option<i64>,
    /// At most this many of the pods that a spread counts on one machine that is ours already: which count, as in [`RoomNode::counts`], and how
    /// many.
    pub most_counted: Vec<(usize, i64)>,
    /// At most one of its owner's pods in one area of each of these kinds, by anti-affinity.
    pub one_in_each: BTreeSet<Domain>,
    /// In one of the areas of each of these sets, because pods it must be near run there.
    pub only: BTreeSet<BTreeSet<Area>>,
    /// In none of these areas, because pods it must be away from run there.
    pub not: BTreeSet<Area>,
    /// On one of these machines of ours, because pods that it must share one with are there, or a volume that one machine alone may have.
    pub only_claims: Option<BTreeSet<ClaimName>>,
    /// All pods with each of these names in one area of its kind, without being all or nothing.
    pub same: BTreeSet<(Domain, String)>,
    /// What it prefers of machines to buy, at equal cost.
    pub prefers: Wishes,
    /// Taints it tolerates, besides those that every GPU pod does.
    pub tolerations: Vec<Toleration>,
    /// The value of its PriorityClass: if limits leave room for only a few, higher goes first.
    pub priority: i64,
}

/// What a pod prefers of machines to buy. It never costs money: it only breaks ties.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Wishes {
    /// Requirements on the node, with weights.
    pub nodes: Vec<(i64, LabelTerm)>,
    /// Areas it likes, and with a negative weight dislikes, because of the pods there.
    pub areas: BTreeMap<Area, i64>,
}

impl Wishes {
    /// There are none.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty() && self.areas.is_empty()
    }

    /// How much of it an offer does not give: less is better, and only the difference of two offers means anything.
    pub fn unmet(&self, node: &ExpectedNode) -> i64 {
        let met = |(_, term): &&(i64, LabelTerm)| node.meets(std::slice::from_ref(term));
        let nodes: i64 = self.nodes.iter().filter(met).map(|(weight, _)| weight).sum();
        let areas: i64 = self.areas.iter().filter(|(area, _)| area.holds(node.capacity)).map(|(_, weight)| weight).sum();
        -(nodes + areas)
    }
}

impl Apart {
    /// Whether a pod with these rules may share a machine with pods with these marks.
    pub fn agrees(&self, has: u64, avoids: u64) -> bool {
        self.avoids & has == 0 && self.has & avoids == 0
    }

    /// Whether the rules leave `at`, as far as it is somewhere.
    pub fn leaves_place(&self, at: &Capacity) -> bool {
        let of_capacity_type = |areas: &BTreeSet<Area>| areas.first().is_some_and(|a| a.domain() == Domain::CapacityType);
        self.only.iter().filter(|areas| !of_capacity_type(areas)).all(|areas| areas.iter().any(|a| a.holds(at)))
            && !self.not.iter().any(|a| a.domain() != Domain::CapacityType && a.holds(at))
    }

    /// How many more of these pods a machine of ours may take, by what spreads count there.
    pub fn left_on(&self, node: &RoomNode) -> i64 {
        let left = |(at, most): &(usize, i64)| most - node.counts.get(*at).copied().unwrap_or(0);
        self.most_counted.iter().map(left).min().unwrap_or(i64::MAX)
    }

    /// Whether they leave the machine of `claim`, one that is ours.
    pub fn leaves_machine(&self, claim: &ClaimName) -> bool {
        self.only_claims.as_ref().is_none_or(|these| these.contains(claim))
    }

    /// Whether the rules leave `capacity_type`.
    pub fn leaves_type(&self, capacity_type: CapacityType) -> bool {
        let this = Area::CapacityType(capacity_type);
        let of_capacity_type = |areas: &&BTreeSet<Area>| areas.first().is_some_and(|a| a.domain() == Domain::CapacityType);
        self.only.iter().filter(of_capacity_type).all(|areas| areas.contains(&this)) && !self.not.contains(&this)
    }

    /// The maximum number of equal pods on one machine.
    pub fn most_on_one(&self) -> i64 {
        if self.has & self.avoids != 0 { 1 } else { self.most_per_machine.unwrap_or(i64::MAX) }
    }
}

/// A gang of pods.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Gang {
    /// Its name, unique in the cluster.
    pub name: String,
    /// The zone where members already run; `None` leaves the choice open.
    pub zone: Option<ZoneId>,
}

/// Free room on a machine that is ours: Ready, or bought and booting. Its price is sunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Room {
    /// The claim.
    pub claim: ClaimName,
    /// What it is.
    pub capacity: Capacity,
    /// What is free on it: allocatable less pods and DaemonSets. GPUs in schedulable units (slots, when shared).
    pub free: Resources,
    /// Memory a pod can use of each schedulable unit.
    pub gpu_memory: Mebibytes,
    /// The most units one pod may ask for: one where GPUs are shared.
    pub most_units_per_pod: i64,
    /// The node pool it belongs to.
    pub node_pool: PoolName,
    /// Ready now; `false` if still booting.
    pub ready: bool,
    /// What pods see of its node.
    pub node: RoomNode,
}

/// What pods see of a room's node, besides its free resources.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RoomNode {
    /// Marks of the pods on it.
    pub has: u64,
    /// Marks that the pods on it avoid.
    pub avoids: u64,
    /// How many pods of each selector that spreads count by are on it.
    pub counts: Vec<i64>,
    /// Its labels, once it has joined.
    pub labels: Option<Arc<TagList>>,
    /// What its class adds.
    pub class: Arc<ClassLabels>,
    /// Fingerprints of needs that were tried there and that the scheduler did not bind.
    pub misfits: BTreeSet<String>,
}

impl RoomNode {
    /// `count` pods with the rules `apart` come onto it: their own spreads count them.
    pub fn count(&mut self, apart: &Apart, count: i64) {
        for (at, _) in &apart.most_counted {
            if self.counts.len() <= *at {
                self.counts.resize(at + 1, 0);
            }
            self.counts[*at] += count;
        }
    }
}

/// How the nodes of one class are packed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct NodeTerms {
    /// How they share GPUs.
    pub sharing: GpuSharing,
    /// What DaemonSets request on each.
    pub daemonsets: Resources,
    /// The root volume of each; `None` is [`crate::core::market::catalog::ROOT_VOLUME`].
    pub root_volume: Option<Mebibytes>,
    /// What their kubelets keep for themselves.
    pub reserve: NodeReserve,
    /// Architectures that the class has an image for; `None` is all.
    pub architectures: Option<Vec<Architecture>>,
    /// What pods see of them.
    pub class: Arc<ClassLabels>,
}

impl NodeTerms {
    /// Whether the class has an image for machines of this architecture.
    pub fn boots(&self, architecture: Architecture) -> bool {
        self.architectures.as_ref().is_none_or(|known| known.contains(&architecture))
    }
}

/// What is left of a pool's limits; `None` is unlimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PoolLimits {
    /// GPUs of machines.
    pub gpus: Option<i64>,
    /// Machines.
    pub nodes: Option<i64>,
    /// Launches, in the minute that runs.
    pub launches: Option<i64>,
}

/// The policy of one node pool, as far as buying is concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolPolicy {
    /// Its name.
    pub name: PoolName,
    /// Region patterns (`us-*`); empty allows all.
    pub regions: Vec<String>,
    /// GPU models; empty allows all.
    pub models: BTreeSet<GpuModel>,
    /// Instance type patterns (`g6.*`); empty allows all.
    pub instance_types: Vec<String>,
    /// Capacity types allowed; empty allows all.
    pub capacity_types: BTreeSet<CapacityType>,
    /// On-demand may be bought for `spot-first` work.
    pub fallback_on_demand: bool,
    /// The pool's cap on a machine's price divided by its GPUs.
    pub max_price_per_gpu_hour: Option<MicroUsdPerHour>,
    /// What may still be committed this month; see [`PlacementSettings::commitment`]. `None` is unlimited.
    pub budget_left: Option<MicroUsd>,
    /// What is left of its limits.
    pub limits_left: PoolLimits,
    /// What is left of them for rescues: the machines that EC2 takes do not count, so that each frees its slot for its replacement.
    pub rescue_limits_left: PoolLimits,
    /// Zones where a node class launches nodes for this pool, and how those are packed.
    pub nodes: BTreeMap<ZoneId, NodeTerms>,
    /// Reserved capacity listed in its node classes.
    pub reserved: BTreeSet<Capacity>,
}

impl PoolPolicy {
    /// A policy that allows everything in `zones`.
    pub fn open(name: &str, zones: BTreeSet<ZoneId>) -> Self {
        PoolPolicy {
            name: PoolName::from(name),
            regions: Vec::new(),
            models: BTreeSet::new(),
            instance_types: Vec::new(),
            capacity_types: BTreeSet::new(),
            fallback_on_demand: true,
            max_price_per_gpu_hour: None,
            budget_left: None,
            limits_left: PoolLimits::default(),
            rescue_limits_left: PoolLimits::default(),
            nodes: zones.into_iter().map(|zone| (zone, NodeTerms::default())).collect(),
            reserved: BTreeSet::new(),
        }
    }

    /// The same pool with nodes that share GPUs like this in every zone.
    pub fn sharing(mut self, sharing: Sharing, context_reserve: Mebibytes) -> Self {
        self.nodes.values_mut().for_each(|terms| terms.sharing = GpuSharing { sharing, context_reserve });
        self
    }
}

/// What applies to every pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlacementSettings {
    /// Nothing is bought at spot prices older than this. Prices from a user's file have no age.
    pub max_price_age: Millis,
    /// Nothing is bought at list prices (on-demand) older than this: they change by announcement, and the price list is often slow to
    /// answer.
    pub max_list_price_age: Millis,
    /// The shipped snapshot's prices may be used for planning (offline use).
    pub snapshot_prices_allowed: bool,
    /// From launch to Ready: paid for and lost at each interruption.
    pub boot: Millis,
    /// Work lost at each interruption, besides the boot.
    pub lost_work: Millis,
    /// The time over which the cost of moving data is spread.
    pub data_amortisation: Millis,
    /// What moving data costs.
    pub egress: Arc<EgressPrices>,
    /// How long a machine counts as committed in a budget; `None` means until the calendar month ends.
    pub commitment: Option<Millis>,
    /// vCPUs left of each quota; a quota that is not listed is unknown and does not apply.
    pub quota_vcpus_left: BTreeMap<QuotaKey, i64>,
    /// Machines left in pools that hold a fixed number (capacity reservations); a pool that is not listed has no known limit.
    pub machines_left: BTreeMap<Capacity, i64>,
    /// The placement also proves how little any purchase could cost. The operator buys without the proof, which takes a quarter of the
    /// time.
    pub proves_bounds: bool,
}

impl Default for PlacementSettings {
    /// The operator's defaults: spot prices up to 5 minutes and list prices up to a day old, 4 minutes of boot (research: 3 to 5 for an LLM
    /// node), 15 minutes of lost work (half a 30-minute checkpoint interval), data spread over a day at AWS's list prices between regions.
    fn default() -> Self {
        PlacementSettings {
            max_price_age: Millis::from_mins(5),
            max_list_price_age: Millis::from_hours(24),
            snapshot_prices_allowed: false,
            boot: Millis::from_mins(4),
            lost_work: Millis::from_mins(15),
            data_amortisation: Millis::from_hours(24),
            egress: EgressPrices::snapshot(),
            commitment: None,
            quota_vcpus_left: BTreeMap::new(),
            machines_left: BTreeMap::new(),
            proves_bounds: true,
        }
    }
}
