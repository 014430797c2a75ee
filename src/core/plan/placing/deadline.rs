//! Whether a pod with a deadline takes spot, waits for it, or takes on-demand now; and whether one that runs goes to spot.
//!
//! Decides: what work is left and what time there is, and what [`crate::core::policy::batch`] makes of both with every offer that could
//! serve the pod and everything that was learnt of its pool of capacity.
//! Does not: choose among the offers that are left (see [`crate::core::placement`]), or move what runs (`returning`, `migration`): of a
//! running pod it says only where moving would pay.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::super::pass::Pass;
use super::super::terms::Marks;
use super::apart;
use super::looking::admitted;
use super::replacing::{is_rescue, replaced_pod};
use crate::core::market::availability::CapacityMemory;
use crate::core::market::{Capacity, CapacityType, Offer};
use crate::core::placement::eligibility::{Wants, listings};
use crate::core::placement::listing::Listing;
use crate::core::placement::{Apart, PlacementRequest, PlacementSettings};
use crate::core::policy::batch::{self, Choice, EVEN_ODDS, Holding, Job, OnDemandOffer, Pressure, SpotCapacity};
use crate::core::record::Refusal;
use crate::core::units::ids::{PoolName, Region, Uid};
use crate::core::units::money::{MicroUsd, MicroUsdPerHour};
use crate::core::units::shared::Shared;
use crate::core::units::time::{Millis, Timestamp};
use crate::core::workload::need::{CapacityPreference, Deadline, Need, Schedule, WorkloadKind};
use crate::core::workload::{Mobility, Pod, PodPhase, WorkBefore};

/// What a deadline, or the spread of a service, makes of the offers of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::core::plan) struct Verdict {
    /// No spot, whatever it costs.
    pub on_demand_only: bool,
    /// Only these may be bought; `None` leaves all.
    pub buy_only: Option<Arc<BTreeSet<Capacity>>>,
    /// When none of these can be had, the pod waits for them.
    pub waits: bool,
    /// Why, for events and decisions.
    pub text: String,
}

/// After this long a pod takes any spot below on-demand instead of waiting for the cheap pools alone: by then each of these was asked three
/// times (the default cool-downs are 3, 6 and 12 minutes), and the recordings the policy was tried on hold one type in a few zones, not the
/// dozens of pools a need finds on AWS.
const PATIENCE: Millis = Millis::from_mins(30);

/// What is known of a job when one of its pods is to be placed. Pods that are equal in this get one verdict.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Work {
    deadline: Timestamp,
    /// Work left; `None` when the owner did not say how long it runs.
    left: Option<Millis>,
    /// The middle between the job's beginning and its deadline.
    halfway: Timestamp,
    /// What a launch or an interruption loses.
    changeover: Millis,
    /// How late a machine that never joins is given up.
    noticed_after: Millis,
    /// Where the data lie that must follow.
    data_in: Option<Region>,
    rescue: bool,
    /// What was paid beyond what on-demand costs for the work done.
    overspent: MicroUsd,
    /// It has waited for longer than [`PATIENCE`].
    waited: bool,
    /// Where it runs now.
    held: Option<Capacity>,
}

/// What a verdict goes by: the need, the node pools that admit it, the work, and what other pods leave of the choice.
type Asker<'p> = (&'p Need, Shared<BTreeSet<PoolName>>, Work, Apart);

