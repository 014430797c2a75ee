//! Which files belong together: the parts of one version of a report.
//!
//! Decides: that a folder stands for the files in it; that parts are complete when they are all that their manifest names, or when a person says so;
//! and which of several deliveries is the newer.
//! Does not: read the files.
//! Sources: AWS Data Exports user guide, "Data Exports manifest file reference" (`dataFiles`, `executionId`) and "Understanding export delivery"; CUR user
//! guide, "Cost and Usage Reports delivery" (`reportKeys`, `assemblyId`).

mod manifest;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use self::manifest::{Manifest, is_manifest, manifests, unpacked};
pub use self::manifest::{Part, parts_of};
use super::ImportFault;
use super::reading::{ReadFile, content_of, name_of};

/// The files of one version of a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Delivery {
    /// What its source calls it, where it names it.
    pub name: Option<String>,
    /// When its source made it, where a folder's name says so: RFC 3339.
    pub made_at: Option<String>,
    /// The manifest above its folder names it: the source's newest.
    pub is_current: bool,
    /// When the newest of its files was written here.
    pub written_at: SystemTime,
    /// The files, in order.
    pub files: Vec<PathBuf>,
}

impl Delivery {
    /// Later ones are newer.
    pub(super) fn age(&self) -> (Option<jiff::Timestamp>, SystemTime, Option<&str>) {
        (self.made_at.as_deref().and_then(|at| at.parse().ok()), self.written_at, self.name.as_deref())
    }
}

/// Of several versions of one period the newest: by their own dates, or the one that the report's manifest names. `None` when neither says it; when files were
/// written here tells nothing, since whoever copies them decides it.
pub(super) fn newest_of<'a>(versions: &[&'a Delivery]) -> Option<&'a Delivery> {
    let current: Vec<&&Delivery> = versions.iter().filter(|version| version.is_current).collect();
    match (versions, current.as_slice()) {
        ([only], _) => Some(only),
        _ if versions.iter().all(|version| version.made_at.is_some()) => versions.iter().copied().max_by_key(|version| version.age()),
        (_, [current]) => Some(current),
        _ => None,
    }
}

/// The files that `paths` stand for: a folder for those below it, in order of their names.
pub(super) fn files_of(paths: &[PathBuf]) -> Result<Vec<PathBuf>, ImportFault> {
    let mut files = Vec::new();
    for path in paths {
        if path.is_dir() {
            below(path, &mut files)?;
        } else {
            files.push(path.clone());
        }
    }
    let mut seen = BTreeSet::new();
    files.retain(|file| seen.insert(std::fs::canonicalize(file).unwrap_or_else(|_| file.clone())));
    Ok(files)
}

/// Reads the files that `paths` stand for, numbered from 1: one that says the same as another, by whatever name or packing, is read once.
pub(super) fn each_file_once(
    paths: &[PathBuf],
    mut read: impl FnMut(usize, &Path) -> Result<ReadFile, ImportFault>,
) -> Result<Vec<ReadFile>, ImportFault> {
    let (mut files, mut seen) = (Vec::new(), BTreeSet::new());
    for path in files_of(paths)? {
        if seen.insert(content_of(&path)?) {
            files.push(read(seen.len(), &path)?);
        }
    }
    if files.is_empty() { Err(no_file()) } else { Ok(files) }
}

fn no_file() -> ImportFault {
    ImportFault::Incomplete("there is no file to import".into())
}

fn below(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), ImportFault> {
    let fault = |cause| ImportFault::Unreadable { path: folder.to_path_buf(), cause };
    let mut entries: Vec<PathBuf> =
        std::fs::read_dir(folder).map_err(fault)?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>().map_err(fault)?;
    entries.sort();
    for entry in entries {
        let hidden = entry.file_name().is_none_or(|name| name.to_string_lossy().starts_with('.'));
        if entry.is_dir() {
            below(&entry, files)?;
        } else if !hidden {
            files.push(entry);
        }
    }
    Ok(())
}

