//! What the keys of a bucket say: which objects are manifests of reports, of which month, and which are files of the spot data feed, of which hour.
//!
//! Decides: that of a report's month the manifest written last is the version, and that one place holds one report.
//! Does not: ask S3 or read an object.
//! Sources: AWS Data Exports user guide, "Understanding export delivery" (`metadata/BILLING_PERIOD=2026-07/...-Manifest.json`); CUR user guide, "Cost and Usage
//! Reports delivery" (`20260701-20260801/...-Manifest.json`); EC2 user guide, "Spot Instance data feed file name and format"
//! (`aws-account-id.YYYY-MM-DD-HH.n.unique-id.gz`).

use std::collections::BTreeMap;

use super::bucket::Object;
use crate::ledger::report::Month;

/// The manifest that stands for a report's month.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Version<'a> {
    pub month: Option<Month>,
    pub manifest: &'a Object,
}

/// Of each month of the report the manifest that was written last, the oldest month first.
///
/// # Errors
/// Names the reports when there are several.
pub(super) fn versions<'o>(objects: &'o [Object]) -> Result<Vec<Version<'o>>, String> {
    let mut reports: BTreeMap<&str, BTreeMap<Option<Month>, &Object>> = BTreeMap::new();
    for object in objects.iter().filter(|object| object.key.ends_with("Manifest.json")) {
        let (report, month) = place_of(&object.key);
        let newest = reports.entry(report).or_default().entry(month).or_insert(object);
        // A version's manifest lies in its own folder and above it: written at once, they name the same files. S3 says whole seconds: of two
        // versions of one second the later folder, which is named by its time.
        let order = |object: &'o Object| (object.modified, object.key.len(), object.key.as_str());
        if order(object) > order(newest) {
            *newest = object;
        }
    }
    if reports.len() > 1 {
        let names: Vec<&str> = reports.into_keys().map(|report| if report.is_empty() { "/" } else { report }).collect();
        return Err(format!("there are several reports: {}; name one of them by its prefix", names.join(", ")));
    }
    let months = reports.into_values().next().unwrap_or_default();
    Ok(months.into_iter().map(|(month, manifest)| Version { month, manifest }).collect())
}

/// The folder of a manifest's report, and its month where a folder names it.
fn place_of(key: &str) -> (&str, Option<Month>) {
    let mut from = 0;
    for part in key.split('/') {
        if let Some(month) = month_of(part) {
            let report = key.get(..from).unwrap_or_default().trim_end_matches('/');
            return (report.strip_suffix("/metadata").unwrap_or(report), Some(month));
        }
        from += part.len() + 1;
    }
    (key.rsplit_once('/').map_or("", |(folder, _)| folder), None)
}

/// `BILLING_PERIOD=2026-07`, or `20260701-20260801`.
fn month_of(folder: &str) -> Option<Month> {
    if let Some((name, month)) = folder.split_once('=') {
        return name.eq_ignore_ascii_case("billing_period").then(|| month.parse().ok()).flatten();
    }
    let (first, last) = folder.split_once('-')?;
    let digits = |text: &str| text.len() == 8 && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(first) || !digits(last) {
        return None;
    }
    format!("{}-{}", first.get(..4)?, first.get(4..6)?).parse().ok()
}

