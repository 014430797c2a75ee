//! What must hold of an act before it is carried out: it was decided and recorded, and its reason is true.

use super::super::ec2::Boot;
use super::super::event::Owner;
use super::super::forging;
use super::super::kube::SimPod;
use super::super::world::World;
use super::{TOLERANCE, bindings, choice, placing, taken_back, warnings};
use crate::core::action::{ClusterAction, RemovalReason};
use crate::core::fleet::{Claim, ClaimSpec, Launch, Node, Trigger};
use crate::core::invariant::Invariant;
use crate::core::market::CapacityType;
use crate::core::market::reservation::LEAVE_BEFORE_END;
use crate::core::units::ids::{ClaimName, DecisionId, InstanceId};
use crate::core::units::time::{Millis, Timestamp};
use crate::core::workload::{Pod, PodIdentity, PodPhase};

/// By so much the span to join may be misjudged: EC2 says whole seconds.
pub(super) const JOIN_TOLERANCE: Millis = Millis::from_secs(20);

/// Another operator removed the claim while this call was under way: what comes of it is swept.
pub(super) fn removed_lately(world: &World, claim: &ClaimName, now: Timestamp) -> bool {
    world.kube.removed_claims.get(claim).is_some_and(|at| now.since(*at) < TOLERANCE)
}

/// A launch is for a claim that is there, and was decided durably.
pub fn before_launch(world: &mut World, launch: &Launch, now: Timestamp) {
    let claim = world.kube.claims.get(&launch.claim).map(|c| c.object.clone());
    match claim {
        None if removed_lately(world, &launch.claim, now) => {}
        None => world.broke(Invariant::EveryInstanceClaimed, format!("{} is launched and is no claim", launch.claim)),
        // Its own was removed while the call was under way, and another has its name: what comes of it carries the uid of a claim that is gone, and is swept.
        Some(claim) if claim.uid != launch.claim_uid && removed_lately(world, &launch.claim, now) => {}
        Some(claim) if claim.uid != launch.claim_uid => {
            world.broke(Invariant::EveryInstanceClaimed, format!("{} is launched for another claim of that name", launch.claim));
        }
        Some(claim) => {
            decided(world, claim.spec.decision, &format!("the launch for {}", claim.name));
            if claim.status.launch_asked_at.is_none() {
                world.broke(Invariant::DecisionsDurableOnce, format!("EC2 is asked for {} and that is not written down", claim.name));
            }
        }
    }
}

fn decided(world: &mut World, decision: DecisionId, what: &str) {
    if !world.kube.durable.contains(&decision.0) {
        world.broke(Invariant::DecisionsDurableOnce, format!("{what} is carried out and its decision {decision} is not durable"));
    }
}

/// A termination is of a machine that nobody claims, or that was given up for a true reason.
pub fn before_terminate(world: &mut World, instance: &InstanceId, now: Timestamp) {
    if world.ec2.neighbours.contains_key(instance) {
        return world.broke(Invariant::EndsWereSeen, format!("{instance} is not ours and is terminated"));
    }
    let Some(machine) = world.ec2.machines.get(instance).filter(|m| m.alive()).cloned() else { return };
    let claim = world.kube.claims.values().map(|c| &c.object).find(|c| c.uid == machine.claim_uid).cloned();
    let Some(claim) = claim else {
        if let Some(pod) = runs_on(world, instance) {
            world.broke(Invariant::EndsWereSeen, format!("{instance} is terminated because no claim is seen, and {pod} runs on it"));
        }
        return;
    };
    if world.kube.unreadable.contains(&claim.name) && claim.status.terminate_asked.is_none() {
        return world.broke(Invariant::EndsWereSeen, format!("{instance} is terminated and its claim {} cannot be read", claim.name));
    }
    let Some((_, decision, trigger)) = claim.status.terminate_asked.as_deref().copied() else {
        let text = format!("{instance} of {} is terminated and nothing says why", claim.name);
        return world.broke(Invariant::RemovalsHaveReasons, text);
    };
    decided(world, decision, &format!("the termination of {instance}"));
    let age = now.since(machine.instance.launched_at) + TOLERANCE;
    let join_timeout = world.kube.pools.get(&claim.spec.node_pool).map_or(Millis::ZERO, |p| p.object.join_timeout);
    let healthy = own_nodes(world, instance).any(|node| node.allocatable.gpus >= claim.spec.gpus);
    let working = works(world, &claim.name, now);
    let no_reason = match trigger {
        // By the true clock: what the operator's own says is no reason.
        // Of two Nodes that pass for one machine neither may be used.
        Trigger::NeverJoined => {
            world.checks.had_joined(&claim.uid) || now.since(machine.instance.launched_at) + JOIN_TOLERANCE < join_timeout
        }
        Trigger::NoGpus => !matches!(machine.boot, Boot::WithoutGpus(_)) || age < join_timeout,
        Trigger::InterruptionNotice => machine.doomed_at.is_none() && !rebalanced(&claim),
        Trigger::Unclaimed => true,
        Trigger::NodeNotReady => healthy && !world.checks.was_silent(&claim.uid),
        // The simulated nodes are never ill but by dying with their machine, or by silence.
        trigger if trigger.is_of_the_node() => healthy,
        _ => working,
    };
    if no_reason {
        // Ended for its Node, which is well and on which work runs.
        let unseen = trigger.is_of_the_node() && runs_on(world, instance).is_some();
        let invariant = if unseen { Invariant::EndsWereSeen } else { Invariant::RemovalsHaveReasons };
        world.broke(invariant, format!("{instance} of {} is terminated for {trigger:?}, which is not so", claim.name));
    }
}

