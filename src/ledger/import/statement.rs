//! Statements: what one source says of one period, version by version.
//!
//! Decides: which version holds (the newest that was not retracted), that the same files are the same version, and what is on record about one.
//! Does not: store what a statement says (see [`super::bill`], [`super::feed`], [`super::usage`], [`super::costs`]).

use std::collections::BTreeSet;

use serde_json::json;
use sha2::{Digest, Sha256};
use sqlx::PgConnection;
use uuid::Uuid;

use super::ImportFault;
use super::checks::{Check, Checks};
use super::reading::ReadFile;
use crate::core::units::ids::derive_uuid;
use crate::core::units::money::BilledUsd;
use crate::core::units::time::Timestamp;
use crate::ledger::rows::Table;
use crate::ledger::seal::hex;
use crate::ledger::store::{LedgerFault, insert};
use crate::ledger::who::taken_by;

const STATEMENT: Table = Table {
    name: "statement",
    columns: "id, at, kind, source, until, version, retracts, said_version, files, digest, lines, total, invoiced, invoices, accepted, taken_by, reason",
};

/// What a statement is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Kind {
    /// A Cost and Usage Report.
    Bill,
    /// The spot data feed.
    Feed,
    /// What workloads produced.
    Usage,
    /// What workloads earned.
    Revenue,
    /// Other costs.
    Costs,
}

impl Kind {
    /// As the ledger writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Bill => "bill",
            Kind::Feed => "feed",
            Kind::Usage => "usage",
            Kind::Revenue => "revenue",
            Kind::Costs => "costs",
        }
    }
}

/// Whose word about when: what versions replace one another.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cell {
    /// About what.
    pub kind: Kind,
    /// Whose word: a payer account, a provider, or what the person who imports calls it.
    pub source: String,
    /// Start of the period.
    pub from: Timestamp,
    /// End of it.
    pub until: Timestamp,
}

/// A statement that is about to be taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct New<'a> {
    pub cell: &'a Cell,
    pub said_version: Option<String>,
    pub files: &'a [ReadFile],
    pub lines: i64,
    pub total: BilledUsd,
    pub invoiced: bool,
    /// What each invoice charges, of a bill: a list of `invoice` (empty: of none yet), `currency` and `charged`.
    pub invoices: Option<serde_json::Value>,
}

/// A version that holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Held {
    pub id: Uuid,
    pub version: i32,
    pub said_version: Option<String>,
    pub invoiced: bool,
    pub invoices: Option<serde_json::Value>,
}

/// What became of a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// What it is about.
    pub cell: Cell,
    /// Its id; of the version that holds when it was there already.
    pub id: Uuid,
    /// Its version.
    pub version: i32,
    /// Keys that were not there before, that said something else, and that are gone.
    pub changes: Changes,
    /// It was there already: nothing was written.
    pub same: bool,
}

/// How many keys a version changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Changes {
    /// Not there before.
    pub new: usize,
    /// Of what was there, other values.
    pub changed: usize,
    /// There before and no longer.
    pub gone: usize,
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Outcome { cell: Cell { kind, source, from, .. }, version, changes: Changes { new, changed, gone }, same, .. } = self;
        let kind = kind.as_str();
        let of = if source == kind { String::new() } else { format!(" of {source}") };
        let what = format!("{kind}{of} for {}", from.to_date());
        if *same {
            return write!(f, "{what}: already there as version {version}");
        }
        write!(f, "{what}: version {version}, {new} new, {changed} changed, {gone} gone")
    }
}

/// One digest for files, in whatever order they came and however often.
pub(super) fn digest_of(files: &[ReadFile]) -> String {
    let each: BTreeSet<&str> = files.iter().map(|file| file.sha256.as_str()).collect();
    let mut digest = Sha256::new();
    for file in each {
        digest.update(file.as_bytes());
    }
    hex(&digest.finalize())
}

/// The version of a cell that holds.
pub(super) async fn held(connection: &mut PgConnection, cell: &Cell) -> Result<Option<Held>, LedgerFault> {
    let row = sqlx::query!(
        "SELECT s.id, s.version, s.said_version, s.invoiced, s.invoices FROM ledger.statement s
         WHERE s.kind = $1 AND s.source = $2 AND s.at = $3::text::timestamptz AND s.retracts IS NULL
           AND NOT EXISTS (SELECT FROM ledger.statement r WHERE r.retracts = s.id)
         ORDER BY s.version DESC LIMIT 1",
        cell.kind.as_str(),
        cell.source,
        cell.from.to_rfc3339()
    );
    let row = row.fetch_optional(connection).await.map_err(LedgerFault::during("read which version holds"))?;
    Ok(row.map(|row| Held {
        id: row.id,
        version: row.version,
        said_version: row.said_version,
        invoiced: row.invoiced,
        invoices: row.invoices,
    }))
}

