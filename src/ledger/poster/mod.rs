//! Posting: what settled since the last time, as rows that are never edited, and the rollups over them.
//!
//! Decides: which machines are looked at (those with news and those whose next hour is over) and in what portions.
//! Does not: compute a row (see [`crate::core::accounting::posting`]).
//!
//! Harmless to run twice or from two places: one at a time posts, ids are derived, and what is there already is not posted again.

mod facts;
mod known;
mod said;
mod write;

pub(super) use write::{WORKLOAD_VERSION, owner_row};

use sqlx::{Connection, PgConnection};

use super::store::{LedgerFault, end};
use super::turns::{self, Turn};
use crate::core::accounting::statement::Statement;
use crate::core::accounting::{posting, statement};
use crate::core::units::ids::Uid;
use crate::core::units::time::Timestamp;

/// Entries of the queue, and machines, that one transaction takes.
const AT_ONCE: i64 = 500;
/// Keys of rollups that one transaction rebuilds.
const KEYS_AT_ONCE: i32 = 2_000;

/// What a run of posting did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Posted {
    /// Machines that were looked at.
    pub machines: usize,
    /// Rows that were added.
    pub rows: usize,
    /// Sums that were rebuilt: days times owners.
    pub rollups: usize,
}

/// A machine with what is known of it, posted included.
struct Book {
    machine: Uid,
    statement: Statement,
    rows: Vec<posting::Posting>,
    /// Exact running totals after the settled hours, micro-dollars per hour times milliseconds.
    totals: (i128, i128),
    /// When its next hour is settled.
    due_at: Option<Timestamp>,
    true_ups: Vec<known::TrueUp>,
}

/// Posts everything that is settled at `now` and not posted, and rebuilds the rollups it touches.
///
/// # Errors
/// [`LedgerFault`]; what was posted until then stays.
pub async fn post(connection: &mut PgConnection, now: Timestamp) -> Result<Posted, LedgerFault> {
    let mut done = Posted::default();
    loop {
        let (machines, rows, more) = post_some(connection, now).await?;
        done.machines += machines;
        done.rows += rows;
        if !more {
            break;
        }
    }
    loop {
        let keys = sqlx::query_scalar!(r#"SELECT ledger.rebuild_rollups($1) AS "keys!""#, KEYS_AT_ONCE)
            .fetch_one(&mut *connection)
            .await
            .map_err(LedgerFault::during("rebuild the rollups"))?;
        done.rollups += usize::try_from(keys).unwrap_or_default();
        if keys == 0 {
            return Ok(done);
        }
    }
}

/// The machines among these whose postings do not follow from what is known of them at `now`.
///
/// # Errors
/// [`LedgerFault`] when Postgres refuses or does not answer.
pub(super) async fn that_differ(connection: &mut PgConnection, machines: &[String], now: Timestamp) -> Result<Vec<String>, LedgerFault> {
    let (loaded, _) = facts::load(connection, machines, now).await?;
    let there = known::load(connection, machines).await?;
    let nothing = Default::default();
    let differs = |(machine, facts): &(&Uid, &statement::MachineFacts)| {
        let posted = there.posted.get(*machine).unwrap_or(&nothing);
        !posting::missing(machine, &statement::statement(facts, now), posted, there.archived_until).is_empty()
    };
    Ok(loaded.iter().filter(differs).map(|(machine, _)| machine.as_str().to_owned()).collect())
}

/// One transaction's worth. Says whether there may be more.
async fn post_some(connection: &mut PgConnection, now: Timestamp) -> Result<(usize, usize, bool), LedgerFault> {
    let mut transaction = connection.begin().await.map_err(LedgerFault::during("begin a transaction"))?;
    let posted = post_portion(&mut transaction, now).await;
    end(transaction, posted, "commit the postings").await
}

async fn post_portion(connection: &mut PgConnection, now: Timestamp) -> Result<(usize, usize, bool), LedgerFault> {
    turns::take(connection, Turn::Post).await?;
    let portion = facts::take(connection, now, AT_ONCE).await?;
    if portion.is_empty() {
        return Ok((0, 0, false));
    }
    let (loaded, owners) = facts::load(connection, &portion.machines, now).await?;
    let there = known::load(connection, &portion.machines).await?;
    let mut books = Vec::new();
    for (machine, facts) in &loaded {
        let statement = statement::statement(facts, now);
        let nothing = Default::default();
        let posted = there.posted.get(machine).unwrap_or(&nothing);
        let rows = posting::missing(machine, &statement, posted, there.archived_until);
        let (cost, b0) = facts.interval.exact_totals(statement.hours);
        let next = facts.interval.from + crate::core::units::time::Millis::from_hours(i64::from(statement.hours) + 1) + statement::SETTLING;
        books.push(Book {
            machine: machine.clone(),
            totals: (cost.0, b0.0),
            due_at: (!statement.complete).then_some(next),
            true_ups: there.new_true_ups(machine, &facts.interval, &statement),
            rows,
            statement,
        });
    }
    let rows = books.iter().map(|book| book.rows.len()).sum();
    write::owners(connection, owners.begun()).await?;
    write::books(connection, &books).await?;
    write::done_with(connection, &portion.taken).await?;
    Ok((books.len(), rows, true))
}
