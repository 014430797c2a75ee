//! What would have been paid otherwise, frozen when decided.
//!
//! Decides: which on-demand or spot offer each of B0, B1 and B2 is.
//! Does not: do the accounting (see the ledger).

use crate::core::market::catalog::Catalog;
use crate::core::market::{Capacity, CapacityType, Market};
use crate::core::record::{CounterfactualRate, Counterfactuals};
use crate::core::units::ids::Region;
use crate::core::workload::need::Need;

use super::eligibility::replicas_that_fit;
use super::request::NodeTerms;

/// B0, B1 and B2 for `need`, for which `chosen` was bought. The owner's caps, models and regions do not apply to what might have been
/// bought at home: B1 and B2 are what the same GPUs, memory and architecture cost there, with one pod per GPU.
///
/// A price that is not known leaves its field `None`.
pub fn counterfactuals(catalog: &Catalog, market: &Market, need: &Need, chosen: &Capacity, home_region: &Region) -> Counterfactuals {
    let rate = |pool: &Capacity| {
        let machine = catalog.types.get(&pool.instance_type)?;
        if need.architecture.is_some_and(|a| a != machine.architecture) {
            return None;
        }
        let usable = super::eligibility::usable(machine, &NodeTerms::default());
        let replicas = replicas_that_fit(need, &usable);
        (replicas > 0).then_some(replicas)
    };
    let model_wanted = |pool: &Capacity| {
        need.gpu_models.is_empty() || catalog.types.get(&pool.instance_type).is_some_and(|m| need.gpu_models.contains(&m.gpu_model))
    };
    let cheapest = |region: &Region, capacity: CapacityType, wanted: &dyn Fn(&Capacity) -> bool| {
        let offers =
            market.offers.values().filter(|o| o.capacity.region == *region && o.capacity.capacity_type == capacity && wanted(&o.capacity));
        let rated = offers.filter_map(|o| rate(&o.capacity).map(|replicas| (o, replicas)));
        let best = rated.min_by(|(a, ra), (b, rb)| {
            let left = i128::from(a.price_per_hour.0) * i128::from(*rb);
            let right = i128::from(b.price_per_hour.0) * i128::from(*ra);
            left.cmp(&right).then_with(|| a.capacity.cmp(&b.capacity))
        });
        best.map(|(o, replicas)| CounterfactualRate { capacity: o.capacity.clone(), price_per_hour: o.price_per_hour, replicas })
    };
    let same_type = |pool: &Capacity| pool.instance_type == chosen.instance_type;
    Counterfactuals {
        b0_on_demand_same: cheapest(&chosen.region, CapacityType::OnDemand, &same_type),
        b1_on_demand_home: cheapest(home_region, CapacityType::OnDemand, &model_wanted),
        b2_spot_home: cheapest(home_region, CapacityType::Spot, &model_wanted),
    }
}
