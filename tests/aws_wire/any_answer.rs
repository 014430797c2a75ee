//! Whatever AWS answers is read or an error: answers that are cut, doubled and spoiled.

use super::*;

const INSTANCES: &str = "<DescribeInstancesResponse><reservationSet><item><reservationId>r-1</reservationId><instancesSet><item>\
    <instanceId>i-0123456789abcdef0</instanceId><instanceType>g6.xlarge</instanceType><instanceState><code>16</code><name>running</name></instanceState>\
    <privateDnsName>ip-10-0-0-7.ec2.internal</privateDnsName><privateIpAddress>10.0.0.7</privateIpAddress><launchTime>2026-07-20T11:00:00.000Z</launchTime>\
    <placement><availabilityZone>us-east-1a</availabilityZone><availabilityZoneId>use1-az4</availabilityZoneId></placement>\
    <instanceLifecycle>spot</instanceLifecycle><spotInstanceRequestId>sir-1</spotInstanceRequestId>\
    <reason>Server.SpotInstanceTermination (2026-07-20 12:00:00 GMT)</reason>\
    <tagSet><item><key>lowtide-cluster</key><value>test</value></item></tagSet></item></instancesSet></item></reservationSet></DescribeInstancesResponse>";
const REQUESTS: &str = "<DescribeSpotInstanceRequestsResponse><spotInstanceRequestSet><item><spotInstanceRequestId>sir-1</spotInstanceRequestId>\
    <status><code>marked-for-termination</code><updateTime>2026-07-20T11:30:00.000Z</updateTime></status></item></spotInstanceRequestSet>\
    </DescribeSpotInstanceRequestsResponse>";
const PRICES: &str = "<DescribeSpotPriceHistoryResponse><spotPriceHistorySet><item><instanceType>g6.xlarge</instanceType>\
    <productDescription>Linux/UNIX</productDescription><spotPrice>0.301000</spotPrice><timestamp>2026-07-20T11:00:00.000Z</timestamp>\
    <availabilityZone>us-east-1a</availabilityZone><availabilityZoneId>use1-az4</availabilityZoneId></item></spotPriceHistorySet><nextToken></nextToken>\
    </DescribeSpotPriceHistoryResponse>";
const TYPES: &str = "<DescribeInstanceTypesResponse><instanceTypeSet><item><instanceType>g6.xlarge</instanceType><supportedUsageClasses>\
    <item>spot</item></supportedUsageClasses><processorInfo><supportedArchitectures><item>x86_64</item></supportedArchitectures></processorInfo>\
    <vCpuInfo><defaultVCpus>4</defaultVCpus></vCpuInfo><memoryInfo><sizeInMiB>16384</sizeInMiB></memoryInfo>\
    <instanceStorageInfo><totalSizeInGB>250</totalSizeInGB></instanceStorageInfo><gpuInfo><gpus><item><name>L4</name><manufacturer>NVIDIA</manufacturer>\
    <count>1</count><memoryInfo><sizeInMiB>22888</sizeInMiB></memoryInfo></item></gpus></gpuInfo></item></instanceTypeSet></DescribeInstanceTypesResponse>";
const ZONES: &str = "<DescribeAvailabilityZonesResponse><availabilityZoneInfo><item><zoneName>us-east-1a</zoneName><zoneId>use1-az4</zoneId></item>\
    </availabilityZoneInfo></DescribeAvailabilityZonesResponse>";
const BOUGHT: &str = "<CreateFleetResponse><fleetId>fleet-1</fleetId><fleetInstanceSet><item><instanceIds><item>i-1</item></instanceIds></item>\
    </fleetInstanceSet></CreateFleetResponse>";

type Answers = BTreeMap<&'static str, String>;

