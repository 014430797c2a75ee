//! Rows in the text form of Postgres' COPY.
//!
//! Decides: how a value stands in a line. Decisions are most of what is written, and Postgres reads such lines in little more than half the
//! time that JSON takes it. The form: <https://www.postgresql.org/docs/current/sql-copy.html>, "Text Format".
//! Does not: know a table.

use std::fmt::{Display, Write as _};

use serde::Serialize;

/// One row, filled in the order of its table's columns.
#[derive(Debug)]
pub(super) struct CopiedRow {
    line: String,
    expected: std::str::Split<'static, &'static str>,
}

impl CopiedRow {
    /// An empty row with `columns`, separated by commas; `size` bytes are about what it will take.
    pub(super) fn new(columns: &'static str, size: usize) -> Self {
        CopiedRow { line: String::with_capacity(size), expected: columns.split(", ") }
    }

    /// The line without its end.
    pub(super) fn into_line(mut self) -> String {
        debug_assert_eq!(self.expected.next(), None, "columns without a value");
        self.line
    }

    /// A name or a sentence.
    pub(super) fn text<'a>(&mut self, column: &'static str, value: impl Into<Option<&'a str>>) {
        self.begin(column);
        match value.into() {
            Some(text) => escape(&mut self.line, text),
            None => self.line.push_str("\\N"),
        }
    }

    /// A value whose text holds nothing that could end it: a figure, an id, a word of a closed list.
    pub(super) fn plain(&mut self, column: &'static str, value: Option<impl Display>) {
        self.begin(column);
        match value {
            // Writing to a String cannot fail.
            Some(value) => drop(write!(self.line, "{value}")),
            None => self.line.push_str("\\N"),
        }
    }

    /// A value as JSON.
    pub(super) fn json(&mut self, column: &'static str, value: Option<&impl Serialize>) {
        self.begin(column);
        match value.map(super::json_of) {
            Some(text) => escape(&mut self.line, &text),
            None => self.line.push_str("\\N"),
        }
    }

    fn begin(&mut self, column: &'static str) {
        let expected = self.expected.next();
        debug_assert_eq!(expected, Some(column), "values stand in the order of the columns");
        if !self.line.is_empty() {
            self.line.push('\t');
        }
    }
}

/// U+0000, which Postgres' text cannot hold, is replaced.
fn escape(line: &mut String, text: &str) {
    let mut rest = text;
    while let Some(at) = rest.find(['\\', '\t', '\n', '\r', '\0']) {
        let (before, from) = rest.split_at(at);
        line.push_str(before);
        let mut following = from.chars();
        line.push_str(match following.next() {
            Some('\\') => "\\\\",
            Some('\t') => "\\t",
            Some('\n') => "\\n",
            Some('\r') => "\\r",
            _ => "\u{fffd}",
        });
        rest = following.as_str();
    }
    line.push_str(rest);
}
