//! Sentences for people: events and decision texts.
//!
//! Decides: how things are said. Nothing else.

use crate::core::fleet::{Claim, Trigger};
use crate::core::market::CapacityType;
use crate::core::record::{JudgedOffer, Judgement};

/// A trigger in words.
pub(super) fn trigger(trigger: Trigger) -> &'static str {
    match trigger {
        Trigger::PendingPod => "a pod waits",
        Trigger::InterruptionNotice => "EC2 takes it back",
        Trigger::RebalanceRecommendation => "EC2 says it is at risk",
        Trigger::LaunchRefused => "EC2 refused the last offer",
        Trigger::ReservationEnding => "its capacity reservation ends",
        Trigger::ReturnToSpot => "spot is cheaper again",
        Trigger::CheaperOffer => "a cheaper offer beats it",
        Trigger::Empty => "no work",
        Trigger::NeverJoined => "never joined",
        Trigger::NoGpus => "joined without its GPUs",
        Trigger::InstanceLost => "the instance is gone",
        Trigger::NodeGone => "its Node object is gone",
        Trigger::NodeNotReady => "its kubelet is silent or not Ready",
        Trigger::Cordoned => "somebody cordoned it",
        Trigger::NodeTainted => "somebody tainted it",
        Trigger::GpusLost => "it has fewer GPUs than were bought",
        Trigger::GpuFault => "it says that a GPU is broken",
        Trigger::Expired => "expired",
        Trigger::Deleted => "deleted",
        Trigger::Unclaimed => "nobody claims it",
    }
}

/// Why work leaves a claim.
pub(super) fn leaving(claim: &Claim, why: Trigger) -> String {
    format!("leaving {} ({})", claim.spec.capacity, trigger(why))
}

/// What was chosen, at what price, what it beat, and why the runner-up lost.
pub(super) fn placed(judgement: &Judgement) -> String {
    let Some(chosen) = &judgement.chosen else { return "placed on room we have".to_owned() };
    let others: u32 = judgement.refused.values().sum();
    let mut text = format!(
        "{} ({}) at ${}/h, ${}/h per replica{}; beat {others} offers",
        chosen.pool,
        chosen.pool.region,
        chosen.price_per_hour,
        chosen.cost_per_replica_hour.unwrap_or(chosen.price_per_hour),
        grounds(chosen)
    );
    if let Some(next) = judgement.best_refused.first() {
        text.push_str(&format!("; runner-up {}", runner_up(chosen, next)));
    }
    text
}

/// What the cost of an offer rests on: how old its price is, how often it is expected to be interrupted, how likely EC2 gives it.
fn grounds(offer: &JudgedOffer) -> String {
    let mut grounds = vec![format!("price {} old", offer.price_age)];
    if offer.pool.capacity_type == CapacityType::Spot {
        let rate = offer.interruptions_per_million_hours;
        grounds.push(format!("{}.{:03} interruptions expected per 1,000 h", rate / 1_000, rate % 1_000));
    }
    grounds.extend(offer.placement_score.map(|score| format!("placement score {score} of 10")));
    format!(" ({})", grounds.join(", "))
}

fn runner_up(chosen: &JudgedOffer, next: &JudgedOffer) -> String {
    let why = next.refusal.map_or_else(String::new, |r| r.to_string());
    let cost = |o: &JudgedOffer| o.cost_per_replica_hour.unwrap_or(o.price_per_hour);
    let (here, there) = (cost(chosen), cost(next));
    let by = if here.0 > 0 && there > here { format!(" by {} %", (there.0 - here.0) * 100 / here.0) } else { String::new() };
    format!("{} at ${}/h lost: {why}{by}", next.pool, next.price_per_hour)
}

/// Why no offer can be taken: which need ruled out how many offers, and the best of each.
pub(super) fn refused(judgement: &Judgement) -> String {
    let all: u32 = judgement.refused.values().sum();
    let mut reasons: Vec<_> = judgement.refused.iter().collect();
    reasons.sort_by(|a, b| b.1.cmp(a.1).then(a.0.cmp(b.0)));
    let counted: Vec<String> = reasons.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    let mut text = format!("none of {all} offers can take it: {}", counted.join(", "));
    if let Some(best) = judgement.best_refused.first() {
        text.push_str(&format!(
            "; nearest: {} at ${}/h ({})",
            best.pool,
            best.price_per_hour,
            best.refusal.map_or_else(String::new, |r| r.to_string())
        ));
    }
    text
}
