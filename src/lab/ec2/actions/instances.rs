//! DescribeInstances, TerminateInstances.

use crate::core::units::ids::InstanceId;

use super::super::account::instance::{CapacityType, Instance, InstanceState};
use super::super::account::launch::{check_instance_ids, not_found};
use super::super::account::places::vpc_id;
use super::super::account::{ACCOUNT, Account};
use super::super::fault::Fault;
use super::super::query::{Filter, page};
use super::super::xml::Xml;
use super::{Call, answered, write_tags};

fn asked_ids(call: Call<'_>) -> Vec<InstanceId> {
    call.params.list("InstanceId").into_iter().map(InstanceId::from).collect()
}

/// Whether an instance passes every filter; `tag:KEY`, `tag-key` and the named ones are what the operator may use.
fn matches(account: &Account, instance: &Instance, filters: &[Filter]) -> Result<bool, Fault> {
    let zone = account.places.zone(&instance.zone);
    for filter in filters {
        let optional = |value: Option<&str>| value.is_some_and(|value| filter.matches(value));
        let fits = match filter.name.as_str() {
            "instance-id" => filter.matches(instance.id.as_str()),
            "instance-state-name" => filter.matches(instance.state.as_str()),
            "instance-state-code" => filter.matches(&instance.state.code().to_string()),
            "instance-type" => filter.matches(instance.instance_type.as_str()),
            "instance-lifecycle" => instance.capacity_type == CapacityType::Spot && filter.matches("spot"),
            "spot-instance-request-id" => optional(instance.spot_request.as_ref().map(|request| request.id.as_str())),
            "client-token" => optional(instance.details.client_token.as_deref()),
            "availability-zone" => optional(zone.map(|zone| zone.name.as_str())),
            "availability-zone-id" => filter.matches(instance.zone.as_str()),
            "subnet-id" => optional(zone.map(|zone| zone.subnet.as_str())),
            "vpc-id" => filter.matches(&vpc_id(&instance.region)),
            "reservation-id" => filter.matches(&instance.reservation),
            "tag-key" => instance.tags.keys().any(|key| filter.matches(key)),
            name => match name.strip_prefix("tag:") {
                Some(key) => optional(instance.tags.get(key).map(String::as_str)),
                None => return Err(Fault::bad("InvalidParameterValue", format!("The filter '{name}' is invalid"))),
            },
        };
        if !fits {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The instances that a call may see: those it names, or all of its region.
pub(super) fn seen_by<'a>(account: &'a Account, call: Call<'a>) -> Result<impl Iterator<Item = &'a Instance>, Fault> {
    let asked = asked_ids(call);
    check_instance_ids(&asked)?;
    let sees = move |instance: &Instance| instance.region == *call.region && account.is_visible(instance, call.now);
    let unknown: Vec<&str> = asked.iter().filter(|id| !account.instances.get(*id).is_some_and(sees)).map(InstanceId::as_str).collect();
    not_found(&unknown)?;
    Ok(account.instances.values().filter(move |instance| sees(instance) && (asked.is_empty() || asked.contains(&instance.id))))
}

fn visible(account: &Account, call: Call<'_>) -> Result<Vec<InstanceId>, Fault> {
    let filters = call.params.filters();
    let mut found = Vec::new();
    for instance in seen_by(account, call)? {
        if matches(account, instance, &filters)? {
            found.push(instance.id.clone());
        }
    }
    Ok(found)
}

pub(super) fn describe_instances(account: &mut Account, call: Call<'_>) -> Result<String, Fault> {
    if !asked_ids(call).is_empty() && call.params.get("MaxResults").is_some() {
        let message = "The parameter instancesSet cannot be used with the parameter maxResults";
        return Err(Fault::bad("InvalidParameterCombination", message));
    }
    let (ids, next) = page(&visible(account, call)?, call.params, 1_000)?;
    let instances = ids.iter().filter_map(|id| account.instances.get(id));
    // One reservation per launch; instances of one reservation stay together.
    let mut reservations: Vec<(String, Vec<InstanceId>)> = Vec::new();
    for instance in instances {
        match reservations.iter_mut().find(|(id, _)| *id == instance.reservation) {
            Some((_, members)) => members.push(instance.id.clone()),
            None => reservations.push((instance.reservation.clone(), vec![instance.id.clone()])),
        }
    }
    answered(|xml| {
        xml.list("reservationSet", reservations, |xml, (id, members)| write_reservation(xml, account, &id, &members));
        xml.maybe("nextToken", next);
    })
}

/// A reservation with its instances: an item of DescribeInstances, and the whole answer of RunInstances.
pub(super) fn write_reservation(xml: &mut Xml, account: &Account, id: &str, members: &[InstanceId]) {
    xml.text("reservationId", id).text("ownerId", ACCOUNT).list("groupSet", [(); 0], |_, ()| {});
    let instances = members.iter().filter_map(|id| account.instances.get(id));
    xml.list("instancesSet", instances.enumerate(), |xml, (index, instance)| write_instance(xml, account, instance, index));
}

pub(super) fn write_state(xml: &mut Xml, name: &str, state: InstanceState) {
    xml.element(name, |xml| {
        xml.text("code", state.code()).text("name", state.as_str());
    });
}

fn write_instance(xml: &mut Xml, account: &Account, instance: &Instance, index: usize) {
    let details = &instance.details;
    xml.text("instanceId", &instance.id).text("imageId", &details.image_id).text("instanceType", &instance.instance_type);
    write_state(xml, "instanceState", instance.state);
    let live = instance.state.is_live();
    let address = live.then_some(instance.private_ip.as_str());
    xml.text(
        "privateDnsName",
        address.map(|ip| format!("ip-{}.{}.compute.internal", ip.replace('.', "-"), instance.region)).unwrap_or_default(),
    );
    xml.maybe("privateIpAddress", address).text("amiLaunchIndex", index).text("launchTime", instance.launch_time());
    if let Some(zone) = account.places.zone(&instance.zone) {
        xml.element("placement", |xml| {
            xml.text("availabilityZone", &zone.name).text("availabilityZoneId", &zone.id).text("tenancy", "default");
        });
        if live {
            xml.text("subnetId", &zone.subnet).text("vpcId", vpc_id(&zone.region));
        }
    }
    xml.maybe("architecture", account.facts.types.get(&instance.instance_type).map(|facts| facts.architecture.as_str()));
    xml.text("rootDeviceType", "ebs").text("rootDeviceName", "/dev/xvda").text("virtualizationType", "hvm").text("hypervisor", "xen");
    xml.text("platformDetails", "Linux/UNIX").text("clientToken", details.client_token.as_deref().unwrap_or_default());
    xml.maybe("capacityReservationId", details.capacity_reservation.as_deref());
    if let Some(request) = &instance.spot_request {
        xml.text("instanceLifecycle", "spot").text("spotInstanceRequestId", &request.id);
    }
    xml.maybe("reason", instance.transition_reason());
    if let Some(reason) = instance.state_reason {
        xml.element("stateReason", |xml| {
            xml.text("code", reason.code).text("message", reason.message);
        });
    }
    if let Some(profile) = &details.instance_profile {
        xml.element("iamInstanceProfile", |xml| {
            let arn =
                if profile.starts_with("arn:") { profile.clone() } else { format!("arn:aws:iam::{ACCOUNT}:instance-profile/{profile}") };
            xml.text("arn", arn);
        });
    }
    xml.list("groupSet", &details.security_groups, |xml, group| {
        xml.text("groupId", group);
    });
    write_tags(xml, &instance.tags);
}

pub(super) fn terminate_instances(account: &mut Account, call: Call<'_>) -> Result<String, Fault> {
    let ids = asked_ids(call);
    if ids.is_empty() {
        return Err(Fault::missing("InstanceId"));
    }
    account.take_resource_tokens(call.region, call.action, i64::try_from(ids.len()).unwrap_or(i64::MAX / 1_000), call.now)?;
    let changes = account.terminate(call.region, &ids, call.now)?;
    answered(|xml| {
        xml.list("instancesSet", changes, |xml, (id, before, after)| {
            xml.text("instanceId", id);
            write_state(xml, "currentState", after);
            write_state(xml, "previousState", before);
        });
    })
}
