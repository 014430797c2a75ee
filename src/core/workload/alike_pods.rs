//! What pods that are alike hold once: replicas need the same, belong to the same workload, and stand in the same Services.
//!
//! Decides: nothing.

use std::collections::BTreeSet;

use super::company::PodRules;
use super::need::{Need, Schedule};
use super::owner::{Attribution, Workload};
use super::pod::{Mobility, Pod};
use crate::core::units::alike::Alike;

/// The parts in use.
#[derive(Debug, Default)]
pub struct AlikePods {
    needs: Alike<Need>,
    schedules: Alike<Schedule>,
    rules: Alike<PodRules>,
    workloads: Alike<Workload>,
    attributions: Alike<Attribution>,
    mobilities: Alike<Mobility>,
    services: Alike<BTreeSet<String>>,
}

impl AlikePods {
    /// Lets `pod` hold what others hold already.
    pub fn share(&mut self, pod: &mut Pod) {
        if let Ok((need, schedule)) = &mut pod.need {
            self.needs.share(need);
            self.schedules.share(schedule);
        }
        self.rules.share(&mut pod.rules);
        self.workloads.share(&mut pod.workload);
        self.attributions.share(&mut pod.attribution);
        self.mobilities.share(&mut pod.mobility);
        self.share_services(pod);
    }

    /// The same of its Services alone, which change more often than anything else about it.
    pub fn share_services(&mut self, pod: &mut Pod) {
        self.services.share(&mut pod.services);
        self.services.share(&mut pod.ready_in);
    }
}