/// The number of a cell's next version.
pub(super) async fn next_version(connection: &mut PgConnection, cell: &Cell) -> Result<i32, LedgerFault> {
    let query = sqlx::query_scalar!(
        r#"SELECT coalesce(max(version), 0) + 1 AS "next!" FROM ledger.statement WHERE kind = $1 AND source = $2 AND at = $3::text::timestamptz"#,
        cell.kind.as_str(),
        cell.source,
        cell.from.to_rfc3339()
    );
    query.fetch_one(connection).await.map_err(LedgerFault::during("number the version"))
}

/// The id of a version.
pub(super) fn id_of(cell: &Cell, version: i32) -> Uuid {
    derive_uuid(&["statement", cell.kind.as_str(), &cell.source, &cell.from.0.to_string(), &version.to_string()])
}

/// Refuses a period that has not begun: whoever reads a date wrongly, as day and month exchanged, lands there. A day is let pass, for clocks and time zones.
pub(super) async fn refuse_what_has_not_begun(connection: &mut PgConnection, cell: &Cell, checks: &mut Checks) -> Result<(), ImportFault> {
    let ahead = sqlx::query_scalar("SELECT $1::timestamptz > now() + interval '1 day'").bind(cell.from.to_rfc3339());
    if !ahead.fetch_one(connection).await.map_err(LedgerFault::during("ask what day it is"))? {
        return Ok(());
    }
    checks.refuse(Check::BeyondReason, || {
        format!("the {} of {} is about {}, which has not begun: is the date right?", cell.kind.as_str(), cell.source, cell.from.to_date())
    })
}

/// Refuses files that were a version of the period before, and that another version has replaced since: most likely they were taken from the wrong folder. Asked only once they say
/// something else than what holds.
pub(super) async fn refuse_what_was_replaced(
    connection: &mut PgConnection,
    (cell, files): (&Cell, &[ReadFile]),
    holds: Option<&Held>,
    checks: &mut Checks,
) -> Result<(), ImportFault> {
    let Some(holds) = holds else { return Ok(()) };
    let sql = "SELECT max(s.version) FROM ledger.statement s
               WHERE s.kind = $1 AND s.source = $2 AND s.at = $3::text::timestamptz AND s.retracts IS NULL AND s.digest = $4
                 AND NOT EXISTS (SELECT FROM ledger.statement r WHERE r.retracts = s.id)
                 AND s.digest <> (SELECT h.digest FROM ledger.statement h WHERE h.id = $5)";
    let query = sqlx::query_scalar::<_, Option<i32>>(sql).bind(cell.kind.as_str()).bind(&cell.source).bind(cell.from.to_rfc3339());
    let before = query.bind(digest_of(files)).bind(holds.id).fetch_one(connection).await;
    match before.map_err(LedgerFault::during("ask whether these files were taken before"))? {
        Some(version) => checks.refuse(Check::OlderVersion, || {
            format!(
                "these files were version {version} of the {} of {} from {}, and version {}, which holds, has replaced it: is there a newer file?",
                cell.kind.as_str(),
                cell.source,
                cell.from.to_date(),
                holds.version
            )
        }),
        None => Ok(()),
    }
}

/// Puts a version on record, with its files and what they were read with; the digest is of the data alone.
pub(super) async fn record(connection: &mut PgConnection, new: &New<'_>, version: i32, checks: &Checks) -> Result<Uuid, LedgerFault> {
    let id = id_of(new.cell, version);
    let files = checks.files_on_record(new.files);
    let row = json!({
        "id": id, "at": new.cell.from.to_rfc3339(), "kind": new.cell.kind.as_str(), "source": new.cell.source, "until": new.cell.until.to_rfc3339(),
        "version": version, "said_version": new.said_version, "files": files, "digest": digest_of(new.files), "lines": new.lines,
        "total": new.total.to_string(), "invoiced": new.invoiced, "invoices": new.invoices, "accepted": checks.overruled(), "taken_by": taken_by(connection).await?,
    });
    insert(connection, STATEMENT, &[row]).await?;
    Ok(id)
}

/// Puts on record that a version is retracted, and why.
pub(super) async fn record_retraction(
    connection: &mut PgConnection,
    cell: &Cell,
    (retracted, reason): (Uuid, &str),
    version: i32,
) -> Result<Uuid, LedgerFault> {
    let id = id_of(cell, version);
    let row = json!({
        "id": id, "at": cell.from.to_rfc3339(), "kind": cell.kind.as_str(), "source": cell.source, "until": cell.until.to_rfc3339(),
        "version": version, "retracts": retracted, "files": [], "digest": "", "lines": 0, "total": "0", "invoiced": false, "accepted": [],
        "taken_by": taken_by(connection).await?, "reason": reason,
    });
    insert(connection, STATEMENT, &[row]).await?;
    Ok(id)
}
