//! Which namespaces may buy from a node pool: a label selector in Kubernetes' form.
//!
//! Decides: what a selector means. Does not: know which namespaces exist.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A label selector over namespaces. Empty, it matches every namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NamespaceSelector {
    /// Labels that must have exactly these values.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub match_labels: Option<BTreeMap<String, String>>,
    /// Requirements that must all hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub match_expressions: Option<Vec<Requirement>>,
}

/// One requirement on a label.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requirement {
    /// The label.
    pub key: String,
    /// `In`, `NotIn`, `Exists` or `DoesNotExist`.
    pub operator: String,
    /// What the operator compares with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub values: Option<Vec<String>>,
}

/// A selector that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnreadableSelector {
    /// The operator is not one of Kubernetes'.
    #[error("operator {operator:?} on {key} is not one of In, NotIn, Exists, DoesNotExist")]
    Operator {
        /// The label.
        key: String,
        /// What was written.
        operator: String,
    },
    /// There are no values to compare with.
    #[error("operator {operator} on {key} needs at least one value")]
    NoValues {
        /// The label.
        key: String,
        /// The operator.
        operator: String,
    },
}

impl NamespaceSelector {
    /// Whether a namespace with these `labels` may buy. A label that is absent meets `NotIn` and `DoesNotExist`, as in Kubernetes.
    ///
    /// # Errors
    /// When a requirement cannot be read: then it is unknown whom the pool is for, and it must not be open to all.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> Result<bool, UnreadableSelector> {
        let mut holds = self.match_labels.iter().flatten().all(|(key, value)| labels.get(key) == Some(value));
        for requirement in self.match_expressions.iter().flatten() {
            // Each is read, whatever the others say: a fault shows up whichever namespaces exist.
            holds &= requirement.holds(labels.get(&requirement.key).map(String::as_str))?;
        }
        Ok(holds)
    }
}

impl Requirement {
    fn holds(&self, value: Option<&str>) -> Result<bool, UnreadableSelector> {
        let values = self.values.as_deref().unwrap_or_default();
        let named = |value: &str| values.iter().any(|v| v == value);
        match self.operator.as_str() {
            "In" | "NotIn" if values.is_empty() => {
                Err(UnreadableSelector::NoValues { key: self.key.clone(), operator: self.operator.clone() })
            }
            "In" => Ok(value.is_some_and(named)),
            "NotIn" => Ok(!value.is_some_and(named)),
            "Exists" => Ok(value.is_some()),
            "DoesNotExist" => Ok(value.is_none()),
            _ => Err(UnreadableSelector::Operator { key: self.key.clone(), operator: self.operator.clone() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn selectors_mean_what_kubernetes_means() {
        let read = |text: &str| serde_json::from_str::<NamespaceSelector>(text).unwrap();
        let (ml, web, bare) = (labels(&[("team", "ml")]), labels(&[("team", "web")]), labels(&[]));
        for (selector, expected) in [
            ("{}", [true, true, true]),
            (r#"{"matchLabels": {"team": "ml"}}"#, [true, false, false]),
            (r#"{"matchExpressions": [{"key": "team", "operator": "In", "values": ["ml", "x"]}]}"#, [true, false, false]),
            (r#"{"matchExpressions": [{"key": "team", "operator": "NotIn", "values": ["ml"]}]}"#, [false, true, true]),
            (r#"{"matchExpressions": [{"key": "team", "operator": "Exists"}]}"#, [true, true, false]),
            (r#"{"matchExpressions": [{"key": "team", "operator": "DoesNotExist"}]}"#, [false, false, true]),
            (r#"{"matchLabels": {"team": "ml"}, "matchExpressions": [{"key": "team", "operator": "DoesNotExist"}]}"#, [false; 3]),
        ] {
            let found = [&ml, &web, &bare].map(|labels| read(selector).matches(labels));
            assert_eq!(found, expected.map(Ok), "{selector}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_said_even_where_no_label_could_meet_it() {
        for (operator, values, said) in [("in", "[\"a\"]", "not one of In, NotIn"), ("In", "[]", "needs at least one value")] {
            let text = format!(
                r#"{{"matchLabels": {{"never": "there"}}, "matchExpressions": [{{"key": "k", "operator": "{operator}", "values": {values}}}]}}"#
            );
            let fault = serde_json::from_str::<NamespaceSelector>(&text).unwrap().matches(&labels(&[])).unwrap_err();
            assert!(fault.to_string().contains(said), "{fault}");
        }
    }
}
