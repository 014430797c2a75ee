//! Execute: the actions of a recorded step, in order; the first failure ends it, and a later pass decides again.
//!
//! Decides: nothing. EC2's answers are written to the claim as they are.
//! Does not: accept a step that was only planned: what is not recorded has no [`Recorded`].

use std::collections::BTreeMap;

use tracing::{debug, info, warn};

use super::driver::Engine;
use super::record::Recorded;
use super::state::Hold;
use crate::core::action::{Action, ClaimPatch, ClusterAction, Event, EventKind, EventSubject, Step};
use crate::core::fleet::{ClassProblem, ClassStatus, ImageSource, Launch, LaunchFailure, LaunchTemplate, TOKEN_ENDED};
use crate::core::market::{Capacity, CoolDownCause};
use crate::core::record::LedgerRecord;
use crate::core::snapshot::RefusedReplacement;
use crate::core::snapshot::memory::Sighting;
use crate::core::units::ids::{ClaimName, ClassName};
use crate::core::units::time::Millis;
use crate::core::workload::PodIdentity;
use crate::ports::{Applied, Clock, Cloud, CloudError, Cluster, ClusterError, Ledger};

/// A lane whose action failed is left alone this long.
const AFTER_FAILURE: Millis = Millis::from_secs(1);
/// ... and this long when EC2 could not prepare a class or the queue refused.
const AFTER_REFUSAL: Millis = Millis::from_secs(10);
/// How long an end waits for what the leader before has counted.
const UNREAD: Millis = Millis::from_secs(2);

/// Why a step ended early, and for how long its lanes are left alone.
pub(super) struct Stopped {
    pub(super) why: String,
    pub(super) hold: Millis,
}

impl From<ClusterError> for Stopped {
    fn from(error: ClusterError) -> Self {
        let hold = match error {
            ClusterError::Conflict(_) | ClusterError::Gone(_) => Millis(500),
            ClusterError::HeldByBudget(_) | ClusterError::ReplacementRefused(_) => AFTER_FAILURE,
            ClusterError::Refused(_) | ClusterError::Unreachable(_) => AFTER_FAILURE,
        };
        Stopped { why: error.to_string(), hold }
    }
}

impl From<CloudError> for Stopped {
    fn from(error: CloudError) -> Self {
        Stopped { why: error.to_string(), hold: AFTER_FAILURE }
    }
}