/// The Nodes that are this machine's, and not only say so.
pub(super) fn own_nodes<'a>(world: &'a World, instance: &'a InstanceId) -> impl Iterator<Item = &'a Node> {
    let nodes = world.kube.nodes.values().map(|n| &n.object.node);
    nodes.filter(move |node| node.instance == *instance && !forging::is_forged(&node.name))
}

/// Somebody's Node passes for this machine, beside its own.
pub(super) fn has_a_twin(world: &World, instance: &InstanceId) -> bool {
    world.kube.nodes.values().map(|n| &n.object.node).any(|node| node.instance == *instance && forging::is_forged(&node.name))
}

/// A pod that runs on a machine.
pub(super) fn runs_on(world: &World, instance: &InstanceId) -> Option<String> {
    let nodes = world.kube.nodes.values().filter(|n| n.object.node.instance == *instance && !n.object.dead);
    let names: Vec<_> = nodes.map(|n| &n.object.node.name).collect();
    let runs = |p: &&Pod| p.phase == PodPhase::Running && p.node.as_ref().is_some_and(|node| names.contains(&node));
    world.kube.pods.values().map(|p| &p.object.pod).find(runs).map(|p| p.identity.object.name.clone())
}

fn rebalanced(claim: &Claim) -> bool {
    claim.status.moving.as_ref().is_some_and(|mark| mark.trigger == Trigger::RebalanceRecommendation)
}

/// Pods have held a place on the claim for longer than two operators may disagree about it.
fn works(world: &World, claim: &ClaimName, now: Timestamp) -> bool {
    let holds = |p: &&Pod| p.claim.as_ref() == Some(claim) && !p.finished() && p.deleting_until.is_none();
    let mut pods = world.kube.pods.values().map(|p| &p.object.pod).filter(holds);
    pods.any(|p| p.ready_since.is_some_and(|since| now.since(since) > TOLERANCE))
}

/// An action of the cluster.
pub fn before_action(world: &mut World, action: &ClusterAction, now: Timestamp) {
    match action {
        ClusterAction::CreateClaim { name, spec } => {
            decided(world, spec.decision, &format!("claim {name}"));
            policy_holds(world, name, spec);
            warnings::before_purchase(world, name, spec, now);
            taken_back::before_purchase(world, name, spec, now);
            bindings::are_bought(world, name, spec);
        }
        ClusterAction::Bind { target, claim, decision, .. } => {
            decided(world, *decision, &format!("the binding of {}", target.pod.object.name));
            placing::before_binding(world, &target.pod, claim, now);
            placing::before_joining(world, &target.pod, *decision, now);
            bindings::is_earned(world, action);
        }
        ClusterAction::PatchClaim { claim, patch, .. } => {
            if let Some(mark) = &patch.moving {
                decided(world, mark.decision, &format!("the move off {claim}"));
                move_has_reason(world, claim, mark.trigger, now);
                choice::before_leaving(world, claim, mark.trigger, now);
                if mark.trigger == Trigger::RebalanceRecommendation {
                    warnings::before_leaving(world, claim, now);
                }
            }
            if let Some((_, decision, _)) = patch.terminate_asked {
                decided(world, decision, &format!("the end of {claim}"));
            }
        }
        ClusterAction::Evict { pod, reason, .. } | ClusterAction::DeletePod { pod, reason, .. } => removal_has_reason(world, pod, *reason),
        ClusterAction::RemoveClaim { claim, .. } => claim_is_over(world, claim),
        ClusterAction::Lift { target, claim } => {
            bindings::is_lifted_where_bound(world, &target.pod, claim);
            has_joined(world, &target.pod, claim);
        }
        ClusterAction::LetGoOfDeployment { target, .. } | ClusterAction::LetGoOfJob { target, .. } => {
            replacement_is_admitted(world, &target.pod, now);
            world.checks.let_go.insert(target.pod.uid.clone());
        }
        ClusterAction::MarkNode { node, claim, .. } => bindings::is_its_node(world, node, claim),
        _ => {}
    }
}

