//! Imports point down: the core knows nothing of the engine, the engine nothing of the adapters, and inside the core each floor stands on
//! those below it.
//!
//! The floors are listed here once, from the ground up. A file names what it uses as `crate::FLOOR`, so reading the text is enough.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::{Path, PathBuf};

/// From the ground up. A floor may use itself and what stands before it.
const FLOORS: [&str; 27] = [
    "core::units",
    "core::market",
    "core::workload",
    "core::fleet",
    "core::record",
    "core::accounting",
    "core::snapshot",
    "core::invariant",
    "core::placement",
    "core::policy",
    "core::action",
    "core::plan",
    "metrics",
    "monitoring",
    "ports",
    "engine",
    "sim",
    "backtest",
    "aws",
    "kube",
    "ledger",
    "lab::ec2",
    "lab",
    "cli",
    "main",
    "ec2_main",
    "lib",
];

/// Parts of one floor that stand beside each other: neither may use the other.
const BESIDE: [&[&str]; 1] = [&["sim", "backtest", "aws", "kube", "ledger"]];

fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            rust_files(&entry, found);
        } else if entry.extension().is_some_and(|extension| extension == "rs") {
            found.push(entry);
        }
    }
}

/// The floor of a module path as `core::plan::buying`.
fn floor_of(module: &str) -> Option<usize> {
    FLOORS.iter().position(|floor| module == *floor || module.strip_prefix(floor).is_some_and(|rest| rest.starts_with("::")))
}

fn module_of(file: &Path) -> String {
    let path = file.strip_prefix("src").unwrap().with_extension("");
    let parts: Vec<&str> = path.iter().map(|part| part.to_str().unwrap()).filter(|part| *part != "mod").collect();
    parts.join("::")
}

/// What the code of `text` names below the crate's root; comments and tests aside.
fn uses(text: &str) -> Vec<String> {
    let code: Vec<&str> =
        text.lines().take_while(|line| *line != "#[cfg(test)]").filter(|line| !line.trim_start().starts_with("//")).collect();
    let code = code.join("\n");
    code.match_indices("crate::")
        .map(|(at, name)| code[at + name.len()..].chars().take_while(|c| c.is_alphanumeric() || "_:".contains(*c)).collect())
        .collect()
}

#[test]
fn imports_point_down_only() {
    let mut files = Vec::new();
    rust_files(Path::new("src"), &mut files);
    files.sort();
    let mut up = Vec::new();
    for file in files.iter().filter(|file| !file.iter().any(|part| part == "tests" || part == "tests.rs")) {
        let module = module_of(file);
        let Some(here) = floor_of(&module) else { continue };
        for used in uses(&fs::read_to_string(file).unwrap()) {
            let Some(there) = floor_of(used.trim_end_matches(':')) else { continue };
            let aside = BESIDE.iter().any(|row| here != there && row.contains(&FLOORS[here]) && row.contains(&FLOORS[there]));
            if there <= here && !aside {
                continue;
            }
            up.push(format!("{}: {module} uses {used}, which stands above or beside it", file.display()));
        }
    }
    up.sort();
    up.dedup();
    assert!(up.is_empty(), "imports that do not point down (core/mod.rs has the map of the house):\n{}", up.join("\n"));
}

/// Where the README sends a newcomer, there is a file.
#[test]
fn every_source_file_that_the_readme_names_is_there() {
    let readme = fs::read_to_string("README.md").unwrap();
    let named: Vec<&str> = readme.split("](src/").skip(1).filter_map(|rest| rest.split(')').next()).collect();
    assert!(named.len() >= 8, "the eight questions name their files: {named:?}");
    let absent: Vec<&&str> = named.iter().filter(|file| !Path::new("src").join(file).is_file()).collect();
    assert!(absent.is_empty(), "README.md names files that are not there: {absent:?}");
}
