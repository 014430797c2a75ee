//! The account that the simulated cluster buys in: its vCPU quotas, what others run in it, a capacity reservation, placement scores, and
//! which regions' nodes share their GPUs.
//!
//! Decides: which of these a history has, from the seed alone; what a quota and a reservation leave; how a pool scores.
//! Does not: launch (see [`super::ec2`]) or bill (see [`super::bill`]).
//!
//! Each draw is a stream of its own, so that a history without any of it is the history it was. Where something is tight, the last region
//! stays open and whole: there all work has its place, and INV-10 can ask for it.

use std::collections::BTreeMap;

use super::chance::Chance;
use super::market::{SimMarket, ZONES};
use crate::core::market::quota::{QuotaFamily, QuotaKey, VcpuQuota};
use crate::core::market::reservation::{CapacityReservation, NamedReservation};
use crate::core::market::scores::{PlacementScore, ScoreQuestion};
use crate::core::market::{Capacity, CapacityType};
use crate::core::units::Mebibytes;
use crate::core::units::ids::{Region, ReservationId, ZoneId};
use crate::core::units::money::MicroUsdPerHour;
use crate::core::units::time::{Millis, Timestamp};
use crate::core::workload::sharing::{GpuSharing, Sharing};

/// Of a thousand histories, this many have tight quotas, a reservation, placement scores, and classes that share GPUs.
const TIGHT_PER_MILLE: i64 = 300;
const RESERVED_PER_MILLE: i64 = 250;
const SCORED_PER_MILLE: i64 = 500;
const SHARED_PER_MILLE: i64 = 150;
/// A quota that binds nobody here.
const PLENTY: i64 = 4_096;

/// A reservation that is paid for until it ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reservation {
    /// Its id.
    pub id: ReservationId,
    /// What its machines are.
    pub capacity: Capacity,
    /// How many it holds.
    pub machines: i64,
    /// What an hour of one counts: stated by the node class, and on the bill.
    pub price_per_hour: MicroUsdPerHour,
    /// When it ends. Machines run on, and each hour that begins from then on costs as on-demand does.
    pub ends_at: Timestamp,
}

/// A vCPU quota and what others use of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Quota {
    vcpus: i64,
    others: i64,
}

/// What the account allows and has.
#[derive(Debug)]
pub struct Account {
    quotas: BTreeMap<QuotaKey, Quota>,
    /// The reservation, where there is one.
    pub reservation: Option<Reservation>,
    sharing: BTreeMap<Region, GpuSharing>,
    scored: bool,
    of_scores: Chance,
}

impl Account {
    /// The account of `seed`, which opens at `now` beside `market`.
    pub fn open(seed: u64, market: &SimMarket, now: Timestamp) -> Account {
        let mut scores = Chance::new(seed, "placement scores");
        Account {
            quotas: draw_quotas(seed, market),
            reservation: draw_reservation(seed, market, now),
            sharing: draw_sharing(seed, market),
            scored: scores.happens(SCORED_PER_MILLE),
            of_scores: scores,
        }
    }

    /// What Service Quotas says of `region`; nothing where it was never tightened, as when it may not be read.
    pub fn quotas(&self, region: &Region) -> Vec<VcpuQuota> {
        let here = self.quotas.iter().filter(|(key, _)| key.region == *region);
        here.map(|(key, quota)| VcpuQuota { family: key.family, capacity_type: key.capacity_type, vcpus: quota.vcpus }).collect()
    }

    /// vCPUs that may still be launched from `pool` while ours run `used` of its quota; `None` where no quota binds.
    pub fn vcpus_left(&self, capacity: &Capacity, used: i64) -> Option<i64> {
        self.quotas.get(&QuotaKey::of(capacity)?).map(|quota| quota.vcpus - quota.others - used)
    }

    /// What the class of `region` names.
    pub fn named_in(&self, region: &Region) -> Vec<NamedReservation> {
        let here = self.reservation.iter().filter(|r| r.capacity.region == *region);
        here.map(|r| NamedReservation { id: r.id.clone(), price_per_hour: r.price_per_hour }).collect()
    }

