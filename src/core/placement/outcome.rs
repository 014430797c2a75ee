//! The result of a placement: where each pod goes, what is bought for it, and what could not be placed.
//!
//! Decides: nothing; these are the outputs and their units.

use std::sync::Arc;

use crate::core::market::Capacity;
use crate::core::record::Judgement;
use crate::core::units::ids::{ClaimName, PoolName};
use crate::core::units::money::MicroUsdPerHour;
use crate::core::units::shared::Shared;

/// Where a pod goes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// Room on a machine of ours.
    ExistingRoom(ClaimName),
    /// A machine to buy: index into [`Placement::machines`].
    NewMachine(usize),
}

/// One pod and where it goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    /// Index into the request's demands.
    pub demand: usize,
    /// The demand's key.
    pub key: Arc<str>,
    /// Where it goes.
    pub target: Target,
}

/// A machine to buy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedMachine {
    /// What to buy.
    pub capacity: Capacity,
    /// Its price.
    pub price_per_hour: MicroUsdPerHour,
    /// Its price with expected interruption cost and the egress of its pods.
    pub cost_per_hour: MicroUsdPerHour,
    /// The node pool that pays.
    pub node_pool: PoolName,
    /// The pods on it: indices into the request's demands, ascending by key.
    pub demands: Vec<usize>,
}

/// A pod that could not be placed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unplaced {
    /// Index into the request's demands.
    pub demand: usize,
    /// The demand's key.
    pub key: Arc<str>,
    /// Every offer with its reason, for the first of the pod's pools that has the closest offer.
    pub judgement: Shared<Judgement>,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Placement {
    /// Placed pods, ascending by key.
    pub assignments: Vec<Assignment>,
    /// Machines to buy.
    pub machines: Vec<PlannedMachine>,
    /// Unplaced pods, ascending by key.
    pub unplaced: Vec<Unplaced>,
    /// What all machines cost at their prices.
    pub price_per_hour: MicroUsdPerHour,
    /// What all machines cost with expected interruptions and egress: what was minimised.
    pub cost_per_hour: MicroUsdPerHour,
    /// No purchase that places the same pods has lower prices in total. Zero, like the next field, unless
    /// [`super::request::PlacementSettings::proves_bounds`].
    pub lower_bound_per_hour: MicroUsdPerHour,
    /// No purchase that places the same pods costs less with expected interruptions and egress.
    pub cost_lower_bound_per_hour: MicroUsdPerHour,
}
