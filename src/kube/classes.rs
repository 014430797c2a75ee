//! `GpuNodeClass`, the core's node class, and the launch template created from it.
//!
//! Decides: the content of a launch template, and its name: a hash of all of it, so that a changed class is a new template.
//! Does not: write user data (see [`super::user_data`]) or call EC2.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::api::node_class::{GpuNodeClassSpec, GpuSharing, LaunchTemplateRef, NamedCapacityReservation, SharingMode};
use super::api::node_settings::{BlockDevice, ImageArchitecture, ImageInUse, KubeletSettings, NamedImage};
use super::api::{ConditionStatus, GpuNodeClass, GpuNodeClassStatus, Moment};
use super::daemonsets::labels_in;
use super::names;
use super::pools::ready_condition;
use super::user_data::{self, UserDataError};
use crate::core::fleet::image::alias_parameter;
use crate::core::fleet::{
    ClassImages, ClassProblem, ClassStatus, FoundImage, ImageBy, ImageSource, LaunchTemplate, MachineSettings, NodeClass, Volume,
};
use crate::core::market::catalog::Architecture;
use crate::core::market::reservation::NamedReservation;
use crate::core::market::reserve::NodeReserve;
use crate::core::units::ids::{ClassName, Region, ReservationId, ZoneId, derive_uuid};
use crate::core::units::{Mebibytes, Millicores};
use crate::core::workload::sharing::{self as core_sharing, Sharing};

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
        problem: ready
            .filter(|c| c.status == ConditionStatus::False)
            .map(|c| ClassProblem { reason: c.reason.clone(), text: c.message.clone() }),
        interruption_queue: spec.interruption_queue.clone(),
        launch_template: status.launch_template.map(|t| (t.name, t.version)),
        tags: spec.tags.clone(),
        sharing: sharing(&spec.gpu_sharing),
        reservations: spec.capacity_reservations.iter().map(named_reservation).collect(),
        node_labels: node_labels(object),
        zone_names: status.zone_names.iter().map(|(zone, name)| (ZoneId::from(zone.as_str()), name.clone())).collect(),
        taints: taints(spec),
        startup_taints: spec.startup_taints.iter().map(|taint| taint.key.clone()).collect(),
        root_volume: root_volume(spec),
        reserve: spec.kubelet.as_ref().map(reserve).unwrap_or_default(),
        images: ClassImages {
            sources: spec.images.iter().filter_map(image_source).collect(),
            found: status.images.iter().map(found_image).collect(),
            looked_up_at: status.images_looked_up_at.map(Into::into),
        },
    }
}

fn architecture(written: ImageArchitecture) -> Architecture {
    match written {
        ImageArchitecture::Amd64 => Architecture::Amd64,
        ImageArchitecture::Arm64 => Architecture::Arm64,
    }
}

/// Where an image is looked up; `None` if it names none, which the API server refuses.
fn image_source(written: &NamedImage) -> Option<ImageSource> {
    let architecture = architecture(written.architecture);
    let by_id = written.id.clone().map(ImageBy::Id);
    let by_parameter = || written.parameter.clone().map(ImageBy::Parameter);
    let by_alias = || written.alias.as_deref().and_then(|alias| alias_parameter(alias, architecture)).map(ImageBy::Parameter);
    let newest = || {
        let of = written.newest.clone()?;
        Some(ImageBy::Newest { owner: of.owner, name: of.name, tags: of.tags })
    };
    Some(ImageSource { architecture, by: by_id.or_else(by_parameter).or_else(by_alias).or_else(newest)? })
}

fn found_image(written: &ImageInUse) -> (Architecture, FoundImage) {
    let ImageInUse { id, name, source, .. } = written.clone();
    (architecture(written.architecture), FoundImage { id, name, source })
}

fn written_image((of, image): (&Architecture, &FoundImage)) -> ImageInUse {
    let architecture = match of {
        Architecture::Amd64 => ImageArchitecture::Amd64,
        Architecture::Arm64 => ImageArchitecture::Arm64,
    };
    ImageInUse { architecture, id: image.id.clone(), name: image.name.clone(), source: image.source.clone() }
}

/// What pods' disk is counted against: as the class says, or the volume that holds them.
fn root_volume(spec: &GpuNodeClassSpec) -> Option<Mebibytes> {
    let holding = spec.block_devices.iter().find(|device| device.holds_pods).and_then(|device| device.size_gib);
    spec.root_volume_gib.map(i64::from).or(holding.map(i64::from)).map(|gib| Mebibytes(gib * 1_024))
}

