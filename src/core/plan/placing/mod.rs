//! Pods that need a place: what is asked of a placement, and what its answer makes happen.
//!
//! - [`apart`]: rules between pods.
//! - [`asking`]: what a placement is asked: demands, policies, room.
//! - [`beyond`]: needs that no machine type meets.
//! - [`bindings`]: what is decided about pods when they are bound, as their claim keeps it.
//! - [`budget`]: what a pool has spent and is bound to spend.
//! - [`buying`]: gated pods onto room we have or machines we buy; refusals with reasons.
//! - [`deadline`]: whether a pod with a deadline takes spot, waits, or takes on-demand.
//! - [`judging`]: what decisions of equal pods share.
//! - [`replacing`]: which pod a waiting pod replaces.
//! - `looking`: what `deadline`, `serving` and `spreading` share when they look at the market for one pod.
//! - `refusing`: what is said and recorded when no offer will do.
//! - [`reserved`]: offers of capacity reservations, and when work leaves one that ends.
//! - [`room`]: what is free on a machine, and for whom it is kept.
//! - [`serving`]: which pool the next replica of a service with spares goes to.
//! - [`spreading`]: which pools the replicas of any other service go to.
//! - [`tied`]: pods that must share a machine or a volume are placed one after the other.

pub mod apart;
pub(super) mod asking;
mod beyond;
pub(super) mod bindings;
pub mod budget;
pub(super) mod buying;
pub(super) mod deadline;
pub(super) mod judging;
mod looking;
mod refusing;
pub(super) mod replacing;
pub mod reserved;
pub(super) mod room;
pub(super) mod serving;
pub mod spreading;
mod tied;
