//! What must hold of machines, claims and pods at every moment.

use std::collections::{BTreeMap, BTreeSet};

use super::super::event::Owner;
use super::super::kube::{Changes, Job, Replicated, SimNode, SimPod};
use super::super::world::World;
use super::books;
use crate::core::fleet::Claim;
use crate::core::invariant::Invariant;
use crate::core::units::ids::{ClaimName, InstanceId, Uid};
use crate::core::units::time::{Millis, Timestamp};
use crate::core::workload::{Pod, PodPhase};

/// An instance may be without a claim, or without work, for this long: adoption, grace, sweeping and every trouble take less.
const BOUND: Millis = Millis::from_mins(75);

/// Checks the world after a step.
pub fn after_step(world: &mut World, now: Timestamp) {
    world.checks.steps += 1;
    // Each rule goes by some of machines, claims, nodes and pods, and one by how long a machine has been without claim or work.
    let seen = (world.kube.changes(), world.ec2.changes());
    let before = world.checks.held;
    let changed = |of: fn(&(Changes, u64)) -> u64| before.is_none_or(|before| of(&before) != of(&seen));
    let (pods, claims, nodes) = (changed(|(kube, _)| kube.pods), changed(|(kube, _)| kube.claims), changed(|(kube, _)| kube.nodes));
    let (machines, overdue) = (changed(|(_, ec2)| *ec2), world.checks.oldest_mark.is_some_and(|at| now.since(at) > BOUND));
    let mut broken = Vec::new();
    if machines {
        one_instance_per_claim(world, &mut broken);
    }
    if machines || claims || pods || overdue {
        every_instance_claimed(world, now, &mut broken);
    }
    if claims {
        one_claim_per_pod(world, &mut broken);
    }
    if pods || nodes {
        nodes_hold_their_pods(world, &mut broken);
    }
    if pods {
        one_pod_per_job(world, &mut broken);
    }
    if pods || overdue {
        lifted_pods_run(world, now, &mut broken);
    }
    world.checks.held = if broken.is_empty() { Some(seen) } else { None };
    for (invariant, text) in broken {
        world.broke(invariant, text);
    }
}

type Broken = Vec<(Invariant, String)>;

fn one_instance_per_claim(world: &World, broken: &mut Broken) {
    let mut by_claim: BTreeMap<&Uid, Vec<&InstanceId>> = BTreeMap::new();
    for machine in world.ec2.alive() {
        by_claim.entry(&machine.claim_uid).or_default().push(&machine.instance.id);
    }
    for (uid, ids) in by_claim.into_iter().filter(|(_, ids)| ids.len() > 1) {
        broken.push((Invariant::OneInstancePerClaim, format!("{uid} has {ids:?}")));
    }
}

fn every_instance_claimed(world: &mut World, now: Timestamp, broken: &mut Broken) {
    let World { kube, ec2, checks, .. } = world;
    let claims: BTreeMap<&Uid, &Claim> = kube.claims.values().map(|c| (&c.object.uid, &c.object)).collect();
    let holders = kube.pods.values().map(|p| &p.object.pod).filter(|p| !p.finished());
    let wanted: BTreeSet<&ClaimName> = holders.filter_map(|p| p.claim.as_ref()).collect();
    checks.oldest_mark = None;
    ec2.for_each_alive(|machine| {
        let claim = claims.get(&machine.claim_uid);
        let since = |mark: &mut Option<Timestamp>, holds: bool| -> Option<Millis> {
            *mark = if holds { Some(mark.unwrap_or(now)) } else { None };
            mark.map(|at| now.since(at))
        };
        let unclaimed = since(&mut machine.unclaimed_since, claim.is_none());
        let unwanted = since(&mut machine.unwanted_since, claim.is_none_or(|claim| !wanted.contains(&claim.name)));
        checks.oldest_mark = [checks.oldest_mark, machine.unclaimed_since, machine.unwanted_since].into_iter().flatten().min();
        if unclaimed.is_some_and(|span| span > BOUND) {
            broken.push((Invariant::EveryInstanceClaimed, format!("{} has had no claim for {BOUND}", machine.instance.id)));
        } else if unwanted.is_some_and(|span| span > BOUND) {
            broken.push((Invariant::EveryInstanceClaimed, format!("{} has had no work for {BOUND}", machine.instance.id)));
        }
    });
}

