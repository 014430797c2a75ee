//! AWS behind the [`Cloud`] port: the real SDK, one set of clients per region, created when first needed.
//!
//! Decides: how a port's request is sent to EC2, SQS, Pricing and Service Quotas, and how an answer is read.
//! Does not: choose anything, keep prices, or retry when money is at stake (the caller does, with the same token).

mod clock;
pub mod conversion;
pub mod dry_runs;
mod errors;
pub mod fleet;
mod health;
mod images;
pub mod imds;
mod in_the_clear;
pub mod instances;
pub mod interruption;
pub mod machines;
pub mod notice;
pub mod placement_scores;
pub mod price_list;
pub mod prices;
pub mod quotas;
pub mod reservations;
mod scheduled;
pub mod zones;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_config::{BehaviorVersion, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_smithy_http_client::tls::{self, rustls_provider::CryptoMode};
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use aws_smithy_types::retry::RetryConfig;
use aws_smithy_types::timeout::TimeoutConfig;

use crate::core::fleet::{FoundImage, ImageSource, Instance, Launch, LaunchTemplate, ScheduledEvent};
use crate::core::market::Quote;
use crate::core::market::catalog::{Architecture, MachineType};
use crate::core::market::quota::VcpuQuota;
use crate::core::market::reservation::CapacityReservation;
use crate::core::market::scores::{PlacementScore, ScoreQuestion};
use crate::core::units::ids::{InstanceId, InstanceType, Region, ReservationId, ZoneId};
use crate::core::units::time::{Millis, Timestamp};
use crate::ports::{Clock, Cloud, CloudError, QueueMessage};

/// How long we wait for AWS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// For a connection; 5 s.
    pub connect: Duration,
    /// For one attempt of a call that may be retried; 12 s.
    pub attempt: Duration,
    /// For a call with all its attempts; 30 s. Launches are attempted once, so this is all they have.
    pub operation: Duration,
    /// How long SQS may hold a receive call open until a message arrives, at most 20 s (SQS's own limit); 20 s.
    pub receive_wait: Duration,
    /// How much longer than `receive_wait` we wait for SQS's answer; 10 s.
    pub receive_slack: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Timeouts {
            connect: Duration::from_secs(5),
            attempt: Duration::from_secs(12),
            operation: Duration::from_secs(30),
            receive_wait: Duration::from_secs(20),
            receive_slack: Duration::from_secs(10),
        }
    }
}

/// What [`AwsCloud`] must know.
#[derive(Clone)]
pub struct AwsSettings {
    /// One endpoint for every AWS service instead of AWS's own: for the simulator.
    pub endpoint_url: Option<String>,
    /// The cluster's name: launch templates carry it as a tag.
    pub cluster: String,
    /// The cluster's UID: launch templates carry it as a tag, and another cluster's are not used.
    pub cluster_uid: String,
    /// The one clock: the current price of a pool is the last one before now.
    pub clock: Arc<dyn Clock>,
    /// Keys instead of the default chain: for the simulator, which accepts any.
    pub credentials: Option<Credentials>,
    /// How long we wait.
    pub timeouts: Timeouts,
    /// Signed requests may go to other machines over plain http, where a profile of AWS's configuration file says so.
    pub allow_insecure_endpoint: bool,
}

impl AwsSettings {
    /// Real AWS, with [`Timeouts::default`].
    pub fn new(cluster: impl Into<String>, clock: Arc<dyn Clock>) -> Self {
        let cluster_uid = String::new();
        let (credentials, timeouts) = (None, Timeouts::default());
        AwsSettings {
            endpoint_url: None,
            cluster: cluster.into(),
            cluster_uid,
            clock,
            credentials,
            timeouts,
            allow_insecure_endpoint: false,
        }
    }
}

/// The clients of one region.
#[derive(Debug)]
pub(crate) struct RegionClients {
    /// Retries when throttled or disconnected: for reads, and for changes that may be repeated.
    pub(crate) ec2: aws_sdk_ec2::Client,
    /// Does not retry: for launches.
    ///
    /// EC2 answers `InsufficientInstanceCapacity` with HTTP 500, which the SDK considers a transient error and would retry for seconds.
    pub(crate) ec2_once: aws_sdk_ec2::Client,
    pub(crate) sqs: aws_sdk_sqs::Client,
    /// Waits as long as SQS holds the call open; does not retry, as the caller calls again at once anyway.
    pub(crate) sqs_waiting: aws_sdk_sqs::Client,
    pub(crate) pricing: aws_sdk_pricing::Client,
    pub(crate) quotas: aws_sdk_servicequotas::Client,
    pub(crate) ssm: aws_sdk_ssm::Client,
    /// Zone ids by zone name in this account; filled when first needed.
    pub(crate) zones: tokio::sync::OnceCell<BTreeMap<String, ZoneId>>,
    /// When all products of the region were last read for list prices.
    pub(crate) full_listing_at: Mutex<Option<Timestamp>>,
    /// Queue URLs by queue name.
    pub(crate) queue_urls: Mutex<BTreeMap<String, String>>,
}

