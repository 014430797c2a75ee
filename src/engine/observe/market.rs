//! The loops that keep offers fresh: types and zones, spot prices and list prices, one region each, so that one slow region delays no
//! other.
//!
//! Decides: nothing; EC2's answers are kept with the time of the request.
//!
//! Each region has its own pace (see [`crate::core::units::pace`]) and its own token bucket at EC2: a read of spot prices is one call out
//! of a burst of 100 and 20 per second. The Price List API is one for all regions, and slow: its own loop, so that no spot price waits for
//! it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tracing::{info, warn};

use crate::core::market::catalog::MachineType;
use crate::core::market::shipped::{AdvisorBand, snapshot_bands};
use crate::core::market::{Capacity, CapacityType, Market, Offer, Quote};
use crate::core::units::ids::{InstanceType, Region, ZoneId};
use crate::core::units::money::MicroUsdPerHour;
use crate::core::units::pace::jittered;
use crate::core::units::shared::Shared;
use crate::core::units::time::{Millis, Timestamp};
use crate::engine::driver::Engine;
use crate::ports::{Clock, Cloud, CloudError, Cluster, ClusterView, Ledger};

/// After a failed read, the next one follows this soon at first, and eventually a minute later.
pub(in crate::engine) const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(60);
pub(in crate::engine) fn later(retry: Duration) -> Duration {
    (retry * 2).min(LAST_RETRY)
}

/// What is sold where in one region.
#[derive(Debug, Clone)]
pub struct Shop {
    offerings: Shared<Vec<(InstanceType, ZoneId)>>,
    types: Shared<Vec<InstanceType>>,
    /// Expected interruptions per million instance-hours, from the advisor's bands; an unknown type counts as the worst.
    advised: Shared<BTreeMap<InstanceType, i64>>,
    read_at: Timestamp,
    /// When spot prices were last read successfully: the next request starts there, so that no change is missed.
    priced_at: Option<Timestamp>,
    /// Since when they are known without a gap.
    priced_from: Option<Timestamp>,
}

impl Shop {
    /// From when on prices are asked for, if they are needed since `needed`: a machine may be adopted that is older than the first look.
    fn asks_from(&self, needed: Timestamp) -> Timestamp {
        match (self.priced_at, self.priced_from) {
            (Some(at), Some(from)) if from <= needed => at,
            (Some(at), _) => needed.min(at),
            (None, _) => needed,
        }
    }

    /// Prices were read at `at`, from `since` on.
    fn was_priced(&mut self, since: Timestamp, at: Timestamp) {
        self.priced_at = Some(at);
        self.priced_from = Some(self.priced_from.map_or(since, |from| from.min(since)));
    }
}

/// After a start, prices are read as far back as machines may still wait for the price of an hour.
const LOOKS_BACK: Millis = Millis::from_hours(72);

