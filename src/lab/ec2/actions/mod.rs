//! EC2's actions in the Query protocol: from parameters and the account to XML.
//!
//! Each file has one group. Nothing here reads a clock: a call carries its time.

mod fleet;
mod instances;
mod places;
mod prices;
mod reservations;
mod run;
mod spot_requests;
mod status;
mod tags;
mod templates;
mod types;

use crate::core::units::ids::Region;
use crate::core::units::time::Timestamp;

use super::account::Account;
use super::fault::Fault;
use super::query::Params;
use super::xml::Xml;

/// One call to EC2.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    /// From the signature's scope.
    pub region: &'a Region,
    /// As in `DescribeInstances`.
    pub action: &'a str,
    /// Everything else that was sent.
    pub params: &'a Params,
    /// When it arrived.
    pub now: Timestamp,
}

type Action = fn(&mut Account, Call<'_>) -> Result<String, Fault>;

fn action_named(name: &str) -> Option<Action> {
    Some(match name {
        "DescribeRegions" => places::describe_regions,
        "DescribeAvailabilityZones" => places::describe_availability_zones,
        "DescribeSubnets" => places::describe_subnets,
        "DescribeImages" => places::describe_images,
        "DescribeInstanceTypes" => types::describe_instance_types,
        "DescribeInstanceTypeOfferings" => types::describe_instance_type_offerings,
        "DescribeSpotPriceHistory" => prices::describe_spot_price_history,
        "GetSpotPlacementScores" => prices::get_spot_placement_scores,
        "CreateLaunchTemplate" => templates::create,
        "CreateLaunchTemplateVersion" => templates::create_version,
        "DescribeLaunchTemplates" => templates::describe,
        "DescribeLaunchTemplateVersions" => templates::describe_versions,
        "DeleteLaunchTemplate" => templates::delete,
        "CreateFleet" => fleet::create_fleet,
        "RunInstances" => run::run_instances,
        "DescribeInstances" => instances::describe_instances,
        "DescribeInstanceStatus" => status::describe_instance_status,
        "TerminateInstances" => instances::terminate_instances,
        "DescribeCapacityReservations" => reservations::describe,
        "DescribeSpotInstanceRequests" => spot_requests::describe,
        "CancelSpotInstanceRequests" => spot_requests::cancel,
        "CreateTags" => tags::create_tags,
        "DeleteTags" => tags::delete_tags,
        "DescribeTags" => tags::describe_tags,
        _ => return None,
    })
}

/// Does what the call asks and gives the inside of the answer's XML.
///
/// # Errors
/// Every refusal of EC2 that this simulator knows; `InvalidAction` for actions it does not.
pub fn perform(account: &mut Account, call: Call<'_>) -> Result<String, Fault> {
    let Some(action) = action_named(call.action) else {
        return Err(Fault::bad("InvalidAction", format!("The action {} is not valid for this web service.", call.action)));
    };
    let filtered = call.params.filters().is_empty() && call.params.get("MaxResults").is_none() && call.params.get("NextToken").is_none();
    let by_id = !call.params.list("InstanceId").is_empty() || !call.params.list("SpotInstanceRequestId").is_empty();
    let unfiltered = call.action.starts_with("Describe") && filtered && !by_id;
    account.take_request_token(call.region, call.action, unfiltered, call.now)?;
    if !account.facts.zones.contains_key(call.region) {
        return Err(Fault::new(
            401,
            "AuthFailure",
            format!("This account has no region {}; the simulator knows those of its catalog.", call.region),
        ));
    }
    if account.closed_regions.contains(call.region) {
        let message = "AWS was not able to validate the provided access credentials";
        return Err(Fault::new(401, "AuthFailure", message));
    }
    if call.params.flag("DryRun") {
        return Err(Fault::new(412, "DryRunOperation", "Request would have succeeded, but DryRun flag is set."));
    }
    action(account, call)
}

/// Writes the inside of an answer.
fn answered(write: impl FnOnce(&mut Xml)) -> Result<String, Fault> {
    let mut xml = Xml::new();
    write(&mut xml);
    Ok(xml.into_string())
}

/// Tags of one resource type from `TagSpecification.N`.
fn tags_for(params: &Params, list: &str, resource_type: &str) -> std::collections::BTreeMap<String, String> {
    let of_type = |spec: &&Params| spec.get("ResourceType") == Some(resource_type);
    let tag = |tag: &Params| Some((tag.get("Key")?.to_owned(), tag.get("Value").unwrap_or_default().to_owned()));
    params.members(list).iter().filter(of_type).flat_map(|spec| spec.members("Tag")).filter_map(|params| tag(&params)).collect()
}

fn write_tags(xml: &mut Xml, tags: &std::collections::BTreeMap<String, String>) {
    xml.list("tagSet", tags, |xml, (key, value)| {
        xml.text("key", key).text("value", value);
    });
}
