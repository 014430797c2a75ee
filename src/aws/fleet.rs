//! Buying and terminating machines: launch templates, CreateFleet of one, RunInstances into a reservation, TerminateInstances.
//!
//! Decides: how a frozen [`Launch`] becomes a request, so that the same launch is the same request, byte for byte.
//! Does not: choose what to buy, or retry.

use std::collections::BTreeMap;

use aws_sdk_ec2::operation::create_fleet::CreateFleetOutput;
use aws_sdk_ec2::types::{
    CapacityReservationSpecification, CapacityReservationTarget, DefaultTargetCapacityType, FleetLaunchTemplateConfigRequest,
    FleetLaunchTemplateOverridesRequest, FleetLaunchTemplateSpecificationRequest, FleetType, InstanceType as SdkInstanceType,
    LaunchTemplateBlockDeviceMappingRequest, LaunchTemplateEbsBlockDeviceRequest, LaunchTemplateHttpTokensState,
    LaunchTemplateIamInstanceProfileSpecificationRequest, LaunchTemplateInstanceMetadataEndpointState,
    LaunchTemplateInstanceMetadataOptionsRequest, LaunchTemplateInstanceMetadataTagsState,
    LaunchTemplateInstanceNetworkInterfaceSpecificationRequest, LaunchTemplatePlacementRequest, LaunchTemplateSpecification,
    LaunchTemplatesMonitoringRequest, RequestLaunchTemplateData, ResourceType, ShutdownBehavior, Tag, TargetCapacitySpecificationRequest,
    Tenancy, VolumeType,
};
use aws_smithy_types::error::metadata::ProvideErrorMetadata;

use crate::core::fleet::{Launch, LaunchTemplate, Ownership, Volume, ownership, tags};
use crate::core::market::CapacityType;
use crate::core::units::ids::{InstanceId, Region, ReservationId};
use crate::ports::CloudError;

use super::AwsCloud;
use super::conversion::{named, needed, tag_map, tag_specification};
use super::errors::{classify_in_fleet, from_sdk};

/// The tag of a launch template that holds its node class.
pub const CLASS_TAG: &str = "lowtide-class";

/// Templates are never changed, only created: the name is derived from the content.
const ONLY_VERSION: &str = "1";

impl AwsCloud {
    /// What everything that lowtide makes carries: its rights are bound to it (terraform/modules/hub).
    pub(super) fn own_tags(&self) -> BTreeMap<String, String> {
        let own = [(tags::CLUSTER, &self.settings.cluster), (tags::CLUSTER_UID, &self.settings.cluster_uid)];
        own.into_iter().map(|(key, value)| (key.to_owned(), value.clone())).collect()
    }

    /// Creates the template, or finds the one with that name.
    pub(super) async fn create_or_find_template(&self, template: &LaunchTemplate) -> Result<String, CloudError> {
        let mut own = self.own_tags();
        own.insert(CLASS_TAG.to_owned(), template.class.to_string());
        let clients = self.clients(&template.region);
        let made = clients
            .ec2
            .create_launch_template()
            .launch_template_name(&template.name)
            .client_token(&template.client_token)
            .launch_template_data(template_data(template))
            .tag_specifications(tag_specification(ResourceType::LaunchTemplate, &own))
            .send()
            .await;
        match made {
            Ok(_) => Ok(ONLY_VERSION.to_owned()),
            Err(error) => {
                let exists = ["InvalidLaunchTemplateName.AlreadyExistsException", "IdempotentParameterMismatch"];
                match error.as_service_error().and_then(|fault| fault.code()) {
                    Some(code) if exists.contains(&code) => self.find_template(template).await,
                    _ => Err(from_sdk("CreateLaunchTemplate", &template.region, error)),
                }
            }
        }
    }

