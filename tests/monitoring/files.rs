//! Generated files are those that the code writes, and every name in alerts and documents is a metric's.

use std::collections::BTreeSet;
use std::path::Path;

use lowtide::metrics::register::{ALL, Kind};

fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap_or_else(|fault| panic!("{path}: {fault}"))
}

/// Names of metrics in a text, without the ends of a histogram's series.
fn names(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, _) in text.match_indices("lowtide_") {
        if text[..at].ends_with(|c: char| c.is_alphanumeric() || "_/.".contains(c)) {
            continue;
        }
        let name: String = text[at..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        // Roles of the ledger, and families written as `lowtide_ledger_*`.
        if !["lowtide_writer", "lowtide_reader", "lowtide_sealer"].contains(&name.as_str()) && !text[at + name.len()..].starts_with('*') {
            found.insert(name);
        }
    }
    found
}

fn is_metric(name: &str) -> bool {
    ALL.iter().any(|metric| {
        metric.name == name
            || matches!(metric.kind, Kind::Histogram(_))
                && name.strip_prefix(metric.name).is_some_and(|end| ["_bucket", "_sum", "_count"].contains(&end))
    })
}

#[test]
fn generated_files_are_what_the_code_writes() {
    for (path, content) in lowtide::monitoring::files() {
        let path = path.display().to_string();
        assert!(read(&path) == content, "{path} is behind: run lowtide monitoring");
    }
    let files = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("charts/lowtide/files/dashboards")).unwrap().count();
    assert_eq!(files + 1, lowtide::monitoring::files().len(), "a dashboard that no code writes");
}

#[test]
fn every_name_in_alerts_and_documents_is_a_metric_and_every_metric_is_documented() {
    let rules = read("charts/lowtide/files/alerts/lowtide.yaml");
    for name in names(&rules) {
        let metric = ALL.iter().find(|metric| name.starts_with(metric.name) && is_metric(&name));
        assert!(is_metric(&name) && metric.is_none_or(|metric| metric.replaced_by.is_none()), "alerts name {name}");
    }
    for page in [
        "docs/operations.md",
        "docs/ledger.md",
        "docs/runbooks.md",
        "docs/metrics.md",
        "docs/install-aws.md",
        "docs/simulation.md",
        "README.md",
    ] {
        for name in names(&read(page)) {
            assert!(is_metric(&name), "{page} names {name}, which is no metric");
        }
    }
    let documented = names(&read("docs/metrics.md"));
    for metric in ALL {
        assert!(documented.contains(metric.name), "{} is not in docs/metrics.md", metric.name);
    }
}

#[test]
fn every_alert_has_a_runbook_a_dashboard_and_two_cases_and_no_runbook_is_left_over() {
    let rules = read("charts/lowtide/files/alerts/lowtide.yaml");
    let alerts: BTreeSet<&str> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(alerts.len() > 25, "{}", alerts.len());
    let runbooks = read("docs/runbooks.md");
    let sections: BTreeSet<&str> = runbooks.lines().filter_map(|line| line.strip_prefix("### ")).collect();
    assert_eq!(alerts, sections);
    for section in runbooks.split("\n### ").skip(1) {
        for part in ["**Meaning.**", "**Impact.**", "**Diagnosis.**", "**Mitigation.**"] {
            assert!(section.contains(part), "{part} is missing in {}", section.lines().next().unwrap());
        }
        // What the runbook says an alert asks is what it asks.
        let asked = section.lines().nth(2).unwrap();
        let expression = asked.split('`').nth(1).unwrap();
        assert!(rules.contains(&format!("expr: '{}'", expression.replace('\'', "''"))), "{expression}");
    }
    let cases = read("tests/alerts/rules.yaml");
    let dashboards: Vec<&str> = lowtide::monitoring::dashboard::all().iter().map(|dashboard| dashboard.uid).collect();
    for alert in alerts {
        for case in ["fires", "is silent"] {
            assert!(cases.contains(&format!("- name: {alert} {case}\n")), "{alert} {case}");
        }
        assert!(rules.contains(&format!("runbook_url: RUNBOOKS#{}\n", alert.to_lowercase())), "{alert}");
    }
    for line in rules.lines().filter(|line| line.contains("dashboard_url")) {
        assert!(dashboards.iter().any(|uid| line.ends_with(&format!("/d/{uid}"))), "{line}");
    }
}
