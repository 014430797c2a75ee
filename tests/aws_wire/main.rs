//! The AWS adapter against answers written by hand: what EC2 does rarely, or what the simulator does not do.
#![cfg(feature = "live")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use aws_credential_types::Credentials;
use axum::Router;
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use lowtide::aws::imds::ImdsReader;
use lowtide::aws::{AwsCloud, AwsSettings, Timeouts};
use lowtide::core::fleet::{ImageBy, ImageSource, Launch, LaunchTemplate, NoticeKind};
use lowtide::core::market::catalog::Architecture;
use lowtide::core::market::quota::QuotaFamily;
use lowtide::core::market::scores::ScoreQuestion;
use lowtide::core::market::{Capacity, CapacityType};
use lowtide::core::units::ids::InstanceType;
use lowtide::core::units::time::Timestamp;
use lowtide::ports::{Clock, Cloud, CloudError};
use serde_json::json;

mod any_answer;
#[path = "../mutation/mod.rs"]
mod mutation;

struct At(Timestamp);
impl Clock for At {
    fn now(&self) -> Timestamp {
        self.0
    }
}

/// One call as it arrived: action, signed region, body.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Call {
    action: String,
    region: String,
    body: String,
}

type Answer = (StatusCode, String);
type Script = Arc<dyn Fn(usize, &Call) -> Pin<Box<dyn Future<Output = Answer> + Send>> + Send + Sync>;

struct Server {
    url: String,
    calls: Arc<Mutex<Vec<Call>>>,
}

impl Server {
    /// Serves `script`, which is given how many calls came before.
    async fn start<F>(script: impl Fn(usize, &Call) -> F + Send + Sync + 'static) -> Server
    where
        F: Future<Output = Answer> + Send + 'static,
    {
        let calls: Arc<Mutex<Vec<Call>>> = Arc::default();
        let script: Script = Arc::new(move |before, call| Box::pin(script(before, call)));
        let seen = calls.clone();
        let handler = move |headers: HeaderMap, body: String| {
            let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
            let action = match text("x-amz-target").rsplit_once('.') {
                Some((_, action)) => action.to_owned(),
                None => body.split('&').find_map(|pair| pair.strip_prefix("Action=")).unwrap_or_default().to_owned(),
            };
            let region = text("authorization").split('/').nth(2).unwrap_or_default().to_owned();
            let call = Call { action, region, body };
            let before = seen.lock().unwrap().len();
            seen.lock().unwrap().push(call.clone());
            let script = script.clone();
            async move { script(before, &call).await.into_response() }
        };
        let listener = tokio::net::TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, Router::new().fallback(handler)).await });
        Server { url, calls }
    }

    fn actions(&self) -> Vec<String> {
        self.calls.lock().unwrap().iter().map(|call| call.action.clone()).collect()
    }

    async fn cloud(&self) -> AwsCloud {
        cloud_at(&self.url, Timeouts { attempt: Duration::from_millis(400), operation: Duration::from_secs(1), ..Timeouts::default() })
            .await
    }
}

async fn cloud_at(url: &str, timeouts: Timeouts) -> AwsCloud {
    let mut settings = AwsSettings::new("test", Arc::new(At(Timestamp(1_784_555_070_000))));
    settings.endpoint_url = Some(url.to_owned());
    settings.credentials = Some(Credentials::new("AKID", "key-of-a-test-61d0", None, None, "test"));
    settings.timeouts = timeouts;
    AwsCloud::new(settings).await
}

fn ec2_error(status: u16, code: &str, message: &str) -> Answer {
    let body = format!(
        "<Response><Errors><Error><Code>{code}</Code><Message>{message}</Message></Error></Errors><RequestID>r</RequestID></Response>"
    );
    (StatusCode::from_u16(status).unwrap(), body)
}

fn launch() -> Launch {
    Launch {
        claim: "claim-1".into(),
        claim_uid: "uid-1".into(),
        capacity: Capacity {
            region: "us-east-1".into(),
            zone: "use1-az4".into(),
            instance_type: "g6.xlarge".into(),
            capacity_type: CapacityType::Spot,
        },
        client_token: "token-1".into(),
        launch_template: "lowtide-abc".into(),
        launch_template_version: "1".into(),
        subnet: "subnet-1".into(),
        image: None,
        reservation: None,
        tags: [("lowtide-claim".to_owned(), "claim-1".to_owned())].into(),
    }
}

