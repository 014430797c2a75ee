//! Machines that carry our cluster's name and no claim of ours stands for, and claims that cannot be read.
//!
//! Decides: which of them is ended, which is left alone, and who is informed.
//! Does not: adopt (`lowtide adopt` does, on a person's word), or believe the watch alone: the engine asks the API server once more
//! before it ends one ([`crate::core::fleet::ClaimsNow`]).
//!
//! A machine is ended only for a reason that was seen, and "nobody claims it" is an absence. So all of these must hold:
//! - it carries this cluster's UID, and a fleet launched it: a copy that somebody made of one of ours by hand carries our tags too;
//! - one leader has seen it without a claim for [`super::super::Settings::orphan_grace`];
//! - no claim is there that cannot be read: it might be its own;
//! - no pod runs on it;
//! - a live read of the API server finds no claim for it;
//! - the breaker lets it ([`super::breaker`]).

use std::collections::BTreeSet;

use super::super::moving::guests;
use super::super::pass::Pass;
use super::breaker::{self, ALLOW};
use crate::core::action::{Action, EventKind, EventSubject};
use crate::core::fleet::{Doubt, Instance, Ownership, Trigger};
use crate::core::record::{Decision, LedgerRecord, OUTBOX_BOUND, OUTBOX_CLOSED, Outcome};
use crate::core::snapshot::{Lane, Snapshot, seen};
use crate::core::units::ids::{DecisionId, InstanceId, NodeName, Region};

/// Ends machines of ours that nobody claims.
pub(in crate::core::plan) fn sweep_unclaimed(pass: &mut Pass) {
    if !pass.world.unreadable_claims.is_empty() || pass.world.cluster_uid.is_empty() {
        return;
    }
    let due: Vec<&Instance> = strays(pass).into_iter().filter(|stray| is_due(pass, stray)).collect();
    if due.is_empty() {
        return;
    }
    if !breaker::may_end(pass, None, u64::try_from(due.len()).unwrap_or(u64::MAX), None) {
        held(pass, &due);
        return;
    }
    for instance in due {
        pass.notes.push(format!("{} ({}) carries our UID and nobody claims it: ended", instance.id, instance.capacity));
        let decision = unclaimed_decision(pass, instance);
        let (region, id, claim_uid) = (instance.capacity.region.clone(), instance.id.clone(), instance.claim_uid().map(str::to_owned));
        let action = Action::TerminateUnclaimed { region, instance: id.clone(), claim_uid };
        pass.step(vec![Lane::Instance(id)], vec![LedgerRecord::Decision(Box::new(decision))], vec![action]);
    }
}

/// Machines without a claim that run: ours and unmarked ones.
fn strays<'a>(pass: &Pass<'a>) -> Vec<&'a Instance> {
    let world = pass.world;
    if world.unclaimed_since.is_empty() {
        return Vec::new();
    }
    seen(&world.instances).filter(|i| world.unclaimed_since.contains_key(&i.id) && i.is_alive()).collect()
}

fn is_due(pass: &mut Pass, instance: &Instance) -> bool {
    let Some(since) = pass.world.unclaimed_since.get(&instance.id).copied() else { return false };
    // Claims of this pass and of running steps count as well: they are not observed yet.
    let claimed = instance.claim_uid().is_some_and(|uid| pass.index.is_claim(uid)) || pass.index.claim_of(&instance.id).is_some();
    instance.ownership(&pass.world.cluster_uid) == Ownership::Ours
        && instance.is_of_a_fleet()
        && !claimed
        && pass.is_free(&Lane::Instance(instance.id.clone()))
        && pass.due(since, pass.settings.orphan_grace)
        && running_on(pass.world, &instance.id).is_none()
}

/// A pod that runs on the Node of a machine, ours or another's that no DaemonSet brought there, whoever vouches for that Node.
fn running_on<'a>(world: &'a Snapshot, instance: &InstanceId) -> Option<&'a str> {
    let doubtful = world.doubtful_nodes.iter().filter(|(_, doubt)| doubt.instance() == instance).map(|(name, _)| name);
    let nodes: BTreeSet<&NodeName> =
        world.nodes.values().filter(|node| node.instance == *instance).map(|node| &node.name).chain(doubtful).collect();
    let runs = world.pods.values().find(|pod| !pod.finished() && pod.node.as_ref().is_some_and(|node| nodes.contains(node)));
    // Others' work is somebody's too, whoever let it come there.
    let guest = || nodes.iter().filter_map(|name| world.nodes.get(*name)).flat_map(guests::guests).next();
    runs.map(|pod| pod.identity.object.name.as_str()).or_else(|| guest().map(|other| other.pod.object.name.as_str()))
}

fn held(pass: &mut Pass, due: &[&Instance]) {
    let (count, limit) = (due.len(), breaker::limit(pass));
    let named: Vec<&str> = due.iter().take(5).map(|i| i.id.as_str()).collect();
    let note = format!(
        "{count} machines carry this cluster's UID and no claim stands for them ({}{}): more than the {limit} that may end in ten minutes \
         without anybody's asking, so they run on. If they are to be kept (a restored backup): `lowtide adopt`. If they are to go: annotate \
         this pool with {ALLOW} and a time within a day",
        named.join(", "),
        if count > named.len() { ", ..." } else { "" }
    );
    tell_a_pool(pass, "EndsHeld", named.join(","), note);
}

