//! Launching one instance into one capacity, the rules it may break, and ending instances on the user's word.

use crate::core::units::ids::{InstanceId, Region};
use crate::core::units::money::MicroUsdPerHour;
use crate::core::units::time::Timestamp;

use super::super::fault::Fault;
use super::super::query::Params;
use super::Account;
use super::capacity::ZoneCapacity;
use super::instance::{CapacityType, Instance, InstanceState, LaunchDetails, SpotRequest, StateReason, USER_SHUTDOWN};
use super::interruption::Due;

/// Which action launches: EC2 words the same refusal differently.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Launcher {
    /// `RunInstances`.
    Run,
    /// `CreateFleet`, with the fleet's id.
    Fleet(String),
}

/// One instance to launch.
#[derive(Debug, Clone)]
pub struct LaunchOrder {
    /// Where and how.
    pub zone_capacity: ZoneCapacity,
    /// The caller's cap on the spot price.
    pub max_price: Option<MicroUsdPerHour>,
    /// What to launch.
    pub details: LaunchDetails,
    /// The reservation it belongs to.
    pub reservation: String,
    /// Who launches.
    pub launcher: Launcher,
}

impl Account {
    /// A capacity that can never give this type in this market.
    ///
    /// Source for the fleet's wording where spot was never offered: karpenter-provider-aws issues 2243 and 6483.
    fn check_supported(&self, zone_capacity: &ZoneCapacity, launcher: &Launcher, image: &str) -> Result<(), Fault> {
        let code = if *launcher == Launcher::Run { "Unsupported" } else { "InvalidFleetConfiguration" };
        let Some(facts) = self.facts.types.get(&zone_capacity.instance_type) else {
            return Err(Fault::value(zone_capacity.instance_type.as_str(), "instanceType", "Invalid instance type."));
        };
        let arm = super::places::image_id(&zone_capacity.region, "arm64");
        let of_image = if image == arm { "arm64" } else { "x86_64" };
        // Other images are whatever their caller says they are.
        let known = image == arm || image == super::places::image_id(&zone_capacity.region, "x86_64");
        if known && facts.architecture != of_image {
            let message = format!(
                "The architecture '{}' of the specified instance type does not match the architecture '{of_image}' of the specified AMI. \
                 Specify an instance type and an AMI that have matching architectures, and try again.",
                facts.architecture
            );
            return Err(Fault::value(&zone_capacity.instance_type.to_string(), "instanceType", &message));
        }
        if !facts.usage_classes.iter().any(|class| class == zone_capacity.capacity_type.as_str()) {
            return Err(Fault::bad(
                code,
                "The requested configuration is currently not supported. Please check the documentation for supported configurations.",
            ));
        }
        let spot_is_unknown = zone_capacity.capacity_type == CapacityType::Spot
            && !self.spot_prices.contains_key(&(zone_capacity.zone.clone(), zone_capacity.instance_type.clone()));
        if spot_is_unknown || !self.facts.is_offered(&zone_capacity.zone, &zone_capacity.instance_type) {
            let zone = self.places.zone(&zone_capacity.zone).map(|zone| zone.name.clone()).unwrap_or_default();
            let message = format!(
                "Your requested instance type ({}) is not supported in your requested Availability Zone ({zone}).",
                zone_capacity.instance_type
            );
            return Err(Fault::bad(code, message));
        }
        Ok(())
    }

    /// Launches one instance.
    ///
    /// # Errors
    /// Every way EC2 refuses one: unsupported, over quota, priced out, out of capacity.
    pub fn launch(&mut self, order: LaunchOrder, now: Timestamp) -> Result<InstanceId, Fault> {
        let zone_capacity = &order.zone_capacity;
        self.check_supported(zone_capacity, &order.launcher, &order.details.image_id)?;
        let price = self.spot_price_at(&zone_capacity.zone, &zone_capacity.instance_type, now);
        if let (CapacityType::Spot, Some(cap), Some(price)) = (zone_capacity.capacity_type, order.max_price, price)
            && cap < price
        {
            let message =
                format!("Your Spot request price of {cap} is lower than the minimum required Spot request fulfillment price of {price}.");
            return Err(Fault::bad("SpotMaxPriceTooLow", message));
        }
        // Reserved capacity is there, and was counted in the quota when it was reserved.
        match order.details.capacity_reservation.as_deref() {
            Some(reservation) => self.check_reservation(reservation, zone_capacity, now)?,
            None => {
                self.check_quota(zone_capacity)?;
                self.take_capacity(zone_capacity)?;
            }
        }
        let (boot, boot_outcome) = self.take_boot(zone_capacity);
        let id: InstanceId = self.new_id("i").into();
        let spot_request = (zone_capacity.capacity_type == CapacityType::Spot).then(|| SpotRequest {
            id: self.new_id("sir"),
            state: "active",
            status_code: "fulfilled",
            status_message: "Your Spot request is fulfilled.",
            updated_at: now,
            max_price: order.max_price,
        });
        let host = self.instances.len() % 250 + 4;
        let cidr = self.places.zone(&order.zone_capacity.zone).map(|zone| zone.cidr.clone()).unwrap_or_default();
        let instance = Instance {
            id: id.clone(),
            private_ip: format!("{}.{host}", cidr.rsplit_once('.').map_or("10.0.0", |(network, _)| network)),
            region: order.zone_capacity.region,
            zone: order.zone_capacity.zone,
            instance_type: order.zone_capacity.instance_type,
            capacity_type: order.zone_capacity.capacity_type,
            state: InstanceState::Pending,
            state_reason: None,
            reservation: order.reservation,
            fleet: if let Launcher::Fleet(fleet) = order.launcher { Some(fleet) } else { None },
            spot_request,
            tags: order.details.tags.clone(),
            details: order.details,
            launched_at: now,
            running_at: None,
            shutting_down_at: None,
            terminated_at: None,
            rebalance_at: None,
            noticed_at: None,
            ends_at: None,
            events: Vec::new(),
            boot_outcome,
        };
        self.instances.insert(id.clone(), instance);
        self.announce_state(&id, now);
        self.schedule(now + boot, Due::Run(id.clone()));
        Ok(id)
    }

