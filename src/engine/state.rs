//! What the operator holds in memory. It may lose all of it at any moment: claims, pods and the outbox are the durable truth.
//!
//! Decides: nothing; how memory and the cluster's view are joined into the snapshot a pass reads.

use std::collections::{BTreeMap, BTreeSet};

use crate::core::catalog::Catalog;
use crate::core::ids::{ClaimName, InstanceId, PoolName, Region, Uid};
use crate::core::market::Market;
use crate::core::time::{Millis, Timestamp};
use crate::core::world::{Lane, Observed, PendingNotice, Replaces, Snapshot};
use crate::engine::ports::{ClusterView, Instance};

/// How long a pass waits for the watch to show what an action changed, before it plans on what it sees.
const OBSERVATION_PATIENCE: Millis = Millis::from_secs(5);

/// Why a lane is left alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// An action changed it: wait until the watch shows at least this version.
    Version(u64, Timestamp),
    /// An action failed: wait until then.
    Until(Timestamp),
}

/// The operator's memory.
#[derive(Debug, Default)]
pub struct State {
    /// Machine types, as EC2 describes them.
    pub catalog: Catalog,
    /// Offers and cool-downs.
    pub market: Market,
    /// Instances per region.
    pub instances: BTreeMap<Region, Observed<BTreeMap<InstanceId, Instance>>>,
    /// Notices by receipt.
    pub notices: BTreeMap<String, PendingNotice>,
    /// Lanes with a running step.
    pub in_flight: BTreeSet<Lane>,
    /// Pods whose binding to a claim is under way or not observed yet: they hold their place already.
    pub pending_binds: BTreeMap<Uid, (ClaimName, Option<Replaces>)>,
    /// Lanes to leave alone for a moment.
    pub holds: BTreeMap<Lane, Hold>,
    /// Records and events already written by this process.
    pub recorded: BTreeSet<uuid::Uuid>,
    /// The ledger takes records.
    pub ledger_available: bool,
    /// Regions being watched, since when, and whether their market has been read once.
    pub surveys: BTreeMap<Region, (Timestamp, bool)>,
    /// Recent launches per pool.
    pub recent_launches: BTreeMap<PoolName, Vec<Timestamp>>,
    /// Records waiting in the outbox, as of the last look, and since when the ledger has been away.
    pub outbox_size: usize,
    /// When the oldest waiting record happened.
    pub outbox_oldest: Option<Timestamp>,
    /// When all that had settled was posted in the ledger, by this process.
    pub ledger_posted_at: Option<Timestamp>,
    /// ... and when it was sealed, if this role may.
    pub ledger_sealed_at: Option<Timestamp>,
    /// Passes so far.
    pub passes: u64,
}

/// How long a region may take to name its prices before purchases go on without it.
const SURVEY_PATIENCE: Millis = Millis::from_secs(20);

impl State {
    fn surveyed(&self, now: Timestamp) -> bool {
        self.surveys.values().all(|(since, read)| *read || now.since(*since) > SURVEY_PATIENCE)
    }

    /// The snapshot of one pass.
    pub fn snapshot(&mut self, cluster: &str, mut view: ClusterView, now: Timestamp) -> Snapshot {
        self.holds.retain(|lane, hold| match hold {
            Hold::Until(at) => *at > now,
            Hold::Version(version, since) => {
                let seen = view.versions.get(lane).is_some_and(|observed| observed >= version);
                !seen && now.since(*since) < OBSERVATION_PATIENCE
            }
        });
        let (holds, running, pods) = (&self.holds, &self.in_flight, &mut view.pods);
        self.pending_binds.retain(|uid, (claim, replaces)| {
            let lane = Lane::Pod(uid.clone());
            let under_way = running.contains(&lane) || matches!(holds.get(&lane), Some(Hold::Version(..)));
            match pods.get_mut(uid) {
                Some(pod) if under_way => {
                    (pod.claim, pod.replaces) = (Some(claim.clone()), replaces.clone());
                    true
                }
                _ => under_way,
            }
        });
        let mut in_flight = self.in_flight.clone();
        in_flight.extend(self.holds.keys().cloned());
        Snapshot {
            cluster: cluster.to_owned(),
            pools: view.pools,
            classes: view.classes,
            pods: view.pods,
            nodes: view.nodes,
            claims: view.claims,
            templates: view.templates,
            pool_statuses: view.pool_statuses,
            instances: self.instances.clone(),
            market: self.market.clone(),
            catalog: self.catalog.clone(),
            notices: self.notices.values().cloned().collect(),
            in_flight,
            recorded: self.recorded.clone(),
            market_surveyed: self.surveyed(now),
            ledger_available: self.ledger_available,
            month_spend: BTreeMap::new(),
            recent_launches: self.recent_launches.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_being_bound_holds_its_place_before_the_watch_shows_it() {
        let (uid, claim) = (Uid::from("p"), ClaimName::from("lt-1"));
        let lane = Lane::Pod(uid.clone());
        let mut state = State::default();
        state.pending_binds.insert(uid.clone(), (claim.clone(), None));
        state.in_flight.insert(lane.clone());
        assert_eq!(state.snapshot("c", ClusterView::default(), Timestamp(0)).in_flight.len(), 1);
        assert_eq!(state.pending_binds.get(&uid), Some(&(claim, None)), "kept while its step runs");
        state.in_flight.clear();
        state.holds.insert(lane.clone(), Hold::Version(7, Timestamp(0)));
        state.snapshot("c", ClusterView::default(), Timestamp(10));
        assert_eq!(state.pending_binds.len(), 1, "kept until the watch shows what the step wrote");
        let seen = ClusterView { versions: BTreeMap::from([(lane, 7)]), ..ClusterView::default() };
        state.snapshot("c", seen, Timestamp(20));
        assert!(state.pending_binds.is_empty());
    }
}
