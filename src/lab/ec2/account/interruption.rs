//! What happens by itself: booting, the interruption sequence, the end, and which messages the account's queue gets.
//!
//! On a terminate-type interruption the spot request goes at once to `instance-terminated-no-capacity` while the instance
//! runs on for two minutes. Source: EC2 user guide, spot-request-status.

use serde_json::json;

use crate::core::units::ids::{InstanceId, Region};
use crate::core::units::time::{Millis, Timestamp};

use super::super::fault::Fault;
use super::Account;
use super::instance::{InstanceState, SPOT_TERMINATION};

/// How the queue learns of an interruption. The instance's metadata and the spot request tell it in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Announcement {
    /// One message, with the notice.
    Sqs,
    /// No message: delivery is best effort.
    None,
    /// Two messages: delivery is at least once.
    Duplicate,
    /// One message, a second after the instance is gone.
    Late,
}

/// An interruption to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interruption {
    /// From the notice to the end. Zero is an end without warning.
    pub notice: Millis,
    /// Give a rebalance recommendation this long before the notice.
    pub rebalance_lead: Option<Millis>,
    /// How the queue learns of it.
    pub announcement: Announcement,
}

/// Something that is due at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Due {
    /// The instance has booted.
    Run(InstanceId),
    /// The interruption notice is given.
    Notice(InstanceId, Millis, Announcement),
    /// EC2 takes the instance.
    Take(InstanceId),
    /// A shutting-down instance is gone.
    Gone(InstanceId),
    /// The date of a scheduled event, by its id.
    Scheduled(InstanceId, String),
    /// A message reaches the region's queue.
    Deliver(Region, String),
}

impl Account {
    pub(super) fn take_due(&mut self, step: Due, at: Timestamp) {
        match step {
            Due::Run(id) => self.become_running(&id, at),
            Due::Notice(id, notice, announcement) => self.give_notice(&id, notice, announcement, at),
            Due::Take(id) => self.shut_down(&id, SPOT_TERMINATION, at),
            Due::Gone(id) => self.become_terminated(&id, at),
            Due::Scheduled(id, event) => self.scheduled_comes(&id, &event, at),
            Due::Deliver(region, body) => {
                self.send_message(&region, body, at);
            }
        }
    }

    fn become_running(&mut self, id: &InstanceId, at: Timestamp) {
        let Some(instance) = self.instances.get_mut(id).filter(|instance| instance.state == InstanceState::Pending) else { return };
        instance.state = InstanceState::Running;
        instance.running_at = Some(at);
        self.announce_state(id, at);
    }

    fn become_terminated(&mut self, id: &InstanceId, at: Timestamp) {
        let Some(instance) = self.instances.get_mut(id) else { return };
        instance.state = InstanceState::Terminated;
        instance.terminated_at = Some(at);
        self.announce_state(id, at);
    }

    /// Sends the state-change notification of an instance's state.
    pub(super) fn announce_state(&mut self, id: &InstanceId, at: Timestamp) {
        let Some(instance) = self.instances.get(id) else { return };
        let (region, detail) = (instance.region.clone(), json!({"instance-id": id.as_str(), "state": instance.state.as_str()}));
        let body = self.event(&region, id.as_str(), "EC2 Instance State-change Notification", &detail, at);
        self.send_message(&region, body, at);
    }

