//! The machines: their policies and classes, claims, nodes, instances, and what EC2 announces about them.

mod binding;
mod claim;
mod identity;
pub mod image;
mod instance;
mod launch;
mod node;
mod node_class;
mod node_pool;
mod notice;
mod ownership;
mod remembered_bindings;
mod scheduled_event;
mod tag_list;
mod trigger;

pub use binding::Binding;
pub use claim::{
    Claim, ClaimSpec, ClaimStatus, Ended, EndedBy, FrozenLaunch, InterruptionMark, LaunchFailure, MoveMark, Occupant, TOKEN_ENDED,
    Unhealthy,
};
pub use identity::{Doubt, doubts};
pub use image::{ClassImages, FoundImage, ImageBy, ImageSource};
pub use instance::{Instance, InstanceState, tags};
pub use launch::{Launch, LaunchTemplate, MachineSettings, Volume};
pub use node::{Node, NodeState, OtherPod};
pub use node_class::{ClassProblem, ClassStatus, NodeClass};
pub use node_pool::{
    Disruption, DisruptionBudget, DisruptionReason, DisruptionSpec, MonthBooks, NodePool, NodePoolSpec, Nodes, PoolStatus, PoolsDefined,
    UnreadableSelector, Window,
};
pub use notice::{Notice, NoticeKind, TAKEN_FOR, TAKEN_FOR_AT_MOST, WARNED_FOR, Warning};
pub use ownership::{ClaimsNow, Ownership, UnreadableClaim, ownership, unclaimed_since};
pub use remembered_bindings::{Bindings, Bound};
pub use scheduled_event::{ScheduledEvent, ScheduledKind, ScheduledMark};
pub use tag_list::{Labelled, TagList};
pub use trigger::Trigger;
