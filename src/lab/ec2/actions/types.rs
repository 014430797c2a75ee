//! DescribeInstanceTypes and DescribeInstanceTypeOfferings.

use std::collections::BTreeSet;

use crate::core::units::ids::InstanceType;

use super::super::account::Account;
use super::super::facts::TypeFacts;
use super::super::fault::Fault;
use super::super::query::{Filter, page};
use super::super::xml::Xml;
use super::{Call, answered};

/// EC2's limit on named types in one call.
const MOST_NAMED_TYPES: usize = 100;

pub(super) fn describe_instance_types(account: &mut Account, call: Call<'_>) -> Result<String, Fault> {
    let here = account.types_in(call.region);
    let asked: Vec<InstanceType> = call.params.list("InstanceType").into_iter().map(InstanceType::from).collect();
    if asked.len() > MOST_NAMED_TYPES {
        return Err(Fault::value(&asked.len().to_string(), "InstanceTypes", "At most 100 instance types can be named."));
    }
    let unknown: Vec<&str> = asked.iter().filter(|name| !here.contains(name)).map(InstanceType::as_str).collect();
    if !unknown.is_empty() {
        let message = format!("The following supplied instance types do not exist: [{}]", unknown.join(", "));
        return Err(Fault::bad("InvalidInstanceType", message));
    }
    let filters = call.params.filters();
    let mut wanted = Vec::new();
    for name in here.iter().filter(|name| asked.is_empty() || asked.contains(name)) {
        let Some(facts) = account.facts.types.get(name) else { continue };
        if filters.iter().map(|filter| type_matches(facts, filter)).collect::<Result<Vec<_>, _>>()?.into_iter().all(|fits| fits) {
            wanted.push(facts.clone());
        }
    }
    let (types, next) = page(&wanted, call.params, 100)?;
    answered(|xml| {
        xml.list("instanceTypeSet", types, |xml, facts| write_type(xml, &facts));
        xml.maybe("nextToken", next);
    })
}

fn type_matches(facts: &TypeFacts, filter: &Filter) -> Result<bool, Fault> {
    Ok(match filter.name.as_str() {
        "instance-type" => filter.matches(facts.name.as_str()),
        "supported-usage-class" => facts.usage_classes.iter().any(|class| filter.matches(class)),
        "processor-info.supported-architecture" => filter.matches(&facts.architecture),
        "current-generation" => filter.matches(&facts.current_generation.to_string()),
        "bare-metal" => filter.matches(&facts.bare_metal.to_string()),
        "instance-storage-supported" => filter.matches(&(facts.nvme_gb.unwrap_or(0) > 0).to_string()),
        "vcpu-info.default-vcpus" => filter.matches(&facts.vcpus.to_string()),
        "memory-info.size-in-mib" => filter.matches(&facts.memory_mib.to_string()),
        other => return Err(Fault::value(other, "Filter", "The filter is not supported by this simulator.")),
    })
}

/// What the catalog does not know (clock speeds, disk counts) is left out.
fn write_type(xml: &mut Xml, facts: &TypeFacts) {
    xml.text("instanceType", &facts.name).text("currentGeneration", facts.current_generation).text("bareMetal", facts.bare_metal);
    xml.texts("supportedUsageClasses", &facts.usage_classes).texts("supportedRootDeviceTypes", ["ebs"]);
    xml.element("processorInfo", |xml| {
        xml.texts("supportedArchitectures", [&facts.architecture]);
    });
    xml.element("vCpuInfo", |xml| {
        xml.text("defaultVCpus", facts.vcpus);
    });
    xml.element("memoryInfo", |xml| {
        xml.text("sizeInMiB", facts.memory_mib);
    });
    xml.maybe("instanceStorageSupported", facts.nvme_gb.map(|gb| gb > 0));
    if let Some(gb) = facts.nvme_gb.filter(|gb| *gb > 0) {
        xml.element("instanceStorageInfo", |xml| {
            xml.text("totalSizeInGB", gb);
        });
    }
    if let Some(most) = facts.ebs_attachments {
        xml.element("ebsInfo", |xml| {
            xml.text("maximumEbsAttachments", most).text("attachmentLimitType", if facts.ebs_shared { "shared" } else { "dedicated" });
        });
    }
    xml.element("networkInfo", |xml| {
        xml.text("networkPerformance", &facts.network_performance).maybe("maximumNetworkCards", facts.network_cards);
        xml.maybe("efaSupported", facts.efa_interfaces.map(|count| count > 0));
        if let Some(count) = facts.efa_interfaces.filter(|count| *count > 0) {
            xml.element("efaInfo", |xml| {
                xml.text("maximumEfaInterfaces", count);
            });
        }
    });
    xml.element("gpuInfo", |xml| {
        xml.list("gpus", [facts], |xml, facts| {
            xml.text("name", &facts.gpu_model).text("manufacturer", "NVIDIA").text("count", facts.gpu_count);
            xml.text("logicalGpuCount", facts.logical_gpu_count).text("gpuPartitionSize", &facts.gpu_partition_size);
            if let Some(mib) = facts.gpu_memory_mib {
                xml.element("memoryInfo", |xml| {
                    xml.text("sizeInMiB", mib);
                });
            }
        });
        xml.maybe("totalGpuMemoryInMiB", facts.gpu_memory_mib.map(|mib| mib * facts.logical_gpu_count));
    });
}

pub(super) fn describe_instance_type_offerings(account: &mut Account, call: Call<'_>) -> Result<String, Fault> {
    let location_type = call.params.get("LocationType").unwrap_or("region");
    let mut offerings: BTreeSet<(String, String)> = BTreeSet::new();
    for zone in account.places.zones_of(call.region) {
        let location = match location_type {
            "region" => call.region.to_string(),
            "availability-zone" => zone.name.clone(),
            "availability-zone-id" => zone.id.to_string(),
            other => return Err(Fault::value(other, "LocationType", "Expected region, availability-zone or availability-zone-id.")),
        };
        // The regional answer is about the region's availability zones, not its local zones.
        if zone.is_local && location_type == "region" {
            continue;
        }
        let types = account.facts.offered.get(&zone.id);
        offerings.extend(types.into_iter().flatten().map(|it| (it.to_string(), location.clone())));
    }
    let filters = call.params.filters();
    let fits = |(it, location): &&(String, String)| {
        filters.iter().all(|filter| match filter.name.as_str() {
            "instance-type" => filter.matches(it),
            "location" => filter.matches(location),
            _ => true,
        })
    };
    let wanted: Vec<(String, String)> = offerings.iter().filter(fits).cloned().collect();
    let (rows, next) = page(&wanted, call.params, 1_000)?;
    answered(|xml| {
        xml.list("instanceTypeOfferingSet", rows, |xml, (it, location)| {
            xml.text("instanceType", it).text("locationType", location_type).text("location", location);
        });
        xml.maybe("nextToken", next);
    })
}
