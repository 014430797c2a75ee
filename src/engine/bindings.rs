//! What held of the marks of each pod when it was last seen, kept between passes: a claim whose launch failed is gone before its pods are
//! placed again, and one that cannot be read says nothing.
//!
//! Decides: nothing; [`crate::core::fleet::marks_of`] does. A process that starts knows none of it: a pod whose claim is gone then counts as
//! one that was never bound, which takes on-demand later and goes past a budget never.

use std::collections::BTreeMap;

use crate::core::fleet::{Binding, marks_of};
use crate::core::units::ids::Uid;
use crate::core::workload::Pod;
use crate::ports::ClusterView;

/// What held, by the pod's uid, and the pods that said something else at the last look.
#[derive(Debug, Default)]
pub struct Bindings {
    kept: BTreeMap<Uid, Binding>,
    corrected: Vec<Pod>,
}

impl Bindings {
    /// Learns what holds of the marks of every pod.
    pub fn take_in(&mut self, view: &ClusterView) {
        self.corrected.clear();
        for (uid, pod) in view.pods.iter() {
            let before = self.kept.get(uid);
            let marks = marks_of(pod, &view.claims, &view.unreadable_claims, before);
            let mut held = None;
            if !marks.are_those_of(pod) {
                let mut other = pod.clone();
                marks.put_on(&mut other);
                held = Some(other);
            }
            let says = held.as_ref().unwrap_or(pod);
            if says.attempt > 0 && !before.is_some_and(|known| known.is_mirrored_by(says)) {
                self.kept.insert(uid.clone(), Binding::of(says));
            }
            self.corrected.extend(held);
        }
        if self.kept.len() > view.pods.len() {
            self.kept.retain(|uid, _| view.pods.contains_key(uid));
        }
    }

    /// Makes every pod of the view that was taken in say what holds. What is the same already is not copied.
    pub fn hold(&self, view: &mut ClusterView) {
        for pod in &self.corrected {
            let uid = &pod.identity.uid;
            if view.pods.get(uid).is_some_and(|seen| seen.resource_version == pod.resource_version) {
                view.pods.insert(uid.clone(), pod.clone());
            }
        }
    }
}
