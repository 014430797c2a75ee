//! Rows of the files that AI vendors write: pages of their APIs, and the CSV of their dashboards.
//!
//! Decides: what a file of each looks like, and which rows no vendor writes. Does not: know whose usage a row is, or add it up (see [`super`]).
//! Sources: OpenAI API reference, "Usage", "Completions usage object", and the dashboard's CSV; Anthropic API reference, "Get Messages Usage Report",
//! and the console's CSV.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use super::HOUR;
use crate::core::units::time::{Millis, Timestamp};
use crate::ledger::import::ImportFault;
use crate::ledger::import::reading::{Bounded, ReadFile, each_line, malformed, name_of, sha256_of, with_text};
use crate::ledger::import::table::{Line, is_in_reach};

/// The most text of one file of pages, which are read into memory: a month of hours by model has some MB.
const MOST_PAGES: usize = 256 << 20;

/// The vendors whose files are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Vendor {
    OpenAi,
    Anthropic,
}

impl Vendor {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Vendor::OpenAi => "openai",
            Vendor::Anthropic => "anthropic",
        }
    }
}

/// One row of a report.
pub(super) struct Row {
    /// Which page of its file, or which of several tables that were put together, it is on.
    pub part: usize,
    pub vendor: Vendor,
    pub from: Timestamp,
    pub to: Timestamp,
    pub model: String,
    /// What a mapping may go by.
    pub fields: BTreeMap<&'static str, String>,
    /// Only OpenAI counts them.
    pub requests: Option<i128>,
    pub tokens_in: i128,
    pub tokens_out: i128,
}

/// A page of either vendor's API.
#[derive(Deserialize)]
struct Page {
    data: Vec<Bucket>,
    #[serde(default)]
    has_more: bool,
}

#[derive(Deserialize)]
struct Bucket {
    start_time: Option<i64>,
    end_time: Option<i64>,
    starting_at: Option<String>,
    ending_at: Option<String>,
    results: Vec<Counted>,
}

#[derive(Deserialize)]
struct Counted {
    // OpenAI: cached tokens are part of `input_tokens`.
    input_tokens: Option<i64>,
    num_model_requests: Option<i64>,
    project_id: Option<String>,
    user_id: Option<String>,
    // Anthropic: they stand beside `uncached_input_tokens`.
    uncached_input_tokens: Option<i64>,
    cache_read_input_tokens: Option<i64>,
    cache_creation: Option<CacheCreation>,
    workspace_id: Option<String>,
    // Both.
    output_tokens: Option<i64>,
    api_key_id: Option<String>,
    model: Option<String>,
}

#[derive(Deserialize)]
struct CacheCreation {
    #[serde(default)]
    ephemeral_5m_input_tokens: i64,
    #[serde(default)]
    ephemeral_1h_input_tokens: i64,
}

/// Spans of the buckets of pages, with usage or without, by vendor: start and end.
pub(super) type Buckets = BTreeMap<Vendor, BTreeMap<Timestamp, Timestamp>>;

/// What a file is besides its rows.
pub(super) struct Report {
    pub file: ReadFile,
    /// Whether the vendor has more.
    pub more: bool,
    /// Which vendor wrote it; not known of a file without rows and buckets.
    pub vendor: Option<Vendor>,
}

/// Gives each row of a file to `take`, as it is read. The buckets of its pages are added to `buckets`.
pub(super) fn read(
    path: &Path,
    buckets: &mut Buckets,
    mut take: impl FnMut(Row) -> Result<(), ImportFault>,
) -> Result<Report, ImportFault> {
    let is_json = with_text(path, |text| {
        let start =
            text.fill_buf().map(|bytes| bytes.iter().copied().find(|b| !b.is_ascii_whitespace() && !matches!(b, 0xef | 0xbb | 0xbf)));
        Ok(start.is_ok_and(|byte| matches!(byte, Some(b'{' | b'['))))
    })?;
    let mut vendor = None;
    if !is_json {
        let file = each_line(
            path,
            &[],
            |_| true,
            |line| {
                let Some(row) = csv_row(line)? else { return Ok(()) };
                vendor.get_or_insert(row.vendor);
                take(row)
            },
        )?;
        return Ok(Report { file, more: false, vendor });
    }
    let (mut part, mut lines, mut more) = (0, 0, false);
    with_text(path, |text| {
        each_page(path, text, |page| {
            for bucket in &page.data {
                let of = vendor_of(bucket);
                // A page without usage has buckets as well.
                vendor = vendor.or(of);
                if let (Some((from, to)), Some(of)) = (span_of(bucket), of) {
                    let end = buckets.entry(of).or_default().entry(from).or_insert(to);
                    *end = (*end).max(to);
                }
                for counted in &bucket.results {
                    lines += 1;
                    take(page_row(path, part, bucket, counted)?)?;
                }
            }
            part += 1;
            more = page.has_more;
            Ok(())
        })
    })?;
    Ok(Report { file: ReadFile { name: name_of(path), sha256: sha256_of(path)?, lines }, more, vendor })
}