/// The verdicts on those of `pods` that have a deadline, by uid.
pub(in crate::core::plan) fn verdicts(
    pass: &Pass,
    pods: &[&Pod],
    request: &PlacementRequest,
    marks: &Marks,
) -> BTreeMap<Uid, Arc<Verdict>> {
    let timed: Vec<(&Pod, &Need, Work)> = pods.iter().filter_map(|pod| work_of(pass, pod, request.settings)).collect();
    if timed.is_empty() {
        return BTreeMap::new();
    }
    let listed = listings(request);
    let mut known: BTreeMap<Asker, Option<Arc<Verdict>>> = BTreeMap::new();
    let mut by_pod = BTreeMap::new();
    for (pod, need, work) in timed {
        let key = (need, pass.pools_for(pod), work, apart::of(pass, marks, pod));
        let verdict = known.entry(key).or_insert_with_key(|(need, pools, work, apart)| {
            let wants = Wants { rescue: work.rescue, apart: Some(apart), ..Wants::new(request, need) };
            let offers = offers(request, &wants, work, admitted(request, &listed, pools));
            judge(pass, request, work, &offers).map(Arc::new)
        });
        if let Some(verdict) = verdict {
            by_pod.insert(pod.identity.uid.clone(), Arc::clone(verdict));
        }
    }
    by_pod
}

/// The work of a pod that waits for a machine, or of a Job's pod that runs and could stop now without losing much, if its deadline is
/// lowtide's to keep: batch, and its owner takes spot and on-demand.
fn work_of<'p>(pass: &Pass, pod: &'p Pod, settings: &PlacementSettings) -> Option<(&'p Pod, &'p Need, Work)> {
    let (need, schedule) = pod.need.as_ref().ok()?;
    if need.kind != WorkloadKind::Batch || need.capacity != CapacityPreference::SpotFirst {
        return None;
    }
    match pod.phase {
        PodPhase::Gated => {}
        PodPhase::Running => return running_work(pass, pod, need, schedule, settings).map(|work| (pod, &**need, work)),
        _ => return None,
    }
    let begun = begun(pass, pod);
    let deadline = match schedule.deadline? {
        Deadline::At(at) => at,
        Deadline::After(span) => begun + span,
    };
    let before = replaced_pod(pass, pod).map(|old| work_before(pass, old));
    let before = before.or_else(|| pass.world.held(pod).replaces.and_then(|r| r.work.as_deref().cloned()));
    let (saved, overspent) = before.map_or((Millis::ZERO, MicroUsd(0)), |work| (work.saved, work.overspent));
    let left = schedule.expected_runtime.map(|runtime| Millis((runtime.0 - saved.0).max(Millis::from_mins(1).0)));
    let lost = match (saves_when_asked(pass, schedule), schedule.checkpointed_at) {
        (true, _) => Millis::ZERO,
        (false, Some(_)) => settings.lost_work,
        // Nothing is known to be saved: an interruption loses all of it, on average half.
        (false, None) => Millis(left.map_or(settings.lost_work.0, |left| left.0 / 2)),
    };
    let joins = |name: &PoolName| pass.world.pools.get(name).map(|pool| pool.join_timeout);
    let work = Work {
        deadline,
        left,
        halfway: Timestamp(begun.0 + deadline.since(begun).0 / 2),
        changeover: settings.boot + lost,
        noticed_after: pass.pools_for(pod).iter().filter_map(joins).max().unwrap_or(settings.boot),
        data_in: need.data_region.clone().or_else(|| pass.world.held(pod).replaces.and_then(|r| r.from_region.clone())),
        rescue: is_rescue(pass, pod),
        overspent,
        waited: pass.now.since(pod.created_at) >= PATIENCE,
        held: None,
    };
    Some((pod, need, work))
}

