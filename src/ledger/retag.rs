//! Corrections of attribution: what labels the work of past days should have had.
//!
//! Decides: what may be corrected (days that are over and not archived, of work that ran then), and that each correction is on record with who, when and why.
//! Nothing is edited: postings move from one owner to the other by rows of their own.
//! Does not: say which of several corrections holds (see [`crate::core::accounting::owners::corrected`]), or post (see [`super::poster`]).

use std::collections::BTreeMap;

use serde_json::{Value, json};
use sqlx::{Connection, PgConnection, Row};
use uuid::Uuid;

use super::import::by_team_of;
use super::poster::{self, Posted};
use super::rows::Table;
use super::store::{LedgerFault, insert};
use super::turns::{self, Turn};
use super::who::taken_by;
use crate::core::accounting::owners::{Label, Retag};
use crate::core::units::ids::{ObjectRef, derive_uuid};
use crate::core::units::time::Timestamp;

const RETAG: Table =
    Table { name: "retag", columns: "id, at, until, workload_namespace, workload_name, labels, reason, taken_by, withdraws, n" };
const DAY_MS: i64 = 86_400_000;

/// Labels to correct.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRetag {
    /// Whose work.
    pub workload: ObjectRef,
    /// The first UTC day, counted from 1970-01-01.
    pub from_day: i64,
    /// The day after the last.
    pub to_day: i64,
    /// Labels with the value that they should have had; `None` is no label.
    pub labels: BTreeMap<Label, Option<String>>,
    /// Why.
    pub reason: String,
}

/// What a correction did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retagged {
    /// Its id.
    pub id: Uuid,
    /// What was posted.
    pub posted: Posted,
    /// What that changed, by team: name and dollars.
    pub by_team: Vec<(String, String)>,
}

