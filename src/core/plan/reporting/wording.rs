//! Sentences for people: events and decision texts.
//!
//! Decides: how things are said. Nothing else.

use crate::core::fleet::{Claim, Trigger};
use crate::core::market::CapacityType;
use crate::core::record::{JudgedOffer, Judgement, Refusal};

/// A trigger in words.
pub(in crate::core::plan) fn trigger(trigger: Trigger) -> &'static str {
    match trigger {
        Trigger::PendingPod => "a pod waits",
        Trigger::InterruptionNotice => "EC2 takes it back",
        Trigger::RebalanceRecommendation => "EC2 says it is at risk",
        Trigger::ScheduledMaintenance => "EC2 has scheduled something for it",
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
        Trigger::Drifted => "not as its class makes machines now",
        Trigger::Deleted => "deleted",
        Trigger::Unclaimed => "nobody claims it",
        Trigger::Adopted => "taken over by a person",
        Trigger::Unknown => "for a reason that another version wrote",
    }
}

/// Why work leaves a claim.
pub(in crate::core::plan) fn leaving(claim: &Claim, why: Trigger) -> String {
    format!("leaving {} ({})", claim.spec.capacity, trigger(why))
}

/// What was chosen, at what price, what it beat, and why the runner-up lost.
pub(in crate::core::plan) fn placed(judgement: &Judgement) -> String {
    let Some(chosen) = &judgement.chosen else { return "placed on room we have".to_owned() };
    let others: u32 = judgement.refused.values().sum();
    let mut text = format!(
        "{} ({}) at ${}/h, ${}/h per replica{}; beat {others} offers",
        chosen.capacity,
        chosen.capacity.region,
        chosen.price_per_hour,
        chosen.cost_per_replica_hour.unwrap_or(chosen.price_per_hour),
        grounds(chosen)
    );
    // The runner-up is the next best that would have done, not the cheapest that could not.
    let fits = judgement.best_refused.iter().filter(|o| o.refusal == Some(Refusal::MoreExpensive));
    let next = fits.min_by_key(|o| (o.cost_per_replica_hour, o.unmet_preferences)).or(judgement.best_refused.first());
    if let Some(next) = next {
        text.push_str(&format!("; runner-up {}", runner_up(chosen, next)));
    }
    text
}

/// What the cost of an offer rests on: how old its price is, how often it is expected to be interrupted, how likely EC2 gives it.
fn grounds(offer: &JudgedOffer) -> String {
    let mut grounds = vec![format!("price {} old", offer.price_age)];
    if offer.capacity.capacity_type == CapacityType::Spot {
        let rate = offer.interruptions_per_million_hours;
        grounds.push(format!("{}.{:03} interruptions expected per 1,000 h", rate / 1_000, rate % 1_000));
    }
    grounds.extend(offer.placement_score.map(|score| format!("placement score {score} of 10")));
    format!(" ({})", grounds.join(", "))
}

fn runner_up(chosen: &JudgedOffer, next: &JudgedOffer) -> String {
    let offer = format!("{} at ${}/h", next.capacity, next.price_per_hour);
    let cost = |o: &JudgedOffer| o.cost_per_replica_hour.unwrap_or(o.price_per_hour);
    let (here, there) = (cost(chosen), cost(next));
    match next.refusal {
        // What is compared is the cost per replica, interruptions and egress included: a machine's price alone may well be lower.
        Some(Refusal::MoreExpensive) if there > here => {
            let by = if here.0 > 0 { format!(", {} % more", (there.0 - here.0) * 100 / here.0) } else { String::new() };
            format!("{offer} lost: more expensive, ${there}/h per replica against ${here}/h{by}")
        }
        Some(Refusal::MoreExpensive) if there == here && next.unmet_preferences > chosen.unmet_preferences => {
            format!("{offer} lost: the same cost, and it gives less of what the pod prefers")
        }
        Some(Refusal::MoreExpensive) => {
            format!("{offer} lost: ${there}/h per replica, but not cheaper for all pods that are placed together")
        }
        other => format!("{offer} lost: {}", other.map_or_else(String::new, |r| r.to_string())),
    }
}

/// Why no offer can be taken: which need ruled out how many offers, and the best of each.
pub(in crate::core::plan) fn refused(judgement: &Judgement) -> String {
    let all: u32 = judgement.refused.values().sum();
    let mut reasons: Vec<_> = judgement.refused.iter().collect();
    reasons.sort_by(|a, b| b.1.cmp(a.1).then(a.0.cmp(b.0)));
    let counted: Vec<String> = reasons.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    let mut text = format!("none of {all} offers can take it: {}", counted.join(", "));
    if let Some(best) = judgement.best_refused.first() {
        text.push_str(&format!(
            "; nearest: {} at ${}/h ({})",
            best.capacity,
            best.price_per_hour,
            best.refusal.map_or_else(String::new, |r| r.to_string())
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::market::{Capacity, PriceSource};
    use crate::core::units::money::MicroUsdPerHour;
    use crate::core::units::time::Millis;

    fn offer(price: i64, per_replica: i64, refusal: Option<Refusal>) -> JudgedOffer {
        let capacity = Capacity {
            region: "us-east-1".into(),
            zone: "use1-az1".into(),
            instance_type: "g6.xlarge".into(),
            capacity_type: CapacityType::Spot,
        };
        JudgedOffer {
            capacity,
            price_per_hour: MicroUsdPerHour(price),
            cost_per_replica_hour: Some(MicroUsdPerHour(per_replica)),
            replicas: 1,
            price_age: Millis::from_secs(1),
            source: PriceSource::SpotPriceHistory,
            interruptions_per_million_hours: 0,
            placement_score: None,
            unmet_preferences: 0,
            refusal,
        }
    }

    #[test]
    fn a_tie_that_a_preference_broke_is_said_to_be_one() {
        let mut next = offer(91_300, 91_300, Some(Refusal::MoreExpensive));
        next.unmet_preferences = 80;
        let text = runner_up(&offer(91_300, 91_300, None), &next);
        assert!(text.ends_with("lost: the same cost, and it gives less of what the pod prefers"), "{text}");
        next.cost_per_replica_hour = Some(MicroUsdPerHour(91_400));
        let text = runner_up(&offer(91_300, 91_300, None), &next);
        assert!(text.contains("more expensive"), "{text}");
    }

    #[test]
    fn the_runner_up_is_compared_by_what_was_compared() {
        let text = runner_up(&offer(261_200, 65_300, None), &offer(91_300, 92_000, Some(Refusal::MoreExpensive)));
        assert!(text.contains("more expensive, $0.0920/h per replica against $0.0653/h, 40 % more"), "{text}");
        let text = runner_up(&offer(261_200, 261_200, None), &offer(91_300, 92_000, Some(Refusal::MoreExpensive)));
        assert!(text.contains("lost: $0.0920/h per replica, but not cheaper for all") && !text.contains("more expensive"), "{text}");
        let text = runner_up(&offer(261_200, 261_200, None), &offer(91_300, 92_000, Some(Refusal::GpuMemory)));
        assert!(text.ends_with("lost: too little GPU memory"), "{text}");
    }
}