#[tokio::test]
async fn a_launch_without_capacity_is_asked_once_though_ec2_answers_500() {
    let server = Server::start(|_, _| async { ec2_error(500, "InsufficientInstanceCapacity", "None left.") }).await;
    let error = server.cloud().await.launch(&launch()).await.unwrap_err();
    assert_eq!(error, CloudError::NoCapacity { code: "InsufficientInstanceCapacity".into(), message: "None left.".into() });
    assert_eq!(server.actions(), ["CreateFleet"]);
}

#[tokio::test]
async fn a_launch_is_one_override_in_one_subnet_with_the_claims_token() {
    let bought = "<CreateFleetResponse><fleetId>fleet-1</fleetId><fleetInstanceSet><item><instanceIds><item>i-1</item></instanceIds></item>\
                  </fleetInstanceSet></CreateFleetResponse>";
    let server = Server::start(move |_, _| async move { (StatusCode::OK, bought.to_owned()) }).await;
    assert_eq!(server.cloud().await.launch(&launch()).await.unwrap().as_str(), "i-1");
    let call = server.calls.lock().unwrap()[0].clone();
    assert_eq!(call.region, "us-east-1");
    for part in [
        "Type=instant",
        "ClientToken=token-1",
        "LaunchTemplateConfigs.1.LaunchTemplateSpecification.LaunchTemplateName=lowtide-abc",
        "LaunchTemplateConfigs.1.Overrides.1.InstanceType=g6.xlarge",
        "LaunchTemplateConfigs.1.Overrides.1.SubnetId=subnet-1",
        "TargetCapacitySpecification.TotalTargetCapacity=1",
        "TargetCapacitySpecification.DefaultTargetCapacityType=spot",
        "TagSpecification.1.ResourceType=instance",
        "TagSpecification.1.Tag.1.Key=lowtide-claim",
    ] {
        assert!(call.body.contains(part), "{part} is not in {}", call.body);
    }
    assert!(!call.body.contains("Overrides.2") && !call.body.contains("MaxPrice"), "{}", call.body);
}

#[tokio::test]
async fn a_launch_that_is_never_answered_is_unknown_and_asked_once() {
    let server = Server::start(|_, _| async {
        tokio::time::sleep(Duration::from_secs(60)).await;
        (StatusCode::OK, String::new())
    })
    .await;
    let started = Instant::now();
    let error = server.cloud().await.launch(&launch()).await.unwrap_err();
    assert!(matches!(&error, CloudError::Unknown { message } if message.contains("CreateFleet in us-east-1")), "{error}");
    assert!(started.elapsed() < Duration::from_secs(5));
    assert_eq!(server.actions().len(), 1);
}

#[tokio::test]
async fn a_question_is_asked_again_when_ec2_stalls_or_throttles() {
    let server = Server::start(|before, _| async move {
        match before {
            0 => {
                tokio::time::sleep(Duration::from_secs(60)).await;
                (StatusCode::OK, String::new())
            }
            _ => (
                StatusCode::OK,
                "<DescribeInstanceTypeOfferingsResponse><nextToken></nextToken></DescribeInstanceTypeOfferingsResponse>".to_owned(),
            ),
        }
    })
    .await;
    let times = Timeouts { attempt: Duration::from_millis(300), operation: Duration::from_secs(20), ..Timeouts::default() };
    assert_eq!(cloud_at(&server.url, times).await.offerings(&"us-east-1".into()).await.unwrap(), []);
    assert_eq!(server.actions().len(), 2);

    let server = Server::start(|_, _| async { ec2_error(503, "RequestLimitExceeded", "Request limit exceeded.") }).await;
    let error = cloud_at(&server.url, Timeouts::default()).await.offerings(&"us-east-1".into()).await.unwrap_err();
    assert!(matches!(error, CloudError::Throttled { .. }), "{error}");
    assert_eq!(server.actions().len(), 3);
}

