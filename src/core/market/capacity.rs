//! What one zone sells of one instance type in one way: what EC2 can run out of, and what has one price.
//!
//! Decides: nothing; these are the keys of the whole market.

use serde::{Deserialize, Serialize};
use std::fmt;

use crate::core::units::ids::{InstanceType, Region, ZoneId};

/// How capacity is bought.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CapacityType {
    /// Prepaid capacity (ODCR or Capacity Block).
    Reserved,
    /// Interruptible with two minutes' notice.
    Spot,
    /// List price.
    OnDemand,
}

impl fmt::Display for CapacityType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            CapacityType::Reserved => "reserved",
            CapacityType::Spot => "spot",
            CapacityType::OnDemand => "on-demand",
        })
    }
}

/// One capacity pool: what EC2 can run out of, and what has one price.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Capacity {
    /// The region.
    pub region: Region,
    /// The zone id.
    pub zone: ZoneId,
    /// The instance type.
    pub instance_type: InstanceType,
    /// How it is bought.
    pub capacity_type: CapacityType,
}

impl fmt::Display for Capacity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} in {}", self.instance_type, self.capacity_type, self.zone)
    }
}