    /// Orders an interruption from `now` on.
    ///
    /// # Errors
    /// For an instance that is not a live spot instance.
    pub fn interrupt(&mut self, id: &InstanceId, order: Interruption, now: Timestamp) -> Result<(), Fault> {
        let Some(instance) = self.instances.get_mut(id) else {
            return Err(Fault::bad("InvalidInstanceID.NotFound", format!("The instance ID '{id}' does not exist")));
        };
        if instance.spot_request.is_none() || !instance.state.is_live() {
            let found = format!("{} {}", instance.state.as_str(), instance.capacity_type.as_str());
            return Err(Fault::bad("IncorrectInstanceState", format!("Only a live spot instance can be interrupted; '{id}' is {found}.")));
        }
        if instance.noticed_at.is_some() {
            return Err(Fault::bad("IncorrectInstanceState", format!("'{id}' has its interruption notice already.")));
        }
        let Some(lead) = order.rebalance_lead else {
            self.give_notice(id, order.notice, order.announcement, now);
            return Ok(());
        };
        instance.rebalance_at = Some(now);
        let region = instance.region.clone();
        if order.announcement != Announcement::None {
            let detail = json!({"instance-id": id.as_str()});
            let body = self.event(&region, id.as_str(), "EC2 Instance Rebalance Recommendation", &detail, now);
            self.send_message(&region, body, now);
        }
        self.schedule(now + lead, Due::Notice(id.clone(), order.notice, order.announcement));
        Ok(())
    }

    fn give_notice(&mut self, id: &InstanceId, notice: Millis, announcement: Announcement, at: Timestamp) {
        let ends_at = at + notice;
        let live = |instance: &&mut super::instance::Instance| instance.state.is_live() && instance.noticed_at.is_none();
        let Some(instance) = self.instances.get_mut(id).filter(live) else { return };
        instance.noticed_at = Some(at);
        instance.ends_at = Some(ends_at);
        if let Some(request) = &mut instance.spot_request {
            request.state = "closed";
            request.status_code = "instance-terminated-no-capacity";
            request.status_message =
                "Your Spot instance was terminated because there is no Spot capacity available that matches your request.";
            request.updated_at = at;
        }
        let region = instance.region.clone();
        let detail = json!({"instance-id": id.as_str(), "instance-action": "terminate"});
        let body = self.event(&region, id.as_str(), "EC2 Spot Instance Interruption Warning", &detail, at);
        self.schedule(ends_at, Due::Take(id.clone()));
        match announcement {
            Announcement::None => {}
            Announcement::Sqs => self.schedule(at, Due::Deliver(region, body)),
            Announcement::Duplicate => {
                self.schedule(at, Due::Deliver(region.clone(), body.clone()));
                self.schedule(at, Due::Deliver(region, body));
            }
            Announcement::Late => self.schedule(ends_at + self.settings.shutdown + Millis::from_secs(1), Due::Deliver(region, body)),
        }
        self.advance(at);
    }
}

#[cfg(test)]
mod tests {
    use super::super::capacity::{CapacityMatch, ZoneCapacity};
    use super::super::instance::{CapacityType, LaunchDetails};
    use super::super::launch::{LaunchOrder, Launcher};
    use super::super::testing::{OPENED, account};
    use super::*;

    fn order(capacity_type: CapacityType) -> LaunchOrder {
        LaunchOrder {
            zone_capacity: ZoneCapacity {
                region: "eu-south-2".into(),
                zone: "eus2-az3".into(),
                instance_type: "g6.xlarge".into(),
                capacity_type,
            },
            max_price: None,
            details: LaunchDetails::default(),
            reservation: "r-1".into(),
            launcher: Launcher::Run,
        }
    }

    #[test]
    fn a_noticed_instance_runs_two_minutes_on_while_its_request_is_already_closed() {
        let mut account = account();
        let id = account.launch(order(CapacityType::Spot), OPENED).unwrap();
        let warned_at = OPENED + Millis::from_secs(60);
        account.advance(warned_at);
        let sequence = Interruption { notice: account.settings.notice, rebalance_lead: None, announcement: Announcement::Duplicate };
        account.interrupt(&id, sequence, warned_at).unwrap();
        let at = |account: &mut Account, seconds| {
            account.advance(warned_at + Millis::from_secs(seconds));
            let instance = &account.instances[&id];
            (instance.state, instance.spot_request.clone().unwrap().status_code)
        };
        assert_eq!(at(&mut account, 119), (InstanceState::Running, "instance-terminated-no-capacity"));
        assert_eq!(at(&mut account, 120), (InstanceState::ShuttingDown, "instance-terminated-no-capacity"));
        assert_eq!(at(&mut account, 121), (InstanceState::Terminated, "instance-terminated-no-capacity"));
        assert_eq!(account.instances[&id].state_reason, Some(SPOT_TERMINATION));
        let messages = account.queue(&"eu-south-2".into()).receive(100, Millis::from_secs(1), warned_at + Millis::from_mins(5));
        let kinds = |kind: &str| messages.iter().filter(|(message, _)| message.body.contains(kind)).count();
        assert_eq!((kinds("Interruption Warning"), kinds("State-change")), (2, 4), "pending, running, shutting-down, terminated");
    }

