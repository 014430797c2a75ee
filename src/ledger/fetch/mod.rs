//! Fetching what AWS writes to a bucket: versions of a Cost and Usage Report, and the spot data feed.
//!
//! Decides: that a version is fetched once, whole and only when it is new; that each is taken or refused by itself; and what is on record about it.
//! Does not: read a report or overrule a check (see [`super::import`]).

mod answers;
mod bucket;
mod hourly;
mod layout;
mod wire;

pub use bucket::{Access, Bucket, BucketFault, Location, Object};
pub use hourly::{Found, Hourly, keep};

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::json;
use sqlx::PgConnection;

use self::layout::{Version, feed_day, versions};
use super::import::{Format, ImportFault, Imported, Options, Part, dry_run, import, parts_of};
use super::rows::Table;
use super::store::{LedgerFault, insert};
use super::who::taken_by;
use crate::core::units::ids::derive_uuid;
use crate::core::units::time::Timestamp;

const FETCHED: Table = Table { name: "fetched", columns: "id, at, url, etag, statements, taken_by" };
/// Files of the feed that are one statement at most: what is fetched first may be years.
const FILES_AT_ONCE: usize = 500;

/// What is fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum What {
    /// A Cost and Usage Report: Data Exports, or the older reports.
    Cur,
    /// The spot data feed.
    Feed,
}

/// What is fetched from where, and how it is taken.
#[derive(Debug, Clone)]
pub struct Request {
    /// What.
    pub what: What,
    /// From where.
    pub location: Location,
    /// The first UTC day, as `2026-07-01`: older months of the report and older files of the feed are left.
    pub since: String,
    /// What was fetched before is fetched again.
    pub again: bool,
    /// How it is imported.
    pub options: Options,
    /// Where files lie while they are read; each request makes a folder of its own there.
    pub folder: PathBuf,
}

/// A version, or files of the feed, and what became of them.
#[derive(Debug)]
pub struct Fetched {
    /// The manifest, or the files.
    pub urls: Vec<String>,
    /// Their ETags: what names this version of them.
    pub etags: Vec<String>,
    /// What was taken, or why nothing was.
    pub outcome: Result<Imported, FetchFault>,
}

