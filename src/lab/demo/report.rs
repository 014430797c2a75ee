//! What the demo writes down: for every step what was asked, what happened, and the seconds each phase took.

use std::path::Path;

use serde::Serialize;

use crate::core::units::time::Timestamp;
use crate::lab::error::LabError;
use crate::lab::progress::say;

/// Whether a figure was observed or put in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Observed on the running system.
    Measured,
    /// Played by the lab.
    Modelled,
}

/// One phase of a step.
#[derive(Debug, Clone, Serialize)]
pub struct Phase {
    /// From what to what.
    pub name: String,
    /// Seconds as they passed in the demo.
    pub seconds: f64,
    /// Measured, or modelled.
    pub kind: Kind,
    /// The model and its source; empty when measured.
    pub source: String,
}

/// Something that had to be true.
#[derive(Debug, Clone, Serialize)]
pub struct Check {
    /// What.
    pub text: String,
    /// Whether it was.
    pub ok: bool,
}

/// One step of the story.
#[derive(Debug, Clone, Serialize)]
pub struct StepReport {
    /// "a" to "l".
    pub id: char,
    /// What was asked of the system.
    pub asked: String,
    /// What happened, as it was observed.
    pub happened: Vec<String>,
    /// How long its parts took.
    pub phases: Vec<Phase>,
    /// What had to be true.
    pub checks: Vec<Check>,
    /// How long it took.
    pub seconds: f64,
}

/// The whole report.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// When the story began.
    pub started_at: String,
    /// Modelled time runs this many times faster.
    pub time_scale: u32,
    /// The steps.
    pub steps: Vec<StepReport>,
}

impl Report {
    /// An empty report.
    pub fn new(started_at: Timestamp, time_scale: u32) -> Report {
        Report { started_at: started_at.to_rfc3339(), time_scale, steps: Vec::new() }
    }

    /// What was asked and did not happen.
    pub fn failed(&self) -> Vec<String> {
        let mut faults: Vec<String> =
            ('a'..='l').filter(|id| !self.steps.iter().any(|s| s.id == *id)).map(|id| format!("step {id} was not reached")).collect();
        for step in &self.steps {
            faults.extend(step.checks.iter().filter(|c| !c.ok).map(|c| format!("{}: {}", step.id, c.text)));
        }
        faults
    }

    /// Writes the report as JSON; makes its folder.
    pub fn write(&mut self, path: &Path) -> Result<(), LabError> {
        self.steps.sort_by_key(|step| step.id);
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(LabError::io(format!("making {}", folder.display())))?;
        }
        let text = serde_json::to_string_pretty(self).unwrap_or_default();
        std::fs::write(path, text + "\n").map_err(LabError::io(format!("writing {}", path.display())))
    }
}

impl StepReport {
    /// Begins a step, and says so.
    pub fn begin(id: char, asked: &str) -> StepReport {
        say(&format!("\n{id}. {asked}"));
        StepReport { id, asked: asked.to_owned(), happened: Vec::new(), phases: Vec::new(), checks: Vec::new(), seconds: 0.0 }
    }

    /// Writes down what was observed, and prints it.
    pub fn happened(&mut self, text: impl Into<String>) {
        let text = text.into();
        text.lines().for_each(|line| say(&format!("     {line}")));
        self.happened.push(text);
    }

    /// Writes down whether something that had to be true was.
    pub fn check(&mut self, text: impl Into<String>, ok: bool) {
        let text = text.into();
        say(&format!("   {} {text}", if ok { "✓" } else { "✗" }));
        self.checks.push(Check { text, ok });
    }

    /// Adds a phase that was observed.
    pub fn measured(&mut self, name: &str, seconds: f64) {
        say(&format!("     {name:<44} {seconds:>7.2} s  measured"));
        self.phases.push(Phase { name: name.to_owned(), seconds, kind: Kind::Measured, source: String::new() });
    }

    /// Adds a phase whose length was put in: what of it passed in the demo, and the model.
    pub fn modelled(&mut self, name: &str, seconds: f64, source: &str) {
        say(&format!("     {name:<44} {seconds:>7.2} s  modelled"));
        self.phases.push(Phase { name: name.to_owned(), seconds, kind: Kind::Modelled, source: source.to_owned() });
    }
}