/// The versions that `paths` hold. Files that a manifest names and that lie beside the given ones are taken with them. Without a manifest a person says
/// by `complete` that the files of each folder are all there are.
///
/// # Errors
/// [`ImportFault::Incomplete`] when parts are missing or nobody says that none is.
pub(super) fn deliveries(paths: &[PathBuf], complete: bool) -> Result<Vec<Delivery>, ImportFault> {
    let (mut found, others) = by_manifest(paths)?;
    let mut by_folder: BTreeMap<PathBuf, Vec<PathBuf>> = BTreeMap::new();
    for file in others {
        by_folder.entry(file.parent().unwrap_or(Path::new("")).to_path_buf()).or_default().push(file);
    }
    for (folder, files) in by_folder {
        if !complete {
            let names: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
            return Err(ImportFault::Incomplete(format!(
                "no *-Manifest.json names {}: put the manifest beside the files, or add --complete if they are the whole month",
                names.join(", ")
            )));
        }
        missing_parts(&files)?;
        let name = folder.file_name().map(|name| name.to_string_lossy().into_owned());
        found.push(delivery(name, files, false)?);
    }
    if found.is_empty() {
        return Err(no_file());
    }
    Ok(found)
}

/// As [`deliveries`], of reports that need no manifest: all files that none names are one version.
pub(super) fn versions(paths: &[PathBuf]) -> Result<Vec<Delivery>, ImportFault> {
    let (mut found, others) = by_manifest(paths)?;
    if !others.is_empty() {
        found.push(delivery(None, others, false)?);
    }
    Ok(found)
}

/// The versions that manifests name, and the files that none does, in order.
fn by_manifest(paths: &[PathBuf]) -> Result<(Vec<Delivery>, Vec<PathBuf>), ImportFault> {
    let (given, files): (Vec<_>, Vec<_>) = files_of(paths)?.into_iter().partition(|path| is_manifest(path));
    let manifests = manifests(&given, &files)?;
    let (mut of_manifest, mut others): (BTreeMap<usize, BTreeSet<PathBuf>>, _) = (BTreeMap::new(), BTreeSet::new());
    let nothing_else = files.is_empty();
    for file in files {
        match manifests.iter().enumerate().filter_map(|(n, manifest)| Some((manifest.fit(&file)?, n))).max() {
            Some((_, n)) => of_manifest.entry(n).or_default().insert(file),
            None => others.insert(file),
        };
    }
    // A manifest that was given by its own name, or alone, stands for its files.
    let stands = |manifest: &Manifest| paths.contains(&manifest.path) || (nothing_else && given.contains(&manifest.path));
    for (n, _) in manifests.iter().enumerate().filter(|(_, manifest)| stands(manifest)) {
        of_manifest.entry(n).or_default();
    }
    let mut found = Vec::new();
    for (n, files) in of_manifest {
        let Some(manifest) = manifests.get(n) else { continue };
        let files = all_named(manifest, &files)?;
        let is_current = manifests.iter().any(|above| above.name.is_some() && above.name == manifest.name && above.lies_above(&files));
        found.push(delivery(manifest.name.clone(), files, is_current)?);
    }
    Ok((found, others.into_iter().collect()))
}

/// The files of a manifest: given, or beside those that are.
fn all_named(manifest: &Manifest, given: &BTreeSet<PathBuf>) -> Result<Vec<PathBuf>, ImportFault> {
    let folders: BTreeSet<&Path> = given.iter().map(PathBuf::as_path).chain([manifest.path.as_path()]).filter_map(Path::parent).collect();
    let (mut files, mut missing) = (Vec::new(), Vec::new());
    for key in &manifest.keys {
        let name = key.rsplit('/').next().unwrap_or(key);
        let is_it = |file: &&PathBuf| file.file_name().is_some_and(|of| unpacked(&of.to_string_lossy()) == unpacked(name));
        let there = given.iter().find(is_it).cloned();
        let names = [name, unpacked(name)];
        let beside = || folders.iter().flat_map(|folder| names.map(|name| folder.join(name))).find(|file| file.is_file());
        match there.or_else(beside) {
            Some(file) => files.push(file),
            None => missing.push(name.to_owned()),
        }
    }
    if missing.is_empty() {
        return Ok(files);
    }
    Err(ImportFault::Incomplete(format!(
        "{} names {} files, and {} of them are missing: {}; put them in the folder of the others",
        manifest.path.display(),
        manifest.keys.len(),
        missing.len(),
        missing.join(", ")
    )))
}

