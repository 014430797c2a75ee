//! Facts to write: decisions as an operator takes them, and small rows for sealing.

use std::collections::BTreeMap;

use lowtide::core::fleet::Trigger;
use lowtide::core::market::{Capacity, CapacityType, PriceSource};
use lowtide::core::record::{
    CounterfactualRate, Counterfactuals, Decision, JudgedOffer, Judgement, LedgerRecord, OccupancyClosed, Outcome, Refusal,
};
use lowtide::core::units::ids::{DecisionId, ObjectRef};
use lowtide::core::units::money::MicroUsdPerHour;
use lowtide::core::units::time::{Millis, Timestamp};
use lowtide::core::workload::{Attribution, PodIdentity, Workload};

/// 2026-07-01.
pub const MONTH: Timestamp = Timestamp(1_782_864_000_000);

fn capacity(n: usize, capacity_type: CapacityType) -> Capacity {
    let region = ["us-east-1", "us-east-2", "eu-south-2", "eu-west-1", "ap-northeast-1"][n % 5];
    Capacity {
        region: region.into(),
        zone: format!("zone-{}", n % 17).into(),
        instance_type: ["g6.xlarge", "g6.2xlarge", "g5.xlarge", "g6e.xlarge", "p4d.24xlarge", "g4dn.xlarge"][n % 6].into(),
        capacity_type,
    }
}

fn judged(n: usize, refusal: Option<Refusal>) -> JudgedOffer {
    JudgedOffer {
        capacity: capacity(n, CapacityType::Spot),
        price_per_hour: MicroUsdPerHour(91_300 + i64::try_from(n % 1_000).unwrap_or(0) * 100),
        cost_per_replica_hour: Some(MicroUsdPerHour(92_000)),
        replicas: 1,
        price_age: Millis::from_secs(40),
        source: PriceSource::SpotPriceHistory,
        interruptions_per_million_hours: 151,
        placement_score: Some(7),
        unmet_preferences: 0,
        refusal,
    }
}

/// A launch that beat twenty offers that are kept, of some hundred.
pub fn decision(n: usize) -> Decision {
    let rate =
        |capacity_type| CounterfactualRate { capacity: capacity(n, capacity_type), price_per_hour: MicroUsdPerHour(804_800), replicas: 1 };
    let object = |name: String| ObjectRef { namespace: "ml".into(), name };
    Decision {
        id: DecisionId::derive("bench", "launch", &n.to_string(), 0),
        cluster: "bench".into(),
        decided_at: MONTH + Millis(i64::try_from(n).unwrap_or(0) * 60),
        trigger: Trigger::PendingPod,
        outcome: Outcome::Launch,
        text: format!("g6.xlarge spot in zone-{} at $0.0913/h; beat 668 offers; runner-up lost: 4 % more expensive", n % 17).into(),
        node_pool: Some("gpu".into()),
        workload: Some(Workload { kind: "Deployment".into(), object: object(format!("web-{}", n % 2_000)) }.into()),
        attribution: Attribution { team: Some(format!("team-{}", n % 50)), ..Attribution::default() }.into(),
        pods: vec![PodIdentity { object: object(format!("web-{n}")).into(), uid: format!("pod-{n}").into() }],
        need: None,
        judgement: Judgement {
            chosen: Some(judged(n, None)),
            best_refused: (0..20).map(|k| judged(n + k, Some(Refusal::MoreExpensive))).collect(),
            refused: BTreeMap::from([(Refusal::MoreExpensive, 400), (Refusal::CoolingDown, 3), (Refusal::GpuMemory, 265)]),
            offers_hash: "ab".repeat(32),
        }
        .into(),
        counterfactuals: Counterfactuals {
            b0_on_demand_same: Some(rate(CapacityType::OnDemand)),
            b1_on_demand_home: Some(rate(CapacityType::OnDemand)),
            b2_spot_home: Some(rate(CapacityType::Spot)),
        }
        .into(),
        claim: Some(format!("lt-{n}").into()),
        from_claim: None,
        instance: None,
        policy_hash: "cd".repeat(32).into(),
        code_version: env!("CARGO_PKG_VERSION").into(),
    }
}

/// Small rows.
pub fn left(n: usize) -> Vec<LedgerRecord> {
    let row = |n: usize| {
        LedgerRecord::OccupancyClosed(OccupancyClosed {
            claim_uid: format!("sealed-{}", n / 4).into(),
            pod_uid: format!("pod-{n}").into(),
            to: MONTH + Millis(i64::try_from(n).unwrap_or(0)),
        })
    };
    (0..n).map(row).collect()
}
