//! DescribeSpotInstanceRequests and CancelSpotInstanceRequests.

use crate::core::units::ids::InstanceId;
use crate::core::units::time::Millis;

use super::super::account::Account;
use super::super::account::instance::{Instance, SpotRequest};
use super::super::fault::Fault;
use super::super::query::page;
use super::{Call, answered};

/// A closed or cancelled request is shown for four hours. Source: EC2 user guide, "Spot Instance requests".
const SHOWN: Millis = Millis::from_hours(4);

fn requests<'a>(account: &'a Account, call: Call<'a>) -> impl Iterator<Item = (&'a Instance, &'a SpotRequest)> {
    account.instances.values().filter(move |instance| instance.region == *call.region).filter_map(move |instance| {
        let request = instance.spot_request.as_ref()?;
        let shown = request.state == "active" || call.now.since(request.updated_at) < SHOWN;
        (shown && call.now.since(instance.launched_at) >= account.settings.visibility_lag).then_some((instance, request))
    })
}

fn check_known(account: &Account, call: Call<'_>, asked: &[String]) -> Result<(), Fault> {
    match asked.iter().find(|id| !requests(account, call).any(|(_, request)| request.id == **id)) {
        None => Ok(()),
        Some(id) => Err(Fault::bad("InvalidSpotInstanceRequestID.NotFound", format!("The spot instance request ID '{id}' does not exist"))),
    }
}

pub(super) fn describe(account: &mut Account, call: Call<'_>) -> Result<String, Fault> {
    let (asked, filters) = (call.params.list("SpotInstanceRequestId"), call.params.filters());
    check_known(account, call, &asked)?;
    let mut wanted: Vec<InstanceId> = Vec::new();
    for (instance, request) in requests(account, call).filter(|(_, request)| asked.is_empty() || asked.contains(&request.id)) {
        let mut fits = true;
        for filter in &filters {
            fits &= match filter.name.as_str() {
                "spot-instance-request-id" => filter.matches(&request.id),
                "instance-id" => filter.matches(instance.id.as_str()),
                "state" => filter.matches(request.state),
                "status-code" => filter.matches(request.status_code),
                "launch.instance-type" => filter.matches(instance.instance_type.as_str()),
                other => return Err(Fault::bad("InvalidParameterValue", format!("The filter '{other}' is invalid"))),
            };
        }
        if fits {
            wanted.push(instance.id.clone());
        }
    }
    let (ids, next) = page(&wanted, call.params, 1_000)?;
    let found =
        ids.iter().filter_map(|id| account.instances.get(id)).filter_map(|instance| Some((instance, instance.spot_request.as_ref()?)));
    answered(|xml| {
        xml.list("spotInstanceRequestSet", found, |xml, (instance, request)| {
            xml.text("spotInstanceRequestId", &request.id).text("state", request.state).text("type", "one-time");
            xml.element("status", |xml| {
                xml.text("code", request.status_code).text("message", request.status_message).text("updateTime", request.updated_at);
            });
            xml.maybe("spotPrice", request.max_price).text("instanceId", &instance.id).text("createTime", instance.launch_time());
            xml.text("productDescription", "Linux/UNIX").text("instanceInterruptionBehavior", "terminate");
            xml.maybe("launchedAvailabilityZone", account.places.zone(&instance.zone).map(|zone| zone.name.as_str()));
            xml.text("launchedAvailabilityZoneId", &instance.zone);
            xml.element("launchSpecification", |xml| {
                xml.text("instanceType", &instance.instance_type).text("imageId", &instance.details.image_id);
            });
        });
        xml.maybe("nextToken", next);
    })
}

/// Cancels requests; the instances run on.
pub(super) fn cancel(account: &mut Account, call: Call<'_>) -> Result<String, Fault> {
    let asked = call.params.list("SpotInstanceRequestId");
    if asked.is_empty() {
        return Err(Fault::missing("SpotInstanceRequestId"));
    }
    check_known(account, call, &asked)?;
    let mut states = Vec::new();
    for request in account.instances.values_mut().filter_map(|instance| instance.spot_request.as_mut()) {
        if !asked.contains(&request.id) {
            continue;
        }
        if request.state == "active" {
            request.state = "cancelled";
            request.status_code = "request-canceled-and-instance-running";
            request.status_message = "Your Spot request was canceled while the instance was still running.";
            request.updated_at = call.now;
        }
        states.push((request.id.clone(), request.state));
    }
    answered(|xml| {
        xml.list("spotInstanceRequestSet", states, |xml, (id, state)| {
            xml.text("spotInstanceRequestId", id).text("state", state);
        });
    })
}
