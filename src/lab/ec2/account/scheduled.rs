//! Scheduled events of instances: how they are ordered, announced by AWS Health, called off, and what happens on the date.
//!
//! Source: "Scheduled events for your instances", Amazon EC2 User Guide; "Amazon EventBridge schema for AWS Health", AWS Health User Guide.

use serde_json::json;

use crate::core::units::ids::{InstanceId, derive_uuid};
use crate::core::units::time::Timestamp;

use super::super::fault::Fault;
use super::instance::{SCHEDULED_STOP, STATUS_EVENTS, StatusEvent};
use super::interruption::Due;
use super::{ACCOUNT, Account};

impl Account {
    /// Schedules `code` for an instance at `not_before`; gives the event's id. `by_health` sends AWS Health's message, too.
    ///
    /// # Errors
    /// For an instance that does not live, and a code that EC2 does not have.
    pub fn schedule_event(
        &mut self,
        id: &InstanceId,
        code: &str,
        not_before: Timestamp,
        by_health: bool,
        now: Timestamp,
    ) -> Result<String, Fault> {
        let Some((code, description)) = STATUS_EVENTS.iter().copied().find(|(known, _)| *known == code) else {
            return Err(Fault::value(
                code,
                "code",
                "Expected instance-reboot, system-reboot, system-maintenance, instance-retirement or instance-stop.",
            ));
        };
        let event_id = format!("instance-event-{}", &derive_uuid(&["event", &self.next_sequence().to_string()]).simple().to_string()[..17]);
        let Some(instance) = self.instances.get_mut(id).filter(|instance| instance.state.is_live()) else {
            return Err(Fault::bad("InvalidInstanceID.NotFound", format!("The instance ID '{id}' does not exist")));
        };
        instance.events.push(StatusEvent { id: event_id.clone(), code, description, not_before, over: None });
        self.schedule(not_before, Due::Scheduled(id.clone(), event_id.clone()));
        if by_health {
            self.send_health(id, code, not_before, "open", now);
        }
        Ok(event_id)
    }

