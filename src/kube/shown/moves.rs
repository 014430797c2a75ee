//! The work that is being moved, phase by phase, against the time that EC2 gives.
//!
//! Decides: which phase a move is in, from what is written down of the old machine, the replacement and its machine.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;
use serde::Serialize;

use super::{annotation, offer};
use crate::core::record::code_of;
use crate::core::units::time::{Millis, Timestamp};
use crate::core::workload::Replaces;
use crate::kube::api::GpuNodeClaim;
use crate::kube::names;

/// A machine that is being left.
#[derive(Debug, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Leaving {
    /// Its claim.
    pub claim: String,
    /// Type, capacity type and zone.
    pub offer: String,
    /// Why, as the ledger writes it.
    pub because: String,
    /// When that was decided.
    pub decided_at: Timestamp,
    /// When EC2 takes the machine.
    pub deadline: Option<Timestamp>,
    /// The work on it.
    pub moves: Vec<Move>,
}

/// One pod on its way.
#[derive(Debug, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Move {
    /// The pod that leaves.
    pub pod: String,
    /// Its replacement, once there is one.
    pub replacement: Option<String>,
    /// Where it goes.
    pub to: Option<String>,
    /// How far it is.
    pub phases: Vec<Phase>,
}

/// A step of a move.
#[derive(Debug, Serialize, PartialEq, Eq)]
pub struct Phase {
    /// What is reached.
    pub name: &'static str,
    /// Since the decision; `None` while it is awaited.
    pub after: Option<Millis>,
}

/// Machines that are being left, the first to be taken first, with the work on them.
pub fn leaving(claims: &[&GpuNodeClaim], pods: &[&Pod]) -> Vec<Leaving> {
    let by_name: BTreeMap<&str, &GpuNodeClaim> = claims.iter().filter_map(|c| Some((c.metadata.name.as_deref()?, *c))).collect();
    let replacing: Vec<(Replaces, &Pod)> = pods.iter().filter_map(|pod| Some((replaces(pod)?, *pod))).collect();
    let mut found: Vec<Leaving> = by_name.iter().filter_map(|(name, claim)| left(name, claim, &by_name, pods, &replacing)).collect();
    // The first to be taken first.
    found.sort_by_key(|machine| (machine.deadline.is_none(), machine.deadline, machine.decided_at));
    found
}

fn replaces(pod: &Pod) -> Option<Replaces> {
    serde_json::from_str(annotation(pod, names::REPLACES)?).ok()
}

fn left(
    name: &str,
    claim: &GpuNodeClaim,
    claims: &BTreeMap<&str, &GpuNodeClaim>,
    pods: &[&Pod],
    replacing: &[(Replaces, &Pod)],
) -> Option<Leaving> {
    let status = claim.status.as_ref()?;
    let mark = status.move_.as_ref()?;
    let uid = |pod: &Pod| pod.metadata.uid.clone().unwrap_or_default();
    // Those that are still there, and those that are gone and whose replacement is not Ready.
    let mut old: BTreeMap<String, String> =
        pods.iter().filter(|pod| annotation(pod, names::CLAIM) == Some(name)).map(|pod| (uid(pod), full_name(pod))).collect();
    old.extend(
        replacing.iter().filter(|(r, _)| r.from_claim.as_str() == name).map(|(r, _)| (r.pod.uid.to_string(), r.pod.object.to_string())),
    );
    let moves = old.into_iter().map(|(uid, pod)| {
        let new = replacing.iter().find(|(r, _)| r.pod.uid.as_str() == uid).map(|(_, new)| *new);
        let to = new.and_then(|new| annotation(new, names::CLAIM)).and_then(|to| claims.get(to)).copied();
        Move { pod, replacement: new.map(full_name), to: to.map(offer), phases: phases(mark.decided_at.0, new, to) }
    });
    Some(Leaving {
        claim: name.to_owned(),
        offer: offer(claim),
        because: code_of(&mark.reason),
        decided_at: mark.decided_at.0,
        deadline: status.interruption.as_ref().and_then(|i| i.deadline).map(|at| at.0),
        moves: moves.collect(),
    })
}

fn full_name(pod: &Pod) -> String {
    format!("{}/{}", pod.metadata.namespace.as_deref().unwrap_or_default(), pod.metadata.name.as_deref().unwrap_or_default())
}

/// A machine that ran before the decision costs no time.
fn phases(decided: Timestamp, new: Option<&Pod>, to: Option<&GpuNodeClaim>) -> Vec<Phase> {
    let after = |at: Option<Timestamp>| at.map(|at| Millis(at.since(decided).0.max(0)));
    let made = new.and_then(|pod| pod.metadata.creation_timestamp.as_ref()).map(|at| Timestamp(at.0.as_millisecond()));
    let status = to.and_then(|claim| claim.status.as_ref());
    let ready = new.and_then(|pod| {
        let conditions = pod.status.as_ref()?.conditions.as_ref()?;
        let ready = conditions.iter().find(|c| c.type_ == "Ready" && c.status == "True")?;
        Some(Timestamp(ready.last_transition_time.as_ref()?.0.as_millisecond()))
    });
    vec![
        Phase { name: "replacement made", after: after(made) },
        Phase { name: "machine launched", after: after(status.and_then(|s| s.launched_at).map(|at| at.0)) },
        Phase { name: "node Ready", after: after(status.and_then(|s| s.node_ready_at).map(|at| at.0)) },
        Phase { name: "replacement Ready", after: after(ready) },
    ]
}
