//! The engine's watch over the market: the real engine and AWS's SDK against the EC2 simulator, prices into a real Postgres.
//! Only the cluster is a few lines: it names node classes and keeps what it is given.
#![cfg(all(feature = "live", feature = "lab"))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods, missing_docs)]

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use aws_credential_types::Credentials;
use lowtide::aws::{AwsCloud, AwsSettings};
use lowtide::core::action::ClusterAction;
use lowtide::core::fleet::{ClassStatus, LaunchTemplate, NodeClass};
use lowtide::core::market::quota::QuotaFamily;
use lowtide::core::market::{Capacity, CapacityType, Quote};
use lowtide::core::plan::Settings;
use lowtide::core::record::LedgerRecord;
use lowtide::core::snapshot::Lane;
use lowtide::core::units::ids::{ClassName, Region};
use lowtide::engine::driver::{Engine, Intervals};
use lowtide::engine::wall_clock::WallClock;
use lowtide::lab::ec2::{AccountSettings, SimulatorConfig, serve, subnet_id};
use lowtide::lab::postgres::PrivatePostgres;
use lowtide::ledger::{PgLedger, migrate};
use lowtide::ports::{Applied, Clock, Cluster, ClusterError, ClusterView, Ledger, LedgerUnavailable};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;

/// Three regions: one with Local Zones, one cheap, one that must be opted into.
const REGIONS: [(&str, &str); 3] = [("us-east-1", "use1-az4"), ("eu-south-2", "eus2-az3"), ("ap-southeast-3", "apse3-az1")];

/// Node classes, and the statuses that were written for them.
#[derive(Default)]
struct Classes {
    view: ClusterView,
    statuses: Mutex<BTreeMap<ClassName, ClassStatus>>,
}

impl Classes {
    fn named() -> Self {
        let mut classes = Classes::default();
        for (region, zone) in REGIONS {
            let (name, template) = (ClassName::from(region), format!("lowtide-{region}"));
            let class = NodeClass {
                name: name.clone(),
                region: region.into(),
                subnets: vec![subnet_id(&zone.into())],
                zones: BTreeMap::from([(zone.into(), subnet_id(&zone.into()))]),
                problem: None,
                interruption_queue: None,
                launch_template: Some((template.clone(), "1".into())),
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
            let (region, class_name, image) = (Region::from(region), name.clone(), String::new());
            let (security_groups, user_data, client_token) = (Vec::new(), String::new(), "t".to_owned());
            let template = LaunchTemplate {
                region,
                class: class_name,
                name: template,
                image: Some(image),
                security_groups,
                instance_profile: None,
                settings: Default::default(),
                user_data,
                client_token,
            };
            classes.view.classes.insert(name.clone(), class);
            classes.view.templates.insert(name, template);
        }
        classes
    }
}

impl Cluster for Classes {
    fn uid(&self) -> String {
        "uid".to_owned()
    }
    async fn claims_now(&self) -> Result<lowtide::core::fleet::ClaimsNow, ClusterError> {
        Ok(Default::default())
    }
    fn view(&self) -> Option<ClusterView> {
        Some(self.view.clone())
    }
    async fn changed(&self) {
        std::future::pending().await
    }
    async fn apply(&self, action: &ClusterAction) -> Result<Applied, ClusterError> {
        if let ClusterAction::SetClassStatus { class, status } = action {
            self.statuses.lock().unwrap().insert(class.clone(), (**status).clone());
        }
        Ok(Applied { lane: Lane::Message("-".into()), resource_version: None })
    }
    async fn record(&self, _: &[LedgerRecord]) -> Result<(), ClusterError> {
        Ok(())
    }
    async fn outbox(&self, _: usize) -> Result<Vec<LedgerRecord>, ClusterError> {
        Ok(Vec::new())
    }
    async fn forget(&self, _: &[uuid::Uuid]) -> Result<(), ClusterError> {
        Ok(())
    }
    async fn market_memory(&self) -> Result<Option<String>, ClusterError> {
        Ok(None)
    }
    async fn keep_market_memory(&self, _: &str) -> Result<(), ClusterError> {
        Ok(())
    }
}

/// A ledger that is not there.
struct Away;
impl Ledger for Away {
    async fn write(&self, _: &[LedgerRecord]) -> Result<(), LedgerUnavailable> {
        Err(LedgerUnavailable { message: "away".into() })
    }
    async fn write_prices(&self, _: &[Quote]) -> Result<(), LedgerUnavailable> {
        Err(LedgerUnavailable { message: "away".into() })
    }
}

/// A simulated account.
struct Account(SocketAddr);

impl Account {
    async fn open(settings: AccountSettings) -> Account {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(serve(listener, SimulatorConfig { settings, ..SimulatorConfig::default() }, std::future::pending()));
        Account(address)
    }

