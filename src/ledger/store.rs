//! Writing to the ledger: the `Ledger` port on Postgres.
//!
//! Decides: that a write is one transaction, harmless to repeat, and short; that partitions of the months it touches exist.
//! Does not: wait for Postgres (records stay in the outbox) or retry.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;
use sqlx::postgres::{PgPool, PgPoolOptions};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use uuid::Uuid;

use super::rows::{Row, Rows, Table, Twice, month_of};
use crate::core::market::Quote;
use crate::core::record::LedgerRecord;
use crate::ports::{Ledger, LedgerUnavailable};

/// How long one write may take, connecting included.
const WRITE_LIMIT: Duration = Duration::from_secs(3);
/// Rows of one statement: keeps a single message to the server below some ten megabytes.
const ROWS_AT_ONCE: usize = 2_000;

/// The ledger could not be used.
#[derive(Debug, thiserror::Error)]
pub enum LedgerFault {
    /// The address cannot be read.
    #[error("the database address is not one Postgres understands: {0}; expected postgres://user:password@host:5432/database")]
    BadUrl(#[source] sqlx::Error),
    /// Postgres refused, or did not answer.
    #[error("{what}: {cause}")]
    Database {
        /// What was tried.
        what: &'static str,
        /// What Postgres or the network said.
        #[source]
        cause: sqlx::Error,
    },
    /// A row holds a word of a closed list that this version does not know. It is never read as another.
    #[error("{table}, row {row}: {column} is {word:?}, which this lowtide does not know; a newer one may have written it: update this one")]
    UnknownWord {
        /// The table.
        table: &'static str,
        /// The row's id, or what it stands for.
        row: String,
        /// The column.
        column: &'static str,
        /// What is there.
        word: String,
    },
    /// Nothing happened in time.
    #[error("Postgres did not answer within {} s", .0.as_secs())]
    TimedOut(Duration),
}

/// What is said before the words of a server whose schema an older version made: records wait in the outbox until it is brought up to date.
const OLD_SCHEMA: &str = "the ledger's schema is older than this lowtide, run `lowtide ledger migrate` (or the chart's migration job): ";
/// SQLSTATE: undefined column, undefined function, undefined table, invalid schema name.
const UNDEFINED: [&str; 4] = ["42703", "42883", "42P01", "3F000"];

impl LedgerFault {
    /// Postgres does not know what this version writes.
    pub fn is_old_schema(&self) -> bool {
        let LedgerFault::Database { cause: sqlx::Error::Database(fault), .. } = self else { return false };
        fault.code().is_some_and(|code| UNDEFINED.contains(&&*code))
    }

    /// For `map_err`: names what was tried.
    pub fn during(what: &'static str) -> impl FnOnce(sqlx::Error) -> LedgerFault {
        move |cause| LedgerFault::Database { what, cause }
    }

    /// Reads a word of a closed list that stands in `column` of `row` in `table`.
    ///
    /// # Errors
    /// [`LedgerFault::UnknownWord`].
    pub fn read_word<T: serde::de::DeserializeOwned + serde::Serialize>(
        word: &str,
        table: &'static str,
        column: &'static str,
        row: impl ToString,
    ) -> Result<T, LedgerFault> {
        let read = serde_json::from_value(serde_json::Value::String(word.to_owned())).ok();
        // Some lists are open where Kubernetes objects are read; money is not counted by a word that stands for others.
        let known = read.filter(|value| crate::core::record::code_of(value) == word);
        known.ok_or_else(|| LedgerFault::UnknownWord { table, row: row.to_string(), column, word: word.to_owned() })
    }
}

/// The ledger in Postgres, as its writers use it.
#[derive(Debug)]
pub struct PgLedger {
    pool: PgPool,
    /// Months whose partitions were made or found, as `2026-07-01`.
    months: Mutex<BTreeSet<String>>,
    /// A write that takes longer is given up: its records stay in the outbox.
    patience: Duration,
}

impl PgLedger {
    /// A ledger that connects when it is first written to: Postgres may be absent now. Needs a tokio runtime.
    ///
    /// # Errors
    /// [`LedgerFault::BadUrl`] when `url` cannot be read.
    pub fn connect_lazy(url: &str) -> Result<Self, LedgerFault> {
        Self::with_patience(url, WRITE_LIMIT)
    }