#[tokio::test]
async fn rows_with_only_a_zone_name_are_given_their_id_and_both_descriptions_are_one_price() {
    let zones = "<DescribeAvailabilityZonesResponse><availabilityZoneInfo><item><zoneName>us-east-1a</zoneName><zoneId>use1-az4</zoneId></item>\
                 </availabilityZoneInfo></DescribeAvailabilityZonesResponse>";
    let row = |product: &str, time: &str, price: &str| {
        format!(
            "<item><instanceType>g6.xlarge</instanceType><productDescription>{product}</productDescription><spotPrice>{price}</spotPrice>\
             <timestamp>{time}</timestamp><availabilityZone>us-east-1a</availabilityZone></item>"
        )
    };
    let first =
        row("Linux/UNIX", "2026-07-20T11:00:00.000Z", "0.301000") + &row("Linux/UNIX (Amazon VPC)", "2026-07-20T11:00:00.000Z", "0.302000");
    let second = row("Linux/UNIX", "2026-07-20T09:00:00.000Z", "0.999000");
    let server = Server::start(move |_, call| {
        let page = |rows: &str, next: &str| {
            format!(
                "<DescribeSpotPriceHistoryResponse><spotPriceHistorySet>{rows}</spotPriceHistorySet><nextToken>{next}</nextToken>\
                 </DescribeSpotPriceHistoryResponse>"
            )
        };
        let body = match (call.action.as_str(), call.body.contains("NextToken=more")) {
            ("DescribeAvailabilityZones", _) => zones.to_owned(),
            (_, false) => page(&first, "more"),
            (_, true) => page(&second, ""),
        };
        async move { (StatusCode::OK, body) }
    })
    .await;
    let since = Timestamp(1_784_547_870_000);
    let quotes = server.cloud().await.spot_quotes(&"us-east-1".into(), &["g6.xlarge".into()], since).await.unwrap();
    let said: Vec<_> = quotes.iter().map(|q| (q.zone.as_ref().unwrap().as_str(), q.price_per_hour.0)).collect();
    assert_eq!(said, [("use1-az4", 999_000), ("use1-az4", 302_000)], "what held at the start, and the change after it");
    assert_eq!(server.actions(), ["DescribeSpotPriceHistory", "DescribeSpotPriceHistory", "DescribeAvailabilityZones"]);
    assert!(server.calls.lock().unwrap()[0].body.contains("StartTime=2026-07-20T11%3A44%3A30Z"));
}

#[tokio::test]
async fn asking_for_the_prices_of_no_type_asks_nobody() {
    let server = Server::start(|_, _| async { ec2_error(500, "InternalError", "") }).await;
    let cloud = server.cloud().await;
    assert_eq!(cloud.spot_quotes(&"us-east-1".into(), &[], Timestamp(0)).await.unwrap(), []);
    assert_eq!(cloud.on_demand_quotes(&"us-east-1".into(), &[]).await.unwrap(), []);
    assert!(server.actions().is_empty());
}

fn product(name: &str, price: &str, system: &str) -> String {
    json!({
        "product": {"attributes": {"instanceType": name, "regionCode": "eu-west-1", "operatingSystem": system, "tenancy": "Shared",
            "preInstalledSw": "NA", "capacitystatus": "Used"}},
        "terms": {"OnDemand": {"a": {"effectiveDate": "2026-07-01T00:00:00Z", "priceDimensions": {"b": {"unit": "Hrs", "pricePerUnit": {"USD": price}}}}}}
    })
    .to_string()
}

