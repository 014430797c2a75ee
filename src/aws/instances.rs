//! Our instances as EC2 describes them, with the state of their spot requests.
//!
//! Found by tag, never by remembered ids: describe calls may not show a new instance yet, and an id we forgot must still be found.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_ec2::types::{Instance as SdkInstance, InstanceLifecycleType, InstanceStateName, SpotInstanceRequest};

use crate::core::fleet::{Instance, InstanceState, tags};
use crate::core::market::{Capacity, CapacityType};
use crate::core::units::ids::Region;
use crate::core::units::time::Timestamp;
use crate::ports::CloudError;

use super::conversion::{filter, needed, tag_map, timestamp};
use super::errors::from_sdk;
use super::{AwsCloud, all_pages};

/// `MaxResults` of both describe calls goes to 1,000 (EC2 API reference).
const PAGE: i32 = 1_000;
/// Spot request statuses meaning that EC2 is taking an instance back, or has.
///
/// Source: EC2 user guide, "Get the status of a Spot Instance request". On a terminate-type interruption the request goes to
/// `instance-terminated-no-capacity` at once, while the instance runs on for two minutes.
const TAKING_BACK: [&str; 10] = [
    "marked-for-stop",
    "marked-for-termination",
    "instance-terminated-by-price",
    "instance-terminated-by-service",
    "instance-terminated-by-experiment",
    "instance-terminated-no-capacity",
    "instance-terminated-capacity-oversubscribed",
    "instance-terminated-launch-group-constraint",
    "instance-stopped-by-price",
    "instance-stopped-no-capacity",
];

/// What a spot request says, and since when.
type SpotStatus = (String, Timestamp);

impl AwsCloud {
    /// All instances of `cluster`, ordered by id.
    pub(super) async fn tagged_instances(&self, region: &Region, cluster: &str) -> Result<Vec<Instance>, CloudError> {
        let clients = self.clients(region);
        let ask =
            clients.ec2.describe_instances().filters(filter(format!("tag:{}", tags::CLUSTER), [cluster.to_owned()])).max_results(PAGE);
        let found = all_pages("DescribeInstances", |token| {
            let ask = ask.clone().set_next_token(token);
            async move {
                let page = ask.send().await.map_err(|error| from_sdk("DescribeInstances", region, error))?;
                let instances = page.reservations.unwrap_or_default().into_iter().flat_map(|it| it.instances.unwrap_or_default());
                Ok((instances.collect(), page.next_token))
            }
        })
        .await?;
        let statuses = self.spot_statuses(region, &found).await?;
        let mut instances = Vec::with_capacity(found.len());
        for instance in &found {
            instances.push(self.read_instance(region, instance, &statuses).await?);
        }
        instances.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(instances)
    }

    /// The statuses of the spot requests behind `instances` that EC2 is taking back. Requested by status: of a thousand machines these are few, and
    /// EC2 forgets a request four hours after its end, so that asking by id for a forgotten one would fail the whole call.
    async fn spot_statuses(&self, region: &Region, instances: &[SdkInstance]) -> Result<BTreeMap<String, SpotStatus>, CloudError> {
        let requests: BTreeSet<&str> = instances.iter().filter_map(SdkInstance::spot_instance_request_id).collect();
        if requests.is_empty() {
            return Ok(BTreeMap::new());
        }
        let taking_back = filter("status-code", TAKING_BACK.map(str::to_owned).to_vec());
        let ask = self.clients(region).ec2.describe_spot_instance_requests().filters(taking_back).max_results(PAGE);
        let rows = all_pages("DescribeSpotInstanceRequests", |token| {
            let ask = ask.clone().set_next_token(token);
            async move {
                let page = ask.send().await.map_err(|error| from_sdk("DescribeSpotInstanceRequests", region, error))?;
                Ok((page.spot_instance_requests.unwrap_or_default(), page.next_token))
            }
        })
        .await?;
        let read = |row: SpotInstanceRequest| {
            let status = row.status?;
            Some((row.spot_instance_request_id?, (status.code?, timestamp(&status.update_time?)?)))
        };
        Ok(rows.into_iter().filter_map(read).filter(|(id, _)| requests.contains(id.as_str())).collect())
    }