/// Something could not be fetched or taken.
#[derive(Debug, thiserror::Error)]
pub enum FetchFault {
    /// The bucket could not be read.
    #[error(transparent)]
    Bucket(#[from] BucketFault),
    /// What lies there is not what was asked for.
    #[error("{location}: {fault}")]
    Layout {
        /// Where.
        location: String,
        /// What is wrong, and what to do.
        fault: String,
    },
    /// It was fetched, and refused.
    #[error(transparent)]
    Import(#[from] ImportFault),
    /// A file could not be written here.
    #[error("{path} cannot be written: {cause}")]
    Disk {
        /// Which.
        path: String,
        /// What the system said.
        cause: std::io::Error,
    },
    /// The ledger could not be used.
    #[error(transparent)]
    Ledger(#[from] LedgerFault),
}

/// A folder that is gone when it is dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new(below: &Path) -> Result<Self, FetchFault> {
        static LAST: AtomicU64 = AtomicU64::new(0);
        let path = below.join(format!("lowtide-fetch-{}-{}", std::process::id(), LAST.fetch_add(1, Ordering::Relaxed)));
        // A container that starts again has the process id that it had, and what it left when it was killed.
        let _ = std::fs::remove_dir_all(&path);
        make_folder(&path)?;
        Ok(Scratch(path))
    }
}

fn make_folder(path: &Path) -> Result<(), FetchFault> {
    std::fs::create_dir_all(path).map_err(|cause| FetchFault::Disk { path: path.display().to_string(), cause })
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Takes what is new since the last time, the oldest first. `leave` names versions (address and ETag) that are passed over as if they had been taken. With
/// `try_only` nothing is written.
///
/// # Errors
/// [`FetchFault`] when the bucket's list or the ledger cannot be read; what became of each version is in its own outcome.
pub async fn fetch(
    connection: &mut PgConnection,
    bucket: &Bucket,
    request: &Request,
    leave: &BTreeSet<(String, String)>,
    now: Timestamp,
    try_only: bool,
) -> Result<Vec<Fetched>, FetchFault> {
    let objects = bucket.list(&request.location.prefix).await?;
    let known = if request.again { BTreeSet::new() } else { known(connection, bucket, request).await? };
    let new = new_objects(bucket, request, &objects, |key| !known.contains(key) && !leave.contains(key))?;
    let mut done = Vec::new();
    match request.what {
        What::Cur => {
            for manifest in new {
                let outcome = report(connection, bucket, request, manifest, &objects, now, try_only).await;
                done.push(recorded(connection, bucket, &[manifest], outcome, try_only).await?);
            }
        }
        What::Feed => {
            for some in new.chunks(FILES_AT_ONCE) {
                done.extend(feed(connection, bucket, request, some, now, try_only).await?);
            }
        }
    }
    Ok(done)
}

/// The manifests, or the files of the feed, that are asked for and new.
fn new_objects<'a>(
    bucket: &Bucket,
    request: &Request,
    objects: &'a [Object],
    is_new: impl Fn(&(String, String)) -> bool,
) -> Result<Vec<&'a Object>, FetchFault> {
    let wanted: Vec<&Object> = match request.what {
        What::Cur => {
            let layout = |fault| FetchFault::Layout { location: request.location.to_string(), fault };
            let since = request.since.get(..7).unwrap_or_default();
            let late = |version: &Version| version.month.is_none_or(|month| month.to_string().as_str() >= since);
            versions(objects).map_err(layout)?.into_iter().filter(late).map(|version| version.manifest).collect()
        }
        What::Feed => {
            let late = |object: &&Object| feed_day(&object.key).is_some_and(|day| day >= request.since.as_str());
            objects.iter().filter(late).collect()
        }
    };
    Ok(wanted.into_iter().filter(|object| is_new(&(bucket.url(&object.key), object.etag.clone()))).collect())
}

/// Addresses and ETags of what was fetched from there before.
async fn known(connection: &mut PgConnection, bucket: &Bucket, request: &Request) -> Result<BTreeSet<(String, String)>, LedgerFault> {
    let rows = sqlx::query!("SELECT url, etag FROM ledger.fetched WHERE starts_with(url, $1)", bucket.url(&request.location.prefix));
    let rows = rows.fetch_all(connection).await.map_err(LedgerFault::during("read what was fetched before"))?;
    Ok(rows.into_iter().map(|row| (row.url, row.etag)).collect())
}

/// A version of a report: its manifest and the files that it names, into one folder, and from there into the ledger.
async fn report(
    connection: &mut PgConnection,
    bucket: &Bucket,
    request: &Request,
    manifest: &Object,
    objects: &[Object],
    now: Timestamp,
    try_only: bool,
) -> Result<Imported, FetchFault> {
    let url = bucket.url(&manifest.key);
    let layout = |fault: String| FetchFault::Layout { location: url.clone(), fault };
    let text = bucket.small(manifest).await?;
    let parts = parts_of(&text).map_err(&layout)?;
    let scratch = Scratch::new(&request.folder)?;
    // The folder's name may say when the version was made.
    let name = parts.first().and_then(|part| part.folder()).unwrap_or("report");
    let folder = scratch.0.join(name);
    make_folder(&folder)?;
    let mut names = BTreeSet::new();
    for part in &parts {
        let Part { bucket: named, key } = part;
        if named.as_ref().is_some_and(|named| *named != request.location.bucket) {
            return Err(layout(format!("it names a file of another bucket, {}", named.as_deref().unwrap_or_default())));
        }
        let file = part.file().filter(|file| names.insert(file.to_string()));
        let file = file.ok_or_else(|| layout(format!("it names {key:?}, which is no file or comes twice")))?;
        let listed = objects.iter().find(|object| object.key == *key).cloned();
        let object = match listed {
            Some(object) => Some(object),
            None => bucket.list(key).await?.into_iter().find(|object| object.key == *key),
        };
        let object =
            object.ok_or_else(|| layout(format!("it names {key}, which is not in the bucket: the delivery is not complete yet")))?;
        bucket.download(&object, &folder.join(file)).await?;
    }
    let beside = folder.join("fetched-Manifest.json");
    std::fs::write(&beside, &text).map_err(|cause| FetchFault::Disk { path: beside.display().to_string(), cause })?;
    Ok(take(connection, Format::Cur, &[folder], request, now, try_only).await?)
}

