//! Nodes and what runs on them: joining, starting, ending, and silence when the machine is gone.
//!
//! Decides: as kubelets do. A pod whose machine is gone stays in the API until somebody removes it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::apply::whole_second;
use super::scheduler::{HOSTNAME, REGION, TYPE, ZONE};
use super::work::Keeper;
use super::{Kube, SimNode, SimPod, Stored};
use crate::core::fleet::{Node, NodeState};
use crate::core::market::catalog::Catalog;
use crate::core::units::Resources;
use crate::core::units::ids::{InstanceId, NodeName, Region, Uid};
use crate::core::units::time::{Millis, Timestamp};
use crate::core::workload::PodPhase;
use crate::sim::ec2::{Boot, Later, Machine};
use crate::sim::event::{Event, Owner};

/// A node is held unready after this much silence (observed: 43 to 48 s).
const SILENCE: Millis = Millis::from_secs(45);
/// Watches lag behind for a minute at most: a kubelet that is heard for less between two silences may not be seen.
const SHORTEST_SIGHT: Millis = Millis::from_secs(62);
/// A volume that another node still has is asked for again.
const ATTACHES_AGAIN: Millis = Millis::from_secs(10);

/// The node of an instance.
pub fn node_of(instance: &InstanceId) -> NodeName {
    NodeName::from(format!("node-{instance}"))
}

impl Kube {
    /// The machine's kubelet registers its node.
    pub fn joins(&mut self, machine: &Machine, catalog: &Catalog, now: Timestamp) {
        let instance = &machine.instance;
        let Some(kind) = catalog.types.get(&instance.capacity.instance_type).filter(|_| machine.alive()) else { return };
        let class = self.classes.values().map(|c| &c.object).find(|class| class.region == instance.capacity.region);
        let sharing = class.map_or_else(Default::default, |class| class.sharing);
        let mut allocatable = Resources { gpus: sharing.units(kind).count, ..kind.allocatable() };
        if matches!(machine.boot, Boot::WithoutGpus(_)) {
            allocatable.gpus = 0;
        }
        // Region and zone are in the user data; the type is the cloud controller's to say, and k3s' own says its name.
        let (at, kind) = (&instance.capacity, if self.mislabels { "k3s".to_owned() } else { instance.capacity.instance_type.to_string() });
        let labels = [
            (HOSTNAME, node_of(&instance.id).to_string()),
            (REGION, at.region.to_string()),
            (ZONE, at.zone.to_string()),
            (TYPE, kind),
            ("kubernetes.io/arch", "amd64".to_owned()),
            ("kubernetes.io/os", "linux".to_owned()),
        ];
        let node = Node {
            name: node_of(&instance.id),
            instance: instance.id.clone(),
            // Its kubelet reports its address; its name is its own.
            addresses: instance.addresses.iter().filter(|text| !text.starts_with("ip-")).cloned().collect(),
            ready: true,
            allocatable,
            labelled: false,
            tainted: false,
            guarded: false,
            state: NodeState {
                labels: Arc::new(BTreeMap::from(labels.map(|(key, value)| (key.to_owned(), value))).into()),
                ..NodeState::default()
            },
        };
        self.put_node(SimNode { node, claim: None, dead: false, joined_at: now, cut_off: None, silence: None });
    }

    fn host_is_dead(&self, pod: &SimPod) -> bool {
        pod.pod.node.as_ref().is_some_and(|name| self.nodes.get(name).is_none_or(|n| n.object.dead))
    }

    /// Until when nothing is heard of the pod's kubelet.
    fn unheard_until(&self, pod: &SimPod) -> Option<Timestamp> {
        let node = self.nodes.get(pod.pod.node.as_ref()?)?;
        node.object.cut_off.filter(|_| !node.object.dead).map(|(_, until)| until)
    }

