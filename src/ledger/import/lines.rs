//! Lines of AWS's reports about instances: kept, revised, never edited.
//!
//! Decides: which lines are one (they add up), and what is new or changed against what is stored.
//! Does not: read a format (see [`super::feed`], [`super::cur`]) or post (see [`crate::ledger::poster`]).

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};

use super::{ImportFault, Taken};
use crate::core::units::ids::derive_uuid;
use crate::core::units::money::BilledUsd;
use crate::core::units::time::{Millis, Timestamp};
use crate::ledger::rows::Table;
use crate::ledger::store::{LedgerFault, ensure_months_of, insert};
use crate::ledger::turns::{self, Turn};

const BILLED_LINE: Table = Table {
    name: "billed_line",
    columns: "id, at, source, kind, account, instance, usage_type, operation, until, revision, cost_usd, used_ms, public_on_demand_usd, invoice",
};
/// Rows of one statement.
const ROWS_AT_ONCE: usize = 2_000;

/// What makes lines one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct LineKey {
    /// `feed` or `bill`.
    pub source: &'static str,
    /// `usage`, `commitment`, `adjustment` or `transfer`.
    pub kind: &'static str,
    /// The AWS account; empty in the feed.
    pub account: String,
    /// The instance.
    pub instance: String,
    /// As in `USE1-SpotUsage:g6.xlarge`.
    pub usage_type: String,
    /// As in `RunInstances:SV001`.
    pub operation: String,
    /// Start of what it is about.
    pub from: Timestamp,
    /// End of it.
    pub to: Timestamp,
}

/// What a line says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ImportedLine {
    /// The amount.
    pub cost: BilledUsd,
    /// Billed use, where said.
    pub used: Option<Millis>,
    /// What it would have cost on demand, where said.
    pub public_on_demand: Option<BilledUsd>,
    /// The invoice, once there is one.
    pub invoice: Option<String>,
}

/// Lines of one or several files, added up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BillImport {
    /// By what makes them one.
    pub lines: BTreeMap<LineKey, ImportedLine>,
    /// Lines read that are not about an instance.
    pub left_out: u64,
}

impl BillImport {
    /// Adds a line to those it is one with.
    pub fn add(&mut self, key: LineKey, line: ImportedLine) {
        let sum = self.lines.entry(key).or_default();
        sum.cost = sum.cost + line.cost;
        sum.used = match (sum.used, line.used) {
            (Some(a), Some(b)) => Some(a + b),
            (a, b) => a.or(b),
        };
        sum.public_on_demand = match (sum.public_on_demand, line.public_on_demand) {
            (Some(a), Some(b)) => Some(a + b),
            (a, b) => a.or(b),
        };
        sum.invoice = sum.invoice.take().or(line.invoice);
    }
}

/// A stored line: revision, amount, use, invoice.
type Stored = BTreeMap<LineKey, (i32, BilledUsd, Option<i64>, Option<String>)>;

/// Stores what is new or changed, all or nothing. Months get their partitions first.
pub(super) async fn store(connection: &mut PgConnection, import: &BillImport) -> Result<Taken, ImportFault> {
    let doing = LedgerFault::during;
    let mut transaction = connection.begin().await.map_err(doing("begin a transaction"))?;
    // One import at a time: two would give one revision twice.
    turns::take(&mut transaction, Turn::Import).await?;
    let stored = stored(&mut transaction, import).await?;
    let (rows, taken) = revisions(import, &stored);
    ensure_months_of(&mut transaction, &rows).await?;
    for chunk in rows.chunks(ROWS_AT_ONCE) {
        insert(&mut transaction, BILLED_LINE, chunk).await?;
    }
    transaction.commit().await.map_err(doing("commit the lines"))?;
    Ok(taken)
}

async fn stored(connection: &mut PgConnection, import: &BillImport) -> Result<Stored, LedgerFault> {
    let instances: BTreeSet<&str> = import.lines.keys().map(|key| key.instance.as_str()).collect();
    let instances: Vec<String> = instances.into_iter().map(String::from).collect();
    let rows = sqlx::query!(
        r#"SELECT DISTINCT ON (source, kind, account, instance, usage_type, operation, at, until) source, kind, account, instance, usage_type, operation,
                  ledger.ms(at) AS "from_ms!", ledger.ms(until) AS "to_ms!", revision, cost_usd::text AS "cost!", used_ms, invoice
           FROM ledger.billed_line WHERE instance = ANY($1)
           ORDER BY source, kind, account, instance, usage_type, operation, at, until, revision DESC"#,
        &instances
    )
    .fetch_all(connection)
    .await
    .map_err(LedgerFault::during("read the lines that are there"))?;
    let known = |text: &str, of: &[&'static str]| of.iter().copied().find(|word| *word == text);
    let read = rows.into_iter().filter_map(|row| {
        let key = LineKey {
            source: known(&row.source, &["feed", "bill"])?,
            kind: known(&row.kind, &["usage", "commitment", "adjustment", "transfer"])?,
            account: row.account,
            instance: row.instance,
            usage_type: row.usage_type,
            operation: row.operation,
            from: Timestamp(row.from_ms),
            to: Timestamp(row.to_ms),
        };
        Some((key, (row.revision, row.cost.parse().ok()?, row.used_ms, row.invoice)))
    });
    Ok(read.collect())
}

/// The rows to add. An invoice that is missing in a later file does not take back what an earlier one said.
fn revisions(import: &BillImport, stored: &Stored) -> (Vec<Value>, Taken) {
    let (mut rows, mut taken) = (Vec::new(), Taken::default());
    for (key, line) in &import.lines {
        let before = stored.get(key);
        let used = line.used.map(|used| used.0);
        let invoice = line.invoice.clone().or_else(|| before.and_then(|before| before.3.clone()));
        match before {
            Some((_, cost, was_used, was)) if (*cost, *was_used, was) == (line.cost, used, &invoice) => {
                taken.same += 1;
                continue;
            }
            Some(_) => taken.changed += 1,
            None => taken.new += 1,
        }
        let revision = before.map_or(0, |before| before.0 + 1);
        rows.push(json!({
            "id": id_of(key, revision), "at": key.from.to_rfc3339(), "source": key.source, "kind": key.kind, "account": key.account,
            "instance": key.instance, "usage_type": key.usage_type, "operation": key.operation, "until": key.to.to_rfc3339(),
            "revision": revision, "cost_usd": line.cost.to_string(), "used_ms": used,
            "public_on_demand_usd": line.public_on_demand.map(|cost| cost.to_string()), "invoice": invoice,
        }));
    }
    (rows, taken)
}

fn id_of(key: &LineKey, revision: i32) -> uuid::Uuid {
    let (from, to, revision) = (key.from.0.to_string(), key.to.0.to_string(), revision.to_string());
    let parts = ["billed-line", key.source, key.kind, &key.account, &key.instance, &key.usage_type, &key.operation, &from, &to, &revision];
    derive_uuid(&parts)
}
