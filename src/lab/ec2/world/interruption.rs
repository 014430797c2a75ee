//! What happens by itself: booting, the interruption sequence, the end, and which messages the account's queue gets.
//!
//! On a terminate-type interruption the spot request goes at once to `instance-terminated-no-capacity` while the instance
//! runs on for two minutes. Source: EC2 user guide, spot-request-status.

use serde_json::json;

use crate::core::units::ids::{InstanceId, Region};
use crate::core::units::time::{Millis, Timestamp};

use super::super::fault::Fault;
use super::World;
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
pub enum Step {
    /// The instance has booted.
    Run(InstanceId),
    /// The interruption notice is given.
    Notice(InstanceId, Millis, Announcement),
    /// EC2 takes the instance.
    Take(InstanceId),
    /// A shutting-down instance is gone.
    Gone(InstanceId),
    /// A message reaches the region's queue.
    Deliver(Region, String),
}

impl World {
    pub(super) fn take_step(&mut self, step: Step, at: Timestamp) {
        match step {
            Step::Run(id) => self.become_running(&id, at),
            Step::Notice(id, notice, announcement) => self.give_notice(&id, notice, announcement, at),
            Step::Take(id) => self.shut_down(&id, SPOT_TERMINATION, at),
            Step::Gone(id) => self.become_terminated(&id, at),
            Step::Deliver(region, body) => {
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
        self.schedule(now + lead, Step::Notice(id.clone(), order.notice, order.announcement));
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
        self.schedule(ends_at, Step::Take(id.clone()));
        match announcement {
            Announcement::None => {}
            Announcement::Sqs => self.schedule(at, Step::Deliver(region, body)),
            Announcement::Duplicate => {
                self.schedule(at, Step::Deliver(region.clone(), body.clone()));
                self.schedule(at, Step::Deliver(region, body));
            }
            Announcement::Late => self.schedule(ends_at + self.settings.shutdown + Millis::from_secs(1), Step::Deliver(region, body)),
        }
        self.advance(at);
    }
}

#[cfg(test)]
mod tests {
    use super::super::capacity::{Pool, PoolMatch};
    use super::super::instance::{CapacityType, LaunchDetails};
    use super::super::launch::{LaunchOrder, Launcher};
    use super::super::testing::{OPENED, world};
    use super::*;

    fn order(capacity_type: CapacityType) -> LaunchOrder {
        LaunchOrder {
            pool: Pool { region: "eu-south-2".into(), zone: "eus2-az3".into(), instance_type: "g6.xlarge".into(), capacity_type },
            max_price: None,
            details: LaunchDetails::default(),
            reservation: "r-1".into(),
            launcher: Launcher::Run,
        }
    }

    #[test]
    fn a_noticed_instance_runs_two_minutes_on_while_its_request_is_already_closed() {
        let mut world = world();
        let id = world.launch(order(CapacityType::Spot), OPENED).unwrap();
        let told = OPENED + Millis::from_secs(60);
        world.advance(told);
        let sequence = Interruption { notice: world.settings.notice, rebalance_lead: None, announcement: Announcement::Duplicate };
        world.interrupt(&id, sequence, told).unwrap();
        let at = |world: &mut World, seconds| {
            world.advance(told + Millis::from_secs(seconds));
            let instance = &world.instances[&id];
            (instance.state, instance.spot_request.clone().unwrap().status_code)
        };
        assert_eq!(at(&mut world, 119), (InstanceState::Running, "instance-terminated-no-capacity"));
        assert_eq!(at(&mut world, 120), (InstanceState::ShuttingDown, "instance-terminated-no-capacity"));
        assert_eq!(at(&mut world, 121), (InstanceState::Terminated, "instance-terminated-no-capacity"));
        assert_eq!(world.instances[&id].state_reason, Some(SPOT_TERMINATION));
        let messages = world.queue(&"eu-south-2".into()).receive(100, Millis::from_secs(1), told + Millis::from_mins(5));
        let kinds = |kind: &str| messages.iter().filter(|(message, _)| message.body.contains(kind)).count();
        assert_eq!((kinds("Interruption Warning"), kinds("State-change")), (2, 4), "pending, running, shutting-down, terminated");
    }

    #[test]
    fn on_demand_is_never_interrupted_and_no_one_is_noticed_twice() {
        let mut world = world();
        let sequence = Interruption { notice: Millis::ZERO, rebalance_lead: Some(Millis(1)), announcement: Announcement::None };
        let kept = world.launch(order(CapacityType::OnDemand), OPENED);
        assert_eq!(world.interrupt(&kept.unwrap(), sequence, OPENED).unwrap_err().code, "IncorrectInstanceState");
        let spot = world.launch(order(CapacityType::Spot), OPENED).unwrap();
        world.interrupt(&spot, sequence, OPENED).unwrap();
        world.advance(OPENED + Millis(1));
        assert_eq!(world.instances[&spot].state, InstanceState::ShuttingDown, "a notice of zero is an end without warning");
        assert!(world.interrupt(&spot, sequence, OPENED + Millis(1)).is_err());
    }

    #[test]
    fn capacity_orders_hold_per_pool_and_the_last_one_wins() {
        let mut world = world();
        world.order_capacity(PoolMatch { capacity_type: Some(CapacityType::Spot), ..PoolMatch::default() }, Some(0));
        let refusal = world.launch(order(CapacityType::Spot), OPENED).unwrap_err();
        assert_eq!((refusal.status, refusal.code.as_str()), (500, "InsufficientInstanceCapacity"));
        world.launch(order(CapacityType::OnDemand), OPENED).unwrap();
        world.order_capacity(PoolMatch { instance_type: Some("g6.xlarge".into()), ..PoolMatch::default() }, Some(1));
        world.launch(order(CapacityType::Spot), OPENED).unwrap();
        assert!(world.launch(order(CapacityType::Spot), OPENED).is_err());
        world.order_capacity(PoolMatch::default(), None);
        world.launch(order(CapacityType::Spot), OPENED).unwrap();
    }

    #[test]
    fn quotas_count_vcpus_per_region_and_market() {
        let mut world = world();
        world.quotas.insert(("eu-south-2".into(), "L-3819A6DF".into()), 7);
        world.launch(order(CapacityType::Spot), OPENED).unwrap();
        assert_eq!(world.launch(order(CapacityType::Spot), OPENED).unwrap_err().code, "MaxSpotInstanceCountExceeded");
        world.quotas.insert(("eu-south-2".into(), "L-DB2E81BA".into()), 0);
        assert_eq!(world.launch(order(CapacityType::OnDemand), OPENED).unwrap_err().code, "VcpuLimitExceeded");
    }

    #[test]
    fn a_pool_without_a_spot_row_gives_no_spot() {
        let mut world = world();
        let mut unknown = order(CapacityType::Spot);
        unknown.pool.instance_type = "g5.xlarge".into();
        unknown.launcher = Launcher::Fleet("fleet-1".into());
        unknown.pool.zone = "use1-az4".into();
        unknown.pool.region = "us-east-1".into();
        assert_eq!(world.launch(unknown.clone(), OPENED).unwrap_err().code, "InvalidFleetConfiguration");
        unknown.launcher = Launcher::Run;
        assert_eq!(world.launch(unknown, OPENED).unwrap_err().code, "Unsupported");
        let mut capped = order(CapacityType::Spot);
        capped.max_price = Some("0.01".parse().unwrap());
        assert_eq!(world.launch(capped, OPENED).unwrap_err().code, "SpotMaxPriceTooLow");
    }
}
