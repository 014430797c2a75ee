//! What the machines cost now, pool by pool, and what on-demand machines of the same types would.
//!
//! Decides: which machines cost money. What was really paid, by team and month, is in the ledger.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::core::market::CapacityType;
use crate::core::units::money::MicroUsdPerHour;
use crate::kube::api::GpuNodeClaim;

/// What the machines of one node pool cost now.
#[derive(Debug, Default, Clone, Copy, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Rate {
    /// Machines.
    pub machines: u32,
    /// Those that are spot.
    pub spot_machines: u32,
    /// Their GPUs.
    pub gpus: i64,
    /// What they cost.
    pub price_per_hour: MicroUsdPerHour,
    /// Of those whose on-demand price is known; the others count with what they cost.
    pub on_demand_per_hour: MicroUsdPerHour,
    /// Machines without a known on-demand price.
    pub without_on_demand_price: u32,
}

impl Rate {
    fn add(&mut self, claim: &GpuNodeClaim) {
        let spec = &claim.spec;
        self.machines += 1;
        self.spot_machines += u32::from(spec.capacity_type == CapacityType::Spot);
        self.gpus += spec.gpus;
        self.price_per_hour.0 += spec.price_per_hour.0;
        self.on_demand_per_hour.0 += spec.on_demand_per_hour.unwrap_or(spec.price_per_hour).0;
        self.without_on_demand_price += u32::from(spec.on_demand_per_hour.is_none());
    }

    /// Both together.
    #[must_use]
    pub fn and(mut self, other: &Rate) -> Rate {
        self.machines += other.machines;
        self.spot_machines += other.spot_machines;
        self.gpus += other.gpus;
        self.price_per_hour.0 += other.price_per_hour.0;
        self.on_demand_per_hour.0 += other.on_demand_per_hour.0;
        self.without_on_demand_price += other.without_on_demand_price;
        self
    }
}

/// Machines that cost money: launched, and not ended.
pub fn runs(claim: &GpuNodeClaim) -> bool {
    claim.status.as_ref().is_some_and(|s| s.launched_at.is_some() && s.ended.is_none())
}

/// What those that cost money cost now, by pool.
pub fn rates<'a>(claims: impl IntoIterator<Item = &'a GpuNodeClaim>) -> BTreeMap<String, Rate> {
    let mut found: BTreeMap<String, Rate> = BTreeMap::new();
    for claim in claims.into_iter().filter(|claim| runs(claim)) {
        found.entry(claim.spec.node_pool.clone()).or_default().add(claim);
    }
    found
}
