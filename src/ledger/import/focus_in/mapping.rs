//! Whose a row of a FOCUS file is: their tags for our labels.
//!
//! Decides: which tag, or column of a provider's own, says a label. Does not: read tags (see [`super::super::tags`]) or rows.

use std::collections::BTreeMap;
use std::path::Path;

use crate::ledger::import::ImportFault;
use crate::ledger::import::reading::{ReadFile, each_line};
use crate::ledger::import::table::{Line, column_name};
use crate::ledger::import::tags::Tags;

/// Their tags for our labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapping {
    /// By label (team, service, environment, cost_center, product_area, component, workload, model): the tags that say it, the first that is there holds.
    pub(super) tags: BTreeMap<String, Vec<String>>,
    /// The file that says so.
    pub(in crate::ledger::import) file: Option<ReadFile>,
}

/// The labels that tags may be mapped to.
pub(super) const LABELS: [&str; 8] = ["team", "service", "environment", "cost_center", "product_area", "component", "workload", MODEL];

/// The label that says which model of an AI vendor a row is of. Vendors name it in a column of their own as well.
const MODEL: &str = "model";

impl Default for Mapping {
    /// Tags of our own names, with hyphens or underscores.
    fn default() -> Self {
        let names = |label: &&str| (label.to_string(), vec![label.to_string(), label.replace('_', "-")]);
        Mapping { tags: LABELS.iter().map(names).collect(), file: None }
    }
}

impl Mapping {
    /// Reads a file with the columns `label,tag`: a line for each tag, the more important first.
    ///
    /// # Errors
    /// [`ImportFault`].
    pub fn read(path: &Path) -> Result<Mapping, ImportFault> {
        let mut tags: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let file = each_line(
            path,
            &["label", "tag"],
            |_| true,
            |line| {
                let expected = "one of team, service, environment, cost_center, product_area, component, workload, model";
                let label = line.need("label", expected)?.replace('-', "_");
                if !LABELS.contains(&label.as_str()) {
                    return Err(line.fault("label", &label, expected));
                }
                tags.entry(label).or_default().push(line.need("tag", "the name of a tag")?.to_owned());
                Ok(())
            },
        )?;
        Ok(Mapping { tags, file: Some(file) })
    }

    pub(super) fn label(&self, label: &str, tags: &Tags) -> Option<String> {
        self.tags.get(label)?.iter().find_map(|tag| tags.get(tag)).map(str::to_owned)
    }

    /// The model that a row is of: by a tag, or by a column of that name, as `x_Model`.
    pub(super) fn model(&self, line: &Line, tags: &Tags) -> Option<String> {
        self.tags.get(MODEL)?.iter().find_map(|name| tags.get(name).or_else(|| line.get(&column_name(name)))).map(str::to_owned)
    }

    /// Whether a column says a label.
    pub(super) fn is_read(&self, column: &str) -> bool {
        self.tags.get(MODEL).is_some_and(|names| names.iter().any(|name| column_name(name) == column))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_tag_that_is_there_says_the_label() {
        let path = std::env::temp_dir().join(format!("lowtide-mapping-{}.csv", std::process::id()));
        std::fs::write(&path, "label,tag\nteam,Squad\nteam,owner\ncost-center,CC\n").unwrap();
        let mapping = Mapping::read(&path).unwrap();
        std::fs::write(&path, "label,tag\nteem,Squad\n").unwrap();
        let fault = Mapping::read(&path).unwrap_err().to_string();
        std::fs::remove_file(&path).unwrap();
        let tags = Tags::read(r#"{"Owner": "b", "user:cc": 17}"#).unwrap();
        assert_eq!((mapping.label("team", &tags), mapping.label("cost_center", &tags)), (Some("b".into()), Some("17".into())));
        assert_eq!(mapping.label("service", &tags), None);
        assert!(fault.contains("expected one of team"), "{fault}");
    }
}
