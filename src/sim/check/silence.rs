//! What must hold of machines that are given up for what is only seen of their Nodes: it was so, for long enough; and many at once are not.
//!
//! Decides: by what the API server said of a machine that runs, and by the world's clock, at the moment when its end was written down. What is carried out
//! later, because EC2 throttles or the operator ended in between, was decided then, and the Node may be back by now.

use super::super::kube::{SimNode, node_of};
use super::super::world::World;
use super::acts::{JOIN_TOLERANCE, has_a_twin, own_nodes, runs_on};
use super::{Checks, TOLERANCE};
use crate::core::action::ClusterAction;
use crate::core::fleet::{Claim, Trigger};
use crate::core::invariant::Invariant;
use crate::core::units::ids::{ClaimName, InstanceId, Uid};
use crate::core::units::time::{Millis, Timestamp};

/// Ends within this time are counted together: ten minutes, less what it may take to write one down after it was decided.
const WINDOW: Millis = Millis::from_mins(8);

/// What was true when a machine's end was first written down.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Truth {
    /// Its Node had been held silent for as long as its pool bears.
    silent: bool,
    /// Its Node had been there, and well, for longer than watches lag behind.
    joined: bool,
}

/// Two operators may each believe to lead until then.
pub(in crate::sim) fn two_lead_until(checks: &mut Checks, until: Timestamp) {
    checks.two_lead_until = Some(until);
}

/// The API server took an operator's action.
pub fn after_action(world: &mut World, action: &ClusterAction, operator: u32, now: Timestamp) {
    if let ClusterAction::PatchClaim { claim, patch, .. } = action
        && let Some((_, _, trigger)) = patch.terminate_asked
    {
        end_is_asked(world, claim, trigger, operator, now);
    }
}

fn end_is_asked(world: &mut World, name: &ClaimName, trigger: Trigger, operator: u32, now: Timestamp) {
    let Some(claim) = world.kube.claims.get(name).map(|c| c.object.clone()) else { return };
    // Asked again: it was decided before.
    if world.checks.ends_asked.contains_key(&claim.uid) {
        return;
    }
    let Some(machine) = world.ec2.machine_of(&claim.uid).filter(|m| m.alive()).cloned() else { return };
    let instance = &machine.instance.id;
    let truth =
        Truth { silent: is_silent(world, instance, patience(world, &claim), now), joined: has_joined(world, &claim, instance, now) };
    world.checks.ends_asked.insert(claim.uid.clone(), truth);
    let only_seen = trigger == Trigger::NeverJoined || (trigger.is_of_the_node() && trigger != Trigger::Cordoned);
    let asked_for = machine.doomed_at.is_some() || claim.deleting;
    if only_seen && !asked_for && runs_on(world, instance).is_some() {
        breaker_holds(world, instance, operator, now);
    }
}

/// INV-11: of machines with work on them, of which nothing more is known than that they are silent, two are given up in ten minutes, or one in twenty;
/// operators that follow each other have one limit, and only two at once may each take their own.
fn breaker_holds(world: &mut World, instance: &InstanceId, operator: u32, now: Timestamp) {
    let alive = world.ec2.alive().count();
    let checks = &mut world.checks;
    checks.given_up.retain(|(at, _)| now.since(*at) < WINDOW);
    checks.given_up.push((now, operator));
    let (all, own) = (checks.given_up.len(), checks.given_up.iter().filter(|(_, by)| *by == operator).count());
    // It may have counted some that have ended in the meantime.
    let most = 2.max((alive + all) / 20);
    let two_led = checks.two_lead_until.is_some_and(|until| now.since(until) < WINDOW);
    if own > most || all > if two_led { 2 * most } else { most } {
        let text = format!("{instance} is given up as the {all}th machine in ten minutes that is only silent, with work on it");
        world.broke(Invariant::EndsWereSeen, text);
    }
}

/// For how long its pool bears that a Node is silent.
fn patience(world: &World, claim: &Claim) -> Millis {
    world.kube.pools.get(&claim.spec.node_pool).map_or(Millis::ZERO, |pool| pool.object.unhealthy_after)
}

/// A machine that runs has been held silent for this long, by the world's clock; if it is heard again, watches may not have shown that yet.
fn is_silent(world: &World, instance: &InstanceId, least: Millis, now: Timestamp) -> bool {
    let spell = |node: &SimNode| node.silence.filter(|_| !node.dead);
    let Some((since, over)) = world.kube.nodes.get(&node_of(instance)).and_then(|node| spell(&node.object)) else { return false };
    now.since(since) + JOIN_TOLERANCE >= least && over.is_none_or(|at| now.since(at) < TOLERANCE)
}

fn has_joined(world: &World, claim: &Claim, instance: &InstanceId, now: Timestamp) -> bool {
    let joined = world.kube.nodes.get(&node_of(instance)).is_some_and(|node| now.since(node.object.joined_at) > TOLERANCE);
    let well = own_nodes(world, instance).any(|node| node.allocatable.gpus >= claim.spec.gpus);
    joined && well && !has_a_twin(world, instance) && !is_silent(world, instance, Millis::ZERO, now)
}

impl Checks {
    fn truth_of(&self, claim: &Uid) -> Truth {
        self.ends_asked.get(claim).copied().unwrap_or_default()
    }

    /// The machine had joined when it was given up as one that never did.
    pub(super) fn had_joined(&self, claim: &Uid) -> bool {
        self.truth_of(claim).joined
    }

    /// The machine was held silent for long enough when it was given up for that.
    pub(super) fn was_silent(&self, claim: &Uid) -> bool {
        self.truth_of(claim).silent
    }
}