/// Everything that the operator asks, of answers that may be anything: what is read of them can be, and the rest is an error.
async fn ask_all(cloud: &AwsCloud, answers: &Answers) {
    let region = "us-east-1".into();
    if let Ok(machines) = cloud.machine_types(&region).await {
        for machine in machines {
            let sane = [machine.gpus, machine.gpu_memory.0, machine.vcpus, machine.memory.0].into_iter().all(|n| n > 0)
                && machine.instance_store.0 >= 0;
            assert!(sane, "{machine:?} of {}", answers["DescribeInstanceTypes"]);
            let _ = machine.allocatable();
        }
    }
    if let Ok(quotes) = cloud.spot_quotes(&region, &["g6.xlarge".into()], Timestamp(0)).await {
        assert!(quotes.iter().all(|quote| quote.price_per_hour.0 > 0), "{quotes:?} of {}", answers["DescribeSpotPriceHistory"]);
    }
    let listed = cloud.on_demand_quotes(&region, &["g6.xlarge".into()]).await.unwrap_or_default();
    assert!(listed.iter().all(|quote| quote.price_per_hour.0 > 0), "{listed:?} of {}", answers["GetProducts"]);
    if let Ok(instances) = cloud.instances(&region, "test").await {
        assert!(instances.iter().all(|one| !one.id.as_str().is_empty()), "{instances:?} of {}", answers["DescribeInstances"]);
    }
    if let Ok(id) = cloud.launch(&launch()).await {
        assert!(!id.as_str().is_empty(), "a machine without a name, of {}", answers["CreateFleet"]);
    }
    let _ = (cloud.zone_names(&region).await, cloud.vcpu_quotas(&region).await, cloud.offerings(&region).await);
}

/// A server that gives the answers last set for each action, an adapter, and one that has little time: the SDK asks again when it cannot read an answer.
fn answering(timeouts: Timeouts) -> (tokio::runtime::Runtime, Arc<Mutex<Answers>>, Server, AwsCloud, AwsCloud) {
    let answers: Arc<Mutex<Answers>> = Arc::default();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let said = answers.clone();
    let hurried = Timeouts { attempt: Duration::from_millis(100), operation: Duration::from_millis(150), ..timeouts };
    let (server, patient, cloud) = runtime.block_on(async {
        let server = Server::start(move |_, call| {
            let body = said.lock().unwrap().get(call.action.as_str()).cloned().unwrap_or_default();
            async move { (StatusCode::OK, body) }
        })
        .await;
        let (patient, hurried) = (server.cloud().await, cloud_at(&server.url, hurried).await);
        (server, patient, hurried)
    });
    (runtime, answers, server, patient, cloud)
}

/// Answers as AWS gives them, cut, doubled, and with what breaks readers spliced in: none brings the operator down, none is a price of
/// nothing, a type of nothing, or a machine without a name.
#[test]
fn whatever_aws_answers_is_read_or_an_error() {
    use proptest::prelude::*;
    let (runtime, answers, _server, patient, cloud) = answering(Timeouts::default());
    let products =
        json!({"FormatVersion": "aws_v1", "PriceList": [product("g6.xlarge", "0.8048000000", "Linux").replace("eu-west-1", "us-east-1")]})
            .to_string();
    let whole: Answers = [
        ("DescribeInstances", INSTANCES),
        ("DescribeSpotInstanceRequests", REQUESTS),
        ("DescribeSpotPriceHistory", PRICES),
        ("DescribeInstanceTypes", TYPES),
        ("DescribeAvailabilityZones", ZONES),
        ("CreateFleet", BOUGHT),
        ("GetProducts", products.as_str()),
    ]
    .map(|(action, text)| (action, text.to_owned()))
    .into();
    *answers.lock().unwrap() = whole.clone();
    runtime.block_on(async {
        let region = "us-east-1".into();
        assert_eq!(patient.machine_types(&region).await.unwrap().len(), 1);
        assert_eq!(patient.spot_quotes(&region, &["g6.xlarge".into()], Timestamp(0)).await.unwrap().len(), 1);
        assert_eq!(patient.instances(&region, "test").await.unwrap()[0].id.as_str(), "i-0123456789abcdef0");
        ask_all(&patient, &whole).await;
    });
    let changed = |action: &'static str| {
        let text = mutation::text(&[whole[action].as_str()]);
        text.prop_map(move |text| (action, text))
    };
    let any = (
        changed("DescribeInstances"),
        changed("DescribeSpotInstanceRequests"),
        changed("DescribeSpotPriceHistory"),
        changed("DescribeInstanceTypes"),
        changed("DescribeAvailabilityZones"),
        changed("CreateFleet"),
        changed("GetProducts"),
    );
    let config = ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |((a, b, c, d, e, f, g) in any)| {
        let now: Answers = [a, b, c, d, e, f, g].into();
        *answers.lock().unwrap() = now.clone();
        runtime.block_on(ask_all(&cloud, &now));
    });
}