    /// A pod has started: it runs and is Ready.
    pub fn starts(&mut self, uid: &Uid, now: Timestamp, later: &mut Later) {
        let Some(pod) = self.pods.get(uid).map(|p| p.object.clone()) else { return };
        if pod.pod.phase != PodPhase::Pending || self.host_is_dead(&pod) || pod.pod.deleting_until.is_some() {
            return;
        }
        if let Some(until) = self.unheard_until(&pod) {
            return later.push((until + Millis::from_secs(1), Event::PodStarts(uid.clone())));
        }
        if self.waits_for_volume(&pod) {
            later.push((now + ATTACHES_AGAIN, Event::PodStarts(uid.clone())));
            return;
        }
        self.change_pod(uid, |p| {
            (p.pod.phase, p.pod.ready_since, p.running_since) = (PodPhase::Running, Some(now), Some(now));
            p.pod.started_at = Some(whole_second(now));
            p.pod.ready_in = p.pod.services.clone();
        });
        let work = pod.job().and_then(|job| self.jobs.get(job)).map(|job| job.work - job.saved).or(pod.work);
        later.extend(work.map(|work| (now + work, Event::WorkDone(uid.clone()))));
        self.next_in_order(&pod.made_by, now, later);
    }

    /// The next of a StatefulSet in order is made when the one before it is Ready.
    fn next_in_order(&self, owner: &Owner, now: Timestamp, later: &mut Later) {
        if matches!(owner, Owner::Replicated(name) if self.replicated.get(name).is_some_and(|w| matches!(w.keeper, Keeper::StatefulSet { .. })))
        {
            later.push((now + Millis(300), Event::Reconciles(owner.clone())));
        }
    }

    /// The pod of a Job, or a bare one, has done its work.
    pub fn work_done(&mut self, uid: &Uid, now: Timestamp, later: &mut Later) {
        let Some(pod) = self.pods.get(uid).map(|p| p.object.clone()) else { return };
        let ended_before = pod.ends_at.is_some_and(|at| at <= now);
        if pod.pod.phase != PodPhase::Running || self.host_is_dead(&pod) || ended_before {
            return;
        }
        if let Some(until) = self.unheard_until(&pod) {
            return later.push((until + Millis::from_secs(1), Event::WorkDone(uid.clone())));
        }
        self.change_pod(uid, |p| (p.pod.phase, p.pod.ready_since) = (PodPhase::Succeeded, None));
        if pod.job().is_some() {
            later.push((now + Millis(200), Event::Reconciles(pod.made_by.clone())));
        }
        // Its object is kept for a while (ttlSecondsAfterFinished).
        later.push((now + Millis::from_mins(5), Event::PodRemoved(uid.clone())));
    }

    /// A pod that was asked to end has ended; with its grace it wrote its checkpoint.
    pub fn ends(&mut self, uid: &Uid, now: Timestamp, later: &mut Later) {
        let Some(pod) = self.pods.get(uid).map(|p| p.object.clone()) else { return };
        if pod.ends_at.is_none_or(|at| at > now) || self.host_is_dead(&pod) {
            return;
        }
        // It has not heard that it is to end either.
        if let Some(until) = self.unheard_until(&pod) {
            return later.push((until + Millis::from_secs(1), Event::PodEnds(uid.clone())));
        }
        let in_time = pod.asked_to_end_at.is_some_and(|asked| now >= asked + pod.ending);
        self.keep_work(&pod, now, in_time);
        self.removed(uid, now, later);
    }

    /// What a Job keeps of the work of a pod that ends at `now`: all of it with a checkpoint, else up to the last one it wrote on its own.
    fn keep_work(&mut self, pod: &SimPod, now: Timestamp, checkpointed: bool) {
        let (Some(job), Some(since)) = (pod.job(), pod.running_since) else { return };
        let Some(job) = self.jobs.get_mut(job).filter(|_| pod.pod.phase == PodPhase::Running) else { return };
        let asked = pod.asked_to_end_at.filter(|_| checkpointed).unwrap_or(now);
        let done = Millis(asked.since(since).0.clamp(0, (job.work - job.saved).0));
        let kept = if checkpointed { done } else { Millis(done.0 / job.saves_every.0.max(1) * job.saves_every.0) };
        job.saved = job.saved + kept;
        job.lost = job.lost + (done - kept);
    }

