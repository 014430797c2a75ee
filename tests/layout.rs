//! Imports point down: the core knows nothing of the engine, the engine nothing of the adapters, and inside the core each floor stands on
//! those below it.
//!
//! The floors are listed here once, from the ground up. A file names what it uses as `crate::FLOOR`, so reading the text is enough.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// From the ground up. A floor may use itself and what stands before it.
const FLOORS: [&str; 28] = [
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
    "console",
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

/// The floor of a module path as `core::plan::placing::buying`.
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

/// The table of attacks and accidents is worth what its tests are: a name that no test has is a promise that nothing keeps.
#[test]
fn every_test_that_the_page_on_security_names_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (mut files, mut sources) = (Vec::new(), String::new());
    ["src", "tests"].iter().for_each(|folder| rust_files(&root.join(folder), &mut files));
    files.iter().for_each(|file| sources.push_str(&fs::read_to_string(file).unwrap()));
    let page = fs::read_to_string(root.join("docs/security.md")).unwrap();
    let is_test = |word: &&str| {
        let words = word.trim_end_matches("...");
        words.matches('_').count() > 2 && words.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
    };
    let named: Vec<&str> = page.split('`').skip(1).step_by(2).filter(is_test).filter(|word| !word.starts_with("lowtide_")).collect();
    assert!(named.len() > 40, "{named:?}");
    for test in named {
        // A long name is cut short by dots.
        let begins = test.strip_suffix("...").map_or_else(|| format!("fn {test}("), |start| format!("fn {start}"));
        assert!(sources.contains(&begins), "{test}, named in docs/security.md, is no test");
    }
}

/// The paths that a `use` tree names: `{a, b::c}` below `prefix`.
fn paths_of(prefix: &[String], tree: &str, found: &mut Vec<Vec<String>>) {
    let tree = tree.trim();
    let names = |text: &str| -> Vec<String> { text.split("::").map(|n| n.trim().to_owned()).filter(|n| !n.is_empty()).collect() };
    let Some(open) = tree.find('{') else {
        let alone = tree.split(" as ").next().unwrap_or_default();
        found.push([prefix.to_vec(), names(alone)].concat());
        return;
    };
    let inner = tree[open + 1..].trim_end().strip_suffix('}').unwrap_or_default();
    let (mut depth, mut from) = (0, 0);
    for (at, c) in inner.char_indices().chain([(inner.len(), ',')]) {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                if !inner[from..at].trim().is_empty() {
                    paths_of(&[prefix.to_vec(), names(&tree[..open])].concat(), &inner[from..at], found);
                }
                from = at + 1;
            }
            _ => {}
        }
    }
}

/// The modules that the code of `text`, module `here`, names: by `use`, and by paths that begin with `crate`, `self` or `super`.
fn named_modules(text: &str, here: &[String], modules: &BTreeSet<Vec<String>>) -> BTreeSet<Vec<String>> {
    let code: Vec<&str> =
        text.lines().take_while(|line| *line != "#[cfg(test)]").filter(|line| !line.trim_start().starts_with("//")).collect();
    let code = code.join("\n");
    let mut paths = Vec::new();
    for (at, _) in code.match_indices("use ").filter(|(at, _)| *at == 0 || code[..*at].ends_with([' ', '\n'])) {
        paths_of(&[], code[at + 4..].split(';').next().unwrap_or_default(), &mut paths);
    }
    for word in code.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':')) {
        if ["crate::", "self::", "super::"].iter().any(|start| word.starts_with(start)) {
            paths_of(&[], word.trim_end_matches(':'), &mut paths);
        }
    }
    let absolute = |path: Vec<String>| {
        let mut base = match path.first()?.as_str() {
            "crate" => Vec::new(),
            "self" | "super" => here.to_vec(),
            _ => return None,
        };
        let ups = path.iter().take_while(|name| *name == "super").count();
        base.truncate(base.len().checked_sub(ups)?);
        let rest = path.into_iter().skip_while(|name| ["crate", "self", "super"].contains(&name.as_str()));
        base.extend(rest);
        (1..=base.len()).rev().map(|n| base[..n].to_vec()).find(|module| modules.contains(module))
    };
    // A folder that lists its own files does not use them.
    paths.into_iter().filter_map(absolute).filter(|module| !module.starts_with(here)).collect()
}

/// No file of the core imports one that imports it, however far round: what it needs is below it or beside it, never above.
#[test]
fn no_files_of_the_core_import_each_other() {
    let mut files = Vec::new();
    rust_files(Path::new("src/core"), &mut files);
    files.retain(|file| !file.iter().any(|part| part == "tests" || part == "tests.rs"));
    let name = |file: &PathBuf| module_of(file).split("::").map(str::to_owned).collect::<Vec<_>>();
    let modules: BTreeSet<Vec<String>> = files.iter().map(name).collect();
    let read = |file: &PathBuf| (name(file), named_modules(&fs::read_to_string(file).unwrap(), &name(file), &modules));
    let mut left: BTreeMap<Vec<String>, BTreeSet<Vec<String>>> = files.iter().map(read).collect();
    let imports: usize = left.values().map(BTreeSet::len).sum();
    assert!(imports > files.len(), "hardly any import was found ({imports} in {} files): the reader is at fault", files.len());
    // Whatever imports nothing that is left can be taken away; what remains at the end goes round in a circle.
    loop {
        let done: Vec<_> =
            left.iter().filter(|(_, uses)| uses.iter().all(|used| !left.contains_key(used))).map(|(m, _)| m.clone()).collect();
        if done.is_empty() {
            break;
        }
        done.iter().for_each(|module| drop(left.remove(module)));
    }
    let circle = |(module, uses): (&Vec<String>, &BTreeSet<Vec<String>>)| {
        let inside: Vec<String> = uses.iter().filter(|used| left.contains_key(*used)).map(|used| used.join("::")).collect();
        format!("{} uses {}", module.join("::"), inside.join(", "))
    };
    let text: Vec<String> = left.iter().map(circle).collect();
    assert!(left.is_empty(), "these import each other, or what does:\n{}", text.join("\n"));
}

/// Two programs of one version: nodes that have the older image run it under the newer chart, and nothing that says the version tells them apart.
#[test]
fn a_released_version_is_not_released_again() {
    let read = |path: &str| std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
    let version = env!("CARGO_PKG_VERSION");
    let released: Vec<String> = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/released"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    assert!(
        released.iter().any(|name| name == "0.1.0") && !released.iter().any(|name| name == version),
        "{version} is one of {released:?}"
    );
    let chart = read("charts/lowtide/Chart.yaml");
    assert!(chart.contains(&format!("\nversion: {version}\nappVersion: {version}\n")), "the chart has another version than {version}");
    let guide = read("docs/install-aws.md");
    assert!(guide.contains(&format!("lowtide:{version}")), "the guide pushes another version");
    assert!(!released.iter().any(|old| guide.contains(&format!("lowtide:{old}"))), "the guide pushes a released version");
}
