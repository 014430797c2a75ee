//! Tags as providers write them into a column: JSON, JSON without its braces, lists of keys and values, and maps as Athena prints them.
//!
//! Decides: which of these a text is, and that a tag is the same in whatever spelling a report has its key: `user:Cost-Center`,
//! `resourceTags/user:cost_center` and `cost center` are one.
//! Does not: know what a tag means.
//! Sources: AWS Data Exports user guide, "CUR 2.0", `resource_tags`; the FOCUS specification, "Tags"; Cost Management's exports of Azure, whose tags
//! have no braces.

use std::collections::BTreeMap;

use serde_json::Value;

/// The tags of one row.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Tags(BTreeMap<String, String>);

impl Tags {
    /// Reads a column's value; `None` when it is in no form that is known.
    pub(super) fn read(text: &str) -> Option<Tags> {
        let text = text.trim();
        let found = match serde_json::from_str(text).or_else(|_| serde_json::from_str(&format!("{{{text}}}"))) {
            Ok(Value::Object(map)) => map.iter().filter_map(|(key, value)| Some((key.clone(), text_of(value)?))).collect(),
            Ok(Value::Array(pairs)) => pairs.iter().map(pair).collect::<Option<Vec<_>>>()?.into_iter().flatten().collect(),
            Ok(Value::Null) => BTreeMap::new(),
            Ok(_) => return None,
            Err(_) => printed(text.strip_prefix('{')?.strip_suffix('}')?)?,
        };
        Some(Tags(found))
    }

    /// The value of a tag: by its own name, else by the same name in another spelling. A tag without a value is none.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let other_spelling = || self.0.iter().find(|(key, _)| spelled(key) == spelled(name)).map(|(_, value)| value);
        self.0.get(name).or_else(other_spelling).map(String::as_str).filter(|value| !value.is_empty())
    }
}

fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

/// A key and its value, as `{"key": "team", "value": "search"}`; `None` when it is no such pair.
fn pair(value: &Value) -> Option<Option<(String, String)>> {
    let of = |names: [&str; 2]| names.iter().find_map(|name| value.get(name));
    let key = of(["key", "Key"])?.as_str()?;
    Some(of(["value", "Value"]).and_then(text_of).map(|value| (key.to_owned(), value)))
}

/// A map as Athena prints it: `team=search, owner=a`. What has no sign of equality is of the value before it, which had a comma in it.
fn printed(text: &str) -> Option<BTreeMap<String, String>> {
    let mut found: Vec<(String, String)> = Vec::new();
    for piece in text.split(',').filter(|piece| !piece.trim().is_empty()) {
        match (piece.split_once('='), found.last_mut()) {
            (Some((key, value)), _) => found.push((key.trim().to_owned(), value.trim().to_owned())),
            (None, Some((_, value))) => {
                value.push(',');
                value.push_str(piece.trim_end());
            }
            (None, None) => return None,
        }
    }
    Some(found.into_iter().collect())
}

/// A key without what reports put before it, in lower case and with underscores.
fn spelled(key: &str) -> String {
    let mut key = super::table::column_name(key);
    for prefix in ["resource_tags_", "tags_", "user_"] {
        if let Some(rest) = key.strip_prefix(prefix).filter(|rest| !rest.is_empty()) {
            key = rest.to_owned();
        }
    }
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_the_same_in_every_form_and_spelling() {
        for text in [
            r#"{"team": "search", "cost-center": "7, a"}"#,
            r#"{"user:Team": "search", "user:cost_center": "7, a"}"#,
            r#"{"user_team": "search", "user_cost_center": "7, a"}"#,
            r#""Team": "search","CostCenter": "7, a""#,
            r#"[{"key": "team", "value": "search"}, {"key": "cost_center", "value": "7, a"}]"#,
            r#"[{"Key": "resourceTags/user:team", "Value": "search"}, {"Key": "Cost Center", "Value": "7, a"}]"#,
            "{user_team=search, user_cost_center=7, a}",
        ] {
            let tags = Tags::read(text).unwrap_or_else(|| panic!("{text}"));
            for (name, value) in [("team", Some("search")), ("cost-center", Some("7, a")), ("service", None)] {
                assert_eq!(tags.get(name), value, "{name} of {text}");
            }
        }
        let both = Tags::read(r#"{"user:team": "b", "team": "a", "empty": "", "none": null, "paid": true}"#).unwrap();
        assert_eq!((both.get("team"), both.get("empty"), both.get("none"), both.get("paid")), (Some("a"), None, None, Some("true")));
        for nothing in ["{}", "", "[]", "null"] {
            assert_eq!(Tags::read(nothing), Some(Tags::default()), "{nothing:?}");
        }
        for bad in ["team", "{team}", "7", "\"team\"", r#"[["team", "search"]]"#, "{\"team\": "] {
            assert_eq!(Tags::read(bad), None, "{bad}");
        }
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(crate::mutation::CASES))]

        #[test]
        fn whatever_a_column_of_tags_holds_is_tags_that_have_values_or_none(
            text in crate::mutation::text(&[
                r#"{"team": "search", "cost-center": "7, a", "paid": true}"#,
                r#"{"team": "", "": "x"}"#,
                r#""Team": "search","CostCenter": "7, a""#,
                r#"[{"key": "team", "value": "search"}, {"Key": "cost_center", "Value": null}]"#,
                "{user_team=search, user_cost_center=7, a}",
            ])
        ) {
            if let Some(tags) = Tags::read(&text) {
                assert!(tags.0.keys().all(|key| tags.get(key).is_none_or(|value| !value.is_empty())), "{tags:?}");
                // As JSON they say the same.
                assert_eq!(Tags::read(&serde_json::json!(tags.0).to_string()), Some(tags));
            }
        }
    }
}
