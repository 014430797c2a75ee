//! DescribeRegions, DescribeAvailabilityZones, DescribeSubnets, DescribeImages.

use crate::core::units::ids::Region;

use super::super::account::places::{image_id, subnet_id, vpc_id};
use super::super::account::{ACCOUNT, Account, places::Zone};
use super::super::fault::Fault;
use super::super::query::page;
use super::{Call, answered};

/// Regions of AWS that are enabled without opting in. Source: EC2 user guide, "Regions and Zones".
const ALWAYS_ON: [&str; 17] = [
    "ap-northeast-1",
    "ap-northeast-2",
    "ap-northeast-3",
    "ap-south-1",
    "ap-southeast-1",
    "ap-southeast-2",
    "ca-central-1",
    "eu-central-1",
    "eu-north-1",
    "eu-west-1",
    "eu-west-2",
    "eu-west-3",
    "sa-east-1",
    "us-east-1",
    "us-east-2",
    "us-west-1",
    "us-west-2",
];

pub(super) fn describe_regions(account: &mut Account, call: Call<'_>) -> Result<String, Fault> {
    let asked = call.params.list("RegionName");
    let regions = account.places.regions();
    if let Some(unknown) = asked.iter().find(|name| !regions.iter().any(|region| region.as_str() == *name)) {
        return Err(Fault::value(unknown, "RegionNames", "Invalid region name."));
    }
    let filters = call.params.filters();
    let wanted = regions.into_iter().filter(|region| {
        (asked.is_empty() || asked.iter().any(|name| name == region.as_str()))
            && filters.iter().all(|filter| match filter.name.as_str() {
                "region-name" => filter.matches(region.as_str()),
                "opt-in-status" => filter.matches(opt_in(account, region)),
                _ => true,
            })
    });
    answered(|xml| {
        xml.list("regionInfo", wanted, |xml, region| {
            xml.text("regionName", &region).text("regionEndpoint", format!("ec2.{region}.amazonaws.com"));
            xml.text("optInStatus", opt_in(account, &region));
        });
    })
}

fn opt_in(account: &Account, region: &Region) -> &'static str {
    match (account.closed_regions.contains(region), ALWAYS_ON.contains(&region.as_str())) {
        (true, _) => "not-opted-in",
        (false, true) => "opt-in-not-required",
        (false, false) => "opted-in",
    }
}

pub(super) fn describe_availability_zones(account: &mut Account, call: Call<'_>) -> Result<String, Fault> {
    let (ids, names, filters) = (call.params.list("ZoneId"), call.params.list("ZoneName"), call.params.filters());
    let zone_type = |zone: &Zone| if zone.is_local { "local-zone" } else { "availability-zone" };
    let zones = account.places.zones_of(call.region);
    let unknown = ids.iter().find(|id| !zones.iter().any(|zone| zone.id.as_str() == *id));
    if let Some(id) = unknown.or(names.iter().find(|name| !zones.iter().any(|zone| zone.name == **name))) {
        return Err(Fault::value(id, "availabilityZone", "Invalid availability zone."));
    }
    let wanted = zones.into_iter().filter(|zone| {
        (ids.is_empty() || ids.iter().any(|id| id == zone.id.as_str()))
            && (names.is_empty() || names.contains(&zone.name))
            && filters.iter().all(|filter| match filter.name.as_str() {
                "zone-id" => filter.matches(zone.id.as_str()),
                "zone-name" => filter.matches(&zone.name),
                "zone-type" => filter.matches(zone_type(zone)),
                "region-name" => filter.matches(zone.region.as_str()),
                _ => true,
            })
    });
    answered(|xml| {
        xml.list("availabilityZoneInfo", wanted, |xml, zone| {
            xml.text("zoneName", &zone.name).text("zoneId", &zone.id).text("regionName", &zone.region);
            xml.text("zoneState", "available").text("zoneType", zone_type(zone));
            xml.text("optInStatus", if zone.is_local { "opted-in" } else { "opt-in-not-required" });
            let group = if zone.is_local { zone.name.trim_end_matches(|c: char| c.is_ascii_lowercase()) } else { zone.region.as_str() };
            xml.text("groupName", group).text("networkBorderGroup", group);
        });
    })
}

