//! What the operator holds in memory. It may lose all of it at any moment: claims, pods and the outbox are the durable truth.
//!
//! Decides: nothing; only joins memory and the cluster's view into the snapshot that a pass reads.

use std::collections::{BTreeMap, BTreeSet};

use crate::core::fleet::{Bound, Claim, ClaimSpec, ClaimStatus, Instance, InstanceState, PoolStatus, ScheduledEvent};
use crate::core::invariant::Invariant;
use crate::core::market::catalog::Catalog;
use crate::core::market::price_changes::PriceChanges;
use crate::core::market::quota::VcpuQuota;
use crate::core::market::reservation::SeenReservations;
use crate::core::market::scores::ScoreBoard;
use crate::core::market::{Capacity, Market, PastPrices};
use crate::core::placement::Learnt;
use crate::core::plan::placing::budget;
use crate::core::record::{LedgerRecord, OUTBOX_BOUND, OUTBOX_CLOSED, Reported};
use crate::core::snapshot::first_sights::{FirstSights, GIVEN_UP_LATELY};
use crate::core::snapshot::memory::{ENDS_KEPT, MarketMemory};
use crate::core::snapshot::{Lane, Observed, PendingNotice, RefusedReplacement, Snapshot};
use crate::core::units::ids::{ClaimName, InstanceId, PoolName, Region, Uid};
use crate::core::units::money::MicroUsd;
use crate::core::units::shared::{Mark, Shared};
use crate::core::units::time::{Millis, Timestamp};
use crate::engine::observe::Identified;
use crate::engine::observe::market::Shop;
use crate::metrics::counts::Counts;
use crate::metrics::finance::FinanceFigures;
use crate::ports::ClusterView;

/// How long a pass waits for the watch to lose sight of what an action removed, or for an object that the watch does not show to appear.
const OBSERVATION_PATIENCE: Millis = Millis::from_secs(5);
/// ... and for a claim: it was made a moment ago, and until it is shown it has to count as bought.
const CLAIM_PATIENCE: Millis = Millis::from_mins(1);

/// What the watch has yet to show of a lane; until then the lane is paused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// An action changed it: wait until the watch shows at least this version.
    Version(u64, Timestamp),
    /// An action removed it: wait until the watch no longer shows it.
    Gone(Timestamp),
}

impl Hold {
    /// Whether the watch, which shows `observed` of the lane, has yet to catch up. While it shows an older version it is waited for, however long it
    /// takes: an API server with much to do is ten seconds behind, and who plans by what it showed before that gives the same room away twice.
    fn waits(self, lane: &Lane, observed: Option<u64>, now: Timestamp) -> bool {
        match (self, observed) {
            (Hold::Gone(since), observed) => observed.is_some() && now.since(since) < OBSERVATION_PATIENCE,
            (Hold::Version(version, _), Some(observed)) => observed < version,
            (Hold::Version(_, since), None) => {
                now.since(since) < if matches!(lane, Lane::Claim(_)) { CLAIM_PATIENCE } else { OBSERVATION_PATIENCE }
            }
        }
    }
}

/// What was written recently, so that it is not written again. Writing again is harmless, so this may forget.
pub type Recorded = BTreeMap<uuid::Uuid, Timestamp>;

/// A message that is for another cluster is forgotten after this: the queue has handed it out again by then.
const NOTICE_OF_ANOTHER: Millis = Millis::from_secs(30);
/// How long written items are remembered.
const REMEMBERED: Millis = Millis::from_hours(24);

