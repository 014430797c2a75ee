//! What a node pool allows a placement to buy: its policy, less what it holds and has spent.
//!
//! Decides: how each field of a node pool constrains a purchase. The operator and `lowtide place` both use it.
//! Does not: know what is held (see `plan`), or read a node pool (see [`crate::core::fleet::NodePoolSpec`]).

use std::collections::{BTreeMap, BTreeSet};

use super::request::{NodeTerms, PoolLimits, PoolPolicy};
use crate::core::fleet::NodePool;
use crate::core::market::Capacity;
use crate::core::units::ids::ZoneId;
use crate::core::units::money::MicroUsd;

/// What a node pool already holds. Nothing, if nothing runs yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Held {
    /// Machines that stay.
    pub nodes: i64,
    /// Their GPUs.
    pub gpus: i64,
    /// Machines that EC2 takes: each frees its slot for its replacement, and for nothing else.
    pub doomed_nodes: i64,
    /// Their GPUs.
    pub doomed_gpus: i64,
    /// Launches requested within the last minute.
    pub launched_lately: i64,
    /// Accrued and committed in this calendar month.
    pub spent: MicroUsd,
}

impl PoolPolicy {
    /// The policy of `pool`, whose classes make `nodes` and name `reserved` capacity, less what it has `held` and spent.
    pub fn of(pool: &NodePool, nodes: BTreeMap<ZoneId, NodeTerms>, reserved: BTreeSet<Capacity>, held: &Held) -> Self {
        let left = |most: Option<i64>, held: i64| most.map(|most| (most - held).max(0));
        PoolPolicy {
            name: pool.name.clone(),
            regions: pool.regions.clone(),
            models: pool.gpu_models.iter().cloned().collect(),
            instance_types: pool.instance_types.iter().map(ToString::to_string).collect(),
            capacity_types: pool.capacity_types.clone(),
            fallback_on_demand: pool.fallback_on_demand,
            max_price_per_gpu_hour: pool.max_price_per_gpu_hour,
            budget_left: pool.monthly_budget.map(|budget| budget - held.spent),
            limits_left: PoolLimits {
                gpus: left(pool.max_gpus, held.gpus + held.doomed_gpus),
                nodes: left(pool.max_nodes, held.nodes + held.doomed_nodes),
                launches: left(pool.launches_per_minute, held.launched_lately),
            },
            rescue_limits_left: PoolLimits {
                gpus: left(pool.max_gpus, held.gpus),
                nodes: left(pool.max_nodes, held.nodes),
                launches: None,
            },
            nodes,
            reserved,
        }
    }
}
