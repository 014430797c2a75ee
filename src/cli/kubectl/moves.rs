//! `kubectl lowtide moves`: the work that is being moved, phase by phase, against the time that EC2 gives.
//!
//! Decides: which phase a move is in, from what is written down of the old machine, the replacement and its machine.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;
use serde::Serialize;

use super::tree::Branch;
use super::{OutputArgs, PluginError, annotation, claims, now, pods};
use crate::core::record::code_of;
use crate::core::units::time::{Millis, Timestamp};
use crate::core::workload::Replaces;
use crate::kube::api::GpuNodeClaim;
use crate::kube::{connect, names};

/// Width of the bar of time, in characters.
const BAR: i64 = 24;

/// A machine that is being left.
#[derive(Debug, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
struct Leaving {
    claim: String,
    offer: String,
    because: String,
    decided_at: Timestamp,
    /// When EC2 takes the machine.
    deadline: Option<Timestamp>,
    moves: Vec<Move>,
}

/// One pod on its way.
#[derive(Debug, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
struct Move {
    /// The pod that leaves.
    pod: String,
    /// Its replacement, once there is one.
    replacement: Option<String>,
    /// Where it goes.
    to: Option<String>,
    phases: Vec<Phase>,
}

#[derive(Debug, Serialize, PartialEq, Eq)]
struct Phase {
    name: &'static str,
    /// Since the decision; `None` while it is awaited.
    after: Option<Millis>,
}

/// The requested picture.
pub async fn answer(output: OutputArgs) -> Result<String, PluginError> {
    let client = connect().await?;
    let ((claims, unreadable), pods) = (claims(&client).await?, pods(&client).await?);
    let leaving = leaving(&claims, &pods);
    if output.json {
        return Ok(serde_json::to_string_pretty(&leaving)?);
    }
    let mut text: Vec<String> = leaving.iter().map(|machine| tree(machine, now()).draw()).collect();
    if leaving.is_empty() {
        text.push("nothing is being moved".to_owned());
    }
    if unreadable > 0 {
        text.push(format!("{unreadable} claims of another version cannot be read and are left out"));
    }
    Ok(text.join("\n\n"))
}

