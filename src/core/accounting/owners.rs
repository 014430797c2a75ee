//! Who pays for a share: a workload with its labels as they stood when the pod started.
//!
//! Decides: when labels are a new version of a workload (a slowly changing dimension, type 2): re-tagging begins a new version, and what
//! was posted to an older one stays there; and which labels hold for days whose attribution was corrected (the last correction, label by label).
//! Does not: read labels (see `kube::pods`) or store versions.

use std::collections::BTreeMap;

use uuid::Uuid;

use crate::core::units::ids::derive_uuid;
use crate::core::units::time::Timestamp;
use crate::core::workload::{Attribution, Workload};

const DAY_MS: i64 = 86_400_000;

/// A workload with its labels, from a point in time on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnerVersion {
    /// Derived from all else, so writing it twice is harmless.
    pub id: Uuid,
    /// The workload.
    pub workload: Workload,
    /// Its labels.
    pub attribution: Attribution,
    /// Since when they hold.
    pub valid_from: Timestamp,
    /// The correction it comes of; `None` is what pods said.
    pub retag: Option<Uuid>,
}

/// A label of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Label {
    /// `team`.
    Team,
    /// `service`.
    Service,
    /// `environment`.
    Environment,
    /// `cost_center`.
    CostCenter,
    /// `product_area`.
    ProductArea,
    /// `component`.
    Component,
}

impl Label {
    /// Every label.
    pub const ALL: [Label; 6] = [Label::Team, Label::Service, Label::Environment, Label::CostCenter, Label::ProductArea, Label::Component];

    /// As the ledger's columns are called.
    pub fn as_str(self) -> &'static str {
        match self {
            Label::Team => "team",
            Label::Service => "service",
            Label::Environment => "environment",
            Label::CostCenter => "cost_center",
            Label::ProductArea => "product_area",
            Label::Component => "component",
        }
    }

    /// The label of this name, with hyphens or underscores.
    pub fn of(text: &str) -> Option<Label> {
        let text = text.replace('-', "_");
        Label::ALL.into_iter().find(|label| label.as_str() == text)
    }

    fn set(self, attribution: &mut Attribution, value: Option<String>) {
        let place = match self {
            Label::Team => &mut attribution.team,
            Label::Service => &mut attribution.service,
            Label::Environment => &mut attribution.environment,
            Label::CostCenter => &mut attribution.cost_center,
            Label::ProductArea => &mut attribution.product_area,
            Label::Component => &mut attribution.component,
        };
        *place = value;
    }
}

/// A correction of labels for UTC days that are over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retag {
    /// Its id.
    pub id: Uuid,
    /// The first day, counted from 1970-01-01.
    pub from_day: i64,
    /// The day after the last.
    pub to_day: i64,
    /// The labels it sets; `None` takes one away.
    pub labels: BTreeMap<Label, Option<String>>,
    /// The correction that this one takes back.
    pub withdraws: Option<Uuid>,
}

/// Labels that hold for a span of days instead of those that a pod had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Corrected {
    /// The first day.
    pub from_day: i64,
    /// The day after the last.
    pub to_day: i64,
    /// The labels.
    pub attribution: Attribution,
    /// The last correction that covers these days, or took one back.
    pub by: Uuid,
}

/// What `retags`, in the order they were made, say of work with these labels: spans of days, in order, in which at least one speaks.
pub fn corrected(attribution: &Attribution, retags: &[Retag]) -> Vec<Corrected> {
    let mut bounds: Vec<i64> = retags.iter().flat_map(|retag| [retag.from_day, retag.to_day]).collect();
    bounds.sort_unstable();
    bounds.dedup();
    let withdrawn: Vec<Uuid> = retags.iter().filter_map(|retag| retag.withdraws).collect();
    let span = |pair: &[i64]| {
        let &[from_day, to_day] = pair else { return None };
        let mut labels = attribution.clone();
        let speaking: Vec<&Retag> = retags.iter().filter(|retag| retag.from_day <= from_day && to_day <= retag.to_day).collect();
        for retag in speaking.iter().filter(|retag| retag.withdraws.is_none() && !withdrawn.contains(&retag.id)) {
            for (label, value) in &retag.labels {
                label.set(&mut labels, value.clone());
            }
        }
        speaking.last().map(|last| Corrected { from_day, to_day, attribution: labels, by: last.id })
    };
    bounds.windows(2).filter_map(span).collect()
}

impl OwnerVersion {
    /// The version of `workload` that begins at `valid_from` with these labels.
    pub fn new(workload: Workload, attribution: Attribution, valid_from: Timestamp) -> Self {
        let a = &attribution;
        let from = valid_from.0.to_string();
        let mut parts = vec!["workload-version", &workload.kind, &workload.object.namespace, &workload.object.name, from.as_str()];
        for label in [&a.team, &a.service, &a.environment, &a.cost_center, &a.product_area, &a.component] {
            // An empty label is not an absent one.
            parts.extend(label.as_deref().map_or(["-", ""], |text| ["+", text]));
        }
        OwnerVersion { id: derive_uuid(&parts), workload, attribution, valid_from, retag: None }
    }

    /// The version of `workload` with labels that a correction gave it: one for all days.
    fn of_correction(workload: Workload, attribution: Attribution, valid_from: Timestamp, by: Uuid) -> Self {
        let plain = OwnerVersion::new(workload, attribution, Timestamp(0));
        OwnerVersion { id: derive_uuid(&["corrected", &plain.id.to_string()]), valid_from, retag: Some(by), ..plain }
    }
}

