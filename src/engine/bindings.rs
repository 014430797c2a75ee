//! What pods that wait were bound to before, kept between passes: a claim whose launch failed is gone before its pods are placed again.
//!
//! Decides: nothing; [`crate::core::fleet::marks_of`] does. A process that starts knows none of it: such a pod then counts as one that was
//! never bound, which takes on-demand later and goes before a budget never.

use std::collections::BTreeMap;

use crate::core::fleet::{Binding, Claim, marks_of};
use crate::core::units::ids::{ClaimName, Uid};
use crate::core::units::shared::Shared;
use crate::core::workload::{Pod, PodPhase};

/// What was kept of pods that wait, by uid.
#[derive(Debug, Default)]
pub struct Bindings(BTreeMap<Uid, Binding>);

impl Bindings {
    /// Makes every pod say what holds of its marks, and remembers that of those that wait.
    pub fn hold(&mut self, pods: &mut Shared<BTreeMap<Uid, Pod>>, claims: &BTreeMap<ClaimName, Claim>) {
        let mut forged = Vec::new();
        let mut waiting = BTreeMap::new();
        for (uid, pod) in pods.iter() {
            let marks = marks_of(pod, claims, self.0.get(uid));
            let says_so = marks.are_those_of(pod);
            if !says_so {
                let mut corrected = pod.clone();
                marks.put_on(&mut corrected);
                forged.push(corrected);
            }
            if matches!(pod.phase, PodPhase::Gated | PodPhase::GatedByOthers) {
                let held = if says_so { pod } else { forged.last().unwrap_or(pod) };
                if held.attempt > 0 {
                    waiting.insert(uid.clone(), Binding::of(held));
                }
            }
        }
        // Looked at first: what is the same already is not copied.
        for pod in forged {
            pods.insert(pod.identity.uid.clone(), pod);
        }
        self.0 = waiting;
    }
}
