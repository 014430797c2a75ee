//! A decision and everything that proves it: what was asked, what was chosen, what it beat, what it would have cost otherwise.
//!
//! Decides: the closed list of outcomes.
//! Does not: take decisions (see `plan`), or store them (see the `kube` outbox and the `ledger`).

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

use super::refusal::Refusal;
use crate::core::fleet::Trigger;
use crate::core::market::{Capacity, PriceSource};
use crate::core::units::ids::{ClaimName, DecisionId, InstanceId, PoolName};
use crate::core::units::money::MicroUsdPerHour;
use crate::core::units::shared::Shared;
use crate::core::units::time::{Millis, Timestamp};
use crate::core::workload::need::Need;
use crate::core::workload::{Attribution, Baseline, PodIdentity, Workload};

/// What was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Buy a machine.
    Launch,
    /// Use room on a machine we have.
    UseRoom,
    /// No offer can meet the need.
    Refuse,
    /// Move the work off a machine.
    Migrate,
    /// End a machine.
    Terminate,
}

/// A rate that would have been paid otherwise, and what it is the rate of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CounterfactualRate {
    /// What would have been bought.
    #[serde(rename = "pool")]
    pub capacity: Capacity,
    /// Its price for the machine.
    pub price_per_hour: MicroUsdPerHour,
    /// How many of this need fit on it, so that a rate per replica can be had.
    pub replicas: i64,
}

/// What it would have cost otherwise, frozen when decided. `None` is unknown, never a guess.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counterfactuals {
    /// B0: on-demand of the same type in the same region.
    pub b0_on_demand_same: Option<CounterfactualRate>,
    /// B1: the cheapest on-demand that meets the need in the home region. The headline.
    pub b1_on_demand_home: Option<CounterfactualRate>,
    /// B2: the cheapest spot that meets the need in the home region.
    pub b2_spot_home: Option<CounterfactualRate>,
}

impl Counterfactuals {
    /// The rates of one replica.
    pub fn per_replica(&self) -> Baseline {
        let share = |rate: &Option<CounterfactualRate>| {
            rate.as_ref().filter(|r| r.replicas > 0).map(|r| MicroUsdPerHour(r.price_per_hour.0 / r.replicas))
        };
        Baseline { b1_per_replica_hour: share(&self.b1_on_demand_home), b2_per_replica_hour: share(&self.b2_spot_home) }
    }
}

/// An offer as it stood when it was judged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JudgedOffer {
    /// What was offered.
    #[serde(rename = "pool")]
    pub capacity: Capacity,
    /// Its price for the machine.
    pub price_per_hour: MicroUsdPerHour,
    /// What one replica costs on it, with expected interruption and egress; `None` when none fits.
    pub cost_per_replica_hour: Option<MicroUsdPerHour>,
    /// How many replicas of this need fit.
    pub replicas: i64,
    /// Age of the price.
    pub price_age: Millis,
    /// Who said the price.
    pub source: PriceSource,
    /// Expected interruptions per million instance-hours.
    #[serde(default)]
    pub interruptions_per_million_hours: i64,
    /// EC2's spot placement score, 1 to 10, where one was known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placement_score: Option<u8>,
    /// How much it does not give of what the pods prefer: only the difference of two offers means anything.
    #[serde(default, skip_serializing_if = "nothing")]
    pub unmet_preferences: i64,
    /// Why not this one; `None` for the chosen offer.
    pub refusal: Option<Refusal>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn nothing(amount: &i64) -> bool {
    *amount == 0
}

/// All offers judged for one need.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Judgement {
    /// The offer taken.
    pub chosen: Option<JudgedOffer>,
    /// The best refused offers, cheapest first: at most 20.
    pub best_refused: Vec<JudgedOffer>,
    /// How many offers each reason refused.
    pub refused: BTreeMap<Refusal, u32>,
    /// SHA-256 over all judged offers in order, in hex.
    pub offers_hash: String,
}

/// One decision, complete: what cannot be recorded is not executed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// Derived, so writing twice is harmless.
    pub id: DecisionId,
    /// The cluster's name.
    pub cluster: Arc<str>,
    /// When it was taken.
    pub decided_at: Timestamp,
    /// What made lowtide decide.
    pub trigger: Trigger,
    /// What was decided.
    pub outcome: Outcome,
    /// One sentence for people.
    pub text: Arc<str>,
    /// The node pool whose policy held.
    pub node_pool: Option<PoolName>,
    /// Whose work it is; `None` for a machine without work.
    pub workload: Option<Shared<Workload>>,
    /// Who pays.
    pub attribution: Shared<Attribution>,
    /// The pods it is about.
    pub pods: Vec<PodIdentity>,
    /// What they need.
    pub need: Option<Shared<Need>>,
    /// The offers judged.
    pub judgement: Shared<Judgement>,
    /// What it would have cost otherwise.
    pub counterfactuals: Shared<Counterfactuals>,
    /// The claim bought, used or ended.
    pub claim: Option<ClaimName>,
    /// The claim the work leaves.
    pub from_claim: Option<ClaimName>,
    /// The instance, where there is one.
    pub instance: Option<InstanceId>,
    /// SHA-256 of the policy, in hex.
    pub policy_hash: Arc<str>,
    /// lowtide's version.
    pub code_version: Arc<str>,
}
