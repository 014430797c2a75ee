//! A node class: how a node is set up in one region; and its status.

use std::collections::BTreeMap;
use std::fmt;

use crate::core::market::reservation::NamedReservation;
use crate::core::units::Mebibytes;
use crate::core::units::ids::{ClassName, Region, ZoneId};
use crate::core::workload::sharing::GpuSharing;

/// A node class: how a node is set up in one region.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeClass {
    /// Its name.
    pub name: ClassName,
    /// Its region.
    pub region: Region,
    /// Its subnets as configured.
    pub subnets: Vec<String>,
    /// Zone id of each subnet, once known from EC2; empty until then.
    pub zones: BTreeMap<ZoneId, String>,
    /// Why it cannot be used, for example an unknown subnet.
    pub problem: Option<ClassProblem>,
    /// The interruption queue's name in its region.
    pub interruption_queue: Option<String>,
    /// Launch template, once it exists: name and version.
    pub launch_template: Option<(String, String)>,
    /// Tags the class adds to instances.
    pub tags: BTreeMap<String, String>,
    /// How its nodes share GPUs.
    pub sharing: GpuSharing,
    /// Capacity reservations its nodes may be launched into.
    pub reservations: Vec<NamedReservation>,
    /// Labels that every node of the class gets, as far as they are known before it joins.
    pub node_labels: BTreeMap<String, String>,
    /// The name of each zone in this account, once known from EC2; empty until then.
    pub zone_names: BTreeMap<ZoneId, String>,
    /// Taints that the class adds to its nodes: key, value, effect.
    pub taints: Vec<(String, String, String)>,
    /// The root volume of its nodes; `None` is the image's own.
    pub root_volume: Option<Mebibytes>,
}

/// Why nodes of a class cannot be launched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClassProblem {
    /// One word in CamelCase, e.g. `UnknownSubnet`: decisions use this.
    pub reason: String,
    /// A sentence for people: no decision uses it.
    pub text: String,
}

impl ClassProblem {
    /// Reason of a class whose region is closed to the account.
    pub const REGION_CLOSED: &'static str = "RegionClosed";
}

impl fmt::Display for ClassProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reason, self.text)
    }
}

/// Status of a node class.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClassStatus {
    /// Zone id of each subnet.
    pub zones: BTreeMap<ZoneId, String>,
    /// The name of each of these zones in this account.
    pub zone_names: BTreeMap<ZoneId, String>,
    /// The launch template: name and version.
    pub launch_template: Option<(String, String)>,
    /// `Ok` if nodes can be launched.
    pub ready: Result<(), ClassProblem>,
}
