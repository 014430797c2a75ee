//! Machines that are replaced by others of their kind: older than their pool allows, or not as their pool and class would make them now.
//!
//! Decides: which machines have expired or drifted, and which of them are left now, within their pool's budgets.
//! Does not: move pods (`migration`: replacements are made first, where they can be) or choose where they go (`buying`).
//!
//! Every minute, oldest first. A drifted machine is in no hurry: it waits until the Jobs and the bare pods on it are done, which a move would cost work,
//! and it is not left before its pool's dwell, so that a class which is changed back and forth turns nothing over. An expired one is left whatever runs
//! on it. Pods that are not to be disrupted hold both; what holds a machine is said on its claim.

use std::collections::{BTreeMap, BTreeSet};

use super::super::claims::ending;
use super::super::pass::Pass;
use super::choice::{self, Budgets, Held};
use super::warnings::on_the_move;
use crate::core::action::{EventKind, EventSubject};
use crate::core::fleet::{Claim, DisruptionReason, NodeClass, NodePool, Trigger};
use crate::core::market::catalog::Catalog;
use crate::core::snapshot::Lane;
use crate::core::units::pattern::matches_pattern;
use crate::core::units::time::{Millis, Timestamp};
use crate::core::workload::{Mobility, Workload};

/// Machines are looked at this often: nothing about them is urgent.
const EVERY: Millis = Millis::from_mins(1);

/// A machine that is to be replaced, and why.
struct Due<'a> {
    claim: &'a Claim,
    reason: DisruptionReason,
    key: String,
    why: String,
}

/// Looks at every machine, the first time in a minute that moves by choice are considered.
pub(super) fn renew<'a>(pass: &mut Pass<'a>, budgets: &mut Budgets<'a>) {
    let minute = |at: Timestamp| at.0.div_euclid(EVERY.0);
    if pass.world.moves_considered_at.is_some_and(|last| minute(last) == minute(pass.now)) {
        return;
    }
    let mut due = due(pass);
    if due.is_empty() {
        return;
    }
    due.sort_by_key(|due| (due.reason != DisruptionReason::Expiry, due.claim.status.launched_at, &due.claim.name));
    let mut moving = on_the_move(pass);
    for due in due {
        let workloads = ending_first(pass, due.claim);
        if workloads.iter().any(|workload| moving.contains(*workload)) {
            continue;
        }
        let held = match choice::kept_by_a_pod(pass, due.claim) {
            Some(held) => Err(held),
            None => budgets.admit(pass, due.claim, due.reason),
        };
        match held {
            Err(held) => say_that_it_stays(pass, &due, &held),
            Ok(()) => {
                let trigger = if due.reason == DisruptionReason::Expiry { Trigger::Expired } else { Trigger::Drifted };
                let text = format!("{} is replaced: {}", due.claim.spec.capacity, due.why);
                ending::leave(pass, due.claim, trigger, &due.key, text);
                budgets.spend(pass, due.claim);
                moving.extend(workloads);
            }
        }
    }
}

/// Workloads with a pod on the machine that must end before it is made again: of them one machine is left at a time.
fn ending_first<'a>(pass: &Pass<'a>, claim: &Claim) -> BTreeSet<&'a Workload> {
    let pods = pass.index.pods_on(&claim.name).iter();
    pods.filter(|pod| !matches!(*pod.mobility, Mobility::Surge { .. })).map(|pod| &*pod.workload).collect()
}

