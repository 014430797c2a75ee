//! Pods that no offer will do for: what is said on them, and what is recorded.
//!
//! Decides: when a refusal is news, and how many refusals of one namespace the books take. Whoever may make pods may make many that nothing can hold, and
//! would fill the books with them, and with Postgres away etcd. Does not: judge offers (see [`crate::core::placement`]).

use std::sync::Arc;

use super::super::pass::Pass;
use super::super::reporting::wording;
use super::beyond;
use super::deadline::Verdict;
use super::replacing::trigger_of;
use crate::core::action::{Event, EventKind, EventSubject};
use crate::core::record::{Decision, Judgement, LedgerRecord, Outcome, REFUSALS_AN_HOUR, code_of};
use crate::core::snapshot::Lane;
use crate::core::units::ids::DecisionId;
use crate::core::units::shared::Shared;
use crate::core::units::time::{Millis, Timestamp};
use crate::core::workload::Pod;

/// No offer will do: said once an hour per pod, and whenever other reasons refuse it. Recorded as often, within what the books take of a namespace.
pub(super) fn refuse(pass: &mut Pass, pod: &Pod, judgement: &Shared<Judgement>, verdict: Option<&Verdict>) {
    let waits = verdict.filter(|verdict| verdict.waits);
    let (kind, reason) = if waits.is_some() { (EventKind::Normal, "WaitingForSpot") } else { (EventKind::Warning, "Unplaceable") };
    if waits.is_some() {
        // Time passes, and what a deadline asks for changes with it.
        pass.wake(pass.now + Millis::from_mins(1));
    }
    let Ok((need, _)) = &pod.need else { return };
    let beyond = beyond::every_machine(pass, pod, need);
    let grounds = beyond.into_iter().chain(verdict.map(|verdict| verdict.text.clone()));
    let note: Arc<str> = grounds.chain([wording::refused(judgement)]).collect::<Vec<_>>().join("; ").into();
    // Two operators may both refuse it in one moment, each by the prices it knows.
    let seen = format!("{}#{}", pod.identity.uid, judgement.offers_hash);
    let id = DecisionId::derive(&pass.world.cluster, "refuse", &seen, pass.moment());
    let subject = EventSubject::Pod(pod.identity.clone());
    let key = refusal_key(judgement, pod.created_at, pass.now);
    let event = Event::new(subject.clone(), (kind, reason), &key, note.clone());
    if pass.world.recorded.contains_key(&event.id()) {
        return;
    }
    // The bulk of what is decided while nothing can be had, and said again while it holds: it does not fill etcd.
    if !pass.world.outbox_full && may_be_recorded(pass, pod) {
        let pool = pass.pools_for(pod).first().cloned();
        let decision = Decision {
            id,
            cluster: pass.cluster.clone(),
            decided_at: pass.now,
            trigger: trigger_of(pass, pod),
            outcome: Outcome::Refuse,
            text: note.clone(),
            policy_hash: pool.as_ref().and_then(|name| pass.world.pools.get(name)).map_or_else(|| "".into(), |pool| pass.policy_hash(pool)),
            node_pool: pool,
            workload: Some(pod.workload.clone()),
            attribution: pod.attribution.clone(),
            pods: vec![pod.identity.clone()],
            need: Some(need.clone()),
            judgement: judgement.clone(),
            counterfactuals: Default::default(),
            claim: None,
            from_claim: None,
            instance: None,
            code_version: pass.settings.code_version.clone(),
        };
        pass.step(vec![Lane::Pod(pod.identity.uid.clone())], vec![LedgerRecord::Decision(Box::new(decision))], Vec::new());
    }
    pass.emit(subject, (kind, reason), key, note);
}

/// Whether the books take one more refusal of the pod's namespace. If not, a pool says so, once an hour.
fn may_be_recorded(pass: &mut Pass, pod: &Pod) -> bool {
    let namespace = &pod.identity.object.namespace;
    let lately = pass.world.recent_refusals.of(namespace, pass.now);
    let now = pass.refused.entry(namespace.clone()).or_default();
    let before = lately + *now;
    *now += 1;
    if before != REFUSALS_AN_HOUR {
        return before < REFUSALS_AN_HOUR;
    }
    let Some(pool) = pass.pools_for(pod).first().cloned().or_else(|| pass.world.pools.keys().next().cloned()) else { return false };
    let note = format!(
        "pods of namespace {namespace} were refused {REFUSALS_AN_HOUR} times within an hour: until there are fewer, further refusals are events on its pods \
         and not rows of the ledger. If nobody means so many pods, limit them with a ResourceQuota"
    );
    let key = format!("{namespace}@{}", pass.now.0.div_euclid(HOUR.0));
    pass.emit(EventSubject::Pool(pool), (EventKind::Warning, "TooManyRefusals"), key, note);
    false
}

const HOUR: Millis = Millis::from_hours(1);

/// What makes a refusal news: which reasons rule offers out, and that an hour has passed. How many offers each rules out and which came nearest change with
/// every price, so they are said but are no news.
fn refusal_key(judgement: &Judgement, created_at: Timestamp, now: Timestamp) -> String {
    let reasons: Vec<_> = judgement.refused.keys().map(code_of).collect();
    // By the API server's clock a pod may have been made after now: that is no hour of its own.
    format!("{}@{}", reasons.join(","), now.since(created_at).0.max(0) / HOUR.0)
}
