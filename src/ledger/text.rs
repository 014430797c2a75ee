//! Reports as text, JSON or CSV.
//!
//! Decides: alignment: text left, figures right. Values pass through as they are.

use serde_json::{Map, Value, json};

use super::report::Report;

impl Report {
    /// The sentence, an empty line, the table.
    pub fn to_text(&self) -> String {
        let rows: Vec<Vec<&str>> = self.rows.iter().map(|row| row.iter().map(|v| v.as_deref().unwrap_or("-")).collect()).collect();
        format!("{}\n\n{}", self.sentence, aligned(&self.columns, &rows))
    }

    /// `{"sentence": ..., "rows": [{column: value}]}`; figures are strings, so that no reader rounds them.
    pub fn to_json(&self) -> Value {
        let object = |row: &Vec<Option<String>>| -> Value {
            Value::Object(self.columns.iter().cloned().zip(row.iter().map(|v| json!(v))).collect::<Map<_, _>>())
        };
        json!({ "sentence": self.sentence, "rows": self.rows.iter().map(object).collect::<Vec<_>>() })
    }

    /// CSV with a header; an unknown value is empty. Text that a spreadsheet would take for a formula is quoted by an apostrophe.
    pub fn to_csv(&self) -> String {
        let mut writer = csv::Writer::from_writer(Vec::new());
        let lines = std::iter::once(self.columns.iter().map(String::as_str).collect::<Vec<_>>())
            .chain(self.rows.iter().map(|row| row.iter().map(|v| v.as_deref().unwrap_or("")).collect()));
        for line in lines {
            // Writing to memory cannot fail; a line of another length would be a mistake in this file.
            let _ = writer.write_record(line.into_iter().map(|value| harmless(value).into_owned()));
        }
        writer.into_inner().ok().and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_default()
    }
}

/// A value that no spreadsheet runs: names come from labels, which anybody who may deploy can write.
fn harmless(value: &str) -> std::borrow::Cow<'_, str> {
    let formula = value.starts_with(['=', '+', '-', '@', '\t', '\r']) && value.trim_end_matches(" %").parse::<f64>().is_err();
    if formula { format!("'{value}").into() } else { value.into() }
}

/// Columns padded to their widest value; columns of figures to the right.
pub fn aligned<H: AsRef<str>, V: AsRef<str>>(headings: &[H], rows: &[Vec<V>]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let figure = |text: &str| text == "-" || text.trim_end_matches(" %").parse::<f64>().is_ok();
    let column = |at: usize| rows.iter().filter_map(move |row| row.get(at)).map(V::as_ref);
    let shape: Vec<(usize, bool)> = headings
        .iter()
        .enumerate()
        .map(|(at, h)| (column(at).map(|v| v.chars().count()).max().unwrap_or(0).max(h.as_ref().chars().count()), column(at).all(figure)))
        .collect();
    let line = |values: Vec<&str>| {
        let cells = values.iter().zip(&shape).map(
            |(value, (width, right))| {
                if *right { format!("{value:>width$}") } else { format!("{value:<width$}") }
            },
        );
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let mut lines = vec![line(headings.iter().map(AsRef::as_ref).collect())];
    lines.extend(rows.iter().map(|row| line(row.iter().map(V::as_ref).collect())));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_stand_right_and_unknown_is_not_zero() {
        let report = Report {
            sentence: "S.".into(),
            columns: vec!["team".into(), "usd".into()],
            rows: vec![vec![Some("search".into()), Some("12.5".into())], vec![Some("a,b".into()), None]],
        };
        assert_eq!(report.to_text(), "S.\n\nteam     usd\nsearch  12.5\na,b        -");
        assert_eq!(report.to_csv(), "team,usd\nsearch,12.5\n\"a,b\",\n");
        assert_eq!(report.to_json()["rows"][1]["usd"], Value::Null);
        for (value, written) in
            [("=1+1", "'=1+1"), ("@x", "'@x"), ("-5.25", "-5.25"), ("+x", "'+x"), ("-cmd", "'-cmd"), ("a=b", "a=b"), ("-3 %", "-3 %")]
        {
            assert_eq!(harmless(value), written);
        }
    }
}