/// INV-12: a gate is lifted when the machine is there.
fn has_joined(world: &mut World, pod: &PodIdentity, claim: &ClaimName) {
    if world.kube.claims.get(claim).is_some_and(|c| c.object.status.node_ready_at.is_none()) {
        let text = format!("the gate of {} is lifted and the machine of {claim} has not joined", pod.object.name);
        world.broke(Invariant::LiftedPodsRun, text);
    }
}

/// INV-6: nobody lets go of a pod that is Ready while no replacement would be admitted, unless EC2 takes its machine.
fn replacement_is_admitted(world: &mut World, identity: &PodIdentity, now: Timestamp) {
    let (from, until) = world.kube.admits_nothing;
    let Some(pod) = world.kube.pods.get(&identity.uid).map(|p| p.object.pod.clone()) else { return };
    let claim = pod.claim.as_ref().and_then(|name| world.kube.claims.get(name)).map(|c| &c.object);
    let taken = claim.is_none_or(|c| c.status.interruption.is_some());
    // It was asked and admitted before, and the call took its time.
    if !taken && pod.ready_since.is_some_and(|at| now.since(at) > TOLERANCE) && from + TOLERANCE < now && now < until {
        let text = format!("{} is let go, and no replacement would be admitted since {from}", identity.object.name);
        world.broke(Invariant::RemovalsHaveReasons, text);
    }
}

/// INV-1: the finalizer guards the instance.
fn claim_is_over(world: &mut World, name: &ClaimName) {
    let Some(claim) = world.kube.claims.get(name).map(|c| c.object.clone()) else { return };
    let alive = world.ec2.alive().find(|m| m.claim_uid == claim.uid).map(|m| m.instance.id.clone());
    // Found by its tag later: a launch that was answered by nobody is swept. With the instance written down it must be gone.
    if let Some(id) = alive.filter(|id| claim.status.instance.as_ref() == Some(id)) {
        world.broke(Invariant::EveryInstanceClaimed, format!("{name} is removed while {id} runs"));
    }
}

/// INV-4: what is bought keeps within the pool's policy.
fn policy_holds(world: &mut World, name: &ClaimName, spec: &ClaimSpec) {
    let Some(pool) = world.kube.pools.get(&spec.node_pool).map(|p| p.object.clone()) else {
        return world.broke(Invariant::NeedsAndPoliciesHold, format!("{name} belongs to no pool"));
    };
    let machine = world.catalog.types.get(&spec.capacity.instance_type).cloned();
    let Some(machine) = machine else { return world.broke(Invariant::NeedsAndPoliciesHold, format!("{name} buys an unknown type")) };
    let held = world.kube.claims.values().filter(|c| c.object.spec.node_pool == pool.name && c.object.may_run()).count();
    let class_serves = world.kube.classes.get(&spec.node_class).is_some_and(|c| c.object.zones.contains_key(&spec.capacity.zone));
    let checks = [
        (class_serves, "its class makes no nodes in its zone"),
        (pool.capacity_types.contains(&spec.capacity.capacity_type), "its pool does not buy that capacity type"),
        (pool.instance_types.is_empty() || pool.instance_types.contains(&spec.capacity.instance_type), "its pool does not buy that type"),
        (pool.gpu_models.is_empty() || pool.gpu_models.contains(&machine.gpu_model), "its pool does not buy that model"),
        (pool.max_price_per_gpu_hour.is_none_or(|cap| spec.price_per_hour.0 <= cap.0 * machine.gpus), "it is above its pool's cap"),
        // Two operators may each take the last place.
        (pool.max_nodes.is_none_or(|most| held < usize::try_from(most).unwrap_or(0) + 2), "its pool has all the nodes it may have"),
        (machine.gpus == spec.gpus, "it says another number of GPUs than the type has"),
    ];
    for (_, text) in checks.into_iter().filter(|(holds, _)| !holds) {
        world.broke(Invariant::NeedsAndPoliciesHold, format!("{name} ({}): {text}", spec.capacity));
    }
}