    async fn read_instance(
        &self,
        region: &Region,
        found: &SdkInstance,
        statuses: &BTreeMap<String, SpotStatus>,
    ) -> Result<Instance, CloudError> {
        const CALL: &str = "DescribeInstances";
        let placement = needed(found.placement(), CALL, "Placement")?;
        let zone = self.zone_id(region, placement.availability_zone_id(), placement.availability_zone()).await?;
        let is_spot = found.instance_lifecycle() == Some(&InstanceLifecycleType::Spot);
        let capacity_type = match (is_spot, found.capacity_reservation_id()) {
            (true, _) => CapacityType::Spot,
            (false, Some(_)) => CapacityType::Reserved,
            (false, None) => CapacityType::OnDemand,
        };
        let instance_type = needed(found.instance_type(), CALL, "InstanceType")?.as_str().into();
        let taken_back = found.spot_instance_request_id().and_then(|id| statuses.get(id)).filter(|it| TAKING_BACK.contains(&it.0.as_str()));
        Ok(Instance {
            id: needed(found.instance_id().filter(|id| !id.is_empty()), CALL, "InstanceId")?.into(),
            capacity: Capacity { region: region.clone(), zone, instance_type, capacity_type },
            state: needed(found.state().and_then(|state| state.name()).and_then(instance_state), CALL, "a known instance state")?,
            launched_at: needed(found.launch_time().and_then(timestamp), CALL, "LaunchTime")?,
            ended_at: found.state_transition_reason().and_then(transition_time),
            state_reason: found.state_reason().and_then(|reason| reason.code()).map(str::to_owned),
            spot_request_status: taken_back.cloned().map(Box::new),
            addresses: addresses(found),
            tags: tag_map(found.tags()).into(),
        })
    }
}

/// What identifies its Node: the private DNS name, in full and as a host name, and the private addresses of all its interfaces.
fn addresses(found: &SdkInstance) -> Vec<String> {
    let name = found.private_dns_name().filter(|name| !name.is_empty());
    let host = name.and_then(|name| name.split('.').next());
    let interfaces = found.network_interfaces().iter();
    let more = interfaces.flat_map(|one| one.private_ip_addresses()).filter_map(|one| one.private_ip_address());
    let each: BTreeSet<&str> = name.into_iter().chain(host).chain(found.private_ip_address()).chain(more).collect();
    each.into_iter().map(str::to_owned).collect()
}

/// EC2's state in our terms. We never stop an instance; a stopped one no longer serves, but is not gone.
pub(super) fn instance_state(name: &InstanceStateName) -> Option<InstanceState> {
    match name {
        InstanceStateName::Pending => Some(InstanceState::Pending),
        InstanceStateName::Running => Some(InstanceState::Running),
        InstanceStateName::Stopping | InstanceStateName::Stopped => Some(InstanceState::Stopped),
        InstanceStateName::ShuttingDown => Some(InstanceState::ShuttingDown),
        InstanceStateName::Terminated => Some(InstanceState::Terminated),
        _ => None,
    }
}

/// The time in a `StateTransitionReason` such as `User initiated (2026-11-23 22:48:48 GMT)`, `Service initiated (...)` when EC2 took it:
/// EC2 provides it nowhere else, and not always.
fn transition_time(reason: &str) -> Option<Timestamp> {
    let (_, inside) = reason.rsplit_once('(')?;
    let (text, _) = inside.split_once(" GMT)")?;
    super::conversion::parse_rfc3339(&format!("{}Z", text.replacen(' ', "T", 1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_an_instance_is_read_where_ec2_says_it() {
        let ended = transition_time("User initiated (2026-07-20 13:44:30 GMT)").unwrap();
        assert_eq!(ended.to_rfc3339(), "2026-07-20T13:44:30.000Z");
        assert_eq!(transition_time("Service initiated (2026-07-20 13:44:30 GMT)"), Some(ended));
        for silent in ["", "User initiated", "Server.SpotInstanceTermination: Spot instance termination", "x (soon GMT)"] {
            assert_eq!(transition_time(silent), None, "{silent}");
        }
    }

    #[test]
    fn a_stopped_instance_is_on_its_way_out_and_a_new_state_is_not_guessed() {
        assert_eq!(instance_state(&InstanceStateName::Stopped), Some(InstanceState::Stopped));
        assert_eq!(instance_state(&InstanceStateName::from("dreaming")), None);
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(crate::mutation::CASES))]

        #[test]
        fn whatever_ec2_says_of_an_end_is_a_time_or_nothing(
            reason in crate::mutation::text(&["User initiated (2026-07-20 13:44:30 GMT)", "Service initiated (2026-11-23 22:48:48 GMT)"])
        ) {
            if let Some(at) = transition_time(&reason) {
                assert!(reason.contains(" GMT)"), "{reason}: {at}");
            }
        }
    }
}