    /// Calls off everything that is scheduled for an instance.
    pub fn call_off_events(&mut self, id: &InstanceId, by_health: bool, now: Timestamp) {
        let Some(instance) = self.instances.get_mut(id) else { return };
        let open: Vec<&mut StatusEvent> = instance.events.iter_mut().filter(|event| event.over.is_none()).collect();
        let called_off: Vec<(&'static str, Timestamp)> = open.iter().map(|event| (event.code, event.not_before)).collect();
        open.into_iter().for_each(|event| event.over = Some("Canceled"));
        for (code, not_before) in called_off.into_iter().filter(|_| by_health) {
            self.send_health(id, code, not_before, "closed", now);
        }
    }

    pub(super) fn scheduled_comes(&mut self, id: &InstanceId, event_id: &str, at: Timestamp) {
        let Some(instance) = self.instances.get_mut(id).filter(|instance| instance.state.is_live()) else { return };
        let Some(event) = instance.events.iter_mut().find(|event| event.id == event_id && event.over.is_none()) else { return };
        event.over = Some("Completed");
        // A reboot or maintenance is over within minutes here; a retired or stopped machine does not come back.
        if matches!(event.code, "instance-retirement" | "instance-stop") {
            self.shut_down(id, SCHEDULED_STOP, at);
        }
    }

    fn send_health(&mut self, id: &InstanceId, code: &str, not_before: Timestamp, status: &str, now: Timestamp) {
        let Some(region) = self.instances.get(id).map(|instance| instance.region.clone()) else { return };
        let kind = match code {
            "instance-retirement" => "AWS_EC2_INSTANCE_RETIREMENT_SCHEDULED",
            "instance-stop" => "AWS_EC2_INSTANCE_STOP_SCHEDULED",
            "instance-reboot" => "AWS_EC2_INSTANCE_REBOOT_MAINTENANCE_SCHEDULED",
            "system-reboot" => "AWS_EC2_SYSTEM_REBOOT_MAINTENANCE_SCHEDULED",
            _ => "AWS_EC2_INSTANCE_POWER_MAINTENANCE_SCHEDULED",
        };
        let start = rfc1123(not_before);
        let time = format!("{}Z", now.to_rfc3339().split('.').next().unwrap_or_default());
        let event = derive_uuid(&["health", &self.next_sequence().to_string()]).to_string();
        let body = json!({
            "version": "0", "id": event, "detail-type": "AWS Health Event", "source": "aws.health", "account": ACCOUNT, "time": time,
            "region": region.as_str(), "resources": [id.as_str()],
            "detail": {
                "eventArn": format!("arn:aws:health:{region}::event/EC2/{kind}/{event}"), "service": "EC2", "eventTypeCode": kind,
                "eventTypeCategory": "scheduledChange", "eventScopeCode": "ACCOUNT_SPECIFIC", "communicationId": event,
                "startTime": start, "endTime": start, "lastUpdatedTime": rfc1123(now), "statusCode": status, "eventRegion": region.as_str(),
                "eventDescription": [{"language": "en_US", "latestDescription": "EC2 has detected degradation of the underlying hardware"}],
                "affectedEntities": [{"entityValue": id.as_str(), "status": "PENDING", "lastUpdatedTime": rfc1123(now)}],
                "page": "1", "totalPages": "1", "affectedAccount": ACCOUNT,
            },
        });
        self.send_message(&region, body.to_string(), now);
    }
}

/// `Mon, 03 Aug 2026 12:00:00 GMT`, as AWS Health writes its times.
fn rfc1123(at: Timestamp) -> String {
    let at = jiff::Timestamp::from_millisecond(at.0).unwrap_or_default();
    at.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

#[cfg(test)]
mod tests {
    use super::super::capacity::ZoneCapacity;
    use super::super::instance::{CapacityType, InstanceState, LaunchDetails};
    use super::super::launch::{LaunchOrder, Launcher};
    use super::super::testing::{OPENED, account};
    use super::*;
    use crate::core::units::time::Millis;

    #[test]
    fn a_retired_instance_stops_on_its_date_and_one_that_is_called_off_does_not() {
        let mut account = account();
        let zone_capacity = ZoneCapacity {
            region: "eu-south-2".into(),
            zone: "eus2-az3".into(),
            instance_type: "g6.xlarge".into(),
            capacity_type: CapacityType::OnDemand,
        };
        let order = || LaunchOrder {
            zone_capacity: zone_capacity.clone(),
            max_price: None,
            details: LaunchDetails::default(),
            reservation: "r-1".into(),
            launcher: Launcher::Run,
        };
        let (retired, kept) = (account.launch(order(), OPENED).unwrap(), account.launch(order(), OPENED).unwrap());
        let date = OPENED + Millis::from_hours(30);
        for id in [&retired, &kept] {
            account.schedule_event(id, "instance-retirement", date, true, OPENED).unwrap();
        }
        assert!(account.schedule_event(&kept, "instance-dreams", date, true, OPENED).is_err());
        account.call_off_events(&kept, true, OPENED + Millis::from_hours(1));
        account.advance(date - Millis(1));
        assert!(account.instances[&retired].state.is_live());
        account.advance(date + Millis::from_secs(5));
        assert_eq!(account.instances[&retired].state, InstanceState::Terminated);
        assert_eq!(account.instances[&retired].state_reason.map(|reason| reason.code), Some("Server.ScheduledStop"));
        assert!(account.instances[&kept].state.is_live() && account.instances[&kept].events[0].said().starts_with("[Canceled] "));
        let messages = account.queue(&"eu-south-2".into()).receive(100, Millis::from_secs(1), date + Millis::from_secs(9));
        let health = messages.iter().filter(|(message, _)| message.body.contains("AWS_EC2_INSTANCE_RETIREMENT_SCHEDULED")).count();
        assert_eq!(health, 3, "two announced, one called off");
        assert_eq!(rfc1123(Timestamp::from_date(2026, 8, 3) + Millis::from_hours(12)), "Mon, 03 Aug 2026 12:00:00 GMT");
    }
}
