//! Nodes and what runs on them: joining, scheduling, starting, ending, and silence when the machine is gone.
//!
//! Decides: as a scheduler and kubelets do. A pod whose machine is gone stays in the API until somebody removes it.

use std::collections::BTreeMap;

use super::apply::whole_second;
use super::{Kube, SimNode, SimPod};
use crate::core::fleet::{Node, NodeState};
use crate::core::market::catalog::Catalog;
use crate::core::units::Resources;
use crate::core::units::ids::{InstanceId, NodeName, Uid};
use crate::core::units::time::{Millis, Timestamp};
use crate::core::workload::{Mobility, PodPhase};
use crate::sim::ec2::{Boot, Later, Machine};
use crate::sim::world::{Event, Owner};

/// A node is held unready after this much silence (observed: 43 to 48 s).
const SILENCE: Millis = Millis::from_secs(45);
/// The scheduler looks at a pending pod again.
const SCHEDULES_AGAIN: Millis = Millis::from_secs(5);

/// The node of an instance.
pub fn node_of(instance: &InstanceId) -> NodeName {
    NodeName::from(format!("node-{instance}"))
}

impl Kube {
    /// The machine's kubelet registers its node.
    pub fn joins(&mut self, machine: &Machine, catalog: &Catalog) {
        let instance = &machine.instance;
        let Some(kind) = catalog.types.get(&instance.capacity.instance_type).filter(|_| machine.alive()) else { return };
        let class = self.classes.values().map(|c| &c.object).find(|class| class.region == instance.capacity.region);
        let sharing = class.map_or_else(Default::default, |class| class.sharing);
        let mut allocatable = Resources { gpus: sharing.units(kind).count, ..kind.allocatable() };
        if matches!(machine.boot, Boot::WithoutGpus(_)) {
            allocatable.gpus = 0;
        }
        let node = Node {
            name: node_of(&instance.id),
            instance: instance.id.clone(),
            // Its kubelet reports its address; its name is its own.
            addresses: instance.addresses.iter().filter(|text| !text.starts_with("ip-")).cloned().collect(),
            ready: true,
            allocatable,
            labelled: false,
            tainted: false,
            state: NodeState::default(),
        };
        self.put_node(SimNode { node, claim: None, dead: false });
    }

    /// The scheduler binds a pod that is pinned to a claim's node, when there is such a node with room.
    pub fn schedule(&mut self, uid: &Uid, now: Timestamp, later: &mut Later) {
        let Some(pod) = self.pods.get(uid).map(|p| &p.object) else { return };
        if pod.pod.phase != PodPhase::Pending || pod.pod.node.is_some() || pod.pod.deleting_until.is_some() {
            return;
        }
        let gpus = pod.pod.need.as_ref().map_or(0, |(need, _)| need.gpus);
        let fits = |n: &&SimNode| n.claim.is_some() && n.claim == pod.pod.claim && n.node.ready && !n.node.tainted;
        let room = |n: &&SimNode| n.node.allocatable.gpus - self.gpus_used(&n.node.name) >= gpus;
        let found = self.nodes.values().map(|n| &n.object).filter(fits).find(room).map(|n| (n.node.name.clone(), n.dead));
        match found {
            Some((node, dead)) => {
                let starts = now + pod.start;
                self.change_pod(uid, |p| p.pod.node = Some(node));
                if !dead {
                    later.push((starts, Event::PodStarts(uid.clone())));
                }
            }
            None => later.push((now + SCHEDULES_AGAIN, Event::Schedules(uid.clone()))),
        }
    }

    /// GPUs that pods hold on a node.
    pub fn gpus_used(&self, node: &NodeName) -> i64 {
        let on_it = self.pods.values().map(|p| &p.object.pod).filter(|p| p.node.as_ref() == Some(node) && !p.finished());
        on_it.filter_map(|p| p.need.as_ref().ok()).map(|(need, _)| need.gpus).sum()
    }

    /// What pods hold of each node.
    pub fn used_on_nodes(&self) -> BTreeMap<&NodeName, Resources> {
        let mut used: BTreeMap<&NodeName, Resources> = BTreeMap::new();
        for pod in self.pods.values().map(|p| &p.object.pod).filter(|p| !p.finished()) {
            if let (Some(node), Ok((need, _))) = (&pod.node, &pod.need) {
                let held = used.entry(node).or_default();
                held.gpus += need.gpus;
                held.cpu.0 += need.cpu.0;
                held.memory.0 += need.memory.0;
            }
        }
        used
    }

    fn host_is_dead(&self, pod: &SimPod) -> bool {
        pod.pod.node.as_ref().is_some_and(|name| self.nodes.get(name).is_none_or(|n| n.object.dead))
    }

    /// A pod has started: it runs and is Ready.
    pub fn starts(&mut self, uid: &Uid, now: Timestamp, later: &mut Later) {
        let Some(pod) = self.pods.get(uid).map(|p| p.object.clone()) else { return };
        if pod.pod.phase != PodPhase::Pending || self.host_is_dead(&pod) || pod.pod.deleting_until.is_some() {
            return;
        }
        self.change_pod(uid, |p| {
            (p.pod.phase, p.pod.ready_since, p.running_since) = (PodPhase::Running, Some(now), Some(now));
            p.pod.started_at = Some(whole_second(now));
            p.pod.ready_in = p.pod.services.clone();
        });
        if let Mobility::Job { job, .. } = &pod.pod.mobility
            && let Some(job) = self.jobs.get(job)
        {
            later.push((now + (job.work - job.saved), Event::WorkDone(uid.clone())));
        }
    }

