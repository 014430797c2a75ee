//! Records as rows of the ledger's tables.
//!
//! Decides: which table and columns a record goes to. Money and times go as text, so that no float is ever between.
//! Does not: send anything (see [`super::store`]).

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Value, json};

use crate::core::decision::{Attribution, CounterfactualRate, Decision, JudgedOffer, Workload};
use crate::core::ids::derive_uuid;
use crate::core::market::CapacityPool;
use crate::core::record::{Interruption, IntervalOpened, LedgerRecord, Migration, OccupancyOpened};
use crate::core::time::Timestamp;
use crate::engine::ports::Quote;

/// A table of events and the columns we write; `posted_at`, `xid` and `content_hash` are the database's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Table {
    /// Its name in schema `ledger`.
    pub name: &'static str,
    /// The columns, separated by commas.
    pub columns: &'static str,
}

impl Table {
    /// The statement that adds rows, given as one JSON array, and leaves out those that are there already. Names come from the constants
    /// here, never from data.
    pub fn insert(&self) -> String {
        let Table { name, columns } = self;
        format!(
            "INSERT INTO ledger.{name} ({columns}) SELECT {columns} FROM jsonb_populate_recordset(NULL::ledger.{name}, $1) ON CONFLICT DO NOTHING"
        )
    }
}

const DECISION: Table = Table {
    name: "decision",
    columns: "id, at, cluster, trigger, outcome, text, node_pool, workload_kind, workload_namespace, workload_name, team, service, \
              environment, cost_center, product_area, component, pods, need, region, zone, instance_type, capacity_type, price_usd_h, \
              per_replica_usd_h, replicas, price_age_ms, price_source, interruptions_per_million_hours, placement_score, refused_counts, offers_hash, b0, b1, b2, b0_usd_h, \
              b1_replica_usd_h, b2_replica_usd_h, claim, from_claim, instance, policy_hash, code_version",
};
const CANDIDATES: Table = Table { name: "candidate_set", columns: "id, at, candidates" };
const INTERVAL_OPENED: Table = Table {
    name: "interval_opened",
    columns: "id, at, claim_uid, claim, decision, instance, region, zone, instance_type, capacity_type, gpus, price_usd_h, on_demand_usd_h",
};
const HOUR_PRICED: Table = Table { name: "hour_priced", columns: "id, at, claim_uid, hour, price_usd_h, on_demand_usd_h" };
const INTERVAL_CLOSED: Table = Table { name: "interval_closed", columns: "id, at, claim_uid, ended_by, decision" };
const OCCUPANCY_OPENED: Table = Table {
    name: "occupancy_opened",
    columns: "id, at, claim_uid, pod_namespace, pod_name, pod_uid, workload_kind, workload_namespace, workload_name, kind, team, service, \
              environment, cost_center, product_area, component, gpus, decision, b1_replica_usd_h, b2_replica_usd_h, carried_gib, carried_from, \
              carried_usd_per_gib, carried_by",
};
const OCCUPANCY_CLOSED: Table = Table { name: "occupancy_closed", columns: "id, at, claim_uid, pod_uid" };
const MIGRATION: Table = Table {
    name: "migration",
    columns: "id, at, decision, pod_namespace, pod_name, pod_uid, from_claim, to_claim, deadline, decided_at, launched_at, node_ready_at, \
              pod_ready_at, old_gone_at, egress_gib",
};
const INTERRUPTION: Table = Table {
    name: "interruption",
    columns: "id, at, claim_uid, instance, region, zone, instance_type, capacity_type, deadline, source, ran_for_ms",
};
const CHECKPOINT: Table = Table { name: "checkpoint", columns: "id, at, claim_uid, pod_uid" };
const PRICE_QUOTE: Table =
    Table { name: "price_quote", columns: "id, at, region, zone, instance_type, capacity_type, price_usd_h, source" };

/// The rows of `records`, table by table. A record that comes twice gives one row.
pub fn rows_of(records: &[LedgerRecord]) -> BTreeMap<Table, Vec<Value>> {
    let mut tables: BTreeMap<Table, Vec<Value>> = BTreeMap::new();
    let mut seen = std::collections::BTreeSet::new();
    for record in records.iter().filter(|record| seen.insert(record.id())) {
        for (table, content) in content_of(record) {
            tables.entry(table).or_default().push(row(record.id(), record.happened_at(), content));
        }
    }
    tables
}

