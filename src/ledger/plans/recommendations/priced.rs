//! What a recommendation saves.
//!
//! Decides: that today's market prices both sides, what is there now and what is recommended, so that no difference of prices is taken for a saving; and what an
//! hour costs by the ledger where no market is known.
//! Does not: choose offers: the planner does, as for `lowtide place`.

use serde_json::{Value, json};

use super::{Asked, MONTH_DAYS};
use crate::core::accounting::recommendation::{CONTEXT_RESERVE, Change, Evidence, Recommendation, shares};
use crate::core::market::Market;
use crate::core::market::catalog::Catalog;
use crate::core::placement::{Alike, Learnt, PlacementRequest, PlacementSettings, PoolPolicy, alike};
use crate::core::units::money::MicroUsd;
use crate::core::units::time::Millis;
use crate::core::workload::need::Need;
use crate::ledger::report::dollars;

use super::measured::Observed;

const HOUR: i128 = Millis::from_hours(1).0 as i128;
/// As for `lowtide place`: a whole month, so that no answer depends on the day.
const COMMITMENT: Millis = Millis::from_hours(744);

/// Where prices come from, and what may be bought.
#[derive(Debug, Clone)]
pub struct OnMarket {
    /// The offers.
    pub market: Market,
    /// What may be bought of them.
    pub pool: PoolPolicy,
    /// In words, as "offers.csv".
    pub said: String,
}

/// What is saved, and by which prices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Price {
    pub saving: MicroUsd,
    pub basis: String,
    pub prices: Value,
}

/// What `recommendation` saves in 30 days.
///
/// # Errors
/// Why it has no price.
pub(super) fn price(
    observed: &Observed,
    evidence: &Evidence,
    recommendation: &Recommendation,
    catalog: &Catalog,
    asked: Asked<'_>,
) -> Result<Price, &'static str> {
    let ledger = |because: &str| by_ledger(observed, evidence, recommendation, asked.days, because);
    let Some(on) = asked.market else { return ledger("no market is known") };
    let Some(need) = &observed.need else { return ledger("no decision says what it needs") };
    let settings = PlacementSettings { snapshot_prices_allowed: true, commitment: Some(COMMITMENT), ..PlacementSettings::default() };
    let on_sale = |pool: &PoolPolicy, need: &Need, replicas: i64| {
        let (pools, learnt) = (std::slice::from_ref(pool), Learnt::default());
        let request = PlacementRequest {
            catalog,
            market: &on.market,
            learnt,
            demands: &[],
            room: &[],
            pools,
            now: asked.now,
            settings: &settings,
            listed: None,
        };
        alike(&request, need, replicas)
    };
    let Some(now) = on_sale(&on.pool, need, evidence.replicas) else { return ledger("what it needs is not sold on today's market") };
    let (pool, need_after, replicas_after) = after(&on.pool, need, evidence.replicas, &recommendation.change);
    let then = on_sale(&pool, &need_after, replicas_after).ok_or("no offer on today's market")?;
    let gpus = i128::from(observed.measured.gpus_per_pod.max(1));
    // A machine may be shared by replicas: each hour of one costs its part of all.
    let cost = |alike: &Alike, replicas: i64, gpu_ms: i64| {
        i128::from(alike.price_per_hour.0) * i128::from(gpu_ms) * i128::from(MONTH_DAYS)
            / (i128::from(replicas) * gpus * HOUR * i128::from(asked.days))
    };
    let saved = cost(&now, evidence.replicas, evidence.held_gpu_ms) - cost(&then, replicas_after, recommendation.gpu_ms_after);
    let machines = |alike: &Alike| alike.machines.iter().map(|(of, n)| format!("{n} {of}")).collect::<Vec<_>>().join(", ");
    let sides = [(&now, evidence.replicas), (&then, replicas_after)];
    let [before, afterwards] =
        sides.map(|(alike, replicas)| format!("{} at ${}/h (replicas: {replicas})", machines(alike), alike.price_per_hour));
    Ok(Price {
        saving: micro(saved),
        basis: format!("{}: {before}, then {afterwards}", on.said),
        prices: json!({ "by": on.said, "before": before, "after": afterwards, "usd_h_before": now.price_per_hour, "usd_h_after": then.price_per_hour }),
    })
}

/// The pool, the need and the replicas that a change leaves.
fn after(pool: &PoolPolicy, need: &Need, replicas: i64, change: &Change) -> (PoolPolicy, Need, i64) {
    match change {
        Change::FewerReplicas { replicas: most } => (pool.clone(), need.clone(), replicas.min(*most).max(1)),
        Change::Batch { .. } => (pool.clone(), need.clone(), replicas),
        Change::Sharing { sharing, memory } => {
            (pool.clone().sharing(*sharing, CONTEXT_RESERVE), Need { gpu_memory: *memory, ..need.clone() }, replicas)
        }
        Change::SmallerGpu { memory, models, .. } => {
            let need = Need { gpu_memory: *memory, gpu_models: models.clone(), instance_types: Vec::new(), ..need.clone() };
            (pool.clone(), need, replicas)
        }
    }
}

/// What the hours that fall away cost by the ledger. A smaller GPU has no such price.
fn by_ledger(
    observed: &Observed,
    evidence: &Evidence,
    recommendation: &Recommendation,
    days: i64,
    because: &str,
) -> Result<Price, &'static str> {
    let (held, cost) = (i128::from(evidence.held_gpu_ms.max(1)), i128::from(monthly(observed.cost, days).0));
    let saved = match &recommendation.change {
        Change::FewerReplicas { .. } | Change::Batch { .. } => cost * (held - i128::from(recommendation.gpu_ms_after)) / held,
        Change::Sharing { sharing, .. } => {
            let gpus = (evidence.replicas + shares(*sharing) - 1) / shares(*sharing);
            cost * i128::from(evidence.replicas - gpus) / i128::from(evidence.replicas.max(1))
        }
        Change::SmallerGpu { .. } => return Err("no market could price it"),
    };
    let gpu_hour = micro(i128::from(observed.cost.0) * HOUR / held);
    Ok(Price {
        saving: micro(saved),
        basis: format!("the ledger: {} for each GPU-hour in these days, as {because}", dollars(gpu_hour)),
        prices: json!({ "by": "ledger", "usd_per_gpu_hour": gpu_hour }),
    })
}

/// A cost of some days as that of 30.
pub(super) fn monthly(cost: MicroUsd, days: i64) -> MicroUsd {
    micro(i128::from(cost.0) * i128::from(MONTH_DAYS) / i128::from(days.max(1)))
}

fn micro(amount: i128) -> MicroUsd {
    MicroUsd(i64::try_from(amount).unwrap_or(if amount < 0 { i64::MIN } else { i64::MAX }))
}
