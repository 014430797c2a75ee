//! What a pool can give: orders about capacity and booting, and vCPU quotas. Without an order capacity has no end.

use crate::core::units::ids::{InstanceType, Region, ZoneId};
use crate::core::units::time::Millis;

use super::super::fault::Fault;
use super::World;
use super::instance::CapacityType;

/// Which pools an order is about; an absent field is any.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PoolMatch {
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
pub struct Pool {
    /// Its region.
    pub region: Region,
    /// Its zone.
    pub zone: ZoneId,
    /// Its type.
    pub instance_type: InstanceType,
    /// Spot or on-demand.
    pub capacity_type: CapacityType,
}

impl PoolMatch {
    fn covers(&self, pool: &Pool) -> bool {
        fn fits<T: PartialEq>(wanted: &Option<T>, found: &T) -> bool {
            wanted.as_ref().is_none_or(|wanted| wanted == found)
        }
        fits(&self.region, &pool.region)
            && fits(&self.zone, &pool.zone)
            && fits(&self.instance_type, &pool.instance_type)
            && fits(&self.capacity_type, &pool.capacity_type)
    }
}

/// An order about capacity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CapacityRule {
    /// The pools it is about, which share what is left.
    pub pools: PoolMatch,
    /// How many more instances can be launched; `None` lifts every earlier order for these pools.
    pub left: Option<u64>,
}

/// An order about booting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootRule {
    /// The pools it is about.
    pub pools: PoolMatch,
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

impl World {
    /// Sets an order about capacity; one for the same pools takes the former's place.
    pub fn order_capacity(&mut self, pools: PoolMatch, left: Option<u64>) {
        self.capacity_rules.retain(|rule| rule.pools != pools);
        self.capacity_rules.push(CapacityRule { pools, left });
    }

    /// How many more instances a pool gives; `None` is without end.
    pub fn capacity_left(&self, pool: &Pool) -> Option<u64> {
        self.capacity_rules.iter().rev().find(|rule| rule.pools.covers(pool)).and_then(|rule| rule.left)
    }

    /// Takes one instance's worth of capacity.
    ///
    /// # Errors
    /// `InsufficientInstanceCapacity`, HTTP 500 as measured against EC2.
    pub(super) fn take_capacity(&mut self, pool: &Pool) -> Result<(), Fault> {
        let zone_name = self.places.zone(&pool.zone).map(|zone| zone.name.clone()).unwrap_or_default();
        let rule = self.capacity_rules.iter_mut().rev().find(|rule| rule.pools.covers(pool));
        match rule.map(|rule| &mut rule.left) {
            None | Some(None) => Ok(()),
            Some(Some(left)) if *left > 0 => {
                *left -= 1;
                Ok(())
            }
            Some(Some(_)) => {
                let message = match pool.capacity_type {
                    CapacityType::Spot => "There is no Spot capacity available that matches your request.".to_owned(),
                    CapacityType::OnDemand => format!(
                        "We currently do not have sufficient {} capacity in the Availability Zone you requested ({zone_name}). \
                         Our system will be working on provisioning additional capacity.",
                        pool.instance_type
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

    /// Whether `pool` may hold one more instance under its quota.
    ///
    /// # Errors
    /// `MaxSpotInstanceCountExceeded` or `VcpuLimitExceeded`, both 400.
    pub(super) fn check_quota(&self, pool: &Pool) -> Result<(), Fault> {
        let Some(quota) = quota_of(&pool.instance_type, pool.capacity_type) else { return Ok(()) };
        let vcpus = self.facts.types.get(&pool.instance_type).map_or(0, |facts| i64::from(facts.vcpus));
        let limit = self.quota(&pool.region, quota.code);
        if self.vcpus_held(&pool.region, quota) + vcpus <= limit {
            return Ok(());
        }
        Err(match pool.capacity_type {
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

    /// How a launch in `pool` boots; uses up one launch of a rule that counts them.
    pub(super) fn take_boot(&mut self, pool: &Pool) -> (Millis, String) {
        let rule = self.boot_rules.iter_mut().rev().find(|rule| rule.left != Some(0) && rule.pools.covers(pool));
        match rule {
            None => (self.settings.boot, "ok".to_owned()),
            Some(rule) => {
                rule.left = rule.left.map(|left| left - 1);
                (rule.delay, rule.outcome.clone())
            }
        }
    }
}
