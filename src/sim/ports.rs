//! The four ports of the simulated world, as one operator holds them.
//!
//! Decides: how a call meets its fate: it waits, is refused, takes effect and is not reported, or the process ends before or after it.
//! Does not: know what calls do (the world does).

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, mpsc};

use super::faults::{Fate, Port};
use super::market::CapacityMarket;
use super::planted::PlantedBug;
use super::world::World;
use crate::core::action::ClusterAction;
use crate::core::fleet::{ClaimsNow, FoundImage, ImageSource, Instance, Launch, LaunchTemplate, ScheduledEvent};
use crate::core::market::catalog::{Architecture, MachineType};
use crate::core::market::quota::VcpuQuota;
use crate::core::market::reservation::CapacityReservation;
use crate::core::market::scores::{PlacementScore, ScoreQuestion};
use crate::core::market::{CapacityType, PriceSource, Quote};
use crate::core::record::LedgerRecord;
use crate::core::snapshot::Lane;
use crate::core::units::ids::{InstanceId, InstanceType, Region, ReservationId, ZoneId};
use crate::core::units::money::MicroUsdPerHour;
use crate::core::units::time::{Millis, Timestamp};
use crate::ports::{Applied, Clock, Cloud, CloudError, Cluster, ClusterError, ClusterView, Ledger, LedgerUnavailable, QueueMessage};

/// The world, shared by everybody in it.
pub type Shared = Arc<Mutex<World>>;

/// SQS waits 20 s at most; histories are long, and a message ends the wait anyway.
const LONG_POLL: Millis = Millis::from_mins(5);

/// Locks the world. A panic elsewhere ends the run anyway.
pub fn lock(world: &Shared) -> MutexGuard<'_, World> {
    world.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What one operator's process holds of the world.
#[derive(Clone)]
pub struct Hold {
    /// The world.
    pub world: Shared,
    /// Which process this is, for the history.
    pub operator: u32,
    /// Where it says that it ended.
    pub deaths: mpsc::UnboundedSender<u32>,
    /// How far its clock is off.
    pub skew: Arc<AtomicI64>,
    /// Woken when watches show something new.
    pub watcher: Arc<Notify>,
    /// Since when its watches have listed.
    pub lists_from: Timestamp,
    /// The mistake its calls make.
    pub planted: Option<PlantedBug>,
    /// It runs on an API server of its own, which is empty: the account is all that it shares.
    pub stranger: bool,
}

fn sleep(span: Millis) -> tokio::time::Sleep {
    tokio::time::sleep(Duration::from_millis(u64::try_from(span.0).unwrap_or(0)))
}

/// How a port says that a call did not work.
trait Refusing {
    fn refused() -> Self;
    fn unreported() -> Self;
}

impl Refusing for CloudError {
    fn refused() -> Self {
        CloudError::Throttled { code: "RequestLimitExceeded".into(), message: "too many requests".into() }
    }
    fn unreported() -> Self {
        CloudError::Unknown { message: "the connection was closed".into() }
    }
}

impl Refusing for ClusterError {
    fn refused() -> Self {
        ClusterError::Unreachable("the API server is not ready".into())
    }
    fn unreported() -> Self {
        ClusterError::Unreachable("the connection was closed".into())
    }
}

impl Refusing for LedgerUnavailable {
    fn refused() -> Self {
        LedgerUnavailable { message: "too many connections".into() }
    }
    fn unreported() -> Self {
        LedgerUnavailable { message: "the connection was closed".into() }
    }
}

impl Hold {
    /// A call that changes something meets its fate.
    async fn change<R, E: Refusing>(&self, port: Port, effect: impl FnOnce(&mut World, u32) -> Result<R, E>) -> Result<R, E> {
        self.call(port, true, effect).await
    }

    async fn call<R, E: Refusing>(&self, port: Port, changes: bool, effect: impl FnOnce(&mut World, u32) -> Result<R, E>) -> Result<R, E> {
        let Fate { before, after, crash_before, crash_after, refused, unreported } = lock(&self.world).faults.of_call(port, changes);
        sleep(before).await;
        if crash_before {
            self.end("before").await;
        }
        if refused || self.port_is_away(port) {
            return Err(E::refused());
        }
        let outcome = effect(&mut lock(&self.world), self.operator);
        if crash_after {
            self.end("after").await;
        }
        if after > Millis::ZERO {
            sleep(after).await;
        }
        if unreported { Err(E::unreported()) } else { outcome }
    }

