//! What comes from outside, as it might come: whole, cut, doubled, with what breaks readers spliced in, or with a value in its place that
//! nobody expects. Every reader of outside data is tried on it in the ordinary test run; a case that fails is printed whole.
#![allow(dead_code, missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use proptest::prelude::*;
use serde_json::{Value, json};

/// Cases of one reader: some seconds for all of them in a build without optimisation.
pub const CASES: u32 = 400;

const SPLICES: [&str; 26] = [
    "",
    "\0",
    "\u{feff}",
    "\u{202e}",
    "é",
    "\"",
    "'",
    "{",
    "}",
    "[",
    "]",
    ":",
    ",",
    "\n",
    "\r\n",
    "\t",
    "-1",
    "1e308",
    "99999999999999999999999999",
    "9223372036854775807",
    "0.00000000000000000000001",
    "null",
    "NaN",
    "9999-12-31T23:59:59Z",
    "-9999-01-01T00:00:00Z",
    "%s%n${7*7}",
];

/// The next place at or after `at` where a character begins.
fn boundary(text: &str, at: usize) -> usize {
    (at.min(text.len())..=text.len()).find(|i| text.is_char_boundary(*i)).unwrap_or(text.len())
}

fn changed(text: &str, kind: u8, at: usize, length: usize, splice: &str) -> String {
    let from = boundary(text, at % (text.len() + 1));
    let to = boundary(text, from + length % 24);
    match kind {
        0 => text[..from].to_owned(),
        1 => format!("{}{splice}{}", &text[..from], &text[from..]),
        2 => format!("{}{splice}{}", &text[..from], &text[to..]),
        3 => format!("{}{}", &text[..from], &text[to..]),
        4 => format!("{text}{}", &text[from..]),
        _ => format!("{}{}{}", &text[..from], splice.repeat(200), &text[to..]),
    }
}

/// What a reader of files makes of one that holds `text`.
pub fn read_file<T>(text: &str, read: impl FnOnce(&std::path::Path) -> T) -> T {
    static FILES: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    let file = FILES.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let path = std::env::temp_dir().join(format!("lowtide-mutated-{}-{file}", std::process::id()));
    std::fs::write(&path, text).unwrap();
    let found = read(&path);
    std::fs::remove_file(&path).unwrap();
    found
}

/// One of `valid`, with up to four changes.
pub fn text(valid: &[&str]) -> impl Strategy<Value = String> + use<> {
    let valid: Vec<String> = valid.iter().map(|text| (*text).to_owned()).collect();
    let change = (0..6_u8, any::<usize>(), any::<usize>(), 0..SPLICES.len());
    (0..valid.len(), prop::collection::vec(change, 0..5)).prop_map(move |(one, changes)| {
        let start = valid[one].clone();
        changes.into_iter().fold(start, |text, (kind, at, length, splice)| changed(&text, kind, at, length, SPLICES[splice]))
    })
}

fn values() -> Vec<Value> {
    let mut deep = json!([]);
    for _ in 0..60 {
        deep = json!([deep]);
    }
    let numbers = [json!(-1), json!(0), json!(i64::MAX), json!(i64::MIN), json!(u64::MAX), json!(1e308), json!(0.1)];
    let texts = [
        "",
        "\0",
        "-1",
        "0",
        "NaN",
        "1e308",
        "9223372036854775807",
        "99999999999999999999Gi",
        "-5Gi",
        "1h-1m",
        "é".repeat(5_000).as_str(),
        "../../etc",
        "* * *",
        "9999-12-31T23:59:59Z",
    ]
    .map(|text| json!(text));
    [Value::Null, json!(true), json!([]), json!({}), json!([null]), json!({ "": "" }), deep]
        .into_iter()
        .chain(numbers)
        .chain(texts)
        .collect()
}

fn pointers(value: &Value, here: &str, all: &mut Vec<String>) {
    all.push(here.to_owned());
    match value {
        Value::Object(fields) => {
            for (name, inner) in fields {
                pointers(inner, &format!("{here}/{}", name.replace('~', "~0").replace('/', "~1")), all);
            }
        }
        Value::Array(items) => items.iter().enumerate().for_each(|(n, inner)| pointers(inner, &format!("{here}/{n}"), all)),
        _ => {}
    }
}

/// One of `valid`, with up to four of its values, at whatever depth, replaced.
pub fn json(valid: Vec<Value>) -> impl Strategy<Value = Value> {
    let values = values();
    (0..valid.len(), prop::collection::vec((any::<usize>(), 0..values.len()), 0..5)).prop_map(move |(one, changes)| {
        let mut found = valid[one].clone();
        for (at, value) in changes {
            let mut all = Vec::new();
            pointers(&found, "", &mut all);
            // The whole is left: an answer that is no object at all is text's to try.
            if let Some(place) = all.get(1 + at % all.len().max(2).saturating_sub(1)).and_then(|pointer| found.pointer_mut(pointer)) {
                *place = values[value].clone();
            }
        }
        found
    })
}
