//! What must hold before a machine is left that nobody takes: nobody on it asked for peace, and its pool's budgets let it go.
//!
//! Decides: from the manifests as their owners wrote them, and the budgets as they stand, not from what the planner made of either.

use serde_json::Value;

use super::super::kube::SimPod;
use super::super::world::World;
use super::TOLERANCE;
use crate::core::fleet::{Claim, DisruptionReason, Trigger, Window};
use crate::core::invariant::Invariant;
use crate::core::units::ids::ClaimName;
use crate::core::units::time::{Millis, Timestamp};

/// Why it would be by choice.
fn reason_of(trigger: Trigger) -> Option<DisruptionReason> {
    match trigger {
        Trigger::ReturnToSpot | Trigger::CheaperOffer => Some(DisruptionReason::SavingsMove),
        Trigger::Drifted => Some(DisruptionReason::Drift),
        Trigger::Expired => Some(DisruptionReason::Expiry),
        _ => None,
    }
}

/// INV-6: owners who asked for it are left alone, and of a pool no more machines are left by choice at once than its budgets say.
pub(super) fn before_leaving(world: &mut World, name: &ClaimName, trigger: Trigger, now: Timestamp) {
    let Some(claim) = world.kube.claims.get(name).map(|c| c.object.clone()) else { return };
    let reason = reason_of(trigger);
    if reason.is_none() && trigger != Trigger::RebalanceRecommendation {
        return;
    }
    let mut pods = world.kube.pods.values().map(|p| &p.object).filter(|p| p.pod.holds(name));
    if let Some(pod) = pods.find(|pod| wants_peace(pod, now)).map(|pod| pod.pod.identity.object.name.clone()) {
        world.broke(Invariant::RemovalsHaveReasons, format!("{name} is left for {trigger:?} and {pod} is not to be disrupted"));
    }
    let Some((reason, pool)) = reason.zip(world.kube.pools.get(&claim.spec.node_pool).map(|p| p.object.clone())) else { return };
    let of_pool = || world.kube.claims.values().map(|c| &c.object).filter(|c| c.spec.node_pool == pool.name && c.may_run());
    let all = u64::try_from(of_pool().count()).unwrap_or(0);
    let by_choice = |c: &&Claim| c.name != *name && c.status.moving.as_ref().is_some_and(|mark| reason_of(mark.trigger).is_some());
    let others = u64::try_from(of_pool().filter(by_choice).count()).unwrap_or(0);
    let named = pool.disruption.budgets.iter().filter(|b| b.reasons.is_empty() || b.reasons.contains(&reason));
    // What was decided before a window opened may come a little later.
    let open = named.filter(|b| b.window.as_ref().is_none_or(|w| is_open(w, now) && is_open(w, now - TOLERANCE)));
    let Some(most) = open.map(|b| b.nodes.of(all)).min() else { return };
    // Two operators may each take the last place.
    if most == 0 || others > most {
        let text = format!("{name} is left for {trigger:?}, beside {others} others of {}, and its budgets let {most} go", pool.name);
        world.broke(Invariant::RemovalsHaveReasons, text);
    }
}

fn is_open(window: &Window, at: Timestamp) -> bool {
    window.begins.next_after(at - window.lasts).is_some_and(|began| began <= at)
}

/// It has run for long enough to be known, and says so.
fn wants_peace(pod: &SimPod, now: Timestamp) -> bool {
    let Some(started) = pod.pod.started_at.filter(|at| now.since(*at) > TOLERANCE) else { return false };
    let says = |key: &str, value: &str| pod.manifest["metadata"]["annotations"].get(key).and_then(Value::as_str) == Some(value);
    says("lowtide.dev/do-not-disrupt", "true")
        || says("cluster-autoscaler.kubernetes.io/safe-to-evict", "false")
        || (says("karpenter.sh/do-not-disrupt", "2h") && now.since(started) + TOLERANCE < Millis::from_hours(2))
}
