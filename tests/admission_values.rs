//! What the chart's admission policy lets in, the operator can read: the same annotations, and every value of the policy's own test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::path::Path;

use lowtide::core::workload::need::{NeedError, OWNER_KEYS, PodManifest, parse};

fn text_of(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

fn pod(annotations: &[(&str, &str)]) -> PodManifest {
    let annotations: serde_json::Map<String, serde_json::Value> =
        annotations.iter().map(|(key, value)| (format!("lowtide.dev/{key}"), (*value).into())).collect();
    serde_json::from_value(serde_json::json!({
        "metadata": { "annotations": annotations },
        "spec": { "containers": [{ "name": "c", "image": "i", "resources": { "limits": { "nvidia.com/gpu": 1 } } }] },
    }))
    .unwrap()
}

#[test]
fn the_policy_knows_the_owners_keys_and_no_others() {
    let chart = text_of("charts/lowtide/templates/_annotations.tpl");
    let found: BTreeSet<&str> = chart.lines().filter_map(|line| line.strip_prefix("- key: ")).collect();
    assert_eq!(found, BTreeSet::from(OWNER_KEYS));
}

#[test]
fn the_policy_keeps_the_operators_keys_from_owners() {
    let chart = text_of("charts/lowtide/templates/_annotations.tpl");
    let (_, after) = chart.split_once("define \"lowtide.operatorKeys\"").unwrap();
    let line = after.lines().find(|line| line.starts_with('[')).unwrap();
    let keys: Vec<String> = serde_json::from_str(line).unwrap();
    assert!(!keys.is_empty());
    for key in keys {
        let read = parse(&pod(&[("workload", "batch"), (&key, "x")]));
        let unknown = read.is_err_and(|faults| faults.iter().any(|f| matches!(f, NeedError::UnknownAnnotation { .. })));
        assert!(!unknown, "the policy reserves lowtide.dev/{key}, which the operator does not know");
        assert!(!OWNER_KEYS.contains(&key.as_str()), "lowtide.dev/{key} cannot be both the owner's and the operator's");
    }
}

#[test]
fn every_admitted_value_can_be_read() {
    let mut admitted = 0;
    for line in text_of("tests/admission/values.tsv").lines().filter(|l| !l.is_empty() && !l.starts_with('#')) {
        let [kind, key, value, verdict] = line.split('\t').collect::<Vec<_>>()[..] else { panic!("four columns are needed: {line:?}") };
        if verdict == "admitted" {
            admitted += 1;
            if let Err(faults) = parse(&pod(&[("workload", kind), (key, value)])) {
                panic!("lowtide.dev/{key}: {value:?} is admitted, but the operator says: {}", faults[0]);
            }
        }
    }
    assert!(admitted > 20, "values.tsv should hold good values too, found {admitted}");
}