/// AWS.
pub struct AwsCloud {
    pub(crate) settings: AwsSettings,
    base: SdkConfig,
    regions: Mutex<BTreeMap<Region, Arc<RegionClients>>>,
    /// How far EC2's clock is ahead of ours.
    ec2_clock: clock::Ec2Clock,
}

/// An HTTP client on rustls with ring, the one TLS provider of this program. Sends nothing in the clear to other machines.
pub(crate) fn http_client() -> SharedHttpClient {
    in_the_clear::refused(any_http_client())
}

fn any_http_client() -> SharedHttpClient {
    aws_smithy_http_client::Builder::new().tls_provider(tls::Provider::Rustls(CryptoMode::Ring)).build_https()
}

/// The default credential chain (environment, profile, web identity, Pod Identity, instance profile), for calls that the SDK does not make. Asks nothing yet.
pub async fn credentials(region: &str) -> SharedCredentialsProvider {
    let region = aws_config::Region::new(region.to_owned());
    let loaded = aws_config::defaults(BehaviorVersion::latest()).http_client(http_client()).region(region).load().await;
    // The default chain is always there; it is its answer that may be missing.
    loaded.credentials_provider().unwrap_or_else(|| SharedCredentialsProvider::new(Credentials::new("", "", None, None, "none")))
}

impl AwsCloud {
    /// Sets up AWS with the default credential chain (environment, web identity, Pod Identity, instance profile).
    ///
    /// Makes no call yet: credentials are looked up with the first call, and fail that call if missing.
    pub async fn new(settings: AwsSettings) -> Self {
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(settings.timeouts.connect)
            .operation_attempt_timeout(settings.timeouts.attempt)
            .operation_timeout(settings.timeouts.operation)
            .build();
        let mut loader = aws_config::defaults(BehaviorVersion::latest())
            .http_client(if settings.allow_insecure_endpoint { any_http_client() } else { http_client() })
            // Every call sets its region; this one only keeps the loader from asking instance metadata for it.
            .region(aws_config::Region::new(prices::PRICING_REGION))
            .timeout_config(timeouts)
            .retry_config(RetryConfig::standard().with_max_attempts(3));
        if let Some(url) = &settings.endpoint_url {
            loader = loader.endpoint_url(url);
        }
        if let Some(keys) = &settings.credentials {
            loader = loader.credentials_provider(keys.clone());
        }
        let ec2_clock = clock::Ec2Clock::new(Arc::clone(&settings.clock));
        AwsCloud { base: loader.load().await, settings, regions: Mutex::default(), ec2_clock }
    }

    /// The clients of a region, created when first needed.
    pub(crate) fn clients(&self, region: &Region) -> Arc<RegionClients> {
        let mut regions = self.regions.lock().unwrap_or_else(PoisonError::into_inner);
        regions.entry(region.clone()).or_insert_with(|| Arc::new(self.make_clients(region))).clone()
    }

    fn make_clients(&self, region: &Region) -> RegionClients {
        let times = &self.settings.timeouts;
        let normal = self.base.clone().into_builder().region(aws_config::Region::new(region.to_string())).build();
        let asking_once = |limit: Duration| {
            let timeouts = TimeoutConfig::builder().connect_timeout(times.connect).operation_timeout(limit).build();
            normal.clone().into_builder().retry_config(RetryConfig::disabled()).timeout_config(timeouts).build()
        };
        RegionClients {
            ec2: aws_sdk_ec2::Client::from_conf(aws_sdk_ec2::config::Builder::from(&normal).interceptor(self.ec2_clock.clone()).build()),
            ec2_once: aws_sdk_ec2::Client::new(&asking_once(times.operation)),
            sqs: aws_sdk_sqs::Client::new(&normal),
            sqs_waiting: aws_sdk_sqs::Client::new(&asking_once(times.receive_wait + times.receive_slack)),
            pricing: aws_sdk_pricing::Client::new(&normal),
            quotas: aws_sdk_servicequotas::Client::new(&normal),
            ssm: aws_sdk_ssm::Client::new(&normal),
            zones: tokio::sync::OnceCell::new(),
            full_listing_at: Mutex::default(),
            queue_urls: Mutex::default(),
        }
    }
}