/// Refuses `report-00002.csv.gz` without `report-00001.csv.gz`, whatever a person says.
fn missing_parts(files: &[PathBuf]) -> Result<(), ImportFault> {
    let mut numbers: BTreeMap<String, BTreeSet<u32>> = BTreeMap::new();
    for file in files {
        let name = name_of(file);
        let stem = name.split('.').next().unwrap_or_default();
        if let Some((report, number)) = stem.rsplit_once('-')
            && number.len() == 5
            && let Ok(number) = number.parse()
        {
            numbers.entry(report.to_owned()).or_default().insert(number);
        }
    }
    for (report, there) in numbers {
        let (first, last) = (there.first().copied().unwrap_or(1).min(1), there.last().copied().unwrap_or(0));
        if let Some(missing) = (first..=last).find(|number| !there.contains(number)) {
            return Err(ImportFault::Incomplete(format!("{report}-{missing:05} is missing: give all parts in one command")));
        }
    }
    Ok(())
}

fn delivery(name: Option<String>, files: Vec<PathBuf>, is_current: bool) -> Result<Delivery, ImportFault> {
    let mut written_at = SystemTime::UNIX_EPOCH;
    for file in &files {
        let written = std::fs::metadata(file).and_then(|meta| meta.modified());
        written_at = written_at.max(written.map_err(|cause| ImportFault::Unreadable { path: file.clone(), cause })?);
    }
    let made_at = files.first().and_then(|file| file.parent()).and_then(time_in_name);
    Ok(Delivery { name, made_at, is_current, written_at, files })
}

