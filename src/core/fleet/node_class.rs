//! A node class: how a node is set up in one region; and its status.

use std::collections::BTreeMap;
use std::fmt;

use super::image::{ClassImages, FoundImage};
use crate::core::market::catalog::{Architecture, MachineType};
use crate::core::market::reservation::NamedReservation;
use crate::core::market::reserve::NodeReserve;
use crate::core::units::Mebibytes;
use crate::core::units::Resources;
use crate::core::units::ids::{ClassName, Region, ZoneId};
use crate::core::units::time::Timestamp;
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
    /// Keys of the taints that its nodes start with and that somebody takes off once they are ready for work.
    pub startup_taints: Vec<String>,
    /// The root volume of its nodes; `None` is the image's own.
    pub root_volume: Option<Mebibytes>,
    /// What its kubelets keep for themselves.
    pub reserve: NodeReserve,
    /// Which images its nodes boot.
    pub images: ClassImages,
}

impl NodeClass {
    /// What pods can use of a machine of this class, before daemonsets.
    pub fn allocatable(&self, machine: &MachineType) -> Resources {
        machine.allocatable_of(&self.reserve)
    }

    /// Its images as its status has them.
    pub fn kept_images(&self) -> (BTreeMap<Architecture, FoundImage>, Option<Timestamp>) {
        (self.images.found.clone(), self.images.looked_up_at)
    }
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
    /// The images that were found, and when they were looked up.
    pub images: (BTreeMap<Architecture, FoundImage>, Option<Timestamp>),
    /// `Ok` if nodes can be launched.
    pub ready: Result<(), ClassProblem>,
}
