//! What must hold of a pod's binding before it is carried out: it was earned. What owners write on pods, and what a Node says of itself, decides
//! nothing that costs money.

use super::super::forging::is_forged;
use super::super::world::World;
use crate::core::action::ClusterAction;
use crate::core::fleet::ClaimSpec;
use crate::core::invariant::Invariant;
use crate::core::units::ids::{ClaimName, NodeName};
use crate::core::workload::PodIdentity;

/// INV-4: a pod is bound as often as it says, and replaces only what was let go. What a restart forgot makes it less, never more.
pub(super) fn is_earned(world: &mut World, action: &ClusterAction) {
    let ClusterAction::Bind { target, claim, attempt, replaces, .. } = action else { return };
    let (name, uid) = (&target.pod.object.name, &target.pod.uid);
    let bought_with = world.checks.bought_with.remove(&(uid.clone(), claim.clone()));
    let times = world.checks.bound.entry(uid.clone()).or_insert(0);
    *times += u64::from(!bought_with);
    let times = *times;
    if *attempt > times {
        let text = format!("{name} is bound as its attempt {attempt}, and it is the {times}. time");
        world.broke(Invariant::NeedsAndPoliciesHold, text);
    }
    if let Some(old) = replaces.as_ref().map(|replaces| &replaces.pod).filter(|old| !world.checks.let_go.contains(&old.uid)) {
        let text = format!("{name} is bound in the place of {}, which was never let go", old.object.name);
        world.broke(Invariant::NeedsAndPoliciesHold, text);
    }
}

/// A machine is bought for pods: they are bound from then on, though the process may end before their copies say so.
pub(super) fn are_bought(world: &mut World, name: &ClaimName, spec: &ClaimSpec) {
    for binding in spec.bindings.iter().flatten() {
        if world.checks.bought_with.insert((binding.pod.clone(), name.clone())) {
            *world.checks.bound.entry(binding.pod.clone()).or_insert(0) += 1;
        }
    }
}

/// INV-4: a gate is lifted for the claim that the pod was bound to. The claim's word is enough: the pod's copy may not have been written.
pub(super) fn is_lifted_where_bound(world: &mut World, pod: &PodIdentity, claim: &ClaimName) {
    let bound = world.kube.pods.get(&pod.uid).map(|p| p.object.pod.claim.clone());
    let kept = world.kube.claims.get(claim).is_some_and(|stored| stored.object.binding_of(&pod.uid).is_some());
    if !kept && bound.is_some_and(|bound| bound.as_ref() != Some(claim)) {
        let text = format!("the gate of {} is lifted for {claim}, to which it was not bound", pod.object.name);
        world.broke(Invariant::NeedsAndPoliciesHold, text);
    }
}

/// INV-12: a pod that is pinned to a claim runs on that claim's machine, and on nothing that only says it is.
pub(super) fn is_its_node(world: &mut World, node: &NodeName, claim: &ClaimName) {
    if is_forged(node) {
        world.broke(Invariant::LiftedPodsRun, format!("{node} is marked as the node of {claim}, and it is not that machine"));
    }
}