    /// A Job's pod has done its work.
    pub fn work_done(&mut self, uid: &Uid, now: Timestamp, later: &mut Later) {
        let Some(pod) = self.pods.get(uid).map(|p| p.object.clone()) else { return };
        let ended_before = pod.ends_at.is_some_and(|at| at <= now);
        if pod.pod.phase != PodPhase::Running || self.host_is_dead(&pod) || ended_before {
            return;
        }
        self.change_pod(uid, |p| (p.pod.phase, p.pod.ready_since) = (PodPhase::Succeeded, None));
        if let Mobility::Job { job, .. } = &pod.pod.mobility {
            later.push((now + Millis(200), Event::Reconciles(Owner::Job(job.clone()))));
        }
        // Its object is kept for a while (ttlSecondsAfterFinished).
        later.push((now + Millis::from_mins(5), Event::PodRemoved(uid.clone())));
    }

    /// A pod that was told to end has ended; with its grace it wrote its checkpoint.
    pub fn ends(&mut self, uid: &Uid, now: Timestamp, later: &mut Later) {
        let Some(pod) = self.pods.get(uid).map(|p| p.object.clone()) else { return };
        if pod.ends_at.is_none_or(|at| at > now) || self.host_is_dead(&pod) {
            return;
        }
        let in_time = pod.told_at.is_some_and(|told| now >= told + pod.ending);
        self.keep_work(&pod, now, in_time);
        self.removed(uid, now, later);
    }

    /// What a Job keeps of the work of a pod that ends at `now`: all of it with a checkpoint, else up to the last one it wrote on its own.
    fn keep_work(&mut self, pod: &SimPod, now: Timestamp, checkpointed: bool) {
        let (Mobility::Job { job, .. }, Some(since)) = (&pod.pod.mobility, pod.running_since) else { return };
        let Some(job) = self.jobs.get_mut(job).filter(|_| pod.pod.phase == PodPhase::Running) else { return };
        let told = pod.told_at.filter(|_| checkpointed).unwrap_or(now);
        let done = Millis(told.since(since).0.clamp(0, (job.work - job.saved).0));
        let kept = if checkpointed { done } else { Millis(done.0 / job.saves_every.0.max(1) * job.saves_every.0) };
        job.saved = job.saved + kept;
        job.lost = job.lost + (done - kept);
    }

    /// The pod object goes; its controller notices.
    pub fn removed(&mut self, uid: &Uid, now: Timestamp, later: &mut Later) {
        let Some(pod) = self.remove_pod(uid) else { return };
        let owner = match &pod.pod.mobility {
            Mobility::Surge { deployment, .. } => Owner::Deployment(deployment.clone()),
            Mobility::BreakFirst { .. } => Owner::Deployment(pod.pod.workload.object.name.clone()),
            Mobility::Job { job, .. } => {
                if pod.pod.let_go.is_none() && !pod.pod.finished() {
                    self.count_failure(job, now);
                }
                Owner::Job(job.clone())
            }
            Mobility::Bare => return,
        };
        later.push((now + Millis(300), Event::Reconciles(owner)));
    }

    /// The machine is gone: what ran there has stopped, and the node will be found silent.
    pub fn machine_gone(&mut self, instance: &InstanceId, now: Timestamp, later: &mut Later) {
        let name = node_of(instance);
        let Some(mut node) = self.nodes.get(&name).map(|n| n.object.clone()) else { return };
        node.dead = true;
        (self.changes.nodes, self.changes.pods) = (self.changes.nodes + 1, self.changes.pods + 1);
        self.nodes.entry(name.clone()).and_modify(|stored| stored.object = node);
        let on_it: Vec<SimPod> = self.pods.values().map(|p| &p.object).filter(|p| p.pod.node.as_ref() == Some(&name)).cloned().collect();
        for pod in on_it.iter().filter(|p| p.pod.phase == PodPhase::Running) {
            self.keep_work(pod, now, false);
            if let Some(stored) = self.pods.get_mut(&pod.pod.identity.uid) {
                stored.object.running_since = None;
            }
        }
        later.push((now + SILENCE, Event::NodeSilent(name)));
    }

    /// Nothing was heard of a node for too long.
    pub fn node_silent(&mut self, name: &NodeName) {
        let Some(mut node) = self.nodes.get(name).map(|n| n.object.clone()).filter(|n| n.dead) else { return };
        node.node.ready = false;
        self.put_node(node);
        let on_it: Vec<Uid> =
            self.pods.values().filter(|p| p.object.pod.node.as_ref() == Some(name)).map(|p| p.object.pod.identity.uid.clone()).collect();
        for uid in on_it {
            self.change_pod(&uid, |p| {
                p.pod.ready_since = None;
                p.pod.ready_in.clear();
            });
        }
    }
}