const RESERVATIONS: &str = "<DescribeCapacityReservationsResponse><capacityReservationSet><item><capacityReservationId>cr-1</capacityReservationId>\
    <instanceType>p5.48xlarge</instanceType><availabilityZone>us-east-1a</availabilityZone><availabilityZoneId>use1-az4</availabilityZoneId>\
    <totalInstanceCount>4</totalInstanceCount><availableInstanceCount>2</availableInstanceCount><state>active</state><endDateType>limited</endDateType>\
    <endDate>2026-08-20T11:00:00.000Z</endDate></item></capacityReservationSet></DescribeCapacityReservationsResponse>";
const STATUS: &str = "<DescribeInstanceStatusResponse><instanceStatusSet><item><instanceId>i-0123456789abcdef0</instanceId>\
    <availabilityZone>us-east-1a</availabilityZone><eventsSet><item><instanceEventId>e-1</instanceEventId><code>instance-retirement</code>\
    <description>The instance is running on degraded hardware</description><notBefore>2026-08-03T12:00:00.000Z</notBefore></item></eventsSet></item>\
    </instanceStatusSet></DescribeInstanceStatusResponse>";
const IMAGES: &str = "<DescribeImagesResponse><imagesSet><item><imageId>ami-0123456789abcdef0</imageId><name>gpu-2026</name>\
    <architecture>x86_64</architecture><creationDate>2026-07-01T00:00:00.000Z</creationDate></item></imagesSet></DescribeImagesResponse>";
const SUBNETS: &str = "<DescribeSubnetsResponse><subnetSet><item><subnetId>subnet-1</subnetId><availabilityZone>us-east-1a</availabilityZone>\
    <availabilityZoneId>use1-az4</availabilityZoneId></item></subnetSet></DescribeSubnetsResponse>";
const SCORES: &str = "<GetSpotPlacementScoresResponse><spotPlacementScoreSet><item><region>us-east-1</region>\
    <availabilityZoneId>use1-az4</availabilityZoneId><score>7</score></item></spotPlacementScoreSet></GetSpotPlacementScoresResponse>";
const OFFERED: &str = "<DescribeInstanceTypeOfferingsResponse><instanceTypeOfferingSet><item><instanceType>g6.xlarge</instanceType>\
    <locationType>availability-zone-id</locationType><location>use1-az4</location></item></instanceTypeOfferingSet></DescribeInstanceTypeOfferingsResponse>";
const RUN: &str = "<RunInstancesResponse><reservationId>r-1</reservationId><instancesSet><item><instanceId>i-1</instanceId></item></instancesSet>\
    </RunInstancesResponse>";
const QUOTA: &str = r#"{"Quota": {"ServiceCode": "ec2", "QuotaCode": "L-3819A6DF", "Value": 192.0, "Unit": "None"}}"#;
const PARAMETER: &str = r#"{"Parameter": {"Name": "/aws/service/x", "Type": "String", "Value": "ami-0123456789abcdef0", "Version": 3}}"#;
const MESSAGES: &str = r#"{"Messages": [{"MessageId": "m-1", "ReceiptHandle": "h-1", "Body": "{\"detail-type\": \"other\"}"}]}"#;

