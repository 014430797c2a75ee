//! What the ledger is told of what was observed: intervals, instance-hours, who used which machine, how a move went.
//!
//! Decides: when a fact is complete enough to be written, once.
//! Does not: compute money.

use super::Pass;
use crate::core::action::{Action, ClaimPatch, ClusterAction};
use crate::core::market::{CapacityPool, CapacityType};
use crate::core::money::MicroUsdPerHour;
use crate::core::record::{HourPriced, IntervalOpened, LedgerRecord, Migration, OccupancyClosed, OccupancyOpened};
use crate::core::time::Millis;
use crate::core::world::{Claim, Lane, Occupant, Pod, PodPhase};

pub(super) fn tell_the_ledger(pass: &mut Pass) {
    let claims: Vec<Claim> = pass.world.claims.values().cloned().collect();
    for claim in &claims {
        intervals(pass, claim);
        occupancies(pass, claim);
    }
    migrations(pass);
}

fn tell(pass: &mut Pass, record: LedgerRecord) {
    if !pass.world.recorded.contains(&record.id()) {
        pass.step(Vec::new(), vec![record], Vec::new());
    }
}

/// The interval, and the price of each instance-hour at its start.
fn intervals(pass: &mut Pass, claim: &Claim) {
    // EC2's own launch time starts the bill, so the interval is told once EC2 shows the instance.
    let Some(seen) = super::notices::observed_instance(pass, claim) else { return };
    let (launched, instance) = (seen.launched_at, seen.id.clone());
    let spec = &claim.spec;
    tell(
        pass,
        LedgerRecord::IntervalOpened(IntervalOpened {
            claim: claim.name.clone(),
            claim_uid: claim.uid.clone(),
            decision: spec.decision,
            instance,
            pool: spec.capacity.clone(),
            // Shares of the cost go by the units that pods hold, so the machine counts in the same units.
            gpus: spec.gpu_units(&pass.world.catalog),
            price_per_hour: spec.price_per_hour,
            on_demand_per_hour: spec.on_demand_per_hour,
            running_from: launched,
        }),
    );
    let hours = pass.now.since(launched).0.max(0) / Millis::from_hours(1).0;
    for hour in 1..=u32::try_from(hours).unwrap_or(0) {
        let from = launched + Millis::from_hours(i64::from(hour));
        let price_per_hour = current_price(pass, &spec.capacity).unwrap_or(spec.price_per_hour);
        let on_demand_per_hour = on_demand_price(pass, &spec.capacity).or(spec.on_demand_per_hour);
        tell(pass, LedgerRecord::HourPriced(HourPriced { claim_uid: claim.uid.clone(), hour, from, price_per_hour, on_demand_per_hour }));
    }
    pass.wake(launched + Millis::from_hours(hours + 1));
}

/// The market's price of a pool of capacity now, if it is known.
pub(super) fn current_price(pass: &Pass, pool: &CapacityPool) -> Option<MicroUsdPerHour> {
    pass.world.market.offers.get(pool).map(|offer| offer.price_per_hour)
}

/// On-demand price of the same type in the same zone's region, if it is known.
pub(super) fn on_demand_price(pass: &Pass, pool: &CapacityPool) -> Option<MicroUsdPerHour> {
    current_price(pass, &CapacityPool { capacity_type: CapacityType::OnDemand, ..pool.clone() })
}

fn occupancies(pass: &mut Pass, claim: &Claim) {
    if claim.status.node_ready_at.is_none() || !pass.is_free(&Lane::Claim(claim.name.clone())) {
        return;
    }
    let mut records = Vec::new();
    let mut occupants = Vec::new();
    for occupant in &claim.status.occupants {
        let pod = pass.world.pods.get(&occupant.pod.uid);
        match pod {
            Some(pod) if pod.phase == PodPhase::Running => occupants.push(occupant.clone()),
            _ => records.push(closed(claim, occupant, pass)),
        }
    }
    for pod in pass.pods_on(&claim.name) {
        let known = claim.status.occupants.iter().any(|o| o.pod.uid == pod.identity.uid);
        if !known && pod.phase == PodPhase::Running {
            occupants.push(Occupant { pod: pod.identity.clone(), from: pass.now });
            records.extend(opened(pass, claim, pod));
        }
    }
    if occupants != claim.status.occupants {
        let patch = Box::new(ClaimPatch { occupants: Some(occupants), ..ClaimPatch::default() });
        let action = Action::Cluster(ClusterAction::PatchClaim { claim: claim.name.clone(), patch });
        pass.step(vec![Lane::Claim(claim.name.clone())], records, vec![action]);
    }
}

/// The occupancies that end with the claim.
pub(super) fn last_occupancies(pass: &Pass, claim: &Claim) -> Vec<LedgerRecord> {
    claim.status.occupants.iter().map(|occupant| closed(claim, occupant, pass)).collect()
}

fn closed(claim: &Claim, occupant: &Occupant, pass: &Pass) -> LedgerRecord {
    LedgerRecord::OccupancyClosed(OccupancyClosed { claim_uid: claim.uid.clone(), pod_uid: occupant.pod.uid.clone(), to: pass.now })
}

fn opened(pass: &Pass, claim: &Claim, pod: &Pod) -> Option<LedgerRecord> {
    let (need, _) = pod.need.as_ref().ok()?;
    Some(LedgerRecord::OccupancyOpened(OccupancyOpened {
        claim_uid: claim.uid.clone(),
        pod: pod.identity.object.clone(),
        pod_uid: pod.identity.uid.clone(),
        workload: pod.workload.clone(),
        kind: need.kind,
        attribution: pod.attribution.clone(),
        gpus: need.gpus,
        decision: pod.placed_by.unwrap_or(claim.spec.decision),
        b1_per_replica_hour: pod.baseline.b1_per_replica_hour,
        b2_per_replica_hour: pod.baseline.b2_per_replica_hour,
        from: pass.now,
    }))
}

/// A move is told once the replacement is Ready and the old pod is gone.
fn migrations(pass: &mut Pass) {
    let replacements: Vec<&Pod> = pass.world.pods.values().filter(|p| p.replaces.is_some() && p.ready_since.is_some()).collect();
    for new in replacements {
        let Some(old) = &new.replaces else { continue };
        if pass.world.pods.get(&old.pod.uid).is_some_and(|p| !p.finished()) {
            continue;
        }
        let to = new.claim.as_ref().and_then(|name| pass.world.claims.get(name));
        let bought = to.filter(|c| c.spec.bought_for.iter().any(|p| p.uid == new.identity.uid));
        let egress_gib = new.need.as_ref().map_or(0, |(need, _)| need.data_gib);
        tell(
            pass,
            LedgerRecord::Migration(Migration {
                decision: old.decision,
                pod: old.pod.object.clone(),
                pod_uid: old.pod.uid.clone(),
                from_claim: old.from_claim.clone(),
                to_claim: new.claim.clone(),
                noticed_at: old.noticed_at,
                deadline: old.deadline,
                decided_at: old.decided_at,
                launched_at: bought.and_then(|c| c.status.launched_at),
                node_ready_at: bought.and_then(|c| c.status.node_ready_at),
                pod_ready_at: new.ready_since,
                old_gone_at: (new.workload.kind != "Job").then_some(pass.now),
                egress_gib,
            }),
        );
    }
}