/// A folder that Data Exports makes for an execution begins with its time: `2026-08-03T10:15:00.123Z-ID`.
fn time_in_name(folder: &Path) -> Option<String> {
    let name = folder.file_name()?.to_string_lossy().into_owned();
    let upto = name.find('Z')? + 1;
    name.get(..upto)?.parse::<jiff::Timestamp>().ok().map(|at| at.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Tree(PathBuf);

    /// When a delivery was made or what it is called, and its files.
    type NamedFiles = (Option<String>, Vec<String>);

    impl Tree {
        fn new(name: &str, files: &[(&str, &str)]) -> Self {
            let root = std::env::temp_dir().join(format!("lowtide-delivery-{}-{name}", std::process::id()));
            let _ = std::fs::remove_dir_all(&root);
            for (path, text) in files {
                let path = root.join(path);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, text).unwrap();
            }
            Tree(root)
        }

        fn deliveries(&self, given: &[&str], complete: bool) -> Result<Vec<NamedFiles>, String> {
            let paths: Vec<PathBuf> = given.iter().map(|path| self.0.join(path)).collect();
            let found = deliveries(&paths, complete).map_err(|fault| fault.to_string())?;
            let names = |d: &Delivery| d.files.iter().map(|f| f.strip_prefix(&self.0).unwrap().display().to_string()).collect::<Vec<_>>();
            Ok(found.iter().map(|d| (d.made_at.clone().or(d.name.clone()), names(d))).collect())
        }
    }

    impl Drop for Tree {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_part_brings_its_report_or_is_refused() {
        let manifest =
            r#"{"assemblyId": "a1", "reportKeys": ["p/r/20260701-20260801/a1/r-00001.csv.gz", "p/r/20260701-20260801/a1/r-00002.csv.gz"]}"#;
        let tree = Tree::new("parts", &[("a1/r-Manifest.json", manifest), ("a1/r-00001.csv.gz", ""), ("a1/r-00002.csv.gz", "")]);
        let both = vec!["a1/r-00001.csv.gz".to_owned(), "a1/r-00002.csv.gz".to_owned()];
        for given in ["a1/r-00001.csv.gz", "a1/r-00002.csv.gz", "a1", ""] {
            assert_eq!(tree.deliveries(&[given], false).unwrap(), [(Some("a1".to_owned()), both.clone())], "{given}");
        }
        let plain = Tree::new("plain", &[("a1/r-Manifest.json", manifest), ("a1/r-00001.csv", ""), ("a1/r-00002.csv.gz", "")]);
        let unpacked = vec!["a1/r-00001.csv".to_owned(), "a1/r-00002.csv.gz".to_owned()];
        assert_eq!(plain.deliveries(&["a1/r-00002.csv.gz"], false).unwrap(), [(Some("a1".to_owned()), unpacked)]);
        // The manifest alone stands for its files.
        assert_eq!(tree.deliveries(&["a1/r-Manifest.json"], false).unwrap(), [(Some("a1".to_owned()), both.clone())]);
        std::fs::remove_file(tree.0.join("a1/r-00002.csv.gz")).unwrap();
        let fault = tree.deliveries(&["a1/r-Manifest.json"], true).unwrap_err();
        assert!(fault.contains("names 2 files, and 1 of them are missing: r-00002.csv.gz"), "{fault}");
        let fault = tree.deliveries(&["a1/r-00001.csv.gz"], true).unwrap_err();
        assert!(fault.contains("names 2 files, and 1 of them are missing: r-00002.csv.gz"), "{fault}");
    }

    #[test]
    fn versions_are_distinguished_by_manifest_and_by_folder() {
        let manifest = |id: &str| format!(r#"{{"assemblyId": "{id}", "reportKeys": ["r/{id}/r-00001.csv"]}}"#);
        let (one, two) = (manifest("a1"), manifest("a2"));
        let tree = Tree::new(
            "versions",
            &[
                ("a1/r-Manifest.json", &one),
                ("a1/r-00001.csv", "x"),
                ("a2/r-Manifest.json", &two),
                ("a2/r-00001.csv", "y"),
                ("r-Manifest.json", &two),
            ],
        );
        let found = tree.deliveries(&[""], false).unwrap();
        assert_eq!(found.iter().map(|d| d.0.clone().unwrap()).collect::<Vec<_>>(), ["a1", "a2"]);
        let exports = Tree::new(
            "exports",
            &[
                ("e/data/BILLING_PERIOD=2026-07/2026-07-20T01:02:03.000Z-x1/e-00001.csv", "x"),
                ("e/data/BILLING_PERIOD=2026-07/2026-08-03T01:02:03.000Z-x2/e-00001.csv", "x"),
                (
                    "e/metadata/BILLING_PERIOD=2026-07/e-Manifest.json",
                    r#"{"executionId": "x2", "dataFiles": ["s3://b/e/data/BILLING_PERIOD=2026-07/2026-08-03T01:02:03.000Z-x2/e-00001.csv"]}"#,
                ),
            ],
        );
        let found = exports.deliveries(&["e/data/BILLING_PERIOD=2026-07/2026-08-03T01:02:03.000Z-x2/e-00001.csv"], false).unwrap();
        assert_eq!(found[0].0.as_deref(), Some("2026-08-03T01:02:03Z"));
    }

    #[test]
    fn of_two_versions_the_one_made_later_is_newer_to_the_fraction_of_a_second() {
        let made = |at: &str| Delivery {
            name: None,
            made_at: Some(at.into()),
            is_current: false,
            written_at: SystemTime::UNIX_EPOCH,
            files: Vec::new(),
        };
        assert!(made("2026-08-03T01:02:03Z").age() < made("2026-08-03T01:02:03.5Z").age());
        assert!(made("2026-08-03T01:02:03.5Z").age() < made("2026-08-03T01:02:04Z").age());
    }

    #[test]
    fn a_manifest_names_files_and_never_a_way_out_of_their_folder() {
        let named = |keys: &str| parts_of(format!(r#"{{"reportKeys": [{keys}]}}"#).as_bytes());
        let parts = named(r#""s3://b/e/data/2026-08-03T01:02:03Z-x/e-1.csv", "/p/r/r-1.csv.gz""#).unwrap();
        let said = |part: &Part| (part.bucket.clone(), part.folder().map(str::to_owned), part.file().map(str::to_owned));
        assert_eq!(said(&parts[0]), (Some("b".into()), Some("2026-08-03T01:02:03Z-x".into()), Some("e-1.csv".into())));
        assert_eq!(said(&parts[1]), (None, Some("r".into()), Some("r-1.csv.gz".into())));
        for bad in [r#""p/..""#, r#""p/""#, r#""p/.bashrc""#, r#""p/a\\b""#] {
            assert_eq!(named(bad).unwrap()[0].file(), None, "{bad}");
        }
        assert!(named("").unwrap_err().contains("names no file"));
        assert!(parts_of(b"<html>").unwrap_err().contains("not a manifest"));
    }

    #[test]
    fn without_a_manifest_a_person_says_that_it_is_all() {
        let tree = Tree::new("none", &[("cur.csv", ""), ("r-00002.csv", "")]);
        assert!(tree.deliveries(&["cur.csv"], false).unwrap_err().contains("add --complete"));
        assert_eq!(tree.deliveries(&["cur.csv"], true).unwrap().len(), 1);
        assert!(tree.deliveries(&["r-00002.csv"], true).unwrap_err().contains("r-00001 is missing"));
    }

    const MANIFESTS: [&str; 2] = [
        r#"{"assemblyId": "a1", "account": "1", "billingPeriod": {"start": "20260701T000000.000Z"}, "reportKeys": ["p/r/a1/r-00001.csv.gz", "/p/r/r-2.csv.gz"]}"#,
        r#"{"executionId": "x2", "dataFiles": ["s3://b/e/data/BILLING_PERIOD=2026-07/2026-08-03T01:02:03.000Z-x2/e-00001.csv"], "totalFiles": 1}"#,
    ];

    #[test]
    fn a_manifest_without_end_is_refused() {
        let tree = Tree::new("huge", &[("a1/r-Manifest.json", &" ".repeat(17 << 20)), ("a1/r-00001.csv", "")]);
        let fault = tree.deliveries(&["a1"], false).unwrap_err();
        assert!(fault.contains("a manifest of more than 16777216 bytes"), "{fault}");
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(crate::mutation::CASES / 4))]

        #[test]
        fn whatever_a_manifest_holds_names_files_in_their_folder_or_is_refused_with_a_sentence(
            text in crate::mutation::text(&MANIFESTS),
            json in crate::mutation::json(MANIFESTS.map(|text| serde_json::from_str(text).unwrap()).to_vec()),
        ) {
            for text in [text, json.to_string()] {
                match parts_of(text.as_bytes()) {
                    Ok(parts) => for part in &parts {
                        let names = [part.file(), part.folder()];
                        let is_plain = |name: &&str| Path::new("x").join(name).parent() == Some(Path::new("x")) && !name.starts_with('.');
                        assert!(names.iter().flatten().all(is_plain), "{part:?}");
                    },
                    Err(fault) => assert!(fault.contains("a manifest"), "{fault}"),
                }
                let tree = Tree::new("mutated", &[("a1/r-Manifest.json", &text), ("a1/r-00001.csv", "")]);
                if let Err(fault) = tree.deliveries(&["a1"], false) {
                    assert!(fault.contains("nothing was imported"), "{fault}");
                }
            }
        }
    }
}
