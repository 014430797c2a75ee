//! The driver on worlds of a few lines: what it must do however slow or broken the ports are.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;

use super::driver::{Engine, Intervals};
use crate::core::action::ClusterAction;
use crate::core::fleet::{
    Claim, ClaimStatus, FoundImage, ImageSource, Instance, Launch, LaunchTemplate, NodeClass, Notice, NoticeKind, ScheduledEvent,
};
use crate::core::market::catalog::{Architecture, Catalog, MachineType};
use crate::core::market::quota::VcpuQuota;
use crate::core::market::reservation::CapacityReservation;
use crate::core::market::scores::{PlacementScore, ScoreQuestion};
use crate::core::market::{Capacity, CapacityType, Quote};
use crate::core::plan::Settings;
use crate::core::record::LedgerRecord;
use crate::core::snapshot::Lane;
use crate::core::units::ids::*;
use crate::core::units::time::{Millis, Timestamp};
use crate::ports::*;

/// Time since the test began.
struct TestClock(tokio::time::Instant);
impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp(1_000_000 + i64::try_from(self.0.elapsed().as_millis()).unwrap_or(0))
    }
}

/// EC2 that keeps every launch waiting for 30 s, and gives one notice after a second.
struct SlowCloud {
    noticed: Mutex<bool>,
    malformed: bool,
    /// It has prices, and each request takes this long.
    prices: Option<Duration>,
    acknowledged: Arc<Mutex<Vec<String>>>,
    started: tokio::time::Instant,
}

impl SlowCloud {
    async fn quote(&self, region: &Region, capacity_type: CapacityType) -> Vec<Quote> {
        let Some(slow) = self.prices else { return Vec::new() };
        tokio::time::sleep(slow).await;
        vec![Quote {
            region: region.clone(),
            zone: (capacity_type == CapacityType::Spot).then(|| "use1-az4".into()),
            instance_type: "g6.xlarge".into(),
            capacity_type,
            price_per_hour: crate::core::units::money::MicroUsdPerHour(300_000),
            effective_from: Timestamp(0),
            source: crate::core::market::PriceSource::SpotPriceHistory,
        }]
    }
}

impl Cloud for SlowCloud {
    async fn spot_quotes(&self, region: &Region, _: &[InstanceType], _: Timestamp) -> Result<Vec<Quote>, CloudError> {
        Ok(self.quote(region, CapacityType::Spot).await)
    }
    async fn on_demand_quotes(&self, region: &Region, _: &[InstanceType]) -> Result<Vec<Quote>, CloudError> {
        Ok(self.quote(region, CapacityType::OnDemand).await)
    }
    async fn offerings(&self, _: &Region) -> Result<Vec<(InstanceType, ZoneId)>, CloudError> {
        Ok(vec![("g6.xlarge".into(), "use1-az4".into())])
    }
    async fn images(&self, _: &Region, _: &[ImageSource]) -> Result<BTreeMap<Architecture, FoundImage>, CloudError> {
        Ok(BTreeMap::new())
    }
    async fn vcpu_quotas(&self, _: &Region) -> Result<Vec<VcpuQuota>, CloudError> {
        Ok(Vec::new())
    }
    async fn placement_scores(&self, _: &Region, _: &ScoreQuestion) -> Result<Vec<PlacementScore>, CloudError> {
        Ok(Vec::new())
    }
    async fn capacity_reservations(&self, _: &Region, _: &[ReservationId]) -> Result<Vec<CapacityReservation>, CloudError> {
        Ok(Vec::new())
    }
    async fn machine_types(&self, _: &Region) -> Result<Vec<MachineType>, CloudError> {
        Ok(Catalog::snapshot().types.into_values().collect())
    }
    async fn zone_names(&self, _: &Region) -> Result<BTreeMap<ZoneId, String>, CloudError> {
        Ok(BTreeMap::new())
    }
    async fn subnet_zones(&self, _: &Region, subnets: &[String]) -> Result<BTreeMap<String, ZoneId>, CloudError> {
        let message = format!("the subnet '{}' does not exist", subnets.join(", "));
        Err(CloudError::Refused { code: "InvalidSubnetID.NotFound".into(), message })
    }
    async fn ensure_launch_template(&self, _: &LaunchTemplate) -> Result<String, CloudError> {
        Ok("1".into())
    }
    async fn launch(&self, _: &Launch) -> Result<InstanceId, CloudError> {
        tokio::time::sleep(Duration::from_secs(30)).await;
        Ok("i-new".into())
    }
    async fn instances(&self, _: &Region, _: &str) -> Result<Vec<Instance>, CloudError> {
        Err(CloudError::Unknown { message: "EC2 is slow".into() })
    }
    async fn scheduled_events(&self, _: &Region) -> Result<BTreeMap<InstanceId, ScheduledEvent>, CloudError> {
        Ok(BTreeMap::new())
    }
    async fn terminate(&self, _: &Region, _: &InstanceId) -> Result<(), CloudError> {
        Ok(())
    }
    async fn receive_notices(&self, region: &Region, _: &str) -> Result<Vec<QueueMessage>, CloudError> {
        tokio::time::sleep(Duration::from_secs(1)).await;
        if std::mem::replace(&mut *self.noticed.lock().unwrap(), true) {
            return Ok(Vec::new());
        }
        let sent_at = Timestamp(1_000_000 + i64::try_from(self.started.elapsed().as_millis()).unwrap_or(0));
        let notice = Notice { instance: "i-old".into(), also: Vec::new(), region: region.clone(), kind: NoticeKind::Interruption, sent_at };
        let mut messages = vec![QueueMessage { receipt: "good".into(), content: Ok(notice) }];
        if self.malformed {
            let fault = MalformedMessage { fault: "no detail-type".into(), text: "{}".into() };
            messages.insert(0, QueueMessage { receipt: "bad".into(), content: Err(fault) });
        }
        Ok(messages)
    }
    async fn acknowledge(&self, _: &Region, _: &str, receipt: &str) -> Result<(), CloudError> {
        self.acknowledged.lock().unwrap().push(receipt.to_owned());
        Ok(())
    }
}

