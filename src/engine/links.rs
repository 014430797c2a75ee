//! Pods that say they are bound to a claim, and claims that do not know them.
//!
//! Decides: from when on such a word does not count. A claim keeps the binding before the pod carries it, so one that does not know its pod
//! after a while is named by somebody else: an owner who chooses a machine.
//! Does not: look at pods whose gate is lifted. They hold their place whoever lifted it, and are watched until they run; one that runs elsewhere
//! keeps no machine from ending as empty ([`crate::core::plan`]).

use std::collections::{BTreeMap, BTreeSet};

use super::state::State;
use crate::core::fleet::Claim;
use crate::core::snapshot::Lane;
use crate::core::units::ids::{ClaimName, Uid};
use crate::core::units::time::{Millis, Timestamp};
use crate::core::workload::Pod;
use crate::ports::ClusterView;

/// The watch of claims may be behind that of pods: until then such a pod is left alone.
const PATIENCE: Millis = Millis::from_secs(10);

/// The pod waits, and names a claim that knows nothing of it.
fn is_unknown(pod: &Pod, claims: &BTreeMap<ClaimName, Claim>) -> bool {
    let claim = pod.claim.as_ref().filter(|_| pod.waits()).and_then(|name| claims.get(name));
    claim.is_some_and(|claim| !claim.awaits(&pod.identity.uid))
}

impl State {
    /// Remembers since when pods name claims that do not know them.
    pub(super) fn note_links(&mut self, view: &ClusterView, now: Timestamp) {
        let unknown = view.pods.iter().filter(|(uid, pod)| is_unknown(pod, &view.claims) && !self.pending_binds.contains_key(*uid));
        let since = |uid: &Uid| self.unknown_links.get(uid).copied().unwrap_or(now);
        self.unknown_links = unknown.map(|(uid, _)| (uid.clone(), since(uid))).collect();
    }

    /// Such a pod is left alone at first, and then counts as not bound.
    pub(super) fn drop_forged_links(&self, view: &mut ClusterView, in_flight: &mut BTreeSet<Lane>, now: Timestamp) {
        for (uid, since) in &self.unknown_links {
            if now.since(*since) < PATIENCE {
                in_flight.insert(Lane::Pod(uid.clone()));
            } else if let Some(pod) = view.pods.get_mut(uid) {
                pod.claim = None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::plan::tests::toy::*;
    use crate::core::workload::PodPhase;
    use crate::core::workload::need::WorkloadKind;
    use crate::engine::state::State;

    /// What the snapshot shows of a pod's claim `seconds` after it was first seen, and whether the pod is left alone.
    fn seen(toy: &Toy, pod: &Uid, seconds: i64) -> (Option<ClaimName>, bool) {
        let (claims, pods) = (toy.world.claims.clone(), toy.world.pods.clone());
        let view = ClusterView { claims, pods, ..ClusterView::default() };
        let mut state = State::default();
        state.take_in("toy-uid", &view, toy.now);
        let now = toy.now + Millis::from_secs(seconds);
        state.take_in("toy-uid", &view, now);
        let seen = state.snapshot(("toy", "toy-uid"), view, now);
        (seen.pods[pod].claim.clone(), seen.in_flight.contains(&Lane::Pod(pod.clone())))
    }

    #[test]
    fn a_pod_that_names_a_claim_which_does_not_know_it_is_left_alone_and_then_not_bound() {
        let mut toy = Toy::new();
        let bound = toy.add_pod(deployment(), WorkloadKind::Inference);
        toy.run(150);
        let claim = toy.world.pods[&bound].claim.clone();
        let forger = toy.add_pod(deployment(), WorkloadKind::Inference);
        toy.world.pods.get_mut(&forger).unwrap().claim = claim.clone();
        assert_eq!(seen(&toy, &bound, 60), (claim.clone(), false));
        assert_eq!([seen(&toy, &forger, 5), seen(&toy, &forger, 10)], [(claim.clone(), true), (None, false)]);
        let set = |toy: &mut Toy, phase, node: Option<&str>| {
            let pod = toy.world.pods.get_mut(&forger).unwrap();
            (pod.phase, pod.node) = (phase, node.map(Into::into));
        };
        set(&mut toy, PodPhase::Pending, None);
        assert_eq!(seen(&toy, &forger, 60), (claim.clone(), false), "its gate is lifted: it is watched until it runs");
        set(&mut toy, PodPhase::Gated, None);
        // A claim of the version before kept nothing but the pods that it was bought for, and one that was adopted not even those.
        toy.world.claims.values_mut().for_each(|claim| claim.spec.bindings = None);
        toy.world.pods.get_mut(&bound).unwrap().phase = PodPhase::Gated;
        assert_eq!([seen(&toy, &bound, 60), seen(&toy, &forger, 60)], [(claim, false), (None, false)]);
        toy.world.claims.values_mut().for_each(|claim| claim.spec.bought_for.clear());
        assert_eq!(seen(&toy, &bound, 60), (None, false));
    }
}