fn one_claim_per_pod(world: &World, broken: &mut Broken) {
    let mut seen: BTreeMap<&Uid, u32> = BTreeMap::new();
    for occupant in world.kube.claims.values().flat_map(|c| &c.object.status.occupants) {
        *seen.entry(&occupant.pod.uid).or_default() += 1;
    }
    for (uid, count) in seen.into_iter().filter(|(_, count)| *count > 1) {
        broken.push((Invariant::OneClaimPerPod, format!("{uid} occupies {count} claims")));
    }
}

fn nodes_hold_their_pods(world: &World, broken: &mut Broken) {
    let used_on = world.kube.used_on_nodes();
    for node in world.kube.nodes.values().map(|n| &n.object.node) {
        let (used, has) = (used_on.get(&node.name).copied().unwrap_or_default(), node.allocatable);
        if used.gpus > has.gpus {
            broken.push((Invariant::OneClaimPerPod, format!("{} has {} GPUs and its pods hold {}", node.name, has.gpus, used.gpus)));
        } else if used.cpu > has.cpu || used.memory > has.memory || used.disk > has.disk {
            broken.push((Invariant::OneClaimPerPod, format!("{} has {has:?} and its pods hold {used:?}", node.name)));
        }
    }
}

fn one_pod_per_job(world: &World, broken: &mut Broken) {
    let mut running: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for pod in world.kube.pods.values().map(|p| &p.object).filter(|p| p.pod.phase == PodPhase::Running && p.running_since.is_some()) {
        if let Some(job) = pod.job() {
            running.entry(job).or_default().push(&pod.pod.identity.object.name);
        }
    }
    for (job, pods) in running.into_iter().filter(|(_, pods)| pods.len() > 1) {
        broken.push((Invariant::OnePodPerJob, format!("{job} runs as {pods:?}")));
    }
}

/// INV-12. A pod that is lifted and not bound to a node waits for something that must come soon, or is removed to be made again.
fn lifted_pods_run(world: &mut World, now: Timestamp, broken: &mut Broken) {
    let World { kube, checks, .. } = world;
    let waits = |p: &&Pod| p.phase == PodPhase::Pending && p.node.is_none() && p.deleting_until.is_none();
    let waiting: BTreeMap<Uid, &str> = kube
        .pods
        .values()
        // Nobody makes a bare pod again but its owner.
        .filter(|p| !matches!(p.object.made_by, Owner::Nobody(_)))
        .map(|p| &p.object.pod)
        .filter(waits)
        .map(|p| (p.identity.uid.clone(), p.identity.object.name.as_str()))
        .collect();
    checks.lifted_since.retain(|uid, _| waiting.contains_key(uid));
    for (uid, name) in waiting {
        let since = *checks.lifted_since.entry(uid).or_insert(now);
        checks.oldest_mark = Some(checks.oldest_mark.map_or(since, |at| at.min(since)));
        if now.since(since) > BOUND {
            broken.push((
                Invariant::LiftedPodsRun,
                format!("the gate of {name} was lifted {BOUND} ago, and it neither runs nor is placed again"),
            ));
        }
    }
}

/// What a Job needs beside its work to be done in time: a boot, at its longest.
const LONGEST_BOOT: Millis = Millis::from_mins(10);

/// A Job that holds no machine and whose deadline leaves time may wait for cheap spot, which a market at rest may never have.
fn waits_lawfully(world: &World, name: &str, job: &Job) -> bool {
    let gated = |p: &&SimPod| p.job() == Some(name) && p.pod.phase == PodPhase::Gated;
    let waiting = world.kube.pods.values().map(|p| &p.object).filter(gated).any(|p| !holds(world, &p.pod) && p.asks.is_spot_first());
    waiting && job.deadline.is_some_and(|deadline| world.now() + (job.work - job.saved) + LONGEST_BOOT < deadline)
}

/// Whether it has a claim. The name of one whose launch was refused stays on the pod until it is bound again.
fn holds(world: &World, pod: &Pod) -> bool {
    pod.claim.as_ref().is_some_and(|name| world.kube.claims.contains_key(name))
}

/// Replicas that may wait for spot as well: the others serve.
fn spares_of(work: &Replicated) -> usize {
    work.template.asks().spares.min(work.replicas.saturating_sub(1))
}