type Applied2 = Arc<Mutex<Vec<(tokio::time::Instant, ClusterAction)>>>;

/// The text of the market memory, which outlives an operator.
type Kept = Arc<Mutex<Option<String>>>;

/// A cluster that never changes and records what was requested.
struct StillCluster {
    view: ClusterView,
    applied: Applied2,
    memory: Kept,
}

impl Cluster for StillCluster {
    fn uid(&self) -> String {
        "uid".to_owned()
    }
    async fn claims_now(&self) -> Result<crate::core::fleet::ClaimsNow, ClusterError> {
        Ok(Default::default())
    }
    fn view(&self) -> Option<ClusterView> {
        Some(self.view.clone())
    }
    async fn changed(&self) {
        std::future::pending().await
    }
    async fn apply(&self, action: &ClusterAction) -> Result<Applied, ClusterError> {
        self.applied.lock().unwrap().push((tokio::time::Instant::now(), action.clone()));
        Ok(Applied { lane: Lane::Message("-".into()), resource_version: None })
    }
    async fn record(&self, _: &[LedgerRecord]) -> Result<(), ClusterError> {
        Ok(())
    }
    async fn outbox(&self, _: usize) -> Result<Vec<LedgerRecord>, ClusterError> {
        Ok(Vec::new())
    }
    async fn market_memory(&self) -> Result<Option<String>, ClusterError> {
        Ok(self.memory.lock().unwrap().clone())
    }
    async fn keep_market_memory(&self, text: &str) -> Result<(), ClusterError> {
        *self.memory.lock().unwrap() = Some(text.to_owned());
        Ok(())
    }
    async fn forget(&self, _: &[uuid::Uuid]) -> Result<(), ClusterError> {
        Ok(())
    }
}

struct NoLedger;
impl Ledger for NoLedger {
    async fn write(&self, _: &[LedgerRecord]) -> Result<(), LedgerUnavailable> {
        Err(LedgerUnavailable { message: "it is away".into() })
    }
    async fn write_prices(&self, _: &[Quote]) -> Result<(), LedgerUnavailable> {
        Err(LedgerUnavailable { message: "it is away".into() })
    }
}

fn claim(name: &str, status: ClaimStatus) -> Claim {
    let spec = crate::core::fleet::ClaimSpec {
        node_pool: "gpu".into(),
        node_class: "here".into(),
        capacity: Capacity {
            region: "us-east-1".into(),
            zone: "use1-az4".into(),
            instance_type: "g6.xlarge".into(),
            capacity_type: CapacityType::Spot,
        },
        price_per_hour: Default::default(),
        on_demand_per_hour: None,
        gpus: 1,
        decision: DecisionId(uuid::Uuid::nil()),
        trigger: crate::core::fleet::Trigger::PendingPod,
        attempt: 1,
        frozen: crate::core::units::shared::Shared::from(crate::core::fleet::FrozenLaunch {
            launch_template: "t".into(),
            launch_template_version: "1".into(),
            subnet: "s".into(),
            image: None,
            tags: BTreeMap::new(),
        }),
        bought_for: Vec::new(),
        bindings: Some(Vec::new()),
        sharing: Default::default(),
        reservation: None,
        takes_over: None,
        price_origin: None,
        adopted: None,
        books: None,
    };
    Claim { name: name.into(), uid: name.into(), version: 1, created_at: Timestamp(1_000_000), deleting: false, spec, status }
}

