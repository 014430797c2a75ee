//! What must hold of a purchase after EC2 has taken a machine back: not in the same capacity while another zone sells the same machine.
//!
//! Decides: from the claims as they are stored and the memory as it was kept, so that an operator is held to what it wrote down itself.

use super::super::world::World;
use crate::core::fleet::{Claim, ClaimSpec, NoticeKind, Trigger};
use crate::core::invariant::Invariant;
use crate::core::market::{Capacity, CapacityType};
use crate::core::snapshot::memory::MarketMemory;
use crate::core::units::ids::ClaimName;
use crate::core::units::time::{Millis, Timestamp};

/// For so long after a notice its capacity is not bought.
const NOT_BOUGHT_FOR: Millis = Millis::from_mins(28);

/// INV-4: what replaces a machine that EC2 takes is not bought where it takes it, while the same is to be had in another zone of the region.
pub fn before_purchase(world: &mut World, name: &ClaimName, spec: &ClaimSpec, now: Timestamp) {
    if spec.trigger != Trigger::InterruptionNotice {
        return;
    }
    let taken = |c: &&Claim| c.status.interruption.as_ref().is_some_and(|mark| mark.kind == NoticeKind::Interruption);
    let lately = |c: &Claim| c.status.interruption.as_ref().is_some_and(|mark| now.since(mark.noticed_at) < NOT_BOUGHT_FOR);
    let all = world.kube.claims.values().map(|c| &c.object).filter(taken);
    let (some, all) = all.fold((false, true), |(_, all), c| (true, all && c.spec.capacity == spec.capacity && lately(c)));
    if some && all && sold_next_door(world, &spec.capacity, now) {
        let text = format!("{name} is bought in {}, where EC2 has just taken a machine back", spec.capacity);
        world.broke(Invariant::NeedsAndPoliciesHold, text);
    }
}

/// Another zone of the region sells the same machine on spot, for less than on-demand, and nothing that was kept speaks against it.
fn sold_next_door(world: &World, taken: &Capacity, now: Timestamp) -> bool {
    let kept = world.kube.market_memory.as_deref().map_or_else(|| Ok(MarketMemory::default()), |text| MarketMemory::from_text(text, now));
    let Ok(memory) = kept else { return false };
    let pool = |at: &Capacity| world.market.index_of(at);
    let price = |at: &Capacity| pool(at).map(|index| world.market.pools[index].price());
    let on_demand = price(&Capacity { capacity_type: CapacityType::OnDemand, ..taken.clone() });
    let same =
        |at: &Capacity| (&at.region, &at.instance_type, at.capacity_type) == (&taken.region, &taken.instance_type, CapacityType::Spot);
    let steady = |at: &Capacity| {
        let cheap = price(at).zip(on_demand).is_some_and(|(spot, on_demand)| spot.0 * 2 < on_demand.0);
        let is_up = pool(at).is_some_and(|index| world.ec2.used_of(at) < i64::from(world.market.size(index)));
        cheap && is_up && memory.of(at).is_none_or(|record| record.cool_down.is_none())
    };
    world.market.pools.iter().map(|p| &p.capacity).any(|at| same(at) && at.zone != taken.zone && steady(at))
}