/// The UTC day of a file of the spot data feed, as `2026-07-20`.
pub(super) fn feed_day(key: &str) -> Option<&str> {
    let mut parts = key.rsplit('/').next()?.split('.');
    let (account, hour, number) = (parts.next()?, parts.next()?, parts.next()?);
    let digits = |text: &str, length: usize| text.len() == length && text.bytes().all(|byte| byte.is_ascii_digit());
    let day = hour.get(..10).filter(|day| day.parse::<jiff::civil::Date>().is_ok())?;
    let is_feed = digits(account, 12) && hour.len() == 13 && digits(hour.get(11..)?, 2) && number.bytes().all(|byte| byte.is_ascii_digit());
    (is_feed && parts.next().is_some()).then_some(day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::units::time::Timestamp;

    fn object(key: &str, at: i64) -> Object {
        Object { key: key.into(), etag: format!("\"{at}\""), size: 1, modified: Timestamp(at) }
    }

    fn said(objects: &[Object]) -> Result<Vec<String>, String> {
        let of = |version: Version| format!("{} {}", version.month.map_or("-".into(), |month| month.to_string()), version.manifest.key);
        Ok(versions(objects)?.into_iter().map(of).collect())
    }

    #[test]
    fn the_manifest_written_last_is_the_version_of_its_month() {
        // Data Exports, each version in a folder of its own, and overwritten.
        let exports = [
            object("e/x/metadata/BILLING_PERIOD=2026-07/2026-07-20T01:02:03.000Z-a/x-Manifest.json", 1),
            object("e/x/metadata/BILLING_PERIOD=2026-07/2026-08-03T01:02:03.000Z-b/x-Manifest.json", 2),
            object("e/x/metadata/BILLING_PERIOD=2026-06/x-Manifest.json", 3),
            object("e/x/data/BILLING_PERIOD=2026-07/2026-08-03T01:02:03.000Z-b/x-00001.csv.gz", 4),
        ];
        assert_eq!(
            said(&exports).unwrap(),
            [
                "2026-06 e/x/metadata/BILLING_PERIOD=2026-06/x-Manifest.json",
                "2026-07 e/x/metadata/BILLING_PERIOD=2026-07/2026-08-03T01:02:03.000Z-b/x-Manifest.json"
            ]
        );
        // Two versions in one second, in whatever order they are listed.
        let second = [
            object("e/x/metadata/BILLING_PERIOD=2026-07/2026-08-03T01:02:03.000Z-b/x-Manifest.json", 2),
            object("e/x/metadata/BILLING_PERIOD=2026-07/2026-07-20T01:02:03.000Z-a/x-Manifest.json", 2),
        ];
        let newest = "2026-07 e/x/metadata/BILLING_PERIOD=2026-07/2026-08-03T01:02:03.000Z-b/x-Manifest.json";
        assert_eq!(said(&second).unwrap(), [newest]);
        assert_eq!(said(&[second[1].clone(), second[0].clone()]).unwrap(), [newest]);
        // The older report: its manifest is there twice.
        let report = [
            object("p/r/20260701-20260801/a1/r-Manifest.json", 1),
            object("p/r/20260701-20260801/a2/r-Manifest.json", 2),
            object("p/r/20260701-20260801/r-Manifest.json", 2),
            object("p/r/20260701-20260801/a2/r-00001.csv.gz", 2),
        ];
        assert_eq!(said(&report).unwrap(), ["2026-07 p/r/20260701-20260801/a2/r-Manifest.json"]);
        assert_eq!(said(&[object("r-Manifest.json", 1)]).unwrap(), ["- r-Manifest.json"]);
        assert_eq!(said(&[]).unwrap(), Vec::<String>::new());
        let two = [report[0].clone(), exports[2].clone()];
        assert_eq!(said(&two).unwrap_err(), "there are several reports: e/x, p/r; name one of them by its prefix");
    }

    #[test]
    fn files_of_the_feed_are_known_by_their_names() {
        assert_eq!(feed_day("feed/123456789012.2026-07-20-14.001.ab12cd34.gz"), Some("2026-07-20"));
        for other in [
            "feed/123456789012.2026-07-20-14.001",
            "123.2026-07-20-14.001.x.gz",
            "123456789012.2026-27-20-14.001.x.gz",
            "feed/",
            "cur.csv.gz",
        ] {
            assert_eq!(feed_day(other), None, "{other}");
        }
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(crate::mutation::CASES))]

        #[test]
        fn whatever_the_keys_of_a_bucket_say_each_month_has_one_manifest_and_each_file_of_the_feed_a_day(
            keys in proptest::collection::vec(crate::mutation::text(&[
                "e/x/metadata/BILLING_PERIOD=2026-07/2026-07-20T01:02:03.000Z-a/x-Manifest.json",
                "p/r/20260701-20260801/a1/r-Manifest.json",
                "feed/123456789012.2026-07-20-14.001.ab12cd34.gz",
            ]), 0..8)
        ) {
            let objects: Vec<Object> = keys.iter().zip(1..).map(|(key, at)| object(key, at)).collect();
            if let Ok(found) = versions(&objects) {
                let months: std::collections::BTreeSet<_> = found.iter().map(|version| version.month).collect();
                assert!(months.len() == found.len() && found.iter().all(|version| version.manifest.key.ends_with("Manifest.json")), "{found:?}");
            }
            for key in &keys {
                assert!(feed_day(key).is_none_or(|day| day.len() == 10 && day.parse::<jiff::civil::Date>().is_ok()), "{key}");
            }
        }
    }
}