fn view() -> ClusterView {
    let class = NodeClass {
        name: "here".into(),
        region: "us-east-1".into(),
        subnets: vec!["subnet-gone".into()],
        zones: BTreeMap::new(),
        problem: None,
        interruption_queue: Some("q".into()),
        launch_template: None,
        tags: BTreeMap::new(),
        sharing: Default::default(),
        reservations: Vec::new(),
        node_labels: BTreeMap::new(),
        zone_names: BTreeMap::new(),
        taints: Vec::new(),
        root_volume: None,
        reserve: Default::default(),
        images: Default::default(),
        startup_taints: Vec::new(),
    };
    let asked = ClaimStatus { launch_asked_at: Some(Timestamp(0)), ..ClaimStatus::default() };
    let running = ClaimStatus { instance: Some("i-old".into()), launched_at: Some(Timestamp(1_000_000)), ..ClaimStatus::default() };
    let template = LaunchTemplate {
        region: class.region.clone(),
        class: class.name.clone(),
        name: "lowtide-1".into(),
        image: Some("ami-1".into()),
        security_groups: Vec::new(),
        instance_profile: None,
        settings: Default::default(),
        user_data: String::new(),
        client_token: "t".into(),
    };
    ClusterView {
        templates: BTreeMap::from([(class.name.clone(), template)]).into(),
        classes: BTreeMap::from([(class.name.clone(), class)]).into(),
        claims: [claim("launching", asked), claim("running", running)].into_iter().map(|c| (c.name.clone(), c)).collect(),
        ..ClusterView::default()
    }
}

async fn run_for(seconds: u64, malformed: bool) -> (tokio::time::Instant, Applied2, Arc<Mutex<Vec<String>>>) {
    let started = tokio::time::Instant::now();
    let (applied, acknowledged) = (Applied2::default(), Arc::default());
    let cloud = SlowCloud { noticed: Mutex::new(false), malformed, prices: None, acknowledged: Arc::clone(&acknowledged), started };
    let cluster = StillCluster { view: view(), applied: Arc::clone(&applied), memory: Kept::default() };
    let engine = Engine::new(cloud, cluster, NoLedger, TestClock(started), "c".into(), Settings::default(), Intervals::default());
    let ((_lead, leading), (stop, stopped)) = (watch::channel(true), watch::channel(false));
    let running = tokio::spawn(engine.run(leading, stopped));
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    stop.send_replace(true);
    running.await.unwrap();
    (started, applied, acknowledged)
}

fn interruption_marks(applied: &Applied2) -> Vec<tokio::time::Instant> {
    let all = applied.lock().unwrap();
    let marks = all.iter().filter(|(_, a)| matches!(a, ClusterAction::PatchClaim { patch, .. } if patch.interruption.is_some()));
    marks.map(|(at, _)| *at).collect()
}

#[tokio::test(start_paused = true)]
async fn a_notice_overtakes_a_launch_that_ec2_keeps_waiting() {
    let (started, applied, _) = run_for(3, false).await;
    let asked =
        applied.lock().unwrap().iter().any(|(_, a)| matches!(a, ClusterAction::PatchClaim { claim, .. } if claim.as_str() == "launching"));
    assert!(asked, "the launch was under way");
    let marks = interruption_marks(&applied);
    assert!(!marks.is_empty(), "the notice waited for the launch");
    let after_notice = Millis(i64::try_from((marks[0] - started).as_millis()).unwrap() - 1_000);
    assert!(after_notice < Millis::from_secs(1), "the notice was handled after {after_notice}");
}

