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
    /// AMI.
    pub image: String,
    /// Security groups.
    pub security_groups: Vec<String>,
    /// Instance profile name.
    pub instance_profile: Option<String>,
    /// User data, plain text; nothing in it differs between claims.
    pub user_data: String,
    /// EC2's idempotency token.
    pub client_token: String,
}
