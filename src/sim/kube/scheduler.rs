//! The simulated kube-scheduler.
//!
//! Decides: whether a pod may run on a node, from its manifest and from what runs there, and what is said when it may not. It shares no
//! code with lowtide's placement.
//! Does not: score nodes (lowtide pins each pod to one) or preempt.
//!
//! As the real one does: nodes that the pod's own selector rules out are no domains of a spread (`nodeAffinityPolicy: Honor`), so a pinned pod
//! is never refused for its spread. That lowtide keeps spreads all the same is for the checks to see.

use std::collections::{BTreeMap, BTreeSet};

use super::Kube;
use super::asks::{Asks, Others};
use super::work::SimPod;
use super::{SimNode, apply::whole_second};
use crate::core::units::Resources;
use crate::core::units::ids::{NodeName, Uid};
use crate::core::units::time::{Millis, Timestamp};
use crate::core::workload::{PodPhase, Stuck};
use crate::sim::ec2::Later;
use crate::sim::event::Event;

/// The scheduler looks at a pending pod again.
const AGAIN: Millis = Millis::from_secs(5);
/// Labels of nodes that are there whoever made the node.
pub const HOSTNAME: &str = "kubernetes.io/hostname";
/// The zone.
pub const ZONE: &str = "topology.kubernetes.io/zone";
/// The region.
pub const REGION: &str = "topology.kubernetes.io/region";
/// The instance type.
pub const TYPE: &str = "node.kubernetes.io/instance-type";
/// The taint that leaving machines carry.
const LEAVING: &str = "lowtide.dev/leaving";

impl Kube {
    /// Binds a pod to a node that it may run on, if there is one; else its condition says why not.
    pub fn schedule(&mut self, uid: &Uid, now: Timestamp, later: &mut Later) {
        let Some(pod) = self.pods.get(uid).map(|p| &p.object) else { return };
        if pod.pod.phase != PodPhase::Pending || pod.pod.node.is_some() || pod.pod.deleting_until.is_some() {
            return;
        }
        match self.find_node(pod) {
            Ok(node) => {
                let starts = now + pod.start;
                let dead = self.nodes.get(&node).is_some_and(|n| n.object.dead);
                let (claims, zone) = (pod.asks.claims.clone(), self.label(&node, ZONE).map(str::to_owned));
                self.change_pod(uid, |p| {
                    p.rewrite(|manifest| super::manifests::schedule(manifest, &node));
                    (p.pod.node, p.pod.stuck) = (Some(node), None);
                });
                for claim in &claims {
                    self.around.changed |= zone.as_ref().is_some_and(|zone| self.volumes.consume(claim, zone));
                }
                if !dead {
                    later.push((starts, Event::PodStarts(uid.clone())));
                }
            }
            Err(said) => {
                // The condition was False from the start (SchedulingGated), so its time is that of the pod.
                let since = whole_second(pod.pod.created_at);
                if pod.pod.stuck.as_ref().is_none_or(|stuck| stuck.said != said) {
                    self.change_pod(uid, |p| p.pod.stuck = Some(Box::new(Stuck { since, said })));
                }
                later.push((now + AGAIN, Event::Schedules(uid.clone())));
            }
        }
    }

    fn label(&self, node: &NodeName, key: &str) -> Option<&str> {
        self.nodes.get(node)?.object.node.state.labels.get(key)
    }

    fn find_node(&self, pod: &SimPod) -> Result<NodeName, String> {
        let mut refused: BTreeMap<&'static str, usize> = BTreeMap::new();
        for node in self.nodes.values().map(|n| &n.object) {
            match self.refuses(node, pod) {
                None => return Ok(node.node.name.clone()),
                Some(reason) => *refused.entry(reason).or_default() += 1,
            }
        }
        let reasons: Vec<String> = refused.into_iter().map(|(reason, nodes)| format!("{nodes} {reason}")).collect();
        Err(format!("0/{} nodes are available: {}.", self.nodes.len(), reasons.join(", ")))
    }

    /// Why the pod may not run on a node.
    fn refuses(&self, node: &SimNode, pod: &SimPod) -> Option<&'static str> {
        let (asks, labels) = (&pod.asks, &*node.node.state.labels);
        let used = self.used_on(&node.node.name);
        let tolerates =
            |key: &str, value: Option<&str>| asks.tolerates.iter().any(|(k, v)| k == key && v.as_deref().is_none_or(|v| Some(v) == value));
        let claim = node.claim.as_ref().map_or("none-yet", |claim| claim.as_str());
        let tainted = (!node.is_bare() && !tolerates("lowtide.dev/claim", Some(claim))) || (node.node.tainted && !tolerates(LEAVING, None));
        let zone = labels.get(ZONE).unwrap_or("");
        let checks: [(bool, &'static str); 8] = [
            (!node.node.ready, "node(s) had untolerated taint {node.kubernetes.io/not-ready: }"),
            (tainted, "node(s) had untolerated taint"),
            (!asks.takes_node(labels), "node(s) didn't match Pod's node affinity/selector"),
            (!fits(asks.resources, used, node.node.allocatable), "Insufficient resources"),
            (self.ports_on(&node.node.name, &pod.pod.identity.uid).any(|p| asks.ports.contains(&p)), "node(s) didn't have free ports"),
            (self.kept_apart(node, pod), "node(s) didn't satisfy anti-affinity rules"),
            (self.unevenly_spread(node, pod), "node(s) didn't match pod topology spread constraints"),
            (!self.volumes_allow(asks, zone, &pod.pod.identity.uid), "node(s) had volume node affinity conflict"),
        ];
        checks.into_iter().find_map(|(holds, reason)| holds.then_some(reason))
    }

