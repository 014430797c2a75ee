//! The machines: policies and classes they are made by, claims, nodes, instances, and what EC2 announces of them.

mod claim;
mod instance;
mod launch;
mod node;
mod node_class;
mod node_pool;
mod notice;
mod trigger;

pub use claim::{
    Claim, ClaimSpec, ClaimStatus, Ended, EndedBy, InterruptionMark, LaunchFailure, MoveMark, Occupant, TOKEN_ENDED, Unhealthy,
};
pub use instance::{Instance, InstanceState, tags};
pub use launch::{Launch, LaunchTemplate};
pub use node::{Node, NodeState, OtherPod};
pub use node_class::{ClassStatus, NodeClass};
pub use node_pool::{MonthBooks, NodePool, PoolStatus};
pub use notice::{Notice, NoticeKind};
pub use trigger::Trigger;
