//! The definitions in `crds/` and in the chart are the Rust types, and the words the chart uses are the operator's.
#![cfg(feature = "live")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::path::Path;

use lowtide::cli::crds::rendered;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn files_equal_the_types() {
    for folder in ["crds", "charts/lowtide/files/crds"] {
        let mut expected = BTreeSet::new();
        for (file, yaml) in rendered().unwrap() {
            let path = root().join(folder).join(file);
            let found = std::fs::read_to_string(&path).unwrap_or_default();
            assert!(found == yaml, "{folder}/{file} differs from the types: run `lowtide crds --write {folder}`");
            expected.insert(file.to_owned());
        }
        let found: BTreeSet<String> =
            std::fs::read_dir(root().join(folder)).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        assert_eq!(found, expected, "{folder} holds a file that no type stands for");
    }
}
