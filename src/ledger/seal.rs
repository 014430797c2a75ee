//! Seals: proof that no row was altered, removed or slipped in after it settled.
//!
//! Decides: which rows a seal covers (those of transactions that had all ended), the Merkle root over their hashes, and the chain.
//! Does not: publish roots. Whoever owns the database can recompute every seal; a root kept elsewhere is what proves against them.
//!
//! A seal lists its rows as leaves (table, id, content hash), so that a difference names the row.

use std::collections::{BTreeMap, BTreeSet};

use sha2::{Digest, Sha256};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use uuid::Uuid;

use super::store::LedgerFault;

type Hash = [u8; 32];
/// One byte of table, sixteen of id, thirty-two of hash.
const LEAF: usize = 49;

/// A seal as it is stored.
#[derive(Debug, Clone, sqlx::FromRow)]
struct Seal {
    number: i64,
    xid_from: i64,
    xid_to: i64,
    rows: i64,
    leaves: Vec<u8>,
    merkle_root: Vec<u8>,
    previous_root: Vec<u8>,
    root: Vec<u8>,
}

/// What is wrong with the ledger.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Finding {
    /// A row's content is not what its hash or its seal says.
    Altered(String, Uuid),
    /// A sealed row is gone.
    Missing(String, Uuid),
    /// A row stands where its seal knows none.
    Added(String, Uuid),
    /// A seal does not follow from its rows or from the seal before.
    BrokenSeal(i64),
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Finding::Altered(table, id) => write!(f, "ledger.{table} {id} was altered"),
            Finding::Missing(table, id) => write!(f, "ledger.{table} {id} is missing"),
            Finding::Added(table, id) => write!(f, "ledger.{table} {id} was added after its time"),
            Finding::BrokenSeal(number) => write!(f, "seal {number} was altered, removed or does not follow from the one before"),
        }
    }
}

/// What was verified.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verification {
    /// Seals in the chain.
    pub seals: i64,
    /// Rows under them.
    pub sealed_rows: i64,
    /// Rows that wait for a seal; only their own hash is checked.
    pub unsealed_rows: i64,
    /// The last root, in hex: compare it with one you kept elsewhere.
    pub last_root: String,
    /// What is wrong; empty when nothing is.
    pub findings: BTreeSet<Finding>,
}

/// What was sealed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sealed {
    /// How many rows; 0 when nothing had settled.
    pub rows: i64,
    /// The seal's number.
    pub number: i64,
    /// Its root in hex: worth keeping elsewhere. `None` when no seal was made.
    pub root: Option<String>,
}

/// Seals all rows that settled since the last seal.
///
/// # Errors
/// [`LedgerFault`]; then no seal was made.
pub async fn seal(connection: &mut PgConnection) -> Result<Sealed, LedgerFault> {
    let doing = LedgerFault::during;
    let mut transaction = connection.begin().await.map_err(doing("begin a transaction"))?;
    // One sealer at a time, then a snapshot that sees what the last one did.
    sqlx::raw_sql("SELECT pg_advisory_xact_lock(7239462803)").execute(&mut *transaction).await.map_err(doing("take turns"))?;
    let settled: i64 = sqlx::query_scalar("SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint")
        .fetch_one(&mut *transaction)
        .await
        .map_err(doing("ask which transactions have ended"))?;
    let last: Option<Seal> = sqlx::query_as("SELECT * FROM ledger.seal ORDER BY number DESC LIMIT 1")
        .fetch_optional(&mut *transaction)
        .await
        .map_err(doing("read the last seal"))?;
    let (number, from, previous) = last.map_or((1, 0, vec![0; 32]), |seal| (seal.number + 1, seal.xid_to, seal.root));
    if settled <= from {
        return Ok(Sealed::default());
    }
    let mut leaves = Vec::new();
    for (at, table) in tables(&mut transaction).await?.iter().enumerate() {
        let sql = format!("SELECT id, content_hash FROM ledger.{table} WHERE xid >= $1 AND xid < $2 ORDER BY id, content_hash");
        let rows: Vec<(Uuid, Vec<u8>)> = sqlx::query_as(AssertSqlSafe(sql))
            .bind(from)
            .bind(settled)
            .fetch_all(&mut *transaction)
            .await
            .map_err(doing("read rows to seal"))?;
        for (id, hash) in rows {
            leaves.push(u8::try_from(at).unwrap_or(u8::MAX));
            leaves.extend_from_slice(id.as_bytes());
            leaves.extend_from_slice(&hash);
        }
    }
    let rows = i64::try_from(leaves.len() / LEAF).unwrap_or(i64::MAX);
    if rows == 0 {
        return Ok(Sealed::default());
    }
    let merkle = merkle_root(&leaves);
    let root = chained(number, from, settled, rows, &merkle, &previous);
    let sql = "INSERT INTO ledger.seal (number, xid_from, xid_to, rows, leaves, merkle_root, previous_root, root) VALUES ($1,$2,$3,$4,$5,$6,$7,$8)";
    let query =
        sqlx::query(sql).bind(number).bind(from).bind(settled).bind(rows).bind(&leaves).bind(&merkle[..]).bind(&previous).bind(&root[..]);
    query.execute(&mut *transaction).await.map_err(doing("write the seal"))?;
    transaction.commit().await.map_err(doing("commit the seal"))?;
    Ok(Sealed { rows, number, root: Some(hex(&root)) })
}