/// Collects all pages of a listing: `page` gets the token to continue from.
///
/// EC2 marks the last page with an empty token, other services with none. A token that came before would never end.
pub(crate) async fn all_pages<T, P, F>(call: &'static str, mut page: P) -> Result<Vec<T>, CloudError>
where
    P: FnMut(Option<String>) -> F,
    F: Future<Output = Result<(Vec<T>, Option<String>), CloudError>>,
{
    let (mut rows, mut token, mut before) = (Vec::new(), None, std::collections::BTreeSet::new());
    loop {
        let (more, next) = page(token.clone()).await?;
        rows.extend(more);
        match next.filter(|text| !text.is_empty()) {
            None => return Ok(rows),
            Some(next) if !before.insert(next.clone()) => {
                return Err(CloudError::Unknown {
                    message: format!("{call} returned the same page token twice, so its listing would never end"),
                });
            }
            Some(next) => token = Some(next),
        }
    }
}

impl Cloud for AwsCloud {
    fn ahead(&self) -> Option<Millis> {
        self.ec2_clock.ahead()
    }
    async fn spot_quotes(&self, region: &Region, types: &[InstanceType], since: Timestamp) -> Result<Vec<Quote>, CloudError> {
        self.spot_prices(region, types, since).await
    }
    async fn on_demand_quotes(&self, region: &Region, types: &[InstanceType]) -> Result<Vec<Quote>, CloudError> {
        self.list_prices(region, types).await
    }
    async fn offerings(&self, region: &Region) -> Result<Vec<(InstanceType, ZoneId)>, CloudError> {
        self.types_by_zone(region).await
    }
    async fn vcpu_quotas(&self, region: &Region) -> Result<Vec<VcpuQuota>, CloudError> {
        self.service_quotas(region).await
    }
    async fn placement_scores(&self, asked_in: &Region, question: &ScoreQuestion) -> Result<Vec<PlacementScore>, CloudError> {
        self.spot_placement_scores(asked_in, question).await
    }
    async fn capacity_reservations(&self, region: &Region, ids: &[ReservationId]) -> Result<Vec<CapacityReservation>, CloudError> {
        self.named_reservations(region, ids).await
    }
    async fn machine_types(&self, region: &Region) -> Result<Vec<MachineType>, CloudError> {
        self.nvidia_types(region).await
    }
    async fn zone_names(&self, region: &Region) -> Result<BTreeMap<ZoneId, String>, CloudError> {
        Ok(self.zone_ids(region).await?.into_iter().map(|(name, id)| (id, name)).collect())
    }
    async fn subnet_zones(&self, region: &Region, subnets: &[String]) -> Result<BTreeMap<String, ZoneId>, CloudError> {
        self.zones_of_subnets(region, subnets).await
    }
    async fn images(&self, region: &Region, sources: &[ImageSource]) -> Result<BTreeMap<Architecture, FoundImage>, CloudError> {
        self.images_of(region, sources).await
    }
    async fn ensure_launch_template(&self, template: &LaunchTemplate) -> Result<String, CloudError> {
        self.create_or_find_template(template).await
    }
    async fn launch(&self, launch: &Launch) -> Result<InstanceId, CloudError> {
        match &launch.reservation {
            Some(reservation) => self.run_in_reservation(launch, reservation).await,
            None => self.create_fleet_of_one(launch).await,
        }
    }
    async fn instances(&self, region: &Region, cluster: &str) -> Result<Vec<Instance>, CloudError> {
        self.tagged_instances(region, cluster).await
    }
    async fn scheduled_events(&self, region: &Region) -> Result<BTreeMap<InstanceId, ScheduledEvent>, CloudError> {
        self.events_of_instances(region).await
    }
    async fn terminate(&self, region: &Region, instance: &InstanceId) -> Result<(), CloudError> {
        self.end_instance(region, instance).await
    }
    async fn receive_notices(&self, region: &Region, queue: &str) -> Result<Vec<QueueMessage>, CloudError> {
        self.receive_messages(region, queue).await
    }
    async fn acknowledge(&self, region: &Region, queue: &str, receipt: &str) -> Result<(), CloudError> {
        self.delete_message(region, queue, receipt).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(rows: &[u8], next: Option<&str>) -> Result<(Vec<u8>, Option<String>), CloudError> {
        Ok((rows.to_vec(), next.map(str::to_owned)))
    }

    #[tokio::test]
    async fn a_listing_ends_with_no_token_or_an_empty_one() {
        for end in [None, Some("")] {
            let rows = all_pages("Describe", |token| async move {
                match token.as_deref() {
                    None => page(&[1, 2], Some("a")),
                    Some("a") => page(&[], Some("b")),
                    Some(_) => page(&[3], end),
                }
            });
            assert_eq!(rows.await.unwrap(), [1, 2, 3]);
        }
    }

    #[tokio::test]
    async fn a_listing_that_never_ends_is_an_error() {
        let rows = all_pages("Describe", |_| async { page(&[1], Some("again")) }).await;
        assert!(matches!(rows, Err(CloudError::Unknown { .. })), "{rows:?}");
    }
}
