//! The market, the machines and the notices of one cloud, and how it says that it could not.

use std::collections::BTreeMap;
use std::future::Future;

use crate::core::fleet::{FoundImage, ImageSource, Instance, Launch, LaunchTemplate, Notice, ScheduledEvent};
use crate::core::market::Quote;
use crate::core::market::catalog::Architecture;
use crate::core::market::quota::VcpuQuota;
use crate::core::market::reservation::CapacityReservation;
use crate::core::market::scores::{PlacementScore, ScoreQuestion};
use crate::core::units::ids::{InstanceId, InstanceType, Region, ReservationId, ZoneId};
use crate::core::units::time::{Millis, Timestamp};

/// What EC2 answered to a call that failed, sorted by what we do next.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CloudError {
    /// `InsufficientInstanceCapacity`, `UnfulfillableCapacity` and their kin: cool the pool down, take the next offer.
    #[error("no capacity: {message} ({code})")]
    NoCapacity {
        /// EC2's code.
        code: String,
        /// EC2's sentence.
        message: String,
    },
    /// `MaxSpotInstanceCountExceeded`, `VcpuLimitExceeded`: the quota of a region and family is used up.
    #[error("quota used up: {message} ({code})")]
    Quota {
        /// EC2's code.
        code: String,
        /// EC2's sentence.
        message: String,
    },
    /// `RequestLimitExceeded`: wait and ask again; the answer may still have been carried out.
    #[error("throttled: {message} ({code})")]
    Throttled {
        /// EC2's code.
        code: String,
        /// EC2's sentence.
        message: String,
    },
    /// `IdempotentParameterMismatch`: an instance for this token exists; find it by tag.
    #[error("the token was used with other parameters: {message}")]
    TokenUsed {
        /// EC2's sentence.
        message: String,
    },
    /// `IdempotentInstanceTerminated`: the instance of this token is gone; the attempt is over.
    #[error("the instance of this token has ended: {message}")]
    TokenEnded {
        /// EC2's sentence.
        message: String,
    },
    /// Permission, unknown subnet, unsupported type: asking again will not help until somebody changes something.
    #[error("refused: {message} ({code}); change the node class, the role or the account")]
    Refused {
        /// EC2's code.
        code: String,
        /// EC2's sentence.
        message: String,
    },
    /// No answer, or one we could not read: the call may or may not have been carried out.
    #[error("no usable answer: {message}; it may have been carried out")]
    Unknown {
        /// What happened.
        message: String,
    },
}

impl CloudError {
    /// EC2's sentence when it says that this account may not use the region at all: an opt-in region that is off, or one that a policy
    /// denies. Asking again soon is of no use.
    ///
    /// Source: EC2 API reference, error codes. A region that is not enabled answers `AuthFailure` or `OptInRequired`.
    pub fn closes_region(&self) -> Option<&str> {
        match self {
            CloudError::Refused { code, message } if CLOSED.contains(&code.as_str()) => Some(message),
            _ => None,
        }
    }

    /// EC2 takes no new question about placement scores today.
    pub fn ends_new_questions(&self) -> bool {
        matches!(self, CloudError::Refused { code, .. } if code == "MaxConfigLimitExceeded")
    }
}

/// Codes by which a region is closed to an account.
const CLOSED: [&str; 4] = ["OptInRequired", "AuthFailure", "UnauthorizedOperation", "UnrecognizedClientException"];

/// A message from the interruption queue: to be acknowledged once its effect is durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueMessage {
    /// The queue's handle for deleting it.
    pub receipt: String,
    /// What it says; the text and the fault when it could not be read.
    pub content: Result<Notice, MalformedMessage>,
}

/// A message that is not one of the EventBridge events we know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a message on the interruption queue could not be read ({fault}): {text:.200}")]
pub struct MalformedMessage {
    /// What was wrong with it.
    pub fault: String,
    /// The message.
    pub text: String,
}

