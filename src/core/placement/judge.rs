//! All offers evaluated for one need: the chosen one, and one reason for every other.
//!
//! Decides: what a decision records about the offers it beat.
//! Does not: pack several needs together (see `place`).

use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

use crate::core::market::{Capacity, Offer};
use crate::core::record::{JudgedOffer, Judgement, Refusal};
use crate::core::workload::need::Need;

use super::eligibility::{Wants, egress_per_replica, list, listings_of, replicas_that_fit};
use super::listing::Listing;
use super::request::{Demand, PlacementRequest, PlacementSettings, PoolPolicy};
use super::score::{Score, unavailability};

/// How many refused offers a judgement lists.
pub const BEST_REFUSED: usize = 20;

/// Judges every offer for one replica of `need` under `pool`: the best by [`Score`] is chosen.
pub fn judge(request: &PlacementRequest, need: &Need, pool: &PoolPolicy) -> Judgement {
    judge_chosen(request, need, pool, None)
}

/// Like [`judge`], with `chosen` as the offer taken: the one that is best for all demands together may not be the best for this need alone.
///
/// A `chosen` that may not be bought for this need is not taken; the best one is taken instead.
pub fn judge_chosen(request: &PlacementRequest, need: &Need, pool: &PoolPolicy, chosen: Option<&Capacity>) -> Judgement {
    judge_listed(request, &Wants::new(request, need), &listings_of(request, pool), chosen)
}

/// Like [`judge_chosen`], for a demand and its restrictions.
pub fn judge_demand(request: &PlacementRequest, demand: &Demand, pool: &PoolPolicy, chosen: Option<&Capacity>) -> Judgement {
    let wants = Wants {
        falls_back: demand.falls_back,
        buy_only: demand.buy_only.as_deref(),
        apart: Some(&demand.apart),
        ..Wants::new(request, &demand.need)
    };
    judge_listed(request, &wants, &listings_of(request, pool), chosen)
}

/// An offer that fits a need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ranked<'a> {
    /// Its score.
    pub score: Score,
    /// How many replicas one machine holds.
    pub replicas: i64,
    /// The offer.
    pub offer: &'a Offer,
    /// EC2's spot placement score, where one is known.
    pub placement_score: Option<u8>,
}

/// Every offer that may serve `need` under `pool`, best first.
pub fn rank<'a>(request: &PlacementRequest<'a>, need: &Need, pool: &PoolPolicy) -> Vec<Ranked<'a>> {
    let wants = Wants::new(request, need);
    let fits = |listing: Listing<'a>| {
        let replicas = wants.judge(&listing).ok()?;
        let score = score(&listing, &wants, replicas, request.settings);
        Some(Ranked { score, replicas, offer: listing.offer, placement_score: listing.placement_score })
    };
    let mut ranked: Vec<Ranked> = list(request, pool).into_iter().filter_map(fits).collect();
    ranked.sort_by(|a, b| a.score.cmp(&b.score));
    ranked
}

/// The score of `listing` for the need of `wants`, of which `replicas` fit.
pub(super) fn score(listing: &Listing, wants: &Wants, replicas: i64, settings: &PlacementSettings) -> Score {
    let egress = egress_per_replica(wants.need, &listing.offer.capacity.region, settings);
    let machine = i128::from(listing.cost.0) * 1_000;
    Score {
        nano_usd_per_replica_hour: machine / i128::from(replicas.max(1)) + i128::from(egress.0) * 1_000,
        unmet_preferences: wants.unmet(listing),
        interruptions_per_million_hours: listing.interruptions_per_million_hours,
        unavailability: unavailability(listing.placement_score),
        price_per_hour: listing.offer.price_per_hour,
        capacity: listing.offer.capacity.clone(),
    }
}

