//! Leader election with a Lease: one operator acts, others stand by with warm watches.
//!
//! Decides: who may take the Lease and when (pure, [`evaluate_lease`]), and when a holder must stop believing that it leads.
//! Does not: ensure correctness. Names and resourceVersions collide and tokens are stable; two leaders would only waste calls.
//!
//! A holder's clock is never compared with ours: a Lease has expired when it has not changed for its duration *by our clock*, as in
//! client-go. Every write is a PUT with the resourceVersion that was read (a merge patch without it lets the last writer win).

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff;
use kube::api::PostParams;
use kube::core::ObjectMeta;
use kube::{Api, Client};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::errors::call_at_once;
use crate::core::units::time::{Millis, Timestamp};
use crate::ports::{Clock, ClusterError};

/// How long a Lease is valid after its last renewal, unless it says otherwise (client-go's default).
const DURATION: Millis = Millis::from_secs(15);
/// A holder that could not renew for this long stops leading, well before others may take over.
const RENEW_DEADLINE: Millis = Millis::from_secs(10);
/// Interval between reads of the Lease.
const PAUSE: Duration = Duration::from_secs(2);
/// Longest wait for one answer: less than the time between the deadline and the duration.
const ANSWER: Duration = Duration::from_secs(3);

/// The namespace of the Lease: one that every cluster has, so that releases in two namespaces, which a pipeline can apply past Helm's own refusal, have
/// one leader too. Where Kubernetes' own controllers keep theirs.
pub const NAMESPACE: &str = "kube-system";
/// The name of the Lease.
pub const NAME: &str = "lowtide";

/// Which Lease, and who we are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseSettings {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Our identity: unique per process in the cluster. What stands before a `/` is the namespace of our release.
    pub identity: String,
}

impl LeaseSettings {
    /// The Lease that a cluster has once, for a process of this name in this namespace.
    pub fn of_the_cluster(namespace: &str, instance: &str) -> Self {
        // A pod's name is unique only within its namespace.
        LeaseSettings { namespace: NAMESPACE.into(), name: NAME.into(), identity: format!("{namespace}/{instance}") }
    }
}

/// The namespace of another release that holds the Lease, if `me` is of one and the holder of another.
pub fn other_release<'a>(holder: &'a str, me: &str) -> Option<&'a str> {
    let (theirs, _) = holder.split_once('/')?;
    let (ours, _) = me.split_once('/')?;
    (theirs != ours).then_some(theirs)
}

/// What to do about a Lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseMove {
    /// Nobody holds it, or its holder is silent: take it.
    Take,
    /// It is ours: renew it.
    Renew,
    /// Someone else holds it, at least until then.
    Wait {
        /// When it expires if it is not renewed.
        until: Timestamp,
    },
}

/// What to do about a Lease with this `spec`, first seen in this state at `seen_at`.
pub fn evaluate_lease(spec: Option<&LeaseSpec>, me: &str, seen_at: Timestamp, now: Timestamp) -> LeaseMove {
    let holder = spec.and_then(|s| s.holder_identity.as_deref()).unwrap_or_default();
    if holder == me {
        return LeaseMove::Renew;
    }
    let holds = spec.and_then(|s| s.lease_duration_seconds).map_or(DURATION, |s| Millis::from_secs(i64::from(s)));
    let until = seen_at + holds;
    if holder.is_empty() || until <= now { LeaseMove::Take } else { LeaseMove::Wait { until } }
}

