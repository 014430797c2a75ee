//! Verifying: every hash, seal and link recomputed, archived months distinguished from missing ones, derived sums compared with their rows, and the definitions that
//! derive figures against what the last migration left.
//!
//! Decides: what is wrong, by row. Does not: repair anything.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::{AssertSqlSafe, PgConnection};
use uuid::Uuid;

use super::derivation;
pub use super::derivation::Sample;
use super::seal::{Leaf, Seal, chained, hex, merkle_of, merkle_root, tables};
use super::store::LedgerFault;

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
    /// An archived month is not what its sealed rows say.
    BrokenArchive(String),
    /// Rolled-up sums of a day differ from the postings they are made of.
    SumsDiffer(String),
    /// A view, function, trigger or its rights are not what the last migration left.
    Definition(String),
    /// A posting names a version, or a machine, that does not exist.
    NoCause(Uuid),
    /// The postings of a machine do not follow from what is known of it.
    NotDerived(String),
    /// Other costs of a day are not posted as their files say.
    NotEntered(String),
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Finding::Altered(table, id) => write!(f, "ledger.{table} {id} was altered"),
            Finding::Missing(table, id) => write!(f, "ledger.{table} {id} is missing"),
            Finding::Added(table, id) => write!(f, "ledger.{table} {id} was added after its time"),
            Finding::BrokenArchive(month) => write!(f, "the archive of {month} does not contain the rows that were sealed"),
            Finding::SumsDiffer(day) => write!(f, "the sums of {day} in ledger.cost_rollup are not those of its postings"),
            Finding::Definition(what) => write!(f, "{what} since the last migration: figures may not follow from rows"),
            Finding::NoCause(id) => write!(f, "ledger.posting {id} has no cause: the statement or machine that it names does not exist"),
            Finding::NotDerived(machine) => write!(f, "the postings of machine {machine} do not follow from its facts and bills"),
            Finding::NotEntered(day) => write!(f, "other costs of {day} are not posted as the imported files say"),
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
    /// Of these, rows that were archived: they are in files now.
    pub archived_rows: i64,
    /// Rows that wait for a seal; only their own hash is checked.
    pub unsealed_rows: i64,
    /// The last root, in hex: compare it with one you kept elsewhere.
    pub last_root: String,
    /// What is wrong; empty when nothing is.
    pub findings: BTreeSet<Finding>,
}

/// Recomputes every hash, root and link.
///
/// # Errors
/// [`LedgerFault`] when the ledger cannot be read; what is wrong with its content is a [`Finding`].
pub async fn verify(connection: &mut PgConnection) -> Result<Verification, LedgerFault> {
    let doing = LedgerFault::during;
    sqlx::raw_sql("SET timezone = 'UTC'; SET search_path = pg_catalog")
        .execute(&mut *connection)
        .await
        .map_err(doing("prepare the session"))?;
    let tables = tables(connection).await?;
    let seals = sqlx::query_as!(
        Seal,
        "SELECT number, xid_from, xid_to, rows, leaves, merkle_root, previous_root, root FROM ledger.seal ORDER BY number"
    );
    let seals = seals.fetch_all(&mut *connection).await.map_err(doing("read the seals"))?;
    let mut archive = Archive::read(connection, &tables).await?;
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
        compare(&tables, &seal.leaves, found, &mut archive, &mut verified.findings);
        (previous, sealed_to) = (seal.root.clone(), seal.xid_to);
        verified.seals = seal.number;
        verified.sealed_rows += seal.rows;
    }
    let rest = rows_between(connection, &tables, sealed_to, None).await?;
    verified.unsealed_rows = i64::try_from(rest.len()).unwrap_or(i64::MAX);
    let altered = rest.into_iter().filter(|row| !row.intact);
    verified.findings.extend(altered.map(|row| Finding::Altered(tables[row.table].clone(), row.id)));
    verified.archived_rows = archive.found();
    verified.findings.extend(archive.broken());
    verified.findings.extend(sums_that_differ(connection).await?);
    let changed = derivation::changed(connection).await?.into_iter();
    verified.findings.extend(changed.map(|found| Finding::Definition(format!("{} {}: {}", found.kind, found.object, found.how))));
    verified.findings.extend(derivation::postings_without_cause(connection).await?.into_iter().map(Finding::NoCause));
    verified.findings.extend(derivation::entered_that_differ(connection).await?.into_iter().map(Finding::NotEntered));
    verified.last_root = hex(&previous);
    Ok(verified)
}

