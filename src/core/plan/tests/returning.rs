//! When voluntary moves are considered at all.

use super::toy::*;
use crate::core::action::{Action, ClusterAction, Plan};
use crate::core::fleet::Trigger;
use crate::core::market::quota::{QuotaFamily, VcpuQuota};
use crate::core::market::{CapacityType, CoolDownCause};
use crate::core::plan::{Settings, plan};
use crate::core::record::Outcome;
use crate::core::snapshot::memory::Sighting;
use crate::core::units::ids::DecisionId;
use crate::core::units::money::MicroUsd;
use crate::core::units::time::Millis;
use crate::core::workload::need::WorkloadKind;
use crate::core::workload::{PodIdentity, PodPhase, Replaces};

/// A machine that has served for longer than its pool's dwell, and spot elsewhere at a fifth of its price.
fn tempted() -> Toy {
    let mut toy = Toy::new();
    toy.add_pod(deployment(), WorkloadKind::Inference);
    toy.run(300);
    toy.world.market.offers.get_mut(&capacity(SPOT_A.0, SPOT_A.1, CapacityType::Spot)).unwrap().price_per_hour.0 = SPOT_B.2 * 5;
    toy
}

/// Whether a machine is bought to take over the work of another.
fn buys_ahead(planned: &Plan) -> bool {
    let actions = planned.steps.iter().flat_map(|step| &step.actions);
    actions.into_iter().any(|a| matches!(a, Action::Cluster(ClusterAction::CreateClaim { spec, .. }) if spec.takes_over.is_some()))
}

#[test]
fn moves_are_considered_no_sooner_after_the_last_time_than_the_settings_say() {
    let every = Millis::from_secs(60);
    for (considered_ago, ledger_available, considered, why) in [
        (None, true, true, "never before"),
        (Some(0), true, false, "just now"),
        (Some(59_999), true, false, "not long enough ago"),
        (Some(60_000), true, true, "long enough ago"),
        (Some(3_600_000), true, true, "long ago"),
        (Some(-1), true, true, "the clock was set back: what lies ahead says nothing"),
        (None, false, false, "the ledger is away"),
        (Some(60_000), false, false, "the ledger is away, however long ago"),
    ] {
        let mut toy = tempted();
        toy.settings = Settings { moves_considered_every: every, ..toy.settings };
        toy.world.moves_considered_at = considered_ago.map(|ago| toy.now - Millis(ago));
        toy.world.ledger_available = ledger_available;
        let planned = plan(&toy.settings, &toy.world, toy.now);
        assert_eq!((planned.considered_moves, buys_ahead(&planned)), (considered, considered), "{why}");
        if !considered && ledger_available && considered_ago.is_some_and(|ago| ago >= 0) {
            let due = toy.world.moves_considered_at.unwrap() + every;
            assert!(planned.holds_until <= due, "{why}: it holds until {}, and is due at {due}", planned.holds_until);
        }
    }
}

#[test]
fn a_machine_whose_successor_is_ready_is_left_whenever_moves_were_considered() {
    let mut toy = tempted();
    toy.settings.moves_considered_every = Millis::from_hours(9);
    toy.world.moves_considered_at = None;
    toy.run(1);
    assert_eq!(toy.world.claims.values().filter(|c| c.spec.takes_over.is_some()).count(), 1);
    let (cause, minute) = (CoolDownCause::NoCapacity, Millis::from_mins(1));
    let elsewhere = Sighting::Refused { cause, vcpus: 4, base: minute, max: minute };
    toy.world.memory.record(&capacity(SPOT_A.0, SPOT_A.1, CapacityType::OnDemand), elsewhere, toy.now);
    toy.run(90);
    assert!(
        toy.world.claims.values().any(|c| c.status.moving.is_some()),
        "the next look is hours away and something was refused, the successor is there"
    );
}

#[test]
fn a_pod_that_was_rescued_once_moves_within_the_budget_like_any_other() {
    let mut toy = tempted();
    let (claim, pod) = toy.world.pods.values().find_map(|pod| Some((pod.claim.clone()?, pod.identity.clone()))).unwrap();
    let replaces = Replaces {
        pod: PodIdentity { uid: "gone".into(), ..pod.clone() },
        from_claim: claim,
        decision: DecisionId(uuid::Uuid::nil()),
        noticed_at: toy.now,
        decided_at: toy.now,
        deadline: Some(toy.now),
        from_region: None,
        work: None,
    };
    toy.world.pods.get_mut(&pod.uid).unwrap().replaces = Some(Box::new(replaces));
    toy.world.moves_considered_at = None;
    assert!(buys_ahead(&plan(&toy.settings, &toy.world, toy.now)), "without a budget");
    toy.world.pools.values_mut().for_each(|pool| pool.monthly_budget = Some(MicroUsd(1)));
    assert!(!buys_ahead(&plan(&toy.settings, &toy.world, toy.now)), "the budget is spent");
}

/// Once the machine that was bought for it stands, the region's quota leaves no other there, and the zone of the old one is all there is on offer.
#[test]
fn a_replica_of_a_spread_goes_to_the_machine_that_was_bought_for_it() {
    let mut toy = Toy::new();
    let uid = toy.add_pod(deployment(), WorkloadKind::Inference);
    toy.world.pods.get_mut(&uid).unwrap().need.as_mut().unwrap().1.zone_max_skew = Some(1);
    toy.run(300);
    let before = toy.world.pods[&uid].claim.clone();
    toy.world.market.offers.get_mut(&capacity(SPOT_A.0, SPOT_A.1, CapacityType::Spot)).unwrap().price_per_hour.0 = SPOT_B.2 * 5;
    let quota = |capacity_type, vcpus| VcpuQuota { family: QuotaFamily::GAndVt, capacity_type, vcpus };
    let quotas = vec![quota(CapacityType::Spot, 4), quota(CapacityType::OnDemand, 0)];
    toy.world.quotas.insert(SPOT_B.0.into(), quotas);
    toy.run(400);
    let running: Vec<_> = toy.world.pods.values().filter(|pod| pod.phase == PodPhase::Running).map(|pod| pod.claim.clone()).collect();
    assert!(running.len() == 1 && running[0] != before, "it runs elsewhere: {running:?}, before {before:?}");
    let bought = toy.decisions().iter().filter(|d| d.trigger == Trigger::CheaperOffer && d.outcome == Outcome::Launch).count();
    assert_eq!(bought, 1, "one machine was bought, and used");
}
