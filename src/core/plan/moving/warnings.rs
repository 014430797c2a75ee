//! Machines that EC2 says are at risk, and may well leave alone.
//!
//! Decides: that their capacity is not bought again for a while, which of them are left before a notice, one after the other, and when a
//! warning is over.
//! Does not: move pods (`migration`), or read messages (`notices`).
//!
//! EC2 gives rebalance recommendations to many machines at once, and takes some of them. So a warning alone moves nothing: no new work is put on
//! the machine, and none is bought in its capacity. Its work leaves when staying is expected to cost more than leaving:
//! - leaving for nothing costs a second machine for a boot;
//! - staying costs, if a notice follows, what the notice's two minutes do not cover: a service is short of its replicas until others are up,
//!   priced as in [`crate::core::policy::spreading`]; a Job whose checkpoint takes longer than a notice lasts loses work. Whoever must stop before
//!   a replacement is made, bare pods, and pods that are not to be disrupted stay: being wrong would cost what the warning threatens.
//!
//! How often a warning is followed by a notice is learnt for each capacity. One replica of a service leaves at a time, and one in ten machines.

use std::collections::BTreeSet;

use super::super::pass::Pass;
use super::super::placing::asking;
use super::choice;
use crate::core::action::{Action, ClaimPatch, ClusterAction, EventKind, EventSubject};
use crate::core::fleet::{Claim, InterruptionMark, MoveMark, Trigger, WARNED_FOR, Warning};
use crate::core::policy::spreading::DEFAULT_GOAL_PPM;
use crate::core::record::{LedgerRecord, Outcome};
use crate::core::snapshot::Lane;
use crate::core::units::money::MicroUsd;
use crate::core::units::time::{Millis, Timestamp};
use crate::core::workload::{Mobility, Pod, Workload};

/// A warning that nothing came of for this long is over: the machine takes work again.
const OVER_AFTER: Millis = Millis::from_hours(1);
/// One in this many machines leaves for a warning at a time.
const ONE_IN: usize = 10;
const HOUR: i128 = 3_600_000;

/// A warning that was given so long ago is over when it comes: instance metadata keeps it for as long as the machine runs.
pub(super) fn is_old(sent_at: Timestamp, now: Timestamp) -> bool {
    now.since(sent_at) >= OVER_AFTER
}

/// What is written down of a warning.
pub(super) fn note(pass: &mut Pass, claim: &Claim, mark: InterruptionMark) -> (Vec<Lane>, Vec<LedgerRecord>, Vec<Action>) {
    let (pool, at) = (claim.spec.capacity.clone(), mark.noticed_at);
    let (base, max) = pass.pool_of(claim).map_or((WARNED_FOR, WARNED_FOR), |pool| (pool.cool_down_base, pool.cool_down_max));
    let seen = Warning::Given { base: base.max(WARNED_FOR), max: max.max(WARNED_FOR) };
    pass.claims.mark(&claim.name, |marked| marked.status.interruption = Some(Box::new(mark.clone())));
    let patch = Box::new(ClaimPatch { interruption: Some(mark), ..ClaimPatch::default() });
    let patch = Action::Cluster(ClusterAction::PatchClaim { claim: claim.name.clone(), patch, seen: Some(claim.version) });
    (vec![Lane::Claim(claim.name.clone())], Vec::new(), vec![patch, Action::Warned { pool, seen, at }])
}

/// What is learnt when EC2 takes a machine: that a warning, if there was one, meant it.
pub(super) fn followed(pass: &Pass, claim: &Claim) -> Option<Action> {
    claim.is_warned().then(|| Action::Warned { pool: claim.spec.capacity.clone(), seen: Warning::Followed, at: pass.now })
}

/// Looks at every machine that was warned of and is not left yet.
pub(in crate::core::plan) fn weigh(pass: &mut Pass) {
    let held = |c: &&Claim| c.status.terminate_asked.is_none() && c.status.ended.is_none() && !c.deleting;
    let mut warned: Vec<Claim> = pass.warned().filter(held).filter(|c| c.status.moving.is_none()).cloned().collect();
    if warned.is_empty() {
        return;
    }
    warned.sort_by_key(|claim| (claim.status.interruption.as_ref().map(|mark| mark.noticed_at), claim.name.clone()));
    let left =
        |c: &&Claim| c.status.ended.is_none() && c.status.moving.as_ref().is_some_and(|m| m.trigger == Trigger::RebalanceRecommendation);
    let mut leaving = pass.claims.values().filter(left).count();
    let most = pass.claims.values().filter(|c| c.may_run()).count().div_ceil(ONE_IN);
    let mut on_the_move = on_the_move(pass);
    for claim in warned {
        let Some(noticed_at) = claim.status.interruption.as_ref().map(|mark| mark.noticed_at) else { continue };
        if pass.due(noticed_at, OVER_AFTER) {
            call_off(pass, &claim);
            continue;
        }
        let Some(stakes) = stakes(pass, &claim).filter(|_| choice::kept_by_a_pod(pass, &claim).is_none()) else { continue };
        let workloads: BTreeSet<&Workload> = pass.pods_on(&claim.name).iter().map(|pod| &*pod.workload).collect();
        if stakes.staying <= stakes.leaving {
            say_that_it_stays(pass, &claim, noticed_at, &stakes);
        } else if leaving < most && !workloads.iter().any(|workload| on_the_move.contains(*workload)) && leave(pass, &claim, &stakes) {
            leaving += 1;
            on_the_move.extend(workloads);
        }
    }
}

