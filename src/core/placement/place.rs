//! The purchase for all demands.
//!
//! Decides: which machines to buy and which pod goes where.

use super::eligibility::{Wants, list};
use super::judge::{judge_listed, score};
use super::outcome::{Assignment, Placement, PlannedMachine, Target, Unplaced};
use super::request::PlacementRequest;

/// Places all demands of `request`.
pub fn place(request: &PlacementRequest) -> Placement {
    let mut order: Vec<usize> = (0..request.demands.len()).collect();
    order.sort_by(|a, b| request.demands[*a].key.cmp(&request.demands[*b].key));
    let mut placement = Placement::default();
    for demand in order {
        let key = request.demands[demand].key.clone();
        let need = &request.demands[demand].need;
        let wants = Wants::new(request, need);
        let mut best = None;
        let mut judgement = None;
        for pool in request.pools {
            let listings = list(request, pool);
            for listing in &listings {
                if let Ok(replicas) = wants.judge(listing) {
                    let candidate = (score(listing, need, replicas, request.settings), pool.name.clone(), listing.cost);
                    if best.as_ref().is_none_or(|b| candidate < *b) {
                        best = Some(candidate);
                    }
                }
            }
            judgement.get_or_insert_with(|| judge_listed(request, &wants, &listings, None));
        }
        match best {
            Some((score, node_pool, cost)) => {
                placement.price_per_hour = placement.price_per_hour + score.price_per_hour;
                placement.cost_per_hour = placement.cost_per_hour + cost;
                placement.assignments.push(Assignment { demand, key, target: Target::NewMachine(placement.machines.len()) });
                let (pool, price_per_hour) = (score.pool, score.price_per_hour);
                placement.machines.push(PlannedMachine { pool, price_per_hour, cost_per_hour: cost, node_pool, demands: vec![demand] });
            }
            None => placement.unplaced.push(Unplaced { demand, key, judgement: judgement.unwrap_or_default() }),
        }
    }
    placement
}
