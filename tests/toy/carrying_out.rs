//! What actions do in the toy world, at once.

use super::*;

impl Toy {
    pub(super) fn carry_out(&mut self, action: Action) {
        match action {
            Action::Cluster(action) => self.apply(action),
            Action::Launch { launch, .. } => self.launch(&launch),
            Action::Terminate { claim, instance, decision, trigger, .. } => {
                self.world.claims.get_mut(&claim).expect("a claim").status.terminate_asked = Some(Box::new((self.now, decision, trigger)));
                self.end_instance(&instance, "Client.UserInitiatedShutdown");
            }
            Action::TerminateUnclaimed { instance, .. } => self.end_instance(&instance, "Client.UserInitiatedShutdown"),
            Action::Acknowledge { receipt, .. } => self.world.notices.retain(|n| n.receipt != receipt),
            Action::PrepareClass { class, .. } => {
                if let Some(class) = self.world.classes.get_mut(&class) {
                    class.problem = None;
                }
                self.prepared.insert(class);
            }
            Action::CloseRegion { region, base, max, at } => {
                self.world.memory.close_region(&region, at, base, max);
            }
            Action::Warned { pool, seen, at } => self.world.memory.record(&pool, Sighting::Warned(seen), at),
            Action::CoolDown { pool, cause, vcpus, base, max, at } => {
                self.world.memory.record(&pool, Sighting::Refused { cause, vcpus, base, max }, at);
            }
        }
    }

    pub(super) fn launch(&mut self, launch: &lowtide::core::fleet::Launch) {
        let now = self.now;
        let dry = self.dry.contains(&launch.capacity);
        self.next += 1;
        let fresh = InstanceId::from(format!("i-{:03}", self.next));
        let id = self.launched.entry(launch.claim_uid.clone()).or_insert(fresh).clone();
        let claim = self.world.claims.get_mut(&launch.claim).expect("a claim");
        claim.status.launch_asked_at = Some(now);
        let recent = self.world.recent_launches.entry(claim.spec.node_pool.clone()).or_default();
        recent.push(now);
        if dry {
            let (code, message) = ("InsufficientInstanceCapacity".to_owned(), "none left".to_owned());
            claim.status.failure = Some(Box::new(LaunchFailure { cause: CoolDownCause::NoCapacity, code, message, at: now }));
            return;
        }
        claim.status.instance = Some(id.clone());
        claim.status.launched_at = Some(now);
        let instance = Instance {
            id: id.clone(),
            capacity: launch.capacity.clone(),
            state: InstanceState::Running,
            launched_at: now,
            ended_at: None,
            state_reason: None,
            spot_request_status: None,
            addresses: vec![format!("node-{id}")],
            tags: TagList::from(launch.tags.clone()).with(tags::FLEET, Some("fleet-1")),
        };
        if let Some(Observed::Known { value, .. }) = self.world.instances.get_mut(&launch.capacity.region) {
            value.insert(id, instance);
        }
    }

    pub(super) fn apply(&mut self, action: ClusterAction) {
        let now = self.now;
        match action {
            ClusterAction::CreateClaim { name, spec } => {
                self.next += 1;
                let uid = Uid::from(format!("claim-{}", self.next));
                let claim = Claim {
                    name: name.clone(),
                    uid,
                    version: 1,
                    created_at: now,
                    deleting: false,
                    spec: *spec,
                    status: ClaimStatus::default(),
                };
                assert!(self.world.claims.insert(name, claim).is_none(), "a claim was made twice");
            }
            ClusterAction::Bind { target, claim, decision, attempt, baseline, replaces } => {
                let pod = self.world.pods.get_mut(&target.pod.uid).expect("a pod");
                (pod.claim, pod.placed_by, pod.attempt, pod.baseline) = (Some(claim), Some(decision), attempt, baseline);
                pod.replaces = replaces;
            }
            ClusterAction::Lift { target, claim } => {
                let node = self.world.claims[&claim].status.node.clone();
                let pod = self.world.pods.get_mut(&target.pod.uid).expect("a pod");
                (pod.phase, pod.node) = (PodPhase::Pending, node);
            }
            ClusterAction::PatchClaim { claim, patch, .. } => {
                patch.apply_to(&mut self.world.claims.get_mut(&claim).expect("a claim").status)
            }
            ClusterAction::MarkNode { node, taint, guard, labels, .. } => {
                let node = self.world.nodes.get_mut(&node).expect("a node");
                (node.labelled, node.tainted, node.guarded) = (true, node.tainted || taint, node.guarded || guard);
                std::sync::Arc::make_mut(&mut node.state.labels).extend(labels);
            }
            ClusterAction::LetGoOfDeployment { target, mark, .. } | ClusterAction::LetGoOfJob { target, mark, .. } => {
                let pod = self.world.pods.get_mut(&target.pod.uid).expect("a pod");
                pod.let_go = Some(Box::new(mark));
                let (mobility, kind) = ((*pod.mobility).clone(), pod.need.as_ref().expect("a need").0.kind);
                self.add_pod(mobility, kind);
            }
            ClusterAction::Rehearse { pod, .. } => drop(self.world.refused_replacements.remove(&pod.uid)),
            ClusterAction::GiveBackToJob { target, .. } => {
                self.world.pods.get_mut(&target.pod.uid).expect("a pod").let_go = None;
            }
            ClusterAction::Evict { pod, grace, reason } | ClusterAction::DeletePod { pod, grace, reason } => {
                self.removals.push((pod.object.name.clone(), reason));
                if let Some(pod) = self.world.pods.get_mut(&pod.uid) {
                    pod.deleting_until = Some(now + grace.min(Millis::from_secs(20)));
                }
            }
            ClusterAction::DeleteNode { node } => {
                self.world.nodes.remove(&node);
            }
            ClusterAction::RemoveClaim { claim, .. } => {
                self.world.claims.remove(&claim);
            }
            ClusterAction::SetPoolStatus { pool, status } => {
                self.world.pool_statuses.insert(pool, *status);
            }
            ClusterAction::SetClassStatus { class, status } => {
                let class = self.world.classes.get_mut(&class).expect("a class");
                class.problem = status.ready.err();
            }
            ClusterAction::Emit(event) => {
                self.world.recorded.insert(event.id(), now);
                self.events.push((event.reason, event.note.to_string()));
            }
        }
    }
}