    async fn find_template(&self, template: &LaunchTemplate) -> Result<String, CloudError> {
        let region = &template.region;
        let found = self.clients(region).ec2.describe_launch_templates().launch_template_names(&template.name).send().await;
        let found = found.map_err(|error| from_sdk("DescribeLaunchTemplates", region, error))?;
        let known = needed(found.launch_templates().first(), "DescribeLaunchTemplates", &template.name)?;
        let tags = tag_map(known.tags()).into();
        if let Ownership::Foreign(uid) = ownership(&tags, &self.settings.cluster_uid) {
            let message =
                format!("launch template {} carries the UID {uid} of another cluster: nothing is launched from it", template.name);
            return Err(CloudError::Refused { code: "OtherCluster".to_owned(), message });
        }
        // Someone else may have added a version; ours is the first.
        Ok(ONLY_VERSION.to_owned())
    }

    /// Buys one machine.
    pub(super) async fn create_fleet_of_one(&self, launch: &Launch) -> Result<InstanceId, CloudError> {
        let region = &launch.capacity.region;
        let target = match launch.capacity.capacity_type {
            CapacityType::Spot => DefaultTargetCapacityType::Spot,
            CapacityType::OnDemand => DefaultTargetCapacityType::OnDemand,
            CapacityType::Reserved => {
                return Err(CloudError::Refused {
                    code: "NotSent".to_owned(),
                    message: format!("{} is prepaid capacity, but its launch has no reservation", launch.capacity),
                });
            }
        };
        let override_ = FleetLaunchTemplateOverridesRequest::builder()
            .instance_type(SdkInstanceType::from(launch.capacity.instance_type.as_str()))
            .subnet_id(&launch.subnet)
            // EC2 API reference: an override names an image in fleets of type instant only.
            .set_image_id(launch.image.clone())
            .build();
        let template = FleetLaunchTemplateSpecificationRequest::builder()
            .launch_template_name(&launch.launch_template)
            .version(&launch.launch_template_version)
            .build();
        let capacity = TargetCapacitySpecificationRequest::builder().total_target_capacity(1).default_target_capacity_type(target).build();
        let mut ask = self
            .clients(region)
            .ec2_once
            .create_fleet()
            .r#type(FleetType::Instant)
            .client_token(&launch.client_token)
            .launch_template_configs(
                FleetLaunchTemplateConfigRequest::builder().launch_template_specification(template).overrides(override_).build(),
            )
            .target_capacity_specification(capacity);
        for kind in [ResourceType::Instance, ResourceType::Volume, ResourceType::Fleet] {
            ask = ask.tag_specifications(tag_specification(kind, &launch.tags));
        }
        let answer = ask.send().await.map_err(|error| from_sdk("CreateFleet", region, error))?;
        instance_of(&answer)
    }

    /// Launches one machine into a capacity reservation, or not at all. A fleet can only use a reservation through a launch template of its
    /// own; RunInstances takes one directly, and honours the token as well.
    pub(super) async fn run_in_reservation(&self, launch: &Launch, reservation: &ReservationId) -> Result<InstanceId, CloudError> {
        let region = &launch.capacity.region;
        let template = LaunchTemplateSpecification::builder()
            .launch_template_name(&launch.launch_template)
            .version(&launch.launch_template_version)
            .build();
        let target = CapacityReservationTarget::builder().capacity_reservation_id(reservation.as_str()).build();
        let into = CapacityReservationSpecification::builder().capacity_reservation_target(target).build();
        let mut ask = self
            .clients(region)
            .ec2_once
            .run_instances()
            .client_token(&launch.client_token)
            .launch_template(template)
            .instance_type(SdkInstanceType::from(launch.capacity.instance_type.as_str()))
            .subnet_id(&launch.subnet)
            .set_image_id(launch.image.clone())
            .capacity_reservation_specification(into)
            .min_count(1)
            .max_count(1);
        for kind in [ResourceType::Instance, ResourceType::Volume] {
            ask = ask.tag_specifications(tag_specification(kind, &launch.tags));
        }
        let answer = ask.send().await.map_err(|error| from_sdk("RunInstances", region, error))?;
        let id = answer.instances().first().and_then(|instance| named(instance.instance_id()));
        needed(id, "RunInstances", "an instance").map(InstanceId::from)
    }