impl<C: Cloud, K: Cluster, L: Ledger, T: Clock + 'static> Engine<C, K, L, T> {
    /// The pause before the next read of `what`.
    pub(in crate::engine) fn pace(&self, period: Duration, what: &str, round: u64) -> Duration {
        let period = Millis(i64::try_from(period.as_millis()).unwrap_or(i64::MAX / 1_000));
        Duration::from_millis(u64::try_from(jittered(period, &self.cluster_name, what, round).0).unwrap_or(1_000))
    }

    /// What is left of a pause that counts from when the read `began`: a slow answer makes no price older.
    fn rest_of(&self, pause: Duration, began: Timestamp) -> Duration {
        let took = u64::try_from(self.clock.now().since(began).0).unwrap_or(0);
        pause.saturating_sub(Duration::from_millis(took))
    }

    /// Keeps types, zones and spot prices of a region fresh.
    pub(in crate::engine) async fn watch_spot_prices(self: Arc<Self>, region: Region) {
        let (mut retry, mut round) = (FIRST_RETRY, 0);
        loop {
            round += 1;
            let began = self.clock.now();
            let pause = match self.look_at_spot_prices(&region).await {
                Ok(count) => {
                    if retry != FIRST_RETRY {
                        info!(%region, count, "spot prices are fresh again");
                    }
                    retry = FIRST_RETRY;
                    self.wake.notify_one();
                    self.rest_of(self.pace(self.intervals.spot_prices, region.as_str(), round), began)
                }
                Err(error) => match error.closes_region() {
                    Some(sentence) => {
                        self.close_region(&region, sentence);
                        self.intervals.closed_regions
                    }
                    None => {
                        warn!(%region, "spot prices could not be read, the last ones are kept: {error}");
                        let pause = retry;
                        retry = later(retry);
                        pause
                    }
                },
            };
            tokio::time::sleep(pause).await;
        }
    }

    /// Keeps list prices of a region fresh, once what is sold there is known.
    pub(in crate::engine) async fn watch_list_prices(self: Arc<Self>, region: Region) {
        let (mut retry, mut round) = (FIRST_RETRY, 0);
        loop {
            round += 1;
            let Some(shop) = self.state().shops.get(&region).cloned() else {
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let began = self.clock.now();
            let pause = match self.ask("list-prices", self.cloud.on_demand_quotes(&region, &shop.types)).await {
                Ok(quotes) => {
                    retry = FIRST_RETRY;
                    self.take_list_prices(&region, &shop, &quotes, began);
                    self.wake.notify_one();
                    self.rest_of(self.pace(self.intervals.list_prices, &format!("list {region}"), round), began)
                }
                Err(error) => {
                    warn!(%region, "list prices could not be read, the last ones are kept: {error}");
                    let pause = retry;
                    retry = later(retry);
                    pause
                }
            };
            tokio::time::sleep(pause).await;
        }
    }

    fn close_region(&self, region: &Region, sentence: &str) {
        let mut state = self.state();
        if state.closed_regions.insert(region.clone(), sentence.to_owned()).is_none() {
            warn!(%region, "this account may not use the region, it is skipped and retried every {:?}: {sentence}", self.intervals.closed_regions);
        }
        state.market.offers.retain(|capacity, _| capacity.region != *region);
        if let Some(survey) = state.surveys.get_mut(region) {
            (survey.spot, survey.list) = (true, true);
        }
        drop(state);
        self.wake.notify_one();
    }

    async fn look_at_spot_prices(&self, region: &Region) -> Result<usize, CloudError> {
        let now = self.clock.now();
        let known = self.state().shops.get(region).cloned();
        let fresh = |s: &Shop| now.since(s.read_at).0 <= i64::try_from(self.intervals.catalog.as_millis()).unwrap_or(i64::MAX);
        let shop = match known.filter(fresh) {
            Some(shop) => shop,
            None => self.look_at_shop(region).await?,
        };
        let began = self.clock.now();
        let ahead = self.cloud.ahead();
        let since = shop.asks_from(self.prices_needed_since(region, asked_at(began, [ahead, None])));
        let quotes = self.ask("spot-prices", self.cloud.spot_quotes(region, &shop.types, since)).await?;
        let asked_at = asked_at(began, [ahead, self.cloud.ahead()]);
        let mut state = self.state();
        if let Some(shop) = state.shops.get_mut(region) {
            shop.was_priced(since, asked_at);
        }
        learn_prices(&mut state.market, &quotes, asked_at);
        if state.closed_regions.remove(region).is_some() {
            info!(%region, "the region is usable again");
        }
        if let Some(survey) = state.surveys.get_mut(region) {
            survey.spot = true;
        }
        let offers = spot_offers(region, &shop, &quotes, began);
        state.market.offers.retain(|capacity, _| capacity.region != *region || capacity.capacity_type != CapacityType::Spot);
        let count = offers.len();
        state.market.offers.extend(offers.into_iter().map(|offer| (offer.capacity.clone(), offer)));
        state.price_changes.see(&quotes);
        Ok(count)
    }

    /// Since when the prices of `region` are needed.
    fn prices_needed_since(&self, region: &Region, now: Timestamp) -> Timestamp {
        prices_needed_since(&self.cluster.view().unwrap_or_default(), region, now)
    }

    async fn look_at_shop(&self, region: &Region) -> Result<Shop, CloudError> {
        let (machines, shop) = self.ask("types", read_shop(&*self.cloud, &*self.clock, region)).await?;
        let mut state = self.state();
        let (priced_at, priced_from) = state.shops.get(region).map_or((None, None), |known| (known.priced_at, known.priced_from));
        let shop = Shop { priced_at, priced_from, ..shop };
        state.catalog.types.extend(machines.into_iter().map(|m| (m.instance_type.clone(), m)));
        state.shops.insert(region.clone(), shop.clone());
        Ok(shop)
    }

    /// A price that this read did not confirm keeps its age, until it is too old to buy at.
    fn take_list_prices(&self, region: &Region, shop: &Shop, quotes: &[Quote], began: Timestamp) {
        let mut state = self.state();
        if let Some(survey) = state.surveys.get_mut(region) {
            survey.list = true;
        }
        let offers = on_demand_offers(region, shop, quotes, began);
        let sold: BTreeSet<&(InstanceType, ZoneId)> = shop.offerings.iter().collect();
        state.market.offers.retain(|capacity, _| {
            let other = capacity.region != *region || capacity.capacity_type != CapacityType::OnDemand;
            other || sold.contains(&(capacity.instance_type.clone(), capacity.zone.clone()))
        });
        state.market.offers.extend(offers.into_iter().map(|offer| (offer.capacity.clone(), offer)));
        state.price_changes.see(quotes);
    }
}