    /// As [`PgLedger::connect_lazy`], for writes that may take as long as `patience`: a batch job, or a Postgres that much else is asked of.
    ///
    /// # Errors
    /// [`LedgerFault::BadUrl`] when `url` cannot be read.
    pub fn with_patience(url: &str, patience: Duration) -> Result<Self, LedgerFault> {
        let options = PgPoolOptions::new().max_connections(4).acquire_timeout(patience);
        Ok(PgLedger { pool: options.connect_lazy_with(super::address::options(url)?), months: Mutex::default(), patience })
    }

    async fn in_time(&self, write: impl Future<Output = Result<(), LedgerFault>>) -> Result<(), LedgerUnavailable> {
        let outcome = tokio::time::timeout(self.patience, write).await.unwrap_or(Err(LedgerFault::TimedOut(self.patience)));
        outcome.map_err(|fault| LedgerUnavailable { message: format!("{}{fault}", if fault.is_old_schema() { OLD_SCHEMA } else { "" }) })
    }

    /// Records come twice only after a crash or a lost answer, so that is found out and not asked.
    async fn write_records(&self, records: &[LedgerRecord]) -> Result<(), LedgerFault> {
        match self.write_rows(&Rows::of(records), Twice::Refused).await {
            Err(LedgerFault::Database { cause: sqlx::Error::Database(fault), .. }) if fault.is_unique_violation() => {
                let written = self.written_decisions(records).await?;
                let is_new = |record: &&LedgerRecord| !matches!(record, LedgerRecord::Decision(d) if written.contains(&d.id.0));
                self.write_rows(&Rows::of(records.iter().filter(is_new)), Twice::LeftOut).await
            }
            outcome => outcome,
        }
    }

    /// The decisions among `records` that are there already. Their refused offers went in with them.
    async fn written_decisions(&self, records: &[LedgerRecord]) -> Result<BTreeSet<Uuid>, LedgerFault> {
        let decisions = || records.iter().filter_map(|record| if let LedgerRecord::Decision(d) = record { Some(d) } else { None });
        let ids: Vec<Uuid> = decisions().map(|d| d.id.0).collect();
        let times = || decisions().map(|d| d.decided_at);
        let (Some(first), Some(last)) = (times().min(), times().max()) else { return Ok(BTreeSet::new()) };
        let query = sqlx::query_scalar!(
            "SELECT id FROM ledger.decision WHERE id = ANY($1) AND at BETWEEN $2::text::timestamptz AND $3::text::timestamptz",
            &ids,
            first.to_rfc3339(),
            last.to_rfc3339()
        );
        let found = query.fetch_all(&self.pool).await.map_err(LedgerFault::during("ask which decisions are there already"))?;
        Ok(found.into_iter().collect())
    }

    async fn write_rows(&self, rows: &Rows, twice: Twice) -> Result<(), LedgerFault> {
        self.ensure_months(&rows.months()).await?;
        let mut transaction = self.pool.begin().await.map_err(LedgerFault::during("begin a transaction"))?;
        for (table, rows) in &rows.copied {
            copy(&mut transaction, *table, Row::lines(rows)).await.map_err(LedgerFault::during("copy rows"))?;
        }
        for (table, rows) in &rows.inserted {
            for chunk in rows.chunks(ROWS_AT_ONCE) {
                insert_json(&mut transaction, *table, Row::array(chunk), twice).await?;
            }
        }
        transaction.commit().await.map_err(LedgerFault::during("commit"))
    }

