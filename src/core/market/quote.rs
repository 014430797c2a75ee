//! One price as a price source gave it, before it is known where the type is sold.

use super::capacity::CapacityType;
use super::offer::PriceSource;
use crate::core::units::ids::{InstanceType, Region, ZoneId};
use crate::core::units::money::MicroUsdPerHour;
use crate::core::units::time::Timestamp;

/// One price as a price source gave it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quote {
    /// The region.
    pub region: Region,
    /// The zone id; `None` when the price holds in the whole region (on-demand).
    pub zone: Option<ZoneId>,
    /// The type.
    pub instance_type: InstanceType,
    /// Spot or on-demand.
    pub capacity_type: CapacityType,
    /// The price of the machine.
    pub price_per_hour: MicroUsdPerHour,
    /// Since when EC2 says it holds.
    pub effective_from: Timestamp,
    /// Who said so.
    pub source: PriceSource,
}