#[tokio::test(start_paused = true)]
async fn a_malformed_message_is_dropped_and_stops_nothing() {
    let (_, applied, acknowledged) = run_for(3, true).await;
    assert!(acknowledged.lock().unwrap().contains(&"bad".to_owned()));
    assert!(acknowledged.lock().unwrap().contains(&"good".to_owned()));
    assert!(!interruption_marks(&applied).is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_unknown_subnet_becomes_a_condition_of_its_class() {
    let (_, applied, _) = run_for(2, false).await;
    let all = applied.lock().unwrap();
    let refusals = all.iter().filter_map(|(_, a)| match a {
        ClusterAction::SetClassStatus { status, .. } => status.ready.clone().err(),
        _ => None,
    });
    let refusals: Vec<crate::core::fleet::ClassProblem> = refusals.collect();
    assert_eq!(refusals.len(), 1, "EC2 is not asked again at once");
    assert!(refusals[0].reason == "UnknownSubnet" && refusals[0].text.contains("subnet-gone"), "{refusals:?}");
}

/// Runs an operator whose one launch was refused for lack of capacity; returns the memory it holds at the end.
async fn refused_once(memory: &Kept, failed: bool) -> crate::core::snapshot::memory::MarketMemory {
    let started = tokio::time::Instant::now();
    let cloud = SlowCloud { noticed: Mutex::new(true), malformed: false, prices: None, acknowledged: Arc::default(), started };
    let mut view = view();
    let failure = crate::core::fleet::LaunchFailure {
        cause: crate::core::market::CoolDownCause::NoCapacity,
        code: "InsufficientInstanceCapacity".into(),
        message: "none".into(),
        at: Timestamp(1_000_000),
    };
    let status = ClaimStatus { launch_asked_at: Some(Timestamp(0)), failure: Some(Box::new(failure)), ..ClaimStatus::default() };
    view.claims =
        if failed { [claim("refused", status)].into_iter().map(|c| (c.name.clone(), c)).collect() } else { BTreeMap::new().into() };
    view.pools = BTreeMap::from([("gpu".into(), crate::core::plan::tests::toy::pool(Vec::new()))]).into();
    let cluster = StillCluster { view, applied: Applied2::default(), memory: Arc::clone(memory) };
    let engine = Engine::new(cloud, cluster, NoLedger, TestClock(started), "c".into(), Settings::default(), Intervals::default());
    let ((_lead, leading), (stop, stopped)) = (watch::channel(true), watch::channel(false));
    let running = tokio::spawn(Arc::clone(&engine).run(leading, stopped));
    tokio::time::sleep(Duration::from_secs(2)).await;
    stop.send_replace(true);
    running.await.unwrap();
    let learnt = engine.state().memory.clone();
    learnt.into_inner()
}

#[tokio::test(start_paused = true)]
async fn a_cool_down_is_kept_at_once_and_read_by_the_next_operator() {
    let memory = Kept::default();
    let learnt = refused_once(&memory, true).await;
    let pool = claim("x", ClaimStatus::default()).spec.capacity;
    let cool_down = learnt.of(&pool).unwrap().cool_down.unwrap();
    assert!(memory.lock().unwrap().as_ref().unwrap().contains("no-capacity"), "kept within two seconds, not within a minute");
    let next = refused_once(&memory, false).await;
    assert_eq!(next.of(&pool).unwrap().cool_down, Some(cool_down));
}

#[tokio::test(start_paused = true)]
async fn a_memory_that_cannot_be_read_is_passed_over() {
    let memory: Kept = Arc::new(Mutex::new(Some("{ broken".into())));
    let learnt = refused_once(&memory, false).await;
    assert_eq!(learnt.capacities().count(), 0);
    refused_once(&memory, true).await;
    assert!(memory.lock().unwrap().as_ref().unwrap().contains("no-capacity"), "and is written over");
}

#[tokio::test(start_paused = true)]
async fn no_spot_price_is_older_than_a_minute_though_every_question_takes_ten_seconds() {
    let started = tokio::time::Instant::now();
    let prices = Some(Duration::from_secs(10));
    let cloud = SlowCloud { noticed: Mutex::new(true), malformed: false, prices, acknowledged: Arc::default(), started };
    let view = ClusterView { classes: view().classes, ..ClusterView::default() };
    let cluster = StillCluster { view, applied: Applied2::default(), memory: Kept::default() };
    let engine = Engine::new(cloud, cluster, NoLedger, TestClock(started), "c".into(), Settings::default(), Intervals::default());
    let ((_lead, leading), (stop, stopped)) = (watch::channel(true), watch::channel(false));
    let running = tokio::spawn(Arc::clone(&engine).run(leading, stopped));
    let (mut oldest, mut offers) = ([Millis::ZERO; 2], 0);
    for second in 0..2_400 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let state = engine.state();
        let now = engine.clock.now();
        // The first answers take their ten seconds.
        if second > 25 {
            offers = state.market.offers.len();
            for (oldest, kind) in oldest.iter_mut().zip([CapacityType::Spot, CapacityType::OnDemand]) {
                let ages = state.market.offers.values().filter(|o| o.capacity.capacity_type == kind).map(|o| now.since(o.observed_at));
                *oldest = ages.max().unwrap_or(*oldest).max(*oldest);
            }
        }
    }
    stop.send_replace(true);
    running.await.unwrap();
    assert_eq!(offers, 2, "spot and on-demand");
    let [spot, listed] = oldest;
    assert!(Millis::from_secs(30) < spot && spot < Millis::from_secs(60), "the oldest spot price of forty minutes was {spot}");
    // A list price holds for a day, and changes a few times a year.
    assert!(Millis::from_mins(12) < listed && listed < Millis::from_mins(16), "the oldest list price of forty minutes was {listed}");
}
