//! One instance and its spot request: the states they go through and when each was reached.

use std::collections::BTreeMap;

use crate::core::units::ids::{InstanceId, InstanceType, Region, ZoneId};
use crate::core::units::money::MicroUsdPerHour;
use crate::core::units::time::Timestamp;

/// How an instance is paid for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum CapacityType {
    /// Spare capacity that EC2 may take back.
    Spot,
    /// Capacity that stays.
    OnDemand,
}

impl CapacityType {
    /// As EC2 and this simulator's control calls spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            CapacityType::Spot => "spot",
            CapacityType::OnDemand => "on-demand",
        }
    }
    /// The reverse of [`CapacityType::as_str`].
    pub fn named(text: &str) -> Option<CapacityType> {
        [CapacityType::Spot, CapacityType::OnDemand].into_iter().find(|kind| kind.as_str() == text)
    }
}

/// The states of an instance that lowtide's instances can be in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum InstanceState {
    /// Launched, not yet up. Not billed.
    Pending,
    /// Up. Billed.
    Running,
    /// On its way out. Not billed.
    ShuttingDown,
    /// Gone; still described for a while.
    Terminated,
}

impl InstanceState {
    /// EC2's name.
    pub fn as_str(self) -> &'static str {
        match self {
            InstanceState::Pending => "pending",
            InstanceState::Running => "running",
            InstanceState::ShuttingDown => "shutting-down",
            InstanceState::Terminated => "terminated",
        }
    }
    /// EC2's code.
    pub fn code(self) -> u16 {
        match self {
            InstanceState::Pending => 0,
            InstanceState::Running => 16,
            InstanceState::ShuttingDown => 32,
            InstanceState::Terminated => 48,
        }
    }
    /// Whether the machine still holds capacity.
    pub fn is_live(self) -> bool {
        matches!(self, InstanceState::Pending | InstanceState::Running)
    }
}

/// The request behind a spot instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpotRequest {
    /// As in `sir-0abc`.
    pub id: String,
    /// `active`, `closed` or `cancelled`.
    pub state: &'static str,
    /// As in `fulfilled` or `instance-terminated-no-capacity`.
    pub status_code: &'static str,
    /// EC2's sentence for the status.
    pub status_message: &'static str,
    /// When the status was reached.
    pub updated_at: Timestamp,
    /// The caller's cap, if any.
    pub max_price: Option<MicroUsdPerHour>,
}

/// Why an instance left its former state: EC2's code and sentence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StateReason {
    /// As in `Client.UserInitiatedShutdown`.
    pub code: &'static str,
    /// For people.
    pub message: &'static str,
    /// Who began it, as `StateTransitionReason` words it.
    pub initiator: &'static str,
}

/// The user asked.
pub const USER_SHUTDOWN: StateReason = StateReason {
    code: "Client.UserInitiatedShutdown",
    message: "Client.UserInitiatedShutdown: User initiated shutdown",
    initiator: "User initiated",
};
/// EC2 took its spot capacity back. AWS documents the code; `Service initiated` is what public reports of real interruptions show.
pub const SPOT_TERMINATION: StateReason = StateReason {
    code: "Server.SpotInstanceTermination",
    message: "Server.SpotInstanceTermination: Spot instance termination",
    initiator: "Service initiated",
};

/// EC2 stopped it on a date that it had announced. AWS documents the code.
pub const SCHEDULED_STOP: StateReason = StateReason {
    code: "Server.ScheduledStop",
    message: "Server.ScheduledStop: Stopped due to a scheduled retirement",
    initiator: "Service initiated",
};

/// A scheduled event, as DescribeInstanceStatus shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusEvent {
    /// As in `instance-event-0d59937288b749b32`.
    pub id: String,
    /// What is done, as in `instance-retirement`.
    pub code: &'static str,
    /// EC2's sentence.
    pub description: &'static str,
    /// When it begins at the earliest.
    pub not_before: Timestamp,
    /// `Completed` or `Canceled`, once it is over.
    pub over: Option<&'static str>,
}

