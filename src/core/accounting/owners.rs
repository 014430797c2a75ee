//! Who pays for a share: a workload with its labels as they stood when the pod started.
//!
//! Decides: when labels are a new version of a workload (a slowly changing dimension, type 2): re-tagging begins a new version, and what
//! was posted to an older one stays there.
//! Does not: read labels (see `kube::pods`) or store versions.

use std::collections::BTreeMap;

use uuid::Uuid;

use crate::core::units::ids::derive_uuid;
use crate::core::units::time::Timestamp;
use crate::core::workload::{Attribution, Workload};

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
        OwnerVersion { id: derive_uuid(&parts), workload, attribution, valid_from }
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
    fn an_empty_label_and_two_labels_at_once_are_told_apart() {
        let mut owners = Owners::default();
        let untagged = owners.at(&web(), &Attribution::default(), Timestamp(1));
        let empty = owners.at(&web(), &team(""), Timestamp(1));
        assert_ne!(untagged, empty);
        assert_eq!(owners.at(&web(), &team(""), Timestamp(1)), empty);
        assert_eq!(owners.begun().len(), 2);
    }
}
