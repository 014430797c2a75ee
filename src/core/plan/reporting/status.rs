//! What pools and classes show, and when a class is prepared in EC2.
//!
//! Decides: whether a pool can buy and why not, in one sentence.
//! Does not: buy.

use std::collections::BTreeSet;

use super::super::claims::sweeping;
use super::super::index::Held;
use super::super::pass::Pass;
use super::super::placing::budget;
use crate::core::action::{Action, ClusterAction, EventKind, EventSubject};
use crate::core::fleet::image::LOOKED_UP_EVERY;
use crate::core::fleet::{ClassProblem, ClassStatus, NodeClass, NodePool, PoolStatus, PoolsDefined};
use crate::core::snapshot::{Lane, Observed};
use crate::core::units::ids::Region;

pub(in crate::core::plan) fn show(pass: &mut Pass) {
    for class in pass.world.classes.values() {
        prepare(pass, class);
    }
    let namesakes = sweeping::namesakes(pass);
    for pool in pass.world.pools.values() {
        let status = pool_status(pass, pool, pass.index.held().get(&pool.name).copied().unwrap_or_default(), &namesakes);
        if pass.world.pool_statuses.get(&pool.name) != Some(&status) {
            let action = ClusterAction::SetPoolStatus { pool: pool.name.clone(), status: Box::new(status) };
            pass.step(vec![Lane::Pool(pool.name.clone())], Vec::new(), vec![Action::Cluster(action)]);
        }
        for fault in &pool.disruption.faults {
            let note = format!("{fault}; until it is corrected no machine of the pool is left by choice");
            pass.emit(EventSubject::Pool(pool.name.clone()), (EventKind::Warning, "DisruptionUnreadable"), fault, note);
        }
    }
}

/// A class is prepared when its template's content changed, or its subnets are not known yet.
fn prepare(pass: &mut Pass, class: &NodeClass) {
    let Some(template) = pass.world.templates.get(&class.name) else { return };
    if let Some(sentence) = pass.world.closed_regions.get(&class.region) {
        closed(pass, class, sentence);
        return;
    }
    let current = class.launch_template.as_ref().is_some_and(|(name, _)| *name == template.name);
    // Without their names, pods that select zones by name could not be placed.
    let named = class.zones.keys().all(|zone| class.zone_names.contains_key(zone));
    let ours = class.zones.values().all(|subnet| class.subnets.contains(subnet));
    let zoned = !class.zones.is_empty() && class.zones.len() == class.subnets.len() && named && ours;
    let since = class.images.complete_since();
    let imaged = class.images.sources.is_empty() || since.is_some_and(|at| at <= pass.now && !pass.due(at, LOOKED_UP_EVERY));
    if current && zoned && imaged && class.problem.is_none() {
        return;
    }
    let (template, subnets, images) = (Box::new(template.clone()), class.subnets.clone(), class.images.sources.clone());
    let action = Action::PrepareClass { class: class.name.clone(), template, subnets, images };
    pass.step(vec![Lane::Class(class.name.clone())], Vec::new(), vec![action]);
}

/// The account may not use the class's region: said in its status until the region answers, and EC2 is not asked about it meanwhile.
fn closed(pass: &mut Pass, class: &NodeClass, sentence: &str) {
    if class.problem.as_ref().is_some_and(|problem| problem.reason == ClassProblem::REGION_CLOSED) {
        return;
    }
    let text =
        format!("EC2 does not let this account use {}: {sentence}; enable the region or take the class out of its pools", class.region);
    let ready = Err(ClassProblem { reason: ClassProblem::REGION_CLOSED.to_owned(), text });
    let status = ClassStatus {
        zones: class.zones.clone(),
        zone_names: class.zone_names.clone(),
        launch_template: class.launch_template.clone(),
        images: class.kept_images(),
        ready,
    };
    let action = Action::Cluster(ClusterAction::SetClassStatus { class: class.name.clone(), status: Box::new(status) });
    pass.step(vec![Lane::Class(class.name.clone())], Vec::new(), vec![action]);
}

fn pool_status(pass: &Pass, pool: &NodePool, held: Held, namesakes: &BTreeSet<(&Region, &str)>) -> PoolStatus {
    PoolStatus {
        namesake: namesake(pass, pool, namesakes),
        claims: held.claims,
        gpus: held.gpus,
        price_per_hour: held.price_per_hour,
        saved_per_hour: held.on_demand_per_hour - held.price_per_hour,
        books: budget::next_books(pass, pool),
        ready: can_buy(pass, pool),
        let_go: pool.deleting && (held.claims == 0 || pass.world.pools_defined == PoolsDefined::Going),
    }
}

/// Of which of these `namesakes` EC2 shows machines where the pool buys. What was shown stays until each of its regions has been looked at.
fn namesake(pass: &Pass, pool: &NodePool, namesakes: &BTreeSet<(&Region, &str)>) -> Option<String> {
    let world = pass.world;
    let regions = || pool.classes.iter().filter_map(|name| world.classes.get(name)).map(|class| &class.region);
    let here = namesakes.iter().filter(|(region, _)| regions().any(|of_pool| of_pool == *region));
    let named: Vec<String> = here.map(|(region, uid)| format!("{uid} in {region}")).collect();
    if !named.is_empty() {
        return Some(format!("machines carry this cluster's name ({}) and the UID of another: {}", world.cluster, named.join(", ")));
    }
    let looked = |region: &Region| matches!(world.instances.get(region), Some(Observed::Known { .. }));
    if regions().all(looked) { None } else { world.pool_statuses.get(&pool.name)?.namesake.clone() }
}

fn can_buy(pass: &Pass, pool: &NodePool) -> Result<(), (String, String)> {
    let no = |reason: &str, text: String| Err((reason.to_owned(), text));
    if pool.deleting && pass.world.pools_defined == PoolsDefined::Going {
        return no(
            "Undefined",
            "the definition (CRD) of all node pools is being deleted: the pool goes with it, its machines stay".to_owned(),
        );
    }
    if pool.deleting {
        return no("Deleting", "the pool is being deleted: its machines drain, nothing new is bought".to_owned());
    }
    if pool.classes.is_empty() {
        return no("NoNodeClass", "the pool names no node class: name one per region in spec.nodeClasses".to_owned());
    }
    let missing: Vec<&str> = pool.classes.iter().filter(|name| !pass.world.classes.contains_key(*name)).map(|name| name.as_str()).collect();
    if !missing.is_empty() {
        return no(
            "NodeClassNotFound",
            format!("no GpuNodeClass is called {}: create it or take it out of spec.nodeClasses", missing.join(", ")),
        );
    }
    let classes: Vec<&NodeClass> = pool.classes.iter().filter_map(|name| pass.world.classes.get(name)).collect();
    if classes.iter().any(|class| class.problem.is_none() && !class.zones.is_empty()) {
        return Ok(());
    }
    let problems: Vec<String> = classes
        .iter()
        .map(|c| format!("{}: {}", c.name, c.problem.as_ref().map_or("not prepared yet".to_owned(), |p| p.to_string())))
        .collect();
    no("NodeClassNotReady", problems.join("; "))
}