    /// Pods that the scheduler counts on nodes: bound to one, and not ended.
    fn scheduled(&self) -> impl Iterator<Item = (&SimPod, &NodeName)> {
        let on = |p: &'_ super::Stored<SimPod>| -> bool { p.object.pod.node.is_some() && !p.object.pod.finished() };
        self.pods.values().filter(move |p| on(p)).filter_map(|p| Some((&p.object, p.object.pod.node.as_ref()?)))
    }

    fn ports_on<'a>(&'a self, node: &'a NodeName, but: &'a Uid) -> impl Iterator<Item = i64> + 'a {
        let there = self.scheduled().filter(move |(p, on)| *on == node && p.pod.identity.uid != *but);
        there.flat_map(|(p, _)| p.asks.ports.iter().copied())
    }

    /// What pods hold of a node.
    pub fn used_on(&self, node: &NodeName) -> Resources {
        let mut used = Resources::default();
        self.scheduled().filter(|(_, on)| *on == node).for_each(|(p, _)| add(&mut used, p.asks.resources));
        used
    }

    /// What pods hold of each node.
    pub fn used_on_nodes(&self) -> BTreeMap<&NodeName, Resources> {
        let mut used: BTreeMap<&NodeName, Resources> = BTreeMap::new();
        self.scheduled().for_each(|(p, on)| add(used.entry(on).or_default(), p.asks.resources));
        used
    }

    /// Anti-affinity, of the pod and of those that are there.
    fn kept_apart(&self, node: &SimNode, pod: &SimPod) -> bool {
        let labels = &node.node.state.labels;
        let same_domain = |on: &NodeName, key: &str| labels.get(key).is_some_and(|value| self.label(on, key) == Some(value));
        let (asks, uid) = (&pod.asks, &pod.pod.identity.uid);
        self.scheduled().filter(|(other, _)| other.pod.identity.uid != *uid).any(|(other, on)| {
            asks.apart.iter().any(|term| term.selects(&other.asks.labels) && same_domain(on, &term.domain))
                || other.asks.apart.iter().any(|term| term.selects(&asks.labels) && same_domain(on, &term.domain))
        })
    }

    fn unevenly_spread(&self, node: &SimNode, pod: &SimPod) -> bool {
        pod.asks.spread.iter().any(|spread| self.exceeds(spread, node, pod))
    }

    fn exceeds(&self, spread: &Others, node: &SimNode, pod: &SimPod) -> bool {
        let Some(here) = node.node.state.labels.get(&spread.domain) else { return true };
        let counts = |n: &&SimNode| pod.asks.takes_node(&*n.node.state.labels);
        let eligible: BTreeMap<&NodeName, &str> = self
            .nodes
            .values()
            .map(|n| &n.object)
            .filter(counts)
            .filter_map(|n| Some((&n.node.name, n.node.state.labels.get(&spread.domain)?)))
            .collect();
        let mut pods: BTreeMap<&str, i64> = eligible.values().map(|domain| (*domain, 0)).collect();
        for (other, on) in self.scheduled().filter(|(p, _)| p.pod.deleting_until.is_none() && spread.selects(&p.asks.labels)) {
            if let (Some(domain), true) = (eligible.get(on), other.pod.identity.uid != pod.pod.identity.uid) {
                *pods.entry(domain).or_default() += 1;
            }
        }
        let least = pods.values().min().copied().unwrap_or(0);
        pods.get(here).copied().unwrap_or(0) + 1 - least > spread.max_skew
    }

    /// Every volume can be reached from `zone`, and none is one that another pod has to itself.
    fn volumes_allow(&self, asks: &Asks, zone: &str, uid: &Uid) -> bool {
        asks.claims.iter().all(|claim| {
            let Some(volume) = self.volumes.get(claim) else { return false };
            let taken = || self.scheduled().any(|(p, _)| p.pod.identity.uid != *uid && p.asks.claims.contains(claim));
            volume.reached_from(zone) && !(volume.is_of_one_pod() && taken())
        })
    }

    /// A volume of the pod that only one node may have is still in use on another.
    pub(super) fn waits_for_volume(&self, pod: &SimPod) -> bool {
        let of_one_node: BTreeSet<&String> =
            pod.asks.claims.iter().filter(|claim| self.volumes.get(claim).is_some_and(super::volumes::Volume::is_of_one_node)).collect();
        !of_one_node.is_empty()
            && self.scheduled().any(|(other, on)| {
                other.pod.identity.uid != pod.pod.identity.uid
                    && Some(on) != pod.pod.node.as_ref()
                    && other.asks.claims.iter().any(|claim| of_one_node.contains(claim))
            })
    }
}

fn add(to: &mut Resources, more: Resources) {
    (to.gpus, to.cpu.0, to.memory.0, to.disk.0) =
        (to.gpus + more.gpus, to.cpu.0 + more.cpu.0, to.memory.0 + more.memory.0, to.disk.0 + more.disk.0);
}

fn fits(asks: Resources, used: Resources, has: Resources) -> bool {
    let mut then = used;
    add(&mut then, asks);
    then.gpus <= has.gpus && then.cpu <= has.cpu && then.memory <= has.memory && then.disk <= has.disk
}
