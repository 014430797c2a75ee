//! What is requested from EC2: a launch, frozen in its claim, and the launch template of a node class.

use std::collections::BTreeMap;

use crate::core::market::Capacity;
use crate::core::units::ids::{ClaimName, ClassName, Region, ReservationId, Uid};

/// One launch, frozen in the claim before any money is spent. The same launch gives the same instance.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Launch {
    /// The claim.
    pub claim: ClaimName,
    /// The claim's uid: the instance carries it as a tag.
    pub claim_uid: Uid,
    /// What to buy.
    #[serde(rename = "pool")]
    pub capacity: Capacity,
    /// EC2's idempotency token.
    pub client_token: String,
    /// Launch template name, created once per node class hash.
    pub launch_template: String,
    /// Its version.
    pub launch_template_version: String,
    /// The subnet in the zone.
    pub subnet: String,
    /// The image to boot; `None` is the launch template's.
    pub image: Option<String>,
    /// The capacity reservation to launch into; without one, EC2's open capacity.
    pub reservation: Option<ReservationId>,
    /// All tags of the instance; keys carry no `/`.
    pub tags: BTreeMap<String, String>,
}

/// The content of a launch template; its name is a hash of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaunchTemplate {
    /// The region.
    pub region: Region,
    /// The class it serves, for the tag.
    pub class: ClassName,
    /// Name: `lowtide-<hash>`.
    pub name: String,
    /// AMI; `None` where each launch names its own, by architecture.
    pub image: Option<String>,
    /// Security groups.
    pub security_groups: Vec<String>,
    /// Instance profile name.
    pub instance_profile: Option<String>,
    /// Disks, network and placement.
    pub settings: MachineSettings,
    /// User data, plain text; nothing in it differs between claims.
    pub user_data: String,
    /// EC2's idempotency token.
    pub client_token: String,
}

/// What a launch template says of the machine besides its image and network; the default is EC2's own.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize)]
pub struct MachineSettings {
    /// Its volumes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<Volume>,
    /// Whether it has a public address; `None` is the subnet's own rule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub public_address: Option<bool>,
    /// Hops that an answer of instance metadata survives; `None` is 1: no pod outside the host network reads them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata_hop_limit: Option<i32>,
    /// Its placement group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub placement_group: Option<String>,
    /// On hardware of this account's own.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub dedicated: bool,
    /// CloudWatch metrics every minute.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub detailed_monitoring: bool,
}

/// An EBS volume of a machine.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize)]
pub struct Volume {
    /// As in `/dev/xvda`.
    pub device: String,
    /// In GiB; `None` is the snapshot's size.
    pub size_gib: Option<i32>,
    /// As EC2 names it: `gp3`.
    pub kind: String,
    /// Operations per second.
    pub iops: Option<i32>,
    /// MiB per second.
    pub throughput: Option<i32>,
    /// Whether it is encrypted; `None` is the account's rule.
    pub encrypted: Option<bool>,
    /// The KMS key.
    pub kms_key: Option<String>,
    /// What it begins as, e.g. with container images and model weights on it.
    pub snapshot: Option<String>,
}
