//! Pods that no move by choice disturbs, as their owners say.
//!
//! Decides: how the three annotations are read that say so, and until when a pod stays.
//! Does not: hold anything up (see `plan::moving::choice`), least of all a move that saves work from a machine that ends.
//!
//! lowtide's own key, Karpenter's and the cluster autoscaler's are equal, so that nobody's pods change when a cluster changes hands; of several the one
//! that keeps the pod longest counts. Source: Karpenter's documentation, "Pod-Level Controls" (a duration counts from the pod's start); the
//! autoscaler's FAQ, "What types of pods can prevent CA from removing a node?".

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::error::NeedError;
use crate::core::units::time::{Millis, Timestamp, parse_span};

/// `true`, `false`, or for how long.
const TIMED: [&str; 2] = ["lowtide.dev/do-not-disrupt", "karpenter.sh/do-not-disrupt"];
/// `false` keeps the pod.
const SAFE_TO_EVICT: &str = "cluster-autoscaler.kubernetes.io/safe-to-evict";

/// A pod that is to stay for longer stays for good: no machine gets as old, and no date would hold it.
const LONGEST: Millis = Millis::from_hours(24 * 9_999);

/// Every annotation that is read here.
pub const KEYS: [&str; 3] = [TIMED[0], TIMED[1], SAFE_TO_EVICT];

/// How long a pod is not to be disturbed by choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DoNotDisrupt {
    /// For this long after its start.
    For(Millis),
    /// As long as it runs.
    Always,
}

/// Until when a pod stays where it is, if nothing forces it to leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Stay {
    /// It may be moved at any time.
    #[default]
    Free,
    /// Until then.
    Until(Timestamp),
    /// As long as it runs.
    Always,
}

impl DoNotDisrupt {
    /// What the annotations say, and what of it cannot be read.
    pub fn read(annotations: &BTreeMap<String, String>) -> (Option<Self>, Vec<NeedError>) {
        let (mut longest, mut faults): (Option<Self>, Vec<NeedError>) = (None, Vec::new());
        let mut note = |key: &str, value: &str, read: Option<Option<Self>>, expected: &'static str| match read {
            Some(said) => longest = longest.max(said),
            None => faults.push(NeedError::BadAnnotation { key: key.to_owned(), value: value.to_owned(), expected }),
        };
        for key in TIMED {
            let Some(value) = annotations.get(key) else { continue };
            let read = match value.as_str() {
                "true" => Some(Some(DoNotDisrupt::Always)),
                "false" => Some(None),
                text => parse_span(text).map(|span| Some(if span > LONGEST { DoNotDisrupt::Always } else { DoNotDisrupt::For(span) })),
            };
            note(key, value, read, "true, false, or a duration from the pod's start, e.g. 90m or 2h");
        }
        if let Some(value) = annotations.get(SAFE_TO_EVICT) {
            let read = match value.as_str() {
                "false" => Some(Some(DoNotDisrupt::Always)),
                "true" => Some(None),
                _ => None,
            };
            note(SAFE_TO_EVICT, value, read, "true or false");
        }
        (longest, faults)
    }
}

impl Stay {
    /// Of a pod that started at `started`.
    pub fn of(said: Option<DoNotDisrupt>, started: Timestamp) -> Self {
        match said {
            None => Stay::Free,
            Some(DoNotDisrupt::For(span)) => Stay::Until(started + span),
            Some(DoNotDisrupt::Always) => Stay::Always,
        }
    }

    /// Of a pod of others that started at `started`: what cannot be read keeps it, as nobody may be asked.
    pub fn of_guest(annotations: &BTreeMap<String, String>, started: Timestamp) -> Self {
        match DoNotDisrupt::read(annotations) {
            (said, faults) if faults.is_empty() => Stay::of(said, started),
            _ => Stay::Always,
        }
    }

    /// Whether it stays at `now`.
    pub fn holds(self, now: Timestamp) -> bool {
        match self {
            Stay::Free => false,
            Stay::Until(at) => now < at,
            Stay::Always => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(notes: &[(&str, &str)]) -> (Option<DoNotDisrupt>, Vec<String>) {
        let notes = notes.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let (said, faults) = DoNotDisrupt::read(&notes);
        (said, faults.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn three_annotations_say_it_and_the_longest_counts() {
        let (hour, always) = (Some(DoNotDisrupt::For(Millis::from_hours(1))), Some(DoNotDisrupt::Always));
        for (notes, said) in [
            (vec![], None),
            (vec![(TIMED[0], "true")], always),
            (vec![(TIMED[0], "false")], None),
            (vec![(TIMED[1], "60m")], hour),
            (vec![(TIMED[0], "5m"), (TIMED[1], "1h")], hour),
            (vec![(TIMED[0], "5m"), (SAFE_TO_EVICT, "false")], always),
            // The most that a span can say: from today on there is no such date.
            (vec![(TIMED[1], "106751991167d")], always),
            (vec![(SAFE_TO_EVICT, "true")], None),
        ] {
            assert_eq!(read(&notes), (said, Vec::new()), "{notes:?}");
        }
    }

    #[test]
    fn a_value_that_says_neither_is_refused_with_what_was_expected() {
        for (key, value) in [(TIMED[0], "yes"), (TIMED[1], "1 hour"), (TIMED[0], ""), (SAFE_TO_EVICT, "False")] {
            let (said, faults) = read(&[(key, value)]);
            assert!(said.is_none() && faults.len() == 1 && faults[0].contains(key) && faults[0].contains("expected true"), "{faults:?}");
        }
    }

    #[test]
    fn a_duration_counts_from_the_start_and_a_guest_that_cannot_be_read_stays() {
        let start = Timestamp::from_date(2026, 7, 20);
        let stay = Stay::of(Some(DoNotDisrupt::For(Millis::from_mins(5))), start);
        assert!(stay.holds(start + Millis::from_secs(299)) && !stay.holds(start + Millis::from_mins(5)));
        assert!(Stay::of_guest(&BTreeMap::from([(TIMED[1].to_owned(), "yes".to_owned())]), start).holds(start));
        assert_eq!(Stay::of_guest(&BTreeMap::new(), start), Stay::Free);
    }
}