/// The machines that are due, in no order.
fn due<'a>(pass: &Pass<'a>) -> Vec<Due<'a>> {
    let mut patterns: BTreeMap<(&str, &str), bool> = BTreeMap::new();
    let mut found = Vec::new();
    for machine in pass.index.machines() {
        let claim = machine.claim;
        let Some(pool) = pass.world.pools.get(&claim.spec.node_pool).filter(|pool| !pool.deleting) else { continue };
        let (Some(launched), Some(ready)) = (claim.status.launched_at, claim.status.node_ready_at) else { continue };
        let expired = pool.expire_after.filter(|after| pass.now_by_ec2() >= launched + *after);
        let mut drift = || {
            let class = pass.world.classes.get(&claim.spec.node_class);
            let why = drift_of(claim, pool, class, &pass.world.catalog, &mut patterns)?;
            (pass.now >= ready + pool.return_min_dwell && !does_jobs(pass, claim)).then_some(why)
        };
        let (reason, key, why) = match expired {
            Some(after) => (DisruptionReason::Expiry, String::new(), format!("it is older than the {after} that its pool allows")),
            None => match drift() {
                Some(why) => (DisruptionReason::Drift, why.clone(), why),
                None => continue,
            },
        };
        let marked = pass.claims.get(&claim.name).is_some_and(Claim::takes_work);
        // Without work it ends as empty, like any other.
        if marked && pass.is_free(&Lane::Claim(claim.name.clone())) && !pass.index.pods_on(&claim.name).is_empty() {
            found.push(Due { claim, reason, key, why });
        }
    }
    found
}

/// A pod on the machine would lose work, and will be done by itself.
fn does_jobs(pass: &Pass, claim: &Claim) -> bool {
    pass.index.pods_on(&claim.name).iter().any(|pod| matches!(*pod.mobility, Mobility::Job { .. } | Mobility::Bare))
}

/// In what the machine differs from what its pool and class would make now; `None` while it does not, or while the class can make none.
fn drift_of<'a>(
    claim: &'a Claim,
    pool: &'a NodePool,
    class: Option<&NodeClass>,
    catalog: &Catalog,
    patterns: &mut BTreeMap<(&'a str, &'a str), bool>,
) -> Option<String> {
    let (spec, class) = (&claim.spec, class.filter(|class| class.problem.is_none())?);
    let (template, _) = class.launch_template.as_ref()?;
    // What a machine was launched from that was taken over is not known.
    let made_by_us = spec.adopted.is_none();
    if made_by_us && spec.frozen.launch_template != *template {
        return Some(format!(
            "its class {} makes nodes from launch template {template} now, not {}",
            class.name, spec.frozen.launch_template
        ));
    }
    let kind = catalog.types.get(&spec.capacity.instance_type);
    let image = kind.and_then(|kind| class.images.of(kind.architecture)).map(|image| &image.id);
    if let (true, Some(now), Some(then)) = (made_by_us, image, &spec.frozen.image)
        && now != then
    {
        return Some(format!("its class {} boots image {now} now, not {then}", class.name));
    }
    if made_by_us && spec.sharing != class.sharing {
        return Some(format!("its class {} shares GPUs in another way now", class.name));
    }
    if !pool.classes.contains(&class.name) {
        return Some(format!("its pool does not use class {} any more", class.name));
    }
    let (of_type, of_model) = (&pool.instance_types, &pool.gpu_models);
    let model_allowed = of_model.is_empty() || kind.is_none_or(|kind| of_model.contains(&kind.gpu_model));
    if (!of_type.is_empty() && !of_type.contains(&spec.capacity.instance_type)) || !model_allowed {
        return Some(format!("its pool does not buy {} any more", spec.capacity.instance_type));
    }
    let region = spec.capacity.region.as_str();
    let matches = |pattern: &'a String| *patterns.entry((pattern.as_str(), region)).or_insert_with(|| matches_pattern(pattern, region));
    let allowed = pool.regions.is_empty() || pool.regions.iter().any(matches);
    (!allowed).then(|| format!("its pool does not buy in {region} any more"))
}

/// Said once for each reason that it has to go and each that it stays.
fn say_that_it_stays(pass: &mut Pass, due: &Due, held: &Held) {
    let key = match held {
        Held::Budget { .. } => format!("{} budget", due.key),
        Held::Pod { name, .. } => format!("{} {name}", due.key),
    };
    let note = format!("to be replaced ({}); it stays: {}", due.why, held.words());
    pass.emit(EventSubject::Claim(due.claim.name.clone()), (EventKind::Normal, "ReplacementHeld"), key, note);
}