/// What a running pod of a Job has left, when stopping it now loses no more than a boot does: it saves when asked to stop, or has just saved.
fn running_work(pass: &Pass, pod: &Pod, need: &Need, schedule: &Schedule, settings: &PlacementSettings) -> Option<Work> {
    let (started, claim) = (pod.started_at?, pass.claims.get(pod.claim.as_ref()?)?);
    let deadline = match schedule.deadline? {
        Deadline::At(at) => at,
        Deadline::After(span) => begun(pass, pod) + span,
    };
    let unsaved = match (saves_when_asked(pass, schedule), schedule.checkpointed_at.filter(|at| *at <= pass.now)) {
        (true, _) => Millis::ZERO,
        (false, Some(saved_at)) => pass.now.since(saved_at.max(started)),
        (false, None) => return None,
    };
    if !matches!(*pod.mobility, Mobility::Job { .. }) || unsaved > settings.boot {
        return None;
    }
    let before = pass.world.held(pod).replaces.and_then(|r| r.work.as_ref()).map_or(Millis::ZERO, |work| work.saved);
    let done = before + pass.now.since(started).max(Millis::ZERO);
    let joins = |name: &PoolName| pass.world.pools.get(name).map(|pool| pool.join_timeout);
    let begun = begun(pass, pod);
    Some(Work {
        deadline,
        left: Some(Millis((schedule.expected_runtime?.0 - done.0).max(Millis::from_mins(1).0))),
        halfway: Timestamp(begun.0 + deadline.since(begun).0 / 2),
        // The time it is given to write its checkpoint does no work either.
        changeover: settings.boot + unsaved + schedule.checkpoint_grace.unwrap_or(pod.termination_grace),
        noticed_after: pass.pools_for(pod).iter().filter_map(joins).max().unwrap_or(settings.boot),
        data_in: need.data_region.clone().or_else(|| Some(claim.spec.capacity.region.clone())),
        rescue: false,
        overspent: work_before(pass, pod).overspent,
        waited: false,
        held: Some(claim.spec.capacity.clone()),
    })
}

/// When the job began: a pod that is made again is younger than its job.
fn begun(pass: &Pass, pod: &Pod) -> Timestamp {
    let carried = pass.world.held(pod).replaces.and_then(|r| r.work.as_ref()).map(|work| work.since);
    let Mobility::Job { job_uid, .. } = &*pod.mobility else { return carried.unwrap_or(pod.created_at) };
    let of_it = |p: &&Pod| matches!(&*p.mobility, Mobility::Job { job_uid: other, .. } if other == job_uid);
    let seen = pass.index.of_job(job_uid).iter().copied().filter(of_it).map(|p| p.created_at).min();
    [carried, seen, Some(pod.created_at)].into_iter().flatten().min().unwrap_or(pod.created_at)
}

/// The program writes a checkpoint when it is asked to stop, and EC2's notice leaves it the time.
fn saves_when_asked(pass: &Pass, schedule: &Schedule) -> bool {
    let least = pass.settings.notice_window - pass.settings.deadline_margin;
    schedule.checkpoint_grace.is_some_and(|grace| grace <= least)
}

/// What a replacement of `old` should know of the work it takes over.
pub(in crate::core::plan) fn work_before(pass: &Pass, old: &Pod) -> WorkBefore {
    let carried = pass.world.held(old).replaces.and_then(|r| r.work.as_ref());
    let before = carried.map_or(Millis::ZERO, |work| work.saved);
    let own = old.need.as_ref().ok().zip(old.started_at).and_then(|((_, schedule), started)| {
        let until = if saves_when_asked(pass, schedule) { Some(pass.now) } else { schedule.checkpointed_at.filter(|at| *at <= pass.now) };
        until.map(|until| until.since(started).max(Millis::ZERO))
    });
    let own = own.unwrap_or(Millis::ZERO);
    let spent_before = carried.map_or(MicroUsd(0), |work| work.overspent);
    WorkBefore { since: begun(pass, old), saved: before + own, overspent: spent_before + overspent(pass, old, own) }
}

/// What a pod's share of its machine has cost, less what on-demand of the same type costs for the work it saved.
fn overspent(pass: &Pass, pod: &Pod, saved: Millis) -> MicroUsd {
    let claim = pod.claim.as_ref().and_then(|name| pass.world.claims.get(name));
    let (Some(claim), Ok((need, _))) = (claim, &pod.need) else { return MicroUsd(0) };
    let (Some(launched), Some(on_demand)) = (claim.status.launched_at, claim.spec.on_demand_per_hour) else { return MicroUsd(0) };
    let paid = claim.spec.price_per_hour.over(pass.now.since(launched).max(Millis::ZERO)).to_micro_usd();
    let otherwise = on_demand.over(saved).to_micro_usd();
    MicroUsd((paid.0 - otherwise.0) * need.gpus / claim.spec.gpus.max(1))
}

