//! What comes from outside: the spot data feed, the Cost and Usage Report, usage, revenue and other costs.
//!
//! Decides: that a command is taken whole or not at all, that taking a file twice changes nothing, and that a newer version of a period replaces the older
//! whole. What is there is never edited: rows carry the difference.
//! Does not: post machines' costs (see [`super::poster`]).

mod bill;
mod bill_checks;
mod checks;
mod costs;
mod cur;
mod delivery;
mod entries;
mod feed;
mod focus_in;
mod gateways;
mod once;
mod rates;
mod reading;
mod retract;
mod revenue;
mod staging;
mod statement;
mod table;
mod tags;
mod usage;
mod vendor_usage;

pub use checks::{Check, Checks};
pub use delivery::{Part, parts_of};
pub use focus_in::Mapping;
pub use rates::Rates;
pub use reading::ReadFile;
pub use retract::{Retraction, dry_run_of_retraction, retract};
pub use statement::{Cell, Changes, Kind, Outcome};
pub(super) use usage::micro_units;
pub use usage::{UsageHour, store_usage};
pub use vendor_usage::Projects;

use std::path::PathBuf;

use sqlx::{Connection, PgConnection, Row};

use super::poster::{self, Posted};
use super::store::{LedgerFault, end};
use crate::core::units::time::Timestamp;

/// What files are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format<'a> {
    /// A Cost and Usage Report.
    Cur,
    /// The spot data feed.
    Feed,
    /// Usage by hour and workload.
    Usage,
    /// Usage of AI vendors by model, with whose it is.
    VendorUsage(&'a Projects),
    /// Revenue by day or month and workload.
    Revenue,
    /// Other costs by day or month and item.
    Costs,
    /// Other costs as FOCUS, with their tags for our labels.
    Focus(&'a Mapping),
}

/// How files are taken.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// What a person accepts that would be refused.
    pub checks: Checks,
    /// The files of a report without a manifest are all there are.
    pub complete: bool,
    /// What the source is called, where the files do not say.
    pub source: Option<String>,
    /// Dollars for other currencies.
    pub rates: Rates,
}

/// What was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// The statements, by source and period.
    pub statements: Vec<Outcome>,
    /// Rows left out, wholly or in part, because they are about machines of ours, which the bill has.
    pub left_out: usize,
    /// What was posted after it.
    pub posted: Posted,
    /// What the statements changed, by team: name and dollars. What they were about is posted.
    pub by_team: Vec<(String, String)>,
    /// What they changed of usage and revenue, which are not posted.
    pub by_workload: Vec<OfWorkload>,
}

/// What statements changed of what a workload produced or earned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OfWorkload {
    /// The team by the workload's labels as they were then.
    pub team: String,
    /// Namespace and name.
    pub workload: String,
    /// Of what: a unit, or `revenue_usd`.
    pub of: String,
    /// By how much.
    pub change: String,
}

/// A statement could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum ImportFault {
    /// It cannot be read.
    #[error("{}: {cause}; nothing was imported", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// What the system said.
        cause: std::io::Error,
    },
    /// It is damaged.
    #[error("{}: the file is damaged or was cut off ({cause}): fetch it again; nothing was imported", path.display())]
    Damaged {
        /// Which.
        path: PathBuf,
        /// How.
        cause: String,
    },
    /// It is not what it should be.
    #[error("{}, line {line}: {fault}; nothing was imported", path.display())]
    Malformed {
        /// Which.
        path: PathBuf,
        /// Where; 1 is the first.
        line: u64,
        /// Expected and found.
        fault: String,
    },
    /// Parts are missing.
    #[error("{0}; nothing was imported")]
    Incomplete(String),
    /// A statement cannot be retracted.
    #[error("{0}; nothing was retracted")]
    NotRetracted(String),
    /// It is most likely wrong.
    #[error("{sentence}; nothing was imported (if it is correct nevertheless: --accept {})", check.name())]
    Refused {
        /// By which check.
        check: Check,
        /// What was found.
        sentence: String,
    },
    /// The ledger could not be used.
    #[error(transparent)]
    Ledger(#[from] LedgerFault),
}

/// How many rows were new, were a change, and were already there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Taken {
    /// Not there before.
    pub new: usize,
    /// Of what was there, other values.
    pub changed: usize,
    /// There with the same values.
    pub same: usize,
}

impl std::fmt::Display for Taken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} new, {} changed, {} already there", self.new, self.changed, self.same)
    }
}

/// Takes files and posts what they change, all or nothing; a folder stands for the files in it.
///
/// # Errors
/// [`ImportFault`]; then nothing was imported.
pub async fn import(
    connection: &mut PgConnection,
    format: Format<'_>,
    paths: &[PathBuf],
    options: Options,
    now: Timestamp,
) -> Result<Imported, ImportFault> {
    let mut transaction = connection.begin().await.map_err(LedgerFault::during("begin a transaction"))?;
    let imported = take(&mut transaction, format, paths, options, now).await;
    end(transaction, imported, "commit the statements").await
}

