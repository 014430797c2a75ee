//! Records as rows of the ledger's tables.
//!
//! Decides: which table and columns a record goes to. Money and times go as text, so that no float is ever between.
//! Does not: send anything (see [`super::store`]).

mod copied;
mod decision;

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::{Value, json};

use self::decision::{CANDIDATES, DECISION, WorkloadColumns, candidates_row, decision_row};
use crate::core::market::Quote;
use crate::core::record::{Interruption, IntervalOpened, LedgerRecord, Migration, OccupancyOpened};
use crate::core::units::ids::derive_uuid;
use crate::core::units::time::Timestamp;

/// What becomes of a row that is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Twice {
    /// It is left out, the others are added.
    LeftOut,
    /// Nothing is added. Less work for Postgres, which then need not ask for every row before it adds it.
    Refused,
}

/// A table of events and the columns we write; `posted_at`, `xid` and `content_hash` are the database's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Table {
    /// Its name in schema `ledger`.
    pub name: &'static str,
    /// The columns, separated by commas.
    pub columns: &'static str,
}

impl Table {
    /// The statement that adds rows, given as one JSON array in text. Names come from the constants here, never from data.
    pub fn insert(&self, twice: Twice) -> String {
        let Table { name, columns } = self;
        let on_conflict = match twice {
            Twice::LeftOut => " ON CONFLICT DO NOTHING",
            Twice::Refused => "",
        };
        format!(
            "INSERT INTO ledger.{name} ({columns}) SELECT {columns} FROM json_populate_recordset(NULL::ledger.{name}, $1::text::json){on_conflict}"
        )
    }

    /// The statement that adds rows, given as lines of text; none is added when one is there already.
    pub fn copy(&self) -> String {
        format!("COPY ledger.{} ({}) FROM STDIN", self.name, self.columns)
    }
}

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

/// A row, as its table takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The first day of the month it goes to, as `2026-07-01`.
    pub month: String,
    /// Its columns by name as JSON; or, of what is copied, a line of text.
    pub text: String,
}

impl Row {
    /// Of what happened at `time`, RFC 3339.
    fn new(time: &str, text: String) -> Self {
        Row { month: month_of(time), text }
    }

    /// Rows as the one JSON array that [`Table::insert`] takes.
    pub fn array(rows: &[Row]) -> String {
        let mut array = String::with_capacity(size_of(rows) + 2);
        array.push('[');
        for (at, row) in rows.iter().enumerate() {
            if at > 0 {
                array.push(',');
            }
            array.push_str(&row.text);
        }
        array.push(']');
        array
    }

    /// Rows as the lines that [`Table::copy`] takes.
    pub fn lines(rows: &[Row]) -> String {
        let mut lines = String::with_capacity(size_of(rows));
        for row in rows {
            lines.push_str(&row.text);
            lines.push('\n');
        }
        lines
    }
}

fn size_of(rows: &[Row]) -> usize {
    rows.iter().map(|row| row.text.len() + 1).sum()
}

/// The first day of the month of a `time`, RFC 3339.
pub(super) fn month_of(time: &str) -> String {
    format!("{}-01", time.get(..7).unwrap_or(time))
}

/// Records as rows, table by table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rows {
    /// Rows that go in by [`Table::copy`].
    pub copied: BTreeMap<Table, Vec<Row>>,
    /// Rows that go in by [`Table::insert`].
    pub inserted: BTreeMap<Table, Vec<Row>>,
}

