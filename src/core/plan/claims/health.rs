//! Whether the node of a machine is well, and what happens when it is not.
//!
//! Decides: what is wrong with a node that had joined, for how long that is borne, and whether its work is moved off or its machine ended.
//! Does not: move pods (`migration`), look at what EC2 says of the machine (`lifecycle`, `notices`), or give up more machines at a time than the
//! breaker lets (`breaker`).
//!
//! What was once seen is not believed for ever: every pass looks at the node again. A fault that passes within its bound is forgotten. The bound is
//! counted from when this leader first saw the fault, by its own clock ([`crate::core::snapshot::first_sights`]): a kubelet's clock, or that of the
//! leader before, may be minutes off.

use super::super::pass::Pass;
use super::super::reporting::wording;
use super::breaker;
use super::ending;
use super::steps;
use crate::core::action::{EventKind, EventSubject};
use crate::core::fleet::{Claim, Node, Trigger, Unhealthy};
use crate::core::record::code_of;
use crate::core::units::time::Millis;

/// A Node object that is gone does not come back by itself: its kubelet registers once, when it starts.
const GONE_FOR: Millis = Millis::from_secs(30);

/// Writes down what is wrong with the node, or gives the machine up when it has been wrong for too long. True when a step was taken.
pub(in crate::core::plan) fn tend(pass: &mut Pass, claim: &Claim, node: Option<&Node>) -> bool {
    if claim.status.moving.is_some() || claim.deleting {
        return false;
    }
    let found = fault(pass, claim, node);
    match (found, &claim.status.unhealthy) {
        (None, None) => false,
        (None, Some(_)) => steps::mark_health(pass, claim, None),
        (Some((trigger, what)), Some(known)) if known.trigger == trigger => {
            let Some(since) = pass.world.first_sights.unwell_since(claim) else { return false };
            let bound = bound(pass, claim, trigger);
            pass.due(since, bound) && give_up(pass, claim, trigger, &what, bound)
        }
        (Some((trigger, _)), _) => {
            let since = pass.now;
            steps::mark_health(pass, claim, Some(Unhealthy { trigger, since }))
        }
    }
}

fn bound(pass: &Pass, claim: &Claim, trigger: Trigger) -> Millis {
    let of_pool = pass.pool_of(claim).map_or(Millis::from_mins(3), |pool| pool.unhealthy_after);
    if trigger == Trigger::NodeGone { GONE_FOR.min(of_pool) } else { of_pool }
}

/// The first thing that is wrong, also in words.
fn fault(pass: &Pass, claim: &Claim, node: Option<&Node>) -> Option<(Trigger, String)> {
    let Some(node) = node else {
        // It is there and not used, because another passes for the same machine too: whoever joins as a second ends nobody's work.
        if claim.status.node.as_ref().is_some_and(|name| pass.world.doubtful_nodes.contains_key(name)) {
            return None;
        }
        return Some((Trigger::NodeGone, "its Node object is gone although EC2 runs the machine".to_owned()));
    };
    let (state, units) = (&node.state, claim.spec.gpu_units(&pass.world.catalog));
    if !node.ready {
        return Some((Trigger::NodeNotReady, format!("node {} is silent or not Ready", node.name)));
    }
    let (trigger, what) = if state.cordoned {
        (Trigger::Cordoned, format!("node {} is cordoned", node.name))
    } else if !state.foreign_taints.is_empty() {
        (Trigger::NodeTainted, format!("node {} carries the taint {}", node.name, state.foreign_taints.join(", ")))
    } else if !state.gpu_faults.is_empty() {
        (Trigger::GpuFault, format!("node {} says: {}", node.name, state.gpu_faults.join("; ")))
    } else if node.allocatable.gpus < units {
        (Trigger::GpusLost, format!("node {} has {} of {units} GPUs left", node.name, node.allocatable.gpus))
    } else {
        return None;
    };
    Some((trigger, what))
}

fn give_up(pass: &mut Pass, claim: &Claim, trigger: Trigger, what: &str, bound: Millis) -> bool {
    let silent = matches!(trigger, Trigger::NodeGone | Trigger::NodeNotReady);
    let what = format!("{}: {what} for {bound} ({})", claim.spec.capacity, wording::trigger(trigger));
    // A cordon is somebody's word. The rest is only seen, and of many machines at once by one cause: expired certificates, a network that is cut, a
    // rollout that fails.
    if trigger != Trigger::Cordoned && !breaker::may_give_up(pass, claim, &code_of(&trigger), &what) {
        return false;
    }
    let end = if silent { "it is terminated and its work is made again elsewhere" } else { "its work moves and it is replaced" };
    let text = format!("{what}; {end}");
    let key = format!("{}/{}", claim.uid, code_of(&trigger));
    for pod in pass.pods_on(&claim.name) {
        pass.emit(EventSubject::Pod(pod.identity.clone()), (EventKind::Warning, "NodeUnhealthy"), &key, text.clone());
    }
    if silent {
        // Nobody there would hear that it is to leave.
        ending::terminate(pass, claim, trigger, "unhealthy", text, None);
    } else {
        ending::leave(pass, claim, trigger, "unhealthy", text);
    }
    true
}