/// The operator's memory.
#[derive(Debug, Default)]
pub struct State {
    /// Machine types, as EC2 describes them.
    pub catalog: Shared<Catalog>,
    /// Offers from EC2, with the advisor's interruption rates; what was learned is in `memory`.
    pub market: Shared<Market>,
    /// What is sold in each region.
    pub shops: BTreeMap<Region, Shop>,
    /// What was learned about each capacity pool.
    pub memory: Shared<MarketMemory>,
    /// When running machines were last learnt from.
    learnt_at: Option<Timestamp>,
    /// Up to which look the machines of a region were.
    learnt_to: BTreeMap<Region, Timestamp>,
    /// The previous process's memory has been read, or cannot be.
    pub memory_read: bool,
    /// Passes that saw each invariant broken, since the start.
    pub invariant_faults: BTreeMap<Invariant, u64>,
    /// When a plan last considered voluntary moves.
    pub moves_considered_at: Option<Timestamp>,
    /// This operator leads: only then does it learn and write.
    pub leading: bool,
    /// Spot placement scores.
    pub scores: Shared<ScoreBoard>,
    /// vCPU quotas per region.
    pub quotas: Shared<BTreeMap<Region, Vec<VcpuQuota>>>,
    /// Capacity reservations per region.
    pub reservations: Shared<BTreeMap<Region, SeenReservations>>,
    /// Regions that this account may not use, with EC2's message.
    pub closed_regions: Shared<BTreeMap<Region, String>>,
    /// How often a disruption budget has refused the eviction of a pod, by uid.
    pub held_by_budget: BTreeMap<Uid, u32>,
    /// Pods that no replacement would be admitted of, by uid.
    pub refused_replacements: BTreeMap<Uid, RefusedReplacement>,
    /// Prices on their way into the ledger.
    pub price_changes: PriceChanges,
    /// Instances per region.
    pub instances: Shared<BTreeMap<Region, Observed<BTreeMap<InstanceId, Instance>>>>,
    /// What EC2 has scheduled for instances, per region.
    pub scheduled: Shared<BTreeMap<Region, Observed<BTreeMap<InstanceId, ScheduledEvent>>>>,
    /// Notices by receipt.
    pub notices: BTreeMap<String, PendingNotice>,
    /// Lanes with a running step.
    pub in_flight: BTreeSet<Lane>,
    /// Pods whose binding to a claim is in progress or not observed yet: they already hold their place.
    pub pending_binds: BTreeMap<Uid, Bound>,
    /// Since when pods that wait have said that they are bound to a claim that does not know them.
    pub(super) unknown_links: BTreeMap<Uid, Timestamp>,
    /// Claims that a running step removes, or whose machine it ends.
    pub ending: BTreeSet<ClaimName>,
    /// Claims that are being written or are not observed yet: they already count towards limits, budgets and quotas.
    pub pending_claims: BTreeMap<ClaimName, ClaimSpec>,
    /// Lanes whose change the watch has yet to show.
    pub holds: BTreeMap<Lane, Hold>,
    /// Lanes of a step that failed, which are left alone until then.
    pub stopped: BTreeMap<Lane, Timestamp>,
    /// Records and events already written by this process, and when.
    pub recorded: Shared<Recorded>,
    /// What was reported to the ledger about each machine.
    pub reported: Shared<Reported>,
    /// Hours that were reported before an earlier one.
    hours_ahead: BTreeSet<(Uid, u32)>,
    /// The ledger accepts records.
    pub ledger_available: bool,
    /// Regions being watched, and whether their market has been read once.
    pub surveys: BTreeMap<Region, Survey>,
    /// Recent launches per pool.
    pub recent_launches: BTreeMap<PoolName, Vec<Timestamp>>,
    /// Refusals recorded within the last hour.
    pub recent_refusals: crate::core::record::RecentRefusals,
    /// Records waiting in the outbox, as of the last read, and since when the ledger has been unavailable.
    pub outbox_size: usize,
    /// When the oldest waiting record happened.
    pub outbox_oldest: Option<Timestamp>,
    /// When this process last posted everything settled to the ledger.
    pub ledger_posted_at: Option<Timestamp>,
    /// ... and when it was sealed, if this role may.
    pub ledger_sealed_at: Option<Timestamp>,
    /// When every bill that AWS had written was last fetched and taken, or else when this process began to look; never, where nothing is fetched.
    pub bills_complete_at: Option<Timestamp>,
    /// How many bills were fetched and refused.
    pub bills_refused: usize,
    /// The ledger's money figures, as of the last read.
    pub finance: FinanceFigures,
    /// What was counted since the start, only for metrics.
    pub counts: Counts,
    /// Records that were counted, and when.
    pub counted: BTreeMap<uuid::Uuid, Timestamp>,
    /// Since when each machine of ours has had no claim, as seen by this leader.
    pub unclaimed_since: Shared<BTreeMap<InstanceId, Timestamp>>,
    /// Since when this leader has seen what it does not wait for without end.
    pub first_sights: Shared<FirstSights>,
    /// The claims and pods that were last looked at for it.
    pub(super) sighted: Option<[Mark; 2]>,
    /// The memory holds something that must outlive this process.
    pub memory_is_due: bool,
    /// Machines that the breaker keeps, as of the last plan.
    pub held_ends: u64,
    /// Admission policies of ours that were found not to hold.
    pub absent_policies: usize,
    /// How far EC2's clock is ahead of ours.
    pub ec2_ahead: Option<Millis>,
    /// Nodes that are not used, and why; and what that was made of.
    pub(super) identities: Option<([Mark; 4], Identified)>,
    /// Pods, wanted replicas and claims that [`State::look_at_pods`] has looked at.
    pub(super) pods_looked_at: Option<[Mark; 3]>,
    /// Passes so far.
    pub passes: u64,
    /// When old entries of what was written were last dropped.
    swept: Timestamp,
}

