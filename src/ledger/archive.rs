//! Old months leave the database as files, with their seals, and stay provable.
//!
//! Decides: which partitions may go (older than both the month that was named and what is to be kept, sealed, and about nothing that still
//! runs), and that none goes before its file has been read back and found the same.
//! Does not: remove a seal, or a sum of the rollups: reports of archived days go on.
//!
//! Runs as the owner of the ledger: nobody else may drop a partition.

use std::path::{Path, PathBuf};

use futures::TryStreamExt;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};
use uuid::Uuid;

use super::report::Month;
use super::rows::Table;
use super::seal::{Leaf, hex, merkle_of};
use super::store::{LedgerFault, end, insert};
use super::table_file::{Column, Format, Kind, TableFileFault, TableWriter, read_table};
use crate::core::units::ids::derive_uuid;

const ARCHIVED_MONTH: Table =
    Table { name: "archived_month", columns: "id, at, table_name, until, rows, row_ids, merkle_root, file_name, file_sha256, last_seal" };
/// Rows of one statement when a file is read back.
const ROWS_AT_ONCE: usize = 5_000;

/// A month could not be archived. What was archived before it stays archived; the month itself is untouched.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveFault {
    /// Postgres.
    #[error(transparent)]
    Ledger(#[from] LedgerFault),
    /// A file.
    #[error(transparent)]
    File(#[from] TableFileFault),
    /// The folder cannot be used.
    #[error("{}: {cause}", path.display())]
    Folder {
        /// Which.
        path: PathBuf,
        /// What the system said.
        cause: std::io::Error,
    },
    /// The month may not go yet.
    #[error("{table} of {month} cannot be archived yet: {why}")]
    TooEarly {
        /// The table.
        table: String,
        /// The month.
        month: String,
        /// What has to happen first.
        why: &'static str,
    },
    /// The file is not what the table holds.
    #[error("{} does not contain what {table} does: {fault}; nothing was dropped", path.display())]
    NotTheSame {
        /// The file.
        path: PathBuf,
        /// The table.
        table: String,
        /// The difference.
        fault: String,
    },
}

/// What is kept, in full calendar months before the current one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Everything but the offers that were refused.
    pub months: u32,
    /// The offers that were refused.
    pub candidate_months: u32,
}

impl Default for Retention {
    /// Seven years, and thirteen months.
    fn default() -> Self {
        Retention { months: 84, candidate_months: 13 }
    }
}

impl Retention {
    /// The first month of `table` that is kept, when it is `this` month now.
    fn first_kept(&self, table: &str, this: Month) -> Month {
        let months = if table == "candidate_set" { self.candidate_months } else { self.months };
        (0..months).fold(this, |month, _| month.previous())
    }
}

/// A month of a table that was archived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchivedMonth {
    /// The table.
    pub table: String,
    /// The month.
    pub month: Month,
    /// How many rows.
    pub rows: usize,
    /// The file.
    pub file: PathBuf,
}

/// Archives every month before `before` that is older than `retention` asks to keep, as of month `this`, into folder `to`.
///
/// # Errors
/// [`ArchiveFault`] at the first month that cannot go.
pub async fn archive(
    connection: &mut PgConnection,
    before: Month,
    this: Month,
    retention: Retention,
    to: &Path,
    format: Format,
) -> Result<Vec<ArchivedMonth>, ArchiveFault> {
    std::fs::create_dir_all(to).map_err(|cause| ArchiveFault::Folder { path: to.to_path_buf(), cause })?;
    // Exact texts of times.
    sqlx::raw_sql("SET timezone = 'UTC'; SET lock_timeout = '5s'")
        .execute(&mut *connection)
        .await
        .map_err(LedgerFault::during("prepare the session"))?;
    let mut archived = Vec::new();
    for (table, month) in partitions(connection).await? {
        if month < before && month < retention.first_kept(&table, this) {
            archived.push(one(connection, &table, month, to, format).await?);
        }
    }
    if !archived.is_empty() {
        seals(connection, to, this).await?;
    }
    Ok(archived)
}

