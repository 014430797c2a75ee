//! What would have to change for a refused offer to be taken.
//!
//! Decides: the sentence for each reason. Does not: judge offers again (`lowtide place` does, on today's market).

use crate::core::record::Refusal;

/// What would change it; `price` and `chosen` are what one replica costs on the offer and on the one that was taken, USD per hour.
pub(super) fn what_would_change(refusal: &str, price: Option<f64>, chosen: Option<f64>) -> String {
    let read: Option<Refusal> = serde_json::from_value(serde_json::Value::String(refusal.to_owned())).ok();
    let Some(refusal) = read else { return format!("the reason {refusal:?} is not known to this version") };
    if refusal == Refusal::MoreExpensive
        && let (Some(price), Some(chosen)) = (price.filter(|price| *price > 0.0), chosen)
    {
        return format!(
            "its cost for one replica would have to fall by {:.1} %, below ${chosen:.4}/h",
            (price - chosen).max(0.0) / price * 100.0
        );
    }
    sentence(refusal).to_owned()
}

fn sentence(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::Region => "the pool or the annotation lowtide.dev/regions would have to allow the region",
        Refusal::Zone => "the pool would have to allow the zone",
        Refusal::NoNodeClass => "a node class would need a subnet in the zone",
        Refusal::GpuModel => "the pool or the pod would have to allow the GPU model and the type",
        Refusal::Architecture => "the pod would have to run on the other architecture",
        Refusal::GpuCount => "the pod would have to ask for fewer GPUs",
        Refusal::GpuMemory => "the pod would have to need less GPU memory",
        Refusal::Cpu => "the pod would have to ask for less CPU",
        Refusal::Memory => "the pod would have to ask for less memory",
        Refusal::Disk => "the pod would have to ask for less disk, or the node class give more",
        Refusal::Volumes => "the pod would have to use fewer volumes",
        Refusal::NodeLabels => "the pod's node selector, affinity or volumes would have to allow it",
        Refusal::Taint => "the pod would have to tolerate the node class's taint",
        Refusal::OtherPods => "the pod's affinity to other pods would have to allow the zone",
        Refusal::CapacityType => "the pod or the pool would have to allow the capacity type",
        Refusal::NoFallback => "the pool would have to allow on-demand as a fallback",
        Refusal::CoolingDown => "nothing: it is judged again when its cool-down is over",
        Refusal::Quota => "the account's vCPU quota would have to be raised, or machines of its family to end",
        Refusal::ReservationFull => "the reservation would have to have a machine left",
        Refusal::StalePrice => "EC2 would have to give a newer price",
        Refusal::OwnerPriceCap => "the annotation with the highest price would have to be raised, or the price to fall below it",
        Refusal::PoolPriceCap => "the pool's highest price would have to be raised, or the price to fall below it",
        Refusal::PoolLimit => "the pool's limit would have to be raised, or machines of it to end",
        Refusal::Budget => "the pool's budget would have to be raised, or the next month to begin",
        Refusal::Diversity => "more replicas would have to stand in other pools of capacity",
        Refusal::NotForDeadline => "the deadline or the spread of the replicas would have to be another",
        Refusal::MoreExpensive => "it would have to cost less than what was taken",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_higher_price_says_by_how_much() {
        assert_eq!(
            what_would_change("dearer", Some(0.5), Some(0.4)),
            "its cost for one replica would have to fall by 20.0 %, below $0.4000/h"
        );
        assert_eq!(what_would_change("dearer", None, Some(0.4)), "it would have to cost less than what was taken");
        assert!(what_would_change("cooling-down", Some(0.1), Some(0.4)).contains("cool-down is over"));
        assert!(what_would_change("no-such", None, None).contains("not known"));
    }
}
