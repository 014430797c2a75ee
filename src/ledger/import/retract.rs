//! Retracting a statement.
//!
//! Decides: that only a version that holds can be retracted, that a retraction says why, and that what held before it holds again. Rows carry the difference; nothing is removed.

use serde_json::json;
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use super::costs::POSTING;
use super::statement::{self, Cell, Kind, Outcome, held, next_version};
use super::{ImportFault, by_team};
use crate::core::units::ids::derive_uuid;
use crate::core::units::time::Timestamp;
use crate::ledger::poster::{self, Posted};
use crate::ledger::store::{LedgerFault, end, insert};
use crate::ledger::turns::{self, Turn};

/// What was retracted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retraction {
    /// What it was about.
    pub cell: Cell,
    /// The version that was retracted.
    pub version: i32,
    /// The version that holds again, if one does.
    pub holds: Option<i32>,
    /// What was posted after it.
    pub posted: Posted,
    /// What that changed, by team: name and dollars.
    pub by_team: Vec<(String, String)>,
}

/// Retracts the statement of this id for a reason that is kept with who and when, and posts what that changes.
///
/// # Errors
/// [`ImportFault::NotRetracted`] when it does not exist or does not hold, or no reason is given; [`ImportFault::Ledger`].
pub async fn retract(connection: &mut PgConnection, id: Uuid, reason: &str, now: Timestamp) -> Result<Retraction, ImportFault> {
    let mut transaction = connection.begin().await.map_err(LedgerFault::during("begin a transaction"))?;
    let done = take_back(&mut transaction, (id, reason), now).await;
    end(transaction, done, "commit the retraction").await
}

/// As [`retract`], and then leaves everything as it was: what would change.
///
/// # Errors
/// As those of [`retract`].
pub async fn dry_run_of_retraction(
    connection: &mut PgConnection,
    id: Uuid,
    reason: &str,
    now: Timestamp,
) -> Result<Retraction, ImportFault> {
    let mut transaction = connection.begin().await.map_err(LedgerFault::during("begin a transaction"))?;
    let done = take_back(&mut transaction, (id, reason), now).await;
    transaction.rollback().await.map_err(LedgerFault::during("leave everything as it was"))?;
    done
}

async fn take_back(connection: &mut PgConnection, (id, reason): (Uuid, &str), now: Timestamp) -> Result<Retraction, ImportFault> {
    let reason = reason.trim();
    if reason.is_empty() {
        return Err(ImportFault::NotRetracted("expected a reason, as in --reason 'the export was cut off'".into()));
    }
    poster::post(connection, now).await?;
    turns::take(connection, Turn::Import).await?;
    let (cell, version) = cell_of(connection, id).await?;
    match held(connection, &cell).await? {
        Some(holds) if holds.id == id => {}
        Some(holds) => {
            return Err(ImportFault::NotRetracted(format!(
                "version {version} does not hold: version {} does; retract that one instead",
                holds.version
            )));
        }
        None => return Err(ImportFault::NotRetracted(format!("version {version} has already been retracted"))),
    }
    later_feed(connection, &cell, id).await?;
    let number = next_version(connection, &cell).await?;
    let by = statement::record_retraction(connection, &cell, (id, reason), number).await?;
    opposite_rows(connection, cell.kind, id, by, number).await?;
    if cell.kind == Kind::Bill {
        queue_the_month(connection, id).await?;
    }
    if cell.kind == Kind::Costs {
        opposite_postings(connection, id, by).await?;
    }
    let posted = poster::post(connection, now).await?;
    let outcome = Outcome { cell: cell.clone(), id: by, version: number, changes: super::Changes::default(), same: false };
    let by_team = by_team(connection, &[outcome]).await?;
    let holds = held(connection, &cell).await?.map(|holds| holds.version);
    Ok(Retraction { cell, version, holds, posted, by_team })
}

/// What an invoice said of hours without a line goes with it, though no line does: every machine that any version of the bill has had is news.
async fn queue_the_month(connection: &mut PgConnection, id: Uuid) -> Result<(), LedgerFault> {
    let sql = "SELECT ledger.queue_instances(array_agg(DISTINCT l.instance)) FROM ledger.statement gone
               JOIN ledger.statement s ON (s.kind, s.source, s.at, s.until) = (gone.kind, gone.source, gone.at, gone.until)
               JOIN ledger.billed_line l ON l.statement = s.id WHERE gone.id = $1 AND l.instance LIKE 'i-%'";
    sqlx::query(sql).bind(id).execute(connection).await.map_err(LedgerFault::during("queue the machines of the bill"))?;
    Ok(())
}

