//! DescribeInstanceStatus.

use super::super::account::Account;
use super::super::account::instance::{Instance, InstanceState, StatusEvent};
use super::super::fault::Fault;
use super::super::query::{Filter, page};
use super::instances::{seen_by, write_state};
use super::{Call, answered};

/// Whether an instance passes the filters of this call. Those on events ask for one event that passes each of them.
fn matches(account: &Account, instance: &Instance, filters: &[Filter]) -> Result<bool, Fault> {
    let zone = account.places.zone(&instance.zone);
    for filter in filters {
        let any = |value: fn(&StatusEvent) -> String| instance.events.iter().any(|event| filter.matches(&value(event)));
        let fits = match filter.name.as_str() {
            "event.code" => any(|event| event.code.to_owned()),
            "event.instance-event-id" => any(|event| event.id.clone()),
            "event.description" => any(StatusEvent::said),
            "availability-zone" => zone.is_some_and(|zone| filter.matches(zone.name.as_str())),
            "availability-zone-id" => filter.matches(instance.zone.as_str()),
            "instance-state-name" => filter.matches(instance.state.as_str()),
            "instance-state-code" => filter.matches(&instance.state.code().to_string()),
            name => return Err(Fault::bad("InvalidParameterValue", format!("The filter '{name}' is invalid"))),
        };
        if !fits {
            return Ok(false);
        }
    }
    Ok(true)
}

pub(super) fn describe_instance_status(account: &mut Account, call: Call<'_>) -> Result<String, Fault> {
    if !call.params.list("InstanceId").is_empty() && call.params.get("MaxResults").is_some() {
        let message = "The parameter instancesSet cannot be used with the parameter maxResults";
        return Err(Fault::bad("InvalidParameterCombination", message));
    }
    let (all, filters) = (call.params.flag("IncludeAllInstances"), call.params.filters());
    let mut ids = Vec::new();
    for instance in seen_by(account, call)? {
        if (all || instance.state == InstanceState::Running) && matches(account, instance, &filters)? {
            ids.push(instance.id.clone());
        }
    }
    let (ids, next) = page(&ids, call.params, 100)?;
    answered(|xml| {
        xml.list("instanceStatusSet", ids.iter().filter_map(|id| account.instances.get(id)), |xml, instance| {
            xml.text("instanceId", &instance.id);
            xml.maybe("availabilityZone", account.places.zone(&instance.zone).map(|zone| zone.name.as_str()));
            xml.text("availabilityZoneId", &instance.zone);
            if !instance.events.is_empty() {
                xml.list("eventsSet", &instance.events, |xml, event| {
                    xml.text("instanceEventId", &event.id).text("code", event.code).text("description", event.said());
                    xml.text("notBefore", event.not_before.floor_to_second());
                });
            }
            write_state(xml, "instanceState", instance.state);
            let status = if instance.state == InstanceState::Running { "ok" } else { "not-applicable" };
            for name in ["systemStatus", "instanceStatus"] {
                xml.element(name, |xml| {
                    xml.text("status", status);
                });
            }
        });
        xml.maybe("nextToken", next);
    })
}