fn reserve(kubelet: &KubeletSettings) -> NodeReserve {
    let (kube, system) = (kubelet.kube_reserved.clone().unwrap_or_default(), kubelet.system_reserved.clone().unwrap_or_default());
    NodeReserve {
        kube_cpu: kube.cpu_millicores.map(|cpu| Millicores(i64::from(cpu))),
        kube_memory: kube.memory_mib.map(|memory| Mebibytes(i64::from(memory))),
        system_cpu: Millicores(i64::from(system.cpu_millicores.unwrap_or(0))),
        system_memory: Mebibytes(i64::from(system.memory_mib.unwrap_or(0))),
        max_pods: kubelet.max_pods.map(i64::from),
    }
}

/// The taints that pods must tolerate: the class's, and those that it gives k3s itself.
fn taints(spec: &GpuNodeClassSpec) -> Vec<(String, String, String)> {
    let of_k3s = spec.bootstrap.extra.get("node-taint").map(|text| taints_in(text)).unwrap_or_default();
    let own = spec.taints.iter().map(|taint| (taint.key.clone(), taint.value.clone(), taint.effect.word().to_owned()));
    own.chain(of_k3s).collect()
}

/// What the launch template says of the machine.
fn machine_settings(spec: &GpuNodeClassSpec) -> MachineSettings {
    MachineSettings {
        volumes: spec.block_devices.iter().map(volume).collect(),
        public_address: spec.associate_public_ip_address,
        metadata_hop_limit: spec.metadata_hop_limit,
        placement_group: spec.placement_group.clone(),
        dedicated: spec.dedicated_tenancy,
        detailed_monitoring: spec.detailed_monitoring,
    }
}

fn volume(device: &BlockDevice) -> Volume {
    Volume {
        device: device.device_name.clone(),
        size_gib: device.size_gib,
        kind: device.volume_type.clone(),
        iops: device.iops,
        throughput: device.throughput_mibps,
        encrypted: device.encrypted,
        kms_key: device.kms_key_id.clone(),
        snapshot: device.snapshot_id.clone(),
    }
}

/// How GPUs are shared, in the core's terms.
pub fn sharing(written: &GpuSharing) -> core_sharing::GpuSharing {
    let replicas = i64::from(written.replicas);
    let (sharing, context_reserve) = match written.mode {
        SharingMode::Exclusive => (Sharing::Exclusive, 0),
        SharingMode::TimeSlicing => (Sharing::TimeSlicing { replicas }, written.context_reserve_mib),
        SharingMode::Mps => (Sharing::Mps { replicas }, written.context_reserve_mib),
        SharingMode::Mig => (Sharing::Mig { replicas }, written.context_reserve_mib),
    };
    core_sharing::GpuSharing { sharing, context_reserve: Mebibytes(i64::from(context_reserve)) }
}

/// The reverse of [`sharing`]; exclusive is left out.
pub fn written_sharing(sharing: &core_sharing::GpuSharing) -> Option<GpuSharing> {
    let (mode, replicas) = match sharing.sharing {
        Sharing::Exclusive => return None,
        Sharing::TimeSlicing { replicas } => (SharingMode::TimeSlicing, replicas),
        Sharing::Mps { replicas } => (SharingMode::Mps, replicas),
        Sharing::Mig { replicas } => (SharingMode::Mig, replicas),
    };
    let whole = |n: i64| u32::try_from(n).unwrap_or(u32::MAX);
    Some(GpuSharing { mode, replicas: whole(replicas), context_reserve_mib: whole(sharing.context_reserve.0) })
}

fn named_reservation(written: &NamedCapacityReservation) -> NamedReservation {
    NamedReservation { id: ReservationId::from(written.id.as_str()), price_per_hour: written.price_per_hour }
}

/// The taints in `key=value:Effect,key:Effect`, the form of k3s' `node-taint`; entries without an effect are ignored.
fn taints_in(text: &str) -> Vec<(String, String, String)> {
    let one = |text: &str| {
        let (name, effect) = text.trim().rsplit_once(':')?;
        let (key, value) = name.split_once('=').unwrap_or((name, ""));
        Some((key.to_owned(), value.to_owned(), effect.to_owned()))
    };
    text.split(',').filter_map(one).collect()
}