/// What is still out of place: work without a machine, machines without work, ends that are not in the books yet.
pub fn unsettled(world: &World) -> Vec<String> {
    let mut open = Vec::new();
    let pods = || world.kube.pods.values().map(|p| &p.object);
    for (name, work) in world.kube.replicated.iter().filter(|(_, work)| work.honoured) {
        let of_it = |p: &&SimPod| p.maker == work.controller && p.pod.let_go.is_none();
        let ready = pods().filter(of_it).filter(|p| p.pod.ready_since.is_some() && p.pod.deleting_until.is_none()).count();
        let waits = |p: &&SimPod| p.pod.phase == PodPhase::Gated && !holds(world, &p.pod) && p.asks.is_spot_first();
        let waiting = pods().filter(of_it).filter(waits).count();
        if ready + waiting.min(spares_of(work)) != work.replicas {
            let kind = work.keeper.kind();
            open.push(format!("{kind} {name} has {ready} of {} replicas Ready, and {waiting} wait", work.replicas));
        }
    }
    for (name, job) in world.kube.jobs.iter().filter(|(_, j)| j.finished_at.is_none()) {
        if !pods().any(|p| p.job() == Some(name) && p.pod.phase == PodPhase::Running) && !waits_lawfully(world, name, job) {
            open.push(format!("Job {name} neither runs nor has ended; {} failures", job.failures));
        }
    }
    for pod in pods().filter(|p| matches!(p.made_by, Owner::Nobody(_)) && p.pod.phase == PodPhase::Gated) {
        open.push(format!("bare pod {} waits for a machine", pod.pod.identity.object.name));
    }
    for machine in world.ec2.alive() {
        let claimed = world.kube.claims.values().any(|c| c.object.uid == machine.claim_uid);
        if !claimed || machine.unwanted_since.is_some() {
            open.push(format!("{} is paid for and not wanted", machine.instance.id));
        }
    }
    let gone = |c: &&Claim| c.status.instance.as_ref().and_then(|id| world.ec2.machines.get(id)).is_none_or(|m| !m.alive());
    for claim in world.kube.claims.values().map(|c| &c.object).filter(gone) {
        open.push(format!("{} stands for no machine that runs", claim.name));
    }
    // A Node may outlive its machine: nothing runs there.
    let of_claim = |node: &&SimNode| node.claim.as_ref().is_some_and(|claim| world.kube.claims.contains_key(claim));
    for node in world.kube.nodes.values().map(|n| &n.object).filter(|n| n.is_bare()).filter(of_claim) {
        open.push(format!("{} is open to everybody's pods, its claim {:?}", node.node.name, node.claim));
    }
    if !world.kube.outbox.is_empty() {
        open.push(format!("{} records have not reached the ledger", world.kube.outbox.len()));
    }
    if open.is_empty() {
        // Looked for last: it reads the whole ledger.
        let known: BTreeSet<InstanceId> = books::intervals(world).into_values().map(|(instance, _)| instance).collect();
        let recorded = |id: &InstanceId| known.contains(id);
        let unrecorded = world.ec2.alive().map(|m| &m.instance.id).filter(|id| !recorded(id));
        open.extend(unrecorded.map(|id| format!("{id} is paid for and not in the ledger yet")));
    }
    open
}

#[cfg(test)]
mod tests {
    use super::super::super::faults::{Faults, Level};
    use super::super::super::kube::{Keeper, Template};
    use super::super::super::people::People;
    use super::*;
    use crate::core::fleet::ClaimStatus;
    use serde_json::json;

