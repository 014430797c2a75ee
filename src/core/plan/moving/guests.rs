//! Pods of others on machines of ours: they leave with their grace before the machine ends.
//!
//! Decides: when a guest is evicted, and how long the end of a machine waits for that.
//! Does not: keep guests off (taints of the node class do), or count what they take (`room`).

use super::super::pass::Pass;
use crate::core::action::{Action, ClusterAction, RemovalReason};
use crate::core::fleet::{Claim, Node, OtherPod};
use crate::core::snapshot::Lane;
use crate::core::units::time::{Millis, Timestamp};

/// The end of a machine waits no longer than this for guests beyond the grace of the slowest: a budget of theirs may refuse for ever.
const PATIENCE: Millis = Millis::from_mins(2);
/// Nor longer than this for their grace, which their owners choose: others pay for the machine.
const MOST_GRACE: Millis = Millis::from_mins(10);

/// Those that can be asked to leave: a static pod ends with its kubelet, whatever becomes of its mirror.
pub(in crate::core::plan) fn guests(node: &Node) -> impl Iterator<Item = &OtherPod> {
    node.state.others.iter().filter(|other| !other.mirror)
}

/// Evicts what others run on the claim's node. True while somebody is there whom the end of the machine waits for, counted from `since`.
pub(in crate::core::plan) fn leave(pass: &mut Pass, claim: &Claim, since: Timestamp) -> bool {
    let Some(node) = pass.index.node_on(claim.status.instance.as_ref()) else { return false };
    if guests(node).next().is_none() || !node.ready {
        return false;
    }
    keep_new_pods_off(pass, claim);
    let slowest = guests(node).map(|o| o.termination_grace.min(MOST_GRACE)).max().unwrap_or_default();
    if pass.due(since, slowest + PATIENCE) {
        return false;
    }
    guests(node).filter(|o| !o.deleting).for_each(|other| evict(pass, other, other.termination_grace.min(MOST_GRACE)));
    pass.wake(pass.now + Millis::from_secs(5));
    true
}

/// The machine ends at `deadline` whatever anybody does: its guests get what time there is.
pub(in crate::core::plan) fn leave_by(pass: &mut Pass, claim: &Claim, deadline: Timestamp) {
    let Some(node) = pass.index.node_on(claim.status.instance.as_ref()) else { return };
    let left = (deadline.since(pass.now) - pass.settings.deadline_margin).max(Millis::from_secs(1));
    for other in guests(node).filter(|o| !o.deleting) {
        evict(pass, other, other.termination_grace.min(left));
    }
}

/// Pods of others are evicted and never deleted: the operator has no right to delete them (`lowtide-guard`), and their budgets are their owners' word.
/// A budget that refuses to the end lets its pod be cut off with the machine.
fn evict(pass: &mut Pass, other: &OtherPod, grace: Millis) {
    let (pod, reason) = (other.pod.clone(), RemovalReason::MachineEnds);
    let action = ClusterAction::Evict { pod, grace, reason };
    pass.step(vec![Lane::Pod(other.pod.uid.clone())], Vec::new(), vec![Action::Cluster(action)]);
}

/// Keeps new pods off the claim's node.
pub(in crate::core::plan) fn keep_new_pods_off(pass: &mut Pass, claim: &Claim) {
    let node = pass.index.node_on(claim.status.instance.as_ref());
    if let Some(node) = node.filter(|n| !n.tainted) {
        let (claim, labels) = (claim.name.clone(), Default::default());
        let mark = ClusterAction::MarkNode { node: node.name.clone(), claim, taint: true, guard: false, labels };
        pass.step(vec![Lane::Node(node.name.clone())], Vec::new(), vec![Action::Cluster(mark)]);
    }
}
