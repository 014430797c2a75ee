//! What comes from outside, as it might come: whole, cut, doubled, with what breaks readers spliced in, or with a value in its place that
//! nobody expects. Every reader of outside data is tried on it in the ordinary test run; a case that fails is printed whole.
#![allow(dead_code, missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::LazyLock;

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
        // A key, an element or a line that comes twice.
        5 => format!("{}{}", &text[..boundary(text, from + length % 200)], &text[from..]),
        _ => format!("{}{}{}", &text[..from], splice.repeat(200), &text[to..]),
    }
}

/// What a reader of files makes of one that holds `content`.
pub fn read_file<T>(content: impl AsRef<[u8]>, read: impl FnOnce(&std::path::Path) -> T) -> T {
    static FILES: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    let file = FILES.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let path = std::env::temp_dir().join(format!("lowtide-mutated-{}-{file}", std::process::id()));
    std::fs::write(&path, content).unwrap();
    let found = read(&path);
    std::fs::remove_file(&path).unwrap();
    found
}

/// One of `valid`, with up to four changes.
pub fn text(valid: &[&str]) -> impl Strategy<Value = String> + use<> {
    let valid: Vec<String> = valid.iter().map(|text| (*text).to_owned()).collect();
    let change = (0..7_u8, any::<usize>(), any::<usize>(), 0..SPLICES.len());
    (0..valid.len(), prop::collection::vec(change, 0..5)).prop_map(move |(one, changes)| {
        let start = valid[one].clone();
        changes.into_iter().fold(start, |text, (kind, at, length, splice)| changed(&text, kind, at, length, SPLICES[splice]))
    })
}

fn bytes_changed(mut bytes: Vec<u8>, kind: u8, at: usize, with: [u8; 4]) -> Vec<u8> {
    let at = at % (bytes.len() + 1);
    let upto = (at + usize::from(with[0])).min(bytes.len());
    match kind {
        0 => bytes.truncate(at),
        1 => bytes.insert(at, with[1]),
        2 => drop(bytes.drain(at..upto)),
        3 => bytes.extend_from_within(at..),
        // Lengths and counts are whole words in many forms.
        4 => bytes.iter_mut().skip(at).zip(with).for_each(|(byte, with)| *byte = with),
        5 => bytes.iter_mut().skip(at).take(4).for_each(|byte| *byte = 0xff),
        6 => bytes.iter_mut().skip(at).take(10).for_each(|byte| *byte = 0x7f),
        7 => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << (with[0] % 8)),
        _ => bytes.iter_mut().skip(at).take(4).for_each(|byte| *byte = 0),
    }
    bytes
}

/// One of `valid`, with up to four changes of its bytes: what is no text, or is packed.
pub fn bytes(valid: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    // Half of the places are counted from the end, where many forms have what the rest is read by.
    let change = (0..9_u8, any::<usize>(), any::<[u8; 4]>(), any::<bool>());
    (0..valid.len(), prop::collection::vec(change, 0..5)).prop_map(move |(one, changes)| {
        changes.into_iter().fold(valid[one].clone(), |bytes, (kind, at, with, from_end)| {
            let at = if from_end { bytes.len().saturating_sub(at % 600) } else { at };
            bytes_changed(bytes, kind, at, with)
        })
    })
}

const CELLS: [&str; 44] = [
    "",
    " ",
    "-1",
    "0",
    "1",
    "NaN",
    "inf",
    "1e308",
    "1E12",
    "999999999999999e12",
    "-999999999999999.99999999999999999999E12",
    "0.00000000005",
    "9223372036854775807",
    "-9223372036854775808",
    "170141183460469231731687303715884105727",
    "9999-12-31T23:59:59Z",
    "-009999-01-01T00:00:00Z",
    "1969-12-31T23:59:59Z",
    "0000-00-00",
    "2026-02-30",
    "2024-02-29T23:59:60Z",
    "2026-07-20",
    "2026-07",
    "9999-12",
    "-009999-12",
    "+0002026-07",
    "USD",
    "EUR",
    "-1 USD",
    "ml/chat",
    "/",
    "a/b/c",
    "i-1",
    "arn:aws:ec2:us-east-1:1:natgateway/nat-1",
    "arn:aws:ec2:us-east-1:1:instance/i-9",
    "{\"team\": \"a\", \"team\": \"b\", \"workload\": \"x\"}",
    "{\"lowtide-share\": \"40\", \"lowtide-claim-uid\": 7}",
    "{\"lowtide-share\": \"-1e12\"}",
    "[{\"key\": null}]",
    "{a=b, c",
    "\u{feff}a",
    "\u{202e}\0",
    "a\"b\nc",
    "Usage",
];

