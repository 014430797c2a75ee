//! Making and updating the ledger's schema, roles and partitions.
//!
//! Decides: the order: tables (migrations, each once), then views and grants (again each time), then partitions of the months to come.
//! Does not: change or drop rows, ever.

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::{Connection, PgConnection};

use super::retry::with_retries;
use super::store::LedgerFault;

static MIGRATIONS: Migrator = sqlx::migrate!("src/ledger/migrations");

/// Partitions are made for this month and this many after it.
const MONTHS_AHEAD: i32 = 3;
/// The oldest server whose partitioning and `pg_current_xact_id` the schema relies on: `server_version_num`.
pub const LEAST_VERSION: i32 = 150_000;

/// The schema could not be made or updated.
#[derive(Debug, thiserror::Error)]
pub enum MigrateFault {
    /// Postgres could not be used.
    #[error(transparent)]
    Ledger(#[from] LedgerFault),
    /// The server is too old.
    #[error("the server is Postgres {found}; the ledger needs 15 or newer")]
    TooOld {
        /// Its version.
        found: String,
    },
    /// A newer lowtide has been here.
    #[error(
        "the ledger is newer than this lowtide: migration {version} was applied, and the newest known here is {newest}. Use that lowtide; this \
         one goes on writing to it, and changes nothing of it"
    )]
    Newer {
        /// The migration that is not known.
        version: i64,
        /// The newest that is.
        newest: i64,
    },
    /// A migration failed.
    #[error("migrate the ledger's tables: {0}")]
    Migration(#[source] MigrateError),
}

/// Brings the database at `url` to this version's schema; harmless when it is there. The user owns the schema from then on, must be
/// able to create schemas in the database and, the first time on a server, roles.
///
/// # Errors
/// Says which step failed; steps before it stay.
pub async fn migrate(url: &str) -> Result<(), MigrateFault> {
    let mut connection = connect(url).await?;
    let server =
        sqlx::query!(r#"SELECT current_setting('server_version_num')::int AS "number!", current_setting('server_version') AS "version!""#);
    let server = server.fetch_one(&mut connection).await.map_err(LedgerFault::during("ask for the server's version"))?;
    if server.number < LEAST_VERSION {
        return Err(MigrateFault::TooOld { found: server.version });
    }
    let mut migrator = Migrator { migrations: MIGRATIONS.migrations.clone(), ..Migrator::DEFAULT };
    migrator.dangerous_set_table_name("ledger.applied_migration");
    migrator.create_schema("ledger");
    migrator.run(&mut connection).await.map_err(|fault| match fault {
        MigrateError::VersionMissing(version) => MigrateFault::Newer { version, newest: newest() },
        fault => MigrateFault::Migration(fault),
    })?;

    let mut transaction = connection.begin().await.map_err(LedgerFault::during("begin a transaction"))?;
    let steps = [
        ("take turns", "SELECT pg_advisory_xact_lock(7239462802)"),
        ("quieten notices", "SET LOCAL client_min_messages = warning"),
        ("make the views (a view of yours that uses one of them must be dropped first)", include_str!("views/machines.sql")),
        ("make the views of rules", include_str!("views/rules.sql")),
        ("make the views of shares", include_str!("views/shares.sql")),
        ("make the views of decisions", include_str!("views/decisions.sql")),
        ("make the views of units", include_str!("views/units.sql")),
        ("make the view of GPU use", include_str!("views/gpu_use.sql")),
        ("make the view of recommendations", include_str!("views/recommendations.sql")),
        ("make the view of variance", include_str!("views/variance.sql")),
        ("make the view of trust", include_str!("views/trust.sql")),
        ("make the FOCUS view", include_str!("views/focus.sql")),
        ("make the functions of seals", include_str!("views/seals.sql")),
        ("describe the columns", include_str!("views/comments.sql")),
        ("make the roles and grants (needs CREATEROLE unless the roles exist)", include_str!("views/grants.sql")),
    ];
    for (what, sql) in steps {
        sqlx::raw_sql(sql).execute(&mut *transaction).await.map_err(LedgerFault::during(what))?;
    }
    // Definitions are written down by their full names.
    sqlx::raw_sql("SET LOCAL search_path = pg_catalog")
        .execute(&mut *transaction)
        .await
        .map_err(LedgerFault::during("prepare the record"))?;
    super::derivation::put_on_record(&mut transaction).await?;
    transaction.commit().await.map_err(LedgerFault::during("commit the views and grants"))?;
    make_partitions(&mut connection).await
}

/// The newest migration that this version knows.
pub fn newest() -> i64 {
    MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or_default()
}

async fn make_partitions(connection: &mut PgConnection) -> Result<(), MigrateFault> {
    let made = sqlx::query!(
        "SELECT sum(ledger.ensure_month((date_trunc('month', now() AT TIME ZONE 'UTC') + make_interval(months => m))::date))
         FROM generate_series(0, $1::int) AS m",
        MONTHS_AHEAD
    );
    made.fetch_one(connection).await.map_err(LedgerFault::during("make partitions ahead of time"))?;
    Ok(())
}

/// A connection of its own, for commands; asks again for a while when Postgres does not answer.
///
/// # Errors
/// [`LedgerFault`] when it never did, or refuses us.
pub async fn connect(url: &str) -> Result<PgConnection, LedgerFault> {
    let lasting = |fault: &sqlx::Error| !matches!(fault, sqlx::Error::Io(_));
    let address = super::address::options(url)?;
    let mut connection = with_retries(|| PgConnection::connect_with(&address), lasting).await.map_err(|cause| match cause {
        sqlx::Error::Configuration(_) => LedgerFault::BadUrl(cause),
        cause => LedgerFault::Database { what: "connect to Postgres", cause },
    })?;
    // Compiling the plans of the views takes seconds, running them milliseconds.
    sqlx::raw_sql("SET jit = off; SET work_mem = '32MB'")
        .execute(&mut connection)
        .await
        .map_err(LedgerFault::during("prepare the session"))?;
    Ok(connection)
}
