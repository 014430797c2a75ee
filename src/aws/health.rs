//! Reading AWS Health's events about scheduled changes of EC2 instances.
//!
//! One event names every instance that shares the fault, and is sent again when its state changes. Source: "Amazon EventBridge schema for AWS
//! Health", AWS Health User Guide: times of the event are RFC 1123, entities are in `affectedEntities`.

use serde::Deserialize;

use crate::core::fleet::{Notice, NoticeKind, ScheduledEvent, ScheduledKind};
use crate::core::units::ids::{InstanceId, Region};
use crate::core::units::time::Timestamp;

use super::conversion::parse_rfc3339;
use super::notice::{Envelope, expect};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Detail {
    service: String,
    event_type_code: String,
    event_type_category: String,
    start_time: Option<String>,
    #[serde(default)]
    status_code: Option<String>,
    #[serde(default)]
    affected_entities: Vec<Entity>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entity {
    entity_value: String,
}

/// The notice in an event of AWS Health.
pub(super) fn read(text: &str, region: &Region) -> Result<Notice, String> {
    let event: Envelope<Detail> =
        serde_json::from_str(text).map_err(|error| format!("not an AWS Health event about instances: {error}"))?;
    event.is_of(region)?;
    expect("detail-type", "AWS Health Event", &event.detail_type)?;
    expect("service", "EC2", &event.detail.service)?;
    expect("eventTypeCategory", "scheduledChange", &event.detail.event_type_category)?;
    let sent_at = event.sent_at()?;
    let entities = event.detail.affected_entities.into_iter().map(|entity| entity.entity_value);
    let mut instances: Vec<InstanceId> = entities.filter(|id| id.starts_with("i-")).map(InstanceId::from).collect();
    if instances.is_empty() {
        return Err(format!("AWS Health's {} names no instance in affectedEntities", event.detail.event_type_code));
    }
    let kind = match event.detail.status_code.as_deref() {
        Some("closed") => NoticeKind::ScheduleOver,
        _ => {
            let start = event.detail.start_time.unwrap_or_default();
            let not_before = moment(&start).ok_or_else(|| format!("expected a startTime as in RFC 1123, found {start:?}"))?;
            NoticeKind::Scheduled(ScheduledEvent { kind: ScheduledKind::of_health(&event.detail.event_type_code), not_before })
        }
    };
    let instance = instances.remove(0);
    Ok(Notice { instance, also: instances, region: region.clone(), kind, sent_at })
}

/// `Wed, 31 Jan 2024 02:30:00 GMT`, or RFC 3339.
fn moment(text: &str) -> Option<Timestamp> {
    let rfc1123 = || jiff::fmt::rfc2822::parse(text).ok().map(|time| Timestamp(time.timestamp().as_millisecond()));
    parse_rfc3339(text).or_else(rfc1123)
}

#[cfg(test)]
mod tests {
    use super::super::notice::parse;
    use super::*;
    use serde_json::{Value, json};

    fn event() -> Value {
        json!({
            "version": "0", "id": "7bf73129-1428-4cd3-a780-95db273d1602", "detail-type": "AWS Health Event", "source": "aws.health",
            "account": "123456789012", "time": "2026-07-20T13:44:30Z", "region": "us-east-1",
            "resources": ["i-0123456789abcdef0", "i-0123456789abcdef1"],
            "detail": {
                "eventArn": "arn:aws:health:us-east-1::event/EC2/AWS_EC2_INSTANCE_RETIREMENT_SCHEDULED/x", "service": "EC2",
                "eventTypeCode": "AWS_EC2_INSTANCE_RETIREMENT_SCHEDULED", "eventTypeCategory": "scheduledChange",
                "startTime": "Mon, 03 Aug 2026 12:00:00 GMT", "endTime": "Mon, 03 Aug 2026 12:00:00 GMT",
                "eventDescription": [{"language": "en_US", "latestDescription": "EC2 has detected degradation of the underlying hardware"}],
                "affectedEntities": [{"entityValue": "i-0123456789abcdef0"}, {"entityValue": "i-0123456789abcdef1"}]
            }
        })
    }

    #[test]
    fn a_retirement_is_read_with_every_instance_it_names() {
        let notice = parse(&event().to_string(), &"us-east-1".into()).unwrap();
        let NoticeKind::Scheduled(scheduled) = notice.kind else { panic!("{notice:?}") };
        assert_eq!(
            (scheduled.kind, scheduled.not_before.to_rfc3339().as_str()),
            (ScheduledKind::InstanceRetirement, "2026-08-03T12:00:00.000Z")
        );
        assert_eq!((notice.instance.as_str(), notice.also), ("i-0123456789abcdef0", vec!["i-0123456789abcdef1".into()]));
    }

    #[test]
    fn each_type_of_event_has_its_kind_and_a_closed_one_is_over() {
        for (code, kind) in [
            ("AWS_EC2_PERSISTENT_INSTANCE_RETIREMENT_SCHEDULED", ScheduledKind::InstanceRetirement),
            ("AWS_EC2_INSTANCE_REBOOT_MAINTENANCE_SCHEDULED", ScheduledKind::InstanceReboot),
            ("AWS_EC2_SYSTEM_REBOOT_MAINTENANCE_SCHEDULED", ScheduledKind::SystemReboot),
            ("AWS_EC2_INSTANCE_STOP_SCHEDULED", ScheduledKind::InstanceStop),
            ("AWS_EC2_INSTANCE_NETWORK_MAINTENANCE_SCHEDULED", ScheduledKind::SystemMaintenance),
        ] {
            let mut event = event();
            event["detail"]["eventTypeCode"] = json!(code);
            let notice = parse(&event.to_string(), &"us-east-1".into()).unwrap();
            assert!(matches!(notice.kind, NoticeKind::Scheduled(scheduled) if scheduled.kind == kind), "{code}: {notice:?}");
            event["detail"]["statusCode"] = json!("closed");
            assert_eq!(parse(&event.to_string(), &"us-east-1".into()).unwrap().kind, NoticeKind::ScheduleOver);
        }
    }

    #[test]
    fn anything_else_is_kept_with_its_fault() {
        for (pointer, value, fault) in [
            ("/region", json!("eu-west-1"), "region"),
            ("/detail/service", json!("RDS"), "service"),
            ("/detail/eventTypeCategory", json!("issue"), "eventTypeCategory"),
            ("/detail/startTime", json!("soon"), "startTime"),
            ("/detail/affectedEntities", json!([{"entityValue": "vol-1"}]), "names no instance"),
            ("/detail", json!({}), "service"),
        ] {
            let mut other = event();
            *other.pointer_mut(pointer).unwrap() = value;
            let malformed = parse(&other.to_string(), &"us-east-1".into()).unwrap_err();
            assert!(malformed.fault.contains(fault), "{pointer}: {malformed}");
        }
    }
}