    fn port_is_away(&self, port: Port) -> bool {
        let world = lock(&self.world);
        let now = world.now();
        now < match port {
            Port::Cloud => world.faults.throttled_until,
            Port::Cluster => world.faults.api_away_until,
            Port::Ledger => world.faults.ledger_away_until,
        }
    }

    /// The process ends here; nothing after this line runs.
    async fn end(&self, when: &str) {
        lock(&self.world).say(&format!("operator {} ends, {when} a call took effect", self.operator));
        let _ = self.deaths.send(self.operator);
        std::future::pending::<()>().await;
    }
}

impl Clock for Hold {
    fn now(&self) -> Timestamp {
        lock(&self.world).now() + Millis(self.skew.load(Ordering::Relaxed))
    }
}

impl Cloud for Hold {
    fn ahead(&self) -> Option<Millis> {
        Some(Millis(-self.skew.load(Ordering::Relaxed)))
    }

    async fn spot_quotes(&self, region: &Region, _: &[InstanceType], since: Timestamp) -> Result<Vec<Quote>, CloudError> {
        self.call(Port::Cloud, false, |world, _| Ok(world.spot_quotes(region, since))).await
    }

    async fn on_demand_quotes(&self, region: &Region, _: &[InstanceType]) -> Result<Vec<Quote>, CloudError> {
        self.call(Port::Cloud, false, |world, _| Ok(world.on_demand_quotes(region))).await
    }

    async fn offerings(&self, region: &Region) -> Result<Vec<(InstanceType, ZoneId)>, CloudError> {
        self.call(Port::Cloud, false, |world, _| {
            let here =
                world.market.pools.iter().filter(|p| p.capacity.region == *region && p.capacity.capacity_type == CapacityType::OnDemand);
            Ok(here.map(|p| (p.capacity.instance_type.clone(), p.capacity.zone.clone())).collect())
        })
        .await
    }

    async fn machine_types(&self, _: &Region) -> Result<Vec<MachineType>, CloudError> {
        self.call(Port::Cloud, false, |world, _| {
            let sold = |m: &&MachineType| world.market.pools.iter().any(|p| p.capacity.instance_type == m.instance_type);
            Ok(world.catalog.types.values().filter(sold).cloned().collect())
        })
        .await
    }

    async fn zone_names(&self, region: &Region) -> Result<BTreeMap<ZoneId, String>, CloudError> {
        let _ = region;
        Ok(BTreeMap::new())
    }
    async fn subnet_zones(&self, _: &Region, subnets: &[String]) -> Result<BTreeMap<String, ZoneId>, CloudError> {
        self.call(Port::Cloud, false, |_, _| {
            let zone = |subnet: &String| (subnet.clone(), ZoneId::from(subnet.trim_start_matches("subnet-")));
            Ok(subnets.iter().map(zone).collect())
        })
        .await
    }

    async fn images(&self, _: &Region, _: &[ImageSource]) -> Result<BTreeMap<Architecture, FoundImage>, CloudError> {
        Ok(BTreeMap::new())
    }
    async fn vcpu_quotas(&self, region: &Region) -> Result<Vec<VcpuQuota>, CloudError> {
        self.call(Port::Cloud, false, |world, _| Ok(world.account.quotas(region))).await
    }

    async fn placement_scores(&self, _: &Region, question: &ScoreQuestion) -> Result<Vec<PlacementScore>, CloudError> {
        self.call(Port::Cloud, false, |world, _| Ok(world.account.scores(question, &world.market))).await
    }

    async fn capacity_reservations(&self, _: &Region, ids: &[ReservationId]) -> Result<Vec<CapacityReservation>, CloudError> {
        self.call(Port::Cloud, false, |world, _| {
            let used = world.account.reservation.as_ref().map_or(0, |r| world.ec2.used_of(&r.capacity));
            Ok(world.account.describe(ids, used, world.now()))
        })
        .await
    }

    async fn ensure_launch_template(&self, _: &LaunchTemplate) -> Result<String, CloudError> {
        self.change(Port::Cloud, |_, _| Ok("1".to_owned())).await
    }

    async fn launch(&self, launch: &Launch) -> Result<InstanceId, CloudError> {
        self.change(Port::Cloud, |world, operator| match self.planted {
            Some(bug) => world.launch(&bug.launch(launch, world.faults.changes), operator),
            None => world.launch(launch, operator),
        })
        .await
    }

