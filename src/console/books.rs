//! The ledger as pages read it: as a role that may only read, in sessions that can only read, and each answer kept for a while.
//!
//! Decides: how long an answer is good ([`FRESH`]), and that an older one is shown at once while a new one is read ([`STALE`]); pages say how old it is.
//! Does not: compute a figure (the ledger's reports and views do).

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgPool, PgPoolOptions};
use sqlx::{AssertSqlSafe, Column, PgConnection, Postgres, Row};

use crate::core::units::time::{Millis, Timestamp};
use crate::engine::wall_clock::WallClock;
use crate::ledger::plans::forecast::ForecastFault;
use crate::ledger::report::Report;
use crate::ledger::{LedgerFault, address};
use crate::ports::Clock;

/// The operator posts every minute: nothing is asked twice in this time.
const FRESH: Millis = Millis::from_secs(20);
/// Until then an answer is shown while the next one is read.
pub(super) const STALE: Millis = Millis::from_mins(10);
/// Answers that are kept; the oldest goes first.
const KEPT: usize = 500;
const CONNECTIONS: u32 = 4;
/// For a connection; then a page says that the ledger does not answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// A session that can change nothing, whatever its role may do, and waits for no answer without end.
const SESSION: &str =
    "SET default_transaction_read_only = on; SET statement_timeout = '20s'; SET jit = off; SET work_mem = '32MB'; SET TIME ZONE 'UTC'";

/// Why there is no figure.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BooksFault {
    #[error("This console has no ledger: start it with --database-url, as a role that may read it.")]
    None,
    #[error("The ledger does not answer now; the console's log says why.")]
    Ledger(#[from] LedgerFault),
    #[error("Nothing can be forecast yet: {0}.")]
    Forecast(ForecastFault),
}

impl From<ForecastFault> for BooksFault {
    fn from(fault: ForecastFault) -> Self {
        match fault {
            ForecastFault::Ledger(fault) => BooksFault::Ledger(fault),
            other => BooksFault::Forecast(other),
        }
    }
}

/// An answer, and when it was read.
pub(crate) struct Kept<T> {
    pub value: Arc<T>,
    pub read_at: Timestamp,
}

type Value = (Timestamp, Arc<dyn Any + Send + Sync>);

#[derive(Default)]
struct Entry {
    value: Mutex<Option<Value>>,
    /// Held by who reads it.
    reading: Arc<tokio::sync::Mutex<()>>,
}

impl Entry {
    fn current(&self) -> Option<Value> {
        self.value.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn put(&self, value: Arc<dyn Any + Send + Sync>) {
        *self.value.lock().unwrap_or_else(PoisonError::into_inner) = Some((WallClock.now(), value));
    }
}

/// The ledger, read.
pub(crate) struct Books {
    pool: Option<PgPool>,
    entries: Mutex<BTreeMap<String, Arc<Entry>>>,
}

impl Books {
    /// Connects when it is first asked: Postgres may be absent now.
    pub fn open(url: Option<&str>) -> Result<Books, LedgerFault> {
        let options = PgPoolOptions::new().max_connections(CONNECTIONS).acquire_timeout(PATIENCE).after_connect(|connection, _| {
            Box::pin(async move {
                sqlx::raw_sql(SESSION).execute(connection).await?;
                Ok(())
            })
        });
        let pool = url.map(|url| address::options(url).map(|to| options.connect_lazy_with(to))).transpose()?;
        Ok(Books { pool, entries: Mutex::default() })
    }

    async fn connection(&self) -> Result<PoolConnection<Postgres>, BooksFault> {
        let pool = self.pool.as_ref().ok_or(BooksFault::None)?;
        Ok(pool.acquire().await.map_err(LedgerFault::during("connect to Postgres"))?)
    }

    fn entry(&self, key: String) -> Arc<Entry> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.len() >= KEPT && !entries.contains_key(&key) {
            let oldest = entries.iter().map(|(key, entry)| (entry.current().map(|(at, _)| at), key.clone())).min();
            if let Some((_, oldest)) = oldest {
                entries.remove(&oldest);
            }
        }
        entries.entry(key).or_default().clone()
    }