impl<C: Cloud, K: Cluster, L: Ledger, T: Clock + 'static> Engine<C, K, L, T> {
    /// Carries out what was recorded, in order; the first failure ends it.
    pub(super) async fn execute(&self, step: &Step<Recorded>) -> Result<(), Stopped> {
        for action in &step.actions {
            debug!(?action, "carrying out");
            self.carry_out(action).await?;
        }
        for record in &step.records {
            if let LedgerRecord::Interruption(seen) = record {
                self.learn(&seen.capacity, Sighting::Interrupted);
                // Its cool-down outlives this process.
                self.memory_changed.notify_one();
            }
        }
        Ok(())
    }

    fn learn(&self, capacity: &Capacity, sighting: Sighting) {
        let now = self.clock.now();
        self.state().memory.record(capacity, sighting, now);
    }

    async fn carry_out(&self, action: &Action) -> Result<(), Stopped> {
        match action {
            Action::Cluster(action) => self.apply(action).await,
            Action::Launch { launch, seen } => self.launch(launch, *seen).await,
            Action::Terminate { claim, region, instance, decision, trigger, seen } => {
                if trigger.is_only_seen() {
                    // The pass that decided it has counted it. The next leader must know, however soon this one ends.
                    let now = self.clock.now();
                    let counted = Some(self.state()).filter(|state| state.memory_read).map(|state| state.memory.to_text(now));
                    // Written before it was read, it would take what the leader before has counted with it.
                    let unread = || Stopped { why: format!("{instance} waits: what was counted before is not read yet"), hold: UNREAD };
                    self.cluster.keep_market_memory(&counted.ok_or_else(unread)?).await?;
                }
                let asked = Some((self.clock.now(), *decision, *trigger));
                self.patch_claim(claim, ClaimPatch { terminate_asked: asked, ..ClaimPatch::default() }, Some(*seen)).await?;
                info!(%claim, %instance, decision = %decision, "terminating");
                self.ask("terminate", self.cloud.terminate(region, instance)).await?;
                self.look_at_instances.ask(region);
                Ok(())
            }
            Action::TerminateUnclaimed { region, instance, claim_uid } => {
                // The watch may lag, or the API server may have been restored: the claim is read once more.
                if let Some(why) = self.cluster.claims_now().await?.keeps(instance, claim_uid.as_deref()) {
                    return Err(Stopped { why: format!("{instance} is kept: {why}"), hold: AFTER_REFUSAL });
                }
                info!(%instance, %region, "terminating a machine without a claim");
                Ok(self.ask("terminate", self.cloud.terminate(region, instance)).await?)
            }
            Action::Acknowledge { region, queue, receipt } => {
                let answer = self.ask("acknowledge", self.cloud.acknowledge(region, queue, receipt)).await;
                // Its effect is already durable: a message that cannot be deleted arrives again and is then known.
                self.state().notices.remove(receipt);
                answer.map_err(|e| Stopped { why: e.to_string(), hold: AFTER_REFUSAL })
            }
            Action::PrepareClass { class, template, subnets, images } => self.prepare_class(class, template, (subnets, images)).await,
            Action::CloseRegion { region, base, max, at } => {
                self.state().memory.close_region(region, *at, *base, *max);
                info!(%region, "the region is left alone: the account may launch nothing there");
                self.memory_changed.notify_one();
                Ok(())
            }
            Action::Warned { pool, seen, at } => {
                self.state().memory.record(pool, Sighting::Warned(*seen), *at);
                info!(%pool, ?seen, "EC2 warned of a capacity pool");
                self.memory_changed.notify_one();
                Ok(())
            }
            Action::CoolDown { pool, cause, vcpus, base, max, at } => {
                let refused = Sighting::Refused { cause: *cause, vcpus: *vcpus, base: *base, max: *max };
                self.state().memory.record(pool, refused, *at);
                info!(%pool, ?cause, "capacity pool is left alone");
                self.memory_changed.notify_one();
                Ok(())
            }
        }
    }

    async fn apply(&self, action: &ClusterAction) -> Result<(), Stopped> {
        let answer = self.cluster.apply(action).await;
        if let (ClusterAction::Evict { pod, .. }, Err(ClusterError::HeldByBudget(said))) = (action, &answer) {
            return Err(self.held_by_budget(pod, said).await);
        }
        if let (ClusterAction::Evict { pod, .. }, Ok(_)) = (action, &answer) {
            self.state().held_by_budget.remove(&pod.uid);
        }
        if let ClusterAction::Rehearse { pod, .. } = action {
            return self.rehearsed(pod, answer).await;
        }
        let Applied { lane, resource_version } = answer?;
        let now = self.clock.now();
        let hold = match (resource_version, action) {
            (Some(version), _) => Some(Hold::Version(version, now)),
            (None, ClusterAction::RemoveClaim { .. } | ClusterAction::DeleteNode { .. }) => Some(Hold::Gone(now)),
            (None, _) => None,
        };
        if let Some(hold) = hold {
            self.state().holds.insert(lane, hold);
        }
        Ok(())
    }

    /// What the API server says of a replacement. The pod's owner reads the refusal, and the plan asks again, less often as long as it lasts.
    async fn rehearsed(&self, pod: &PodIdentity, answer: Result<Applied, ClusterError>) -> Result<(), Stopped> {
        let said = match answer {
            Err(ClusterError::ReplacementRefused(said)) => said,
            other => {
                self.state().refused_replacements.remove(&pod.uid);
                return Ok(other.map(|_| ())?);
            }
        };
        let asked_at = self.clock.now();
        {
            let mut state = self.state();
            let times = state.refused_replacements.get(&pod.uid).map_or(0, |before| before.times) + 1;
            let again_at = asked_at + Millis::from_secs(5 << times.min(6));
            state.refused_replacements.insert(pod.uid.clone(), RefusedReplacement { asked_at, again_at, times });
        }
        let note = format!(
            "it should leave its machine, but no replacement would be admitted: {said}; it stays, and is asked about again, less often each time"
        );
        self.say(pod, "ReplacementRefused", said.clone(), note).await;
        Err(ClusterError::ReplacementRefused(said).into())
    }

    async fn say(&self, pod: &PodIdentity, reason: &'static str, key: String, note: String) {
        let event = Event::new(EventSubject::Pod(pod.clone()), (EventKind::Warning, reason), &key, note);
        if let Err(error) = self.cluster.apply(&ClusterAction::Emit(Box::new(event))).await {
            warn!("an event could not be written: {error}");
        }
    }

    /// A budget refuses the eviction: its owner is notified once, and the eviction is retried less often as long as it is refused.
    /// Deadlines bypass budgets, so nothing that must be gone in time waits here.
    async fn held_by_budget(&self, pod: &PodIdentity, said: &str) -> Stopped {
        let hold = {
            let mut state = self.state();
            let times = state.held_by_budget.entry(pod.uid.clone()).or_insert(0);
            // A notice of EC2 may come meanwhile, and leaves two minutes.
            *times = (*times + 1).min(3);
            Millis::from_secs(5 << *times)
        };
        let note = format!(
            "it should leave its machine, but a PodDisruptionBudget refuses: {said}; the eviction is retried, less often each time"
        );
        self.say(pod, "HeldByBudget", "budget".to_owned(), note).await;
        Stopped { why: format!("a disruption budget blocks {}: {said}", pod.object), hold }
    }

    async fn patch_claim(&self, claim: &ClaimName, patch: ClaimPatch, seen: Option<u64>) -> Result<(), Stopped> {
        self.apply(&ClusterAction::PatchClaim { claim: claim.clone(), patch: Box::new(patch), seen }).await
    }

    /// "Asked" is durable before EC2 is asked; the outcome is written down; without an answer the claim stays "asked".
    async fn launch(&self, launch: &Launch, seen: u64) -> Result<(), Stopped> {
        let asked = self.clock.now();
        self.patch_claim(&launch.claim, ClaimPatch { launch_asked_at: Some(asked), ..ClaimPatch::default() }, Some(seen)).await?;
        if let Some(pool) = launch.tags.get(crate::core::fleet::tags::POOL) {
            let mut state = self.state();
            let recent = state.recent_launches.entry(pool.as_str().into()).or_default();
            recent.retain(|at| asked.since(*at) < Millis::from_mins(1));
            recent.push(asked);
        }
        info!(claim = %launch.claim, pool = %launch.capacity, token = launch.client_token, "asking EC2");
        let answer = self.ask("launch", self.cloud.launch(launch)).await;
        self.count_launch(&launch.capacity, &answer);
        let patch = match answer {
            Ok(instance) => {
                info!(claim = %launch.claim, %instance, "launched");
                self.look_at_instances.ask(&launch.capacity.region);
                self.learn(&launch.capacity, Sighting::Launched);
                // By EC2's clock, like everything else that EC2 will report about it.
                let at = self.clock.now() + self.cloud.ahead().unwrap_or(Millis::ZERO);
                ClaimPatch { launched: Some((instance, at)), ..ClaimPatch::default() }
            }
            Err(error) => match failure_of(&error) {
                Some((cause, code)) => {
                    let failure = LaunchFailure { cause, code, message: error.to_string(), at: self.clock.now() };
                    ClaimPatch { failure: Some(failure), ..ClaimPatch::default() }
                }
                None => return Err(error.into()),
            },
        };
        // This is true whatever has become of the claim in the meantime.
        self.patch_claim(&launch.claim, patch, None).await
    }

    async fn prepare_class(
        &self,
        class: &ClassName,
        template: &LaunchTemplate,
        (subnets, sources): (&[String], &[ImageSource]),
    ) -> Result<(), Stopped> {
        let prepared = async {
            let zones = self.ask("subnet-zones", self.cloud.subnet_zones(&template.region, subnets)).await?;
            let images = match sources {
                [] => (BTreeMap::new(), None),
                some => (self.ask("images", self.cloud.images(&template.region, some)).await?, Some(self.clock.now())),
            };
            let version = self.ask("launch-template", self.cloud.ensure_launch_template(template)).await?;
            // Without the names only pods that select zones by name cannot be placed: the class is usable nevertheless.
            let names = self.ask("zone-names", self.cloud.zone_names(&template.region)).await.unwrap_or_else(|error| {
                warn!(%class, "the names of its zones could not be read: {error}");
                BTreeMap::new()
            });
            Ok::<_, CloudError>((zones, names, version, images))
        };
        let status = match prepared.await {
            Ok((zones, mut names, version, images)) => ClassStatus {
                zone_names: zones.values().map(|zone| (zone.clone(), names.remove(zone).unwrap_or_else(|| zone.to_string()))).collect(),
                zones: zones.into_iter().map(|(subnet, zone)| (zone, subnet)).collect(),
                launch_template: Some((template.name.clone(), version)),
                images,
                ready: Ok(()),
            },
            Err(error @ (CloudError::Refused { .. } | CloudError::Quota { .. })) => {
                let code = if let CloudError::Refused { code, .. } = &error { code.clone() } else { "Quota".to_owned() };
                let reason = match code.as_str() {
                    subnet if subnet.starts_with("InvalidSubnet") => "UnknownSubnet".to_owned(),
                    image if image.starts_with("InvalidAMI") => "UnknownImage".to_owned(),
                    _ => "RefusedByEc2".to_owned(),
                };
                ClassStatus {
                    zones: Default::default(),
                    zone_names: Default::default(),
                    launch_template: None,
                    images: Default::default(),
                    ready: Err(ClassProblem { reason, text: error.to_string() }),
                }
            }
            Err(error) => return Err(Stopped { why: error.to_string(), hold: AFTER_REFUSAL }),
        };
        let refused = status.ready.clone().err();
        self.apply(&ClusterAction::SetClassStatus { class: class.clone(), status: Box::new(status) }).await?;
        match refused {
            None => Ok(()),
            // Retried later: someone may create the subnet or grant the permission.
            Some(problem) => Err(Stopped { why: format!("class {class}: {problem}"), hold: AFTER_REFUSAL }),
        }
    }
}

/// What a refusal means for the capacity pool; `None` if the launch may have happened and must be retried with the same token.
fn failure_of(error: &CloudError) -> Option<(CoolDownCause, String)> {
    match error {
        CloudError::NoCapacity { code, .. } => Some((CoolDownCause::NoCapacity, code.clone())),
        CloudError::Quota { code, .. } => Some((CoolDownCause::Quota, code.clone())),
        CloudError::Refused { code, .. } => Some((CoolDownCause::Refused, code.clone())),
        CloudError::TokenEnded { .. } => Some((CoolDownCause::NeverJoined, TOKEN_ENDED.to_owned())),
        CloudError::TokenUsed { .. } | CloudError::Throttled { .. } | CloudError::Unknown { .. } => None,
    }
}
