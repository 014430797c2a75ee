//! An offer as one node pool sees it, before any need is asked.
//!
//! Decides: nothing; `eligibility` lists offers, and judges them for a need.

use std::sync::Arc;

use crate::core::market::Offer;
use crate::core::market::catalog::MachineType;
use crate::core::record::Refusal;
use crate::core::units::money::MicroUsdPerHour;
use crate::core::units::{Mebibytes, Resources};

use super::node_labels::ClassLabels;

/// What pods can use of one machine of a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Usable {
    /// Allocatable less daemonsets; `gpus` in schedulable units.
    pub resources: Resources,
    /// Memory a pod can use of each unit.
    pub unit_memory: Mebibytes,
    /// The most units one pod may ask for: all when exclusive, one when shared (two slots may be the same GPU).
    pub most_units_per_pod: i64,
}

/// A pool as offered by the market and seen by one node pool, with everything that does not depend on the need.
#[derive(Debug, Clone)]
pub struct Listing<'a> {
    /// The offer.
    pub offer: &'a Offer,
    /// What it is; `None` when the catalog does not know the type.
    pub machine: Option<&'a MachineType>,
    /// What pods can use of it.
    pub usable: Usable,
    /// The first refusal for which the need does not matter.
    pub refusal: Option<Refusal>,
    /// The same for a rescue, which no budget holds up and which has limits of its own.
    pub rescue_refusal: Option<Refusal>,
    /// Its node pool sells on-demand to work that asks `spot-first`.
    pub fallback_on_demand: bool,
    /// Expected interruptions per million instance-hours, by the advisor and by what we saw.
    pub interruptions_per_million_hours: i64,
    /// EC2's spot placement score, 1 (unlikely to be given) to 10, where one is known.
    pub placement_score: Option<u8>,
    /// Price with expected interruptions.
    pub cost: MicroUsdPerHour,
    /// What pods see of the nodes of its class.
    pub class: Arc<ClassLabels>,
}

impl Listing<'_> {
    /// The first refusal for which the need does not matter.
    pub fn refusal(&self, rescue: bool) -> Option<Refusal> {
        if rescue { self.rescue_refusal } else { self.refusal }
    }
}
