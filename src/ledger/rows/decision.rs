//! A decision as rows: what was decided, and the offers that were refused.
//!
//! Decides: the columns and what stands in them.
//! Does not: know how a value is written (see [`super::copied`]) or the statement (see [`super::Table`]).

use std::borrow::Cow;
use std::fmt::Write as _;

use serde::Serialize;

use super::Table;
use super::copied::CopiedRow;
use crate::core::market::Capacity;
use crate::core::record::{CounterfactualRate, Decision, JudgedOffer, code_of};
use crate::core::units::ids::ObjectRef;
use crate::core::units::money::MicroUsdPerHour;
use crate::core::workload::Workload;

pub(super) const DECISION: Table = Table {
    name: "decision",
    columns: "id, at, cluster, trigger, outcome, text, node_pool, workload_kind, workload_namespace, workload_name, team, service, \
              environment, cost_center, product_area, component, pods, need, region, zone, instance_type, capacity_type, price_usd_h, \
              per_replica_usd_h, replicas, price_age_ms, price_source, interruptions_per_million_hours, placement_score, refused_counts, \
              offers_hash, b0, b1, b2, b0_usd_h, b1_replica_usd_h, b2_replica_usd_h, claim, from_claim, instance, policy_hash, code_version",
};
pub(super) const CANDIDATES: Table = Table { name: "candidate_set", columns: "id, at, offers" };

/// Whose work a row is about.
#[derive(Debug, Serialize)]
pub(super) struct WorkloadColumns<'a> {
    workload_kind: &'a str,
    workload_namespace: &'a str,
    workload_name: &'a str,
}

impl<'a> WorkloadColumns<'a> {
    pub(super) fn of(w: &'a Workload) -> Self {
        WorkloadColumns { workload_kind: &w.kind, workload_namespace: &w.object.namespace, workload_name: &w.object.name }
    }
}

/// What would have been bought otherwise.
#[derive(Debug, Serialize)]
struct Otherwise<'a> {
    #[serde(flatten)]
    #[serde(rename = "pool")]
    capacity: &'a Capacity,
    price_usd_h: MicroUsdPerHour,
    replicas: i64,
}

impl<'a> Otherwise<'a> {
    fn of(rate: &'a CounterfactualRate) -> Self {
        Otherwise { capacity: &rate.capacity, price_usd_h: rate.price_per_hour, replicas: rate.replicas }
    }
}

/// A row of `ledger.decision`, decided at `at`, RFC 3339.
pub(super) fn decision_row(d: &Decision, at: &str) -> String {
    let mut row = CopiedRow::new(DECISION.columns, 1_536);
    row.plain("id", Some(d.id.0));
    row.plain("at", Some(at));
    row.text("cluster", &*d.cluster);
    row.plain("trigger", Some(code_of(&d.trigger)));
    row.plain("outcome", Some(code_of(&d.outcome)));
    row.text("text", &*d.text);
    row.text("node_pool", d.node_pool.as_ref().map(|pool| pool.as_str()));
    write_owner(&mut row, d);
    row.json("pods", Some(&d.pods));
    row.json("need", d.need.as_ref());
    write_chosen(&mut row, d.judgement.chosen.as_ref());
    row.json("refused_counts", Some(&d.judgement.refused));
    row.text("offers_hash", d.judgement.offers_hash.as_str());
    let (rates, frozen) = (&d.counterfactuals, d.counterfactuals.per_replica());
    row.json("b0", rates.b0_on_demand_same.as_ref().map(Otherwise::of).as_ref());
    row.json("b1", rates.b1_on_demand_home.as_ref().map(Otherwise::of).as_ref());
    row.json("b2", rates.b2_spot_home.as_ref().map(Otherwise::of).as_ref());
    row.plain("b0_usd_h", rates.b0_on_demand_same.as_ref().map(|rate| rate.price_per_hour));
    row.plain("b1_replica_usd_h", frozen.b1_per_replica_hour);
    row.plain("b2_replica_usd_h", frozen.b2_per_replica_hour);
    row.text("claim", d.claim.as_ref().map(|claim| claim.as_str()));
    row.text("from_claim", d.from_claim.as_ref().map(|claim| claim.as_str()));
    row.text("instance", d.instance.as_ref().map(|instance| instance.as_str()));
    row.text("policy_hash", &*d.policy_hash);
    row.text("code_version", &*d.code_version);
    row.into_line()
}

fn write_owner(row: &mut CopiedRow, d: &Decision) {
    let (workload, owner) = (d.workload.as_ref(), &d.attribution);
    let object: Option<&ObjectRef> = workload.map(|workload| &workload.object);
    row.text("workload_kind", workload.map(|workload| workload.kind.as_str()));
    row.text("workload_namespace", object.map(|object| object.namespace.as_str()));
    row.text("workload_name", object.map(|object| object.name.as_str()));
    row.text("team", owner.team.as_deref());
    row.text("service", owner.service.as_deref());
    row.text("environment", owner.environment.as_deref());
    row.text("cost_center", owner.cost_center.as_deref());
    row.text("product_area", owner.product_area.as_deref());
    row.text("component", owner.component.as_deref());
}

fn write_chosen(row: &mut CopiedRow, chosen: Option<&JudgedOffer>) {
    row.text("region", chosen.map(|offer| offer.capacity.region.as_str()));
    row.text("zone", chosen.map(|offer| offer.capacity.zone.as_str()));
    row.text("instance_type", chosen.map(|offer| offer.capacity.instance_type.as_str()));
    row.plain("capacity_type", chosen.map(|offer| offer.capacity.capacity_type));
    row.plain("price_usd_h", chosen.map(|offer| offer.price_per_hour));
    row.plain("per_replica_usd_h", chosen.and_then(|offer| offer.cost_per_replica_hour));
    row.plain("replicas", chosen.map(|offer| offer.replicas));
    row.plain("price_age_ms", chosen.map(|offer| offer.price_age.0));
    row.plain("price_source", chosen.map(|offer| code_of(&offer.source)));
    row.plain("interruptions_per_million_hours", chosen.map(|offer| offer.interruptions_per_million_hours));
    row.plain("placement_score", chosen.and_then(|offer| offer.placement_score));
}

/// A row of `ledger.candidate_set`: the refused offers of a decision, a line each.
pub(super) fn candidates_row(d: &Decision, at: &str) -> String {
    let mut offers = String::with_capacity(d.judgement.best_refused.len() * 128);
    for offer in &d.judgement.best_refused {
        if !offers.is_empty() {
            offers.push('\n');
        }
        write_offer(&mut offers, offer);
    }
    let mut row = CopiedRow::new(CANDIDATES.columns, offers.len() + 128);
    row.plain("id", Some(d.id.0));
    row.plain("at", Some(at));
    row.text("offers", offers.as_str());
    row.into_line()
}

/// A refused offer by position, as the view `candidate` reads it: names twenty times over would be most of what a decision weighs, and
/// JSON most of the work of storing it.
fn write_offer(line: &mut String, o: &JudgedOffer) {
    let at = &o.capacity;
    let (region, zone, instance_type) = (name(at.region.as_str()), name(at.zone.as_str()), name(at.instance_type.as_str()));
    let (age, source, refusal) = (o.price_age.0, code_of(&o.source), o.refusal.as_ref().map_or_else(String::new, code_of));
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
