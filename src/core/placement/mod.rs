//! Placement: which offers to buy for which pods, for all of them together, and why every other offer was refused.
//!
//! Decides: eligibility (one reason per offer), the packing and the purchase, the lower bound, and the counterfactuals.
//! Does not: fetch prices, create anything, or choose what moves (see `migration`).
//!
//! Everything is integer arithmetic over ordered collections: the same request gives the same bytes.
//!
//! - [`request`]: the input; [`outcome`]: the output.
//! - [`eligibility`]: the first refusal of an offer for a need, and how many such pods one machine holds.
//! - [`node_labels`]: which labels an offer's node will have.
//! - [`pool_policy`]: what a node pool allows to be bought, for every caller.
//! - [`taken_back`]: capacity that EC2 has just taken back is closed while something comparable is sold.
//! - [`score`]: the order of offers for one need.
//! - [`judge`]: all offers evaluated for one need.
//! - [`mod@place`]: the purchase for all demands, via [`groups`], [`reduce`] and [`packing`].
//! - [`counterfactual`]: what it would have cost otherwise.
//! - [`mod@alike`]: what replicas of one need cost by themselves.

pub mod alike;
pub mod counterfactual;
pub mod eligibility;
pub mod groups;
pub mod judge;
pub mod listing;
pub mod node_labels;
pub mod outcome;
pub mod packing;
pub mod place;
pub mod pool_policy;
pub mod reduce;
pub mod request;
mod room;
pub mod score;
mod sharing_out;
pub mod taken_back;

pub use alike::{Alike, alike};
pub use counterfactual::counterfactuals;
pub use judge::{Ranked, judge, judge_chosen, judge_demand, rank};
pub use outcome::{Assignment, Placement, PlannedMachine, Target, Unplaced};
pub use place::place;
pub use pool_policy::Held;
pub use request::{
    Apart, Area, AreaSpread, Demand, Gang, Learnt, NodeTerms, OnSale, OwnerRule, PlacementRequest, PlacementSettings, PoolLimits,
    PoolPolicy, Room, RoomNode, Wishes,
};
pub use score::Score;