fn leaving(claims: &[GpuNodeClaim], pods: &[Pod]) -> Vec<Leaving> {
    let by_name: BTreeMap<&str, &GpuNodeClaim> = claims.iter().filter_map(|c| Some((c.metadata.name.as_deref()?, c))).collect();
    let replacing: Vec<(Replaces, &Pod)> = pods.iter().filter_map(|pod| Some((replaces(pod)?, pod))).collect();
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
    pods: &[Pod],
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

fn offer(claim: &GpuNodeClaim) -> String {
    format!("{} {} in {}", claim.spec.instance_type, code_of(&claim.spec.capacity_type), claim.spec.zone)
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

fn tree(machine: &Leaving, now: Timestamp) -> Branch {
    let moves = machine.moves.iter().map(|moved| {
        let to = moved.to.as_ref().map_or_else(|| "no place yet".to_owned(), Clone::clone);
        let replacement = moved.replacement.as_ref().map_or_else(|| "no replacement yet".to_owned(), Clone::clone);
        let phases = moved.phases.iter().map(|phase| {
            let after = phase.after.map_or_else(|| "awaited".to_owned(), |after| format!("after {after}"));
            Branch::of(format!("{:<18} {after}", phase.name))
        });
        Branch::of(format!("{} -> {replacement}, {to}", moved.pod)).with(phases)
    });
    let time = machine.deadline.map(|deadline| Branch::of(time_left(machine.decided_at, deadline, now)));
    Branch::of(format!("{} ({}) is being left: {}", machine.claim, machine.offer, machine.because)).with(time).with(moves)
}

/// A bar from the decision to the deadline, filled up to now.
fn time_left(from: Timestamp, deadline: Timestamp, now: Timestamp) -> String {
    let left = deadline.since(now);
    if left.0 <= 0 {
        return format!("[{}] EC2's time was over {} ago", "#".repeat(BAR as usize), now.since(deadline));
    }
    let whole = deadline.since(from).0.max(1);
    let used = (now.since(from).0.clamp(0, whole) * BAR / whole) as usize;
    format!("[{}{}] {left} until EC2 takes it", "#".repeat(used), ".".repeat(BAR as usize - used))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const NOW: Timestamp = Timestamp(1_780_000_060_000);

    fn at(second: i64) -> Value {
        json!(Timestamp(1_780_000_000_000 + second * 1_000))
    }

    fn claim(name: &str, zone: &str, status: Value) -> GpuNodeClaim {
        serde_json::from_value(json!({
            "apiVersion": "lowtide.dev/v1", "kind": "GpuNodeClaim", "metadata": {"name": name},
            "spec": {
                "nodePool": "p", "nodeClass": "c", "region": "us-east-1", "zone": zone, "instanceType": "g6.xlarge", "capacityType": "spot",
                "pricePerHour": "0.25", "gpus": 1, "decisionId": "00000000-0000-0000-0000-000000000001", "reason": "pending-pod", "attempt": 1,
                "launch": {"launchTemplate": "t", "launchTemplateVersion": "1", "subnet": "s"}
            },
            "status": status
        }))
        .unwrap()
    }

    fn pod(name: &str, uid: &str, annotations: Value, made: &str) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": name, "namespace": "ml", "uid": uid, "annotations": annotations, "creationTimestamp": made}
        }))
        .unwrap()
    }

    #[test]
    fn a_move_shows_what_is_reached_and_what_is_awaited() {
        let moment = |second: i64| Timestamp(1_780_000_000_000 + second * 1_000).to_string();
        let old = claim(
            "lt-old",
            "use1-az1",
            json!({
                "phase": "Draining",
                "move": {"reason": "interruption-notice", "decisionId": "d", "decidedAt": moment(0)},
                "interruption": {"kind": "interruption", "noticedAt": moment(0), "deadline": moment(120), "source": "sqs"}
            }),
        );
        let new = claim("lt-new", "use1-az2", json!({"phase": "Launched", "launchedAt": moment(1)}));
        let replaces = json!({
            "namespace": "ml", "name": "chat-1", "uid": "u1", "from_claim": "lt-old", "decision": "00000000-0000-0000-0000-000000000002",
            "noticed_at": at(0), "decided_at": at(0), "deadline": at(120)
        });
        let pods = [
            pod("chat-1", "u1", json!({names::CLAIM: "lt-old"}), &moment(-600)),
            pod("chat-2", "u2", json!({names::CLAIM: "lt-new", names::REPLACES: replaces.to_string()}), &moment(2)),
        ];
        let found = leaving(&[old, new], &pods);
        let text = found.iter().map(|machine| tree(machine, NOW).draw()).collect::<String>();
        assert_eq!(
            text,
            "lt-old (g6.xlarge spot in use1-az1) is being left: interruption-notice\n\
             ├─ [############............] 1m00s until EC2 takes it\n\
             └─ ml/chat-1 -> ml/chat-2, g6.xlarge spot in use1-az2\n   \
                ├─ replacement made   after 2.0s\n   \
                ├─ machine launched   after 1.0s\n   \
                ├─ node Ready         awaited\n   \
                └─ replacement Ready  awaited"
        );
    }

    #[test]
    fn a_machine_that_nobody_leaves_is_not_shown_and_time_that_is_over_is_said() {
        assert!(leaving(&[claim("lt-a", "use1-az1", json!({"phase": "Ready"}))], &[]).is_empty());
        let over = time_left(Timestamp(0), Timestamp(60_000), Timestamp(63_000));
        assert_eq!(over, "[########################] EC2's time was over 3.0s ago");
    }
}