pub(super) fn describe_subnets(account: &mut Account, call: Call<'_>) -> Result<String, Fault> {
    let (asked, filters) = (call.params.list("SubnetId"), call.params.filters());
    if let Some(unknown) = asked.iter().find(|id| account.places.zone_of_subnet(call.region, id).is_none()) {
        return Err(Fault::bad("InvalidSubnetID.NotFound", format!("The subnet ID '{unknown}' does not exist")));
    }
    let vpc = vpc_id(call.region);
    let wanted: Vec<Zone> = account
        .places
        .zones_of(call.region)
        .into_iter()
        .filter(|zone| {
            (asked.is_empty() || asked.contains(&zone.subnet))
                && filters.iter().all(|filter| match filter.name.as_str() {
                    "subnet-id" => filter.matches(&zone.subnet),
                    "availability-zone" | "availabilityZone" => filter.matches(&zone.name),
                    "availability-zone-id" | "availabilityZoneId" => filter.matches(zone.id.as_str()),
                    "vpc-id" => filter.matches(&vpc),
                    "state" => filter.matches("available"),
                    // The account's subnets carry one tag, Name.
                    "tag:Name" => filter.matches(&format!("lowtide-{}", zone.id)),
                    "tag-key" => filter.matches("Name"),
                    tag if tag.starts_with("tag:") => false,
                    _ => true,
                })
        })
        .cloned()
        .collect();
    let (zones, next) = page(&wanted, call.params, 1_000)?;
    answered(|xml| {
        xml.list("subnetSet", zones, |xml, zone| {
            xml.text("subnetId", subnet_id(&zone.id)).text("vpcId", &vpc).text("state", "available").text("ownerId", ACCOUNT);
            xml.text("availabilityZone", &zone.name).text("availabilityZoneId", &zone.id).text("cidrBlock", &zone.cidr);
            xml.text("availableIpAddressCount", 251).text("defaultForAz", false).text("mapPublicIpOnLaunch", true);
            xml.text("subnetArn", format!("arn:aws:ec2:{}:{ACCOUNT}:subnet/{}", zone.region, zone.subnet));
            super::write_tags(xml, &[("Name".to_owned(), format!("lowtide-{}", zone.id))].into());
        });
        xml.maybe("nextToken", next);
    })
}

/// Two images per region are found without an id, one per architecture. Asked for by id, any well-formed one exists: what
/// images an account has is not the simulator's to know.
pub(super) fn describe_images(_world: &mut Account, call: Call<'_>) -> Result<String, Fault> {
    let asked = call.params.list("ImageId");
    for id in &asked {
        check_image_id(id)?;
    }
    let arm = image_id(call.region, "arm64");
    let of = |id: String| if id == arm { (id, "arm64") } else { (id, "x86_64") };
    let ids = if asked.is_empty() { vec![image_id(call.region, "x86_64"), arm.clone()] } else { asked };
    let filters = call.params.filters();
    let wanted = ids.into_iter().map(of).filter(|(id, architecture)| {
        filters.iter().all(|filter| match filter.name.as_str() {
            "architecture" => filter.matches(architecture),
            "name" => filter.matches(&format!("lowtide-gpu-node-{architecture}")),
            "image-id" => filter.matches(id),
            "state" => filter.matches("available"),
            _ => true,
        })
    });
    answered(|xml| {
        xml.list("imagesSet", wanted, |xml, (id, architecture)| {
            xml.text("imageId", id).text("imageState", "available").text("architecture", architecture).text("imageOwnerId", ACCOUNT);
            xml.text("name", format!("lowtide-gpu-node-{architecture}")).text("isPublic", false).text("imageType", "machine");
            xml.text("rootDeviceType", "ebs").text("rootDeviceName", "/dev/xvda").text("virtualizationType", "hvm");
            xml.text("hypervisor", "xen").text("creationDate", "2026-07-01T00:00:00.000Z").text("platformDetails", "Linux/UNIX");
        });
    })
}

/// EC2's form of an image id.
pub(super) fn check_image_id(id: &str) -> Result<(), Fault> {
    match id.strip_prefix("ami-") {
        Some(hex) if matches!(hex.len(), 8 | 17) && hex.bytes().all(|b| b.is_ascii_hexdigit()) => Ok(()),
        _ => Err(Fault::bad("InvalidAMIID.Malformed", format!("Invalid id: \"{id}\" (expecting \"ami-...\")"))),
    }
}