/// Labels could not be corrected.
#[derive(Debug, thiserror::Error)]
pub enum RetagFault {
    /// It makes no sense.
    #[error("{0}; nothing was corrected")]
    Refused(String),
    /// The ledger could not be used.
    #[error(transparent)]
    Ledger(#[from] LedgerFault),
}

/// Corrects labels and posts what that moves, all or nothing; `keep` says whether it stays or is only tried.
///
/// # Errors
/// [`RetagFault`]; then nothing was corrected.
pub async fn retag(connection: &mut PgConnection, new: &NewRetag, now: Timestamp, keep: bool) -> Result<Retagged, RetagFault> {
    reasonable(new, now)?;
    let mut transaction = connection.begin().await.map_err(LedgerFault::during("begin a transaction"))?;
    let done = correct(&mut transaction, new, now).await;
    end(transaction, done, keep).await
}

async fn correct(connection: &mut PgConnection, new: &NewRetag, now: Timestamp) -> Result<Retagged, RetagFault> {
    let number = begin(connection, now).await?;
    ran_then(connection, new).await?;
    let labels: serde_json::Map<String, Value> =
        new.labels.iter().map(|(label, value)| (label.as_str().to_owned(), json!(value))).collect();
    let row = json!({
        "at": Timestamp(new.from_day * DAY_MS).to_rfc3339(), "until": Timestamp(new.to_day * DAY_MS).to_rfc3339(),
        "workload_namespace": new.workload.namespace, "workload_name": new.workload.name, "labels": labels, "reason": new.reason,
    });
    write(connection, row, number, now).await
}

/// Takes a correction back and posts what that moves.
///
/// # Errors
/// [`RetagFault`]; then nothing changed.
pub async fn withdraw(connection: &mut PgConnection, id: Uuid, reason: &str, now: Timestamp, keep: bool) -> Result<Retagged, RetagFault> {
    let mut transaction = connection.begin().await.map_err(LedgerFault::during("begin a transaction"))?;
    let done = take_back(&mut transaction, id, reason, now).await;
    end(transaction, done, keep).await
}

async fn take_back(connection: &mut PgConnection, id: Uuid, reason: &str, now: Timestamp) -> Result<Retagged, RetagFault> {
    let number = begin(connection, now).await?;
    let row = sqlx::query(
        "SELECT ledger.ms(at) AS at_ms, ledger.ms(until) AS until_ms, workload_namespace AS namespace, workload_name AS name,
                EXISTS (SELECT FROM ledger.retag w WHERE w.withdraws = r.id) AS gone FROM ledger.retag r WHERE id = $1 AND withdraws IS NULL",
    );
    let row = row.bind(id).fetch_optional(&mut *connection).await.map_err(LedgerFault::during("read the correction"))?;
    let Some(row) = row.filter(|row| !row.get::<bool, _>("gone")) else {
        return Err(RetagFault::Refused(format!("there is no correction {id} that holds: lowtide ledger retag --list shows them")));
    };
    let row = json!({
        "at": Timestamp(row.get("at_ms")).to_rfc3339(), "until": Timestamp(row.get("until_ms")).to_rfc3339(),
        "workload_namespace": row.get::<String, _>("namespace"), "workload_name": row.get::<String, _>("name"), "labels": {}, "reason": reason,
        "withdraws": id,
    });
    write(connection, row, number, now).await
}

/// Posts what waits, so that only what the correction moves is counted, and numbers it.
async fn begin(connection: &mut PgConnection, now: Timestamp) -> Result<i64, LedgerFault> {
    poster::post(connection, now).await?;
    turns::take(connection, Turn::Import).await?;
    let next = sqlx::query_scalar("SELECT coalesce(max(n), 0) + 1 FROM ledger.retag");
    next.fetch_one(connection).await.map_err(LedgerFault::during("number the correction"))
}

/// Puts a correction on record and posts what it moves.
async fn write(connection: &mut PgConnection, mut row: Value, number: i64, now: Timestamp) -> Result<Retagged, RetagFault> {
    let id = derive_uuid(&["retag", &number.to_string(), &row.to_string()]);
    row["id"] = json!(id);
    row["n"] = json!(number);
    row["taken_by"] = json!(taken_by(connection).await?);
    insert(connection, RETAG, &[row]).await?;
    let posted = poster::post(connection, now).await?;
    Ok(Retagged { id, posted, by_team: by_team_of(connection, &[id]).await? })
}

/// What was refused leaves nothing, its locks included.
async fn end(
    transaction: sqlx::Transaction<'_, sqlx::Postgres>,
    done: Result<Retagged, RetagFault>,
    keep: bool,
) -> Result<Retagged, RetagFault> {
    if keep && done.is_ok() {
        transaction.commit().await.map_err(LedgerFault::during("commit the correction"))?;
    } else {
        transaction.rollback().await.map_err(LedgerFault::during("leave everything as it was"))?;
    }
    done
}

fn reasonable(new: &NewRetag, now: Timestamp) -> Result<(), RetagFault> {
    let refused = |why: &str| Err(RetagFault::Refused(why.to_owned()));
    if new.labels.is_empty() {
        return refused("expected at least one label to set, as in --set team=search");
    }
    if new.reason.trim().is_empty() {
        return refused("expected a reason: it is what an auditor will read");
    }
    if new.to_day <= new.from_day {
        return refused("the day after the last is not after the first");
    }
    if new.to_day > now.0.div_euclid(DAY_MS) {
        return refused("only days that are over can be corrected (UTC); for future days set the label on the pod template");
    }
    Ok(())
}

/// Refuses names that had no posting in these days, and days that are archived.
async fn ran_then(connection: &mut PgConnection, new: &NewRetag) -> Result<(), RetagFault> {
    let row = sqlx::query(
        "WITH span AS (SELECT to_timestamp($3::bigint * 86400) AS first, to_timestamp($4::bigint * 86400) AS next)
         SELECT EXISTS (SELECT FROM ledger.workload_version w JOIN ledger.posting p ON p.workload = w.id, span
                        WHERE w.workload_namespace = $1 AND w.workload_name = $2 AND p.claim_uid IS NOT NULL AND p.at >= span.first AND p.at < span.next) AS ran,
                EXISTS (SELECT FROM ledger.archived_month a, span WHERE a.table_name = 'posting' AND a.until > span.first) AS archived",
    );
    let row = row.bind(&new.workload.namespace).bind(&new.workload.name).bind(new.from_day).bind(new.to_day);
    let row = row.fetch_one(connection).await.map_err(LedgerFault::during("look for the workload's postings"))?;
    if row.get("archived") {
        return Err(RetagFault::Refused("some of these days are archived: their postings are files now".into()));
    }
    if !row.get::<bool, _>("ran") {
        return Err(RetagFault::Refused(format!(
            "nothing is posted for machines of {} in these days: are the name and the days correct?",
            new.workload
        )));
    }
    Ok(())
}

/// The corrections that cover these workloads, in the order they were made.
///
/// # Errors
/// [`LedgerFault`] when Postgres refuses or does not answer.
pub(super) async fn of_workloads(
    connection: &mut PgConnection,
    workloads: &[ObjectRef],
) -> Result<BTreeMap<ObjectRef, Vec<Retag>>, LedgerFault> {
    let (namespaces, names): (Vec<String>, Vec<String>) = workloads.iter().map(|w| (w.namespace.clone(), w.name.clone())).unzip();
    let rows = sqlx::query(
        "SELECT r.id, ledger.ms(r.at) / 86400000 AS from_day, ledger.ms(r.until) / 86400000 AS to_day, r.workload_namespace AS namespace,
                r.workload_name AS name, r.labels, r.withdraws
         FROM unnest($1::text[], $2::text[]) AS w(namespace, name)
         JOIN ledger.retag r ON r.workload_namespace = w.namespace AND r.workload_name = w.name ORDER BY r.n",
    );
    let rows =
        rows.bind(namespaces).bind(names).fetch_all(connection).await.map_err(LedgerFault::during("read the corrections of labels"))?;
    let mut found: BTreeMap<ObjectRef, Vec<Retag>> = BTreeMap::new();
    for row in rows {
        let workload = ObjectRef { namespace: row.get("namespace"), name: row.get("name") };
        let labels: Value = row.get("labels");
        let labels = labels.as_object().into_iter().flatten();
        let labels = labels.filter_map(|(name, value)| Some((Label::of(name)?, value.as_str().map(String::from))));
        found.entry(workload).or_default().push(Retag {
            id: row.get("id"),
            from_day: row.get("from_day"),
            to_day: row.get("to_day"),
            labels: labels.collect(),
            withdraws: row.get("withdraws"),
        });
    }
    Ok(found)
}
