//! A decision as rows: what was decided, and the offers that were refused.
//!
//! Decides: the columns. Decisions are most of what is written, so they go straight to text.
//! Does not: know the statement (see [`super::Table`]).

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

use crate::core::decision::{Attribution, CounterfactualRate, Decision, JudgedOffer, Outcome, PodIdentity, Refusal, Trigger};
use crate::core::ids::{ClaimName, DecisionId, InstanceId, PoolName};
use crate::core::market::{CapacityPool, PriceSource};
use crate::core::money::MicroUsdPerHour;
use crate::core::need::Need;
use crate::core::time::Millis;

/// A row of `ledger.decision`.
#[derive(Debug, Serialize)]
pub(super) struct DecisionRow<'a> {
    id: DecisionId,
    at: &'a str,
    cluster: &'a str,
    trigger: Trigger,
    outcome: Outcome,
    text: &'a str,
    node_pool: Option<&'a PoolName>,
    #[serde(flatten)]
    workload: Option<WorkloadColumns<'a>>,
    #[serde(flatten)]
    attribution: &'a Attribution,
    pods: &'a [PodIdentity],
    need: Option<&'a Need>,
    #[serde(flatten)]
    chosen: Option<ChosenColumns<'a>>,
    refused_counts: &'a BTreeMap<Refusal, u32>,
    offers_hash: &'a str,
    b0: Option<Otherwise<'a>>,
    b1: Option<Otherwise<'a>>,
    b2: Option<Otherwise<'a>>,
    b0_usd_h: Option<MicroUsdPerHour>,
    b1_replica_usd_h: Option<MicroUsdPerHour>,
    b2_replica_usd_h: Option<MicroUsdPerHour>,
    claim: Option<&'a ClaimName>,
    from_claim: Option<&'a ClaimName>,
    instance: Option<&'a InstanceId>,
    policy_hash: &'a str,
    code_version: &'a str,
}

#[derive(Debug, Serialize)]
struct WorkloadColumns<'a> {
    workload_kind: &'a str,
    workload_namespace: &'a str,
    workload_name: &'a str,
}

#[derive(Debug, Serialize)]
struct ChosenColumns<'a> {
    #[serde(flatten)]
    pool: &'a CapacityPool,
    price_usd_h: MicroUsdPerHour,
    per_replica_usd_h: Option<MicroUsdPerHour>,
    replicas: i64,
    price_age_ms: Millis,
    price_source: PriceSource,
    interruptions_per_million_hours: i64,
    placement_score: Option<u8>,
}

/// What would have been bought otherwise.
#[derive(Debug, Serialize)]
struct Otherwise<'a> {
    #[serde(flatten)]
    pool: &'a CapacityPool,
    price_usd_h: MicroUsdPerHour,
    replicas: i64,
}

impl<'a> DecisionRow<'a> {
    pub(super) fn of(d: &'a Decision, at: &'a str) -> Self {
        let (c, frozen) = (&d.counterfactuals, d.counterfactuals.per_replica());
        let otherwise = |rate: &'a Option<CounterfactualRate>| {
            rate.as_ref().map(|r| Otherwise { pool: &r.pool, price_usd_h: r.price_per_hour, replicas: r.replicas })
        };
        DecisionRow {
            id: d.id,
            at,
            cluster: &d.cluster,
            trigger: d.trigger,
            outcome: d.outcome,
            text: &d.text,
            node_pool: d.node_pool.as_ref(),
            workload: d.workload.as_ref().map(|w| WorkloadColumns {
                workload_kind: &w.kind,
                workload_namespace: &w.object.namespace,
                workload_name: &w.object.name,
            }),
            attribution: &d.attribution,
            pods: &d.pods,
            need: d.need.as_ref(),
            chosen: d.judgement.chosen.as_ref().map(ChosenColumns::of),
            refused_counts: &d.judgement.refused,
            offers_hash: &d.judgement.offers_hash,
            b0: otherwise(&c.b0_on_demand_same),
            b1: otherwise(&c.b1_on_demand_home),
            b2: otherwise(&c.b2_spot_home),
            b0_usd_h: c.b0_on_demand_same.as_ref().map(|rate| rate.price_per_hour),
            b1_replica_usd_h: frozen.b1_per_replica_hour,
            b2_replica_usd_h: frozen.b2_per_replica_hour,
            claim: d.claim.as_ref(),
            from_claim: d.from_claim.as_ref(),
            instance: d.instance.as_ref(),
            policy_hash: &d.policy_hash,
            code_version: &d.code_version,
        }
    }
}

impl<'a> ChosenColumns<'a> {
    fn of(o: &'a JudgedOffer) -> Self {
        ChosenColumns {
            pool: &o.pool,
            price_usd_h: o.price_per_hour,
            per_replica_usd_h: o.cost_per_replica_hour,
            replicas: o.replicas,
            price_age_ms: o.price_age,
            price_source: o.source,
            interruptions_per_million_hours: o.interruptions_per_million_hours,
            placement_score: o.placement_score,
        }
    }
}

/// A row of `ledger.candidate_set`: the refused offers of a decision, a line each.
#[derive(Debug, Serialize)]
pub(super) struct CandidatesRow<'a> {
    id: DecisionId,
    at: &'a str,
    offers: String,
}

impl<'a> CandidatesRow<'a> {
    pub(super) fn of(d: &Decision, at: &'a str) -> Self {
        let mut offers = String::with_capacity(d.judgement.best_refused.len() * 110);
        for offer in &d.judgement.best_refused {
            if !offers.is_empty() {
                offers.push('\n');
            }
            write_offer(&mut offers, offer);
        }
        CandidatesRow { id: d.id, at, offers }
    }
}

/// A refused offer by position, as the view `candidate` reads it: names twenty times over would be most of what a decision weighs, and
/// JSON most of the work of storing it.
fn write_offer(line: &mut String, o: &JudgedOffer) {
    let at = &o.pool;
    let (region, zone, instance_type) = (name(at.region.as_str()), name(at.zone.as_str()), name(at.instance_type.as_str()));
    let (age, source, refusal) = (o.price_age.0, code(o.source), o.refusal.as_ref().map_or_else(String::new, code));
    // Writing to a String cannot fail.
    let _ = write!(line, "{region},{zone},{instance_type},{},{},", at.capacity_type, o.price_per_hour);
    let _ = o.cost_per_replica_hour.map_or(Ok(()), |price| write!(line, "{price}"));
    let _ = write!(line, ",{},{age},{source},{refusal},{},", o.replicas, o.interruptions_per_million_hours);
    let _ = o.placement_score.map_or(Ok(()), |score| write!(line, "{score}"));
}

/// A name between commas. None of AWS's has one; should one ever, its line stays readable.
fn name(of: &str) -> Cow<'_, str> {
    if of.contains([',', '\n']) { Cow::Owned(of.replace([',', '\n'], " ")) } else { Cow::Borrowed(of) }
}

/// A code as it is written everywhere.
fn code<T: Serialize>(of: T) -> String {
    serde_json::to_value(of).ok().and_then(|v| v.as_str().map(String::from)).unwrap_or_default()
}