impl StatusEvent {
    /// EC2's description, which says first that the event is over.
    pub fn said(&self) -> String {
        self.over.map_or_else(|| self.description.to_owned(), |over| format!("[{over}] {}", self.description))
    }
}

/// The codes, and what EC2 says of them.
pub const STATUS_EVENTS: [(&str, &str); 5] = [
    ("instance-reboot", "The instance is scheduled for a reboot"),
    ("system-reboot", "The instance is scheduled for a reboot"),
    ("system-maintenance", "The instance is scheduled for maintenance"),
    ("instance-retirement", "The instance is running on degraded hardware"),
    ("instance-stop", "The instance is running on degraded hardware"),
];

/// What a launch was asked for: frozen into the instance.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LaunchDetails {
    /// The image.
    pub image_id: String,
    /// Base64 user data as it was sent.
    pub user_data: Option<String>,
    /// Launch template id and version number.
    pub template: Option<(String, i64)>,
    /// Name or ARN of the instance profile.
    pub instance_profile: Option<String>,
    /// Security group ids.
    pub security_groups: Vec<String>,
    /// The caller's idempotency token.
    pub client_token: Option<String>,
    /// The capacity reservation it was launched into.
    pub capacity_reservation: Option<String>,
    /// Tags put on at launch.
    pub tags: BTreeMap<String, String>,
}

/// An instance, from launch to long after its end.
#[derive(Debug, Clone)]
pub struct Instance {
    /// Its id.
    pub id: InstanceId,
    /// Its region.
    pub region: Region,
    /// Its zone.
    pub zone: ZoneId,
    /// Its type.
    pub instance_type: InstanceType,
    /// How it is paid for.
    pub capacity_type: CapacityType,
    /// Its state now.
    pub state: InstanceState,
    /// Why it left the state before.
    pub state_reason: Option<StateReason>,
    /// The reservation it was launched in.
    pub reservation: String,
    /// The fleet it was launched by.
    pub fleet: Option<String>,
    /// Its spot request, when it is spot.
    pub spot_request: Option<SpotRequest>,
    /// What was asked for.
    pub details: LaunchDetails,
    /// Its tags now.
    pub tags: BTreeMap<String, String>,
    /// Its address in the subnet.
    pub private_ip: String,
    /// When the call was taken.
    pub launched_at: Timestamp,
    /// When it came to run.
    pub running_at: Option<Timestamp>,
    /// When it stopped being billed.
    pub shutting_down_at: Option<Timestamp>,
    /// When it was gone.
    pub terminated_at: Option<Timestamp>,
    /// When a rebalance recommendation was given.
    pub rebalance_at: Option<Timestamp>,
    /// When the interruption notice was given.
    pub noticed_at: Option<Timestamp>,
    /// When EC2 said it would end it.
    pub ends_at: Option<Timestamp>,
    /// What is scheduled for it, those that are over included.
    pub events: Vec<StatusEvent>,
    /// `ok`, `never-joins` or `no-gpus`: honoured by whoever plays the node.
    pub boot_outcome: String,
}

impl Instance {
    /// `LaunchTime`: EC2 says its times in whole seconds.
    pub fn launch_time(&self) -> Timestamp {
        self.launched_at.floor_to_second()
    }

    /// When it left `running`, in whole seconds, as `StateTransitionReason` says it; `None` while it lives.
    pub fn end_time(&self) -> Option<Timestamp> {
        self.shutting_down_at.map(Timestamp::floor_to_second)
    }

    /// `StateTransitionReason`, e.g. `User initiated (2026-07-20 13:44:30 GMT)`.
    pub fn transition_reason(&self) -> Option<String> {
        let (reason, at) = self.state_reason.zip(self.end_time())?;
        let at = at.to_rfc3339().replacen('T', " ", 1).replacen(".000Z", " GMT", 1);
        Some(format!("{} ({at})", reason.initiator))
    }
}