/// Judges listed offers; `wants` may carry restrictions that the plan added.
pub(super) fn judge_listed(request: &PlacementRequest, wants: &Wants, listings: &[Listing], chosen: Option<&Capacity>) -> Judgement {
    let mut hasher = Sha256::new();
    let mut refused: BTreeMap<Refusal, u32> = BTreeMap::new();
    let mut fitting = Vec::new();
    let mut others = Vec::new();
    for (index, listing) in listings.iter().enumerate() {
        let verdict = wants.judge(listing);
        hash_offer(&mut hasher, listing, verdict);
        match verdict {
            Ok(replicas) => fitting.push((score(listing, wants, replicas, request.settings), index)),
            Err(reason) => {
                *refused.entry(reason).or_default() += 1;
                others.push((index, reason));
            }
        }
    }
    fitting.sort();
    let taken = chosen.and_then(|pool| fitting.iter().position(|(s, _)| s.capacity == *pool)).unwrap_or(0);
    let chosen = (!fitting.is_empty()).then(|| fitting.remove(taken));
    if !fitting.is_empty() {
        refused.insert(Refusal::MoreExpensive, u32::try_from(fitting.len()).unwrap_or(u32::MAX));
    }
    let describe = |index: usize, refusal: Option<Refusal>| described(request, wants, &listings[index], refusal);
    let mut best: Vec<JudgedOffer> = fitting.iter().take(BEST_REFUSED).map(|(_, i)| describe(*i, Some(Refusal::MoreExpensive))).collect();
    best.extend(cheapest_of_each_reason(listings, others, BEST_REFUSED - best.len()).into_iter().map(|(i, r)| describe(i, Some(r))));
    best.sort_by(|a, b| (a.price_per_hour, &a.capacity).cmp(&(b.price_per_hour, &b.capacity)));
    Judgement { chosen: chosen.map(|(_, index)| describe(index, None)), best_refused: best, refused, offers_hash: hex(&hasher.finalize()) }
}

/// The cheapest offers among `refused`, taking the best of each reason in turn so that no reason is missing.
fn cheapest_of_each_reason(listings: &[Listing], refused: Vec<(usize, Refusal)>, most: usize) -> Vec<(usize, Refusal)> {
    let mut by_reason: BTreeMap<Refusal, Vec<usize>> = BTreeMap::new();
    for (index, reason) in refused {
        by_reason.entry(reason).or_default().push(index);
    }
    let mut ranked = Vec::new();
    for (reason, mut indices) in by_reason {
        let key = |i: &usize| (listings[*i].offer.price_per_hour, *i);
        if indices.len() > most && most > 0 {
            indices.select_nth_unstable_by_key(most - 1, key);
            indices.truncate(most);
        }
        indices.sort_by_key(key);
        ranked.extend(indices.into_iter().enumerate().map(|(rank, index)| (rank, reason, index)));
    }
    ranked.sort_unstable();
    ranked.into_iter().take(most).map(|(_, reason, index)| (index, reason)).collect()
}

fn described(request: &PlacementRequest, wants: &Wants, listing: &Listing, refusal: Option<Refusal>) -> JudgedOffer {
    let replicas = replicas_that_fit(wants.need, &listing.usable);
    JudgedOffer {
        capacity: listing.offer.capacity.clone(),
        price_per_hour: listing.offer.price_per_hour,
        cost_per_replica_hour: (replicas > 0).then(|| score(listing, wants, replicas, request.settings).cost_per_replica_hour()),
        replicas,
        price_age: request.now.since(listing.offer.observed_at),
        source: listing.offer.source,
        interruptions_per_million_hours: listing.interruptions_per_million_hours,
        placement_score: listing.placement_score,
        unmet_preferences: wants.unmet(listing),
        refusal,
    }
}

/// One offer's line in the hash: what it is, its price, when that was observed, and the verdict. Fields end in a byte that no name
/// contains.
fn hash_offer(hasher: &mut Sha256, listing: &Listing, verdict: Result<i64, Refusal>) {
    let offer = listing.offer;
    for name in [offer.capacity.region.as_str(), offer.capacity.zone.as_str(), offer.capacity.instance_type.as_str()] {
        hasher.update(name.as_bytes());
        hasher.update([0xff]);
    }
    let mut line = [0_u8; 26];
    line[0] = offer.capacity.capacity_type as u8;
    line[1..9].copy_from_slice(&offer.price_per_hour.0.to_be_bytes());
    line[9..17].copy_from_slice(&offer.observed_at.0.to_be_bytes());
    let (code, replicas) = match verdict {
        Ok(replicas) => (0xfe, replicas),
        Err(reason) => (reason as u8, 0),
    };
    line[17] = code;
    line[18..26].copy_from_slice(&replicas.to_be_bytes());
    hasher.update(line);
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