    async fn instances(&self, region: &Region, _: &str) -> Result<Vec<Instance>, CloudError> {
        self.call(Port::Cloud, false, |world, _| Ok(world.ec2.describe(region, world.now()))).await
    }

    async fn scheduled_events(&self, region: &Region) -> Result<BTreeMap<InstanceId, ScheduledEvent>, CloudError> {
        self.call(Port::Cloud, false, |world, _| Ok(world.ec2.describe_status(region))).await
    }

    async fn terminate(&self, _: &Region, instance: &InstanceId) -> Result<(), CloudError> {
        self.change(Port::Cloud, |world, operator| {
            world.terminate(instance, operator);
            Ok(())
        })
        .await
    }

    async fn receive_notices(&self, region: &Region, _: &str) -> Result<Vec<QueueMessage>, CloudError> {
        if self.stranger {
            // Its own queue, of which nobody sends anything.
            std::future::pending::<()>().await;
        }
        let reader = Arc::new(Notify::new());
        let until = {
            let mut world = lock(&self.world);
            let now = world.now();
            if now < world.faults.queues_denied_until {
                let (code, message) = ("AccessDenied".into(), "the queue may not be read".into());
                return Err(CloudError::Refused { code, message });
            }
            world.readers.push(Arc::clone(&reader));
            now + LONG_POLL
        };
        let found = self.wait_for_messages(region, until, &reader).await;
        lock(&self.world).readers.retain(|known| !Arc::ptr_eq(known, &reader));
        found
    }

    async fn acknowledge(&self, region: &Region, _: &str, receipt: &str) -> Result<(), CloudError> {
        self.change(Port::Cloud, |world, _| {
            world.ec2.delete_message(region, receipt);
            Ok(())
        })
        .await
    }
}

impl Hold {
    /// SQS's long poll: answers when there is a message, at the latest at `until`.
    async fn wait_for_messages(&self, region: &Region, until: Timestamp, reader: &Notify) -> Result<Vec<QueueMessage>, CloudError> {
        loop {
            let (wake, now) = {
                let world = lock(&self.world);
                let now = world.now();
                let next = world.ec2.next_message(region).map_or(until, |at| at.min(until));
                (world.instant(next.max(now)), now)
            };
            let due = { lock(&self.world).ec2.next_message(region).is_some_and(|at| at <= now) };
            if due {
                return self
                    .call(Port::Cloud, true, |world, _| {
                        let received = world.ec2.receive(region, world.now());
                        Ok(received.into_iter().map(|(receipt, notice)| QueueMessage { receipt, content: Ok(notice) }).collect())
                    })
                    .await;
            }
            if now >= until {
                return Ok(Vec::new());
            }
            tokio::select! {
                biased;
                () = reader.notified() => {}
                () = tokio::time::sleep_until(wake) => {}
            }
        }
    }
}

impl Cluster for Hold {
    fn uid(&self) -> String {
        if self.stranger { "built-again".to_owned() } else { lock(&self.world).kube.uid.clone() }
    }

    fn ahead(&self) -> Option<Millis> {
        Some(Millis(-self.skew.load(Ordering::Relaxed)))
    }

    async fn claims_now(&self) -> Result<ClaimsNow, ClusterError> {
        if self.stranger || self.planted.is_some_and(PlantedBug::forgets_to_ask) {
            return Ok(ClaimsNow::default());
        }
        self.call(Port::Cluster, false, |world, _| Ok(world.kube.claims_now())).await
    }

    fn view(&self) -> Option<ClusterView> {
        let world = lock(&self.world);
        let shown = || match self.stranger {
            true => ClusterView { classes: world.kube.shown.classes.clone(), ..ClusterView::default() },
            false => {
                let mut view = world.kube.shown.clone();
                if self.planted.is_some_and(PlantedBug::misreads_volumes) {
                    view.pods = world.kube.pods_with_shared_volumes().into();
                }
                world.forgers.show(&mut view);
                view
            }
        };
        (world.now() >= self.lists_from).then(shown)
    }

    async fn changed(&self) {
        self.watcher.notified().await;
    }

    async fn apply(&self, action: &ClusterAction) -> Result<Applied, ClusterError> {
        if self.stranger {
            return Ok(Applied { lane: Lane::Message("elsewhere".into()), resource_version: None });
        }
        if let Some(believed) = self.planted.and_then(|bug| bug.swallows(action)) {
            return Ok(believed);
        }
        self.change(Port::Cluster, |world, operator| world.apply(action, operator)).await
    }