/// Monthly partitions, oldest first.
async fn partitions(connection: &mut PgConnection) -> Result<Vec<(String, Month)>, LedgerFault> {
    let rows = sqlx::query!(
        r#"SELECT t.name AS "table!", right(c.relname, 7) AS "month!"
           FROM unnest(ledger.partitioned_tables()) AS t(name)
           JOIN pg_inherits i ON i.inhparent = ('ledger.' || t.name)::regclass JOIN pg_class c ON c.oid = i.inhrelid
           WHERE c.relname ~ '_[0-9]{4}_[0-9]{2}$' ORDER BY 2, 1"#
    )
    .fetch_all(connection)
    .await
    .map_err(LedgerFault::during("list the partitions"))?;
    Ok(rows.into_iter().filter_map(|row| Some((row.table, row.month.replace('_', "-").parse().ok()?))).collect())
}

async fn one(connection: &mut PgConnection, table: &str, month: Month, to: &Path, format: Format) -> Result<ArchivedMonth, ArchiveFault> {
    let mut transaction = connection.begin().await.map_err(LedgerFault::during("begin a transaction"))?;
    let archived = move_out(&mut transaction, table, month, to, format).await;
    end(transaction, archived, "commit the archive").await
}

async fn move_out(
    connection: &mut PgConnection,
    table: &str,
    month: Month,
    to: &Path,
    format: Format,
) -> Result<ArchivedMonth, ArchiveFault> {
    let doing = LedgerFault::during;
    let partition = format!("{table}_{}", month.to_string().replace('-', "_"));
    // Nothing may come in between the file and the drop.
    let lock = format!("LOCK TABLE ledger.{partition} IN SHARE MODE");
    sqlx::raw_sql(AssertSqlSafe(lock)).execute(&mut *connection).await.map_err(doing("keep writers out of the month"))?;
    refuse_too_early(connection, table, &partition, month).await?;
    let columns = columns_of(connection, table).await?;
    let path = to.join(format!("{partition}.{}", format.extension()));
    let mut leaves = write(connection, table, &partition, &columns, &path, format).await?;
    read_back(connection, table, &partition, &columns, &path, leaves.len()).await?;
    leaves.sort();
    let bytes = std::fs::read(&path).map_err(|cause| ArchiveFault::Folder { path: path.clone(), cause })?;
    let row_ids: Vec<u8> = leaves.iter().flat_map(|leaf| *leaf.id.as_bytes()).collect();
    let file_name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
    let last_seal: i64 = sqlx::query_scalar!(r#"SELECT coalesce(max(number), 0) AS "n!" FROM ledger.seal"#)
        .fetch_one(&mut *connection)
        .await
        .map_err(doing("read the last seal"))?;
    let row: Value = json!({
        "id": derive_uuid(&["archived", table, &month.to_string()]), "at": format!("{}T00:00:00Z", month.first_day()), "table_name": table,
        "until": format!("{}T00:00:00Z", month.next().first_day()), "rows": leaves.len(), "row_ids": format!("\\x{}", hex(&row_ids)),
        "merkle_root": format!("\\x{}", hex(&merkle_of(&leaves))), "file_name": file_name,
        "file_sha256": format!("\\x{}", hex(&Sha256::digest(&bytes))), "last_seal": last_seal,
    });
    insert(connection, ARCHIVED_MONTH, &[row]).await?;
    // Names come from the catalogue and the list of tables.
    let drop = format!("ALTER TABLE ledger.{table} DETACH PARTITION ledger.{partition}; DROP TABLE ledger.{partition}");
    sqlx::raw_sql(AssertSqlSafe(drop)).execute(&mut *connection).await.map_err(doing("drop the month"))?;
    Ok(ArchivedMonth { table: table.to_owned(), month, rows: leaves.len(), file: path })
}

async fn refuse_too_early(connection: &mut PgConnection, table: &str, partition: &str, month: Month) -> Result<(), ArchiveFault> {
    let doing = LedgerFault::during;
    let refuse = |why| ArchiveFault::TooEarly { table: table.to_owned(), month: month.to_string(), why };
    let unsealed =
        format!("SELECT EXISTS (SELECT FROM ledger.{partition} WHERE xid >= coalesce((SELECT max(xid_to) FROM ledger.seal), 0))");
    let unsealed: bool =
        sqlx::query_scalar(AssertSqlSafe(unsealed)).fetch_one(&mut *connection).await.map_err(doing("ask what is sealed"))?;
    if unsealed {
        return Err(refuse("some of its rows have no seal; run lowtide ledger seal first"));
    }
    let waiting = sqlx::query!(
        r#"SELECT EXISTS (SELECT FROM ledger.posting_queue) AS "news!",
                  EXISTS (SELECT FROM ledger.rollup_queue q WHERE q.day < $1::text::date + interval '1 month') AS "sums!",
                  EXISTS (SELECT FROM ledger.posted_machine p JOIN ledger.interval_opened o USING (claim_uid)
                          WHERE NOT p.complete AND o.at < ($1::text::date + interval '1 month')::timestamp AT TIME ZONE 'UTC') AS "running!""#,
        month.first_day()
    )
    .fetch_one(connection)
    .await
    .map_err(doing("ask what is still to be posted"))?;
    match (waiting.news || waiting.sums, waiting.running) {
        (true, _) => Err(refuse("something is still waiting to be posted; run lowtide ledger post first")),
        (_, true) => Err(refuse("a machine that started then is still running")),
        _ => Ok(()),
    }
}

/// A column, and whether it holds JSON.
type Kept = (Column, bool);

async fn columns_of(connection: &mut PgConnection, table: &str) -> Result<Vec<Kept>, LedgerFault> {
    let found = sqlx::query!(
        r#"SELECT attname::text AS "name!", atttypid = 'jsonb'::regtype AS "json!" FROM pg_attribute
           WHERE attrelid = ('ledger.' || $1::text)::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum"#,
        table
    );
    let found = found.fetch_all(connection).await.map_err(LedgerFault::during("read the table's columns"))?;
    Ok(found.into_iter().map(|column| (Column { name: column.name, kind: Kind::Text }, column.json)).collect())
}

/// Writes the partition; gives its rows as leaves of a seal.
async fn write(
    connection: &mut PgConnection,
    table: &str,
    partition: &str,
    columns: &[Kept],
    path: &Path,
    format: Format,
) -> Result<Vec<Leaf>, ArchiveFault> {
    let doing = LedgerFault::during;
    let at = table_number(connection, table).await?;
    let select: Vec<String> = columns.iter().map(|(column, _)| format!("{}::text", column.name)).collect();
    let sql = format!("SELECT id AS leaf_id, content_hash AS leaf_hash, {} FROM ledger.{partition} ORDER BY at, id", select.join(", "));
    let mut writer = TableWriter::create(path, columns.iter().map(|(column, _)| column.clone()).collect(), format)?;
    let mut leaves = Vec::new();
    let mut rows = sqlx::query(AssertSqlSafe(sql)).fetch(connection);
    while let Some(row) = rows.try_next().await.map_err(doing("read the month"))? {
        let id: Uuid = row.try_get("leaf_id").map_err(doing("read an id"))?;
        let hash: Vec<u8> = row.try_get("leaf_hash").map_err(doing("read a hash"))?;
        leaves.push(Leaf { table: at, id, hash });
        let value = |n: usize| row.try_get::<Option<String>, _>(n + 2).map_err(doing("read a value"));
        writer.add((0..columns.len()).map(value).collect::<Result<_, _>>()?)?;
    }
    writer.finish()?;
    Ok(leaves)
}

async fn table_number(connection: &mut PgConnection, table: &str) -> Result<u8, LedgerFault> {
    let number = sqlx::query_scalar!(r#"SELECT array_position(ledger.event_tables(), $1) - 1 AS "n!""#, table);
    let number = number.fetch_one(connection).await.map_err(LedgerFault::during("read the list of tables"))?;
    Ok(u8::try_from(number).unwrap_or(u8::MAX))
}

/// Loads the file beside the partition and compares every value of every row.
async fn read_back(
    connection: &mut PgConnection,
    table: &str,
    partition: &str,
    columns: &[Kept],
    path: &Path,
    rows: usize,
) -> Result<(), ArchiveFault> {
    let doing = LedgerFault::during;
    let copy = format!("CREATE TEMPORARY TABLE read_back (LIKE ledger.{table}) ON COMMIT DROP");
    sqlx::raw_sql(AssertSqlSafe(copy)).execute(&mut *connection).await.map_err(doing("make room to read the file back"))?;
    let different = |fault: String| ArchiveFault::NotTheSame { path: path.to_path_buf(), table: partition.to_owned(), fault };
    let mut held: Vec<Value> = Vec::new();
    let mut chunks: Vec<Vec<Value>> = Vec::new();
    let names = read_table::<TableFileFault>(path, |names, _, values| {
        let is_json = |name: &String| columns.iter().any(|(column, json)| *json && column.name == *name);
        let fields = names.iter().zip(values).map(|(name, value)| (name.clone(), as_json(value.as_deref(), is_json(name))));
        held.push(Value::Object(fields.collect()));
        if held.len() == ROWS_AT_ONCE {
            chunks.push(std::mem::take(&mut held));
        }
        Ok(())
    })?;
    chunks.push(held);
    if names.len() != columns.len() {
        return Err(different(format!("{} columns instead of {}", names.len(), columns.len())));
    }
    for chunk in chunks {
        let load = format!("INSERT INTO read_back SELECT * FROM jsonb_populate_recordset(NULL::ledger.{table}, $1)");
        let query = sqlx::query(AssertSqlSafe(load)).bind(sqlx::types::Json(chunk));
        query.execute(&mut *connection).await.map_err(doing("read the file back"))?;
    }
    let compare = format!(
        "SELECT (SELECT count(*) FROM read_back), (SELECT count(*) FROM (TABLE ledger.{partition} EXCEPT ALL TABLE read_back) x),
                (SELECT count(*) FROM read_back r WHERE NOT ledger.intact(ROW(r.*)::ledger.{table}))"
    );
    let (found, missing, broken): (i64, i64, i64) =
        sqlx::query_as(AssertSqlSafe(compare)).fetch_one(&mut *connection).await.map_err(doing("compare the file with the month"))?;
    if usize::try_from(found) != Ok(rows) || missing != 0 || broken != 0 {
        return Err(different(format!("{found} rows instead of {rows}, {missing} of them differ, {broken} break their own hash")));
    }
    sqlx::raw_sql("DROP TABLE read_back").execute(connection).await.map_err(doing("put the copy away"))?;
    Ok(())
}

/// Texts of JSON columns are JSON again; everything else is text that Postgres reads.
fn as_json(value: Option<&str>, json: bool) -> Value {
    match value {
        Some(text) if json => serde_json::from_str(text).unwrap_or_else(|_| json!(text)),
        Some(text) => json!(text),
        None => Value::Null,
    }
}

/// All seals so far, beside the files: what the archived rows can be proved with when the database is gone.
async fn seals(connection: &mut PgConnection, to: &Path, this: Month) -> Result<(), ArchiveFault> {
    let number: i64 = sqlx::query_scalar!(r#"SELECT coalesce(max(number), 0) AS "n!" FROM ledger.seal"#)
        .fetch_one(&mut *connection)
        .await
        .map_err(LedgerFault::during("read the last seal"))?;
    let path = to.join(format!("seals_{this}_{number}.csv"));
    if path.exists() {
        return Ok(());
    }
    let names = ["number", "xid_from", "xid_to", "rows", "leaves", "merkle_root", "previous_root", "root", "sealed_at"];
    let columns: Vec<Column> = names.iter().map(|name| Column { name: (*name).to_owned(), kind: Kind::Text }).collect();
    let mut writer = TableWriter::create(&path, columns, Format::Csv)?;
    let sql = "SELECT number::text, xid_from::text, xid_to::text, rows::text, encode(leaves, 'hex'), encode(merkle_root, 'hex'), encode(previous_root, 'hex'),
                      encode(root, 'hex'), sealed_at::text FROM ledger.seal ORDER BY number";
    let mut rows = sqlx::query(sql).fetch(connection);
    while let Some(row) = rows.try_next().await.map_err(LedgerFault::during("read the seals"))? {
        let value = |n: usize| row.try_get::<Option<String>, _>(n).map_err(LedgerFault::during("read a seal"));
        writer.add((0..names.len()).map(value).collect::<Result<_, _>>()?)?;
    }
    Ok(writer.finish()?)
}