/// INV-6: a machine is left only for what is so.
fn move_has_reason(world: &mut World, name: &ClaimName, trigger: Trigger, now: Timestamp) {
    let Some(claim) = world.kube.claims.get(name).map(|c| c.object.clone()) else { return };
    let machine = world.ec2.machine_of(&claim.uid).cloned();
    let pool = world.kube.pools.get(&claim.spec.node_pool).map(|p| p.object.clone());
    let expired = pool
        .as_ref()
        .and_then(|p| p.expire_after)
        .zip(machine.as_ref())
        .is_some_and(|(after, m)| now.since(m.instance.launched_at) + TOLERANCE >= after);
    let ok = match trigger {
        Trigger::InterruptionNotice => machine.is_some_and(|m| m.doomed_at.is_some()),
        Trigger::RebalanceRecommendation => machine.is_some_and(|m| m.at_risk),
        // Called off at this moment it was true when it was decided; what is said late may be so by then.
        Trigger::ScheduledMaintenance => machine.is_some_and(|m| m.was_scheduled),
        Trigger::InstanceLost => machine.is_none_or(|m| !m.alive()),
        Trigger::Expired => expired,
        Trigger::Drifted => world.kube.templates.get(&claim.spec.node_class).is_none_or(|t| t.name != claim.spec.frozen.launch_template),
        Trigger::Deleted => claim.deleting || pool.is_none_or(|p| p.deleting),
        Trigger::ReservationEnding => {
            let named = world.account.reservation.as_ref().filter(|r| Some(&r.id) == claim.spec.reservation.as_ref());
            named.is_some_and(|r| now + LEAVE_BEFORE_END + TOLERANCE >= r.ends_at)
        }
        Trigger::ReturnToSpot => claim.spec.capacity.capacity_type != CapacityType::Spot,
        Trigger::CheaperOffer => true,
        _ => false,
    };
    if !ok {
        world.broke(Invariant::RemovalsHaveReasons, format!("{name} is left for {trigger:?}, which is not so"));
    }
}

fn removal_has_reason(world: &mut World, identity: &PodIdentity, reason: RemovalReason) {
    let Some(sim_pod) = world.kube.pods.get(&identity.uid).map(|p| p.object.clone()) else { return };
    let pod = &sim_pod.pod;
    let claim = pod.claim.as_ref().and_then(|name| world.kube.claims.get(name)).map(|c| c.object.clone());
    let machine = claim.as_ref().and_then(|c| world.ec2.machine_of(&c.uid)).cloned();
    let moving = claim.as_ref().and_then(|c| c.status.moving.as_ref()).map(|mark| mark.trigger);
    let on_dead_node = pod.node.as_ref().is_some_and(|n| world.kube.nodes.get(n).is_none_or(|n| n.object.dead));
    let replacement = world
        .kube
        .pods
        .values()
        .map(|p| &p.object.pod)
        .any(|p| p.replaces.as_ref().is_some_and(|r| r.pod.uid == identity.uid) && p.ready_since.is_some());
    // It was decided before EC2 took the machine, and carried out late: whether a replacement would be admitted is asked in between.
    let noticed_since = moving == Some(Trigger::InterruptionNotice) && machine.as_ref().is_some_and(|m| m.doomed_at.is_some());
    let moves_for = |triggers: &[Trigger]| noticed_since || moving.is_some_and(|trigger| triggers.contains(&trigger));
    let ok = match reason {
        RemovalReason::Interruption => {
            machine.is_some_and(|m| m.doomed_at.is_some() || !m.alive()) || moving == Some(Trigger::RebalanceRecommendation)
        }
        RemovalReason::BetterOffer => moves_for(&[Trigger::ReturnToSpot, Trigger::CheaperOffer]),
        RemovalReason::Expired => moves_for(&[Trigger::Expired]),
        RemovalReason::Drifted => moves_for(&[Trigger::Drifted]),
        RemovalReason::Maintenance => moves_for(&[Trigger::ScheduledMaintenance]),
        RemovalReason::ReservationEnding => moves_for(&[Trigger::ReservationEnding]),
        RemovalReason::Deleted => moves_for(&[Trigger::Deleted]),
        RemovalReason::InstanceLost => on_dead_node || machine.is_none_or(|m| !m.alive()),
        RemovalReason::Replaced => pod.let_go.is_some() && (replacement || unwanted(world, &sim_pod)),
        RemovalReason::NotScheduled => pod.phase == PodPhase::Pending && pod.node.is_none(),
        RemovalReason::MachineEnds => false,
        RemovalReason::Unhealthy => moving.is_some_and(Trigger::is_of_the_node),
        RemovalReason::NodeDied => pod.phase == PodPhase::Pending && (moving.is_some() || claim.is_none()),
    };
    if !ok {
        world.broke(Invariant::RemovalsHaveReasons, format!("{} is removed for {reason:?}, which is not so", identity.object.name));
    }
}

/// Its Deployment has all the pods it wants without it.
fn unwanted(world: &World, pod: &SimPod) -> bool {
    let wanted = match &pod.made_by {
        Owner::Replicated(name) => world.kube.replicated.get(name).map_or(0, |work| work.replicas),
        Owner::Job(_) | Owner::Nobody(_) => 0,
    };
    let others = world.kube.pods.values().map(|p| &p.object).filter(|p| p.made_by == pod.made_by && p.is_counted());
    others.filter(|p| p.pod.ready_since.is_some()).count() >= wanted
}