    async fn record(&self, records: &[LedgerRecord]) -> Result<(), ClusterError> {
        if self.stranger {
            return Ok(());
        }
        // Each record is an object of its own: some may be written when the process ends.
        for record in records {
            self.change(Port::Cluster, |world, operator| {
                world.record(record, operator);
                Ok(())
            })
            .await?;
        }
        Ok(())
    }

    async fn outbox(&self, limit: usize) -> Result<Vec<LedgerRecord>, ClusterError> {
        if self.stranger {
            return Ok(Vec::new());
        }
        self.call(Port::Cluster, false, |world, operator| {
            let mut oldest: Vec<(&uuid::Uuid, &Arc<LedgerRecord>)> = world.kube.outbox.iter().collect();
            oldest.sort_by_key(|(id, record)| (record.happened_at(), **id));
            let waiting: Vec<LedgerRecord> = oldest.into_iter().take(limit).map(|(_, record)| LedgerRecord::clone(record)).collect();
            if self.planted == Some(PlantedBug::OutboxForgets) {
                let ids: Vec<uuid::Uuid> = waiting.iter().map(LedgerRecord::id).collect();
                world.forget(&ids, operator);
            }
            Ok(waiting)
        })
        .await
    }

    async fn market_memory(&self) -> Result<Option<String>, ClusterError> {
        if self.stranger {
            return Ok(None);
        }
        self.call(Port::Cluster, false, |world, _| Ok(world.kube.market_memory.clone())).await
    }

    async fn keep_market_memory(&self, text: &str) -> Result<(), ClusterError> {
        if self.stranger {
            return Ok(());
        }
        self.change(Port::Cluster, |world, _| {
            world.kube.market_memory = Some(text.to_owned());
            Ok(())
        })
        .await
    }

    async fn forget(&self, records: &[uuid::Uuid]) -> Result<(), ClusterError> {
        self.change(Port::Cluster, |world, operator| {
            world.forget(records, operator);
            Ok(())
        })
        .await
    }
}

impl Ledger for Hold {
    async fn write(&self, records: &[LedgerRecord]) -> Result<(), LedgerUnavailable> {
        self.call(Port::Ledger, !records.is_empty(), |world, operator| {
            match self.planted {
                Some(bug) => {
                    let kept: Vec<LedgerRecord> = records.iter().filter(|record| !bug.loses(record)).cloned().collect();
                    world.write(&kept, operator);
                }
                None => world.write(records, operator),
            }
            Ok(())
        })
        .await
    }

    async fn write_prices(&self, _: &[Quote]) -> Result<(), LedgerUnavailable> {
        self.call(Port::Ledger, false, |_, _| Ok(())).await
    }
}

impl World {
    /// DescribeSpotPriceHistory: what held at `since` and every change after it.
    fn spot_quotes(&self, region: &Region, since: Timestamp) -> Vec<Quote> {
        let here = self.market.pools.iter().filter(|p| p.capacity.region == *region && p.capacity.capacity_type == CapacityType::Spot);
        let quotes = |p: &CapacityMarket| {
            let first = p.prices.partition_point(|(from, _)| *from <= since).saturating_sub(1);
            let quote = |(from, price): &(Timestamp, MicroUsdPerHour)| Quote {
                region: p.capacity.region.clone(),
                zone: Some(p.capacity.zone.clone()),
                instance_type: p.capacity.instance_type.clone(),
                capacity_type: CapacityType::Spot,
                price_per_hour: *price,
                effective_from: *from,
                source: PriceSource::SpotPriceHistory,
            };
            p.prices.iter().skip(first).map(quote).collect::<Vec<_>>()
        };
        here.flat_map(quotes).collect()
    }

    /// On-demand prices hold in the whole region: one quote per type.
    fn on_demand_quotes(&self, region: &Region) -> Vec<Quote> {
        let here = self.market.pools.iter().filter(|p| p.capacity.region == *region && p.capacity.capacity_type == CapacityType::OnDemand);
        let first_zone = here.clone().map(|p| p.capacity.zone.clone()).next();
        let quote = |p: &CapacityMarket| Quote {
            region: region.clone(),
            zone: None,
            instance_type: p.capacity.instance_type.clone(),
            capacity_type: CapacityType::OnDemand,
            price_per_hour: p.on_demand,
            effective_from: Timestamp(0),
            source: PriceSource::PriceList,
        };
        here.filter(|p| Some(&p.capacity.zone) == first_zone.as_ref()).map(quote).collect()
    }
}