    async fn ensure_months(&self, months: &BTreeSet<&String>) -> Result<(), LedgerFault> {
        let known = self.months.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for &month in months.iter().filter(|month| !known.contains(**month)) {
            let mut connection = self.pool.acquire().await.map_err(LedgerFault::during("connect to Postgres"))?;
            if ensure_month(&mut connection, month).await? {
                self.months.lock().unwrap_or_else(PoisonError::into_inner).insert(month.clone());
            }
        }
        Ok(())
    }
}

/// Makes the partitions of a month, given by its first day; false when somebody holds a lock, and its rows go to the default partition.
pub(super) async fn ensure_month(connection: &mut PgConnection, month: &str) -> Result<bool, LedgerFault> {
    // In a transaction of its own, or a savepoint: a lock that cannot be had must not end what the caller does.
    let mut inner = connection.begin().await.map_err(LedgerFault::during("begin a transaction"))?;
    let made = sqlx::query!("SELECT ledger.ensure_month($1::text::date)", month).fetch_one(&mut *inner).await;
    match made {
        Ok(_) => inner.commit().await.map(|()| true).map_err(LedgerFault::during("commit the month's partitions")),
        Err(sqlx::Error::Database(fault)) if fault.code().as_deref() == Some("55P03") => {
            tracing::warn!(%month, "the month's partitions could not be made now; its rows go to the default partition");
            inner.rollback().await.map(|()| false).map_err(LedgerFault::during("roll back"))
        }
        Err(cause) => Err(LedgerFault::Database { what: "make the month's partitions", cause }),
    }
}

/// Makes the partitions of the months that `rows` go to.
pub(super) async fn ensure_months_of(connection: &mut PgConnection, rows: impl IntoIterator<Item = &Value>) -> Result<(), LedgerFault> {
    let months: BTreeSet<String> = rows.into_iter().filter_map(|row| row["at"].as_str()).map(month_of).collect();
    for month in months {
        ensure_month(connection, &month).await?;
    }
    Ok(())
}

/// Adds rows to a table; those that are there already are left out.
pub(super) async fn insert(connection: &mut PgConnection, table: Table, rows: &[Value]) -> Result<(), LedgerFault> {
    let rows = serde_json::to_string(rows).map_err(|cause| LedgerFault::during("write rows as JSON")(sqlx::Error::Encode(cause.into())))?;
    insert_json(connection, table, rows, Twice::LeftOut).await
}

/// Ends a transaction by what came of the work in it: committed when it went well, else rolled back before anything is said. A transaction that is only dropped
/// ends with the next statement on its connection, and holds its locks until then.
pub(super) async fn end<T, E: From<LedgerFault>>(
    transaction: sqlx::Transaction<'_, sqlx::Postgres>,
    outcome: Result<T, E>,
    commit: &'static str,
) -> Result<T, E> {
    match outcome {
        Ok(done) => transaction.commit().await.map(|()| done).map_err(|cause| LedgerFault::Database { what: commit, cause }.into()),
        Err(fault) => {
            // Where the server is gone as well, the first fault is the one that matters.
            let _ = transaction.rollback().await;
            Err(fault)
        }
    }
}

async fn copy(connection: &mut PgConnection, table: Table, lines: String) -> Result<(), sqlx::Error> {
    let mut copying = connection.copy_in_raw(&table.copy()).await?;
    copying.send(lines.into_bytes()).await?;
    copying.finish().await?;
    Ok(())
}

/// As [`insert`], rows given as one JSON array.
async fn insert_json(connection: &mut PgConnection, table: Table, rows: String, twice: Twice) -> Result<(), LedgerFault> {
    sqlx::query(AssertSqlSafe(table.insert(twice))).bind(rows).execute(connection).await.map_err(LedgerFault::during("insert rows"))?;
    Ok(())
}

impl Ledger for PgLedger {
    async fn write(&self, records: &[LedgerRecord]) -> Result<(), LedgerUnavailable> {
        self.in_time(self.write_records(records)).await
    }

    /// EC2 forgets prices after 90 days; the ledger does not. After a start most of them are there already.
    async fn write_prices(&self, quotes: &[Quote]) -> Result<(), LedgerUnavailable> {
        self.in_time(self.write_rows(&Rows::of_quotes(quotes), Twice::LeftOut)).await
    }
}
