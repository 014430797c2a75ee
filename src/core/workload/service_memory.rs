//! How long each service with an availability goal was short of ready replicas.
//!
//! Decides: which pods count, and which services are remembered. Does not: act on it (see [`crate::core::policy::serving`]), or store
//! itself: it is kept with the market memory.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::core::units::ids::Uid;
use crate::core::units::time::Timestamp;
use crate::core::workload::shortfall::Shortfall;
use crate::core::workload::{Mobility, Pod, Workload};

/// Shortfalls by service.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ServiceMemory {
    #[serde(with = "as_list")]
    shortfalls: BTreeMap<Workload, Shortfall>,
}

/// One observation of a service.
struct Look {
    ready: i64,
    asked: i64,
}

impl ServiceMemory {
    /// The shortfall of a service; `None` when it was never seen with a goal.
    pub fn of(&self, service: &Workload) -> Option<&Shortfall> {
        self.shortfalls.get(service)
    }

    /// The memory after observing all pods at `at`, with the Deployments' desired replicas (by uid); `None` if it does not change.
    ///
    /// A released pod keeps serving until its replacement does, so it counts. Between observations, the last one is assumed to continue.
    pub fn after_look(&self, pods: &BTreeMap<Uid, Pod>, wanted: &BTreeMap<Uid, i64>, at: Timestamp) -> Option<ServiceMemory> {
        let mut looks: BTreeMap<&Workload, Look> = BTreeMap::new();
        for pod in pods.values().filter(|pod| !pod.finished()) {
            let Ok((_, schedule)) = &pod.need else { continue };
            if schedule.availability_goal_ppm.is_none() {
                continue;
            }
            let look = looks.entry(&pod.workload).or_insert(Look { ready: 0, asked: -i64::from(schedule.spares) });
            look.ready += i64::from(pod.ready_since.is_some() && pod.deleting_until.is_none());
            let stated = if let Mobility::Surge { deployment_uid, .. } = &*pod.mobility { wanted.get(deployment_uid) } else { None };
            match stated {
                Some(replicas) => look.asked = replicas - i64::from(schedule.spares),
                None => look.asked += i64::from(pod.let_go.is_none()),
            }
        }
        let mut changed = BTreeMap::new();
        for (service, look) in looks {
            let mut seen = self.shortfalls.get(service).cloned().unwrap_or_default();
            if seen.observe(at, look.ready >= look.asked.max(1)) {
                changed.insert(service.clone(), seen);
            }
        }
        if changed.is_empty() {
            return None;
        }
        let mut after = self.clone();
        after.shortfalls.extend(changed);
        let there: BTreeSet<&Workload> = pods.values().map(|pod| &*pod.workload).collect();
        after.shortfalls.retain(|service, seen| !seen.is_forgotten(at) || there.contains(service));
        Some(after)
    }
}

/// JSON keys are text, so the map is stored as a list.
mod as_list {
    use crate::core::workload::service_memory::{BTreeMap, Deserialize, Serialize, Shortfall, Workload};

    pub fn serialize<S: serde::Serializer>(map: &BTreeMap<Workload, Shortfall>, to: S) -> Result<S::Ok, S::Error> {
        map.iter().collect::<Vec<_>>().serialize(to)
    }

    pub fn deserialize<'de, D: serde::Deserializer<'de>>(from: D) -> Result<BTreeMap<Workload, Shortfall>, D::Error> {
        Ok(Vec::deserialize(from)?.into_iter().collect())
    }
}