/// Recomputes the postings of machines from what is known of them; of those that run, the hours that are settled.
///
/// # Errors
/// [`LedgerFault`] when the ledger cannot be read.
pub async fn recompute(connection: &mut PgConnection, sample: &Sample) -> Result<BTreeSet<Finding>, LedgerFault> {
    Ok(derivation::machines_that_differ(connection, sample).await?.into_iter().map(Finding::NotDerived).collect())
}

/// Months that were archived, and which of their rows the seals know.
struct Archive {
    months: Vec<ArchivedMonth>,
    /// By table and id: which month.
    places: BTreeMap<(u8, Uuid), usize>,
}

struct ArchivedMonth {
    name: String,
    rows: i64,
    root: Vec<u8>,
    found: Vec<Leaf>,
}

impl Archive {
    async fn read(connection: &mut PgConnection, tables: &[String]) -> Result<Self, LedgerFault> {
        let rows = sqlx::query!(
            r#"SELECT table_name, to_char(at AT TIME ZONE 'UTC', 'YYYY-MM') AS "month!", rows, row_ids, merkle_root FROM ledger.archived_month"#
        )
        .fetch_all(connection)
        .await
        .map_err(LedgerFault::during("read what is archived"))?;
        let mut archive = Archive { months: Vec::new(), places: BTreeMap::new() };
        for row in rows {
            let table = tables.iter().position(|name| *name == row.table_name).and_then(|at| u8::try_from(at).ok()).unwrap_or(u8::MAX);
            let ids = row.row_ids.chunks_exact(16).map(|id| Uuid::from_slice(id).unwrap_or_default());
            archive.places.extend(ids.map(|id| ((table, id), archive.months.len())));
            let name = format!("{} {}", row.table_name, row.month);
            archive.months.push(ArchivedMonth { name, rows: row.rows, root: row.merkle_root, found: Vec::new() });
        }
        Ok(archive)
    }

    /// Takes a sealed row that is not in its table; false when no archive names it.
    fn take(&mut self, leaf: Leaf) -> bool {
        let place = self.places.get(&(leaf.table, leaf.id)).and_then(|at| self.months.get_mut(*at));
        place.map(|month| month.found.push(leaf)).is_some()
    }

    fn found(&self) -> i64 {
        i64::try_from(self.months.iter().map(|month| month.found.len()).sum::<usize>()).unwrap_or(i64::MAX)
    }

    /// Months whose rows, as the seals know them, do not give the archive's root.
    fn broken(&mut self) -> Vec<Finding> {
        let broken = |month: &mut ArchivedMonth| {
            month.found.sort();
            let complete = i64::try_from(month.found.len()) == Ok(month.rows);
            (!complete || merkle_of(&month.found)[..] != month.root).then(|| Finding::BrokenArchive(month.name.clone()))
        };
        self.months.iter_mut().filter_map(broken).collect()
    }
}