/// The rows of `quotes`: one per pool, time and price, however often it is seen.
pub fn rows_of_quotes(quotes: &[Quote]) -> (Table, Vec<Value>) {
    let row_of = |quote: &Quote| {
        let zone = quote.zone.as_ref().map(|zone| zone.as_str());
        let (from, price, capacity_type) =
            (quote.effective_from.0.to_string(), quote.price_per_hour.to_string(), quote.capacity_type.to_string());
        let parts = ["price-quote", quote.region.as_str(), zone.unwrap_or(""), quote.instance_type.as_str(), &capacity_type, &from, &price];
        let content = json!({
            "region": quote.region, "zone": zone, "instance_type": quote.instance_type, "capacity_type": quote.capacity_type,
            "price_usd_h": quote.price_per_hour, "source": quote.source,
        });
        row(derive_uuid(&parts), quote.effective_from, content)
    };
    (PRICE_QUOTE, quotes.iter().map(row_of).collect())
}

fn row(id: uuid::Uuid, at: Timestamp, content: Value) -> Value {
    let mut row = without_nul(content);
    row["id"] = json!(id);
    row["at"] = json!(at.to_rfc3339());
    row
}

/// Postgres' text cannot hold U+0000; one such character must not keep a record out for ever.
fn without_nul(value: Value) -> Value {
    match value {
        Value::String(text) if text.contains('\0') => Value::String(text.replace('\0', "\u{fffd}")),
        Value::Array(items) => Value::Array(items.into_iter().map(without_nul).collect()),
        Value::Object(fields) => {
            Value::Object(fields.into_iter().map(|(key, value)| (key.replace('\0', "\u{fffd}"), without_nul(value))).collect())
        }
        other => other,
    }
}

fn content_of(record: &LedgerRecord) -> Vec<(Table, Value)> {
    match record {
        LedgerRecord::Decision(d) => {
            let refused: Vec<Value> = d.judgement.best_refused.iter().map(candidate).collect();
            vec![(DECISION, decision(d)), (CANDIDATES, json!({ "candidates": refused }))]
        }
        LedgerRecord::IntervalOpened(r) => vec![(INTERVAL_OPENED, interval_opened(r))],
        LedgerRecord::HourPriced(r) => {
            let content = json!({
                "claim_uid": r.claim_uid, "hour": r.hour, "price_usd_h": r.price_per_hour, "on_demand_usd_h": r.on_demand_per_hour,
            });
            vec![(HOUR_PRICED, content)]
        }
        LedgerRecord::IntervalClosed(r) => {
            vec![(INTERVAL_CLOSED, json!({ "claim_uid": r.claim_uid, "ended_by": r.ended_by, "decision": r.decision }))]
        }
        LedgerRecord::OccupancyOpened(r) => vec![(OCCUPANCY_OPENED, occupancy_opened(r))],
        LedgerRecord::OccupancyClosed(r) => vec![(OCCUPANCY_CLOSED, json!({ "claim_uid": r.claim_uid, "pod_uid": r.pod_uid }))],
        LedgerRecord::Migration(r) => vec![(MIGRATION, migration(r))],
        LedgerRecord::Interruption(r) => vec![(INTERRUPTION, interruption(r))],
        LedgerRecord::Checkpoint(r) => vec![(CHECKPOINT, json!({ "claim_uid": r.claim_uid, "pod_uid": r.pod_uid }))],
    }
}

fn merge(parts: impl IntoIterator<Item = Value>) -> Value {
    Value::Object(
        parts.into_iter().filter_map(|part| if let Value::Object(fields) = part { Some(fields) } else { None }).flatten().collect(),
    )
}

fn pool(pool: &CapacityPool) -> Value {
    json!({ "region": pool.region, "zone": pool.zone, "instance_type": pool.instance_type, "capacity_type": pool.capacity_type })
}

fn attribution(a: &Attribution) -> Value {
    json!({
        "team": a.team, "service": a.service, "environment": a.environment, "cost_center": a.cost_center, "product_area": a.product_area,
        "component": a.component,
    })
}

fn workload(w: &Workload) -> Value {
    json!({ "workload_kind": w.kind, "workload_namespace": w.object.namespace, "workload_name": w.object.name })
}

fn chosen(o: &JudgedOffer) -> Value {
    let judged = json!({
        "price_usd_h": o.price_per_hour, "per_replica_usd_h": o.cost_per_replica_hour, "replicas": o.replicas,
        "price_age_ms": o.price_age, "price_source": o.source,
        "interruptions_per_million_hours": o.interruptions_per_million_hours, "placement_score": o.placement_score,
    });
    merge([pool(&o.pool), judged])
}