/// Workloads of which something is being moved.
pub(super) fn on_the_move<'a>(pass: &Pass<'a>) -> BTreeSet<&'a Workload> {
    let left = |p: &Pod| p.claim.as_ref().and_then(|name| pass.claims.get(name)).is_some_and(|c| c.status.moving.is_some());
    pass.world.pods.values().filter(|p| !p.finished() && (p.let_go.is_some() || left(p))).map(|p| &*p.workload).collect()
}

/// What leaving for nothing and staying are expected to cost, and what that rests on.
struct Stakes {
    leaving: MicroUsd,
    staying: MicroUsd,
    followed: u32,
    given: u32,
}

impl Stakes {
    fn words(&self) -> String {
        let seen = if self.given == 0 {
            "what comes of warnings here is not known yet".to_owned()
        } else {
            format!("{} of {} such warnings here were followed by a notice", self.followed, self.given)
        };
        format!("{seen}; leaving for nothing is expected to cost ${}, staying ${}", self.leaving, self.staying)
    }
}

/// `None` when there is nothing on the machine that could leave it without a break.
fn stakes(pass: &Pass, claim: &Claim) -> Option<Stakes> {
    let pods: Vec<&Pod> = pass.pods_on(&claim.name).into_iter().filter(|pod| !pod.finished()).collect();
    let alone = pods.len() == 1;
    let movable = |pod: &&Pod| matches!(*pod.mobility, Mobility::Surge { .. }) || (alone && matches!(*pod.mobility, Mobility::Job { .. }));
    if pods.is_empty() || !pods.iter().all(movable) {
        return None;
    }
    let terms = asking::terms(pass);
    let (boot, lost_work) = (terms.settings.boot, terms.settings.lost_work);
    let price = i128::from(claim.spec.price_per_hour.0);
    let each = price / i128::try_from(pods.len()).unwrap_or(1).max(1);
    let followed = pods.iter().map(|pod| if_followed(pass, pod, &pods, (each, boot, lost_work))).sum::<i128>();
    let seen = pass.world.memory.warnings(&claim.spec.capacity);
    let dollars = |micro: i128| MicroUsd(i64::try_from(micro).unwrap_or(i64::MAX));
    Some(Stakes {
        // When a notice follows, another machine boots whether the work has left or not.
        leaving: dollars(price * i128::from(boot.0) * i128::from(1_000 - seen.followed_per_mille()) / (HOUR * 1_000)),
        staying: dollars(followed.saturating_mul(i128::from(seen.followed_per_mille())) / 1_000),
        followed: seen.followed,
        given: seen.given,
    })
}

/// What one pod loses, in micro-dollars, when a notice follows and it has not left.
fn if_followed(pass: &Pass, pod: &Pod, here: &[&Pod], (each, boot, lost_work): (i128, Millis, Millis)) -> i128 {
    let schedule = pod.need.as_ref().ok().map(|(_, schedule)| schedule);
    let window = pass.settings.notice_window - pass.settings.deadline_margin;
    if matches!(*pod.mobility, Mobility::Job { .. }) {
        let grace = schedule.and_then(|s| s.checkpoint_grace).unwrap_or(pod.termination_grace);
        return if grace > window { each * i128::from(lost_work.0) / HOUR } else { 0 };
    }
    let goal = schedule.and_then(|s| s.availability_goal_ppm).unwrap_or(DEFAULT_GOAL_PPM);
    let counts = |p: &&Pod| p.let_go.is_none() && !p.finished() && p.deleting_until.is_none();
    let all = pass.index.of_workload(&pod.workload).iter().copied().filter(counts).count().max(1);
    let together = here.iter().filter(|other| other.workload == pod.workload).count();
    let short = (boot - window).max(Millis::ZERO);
    // Of k of n replicas lost, (k/n)² of an outage; this pod's share of the k is one.
    let (k, n, allowed) = (together as i128, all as i128, i128::from((1_000_000 - goal).max(1)));
    each * k * i128::from(short.0) * 1_000_000 / (n * allowed * HOUR)
}

fn leave(pass: &mut Pass, claim: &Claim, stakes: &Stakes) -> bool {
    let trigger = Trigger::RebalanceRecommendation;
    let text = format!("{}: EC2 says it is at risk; {}: its work moves", claim.spec.capacity, stakes.words());
    let key = claim.status.interruption.as_ref().map_or(0, |mark| mark.noticed_at.0).to_string();
    let decision = pass.machine_decision(claim, trigger, Outcome::Migrate, &key, text);
    let moving = MoveMark { decision: decision.id, trigger, decided_at: pass.now };
    let patch = Box::new(ClaimPatch { moving: Some(moving), ..ClaimPatch::default() });
    let patch = Action::Cluster(ClusterAction::PatchClaim { claim: claim.name.clone(), patch, seen: Some(claim.version) });
    pass.step(vec![Lane::Claim(claim.name.clone())], vec![LedgerRecord::Decision(Box::new(decision))], vec![patch])
}

fn say_that_it_stays(pass: &mut Pass, claim: &Claim, noticed_at: Timestamp, stakes: &Stakes) {
    let note =
        format!("EC2 says that {} is at risk; {}: its work stays, and no new work is put there", claim.spec.capacity, stakes.words());
    pass.emit(EventSubject::Claim(claim.name.clone()), (EventKind::Normal, "AtRisk"), noticed_at.0, note);
}

/// Nothing came of it: the machine takes work again.
fn call_off(pass: &mut Pass, claim: &Claim) {
    let patch = Box::new(ClaimPatch { warning_over: true, ..ClaimPatch::default() });
    let patch = Action::Cluster(ClusterAction::PatchClaim { claim: claim.name.clone(), patch, seen: Some(claim.version) });
    let over = Action::Warned { pool: claim.spec.capacity.clone(), seen: Warning::Over, at: pass.now };
    pass.step(vec![Lane::Claim(claim.name.clone())], Vec::new(), vec![patch, over]);
}