/// One page, an array of pages, or pages one after the other.
fn each_page(
    path: &Path,
    text: &mut dyn std::io::BufRead,
    mut take: impl FnMut(Page) -> Result<(), ImportFault>,
) -> Result<(), ImportFault> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Pages {
        One(Page),
        Several(Vec<Page>),
    }
    let (text, _) = Bounded::new(text, MOST_PAGES);
    for read in serde_json::Deserializer::from_reader(std::io::BufReader::new(text)).into_iter::<Pages>() {
        let expected = "expected pages of a usage report: {\"data\": [{\"results\": [...]}]}";
        let read = read.map_err(|fault| malformed(path, u64::try_from(fault.line()).unwrap_or(1), format!("{expected}; {fault}")))?;
        match read {
            Pages::One(page) => take(page)?,
            Pages::Several(several) => several.into_iter().try_for_each(&mut take)?,
        }
    }
    Ok(())
}

/// When a bucket begins and ends.
fn span_of(bucket: &Bucket) -> Option<(Timestamp, Timestamp)> {
    let at = |text: &Option<String>| text.as_ref()?.parse::<jiff::Timestamp>().ok().map(|at| Timestamp(at.as_millisecond()));
    let seconds = |at: Option<i64>| at.map(|at| Timestamp(at.saturating_mul(1_000)));
    seconds(bucket.start_time).zip(seconds(bucket.end_time)).or(at(&bucket.starting_at).zip(at(&bucket.ending_at)))
}

/// Whose a bucket is, also one without usage: OpenAI gives seconds, Anthropic words.
fn vendor_of(bucket: &Bucket) -> Option<Vendor> {
    match (bucket.start_time, &bucket.starting_at) {
        (Some(_), _) => Some(Vendor::OpenAi),
        (None, Some(_)) => Some(Vendor::Anthropic),
        (None, None) => None,
    }
}

fn page_row(path: &Path, part: usize, bucket: &Bucket, counted: &Counted) -> Result<Row, ImportFault> {
    let Some((from, to)) = span_of(bucket) else {
        return Err(malformed(path, 1, "a bucket has neither start_time and end_time nor starting_at and ending_at".into()));
    };
    let anthropic = counted.uncached_input_tokens.is_some();
    if !anthropic && counted.input_tokens.is_none() {
        return Err(malformed(path, 1, "a result has neither input_tokens (OpenAI) nor uncached_input_tokens (Anthropic)".into()));
    }
    let number = |amount: Option<i64>| i128::from(amount.unwrap_or(0));
    let made = counted.cache_creation.as_ref();
    let cached = number(made.map(|made| made.ephemeral_5m_input_tokens)) + number(made.map(|made| made.ephemeral_1h_input_tokens));
    let tokens_in = if anthropic {
        number(counted.uncached_input_tokens) + number(counted.cache_read_input_tokens) + cached
    } else {
        number(counted.input_tokens)
    };
    let fields = [
        ("project", &counted.project_id),
        ("workspace", &counted.workspace_id),
        ("api_key", &counted.api_key_id),
        ("user", &counted.user_id),
        ("model", &counted.model),
    ];
    checked(
        path,
        1,
        Row {
            part,
            vendor: if anthropic { Vendor::Anthropic } else { Vendor::OpenAi },
            from,
            to,
            model: counted.model.clone().unwrap_or_default(),
            fields: fields.into_iter().filter_map(|(name, value)| Some((name, value.clone()?))).collect(),
            requests: counted.num_model_requests.map(i128::from),
            tokens_in,
            tokens_out: number(counted.output_tokens),
        },
    )
}