    /// The reservation as EC2 describes it while ours use `used` of its machines.
    pub fn describe(&self, ids: &[ReservationId], used: i64, now: Timestamp) -> Vec<CapacityReservation> {
        let asked = self.reservation.iter().filter(|r| ids.contains(&r.id));
        asked
            .map(|r| CapacityReservation {
                id: r.id.clone(),
                instance_type: r.capacity.instance_type.clone(),
                zone: r.capacity.zone.clone(),
                available: (r.machines - used).max(0),
                active: now < r.ends_at,
                ends_at: Some(r.ends_at),
            })
            .collect()
    }

    /// How the nodes of `region` share their GPUs.
    pub fn sharing(&self, region: &Region) -> GpuSharing {
        self.sharing.get(region).copied().unwrap_or_default()
    }

    /// Whether quotas leave some region with less than all it sells.
    pub fn is_tight(&self) -> bool {
        !self.quotas.is_empty()
    }

    /// Whether any node shares its GPUs.
    pub fn shares(&self) -> bool {
        !self.sharing.is_empty()
    }

    /// Scores of the question's types by zone: the share of their spot pools that have capacity now, give or take two.
    pub fn scores(&mut self, question: &ScoreQuestion, market: &SimMarket) -> Vec<PlacementScore> {
        if !self.scored {
            return Vec::new();
        }
        let mut by_zone: BTreeMap<(&Region, &ZoneId), (i64, i64)> = BTreeMap::new();
        for (index, capacity) in market.pools.iter().map(|p| &p.capacity).enumerate() {
            let asked = question.types.contains(&capacity.instance_type) && question.regions.contains(&capacity.region);
            if asked && capacity.capacity_type == CapacityType::Spot {
                let (up, all) = by_zone.entry((&capacity.region, &capacity.zone)).or_default();
                (*up, *all) = (*up + i64::from(market.size(index) > 0), *all + 1);
            }
        }
        let mut score = |((region, zone), (up, all)): ((&Region, &ZoneId), (i64, i64))| {
            let score = (2 + 7 * up / all.max(1) + self.of_scores.between(-2, 2)).clamp(1, 10);
            PlacementScore { region: region.clone(), zone: Some(zone.clone()), score: u8::try_from(score).unwrap_or(1) }
        };
        by_zone.into_iter().map(&mut score).collect()
    }
}

/// Tight for spot everywhere and for on-demand everywhere but in the last region; of some, others use a part that Service Quotas does not
/// tell.
fn draw_quotas(seed: u64, market: &SimMarket) -> BTreeMap<QuotaKey, Quota> {
    let mut chance = Chance::new(seed, "quotas");
    if !chance.happens(TIGHT_PER_MILLE) {
        return BTreeMap::new();
    }
    let mut quotas = BTreeMap::new();
    for region in market.regions() {
        for capacity_type in [CapacityType::Spot, CapacityType::OnDemand] {
            let open = capacity_type == CapacityType::OnDemand && Some(region) == market.regions().last();
            let vcpus = if open { PLENTY } else { 4 * chance.between(0, 6) };
            let others = if !open && chance.happens(300) { 4 * chance.below(vcpus / 4 + 1) } else { 0 };
            quotas.insert(QuotaKey { region: region.clone(), family: QuotaFamily::GAndVt, capacity_type }, Quota { vcpus, others });
        }
    }
    quotas
}

