//! The simulated AWS account: everything that exists in it and what happens as time passes.
//!
//! Pure: `now` is an argument and chance does not occur, so the same calls at the same times give the same account.
//! Decides what EC2 would do; how it is said in XML or JSON is the faces' matter.

pub mod bill;
pub mod capacity;
pub mod instance;
pub mod interruption;
pub mod launch;
pub mod places;
pub mod queues;
pub mod reservations;
pub mod scheduled;
pub mod templates;
pub mod throttle;

use std::collections::{BTreeMap, BTreeSet};

use crate::core::units::ids::{InstanceId, InstanceType, Region, ZoneId, derive_uuid};
use crate::core::units::money::MicroUsdPerHour;
use crate::core::units::time::{Millis, Timestamp};

use super::facts::Facts;
use super::query::Params;
use capacity::{BootRule, CapacityRule};
use instance::Instance;
use interruption::Due;
use places::Places;
use queues::Queue;
use reservations::Reservation;
use templates::LaunchTemplate;
use throttle::Bucket;

/// The account id every ARN and queue URL carries.
pub const ACCOUNT: &str = "123456789012";
/// The queue that exists in every region and that the account's EventBridge rule feeds.
pub const INTERRUPTION_QUEUE: &str = "lowtide-interruptions";

/// What can be set before the account opens. Every default is said at its field.
#[derive(Debug, Clone)]
pub struct AccountSettings {
    /// From launch to `running`; 1 s.
    pub boot: Millis,
    /// From the interruption notice to the end; AWS gives 120 s.
    pub notice: Millis,
    /// From a rebalance recommendation to the notice, when one is ordered; 10 s.
    pub rebalance_lead: Millis,
    /// From `shutting-down` to `terminated`; 500 ms.
    pub shutdown: Millis,
    /// How long Describe calls may not see a new instance; 300 ms.
    pub visibility_lag: Millis,
    /// How long Describe calls still show a terminated one; 1 h (EC2's documentation).
    pub terminated_linger: Millis,
    /// vCPUs per quota and region; 10,000.
    pub vcpu_quota: i64,
    /// Whether calls cost tokens; yes.
    pub throttling: bool,
    /// Distinct placement score configurations per 24 h; 50. AWS names no number: the limit exists, its size is ours.
    pub placement_score_configurations: usize,
}

impl Default for AccountSettings {
    fn default() -> Self {
        AccountSettings {
            boot: Millis::from_secs(1),
            notice: Millis::from_secs(120),
            rebalance_lead: Millis::from_secs(10),
            shutdown: Millis(500),
            visibility_lag: Millis(300),
            terminated_linger: Millis::from_hours(1),
            vcpu_quota: 10_000,
            throttling: true,
            placement_score_configurations: 50,
        }
    }
}

/// From when on a capacity had a price.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PricePoint {
    /// When the price changed to this.
    pub since: Timestamp,
    /// Dollars per hour.
    pub price: MicroUsdPerHour,
}

/// What a client token stands for.
#[derive(Debug, Clone)]
pub struct Remembered {
    /// The parameters of the first call, without the token.
    pub params: Params,
    /// What it was answered.
    pub answer: String,
    /// What it launched.
    pub instances: Vec<InstanceId>,
}

/// The account.
#[derive(Debug, Clone)]
pub struct Account {
    /// The published facts.
    pub facts: Facts,
    /// Regions, zones, subnets.
    pub places: Places,
    /// How the account behaves.
    pub settings: AccountSettings,
    /// Spot price history per capacity, oldest first.
    pub spot_prices: BTreeMap<(ZoneId, InstanceType), Vec<PricePoint>>,
    /// Orders about capacity; the last that matches holds.
    pub capacity_rules: Vec<CapacityRule>,
    /// Orders about booting; the last that matches holds.
    pub boot_rules: Vec<BootRule>,
    /// Every instance there ever was.
    pub instances: BTreeMap<InstanceId, Instance>,
    /// Launch templates by id.
    pub templates: BTreeMap<String, LaunchTemplate>,
    /// Idempotency: (region, action, token).
    pub tokens: BTreeMap<(Region, String, String), Remembered>,
    /// vCPU quotas set by order, by (region, quota code).
    pub quotas: BTreeMap<(Region, String), i64>,
    /// Capacity reservations by id.
    pub reservations: BTreeMap<String, Reservation>,
    /// Regions that the account has not enabled, by order.
    pub closed_regions: BTreeSet<Region>,
    /// The interruption queue of each region, made when first used.
    pub queues: BTreeMap<Region, Queue>,
    /// How often each action was called, refused calls included.
    pub calls: BTreeMap<String, u64>,
    /// Placement score configurations asked for, with the time of the first asking.
    pub score_configurations: BTreeMap<String, Timestamp>,
    pub(super) buckets: BTreeMap<(Region, String), Bucket>,
    pub(super) imds_tokens: BTreeMap<(InstanceId, String), Timestamp>,
    agenda: BTreeMap<(Timestamp, u64), Due>,
    sequence: u64,
}