    async fn http(&self, method: &str, path: &str, body: &Value) -> Value {
        let mut stream = tokio::net::TcpStream::connect(self.0).await.unwrap();
        let body = body.to_string();
        let head = format!("{method} {path} HTTP/1.1\r\nhost: sim\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
        stream.write_all((head + &body).as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200"), "{method} {path}: {answer}");
        serde_json::from_str(body).unwrap()
    }
    async fn order(&self, control: &str, body: Value) -> Value {
        self.http("POST", &format!("/_sim/{control}"), &body).await
    }
    async fn calls(&self, action: &str) -> i64 {
        self.http("GET", "/_sim/state", &json!({})).await["calls"][action].as_i64().unwrap_or(0)
    }

    async fn cloud(&self) -> AwsCloud {
        let mut settings = AwsSettings::new("lab", Arc::new(WallClock));
        settings.endpoint_url = Some(format!("http://{}", self.0));
        settings.credentials = Some(Credentials::new("AKIDLOWTIDE", "key-of-a-test-61d0", None, None, "test"));
        AwsCloud::new(settings).await
    }
}

type Watching<L> = Arc<Engine<AwsCloud, Classes, L, WallClock>>;

/// An engine that runs until dropped.
struct Running<L: Ledger> {
    engine: Watching<L>,
    stop: watch::Sender<bool>,
    _lead: watch::Sender<bool>,
}

impl<L: Ledger> Running<L> {
    async fn start(account: &Account, ledger: L, intervals: Intervals) -> Running<L> {
        let engine = Engine::new(account.cloud().await, Classes::named(), ledger, WallClock, "lab".into(), Settings::default(), intervals);
        let ((lead, leading), (stop, stopped)) = (watch::channel(true), watch::channel(false));
        tokio::spawn(Arc::clone(&engine).run(leading, stopped));
        Running { engine, stop, _lead: lead }
    }

    async fn until<T>(&self, what: &str, look: impl Fn(&Watching<L>) -> Option<T>) -> T {
        let begun = Instant::now();
        loop {
            if let Some(found) = look(&self.engine) {
                return found;
            }
            assert!(begun.elapsed() < Duration::from_secs(20), "not within 20 s: {what}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn surveyed(&self) {
        let read = |engine: &Watching<L>| {
            let state = engine.state();
            (state.surveys.len() == REGIONS.len() && state.surveys.values().all(|s| s.spot && s.list)).then_some(())
        };
        self.until("every region has been read", read).await;
    }
}

impl<L: Ledger> Drop for Running<L> {
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}

/// A hundred times faster than in earnest.
fn intervals() -> Intervals {
    Intervals {
        spot_prices: Duration::from_millis(300),
        list_prices: Duration::from_millis(450),
        instances: Duration::from_millis(200),
        quotas: Duration::from_millis(300),
        scores: Duration::from_millis(300),
        closed_regions: Duration::from_millis(300),
        stored_prices: Duration::from_millis(100),
        ..Intervals::default()
    }
}

#[tokio::test]
async fn prices_are_confirmed_over_and_over_and_regions_do_not_ask_in_step() {
    let account = Account::open(AccountSettings::default()).await;
    let running = Running::start(&account, Away, intervals()).await;
    running.surveyed().await;
    let (mut oldest, mut seen): (i64, BTreeMap<Region, BTreeSet<i64>>) = (0, BTreeMap::new());
    for _ in 0..160 {
        tokio::time::sleep(Duration::from_millis(25)).await;
        let state = running.engine.state();
        let now = WallClock.now();
        for (capacity, offer) in &state.market.offers {
            oldest = oldest.max(now.since(offer.observed_at).0);
            if capacity.capacity_type == CapacityType::Spot {
                seen.entry(capacity.region.clone()).or_default().insert(offer.observed_at.0);
            }
        }
    }
    // Looks begin 450 ms apart at most and take their time on a busy machine; the engine's own tests hold the minute on a virtual clock.
    assert!(oldest < 5_000, "a price was {oldest} ms old");
    assert_eq!(seen.len(), REGIONS.len());
    let gaps: BTreeMap<&Region, Vec<i64>> =
        seen.iter().map(|(region, looks)| (region, looks.iter().zip(looks.iter().skip(1)).map(|(a, b)| b - a).collect())).collect();
    assert!(gaps.values().all(|g| g.len() >= 2 && g.iter().max() != g.iter().min()), "every region has its own pace: {gaps:?}");
}

#[tokio::test]
async fn a_region_that_is_off_is_passed_over_reported_and_taken_up_when_it_opens() {
    let account = Account::open(AccountSettings::default()).await;
    let off: Region = "ap-southeast-3".into();
    account.order("region", json!({"region": off, "on": false})).await;
    let running = Running::start(&account, Away, intervals()).await;
    running.surveyed().await;
    let status = running
        .until("the class says so", |engine| {
            let statuses = engine.cluster.statuses.lock().unwrap();
            statuses
                .get(&"ap-southeast-3".into())
                .and_then(|status| status.ready.clone().err())
                .filter(|problem| problem.reason == "RegionClosed")
        })
        .await;
    assert!(status.text.contains("ap-southeast-3") && status.text.contains("enable the region"), "{status:?}");
    let offers = |region: &Region| running.engine.state().market.offers.keys().filter(|capacity| capacity.region == *region).count();
    assert_eq!(offers(&off), 0);
    assert!(offers(&"us-east-1".into()) > 100, "the others go on");
    account.order("region", json!({"region": off, "on": true})).await;
    running.until("it is taken up", |_| (offers(&off) > 0).then_some(())).await;
    assert!(running.engine.state().closed_regions.is_empty());
}

#[tokio::test]
async fn quotas_and_reservations_are_read_and_local_zones_have_no_list_price() {
    let account = Account::open(AccountSettings::default()).await;
    account.order("quota", json!({"region": "us-east-1", "code": "L-7212CCBC", "vcpus": 192})).await;
    let running = Running::start(&account, Away, intervals()).await;
    running.surveyed().await;
    let quotas = running.until("quotas are read", |engine| engine.state().quotas.get(&"us-east-1".into()).cloned()).await;
    let spot_p = quotas.iter().find(|q| q.family == QuotaFamily::P && q.capacity_type == CapacityType::Spot).unwrap();
    assert_eq!(spot_p.vcpus, 192);
    account.order("quota", json!({"region": "us-east-1", "code": "L-7212CCBC", "vcpus": 384})).await;
    let raised = |engine: &Watching<Away>| engine.state().quotas[&"us-east-1".into()].iter().any(|q| q.vcpus == 384).then_some(());
    running.until("a quota that was raised is seen", raised).await;
    let local: Vec<CapacityType> =
        running.engine.state().market.offers.keys().filter(|p| p.zone.is_local()).map(|p| p.capacity_type).collect();
    assert!(!local.is_empty() && local.iter().all(|c| *c == CapacityType::Spot), "{local:?}");
}

#[tokio::test]
async fn placement_scores_are_few_questions_kept_when_ec2_takes_no_new_ones() {
    let settings = AccountSettings { placement_score_configurations: 2, ..AccountSettings::default() };
    let account = Account::open(settings).await;
    let running = Running::start(&account, Away, intervals()).await;
    running.until("two families are scored", |engine| (engine.state().scores.len() == 20).then_some(())).await;
    let now = running.engine.clock.now();
    let scored: BTreeSet<String> = {
        let state = running.engine.state();
        let is_scored = |capacity: &&Capacity| state.scores.of(capacity, now).is_some();
        state.market.offers.keys().filter(is_scored).map(|capacity| capacity.instance_type.family().to_owned()).collect()
    };
    assert_eq!(scored.len(), 2, "{scored:?}");
    let asked = account.calls("GetSpotPlacementScores").await;
    let mut again = asked;
    for _ in 0..200 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        again = account.calls("GetSpotPlacementScores").await;
        if again >= asked + 4 {
            break;
        }
    }
    assert!(again >= asked + 4, "old questions are repeated: {asked} then {again}");
    assert!(again < asked + 20, "new ones are not asked again today: {asked} then {again}");
    assert_eq!(running.engine.state().scores.len(), 20, "what was known is kept");
}

#[tokio::test]
async fn prices_are_stored_as_they_change_once_each_and_wait_while_postgres_is_away() {
    let mut server = PrivatePostgres::start_temporary().unwrap();
    migrate(&server.url()).await.unwrap();
    let account = Account::open(AccountSettings::default()).await;
    let count = |server: &PrivatePostgres| -> i64 {
        server.psql("postgres", "SELECT count(*) FROM ledger.price_quote").unwrap().trim().parse().unwrap()
    };
    let waiting = |engine: &Watching<PgLedger>| engine.state().price_changes.waiting();
    let price = |price: &str| json!({"region": "us-east-1", "zone": "use1-az4", "instance_type": "g6.xlarge", "price_per_hour": price});
    let of_pool = "SELECT trim_scale(price_usd_h)::text FROM ledger.price_quote WHERE zone = 'use1-az4' AND instance_type = 'g6.xlarge'
                   AND capacity_type = 'spot' ORDER BY at";
    {
        let running = Running::start(&account, PgLedger::connect_lazy(&server.url()).unwrap(), intervals()).await;
        running.surveyed().await;
        running.until("all prices are stored", |engine| (waiting(engine) == 0).then_some(())).await;
        let all = count(&server);
        assert!(all > 100, "{all} prices");
        tokio::time::sleep(Duration::from_millis(1_000)).await;
        assert_eq!(count(&server), all, "what did not change is not written again");

        account.order("price", price("0.111")).await;
        running.until("the change is stored", |_| (count(&server) == all + 1).then_some(())).await;
        server.stop();
        // The price history goes by whole seconds.
        let another_second = || tokio::time::sleep(Duration::from_millis(1_000));
        another_second().await;
        account.order("price", price("0.222")).await;
        running.until("it is seen while Postgres is away", |engine| (waiting(engine) == 1).then_some(())).await;
        another_second().await;
        account.order("price", price("0.333")).await;
        running.until("and the next", |engine| (waiting(engine) == 2).then_some(())).await;
        let fresh = |engine: &Watching<PgLedger>| {
            let state = engine.state();
            state.market.offers.values().all(|offer| WallClock.now().since(offer.observed_at).0 < 2_000).then_some(())
        };
        running.until("no price ages meanwhile", fresh).await;
        server.start_again().unwrap();
        running.until("both are stored", |engine| (waiting(engine) == 0).then_some(())).await;
        let stored = server.psql("postgres", of_pool).unwrap();
        assert!(stored.trim().ends_with("0.111\n0.222\n0.333"), "{stored}");
    }
    let before = count(&server);
    let again = Running::start(&account, PgLedger::connect_lazy(&server.url()).unwrap(), intervals()).await;
    again.surveyed().await;
    again.until("all prices are stored", |engine| (waiting(engine) == 0).then_some(())).await;
    assert_eq!(count(&server), before, "a restart writes the same rows under the same ids");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_offers_command_asks_aws_and_leaves_out_what_it_cannot_read() {
    let account = Account::open(AccountSettings::default()).await;
    account.order("region", json!({"region": "ap-southeast-3", "on": false})).await;
    account
        .order("price", json!({"region": "us-east-1", "zone": "use1-az4", "instance_type": "g6.xlarge", "price_per_hour": "0.01"}))
        .await;
    let address = format!("http://{}", account.0);
    let regions = "us-east-1,eu-south-2,ap-southeast-3";
    let asked = ["offers", "--live", "--scores", "--json", "--models", "l4", "--gpu-memory", "20Gi", "--regions", regions];
    let command = std::process::Command::new(env!("CARGO_BIN_EXE_lowtide"))
        .args(asked)
        .env("AWS_ENDPOINT_URL", address)
        .envs([
            ("AWS_ACCESS_KEY_ID", "AKIDLOWTIDE"),
            ("AWS_SECRET_ACCESS_KEY", "key-of-a-test-61d0"),
            ("AWS_EC2_METADATA_DISABLED", "true"),
        ])
        .output();
    let output = command.unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("ap-southeast-3 is skipped"), "{said}");
    let rows: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    let (best, regions) = (&rows[0], rows.iter().map(|r| r["region"].as_str().unwrap()).collect::<BTreeSet<_>>());
    assert_eq!(
        (&best["zone"], &best["price_per_hour"], &best["source"]),
        (&json!("use1-az4"), &json!("0.0100"), &json!("spot-price-history"))
    );
    assert!(best["price_age_seconds"].as_i64().unwrap() < 60 && best["interruptions_per_1000h"].is_string(), "{best}");
    assert!(rows.iter().any(|r| r["placement_score"].as_u64().is_some()), "scores are shown");
    assert_eq!(regions, BTreeSet::from(["eu-south-2", "us-east-1"]));
}
