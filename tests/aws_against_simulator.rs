//! The AWS adapter, with the unmodified SDK, against the EC2 simulator: every method of the port, and how each goes wrong.
#![cfg(all(feature = "live", feature = "lab"))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods, missing_docs)]

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_credential_types::Credentials;
use lowtide::aws::imds::ImdsReader;
use lowtide::aws::{AwsCloud, AwsSettings, Timeouts};
use lowtide::core::fleet::image::alias_parameter;
use lowtide::core::fleet::{
    ImageBy, ImageSource, Instance, InstanceState, Launch, LaunchTemplate, NoticeKind, ScheduledEvent, ScheduledKind, tags,
};
use lowtide::core::market::catalog::Architecture;
use lowtide::core::market::quota::QuotaFamily;
use lowtide::core::market::scores::ScoreQuestion;
use lowtide::core::market::{Capacity, CapacityType};
use lowtide::core::units::ids::{InstanceId, InstanceType, Region, ReservationId, ZoneId};
use lowtide::core::units::money::MicroUsdPerHour;
use lowtide::core::units::time::{Millis, Timestamp};
use lowtide::engine::wall_clock::WallClock;
use lowtide::lab::ec2::facts::Facts;
use lowtide::lab::ec2::{AccountSettings, SimulatorConfig, image_id, serve, subnet_id};
use lowtide::ports::{Clock, Cloud, CloudError, QueueMessage};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const QUEUE: &str = "lowtide-interruptions";
const HOME: &str = "us-east-1";
const ZONE: &str = "use1-az4";

/// A simulated account and the adapter on it.
struct Lab {
    address: SocketAddr,
    cloud: AwsCloud,
}

impl Lab {
    async fn start() -> Lab {
        Lab::with(Timeouts::default(), "AKIDLOWTIDE").await
    }

    async fn with(timeouts: Timeouts, key: &str) -> Lab {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let settings =
            AccountSettings { boot: Millis(50), shutdown: Millis(50), visibility_lag: Millis(100), ..AccountSettings::default() };
        tokio::spawn(serve(listener, SimulatorConfig { settings, ..SimulatorConfig::default() }, std::future::pending()));
        let mut settings = AwsSettings::new("lab", Arc::new(WallClock));
        settings.endpoint_url = Some(format!("http://{address}"));
        settings.credentials = Some(Credentials::new(key, "key-of-a-test-61d0", None, None, "test"));
        settings.timeouts = Timeouts { receive_wait: Duration::from_secs(1), ..timeouts };
        Lab { address, cloud: AwsCloud::new(settings).await }
    }