/// As [`import`], and then leaves everything as it was: what would change.
///
/// # Errors
/// [`ImportFault`].
pub async fn dry_run(
    connection: &mut PgConnection,
    format: Format<'_>,
    paths: &[PathBuf],
    options: Options,
    now: Timestamp,
) -> Result<Imported, ImportFault> {
    let mut transaction = connection.begin().await.map_err(LedgerFault::during("begin a transaction"))?;
    let imported = take(&mut transaction, format, paths, options, now).await;
    transaction.rollback().await.map_err(LedgerFault::during("leave everything as it was"))?;
    imported
}

async fn take(
    connection: &mut PgConnection,
    format: Format<'_>,
    paths: &[PathBuf],
    mut options: Options,
    now: Timestamp,
) -> Result<Imported, ImportFault> {
    // What waits is posted first: by team, only what the files change is counted.
    poster::post(connection, now).await?;
    options.checks.read_with("rates", options.rates.file.clone());
    match format {
        Format::VendorUsage(projects) => {
            options.checks.data_are("vendor-usage");
            options.checks.read_with("projects", projects.file.clone());
        }
        Format::Focus(mapping) => options.checks.read_with("mapping", mapping.file.clone()),
        _ => {}
    }
    let mut left_out = 0;
    let statements = match format {
        Format::Cur => bill::take(connection, paths, &mut options).await?,
        Format::Feed => feed::take(connection, paths, &mut options).await?,
        Format::Usage => usage::take(connection, paths, &mut options).await?,
        Format::VendorUsage(projects) => vendor_usage::take(connection, paths, projects, &mut options).await?,
        Format::Revenue => revenue::take(connection, paths, &mut options).await?,
        Format::Costs => costs::take(connection, paths, &mut options).await?,
        Format::Focus(mapping) => {
            let (statements, machines) = focus_in::take(connection, paths, mapping, &mut options).await?;
            left_out = machines;
            statements
        }
    };
    let posted = poster::post(connection, now).await?;
    let by_team = by_team(connection, &statements).await?;
    let by_workload = by_workload(connection, &statements).await?;
    Ok(Imported { statements, left_out, posted, by_team, by_workload })
}

/// The statements that were not there already.
fn new_ones(statements: &[Outcome]) -> Vec<uuid::Uuid> {
    statements.iter().filter(|statement| !statement.same).map(|statement| statement.id).collect()
}

/// What rows of usage and revenue changed whose cause is one of the statements.
async fn by_workload(connection: &mut PgConnection, statements: &[Outcome]) -> Result<Vec<OfWorkload>, LedgerFault> {
    let sql = "SELECT coalesce(v.team, '(untagged)') AS team, r.ns || '/' || r.name AS workload, r.of, trim_scale(sum(r.change))::text AS change
               FROM (SELECT at, workload_namespace AS ns, workload_name AS name, 'revenue_usd' AS of, revenue_usd AS change FROM ledger.revenue_day
                     WHERE statement = ANY($1)
                     UNION ALL SELECT at, workload_namespace, workload_name, unit, quantity FROM ledger.usage_hour WHERE statement = ANY($1)) r
               LEFT JOIN LATERAL (SELECT w.team FROM ledger.workload_version w WHERE w.workload_namespace = r.ns AND w.workload_name = r.name
                                  ORDER BY (w.workload_kind = 'External'), (w.at > r.at), abs(extract(epoch FROM w.at - r.at)) LIMIT 1) v ON true
               GROUP BY 1, 2, 3 HAVING sum(r.change) <> 0 ORDER BY 1, 2, 3";
    let rows = sqlx::query(sql).bind(new_ones(statements)).fetch_all(connection).await;
    let rows = rows.map_err(LedgerFault::during("add up what changed of usage and revenue"))?;
    let of_row = |row: &sqlx::postgres::PgRow| OfWorkload {
        team: row.get("team"),
        workload: row.get("workload"),
        of: row.get("of"),
        change: row.get("change"),
    };
    Ok(rows.iter().map(of_row).collect())
}

/// What postings changed whose cause is one of the statements.
pub(super) async fn by_team(connection: &mut PgConnection, statements: &[Outcome]) -> Result<Vec<(String, String)>, LedgerFault> {
    by_team_of(connection, &new_ones(statements)).await
}

/// What postings of this transaction changed whose cause is one of these.
pub(super) async fn by_team_of(connection: &mut PgConnection, ids: &[uuid::Uuid]) -> Result<Vec<(String, String)>, LedgerFault> {
    let rows = sqlx::query!(
        r#"SELECT coalesce(w.team, '(untagged)') AS "team!", sum(p.cost_usd)::numeric(24,6)::text AS "usd!"
           FROM ledger.posting p LEFT JOIN ledger.workload_version w ON w.id = p.workload
           WHERE p.statement = ANY($1) AND p.xid = pg_current_xact_id()::text::bigint GROUP BY 1 HAVING sum(p.cost_usd) <> 0 ORDER BY 1"#,
        ids
    );
    let rows = rows.fetch_all(connection).await.map_err(LedgerFault::during("add up what changed"))?;
    Ok(rows.into_iter().map(|row| (row.team, row.usd)).collect())
}