    /// The answer of this name and these `parameters`, read unless it is known. What somebody may not see must be part of the key.
    pub async fn kept<T, F>(
        self: &Arc<Self>,
        (name, parameters): (&str, &str),
        read: impl FnOnce(PoolConnection<Postgres>) -> F + Send + 'static,
    ) -> Result<Kept<T>, BooksFault>
    where
        T: Send + Sync + 'static,
        F: Future<Output = Result<T, BooksFault>> + Send + 'static,
    {
        let entry = self.entry(format!("{name} {parameters}"));
        let good = |limit: Millis| {
            let (read_at, value) = entry.current()?;
            let value = value.downcast::<T>().ok()?;
            (WallClock.now().since(read_at) < limit).then_some(Kept { value, read_at })
        };
        if let Some(fresh) = good(FRESH) {
            return Ok(fresh);
        }
        if let Some(stale) = good(STALE) {
            if let Ok(reading) = Arc::clone(&entry.reading).try_lock_owned() {
                let (books, entry) = (Arc::clone(self), Arc::clone(&entry));
                tokio::spawn(async move {
                    let _reading = reading;
                    match books.read(read).await {
                        Ok(value) => entry.put(Arc::new(value)),
                        Err(fault) => log(&fault),
                    }
                });
            }
            return Ok(stale);
        }
        let _reading = entry.reading.lock().await;
        if let Some(fresh) = good(FRESH) {
            return Ok(fresh);
        }
        let value = Arc::new(self.read(read).await.inspect_err(log)?);
        entry.put(value.clone());
        Ok(Kept { value, read_at: WallClock.now() })
    }

    async fn read<T, F>(&self, read: impl FnOnce(PoolConnection<Postgres>) -> F) -> Result<T, BooksFault>
    where
        F: Future<Output = Result<T, BooksFault>>,
    {
        read(self.connection().await?).await
    }

    /// The rows of a statement whose columns are all text, kept.
    pub async fn rows(self: &Arc<Self>, name: &str, sql: String, values: Vec<Option<String>>) -> Result<Kept<Report>, BooksFault> {
        let parameters = serde_json::to_string(&values).unwrap_or_default();
        self.kept((name, &parameters), move |mut connection| async move { rows(&mut connection, sql, values).await }).await
    }
}

fn log(fault: &BooksFault) {
    if let BooksFault::Ledger(fault) = fault {
        tracing::warn!("a page has no figures: {fault}");
    }
}

async fn rows(connection: &mut PgConnection, sql: String, values: Vec<Option<String>>) -> Result<Report, BooksFault> {
    // Statements are the program's own; values are bound.
    let mut query = sqlx::query(AssertSqlSafe(sql));
    for value in values {
        query = query.bind(value);
    }
    let found = query.fetch_all(connection).await.map_err(LedgerFault::during("read a page's figures"))?;
    let columns = found.first().map_or_else(Vec::new, |row| row.columns().iter().map(|column| column.name().to_owned()).collect());
    let mut rows = Vec::with_capacity(found.len());
    for row in &found {
        let cells: Result<Vec<Option<String>>, sqlx::Error> = (0..row.columns().len()).map(|at| row.try_get(at)).collect();
        rows.push(cells.map_err(LedgerFault::during("read a page's figures"))?);
    }
    Ok(Report { sentence: String::new(), columns, rows })
}

#[cfg(test)]
#[cfg(feature = "lab")]
mod tests {
    use super::*;
    use crate::lab::postgres::PrivatePostgres;

    /// The login may be a superuser's: the session all the same changes nothing.
    #[tokio::test]
    async fn a_session_changes_nothing_whatever_its_login_may_do() {
        let postgres = PrivatePostgres::start_temporary().unwrap();
        let books = Books::open(Some(&postgres.url())).unwrap();
        let mut connection = books.connection().await.unwrap();
        let refused = sqlx::raw_sql("CREATE TABLE public.mine (it int)").execute(&mut *connection).await.unwrap_err().to_string();
        assert!(refused.contains("read-only transaction"), "{refused}");
        let limit: String = sqlx::query_scalar("SHOW statement_timeout").fetch_one(&mut *connection).await.unwrap();
        assert_eq!(limit, "20s");
    }
}