    async fn http(&self, method: &str, path: &str, body: &Value) -> Value {
        let mut stream = tokio::net::TcpStream::connect(self.address).await.unwrap();
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
    async fn state(&self) -> Value {
        self.http("GET", "/_sim/state", &json!({})).await
    }

    /// Makes the launch template that [`launch`] names.
    async fn template(&self) -> String {
        self.cloud.ensure_launch_template(&template()).await.unwrap()
    }

    /// Asks until our one instance is as wanted.
    async fn instance(&self, what: &str, wanted: impl Fn(&Instance) -> bool) -> Instance {
        let started = Instant::now();
        loop {
            let found = self.cloud.instances(&HOME.into(), "lab").await.unwrap();
            match &found[..] {
                [one] if wanted(one) => return one.clone(),
                _ => assert!(started.elapsed() < Duration::from_secs(5), "not {what}: {found:?}"),
            }
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    }

    /// Receives until a message is as wanted; deletes all others.
    async fn message(&self, wanted: impl Fn(&QueueMessage) -> bool) -> QueueMessage {
        let started = Instant::now();
        loop {
            for message in self.cloud.receive_notices(&HOME.into(), QUEUE).await.unwrap() {
                if wanted(&message) {
                    return message;
                }
                self.cloud.acknowledge(&HOME.into(), QUEUE, &message.receipt).await.unwrap();
            }
            assert!(started.elapsed() < Duration::from_secs(10), "the message did not come");
        }
    }
}

fn template() -> LaunchTemplate {
    LaunchTemplate {
        region: HOME.into(),
        class: "use1".into(),
        name: "lowtide-0123".into(),
        image: Some(image_id(&HOME.into(), "x86_64")),
        security_groups: vec!["sg-0123".into()],
        instance_profile: Some("lowtide-node".into()),
        settings: Default::default(),
        user_data: "#cloud-config\n".into(),
        client_token: "template-token".into(),
    }
}

fn launch(token: &str, capacity_type: CapacityType) -> Launch {
    Launch {
        claim: "claim-1".into(),
        claim_uid: "uid-1".into(),
        capacity: Capacity { region: HOME.into(), zone: ZONE.into(), instance_type: "g6.xlarge".into(), capacity_type },
        client_token: token.into(),
        launch_template: "lowtide-0123".into(),
        launch_template_version: "1".into(),
        subnet: subnet_id(&ZONE.into()),
        image: None,
        reservation: None,
        tags: [(tags::CLUSTER.to_owned(), "lab".to_owned()), (tags::CLAIM_UID.to_owned(), "uid-1".to_owned())].into(),
    }
}

#[tokio::test]
async fn the_market_is_read_in_zone_ids_and_follows_price_changes() {
    let lab = Lab::start().await;
    let home: Region = HOME.into();
    let types: Vec<InstanceType> = vec!["g6.xlarge".into(), "p5.48xlarge".into()];
    let of_zone = |quotes: &[lowtide::core::market::Quote]| {
        let here = |quote: &&lowtide::core::market::Quote| quote.zone.as_ref().unwrap().as_str() == ZONE && quote.instance_type == types[0];
        quotes.iter().filter(here).map(|quote| quote.price_per_hour).collect::<Vec<_>>()
    };
    let before = lab.cloud.spot_quotes(&home, &types, WallClock.now()).await.unwrap();
    assert!(before.iter().all(|quote| quote.zone.as_ref().unwrap().as_str().starts_with("use1-") && types.contains(&quote.instance_type)));
    assert_eq!(of_zone(&before).len(), 1);
    lab.order("price", json!({"region": HOME, "zone": ZONE, "instance_type": "g6.xlarge", "price_per_hour": "0.123456"})).await;
    assert_eq!(of_zone(&lab.cloud.spot_quotes(&home, &types, WallClock.now()).await.unwrap()), [MicroUsdPerHour(123_456)]);

    let listed = lab.cloud.on_demand_quotes(&home, &types).await.unwrap();
    let shown: Vec<(&str, i64)> = listed.iter().map(|quote| (quote.instance_type.as_str(), quote.price_per_hour.0)).collect();
    assert_eq!(shown, [("g6.xlarge", 804_800), ("p5.48xlarge", 55_040_000)]);

    let sold = lab.cloud.offerings(&home).await.unwrap();
    assert!(sold.contains(&("g6.xlarge".into(), ZONE.into())), "{sold:?}");
    assert!(sold.iter().all(|(_, zone)| zone.as_str().starts_with("use1-")));
}

#[tokio::test]
async fn machine_types_count_fractions_and_leave_other_makers_out() {
    let lab = Lab::start().await;
    let types = lab.cloud.machine_types(&HOME.into()).await.unwrap();
    let of = |name: &str| types.iter().find(|it| it.instance_type.as_str() == name).unwrap_or_else(|| panic!("no {name}"));
    assert_eq!((of("g6f.xlarge").gpus, of("g6f.xlarge").gpu_memory.0), (1, 2_861));
    assert_eq!((of("p5.48xlarge").gpus, of("p5.48xlarge").gpu_model.as_str(), of("p5.48xlarge").vcpus), (8, "h100", 192));
    assert!(types.is_sorted_by_key(|it| it.instance_type.clone()));
}

#[tokio::test]
async fn subnets_have_zones_and_an_unknown_one_is_named() {
    let lab = Lab::start().await;
    let subnet = subnet_id(&ZONE.into());
    let zones = lab.cloud.subnet_zones(&HOME.into(), std::slice::from_ref(&subnet)).await.unwrap();
    assert_eq!(zones[&subnet].as_str(), ZONE);
    let error = lab.cloud.subnet_zones(&HOME.into(), &["subnet-0000".into()]).await.unwrap_err();
    assert!(matches!(&error, CloudError::Refused { message, .. } if message.contains("subnet-0000")), "{error}");
}

#[tokio::test]
async fn a_template_is_made_once_and_found_afterwards() {
    let lab = Lab::start().await;
    assert_eq!(lab.template().await, "1");
    assert_eq!(lab.template().await, "1");
    let again = LaunchTemplate { client_token: "another-token".into(), ..template() };
    assert_eq!(lab.cloud.ensure_launch_template(&again).await.unwrap(), "1");
    assert_eq!(lab.state().await["launch_templates"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn images_are_found_by_id_parameter_and_name_and_a_launch_boots_the_one_it_names() {
    let lab = Lab::start().await;
    let (amd, arm) = (image_id(&HOME.into(), "x86_64"), image_id(&HOME.into(), "arm64"));
    let alias = |architecture| ImageBy::Parameter(alias_parameter("al2023-nvidia@1.33", architecture).unwrap());
    let newest = ImageBy::Newest { owner: "self".into(), name: Some("lowtide-gpu-node-*".into()), tags: [].into() };
    for by in [ImageBy::Id(amd.clone()), alias(Architecture::Amd64), newest.clone()] {
        let source = ImageSource { architecture: Architecture::Amd64, by };
        let found = lab.cloud.images(&HOME.into(), std::slice::from_ref(&source)).await.unwrap();
        assert_eq!((&found[&Architecture::Amd64].id, &found[&Architecture::Amd64].source), (&amd, &source.to_string()));
    }
    for (by, fault) in [
        (ImageBy::Id(amd.clone()), "is of x86_64, not of arm64"),
        (ImageBy::Parameter("/nobody/wrote/this".into()), "has no parameter /nobody/wrote/this"),
        (ImageBy::Newest { owner: "self".into(), name: Some("other-*".into()), tags: [].into() }, "no image in"),
    ] {
        let source = ImageSource { architecture: Architecture::Arm64, by };
        let error = lab.cloud.images(&HOME.into(), &[source]).await.unwrap_err();
        assert!(matches!(&error, CloudError::Refused { message, .. } if message.contains(fault)), "{error}");
    }
    // A template without an image, as of a class with one for each architecture.
    lab.cloud.ensure_launch_template(&LaunchTemplate { image: None, ..template() }).await.unwrap();
    let wrong = Launch { image: Some(arm), ..launch("token-arm", CapacityType::Spot) };
    let error = lab.cloud.launch(&wrong).await.unwrap_err();
    assert!(matches!(&error, CloudError::Refused { message, .. } if message.contains("does not match")), "{error}");
    lab.cloud.launch(&Launch { image: Some(amd.clone()), ..launch("token-amd", CapacityType::Spot) }).await.unwrap();
    let state = lab.state().await;
    assert_eq!(state["instances"][0]["image_id"], amd.as_str(), "{state}");
}

#[tokio::test]
async fn a_token_buys_one_instance_however_often_it_is_sent() {
    let lab = Lab::start().await;
    lab.template().await;
    let spot = launch("token-1", CapacityType::Spot);
    let id = lab.cloud.launch(&spot).await.unwrap();
    assert_eq!(lab.cloud.launch(&spot).await.unwrap(), id);
    let other = Launch { capacity: Capacity { instance_type: "g6.2xlarge".into(), ..spot.capacity.clone() }, ..spot.clone() };
    assert!(matches!(lab.cloud.launch(&other).await, Err(CloudError::TokenUsed { .. })));

    let found = lab.instance("running", |it| it.state == InstanceState::Running).await;
    assert_eq!((&found.id, &found.capacity), (&id, &spot.capacity));
    assert_eq!((found.tags.get(tags::CLAIM_UID), found.spot_request_status), (Some("uid-1"), None));
    assert!((0..5_000).contains(&WallClock.now().since(found.launched_at).0), "{}", found.launched_at);
    assert_eq!((found.launched_at, found.ended_at), (found.launched_at.floor_to_second(), None));
    assert_eq!(lab.cloud.instances(&HOME.into(), "another-cluster").await.unwrap(), []);

    lab.cloud.terminate(&HOME.into(), &id).await.unwrap();
    let ended = lab.instance("terminated", |it| it.state == InstanceState::Terminated).await;
    assert_eq!(ended.state_reason.as_deref(), Some("Client.UserInitiatedShutdown"));
    assert_eq!(ended.spot_request_status, None, "we ended it, EC2 did not take it");
    assert!((0..5_000).contains(&WallClock.now().since(ended.ended_at.unwrap()).0), "{:?}", ended.ended_at);
    lab.cloud.terminate(&HOME.into(), &id).await.unwrap();
    lab.cloud.terminate(&HOME.into(), &InstanceId::from("i-0123456789abcdef0")).await.unwrap();
    assert!(matches!(lab.cloud.launch(&spot).await, Err(CloudError::TokenEnded { .. })));
}

#[tokio::test]
async fn on_demand_is_on_demand_and_reserved_without_a_reservation_is_refused_before_it_is_sent() {
    let lab = Lab::start().await;
    lab.template().await;
    lab.cloud.launch(&launch("token-1", CapacityType::OnDemand)).await.unwrap();
    assert_eq!(lab.instance("there", |_| true).await.capacity.capacity_type, CapacityType::OnDemand);
    assert!(matches!(lab.cloud.launch(&launch("token-2", CapacityType::Reserved)).await, Err(CloudError::Refused { .. })));
    assert_eq!(lab.state().await["create_fleet_calls"], 1);
}

#[tokio::test]
async fn a_reservation_is_read_launched_into_as_far_as_it_goes_and_counts_in_no_quota() {
    let lab = Lab::start().await;
    lab.template().await;
    let order = json!({"region": HOME, "zone": ZONE, "instance_type": "g6.xlarge", "count": 1, "ends_in_seconds": 7_200.0});
    let id = ReservationId::from(lab.order("reservation", order).await["capacity_reservation_id"].as_str().unwrap());
    let ids = [id.clone(), "cr-0000000000000000f".into()];
    let read = lab.cloud.capacity_reservations(&HOME.into(), &ids).await.unwrap();
    let [reservation] = &read[..] else { panic!("one that does not exist is left out: {read:?}") };
    assert_eq!((reservation.zone.as_str(), reservation.instance_type.as_str()), (ZONE, "g6.xlarge"));
    assert_eq!((reservation.available, reservation.active), (1, true));
    let ends_in = reservation.ends_at.unwrap().since(WallClock.now()).as_secs();
    assert!((7_190..=7_200).contains(&ends_in), "{ends_in}");
    assert_eq!(lab.cloud.capacity_reservations(&"eu-west-1".into(), &ids).await.unwrap(), []);

    lab.order("quota", json!({"region": HOME, "code": "L-DB2E81BA", "vcpus": 0})).await;
    lab.order("capacity", json!({"zone": ZONE, "available": 0})).await;
    let into = |token| Launch { reservation: Some(id.clone()), ..launch(token, CapacityType::Reserved) };
    let instance = lab.cloud.launch(&into("token-1")).await.unwrap();
    assert_eq!(lab.cloud.launch(&into("token-1")).await.unwrap(), instance, "the token holds for RunInstances too");
    let found = lab.instance("there", |it| it.id == instance).await;
    assert_eq!((found.capacity.capacity_type, found.tags.get(tags::CLAIM_UID)), (CapacityType::Reserved, Some("uid-1")));
    assert_eq!(lab.cloud.capacity_reservations(&HOME.into(), &ids).await.unwrap()[0].available, 0);
    let error = lab.cloud.launch(&into("token-2")).await.unwrap_err();
    assert!(matches!(&error, CloudError::NoCapacity { code, .. } if code == "ReservationCapacityExceeded"), "{error}");
    assert_eq!(lab.state().await["run_instances_calls"], 3);
}

#[tokio::test]
async fn a_region_that_is_off_is_distinguished_from_a_fault_and_answers_again_once_it_is_on() {
    let lab = Lab::start().await;
    let off: Region = "ap-southeast-3".into();
    lab.order("region", json!({"region": off, "on": false})).await;
    let error = lab.cloud.machine_types(&off).await.unwrap_err();
    assert!(error.closes_region().is_some_and(|sentence| sentence.contains("credentials")), "{error}");
    lab.order("region", json!({"region": off, "on": true})).await;
    assert!(!lab.cloud.machine_types(&off).await.unwrap().is_empty());
    lab.order("deny", json!({"service": "ec2", "region": off, "on": true})).await;
    assert!(lab.cloud.offerings(&off).await.unwrap_err().closes_region().is_some(), "a policy that denies the region closes it too");
}

#[tokio::test]
async fn every_region_and_its_local_zones_are_read_in_zone_ids() {
    let lab = Lab::start().await;
    let facts = Facts::shipped().unwrap();
    let prefix = |zone: &ZoneId| zone.as_str().split('-').next().unwrap().to_owned();
    let mut local = BTreeSet::new();
    for (region, zones) in &facts.zones {
        let types: Vec<InstanceType> = lab.cloud.machine_types(region).await.unwrap().into_iter().map(|m| m.instance_type).collect();
        let sold = lab.cloud.offerings(region).await.unwrap();
        let spot = lab.cloud.spot_quotes(region, &types, WallClock.now()).await.unwrap();
        let named: BTreeSet<ZoneId> = sold.iter().map(|(_, zone)| zone.clone()).collect();
        assert_eq!(&named, zones, "{region}");
        let prefixes: BTreeSet<String> = zones.iter().map(prefix).collect();
        assert!(prefixes.len() == 1 && zones.iter().all(|zone| zone.as_str().contains("-az")), "{region}: {zones:?}");
        let priced: BTreeSet<ZoneId> = spot.iter().filter_map(|quote| quote.zone.clone()).collect();
        assert!(priced.is_subset(zones) && spot.iter().all(|q| sold.contains(&(q.instance_type.clone(), q.zone.clone().unwrap()))));
        local.extend(priced.into_iter().filter(ZoneId::is_local));
    }
    assert!(facts.zones.len() >= 28 && local.contains(&"use1-atl2-az1".into()), "{} regions, {local:?}", facts.zones.len());
}

#[tokio::test]
async fn list_prices_of_the_gpu_family_are_one_page_and_the_rest_is_looked_for_rarely() {
    let lab = Lab::start().await;
    let types: Vec<InstanceType> = vec!["g6.xlarge".into(), "p5e.48xlarge".into()];
    for _ in 0..3 {
        let listed = lab.cloud.on_demand_quotes(&HOME.into(), &types).await.unwrap();
        assert_eq!(listed.iter().map(|quote| quote.instance_type.as_str()).collect::<Vec<_>>(), ["g6.xlarge"]);
    }
    let asked = lab.state().await["calls"]["GetProducts"].as_i64().unwrap();
    assert_eq!(asked, 4, "three short questions, and one long one for the type that has no list price");
}

#[tokio::test]
async fn missing_capacity_quota_and_support_are_distinguished_and_asked_once() {
    let lab = Lab::start().await;
    lab.template().await;
    lab.order("capacity", json!({"zone": ZONE, "capacity_type": "spot", "available": 0})).await;
    let error = lab.cloud.launch(&launch("token-1", CapacityType::Spot)).await.unwrap_err();
    assert!(matches!(&error, CloudError::NoCapacity { code, .. } if code == "InsufficientInstanceCapacity"), "{error}");
    lab.order("quota", json!({"region": HOME, "code": "L-DB2E81BA", "vcpus": 3})).await;
    let error = lab.cloud.launch(&launch("token-2", CapacityType::OnDemand)).await.unwrap_err();
    assert!(matches!(&error, CloudError::Quota { code, .. } if code == "VcpuLimitExceeded"), "{error}");
    let mut unsold = launch("token-3", CapacityType::Spot);
    unsold.capacity.instance_type = "zz9.bogus".into();
    assert!(matches!(lab.cloud.launch(&unsold).await, Err(CloudError::Refused { .. })));
    assert_eq!(lab.state().await["create_fleet_calls"], 3);
    assert_eq!(lab.state().await["instances"], json!([]));
}

#[tokio::test]
async fn throttled_launches_say_so_and_are_not_repeated() {
    let lab = Lab::start().await;
    lab.template().await;
    lab.order("capacity", json!({"available": 0})).await;
    let launches: Vec<Launch> = (0..80).map(|n| launch(&format!("token-{n}"), CapacityType::Spot)).collect();
    let answers = futures::future::join_all(launches.iter().map(|one| lab.cloud.launch(one))).await;
    let throttled = answers.iter().filter(|it| matches!(it, Err(CloudError::Throttled { .. }))).count();
    let refused = answers.iter().filter(|it| matches!(it, Err(CloudError::NoCapacity { .. }))).count();
    assert!(throttled > 0 && refused >= 50 && throttled + refused == 80, "{throttled} throttled, {refused} without capacity");
    assert_eq!(lab.state().await["create_fleet_calls"], 80);
}

#[tokio::test]
async fn a_launch_whose_answer_is_lost_is_found_with_the_same_token() {
    let times = Timeouts { operation: Duration::from_millis(500), attempt: Duration::from_millis(400), ..Timeouts::default() };
    let lab = Lab::with(times, "AKIDLOWTIDE").await;
    lab.template().await;
    lab.order("stall", json!({"action": "CreateFleet", "seconds": 30.0, "when": "after", "times": 1})).await;
    let started = Instant::now();
    let error = lab.cloud.launch(&launch("token-1", CapacityType::Spot)).await.unwrap_err();
    assert!(matches!(error, CloudError::Unknown { .. }) && started.elapsed() < Duration::from_secs(3), "{error}");
    let id = lab.cloud.launch(&launch("token-1", CapacityType::Spot)).await.unwrap();
    assert_eq!(lab.instance("there", |_| true).await.id, id);
}

#[tokio::test]
async fn an_interruption_is_seen_in_queue_metadata_and_spot_request() {
    let lab = Lab::start().await;
    lab.template().await;
    let id = lab.cloud.launch(&launch("token-1", CapacityType::Spot)).await.unwrap();
    lab.instance("running", |it| it.state == InstanceState::Running).await;
    let reader = ImdsReader::connect(Some(&format!("http://{}/_imds/{id}", lab.address))).await.unwrap();
    assert_eq!((&reader.instance, reader.region.as_str()), (&id, HOME));
    assert_eq!(reader.poll().await.unwrap(), None);

    let order = json!({"instance_id": id.as_str(), "rebalance_first": true, "rebalance_lead_seconds": 1.0});
    let noticed_at = lab.order("interrupt", order).await["noticed_at_ms"].as_i64().unwrap();
    assert_eq!(reader.poll().await.unwrap().unwrap().kind, NoticeKind::Rebalance);
    let is_kind = |message: &QueueMessage, kind| message.content.as_ref().is_ok_and(|notice| notice.kind == kind && notice.instance == id);
    lab.message(|it| is_kind(it, NoticeKind::Rebalance)).await;
    let warning = lab.message(|it| is_kind(it, NoticeKind::Interruption)).await;
    lab.cloud.acknowledge(&HOME.into(), QUEUE, &warning.receipt).await.unwrap();

    let taken = lab.instance("being taken back", |it| it.spot_request_status.is_some()).await;
    let (status, since) = *taken.spot_request_status.clone().unwrap();
    assert_eq!((taken.state, status.as_str(), since.0), (InstanceState::Running, "instance-terminated-no-capacity", noticed_at));
    let notice = reader.poll().await.unwrap().unwrap();
    let apart = notice.sent_at.since(warning.content.unwrap().sent_at).0.abs();
    assert!(notice.kind == NoticeKind::Interruption && apart <= 1_000, "{notice:?}");

    lab.order("tick", json!({"seconds": 121.0})).await;
    let ended = lab.instance("terminated", |it| it.state == InstanceState::Terminated).await;
    assert_eq!(ended.state_reason.as_deref(), Some("Server.SpotInstanceTermination"));
    assert_eq!(ended.ended_at, Some((since + Millis::from_secs(120)).floor_to_second()));
}

#[tokio::test]
async fn a_retirement_is_seen_in_queue_and_status_until_it_is_called_off() {
    let lab = Lab::start().await;
    lab.template().await;
    let id = lab.cloud.launch(&launch("token-1", CapacityType::OnDemand)).await.unwrap();
    lab.instance("running", |it| it.state == InstanceState::Running).await;
    assert!(lab.cloud.scheduled_events(&HOME.into()).await.unwrap().is_empty());
    let order = json!({"instance_id": id.as_str(), "code": "instance-retirement", "in_seconds": 86_400.0, "health": true});
    let date = lab.order("schedule", order).await["not_before_ms"].as_i64().unwrap();
    let event = ScheduledEvent { kind: ScheduledKind::InstanceRetirement, not_before: Timestamp(date).floor_to_second() };
    assert_eq!(lab.cloud.scheduled_events(&HOME.into()).await.unwrap(), BTreeMap::from([(id.clone(), event)]));
    let is_kind = |message: &QueueMessage, kind| message.content.as_ref().is_ok_and(|notice| notice.kind == kind && notice.instance == id);
    let said = lab.message(|it| is_kind(it, NoticeKind::Scheduled(event))).await;
    lab.cloud.acknowledge(&HOME.into(), QUEUE, &said.receipt).await.unwrap();
    lab.order("schedule", json!({"instance_id": id.as_str(), "health": true})).await;
    lab.message(|it| is_kind(it, NoticeKind::ScheduleOver)).await;
    assert!(lab.cloud.scheduled_events(&HOME.into()).await.unwrap().is_empty(), "EC2 still shows it, as canceled");
}

#[tokio::test]
async fn a_message_nobody_can_read_keeps_its_receipt_and_can_be_deleted() {
    let lab = Lab::start().await;
    lab.order("sqs", json!({"region": HOME, "body": "hello"})).await;
    let messages = lab.cloud.receive_notices(&HOME.into(), QUEUE).await.unwrap();
    let [message] = &messages[..] else { panic!("{messages:?}") };
    assert_eq!(message.content.as_ref().unwrap_err().text, "hello");
    assert_eq!(lab.state().await["queue_depths"][HOME], 1);
    lab.cloud.acknowledge(&HOME.into(), QUEUE, &message.receipt).await.unwrap();
    assert_eq!(lab.state().await["queue_depths"][HOME], 0);
    let started = Instant::now();
    assert_eq!(lab.cloud.receive_notices(&HOME.into(), QUEUE).await.unwrap(), []);
    assert!(started.elapsed() >= Duration::from_millis(900), "an empty queue is waited on, not hammered");
}

#[tokio::test]
async fn a_queue_we_may_not_read_is_refused_until_we_may() {
    let lab = Lab::start().await;
    lab.order("deny", json!({"service": "sqs", "region": HOME, "on": true})).await;
    let error = lab.cloud.receive_notices(&HOME.into(), QUEUE).await.unwrap_err();
    assert!(matches!(&error, CloudError::Refused { code, .. } if code == "AccessDeniedException"), "{error}");
    assert_eq!(lab.cloud.receive_notices(&"eu-west-1".into(), QUEUE).await.unwrap(), [], "another region is not touched");
    lab.order("deny", json!({"service": "sqs", "region": HOME, "on": false})).await;
    assert_eq!(lab.cloud.receive_notices(&HOME.into(), QUEUE).await.unwrap(), []);
    let error = lab.cloud.receive_notices(&HOME.into(), "no-such-queue").await.unwrap_err();
    assert!(matches!(error, CloudError::Refused { .. }), "{error}");
}

#[tokio::test]
async fn a_denied_launch_and_wrong_keys_are_matters_of_configuration() {
    let lab = Lab::start().await;
    lab.template().await;
    lab.order("deny", json!({"service": "ec2", "action": "CreateFleet", "on": true})).await;
    let error = lab.cloud.launch(&launch("token-1", CapacityType::Spot)).await.unwrap_err();
    assert!(matches!(&error, CloudError::Refused { code, .. } if code == "UnauthorizedOperation"), "{error}");
    let stranger = Lab::with(Timeouts::default(), "INVALIDKEY").await;
    let error = stranger.cloud.offerings(&HOME.into()).await.unwrap_err();
    assert!(matches!(&error, CloudError::Refused { code, .. } if code == "AuthFailure"), "{error}");
}

#[tokio::test]
async fn one_stalling_region_does_not_hold_up_another() {
    let times = Timeouts { operation: Duration::from_secs(2), attempt: Duration::from_millis(900), ..Timeouts::default() };
    let lab = Lab::with(times, "AKIDLOWTIDE").await;
    lab.order("stall", json!({"action": "DescribeInstances", "seconds": 30.0, "times": 3})).await;
    let (home, elsewhere): (Region, Region) = (HOME.into(), "eu-central-1".into());
    let started = Instant::now();
    let (stalled, prices) = tokio::join!(lab.cloud.instances(&home, "lab"), async {
        let prices = lab.cloud.spot_quotes(&elsewhere, &["g6.xlarge".into()], WallClock.now()).await;
        (prices, started.elapsed())
    });
    assert!(matches!(stalled, Err(CloudError::Unknown { .. })), "{stalled:?}");
    assert!(!prices.0.unwrap().is_empty() && prices.1 < Duration::from_secs(2), "{:?}", prices.1);
}

#[tokio::test]
async fn quotas_and_placement_scores_are_read() {
    let lab = Lab::start().await;
    lab.order("quota", json!({"region": HOME, "code": "L-7212CCBC", "vcpus": 192})).await;
    let quotas = lab.cloud.vcpu_quotas(&HOME.into()).await.unwrap();
    let spot_p = quotas.iter().find(|it| it.family == QuotaFamily::P && it.capacity_type == CapacityType::Spot).unwrap();
    assert_eq!((quotas.len(), spot_p.vcpus), (4, 192));

    let question = ScoreQuestion {
        types: ["g6.xlarge", "g5.xlarge", "g4dn.xlarge"].map(InstanceType::from).to_vec(),
        instances: 2,
        regions: vec![HOME.into(), "eu-west-1".into()],
        by_zone: true,
    };
    let scores = lab.cloud.placement_scores(&HOME.into(), &question).await.unwrap();
    assert!(!scores.is_empty() && scores.len() <= 10);
    assert!(scores.iter().all(|it| (1..=10).contains(&it.score) && it.zone.is_some()), "{scores:?}");
    assert!(scores.is_sorted_by_key(|it| std::cmp::Reverse(it.score)));
}