/// An offer that could serve a need, unless its pool of capacity is cooling down.
struct Candidate<'a> {
    offer: &'a Offer,
    /// EC2's spot placement score, where one is known.
    placement_score: Option<u8>,
    /// Of one packed replica.
    price: MicroUsdPerHour,
    /// What carrying the data there costs.
    egress: MicroUsd,
}

/// Candidates for a need, one for each pool of capacity, in the order of the market. What is paid for already, the machine it runs on or free
/// room, takes no more of quotas, limits and budgets.
fn offers<'a>(
    request: &PlacementRequest,
    wants: &Wants,
    work: &Work,
    listings: impl Iterator<Item = &'a Listing<'a>>,
) -> BTreeMap<&'a Capacity, Candidate<'a>> {
    let need = wants.need;
    let ours = |at: &Capacity| work.held.as_ref() == Some(at) || request.room.iter().any(|room| room.ready && room.capacity == *at);
    let mut found = BTreeMap::new();
    for listing in listings {
        let replicas = match wants.judge(listing) {
            Ok(replicas) => replicas,
            Err(Refusal::CoolingDown) => wants.replicas_on(&listing.usable),
            Err(Refusal::Quota | Refusal::PoolLimit | Refusal::Budget | Refusal::ReservationFull) if ours(&listing.offer.capacity) => {
                wants.replicas_on(&listing.usable)
            }
            Err(_) => 0,
        };
        if replicas < 1 {
            continue;
        }
        let (offer, at) = (listing.offer, &listing.offer.capacity);
        let from = work.data_in.as_ref().filter(|_| need.data_gib > 0);
        let egress = from.map_or(MicroUsd(0), |from| request.settings.egress.per_gib(from, &at.region) * need.data_gib);
        let price = MicroUsdPerHour(offer.price_per_hour.0 / replicas);
        found.insert(at, Candidate { offer, placement_score: listing.placement_score, price, egress });
    }
    found
}

