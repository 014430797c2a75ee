//! Capacity that EC2 has just taken machines back from.
//!
//! Decides: that it is closed while something comparable is sold, and what is comparable.
//! Does not: say for how long ([`crate::core::fleet::TAKEN_FOR`]) or of which capacity (memory and claims know).

use std::collections::BTreeSet;

use super::listing::Listing;
use crate::core::market::{Capacity, CapacityType};
use crate::core::record::Refusal;
use crate::core::units::money::MicroUsdPerHour;

/// Closes the offers of `taken` for which another spot offer would do: as many GPUs with as much memory, in a machine that costs less than
/// the taken one does on on-demand. With nothing else to be had, the chance that some is left, or comes back, is worth a request.
pub fn close(listings: &mut [Listing], taken: &BTreeSet<&Capacity>) {
    if taken.is_empty() {
        return;
    }
    let at: Vec<usize> = (0..listings.len()).filter(|at| taken.contains(&listings[*at].offer.capacity)).collect();
    for at in at {
        let listing = &listings[at];
        let ceiling = on_demand(listings, listing);
        let also = |rescue: bool| {
            let comparable = |other: &Listing| is_comparable(other, listing, ceiling, rescue) && !taken.contains(&other.offer.capacity);
            listings.iter().any(comparable)
        };
        let (closed, closed_to_rescues) = (also(false), also(true));
        let with = |own: Option<Refusal>, closed: bool| {
            if closed { Some(own.map_or(Refusal::CoolingDown, |own| own.min(Refusal::CoolingDown))) } else { own }
        };
        let listing = &mut listings[at];
        listing.refusal = with(listing.refusal, closed);
        listing.rescue_refusal = with(listing.rescue_refusal, closed_to_rescues);
    }
}

/// What the same machine costs where nobody takes it back.
fn on_demand(listings: &[Listing], of: &Listing) -> Option<MicroUsdPerHour> {
    let wanted = Capacity { capacity_type: CapacityType::OnDemand, ..of.offer.capacity.clone() };
    listings.iter().find(|listing| listing.offer.capacity == wanted).map(|listing| listing.offer.price_per_hour)
}

fn is_comparable(other: &Listing, taken: &Listing, ceiling: Option<MicroUsdPerHour>, rescue: bool) -> bool {
    other.offer.capacity.capacity_type == CapacityType::Spot
        && other.refusal(rescue).is_none()
        && other.usable.resources.gpus >= taken.usable.resources.gpus
        && other.usable.unit_memory >= taken.usable.unit_memory
        && ceiling.is_none_or(|ceiling| other.offer.price_per_hour < ceiling)
}