    /// Writes tags on an instance; existing values are replaced.
    ///
    /// # Errors
    /// Every [`CloudError`]: the operator's own role lacks the permission, a person's has it.
    pub async fn mark_instance(&self, region: &Region, instance: &InstanceId, words: &[(&str, &str)]) -> Result<(), CloudError> {
        let all = words.iter().map(|(key, value)| Tag::builder().key(*key).value(*value).build()).collect();
        let ask = self.clients(region).ec2.create_tags().resources(instance.as_str()).set_tags(Some(all));
        ask.send().await.map(drop).map_err(|error| from_sdk("CreateTags", region, error))
    }

    /// Terminates an instance. EC2 forgets an instance an hour after its end, and then says it does not exist: that is not an error. It
    /// says the same for a moment after a launch; to be sure, check [`crate::ports::Cloud::instances`].
    pub(super) async fn end_instance(&self, region: &Region, instance: &InstanceId) -> Result<(), CloudError> {
        let answer = self.clients(region).ec2.terminate_instances().instance_ids(instance.as_str()).send().await;
        match answer {
            Ok(_) => Ok(()),
            Err(error) if error.as_service_error().and_then(|fault| fault.code()) == Some("InvalidInstanceID.NotFound") => Ok(()),
            Err(error) => Err(from_sdk("TerminateInstances", region, error)),
        }
    }
}

fn template_data(template: &LaunchTemplate) -> RequestLaunchTemplateData {
    let metadata = LaunchTemplateInstanceMetadataOptionsRequest::builder()
        .http_endpoint(LaunchTemplateInstanceMetadataEndpointState::Enabled)
        .http_tokens(LaunchTemplateHttpTokensState::Required)
        // Pods must not reach the node's credentials, unless the class says so; the node agent runs in the host network.
        .http_put_response_hop_limit(template.settings.metadata_hop_limit.unwrap_or(1))
        .instance_metadata_tags(LaunchTemplateInstanceMetadataTagsState::Enabled)
        .build();
    let profile =
        template.instance_profile.as_ref().map(|name| LaunchTemplateIamInstanceProfileSpecificationRequest::builder().name(name).build());
    let settings = &template.settings;
    // EC2 API reference: with a network interface, security groups are the interface's.
    let interface = settings.public_address.map(|public| {
        let groups = template.security_groups.clone();
        LaunchTemplateInstanceNetworkInterfaceSpecificationRequest::builder()
            .device_index(0)
            .associate_public_ip_address(public)
            .set_groups(Some(groups))
            .build()
    });
    let groups = interface.is_none().then(|| template.security_groups.clone());
    let volumes: Vec<_> = settings.volumes.iter().map(volume).collect();
    let placed = settings.placement_group.is_some() || settings.dedicated;
    let placement = placed.then(|| {
        let tenancy = settings.dedicated.then_some(Tenancy::Dedicated);
        LaunchTemplatePlacementRequest::builder().set_group_name(settings.placement_group.clone()).set_tenancy(tenancy).build()
    });
    let monitoring = settings.detailed_monitoring.then(|| LaunchTemplatesMonitoringRequest::builder().enabled(true).build());
    RequestLaunchTemplateData::builder()
        .set_image_id(template.image.clone())
        .set_security_group_ids(groups)
        .set_network_interfaces(interface.map(|one| vec![one]))
        .set_block_device_mappings((!volumes.is_empty()).then_some(volumes))
        .set_placement(placement)
        .set_monitoring(monitoring)
        .set_iam_instance_profile(profile)
        .user_data(aws_smithy_types::base64::encode(&template.user_data))
        .instance_initiated_shutdown_behavior(ShutdownBehavior::Terminate)
        .metadata_options(metadata)
        .build()
}

fn volume(volume: &Volume) -> LaunchTemplateBlockDeviceMappingRequest {
    let disk = LaunchTemplateEbsBlockDeviceRequest::builder()
        .delete_on_termination(true)
        .set_volume_size(volume.size_gib)
        .volume_type(VolumeType::from(volume.kind.as_str()))
        .set_iops(volume.iops)
        .set_throughput(volume.throughput)
        .set_encrypted(volume.encrypted)
        .set_kms_key_id(volume.kms_key.clone())
        .set_snapshot_id(volume.snapshot.clone())
        .build();
    LaunchTemplateBlockDeviceMappingRequest::builder().device_name(&volume.device).ebs(disk).build()
}