/// One to three small machines somewhere, for one and a half to five and a half days.
fn draw_reservation(seed: u64, market: &SimMarket, now: Timestamp) -> Option<Reservation> {
    let mut chance = Chance::new(seed, "reservation");
    if !chance.happens(RESERVED_PER_MILLE) {
        return None;
    }
    let (region, zone) = *chance.one_of(&ZONES)?;
    let instance_type = chance.one_of(&["g6.xlarge", "g6.2xlarge", "g6e.xlarge"])?;
    let of_it = |capacity: &Capacity| capacity.zone.as_str() == zone && capacity.instance_type.as_str() == *instance_type;
    let sold = market.pools.iter().map(|p| &p.capacity).find(|capacity| capacity.region.as_str() == region && of_it(capacity))?;
    Some(Reservation {
        id: ReservationId::from("cr-00000000000000001"),
        capacity: Capacity { capacity_type: CapacityType::Reserved, ..sold.clone() },
        machines: chance.between(1, 3),
        price_per_hour: MicroUsdPerHour(100_000 * chance.between(0, 4)),
        ends_at: now + chance.span(Millis::from_hours(36), Millis::from_hours(132)),
    })
}

/// Time slices or MPS, in every region but the last. No type that is sold here can be cut by MIG.
fn draw_sharing(seed: u64, market: &SimMarket) -> BTreeMap<Region, GpuSharing> {
    let mut chance = Chance::new(seed, "sharing");
    if !chance.happens(SHARED_PER_MILLE) {
        return BTreeMap::new();
    }
    let mut shared = BTreeMap::new();
    for region in market.regions().iter().rev().skip(1) {
        let replicas = chance.between(2, 4);
        let sharing = if chance.happens(500) { Sharing::TimeSlicing { replicas } } else { Sharing::Mps { replicas } };
        if chance.happens(700) {
            shared.insert(region.clone(), GpuSharing { sharing, context_reserve: Mebibytes(500) });
        }
    }
    shared
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(seed: u64) -> Account {
        let (market, _) = SimMarket::open(seed, Timestamp(0));
        Account::open(seed, &market, Timestamp(0))
    }

    #[test]
    fn a_share_of_accounts_has_each_limit_and_the_last_region_stays_open() {
        let accounts: Vec<Account> = (0..400).map(opened).collect();
        let share = |of: fn(&Account) -> bool| accounts.iter().filter(|a| of(a)).count();
        assert!((90..150).contains(&share(|a| !a.quotas.is_empty())), "{}", share(|a| !a.quotas.is_empty()));
        assert!((70..130).contains(&share(|a| a.reservation.is_some())));
        assert!((160..240).contains(&share(|a| a.scored)));
        assert!((30..90).contains(&share(Account::shares)));
        let last = Region::from("us-east-2");
        assert!(accounts.iter().all(|a| !a.sharing(&last).is_shared()));
        let open = |a: &Account| a.quotas(&last).iter().all(|q| q.capacity_type != CapacityType::OnDemand || q.vcpus == PLENTY);
        assert!(accounts.iter().all(open));
    }

    #[test]
    fn scores_follow_capacity_roughly() {
        let (mut up, mut down) = (Vec::new(), Vec::new());
        for seed in 0..200 {
            let (market, _) = SimMarket::open(seed, Timestamp(0));
            let mut account = Account::open(seed, &market, Timestamp(0));
            let types = ["g6.12xlarge", "g6.2xlarge", "g6.xlarge"].map(Into::into).to_vec();
            let question = ScoreQuestion { types, instances: 1, regions: market.regions().to_vec(), by_zone: true };
            for score in account.scores(&question, &market) {
                let of_it = |p: &Capacity| Some(&p.zone) == score.zone.as_ref() && question.types.contains(&p.instance_type);
                let spot =
                    market.pools.iter().enumerate().filter(|(_, p)| of_it(&p.capacity) && p.capacity.capacity_type == CapacityType::Spot);
                let have = spot.filter(|(index, _)| market.size(*index) > 0).count();
                if have == 3 {
                    up.push(i64::from(score.score))
                } else if have == 0 {
                    down.push(i64::from(score.score))
                }
            }
        }
        let mean = |scores: &[i64]| scores.iter().sum::<i64>() * 10 / scores.len().max(1) as i64;
        assert!(mean(&up) > 80 && mean(&down) < 30, "{} and {}", mean(&up), mean(&down));
    }
}
