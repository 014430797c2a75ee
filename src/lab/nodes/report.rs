//! What `make nodes` prints and writes: what was measured and what was checked.

use std::path::Path;

use serde::Serialize;

use crate::lab::error::LabError;
use crate::lab::progress::say;

/// One measured figure.
#[derive(Debug, Clone, Serialize)]
struct Figure {
    what: String,
    value: f64,
    unit: &'static str,
}

/// One thing that had to be so.
#[derive(Debug, Clone, Serialize)]
struct Check {
    what: String,
    passed: bool,
}

/// The whole story, in the order in which it happened.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Report {
    figures: Vec<Figure>,
    checks: Vec<Check>,
}

impl Report {
    /// A step begins.
    pub fn step(&self, title: &str) {
        say(&format!("\n{title}"));
    }
    /// Seconds that something took.
    pub fn seconds(&mut self, what: &str, value: f64) {
        say(&format!("     {value:>6.1} s  {what}"));
        self.figures.push(Figure { what: what.to_owned(), value, unit: "seconds" });
    }
    /// How many of something there were.
    pub fn count(&mut self, what: &str, value: usize) {
        say(&format!("     {value:>6}    {what}"));
        self.figures.push(Figure { what: what.to_owned(), value: value as f64, unit: "count" });
    }
    /// Something that must be so.
    pub fn check(&mut self, what: impl Into<String>, passed: bool) {
        let what = what.into();
        say(&format!("  {}  {what}", if passed { "✓" } else { "✗" }));
        self.checks.push(Check { what, passed });
    }
    /// What was not so.
    pub fn failed(&self) -> Vec<String> {
        self.checks.iter().filter(|check| !check.passed).map(|check| check.what.clone()).collect()
    }
    /// Writes it as JSON.
    pub fn write(&self, path: &Path) -> Result<(), LabError> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(LabError::io(format!("making {}", folder.display())))?;
        }
        let text = serde_json::to_string_pretty(self).unwrap_or_default();
        std::fs::write(path, text + "\n").map_err(LabError::io(format!("writing {}", path.display())))
    }
}