    /// The pod object goes; its controller notices.
    pub fn removed(&mut self, uid: &Uid, now: Timestamp, later: &mut Later) {
        let Some(pod) = self.remove_pod(uid) else { return };
        if let (Some(job), true) = (pod.job(), pod.pod.let_go.is_none() && !pod.pod.finished()) {
            self.count_failure(job, now);
        }
        let owner = pod.made_by;
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

    /// The kubelets of these regions cannot reach the API server until then; those of `nodes` are there.
    pub fn cut_off(&mut self, (regions, nodes): (Vec<Region>, Vec<NodeName>), until: Timestamp, now: Timestamp, later: &mut Later) {
        for region in regions {
            let cut = self.cut_regions.entry(region).or_insert(until);
            *cut = until.max(*cut);
        }
        for name in nodes {
            let Some(node) = self.nodes.get_mut(&name).map(|n| &mut n.object).filter(|n| !n.dead) else { continue };
            match &mut node.cut_off {
                Some((_, known)) => *known = until.max(*known),
                none => {
                    *none = Some((now, until));
                    later.push((now + SILENCE, Event::NodeSilent(name)));
                }
            }
        }
    }

    /// Until when the kubelets of a region cannot reach the API server.
    pub fn cut_until(&self, region: &Region, now: Timestamp) -> Option<Timestamp> {
        self.cut_regions.get(region).copied().filter(|until| *until > now)
    }

    /// Kubelets that were cut off report again: what ran there runs.
    pub fn heard_again(&mut self, now: Timestamp, later: &mut Later) {
        let back = |n: &Stored<SimNode>| n.object.cut_off.is_some_and(|(_, until)| until <= now) && !n.object.dead;
        let back: Vec<NodeName> = self.nodes.values().filter(|n| back(n)).map(|n| n.object.node.name.clone()).collect();
        for name in back {
            let Some(mut node) = self.nodes.get(&name).map(|n| n.object.clone()) else { continue };
            node.cut_off = None;
            let Some((_, over)) = node.silence.as_mut().filter(|(_, over)| over.is_none()) else {
                self.nodes.entry(name).and_modify(|stored| stored.object = node);
                continue;
            };
            (*over, node.node.ready) = (Some(now), true);
            self.put_node(node);
            let runs = |p: &&SimPod| p.pod.node.as_ref() == Some(&name) && p.running_since.is_some();
            let on_it: Vec<SimPod> = self.pods.values().map(|p| &p.object).filter(runs).cloned().collect();
            for pod in on_it {
                self.change_pod(&pod.pod.identity.uid, |p| {
                    p.pod.ready_since = Some(now);
                    p.pod.ready_in = p.pod.services.clone();
                });
                self.next_in_order(&pod.made_by, now, later);
            }
        }
    }

    /// Nothing was heard of a node for too long.
    pub fn node_silent(&mut self, name: &NodeName, now: Timestamp) {
        // It may have been heard since, and be cut off a second time, for less long.
        let is_cut_off = |n: &SimNode| n.cut_off.is_some_and(|(from, until)| now.since(from) >= SILENCE && now < until);
        let Some(mut node) = self.nodes.get(name).map(|n| n.object.clone()).filter(|n| n.dead || is_cut_off(n)) else { return };
        node.node.ready = false;
        if !node.dead {
            // Watches may never have shown that it was heard for a moment.
            let before = node.silence.filter(|(_, over)| over.is_none_or(|at| now.since(at) < SHORTEST_SIGHT));
            node.silence = Some((before.map_or(now, |(since, _)| since), None));
        }
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
