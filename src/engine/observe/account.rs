//! The loops that keep the account's limits fresh: vCPU quotas, capacity reservations, spot placement scores.
//!
//! Decides: nothing; each is read on its own slow schedule, and what cannot be read keeps its last value.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tracing::{info, warn};

use super::market::{FIRST_RETRY, later};
use crate::core::market::reservation::SeenReservations;
use crate::core::market::scores::{ScoreQuestion, questions};
use crate::core::units::ids::{Region, ReservationId};
use crate::core::units::time::{Millis, Timestamp};
use crate::engine::driver::Engine;
use crate::ports::{Clock, Cloud, CloudError, Cluster, Ledger};

/// After EC2 has accepted its last new request of the day, none is sent for this long. Old ones may be repeated.
const NEW_QUESTIONS_PAUSE: Millis = Millis::from_hours(24);
/// Scores are first requested when the market has been surveyed.
const SURVEY_POLL: Duration = Duration::from_secs(2);

impl<C: Cloud, K: Cluster, L: Ledger, T: Clock + 'static> Engine<C, K, L, T> {
    /// Keeps the vCPU quotas of a region.
    pub(in crate::engine) async fn watch_quotas(self: Arc<Self>, region: Region) {
        let (mut retry, mut round) = (FIRST_RETRY, 0);
        loop {
            round += 1;
            let pause = match self.ask("quotas", self.cloud.vcpu_quotas(&region)).await {
                Ok(quotas) => {
                    retry = FIRST_RETRY;
                    let before = self.state().quotas.insert(region.clone(), quotas.clone());
                    if before.as_ref() != Some(&quotas) {
                        let said: Vec<String> =
                            quotas.iter().map(|q| format!("{} {} {}", q.capacity_type, q.family.label(), q.vcpus)).collect();
                        info!(%region, "vCPU quotas: {}", said.join(", "));
                        self.wake.notify_one();
                    }
                    self.pace(self.intervals.quotas, &format!("quotas {region}"), round)
                }
                Err(error) => {
                    warn!(%region, "vCPU quotas could not be read; the last known ones and EC2's refusals apply: {error}");
                    self.pause_after(&error, &mut retry)
                }
            };
            tokio::time::sleep(pause).await;
        }
    }

    /// How long a question waits after it failed: one that EC2 refuses is asked again as seldom as a closed region, others soon and then less often.
    pub(super) fn pause_after(&self, error: &CloudError, retry: &mut Duration) -> Duration {
        let refused = matches!(error, CloudError::Refused { .. });
        let pause = if refused { self.intervals.closed_regions } else { *retry };
        *retry = later(*retry);
        pause
    }

    /// Keeps what is left of the reservations listed in the region's classes.
    pub(in crate::engine) async fn watch_reservations(self: Arc<Self>, region: Region) {
        let mut round = 0;
        loop {
            round += 1;
            let named: Vec<ReservationId> = match self.cluster.view() {
                Some(view) => {
                    let classes = view.classes.values().filter(|class| class.region == region);
                    let ids: BTreeSet<ReservationId> =
                        classes.flat_map(|class| &class.reservations).map(|named| named.id.clone()).collect();
                    ids.into_iter().collect()
                }
                None => Vec::new(),
            };
            self.look_at_reservations(&region, &named).await;
            tokio::time::sleep(self.pace(self.intervals.reservations, &format!("reservations {region}"), round)).await;
        }
    }

    async fn look_at_reservations(&self, region: &Region, named: &[ReservationId]) {
        if named.is_empty() {
            let mut state = self.state();
            // Checked first: even a write that changes nothing counts as a change.
            if state.reservations.contains_key(region) {
                state.reservations.remove(region);
            }
            return;
        }
        let at = self.clock.now();
        match self.ask("reservations", self.cloud.capacity_reservations(region, named)).await {
            Ok(seen) => {
                for lost in named.iter().filter(|id| !seen.iter().any(|r| r.id == **id)) {
                    warn!(%region, reservation = %lost, "a node class lists a capacity reservation that EC2 does not show: nothing is launched into it");
                }
                let before = self.state().reservations.insert(region.clone(), SeenReservations { at, seen: seen.clone() });
                if before.is_none_or(|old| old.seen != seen) {
                    self.wake.notify_one();
                }
            }
            Err(error) => warn!(%region, "capacity reservations could not be read, the last values are kept: {error}"),
        }
    }

    /// Keeps spot placement scores: a few fixed requests for all regions, on a slow schedule.
    pub(in crate::engine) async fn watch_scores(self: Arc<Self>) {
        let mut asked: BTreeSet<ScoreQuestion> = BTreeSet::new();
        let mut no_new_until = Timestamp(i64::MIN);
        let mut round = 0;
        loop {
            round += 1;
            let (surveyed, catalog, market, closed) = {
                let state = self.state();
                (state.surveyed(self.clock.now()), state.catalog.clone(), state.market.clone(), state.closed_regions.clone())
            };
            let regions: BTreeSet<Region> = self.cluster.view().map_or_else(BTreeSet::new, |view| {
                view.classes.values().map(|class| &class.region).filter(|region| !closed.contains_key(*region)).cloned().collect()
            });
            let (true, Some(asked_in)) = (surveyed, regions.first().cloned()) else {
                tokio::time::sleep(SURVEY_POLL).await;
                continue;
            };
            for (family, question) in questions(&catalog, &market, &regions) {
                let known = asked.contains(&question);
                if !known && self.clock.now() < no_new_until {
                    continue;
                }
                match self.ask("placement-scores", self.cloud.placement_scores(&asked_in, &question)).await {
                    Ok(answer) => {
                        asked.insert(question);
                        let now = self.clock.now();
                        self.state().scores.keep(&family, &answer, now);
                    }
                    Err(error) if error.ends_new_questions() => {
                        info!(family, "EC2 accepts no new placement score requests today: known scores are kept");
                        no_new_until = self.clock.now() + NEW_QUESTIONS_PAUSE;
                    }
                    Err(error) => warn!(family, "a placement score could not be read; offers have none: {error}"),
                }
            }
            tokio::time::sleep(self.pace(self.intervals.scores, "scores", round)).await;
        }
    }
}
