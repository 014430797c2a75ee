//! Whether EC2 may be asked for what a claim says.
//!
//! Decides: that a claim is of a class of its pool, boots what that class boots, where it boots it, and stays within what the pool may have and pay for
//! a GPU now. The same of a claim that says EC2 was asked already, and of which nothing has come: anybody with lowtide's token can write that.
//! Does not: know which claims are rescues, so it asks nothing about a pool's budget.
//!
//! What lowtide writes is always so, a moment ago at least. A claim that is not was written by somebody with lowtide's token, or the class or pool was
//! changed in between: either way its pods are placed again, by what holds now.

use std::collections::{BTreeMap, BTreeSet};

use super::super::pass::Pass;
use super::queue::{LaunchQueue, Size};
use crate::core::fleet::{Claim, NodeClass, NodePool};
use crate::core::placement::Held;
use crate::core::placement::eligibility::{above_cap, allowed, off_policy};
use crate::core::placement::request::PoolPolicy;

/// Why EC2 is not asked for this claim of `pool`, in words after "not launched:".
pub(super) fn objection(pass: &Pass, claim: &Claim, pool: &NodePool) -> Option<String> {
    let Some(class) = pass.world.classes.get(&claim.spec.node_class) else {
        return Some(format!("there is no GpuNodeClass {}", claim.spec.node_class));
    };
    of_the_class(pass, claim, class).or_else(|| of_the_pool(pass, claim, pool))
}

fn of_the_class(pass: &Pass, claim: &Claim, class: &NodeClass) -> Option<String> {
    let (spec, at) = (&claim.spec, &claim.spec.capacity);
    // The class's status says in which zone a subnet is, and its spec which subnets are meant.
    if class.zones.get(&at.zone) != Some(&spec.frozen.subnet) || !class.subnets.contains(&spec.frozen.subnet) {
        return Some(format!("its class {} has no subnet {} in {}", class.name, spec.frozen.subnet, at.zone));
    }
    let template = class.launch_template.as_ref().map(|(name, _)| name);
    if template.is_some_and(|name| *name != spec.frozen.launch_template) {
        return Some(format!("its class {} makes nodes from another launch template than {}", class.name, spec.frozen.launch_template));
    }
    let architecture = pass.world.catalog.types.get(&at.instance_type).map(|machine| machine.architecture);
    let image = architecture.and_then(|a| class.images.of(a)).map(|image| &image.id);
    if spec.frozen.image.as_ref() != image {
        let named = spec.frozen.image.as_deref().unwrap_or("that of the launch template");
        return Some(format!("its image is {named}, and not what its class {} boots", class.name));
    }
    let reserved = spec.reservation.as_ref().is_some_and(|id| !class.reservations.iter().any(|named| named.id == *id));
    reserved.then(|| format!("its class {} names no such reservation", class.name))
}

fn of_the_pool(pass: &Pass, claim: &Claim, pool: &NodePool) -> Option<String> {
    let at = &claim.spec.capacity;
    let model = pass.world.catalog.types.get(&at.instance_type).map(|machine| &machine.gpu_model);
    let policy = PoolPolicy::of(pool, BTreeMap::new(), BTreeSet::new(), &Held::default());
    let buys = pool.classes.contains(&claim.spec.node_class)
        && allowed(&policy.regions, at.region.as_str())
        && off_policy(&policy, at, model).iter().all(|(off, _)| !off);
    if !buys {
        return Some(format!("node pool {} does not buy {at} with class {}", pool.name, claim.spec.node_class));
    }
    let machine = pass.world.catalog.types.get(&at.instance_type);
    let offer = pass.world.market.offers.get(at);
    if machine.zip(offer).is_some_and(|(machine, offer)| above_cap(offer, machine, pool.max_price_per_gpu_hour)) {
        return Some(format!("{at} costs more for a GPU and hour than node pool {} pays", pool.name));
    }
    if pool.max_nodes.is_none() && pool.max_gpus.is_none() {
        return None;
    }
    let Size { nodes, gpus } = pass.queue.get_or_init(|| LaunchQueue::of(pass.claims.values())).with(&claim.name)?;
    let beyond = pool.max_nodes.is_some_and(|most| nodes > most) || pool.max_gpus.is_some_and(|most| gpus > most);
    beyond.then(|| format!("node pool {} has as many machines or GPUs as it may have", pool.name))
}
