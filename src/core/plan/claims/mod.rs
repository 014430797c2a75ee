//! Machines: from the launch to the end, and those that nobody claims.
//!
//! - [`admitted`]: whether EC2 may be asked for what a claim says.
//! - [`adoption`]: which machines of a lost cluster may be taken over.
//! - [`breaker`]: how many machines may end without anybody's asking.
//! - [`ending`]: empty, left, lost, terminated, closed.
//! - [`health`]: nodes that had joined, until they end; guests leave before that.
//! - [`launching`]: asked for, adopted, refused.
//! - [`lifecycle`]: which of these a claim is in for.
//! - [`observed`]: which instance is the claim's, and whether it lives.
//! - [`queue`]: those that wait to be launched.
//! - [`resting`]: those of which there is nothing to say.
//! - [`steps`]: how a change of a claim is written.
//! - [`sweeping`]: machines that no claim stands for, and machines of others.

pub(super) mod admitted;
pub mod adoption;
pub(super) mod breaker;
pub(super) mod ending;
pub(super) mod health;
pub(super) mod launching;
pub(super) mod lifecycle;
pub(super) mod observed;
pub(super) mod queue;
pub(super) mod resting;
pub(super) mod steps;
pub(super) mod sweeping;
