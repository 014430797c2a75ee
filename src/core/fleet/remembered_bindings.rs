//! The bindings of pods whose claims may go before they are placed again, in the operator's memory.
//!
//! Decides: what is remembered of them. Does not: decide what holds of a pod (see [`crate::core::snapshot`]).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::binding::Binding;
use super::claim::Claim;
use crate::core::units::ids::{ClaimName, Uid};
use crate::core::workload::Pod;

/// A binding, and the claim it is to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bound {
    /// The claim.
    pub claim: ClaimName,
    /// What was decided.
    pub binding: Binding,
}

/// The last bindings of pods whose claims may go before they are placed again.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Bindings(Vec<Bound>);

impl Bindings {
    /// The last binding of a pod, if it was to `claim`.
    pub fn of(&self, pod: &Uid, claim: &ClaimName) -> Option<&Binding> {
        let at = self.0.binary_search_by(|bound| bound.binding.pod.cmp(pod)).ok()?;
        self.0.get(at).filter(|bound| bound.claim == *claim).map(|bound| &bound.binding)
    }

    /// The memory after a look at all pods and claims; `None` where nothing is new. Kept are the bindings of pods that wait, and of those that
    /// carry on the work of another.
    pub fn after_look(&self, pods: &BTreeMap<Uid, Pod>, claims: &BTreeMap<ClaimName, Claim>) -> Option<Bindings> {
        let matters = |pod: &&Pod| !pod.finished() && (pod.waits() || pod.replaces.is_some());
        let last = |pod: &Pod| -> Option<(ClaimName, &Binding)> {
            let (name, uid) = (pod.claim.as_ref()?, &pod.identity.uid);
            let kept = claims.get(name).and_then(|claim| claim.binding_of(uid)).or_else(|| self.of(uid, name))?;
            Some((name.clone(), kept))
        };
        let seen: Vec<(ClaimName, &Binding)> = pods.values().filter(matters).filter_map(last).collect();
        let same = seen.len() == self.0.len()
            && seen.iter().zip(&self.0).all(|((claim, binding), was)| *claim == was.claim && **binding == was.binding);
        (!same).then(|| Bindings(seen.into_iter().map(|(claim, binding)| Bound { claim, binding: binding.clone() }).collect()))
    }

    /// Nothing is remembered.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// At most `most` of them: an object of the API server has a size.
    #[must_use]
    pub fn bounded(&self, most: usize) -> Bindings {
        Bindings(self.0.iter().take(most).cloned().collect())
    }
}