/// Days whose rollups are current and not the sums of their postings, owner by owner, line by line and machine type by machine type, in every column. Archived days have none to compare with.
async fn sums_that_differ(connection: &mut PgConnection) -> Result<Vec<Finding>, LedgerFault> {
    let days = sqlx::query_scalar!(
        r#"WITH posted AS (
             SELECT ledger.utc_day(p.at) AS day, p.workload, p.line, p.claim_uid, sum(p.gpu_ms) AS gpu_ms, sum(p.cost_usd) AS cost, coalesce(sum(p.b0_usd), 0) AS b0,
                    coalesce(sum(p.b1_usd), 0) AS b1, coalesce(sum(p.b2_usd), 0) AS b2, coalesce(sum(p.cost_usd) FILTER (WHERE p.b0_usd IS NULL), 0) AS no_b0,
                    coalesce(sum(p.cost_usd) FILTER (WHERE p.line = 'pod' AND p.b1_usd IS NULL), 0) AS no_b1,
                    coalesce(sum(p.cost_usd) FILTER (WHERE p.line = 'pod' AND p.b2_usd IS NULL), 0) AS no_b2, sum(p.feed_usd) AS feed, sum(p.bill_usd) AS bill,
                    coalesce(sum(p.cost_usd) FILTER (WHERE p.kind IN ('feed', 'bill') AND p.claim_uid IS NOT NULL), 0) AS true_up
             FROM ledger.posting p GROUP BY 1, 2, 3, 4
           ), machines AS (
             SELECT DISTINCT ON (claim_uid) claim_uid, region, instance_type, capacity_type FROM ledger.interval_opened ORDER BY claim_uid, posted_at, at
           ), sums AS (
             SELECT p.day, p.workload, p.line, coalesce(m.region, '') AS region, coalesce(m.instance_type, '') AS instance_type,
                    coalesce(m.capacity_type, '') AS capacity_type, sum(p.gpu_ms) AS gpu_ms, sum(p.cost) AS cost, sum(p.b0) AS b0, sum(p.b1) AS b1, sum(p.b2) AS b2,
                    sum(p.no_b0) AS no_b0, sum(p.no_b1) AS no_b1, sum(p.no_b2) AS no_b2, sum(p.feed) AS feed, sum(p.bill) AS bill, sum(p.true_up) AS true_up
             FROM posted p LEFT JOIN machines m USING (claim_uid) GROUP BY 1, 2, 3, 4, 5, 6
           )
           SELECT DISTINCT coalesce(r.day, p.day)::text AS "day!"
           FROM ledger.cost_rollup r
           FULL JOIN sums p ON (p.day, p.workload, p.line, p.region, p.instance_type, p.capacity_type) = (r.day, r.workload, r.line, r.region, r.instance_type, r.capacity_type)
           WHERE (r.cost_usd, r.b0_usd, r.b1_usd, r.b2_usd, r.without_b0_usd, r.without_b1_usd, r.without_b2_usd, r.feed_usd, r.bill_usd, r.true_up_usd, r.gpu_ms)
                 IS DISTINCT FROM (p.cost, p.b0, p.b1, p.b2, p.no_b0, p.no_b1, p.no_b2, p.feed, p.bill, p.true_up, p.gpu_ms)
             AND coalesce(r.day, p.day) NOT IN (SELECT q.day FROM ledger.rollup_queue q)
             AND coalesce(r.day, p.day) >= coalesce((SELECT ledger.utc_day(max(until)) FROM ledger.archived_month WHERE table_name = 'posting'), '-infinity'::date)
           ORDER BY 1"#
    );
    let days = days.fetch_all(connection).await.map_err(LedgerFault::during("compare sums with postings"))?;
    Ok(days.into_iter().map(Finding::SumsDiffer).collect())
}

struct FoundRow {
    table: usize,
    id: Uuid,
    hash: Vec<u8>,
    intact: bool,
}

async fn rows_between(connection: &mut PgConnection, tables: &[String], from: i64, to: Option<i64>) -> Result<Vec<FoundRow>, LedgerFault> {
    let mut found = Vec::new();
    for (at, table) in tables.iter().enumerate() {
        let sql =
            format!("SELECT id, content_hash, ledger.intact(t) FROM ledger.{table} t WHERE xid >= $1 AND ($2::bigint IS NULL OR xid < $2)");
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

fn compare(tables: &[String], leaves: &[u8], found: Vec<FoundRow>, archive: &mut Archive, findings: &mut BTreeSet<Finding>) {
    let name = |at: u8| tables.get(usize::from(at)).cloned().unwrap_or_else(|| format!("table {at}"));
    let mut expected: BTreeMap<(u8, Uuid), Vec<Leaf>> = BTreeMap::new();
    for leaf in Leaf::of_bytes(leaves) {
        expected.entry((leaf.table, leaf.id)).or_default().push(leaf);
    }
    for row in found {
        let table = u8::try_from(row.table).unwrap_or(u8::MAX);
        let key = (table, row.id);
        let Some(hashes) = expected.get_mut(&key) else {
            findings.insert(Finding::Added(name(table), row.id));
            continue;
        };
        match hashes.iter().position(|leaf| leaf.hash == row.hash) {
            Some(at) if row.intact => drop(hashes.remove(at)),
            _ => {
                hashes.pop();
                findings.insert(Finding::Altered(name(table), row.id));
            }
        }
        if hashes.is_empty() {
            expected.remove(&key);
        }
    }
    for leaf in expected.into_values().flatten() {
        let (table, id) = (leaf.table, leaf.id);
        if !archive.take(leaf) {
            findings.insert(Finding::Missing(name(table), id));
        }
    }
}