    /// What INV-10 says of the world after `change`, of things whose kind is `kind`.
    fn open_after(kind: &str, change: impl FnOnce(&mut World)) -> Vec<String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let mut world = World::open(1, Faults::new(1, Level::None, None), false);
            change(&mut world);
            unsettled(&world).into_iter().filter(|text| text.starts_with(kind)).collect()
        })
    }

    /// ... of a Job with an hour of work whose pod is gated, with a deadline this many minutes ahead.
    fn open_jobs(deadline_in_minutes: Option<i64>, change: impl FnOnce(&mut Pod)) -> Vec<String> {
        open_jobs_of(|_| {}, deadline_in_minutes, change)
    }

    fn open_jobs_of(
        change_template: impl FnOnce(&mut Template),
        deadline_in_minutes: Option<i64>,
        change: impl FnOnce(&mut Pod),
    ) -> Vec<String> {
        open_after("Job ", |world| {
            let now = world.now();
            let (name, mut job) = People::new(1).job(now, &world.account, &mut world.kube.volumes);
            change_template(&mut job.template);
            (job.work, job.deadline) = (Millis::from_hours(1), deadline_in_minutes.map(|minutes| now + Millis::from_mins(minutes)));
            world.kube.jobs.insert(name.clone(), job);
            world.kube.reconcile(&Owner::Job(name), now, &mut Vec::new());
            let uid = world.kube.pods.keys().next().cloned().unwrap();
            world.kube.change_pod(&uid, |pod| change(&mut pod.pod));
            world.kube.put_claim(claim("lt-1"));
        })
    }

    fn claim(name: &str) -> Claim {
        let spec = json!({
            "node_pool": "gpu", "node_class": "gpu", "price_per_hour": "0.3", "on_demand_per_hour": null, "gpus": 1,
            "capacity": { "region": "us-east-1", "zone": "use1-az4", "instance_type": "g6.xlarge", "capacity_type": "spot" },
            "decision": "00000000-0000-0000-0000-000000000001", "trigger": "pending-pod", "attempt": 1, "launch_template": "lt",
            "launch_template_version": "1", "subnet": "subnet", "tags": {}, "bought_for": [],
        });
        let (spec, status) = (serde_json::from_value(spec).unwrap(), ClaimStatus::default());
        Claim { name: name.into(), uid: "claim".into(), version: 0, created_at: Timestamp(0), deleting: false, spec, status }
    }

    #[test]
    fn a_job_may_wait_for_spot_while_its_deadline_leaves_time_and_no_longer() {
        assert_eq!(open_jobs(Some(71), |_| {}), Vec::<String>::new(), "an hour of work, and a boot");
        assert_eq!(open_jobs(Some(71), |pod| pod.claim = Some("lt-0".into())), Vec::<String>::new(), "its claim is gone");
        assert_eq!(open_jobs(Some(70), |_| {}).len(), 1, "it is time to start");
        assert_eq!(open_jobs(None, |_| {}).len(), 1, "nothing to wait for");
        assert_eq!(open_jobs(Some(600), |pod| pod.claim = Some("lt-1".into())).len(), 1, "it has a machine and does not run");
        assert_eq!(open_jobs(Some(600), |pod| pod.phase = PodPhase::Pending).len(), 1, "its gate is lifted and it does not run");
        let on_demand = |template: &mut Template| template.annotate("capacity", "on-demand");
        assert_eq!(open_jobs_of(on_demand, Some(600), |_| {}).len(), 1, "on-demand does not run out");
    }

    /// INV-10 of a Deployment of three replicas, of which this many are spares and this many are Ready; the others are gated.
    fn open_deployments(spares: u32, ready: usize) -> Vec<String> {
        open_after("Deployment ", |world| {
            let (name, mut work) = People::new(1).replicated(&world.account, &mut world.kube.volumes).remove(0);
            (work.replicas, work.keeper) = (3, Keeper::Deployment("RollingUpdate"));
            work.template.annotate("spares", spares);
            let now = world.now();
            world.kube.replicated.clear();
            world.kube.put_replicated(&name, work);
            world.kube.reconcile(&Owner::Replicated(name), now, &mut Vec::new());
            let uids: Vec<Uid> = world.kube.pods.keys().take(ready).cloned().collect();
            assert_eq!(world.kube.pods.len(), 3);
            for uid in uids {
                world.kube.change_pod(&uid, |pod| (pod.pod.phase, pod.pod.ready_since) = (PodPhase::Running, Some(now)));
            }
        })
    }

    #[test]
    fn a_spare_may_wait_for_spot_and_a_replica_that_must_serve_may_not() {
        assert_eq!(open_deployments(0, 3), Vec::<String>::new());
        assert_eq!(open_deployments(0, 2).len(), 1);
        assert_eq!(open_deployments(1, 2), Vec::<String>::new());
        assert_eq!(open_deployments(1, 1).len(), 1);
        assert_eq!(open_deployments(9, 0).len(), 1, "one always serves");
    }
}