    #[test]
    fn on_demand_is_never_interrupted_and_no_one_is_noticed_twice() {
        let mut account = account();
        let sequence = Interruption { notice: Millis::ZERO, rebalance_lead: Some(Millis(1)), announcement: Announcement::None };
        let kept = account.launch(order(CapacityType::OnDemand), OPENED);
        assert_eq!(account.interrupt(&kept.unwrap(), sequence, OPENED).unwrap_err().code, "IncorrectInstanceState");
        let spot = account.launch(order(CapacityType::Spot), OPENED).unwrap();
        account.interrupt(&spot, sequence, OPENED).unwrap();
        account.advance(OPENED + Millis(1));
        assert_eq!(account.instances[&spot].state, InstanceState::ShuttingDown, "a notice of zero is an end without warning");
        assert!(account.interrupt(&spot, sequence, OPENED + Millis(1)).is_err());
    }

    #[test]
    fn capacity_orders_hold_per_capacity_and_the_last_one_wins() {
        let mut account = account();
        account.order_capacity(CapacityMatch { capacity_type: Some(CapacityType::Spot), ..CapacityMatch::default() }, Some(0));
        let refusal = account.launch(order(CapacityType::Spot), OPENED).unwrap_err();
        assert_eq!((refusal.status, refusal.code.as_str()), (500, "InsufficientInstanceCapacity"));
        account.launch(order(CapacityType::OnDemand), OPENED).unwrap();
        account.order_capacity(CapacityMatch { instance_type: Some("g6.xlarge".into()), ..CapacityMatch::default() }, Some(1));
        account.launch(order(CapacityType::Spot), OPENED).unwrap();
        assert!(account.launch(order(CapacityType::Spot), OPENED).is_err());
        account.order_capacity(CapacityMatch::default(), None);
        account.launch(order(CapacityType::Spot), OPENED).unwrap();
    }

    #[test]
    fn quotas_count_vcpus_per_region_and_market() {
        let mut account = account();
        account.quotas.insert(("eu-south-2".into(), "L-3819A6DF".into()), 7);
        account.launch(order(CapacityType::Spot), OPENED).unwrap();
        assert_eq!(account.launch(order(CapacityType::Spot), OPENED).unwrap_err().code, "MaxSpotInstanceCountExceeded");
        account.quotas.insert(("eu-south-2".into(), "L-DB2E81BA".into()), 0);
        assert_eq!(account.launch(order(CapacityType::OnDemand), OPENED).unwrap_err().code, "VcpuLimitExceeded");
    }

    #[test]
    fn a_capacity_without_a_spot_row_gives_no_spot() {
        let mut account = account();
        let mut unknown = order(CapacityType::Spot);
        unknown.zone_capacity.instance_type = "g5.xlarge".into();
        unknown.launcher = Launcher::Fleet("fleet-1".into());
        unknown.zone_capacity.zone = "use1-az4".into();
        unknown.zone_capacity.region = "us-east-1".into();
        assert_eq!(account.launch(unknown.clone(), OPENED).unwrap_err().code, "InvalidFleetConfiguration");
        unknown.launcher = Launcher::Run;
        assert_eq!(account.launch(unknown, OPENED).unwrap_err().code, "Unsupported");
        let mut capped = order(CapacityType::Spot);
        capped.max_price = Some("0.01".parse().unwrap());
        assert_eq!(account.launch(capped, OPENED).unwrap_err().code, "SpotMaxPriceTooLow");
    }
}
