//! The objects that released versions wrote, as they wrote them: files below this folder, one object each, never edited. Beside each version's
//! folder, in `VERSION-crds`, the definitions that it installed.
//!
//! Included by the tests of every reader of objects.
#![allow(dead_code, missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;

use serde_json::Value;

/// Those of `version` whose file begins with `kind`, as in `claim-`, by file name.
pub fn objects(version: &str, kind: &str) -> Vec<(String, Value)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/released").join(version);
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut objects: Vec<(String, Value)> = files
        .map(|path| {
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            (name, serde_saphyr::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap())
        })
        .filter(|(name, _)| name.starts_with(kind))
        .collect();
    objects.sort_by(|a, b| a.0.cmp(&b.0));
    objects
}

/// Where the definitions are that `version` installed.
pub fn definitions(version: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/released").join(format!("{version}-crds"))
}