/// Whether the market of a region has been read once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Survey {
    /// When the first read began.
    pub since: Timestamp,
    /// Spot prices were read.
    pub spot: bool,
    /// List prices were read.
    pub list: bool,
}

impl Survey {
    /// A survey that has seen nothing yet.
    pub fn begun(since: Timestamp) -> Self {
        Survey { since, spot: false, list: false }
    }
}

/// How often running machines are learnt from.
const LEARN_EVERY: Millis = Millis::from_mins(1);

/// How long a region may take to deliver its prices before purchases continue without it.
const SURVEY_PATIENCE: Millis = Millis::from_secs(20);

impl State {
    /// Nothing known yet, and these counts.
    pub fn starting_from(counts: Counts) -> State {
        State { counts, ..State::default() }
    }

    /// Every region has delivered its prices or timed out, and so has the memory.
    pub fn surveyed(&self, now: Timestamp) -> bool {
        let late = |since: Timestamp| now.since(since) > SURVEY_PATIENCE;
        self.surveys.values().all(|s| (s.spot && s.list && self.memory_read) || late(s.since))
    }

    /// Machines that run without an interruption notice show that their capacity pools have capacity. Of all looks at once and once a minute: what was
    /// learnt makes a settled world a new one.
    pub fn learn_from_instances(&mut self, now: Timestamp) {
        if self.leading && self.learnt_at.is_some_and(|last| now.since(last) < LEARN_EVERY) {
            return;
        }
        self.learnt_at = Some(now);
        for (region, look) in &self.instances {
            let Observed::Known { at, value } = look else { continue };
            let before = self.learnt_to.insert(region.clone(), *at);
            let mut running = value.values().filter(|i| i.state == InstanceState::Running && i.spot_request_status.is_none()).peekable();
            // Nothing seen is nothing learnt: the memory stays the same value.
            if let Some(before) = before.filter(|before| self.leading && before < at && running.peek().is_some()) {
                self.memory.saw_running(running.map(|i| (&i.capacity, i.launched_at)), before, *at);
            }
        }
    }

    /// Expected interruptions of a machine in `capacity` per million instance-hours; 0 where it is not offered.
    pub fn expected_interruptions(&self, capacity: &Capacity, now: Timestamp) -> i64 {
        let learnt = Learnt { memory: Some(&self.memory), ..Learnt::default() };
        self.market.offers.get(capacity).map_or(0, |offer| learnt.interruptions_per_million_hours(offer, now))
    }

