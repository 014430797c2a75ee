//! What EC2 has scheduled for the instances of a region.
//!
//! Asked for by code of the event, not by instance: of all instances of the account few have one. Events that are done or called off stay in
//! EC2's answer for a week, their description beginning `[Completed]` or `[Canceled]`. Source: EC2 API reference, `InstanceStatusEvent`.

use std::collections::BTreeMap;

use aws_sdk_ec2::types::InstanceStatusEvent;

use crate::core::fleet::{ScheduledEvent, ScheduledKind};
use crate::core::units::ids::{InstanceId, Region};
use crate::ports::CloudError;

use super::conversion::{filter, timestamp};
use super::errors::from_sdk;
use super::{AwsCloud, all_pages};

/// `MaxResults` goes to 1,000 (EC2 API reference).
const PAGE: i32 = 1_000;

impl AwsCloud {
    /// Of each instance with scheduled events the one that comes first.
    pub(super) async fn events_of_instances(&self, region: &Region) -> Result<BTreeMap<InstanceId, ScheduledEvent>, CloudError> {
        let codes = filter("event.code", ScheduledKind::ALL.map(|kind| kind.as_str().to_owned()));
        let ask = self.clients(region).ec2.describe_instance_status().filters(codes).include_all_instances(true).max_results(PAGE);
        let rows = all_pages("DescribeInstanceStatus", |token| {
            let ask = ask.clone().set_next_token(token);
            async move {
                let page = ask.send().await.map_err(|error| from_sdk("DescribeInstanceStatus", region, error))?;
                Ok((page.instance_statuses.unwrap_or_default(), page.next_token))
            }
        })
        .await?;
        let first = |events: Vec<InstanceStatusEvent>| events.iter().filter_map(read).min_by_key(|event| event.not_before);
        let of_row = |row: aws_sdk_ec2::types::InstanceStatus| {
            Some((row.instance_id.filter(|id| !id.is_empty())?.into(), first(row.events.unwrap_or_default())?))
        };
        Ok(rows.into_iter().filter_map(of_row).collect())
    }
}

/// An event that is still to come, or has begun; `None` of one that is over, and of a kind that is not known.
fn read(event: &InstanceStatusEvent) -> Option<ScheduledEvent> {
    let over = event.description().is_some_and(|text| text.starts_with("[Completed]") || text.starts_with("[Canceled]"));
    let kind = ScheduledKind::of_code(event.code()?.as_str())?;
    let not_before = timestamp(event.not_before()?)?;
    (!over).then_some(ScheduledEvent { kind, not_before })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aws::conversion::date_time;
    use crate::core::units::time::Timestamp;
    use aws_sdk_ec2::types::EventCode;

    #[test]
    fn what_is_over_and_what_is_not_known_is_left_out() {
        let at = Timestamp(1_784_555_070_000);
        let event = |code: &str, description: &str| {
            InstanceStatusEvent::builder().code(EventCode::from(code)).description(description).not_before(date_time(at)).build()
        };
        for kind in ScheduledKind::ALL {
            assert_eq!(
                read(&event(kind.as_str(), "The instance is running on degraded hardware")),
                Some(ScheduledEvent { kind, not_before: at })
            );
        }
        for over in ["[Completed] The instance was rebooted", "[Canceled] Scheduled reboot"] {
            assert_eq!(read(&event("system-reboot", over)), None, "{over}");
        }
        assert_eq!(read(&event("instance-dreams", "")), None);
    }
}