/// A row of a dashboard's CSV; `None` for a bucket without usage.
fn csv_row(line: &Line) -> Result<Option<Row>, ImportFault> {
    let anthropic = line.header.has("usage_date_utc");
    let (names, date): (&[&str], _) = if anthropic {
        let names = &[
            "usage_input_tokens_no_cache",
            "usage_input_tokens_cache_read",
            "usage_input_tokens_cache_write_5m",
            "usage_input_tokens_cache_write_1h",
        ];
        (names, "usage_date_utc")
    } else {
        (&["input_tokens"], "start_time_iso")
    };
    let output = if anthropic { "usage_output_tokens" } else { "output_tokens" };
    line.header.require(line.path, 1, &[date, names[0], output])?;
    let number = |name: &str| -> Result<i128, ImportFault> {
        let Some(text) = line.get(name) else { return Ok(0) };
        text.parse::<i64>().map(i128::from).map_err(|_| line.fault(name, text, "a whole number of tokens or requests"))
    };
    let from = line.time(date).or_else(|fault| crate::ledger::import::usage::day_of(line, date).map_err(|_| fault))?;
    let to = if anthropic { from + Millis(24 * HOUR) } else { line.time("end_time_iso")? };
    let mut tokens_in = 0;
    for name in names {
        tokens_in += number(name)?;
    }
    let row = Row {
        part: line.part,
        vendor: if anthropic { Vendor::Anthropic } else { Vendor::OpenAi },
        from,
        to,
        model: line.get("model").or(line.get("model_version")).unwrap_or_default().to_owned(),
        fields: [
            ("project", line.get("project_id")),
            ("workspace", line.get("workspace").or(line.get("workspace_id"))),
            ("api_key", line.get("api_key").or(line.get("api_key_id"))),
            ("user", line.get("user_id")),
            ("model", line.get("model").or(line.get("model_version"))),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?.to_owned())))
        .collect(),
        requests: line.get("num_model_requests").map(|_| number("num_model_requests")).transpose()?,
        tokens_in,
        tokens_out: number(output)?,
    };
    let nothing = row.requests.unwrap_or(0) == 0 && row.tokens_in == 0 && row.tokens_out == 0;
    if nothing { Ok(None) } else { checked(line.path, line.number, row).map(Some) }
}

/// Refuses spans and amounts that no report has.
fn checked(path: &Path, line: u64, row: Row) -> Result<Row, ImportFault> {
    let length = row.to.since(row.from).0;
    if !(1..=24 * HOUR).contains(&length) || (length > HOUR && (row.from.0 % HOUR != 0 || row.to.0 % HOUR != 0)) {
        let said = format!("a bucket from {} to {}; expected minutes, hours or UTC days", row.from.to_rfc3339(), row.to.to_rfc3339());
        return Err(malformed(path, line, said));
    }
    if [row.requests.unwrap_or(0), row.tokens_in, row.tokens_out].iter().any(|amount| *amount < 0) {
        return Err(malformed(path, line, "a negative number of tokens or requests".into()));
    }
    if !is_in_reach(row.from) {
        return Err(malformed(path, line, format!("a bucket from {}; expected a year from 2000 to 2199", row.from)));
    }
    Ok(row)
}

#[cfg(test)]
mod tests {
    use super::super::{FIELDS, MILLION, Projects, add, of_nobody};
    use super::*;
    use crate::core::workload::need::UsageUnit;
    use crate::ledger::import::usage::Hours;
    use crate::mutation::REACH;

    fn rows(name: &str, text: &str) -> Result<(Vec<Row>, bool), String> {
        let path = std::env::temp_dir().join(format!("lowtide-vendor-{}-{name}", std::process::id()));
        std::fs::write(&path, text).unwrap();
        let mut rows = Vec::new();
        let keep = |row| {
            rows.push(row);
            Ok(())
        };
        let found = read(&path, &mut Buckets::default(), keep).map(|report| report.more).map_err(|fault| fault.to_string());
        let found = found.map(|more| (rows, more));
        std::fs::remove_file(path).unwrap();
        found
    }