    /// What counts towards each pool's budget of this month.
    pub fn month_spend(&self, view: &ClusterView, now: Timestamp) -> BTreeMap<PoolName, MicroUsd> {
        let books = |name: &PoolName| view.pool_statuses.get(name).map(|status: &PoolStatus| &status.books);
        let of = |name: &PoolName| budget::month_spend(name, books(name), view.claims.values(), &self.market, now).total();
        view.pools.keys().map(|name| (name.clone(), of(name))).collect()
    }

    /// Remembers that these records and events have been written.
    pub fn note_recorded(&mut self, ids: &[uuid::Uuid], now: Timestamp) {
        let recorded = &mut *self.recorded;
        recorded.extend(ids.iter().map(|id| (*id, now)));
        if now.since(self.swept) > Millis::from_hours(1) {
            recorded.retain(|_, at| now.since(*at) < REMEMBERED);
            self.swept = now;
        }
    }

    /// Remembers what was reported of each machine, in whatever order. Hours that are older than prices are kept are not reported any more.
    pub fn note_reported(&mut self, records: &[LedgerRecord], now: Timestamp) {
        for record in records {
            match record {
                LedgerRecord::IntervalOpened(opened) => self.reported.of(&opened.claim_uid).opened = true,
                LedgerRecord::HourPriced(priced) => {
                    let reported = &mut self.reported.of(&priced.claim_uid).hours;
                    let back = (priced.from.since(now - PastPrices::KEPT).0 / Millis::from_hours(1).0).max(0);
                    *reported = (*reported).max(priced.hour.saturating_sub(u32::try_from(back).unwrap_or(u32::MAX)));
                    if priced.hour >= *reported {
                        self.hours_ahead.insert((priced.claim_uid.clone(), priced.hour));
                    }
                    while self.hours_ahead.remove(&(priced.claim_uid.clone(), *reported)) {
                        *reported += 1;
                    }
                }
                _ => {}
            }
        }
    }

    /// These were not written after all, or are not known to be.
    pub fn note_not_recorded(&mut self, ids: &[uuid::Uuid]) {
        let recorded = &mut *self.recorded;
        for id in ids {
            recorded.remove(id);
        }
    }

    /// Takes in what the watch shows: what it has caught up with is forgotten, and what goes by two looks is brought up to date. Everything a pass
    /// changes in memory before it plans is changed here.
    pub fn take_in(&mut self, cluster_uid: &str, view: &ClusterView, now: Timestamp) {
        self.holds.retain(|lane, hold| hold.waits(lane, view.versions.get(lane).copied(), now));
        self.stopped.retain(|_, until| *until > now);
        if self.reported.len() > view.claims.len() {
            let living: BTreeSet<&Uid> = view.claims.values().map(Claim::books).collect();
            self.reported.keep(&living);
            self.hours_ahead.retain(|(uid, _)| living.contains(uid));
        }
        let (holds, running) = (&self.holds, &self.in_flight);
        // Under way, or written and not shown by the watch yet.
        let written = |lane: &Lane| matches!(holds.get(lane), Some(Hold::Version(..)));
        let under_way = |lane: Lane| running.contains(&lane) || written(&lane);
        // Its claim keeps the binding, and the watch of claims may be behind that of pods.
        self.pending_binds.retain(|uid, bound| under_way(Lane::Pod(uid.clone())) || written(&Lane::Claim(bound.claim.clone())));
        self.pending_claims.retain(|name, _| under_way(Lane::Claim(name.clone())));
        self.ending.retain(|claim| {
            let lane = Lane::Claim(claim.clone());
            running.contains(&lane) || holds.contains_key(&lane) || self.stopped.contains_key(&lane)
        });
        self.identify(cluster_uid, view, now);
        self.note_first_sights(view, now);
        self.look_at_pods(view, now);
        self.give_back_notices(cluster_uid, now);
        self.count_on_what_was_seen(now);
        self.refused_replacements.retain(|uid, _| view.pods.contains_key(uid));
    }