/// What the batch policy says of a job; `None` when there is nothing to choose between, or when one that runs should stay.
fn judge(pass: &Pass, request: &PlacementRequest, work: &Work, offers: &BTreeMap<&Capacity, Candidate>) -> Option<Verdict> {
    let (spot, safe): (Vec<&Candidate>, Vec<&Candidate>) =
        offers.values().partition(|c| c.offer.capacity.capacity_type == CapacityType::Spot);
    if spot.is_empty() || safe.is_empty() {
        return None;
    }
    let (now, deadline) = (request.now, work.deadline);
    let Some(left) = work.left else { return unknown_work(now, work) };
    let place = |list: &[&Candidate]| list.iter().position(|c| Some(&c.offer.capacity) == work.held.as_ref());
    let holding = match (&work.held, place(&spot), place(&safe)) {
        (None, ..) => Holding::Nothing,
        (Some(_), Some(at), _) => Holding::Spot(at),
        (Some(_), None, Some(at)) => Holding::OnDemand(at),
        // What it runs on is not offered any more, so nothing can be compared with it.
        (Some(_), None, None) => return None,
    };
    let unseen = CapacityMemory::default();
    let pools: Vec<SpotCapacity> = spot
        .iter()
        .map(|c| SpotCapacity {
            price: c.price,
            egress: c.egress,
            memory: pass.world.memory.of(&c.offer.capacity).map_or(&unseen, |record| &record.capacity),
            prior_ppm: c.placement_score.map_or(EVEN_ODDS, |score| i64::from(score.clamp(1, 10)) * 100_000),
        })
        .collect();
    let on_demand: Vec<OnDemandOffer> = safe.iter().map(|c| OnDemandOffer { price: c.price, egress: c.egress }).collect();
    let job =
        Job { overspent: work.overspent, remaining: left, deadline, changeover: work.changeover, changeover_left: Millis::ZERO, holding };
    let mut steps = Vec::new();
    let pressure = batch::decide(work.noticed_after, &job, &pools, &on_demand, now, &mut steps);
    let chosen = steps.iter().filter_map(|step| if let Choice::Spot(i) = step { spot.get(*i) } else { None });
    let mut buy_only: BTreeSet<Capacity> = chosen.map(|c| c.offer.capacity.clone()).collect();
    if let Some(held) = work.held.as_ref().and_then(|at| offers.get(at)) {
        buy_only.retain(|at| offers.get(at).is_some_and(|there| pays(work.changeover, left, held, there)));
        let text = format!("deadline {deadline}, {left} of work left: going there costs less than staying, with changeover and data");
        return (!buy_only.is_empty()).then(|| Verdict { on_demand_only: false, buy_only: Some(Arc::new(buy_only)), waits: false, text });
    }
    let (on_demand_only, waits) = (buy_only.is_empty(), steps.last() == Some(&Choice::Wait));
    if waits && work.waited {
        let least_on_demand = safe.iter().map(|c| c.price).min().unwrap_or_default();
        buy_only.extend(spot.iter().filter(|c| c.price < least_on_demand).map(|c| c.offer.capacity.clone()));
    }
    let reserved = |c: &&&Candidate| !waits || c.offer.capacity.capacity_type == CapacityType::Reserved;
    buy_only.extend(safe.iter().filter(reserved).map(|c| c.offer.capacity.clone()));
    let head = format!("deadline {deadline}, {left} of work left");
    let latest = whole_minute(deadline - left - batch::last_call(work.noticed_after, work.changeover));
    let text = match pressure {
        Pressure::LastCall if deadline <= now => format!("{head} and the deadline has passed: on-demand, the quickest there is"),
        Pressure::LastCall => format!("{head}: no time to lose another machine, so on-demand"),
        Pressure::Reserve => {
            format!("{head}: the rest is kept for interruptions, so spot where it has room, else on-demand; on-demand only from {latest}")
        }
        Pressure::Ample if waits && work.waited => {
            format!("{head}: waited {PATIENCE} for cheap pools, so any spot below on-demand, on-demand only from {latest}")
        }
        Pressure::Ample if waits => format!("{head}: spot of cheap pools is worth waiting for, on-demand only from {latest}"),
        Pressure::Ample => format!("{head}: an hour of work costs more on spot than on on-demand"),
    };
    Some(Verdict { on_demand_only, buy_only: (!on_demand_only).then(|| Arc::new(buy_only)), waits, text })
}

/// The minute it is in. While the old pod still works the moment changes with every pass, and the same must not be said again each time.
fn whole_minute(at: Timestamp) -> Timestamp {
    Timestamp(at.0 - at.0.rem_euclid(60_000))
}

/// What the work left costs less there is more than the move costs: both machines during the changeover, and the data.
fn pays(changeover: Millis, left: Millis, here: &Candidate, there: &Candidate) -> bool {
    let saved = (here.price - there.price).over(left);
    let spent = (here.price + there.price).over(changeover);
    saved.to_micro_usd() > spent.to_micro_usd() + there.egress
}

/// The owner did not say how long it runs. While more than half of the time is left, work that spot loses can be done again; after that
/// it might not.
fn unknown_work(now: Timestamp, work: &Work) -> Option<Verdict> {
    let on_demand_only = now >= work.halfway;
    let text = format!(
        "deadline {}, and no lowtide.dev/expected-runtime: {} {}",
        work.deadline,
        if on_demand_only { "on-demand, since more than half of the time is gone since" } else { "spot first, on-demand only from" },
        work.halfway
    );
    Some(Verdict { on_demand_only, buy_only: None, waits: false, text })
}