/// Recomputes every hash, root and link.
///
/// # Errors
/// [`LedgerFault`] when the ledger cannot be read; what is wrong with its content is a [`Finding`].
pub async fn verify(connection: &mut PgConnection) -> Result<Verification, LedgerFault> {
    let doing = LedgerFault::during;
    sqlx::raw_sql("SET timezone = 'UTC'").execute(&mut *connection).await.map_err(doing("prepare the session"))?;
    let tables = tables(connection).await?;
    let seals: Vec<Seal> =
        sqlx::query_as("SELECT * FROM ledger.seal ORDER BY number").fetch_all(&mut *connection).await.map_err(doing("read the seals"))?;
    let mut verified = Verification::default();
    let (mut previous, mut sealed_to) = (vec![0; 32], 0);
    for seal in &seals {
        let merkle = merkle_root(&seal.leaves);
        let root = chained(seal.number, seal.xid_from, seal.xid_to, seal.rows, &merkle, &previous);
        let follows = seal.number == verified.seals + 1 && seal.xid_from == sealed_to && seal.previous_root == previous;
        if !follows || seal.merkle_root != merkle || seal.root != root {
            verified.findings.insert(Finding::BrokenSeal(seal.number));
        }
        let found = rows_between(connection, &tables, seal.xid_from, Some(seal.xid_to)).await?;
        compare(&tables, &seal.leaves, found, &mut verified.findings);
        (previous, sealed_to) = (seal.root.clone(), seal.xid_to);
        verified.seals = seal.number;
        verified.sealed_rows += seal.rows;
    }
    let rest = rows_between(connection, &tables, sealed_to, None).await?;
    verified.unsealed_rows = i64::try_from(rest.len()).unwrap_or(i64::MAX);
    let altered = rest.into_iter().filter(|row| !row.intact);
    verified.findings.extend(altered.map(|row| Finding::Altered(tables[row.table].clone(), row.id)));
    verified.last_root = hex(&previous);
    Ok(verified)
}

struct FoundRow {
    table: usize,
    id: Uuid,
    hash: Vec<u8>,
    intact: bool,
}

async fn tables(connection: &mut PgConnection) -> Result<Vec<String>, LedgerFault> {
    let query = sqlx::query_scalar("SELECT unnest(ledger.event_tables())");
    query.fetch_all(connection).await.map_err(LedgerFault::during("read the list of tables"))
}

async fn rows_between(connection: &mut PgConnection, tables: &[String], from: i64, to: Option<i64>) -> Result<Vec<FoundRow>, LedgerFault> {
    let mut found = Vec::new();
    for (at, table) in tables.iter().enumerate() {
        let sql = format!(
            "SELECT id, content_hash, content_hash = sha256(convert_to(ledger.canonical_v1(to_jsonb(t)), 'UTF8')) FROM ledger.{table} t
             WHERE xid >= $1 AND ($2::bigint IS NULL OR xid < $2)"
        );
        let rows: Vec<(Uuid, Vec<u8>, bool)> = sqlx::query_as(AssertSqlSafe(sql))
            .bind(from)
            .bind(to)
            .fetch_all(&mut *connection)
            .await
            .map_err(LedgerFault::during("read rows"))?;
        found.extend(rows.into_iter().map(|(id, hash, intact)| FoundRow { table: at, id, hash, intact }));
    }
    Ok(found)
}

fn compare(tables: &[String], leaves: &[u8], found: Vec<FoundRow>, findings: &mut BTreeSet<Finding>) {
    let name = |at: usize| tables.get(at).cloned().unwrap_or_else(|| format!("table {at}"));
    let mut expected: BTreeMap<(usize, Uuid), Vec<&[u8]>> = BTreeMap::new();
    for leaf in leaves.chunks_exact(LEAF) {
        let id = Uuid::from_slice(&leaf[1..17]).unwrap_or_default();
        expected.entry((usize::from(leaf[0]), id)).or_default().push(&leaf[17..]);
    }
    for row in found {
        let key = (row.table, row.id);
        let Some(hashes) = expected.get_mut(&key) else {
            findings.insert(Finding::Added(name(row.table), row.id));
            continue;
        };
        match hashes.iter().position(|hash| *hash == row.hash) {
            Some(at) if row.intact => drop(hashes.remove(at)),
            _ => {
                hashes.pop();
                findings.insert(Finding::Altered(name(row.table), row.id));
            }
        }
        if hashes.is_empty() {
            expected.remove(&key);
        }
    }
    findings.extend(expected.into_keys().map(|(table, id)| Finding::Missing(name(table), id)));
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// RFC 6962's tree: leaves and nodes are hashed with different prefixes; an odd node moves up as it is.
fn merkle_root(leaves: &[u8]) -> Hash {
    let hash = |prefix: u8, parts: [&[u8]; 2]| -> Hash {
        Sha256::new().chain_update([prefix]).chain_update(parts[0]).chain_update(parts[1]).finalize().into()
    };
    let mut level: Vec<Hash> = leaves.chunks_exact(LEAF).map(|leaf| hash(0, [leaf, &[]])).collect();
    while level.len() > 1 {
        level = level.chunks(2).map(|pair| if let [left, right] = pair { hash(1, [left, right]) } else { pair[0] }).collect();
    }
    level.first().copied().unwrap_or_else(|| Sha256::digest([]).into())
}

fn chained(number: i64, from: i64, to: i64, rows: i64, merkle: &[u8], previous: &[u8]) -> Hash {
    let mut digest = Sha256::new().chain_update(b"lowtide-seal-v1");
    for figure in [number, from, to, rows] {
        digest.update(figure.to_be_bytes());
    }
    digest.chain_update(merkle).chain_update(previous).finalize().into()
}
