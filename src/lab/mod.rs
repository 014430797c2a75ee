//! The lab: real wherever it can be, simulated where it must be. Never in the image.
//!
//! Real: etcd, kube-apiserver, kube-controller-manager, kube-scheduler, Helm, Postgres, the operator's process and its RBAC.
//! Simulated: EC2 and SQS (`ec2`), what happens inside machines (`joiner` and kwok with `stages/`), what runs inside pods (`batch_program`);
//! with `nodes` machines and pods are real.
//! Decides: nothing about lowtide; it only plays what lowtide reacts to, and says of each delay whether it is measured or modelled.

pub mod ec2;
pub mod postgres;
pub mod progress;
pub mod tied;

#[cfg(feature = "live")]
pub mod alertmanager;
#[cfg(feature = "live")]
pub mod batch_program;
#[cfg(feature = "live")]
pub mod console;
#[cfg(feature = "live")]
pub mod control_plane;
#[cfg(feature = "live")]
pub mod demo;
#[cfg(feature = "live")]
pub mod endpoint_watch;
#[cfg(feature = "live")]
pub mod error;
#[cfg(feature = "live")]
pub mod helm;
#[cfg(feature = "live")]
pub mod joiner;
#[cfg(feature = "live")]
pub mod kubeconfig;
#[cfg(feature = "live")]
pub mod look_around;
#[cfg(feature = "live")]
pub mod machine;
#[cfg(feature = "ledger")]
pub mod memory_outbox;
#[cfg(feature = "live")]
pub mod nodes;
#[cfg(feature = "live")]
pub mod process;
#[cfg(feature = "live")]
pub mod prometheus;
#[cfg(feature = "live")]
pub mod scale;
#[cfg(feature = "live")]
pub mod sim_client;
#[cfg(feature = "live")]
pub mod start;
#[cfg(feature = "live")]
pub mod tools;
#[cfg(feature = "live")]
pub mod user_data;
#[cfg(feature = "live")]
pub mod workdir;

/// The wall clock: the lab lives in real time.
#[cfg(feature = "live")]
pub fn wall_clock() -> crate::core::units::time::Timestamp {
    use crate::ports::Clock as _;
    crate::engine::wall_clock::WallClock.now()
}