/// The market and the machines of one cloud. Every call names its region, and may be slow or fail.
pub trait Cloud: Send + Sync + 'static {
    /// How far EC2's clock is ahead of ours, by the time that its last answer carried; `None` before the first.
    fn ahead(&self) -> Option<Millis> {
        None
    }
    /// Spot prices of `types` in `region`: per pool that has one the price that held at `since`, and every change after it. EC2 keeps 90 days.
    fn spot_quotes(
        &self,
        region: &Region,
        types: &[InstanceType],
        since: Timestamp,
    ) -> impl Future<Output = Result<Vec<Quote>, CloudError>> + Send;
    /// On-demand prices of `types` in `region`.
    fn on_demand_quotes(&self, region: &Region, types: &[InstanceType]) -> impl Future<Output = Result<Vec<Quote>, CloudError>> + Send;
    /// Which of `types` are sold in which zones of `region` (zone ids).
    fn offerings(&self, region: &Region) -> impl Future<Output = Result<Vec<(InstanceType, ZoneId)>, CloudError>> + Send;
    /// vCPU quotas of the families that GPU types count in, spot and on-demand.
    fn vcpu_quotas(&self, region: &Region) -> impl Future<Output = Result<Vec<VcpuQuota>, CloudError>> + Send;
    /// The ten best places for a spot request, as the endpoint of `asked_in` says; see [`crate::core::market::scores`] for what to ask.
    fn placement_scores(
        &self,
        asked_in: &Region,
        question: &ScoreQuestion,
    ) -> impl Future<Output = Result<Vec<PlacementScore>, CloudError>> + Send;
    /// These capacity reservations of `region`; one that does not exist is left out.
    fn capacity_reservations(
        &self,
        region: &Region,
        ids: &[ReservationId],
    ) -> impl Future<Output = Result<Vec<CapacityReservation>, CloudError>> + Send;
    /// NVIDIA machine types that `region` knows.
    fn machine_types(
        &self,
        region: &Region,
    ) -> impl Future<Output = Result<Vec<crate::core::market::catalog::MachineType>, CloudError>> + Send;
    /// The name of each zone of a region in this account: names differ per account, ids do not.
    fn zone_names(&self, region: &Region) -> impl Future<Output = Result<BTreeMap<ZoneId, String>, CloudError>> + Send;
    /// The zone id of each of these subnets; an unknown subnet is `Refused` and named.
    fn subnet_zones(
        &self,
        region: &Region,
        subnets: &[String],
    ) -> impl Future<Output = Result<BTreeMap<String, ZoneId>, CloudError>> + Send;
    /// The image of each source, one for each architecture; one that cannot be found, or is of another architecture, is `Refused` and named.
    fn images(
        &self,
        region: &Region,
        sources: &[ImageSource],
    ) -> impl Future<Output = Result<BTreeMap<Architecture, FoundImage>, CloudError>> + Send;
    /// Makes sure that a launch template of this name exists; returns its version.
    fn ensure_launch_template(&self, template: &LaunchTemplate) -> impl Future<Output = Result<String, CloudError>> + Send;
    /// Buys one machine with the claim's token: CreateFleet `instant` with one override; RunInstances for one that goes into a reservation.
    fn launch(&self, launch: &Launch) -> impl Future<Output = Result<InstanceId, CloudError>> + Send;
    /// All instances tagged with this cluster in `region`, ended ones as long as EC2 shows them, with the status of their spot requests.
    fn instances(&self, region: &Region, cluster: &str) -> impl Future<Output = Result<Vec<Instance>, CloudError>> + Send;
    /// What EC2 has scheduled for instances of `region`, ours and others: of each the event that comes first; what is over is left out.
    fn scheduled_events(&self, region: &Region) -> impl Future<Output = Result<BTreeMap<InstanceId, ScheduledEvent>, CloudError>> + Send;
    /// Ends an instance. Ending one that has ended is harmless.
    fn terminate(&self, region: &Region, instance: &InstanceId) -> impl Future<Output = Result<(), CloudError>> + Send;
    /// Waits (at most 20 s) for messages on the interruption queue of `region`.
    fn receive_notices(&self, region: &Region, queue: &str) -> impl Future<Output = Result<Vec<QueueMessage>, CloudError>> + Send;
    /// Deletes a message whose effect is durable.
    fn acknowledge(&self, region: &Region, queue: &str, receipt: &str) -> impl Future<Output = Result<(), CloudError>> + Send;
}