    /// Whether Describe calls see this instance: not at once after launch, and not for ever after its end.
    pub fn is_visible(&self, instance: &Instance, now: Timestamp) -> bool {
        now.since(instance.launched_at) >= self.settings.visibility_lag
            && instance.terminated_at.is_none_or(|ended| now.since(ended) < self.settings.terminated_linger)
    }

    /// Ends an instance: billing stops, `terminated` follows. Harmless for one that is ending or gone.
    pub(super) fn shut_down(&mut self, id: &InstanceId, reason: StateReason, now: Timestamp) {
        let done_at = now + self.settings.shutdown;
        let Some(instance) = self.instances.get_mut(id).filter(|instance| instance.state.is_live()) else { return };
        instance.state = InstanceState::ShuttingDown;
        instance.state_reason = Some(reason);
        instance.shutting_down_at = Some(now);
        if let Some(request) = instance.spot_request.as_mut().filter(|request| request.state == "active") {
            request.state = "closed";
            request.status_code = "instance-terminated-by-user";
            request.status_message = "Spot Instance terminated due to user-initiated termination.";
            request.updated_at = now;
        }
        self.announce_state(id, now);
        self.schedule(done_at, Due::Gone(id.clone()));
    }

    /// Terminates instances on the user's word and gives their states before and after.
    ///
    /// # Errors
    /// `InvalidInstanceID.NotFound` when any is unknown in the region; then none is touched.
    pub fn terminate(
        &mut self,
        region: &Region,
        ids: &[InstanceId],
        now: Timestamp,
    ) -> Result<Vec<(InstanceId, InstanceState, InstanceState)>, Fault> {
        let known = |id: &&InstanceId| {
            self.instances.get(*id).is_some_and(|instance| {
                instance.region == *region && instance.terminated_at.is_none_or(|ended| now.since(ended) < self.settings.terminated_linger)
            })
        };
        check_instance_ids(ids)?;
        let unknown: Vec<&str> = ids.iter().filter(|id| !known(id)).map(InstanceId::as_str).collect();
        not_found(&unknown)?;
        let mut changes = Vec::new();
        for id in ids {
            let state = |account: &Account| account.instances.get(id).map_or(InstanceState::Terminated, |instance| instance.state);
            let before = state(self);
            self.shut_down(id, USER_SHUTDOWN, now);
            changes.push((id.clone(), before, state(self)));
        }
        Ok(changes)
    }

    /// What an earlier call with the same token was answered.
    ///
    /// # Errors
    /// `IdempotentParameterMismatch` for other parameters; `IdempotentInstanceTerminated` when all it launched is gone.
    pub fn recall(&self, key: &(Region, String, String), params: &Params) -> Result<Option<String>, Fault> {
        let Some(first) = self.tokens.get(key) else { return Ok(None) };
        if first.params != *params {
            let message = "Arguments on this idempotent request are inconsistent with arguments used in previous request(s).";
            return Err(Fault::bad("IdempotentParameterMismatch", message));
        }
        let ended = |id: &InstanceId| self.instances.get(id).is_none_or(|instance| instance.state == InstanceState::Terminated);
        if !first.instances.is_empty() && first.instances.iter().all(ended) {
            let message = "The instances launched by an earlier request with this client token have been terminated.";
            return Err(Fault::bad("IdempotentInstanceTerminated", message));
        }
        Ok(Some(first.answer.clone()))
    }
}