    /// A leader that ended before it kept what it had counted: what its claims showed is kept in its place, for the leaders after this one, which may not see
    /// them any more.
    fn count_on_what_was_seen(&mut self, now: Timestamp) {
        // What ended before that is counted already.
        let lately = |at: &Timestamp| now.since(*at) < GIVEN_UP_LATELY;
        let mut seen: Vec<Timestamp> = self.first_sights.given_up().filter(lately).collect();
        if self.leading && seen.len() > self.memory.unasked_ends.iter().filter(|at| lately(at)).count() {
            seen.sort_unstable();
            let counted = &mut self.memory.unasked_ends;
            counted.retain(|at| !lately(at) && now.since(*at) < ENDS_KEPT);
            counted.extend(seen);
            self.memory_is_due = true;
        }
    }

    /// Forgets messages about machines of another cluster, which are never acknowledged.
    fn give_back_notices(&mut self, cluster_uid: &str, now: Timestamp) {
        let old = |pending: &PendingNotice| now.since(pending.received_at) >= NOTICE_OF_ANOTHER;
        let instances = &self.instances;
        let shown = |id: &InstanceId| {
            instances.values().find_map(|look| if let Observed::Known { value, .. } = look { value.get(id) } else { None })
        };
        let foreign = |id: &InstanceId| shown(id).is_some_and(|instance| instance.is_of_another(cluster_uid));
        self.notices.retain(|_, pending| !old(pending) || !foreign(&pending.notice.instance));
    }

    /// What services and bindings are remembered by, and pods that name a claim which does not know them: looked at when something has changed.
    fn look_at_pods(&mut self, view: &ClusterView, now: Timestamp) {
        let same = |[pods, wanted, claims]: &[Mark; 3]| view.pods.is(pods) && view.replicas_wanted.is(wanted) && view.claims.is(claims);
        if self.leading && self.pods_looked_at.as_ref().is_some_and(same) && self.pending_binds.is_empty() && self.unknown_links.is_empty()
        {
            return;
        }
        if self.leading {
            if let Some(after) = self.memory.services.after_look(&view.pods, &view.replicas_wanted, now) {
                self.memory.services = after;
            }
            if let Some(after) = self.memory.bindings.after_look(&view.pods, &view.claims) {
                self.memory.bindings = after;
            }
        }
        self.note_links(view, now);
        let looked_at = [view.pods.mark(), view.replicas_wanted.mark(), view.claims.mark()];
        self.pods_looked_at = self.leading.then_some(looked_at);
    }

    /// Adds what is being written and not shown yet: claims count against limits, and pods hold their place, already.
    fn add_pending(&self, view: &mut ClusterView, now: Timestamp) {
        for (name, spec) in &self.pending_claims {
            // Compared first: what is unchanged is not copied.
            if !view.claims.contains_key(name) {
                let (uid, status) = (Uid::from(name.as_str()), ClaimStatus::default());
                let claim = Claim { name: name.clone(), uid, version: 0, created_at: now, deleting: false, spec: spec.clone(), status };
                view.claims.insert(name.clone(), claim);
            }
        }
        for (uid, Bound { claim, binding }) in &self.pending_binds {
            let replaces = &binding.replaces;
            let unlike = view.pods.get(uid).is_some_and(|pod| pod.claim.as_ref() != Some(claim) || pod.replaces != *replaces);
            if let (true, Some(pod)) = (unlike, view.pods.get_mut(uid)) {
                (pod.claim, pod.replaces) = (Some(claim.clone()), replaces.clone());
            }
        }
    }

