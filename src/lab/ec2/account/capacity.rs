//! What a capacity can give: orders about capacity and booting, and vCPU quotas. Without an order capacity has no end.

use crate::core::units::ids::{InstanceType, Region, ZoneId};
use crate::core::units::time::Millis;

use super::super::fault::Fault;
use super::Account;
use super::instance::CapacityType;

/// Which capacities an order is about; an absent field is any.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CapacityMatch {
    /// One region.
    pub region: Option<Region>,
    /// One zone.
    pub zone: Option<ZoneId>,
    /// One type.
    pub instance_type: Option<InstanceType>,
    /// Spot or on-demand only.
    pub capacity_type: Option<CapacityType>,
}

/// A zone, a type and how it is paid for: the smallest thing that has capacity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ZoneCapacity {
    /// Its region.
    pub region: Region,
    /// Its zone.
    pub zone: ZoneId,
    /// Its type.
    pub instance_type: InstanceType,
    /// Spot or on-demand.
    pub capacity_type: CapacityType,
}

impl CapacityMatch {
    fn covers(&self, zone_capacity: &ZoneCapacity) -> bool {
        fn fits<T: PartialEq>(wanted: &Option<T>, found: &T) -> bool {
            wanted.as_ref().is_none_or(|wanted| wanted == found)
        }
        fits(&self.region, &zone_capacity.region)
            && fits(&self.zone, &zone_capacity.zone)
            && fits(&self.instance_type, &zone_capacity.instance_type)
            && fits(&self.capacity_type, &zone_capacity.capacity_type)
    }
}

/// An order about capacity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CapacityRule {
    /// The capacities it is about, which share what is left.
    pub capacities: CapacityMatch,
    /// How many more instances can be launched; `None` lifts every earlier order for these capacities.
    pub left: Option<u64>,
}

/// An order about booting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootRule {
    /// The capacities it is about.
    pub capacities: CapacityMatch,
    /// From launch to running.
    pub delay: Millis,
    /// `ok`, `never-joins` or `no-gpus`.
    pub outcome: String,
    /// How many launches it is still good for; `None` is all.
    pub left: Option<u64>,
}

/// A vCPU quota of Service Quotas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VcpuQuota {
    /// As in `L-3819A6DF`.
    pub code: &'static str,
    /// As Service Quotas names it.
    pub name: &'static str,
    /// Which market it limits.
    pub capacity_type: CapacityType,
    /// The first letters of the families it covers.
    pub families: &'static [&'static str],
}

/// The quotas that GPU types fall under. Source: EC2 user guide, using-spot-limits; codes from the Service Quotas console.
pub const VCPU_QUOTAS: [VcpuQuota; 4] = [
    VcpuQuota {
        code: "L-3819A6DF",
        name: "All G and VT Spot Instance Requests",
        capacity_type: CapacityType::Spot,
        families: &["g", "vt"],
    },
    VcpuQuota { code: "L-7212CCBC", name: "All P Spot Instance Requests", capacity_type: CapacityType::Spot, families: &["p"] },
    VcpuQuota {
        code: "L-DB2E81BA",
        name: "Running On-Demand G and VT instances",
        capacity_type: CapacityType::OnDemand,
        families: &["g", "vt"],
    },
    VcpuQuota { code: "L-417A185B", name: "Running On-Demand P instances", capacity_type: CapacityType::OnDemand, families: &["p"] },
];

/// The quota a type falls under in a market.
pub fn quota_of(it: &InstanceType, capacity_type: CapacityType) -> Option<VcpuQuota> {
    VCPU_QUOTAS
        .into_iter()
        .find(|quota| quota.capacity_type == capacity_type && quota.families.iter().any(|family| it.as_str().starts_with(family)))
}

impl Account {
    /// Sets an order about capacity; one for the same capacities takes the former's place.
    pub fn order_capacity(&mut self, capacities: CapacityMatch, left: Option<u64>) {
        self.capacity_rules.retain(|rule| rule.capacities != capacities);
        self.capacity_rules.push(CapacityRule { capacities, left });
    }