/// One of `valid`, which are CSV with a header and no commas in quotes: up to four of its values replaced, and sometimes a text's changes on top.
pub fn csv(valid: &[&str]) -> impl Strategy<Value = String> + use<> {
    cells(valid, ',')
}

/// As [`csv`], with tabs, and without quotes around values.
pub fn tabbed(valid: &[&str]) -> impl Strategy<Value = String> + use<> {
    cells(valid, '\t')
}

fn cells(valid: &[&str], separator: char) -> impl Strategy<Value = String> + use<> {
    let valid: Vec<String> = valid.iter().map(|text| (*text).to_owned()).collect();
    let deep = format!("{}1", "{\"a\":[".repeat(300));
    let cell = move |n: usize| CELLS.get(n).map_or_else(|| deep.clone(), |cell| (*cell).to_owned());
    let change = (any::<usize>(), any::<usize>(), 0..=CELLS.len());
    let on_top = prop::option::weighted(0.2, (0..7_u8, any::<usize>(), any::<usize>(), 0..SPLICES.len()));
    (0..valid.len(), prop::collection::vec(change, 0..5), on_top).prop_map(move |(one, changes, on_top)| {
        let mut lines: Vec<Vec<String>> = valid[one].lines().map(|line| line.split(separator).map(str::to_owned).collect()).collect();
        for (line, column, n) in changes {
            // The header is changed one time in eight.
            let line = if lines.len() > 1 && !line.is_multiple_of(8) { 1 + line / 8 % (lines.len() - 1) } else { 0 };
            let column = column % lines[line].len();
            lines[line][column] = if separator == ',' { format!("\"{}\"", cell(n).replace('"', "\"\"")) } else { cell(n) };
        }
        let text: String = lines.into_iter().map(|cells| cells.join(&separator.to_string()) + "\n").collect();
        on_top.map_or(text.clone(), |(kind, at, length, splice)| changed(&text, kind, at, length, SPLICES[splice]))
    })
}

/// One value of those that replace cells.
pub fn cell() -> impl Strategy<Value = String> {
    (0..CELLS.len()).prop_map(|n| CELLS[n].to_owned())
}

/// When anything that is read can have been paid for, in milliseconds: from 2000 to 2199.
pub const REACH: std::ops::Range<i64> = 946_684_800_000..7_258_118_400_000;

static VALUES: LazyLock<Vec<Value>> = LazyLock::new(values);

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

/// Up to four replacements of values of JSON: at which place, and by which of [`VALUES`].
pub fn spoiling() -> impl Strategy<Value = Vec<(usize, usize)>> {
    prop::collection::vec((any::<usize>(), 0..VALUES.len()), 0..5)
}

/// `value` with some of its values, at whatever depth, replaced.
pub fn spoiled(mut value: Value, changes: &[(usize, usize)]) -> Value {
    for (at, with) in changes {
        let mut all = Vec::new();
        pointers(&value, "", &mut all);
        // The whole is left: an answer that is no object at all is text's to try.
        if let Some(place) = all.get(1 + at % all.len().max(2).saturating_sub(1)).and_then(|pointer| value.pointer_mut(pointer)) {
            *place = VALUES[*with].clone();
        }
    }
    value
}

/// One of `valid`, with up to four of its values replaced.
pub fn json(valid: Vec<Value>) -> impl Strategy<Value = Value> {
    (0..valid.len(), spoiling()).prop_map(move |(one, changes)| spoiled(valid[one].clone(), &changes))
}