/// Everything else that the operator asks: gives how many of its questions were answered by something that can be used.
async fn ask_the_rest(cloud: &AwsCloud, url: &str, answers: &Answers) -> usize {
    let region = "us-east-1".into();
    let mut used = 0;
    if let Ok(quotas) = cloud.vcpu_quotas(&region).await {
        used += 1;
        assert!(quotas.iter().all(|quota| (0..=1_000_000_000).contains(&quota.vcpus)), "{quotas:?} of {}", answers["GetServiceQuota"]);
    }
    if let Ok(found) = cloud.capacity_reservations(&region, &["cr-1".into()]).await {
        used += found.len();
        let sane = found.iter().all(|one| one.available >= 0 && !one.id.as_str().is_empty() && !one.zone.as_str().is_empty());
        assert!(sane, "{found:?} of {}", answers["DescribeCapacityReservations"]);
    }
    if let Ok(events) = cloud.scheduled_events(&region).await {
        used += events.len();
        assert!(events.keys().all(|id| !id.as_str().is_empty()), "{events:?} of {}", answers["DescribeInstanceStatus"]);
    }
    for by in [
        ImageBy::Parameter("/aws/service/x".into()),
        ImageBy::Newest { owner: "amazon".into(), name: Some("gpu-*".into()), tags: BTreeMap::new() },
    ] {
        if let Ok(images) = cloud.images(&region, &[ImageSource { architecture: Architecture::Amd64, by }]).await {
            used += images.len();
            assert!(images.values().all(|image| !image.id.is_empty()), "{images:?} of {}", answers["DescribeImages"]);
        }
    }
    if let Ok(zones) = cloud.subnet_zones(&region, &["subnet-1".to_owned()]).await {
        used += zones.len();
        assert!(zones.contains_key("subnet-1") && zones.values().all(|zone| !zone.as_str().is_empty()), "{zones:?}");
    }
    let question = ScoreQuestion { types: vec!["g6.xlarge".into()], instances: 1, regions: vec![region.clone()], by_zone: true };
    if let Ok(scores) = cloud.placement_scores(&region, &question).await {
        used += scores.len();
        assert!(scores.iter().all(|one| (1..=10).contains(&one.score) && !one.region.as_str().is_empty()), "{scores:?}");
    }
    if let Ok(offered) = cloud.offerings(&region).await {
        used += offered.len();
        assert!(offered.iter().all(|(name, zone)| !name.as_str().is_empty() && !zone.as_str().is_empty()), "{offered:?}");
    }
    if let Ok(id) = cloud.launch(&Launch { reservation: Some("cr-1".into()), ..launch() }).await {
        used += 1;
        assert!(!id.as_str().is_empty(), "a machine without a name, of {}", answers["RunInstances"]);
    }
    if let Ok(messages) = cloud.receive_notices(&region, &format!("{url}/queue")).await {
        used += messages.len();
    }
    used
}

/// As [`whatever_aws_answers_is_read_or_an_error`], of quotas, parameters, images, reservations, status, subnets, scores, offerings and the queue: no quota is a
/// negative one or no number, nothing that is found is without a name.
#[test]
fn whatever_aws_says_of_quotas_images_reservations_and_status_is_read_or_an_error() {
    use proptest::prelude::*;
    let waits = Timeouts { receive_wait: Duration::ZERO, receive_slack: Duration::from_millis(150), ..Timeouts::default() };
    let (runtime, answers, server, patient, cloud) = answering(waits);
    let whole: Answers = [
        ("DescribeAvailabilityZones", ZONES),
        ("GetServiceQuota", QUOTA),
        ("GetParameter", PARAMETER),
        ("DescribeImages", IMAGES),
        ("DescribeCapacityReservations", RESERVATIONS),
        ("DescribeInstanceStatus", STATUS),
        ("DescribeSubnets", SUBNETS),
        ("GetSpotPlacementScores", SCORES),
        ("DescribeInstanceTypeOfferings", OFFERED),
        ("RunInstances", RUN),
        ("ReceiveMessage", MESSAGES),
    ]
    .map(|(action, text)| (action, text.to_owned()))
    .into();
    *answers.lock().unwrap() = whole.clone();
    assert_eq!(runtime.block_on(ask_the_rest(&patient, &server.url, &whole)), 10, "all of it is read as AWS says it");
    let numbers =
        prop::sample::select(vec!["-1.0", "1e308", "-1e308", "9223372036854775807", "null", "\"NaN\"", "\"Infinity\"", "0.5", "\"\""]);
    let any = (
        prop::collection::vec(0..whole.len(), 1..4),
        whole.values().map(|text| mutation::text(&[text.as_str()])).collect::<Vec<_>>(),
        prop_oneof![1 => Just("192.0"), 1 => numbers],
    );
    let config = ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |((which, changed, vcpus) in any)| {
        let mut now = whole.clone();
        for n in which {
            let action = *whole.keys().nth(n).unwrap();
            now.insert(action, changed[n].clone());
        }
        now.entry("GetServiceQuota").and_modify(|quota| *quota = quota.replace("192.0", vcpus));
        *answers.lock().unwrap() = now.clone();
        runtime.block_on(ask_the_rest(&cloud, &server.url, &now));
    });
}