/// The launch of the oldest machine in `region`, within bounds: the price of each of its hours may still have to be recorded. A claim that
/// cannot be read may be older than all others, wherever its machine is; once it can be read nobody looks back again.
fn prices_needed_since(view: &ClusterView, region: &Region, now: Timestamp) -> Timestamp {
    if !view.unreadable_claims.is_empty() {
        return now - LOOKS_BACK;
    }
    let launched = view.claims.values().filter(|c| c.spec.capacity.region == *region).filter_map(|c| c.status.launched_at).min();
    launched.map_or(now, |at| (at - Millis::from_mins(1)).max(now - LOOKS_BACK))
}

/// When EC2 was asked, by its own clock, and no later: machines are launched and prices change by it, and a price that changed after the answer must not
/// be thought unchanged. Whole seconds are all that is known of it, and a jump of our clock may be known only with the answer.
fn asked_at(began: Timestamp, ahead: [Option<Millis>; 2]) -> Timestamp {
    began + ahead.into_iter().flatten().min().unwrap_or(Millis::ZERO) - Millis::from_secs(2)
}

/// Keeps the changes of each pool.
fn learn_prices(market: &mut Market, spot: &[Quote], asked_at: Timestamp) {
    let mut by_pool: BTreeMap<Capacity, Vec<(Timestamp, MicroUsdPerHour)>> = BTreeMap::new();
    for quote in spot {
        let Some(zone) = quote.zone.clone() else { continue };
        let (region, instance_type, capacity_type) = (quote.region.clone(), quote.instance_type.clone(), quote.capacity_type);
        let changes = by_pool.entry(Capacity { region, zone, instance_type, capacity_type }).or_default();
        changes.push((quote.effective_from, quote.price_per_hour));
    }
    for (pool, changes) in by_pool {
        market.past_prices.entry(pool).or_default().learn(changes, asked_at);
    }
}

/// The market of one region, read once.
#[derive(Debug, Clone, Default)]
pub struct RegionMarket {
    /// NVIDIA types that the region knows.
    pub machines: Vec<MachineType>,
    /// Spot and on-demand offers.
    pub offers: Vec<Offer>,
}