#[tokio::test]
async fn list_prices_come_from_the_pricing_region_page_by_page() {
    let server = Server::start(|before, _| async move {
        let page = match before {
            0 => json!({"FormatVersion": "aws_v1", "NextToken": "2", "PriceList": [product("g6.xlarge", "0.8950000000", "Linux"), "nonsense"]}),
            _ => json!({"FormatVersion": "aws_v1", "PriceList": [product("g6.xlarge", "1.2", "Windows"), product("g5.xlarge", "1.0", "Linux"), product("p5.48xlarge", "63.3", "Linux")]}),
        };
        (StatusCode::OK, page.to_string())
    })
    .await;
    let types: Vec<InstanceType> = vec!["g6.xlarge".into(), "p5.48xlarge".into()];
    let quotes = server.cloud().await.on_demand_quotes(&"eu-west-1".into(), &types).await.unwrap();
    let read: Vec<(&str, &str, i64)> =
        quotes.iter().map(|quote| (quote.region.as_str(), quote.instance_type.as_str(), quote.price_per_hour.0)).collect();
    assert_eq!(read, [("eu-west-1", "g6.xlarge", 895_000), ("eu-west-1", "p5.48xlarge", 63_300_000)]);
    let call = server.calls.lock().unwrap()[0].clone();
    assert_eq!((call.action.as_str(), call.region.as_str()), ("GetProducts", "us-east-1"));
    assert!(call.body.contains(r#""Value":"eu-west-1""#) && call.body.contains("capacitystatus"), "{}", call.body);
}

#[tokio::test]
async fn a_template_that_exists_is_found() {
    let server = Server::start(|_, call| {
        let answer = match call.action.as_str() {
            "CreateLaunchTemplate" => {
                ec2_error(400, "InvalidLaunchTemplateName.AlreadyExistsException", "Launch template name already in use.")
            }
            _ => (
                StatusCode::OK,
                "<DescribeLaunchTemplatesResponse><launchTemplates><item><launchTemplateId>lt-1</launchTemplateId><latestVersionNumber>3\
                 </latestVersionNumber></item></launchTemplates></DescribeLaunchTemplatesResponse>"
                    .to_owned(),
            ),
        };
        async move { answer }
    })
    .await;
    let template = LaunchTemplate {
        region: "us-east-1".into(),
        class: "use1".into(),
        name: "lowtide-abc".into(),
        image: Some("ami-1".into()),
        security_groups: vec!["sg-1".into()],
        instance_profile: Some("node".into()),
        settings: Default::default(),
        user_data: "#cloud-config\n".into(),
        client_token: "t".into(),
    };
    assert_eq!(server.cloud().await.ensure_launch_template(&template).await.unwrap(), "1");
    assert_eq!(server.actions(), ["CreateLaunchTemplate", "DescribeLaunchTemplates"]);
}

#[tokio::test]
async fn a_quota_nobody_changed_is_aws_default() {
    let server = Server::start(|_, call| {
        let is_spot_g = call.body.contains("L-3819A6DF");
        let answer = match (call.action.as_str(), is_spot_g) {
            ("GetServiceQuota", true) => {
                (StatusCode::BAD_REQUEST, json!({"__type": "NoSuchResourceException", "Message": "Not found."}).to_string())
            }
            ("GetServiceQuota", false) => (StatusCode::OK, json!({"Quota": {"Value": 192.0}}).to_string()),
            _ => (StatusCode::OK, json!({"Quota": {"Value": 0.0}}).to_string()),
        };
        async move { answer }
    })
    .await;
    let quotas = server.cloud().await.vcpu_quotas(&"us-east-1".into()).await.unwrap();
    let of = |family, kind| quotas.iter().find(|it| it.family == family && it.capacity_type == kind).unwrap().vcpus;
    assert_eq!(of(QuotaFamily::GAndVt, CapacityType::Spot), 0);
    assert_eq!(of(QuotaFamily::P, CapacityType::OnDemand), 192);
}

#[tokio::test]
async fn a_region_that_cannot_be_reached_is_no_answer() {
    let error = cloud_at("http://127.0.0.1:1", Timeouts::default()).await.launch(&launch()).await.unwrap_err();
    assert!(matches!(error, CloudError::Unknown { .. }), "{error}");
}

/// `lowtide offers --live` with a configuration file of AWS's, and what it says.
async fn offers_with(config: &str, more: &[&str]) -> String {
    let file = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("aws-config-{}", std::process::id()));
    std::fs::write(&file, config).unwrap();
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_lowtide"));
    command.args(["offers", "--live", "--regions", "us-east-1"]).args(more).env_remove("AWS_ENDPOINT_URL");
    command
        .env("AWS_CONFIG_FILE", file)
        .env("AWS_ACCESS_KEY_ID", "test")
        .env("AWS_SECRET_ACCESS_KEY", "test")
        .env("AWS_EC2_METADATA_DISABLED", "true");
    let output = command.output().await.unwrap();
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[tokio::test]
async fn a_profile_that_points_to_plain_http_is_sent_nothing() {
    let server = Server::start(|_, _| std::future::ready((StatusCode::FORBIDDEN, String::new()))).await;
    // This machine, under a name that is not known for it: what is sent would arrive.
    let url = server.url.replace("127.0.0.1", "0.0.0.0");
    let of_all = format!("[default]\nendpoint_url = {url}\n");
    let of_each: String = ["ec2", "pricing"].map(|service| format!("{service} =\n  endpoint_url = {url}\n")).concat();
    for config in [of_all.clone(), format!("[default]\nservices = ours\n[services ours]\n{of_each}")] {
        let said = offers_with(&config, &[]).await;
        assert!(said.contains("signed requests would leave this machine in the clear"), "{said}");
        assert_eq!(server.actions(), Vec::<String>::new());
    }
    offers_with(&of_all, &["--allow-insecure-endpoint"]).await;
    assert!(!server.actions().is_empty(), "where it is allowed it is asked");
}

/// Instance metadata by hand: a token is demanded, and `spot` and `rebalance` are the documents there are.
async fn metadata(spot: Option<&'static str>, rebalance: Option<&'static str>) -> String {
    let document = move |headers: HeaderMap, uri: axum::http::Uri, method: axum::http::Method| async move {
        if method == axum::http::Method::PUT && uri.path() == "/latest/api/token" {
            let ttl = [("x-aws-ec2-metadata-token-ttl-seconds", "21600")];
            return (StatusCode::OK, ttl, "the-token").into_response();
        }
        if headers.get("x-aws-ec2-metadata-token").is_none_or(|token| token != "the-token") {
            return StatusCode::UNAUTHORIZED.into_response();
        }
        let found = match uri.path() {
            "/latest/meta-data/instance-id" => Some("i-0123456789abcdef0"),
            "/latest/meta-data/placement/region" => Some("us-east-1"),
            "/latest/meta-data/spot/instance-action" => spot,
            "/latest/meta-data/events/recommendations/rebalance" => rebalance,
            _ => None,
        };
        found.map_or(StatusCode::NOT_FOUND.into_response(), |text| text.into_response())
    };
    let listener = tokio::net::TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(document)).await });
    url
}