    /// How many more instances a capacity gives; `None` is without end.
    pub fn capacity_left(&self, zone_capacity: &ZoneCapacity) -> Option<u64> {
        self.capacity_rules.iter().rev().find(|rule| rule.capacities.covers(zone_capacity)).and_then(|rule| rule.left)
    }

    /// Takes one instance's worth of capacity.
    ///
    /// # Errors
    /// `InsufficientInstanceCapacity`, HTTP 500 as measured against EC2.
    pub(super) fn take_capacity(&mut self, zone_capacity: &ZoneCapacity) -> Result<(), Fault> {
        let zone_name = self.places.zone(&zone_capacity.zone).map(|zone| zone.name.clone()).unwrap_or_default();
        let rule = self.capacity_rules.iter_mut().rev().find(|rule| rule.capacities.covers(zone_capacity));
        match rule.map(|rule| &mut rule.left) {
            None | Some(None) => Ok(()),
            Some(Some(left)) if *left > 0 => {
                *left -= 1;
                Ok(())
            }
            Some(Some(_)) => {
                let message = match zone_capacity.capacity_type {
                    CapacityType::Spot => "There is no Spot capacity available that matches your request.".to_owned(),
                    CapacityType::OnDemand => format!(
                        "We currently do not have sufficient {} capacity in the Availability Zone you requested ({zone_name}). \
                         Our system will be working on provisioning additional capacity.",
                        zone_capacity.instance_type
                    ),
                };
                Err(Fault::new(500, "InsufficientInstanceCapacity", message))
            }
        }
    }

    /// A quota's value in a region, in vCPUs.
    pub fn quota(&self, region: &Region, code: &str) -> i64 {
        self.quotas.get(&(region.clone(), code.to_owned())).copied().unwrap_or(self.settings.vcpu_quota)
    }

    /// vCPUs that live instances hold of a quota in a region.
    pub fn vcpus_held(&self, region: &Region, quota: VcpuQuota) -> i64 {
        let holds = self.instances.values().filter(|instance| {
            instance.region == *region
                && instance.state.is_live()
                && instance.details.capacity_reservation.is_none()
                && quota_of(&instance.instance_type, instance.capacity_type) == Some(quota)
        });
        holds.filter_map(|instance| self.facts.types.get(&instance.instance_type)).map(|facts| i64::from(facts.vcpus)).sum()
    }

    /// Whether `zone_capacity` may hold one more instance under its quota.
    ///
    /// # Errors
    /// `MaxSpotInstanceCountExceeded` or `VcpuLimitExceeded`, both 400.
    pub(super) fn check_quota(&self, zone_capacity: &ZoneCapacity) -> Result<(), Fault> {
        let Some(quota) = quota_of(&zone_capacity.instance_type, zone_capacity.capacity_type) else { return Ok(()) };
        let vcpus = self.facts.types.get(&zone_capacity.instance_type).map_or(0, |facts| i64::from(facts.vcpus));
        let limit = self.quota(&zone_capacity.region, quota.code);
        if self.vcpus_held(&zone_capacity.region, quota) + vcpus <= limit {
            return Ok(());
        }
        Err(match zone_capacity.capacity_type {
            CapacityType::Spot => Fault::bad("MaxSpotInstanceCountExceeded", "Max spot instance count exceeded"),
            CapacityType::OnDemand => Fault::bad(
                "VcpuLimitExceeded",
                format!(
                    "You have requested more vCPU capacity than your current vCPU limit of {limit} allows for the instance bucket that the \
                     specified instance type belongs to. Please visit http://aws.amazon.com/contact-us/ec2-request to request an \
                     adjustment to this limit."
                ),
            ),
        })
    }

    /// How a launch in `zone_capacity` boots; uses up one launch of a rule that counts them.
    pub(super) fn take_boot(&mut self, zone_capacity: &ZoneCapacity) -> (Millis, String) {
        let rule = self.boot_rules.iter_mut().rev().find(|rule| rule.left != Some(0) && rule.capacities.covers(zone_capacity));
        match rule {
            None => (self.settings.boot, "ok".to_owned()),
            Some(rule) => {
                rule.left = rule.left.map(|left| left - 1);
                (rule.delay, rule.outcome.clone())
            }
        }
    }
}