    /// The snapshot of one pass: memory and view put side by side. Changes nothing, decides nothing.
    pub fn snapshot(&self, (cluster, cluster_uid): (&str, &str), mut view: ClusterView, now: Timestamp) -> Snapshot {
        let Identified { nodes, doubtful } = self.identified();
        self.add_pending(&mut view, now);
        let mut in_flight = self.in_flight.clone();
        in_flight.extend(self.holds.keys().chain(self.stopped.keys()).cloned());
        self.drop_forged_links(&mut view, &mut in_flight, now);
        Snapshot {
            cluster: cluster.to_owned(),
            cluster_uid: cluster_uid.to_owned(),
            unreadable_claims: view.unreadable_claims,
            unreadable_pools: view.unreadable_pools,
            pools_defined: view.pools_defined,
            doubtful_nodes: doubtful,
            unclaimed_since: self.unclaimed_since.clone(),
            first_sights: self.first_sights.clone(),
            ec2_ahead: self.ec2_ahead,
            pools: view.pools,
            classes: view.classes,
            pods: view.pods,
            replicas_wanted: view.replicas_wanted,
            nodes,
            claims: view.claims,
            templates: view.templates,
            pool_statuses: view.pool_statuses,
            instances: self.instances.clone(),
            scheduled: self.scheduled.clone(),
            market: self.market.clone(),
            memory: self.memory.clone(),
            scores: self.scores.clone(),
            quotas: self.quotas.clone(),
            reservations: self.reservations.clone(),
            closed_regions: self.closed_regions.clone(),
            daemonsets: view.daemonsets,
            catalog: self.catalog.clone(),
            notices: self.notices.values().cloned().collect(),
            in_flight,
            pending_bindings: self.pending_binds.clone(),
            ending: self.ending.clone(),
            refused_replacements: self.refused_replacements.clone(),
            recorded: self.recorded.clone(),
            reported: self.reported.clone(),
            market_surveyed: self.surveyed(now),
            ledger_available: self.ledger_available,
            outbox_full: self.outbox_size >= OUTBOX_BOUND,
            outbox_closed: self.outbox_size >= OUTBOX_CLOSED,
            recent_launches: self.recent_launches.clone(),
            recent_refusals: self.recent_refusals.clone(),
            moves_considered_at: self.moves_considered_at,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::fleet::{Binding, TagList};
    use crate::core::market::CapacityType;
    use crate::core::record::HourPriced;
    use crate::core::units::money::MicroUsdPerHour;

    #[test]
    fn hours_that_were_reported_out_of_order_count_once() {
        let hour = |hour| {
            let (from, price_per_hour) = (Timestamp(0), MicroUsdPerHour(1));
            LedgerRecord::HourPriced(HourPriced { claim_uid: "c".into(), hour, from, price_per_hour, on_demand_per_hour: None })
        };
        let mut state = State::default();
        let mut reported_after = |hours: &[u32]| {
            state.note_reported(&hours.iter().copied().map(hour).collect::<Vec<_>>(), Timestamp(0));
            state.reported.of(&Uid::from("c")).hours
        };
        assert_eq!([reported_after(&[1]), reported_after(&[3, 2]), reported_after(&[0]), reported_after(&[0, 4])], [0, 0, 4, 5]);
    }

    #[test]
    fn hours_before_the_oldest_known_price_are_not_waited_for() {
        let (now, mut state) = (Timestamp(0) + Millis::from_hours(500), State::default());
        let hour = |hour: u32| {
            let (from, price_per_hour) = (Timestamp(0) + Millis::from_hours(i64::from(hour)), MicroUsdPerHour(1));
            LedgerRecord::HourPriced(HourPriced { claim_uid: "c".into(), hour, from, price_per_hour, on_demand_per_hour: None })
        };
        state.note_reported(&(424..500).map(hour).collect::<Vec<_>>(), now);
        assert_eq!((state.reported.of(&Uid::from("c")).hours, state.hours_ahead.len()), (500, 0), "a process that began after 424 hours");
    }

    fn machine(id: &str, tags: TagList) -> Instance {
        let capacity = Capacity {
            region: "us-east-1".into(),
            zone: "use1-az1".into(),
            instance_type: "g6.xlarge".into(),
            capacity_type: CapacityType::Spot,
        };
        Instance {
            id: id.into(),
            capacity,
            state: InstanceState::Running,
            launched_at: Timestamp(0),
            ended_at: None,
            state_reason: None,
            spot_request_status: None,
            addresses: Vec::new(),
            tags,
        }
    }

    #[test]
    fn running_machines_are_learnt_from_once_a_minute_and_by_the_leader() {
        let machine = machine("i-1", TagList::default());
        let capacity = machine.capacity.clone();
        let seen: Shared<BTreeMap<InstanceId, Instance>> = BTreeMap::from([(machine.id.clone(), machine)]).into();
        let mut state = State { leading: true, ..State::default() };
        let ran_after = |state: &mut State, seconds: i64| {
            let at = Timestamp(0) + Millis::from_secs(seconds);
            state.instances.insert("us-east-1".into(), Observed::Known { at, value: seen.clone() });
            state.learn_from_instances(at);
            state.memory.of(&capacity).map_or(Millis::ZERO, |record| record.exposure.ran)
        };
        let ran = [5, 15, 64].map(|seconds| ran_after(&mut state, seconds));
        assert_eq!(ran, [Millis::ZERO; 3], "nothing is known of the time before the first look");
        let settled = state.memory.mark();
        assert_eq!([65, 75, 124].map(|seconds| ran_after(&mut state, seconds)), [Millis::from_secs(60); 3]);
        assert!(!state.memory.is(&settled));
        state.leading = false;
        assert_eq!(ran_after(&mut state, 185), Millis::from_secs(60), "another process leads, and learns");
        state.leading = true;
        assert_eq!([190, 250].map(|seconds| ran_after(&mut state, seconds)), [Millis::from_secs(60), Millis::from_secs(125)]);
    }

    #[test]
    fn a_watch_that_is_behind_is_waited_for() {
        let pod = Lane::Pod(Uid::from("p"));
        let claim = Lane::Claim(ClaimName::from("lt-1"));
        let shows =
            |lane: &Lane, version| ClusterView { versions: BTreeMap::from([(lane.clone(), version)]).into(), ..ClusterView::default() };
        let held = |lane: &Lane, view: &ClusterView, seconds: i64| {
            let mut state = State::default();
            state.holds.insert(lane.clone(), Hold::Version(7, Timestamp(0)));
            state.stopped.insert(lane.clone(), Timestamp(500));
            state.take_in("uid", view, Timestamp(0) + Millis::from_secs(seconds));
            state.snapshot(("c", "uid"), view.clone(), Timestamp(0)).in_flight.contains(lane)
        };
        assert_eq!([1, 30, 600].map(|s| held(&pod, &shows(&pod, 6), s)), [true; 3], "it shows an older version");
        assert_eq!([1, 30].map(|s| held(&pod, &shows(&pod, 7), s)), [false; 2]);
        assert_eq!([4, 5].map(|s| held(&pod, &ClusterView::default(), s)), [true, false], "a pod that is gone");
        assert_eq!([59, 60].map(|s| held(&claim, &ClusterView::default(), s)), [true, false], "a claim that was made a moment ago");
        assert!(held(&pod, &shows(&pod, 7), 0), "its step has just failed");
    }

    #[test]
    fn a_message_for_another_cluster_is_forgotten_once_the_queue_hands_it_out_again() {
        let of = |uid: &str| TagList::default().with(crate::core::fleet::tags::CLUSTER_UID, Some(uid));
        let seen: BTreeMap<InstanceId, Instance> =
            [machine("i-1", of("uid")), machine("i-2", of("another"))].into_iter().map(|m| (m.id.clone(), m)).collect();
        let mut state = State::default();
        state.instances.insert("us-east-1".into(), Observed::Known { at: Timestamp(0), value: seen.into() });
        for id in ["i-1", "i-2", "i-3"] {
            let kind = crate::core::fleet::NoticeKind::Interruption;
            let notice =
                crate::core::fleet::Notice { instance: id.into(), also: vec![], region: "us-east-1".into(), kind, sent_at: Timestamp(0) };
            let pending = PendingNotice { notice, received_at: Timestamp(0), queue: Some("q".into()), receipt: id.to_owned() };
            state.notices.insert(id.to_owned(), pending);
        }
        let kept = |state: &mut State, seconds: i64| {
            state.take_in("uid", &ClusterView::default(), Timestamp(0) + Millis::from_secs(seconds));
            state.notices.keys().cloned().collect::<Vec<_>>()
        };
        assert_eq!(kept(&mut state, 29), ["i-1", "i-2", "i-3"]);
        assert_eq!(kept(&mut state, 30), ["i-1", "i-3"]);
    }

    #[test]
    fn a_pod_being_bound_holds_its_place_before_the_watch_shows_it() {
        let (uid, claim) = (Uid::from("p"), ClaimName::from("lt-1"));
        let lane = Lane::Pod(uid.clone());
        let mut state = State::default();
        let binding = Binding { pod: uid.clone(), decision: None, attempt: 1, baseline: Default::default(), replaces: None };
        let bound = Bound { claim: claim.clone(), binding };
        state.pending_binds.insert(uid.clone(), bound.clone());
        state.in_flight.insert(lane.clone());
        state.take_in("uid", &ClusterView::default(), Timestamp(0));
        assert_eq!(state.snapshot(("c", "uid"), ClusterView::default(), Timestamp(0)).in_flight.len(), 1);
        assert_eq!(state.pending_binds.get(&uid), Some(&bound), "kept while its step runs");
        state.in_flight.clear();
        state.holds.insert(lane.clone(), Hold::Version(7, Timestamp(0)));
        let behind = ClusterView { versions: BTreeMap::from([(lane.clone(), 6)]).into(), ..ClusterView::default() };
        for seconds in [1, 30] {
            state.take_in("uid", &behind, Timestamp(0) + Millis::from_secs(seconds));
            assert_eq!(state.pending_binds.len(), 1, "kept until the watch shows what the step wrote");
        }
        let seen = ClusterView { versions: BTreeMap::from([(lane, 7)]).into(), ..ClusterView::default() };
        state.take_in("uid", &seen, Timestamp(20));
        assert!(state.pending_binds.is_empty());
    }

    /// A leader ended within the second in which it gave two machines up, and the next one saw their claims: the third one sees neither.
    #[test]
    fn what_a_leader_saw_of_the_one_before_is_kept_for_the_next() {
        use crate::core::plan::tests::toy::*;
        use crate::core::workload::need::WorkloadKind;
        let mut toy = Toy::new();
        toy.add_pod(deployment(), WorkloadKind::Inference);
        toy.run(150);
        toy.world.nodes.values_mut().for_each(|node| node.ready = false);
        while toy.world.claims.values().all(|claim| claim.given_up_at().is_none()) {
            toy.run(1);
        }
        let view = ClusterView { claims: toy.world.claims.clone(), ..ClusterView::default() };
        for leading in [false, true] {
            // Two that ended long before are no part of it.
            let mut state = State { leading, ..State::default() };
            state.memory.unasked_ends = vec![toy.now - Millis::from_hours(12); 2];
            state.take_in("toy-uid", &view, toy.now);
            let counted = state.snapshot(("c", "toy-uid"), view.clone(), toy.now).memory.unasked_ends.len();
            let kept = (state.memory.unasked_ends.len(), counted, state.memory_is_due);
            assert_eq!(kept, if leading { (3, 3, true) } else { (2, 2, false) });
            state.memory_is_due = false;
            state.take_in("toy-uid", &view, toy.now);
            assert!(!state.memory_is_due, "once");
        }
    }
}
