//! Pods of others on machines of ours: they leave with their grace before the machine ends.
//!
//! Decides: when a guest is evicted, and how long the end of a machine waits for that.
//! Does not: keep guests off (taints of the node class do), or count what they take (`room`).

use super::super::pass::Pass;
use crate::core::action::{Action, ClusterAction, RemovalReason};
use crate::core::fleet::{Claim, OtherPod};
use crate::core::snapshot::Lane;
use crate::core::units::time::{Millis, Timestamp};

/// The end of a machine waits no longer than this for guests beyond the grace of the slowest: a budget of theirs may refuse for ever.
const PATIENCE: Millis = Millis::from_mins(2);

/// Evicts what others run on the claim's node. True while somebody is there whom the end of the machine waits for, counted from `since`.
pub(in crate::core::plan) fn leave(pass: &mut Pass, claim: &Claim, since: Timestamp) -> bool {
    let Some(node) = pass.index.node_on(claim.status.instance.as_ref()) else { return false };
    if node.state.others.is_empty() || !node.ready {
        return false;
    }
    keep_new_pods_off(pass, claim);
    let slowest = node.state.others.iter().map(|o| o.termination_grace).max().unwrap_or_default();
    if pass.due(since, slowest + PATIENCE) {
        return false;
    }
    node.state.others.iter().filter(|o| !o.deleting).for_each(|other| evict(pass, other, other.termination_grace, true));
    pass.wake(pass.now + Millis::from_secs(5));
    true
}

/// The machine ends at `deadline` whatever anybody does: its guests get what time there is.
pub(in crate::core::plan) fn leave_by(pass: &mut Pass, claim: &Claim, deadline: Timestamp) {
    let Some(node) = pass.index.node_on(claim.status.instance.as_ref()) else { return };
    let left = (deadline.since(pass.now) - pass.settings.deadline_margin).max(Millis::from_secs(1));
    for other in node.state.others.iter().filter(|o| !o.deleting) {
        let last_call = pass.now + other.termination_grace + pass.settings.deadline_margin >= deadline;
        evict(pass, other, other.termination_grace.min(left), !last_call);
    }
}

fn evict(pass: &mut Pass, other: &OtherPod, grace: Millis, ask_budgets: bool) {
    let (pod, reason) = (other.pod.clone(), RemovalReason::MachineEnds);
    let action = match ask_budgets {
        true => ClusterAction::Evict { pod, grace, reason },
        false => ClusterAction::DeletePod { pod, grace, reason },
    };
    pass.step(vec![Lane::Pod(other.pod.uid.clone())], Vec::new(), vec![Action::Cluster(action)]);
}

/// Keeps new pods off the claim's node.
pub(in crate::core::plan) fn keep_new_pods_off(pass: &mut Pass, claim: &Claim) {
    let node = pass.index.node_on(claim.status.instance.as_ref());
    if let Some(node) = node.filter(|n| !n.tainted) {
        let mark = ClusterAction::MarkNode { node: node.name.clone(), claim: claim.name.clone(), taint: true, labels: Default::default() };
        pass.step(vec![Lane::Node(node.name.clone())], Vec::new(), vec![Action::Cluster(mark)]);
    }
}