/// The outcome of a fleet of one. HTTP 200 without an instance is normal: the reason is among the errors.
fn instance_of(answer: &CreateFleetOutput) -> Result<InstanceId, CloudError> {
    if let Some(id) = answer.instances().iter().flat_map(|set| set.instance_ids()).find(|id| !id.is_empty()) {
        return Ok(id.as_str().into());
    }
    match answer.errors().first() {
        Some(error) => Err(classify_in_fleet(error.error_code().unwrap_or("(no code)"), error.error_message().unwrap_or_default())),
        None => Err(CloudError::Unknown { message: "CreateFleet answered with neither an instance nor an error".to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::fleet::MachineSettings;
    use aws_sdk_ec2::types::{CreateFleetError, CreateFleetInstance};

    #[test]
    fn a_fleet_answer_is_its_instance_its_error_or_no_answer() {
        let failed = CreateFleetError::builder().error_code("InsufficientInstanceCapacity").error_message("none").build();
        let empty = CreateFleetOutput::builder().errors(failed.clone()).build();
        assert!(matches!(instance_of(&empty), Err(CloudError::NoCapacity { .. })));
        let bought =
            CreateFleetOutput::builder().errors(failed).instances(CreateFleetInstance::builder().instance_ids("i-1").build()).build();
        assert_eq!(instance_of(&bought).unwrap().as_str(), "i-1");
        assert!(matches!(instance_of(&CreateFleetOutput::builder().build()), Err(CloudError::Unknown { .. })));
    }

    #[test]
    fn a_template_says_what_the_class_says_of_disks_network_and_place() {
        let volume = Volume {
            device: "/dev/xvda".into(),
            size_gib: Some(200),
            kind: "gp3".into(),
            throughput: Some(500),
            encrypted: Some(true),
            snapshot: Some("snap-1".into()),
            ..Volume::default()
        };
        let settings = MachineSettings {
            volumes: vec![volume],
            public_address: Some(false),
            metadata_hop_limit: Some(2),
            placement_group: Some("gpus".into()),
            dedicated: true,
            detailed_monitoring: true,
        };
        let data = template_data(&LaunchTemplate { image: None, settings, ..template() });
        let disk = &data.block_device_mappings()[0];
        assert_eq!(
            (disk.device_name(), disk.ebs().unwrap().volume_size(), disk.ebs().unwrap().throughput()),
            (Some("/dev/xvda"), Some(200), Some(500))
        );
        assert_eq!((disk.ebs().unwrap().volume_type(), disk.ebs().unwrap().snapshot_id()), (Some(&VolumeType::Gp3), Some("snap-1")));
        let interface = &data.network_interfaces()[0];
        assert_eq!((interface.associate_public_ip_address(), interface.groups()), (Some(false), ["sg-1".to_owned()].as_slice()));
        assert!(data.security_group_ids().is_empty(), "EC2 refuses both");
        assert_eq!(data.metadata_options().unwrap().http_put_response_hop_limit(), Some(2));
        let placement = data.placement().unwrap();
        assert_eq!((placement.group_name(), placement.tenancy()), (Some("gpus"), Some(&Tenancy::Dedicated)));
        assert_eq!((data.monitoring().unwrap().enabled(), data.image_id()), (Some(true), None));
    }

    fn template() -> LaunchTemplate {
        LaunchTemplate {
            region: "us-east-1".into(),
            class: "use1".into(),
            name: "lowtide-1".into(),
            image: Some("ami-1".into()),
            security_groups: vec!["sg-1".into()],
            instance_profile: Some("node".into()),
            settings: MachineSettings::default(),
            user_data: "#cloud-config\n".into(),
            client_token: "t".into(),
        }
    }

    #[test]
    fn a_template_demands_imdsv2_and_keeps_pods_away_from_it() {
        let data = template_data(&template());
        let metadata = data.metadata_options().unwrap();
        assert_eq!(metadata.http_tokens(), Some(&LaunchTemplateHttpTokensState::Required));
        assert_eq!(metadata.http_put_response_hop_limit(), Some(1));
        assert_eq!(data.user_data(), Some("I2Nsb3VkLWNvbmZpZwo="));
        assert_eq!(data.iam_instance_profile().unwrap().name(), Some("node"));
    }
}