    // The four forms, each as its vendor documents or writes it.
    const OPENAI: &str = r#"{"object": "page", "data": [{"object": "bucket", "start_time": 1784505600, "end_time": 1784592000, "results": [
            {"object": "organization.usage.completions.result", "input_tokens": 1000, "output_tokens": 500, "input_cached_tokens": 800,
             "num_model_requests": 5, "project_id": "proj_a", "user_id": null, "api_key_id": null, "model": "gpt-x", "batch": null}]}],
            "has_more": true, "next_page": "p2"}"#;
    const OPENAI_CSV: &str = "start_time,end_time,start_time_iso,end_time_iso,project_id,num_model_requests,user_id,api_key_id,model,batch,input_tokens,output_tokens,input_cached_tokens\n\
            1784505600,1784505660,2026-07-20T00:00:00+00:00,2026-07-20T00:01:00+00:00,proj_a,5,,,gpt-x,,1000,500,800\n\
            1784505660,1784505720,2026-07-20T00:01:00+00:00,2026-07-20T00:02:00+00:00,,,,,,,,,\n";
    const ANTHROPIC: &str = r#"{"data": [{"starting_at": "2026-07-20T00:00:00Z", "ending_at": "2026-07-20T01:00:00Z", "results": [
            {"uncached_input_tokens": 100, "cache_creation": {"ephemeral_1h_input_tokens": 200, "ephemeral_5m_input_tokens": 300},
             "cache_read_input_tokens": 400, "output_tokens": 500, "server_tool_use": {"web_search_requests": 1}, "api_key_id": "k",
             "workspace_id": "w", "model": "claude-x", "service_tier": "standard", "context_window": "0-200k"}]}], "has_more": false, "next_page": null}"#;
    const ANTHROPIC_CSV: &str = "usage_date_utc,model_version,api_key,workspace,usage_type,context_window,usage_input_tokens_no_cache,usage_input_tokens_cache_write_5m,\
            usage_input_tokens_cache_write_1h,usage_input_tokens_cache_read,usage_output_tokens,web_search_count\n\
            2026-07-20,claude-x,k,w,standard,200k,100,300,200,400,500,0\n";

    #[test]
    fn tokens_in_are_all_that_was_read_in_every_form() {
        for (name, text, model, requests, hours, more) in [
            ("o.json", OPENAI, "gpt-x", Some(5), 24, true),
            ("o.csv", OPENAI_CSV, "gpt-x", Some(5), 1, false),
            ("a.json", ANTHROPIC, "claude-x", None, 1, false),
            ("a.csv", ANTHROPIC_CSV, "claude-x", None, 24, false),
        ] {
            let (found, has_more) = rows(name, text).unwrap();
            let [row] = found.as_slice() else { panic!("{name}: {} rows", found.len()) };
            assert_eq!(
                (row.model.as_str(), row.requests, row.tokens_in, row.tokens_out, has_more),
                (model, requests, 1_000, 500, more),
                "{name}"
            );
            let mut spread = Hours::new();
            add(&mut spread, row, &of_nobody(row));
            let of = |unit: UsageUnit| spread.iter().filter(|(key, _)| key.1 == unit).map(|(_, micro)| *micro).collect::<Vec<_>>();
            assert_eq!((of(UsageUnit::TokensIn).len(), of(UsageUnit::TokensIn).iter().sum::<i128>()), (hours, 1_000 * MILLION), "{name}");
        }
    }

    #[test]
    fn what_is_no_report_is_refused() {
        for (text, said) in [
            (r#"{"data": [{"results": [{"input_tokens": 1}]}]}"#, "neither start_time"),
            (r#"{"data": [{"start_time": 0, "end_time": 3600, "results": [{"tokens": 1}]}]}"#, "neither input_tokens"),
            (r#"{"usage": []}"#, "expected pages of a usage report"),
            (
                r#"{"data": [{"start_time": 0, "end_time": 999999, "results": [{"input_tokens": 1}]}]}"#,
                "expected minutes, hours or UTC days",
            ),
            ("a,b\n1,2\n", "expected the columns start_time_iso"),
        ] {
            let fault = rows("bad", text).map(|(rows, _)| rows.len()).unwrap_err();
            assert!(fault.contains(said), "{fault}");
        }
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(crate::mutation::CASES))]

        #[test]
        fn whatever_a_vendor_writes_is_read_or_refused_with_a_sentence(
            text in proptest::prop_oneof![
                crate::mutation::text(&[OPENAI, OPENAI_CSV, ANTHROPIC, ANTHROPIC_CSV]),
                crate::mutation::csv(&[OPENAI_CSV, ANTHROPIC_CSV])
            ],
            page in crate::mutation::json([OPENAI, ANTHROPIC].iter().map(|text| serde_json::from_str(text).unwrap()).collect()),
            projects in crate::mutation::text(&["field,value,workload\nproject,proj_a,ml/chat\napi_key,k,ml/agents\n"]),
        ) {
            for text in [text, page.to_string()] {
                match rows("mutated", &text) {
                    Ok((rows, _)) => assert!(
                        rows.iter().all(|row| row.to > row.from && REACH.contains(&row.from.0) && row.tokens_in >= 0 && row.tokens_out >= 0),
                        "{text}"
                    ),
                    Err(fault) => assert!(fault.len() > 20, "{fault}"),
                }
            }
            match crate::mutation::read_file(&projects, Projects::read) {
                Ok(found) => assert!(found.lines.iter().all(|(field, ..)| FIELDS.contains(&field.as_str()))),
                Err(fault) => assert!(fault.to_string().len() > 20, "{fault}"),
            }
        }
    }
}
