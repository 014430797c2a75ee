//! `kubectl lowtide moves`: the work that is being moved, phase by phase, against the time that EC2 gives.
//!
//! Decides: how it is drawn. What it is, is read by [`crate::kube::shown::moves`].

use super::tree::Branch;
use super::{OutputArgs, PluginError, claims, now, pods};
use crate::core::units::time::Timestamp;
use crate::kube::connect;
use crate::kube::shown::moves::{Leaving, leaving};

/// Width of the bar of time, in characters.
const BAR: i64 = 24;

/// The requested picture.
pub async fn answer(output: OutputArgs) -> Result<String, PluginError> {
    let client = connect().await?;
    let ((claims, unreadable), pods) = (claims(&client).await?, pods(&client).await?);
    let leaving = leaving(&claims.iter().collect::<Vec<_>>(), &pods.iter().collect::<Vec<_>>());
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
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::{Value, json};

    use super::*;
    use crate::kube::api::GpuNodeClaim;
    use crate::kube::names;

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
        let found = leaving(&[&old, &new], &pods.each_ref());
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
        assert!(leaving(&[&claim("lt-a", "use1-az1", json!({"phase": "Ready"}))], &[]).is_empty());
        let over = time_left(Timestamp(0), Timestamp(60_000), Timestamp(63_000));
        assert_eq!(over, "[########################] EC2's time was over 3.0s ago");
    }
}
