//! Why an offer was refused: the closed list, and its words for people and for the ledger.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Why an offer was refused: exactly one per offer, the first that holds in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Refusal {
    /// The owner's or the pool's regions leave it out.
    Region,
    /// The pod's zones leave it out.
    Zone,
    /// No node class makes nodes in that zone.
    NoNodeClass,
    /// The owner's or the pool's GPU models or instance types leave it out.
    GpuModel,
    /// Architecture differs.
    Architecture,
    /// The machine has too few GPUs.
    GpuCount,
    /// Each GPU has too little memory.
    GpuMemory,
    /// Too little CPU is allocatable.
    Cpu,
    /// Too little memory is allocatable.
    Memory,
    /// Too little disk is allocatable.
    Disk,
    /// Fewer volumes can be attached.
    Volumes,
    /// Its node would not have the labels that the pod selects, or that its volumes are reached from.
    NodeLabels,
    /// Its node class has a taint that the pod does not tolerate.
    Taint,
    /// Other pods that it must be near to, or away from, leave this zone out.
    OtherPods,
    /// Spot only or on-demand only.
    CapacityType,
    /// The work asks for spot first, and the pool does not fall back to on-demand for it.
    NoFallback,
    /// The pool of capacity is cooling down after a refusal or an interruption.
    CoolingDown,
    /// The account's quota cannot hold it.
    Quota,
    /// The capacity reservation has no machine left.
    ReservationFull,
    /// The price is too old to buy on.
    StalePrice,
    /// Above the owner's cap per GPU-hour.
    OwnerPriceCap,
    /// Above the pool's cap per GPU-hour.
    PoolPriceCap,
    /// The pool's limits on nodes, GPUs or launches per minute are reached.
    PoolLimit,
    /// The pool's monthly budget would be broken.
    Budget,
    /// At most a share of replicas may stand in one pool of capacity.
    Diversity,
    /// The deadline leaves time to wait for something cheaper or asks for something safer, or the replicas of a service are to be spread.
    NotForDeadline,
    /// It fits, but another costs less.
    #[serde(rename = "dearer")]
    MoreExpensive,
}

/// The word by which JSON and the ledger name a reason or a source of prices, as `dearer`; empty for what is not one word there.
pub fn code_of(named: &impl Serialize) -> String {
    serde_json::to_value(named).ok().and_then(|value| value.as_str().map(String::from)).unwrap_or_default()
}

impl Refusal {
    /// The reason whose word in JSON and the ledger is `code`, for people. A word that this version does not know stays as it is.
    pub fn in_words(code: &str) -> String {
        serde_json::from_value::<Refusal>(code.into()).map_or_else(|_| code.to_owned(), |refusal| refusal.to_string())
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Refusal::Region => "region not allowed",
            Refusal::Zone => "zone not allowed",
            Refusal::NoNodeClass => "no node class for its zone",
            Refusal::GpuModel => "GPU model or type not allowed",
            Refusal::Architecture => "other architecture",
            Refusal::GpuCount => "too few GPUs",
            Refusal::GpuMemory => "too little GPU memory",
            Refusal::Cpu => "too little CPU",
            Refusal::Memory => "too little memory",
            Refusal::Disk => "too little disk",
            Refusal::Volumes => "too few volumes can be attached",
            Refusal::NodeLabels => "its node would not have the labels asked for",
            Refusal::Taint => "a taint that the pod does not tolerate",
            Refusal::OtherPods => "not where other pods let it stand",
            Refusal::CapacityType => "capacity type not allowed",
            Refusal::NoFallback => "on-demand, which the pool does not fall back to",
            Refusal::CoolingDown => "cooling down after a refusal",
            Refusal::Quota => "vCPU quota cannot hold it",
            Refusal::ReservationFull => "reservation in full use",
            Refusal::StalePrice => "price too old",
            Refusal::OwnerPriceCap => "above the owner's price cap",
            Refusal::PoolPriceCap => "above the pool's price cap",
            Refusal::PoolLimit => "pool limit reached",
            Refusal::Budget => "pool budget used up",
            Refusal::Diversity => "too many replicas in one capacity pool",
            Refusal::NotForDeadline => "not what its deadline or its spread asks for",
            Refusal::MoreExpensive => "more expensive",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_words_and_those_of_a_later_version_stay() {
        assert_eq!(
            ["dearer", "cooling-down", "of-tomorrow"].map(Refusal::in_words),
            ["more expensive", "cooling down after a refusal", "of-tomorrow"]
        );
    }
}