/// Reads the market of `region` once, as the loops do over and over.
///
/// # Errors
/// The first request that EC2 or the price list did not answer.
pub async fn read_market<C: Cloud>(cloud: &C, clock: &impl Clock, region: &Region) -> Result<RegionMarket, CloudError> {
    let (machines, shop) = read_shop(cloud, clock, region).await?;
    let began = clock.now();
    let spot = cloud.spot_quotes(region, &shop.types, began).await?;
    let listed = cloud.on_demand_quotes(region, &shop.types).await?;
    let mut offers = spot_offers(region, &shop, &spot, began);
    offers.extend(on_demand_offers(region, &shop, &listed, began));
    Ok(RegionMarket { machines, offers })
}

async fn read_shop<C: Cloud>(cloud: &C, clock: &impl Clock, region: &Region) -> Result<(Vec<MachineType>, Shop), CloudError> {
    let read_at = clock.now();
    let machines = cloud.machine_types(region).await?;
    let offerings = cloud.offerings(region).await?;
    let bands = snapshot_bands().iter().filter(|((of, _), _)| of == region);
    let advised = bands.map(|((_, instance_type), band)| (instance_type.clone(), band.interruptions_per_million_hours())).collect();
    let types = machines.iter().map(|m| m.instance_type.clone()).collect();
    Ok((machines, Shop { offerings: offerings.into(), types, advised, read_at, priced_at: None, priced_from: None }))
}

fn offer(region: &Region, quote: &Quote, zone: &ZoneId, observed_at: Timestamp) -> Offer {
    Offer {
        capacity: Capacity {
            region: region.clone(),
            zone: zone.clone(),
            instance_type: quote.instance_type.clone(),
            capacity_type: quote.capacity_type,
        },
        price_per_hour: quote.price_per_hour,
        observed_at,
        source: quote.source,
        interruptions_per_million_hours: 0,
    }
}

/// One offer per pool that has a spot price, where its type is sold.
fn spot_offers(region: &Region, shop: &Shop, quotes: &[Quote], now: Timestamp) -> Vec<Offer> {
    let sold: BTreeSet<&(InstanceType, ZoneId)> = shop.offerings.iter().collect();
    let worst = AdvisorBand::Over20.interruptions_per_million_hours();
    let of = |quote: &Quote| {
        let zone = quote.zone.as_ref().filter(|zone| sold.contains(&(quote.instance_type.clone(), (*zone).clone())))?;
        let plain = offer(region, quote, zone, now);
        let interruptions_per_million_hours = shop.advised.get(&quote.instance_type).copied().unwrap_or(worst);
        Some(Offer { interruptions_per_million_hours, ..plain })
    };
    // Of several changes of a pool the last one counts.
    let mut latest: BTreeMap<(&InstanceType, Option<&ZoneId>), &Quote> = BTreeMap::new();
    for quote in quotes.iter().filter(|q| q.capacity_type == CapacityType::Spot) {
        let newest = latest.entry((&quote.instance_type, quote.zone.as_ref())).or_insert(quote);
        if quote.effective_from > newest.effective_from {
            *newest = quote;
        }
    }
    latest.into_values().filter_map(of).collect()
}

