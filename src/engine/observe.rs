//! The loops that keep prices, instances and notices fresh, one region each, so that one slow region holds up no other.
//!
//! Decides: nothing; what EC2 says is kept with the time it was said.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tracing::{info, warn};

use super::driver::Engine;
use super::ports::{Clock, Cloud, CloudError, Cluster, Ledger, NoticeKind, Quote};
use crate::core::ids::{InstanceType, Region, ZoneId};
use crate::core::market::{CapacityPool, CapacityType, Market, Offer};
use crate::core::market_snapshot::{AdvisorBand, snapshot_bands};
use crate::core::money::MicroUsdPerHour;
use crate::core::time::{Millis, Timestamp};
use crate::core::world::{Observed, PendingNotice};

/// After a failed look, the next one comes this soon at first, and at most a minute later in the end.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(60);

fn later(retry: Duration) -> Duration {
    (retry * 2).min(LAST_RETRY)
}

/// What is sold where in one region.
struct Shop {
    offerings: Vec<(InstanceType, ZoneId)>,
    types: Vec<InstanceType>,
    on_demand: Vec<Quote>,
    /// Expected interruptions per 1,000 instance-hours, from the advisor's bands; a type it does not know counts as the worst.
    advised: BTreeMap<InstanceType, i64>,
    read_at: Timestamp,
    /// When spot prices were last asked for: the next question begins there, so that no change is missed.
    asked_at: Option<Timestamp>,
}

/// After a start, prices are asked for as far back as machines may still wait for the price of an hour.
const LOOKS_BACK: Millis = Millis::from_hours(72);

impl<C: Cloud, K: Cluster, L: Ledger, T: Clock + 'static> Engine<C, K, L, T> {
    /// Keeps the offers of a region fresh.
    pub(super) async fn watch_market(self: Arc<Self>, region: Region) {
        let mut shop: Option<Shop> = None;
        let mut retry = FIRST_RETRY;
        loop {
            match self.look_at_market(&region, &mut shop).await {
                Ok(count) => {
                    if retry != FIRST_RETRY {
                        info!(%region, count, "prices are fresh again");
                    }
                    retry = FIRST_RETRY;
                    self.wake.notify_one();
                    tokio::time::sleep(self.schedule.spot_prices).await;
                }
                Err(error) => {
                    warn!(%region, "prices could not be read, the last ones age: {error}");
                    tokio::time::sleep(retry).await;
                    retry = later(retry);
                }
            }
        }
    }

    async fn look_at_market(&self, region: &Region, shop: &mut Option<Shop>) -> Result<usize, CloudError> {
        let now = self.clock.now();
        let stale = |s: &Shop| now.since(s.read_at).0 > i64::try_from(self.schedule.catalog.as_millis()).unwrap_or(i64::MAX);
        if shop.as_ref().is_none_or(stale) {
            let machines = self.cloud.machine_types(region).await?;
            let offerings = self.cloud.offerings(region).await?;
            let types: Vec<InstanceType> = machines.iter().map(|m| m.instance_type.clone()).collect();
            let on_demand = self.cloud.on_demand_quotes(region, &types).await?;
            let bands = snapshot_bands().into_iter().filter(|((of, _), _)| of == region);
            let advised = bands.map(|((_, instance_type), band)| (instance_type, band.interruptions_per_1000h())).collect();
            let mut state = self.state();
            state.catalog.types.extend(machines.into_iter().map(|m| (m.instance_type.clone(), m)));
            let asked_at = shop.as_ref().and_then(|known| known.asked_at);
            *shop = Some(Shop { offerings, types, on_demand, advised, read_at: now, asked_at });
        }
        let Some(shop) = shop else { return Ok(0) };
        let since = shop.asked_at.unwrap_or_else(|| self.prices_needed_since(region, now));
        let spot = self.cloud.spot_quotes(region, &shop.types, since).await?;
        shop.asked_at = Some(now);
        let offers = offers_of(region, shop, &spot, now);
        let mut state = self.state();
        learn_prices(&mut state.market, &spot, now);
        if let Some((_, read)) = state.surveys.get_mut(region) {
            *read = true;
        }
        state.market.offers.retain(|pool, _| pool.region != *region);
        let count = offers.len();
        state.market.offers.extend(offers.into_iter().map(|offer| (offer.pool.clone(), offer)));
        Ok(count)
    }

    /// The launch of the oldest machine in `region`, within bounds: the price of each of its hours may still have to be told.
    fn prices_needed_since(&self, region: &Region, now: Timestamp) -> Timestamp {
        let claims = self.cluster.view().map(|view| view.claims).unwrap_or_default();
        let launched = claims.values().filter(|c| c.spec.capacity.region == *region).filter_map(|c| c.status.launched_at).min();
        launched.map_or(now, |at| (at - Millis::from_mins(1)).max(now - LOOKS_BACK))
    }

    /// Keeps what EC2 says of our instances fresh.
    pub(super) async fn watch_instances(self: Arc<Self>, region: Region) {
        let mut retry = FIRST_RETRY;
        loop {
            let began = self.clock.now();
            match self.cloud.instances(&region, &self.cluster_name).await {
                Ok(seen) => {
                    retry = FIRST_RETRY;
                    let value: BTreeMap<_, _> = seen.into_iter().map(|i| (i.id.clone(), i)).collect();
                    let changed = {
                        let mut state = self.state();
                        let before = state.instances.insert(region.clone(), Observed::Known { at: began, value: value.clone() });
                        !matches!(before, Some(Observed::Known { value: old, .. }) if old == value)
                    };
                    if changed {
                        self.wake.notify_one();
                    }
                    tokio::select! {
                        biased;
                        () = tokio::time::sleep(self.schedule.instances) => {}
                        () = self.look_at_instances.notified() => tokio::time::sleep(Duration::from_millis(200)).await,
                    }
                }
                Err(error) => {
                    warn!(%region, "instances could not be read: {error}");
                    tokio::time::sleep(retry).await;
                    retry = later(retry);
                }
            }
        }
    }

    /// Takes messages off one interruption queue.
    pub(super) async fn watch_queue(self: Arc<Self>, region: Region, queue: String) {
        let mut retry = FIRST_RETRY;
        loop {
            match self.cloud.receive_notices(&region, &queue).await {
                Ok(messages) => {
                    retry = FIRST_RETRY;
                    for message in messages {
                        match message.content {
                            Ok(notice) => self.take_notice(notice, &queue, message.receipt),
                            Err(fault) => {
                                warn!(%region, queue, "{fault}; dropped");
                                if let Err(error) = self.cloud.acknowledge(&region, &queue, &message.receipt).await {
                                    warn!(%region, queue, "a malformed message could not be deleted: {error}");
                                }
                            }
                        }
                    }
                }
                Err(error) => {
                    warn!(%region, queue, "the interruption queue cannot be read, EC2's states are the net: {error}");
                    tokio::time::sleep(retry).await;
                    retry = later(retry);
                }
            }
        }
    }

    fn take_notice(&self, notice: super::ports::Notice, queue: &str, receipt: String) {
        let received_at = self.clock.now();
        info!(instance = %notice.instance, region = %notice.region, kind = ?notice.kind, "notice");
        if matches!(notice.kind, NoticeKind::StateChange(_)) {
            self.look_at_instances.notify_waiters();
        }
        let pending = PendingNotice { notice, received_at, queue: Some(queue.to_owned()), receipt: receipt.clone() };
        self.state().notices.insert(receipt, pending);
        self.wake.notify_one();
    }
}