/// The Lease as we want it after our next action.
fn next_spec(previous: Option<&LeaseSpec>, me: &str, chosen: LeaseMove, now: Timestamp) -> LeaseSpec {
    let micro = |at: Timestamp| MicroTime(jiff::Timestamp::from_millisecond(at.0).unwrap_or_default());
    let transitions = previous.and_then(|s| s.lease_transitions);
    let (acquired, transitions) = match chosen {
        LeaseMove::Renew => (previous.and_then(|s| s.acquire_time.clone()), transitions.unwrap_or(0)),
        LeaseMove::Take | LeaseMove::Wait { .. } => (None, transitions.map_or(0, |t| t.saturating_add(1))),
    };
    LeaseSpec {
        holder_identity: Some(me.to_owned()),
        lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
        acquire_time: acquired.or_else(|| Some(micro(now))),
        renew_time: Some(micro(now)),
        lease_transitions: Some(transitions),
        ..LeaseSpec::default()
    }
}

/// A running candidacy. Dropping it ends it without releasing the Lease; [`Candidacy::release`] releases it.
pub struct Candidacy {
    leading: watch::Receiver<bool>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
    /// The candidacy within which this one is.
    outer: Option<Box<Candidacy>>,
}

impl Candidacy {
    /// Runs for the leadership of a cluster: for the Lease of the release's namespace, by which 0.1.0 led, and while it is held for the cluster's. So an
    /// upgrade and a rollback, in which programs of both versions run for a while, have one leader too.
    pub fn of_the_cluster(client: Client, namespace: &str, instance: &str, clock: Arc<dyn Clock>) -> Self {
        let cluster = LeaseSettings::of_the_cluster(namespace, instance);
        if cluster.namespace == namespace {
            return Candidacy::start(client, cluster, clock);
        }
        let release = LeaseSettings { namespace: namespace.to_owned(), ..cluster.clone() };
        let outer = Candidacy::start(client.clone(), release, Arc::clone(&clock));
        let within = outer.leading();
        let mut candidacy = Candidacy::run_for(client, cluster, clock, Some(within));
        candidacy.outer = Some(Box::new(outer));
        candidacy
    }

    /// Runs for one Lease until released.
    pub fn start(client: Client, settings: LeaseSettings, clock: Arc<dyn Clock>) -> Self {
        Candidacy::run_for(client, settings, clock, None)
    }

    fn run_for(client: Client, settings: LeaseSettings, clock: Arc<dyn Clock>, within: Option<watch::Receiver<bool>>) -> Self {
        let (leading_now, leading) = watch::channel(false);
        let (stop, stopped) = watch::channel(false);
        let candidate = Candidate {
            api: Api::namespaced(client, &settings.namespace),
            settings,
            clock,
            seen: None,
            renewed_at: None,
            leading: leading_now,
            named: String::new(),
            within,
        };
        Candidacy { leading, stop, task: tokio::spawn(candidate.run(stopped)), outer: None }
    }

    /// Whether we lead, now and whenever it changes.
    pub fn leading(&self) -> watch::Receiver<bool> {
        self.leading.clone()
    }

    /// Stops leading and releases the Lease, so that others need not wait for it to expire.
    pub async fn release(mut self) {
        self.stop.send_replace(true);
        if let Err(error) = (&mut self.task).await {
            tracing::warn!(%error, "the leader election task ended unexpectedly");
        }
        if let Some(outer) = self.outer.take() {
            Box::pin(outer.release()).await;
        }
    }
}

impl Drop for Candidacy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Waits until what is received changes; for ever if nothing is.
async fn changed(within: &mut Option<watch::Receiver<bool>>) {
    if let Some(within) = within
        && within.changed().await.is_ok()
    {
        return;
    }
    std::future::pending().await
}

struct Candidate {
    api: Api<Lease>,
    settings: LeaseSettings,
    clock: Arc<dyn Clock>,
    /// The Lease's last seen version, and when that was first seen.
    seen: Option<(String, Timestamp)>,
    /// When we last knew it to be ours; taken before the request, so never too late.
    renewed_at: Option<Timestamp>,
    leading: watch::Sender<bool>,
    /// The holder of another release that was last named in the log.
    named: String,
    /// Whether another Lease is held without which this one is not wanted.
    within: Option<watch::Receiver<bool>>,
}