impl Rows {
    /// The rows of `records`. A record that comes twice gives one row.
    pub fn of<'a>(records: impl IntoIterator<Item = &'a LedgerRecord>) -> Self {
        let mut rows = Rows::default();
        let mut seen = BTreeSet::new();
        for record in records {
            let (id, at) = (record.id(), record.happened_at());
            if !seen.insert(id) {
                continue;
            }
            if let LedgerRecord::Decision(d) = record {
                let time = at.to_rfc3339();
                rows.copied.entry(DECISION).or_default().push(Row::new(&time, decision_row(d, &time)));
                rows.copied.entry(CANDIDATES).or_default().push(Row::new(&time, candidates_row(d, &time)));
            } else if let Some((table, content)) = content_of(record) {
                rows.inserted.entry(table).or_default().push(row(id, at, content));
            }
        }
        rows
    }

    /// A row for every one of `quotes`, that is for a pool, a time and a price, however often it is seen.
    pub fn of_quotes(quotes: &[Quote]) -> Self {
        let row_of = |quote: &Quote| {
            let zone = quote.zone.as_ref().map(|zone| zone.as_str());
            let (from, price, capacity_type) =
                (quote.effective_from.0.to_string(), quote.price_per_hour.to_string(), quote.capacity_type.to_string());
            let parts =
                ["price-quote", quote.region.as_str(), zone.unwrap_or(""), quote.instance_type.as_str(), &capacity_type, &from, &price];
            let content = json!({
                "region": quote.region, "zone": zone, "instance_type": quote.instance_type, "capacity_type": quote.capacity_type,
                "price_usd_h": quote.price_per_hour, "source": quote.source,
            });
            row(derive_uuid(&parts), quote.effective_from, content)
        };
        Rows { inserted: BTreeMap::from([(PRICE_QUOTE, quotes.iter().map(row_of).collect())]), ..Rows::default() }
    }

    /// The months they go to, each by its first day.
    pub fn months(&self) -> BTreeSet<&String> {
        self.copied.values().chain(self.inserted.values()).flatten().map(|row| &row.month).collect()
    }
}

fn row(id: uuid::Uuid, at: Timestamp, mut content: Value) -> Row {
    let time = at.to_rfc3339();
    content["id"] = json!(id);
    content["at"] = json!(time);
    Row::new(&time, json_of(&content))
}

/// Postgres' text cannot hold U+0000; one such character must not keep a record out for ever.
fn json_of(content: &impl Serialize) -> String {
    let json = serde_json::to_string(content).unwrap_or_default();
    if json.contains("\\u0000") { without_nul(serde_json::from_str(&json).unwrap_or_default()).to_string() } else { json }
}

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

/// Decisions have rows of their own (`decision`).
fn content_of(record: &LedgerRecord) -> Option<(Table, Value)> {
    let found = match record {
        LedgerRecord::Decision(_) => return None,
        LedgerRecord::IntervalOpened(r) => (INTERVAL_OPENED, interval_opened(r)),
        LedgerRecord::HourPriced(r) => {
            let content = json!({
                "claim_uid": r.claim_uid, "hour": r.hour, "price_usd_h": r.price_per_hour, "on_demand_usd_h": r.on_demand_per_hour,
            });
            (HOUR_PRICED, content)
        }
        LedgerRecord::IntervalClosed(r) => {
            (INTERVAL_CLOSED, json!({ "claim_uid": r.claim_uid, "ended_by": r.ended_by, "decision": r.decision }))
        }
        LedgerRecord::OccupancyOpened(r) => (OCCUPANCY_OPENED, occupancy_opened(r)),
        LedgerRecord::OccupancyClosed(r) => (OCCUPANCY_CLOSED, json!({ "claim_uid": r.claim_uid, "pod_uid": r.pod_uid })),
        LedgerRecord::Migration(r) => (MIGRATION, migration(r)),
        LedgerRecord::Interruption(r) => (INTERRUPTION, interruption(r)),
        LedgerRecord::Checkpoint(r) => (CHECKPOINT, json!({ "claim_uid": r.claim_uid, "pod_uid": r.pod_uid })),
    };
    Some(found)
}

fn merge(parts: impl IntoIterator<Item = Value>) -> Value {
    Value::Object(
        parts.into_iter().filter_map(|part| if let Value::Object(fields) = part { Some(fields) } else { None }).flatten().collect(),
    )
}

fn interval_opened(r: &IntervalOpened) -> Value {
    let own = json!({
        "claim_uid": r.claim_uid, "claim": r.claim, "decision": r.decision, "instance": r.instance, "gpus": r.gpus,
        "price_usd_h": r.price_per_hour, "on_demand_usd_h": r.on_demand_per_hour,
    });
    merge([json!(r.capacity), own])
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
    merge([json!(WorkloadColumns::of(&r.workload)), json!(r.attribution), own, carried])
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
    merge([json!(r.capacity), own])
}