/// EC2's form of an instance id.
///
/// # Errors
/// `InvalidInstanceID.Malformed` with the first that is not.
pub fn check_instance_ids(ids: &[InstanceId]) -> Result<(), Fault> {
    let well_formed = |id: &&InstanceId| {
        id.as_str().strip_prefix("i-").is_some_and(|hex| matches!(hex.len(), 8 | 17) && hex.bytes().all(|b| b.is_ascii_hexdigit()))
    };
    match ids.iter().find(|id| !well_formed(id)) {
        None => Ok(()),
        Some(bad) => Err(Fault::bad("InvalidInstanceID.Malformed", format!("Invalid id: \"{bad}\""))),
    }
}

/// EC2's refusal for ids that do not exist; nothing when the list is empty.
///
/// # Errors
/// `InvalidInstanceID.NotFound`.
pub fn not_found(unknown: &[&str]) -> Result<(), Fault> {
    match unknown {
        [] => Ok(()),
        [id] => Err(Fault::bad("InvalidInstanceID.NotFound", format!("The instance ID '{id}' does not exist"))),
        many => Err(Fault::bad("InvalidInstanceID.NotFound", format!("The instance IDs '{}' do not exist", many.join(", ")))),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Remembered;
    use super::super::testing::{OPENED, account};
    use super::*;
    use crate::core::units::time::Millis;

    fn order() -> LaunchOrder {
        LaunchOrder {
            zone_capacity: ZoneCapacity {
                region: "us-east-1".into(),
                zone: "use1-az4".into(),
                instance_type: "g6.xlarge".into(),
                capacity_type: CapacityType::OnDemand,
            },
            max_price: None,
            details: LaunchDetails::default(),
            reservation: "r-1".into(),
            launcher: Launcher::Run,
        }
    }

    #[test]
    fn a_token_gives_the_first_answer_until_what_it_launched_is_gone() {
        let mut account = account();
        let id = account.launch(order(), OPENED).unwrap();
        let key = ("us-east-1".into(), "CreateFleet".to_owned(), "token".to_owned());
        let params = Params::parse("A=1");
        assert_eq!(account.recall(&key, &params), Ok(None));
        account.tokens.insert(key.clone(), Remembered { params: params.clone(), answer: "first".into(), instances: vec![id.clone()] });
        assert_eq!(account.recall(&key, &params), Ok(Some("first".into())));
        assert_eq!(account.recall(&key, &Params::parse("A=2")).unwrap_err().code, "IdempotentParameterMismatch");
        account.terminate(&"us-east-1".into(), &[id], OPENED).unwrap();
        assert_eq!(account.recall(&key, &params), Ok(Some("first".into())), "shutting down is not gone");
        account.advance(OPENED + account.settings.shutdown);
        assert_eq!(account.recall(&key, &params).unwrap_err().code, "IdempotentInstanceTerminated");
    }

    #[test]
    fn one_bad_id_spares_all_and_a_second_end_changes_nothing() {
        let mut account = account();
        let id = account.launch(order(), OPENED).unwrap();
        let bad: InstanceId = "i-00000000000000000".into();
        assert_eq!(account.terminate(&"us-east-1".into(), &[id.clone(), bad], OPENED).unwrap_err().code, "InvalidInstanceID.NotFound");
        assert_eq!(
            account.terminate(&"eu-west-1".into(), std::slice::from_ref(&id), OPENED).unwrap_err().code,
            "InvalidInstanceID.NotFound"
        );
        assert_eq!(account.instances[&id].state, InstanceState::Pending);
        account.terminate(&"us-east-1".into(), std::slice::from_ref(&id), OPENED).unwrap();
        let later = OPENED + Millis::from_secs(5);
        account.advance(later);
        let changes = account.terminate(&"us-east-1".into(), std::slice::from_ref(&id), later).unwrap();
        assert_eq!(changes, [(id.clone(), InstanceState::Terminated, InstanceState::Terminated)]);
        assert_eq!(account.instances[&id].shutting_down_at, Some(OPENED));
    }

    #[test]
    fn a_new_instance_is_seen_late_and_an_ended_one_for_a_while() {
        let mut account = account();
        account.settings.visibility_lag = Millis(300);
        let id = account.launch(order(), OPENED).unwrap();
        account.terminate(&"us-east-1".into(), std::slice::from_ref(&id), OPENED + Millis(1_000)).unwrap();
        let sees = |account: &mut Account, at: i64| {
            account.advance(OPENED + Millis(at));
            account.is_visible(&account.instances[&id], OPENED + Millis(at))
        };
        let ended = 1_000 + account.settings.shutdown.0;
        let seen = [299, 300, ended + 3_599_999, ended + 3_600_000].map(|at| sees(&mut account, at));
        assert_eq!(seen, [false, true, true, false]);
    }
}
