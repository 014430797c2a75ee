//! Requirements on labels: of nodes, from selectors and affinities, and of pods, from spreads and affinities between pods.
//!
//! Decides: whether a requirement holds for a value, by Kubernetes' rules (an absent label meets `NotIn` and `DoesNotExist`).
//! Does not: know which labels a node will have (see `placement::node_labels`).

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// One requirement on a label.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LabelRequirement {
    /// The label.
    pub key: String,
    /// The condition.
    #[serde(flatten)]
    pub operator: LabelOperator,
}

/// Kubernetes' node selector operators.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(tag = "operator", content = "values")]
pub enum LabelOperator {
    /// One of these.
    In(BTreeSet<String>),
    /// None of these, or absent.
    NotIn(BTreeSet<String>),
    /// Present.
    Exists,
    /// Absent.
    DoesNotExist,
    /// A whole number above this.
    Gt(i64),
    /// A whole number below this.
    Lt(i64),
    /// Unknown to this version: not evaluated, so assumed to hold. Only for DaemonSets; for pods such a requirement is refused.
    Other,
}

impl LabelOperator {
    /// Whether a label with this `value`, or its absence, meets the requirement.
    pub fn holds(&self, value: Option<&str>) -> bool {
        let number = || value.and_then(|v| v.parse::<i64>().ok());
        match self {
            LabelOperator::In(any) => value.is_some_and(|v| any.contains(v)),
            LabelOperator::NotIn(none) => value.is_none_or(|v| !none.contains(v)),
            LabelOperator::Exists => value.is_some(),
            LabelOperator::DoesNotExist => value.is_none(),
            LabelOperator::Gt(than) => number().is_some_and(|n| n > *than),
            LabelOperator::Lt(than) => number().is_some_and(|n| n < *than),
            LabelOperator::Other => true,
        }
    }

    /// Only a label that is present meets it.
    pub fn wants_the_label(&self) -> bool {
        matches!(self, LabelOperator::In(_) | LabelOperator::Exists | LabelOperator::Gt(_) | LabelOperator::Lt(_))
    }
}

impl std::fmt::Display for LabelRequirement {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let key = &self.key;
        let joined = |values: &BTreeSet<String>| values.iter().cloned().collect::<Vec<_>>().join(", ");
        match &self.operator {
            LabelOperator::In(values) => write!(f, "{key} In ({})", joined(values)),
            LabelOperator::NotIn(values) => write!(f, "{key} NotIn ({})", joined(values)),
            LabelOperator::Exists => write!(f, "{key} Exists"),
            LabelOperator::DoesNotExist => write!(f, "{key} DoesNotExist"),
            LabelOperator::Gt(than) => write!(f, "{key} Gt {than}"),
            LabelOperator::Lt(than) => write!(f, "{key} Lt {than}"),
            LabelOperator::Other => write!(f, "{key} by an unknown operator"),
        }
    }
}

/// Requirements that hold together.
pub type LabelTerm = Vec<LabelRequirement>;

/// Whether all of one of `terms` holds; without terms everything does. `value_of` returns a label's value.
pub fn any_term_holds<'v>(terms: &[LabelTerm], value_of: impl Fn(&str) -> Option<std::borrow::Cow<'v, str>>) -> bool {
    let holds = |r: &LabelRequirement| r.operator.holds(value_of(&r.key).as_deref());
    terms.is_empty() || terms.iter().any(|term| term.iter().all(holds))
}

/// The conjunction of two sets of alternatives: each of one combined with each of the other.
pub fn both(one: Vec<LabelTerm>, other: Vec<LabelTerm>) -> Vec<LabelTerm> {
    if one.is_empty() || other.is_empty() {
        return if one.is_empty() { other } else { one };
    }
    let joined = |a: &LabelTerm, b: &LabelTerm| {
        let all: BTreeSet<LabelRequirement> = a.iter().chain(b).cloned().collect();
        all.into_iter().collect()
    };
    let terms: BTreeSet<LabelTerm> = one.iter().flat_map(|a| other.iter().map(move |b| joined(a, b))).collect();
    terms.into_iter().collect()
}

/// Which pods are selected: those in these namespaces whose labels meet all requirements.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PodSelector {
    /// The namespaces; empty means every namespace.
    pub namespaces: BTreeSet<String>,
    /// Requirements on labels. No requirement means every pod.
    pub requirements: Vec<LabelRequirement>,
}

impl PodSelector {
    /// Whether a pod in `namespace` with these `labels` is selected.
    pub fn selects(&self, namespace: &str, labels: &BTreeMap<String, String>) -> bool {
        (self.namespaces.is_empty() || self.namespaces.contains(namespace))
            && self.requirements.iter().all(|r| r.operator.holds(labels.get(&r.key).map(String::as_str)))
    }
}

#[cfg(test)]
mod tests {
    use crate::core::workload::labels::*;
    use std::borrow::Cow;

    fn requirement(key: &str, operator: LabelOperator) -> LabelRequirement {
        LabelRequirement { key: key.into(), operator }
    }

    #[test]
    fn operators_hold_as_kubernetes_says() {
        let set = |values: &[&str]| values.iter().map(|v| (*v).to_owned()).collect::<BTreeSet<_>>();
        for (operator, value, holds) in [
            (LabelOperator::In(set(&["a", "b"])), Some("a"), true),
            (LabelOperator::In(set(&["a"])), None, false),
            (LabelOperator::NotIn(set(&["a"])), None, true),
            (LabelOperator::NotIn(set(&["a"])), Some("a"), false),
            (LabelOperator::Exists, Some(""), true),
            (LabelOperator::DoesNotExist, Some(""), false),
            (LabelOperator::Gt(20_000), Some("22888"), true),
            (LabelOperator::Gt(20_000), Some("20000"), false),
            (LabelOperator::Lt(5), Some("many"), false),
            (LabelOperator::Lt(5), None, false),
        ] {
            assert_eq!(operator.holds(value), holds, "{operator:?} {value:?}");
        }
    }

    #[test]
    fn alternatives_of_two_sources_hold_together() {
        let term = |key: &str| vec![requirement(key, LabelOperator::Exists)];
        assert_eq!(both(vec![term("a")], Vec::new()), [term("a")]);
        let all = both(vec![term("a"), term("b")], vec![term("c")]);
        assert_eq!(all.len(), 2);
        let has = |keys: &[&str]| {
            let keys: Vec<String> = keys.iter().map(|k| (*k).to_owned()).collect();
            any_term_holds(&all, |key| keys.iter().any(|k| k == key).then_some(Cow::Borrowed("")))
        };
        assert!(has(&["a", "c"]) && has(&["b", "c"]) && !has(&["a", "b"]) && any_term_holds(&[], |_| None));
    }
}