#[tokio::test]
async fn metadata_tells_of_nothing_then_of_risk_then_of_the_end() {
    let action = r#"{"action":"terminate","time":"2026-07-20T13:46:30Z"}"#;
    let risk = r#"{"noticeTime":"2026-07-20T13:40:00Z"}"#;
    for (spot, rebalance, expected) in [
        (None, None, None),
        (None, Some(risk), Some((NoticeKind::Rebalance, "2026-07-20T13:40:00.000Z"))),
        (Some(action), Some(risk), Some((NoticeKind::Interruption, "2026-07-20T13:44:30.000Z"))),
    ] {
        let reader = ImdsReader::connect(Some(&metadata(spot, rebalance).await)).await.unwrap();
        let notice = reader.poll().await.unwrap();
        if let Some(notice) = &notice {
            assert_eq!((notice.instance.as_str(), notice.region.as_str()), ("i-0123456789abcdef0", "us-east-1"));
        }
        assert_eq!(notice.map(|it| (it.kind, it.sent_at.to_rfc3339())), expected.map(|(kind, at)| (kind, at.to_owned())));
    }
}

#[tokio::test]
async fn metadata_that_is_not_there_is_an_error_and_not_silence() {
    let error = ImdsReader::connect(Some("http://127.0.0.1:1")).await.unwrap_err();
    assert!(error.to_string().contains("instance-id"), "{error}");
    assert!(ImdsReader::connect(Some("not a url")).await.is_err());
}

#[tokio::test]
async fn a_listing_whose_tokens_go_in_a_circle_ends() {
    let server = Server::start(|before, _| async move {
        let body = format!("<DescribeInstanceTypesResponse><nextToken>{}</nextToken></DescribeInstanceTypesResponse>", before % 3);
        (StatusCode::OK, body)
    })
    .await;
    let error = server.cloud().await.machine_types(&"us-east-1".into()).await.unwrap_err();
    assert!(error.to_string().contains("same page token"), "{error}");
}
