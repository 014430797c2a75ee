//! Manifests: which files a report says that it consists of.
//!
//! Decides: where manifests lie, what they name, and how well that fits a file. Does not: look for the files (see [`super`]).
//! Sources: AWS Data Exports user guide, "Data Exports manifest file reference" (`dataFiles`, `executionId`); CUR user guide, "Cost and Usage Reports delivery"
//! (`reportKeys`, `assemblyId`).

use std::collections::BTreeSet;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use crate::ledger::import::ImportFault;
use crate::ledger::import::reading::malformed;

const MANIFEST: &str = "Manifest.json";
/// The most that is read into memory of one. Those of reports in thousands of parts have a MB.
const MOST_OF_A_MANIFEST: u64 = 16 << 20;

/// A file's name without what says how it is packed: a report that was unpacked is still the one that its manifest names.
pub(super) fn unpacked(name: &str) -> &str {
    name.strip_suffix(".gz").or_else(|| name.strip_suffix(".zip")).unwrap_or(name)
}

/// A manifest: which files make one version.
pub(super) struct Manifest {
    pub path: PathBuf,
    pub name: Option<String>,
    pub keys: Vec<String>,
}

impl Manifest {
    fn read(path: &Path) -> Result<Option<Manifest>, ImportFault> {
        let unreadable = |cause| ImportFault::Unreadable { path: path.to_path_buf(), cause };
        let mut text = Vec::new();
        let file = std::fs::File::open(path).map_err(unreadable)?;
        file.take(MOST_OF_A_MANIFEST + 1).read_to_end(&mut text).map_err(unreadable)?;
        if text.len() as u64 > MOST_OF_A_MANIFEST {
            return Err(malformed(path, 1, format!("a manifest of more than {MOST_OF_A_MANIFEST} bytes; expected some KB")));
        }
        let json = json_of(&text).map_err(|fault| malformed(path, 1, fault))?;
        let Some(keys) = keys_of(&json) else { return Ok(None) };
        let name = ["executionId", "assemblyId"].iter().find_map(|name| json.get(name)?.as_str()).map(str::to_owned);
        Ok(Some(Manifest { path: path.to_path_buf(), name, keys }))
    }

    /// Whether it lies in the folder above that of the files: AWS puts there a copy of the newest version's manifest.
    pub(super) fn lies_above(&self, files: &[PathBuf]) -> bool {
        let above = files.first().and_then(|file| file.parent()?.parent());
        above.is_some() && above == self.path.parent()
    }

    /// How well a key fits a file: the number of last path components that are the same. None without the file's own name.
    pub(super) fn fit(&self, file: &Path) -> Option<(usize, bool)> {
        let same = |key: &String| {
            let (a, b) = (key.rsplit('/'), file.components().rev().map(|part| part.as_os_str().to_string_lossy()));
            a.zip(b).take_while(|(a, b)| unpacked(a) == unpacked(b)).count()
        };
        let best = self.keys.iter().map(same).max().filter(|count| *count > 0)?;
        Some((best, self.path.parent() == file.parent()))
    }
}

fn json_of(text: &[u8]) -> Result<serde_json::Value, String> {
    serde_json::from_slice(text).map_err(|cause| format!("not a manifest: {cause}"))
}

fn keys_of(json: &serde_json::Value) -> Option<Vec<String>> {
    let list = ["dataFiles", "reportKeys"].iter().find_map(|name| json.get(name)?.as_array())?;
    Some(list.iter().filter_map(|key| key.as_str().map(str::to_owned)).collect())
}

/// A file that a manifest names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The bucket, where the manifest says it.
    pub bucket: Option<String>,
    /// The key.
    pub key: String,
}

impl Part {
    /// The file's own name; none when it would lead out of a folder.
    pub fn file(&self) -> Option<&str> {
        self.key.rsplit('/').next().filter(|name| is_plain(name))
    }

    /// The name of the folder that it lies in.
    pub fn folder(&self) -> Option<&str> {
        self.key.rsplit('/').nth(1).filter(|name| is_plain(name))
    }
}

fn is_plain(name: &str) -> bool {
    !name.is_empty() && !name.starts_with('.') && !name.contains(['\\', '\0'])
}

/// The files that a manifest names.
///
/// # Errors
/// Says what is expected when it is none.
pub fn parts_of(manifest: &[u8]) -> Result<Vec<Part>, String> {
    let keys = keys_of(&json_of(manifest)?).filter(|keys| !keys.is_empty());
    let keys = keys.ok_or("a manifest with dataFiles or reportKeys is expected, and this one names no file")?;
    let part = |key: String| match key.strip_prefix("s3://").and_then(|rest| rest.split_once('/')) {
        Some((bucket, key)) => Part { bucket: Some(bucket.to_owned()), key: key.to_owned() },
        None => Part { bucket: None, key: key.trim_start_matches('/').to_owned() },
    };
    Ok(keys.into_iter().map(part).collect())
}

/// Manifests that are given, or lie where AWS puts them: beside the files, above them, or in `metadata` beside `data`.
pub(super) fn manifests(given: &[PathBuf], files: &[PathBuf]) -> Result<Vec<Manifest>, ImportFault> {
    let mut paths: BTreeSet<PathBuf> = given.iter().cloned().collect();
    let folders: BTreeSet<&Path> = files.iter().filter_map(|file| file.parent()).collect();
    for folder in folders {
        for (height, above) in folder.ancestors().take(4).enumerate() {
            if height < 2 {
                paths.extend(manifests_in(above, 0));
            }
            if above.file_name().is_some_and(|name| name == "data") {
                paths.extend(manifests_in(&above.with_file_name("metadata"), 2));
            }
        }
    }
    let read: Vec<Option<Manifest>> = paths.iter().map(|path| Manifest::read(path)).collect::<Result<_, _>>()?;
    Ok(read.into_iter().flatten().collect())
}

fn manifests_in(folder: &Path, depth: usize) -> Vec<PathBuf> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut found = Vec::new();
    for entry in entries.flatten().map(|entry| entry.path()) {
        if entry.is_dir() && depth > 0 {
            found.extend(manifests_in(&entry, depth - 1));
        } else if is_manifest(&entry) {
            found.push(entry);
        }
    }
    found
}

pub(super) fn is_manifest(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().ends_with(MANIFEST))
}