/// Keeps the changes of each pool.
fn learn_prices(market: &mut Market, spot: &[Quote], asked_at: Timestamp) {
    let past = &mut *market.past_prices;
    let mut by_pool: BTreeMap<CapacityPool, Vec<(Timestamp, MicroUsdPerHour)>> = BTreeMap::new();
    for quote in spot {
        let Some(zone) = quote.zone.clone() else { continue };
        let (region, instance_type, capacity_type) = (quote.region.clone(), quote.instance_type.clone(), quote.capacity_type);
        let changes = by_pool.entry(CapacityPool { region, zone, instance_type, capacity_type }).or_default();
        changes.push((quote.effective_from, quote.price_per_hour));
    }
    for (pool, changes) in by_pool {
        past.entry(pool).or_default().learn(changes, asked_at);
    }
}

/// One offer per pool that has a price. On-demand prices hold in a whole region; a zone has them where the type is sold.
fn offers_of(region: &Region, shop: &Shop, spot: &[Quote], now: Timestamp) -> Vec<Offer> {
    let sold: BTreeSet<&(InstanceType, ZoneId)> = shop.offerings.iter().collect();
    let offer = |quote: &Quote, zone: &ZoneId| Offer {
        pool: CapacityPool {
            region: region.clone(),
            zone: zone.clone(),
            instance_type: quote.instance_type.clone(),
            capacity_type: quote.capacity_type,
        },
        price_per_hour: quote.price_per_hour,
        observed_at: now,
        source: quote.source,
        interruptions_per_1000h: match quote.capacity_type {
            CapacityType::Spot => {
                shop.advised.get(&quote.instance_type).copied().unwrap_or_else(|| AdvisorBand::Over20.interruptions_per_1000h())
            }
            CapacityType::OnDemand | CapacityType::Reserved => 0,
        },
    };
    let mut offers = Vec::new();
    // Of several changes of a pool the last one holds.
    let mut latest: BTreeMap<(&InstanceType, Option<&ZoneId>), &Quote> = BTreeMap::new();
    for quote in spot.iter().filter(|q| q.capacity_type == CapacityType::Spot) {
        let newest = latest.entry((&quote.instance_type, quote.zone.as_ref())).or_insert(quote);
        if quote.effective_from > newest.effective_from {
            *newest = quote;
        }
    }
    for quote in latest.into_values() {
        if let Some(zone) = quote.zone.as_ref().filter(|zone| sold.contains(&(quote.instance_type.clone(), (*zone).clone()))) {
            offers.push(offer(quote, zone));
        }
    }
    for quote in &shop.on_demand {
        let zones = shop.offerings.iter().filter(|(t, _)| *t == quote.instance_type).map(|(_, zone)| zone);
        offers.extend(zones.map(|zone| offer(quote, zone)));
    }
    offers
}
