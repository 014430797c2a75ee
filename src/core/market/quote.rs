//! One price from a price source, before it is known where the type is sold.

use super::capacity::CapacityType;
use super::offer::PriceSource;
use crate::core::units::ids::{InstanceType, Region, ZoneId};
use crate::core::units::money::MicroUsdPerHour;
use crate::core::units::time::Timestamp;

/// One price from a price source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quote {
    /// The region.
    pub region: Region,
    /// The zone id; `None` if the price applies to the whole region (on-demand).
    pub zone: Option<ZoneId>,
    /// The type.
    pub instance_type: InstanceType,
    /// Spot or on-demand.
    pub capacity_type: CapacityType,
    /// The price of the machine.
    pub price_per_hour: MicroUsdPerHour,
    /// Since when it applies, according to EC2.
    pub effective_from: Timestamp,
    /// The source.
    pub source: PriceSource,
}
