//! `GpuNodeClass`, the core's node class, and the launch template made of it.
//!
//! Decides: what a launch template is made of, and its name: a hash of all of it, so that a changed class is a new template.
//! Does not: write user data (see [`super::user_data`]) or call EC2.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::api::node_class::LaunchTemplateRef;
use super::api::{ConditionStatus, GpuNodeClass, GpuNodeClassStatus, Moment};
use super::pools::ready_condition;
use super::user_data::{self, UserDataError};
use crate::core::action::ClassStatus;
use crate::core::ids::{ClassName, Region, ZoneId, derive_uuid};
use crate::core::world::NodeClass;
use crate::engine::ports::LaunchTemplate;

/// Reads a class.
pub fn read(object: &GpuNodeClass) -> NodeClass {
    let spec = &object.spec;
    let status = object.status.clone().unwrap_or_default();
    let ready = status.conditions.iter().find(|c| c.type_ == "Ready");
    NodeClass {
        name: ClassName::from(object.metadata.name.as_deref().unwrap_or_default()),
        region: Region::from(spec.region.as_str()),
        subnets: spec.subnets.clone(),
        zones: status.zones.iter().map(|(zone, subnet)| (ZoneId::from(zone.as_str()), subnet.clone())).collect(),
        problem: ready.filter(|c| c.status == ConditionStatus::False).map(|c| format!("{}: {}", c.reason, c.message)),
        interruption_queue: spec.interruption_queue.clone(),
        launch_template: status.launch_template.map(|t| (t.name, t.version)),
        tags: spec.tags.clone(),
    }
}

/// The launch template of a class.
///
/// # Errors
/// When its user data cannot be written.
pub fn launch_template(object: &GpuNodeClass) -> Result<LaunchTemplate, UserDataError> {
    let spec = &object.spec;
    let class = ClassName::from(object.metadata.name.as_deref().unwrap_or_default());
    let user_data = user_data::write(&class, spec)?;
    let content = json!([class, spec.region, spec.image, spec.security_groups, spec.instance_profile, user_data]);
    let hash: String = Sha256::digest(content.to_string().as_bytes()).iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    let name = format!("lowtide-{hash}");
    Ok(LaunchTemplate {
        region: Region::from(spec.region.as_str()),
        class,
        client_token: derive_uuid(&["launch-template", &spec.region, &name]).to_string(),
        name,
        image: spec.image.clone(),
        security_groups: spec.security_groups.clone(),
        instance_profile: spec.instance_profile.clone(),
        user_data,
    })
}

/// The merge patch of the status subresource. Zones that are gone are named, because a merge patch keeps what it does not name.
pub fn status_patch(observed: Option<&GpuNodeClassStatus>, generation: Option<i64>, status: &ClassStatus, now: Moment) -> Value {
    let previous = observed.map(|s| s.conditions.as_slice()).unwrap_or_default();
    let gone = observed.into_iter().flat_map(|s| s.zones.keys()).map(|zone| (zone.clone(), Value::Null));
    let zones: serde_json::Map<String, Value> =
        gone.chain(status.zones.iter().map(|(zone, subnet)| (zone.to_string(), json!(subnet)))).collect();
    let template = status.launch_template.clone().map(|(name, version)| LaunchTemplateRef { name, version });
    json!({ "status": {
        "conditions": [ready_condition(previous, &status.ready, "NodesCanBeMade", generation, now)],
        "zones": zones,
        "launchTemplate": template,
        "observedGeneration": generation,
    } })
}