/// A refused offer by position, as the view `candidate` reads it: names twenty times over would be most of what a decision weighs.
fn candidate(o: &JudgedOffer) -> Value {
    json!([
        o.pool.region,
        o.pool.zone,
        o.pool.instance_type,
        o.pool.capacity_type,
        o.price_per_hour,
        o.cost_per_replica_hour,
        o.replicas,
        o.price_age,
        o.source,
        o.refusal,
        o.interruptions_per_million_hours,
        o.placement_score
    ])
}

fn decision(d: &Decision) -> Value {
    let otherwise = |rate: &Option<CounterfactualRate>| {
        rate.as_ref().map(|r| merge([pool(&r.pool), json!({ "price_usd_h": r.price_per_hour, "replicas": r.replicas })]))
    };
    let (c, frozen) = (&d.counterfactuals, d.counterfactuals.per_replica());
    let head = json!({
        "cluster": d.cluster, "trigger": d.trigger, "outcome": d.outcome, "text": d.text, "node_pool": d.node_pool, "pods": d.pods,
        "need": d.need, "refused_counts": named(&d.judgement.refused), "offers_hash": d.judgement.offers_hash,
        "claim": d.claim, "from_claim": d.from_claim, "instance": d.instance, "policy_hash": d.policy_hash, "code_version": d.code_version,
    });
    let counterfactuals = json!({
        "b0": otherwise(&c.b0_on_demand_same), "b1": otherwise(&c.b1_on_demand_home), "b2": otherwise(&c.b2_spot_home),
        "b0_usd_h": c.b0_on_demand_same.as_ref().map(|rate| rate.price_per_hour),
        "b1_replica_usd_h": frozen.b1_per_replica_hour, "b2_replica_usd_h": frozen.b2_per_replica_hour,
    });
    let workload = d.workload.as_ref().map_or(json!({}), workload);
    let chosen = d.judgement.chosen.as_ref().map_or(json!({}), chosen);
    merge([chosen, workload, attribution(&d.attribution), head, counterfactuals])
}

fn named<K: Serialize, V: Serialize>(counts: &BTreeMap<K, V>) -> Value {
    serde_json::to_value(counts).unwrap_or_else(|_| json!({}))
}

fn interval_opened(r: &IntervalOpened) -> Value {
    let own = json!({
        "claim_uid": r.claim_uid, "claim": r.claim, "decision": r.decision, "instance": r.instance, "gpus": r.gpus,
        "price_usd_h": r.price_per_hour, "on_demand_usd_h": r.on_demand_per_hour,
    });
    merge([pool(&r.pool), own])
}

fn occupancy_opened(r: &OccupancyOpened) -> Value {
    let own = json!({
        "claim_uid": r.claim_uid, "pod_namespace": r.pod.namespace, "pod_name": r.pod.name, "pod_uid": r.pod_uid, "kind": r.kind,
        "gpus": r.gpus, "decision": r.decision, "b1_replica_usd_h": r.b1_per_replica_hour, "b2_replica_usd_h": r.b2_per_replica_hour,
    });
    let carried = r.carried.as_ref().map_or(json!({}), |data| {
        json!({
            "carried_gib": data.gib, "carried_from": data.from_region, "carried_usd_per_gib": data.price_per_gib, "carried_by": data.moved_by,
        })
    });
    merge([workload(&r.workload), attribution(&r.attribution), own, carried])
}

fn migration(r: &Migration) -> Value {
    let time = |at: Option<Timestamp>| at.map(Timestamp::to_rfc3339);
    json!({
        "decision": r.decision, "pod_namespace": r.pod.namespace, "pod_name": r.pod.name, "pod_uid": r.pod_uid,
        "from_claim": r.from_claim, "to_claim": r.to_claim, "deadline": time(r.deadline), "decided_at": r.decided_at.to_rfc3339(),
        "launched_at": time(r.launched_at), "node_ready_at": time(r.node_ready_at), "pod_ready_at": time(r.pod_ready_at),
        "old_gone_at": time(r.old_gone_at), "egress_gib": r.egress_gib,
    })
}

fn interruption(r: &Interruption) -> Value {
    let own = json!({
        "claim_uid": r.claim_uid, "instance": r.instance, "deadline": r.deadline.to_rfc3339(), "source": r.source, "ran_for_ms": r.ran_for,
    });
    merge([pool(&r.pool), own])
}