/// Labels that every node of the class gets: ours, the operating system, and those the class adds to k3s' configuration.
fn node_labels(object: &GpuNodeClass) -> BTreeMap<String, String> {
    let spec = &object.spec;
    let mut labels = spec.bootstrap.extra.get("node-label").map(|text| labels_in(text)).unwrap_or_default();
    labels.extend(spec.labels.clone());
    labels.extend(
        [
            ("kubernetes.io/os", "linux"),
            (names::NODE_CLASS, object.metadata.name.as_deref().unwrap_or_default()),
            (names::REGION, &spec.region),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned())),
    );
    labels.extend(user_data::sharing_label(spec).map(|(key, value)| (key.to_owned(), value)));
    labels
}

/// The launch template of a class. The cluster's UID is part of its content, and so of its name: no cluster launches from another's
/// template.
///
/// # Errors
/// When its user data cannot be written.
pub fn launch_template(object: &GpuNodeClass, cluster_uid: &str) -> Result<LaunchTemplate, UserDataError> {
    let spec = &object.spec;
    let class = ClassName::from(object.metadata.name.as_deref().unwrap_or_default());
    let user_data = user_data::write(&class, spec)?;
    let settings = machine_settings(spec);
    let mut content = vec![json!([cluster_uid, class, spec.region, spec.image, spec.security_groups, spec.instance_profile, user_data])];
    // A class that sets none of these keeps the template that earlier versions made.
    content.extend((settings != MachineSettings::default()).then(|| json!(settings)));
    let content: String = content.iter().map(Value::to_string).collect();
    let hash: String = Sha256::digest(content.as_bytes()).iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    let name = format!("lowtide-{hash}");
    Ok(LaunchTemplate {
        region: Region::from(spec.region.as_str()),
        class,
        client_token: derive_uuid(&["launch-template", &spec.region, &name]).to_string(),
        name,
        image: spec.image.clone(),
        security_groups: spec.security_groups.clone(),
        instance_profile: spec.instance_profile.clone(),
        settings,
        user_data,
    })
}

/// The merge patch of the status subresource. Zones that are gone are set to null, because a merge patch keeps what it does not mention.
pub fn status_patch(observed: Option<&GpuNodeClassStatus>, generation: Option<i64>, status: &ClassStatus, now: Moment) -> Value {
    let previous = observed.map(|s| s.conditions.as_slice()).unwrap_or_default();
    let gone = observed.into_iter().flat_map(|s| s.zones.keys()).map(|zone| (zone.clone(), Value::Null));
    let zones: serde_json::Map<String, Value> =
        gone.chain(status.zones.iter().map(|(zone, subnet)| (zone.to_string(), json!(subnet)))).collect();
    let gone = observed.into_iter().flat_map(|s| s.zone_names.keys()).map(|zone| (zone.clone(), Value::Null));
    let zone_names: serde_json::Map<String, Value> =
        gone.chain(status.zone_names.iter().map(|(zone, name)| (zone.to_string(), json!(name)))).collect();
    let ready = status.ready.clone().map_err(|problem| (problem.reason, problem.text));
    let template = status.launch_template.clone().map(|(name, version)| LaunchTemplateRef { name, version });
    json!({ "status": {
        "conditions": [ready_condition(previous, &ready, "NodesCanBeMade", generation, now)],
        "zones": zones,
        "zoneNames": zone_names,
        "launchTemplate": template,
        "images": status.images.0.iter().map(written_image).collect::<Vec<_>>(),
        "imagesLookedUpAt": status.images.1.map(Moment::from),
        "observedGeneration": generation,
    } })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn released() -> Value {
        crate::released::objects("0.1.0", "class-").remove(0).1
    }

    #[test]
    fn a_class_that_0_1_0_held_is_read_and_makes_a_template() {
        let object: GpuNodeClass = serde_json::from_value(released()).unwrap();
        let class = read(&object);
        assert_eq!((class.zones.len(), class.problem, class.reservations.len()), (2, None, 1));
        assert_eq!(class.sharing.sharing, Sharing::TimeSlicing { replicas: 4 });
        assert_eq!(class.launch_template, Some(("lowtide-0a1b2c3d4e5f".to_owned(), "1".to_owned())));
        assert!(launch_template(&object, "a-cluster").unwrap().name.starts_with("lowtide-"));
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(crate::mutation::CASES))]

        #[test]
        fn whatever_a_class_holds_makes_a_template_of_our_name_or_a_sentence(object in crate::mutation::json(vec![released()])) {
            if let Ok(object) = serde_json::from_value::<GpuNodeClass>(object) {
                read(&object);
                if let Ok(template) = launch_template(&object, "a-cluster") {
                    assert!(template.name.starts_with("lowtide-") && template.name.len() == 20, "{}", template.name);
                }
            }
        }
    }
}
