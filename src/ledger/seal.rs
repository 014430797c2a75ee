//! Seals: proof that no row was altered, removed or slipped in after it settled.
//!
//! Decides: which rows a seal covers (those of transactions that had all ended), the Merkle root over their hashes, and the chain.
//! Does not: publish roots. Whoever owns the database can recompute every seal; a root kept elsewhere is what proves against them.
//!
//! A seal lists its rows as leaves (table, id, content hash), so that a difference names the row (see [`super::verify`]).

use sha2::{Digest, Sha256};
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use super::store::{LedgerFault, end};
use super::turns::{self, Turn};

type Hash = [u8; 32];
/// One byte of table, sixteen of id, thirty-two of hash.
const LEAF: usize = 49;

/// A row under a seal.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Leaf {
    /// Place of its table in `ledger.event_tables()`.
    pub table: u8,
    /// Its id.
    pub id: Uuid,
    /// Its content hash.
    pub hash: Vec<u8>,
}

impl Leaf {
    fn to_bytes(&self) -> Vec<u8> {
        [&[self.table], &self.id.as_bytes()[..], &self.hash].concat()
    }

    pub(super) fn of_bytes(bytes: &[u8]) -> impl Iterator<Item = Leaf> {
        bytes.chunks_exact(LEAF).map(|leaf| Leaf {
            table: leaf[0],
            id: Uuid::from_slice(&leaf[1..17]).unwrap_or_default(),
            hash: leaf[17..].to_vec(),
        })
    }
}

/// A seal as it is stored.
#[derive(Debug, Clone)]
pub(super) struct Seal {
    pub number: i64,
    pub xid_from: i64,
    pub xid_to: i64,
    pub rows: i64,
    pub leaves: Vec<u8>,
    pub merkle_root: Vec<u8>,
    pub previous_root: Vec<u8>,
    pub root: Vec<u8>,
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
    let mut transaction = connection.begin().await.map_err(LedgerFault::during("begin a transaction"))?;
    let sealed = seal_settled(&mut transaction).await;
    end(transaction, sealed, "commit the seal").await
}

async fn seal_settled(connection: &mut PgConnection) -> Result<Sealed, LedgerFault> {
    let doing = LedgerFault::during;
    // One sealer at a time, then a snapshot that sees what the last one did.
    turns::take(connection, Turn::Seal).await?;
    let settled = sqlx::query_scalar!(r#"SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS "settled!""#)
        .fetch_one(&mut *connection)
        .await
        .map_err(doing("ask which transactions have ended"))?;
    let last = sqlx::query!("SELECT number, xid_to, root FROM ledger.seal ORDER BY number DESC LIMIT 1")
        .fetch_optional(&mut *connection)
        .await
        .map_err(doing("read the last seal"))?;
    let (number, from, previous) = last.map_or((1, 0, vec![0; 32]), |seal| (seal.number + 1, seal.xid_to, seal.root));
    if settled <= from {
        return Ok(Sealed::default());
    }
    let leaves = sqlx::query_scalar!(r#"SELECT ledger.leaves_between($1, $2) AS "leaves!""#, from, settled)
        .fetch_one(&mut *connection)
        .await
        .map_err(doing("read rows to seal"))?;
    if leaves.is_empty() {
        return Ok(Sealed::default());
    }
    let rows = i64::try_from(leaves.len() / LEAF).unwrap_or(i64::MAX);
    let merkle = merkle_root(&leaves);
    let root = chained(number, from, settled, rows, &merkle, &previous);
    let insert = sqlx::query!(
        "INSERT INTO ledger.seal (number, xid_from, xid_to, rows, leaves, merkle_root, previous_root, root) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        number,
        from,
        settled,
        rows,
        leaves,
        &merkle[..],
        previous,
        &root[..]
    );
    insert.execute(&mut *connection).await.map_err(doing("write the seal"))?;
    Ok(Sealed { rows, number, root: Some(hex(&root)) })
}

/// The event tables, in the order of leaves.
pub(super) async fn tables(connection: &mut PgConnection) -> Result<Vec<String>, LedgerFault> {
    let query = sqlx::query_scalar!(r#"SELECT unnest(ledger.event_tables()) AS "table!""#);
    query.fetch_all(connection).await.map_err(LedgerFault::during("read the list of tables"))
}

/// Bytes as text.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The root over leaves in this order.
pub(super) fn merkle_of(leaves: &[Leaf]) -> Hash {
    merkle_root(&leaves.iter().flat_map(Leaf::to_bytes).collect::<Vec<u8>>())
}

/// The root over leaves that stand one after the other.
pub(super) fn merkle_root(leaves: &[u8]) -> Hash {
    root_over(leaves.chunks_exact(LEAF))
}

/// The tree of <https://www.rfc-editor.org/rfc/rfc6962#section-2.1>: leaves and nodes are hashed with different prefixes; an odd node moves
/// up as it is.
fn root_over<'a>(leaves: impl Iterator<Item = &'a [u8]>) -> Hash {
    let hash = |prefix: u8, parts: [&[u8]; 2]| -> Hash {
        Sha256::new().chain_update([prefix]).chain_update(parts[0]).chain_update(parts[1]).finalize().into()
    };
    let mut level: Vec<Hash> = leaves.map(|leaf| hash(0, [leaf, &[]])).collect();
    while level.len() > 1 {
        level = level.chunks(2).map(|pair| if let [left, right] = pair { hash(1, [left, right]) } else { pair[0] }).collect();
    }
    level.first().copied().unwrap_or_else(|| Sha256::digest([]).into())
}

/// The root of a seal.
pub(super) fn chained(number: i64, from: i64, to: i64, rows: i64, merkle: &[u8], previous: &[u8]) -> Hash {
    let mut digest = Sha256::new().chain_update(b"lowtide-seal-v1");
    for figure in [number, from, to, rows] {
        digest.update(figure.to_be_bytes());
    }
    digest.chain_update(merkle).chain_update(previous).finalize().into()
}

#[cfg(test)]
mod tests {
    use super::{hex, root_over};

    /// The leaves and roots by which Certificate Transparency's implementations check theirs.
    #[test]
    fn roots_are_those_of_certificate_transparency() {
        let leaves: [&[u8]; 8] = [b"", b"\x00", b"\x10", b" !", b"01", b"@ABC", b"PQRSTUVW", b"`abcdefghijklmno"];
        let expected = [
            (0, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
            (1, "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"),
            (2, "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"),
            (3, "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77"),
            (8, "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"),
        ];
        for (count, root) in expected {
            assert_eq!(hex(&root_over(leaves.iter().take(count).copied())), root, "{count} leaves");
        }
    }
}
