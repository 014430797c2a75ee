//! Writing what a run of posting found.
//!
//! Decides: nothing; rows as the tables take them.

use serde_json::{Value, json};
use sqlx::PgConnection;
use uuid::Uuid;

use super::Book;
use crate::core::accounting::owners::OwnerVersion;
use crate::core::accounting::posting::Posting;
use crate::core::units::ids::{Uid, derive_uuid};
use crate::ledger::rows::Table;
use crate::ledger::store::{LedgerFault, ensure_months_of, insert};

/// Owner versions; see [`owner_row`].
pub(in crate::ledger) const WORKLOAD_VERSION: Table = Table {
    name: "workload_version",
    columns: "id, at, workload_kind, workload_namespace, workload_name, team, service, environment, cost_center, product_area, component, retag",
};
const POSTING: Table = Table {
    name: "posting",
    columns: "id, at, workload, gpu_ms, span_ms, hour, claim_uid, line, pod_uid, kind, cause, cost_usd, b0_usd, b1_usd, b2_usd, feed_usd, \
              bill_usd, statement",
};
const TRUE_UP: Table = Table { name: "true_up", columns: "id, at, claim_uid, hour, source, cause, computed_usd, billed_usd, statement" };

/// Rows of one statement.
const ROWS_AT_ONCE: usize = 2_000;

/// Stores owner versions that were begun.
pub(super) async fn owners(connection: &mut PgConnection, versions: &[OwnerVersion]) -> Result<(), LedgerFault> {
    add(connection, WORKLOAD_VERSION, versions.iter().map(owner_row).collect()).await
}

/// An owner version as its table takes it.
pub(in crate::ledger) fn owner_row(version: &OwnerVersion) -> Value {
    let a = &version.attribution;
    json!({
        "id": version.id, "at": version.valid_from.to_rfc3339(), "workload_kind": version.workload.kind,
        "workload_namespace": version.workload.object.namespace, "workload_name": version.workload.object.name,
        "team": a.team, "service": a.service, "environment": a.environment, "cost_center": a.cost_center, "product_area": a.product_area,
        "component": a.component, "retag": version.retag,
    })
}

/// Stores postings, comparisons with the bill, and how far each machine is.
pub(super) async fn books(connection: &mut PgConnection, books: &[Book]) -> Result<(), LedgerFault> {
    let postings: Vec<Value> = books.iter().flat_map(|book| book.rows.iter().map(|row| posting_row(&book.machine, row))).collect();
    let true_ups: Vec<Value> = books.iter().flat_map(true_up_rows).collect();
    ensure_months_of(connection, postings.iter().chain(&true_ups)).await?;
    add(connection, POSTING, postings).await?;
    add(connection, TRUE_UP, true_ups).await?;
    let uids: Vec<String> = books.iter().map(|book| book.machine.as_str().to_owned()).collect();
    let hours: Vec<i64> = books.iter().map(|book| i64::from(book.statement.hours)).collect();
    let complete: Vec<bool> = books.iter().map(|book| book.statement.complete).collect();
    let due: Vec<i64> = books.iter().map(|book| book.due_at.map_or(0, |at| at.0)).collect();
    let (cost, b0): (Vec<String>, Vec<String>) = books.iter().map(|book| (book.totals.0.to_string(), book.totals.1.to_string())).unzip();
    sqlx::query!(
        "INSERT INTO ledger.posted_machine (claim_uid, hours, complete, due_at, exact_cost, exact_b0)
         SELECT u.uid, u.hours, u.complete, CASE WHEN NOT u.complete THEN to_timestamp(u.due / 1000.0) END, u.cost::numeric * 0.000001, u.b0::numeric * 0.000001
         FROM unnest($1::text[], $2::bigint[], $3::boolean[], $4::bigint[], $5::text[], $6::text[]) AS u(uid, hours, complete, due, cost, b0)
         ON CONFLICT (claim_uid) DO UPDATE SET hours = EXCLUDED.hours, complete = EXCLUDED.complete, due_at = EXCLUDED.due_at,
             exact_cost = EXCLUDED.exact_cost, exact_b0 = EXCLUDED.exact_b0",
        &uids,
        &hours,
        &complete,
        &due,
        &cost,
        &b0
    )
    .execute(connection)
    .await
    .map_err(LedgerFault::during("write how far machines are posted"))?;
    Ok(())
}

/// Takes entries out of the queue.
pub(super) async fn done_with(connection: &mut PgConnection, taken: &[i64]) -> Result<(), LedgerFault> {
    sqlx::query!("DELETE FROM ledger.posting_queue WHERE n = ANY($1)", taken)
        .execute(connection)
        .await
        .map_err(LedgerFault::during("take machines out of the queue"))?;
    Ok(())
}

async fn add(connection: &mut PgConnection, table: Table, rows: Vec<Value>) -> Result<(), LedgerFault> {
    for chunk in rows.chunks(ROWS_AT_ONCE) {
        insert(connection, table, chunk).await?;
    }
    Ok(())
}

fn posting_row(machine: &Uid, row: &Posting) -> Value {
    let (key, amounts) = (&row.key, &row.amounts);
    json!({
        "id": row.id, "at": row.from.to_rfc3339(), "workload": key.owner.unwrap_or(Uuid::nil()), "gpu_ms": amounts.gpu_ms,
        "span_ms": row.span, "hour": key.hour, "claim_uid": machine, "line": key.line.as_str(), "pod_uid": key.pod,
        "kind": row.kind.as_str(), "cause": row.cause.as_str(), "cost_usd": amounts.cost, "b0_usd": amounts.b0, "b1_usd": amounts.b1,
        "b2_usd": amounts.b2, "feed_usd": amounts.feed, "bill_usd": amounts.bill, "statement": row.said_by,
    })
}

fn true_up_rows(book: &Book) -> Vec<Value> {
    let row = |true_up: &super::known::TrueUp| {
        let (hour, before) = (true_up.hour.to_string(), true_up.before.to_string());
        json!({
            "id": derive_uuid(&["true-up", book.machine.as_str(), &hour, &before]), "at": true_up.from.to_rfc3339(),
            "claim_uid": book.machine, "hour": true_up.hour, "source": true_up.source, "cause": true_up.cause,
            "computed_usd": true_up.computed, "billed_usd": true_up.billed, "statement": true_up.said_by,
        })
    };
    book.true_ups.iter().map(row).collect()
}
