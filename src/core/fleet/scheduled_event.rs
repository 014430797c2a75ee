//! What EC2 has scheduled for a machine of ours: a reboot, maintenance of its hardware, its retirement.
//!
//! Decides: which codes of EC2 there are, and what a code of AWS Health means.
//! Does not: move anything (see `plan::moving::maintenance`).
//!
//! Source: "Scheduled events for your instances", Amazon EC2 User Guide, and `EventCode` of DescribeInstanceStatus.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::core::units::time::Timestamp;

/// What EC2 will do to a machine. All of it ends or interrupts the work that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScheduledKind {
    /// The instance is rebooted.
    InstanceReboot,
    /// The host is rebooted, and the instance with it.
    SystemReboot,
    /// Network or power of the host is worked on.
    SystemMaintenance,
    /// The hardware fails: the instance is stopped or terminated.
    InstanceRetirement,
    /// The instance is stopped.
    InstanceStop,
}

impl ScheduledKind {
    /// All of them.
    pub const ALL: [ScheduledKind; 5] = [
        ScheduledKind::InstanceReboot,
        ScheduledKind::SystemReboot,
        ScheduledKind::SystemMaintenance,
        ScheduledKind::InstanceRetirement,
        ScheduledKind::InstanceStop,
    ];

    /// EC2's code.
    pub fn as_str(self) -> &'static str {
        match self {
            ScheduledKind::InstanceReboot => "instance-reboot",
            ScheduledKind::SystemReboot => "system-reboot",
            ScheduledKind::SystemMaintenance => "system-maintenance",
            ScheduledKind::InstanceRetirement => "instance-retirement",
            ScheduledKind::InstanceStop => "instance-stop",
        }
    }

    /// The kind of EC2's code.
    pub fn of_code(code: &str) -> Option<ScheduledKind> {
        ScheduledKind::ALL.into_iter().find(|kind| kind.as_str() == code)
    }

    /// The kind of an AWS Health event type such as `AWS_EC2_INSTANCE_RETIREMENT_SCHEDULED`. Types that have no code of EC2 are maintenance.
    pub fn of_health(event_type: &str) -> ScheduledKind {
        match event_type {
            of if of.contains("RETIREMENT") => ScheduledKind::InstanceRetirement,
            of if of.contains("SYSTEM_REBOOT") => ScheduledKind::SystemReboot,
            of if of.contains("REBOOT") => ScheduledKind::InstanceReboot,
            of if of.contains("INSTANCE_STOP") => ScheduledKind::InstanceStop,
            _ => ScheduledKind::SystemMaintenance,
        }
    }
}

impl fmt::Display for ScheduledKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One scheduled event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ScheduledEvent {
    /// What is done.
    pub kind: ScheduledKind,
    /// When it begins at the earliest.
    pub not_before: Timestamp,
}

/// What is written down of a scheduled event in the claim of its machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScheduledMark {
    /// The event.
    pub event: ScheduledEvent,
    /// When we first saw it.
    pub noticed_at: Timestamp,
    /// `health` or `ec2-status`.
    pub source: String,
}
