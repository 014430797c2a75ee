//! Needs that no machine type meets, whatever is on offer.
//!
//! Decides: whether some type has all that a pod, and those that must share its machine, need together: every single amount may well be there.
//! Does not: look at prices, regions or limits (see [`crate::core::placement`]).

use std::collections::BTreeSet;

use super::super::pass::Pass;
use super::{asking, tied};
use crate::core::market::catalog::MachineType;
use crate::core::placement::NodeTerms;
use crate::core::placement::eligibility::{replicas_that_fit, usable};
use crate::core::units::shared::Shared;
use crate::core::workload::Pod;
use crate::core::workload::need::Need;

/// The sum in a sentence, if no type has all of it as a node of any class.
pub(in crate::core::plan) fn every_machine(pass: &Pass, pod: &Pod, need: &Shared<Need>) -> Option<String> {
    let (terms, mut together) = (asking::terms(pass), need.clone());
    tied::make_room_for_followers(&terms.followers, pod, &mut together);
    let plain = NodeTerms::default();
    let classes: BTreeSet<&NodeTerms> = terms.pools.iter().flat_map(|pool| pool.nodes.values()).chain([&plain]).collect();
    let holds = |machine: &MachineType| classes.iter().any(|terms| replicas_that_fit(&together, &usable(machine, terms)) > 0);
    if pass.world.catalog.types.values().any(holds) {
        return None;
    }
    let company = if *together == **need { "it needs" } else { "it and the pods that must share its machine need" };
    let gib = |mib: i64| (mib + 1_023) / 1_024;
    let mut parts = vec![
        format!("{} GPUs of {} GiB each", together.gpus, gib(together.gpu_memory.0)),
        format!("{} CPU", (together.cpu.0 + 999) / 1_000),
        format!("{} GiB of memory", gib(together.memory.0)),
    ];
    let more = [(gib(together.disk.0), "GiB of disk"), (together.volumes, "volumes")];
    parts.extend(more.into_iter().filter(|(amount, _)| *amount > 0).map(|(amount, what)| format!("{amount} {what}")));
    Some(format!("no machine type has all that {company}: {}", parts.join(", ")))
}