impl Account {
    /// An account as the facts describe it, opened at `now`: nothing launched, every price as in the facts.
    pub fn new(facts: Facts, settings: AccountSettings, now: Timestamp) -> Account {
        let spot_prices = facts
            .spot
            .iter()
            .map(|(zone_capacity, price)| (zone_capacity.clone(), vec![PricePoint { since: now.floor_to_second(), price: *price }]))
            .collect();
        Account {
            places: Places::from_facts(&facts),
            facts,
            settings,
            spot_prices,
            capacity_rules: Vec::new(),
            boot_rules: Vec::new(),
            instances: BTreeMap::new(),
            templates: BTreeMap::new(),
            tokens: BTreeMap::new(),
            quotas: BTreeMap::new(),
            reservations: BTreeMap::new(),
            closed_regions: BTreeSet::new(),
            queues: BTreeMap::new(),
            calls: BTreeMap::new(),
            score_configurations: BTreeMap::new(),
            buckets: BTreeMap::new(),
            imds_tokens: BTreeMap::new(),
            agenda: BTreeMap::new(),
            sequence: 0,
        }
    }

    /// Lets everything happen that is due by `now`, each at its own time. Every face calls this first.
    pub fn advance(&mut self, now: Timestamp) {
        while let Some(entry) = self.agenda.first_entry() {
            if entry.key().0 > now {
                break;
            }
            let ((at, _), step) = entry.remove_entry();
            self.take_due(step, at);
        }
    }

    /// Puts a step on the agenda; steps of one moment happen in the order they were scheduled.
    pub(super) fn schedule(&mut self, at: Timestamp, step: Due) {
        let sequence = self.next_sequence();
        self.agenda.insert((at, sequence), step);
    }

    pub(super) fn next_sequence(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }

    /// A new resource id as EC2 writes it: prefix and 17 hexadecimal digits, the same in every run of the same calls.
    pub(super) fn new_id(&mut self, prefix: &str) -> String {
        let sequence = self.next_sequence();
        resource_id(prefix, &["id", &sequence.to_string()])
    }

    /// The spot price of a capacity at `at`, where known: the last change not after it.
    pub fn spot_price_at(&self, zone: &ZoneId, it: &InstanceType, at: Timestamp) -> Option<MicroUsdPerHour> {
        let points = self.spot_prices.get(&(zone.clone(), it.clone()))?;
        points.iter().rev().find(|point| point.since <= at).map(|point| point.price)
    }

    /// The on-demand price of a type in a region, where known.
    pub fn on_demand_price(&self, region: &Region, it: &InstanceType) -> Option<MicroUsdPerHour> {
        self.facts.on_demand.get(&(region.clone(), it.clone())).copied()
    }

    /// Changes a capacity's spot price from the second of `now` on; a capacity without one gets its first.
    pub fn set_spot_price(&mut self, zone: &ZoneId, it: &InstanceType, price: MicroUsdPerHour, now: Timestamp) {
        let since = now.floor_to_second();
        let points = self.spot_prices.entry((zone.clone(), it.clone())).or_default();
        // The price history tells a second one price.
        points.retain(|point| point.since != since);
        points.push(PricePoint { since, price });
    }

    /// The types a region offers in any of its zones.
    pub fn types_in(&self, region: &Region) -> BTreeSet<InstanceType> {
        let zones = self.facts.zones.get(region);
        zones.into_iter().flatten().filter_map(|zone| self.facts.offered.get(zone)).flatten().cloned().collect()
    }
}

/// An id derived from `parts`, in EC2's form.
pub(super) fn resource_id(prefix: &str, parts: &[&str]) -> String {
    let hex = derive_uuid(&[&["ec2", prefix], parts].concat()).simple().to_string();
    format!("{prefix}-0{}", &hex[..16])
}

#[cfg(test)]
pub(super) mod testing {
    use super::*;

    /// An account with the shipped facts, opened at the hour 1000.
    pub const OPENED: Timestamp = Timestamp(3_600_000_000);

    pub fn account() -> Account {
        Account::new(
            Facts::shipped().unwrap(),
            AccountSettings { throttling: false, visibility_lag: Millis::ZERO, ..AccountSettings::default() },
            OPENED,
        )
    }
}
