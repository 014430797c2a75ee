//! RunInstances: one type in one zone per call.

use crate::core::units::ids::{InstanceId, InstanceType, Region, ZoneId};

use super::super::account::capacity::ZoneCapacity;
use super::super::account::instance::{CapacityType, LaunchDetails};
use super::super::account::launch::{LaunchOrder, Launcher};
use super::super::account::{Account, Remembered};
use super::super::fault::Fault;
use super::super::query::Params;
use super::fleet::max_price;
use super::places::check_image_id;
use super::{Call, answered, instances, tags_for};

/// What launch parameters (a template's data with the call's own on top) say about the machine.
pub(super) fn details_from(params: &Params) -> Result<LaunchDetails, Fault> {
    let image_id = params.need("ImageId")?;
    check_image_id(image_id)?;
    let profile = params.under("IamInstanceProfile");
    let mut security_groups = params.list("SecurityGroupId");
    for interface in params.members("NetworkInterface") {
        security_groups.extend(interface.list("SecurityGroupId"));
    }
    Ok(LaunchDetails {
        image_id: image_id.to_owned(),
        user_data: params.get("UserData").map(str::to_owned),
        template: None,
        instance_profile: profile.get("Arn").or(profile.get("Name")).map(str::to_owned),
        security_groups,
        client_token: None,
        capacity_reservation: params
            .under("CapacityReservationSpecification")
            .under("CapacityReservationTarget")
            .get("CapacityReservationId")
            .map(str::to_owned),
        tags: std::collections::BTreeMap::new(),
    })
}

/// The zone that `SubnetId`, `AvailabilityZone` or `AvailabilityZoneId` name; `None` when none is given.
pub(super) fn zone_of(account: &Account, region: &Region, params: &Params) -> Result<Option<ZoneId>, Fault> {
    let mut named: Vec<ZoneId> = Vec::new();
    let zone_in_region = |id: &str| account.places.zone(&id.into()).filter(|zone| zone.region == *region);
    if let Some(subnet) = params.get("SubnetId") {
        let zone = account.places.zone_of_subnet(region, subnet);
        let fault = || Fault::bad("InvalidSubnetID.NotFound", format!("The subnet ID '{subnet}' does not exist"));
        named.push(zone.ok_or_else(fault)?.id.clone());
    }
    for (key, zone) in [
        ("AvailabilityZone", params.get("AvailabilityZone").map(|name| (name, account.places.zone_named(region, name)))),
        ("AvailabilityZoneId", params.get("AvailabilityZoneId").map(|id| (id, zone_in_region(id)))),
    ] {
        match zone {
            None => {}
            Some((_, Some(zone))) => named.push(zone.id.clone()),
            Some((text, None)) => return Err(Fault::value(text, key, "Invalid availability zone.")),
        }
    }
    if named.windows(2).any(|pair| pair[0] != pair[1]) {
        return Err(Fault::bad("InvalidParameterCombination", "The subnet and the Availability Zone are not the same place."));
    }
    Ok(named.into_iter().next())
}

pub(super) fn run_instances(account: &mut Account, call: Call<'_>) -> Result<String, Fault> {
    let frozen = call.params.without(&["ClientToken"]);
    let key = call.params.get("ClientToken").map(|token| (call.region.clone(), call.action.to_owned(), token.to_owned()));
    if let Some(key) = &key
        && let Some(answer) = account.recall(key, &frozen)?
    {
        return Ok(answer);
    }
    let (least, most) = (call.params.number("MinCount")?, call.params.number("MaxCount")?);
    let least = least.ok_or_else(|| Fault::missing("MinCount"))?;
    let most = most.ok_or_else(|| Fault::missing("MaxCount"))?;
    if least < 1 || most < least {
        return Err(Fault::value(&least.to_string(), "MinCount", "Expected 1 to MaxCount."));
    }
    account.take_resource_tokens(call.region, call.action, most, call.now)?;
    let order = order(account, call)?;
    // All or as many as there is room for, at least MinCount: an earlier account comes back when that fails.
    let before = account.clone();
    let mut launched: Vec<InstanceId> = Vec::new();
    for _ in 0..most {
        match account.launch(order.clone(), call.now) {
            Ok(id) => launched.push(id),
            Err(_) if i64::try_from(launched.len()).is_ok_and(|count| count >= least) => break,
            Err(fault) => {
                *account = before;
                return Err(fault);
            }
        }
    }
    let answer = answered(|xml| instances::write_reservation(xml, account, &order.reservation, &launched))?;
    if let Some(key) = key {
        account.tokens.insert(key, Remembered { params: frozen, answer: answer.clone(), instances: launched });
    }
    Ok(answer)
}

fn order(account: &mut Account, call: Call<'_>) -> Result<LaunchOrder, Fault> {
    let spec = call.params.under("LaunchTemplate");
    let (data, template) = if spec.is_empty() {
        (Params::default(), None)
    } else {
        let template = account.template_of(call.region, &spec)?;
        let version = template.version(spec.get("Version"))?;
        (version.data.clone(), Some((template.id.clone(), version.number)))
    };
    let params = data.overlaid(call.params);
    let instance_type: InstanceType = params.need("InstanceType")?.into();
    if !account.facts.types.contains_key(&instance_type) {
        return Err(Fault::value(instance_type.as_str(), "InstanceType", "Invalid instance type."));
    }
    let place = params
        .under("Placement")
        .overlaid(&params.get("SubnetId").map_or_else(Params::default, |id| Params::parse(&format!("SubnetId={id}"))));
    let zone = match zone_of(account, call.region, &place)? {
        Some(zone) => zone,
        None => first_zone_offering(account, call.region, &instance_type),
    };
    let market = params.under("InstanceMarketOptions");
    let capacity_type = match market.get("MarketType") {
        None | Some("on-demand") => CapacityType::OnDemand,
        Some("spot") => CapacityType::Spot,
        Some(other) => return Err(Fault::value(other, "MarketType", "This simulator knows spot and on-demand.")),
    };
    let mut details = details_from(&params)?;
    details.tags = tags_for(&data, "TagSpecification", "instance");
    details.tags.extend(tags_for(call.params, "TagSpecification", "instance"));
    if let Some((id, version)) = &template {
        details.tags.insert("aws:ec2launchtemplate:id".into(), id.clone());
        details.tags.insert("aws:ec2launchtemplate:version".into(), version.to_string());
    }
    details.template = template;
    details.client_token = call.params.get("ClientToken").map(str::to_owned);
    Ok(LaunchOrder {
        zone_capacity: ZoneCapacity { region: call.region.clone(), zone, instance_type, capacity_type },
        max_price: max_price(&market.under("SpotOptions"), "MaxPrice")?,
        details,
        reservation: account.new_id("r"),
        launcher: Launcher::Run,
    })
}

fn first_zone_offering(account: &Account, region: &Region, it: &InstanceType) -> ZoneId {
    let zones = account.places.zones_of(region);
    let ordinary = || zones.iter().filter(|zone| !zone.is_local);
    let offering = ordinary().find(|zone| account.facts.is_offered(&zone.id, it)).or_else(|| ordinary().next());
    offering.map_or_else(|| ZoneId::from(""), |zone| zone.id.clone())
}