/// Files of the feed, as one statement. One that is damaged does not hold up the others.
async fn feed(
    connection: &mut PgConnection,
    bucket: &Bucket,
    request: &Request,
    files: &[&Object],
    now: Timestamp,
    try_only: bool,
) -> Result<Vec<Fetched>, FetchFault> {
    let scratch = Scratch::new(&request.folder)?;
    let (mut there, mut done) = (Vec::new(), Vec::new());
    for object in files {
        // Two folders may have files of one name.
        let folder = scratch.0.join(there.len().to_string());
        make_folder(&folder)?;
        let path = folder.join(object.key.rsplit('/').next().unwrap_or_default());
        match bucket.download(object, &path).await {
            Ok(()) => there.push((path, *object)),
            Err(fault) => done.push(recorded(connection, bucket, &[*object], Err(fault.into()), try_only).await?),
        }
    }
    while !there.is_empty() {
        let paths: Vec<PathBuf> = there.iter().map(|(path, _)| path.clone()).collect();
        let outcome = take(connection, Format::Feed, &paths, request, now, try_only).await;
        let bad = match &outcome {
            Err(ImportFault::Damaged { path, .. } | ImportFault::Malformed { path, .. }) => {
                there.iter().position(|(there, _)| there == path)
            }
            _ => None,
        };
        let (objects, outcome) = match bad {
            Some(at) => (vec![there.remove(at).1], outcome),
            None => (there.drain(..).map(|(_, object)| object).collect(), outcome),
        };
        done.push(recorded(connection, bucket, &objects, outcome.map_err(FetchFault::from), try_only).await?);
    }
    Ok(done)
}

async fn take(
    connection: &mut PgConnection,
    format: Format<'_>,
    paths: &[PathBuf],
    request: &Request,
    now: Timestamp,
    try_only: bool,
) -> Result<Imported, ImportFault> {
    let options = request.options.clone();
    if try_only { dry_run(connection, format, paths, options, now).await } else { import(connection, format, paths, options, now).await }
}

/// Puts on record what was taken; what was refused is not, and is fetched again.
async fn recorded(
    connection: &mut PgConnection,
    bucket: &Bucket,
    objects: &[&Object],
    outcome: Result<Imported, FetchFault>,
    try_only: bool,
) -> Result<Fetched, LedgerFault> {
    if let (Ok(imported), false) = (&outcome, try_only) {
        let statements: Vec<_> = imported.statements.iter().map(|statement| statement.id).collect();
        let taken_by = taken_by(connection).await?;
        let row = |object: &&Object| {
            let url = bucket.url(&object.key);
            // What is fetched again is on record again.
            let id = derive_uuid(&["fetched", &url, &object.etag, &json!(statements).to_string()]);
            json!({"id": id, "at": object.modified.to_rfc3339(), "url": url, "etag": object.etag, "statements": statements, "taken_by": taken_by})
        };
        insert(connection, FETCHED, &objects.iter().map(row).collect::<Vec<_>>()).await?;
    }
    let urls = objects.iter().map(|object| bucket.url(&object.key)).collect();
    Ok(Fetched { urls, etags: objects.iter().map(|object| object.etag.clone()).collect(), outcome })
}
