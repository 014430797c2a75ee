//! The plan on a toy world: what a pass decides, carried out at once, pass after pass.

mod adoption;
mod attacks;
mod breaker;
mod by_hand;
mod choice;
mod classes;
mod clocks;
mod company;
mod deadlines;
mod facts;
mod fallback;
mod faults;
mod harm;
mod identity;
mod lifting;
mod limits;
mod loops;
mod maintenance;
mod refusals;
mod rehearsing;
mod rescuing;
mod returning;
mod serving;
mod taints;
mod tied;
#[path = "../../../../tests/toy/mod.rs"]
pub(crate) mod toy;
mod warnings;
mod watching;

use self::toy::{Toy, deployment};
use crate::core::workload::PodPhase;
use crate::core::workload::need::WorkloadKind;

/// This number of machines, each with a running pod.
fn working(machines: usize) -> Toy {
    let mut toy = Toy::new();
    (0..machines).for_each(|_| drop(toy.add_pod(deployment(), WorkloadKind::Inference)));
    toy.run(150);
    assert_eq!(toy.running().len(), machines);
    assert!(toy.world.pods.values().all(|pod| pod.phase == PodPhase::Running));
    toy
}