/// The versions that are known, and those that had to be begun.
#[derive(Debug, Clone, Default)]
pub struct Owners {
    known: BTreeMap<Workload, BTreeMap<Timestamp, OwnerVersion>>,
    begun: Vec<OwnerVersion>,
}

impl Owners {
    /// Starts from what is stored.
    pub fn new(stored: impl IntoIterator<Item = OwnerVersion>) -> Self {
        let mut owners = Owners::default();
        for version in stored {
            owners.known.entry(version.workload.clone()).or_default().insert(version.valid_from, version);
        }
        owners
    }

    /// The version of `workload` with these labels at `at`: the one that holds then, or a new one that begins then.
    ///
    /// Ask in order of time, so that no more versions are begun than needed.
    pub fn at(&mut self, workload: &Workload, attribution: &Attribution, at: Timestamp) -> Uuid {
        let versions = self.known.entry(workload.clone()).or_default();
        if let Some((_, held)) = versions.range(..=at).next_back()
            && held.attribution == *attribution
        {
            return held.id;
        }
        // Two pods that start in one millisecond under different labels: the next free millisecond.
        let mut from = at;
        while let Some(other) = versions.get(&from) {
            if other.attribution == *attribution {
                return other.id;
            }
            from = Timestamp(from.0 + 1);
        }
        let version = OwnerVersion::new(workload.clone(), attribution.clone(), from);
        let id = version.id;
        versions.insert(from, version.clone());
        self.begun.push(version);
        id
    }

    /// The version of `workload` with labels that a correction gave it. It stands apart: what pods say is never compared with it.
    pub fn of_correction(&mut self, workload: &Workload, corrected: &Corrected) -> Uuid {
        let from = Timestamp(corrected.from_day * DAY_MS);
        let version = OwnerVersion::of_correction(workload.clone(), corrected.attribution.clone(), from, corrected.by);
        let id = version.id;
        if !self.begun.iter().any(|begun| begun.id == id) {
            self.begun.push(version);
        }
        id
    }

    /// The versions that were begun, to be stored.
    pub fn begun(&self) -> &[OwnerVersion] {
        &self.begun
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::units::ids::ObjectRef;

    fn web() -> Workload {
        Workload { kind: "Deployment".into(), object: ObjectRef { namespace: "ml".into(), name: "web".into() } }
    }

    fn team(name: &str) -> Attribution {
        Attribution { team: Some(name.into()), ..Attribution::default() }
    }

    #[test]
    fn retagging_begins_a_version_and_tagging_back_another() {
        let mut owners = Owners::default();
        let ids =
            [(1, "a"), (5, "a"), (9, "b"), (12, "a"), (10, "b"), (2, "a")].map(|(at, name)| owners.at(&web(), &team(name), Timestamp(at)));
        assert_eq!((ids[0], ids[2], ids[0]), (ids[1], ids[4], ids[5]), "what holds is used, late news included");
        assert_eq!(
            owners.begun().iter().map(|v| (v.valid_from.0, v.attribution.team.clone().unwrap())).collect::<Vec<_>>(),
            [(1, "a".to_owned()), (9, "b".to_owned()), (12, "a".to_owned())]
        );
        assert_ne!(ids[0], ids[3], "tagged back is a version of its own");
        let mut again = Owners::new(owners.begun().to_vec());
        assert_eq!(again.at(&web(), &team("b"), Timestamp(11)), ids[2]);
        assert!(again.begun().is_empty());
    }

    #[test]
    fn an_empty_label_and_two_labels_at_once_are_distinguished() {
        let mut owners = Owners::default();
        let untagged = owners.at(&web(), &Attribution::default(), Timestamp(1));
        let empty = owners.at(&web(), &team(""), Timestamp(1));
        assert_ne!(untagged, empty);
        assert_eq!(owners.at(&web(), &team(""), Timestamp(1)), empty);
        assert_eq!(owners.begun().len(), 2);
    }

    #[test]
    fn the_last_correction_holds_label_by_label_until_it_is_taken_back() {
        let id = |n: u128| Uuid::from_u128(n);
        let retag = |n: u128, (from_day, to_day): (i64, i64), labels: &[(Label, Option<&str>)], withdraws: Option<u128>| Retag {
            id: id(n),
            from_day,
            to_day,
            labels: labels.iter().map(|(label, value)| (*label, value.map(String::from))).collect(),
            withdraws: withdraws.map(id),
        };
        let first = retag(1, (10, 20), &[(Label::Team, Some("b")), (Label::Service, Some("s"))], None);
        let second = retag(2, (15, 25), &[(Label::Team, None)], None);
        let said = |retags: &[Retag]| {
            let of = |c: Corrected| (c.from_day, c.to_day, c.attribution.team, c.attribution.service, c.by.as_u128());
            corrected(&team("a"), retags).into_iter().map(of).collect::<Vec<_>>()
        };
        let (b, s) = (Some("b".to_owned()), Some("s".to_owned()));
        assert_eq!(
            said(&[first.clone(), second.clone()]),
            [(10, 15, b.clone(), s.clone(), 1), (15, 20, None, s.clone(), 2), (20, 25, None, None, 2)]
        );
        let back = retag(3, (15, 25), &[], Some(2));
        assert_eq!(
            said(&[first, second, back]),
            [(10, 15, b.clone(), s.clone(), 1), (15, 20, b, s, 3), (20, 25, Some("a".into()), None, 3)]
        );
        assert_eq!(said(&[]), []);
        assert_eq!((Label::of("cost-center"), Label::of("teem")), (Some(Label::CostCenter), None));
    }
}
