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

/// What held, by the pod's uid.
#[derive(Debug, Default)]
pub struct Bindings(BTreeMap<Uid, Binding>);

impl Bindings {
    /// Makes every pod of the view say what holds of its marks.
    pub fn hold(&mut self, view: &mut ClusterView) {
        let mut corrected: Vec<Pod> = Vec::new();
        for (uid, pod) in view.pods.iter() {
            let before = self.0.get(uid);
            let marks = marks_of(pod, &view.claims, &view.unreadable_claims, before);
            let mut held = None;
            if !marks.are_those_of(pod) {
                let mut other = pod.clone();
                marks.put_on(&mut other);
                held = Some(other);
            }
            let says = held.as_ref().unwrap_or(pod);
            if says.attempt > 0 && !before.is_some_and(|known| known.is_mirrored_by(says)) {
                self.0.insert(uid.clone(), Binding::of(says));
            }
            corrected.extend(held);
        }
        // What is the same already is not copied.
        for pod in corrected {
            view.pods.insert(pod.identity.uid.clone(), pod);
        }
        if self.0.len() > view.pods.len() {
            self.0.retain(|uid, _| view.pods.contains_key(uid));
        }
    }
}