async fn cell_of(connection: &mut PgConnection, id: Uuid) -> Result<(Cell, i32), ImportFault> {
    let row = sqlx::query!(
        r#"SELECT kind, source, ledger.ms(at) AS "from_ms!", ledger.ms(until) AS "until_ms!", version, retracts FROM ledger.statement WHERE id = $1"#,
        id
    );
    let row = row.fetch_optional(connection).await.map_err(LedgerFault::during("read the statement"))?;
    let Some(row) = row.filter(|row| row.retracts.is_none()) else {
        return Err(ImportFault::NotRetracted(format!("there is no statement {id}: lowtide ledger statements lists them")));
    };
    let kinds = [Kind::Bill, Kind::Feed, Kind::Usage, Kind::Revenue, Kind::Costs];
    let kind = kinds.into_iter().find(|kind| kind.as_str() == row.kind).unwrap_or(Kind::Bill);
    Ok((Cell { kind, source: row.source, from: Timestamp(row.from_ms), until: Timestamp(row.until_ms) }, row.version))
}

/// Lines of the feed are periods of their own: another statement may have reported the same ones since.
async fn later_feed(connection: &mut PgConnection, cell: &Cell, id: Uuid) -> Result<(), ImportFault> {
    if cell.kind != Kind::Feed {
        return Ok(());
    }
    let later = sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT FROM ledger.billed_line a JOIN ledger.billed_line b ON b.instance = a.instance AND b.at = a.at AND b.source = 'feed'
                          AND b.statement <> a.statement AND b.posted_at > a.posted_at WHERE a.statement = $1) AS "later!""#,
        id
    );
    if later.fetch_one(connection).await.map_err(LedgerFault::during("look for later statements"))? {
        return Err(ImportFault::NotRetracted("a later statement covers the same hours: retract that one first".into()));
    }
    Ok(())
}

/// For each row of a statement, one that cancels it.
async fn opposite_rows(connection: &mut PgConnection, kind: Kind, id: Uuid, by: Uuid, number: i32) -> Result<(), LedgerFault> {
    let sql = match kind {
        Kind::Bill | Kind::Feed => {
            "INSERT INTO ledger.billed_line (id, at, source, kind, account, instance, usage_type, operation, until, revision, cost_usd, used_ms,
                                             public_on_demand_usd, statement, lines, service)
             SELECT md5($2::text || id)::uuid, at, source, kind, account, instance, usage_type, operation, until, $3, -cost_usd, -used_ms, -public_on_demand_usd,
                    $2::uuid, -lines, service FROM ledger.billed_line WHERE statement = $1"
        }
        Kind::Usage => {
            "INSERT INTO ledger.usage_hour (id, at, workload_namespace, workload_name, unit, revision, quantity, source, statement, lines, model)
             SELECT md5($2::text || id)::uuid, at, workload_namespace, workload_name, unit, $3, -quantity, source, $2::uuid, -lines, model FROM ledger.usage_hour WHERE statement = $1"
        }
        Kind::Revenue => {
            "INSERT INTO ledger.revenue_day (id, at, workload_namespace, workload_name, revision, revenue_usd, statement, lines)
             SELECT md5($2::text || id)::uuid, at, workload_namespace, workload_name, $3, -revenue_usd, $2::uuid, -lines FROM ledger.revenue_day WHERE statement = $1"
        }
        Kind::Costs => {
            "INSERT INTO ledger.external_cost (id, at, item, workload, revision, cost_usd, statement, lines, model)
             SELECT md5($2::text || id)::uuid, at, item, workload, $3, -cost_usd, $2::uuid, -lines, model FROM ledger.external_cost WHERE statement = $1"
        }
    };
    let done = sqlx::query(sql).bind(id).bind(by).bind(number).execute(connection).await;
    done.map_err(LedgerFault::during("take the rows back"))?;
    Ok(())
}

/// Other costs are posted as they are imported, and retracted the same way: by their rows and not by their postings: those of an earlier release name no statement.
async fn opposite_postings(connection: &mut PgConnection, id: Uuid, by: Uuid) -> Result<(), LedgerFault> {
    let rows = sqlx::query!(
        r#"SELECT id, to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') AS "at!", workload, (-cost_usd)::text AS "cost!"
           FROM ledger.external_cost WHERE statement = $1 AND cost_usd <> 0"#,
        id
    );
    let rows = rows.fetch_all(&mut *connection).await.map_err(LedgerFault::during("read what was entered"))?;
    let opposite: Vec<_> = rows
        .iter()
        .map(|row| {
            json!({
                "id": derive_uuid(&["posting-retracted", &by.to_string(), &row.id.to_string()]), "at": row.at, "workload": row.workload, "gpu_ms": 0,
                "span_ms": 86_400_000, "line": "overhead", "kind": "entered", "cause": "retracted", "cost_usd": row.cost, "b0_usd": "0", "b1_usd": "0",
                "b2_usd": "0", "feed_usd": "0", "bill_usd": "0", "statement": by,
            })
        })
        .collect();
    insert(connection, POSTING, &opposite).await
}