/// A list price applies to a whole region: each zone that sells the type has it. Local Zones have prices of their own, which the region's
/// price list does not contain: there on-demand stays unknown.
fn on_demand_offers(region: &Region, shop: &Shop, quotes: &[Quote], now: Timestamp) -> Vec<Offer> {
    let mut offers = Vec::new();
    for quote in quotes.iter().filter(|q| q.capacity_type == CapacityType::OnDemand) {
        let zones = shop.offerings.iter().filter(|(t, zone)| *t == quote.instance_type && !zone.is_local()).map(|(_, zone)| zone);
        offers.extend(zones.map(|zone| offer(region, quote, zone, now)));
    }
    offers
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::market::PriceSource;

    fn quote(zone: Option<&str>, capacity_type: CapacityType) -> Quote {
        Quote {
            region: "us-east-1".into(),
            zone: zone.map(ZoneId::from),
            instance_type: "p5.48xlarge".into(),
            capacity_type,
            price_per_hour: MicroUsdPerHour(10_240_000),
            effective_from: Timestamp(0),
            source: PriceSource::SpotPriceHistory,
        }
    }

    /// A machine that was launched after the answer, at a price that has changed since, would cost what it does not.
    #[test]
    fn a_price_is_known_up_to_when_ec2_was_asked_by_its_own_clock() {
        let (pool, launched) = (quote(Some("use1-az4"), CapacityType::Spot), Timestamp(0) + Millis::from_mins(60));
        let (before, ahead) = (launched - Millis::from_secs(30), Millis::from_mins(-4));
        for known in [[Some(ahead), Some(ahead)], [Some(Millis::ZERO), Some(ahead)], [None, Some(ahead)], [Some(ahead), Some(Millis::ZERO)]]
        {
            let mut market = Market::default();
            learn_prices(&mut market, std::slice::from_ref(&pool), asked_at(before - ahead, known));
            let past = market.past_prices.values().next().unwrap();
            assert_eq!(past.at(launched), None, "{known:?}");
            assert_eq!(past.at(launched - Millis::from_mins(1)), Some(pool.price_per_hour), "{known:?}");
        }
    }

    #[test]
    fn a_local_zone_has_its_spot_price_and_not_the_regions_list_price() {
        let sold = |zone: &str| (InstanceType::from("p5.48xlarge"), ZoneId::from(zone));
        let offerings = vec![sold("use1-az4"), sold("use1-atl2-az1")].into();
        let types = vec!["p5.48xlarge".into()].into();
        let shop = Shop { offerings, types, advised: Shared::default(), read_at: Timestamp(0), priced_at: None, priced_from: None };
        let zones = |offers: Vec<Offer>| offers.iter().map(|o| o.capacity.zone.to_string()).collect::<Vec<_>>();
        let spot = [Some("use1-az4"), Some("use1-atl2-az1"), Some("use1-az9")].map(|zone| quote(zone, CapacityType::Spot));
        let offers = spot_offers(&"us-east-1".into(), &shop, &spot, Timestamp(7));
        assert_eq!(offers[0].interruptions_per_million_hours, 1_370, "unknown to the advisor is the worst band");
        assert_eq!(zones(offers), ["use1-atl2-az1", "use1-az4"]);
        let listed = [quote(None, CapacityType::OnDemand)];
        assert_eq!(zones(on_demand_offers(&"us-east-1".into(), &shop, &listed, Timestamp(7))), ["use1-az4"]);
    }

    #[test]
    fn an_adopted_machine_brings_the_prices_from_before_the_first_look() {
        let (types, offerings, advised) = (Vec::new().into(), Vec::new().into(), Shared::default());
        let mut shop = Shop { offerings, types, advised, read_at: Timestamp(0), priced_at: None, priced_from: None };
        let at = |hours: i64| Timestamp(0) + Millis::from_hours(hours);
        assert_eq!(shop.asks_from(at(100)), at(100), "the first look, without machines");
        shop.was_priced(at(100), at(100));
        assert_eq!(shop.asks_from(at(101)), at(100), "and what changed since");
        shop.was_priced(at(100), at(101));
        assert_eq!(shop.asks_from(at(60)), at(60), "a machine of 60 was adopted");
        shop.was_priced(at(60), at(102));
        assert_eq!(shop.asks_from(at(60)), at(102), "once is enough");
    }

    #[test]
    fn a_claim_that_cannot_be_read_may_be_older_than_all_that_can() {
        let (now, region) = (Timestamp(1_784_555_070_000), Region::from("us-east-1"));
        let mut view = ClusterView::default();
        assert_eq!(prices_needed_since(&view, &region, now), now, "without machines nothing past is needed");
        let (name, uid) = (crate::core::units::ids::ClaimName::from("lt-1"), "uid-1".into());
        let unread = crate::core::fleet::UnreadableClaim { name: name.clone(), uid, instance: None, fault: "of tomorrow".into() };
        view.unreadable_claims.insert(name, unread);
        assert_eq!(prices_needed_since(&view, &region, now), now - LOOKS_BACK);
    }
}
