//! When a bound pod's gate is lifted.
//!
//! Decides: its machine is Ready with its GPUs and has the labels it selects, and no older pod of the same Job still runs in its place.
//! Does not: bind (`buying`).

use super::super::claims::steps;
use super::super::pass::{Pass, target};
use super::super::placing::asking::class_labels;
use super::watching::{has_outgrown, is_misfit};
use crate::core::action::{Action, ClusterAction, EventKind, EventSubject};
use crate::core::fleet::{Claim, Node};
use crate::core::placement::node_labels::ExpectedNode;
use crate::core::snapshot::Lane;
use crate::core::units::ids::Uid;
use crate::core::workload::company::{Company, Domain};
use crate::core::workload::need::WorkloadKind;
use crate::core::workload::need::constraints::ZONE;
use crate::core::workload::{Mobility, Pod, PodPhase};

pub(in crate::core::plan) fn lift_gates(pass: &mut Pass) {
    let gated = pass.index.gated().to_vec();
    for pod in gated {
        let Some(claim) = pod.claim.as_ref().and_then(|name| pass.claims.get(name)).filter(|c| c.takes_work()) else { continue };
        let node = claim.status.node.as_ref().and_then(|node| pass.world.nodes.get(node));
        let Some(node) = node.filter(|n| n.ready && n.labelled && !n.state.cordoned && n.state.foreign_taints.is_empty()) else { continue };
        if claim.status.node_ready_at.is_none() || is_misfit(claim, pod) || has_outgrown(pass, claim, pod) || predecessor_runs(pass, pod) {
            continue;
        }
        let claim = claim.clone();
        if !has_its_labels(pass, &claim, node, pod) || !is_near_by_label(pass, &claim, node, pod) {
            continue;
        }
        let Some(claim) = pod.claim.as_ref().and_then(|name| pass.claims.get(name)) else { continue };
        let action = ClusterAction::Lift { target: target(pod), claim: claim.name.clone() };
        pass.step(vec![Lane::Pod(pod.identity.uid.clone())], Vec::new(), vec![Action::Cluster(action)]);
    }
}

/// Whether the node has the labels that the pod selects it by; else it is given what lowtide promised, or remembered as no place for it.
fn has_its_labels(pass: &mut Pass, claim: &Claim, node: &Node, pod: &Pod) -> bool {
    let Ok((need, _)) = &pod.need else { return true };
    if need.node_terms.is_empty() && need.zones.is_empty() && need.instance_types.is_empty() {
        return true;
    }
    let Some(machine) = pass.world.catalog.types.get(&claim.spec.capacity.instance_type) else { return true };
    let class = pass.world.classes.get(&claim.spec.node_class).map(|c| class_labels(c, &claim.spec.capacity.zone)).unwrap_or_default();
    let expected = ExpectedNode { capacity: &claim.spec.capacity, machine, class: &class };
    match expected.lacking(need, &*node.state.labels) {
        Some(labels) if labels.is_empty() => return true,
        Some(labels) => {
            let mark = steps::mark_node(claim, &node.name, labels);
            pass.step(vec![Lane::Node(node.name.clone())], Vec::new(), vec![mark]);
        }
        None => {
            let action = steps::remember_misfit(claim, need.fingerprint());
            if pass.step(vec![Lane::Claim(claim.name.clone())], Vec::new(), vec![action]) {
                let note = format!("node {} has not the labels that it selects: it is placed elsewhere", node.name);
                pass.emit(EventSubject::Pod(pod.identity.clone()), (EventKind::Warning, "NotScheduled"), "labels", note);
            }
        }
    }
    false
}

/// Whether the pods that the pod must be near in its zone stand on nodes with the same label for that zone: some pods ask for its id and some
/// for its name, and the scheduler compares what is written. Else their node gets the form that this one has.
fn is_near_by_label(pass: &mut Pass, claim: &Claim, node: &Node, pod: &Pod) -> bool {
    let near: Vec<&Company> = pod.rules.together.iter().filter(|c| c.domain == Domain::Zone).collect();
    let Some(form) = node.state.labels.get(ZONE).filter(|_| !near.is_empty()) else { return true };
    let meant = |other: &Pod| near.iter().any(|c| c.pods.selects(&other.object().namespace, &other.rules.labels));
    let others = pass.world.pods.values().filter(|p| !p.finished() && meant(p)).filter_map(|p| pass.claims.get(p.claim.as_ref()?));
    let beside = others.filter(|c| c.spec.capacity.zone == claim.spec.capacity.zone && c.name != claim.name);
    let node_of = |c: &'_ &Claim| pass.world.nodes.get(c.status.node.as_ref()?);
    let differs = beside.filter_map(|c| Some((c, node_of(&c)?))).find(|(_, there)| there.state.labels.get(ZONE) != Some(form));
    let Some((of, there)) = differs else { return true };
    let (lane, labels) = (Lane::Node(there.name.clone()), [(ZONE.to_owned(), form.to_owned())].into());
    let mark = steps::mark_node(of, &there.name, labels);
    pass.step(vec![lane], Vec::new(), vec![mark]);
    false
}

/// Two pods of one Job never run at once: the checkpoint must be whole before it is read.
fn predecessor_runs(pass: &Pass, pod: &Pod) -> bool {
    let batch = pod.need.as_ref().is_ok_and(|(need, _)| need.kind == WorkloadKind::Batch);
    let Mobility::Job { job_uid, .. } = &*pod.mobility else { return false };
    let known = pass.world.held(pod).replaces.and_then(|r| pass.world.pods.get(&r.pod.uid));
    batch && (known.is_some_and(|old| !old.finished()) || pass.index.of_job(job_uid).iter().any(|old| is_left(pass, old, pod, job_uid)))
}

/// An older pod of the Job that is asked to stop and has not stopped, and that no other pod replaces. What was done to it a moment ago may not
/// be seen yet: then a step about it is still under way.
fn is_left(pass: &Pass, old: &Pod, pod: &Pod, job: &Uid) -> bool {
    let of_it = match &old.let_go {
        Some(mark) => mark.controller == *job,
        None => matches!(&*old.mobility, Mobility::Job { job_uid, .. } if job_uid == job),
    };
    of_it
        && old.identity.uid != pod.identity.uid
        && old.phase != PodPhase::Gated
        && !old.finished()
        && (old.let_go.is_some() || old.deleting_until.is_some() || !pass.is_free(&Lane::Pod(old.identity.uid.clone())))
        && pass.replacement_of(old).is_none_or(|new| new.identity.uid == pod.identity.uid)
}