impl Candidate {
    async fn run(mut self, mut stopped: watch::Receiver<bool>) {
        while !*stopped.borrow() {
            if self.within.as_ref().is_some_and(|within| !*within.borrow()) {
                self.give_back().await;
            } else if let Err(error) = self.look().await {
                tracing::warn!(%error, lease = self.settings.name, "the lease could not be read or written");
                self.step_down_when_late();
            }
            tokio::select! {
                () = tokio::time::sleep(PAUSE) => {}
                () = changed(&mut self.within) => {}
                _ = stopped.changed() => {}
            }
        }
        self.give_back().await;
    }

    /// One read of the Lease, and one action.
    async fn look(&mut self) -> Result<(), ClusterError> {
        let asked_at = self.clock.now();
        let name = self.settings.name.clone();
        let lease = match self.patient(call_at_once(format!("read lease {name}"), self.api.get_opt(&name))).await? {
            Some(lease) => lease,
            None => Lease { metadata: ObjectMeta { name: Some(name.clone()), ..ObjectMeta::default() }, spec: None },
        };
        let version = lease.metadata.resource_version.clone().unwrap_or_default();
        let seen_at = match &self.seen {
            Some((known, at)) if *known == version => *at,
            _ => self.clock.now(),
        };
        self.seen = Some((version, seen_at));
        let chosen = evaluate_lease(lease.spec.as_ref(), &self.settings.identity, seen_at, self.clock.now());
        if let LeaseMove::Wait { .. } = chosen {
            self.renewed_at = None;
            self.set_leading(false);
            self.name_another_release(lease.spec.as_ref());
            return Ok(());
        }
        let spec = next_spec(lease.spec.as_ref(), &self.settings.identity, chosen, self.clock.now());
        match self.write(Lease { spec: Some(spec), ..lease }).await {
            Ok(()) => {
                self.renewed_at = Some(asked_at);
                self.set_leading(true);
                Ok(())
            }
            // Another candidate was faster, or someone edited it: the next read shows who holds it.
            Err(ClusterError::Conflict(_)) => {
                self.step_down_when_late();
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Says, once per holder, that lowtide of another namespace leads: a cluster has one, and this one would wait in silence.
    fn name_another_release(&mut self, held: Option<&LeaseSpec>) {
        let holder = held.and_then(|spec| spec.holder_identity.as_deref()).unwrap_or_default();
        if self.named == holder {
            return;
        }
        if let Some(theirs) = other_release(holder, &self.settings.identity) {
            tracing::warn!(
                holder,
                "lowtide of namespace {theirs} leads, and a cluster has one lowtide: this one decides nothing while it does. Uninstall one of the two"
            );
        }
        self.named = holder.to_owned();
    }

    /// Creates the Lease, or replaces the version that was read. A PUT to a Lease that is gone would recreate it, unguarded.
    async fn write(&self, lease: Lease) -> Result<(), ClusterError> {
        let (name, params) = (&self.settings.name, PostParams::default());
        let what = format!("write lease {name}");
        match lease.metadata.resource_version {
            None => self.patient(call_at_once(what, self.api.create(&params, &lease))).await.map(|_| ()),
            Some(_) => self.patient(call_at_once(what, self.api.replace(name, &params, &lease))).await.map(|_| ()),
        }
    }

    async fn patient<T>(&self, request: impl Future<Output = Result<T, ClusterError>>) -> Result<T, ClusterError> {
        let late = |_| Err(ClusterError::Unreachable(format!("lease {}: no answer within {} s", self.settings.name, ANSWER.as_secs())));
        tokio::time::timeout(ANSWER, request).await.unwrap_or_else(late)
    }

    fn step_down_when_late(&mut self) {
        let now = self.clock.now();
        // The next read comes after a pause and may take two requests: it must not start too late.
        let margin = Millis::from_secs(2);
        if self.renewed_at.is_none_or(|at| now.since(at) + margin >= RENEW_DEADLINE) {
            self.renewed_at = None;
            self.set_leading(false);
        }
    }

    fn set_leading(&self, leads: bool) {
        let changed = self.leading.send_if_modified(|now| std::mem::replace(now, leads) != leads);
        if changed {
            let Self { settings, .. } = self;
            tracing::info!(lease = settings.name, identity = settings.identity, leads, "leadership changed");
        }
    }

    async fn give_back(&mut self) {
        let held = self.renewed_at.take().is_some();
        self.set_leading(false);
        if !held {
            return;
        }
        let name = self.settings.name.clone();
        let ours = |lease: &Lease| lease.spec.as_ref().and_then(|s| s.holder_identity.as_deref()) == Some(self.settings.identity.as_str());
        let found = self.patient(call_at_once(format!("read lease {name}"), self.api.get_opt(&name))).await;
        let given = match found {
            Ok(Some(mut lease)) if ours(&lease) => {
                if let Some(spec) = &mut lease.spec {
                    spec.holder_identity = None;
                }
                self.write(lease).await
            }
            Ok(_) => Ok(()),
            Err(error) => Err(error),
        };
        if let Err(error) = given {
            tracing::warn!(%error, "the lease could not be released; others take it when it expires");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held_by(holder: &str, seconds: i32) -> LeaseSpec {
        LeaseSpec { holder_identity: Some(holder.into()), lease_duration_seconds: Some(seconds), ..LeaseSpec::default() }
    }

    #[test]
    fn a_holder_of_another_namespace_is_another_release() {
        let me = LeaseSettings::of_the_cluster("lowtide-system", "operator-b");
        assert_eq!((me.namespace.as_str(), me.identity.as_str()), ("kube-system", "lowtide-system/operator-b"));
        assert_eq!(other_release("elsewhere/operator-a", &me.identity), Some("elsewhere"));
        assert_eq!(other_release("lowtide-system/operator-a", &me.identity), None);
        assert_eq!(other_release("", &me.identity), None);
    }

    #[test]
    fn a_lease_is_taken_when_nobody_holds_it_or_its_holder_was_silent_for_its_duration() {
        let at = |s: i64| Timestamp(s * 1_000);
        let other = held_by("other", 15);
        assert_eq!(evaluate_lease(None, "me", at(0), at(0)), LeaseMove::Take);
        assert_eq!(evaluate_lease(Some(&held_by("", 15)), "me", at(0), at(0)), LeaseMove::Take);
        assert_eq!(evaluate_lease(Some(&held_by("me", 15)), "me", at(0), at(99)), LeaseMove::Renew);
        assert_eq!(evaluate_lease(Some(&other), "me", at(10), at(24)), LeaseMove::Wait { until: at(25) });
        assert_eq!(evaluate_lease(Some(&other), "me", at(10), at(25)), LeaseMove::Take);
        // The time is reset with every renewal: the holder's own clock plays no part.
        assert_eq!(evaluate_lease(Some(&other), "me", at(24), at(25)), LeaseMove::Wait { until: at(39) });
    }

    #[test]
    fn taking_over_counts_a_transition_and_renewing_keeps_the_time_of_taking() {
        let first = next_spec(None, "a", LeaseMove::Take, Timestamp(1_000));
        let renewed = next_spec(Some(&first), "a", LeaseMove::Renew, Timestamp(3_000));
        let taken = next_spec(Some(&renewed), "b", LeaseMove::Take, Timestamp(20_000));
        assert_eq!((first.lease_transitions, renewed.lease_transitions, taken.lease_transitions), (Some(0), Some(0), Some(1)));
        assert_eq!((&renewed.acquire_time, renewed.acquire_time != taken.acquire_time), (&first.acquire_time, true));
        assert_eq!(serde_json::to_value(&renewed).unwrap()["renewTime"], "1970-01-01T00:00:03.000000Z");
    }
}