/// Says what is not ours, or cannot be read, once.
pub(in crate::core::plan) fn report(pass: &mut Pass) {
    report_foreign(pass);
    report_strays(pass);
    if pass.world.outbox_full {
        let note = format!(
            "{OUTBOX_BOUND} records or more wait for Postgres (kubectl get gpudecisions): refusals are not recorded until fewer do; purchases, moves \
             and ends still are, each once, and etcd grows by them. From {OUTBOX_CLOSED} on nothing is bought for new pods. Bring Postgres back"
        );
        tell_a_pool(pass, "OutboxFull", "", note);
    }
    let unreadable: Vec<_> = pass.world.unreadable_claims.values().cloned().collect();
    for claim in unreadable {
        let note = format!(
            "{}; its machine and its pods are left alone, and no machine without a claim is ended, until it can be read: run the version \
             that wrote it, or correct the field",
            claim.fault
        );
        pass.emit(EventSubject::Claim(claim.name), (EventKind::Warning, "ClaimUnreadable"), claim.fault, note);
    }
    let doubtful: Vec<(NodeName, Doubt)> = pass.world.doubtful_nodes.iter().map(|(name, doubt)| (name.clone(), doubt.clone())).collect();
    for (name, doubt) in doubtful.into_iter().filter(|(_, doubt)| doubt.is_alarming()) {
        let key = format!("{name}/{}", doubt.instance());
        let note = match doubt {
            Doubt::NotThatMachine { instance } => {
                format!(
                    "Node {name} says that it is {instance}, and neither its name nor its address is one that EC2 gives for it: not used"
                )
            }
            Doubt::Twice { instance, other } => {
                let (first, second) = if name < other { (&name, &other) } else { (&other, &name) };
                format!("Nodes {first} and {second} both pass for {instance}: neither is used; remove the one that is not")
            }
            Doubt::NotSeen { .. } => continue,
        };
        tell_a_pool(pass, "NodeIdentity", key, note);
    }
}

/// Where EC2 shows running machines of our name that carry another cluster's UID, and which: region and UID.
pub(in crate::core::plan) fn namesakes<'a>(pass: &Pass<'a>) -> BTreeSet<(&'a Region, &'a str)> {
    let world = pass.world;
    let foreign = |instance: &&'a Instance| match instance.ownership(&world.cluster_uid) {
        Ownership::Foreign(uid) => Some((&instance.capacity.region, uid)),
        _ => None,
    };
    pass.index.foreign().iter().filter(|instance| instance.is_alive()).filter_map(foreign).collect()
}

fn report_foreign(pass: &mut Pass) {
    let world = pass.world;
    for (region, uid) in namesakes(pass) {
        let note = format!(
            "machines in {region} carry this cluster's name ({}) and the UID {uid} of another cluster: they are left alone. Give each cluster a \
             name and an interruption queue of its own (what comes for those machines is left in the queue); if that cluster is gone, take its machines over with `lowtide adopt`",
            world.cluster
        );
        tell_a_pool(pass, "OtherCluster", format!("{region}/{uid}"), note);
    }
}

fn report_strays(pass: &mut Pass) {
    for instance in strays(pass) {
        let owner = instance.ownership(&pass.world.cluster_uid);
        if owner == Ownership::Unmarked {
            let note = format!(
                "{} carries this cluster's name, no cluster UID (launched by lowtide 0.1, or by hand) and no claim: left alone; take it over \
                 with `lowtide adopt`, or end it in EC2",
                instance.id
            );
            tell_a_pool(pass, "UnmarkedMachine", &instance.id, note);
        } else if !instance.is_of_a_fleet() {
            let note = format!(
                "{} carries this cluster's tags, and no fleet launched it: somebody did by hand, as with \"launch more like this\" of one of ours. It is \
                 nobody's here and left alone, but it costs: end it in EC2, or take the tags that begin with lowtide- off it",
                instance.id
            );
            tell_a_pool(pass, "CopiedMachine", &instance.id, note);
        } else if instance.claim_uid().is_some_and(|uid| pass.index.is_claim(uid)) {
            let note = format!(
                "{} carries the tags of a claim that stands for another machine: it has no claim, is left alone while that one is there, and costs. If \
                 nothing of yours runs on it, end it in EC2",
                instance.id
            );
            tell_a_pool(pass, "CopiedMachine", &instance.id, note);
        } else if let Some(pod) = running_on(pass.world, &instance.id) {
            let note = format!(
                "{} has no claim, and pods run on it (as {pod}): it is kept, whatever else is true; take it over with `lowtide adopt`",
                instance.id
            );
            tell_a_pool(pass, "WorkWithoutClaim", &instance.id, note);
        }
    }
}

/// On the first pool: that is where the platform team looks, and nothing else here belongs to one of them.
/// `key` is what makes it news.
fn tell_a_pool(pass: &mut Pass, reason: &'static str, key: impl ToString, note: String) {
    if let Some(pool) = pass.world.pools.keys().next().cloned() {
        pass.emit(EventSubject::Pool(pool), (EventKind::Warning, reason), key, note);
    }
}

fn unclaimed_decision(pass: &Pass, instance: &Instance) -> Decision {
    let (trigger, outcome) = (Trigger::Unclaimed, Outcome::Terminate);
    Decision {
        id: DecisionId::derive(&pass.world.cluster, "unclaimed", instance.id.as_str(), pass.moment()),
        cluster: pass.cluster.clone(),
        decided_at: pass.now,
        trigger,
        outcome,
        text: format!(
            "{} ({}) carries our UID and no claim has stood for it for {}",
            instance.id, instance.capacity, pass.settings.orphan_grace
        )
        .into(),
        node_pool: None,
        workload: None,
        attribution: Default::default(),
        pods: Vec::new(),
        need: None,
        judgement: Default::default(),
        counterfactuals: Default::default(),
        claim: None,
        from_claim: None,
        instance: Some(instance.id.clone()),
        policy_hash: "".into(),
        code_version: pass.settings.code_version.clone(),
    }
}
